//! A spend at a remote gateway.

use rand_core::{CryptoRng, Rng};

use super::{ClearingAnswer, ClearingProblem, ClearingRequest, Envelope, RemoteGateway};
use crate::lifecycle::AuthenticSpend;
use crate::protocol::codec::DecodeError;
use crate::protocol::{
    Credits, Digest, Directory, EpochNumber, Fault, Purpose, Settlement, Spend, SpendKey, Timestamp,
};
use crate::store::RecordKey;

/// A spend that a remote gateway has taken: a machine that says which requests may be sent, and what their answers mean.
///
/// ```text
/// offered --admit, "admitted"--> serving --settle--> settling --"settled"--> settled
///    |                             |                                           ^
///    +-----------cancel------------+----> cancelling --"settled"---------------+
/// ```
///
/// Each method that gives an envelope makes a new one, and only the answer to the newest is taken. Served is only what
/// [`Progress::Serve`] said, once.
pub struct RemoteSpend {
    spend: Spend,
    key: SpendKey,
    record: RecordKey,
    state: State,
    waiting: Option<(Digest, Asked, Timestamp)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Offered,
    Serving,
    Settling(Credits),
    Cancelling,
    Settled,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Admit,
    Meter,
    Settle,
    Cancel,
    Fetch,
}

impl core::fmt::Debug for RemoteSpend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RemoteSpend").field("spend", &self.spend).finish_non_exhaustive()
    }
}

/// A settlement that was checked: the epoch's key has signed it for this spend's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    key: SpendKey,
    settlement: Settlement,
    cost: Credits,
    asked: Option<Credits>,
}

impl Cleared {
    /// Epoch, `nf` and `x`.
    pub fn key(&self) -> SpendKey {
        self.key
    }

    /// The settlement, to be sent to the caller.
    pub fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// What it cost by the settlement.
    pub fn cost(&self) -> Credits {
        self.cost
    }

    /// The cost that this gateway had asked for, if it did. Where the settlement says another, it is an earlier one: the lease
    /// had run out, or another process of this gateway was faster. The settlement counts.
    pub fn asked(&self) -> Option<Credits> {
        self.asked
    }
}

/// What an answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// It is admitted: serve the request, meter it, settle it, all within the session's time limit. Said once.
    Serve,
    /// What was metered is written down.
    Metered,
    /// It is settled: answer the caller with this, serve nothing more.
    Settled(Box<Cleared>),
    /// It is open by an earlier request: serve nothing, `in-progress`. Where this process knows that nobody serves it, it cancels.
    InProgress,
    /// The note was spent in another context: `double-spend`.
    DoubleSpend,
    /// The issuer refused; the request may be sent again where the problem may pass.
    Refused(ClearingProblem),
}

/// Why a request must not be made now. The gateway's code is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It does not follow from what went before: only an offered spend is admitted, only a served one is metered, and one is
    /// settled at one cost.
    #[error("the request does not follow from what went before")]
    OutOfTurn,
    /// The cost is above the charge, or above 0 for half a transfer.
    #[error("a cost of {cost} is above the cap of {cap}")]
    AboveCap {
        /// The cost.
        cost: Credits,
        /// The cap.
        cap: Credits,
    },
    /// The cost is no multiple of the quantum.
    #[error("a cost of {0} is no multiple of the quantum")]
    NotQuantised(Credits),
}

/// Why an answer is not taken. The issuer is at fault, or a party on the way; the request is sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The bytes are none.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It answers another envelope than the newest.
    #[error("it answers another envelope")]
    OtherEnvelope,
    /// It is no answer to what was asked.
    #[error("it is no answer to what was asked")]
    Unexpected,
    /// The directory has no such epoch. Adopt a newer one, and take the same answer again.
    #[error("the directory has no epoch {0}")]
    UnknownEpoch(EpochNumber),
    /// No cost of this spend leaves such a refund.
    #[error("no cost leaves a refund of {0}")]
    Refund(Credits),
    /// The settlement is not signed by the epoch's key for this spend's change.
    #[error("the settlement is not signed by the key of epoch {0}")]
    Signature(EpochNumber),
    /// The settlement is signed under an epoch that did not issue at any time since the spend can have been made: it would mark its
    /// caller, whose wallet would refuse it.
    #[error("epoch {0} did not issue at any time since the spend was made")]
    WrongEpoch(EpochNumber),
}

impl AnswerError {
    /// The party at fault: never the caller.
    pub fn fault(&self) -> Fault {
        Fault::Operator
    }
}

impl RemoteSpend {
    pub(super) fn offered(spend: AuthenticSpend) -> Self {
        let (key, record) = (spend.key(), spend.record_key());
        Self { spend: spend.spend().clone(), key, record, state: State::Offered, waiting: None }
    }

    pub(super) fn cancelled(spend: AuthenticSpend) -> Self {
        Self { state: State::Cancelling, ..Self::offered(spend) }
    }

    /// What it says.
    pub fn spend(&self) -> &Spend {
        &self.spend
    }

    /// Epoch, `nf` and `x`.
    pub fn key(&self) -> SpendKey {
        self.key
    }

    /// The most that it may cost.
    pub fn charge(&self) -> Credits {
        self.spend.charge
    }

    /// Asks the issuer to admit it.
    ///
    /// # Errors
    /// [`RemoteError::OutOfTurn`] for one that was admitted, or is cancelled.
    pub fn admit<R: Rng + CryptoRng>(
        &mut self,
        gateway: &RemoteGateway,
        now: Timestamp,
        rng: &mut R,
    ) -> Result<Vec<u8>, RemoteError> {
        self.allow(self.state == State::Offered)?;
        let request = ClearingRequest::Admit { spend: Box::new(self.spend.clone()) };
        Ok(self.ask(Asked::Admit, gateway.envelope(request, now, rng), now))
    }

    /// Tells the issuer what it has cost so far, for work that goes on for long.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn meter<R: Rng + CryptoRng>(
        &mut self,
        gateway: &RemoteGateway,
        cost: Credits,
        now: Timestamp,
        rng: &mut R,
    ) -> Result<Vec<u8>, RemoteError> {
        self.allow(self.state == State::Serving)?;
        self.check_cost(gateway, cost)?;
        let request = ClearingRequest::Meter { spend: self.record, cost };
        Ok(self.ask(Asked::Meter, gateway.envelope(request, now, rng), now))
    }

    /// Has it settled, after the work. From here on it is settled at this cost and no other; sent again until it is answered.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn settle<R: Rng + CryptoRng>(
        &mut self,
        gateway: &RemoteGateway,
        cost: Credits,
        now: Timestamp,
        rng: &mut R,
    ) -> Result<Vec<u8>, RemoteError> {
        self.allow(self.state == State::Serving || self.state == State::Settling(cost))?;
        self.check_cost(gateway, cost)?;
        self.state = State::Settling(cost);
        let request = ClearingRequest::Settle { spend: self.record, cost };
        Ok(self.ask(Asked::Settle, gateway.envelope(request, now, rng), now))
    }

    /// Has it cancelled, after the work was stopped: for a caller's cancellation, and for an admission whose answer was lost. From
    /// here on it is not served any more. `cost` is what was metered, 0 for what was never served.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn cancel<R: Rng + CryptoRng>(
        &mut self,
        gateway: &RemoteGateway,
        cost: Credits,
        now: Timestamp,
        rng: &mut R,
    ) -> Result<Vec<u8>, RemoteError> {
        self.allow(matches!(self.state, State::Offered | State::Serving | State::Cancelling))?;
        self.check_cost(gateway, cost)?;
        self.state = State::Cancelling;
        let request = ClearingRequest::Cancel { spend: Box::new(self.spend.clone()), cost };
        Ok(self.ask(Asked::Cancel, gateway.envelope(request, now, rng), now))
    }

    /// Asks for the settlement.
    pub fn fetch<R: Rng + CryptoRng>(&mut self, gateway: &RemoteGateway, now: Timestamp, rng: &mut R) -> Vec<u8> {
        let request = ClearingRequest::Fetch { spend: self.record };
        self.ask(Asked::Fetch, gateway.envelope(request, now, rng), now)
    }

    /// Takes the answer to the newest envelope.
    ///
    /// # Errors
    /// [`AnswerError`]; the spend is then as it was.
    pub fn answer(&mut self, gateway: &RemoteGateway, answer: &[u8]) -> Result<Progress, AnswerError> {
        let (envelope, answer) = ClearingAnswer::from_bytes(answer)?;
        let (_, asked, at) =
            self.waiting.filter(|(digest, ..)| *digest == envelope).ok_or(AnswerError::OtherEnvelope)?;
        match (answer, asked) {
            // A second time it would be served twice, after a cancel for nothing.
            (ClearingAnswer::Admitted, Asked::Admit) if self.state == State::Offered => {
                self.state = State::Serving;
                Ok(Progress::Serve)
            }
            (ClearingAnswer::Metered, Asked::Meter) => Ok(Progress::Metered),
            (ClearingAnswer::Settled(settlement), _) => {
                let cleared = self.check(gateway.directory(), settlement, at)?;
                self.state = State::Settled;
                Ok(Progress::Settled(Box::new(cleared)))
            }
            (ClearingAnswer::InProgress, Asked::Admit | Asked::Fetch) => Ok(Progress::InProgress),
            (ClearingAnswer::DoubleSpend, Asked::Admit | Asked::Cancel) => Ok(Progress::DoubleSpend),
            (ClearingAnswer::Refused(problem), _) => Ok(Progress::Refused(problem)),
            _ => Err(AnswerError::Unexpected),
        }
    }

    fn check(&self, directory: &Directory, settlement: Settlement, now: Timestamp) -> Result<Cleared, AnswerError> {
        let Settlement { epoch, refund, signature } = &settlement;
        let charge = self.spend.charge;
        let cost = match self.spend.purpose {
            // Of a half that was carried out the refund is not this half's charge; its wallet knows which it must be.
            Purpose::Transfer { .. } => Some(Credits::ZERO),
            _ => charge.checked_sub(*refund),
        };
        let cost = cost.filter(|_| refund.is_multiple_of(directory.quantum())).ok_or(AnswerError::Refund(*refund))?;
        let entry = directory.epoch(*epoch).ok_or(AnswerError::UnknownEpoch(*epoch))?;
        if !entry.key.verify(&self.spend.change.leaf(refund.micro()), signature) {
            return Err(AnswerError::Signature(*epoch));
        }
        // It can be no older than the window that its not-after was agreed to in.
        let made = self.spend.not_after.before(2 * u64::from(directory.grid().step()));
        if !entry.may_have_signed(made.min(now), now) {
            return Err(AnswerError::WrongEpoch(*epoch));
        }
        let asked = match self.state {
            State::Settling(cost) => Some(cost),
            _ => None,
        };
        Ok(Cleared { key: self.key, settlement, cost, asked })
    }

    fn ask(&mut self, asked: Asked, envelope: Vec<u8>, now: Timestamp) -> Vec<u8> {
        self.waiting = Some((Envelope::digest(&envelope), asked, now));
        envelope
    }

    fn allow(&self, allowed: bool) -> Result<(), RemoteError> {
        if allowed { Ok(()) } else { Err(RemoteError::OutOfTurn) }
    }

    fn check_cost(&self, gateway: &RemoteGateway, cost: Credits) -> Result<(), RemoteError> {
        let cap = match self.spend.purpose {
            Purpose::Transfer { .. } => Credits::ZERO,
            _ => self.spend.charge,
        };
        if cost > cap {
            return Err(RemoteError::AboveCap { cost, cap });
        }
        if cost.is_multiple_of(gateway.directory().quantum()) { Ok(()) } else { Err(RemoteError::NotQuantised(cost)) }
    }
}
