//! Asking for a settlement afterwards.

use super::{FetchError, Gateway};
use crate::lifecycle::SettledSpend;
use crate::protocol::{Following, Request, SpendTag};
use crate::store::RecordState;

/// What a request for a settlement comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fetched {
    /// Here it is.
    Settled(SettledSpend),
    /// The spend is being worked on.
    InProgress,
}

impl Gateway {
    /// Answers the bytes of a [`Following`] that asks for the settlement. Idempotent, so that a replay of it tells only what
    /// the request before it told.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn fetch(&self, following: &[u8], request: &Request<'_>) -> Result<Fetched, FetchError> {
        let following = Following::from_bytes(following)?;
        if self.directory.epoch(following.epoch).is_none() {
            return Err(FetchError::UnknownEpoch(following.epoch));
        }
        let record = self.set.find(following.epoch, &following.nullifier)?;
        let tag = SpendTag::of(&following.context, &following.session);
        let record = record.filter(|record| record.key.tag == tag);
        let record = record.ok_or(FetchError::SessionSignature)?;
        if !following.authorisation.verify(&following.session, &following.nullifier, &following.context, request) {
            return Err(FetchError::SessionSignature);
        }
        Ok(match record.state {
            RecordState::Settled(settlement) => Fetched::Settled(SettledSpend::new(following.key(), settlement)),
            RecordState::Open { .. } => Fetched::InProgress,
        })
    }
}
