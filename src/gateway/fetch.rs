//! Requests that follow an opening, as far as the set answers them: asking for a settlement, and what a session is that this process
//! does not have.

use super::{FetchError, Gateway};
use crate::lifecycle::SettledSpend;
use crate::protocol::{Action, DecodeError, Following, Request, SpendTag};
use crate::store::{Lease, Record, RecordKey, RecordState};

/// What a request for a settlement comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fetched {
    /// Here it is.
    Settled(SettledSpend),
    /// The spend is being worked on.
    InProgress,
}

/// Where a spend is that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// It is settled.
    Settled(SettledSpend),
    /// It is this process's.
    Here,
    /// It is another process's, by this lease: that one answers, or `wrong-owner`.
    Elsewhere(Lease),
}

impl Gateway {
    /// Answers the bytes of a [`Following`] that asks for the settlement. Idempotent, so that a replay of it tells only what
    /// the request before it told.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn fetch(&self, following: &[u8], request: &Request<'_>) -> Result<Fetched, FetchError> {
        let following = Following::from_bytes(following)?;
        if following.authorisation.action != Action::Fetch {
            return Err(DecodeError::Field("action").into());
        }
        Ok(match self.whereabouts(&following, request)? {
            Whereabouts::Settled(settled) => Fetched::Settled(settled),
            Whereabouts::Here | Whereabouts::Elsewhere(_) => Fetched::InProgress,
        })
    }

    /// Finds out what has become of the session of a request, whatever its action, from the set: where this process has no such
    /// session, it is over, or another's.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) fn whereabouts(&self, following: &Following, request: &Request<'_>) -> Result<Whereabouts, FetchError> {
        let record = self.followed(following, request)?;
        Ok(match record.state {
            RecordState::Settled(settlement) => Whereabouts::Settled(SettledSpend::new(following.key(), settlement)),
            RecordState::Open { lease, .. } if lease.owner == self.owner => Whereabouts::Here,
            RecordState::Open { lease, .. } => Whereabouts::Elsewhere(lease),
        })
    }

    /// The record of the spend that a request names, once it is known that its sender holds the session key.
    fn followed(&self, following: &Following, request: &Request<'_>) -> Result<Record, FetchError> {
        if self.directory.epoch(following.epoch).is_none() {
            return Err(FetchError::UnknownEpoch(following.epoch));
        }
        let record = self.set.find(following.epoch, &following.nullifier)?;
        let tag = SpendTag::of(&following.context, &following.session);
        let record = record.filter(|record| record.is_of(&RecordKey { tag, ..record.key }, &following.context));
        let record = record.ok_or(FetchError::SessionSignature)?;
        if following.verify(request) { Ok(record) } else { Err(FetchError::SessionSignature) }
    }
}
