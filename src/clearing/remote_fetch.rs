//! Asking for a settlement at a remote gateway.

use rand_core::{CryptoRng, Rng};

use super::remote_spend::AnswerError;
use super::{ClearingAnswer, ClearingProblem, ClearingRequest, Envelope, RemoteGateway};
use crate::protocol::{Digest, Following, Settlement, SpendKey, SpendTag, Timestamp};
use crate::store::RecordKey;

/// A question for the settlement of a spend that this gateway does not have at hand: it is named by a
/// [`Following`] and not sent.
pub struct RemoteFetch {
    key: SpendKey,
    record: RecordKey,
    waiting: Option<Digest>,
}

impl core::fmt::Debug for RemoteFetch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RemoteFetch(..)")
    }
}

/// What the issuer says of a spend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteFetched {
    /// It is settled. Without the spend only its caller can check the signature, and does.
    Settled(Settlement),
    /// It is open.
    InProgress,
    /// The issuer refused; [`ClearingProblem::NoSpend`] where there is no such spend, or its session key is another.
    Refused(ClearingProblem),
}

impl RemoteFetch {
    pub(super) fn new(following: &Following) -> Self {
        let tag = SpendTag::of(&following.context, &following.session);
        let record = RecordKey { epoch: following.epoch, nullifier: following.nullifier, tag };
        Self { key: following.key(), record, waiting: None }
    }

    /// Epoch, `nf` and `x`.
    pub fn key(&self) -> SpendKey {
        self.key
    }

    /// Asks the issuer.
    pub fn ask<R: Rng + CryptoRng>(&mut self, gateway: &RemoteGateway, now: Timestamp, rng: &mut R) -> Vec<u8> {
        let envelope = gateway.envelope(ClearingRequest::Fetch { spend: self.record }, now, rng);
        self.waiting = Some(Envelope::digest(&envelope));
        envelope
    }

    /// Takes the answer to the newest envelope.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn answer(&self, answer: &[u8]) -> Result<RemoteFetched, AnswerError> {
        let (envelope, answer) = ClearingAnswer::from_bytes(answer)?;
        if self.waiting != Some(envelope) {
            return Err(AnswerError::OtherEnvelope);
        }
        match answer {
            ClearingAnswer::Settled(settlement) => Ok(RemoteFetched::Settled(settlement)),
            ClearingAnswer::InProgress => Ok(RemoteFetched::InProgress),
            ClearingAnswer::Refused(problem) => Ok(RemoteFetched::Refused(problem)),
            _ => Err(AnswerError::Unexpected),
        }
    }
}
