//! Who admits, meters and settles: this process, with the set at hand and an issuer, or the issuer elsewhere, by clearing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;

use super::lease::remote_lease;
use super::local::Local;
use super::remote::Remote;
use super::{Exchange, work_problem};
use crate::clearing::RemoteSpend;
use crate::gateway::{Opened, Screened};
use crate::http::clock::now;
use crate::http::problem::ProblemDetails;
use crate::http::requests::Signed;
use crate::lifecycle::{AdmittedSpend, AuthenticSpend};
use crate::pipeline::{Source, WorkError};
use crate::protocol::{
    ContentDigest, Credits, Digest, Directory, GatewayId, Problem, SessionPublicKey, Settlement, SpendKey,
};

/// Who has the set.
#[derive(Clone)]
pub(super) enum Ledger {
    Local(Local),
    Remote(Remote),
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
    Local(AuthenticSpend),
    Remote(RemoteSpend),
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
    Local(Arc<AdmittedSpend>),
    Remote(Arc<super::remote::Open>),
}

impl Held {
    pub(super) fn key(&self) -> SpendKey {
        match self {
            Self::Local(spend) => spend.key(),
            Self::Remote(open) => open.key(),
        }
    }

    pub(super) fn charge(&self) -> Credits {
        match self {
            Self::Local(spend) => spend.charge(),
            Self::Remote(open) => open.charge(),
        }
    }
}

impl Candidate {
    pub(super) fn new(spend: Unadmitted) -> Box<Self> {
        let (key, said) = match &spend {
            Unadmitted::Local(spend) => (spend.key(), spend.spend()),
            Unadmitted::Remote(spend) => (spend.key(), spend.spend()),
        };
        Box::new(Self { key, public: said.session, tariff: said.tariff, spend })
    }
}

impl From<Opened> for Found {
    fn from(opened: Opened) -> Self {
        match opened {
            Opened::Admitted(spend) => Self::Admitted(Held::Local(Arc::new(spend))),
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
                Self::Fresh(Candidate::new(Unadmitted::Local(spend)))
            }
        }
    }
}

impl Ledger {
    pub(super) fn directory(&self) -> &Directory {
        match self {
            Self::Local(local) => local.gateway.directory(),
            Self::Remote(remote) => remote.gateway.directory(),
        }
    }

    pub(super) fn id(&self) -> GatewayId {
        match self {
            Self::Local(local) => local.gateway.id(),
            Self::Remote(remote) => remote.gateway.id(),
        }
    }

    /// What keeps an issuer elsewhere from admitting.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Local(_) => None,
            Self::Remote(remote) => remote.trouble(),
        }
    }

    /// For so long what is admitted is this process's to settle.
    pub(super) fn lease(&self) -> Duration {
        match self {
            Self::Local(local) => Duration::from_secs(local.gateway.lease_seconds().into()),
            Self::Remote(remote) => remote_lease(remote.gateway.directory()),
        }
    }

    /// How many tasks wait: before an admission, and to settle.
    pub(super) fn waiting(&self) -> (usize, usize) {
        match self {
            Self::Local(local) => local.waiting(),
            Self::Remote(remote) => remote.waiting(),
        }
    }

    /// The routes that say which notes are spent.
    pub(super) fn spent_router(&self) -> Router {
        match self {
            Self::Local(local) => local.spent.router(),
            Self::Remote(remote) => remote.spent_router(),
        }
    }

    /// Runs a short task that may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        match self {
            Self::Local(local) => local.pipeline.run(task).await,
            Self::Remote(remote) => remote.run(task).await,
        }
    }
}

impl Exchange {
    /// The cheap checks of an opening.
    pub(super) async fn screen(
        &self,
        opening: Bytes,
        signed: Signed,
        errand: Errand,
    ) -> Result<(Screening, ContentDigest), ProblemDetails> {
        let local = match &self.ledger {
            Ledger::Local(local) => local,
            Ledger::Remote(remote) => return remote.screen(opening, signed, errand).await,
        };
        let gateway = Arc::clone(&local.gateway);
        let screen = move || {
            signed.with(|request| {
                let screened = match errand {
                    Errand::Session => gateway.screen(&opening, request, now()),
                    Errand::Rollover => gateway.screen_rollover(&opening, request, now()),
                };
                (screened, request.content())
            })
        };
        let (screened, content) = local.pipeline.run(screen).await.map_err(work_problem)??;
        Ok((screened.map_err(|error| self.refusal(error))?.into(), content))
    }

    /// Verifies and admits.
    pub(super) async fn take_in(&self, candidate: Candidate, source: &Source) -> Result<Found, ProblemDetails> {
        match (&self.ledger, candidate.spend) {
            (Ledger::Local(local), Unadmitted::Local(spend)) => Ok(self.verify(local, spend, source).await?.into()),
            (Ledger::Remote(remote), Unadmitted::Remote(spend)) => remote.admit(spend, source).await,
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
        self.settle(&Held::Local(spend), cost).await
    }

    /// Settles what was worked for.
    pub(super) async fn settle(&self, held: &Held, cost: Credits) -> Result<Settlement, ProblemDetails> {
        match (&self.ledger, held) {
            (Ledger::Local(local), Held::Local(spend)) => local.settle(spend, cost).await,
            (Ledger::Remote(remote), Held::Remote(open)) => remote.settle(open, cost).await,
            _ => Err(super::failed()),
        }
    }

    /// As [`write_down`](Self::write_down), and waits until it is done.
    pub(super) async fn write_now(&self, held: &Held, so_far: Credits) -> Result<(), ProblemDetails> {
        let written = match (&self.ledger, held) {
            (Ledger::Local(local), Held::Local(spend)) => local.write_now(spend, so_far).await?,
            (Ledger::Remote(remote), Held::Remote(open)) => remote.write_now(open, so_far).await,
            _ => return Err(super::failed()),
        };
        let problem = || ProblemDetails::new(Problem::StoreUnavailable, "the gateway could not write the call down");
        if written { Ok(()) } else { Err(problem()) }
    }

    /// Has what was metered so far written into the record, by somebody who may take his time; then says so. Whoever settles the spend
    /// after this process has died does so at that. Whether it will be tried: if not, there is the next one.
    pub(super) fn write_down(&self, held: &Held, so_far: Credits, done: impl FnOnce() + Send + 'static) -> bool {
        match (&self.ledger, held) {
            (Ledger::Local(local), Held::Local(spend)) => local.write_down(spend, so_far, done),
            (Ledger::Remote(remote), Held::Remote(open)) => remote.write_down(open, so_far, done),
            _ => false,
        }
    }
}
