//! Payments that another system tells of, in signed notices.

mod body;
mod header;
mod key;

pub use key::{NoticeKey, NoticeKeyError};

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{PaymentSource, PaymentSourceError};
use crate::protocol::{Credits, Fault, PaymentId, Timestamp};
use crate::store::{PaymentBook, PaymentOutcome, StoreError};
use body::Body;
use header::Header;
use key::Kind;

/// What a notice was good for. Answer success in all three cases, or the sender sends it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoticeOutcome {
    /// The payment is recorded now, with this amount.
    Fresh(Credits),
    /// The payment was recorded before, with this amount: the notice came again.
    Known(Credits),
    /// The payment is not final yet. Nothing was recorded.
    NotFinal,
}

/// Why a notice was refused. Nothing was recorded, but for what [`Store`](Self::Store) says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// The body is longer than [`PaymentNotices::MAX_BODY`].
    #[error("the notice is too long")]
    TooLong,
    /// The signature header is not of the form `t=<seconds>,k=<key id>,v1=<hex>`.
    #[error("the signature header of the notice is not well-formed")]
    Header,
    /// There is no key of this id: it was taken out, or the notice is not for this issuer.
    #[error("the notice names a key that is not known")]
    UnknownKey,
    /// The signature is not one of the key that is named over this time and this body.
    #[error("the signature of the notice does not verify")]
    Signature,
    /// The notice is genuine and was signed too long ago, or the two clocks differ. The sender signs it anew.
    #[error("the notice was signed {age} seconds from now, which is too far")]
    Age {
        /// Seconds between the signature and now, either way.
        age: u64,
    },
    /// The body is genuine and not JSON of the expected form.
    #[error("the notice is not well-formed JSON at line {line}, column {column}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// The body does not name one payment: none, two, an id that is not 64 hexadecimal digits, or a reference shorter than
    /// 16 or longer than 1,024 bytes.
    #[error("the notice does not name one payment")]
    Payment,
    /// The amount of a final payment is missing or zero.
    #[error("the notice names no amount")]
    Amount,
    /// The payment was recorded with another amount, which stays. Look into it: two of the sender's payments have one
    /// name, or one has two amounts.
    #[error("the notice names {noticed} micro-credits for a payment of {recorded}")]
    Conflict {
        /// The amount that is recorded.
        recorded: Credits,
        /// The amount of this notice.
        noticed: Credits,
    },
    /// The book failed. The payment may be recorded or not; the sender must send the notice again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NoticeError {
    /// The party at fault: the sender of the notice is the caller here. What is the operator's is worth sending again.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Store(_) => Fault::Operator,
            _ => Fault::Caller,
        }
    }
}

/// A [`PaymentSource`] that learns of payments by signed notices ("webhooks") from the payment provider.
///
/// A notice is a body and a signature header, `t=<seconds>,k=<key id>,v1=<hex>`: when it was signed, with which key, and the
/// signature over `<t>.<body>`, byte by byte as sent, by HMAC-SHA256 or Ed25519. The three parts come in any order, each
/// once; others are ignored. Which algorithm it is says the key and never the notice.
///
/// The body is a JSON object, of which only this is looked at:
///
/// | member | value |
/// | --- | --- |
/// | `payment` | the payment's id, 64 lower-case hexadecimal digits |
/// | or `reference` | the sender's name of it, 16 to 1,024 bytes, which becomes an id by [`PaymentId::of_reference`] |
/// | `amount` | micro-credits, 1 to 2^64 - 1, an integer below 2^53 or a string of digits without leading zeros |
/// | `final` | whether the payment can no longer be called back. Only then it counts |
///
/// The id or the reference of a payment that is not yet minted is enough to mint it. So both must be unguessable: an
/// order number is not, however long; let the reference have 128 random bits.
///
/// A payment is recorded once. The same notice again, at any time, is answered [`NoticeOutcome::Known`]; the bound on a
/// notice's age is a second fence and not what keeps payments from being counted twice. To exchange a key, make a new
/// `PaymentNotices` over the same book with the old key and the new one, and later one without the old.
///
/// All methods take `&self` and may be called from many threads.
pub struct PaymentNotices {
    book: Arc<dyn PaymentBook>,
    keys: BTreeMap<String, Kind>,
    max_age: u64,
}

impl core::fmt::Debug for PaymentNotices {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PaymentNotices").field("keys", &self.keys.keys()).finish_non_exhaustive()
    }
}

impl PaymentNotices {
    /// The longest body, bytes.
    pub const MAX_BODY: usize = 64 << 10;
    /// How far the time of a signature may be from now, seconds, unless [`with_max_age`](Self::with_max_age) says otherwise.
    pub const MAX_AGE: u64 = 300;

    /// A source over a book, with the keys that notices may be signed with.
    ///
    /// # Errors
    /// [`NoticeKeyError::NoKey`], [`NoticeKeyError::RepeatedId`], [`NoticeKeyError::PublicSecret`].
    pub fn new(book: Arc<dyn PaymentBook>, keys: impl IntoIterator<Item = NoticeKey>) -> Result<Self, NoticeKeyError> {
        let keys = key::collect(keys)?;
        Ok(Self { book, keys, max_age: Self::MAX_AGE })
    }

    /// The same with another bound on the age of a notice, seconds, either way.
    #[must_use]
    pub fn with_max_age(mut self, seconds: u64) -> Self {
        self.max_age = seconds;
        self
    }

    /// Takes a notice: its body and the value of its signature header, as they arrived.
    ///
    /// # Errors
    /// [`NoticeError`].
    pub fn receive(&self, body: &[u8], signature: &str, now: Timestamp) -> Result<NoticeOutcome, NoticeError> {
        if body.len() > Self::MAX_BODY {
            return Err(NoticeError::TooLong);
        }
        let header = Header::parse(signature).ok_or(NoticeError::Header)?;
        let key = self.keys.get(header.key).ok_or(NoticeError::UnknownKey)?;
        if !key.verify(header.time, body, header.signature) {
            return Err(NoticeError::Signature);
        }
        // After the signature: what this says is said of a genuine notice.
        let age = header.seconds.abs_diff(now.seconds());
        if age > self.max_age {
            return Err(NoticeError::Age { age });
        }
        let Some((payment, amount)) = Body::parse(body)?.payment()? else { return Ok(NoticeOutcome::NotFinal) };
        match self.book.record(payment, amount)? {
            PaymentOutcome::Fresh => Ok(NoticeOutcome::Fresh(amount)),
            PaymentOutcome::Known(recorded) if recorded == amount => Ok(NoticeOutcome::Known(recorded)),
            PaymentOutcome::Known(recorded) => Err(NoticeError::Conflict { recorded, noticed: amount }),
        }
    }
}

impl PaymentSource for PaymentNotices {
    fn paid(&self, payment: &PaymentId) -> Result<Option<Credits>, PaymentSourceError> {
        self.book.paid(payment).map_err(|error| PaymentSourceError(error.into()))
    }
}

#[cfg(test)]
mod tests;
