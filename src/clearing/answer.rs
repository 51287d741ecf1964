//! What the issuer answers a remote gateway.

use super::ClearingProblem;
use crate::protocol::codec::{DecodeError, Reader, put_text};
use crate::protocol::{Digest, Settlement, VERSION};

/// An answer to a [`ClearingRequest`](super::ClearingRequest).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClearingAnswer {
    /// The spend is admitted by this very request: serve it.
    Admitted,
    /// What was metered is written down.
    Metered,
    /// The spend is settled, by this request or an earlier one: the settlement that is stored.
    Settled(Settlement),
    /// The spend was admitted by an earlier request, and is not settled. Serve nothing.
    InProgress,
    /// The note was spent in another context. The issuer has the evidence.
    DoubleSpend,
    /// Nothing was done.
    Refused(ClearingProblem),
}

impl ClearingAnswer {
    /// Longest encoding, bytes.
    pub const MAX_LENGTH: usize = Self::HEAD + 1 + 255;

    const HEAD: usize = 1 + Digest::LENGTH + 1;

    /// Version (1), digest of the envelope that it answers (32), its number (1), then: for 3 the [`Settlement`], for 6 the
    /// problem's name behind its length in one byte, else nothing.
    ///
    /// Numbers: 1 admitted, 2 metered, 3 settled, 4 in-progress, 5 double-spend, 6 refused.
    pub fn to_bytes(&self, envelope: &Digest) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::HEAD + Settlement::LENGTH);
        out.push(VERSION);
        out.extend_from_slice(envelope.as_bytes());
        match self {
            Self::Admitted => out.push(1),
            Self::Metered => out.push(2),
            Self::Settled(settlement) => {
                out.push(3);
                out.extend_from_slice(&settlement.to_bytes());
            }
            Self::InProgress => out.push(4),
            Self::DoubleSpend => out.push(5),
            Self::Refused(problem) => {
                out.push(6);
                put_text(&mut out, problem.as_str());
            }
        }
        out
    }

    /// Reads the encoding: the digest of the envelope, and the answer.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<(Digest, Self), DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version()?;
        let envelope = Digest::from_bytes(reader.array()?);
        let answer = match reader.u8()? {
            1 => Self::Admitted,
            2 => Self::Metered,
            3 => Self::Settled(Settlement::from_bytes(reader.rest())?),
            4 => Self::InProgress,
            5 => Self::DoubleSpend,
            6 => {
                let name = reader.text("problem", 255)?;
                Self::Refused(ClearingProblem::from_name(&name).ok_or(DecodeError::Field("problem"))?)
            }
            _ => return Err(DecodeError::Field("answer")),
        };
        reader.finish()?;
        Ok((envelope, answer))
    }
}
