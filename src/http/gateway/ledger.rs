//! Who admits, meters and settles: this process, with the set at hand and an issuer, or the issuer elsewhere, by clearing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;

use super::here::Here;
use super::received::Signed;
use super::there::There;
use super::{Inner, work_problem};
use crate::clearing::RemoteSpend;
use crate::gateway::{Gateway, Opened, Screened};
use crate::http::clock::now;
use crate::http::problem::ProblemDetails;
use crate::lifecycle::{AdmittedSpend, AuthenticSpend};
use crate::pipeline::{Source, WorkError};
use crate::protocol::{
    ContentDigest, Credits, Digest, Directory, GatewayId, Problem, SessionPublicKey, Settlement, SpendKey,
};

/// Who has the set.
#[derive(Clone)]
pub(super) enum Ledger {
    Here(Here),
    There(There),
}

/// What an opening is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// A call, or a session of several.
    Session,
    Rollover,
}

/// What the cheap checks found.
pub(super) enum Screening {
    /// It is known already.
    Known(Found),
    /// It is to be verified and admitted.
    Fresh(Box<Candidate>),
}

/// A spend that may be admitted.
pub(super) struct Candidate {
    pub(super) key: SpendKey,
    pub(super) public: SessionPublicKey,
    pub(super) tariff: Digest,
    pub(super) spend: Unadmitted,
}

pub(super) enum Unadmitted {
    Here(AuthenticSpend),
    There(RemoteSpend),
}

/// What became of a spend that was sent.
pub(super) enum Found {
    /// It is admitted by this: it may be served, and must be settled.
    Admitted(Held),
    /// It was settled before.
    Settled(Settlement),
    /// It is being worked on.
    InProgress,
    /// It had been left open, and is to be settled at what was metered.
    Lapsed(Arc<AdmittedSpend>),
}

/// A spend that was admitted.
#[derive(Clone)]
pub(super) enum Held {
    Here(Arc<AdmittedSpend>),
    There(Arc<super::there::Open>),
}

impl Held {
    pub(super) fn key(&self) -> SpendKey {
        match self {
            Self::Here(spend) => spend.key(),
            Self::There(open) => open.key(),
        }
    }

    pub(super) fn charge(&self) -> Credits {
        match self {
            Self::Here(spend) => spend.charge(),
            Self::There(open) => open.charge(),
        }
    }
}

impl Candidate {
    pub(super) fn new(spend: Unadmitted) -> Box<Self> {
        let (key, said) = match &spend {
            Unadmitted::Here(spend) => (spend.key(), spend.spend()),
            Unadmitted::There(spend) => (spend.key(), spend.spend()),
        };
        Box::new(Self { key, public: said.session, tariff: said.tariff, spend })
    }
}

impl From<Opened> for Found {
    fn from(opened: Opened) -> Self {
        match opened {
            Opened::Admitted(spend) => Self::Admitted(Held::Here(Arc::new(spend))),
            Opened::Settled(settled) => Self::Settled(settled.settlement().clone()),
            Opened::InProgress => Self::InProgress,
            Opened::Lapsed(spend) => Self::Lapsed(Arc::new(spend)),
        }
    }
}

impl From<Screened> for Screening {
    fn from(screened: Screened) -> Self {
        match screened {
            Screened::Known(opened) => Self::Known(opened.into()),
            Screened::Unknown(spend) | Screened::Conflict(spend) => {
                Self::Fresh(Candidate::new(Unadmitted::Here(spend)))
            }
        }
    }
}

/// The lease of a gateway without a set: the issuer's, which is longer than this by his own rule.
pub(in crate::http) fn there_lease(directory: &Directory) -> Duration {
    Duration::from_secs(u64::from(directory.parts().limits.session_seconds) + Gateway::SKEW)
}

impl Ledger {
    pub(super) fn directory(&self) -> &Directory {
        match self {
            Self::Here(here) => here.gateway.directory(),
            Self::There(there) => there.gateway.directory(),
        }
    }

    pub(super) fn id(&self) -> GatewayId {
        match self {
            Self::Here(here) => here.gateway.id(),
            Self::There(there) => there.gateway.id(),
        }
    }

    /// What keeps an issuer elsewhere from admitting.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Here(_) => None,
            Self::There(there) => there.trouble(),
        }
    }

    /// For so long what is admitted is this process's to settle.
    pub(super) fn lease(&self) -> Duration {
        match self {
            Self::Here(here) => Duration::from_secs(here.gateway.lease_seconds().into()),
            Self::There(there) => there_lease(there.gateway.directory()),
        }
    }

    /// How many tasks wait: before an admission, and to settle.
    pub(super) fn waiting(&self) -> (usize, usize) {
        match self {
            Self::Here(here) => here.waiting(),
            Self::There(there) => there.waiting(),
        }
    }

    /// The routes that say which notes are spent.
    pub(super) fn spent_router(&self) -> Router {
        match self {
            Self::Here(here) => here.spent.router(),
            Self::There(there) => there.spent_router(),
        }
    }

    /// Runs a short task that may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        match self {
            Self::Here(here) => here.pipeline.run(task).await,
            Self::There(there) => there.run(task).await,
        }
    }
}

impl Inner {
    /// The cheap checks of an opening.
    pub(super) async fn screen(
        &self,
        opening: Bytes,
        signed: Signed,
        errand: Errand,
    ) -> Result<(Screening, ContentDigest), ProblemDetails> {
        let here = match &self.ledger {
            Ledger::Here(here) => here,
            Ledger::There(there) => return there.screen(opening, signed, errand).await,
        };
        let gateway = Arc::clone(&here.gateway);
        let screen = move || {
            signed.with(|request| {
                let screened = match errand {
                    Errand::Session => gateway.screen(&opening, request, now()),
                    Errand::Rollover => gateway.screen_rollover(&opening, request, now()),
                };
                (screened, request.content())
            })
        };
        let (screened, content) = here.pipeline.run(screen).await.map_err(work_problem)??;
        Ok((screened.map_err(|error| self.refusal(error))?.into(), content))
    }

    /// Verifies and admits.
    pub(super) async fn take_in(&self, candidate: Candidate, source: &Source) -> Result<Found, ProblemDetails> {
        match (&self.ledger, candidate.spend) {
            (Ledger::Here(here), Unadmitted::Here(spend)) => Ok(self.verify(here, spend, source).await?.into()),
            (Ledger::There(there), Unadmitted::There(spend)) => there.admit(spend, source).await,
            // A gateway does not move from one to the other.
            _ => Err(super::failed()),
        }
    }

    /// Answers a spend that is known already. It is never served again.
    pub(super) async fn known(&self, found: impl Into<Found>) -> ProblemDetails {
        let settlement = match found.into() {
            Found::Settled(settlement) => settlement,
            Found::Lapsed(spend) => match self.settle_lapsed(spend).await {
                Ok(settlement) => settlement,
                Err(problem) => return problem,
            },
            Found::Admitted(held) => match self.settle(&held, Credits::ZERO).await {
                Ok(settlement) => settlement,
                Err(problem) => return problem,
            },
            Found::InProgress => {
                return ProblemDetails::new(Problem::InProgress, "this very spend is being worked on");
            }
        };
        let detail = "this very spend was settled; its settlement is attached, and nothing more was charged";
        ProblemDetails::new(Problem::AlreadySpent, detail).with_settlement(&settlement.to_bytes())
    }

    /// Settles what somebody left open, at what was metered.
    pub(super) async fn settle_lapsed(&self, spend: Arc<AdmittedSpend>) -> Result<Settlement, ProblemDetails> {
        let cost = spend.lapsed_cost(self.ledger.directory().quantum());
        self.settle(&Held::Here(spend), cost).await
    }

    /// Settles what was worked for.
    pub(super) async fn settle(&self, held: &Held, cost: Credits) -> Result<Settlement, ProblemDetails> {
        match (&self.ledger, held) {
            (Ledger::Here(here), Held::Here(spend)) => here.settle(spend, cost).await,
            (Ledger::There(there), Held::There(open)) => there.settle(open, cost).await,
            _ => Err(super::failed()),
        }
    }

    /// As [`write_down`](Self::write_down), and waits until it is done.
    pub(super) async fn write_now(&self, held: &Held, so_far: Credits) -> Result<(), ProblemDetails> {
        let written = match (&self.ledger, held) {
            (Ledger::Here(here), Held::Here(spend)) => here.write_now(spend, so_far).await?,
            (Ledger::There(there), Held::There(open)) => there.write_now(open, so_far).await,
            _ => return Err(super::failed()),
        };
        let problem = || ProblemDetails::new(Problem::StoreUnavailable, "the gateway could not write the call down");
        if written { Ok(()) } else { Err(problem()) }
    }

    /// Has what was metered so far written into the record, by somebody who may take his time; then says so. Whoever settles the spend
    /// after this process has died does so at that. Whether it will be tried: if not, there is the next one.
    pub(super) fn write_down(&self, held: &Held, so_far: Credits, done: impl FnOnce() + Send + 'static) -> bool {
        match (&self.ledger, held) {
            (Ledger::Here(here), Held::Here(spend)) => here.write_down(spend, so_far, done),
            (Ledger::There(there), Held::There(open)) => there.write_down(open, so_far, done),
            _ => false,
        }
    }
}
