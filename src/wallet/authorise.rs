//! Paying for a request.

use super::lane::{InFlight, Lane};
use super::{Journal, JournalEntry, JournalError, LaneId, ReadySpend, Wallet};
use crate::protocol::{Action, Authorisation, Following, Opening, Request, SpendKey, Timestamp};

/// A credential that may be sent: its spend is pinned.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorised {
    /// The spend, by which its settlement is accepted later.
    pub key: SpendKey,
    /// The lane it is of.
    pub lane: LaneId,
    /// The bytes of the [`Opening`].
    pub opening: Vec<u8>,
}

impl core::fmt::Debug for Authorised {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Authorised").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// Why a spend was not authorised. Nothing was sent; except after [`AuthoriseError::Journal`] the note is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthoriseError {
    /// The proof is of an earlier window, tariff or directory; it was thrown away. Plan again.
    #[error("the proof is not current any more")]
    Stale,
    /// The note is not its lane's frontier: another proof of it was sent, or it is long spent. It was thrown away.
    #[error("the note of lane {0} was spent with another proof")]
    NotFrontier(LaneId),
    /// The journal refused or failed. Whether the note is pinned is unknown; the lane must not be used until the journal says.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// No such spend awaits a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such spend awaits a settlement")]
pub struct NotInFlight;

impl<J: Journal> Wallet<J> {
    /// Pins the spend in the journal, then signs the request with its session key: the online cost of a call. From here on
    /// the note is spent.
    ///
    /// # Errors
    /// [`AuthoriseError`].
    pub fn authorise(
        &mut self,
        ready: ReadySpend,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<Authorised, AuthoriseError> {
        let lane = ready.lane;
        if !self.is_frontier(&ready) {
            return Err(AuthoriseError::NotFrontier(lane));
        }
        if !self.is_current(&ready, now) {
            return Err(AuthoriseError::Stale);
        }
        let key = ready.key();
        self.journal.pin(JournalEntry { key, lane, spend: ready.spend.to_bytes(), settlement: None })?;
        // Other proofs of this note must never be sent any more.
        self.ready.retain(|other| other.lane != lane);
        let flight = InFlight::new(ready);
        let opening = flight.opening(request);
        self.lanes.insert(lane, Lane::InFlight(Box::new(flight)));
        Ok(Authorised { key, lane, opening })
    }

    /// The same spend again, for a request that got no answer, or an error. It is charged once, however often it is sent.
    ///
    /// # Errors
    /// [`NotInFlight`].
    pub fn resend(&self, key: &SpendKey, request: &Request<'_>) -> Result<Authorised, NotInFlight> {
        let (lane, flight) = self.in_flight(key).ok_or(NotInFlight)?;
        Ok(Authorised { key: *key, lane, opening: flight.opening(request) })
    }

    /// The bytes of a [`Following`] that asks for the settlement of a spend that was sent. `request` is the request that will
    /// carry it.
    ///
    /// # Errors
    /// [`NotInFlight`].
    pub fn fetch(&mut self, key: &SpendKey, request: &Request<'_>) -> Result<Vec<u8>, NotInFlight> {
        let (lane, _) = self.in_flight(key).ok_or(NotInFlight)?;
        let Some(Lane::InFlight(flight)) = self.lanes.get_mut(&lane) else { return Err(NotInFlight) };
        let sequence = flight.sequence;
        flight.sequence += 1;
        let (nullifier, context) = (key.nullifier, key.context);
        let authorisation =
            Authorisation::sign(&flight.session, &nullifier, &context, Action::Fetch, sequence, request);
        Ok(Following { epoch: key.epoch, nullifier, context, authorisation }.to_bytes())
    }

    /// The lane that awaits the settlement of a spend.
    pub(super) fn in_flight(&self, key: &SpendKey) -> Option<(LaneId, &InFlight)> {
        self.lanes.iter().find_map(|(id, lane)| match lane {
            Lane::InFlight(flight) if flight.key == *key => Some((*id, &**flight)),
            _ => None,
        })
    }
}

impl InFlight {
    fn new(ready: ReadySpend) -> Self {
        let key = ready.key();
        let ReadySpend { index, spend, session, hidden, .. } = ready;
        Self { key, spend, session, hidden, next: index + 1, sequence: 1 }
    }

    fn opening(&self, request: &Request<'_>) -> Vec<u8> {
        let SpendKey { nullifier, context, .. } = &self.key;
        let authorisation = Authorisation::sign(&self.session, nullifier, context, Action::Open, 0, request);
        Opening { spend: self.spend.clone(), authorisation }.to_bytes()
    }
}
