//! Getting the settlement of a spend whose call has ended without one (protocol, section 5, "Journal", "Cancel").
//!
//! ```text
//!                 call answers with a settlement
//!   Pinned ------------------------------------------------> Settled
//!     |                                                         ^
//!     | call gives up, or the process ends                      |
//!     v          a settlement                                   |
//!   Asking ---------------------------------------------------->+
//!     |  ^                                                      |
//!     v  |       a settlement                                   |
//!   Cancelling ------------------------------------------------>+
//!     |
//!     | refused again and again
//!     v
//!   Disputed: evidence is kept, asking and cancelling go on, ever more slowly
//! ```
//!
//! `busy`, `store-unavailable` and silence change nothing but the time of the next try. They and `in-progress` are no failures: the
//! pause follows the time that was waited so far, and what the gateway says of it, so that a lane is usable soon after its gateway
//! is back. Every other answer to *Asking* leads to
//! *Cancelling*, and every other one to *Cancelling* back to *Asking*: whether an error is true or a lie, what is sent is the one
//! spend that the note is pinned to, and sending it again costs nothing. That a spend is worked on leads to *Cancelling* too:
//! nobody waits for the answer any more, and a question after its lease settles what a crash left open.

use rand_core::{CryptoRng, Rng};

use super::dispute::{Dispute, DisputeKind, HeardNote};
use super::lane::{InFlight, Lane};
use super::{AcceptError, Accepted, Journal, JournalError, LaneId, NotInFlight, Wallet};
use crate::protocol::{GatewayId, Problem, Settlement, SpendKey, Timestamp};

/// What to do next for a spend that has no settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PursuitStep {
    /// Ask for its settlement: [`Wallet::fetch`].
    Fetch,
    /// Cancel it: [`Wallet::cancel`].
    Cancel,
}

impl PursuitStep {
    const fn other(self) -> Self {
        match self {
            Self::Fetch => Self::Cancel,
            Self::Cancel => Self::Fetch,
        }
    }
}

/// What came of a step.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A settlement, to be checked.
    Settlement(Settlement),
    /// One of the protocol's problems.
    Problem(Problem),
    /// The same, with the seconds after which the gateway says to ask again (`Retry-After`).
    Postponed {
        /// Which one.
        problem: Problem,
        /// Its word, which is not taken for more than it may be.
        seconds: u64,
    },
    /// An answer that is neither: its sender breaks the protocol. It counts as a refusal.
    Unusable,
    /// No answer, or one of a proxy that reached nobody.
    Nothing,
}

/// What became of a pursuit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Pursued {
    /// The spend is settled, its lane can be used again.
    Settled(Accepted),
    /// The next step is due at this time.
    Again(Timestamp),
}

/// Where the pursuit of a spend is.
#[derive(Clone, Debug)]
pub(super) struct Pursuit {
    /// Whether a call still waits for the answer and drives the spend itself.
    held: bool,
    step: PursuitStep,
    due: Timestamp,
    /// Refusals, and failures of one's own disk, each of which makes the next pause twice as long.
    failures: u32,
    /// Answers, or none, after which there was nothing to do but to wait, and when the first of them came.
    waits: u32,
    waiting_since: Option<Timestamp>,
    /// Refusals of fetch and cancel that cannot all be true of an honest gateway.
    refusals: u32,
    heard: Vec<HeardNote>,
    disputed: bool,
}

/// Refusals after which a dispute is written: a fetch and a cancel, each tried some times and minutes apart.
const DISPUTE_AFTER: u32 = 6;
/// Steps, and seconds since the first of them, after which a dispute is written, whatever was said: longer than any lease. And
/// after which one is written if nobody ever answered.
const STALLED_AFTER: (u32, u64) = (12, 4_095);
const SILENT_AFTER: (u32, u64) = (24, 12 * 3600);
/// While it was waited for less than this, seconds, the pause is a fifth of it, or 4 seconds, then as long again: a gateway that is
/// back after a minute is asked within about ten seconds.
const SOON: u64 = 300;
/// The first and the longest pause between two steps, seconds.
const FIRST_PAUSE: u64 = 1;
const LONGEST_PAUSE: u64 = 3600;
/// How much of what was heard is kept for a dispute.
const MOST_HEARD: usize = 64;

impl Pursuit {
    /// Of a spend that a call drives.
    pub(super) fn held() -> Self {
        Self {
            held: true,
            step: PursuitStep::Fetch,
            due: Timestamp::default(),
            failures: 0,
            waits: 0,
            waiting_since: None,
            refusals: 0,
            heard: Vec::new(),
            disputed: false,
        }
    }

    /// Of a spend that nobody drives: it was read from the journal.
    pub(super) fn loose() -> Self {
        Self { held: false, ..Self::held() }
    }

    /// A dispute about it is in the journal.
    pub(super) fn disputed_before(&mut self) {
        self.disputed = true;
    }

    pub(super) fn disputed(&self) -> bool {
        self.disputed
    }

    /// Whether a step is due. A time that no pause reaches was set by a clock that was ahead.
    fn is_due(&self, now: Timestamp) -> bool {
        !self.held && (self.due <= now || self.due > now.after(2 * LONGEST_PAUSE))
    }

    fn note(&mut self, at: Timestamp, what: String) {
        // The beginning tells more than the end, of which the last line is kept up to date.
        if self.heard.len() == MOST_HEARD {
            self.heard.pop();
        }
        self.heard.push(HeardNote { at, what });
    }

    /// Puts the next step off by a part of the time that it was waited so far, and by a quarter more at most, by chance. What the gateway
    /// says goes, but not for much more, nor for many more questions.
    fn wait<R: Rng + CryptoRng>(&mut self, now: Timestamp, said: Option<u64>, rng: &mut R) {
        let waited = self.waited(now);
        self.waiting_since.get_or_insert(now);
        self.waits = self.waits.saturating_add(1);
        let own = if waited < SOON { (waited / 5).max(waited.min(4)) } else { waited };
        let said = said.map_or(own, |said| said.clamp(own / 4, own.max(SOON)));
        let pause = said.clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.due = now.after(pause + rng.next_u64() % (pause / 4 + 1));
    }

    /// For how long there was nothing to do but to wait, seconds.
    fn waited(&self, now: Timestamp) -> u64 {
        self.waiting_since.map_or(0, |since| now.seconds().saturating_sub(since.seconds()))
    }

    fn has_waited(&self, (steps, seconds): (u32, u64), now: Timestamp) -> bool {
        self.waits.saturating_add(self.failures) >= steps && self.waited(now) >= seconds
    }

    /// Puts the next step off, each time about twice as long, by chance up to half as much more: so that wallets that failed
    /// together do not come back together.
    fn later<R: Rng + CryptoRng>(&mut self, now: Timestamp, rng: &mut R) {
        let pause = FIRST_PAUSE.checked_shl(self.failures).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
        self.failures = (self.failures + 1).min(32);
        self.due = now.after(pause + rng.next_u64() % (pause / 2 + 1));
    }
}

impl<J: Journal> Wallet<J> {
    /// Says that no call drives this spend any more: from now on its settlement is pursued. For one that is not in flight, or is
    /// pursued already, nothing changes.
    pub fn release(&mut self, key: &SpendKey) {
        if let Some(flight) = self.in_flight_mut(key) {
            flight.pursuit.held = false;
        }
    }

    /// The spends to be pursued now, and how. Oldest notes of a lane are all there is: a lane has one spend in flight.
    pub fn pursuits(&self, now: Timestamp) -> Vec<(SpendKey, PursuitStep)> {
        self.flights()
            .filter(|flight| flight.pursuit.is_due(now))
            .map(|flight| (flight.key, flight.pursuit.step))
            .collect()
    }

    /// When the next pursuit is due; none when there is nothing to pursue.
    pub fn next_pursuit(&self) -> Option<Timestamp> {
        self.flights().filter(|flight| !flight.pursuit.held).map(|flight| flight.pursuit.due).min()
    }

    /// The gateway that a spend in flight is made out to: the one that knows it.
    pub fn gateway_of(&self, key: &SpendKey) -> Option<GatewayId> {
        self.in_flight(key).map(|(_, flight)| flight.spend.gateway)
    }

    /// Number of spends that await a settlement, driven by a call or pursued.
    pub fn awaited(&self) -> usize {
        self.flights().count()
    }

    /// Takes what came of a step of a pursuit.
    ///
    /// # Errors
    /// [`PursuitError::NotInFlight`] when the spend is settled already; [`PursuitError::Journal`], after which the same is tried
    /// again after a pause.
    pub fn heard<R: Rng + CryptoRng>(
        &mut self,
        key: &SpendKey,
        step: PursuitStep,
        heard: &Heard,
        now: Timestamp,
        rng: &mut R,
    ) -> Result<Pursued, PursuitError> {
        let mut wrong_epoch = false;
        let (what, bad) = match heard {
            Heard::Settlement(settlement) => match self.accept(key, settlement, now) {
                Ok(accepted) => return Ok(Pursued::Settled(accepted)),
                Err(AcceptError::NotInFlight) => return Err(PursuitError::NotInFlight(NotInFlight)),
                Err(AcceptError::Journal(error)) => {
                    // The disk's fault and not the gateway's, which is not to be asked without pause for it.
                    if let Some(flight) = self.in_flight_mut(key) {
                        flight.pursuit.later(now, rng);
                    }
                    return Err(PursuitError::Journal(error));
                }
                Err(error) => {
                    wrong_epoch = matches!(error, AcceptError::WrongEpoch(_));
                    (format!("a settlement that is none: {error}"), Some(settlement.clone()))
                }
            },
            Heard::Problem(problem) | Heard::Postponed { problem, .. } => (problem.as_str().to_owned(), None),
            Heard::Unusable => ("an answer that is none of the protocol's".to_owned(), None),
            Heard::Nothing => ("nothing".to_owned(), None),
        };
        let flight = self.in_flight_mut(key).ok_or(PursuitError::NotInFlight(NotInFlight))?;
        let pursuit = &mut flight.pursuit;
        let asked = match step {
            PursuitStep::Fetch => "asked for the settlement: ",
            PursuitStep::Cancel => "cancelled: ",
        };
        pursuit.note(now, format!("{asked}{what}"));
        let (problem, said) = match heard {
            Heard::Problem(problem) => (Some(*problem), None),
            Heard::Postponed { problem, seconds } => (Some(*problem), Some(*seconds)),
            _ => (None, None),
        };
        match (heard, problem, step) {
            (Heard::Nothing, ..) | (_, Some(Problem::Busy | Problem::StoreUnavailable), _) => {
                pursuit.wait(now, said, rng);
            }
            // It is worked on, for a caller that has gone: a cancel stops the work, and settles what a crash left open.
            (_, Some(Problem::InProgress | Problem::WrongOwner), step) => {
                pursuit.step = step.other();
                pursuit.wait(now, said, rng);
            }
            // The gateway does not know the spend, or says so. A cancel settles the matter, and need not wait.
            (Heard::Unusable, ..) | (_, Some(_), _) if step == PursuitStep::Fetch && pursuit.refusals == 0 => {
                pursuit.step = PursuitStep::Cancel;
                pursuit.refusals += 1;
                pursuit.due = now;
            }
            (.., step) => {
                pursuit.step = step.other();
                pursuit.refusals += 1;
                pursuit.later(now, rng);
            }
        }
        let due = pursuit.due;
        let kind = match heard {
            Heard::Settlement(_) if wrong_epoch => Some(DisputeKind::WrongEpoch),
            Heard::Settlement(_) => Some(DisputeKind::BadSettlement),
            _ if step == PursuitStep::Cancel
                && matches!(problem, Some(Problem::AlreadySpent | Problem::DoubleSpend)) =>
            {
                Some(DisputeKind::Denied)
            }
            // Silence is most often that of one's own network, and is given half a day.
            Heard::Nothing if !pursuit.has_waited(SILENT_AFTER, now) => None,
            _ if pursuit.refusals >= DISPUTE_AFTER || pursuit.has_waited(STALLED_AFTER, now) => {
                Some(DisputeKind::Withheld)
            }
            _ => None,
        };
        if let Some(kind) = kind {
            self.dispute(key, kind, bad, now)?;
        }
        Ok(Pursued::Again(due))
    }

    /// Writes a dispute about a spend in flight down.
    pub(super) fn dispute(
        &mut self,
        key: &SpendKey,
        kind: DisputeKind,
        settlement: Option<Settlement>,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let entry = self.journal.entry(&key.nullifier)?.ok_or(JournalError::OtherContext)?;
        let Some(flight) = self.in_flight_mut(key) else { return Ok(()) };
        flight.pursuit.disputed = true;
        let (gateway, heard) = (flight.spend.gateway, flight.pursuit.heard.clone());
        let dispute = Dispute {
            kind,
            at: now,
            gateway: Some(gateway),
            spend: Some(entry.spend),
            content: entry.request.map(|request| request.content),
            settlement,
            receipt: None,
            mint: None,
            directories: vec![self.signed.clone()],
            heard,
        };
        self.journal.put_dispute(&dispute)
    }

    pub(super) fn flights(&self) -> impl Iterator<Item = &InFlight> {
        self.lanes.values().filter_map(|lane| match lane {
            Lane::InFlight(flight) => Some(&**flight),
            _ => None,
        })
    }

    pub(super) fn in_flight_mut(&mut self, key: &SpendKey) -> Option<&mut InFlight> {
        let (lane, _): (LaneId, _) = self.in_flight(key)?;
        match self.lanes.get_mut(&lane) {
            Some(Lane::InFlight(flight)) => Some(flight),
            _ => None,
        }
    }
}

/// Why what was heard could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PursuitError {
    /// The spend is settled, or was never sent.
    #[error(transparent)]
    NotInFlight(#[from] NotInFlight),
    /// The journal failed. The credit is as safe as it was.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
