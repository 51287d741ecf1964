//! The body of a notice.

use core::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::NoticeError;
use super::header::digits;
use crate::protocol::{Credits, PaymentId};

/// What is looked at of a notice's JSON. A member that comes twice is refused; members that are not known are not.
#[derive(serde::Deserialize)]
pub(super) struct Body {
    payment: Option<String>,
    reference: Option<String>,
    amount: Option<Amount>,
    #[serde(rename = "final")]
    is_final: bool,
}

const REFERENCE: core::ops::RangeInclusive<usize> = 16..=1024;

impl Body {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NoticeError> {
        // The reader would take the members from an array as well, by their places.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(NoticeError::Json { line: 1, column: 1 });
        }
        // Not the error itself: it quotes the notice.
        serde_json::from_slice(bytes).map_err(|e| NoticeError::Json { line: e.line(), column: e.column() })
    }

    /// The payment and its amount, none while it is not final.
    pub(super) fn payment(self) -> Result<Option<(PaymentId, Credits)>, NoticeError> {
        if !self.is_final {
            return Ok(None);
        }
        let payment = match (self.payment, self.reference) {
            (Some(id), None) => id.parse().map_err(|_| NoticeError::Payment)?,
            (None, Some(name)) if REFERENCE.contains(&name.len()) => PaymentId::of_reference(name.as_bytes()),
            _ => return Err(NoticeError::Payment),
        };
        match self.amount {
            Some(Amount(micro)) if micro > 0 => Ok(Some((payment, Credits::from_micro(micro)))),
            _ => Err(NoticeError::Amount),
        }
    }
}

/// Micro-credits. Money is never read from a float.
struct Amount(u64);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl AmountVisitor {
    /// From here on a sender that computes in floating point has rounded already.
    const EXACT: u64 = 1 << 53;
}

impl Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer from 0 to 2^53 - 1, or digits in a string")
    }

    fn visit_u64<E: de::Error>(self, micro: u64) -> Result<Amount, E> {
        if micro < Self::EXACT { Ok(Amount(micro)) } else { Err(E::custom("too large for a number")) }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
        digits(text).map(Amount).ok_or_else(|| E::custom("not an integer of 64 bits"))
    }
}
