//! The nouns of the protocol and their bytes.
//!
//! Every type that crosses a wire has exactly one encoding, and the reader refuses every other one: lengths are exact,
//! integers are big-endian and of fixed width, field elements are 32 bytes little-endian and below the modulus, points are
//! canonical and not the identity, lists are sorted and counted. Nothing here reads a clock or does I/O.

mod bytes;
pub(crate) mod codec;
mod context;
mod credits;
mod directory;
mod ed25519;
mod epoch;
mod gateway_entry;
mod grid;
mod memo;
mod mint;
mod mint_statement;
mod prefix;
mod problem;
mod receipt;
mod restore;
mod sender;
mod session;
mod settlement;
mod signed_directory;
mod spend;
mod spend_key;
mod spend_tag;
mod tariff;
mod time;

pub(crate) use bytes::digest;
pub use bytes::{DeviceId, Digest, GatewayId, IssuerId, OwnerId, PaymentId};
pub use codec::DecodeError;
pub use context::{Context, Purpose};
pub use credits::{Credits, grouped};
pub use directory::{Directory, DirectoryError, DirectoryParts, Limits};
pub(crate) use ed25519::SIGNATURE;
#[cfg(feature = "pipeline")]
pub(crate) use ed25519::verify_each;
pub use ed25519::{
    GatewayKey, GatewaySigningKey, MintKey, MintSigningKey, RootKey, RootSigningKey, SessionKey, SessionPublicKey,
};
pub use epoch::{Epoch, EpochNumber};
pub use gateway_entry::GatewayEntry;
pub use grid::Grid;
pub use memo::{Memo, MemoCode};
pub use mint::{LANES, MintLane, MintRequest, MintResponse};
pub use mint_statement::{MintAnswer, MintSeal, MintSealer, MintStatement, MintStatementError};
pub use prefix::Prefix;
pub use problem::{Fault, Problem};
pub use receipt::{Receipt, ReceiptError, ReceiptSubject};
pub use restore::{AccountQuery, ChangeQuery, MemoQuery, MintFound, MintsFound};
pub use sender::Sender;
pub use session::{
    Action, Authorisation, Cancellation, ContentDigest, Following, Opening, Request, RequestError, Transfer,
};
pub use settlement::Settlement;
pub use signed_directory::SignedDirectory;
pub use spend::Spend;
pub use spend_key::SpendKey;
pub use spend_tag::SpendTag;
pub use tariff::{Price, Tariff, TariffError};
pub use time::{CLOCK_TOLERANCE, Timestamp, Window};

/// Version of the protocol: the first byte of every hashed and every encoded structure.
pub const VERSION: u8 = 1;
