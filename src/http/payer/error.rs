//! What goes wrong at the caller's side.

use std::io;

use super::{ClientError, Stopped};
use crate::http::problem::ProblemDetails;
use crate::protocol::{Credits, Digest, Fault, Problem, RequestError, SignedDirectory, Timestamp};
use crate::wallet::{AcceptError, AcceptMintError, Accepted, BudgetError, JournalError, OpenError, PaymentError};

/// Why no payer could be started. Nothing was sent but questions for what everybody may know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayerError {
    /// The class is none of the directory. The caller is at fault.
    #[error("{0} is no charge class of the directory")]
    UnknownClass(Credits),
    /// The directory does not have the gateway. The caller is at fault.
    #[error("the directory does not have this gateway")]
    Unlisted,
    /// The gateway's origin is no URL. The issuer is at fault.
    #[error("the directory names `{0}` as the gateway's origin, which is no URL")]
    Origin(String),
    /// The gateway goes by another directory than the wallet, and not by a newer one: an older one, or one of this caller's own.
    #[error("the gateway goes by another directory than the wallet, which has {known}")]
    OtherDirectory {
        /// Digest of the wallet's directory.
        known: Digest,
        /// The directory that the gateway shows.
        shown: Box<SignedDirectory>,
    },
    /// The gateway's directory is refused. If it contradicts the wallet's, the wallet has kept both as a dispute.
    #[error("the gateway's directory is refused: {0}")]
    Directory(#[source] OpenError),
    /// The gateway could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The threads cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(#[source] io::Error),
    /// The wallet's thread is gone, by a bug.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What became of the credit of a call that was not answered with success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreditState {
    /// Nothing was sent, and nothing spent.
    Untouched,
    /// A spend was sent. What it does not cost comes back, by itself.
    Safe,
    /// It was settled, and is accounted for.
    Spent(Accepted),
    /// The note was spent by another copy of this wallet, which has its change. Here the lane is of no use any more.
    Elsewhere,
    /// The gateway gave a settlement that is none. That is kept as a dispute; the right one is asked for, by itself.
    Disputed,
}

/// Why a call was not answered with success. [`fault`](Self::fault), [`credit`](Self::credit) and [`next`](Self::next) say who is
/// at fault, what became of the credit, and what happens next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No lane can pay the class, now or later.
    #[error("no lane of the wallet can pay for this call")]
    OutOfCredit,
    /// No lane by itself can pay, though together they could.
    #[error("the wallet's credit is spread over lanes of which none can pay for this call")]
    Spread,
    /// Whether the wallet's notes were spent by a copy of it could not be asked.
    #[error("it is not known yet whether the wallet's notes were spent elsewhere")]
    Unchecked,
    /// The wallet was put back or moved, and spends of before may still arrive somewhere.
    #[error("the wallet was put back or moved: its notes are not spent before {} (Unix time)", .0.seconds())]
    Quarantined(Timestamp),
    /// Only fresh credit could pay, and by the policy it rests after its mint.
    #[error("the wallet's credit is fresh: by its policy it is not used before {} (Unix time)", .0.seconds())]
    Resting(Timestamp),
    /// Proofs cannot be made.
    #[error("the wallet cannot make proofs")]
    Prover,
    /// Nothing moved for a minute: no proof was ready, and no spend came back.
    #[error("no spend was ready in time")]
    NotReady,
    /// The directory has no such gateway or class any more, or no tariff for this time.
    #[error("the directory does not let this gateway be paid now")]
    Unlisted,
    /// The issuer signed two directories that contradict each other.
    #[error("the issuer shows different callers different directories")]
    Contradiction,
    /// The gateway's challenge names another directory than the one that it shows. Nothing was sent.
    #[error("the gateway's challenge names another directory than the one it shows to this wallet")]
    OtherDirectory,
    /// The request cannot be signed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The target cannot be sent byte for byte. Nothing was spent.
    #[error("the target must begin with `/` and hold no `#`, space or control character; percent-encode these")]
    Target,
    /// The journal failed.
    #[error("the wallet's journal refuses: {0}")]
    Journal(#[source] JournalError),
    /// The gateway refused.
    #[error("the gateway refuses: {0}")]
    Refused(Box<ProblemDetails>),
    /// The gateway took the spend and gave no answer of the service.
    #[error("{details}; the call cost {} micro-credits", .accepted.cost)]
    Failed {
        /// What the gateway says.
        details: Box<ProblemDetails>,
        /// What it cost.
        accepted: Accepted,
    },
    /// The answer of a call within a session costs more than can be paid there, and is kept back.
    #[error("the gateway keeps the answer back: {0}")]
    Withheld(Box<ProblemDetails>),
    /// The answer was lost on the way, but the spend is settled.
    #[error("the answer was lost; the call cost {} micro-credits", .0.cost)]
    Lost(Accepted),
    /// The answer of a call within a session was lost on the way. It may have been served, once.
    #[error("the answer was lost; what the call cost, if it was served, is part of what the session does")]
    LostInSession,
    /// The session is over, or there can be none: the policy allows none. Nothing was done.
    #[error("there is no session, or it is over")]
    SessionOver,
    /// There is no answer and no settlement, after several tries.
    #[error("the gateway cannot be reached: {0}")]
    Unreachable(#[source] ClientError),
    /// The answer was not read to its end: the caller hung up.
    #[error("the answer was not read to its end")]
    HungUp,
    /// The settlement is under an epoch that the wallet's directory does not have, and the gateway shows no newer one.
    #[error("the gateway's settlement is of an epoch that is not known, and it shows no directory that has it")]
    Unknown,
    /// The settlement is not one.
    #[error("the gateway's settlement is refused: {0}")]
    Settlement(#[source] AcceptError),
    /// The budget does not allow the call.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The gateway was not there when it was last looked for, and has not shown its challenge since. Nothing was sent.
    #[error("the gateway cannot be reached: {0}")]
    Away(Box<str>),
    /// The payer was shut down.
    #[error("the payer is shut down")]
    Stopped,
}

/// Whether a refusal says that another spend of the note was first. A spend that was settled itself has its settlement with it.
fn is_conflict(details: &ProblemDetails) -> bool {
    matches!(details.kind(), Some(Problem::DoubleSpend | Problem::AlreadySpent)) && details.settlement.is_none()
}

/// Whether a refusal is about the request itself, and would be the same for any payment.
fn is_callers(details: &ProblemDetails) -> bool {
    details.kind().is_none() && matches!(details.status, 408 | 411 | 413 | 414 | 415 | 417 | 426 | 431)
}

impl From<Stopped> for CallError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl CallError {
    /// The party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::SessionOver | Self::Away(_) | Self::Budget(BudgetError::UnderWay { .. }) => Fault::Nobody,
            Self::Budget(_) => Fault::Caller,
            Self::OutOfCredit | Self::Request(_) | Self::Target => Fault::Caller,
            Self::Prover | Self::Journal(_) | Self::HungUp => Fault::Caller,
            Self::Unchecked
            | Self::Quarantined(_)
            | Self::Resting(_)
            | Self::Spread
            | Self::NotReady
            | Self::Stopped => Fault::Nobody,
            Self::Contradiction | Self::OtherDirectory | Self::Settlement(_) | Self::Unlisted | Self::Unknown => {
                Fault::Operator
            }
            // The charge was too small.
            Self::Withheld(_) => Fault::Caller,
            Self::Failed { details, .. } if details.withheld => Fault::Caller,
            // The wallet was copied, or put back.
            Self::Refused(details) if is_conflict(details) => Fault::Caller,
            // It is too long, or not written as the service reads it.
            Self::Refused(details) if is_callers(details) => Fault::Caller,
            // A wallet checks what it sends: if it is refused all the same, its clock or the gateway's is wrong, or the gateway lies.
            Self::Refused(details) | Self::Failed { details, .. } => match details.kind().map(Problem::fault) {
                Some(Fault::Nobody) => Fault::Nobody,
                _ => Fault::Operator,
            },
            Self::Lost(_) | Self::LostInSession | Self::Unreachable(_) => Fault::Nobody,
        }
    }

    /// What became of the credit.
    pub fn credit(&self) -> CreditState {
        match self {
            Self::OutOfCredit
            | Self::Spread
            | Self::Unchecked
            | Self::Quarantined(_)
            | Self::Resting(_)
            | Self::Prover
            | Self::NotReady
            | Self::Unlisted
            | Self::OtherDirectory
            | Self::Request(_)
            | Self::Budget(_)
            | Self::Away(_)
            | Self::Target => CreditState::Untouched,
            Self::Refused(details) if is_conflict(details) => CreditState::Elsewhere,
            Self::Contradiction
            | Self::Journal(_)
            | Self::Refused(_)
            | Self::Unreachable(_)
            | Self::Unknown
            | Self::LostInSession
            | Self::Withheld(_)
            | Self::SessionOver
            | Self::HungUp
            | Self::Stopped => CreditState::Safe,
            Self::Failed { accepted, .. } | Self::Lost(accepted) => CreditState::Spent(*accepted),
            Self::Settlement(_) => CreditState::Disputed,
        }
    }

    /// What happens next, and what can be done.
    pub fn next(&self) -> &'static str {
        match self {
            Self::OutOfCredit => "fund the wallet, or wait for calls that are under way",
            Self::Spread => "the credit is gathered in quiet times, where the policy allows it; or use a smaller class",
            Self::Unchecked => "it is asked again by itself; call again later",
            Self::Quarantined(_) => "nothing can be done but to wait",
            Self::Resting(_) => "wait, or use a policy with a shorter rest; a call now would be close to its mint",
            Self::Prover => "it is tried again by itself; look to the machine's memory and processor",
            Self::NotReady => "call again later; spends that are on their way are pursued",
            Self::Unlisted => "newer directories are looked for by themselves; pay another gateway, or class",
            Self::Contradiction => {
                "no call is made any more; show the dispute to the issuer and to others of its callers"
            }
            Self::OtherDirectory => {
                "the two are compared again by themselves; if this stays, compare the directory with others of its callers"
            }
            Self::Request(_) => "call with shorter parts",
            Self::Target => "call with a target that is percent-encoded",
            Self::Journal(_) => "look to the disk of the wallet's file, then open the wallet again",
            Self::Refused(details) if is_conflict(details) => {
                "another copy of this wallet has spent the note, or the gateway lies: use one copy only, and look with \
                 `halometer wallet doctor`; disputes keep what was said"
            }
            Self::Refused(details) if is_callers(details) => {
                "change the request as the refusal says; the spend is cancelled by itself, and its lane comes back"
            }
            Self::Refused(_) => "the spend is cancelled or settled by itself, and its lane comes back; call again",
            Self::Failed { details, .. } if details.kind() == Some(Problem::CapReached) => {
                "pay with a larger class; what a call does not cost comes back"
            }
            Self::Withheld(_) => {
                "bound the answer (`max_tokens`), or pay with a larger class; the session is charged for it"
            }
            Self::Failed { .. } => "call again if the answer is needed; it is paid for again",
            Self::Lost(_) => "call again if the answer is needed; it is paid for again",
            Self::LostInSession => "call again if the answer is needed; it is paid for again",
            Self::SessionOver => "open another session, where the policy allows any",
            Self::Unknown | Self::Unreachable(_) => {
                "the settlement is asked for by itself until it comes; call again later"
            }
            Self::HungUp => "the work is stopped by itself, and what it did not cost comes back",
            Self::Settlement(_) => "the right settlement is asked for by itself; the wrong one is kept as a dispute",
            Self::Budget(BudgetError::PerCall { .. }) => {
                "ask the wallet's owner for a key with a larger cap, or a smaller --class"
            }
            Self::Budget(BudgetError::PerDay { clock_behind: true, .. }) => {
                "put this machine's clock right, or wait: the day of the wallet's last spend goes on until it is over"
            }
            Self::Budget(BudgetError::PerDay { .. }) => {
                "call again after midnight UTC, or ask the wallet's owner for a larger cap"
            }
            Self::Budget(BudgetError::Ended { .. }) => "ask the wallet's owner for another key",
            Self::Budget(BudgetError::Total { .. }) => "ask the wallet's owner for a larger cap or another key",
            Self::Budget(BudgetError::UnderWay { .. }) => "call again when calls under way are over",
            Self::Budget(_) => "look to the disk of the wallet's file, then open the wallet again",
            Self::Away(_) => "call again later; the gateway is looked for by itself",
            Self::Stopped => "spends that were on their way are pursued when the wallet is used again",
        }
    }
}

/// Why a wallet was not funded. Nothing is lost: with the same payment and amounts it can be tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FundError {
    /// No request could be made. The caller is at fault, or the caller's disk.
    #[error("the wallet cannot request the mint: {0}")]
    Request(#[from] PaymentError),
    /// The issuer could not be asked, or refuses.
    #[error("the issuer does not mint: {0}")]
    Client(#[from] ClientError),
    /// The issuer's answer is refused: it is at fault, or a man in the middle.
    #[error("the wallet refuses what was minted: {0}")]
    Mint(#[from] AcceptMintError),
    /// The payer was shut down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
