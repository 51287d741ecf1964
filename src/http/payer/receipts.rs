//! What an answer says of its cost.

use http::HeaderMap;

use crate::http::payment::{PaymentReceipt, RECEIPT_HEADER};
use crate::protocol::Settlement;

pub(super) fn receipt_in(headers: &HeaderMap) -> Option<PaymentReceipt> {
    let value = headers.get(RECEIPT_HEADER).and_then(|value| value.to_str().ok())?;
    PaymentReceipt::from_header_value(value).ok()
}

/// The settlement in the receipt of an answer, in its head or in its trailers.
pub(super) fn settlement_in(headers: &HeaderMap) -> Option<Settlement> {
    Settlement::from_bytes(&receipt_in(headers)?.settlement().ok()?).ok()
}

/// The bytes of the signed receipt there.
pub(super) fn signed_in(headers: &HeaderMap) -> Option<Vec<u8>> {
    receipt_in(headers)?.signed().ok()?
}
