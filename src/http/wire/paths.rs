//! Where gateways and issuers are asked.

use crate::protocol::{EpochNumber, Prefix};

/// Where the signed directory is found.
pub const DIRECTORY_PATH: &str = "/.well-known/halometer/directory";
/// Where settlements are asked for.
pub const SETTLEMENT_PATH: &str = "/.well-known/halometer/settlement";
/// Where spends are cancelled.
pub const CANCEL_PATH: &str = "/.well-known/halometer/cancel";

/// Where credit is moved between lanes.
pub const TRANSFER_PATH: &str = "/.well-known/halometer/transfer";
/// Where notes are rolled over to the epoch that issues.
pub const ROLLOVER_PATH: &str = "/.well-known/halometer/rollover";
/// Where sessions of several calls are opened.
pub const SESSION_PATH: &str = "/.well-known/halometer/session";
/// Where they are closed.
pub const CLOSE_PATH: &str = "/.well-known/halometer/close";

/// Where payments are minted.
pub const MINT_PATH: &str = "/.well-known/halometer/mint";
/// Where it is told that somebody has paid.
pub const NOTICE_PATH: &str = "/.well-known/halometer/notice";

/// Where gateways that share no set have spends admitted and settled.
pub const CLEARING_PATH: &str = "/.well-known/halometer/clearing";

/// Where the description of these routes is found, at gateways and issuers.
pub const OPENAPI_PATH: &str = "/.well-known/halometer/openapi.json";

/// Where an issuer says what was minted for accounts, to wallets that are being restored.
pub const RESTORE_MINTS_PATH: &str = "/.well-known/halometer/restore/mints";
/// Where the memo of a recorded spend is told.
pub const RESTORE_MEMO_PATH: &str = "/.well-known/halometer/restore/memo";
/// Where the settlement of a recorded spend is told to a wallet that reads its memo.
pub const RESTORE_CHANGE_PATH: &str = "/.well-known/halometer/restore/change";

/// What the addresses of spent nullifiers begin with.
pub const SPENT_PATH: &str = "/.well-known/halometer/spent";

/// The path at which it is told how many notes of an epoch are spent.
pub fn spent_path(epoch: EpochNumber) -> String {
    format!("{SPENT_PATH}/{epoch}")
}

/// The path of a bucket of an epoch's spent nullifiers.
pub fn bucket_path(epoch: EpochNumber, prefix: Prefix) -> String {
    format!("{SPENT_PATH}/{epoch}/{prefix}")
}
