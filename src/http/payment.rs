//! The `Payment` HTTP authentication scheme (draft-httpauth-payment-01), as far as halometer uses it.
//!
//! ```text
//! < 402, WWW-Authenticate: Payment id="..", realm="..", method="halometer", intent="charge", request=".."
//! > Authorization: Payment <base64url of JSON>
//! < 200, Payment-PaymentReceipt: <base64url of JSON>
//! ```
//!
//! The scheme is meant for challenges that are made for one request and echoed by its credential. For an anonymous caller
//! that echo would be a tag. So halometer's [`PaymentChallenge`] is a function of the signed directory and of nothing else: the same
//! for every caller, and the caller computes it instead of repeating what was sent. Its `id` is a hash of its other
//! parameters, which is all the binding that is needed, because the spend is bound to issuer, gateway, tariff and session by
//! its context.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

mod challenge;
mod credential;
mod params;
mod receipt;

pub use challenge::{ChallengeError, ChallengeRequest, MethodDetails, PaymentChallenge};
pub use credential::{Credential, CredentialError, MAX_HEADER_LINE, Payload};
pub use receipt::{PaymentReceipt, PaymentReceiptError};

/// Name of the authentication scheme. Compared without regard to case, as HTTP asks.
pub(crate) const SCHEME: &str = "Payment";
/// The payment method identifier of this protocol within the scheme.
pub const METHOD: &str = "halometer";
/// The payment intent: one request, one charge.
pub const INTENT: &str = "charge";
/// The unit of `amount` in a challenge.
pub const CURRENCY: &str = "micro-credit";
/// Name of the response header that carries the [`PaymentReceipt`].
pub const RECEIPT_HEADER: ::http::HeaderName = ::http::HeaderName::from_static("payment-receipt");

/// base64url without padding, as the scheme writes everything.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Strict base64url without padding: padding, other alphabets and non-zero trailing bits are refused.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
