//! What a paid response carries.

use serde::{Deserialize, Serialize};

use super::{METHOD, decode, encode};
use crate::http::clock::rfc3339;

/// The `Payment-PaymentReceipt` header of a successful, settled call.
///
/// It brings the settlement: with it the wallet's next note is complete. A call within a session has none: the session's comes
/// when it is closed. Nothing in it names the spend, for headers are logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentReceipt {
    /// What the call cost, micro-credits.
    pub cost: u64,
    /// The payment method: `halometer`.
    pub method: String,
    /// A short name for the settlement, a hash of it, for the caller's own bookkeeping.
    pub reference: String,
    /// The settlement, base64url; none within a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement: Option<String>,
    /// The gateway's signed [receipt](crate::protocol::Receipt), base64url, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Always `success`: receipts are issued for nothing else.
    pub status: String,
    /// When it was settled, RFC 3339, UTC, whole seconds.
    pub timestamp: String,
}

/// Why a header value is no receipt. The server is at fault; the settlement can still be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payment receipt is malformed")]
pub struct PaymentReceiptError;

impl PaymentReceipt {
    /// A receipt for the encoded `settlement` of a call that cost `cost` micro-credits, at `now` (Unix seconds).
    pub fn new(settlement: &[u8], cost: u64, now: u64) -> Self {
        let hash = blake2b_simd::Params::new().hash_length(16).personal(b"halometer:recpt1").hash(settlement);
        Self {
            cost,
            method: METHOD.to_owned(),
            receipt: None,
            reference: encode(hash.as_bytes()),
            settlement: Some(encode(settlement)),
            status: "success".to_owned(),
            timestamp: rfc3339(now),
        }
    }

    /// A receipt for a call within a session, that cost `cost` micro-credits, at `now` (Unix seconds). `reference` is drawn for it.
    pub fn in_session(reference: [u8; 16], cost: u64, now: u64) -> Self {
        Self { reference: encode(&reference), settlement: None, ..Self::new(&[], cost, now) }
    }

    /// The same with the bytes of the gateway's signed receipt.
    #[must_use]
    pub fn with_signed(self, receipt: &[u8]) -> Self {
        Self { receipt: Some(encode(receipt)), ..self }
    }

    /// The bytes of the gateway's signed receipt, if there is one.
    ///
    /// # Errors
    /// [`PaymentReceiptError`] if they are not base64url.
    pub fn signed(&self) -> Result<Option<Vec<u8>>, PaymentReceiptError> {
        self.receipt.as_deref().map(|receipt| decode(receipt).ok_or(PaymentReceiptError)).transpose()
    }

    /// The settlement's bytes.
    ///
    /// # Errors
    /// [`PaymentReceiptError`] if they are not base64url, or there are none.
    pub fn settlement(&self) -> Result<Vec<u8>, PaymentReceiptError> {
        self.settlement.as_deref().and_then(decode).ok_or(PaymentReceiptError)
    }

    /// The value of the header.
    pub fn to_header_value(&self) -> String {
        // Serialising strings into memory cannot fail.
        encode(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads the value of the header.
    ///
    /// # Errors
    /// [`PaymentReceiptError`].
    pub fn from_header_value(value: &str) -> Result<Self, PaymentReceiptError> {
        let json = decode(value).ok_or(PaymentReceiptError)?;
        let receipt: Self = serde_json::from_slice(&json).map_err(|_| PaymentReceiptError)?;
        (receipt.method == METHOD && receipt.status == "success").then_some(receipt).ok_or(PaymentReceiptError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let receipt = PaymentReceipt::new(&[3; 80], 12, 1_800_000_000);
        assert_eq!(PaymentReceipt::from_header_value(&receipt.to_header_value()), Ok(receipt.clone()));
        assert_eq!((receipt.settlement(), receipt.signed()), (Ok(vec![3; 80]), Ok(None)));
        let receipt = receipt.with_signed(&[4; 9]);
        let read = PaymentReceipt::from_header_value(&receipt.to_header_value()).unwrap();
        assert_eq!(read.signed(), Ok(Some(vec![4; 9])));
        assert_eq!(PaymentReceipt { receipt: Some("*".to_owned()), ..read }.signed(), Err(PaymentReceiptError));
        assert_eq!(PaymentReceipt::from_header_value("e30"), Err(PaymentReceiptError));
        assert_eq!(PaymentReceipt::from_header_value("*"), Err(PaymentReceiptError));
    }
}
