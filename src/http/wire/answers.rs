//! What is answered there in JSON.

#[cfg(feature = "server")]
use axum::response::{IntoResponse as _, Response};
#[cfg(feature = "server")]
use http::header;
use serde::{Deserialize, Serialize};

#[cfg(feature = "server")]
use crate::http::payment;
#[cfg(feature = "server")]
use crate::protocol::Settlement;

/// What [`SETTLEMENT_PATH`](super::SETTLEMENT_PATH), [`CANCEL_PATH`](super::CANCEL_PATH) and
/// [`ROLLOVER_PATH`](super::ROLLOVER_PATH) answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementAnswer {
    /// The settlement, base64url.
    pub settlement: String,
    /// The gateway's signed [receipt](crate::protocol::Receipt), base64url, of a session that this closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

/// What [`TRANSFER_PATH`](super::TRANSFER_PATH) answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferAnswer {
    /// The settlements, base64url: of the giving half, then of the taking one.
    pub settlements: [String; 2],
}

/// What [`SESSION_PATH`](super::SESSION_PATH) answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAnswer {
    /// For how many seconds calls can be made. Then the session is closed.
    pub seconds: u64,
    /// How far behind the highest sequence number a call may be.
    pub window: u64,
}

/// What [`spent_path`](super::spent_path) answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentCount {
    /// About how many notes of the epoch are spent: 0, or the greatest power of two that is not above their number. Exact numbers,
    /// asked for every second, would tell when each was spent.
    pub spent: u64,
}

/// A settlement for the caller that asked for it.
#[cfg(feature = "server")]
pub(in crate::http) fn settled_answer(settlement: &Settlement, receipt: Option<&[u8]>) -> Response {
    let settlement = payment::encode(&settlement.to_bytes());
    let receipt = receipt.map(payment::encode);
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(SettlementAnswer { settlement, receipt })).into_response()
}
