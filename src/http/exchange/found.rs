//! What the checks of a spend come to, on whichever ledger.

use super::problems::wrong_owner;
use crate::http::problem::ProblemDetails;
use crate::protocol::{ContentDigest, Credits, Digest, Problem, SessionPublicKey, Settlement, Spend, SpendKey};
use crate::store::Lease;

/// What an opening is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// A call, or a session of several.
    Session,
    Rollover,
}

/// What the cheap checks found: `S` is a spend that may be admitted, `H` one that is.
pub(super) enum Screening<S, H> {
    /// It is known already.
    Known(Found<H>),
    /// It must be verified and admitted.
    Fresh(Box<Candidate<S>>),
}

/// A spend that may be admitted, and what a call needs of it.
pub(super) struct Candidate<S> {
    pub(super) key: SpendKey,
    pub(super) public: SessionPublicKey,
    pub(super) tariff: Digest,
    /// Of the request that it came with.
    pub(super) content: ContentDigest,
    pub(super) spend: S,
}

/// What became of a spend that was sent: `H` is one that is admitted.
pub(super) enum Found<H> {
    /// It is admitted by this: it may be served, and must be settled.
    Admitted(H),
    /// It was settled before.
    Settled(Settlement),
    /// It is being worked on.
    InProgress,
    /// It had been left open, and must be settled at this cost: what was metered.
    Lapsed(H, Credits),
}

/// What a session is that is not in the table of this process.
pub(super) enum Elsewhere {
    Settled(Settlement),
    /// A call by itself, or a session of this process from before it was started anew.
    ThisProcess,
    /// Another process's, by this lease.
    OtherProcess(Lease),
}

/// What a cancel comes to.
pub(super) enum CancelOutcome {
    Settled(Settlement),
    /// Another process works on it, by this lease.
    Elsewhere(Lease),
}

impl<S> Candidate<S> {
    pub(super) fn new(key: SpendKey, said: &Spend, content: ContentDigest, spend: S) -> Self {
        Self { key, public: said.session, tariff: said.tariff, content, spend }
    }

    pub(super) fn map<T>(self, spend: impl FnOnce(S) -> T) -> Candidate<T> {
        let Self { key, public, tariff, content, spend: before } = self;
        Candidate { key, public, tariff, content, spend: spend(before) }
    }
}

impl<H> Found<H> {
    pub(super) fn map<G>(self, held: impl FnOnce(H) -> G) -> Found<G> {
        match self {
            Self::Admitted(before) => Found::Admitted(held(before)),
            Self::Settled(settlement) => Found::Settled(settlement),
            Self::InProgress => Found::InProgress,
            Self::Lapsed(before, cost) => Found::Lapsed(held(before), cost),
        }
    }
}

impl Elsewhere {
    pub(super) fn into_problem(self) -> ProblemDetails {
        match self {
            Self::Settled(settled) => {
                let detail = "the session is over; its settlement is attached";
                ProblemDetails::new(Problem::AlreadySpent, detail).with_settlement(&settled.to_bytes())
            }
            Self::ThisProcess => {
                ProblemDetails::new(Problem::InProgress, "the spend pays for a call and is no session")
            }
            Self::OtherProcess(lease) => wrong_owner(&lease),
        }
    }
}
