//! Paying for a request.

use core::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::lane::{InFlight, Lane};
use super::pursuit::Pursuit;
use super::{Budget, BudgetError, Journal, JournalEntry, JournalError, LaneId, ReadySpend, RequestNote, Wallet};
use crate::protocol::{
    Action, Authorisation, Cancellation, Following, Opening, Purpose, Request, SessionKey, SpendKey, Timestamp,
};

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

/// Signs the further requests of a session, each with a number of its own. It holds the session's key, which is worth what is left
/// of the session's charge.
pub struct SessionSigner {
    spend: SpendKey,
    key: SessionKey,
    next: AtomicU64,
}

impl core::fmt::Debug for SessionSigner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SessionSigner").finish_non_exhaustive()
    }
}

impl SessionSigner {
    /// The bytes of a [`Following`] for one further call.
    pub fn call(&self, request: &Request<'_>) -> Vec<u8> {
        self.sign(Action::Call, request)
    }

    /// The bytes of a [`Following`] that closes the session.
    pub fn close(&self, request: &Request<'_>) -> Vec<u8> {
        self.sign(Action::Close, request)
    }

    fn sign(&self, action: Action, request: &Request<'_>) -> Vec<u8> {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        Following::sign(&self.key, &self.spend, action, sequence, request).to_bytes()
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
    /// The budget does not allow it.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Half a transfer pays for no request; see [`Wallet::authorise_transfer`].
    #[error("half a transfer pays for no request")]
    HalfTransfer,
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
        self.authorise_within(ready, request, None, now)
    }

    /// [`authorise`](Self::authorise) on a budget, which is counted by the pin itself.
    ///
    /// # Errors
    /// [`AuthoriseError`], [`AuthoriseError::Budget`] among them.
    pub fn authorise_within(
        &mut self,
        ready: ReadySpend,
        request: &Request<'_>,
        budget: Option<&Budget>,
        now: Timestamp,
    ) -> Result<Authorised, AuthoriseError> {
        if matches!(ready.spend.purpose, Purpose::Transfer { .. }) {
            return Err(AuthoriseError::HalfTransfer);
        }
        self.check_ready(&ready, now)?;
        if let Some(budget) = budget {
            self.check_budget(budget, ready.spend.charge, now)?;
        }
        let (key, lane) = (ready.key(), ready.lane);
        // A rollover is no request of its owner's.
        let note = (ready.spend.purpose == Purpose::Session).then(|| RequestNote {
            method: request.method().to_owned(),
            target: request.target().to_owned(),
            content: request.content(),
            budget: budget.map(|budget| budget.name.clone()),
        });
        self.pin([ready], note, now)?;
        let (_, flight) = self.in_flight(&key).ok_or(AuthoriseError::NotFrontier(lane))?;
        Ok(Authorised { key, lane, opening: flight.opening(request).to_bytes() })
    }

    pub(super) fn check_ready(&self, ready: &ReadySpend, now: Timestamp) -> Result<(), AuthoriseError> {
        if !self.is_frontier(ready) {
            return Err(AuthoriseError::NotFrontier(ready.lane));
        }
        if self.is_current(ready, now) { Ok(()) } else { Err(AuthoriseError::Stale) }
    }

    /// Writes spends to the journal, all or none. From here on they are the only ones of their notes.
    pub(super) fn pin<const N: usize>(
        &mut self,
        ready: [ReadySpend; N],
        request: Option<RequestNote>,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let entries = ready.each_ref().map(|ready| JournalEntry {
            key: ready.key(),
            lane: ready.lane,
            index: ready.index,
            spend: ready.spend.to_bytes(),
            pinned_at: now,
            request: request.clone(),
            settlement: None,
            outcome: None,
        });
        if let Err(error) = self.journal.pin(&entries) {
            // Read anew, it says what is on the disk.
            self.spending = None;
            // It may be on the disk for all that. Until the journal says, at the next start, nothing of these lanes is sent.
            for entry in &entries {
                self.ready.retain(|other| other.lane != entry.lane);
                if let Some(Lane::Idle(note)) = self.lanes.get_mut(&entry.lane) {
                    note.unspent = false;
                }
                self.uncertain.insert(entry.lane);
            }
            return Err(error);
        }
        if let Some(spending) = &mut self.spending {
            let budget = request.as_ref().and_then(|request| request.budget.as_deref());
            ready.iter().for_each(|ready| spending.pinned(ready.key().nullifier, &ready.spend, budget, now));
        }
        for ready in ready {
            // Other proofs of this note must never be sent any more.
            self.ready.retain(|other| other.lane != ready.lane);
            self.lanes.insert(ready.lane, Lane::InFlight(Box::new(InFlight::new(ready, now))));
        }
        Ok(())
    }

    /// The same spend again, for a request that got no answer, or an error. It is charged once, however often it is sent.
    ///
    /// # Errors
    /// [`NotInFlight`].
    pub fn resend(&self, key: &SpendKey, request: &Request<'_>) -> Result<Authorised, NotInFlight> {
        let (lane, flight) = self.in_flight(key).ok_or(NotInFlight)?;
        if matches!(flight.spend.purpose, Purpose::Transfer { .. }) {
            return Err(NotInFlight);
        }
        Ok(Authorised { key: *key, lane, opening: flight.opening(request).to_bytes() })
    }

    /// The bytes of a [`Cancellation`] of a spend that was sent: the way out for one that no gateway admits, and for a call that
    /// must stop. Its answer is a settlement, which [`accept`](Self::accept) takes. `request` is the request that will
    /// carry it.
    ///
    /// # Errors
    /// [`NotInFlight`].
    pub fn cancel(&self, key: &SpendKey, request: &Request<'_>) -> Result<Vec<u8>, NotInFlight> {
        let (_, flight) = self.in_flight(key).ok_or(NotInFlight)?;
        let authorisation = flight.sign(Action::Cancel, request);
        Ok(Cancellation { spend: flight.spend.clone(), authorisation }.to_bytes())
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
        Ok(Following::sign(&flight.session, key, Action::Fetch, sequence, request).to_bytes())
    }

    /// What signs the further requests of a session that was opened with a spend that was sent.
    ///
    /// # Errors
    /// [`NotInFlight`].
    pub fn session(&self, key: &SpendKey) -> Result<SessionSigner, NotInFlight> {
        let (_, flight) = self.in_flight(key).ok_or(NotInFlight)?;
        let secret = Zeroizing::new(flight.session.to_bytes());
        Ok(SessionSigner { spend: *key, key: SessionKey::from_bytes(&secret), next: AtomicU64::new(1) })
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
    fn new(ready: ReadySpend, pinned_at: Timestamp) -> Self {
        let key = ready.key();
        let ReadySpend { index, spend, session, hidden, takes, .. } = ready;
        let pursuit = Pursuit::held();
        // That there is an index after it was seen when it was planned.
        Self { key, spend, session, hidden, takes, next: index + 1, sequence: 1, pinned_at, ours: true, pursuit }
    }

    pub(super) fn opening(&self, request: &Request<'_>) -> Opening {
        Opening { spend: self.spend.clone(), authorisation: self.sign(Action::Open, request) }
    }

    fn sign(&self, action: Action, request: &Request<'_>) -> Authorisation {
        let SpendKey { nullifier, context, .. } = &self.key;
        Authorisation::sign(&self.session, nullifier, context, action, 0, request)
    }
}
