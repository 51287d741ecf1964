//! The ledger admits, meters and settles: a local one in this process, with the set at hand and an issuer, or a remote one, by
//! clearing with an issuer elsewhere.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{StatusCode, header};

use super::found::{CancelOutcome, Candidate, Elsewhere, Errand, Found, Screening};
use super::local::{Local, LocalHeld};
use super::remote::{Remote, RemoteHeld};
use super::running::Running;
use crate::clearing::RemoteSpend;
use crate::gateway::Gateway;
use crate::http::payment;
use crate::http::problem::ProblemDetails;
use crate::http::requests::Signed;
use crate::http::wire::TransferAnswer;
use crate::issuer::Issuer;
use crate::lifecycle::{AuthenticSpend, ParsedSpend};
use crate::pipeline::Source;
use crate::protocol::{Credits, Directory, Following, GatewayId, Problem, Settlement, SpendKey};
use crate::workers::WorkError;

/// The holder of the set.
#[derive(Clone)]
pub(super) enum Ledger {
    Local(Local),
    Remote(Remote),
}

/// A spend that may be admitted, and the ledger that screened it.
pub(super) enum Unadmitted {
    Local(Local, AuthenticSpend),
    Remote(Remote, RemoteSpend),
}

/// A spend that was admitted, and the ledger that admitted it: what settles it.
#[derive(Clone)]
pub(super) enum Held {
    Local(LocalHeld),
    Remote(RemoteHeld),
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

    /// The gateway that admits and the issuer that settles; none where that is elsewhere.
    pub(super) fn parties(&self) -> Option<(Arc<Gateway>, Arc<Issuer>)> {
        match self {
            Self::Local(local) => Some((Arc::clone(&local.gateway), Arc::clone(&local.issuer))),
            Self::Remote(_) => None,
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
            Self::Local(local) => local.lease(),
            Self::Remote(remote) => remote.lease(),
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
            Self::Local(local) => local.run(task).await,
            Self::Remote(remote) => remote.run(task).await,
        }
    }

    /// Waits for what is pursued. How many spends an issuer elsewhere has not settled.
    pub(super) async fn drain(&self) -> usize {
        match self {
            Self::Local(_) => 0,
            Self::Remote(remote) => remote.drain().await,
        }
    }

    /// The cheap checks of an opening.
    pub(super) async fn screen(
        &self,
        opening: Bytes,
        signed: Signed,
        errand: Errand,
    ) -> Result<Screening<Unadmitted, Held>, ProblemDetails> {
        Ok(match self {
            Self::Local(local) => match local.screen(opening, signed, errand).await? {
                Screening::Known(found) => Screening::Known(found.map(Held::Local)),
                Screening::Fresh(candidate) => {
                    let local = local.clone();
                    Screening::Fresh(Box::new(candidate.map(|spend| Unadmitted::Local(local, spend))))
                }
            },
            Self::Remote(remote) => {
                let candidate = remote.screen(opening, signed, errand).await?;
                let remote = remote.clone();
                Screening::Fresh(Box::new(candidate.map(|spend| Unadmitted::Remote(remote, spend))))
            }
        })
    }

    /// The settlement that the bytes of a following request ask for; none while the spend is open.
    pub(super) async fn fetch(&self, following: Vec<u8>, signed: Signed) -> Result<Option<Settlement>, ProblemDetails> {
        match self {
            Self::Local(local) => local.fetch(following, signed).await,
            Self::Remote(remote) => remote.fetch(following, signed).await,
        }
    }

    /// What has become of a session that is not in this process.
    pub(super) async fn whereabouts(&self, following: Following, signed: Signed) -> Result<Elsewhere, ProblemDetails> {
        match self {
            Self::Local(local) => local.whereabouts(following, signed).await,
            Self::Remote(remote) => {
                let fetched = remote.fetch(following.to_bytes().to_vec(), signed).await?;
                Ok(fetched.map_or(Elsewhere::ThisProcess, Elsewhere::Settled))
            }
        }
    }

    /// What a spend is that is in progress, and opened no session of this process.
    pub(super) async fn find(&self, parsed: &ParsedSpend) -> Result<Elsewhere, ProblemDetails> {
        match self {
            Self::Local(local) => local.find(parsed).await,
            Self::Remote(_) => Ok(Elsewhere::ThisProcess),
        }
    }

    /// Cancels a spend: stops the work that goes on for it here, and gives its settlement.
    pub(super) async fn cancel(
        &self,
        bytes: Bytes,
        signed: Signed,
        source: &Source,
        running: &Arc<Running>,
    ) -> Result<CancelOutcome, ProblemDetails> {
        match self {
            Self::Local(local) => local.cancel(bytes, signed, source, running).await,
            Self::Remote(remote) => remote.cancel(bytes, signed, source, running).await.map(CancelOutcome::Settled),
        }
    }

    /// Moves credit between lanes.
    pub(super) async fn transfer(
        &self,
        bytes: Bytes,
        signed: Signed,
        source: &Source,
    ) -> Result<Response, ProblemDetails> {
        let Self::Local(local) = self else {
            let detail = "this gateway moves no credit between lanes: ask one that has the issuer's set";
            return Err(ProblemDetails::plain(StatusCode::NOT_FOUND, detail));
        };
        let settlements = local.transfer(bytes, signed, source).await?;
        let settlements = settlements.map(|settlement| payment::encode(&settlement.to_bytes()));
        Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(TransferAnswer { settlements })).into_response())
    }
}

impl Screening<Unadmitted, Held> {
    /// What may be admitted. A spend that is known already is never served again: why, and its settlement.
    pub(super) async fn fresh(self) -> Result<Box<Candidate<Unadmitted>>, ProblemDetails> {
        match self {
            Self::Fresh(candidate) => Ok(candidate),
            Self::Known(found) => Err(found.refusal().await),
        }
    }
}

impl Candidate<Unadmitted> {
    /// Verifies and admits. Must not be dropped before
    /// it is done.
    pub(super) async fn admit(self, source: &Source) -> Result<Found<Held>, ProblemDetails> {
        match self.spend {
            Unadmitted::Local(local, spend) => Ok(local.admit(spend, source).await?.map(Held::Local)),
            Unadmitted::Remote(remote, spend) => Ok(remote.admit(spend, source).await?.map(Held::Remote)),
        }
    }
}

impl Found<Held> {
    /// What must be served now.
    pub(super) async fn admitted(self) -> Result<Held, ProblemDetails> {
        match self {
            Self::Admitted(held) => Ok(held),
            found => Err(found.refusal().await),
        }
    }

    /// The settlement of what is not served; none while somebody works on it.
    pub(super) async fn settlement(self) -> Result<Option<Settlement>, ProblemDetails> {
        Ok(match self {
            Self::Settled(settlement) => Some(settlement),
            Self::Admitted(held) => Some(held.settle(Credits::ZERO).await?),
            Self::Lapsed(held, cost) => Some(held.settle(cost).await?),
            Self::InProgress => None,
        })
    }

    /// Answers a spend that is known already.
    pub(super) async fn refusal(self) -> ProblemDetails {
        match self.settlement().await {
            Ok(Some(settlement)) => {
                let detail = "this very spend was settled; its settlement is attached, and nothing more was charged";
                ProblemDetails::new(Problem::AlreadySpent, detail).with_settlement(&settlement.to_bytes())
            }
            Ok(None) => ProblemDetails::new(Problem::InProgress, "this very spend is being worked on"),
            Err(problem) => problem,
        }
    }
}

impl Held {
    pub(super) fn key(&self) -> SpendKey {
        match self {
            Self::Local(held) => held.key(),
            Self::Remote(held) => held.key(),
        }
    }

    pub(super) fn charge(&self) -> Credits {
        match self {
            Self::Local(held) => held.charge(),
            Self::Remote(held) => held.charge(),
        }
    }

    /// Settles what was worked for. It may have been settled before, at another cost: what counts is what the set holds.
    pub(super) async fn settle(&self, cost: Credits) -> Result<Settlement, ProblemDetails> {
        match self {
            Self::Local(held) => held.settle(cost).await,
            Self::Remote(held) => held.settle(cost).await,
        }
    }

    /// Has what was metered so far written into the record, by somebody that may take its time; then says so. After this process has
    /// died the spend is settled at that. Whether it will be tried: if not, there is the next one.
    pub(super) fn note(&self, so_far: Credits, done: impl FnOnce() + Send + 'static) -> bool {
        match self {
            Self::Local(held) => held.note(so_far, done),
            Self::Remote(held) => held.note(so_far, done),
        }
    }

    /// As [`note`](Self::note), and waits until it is done.
    pub(super) async fn write_now(&self, so_far: Credits) -> Result<(), ProblemDetails> {
        let written = match self {
            Self::Local(held) => held.write_now(so_far).await?,
            Self::Remote(held) => held.write_now(so_far).await,
        };
        let problem = || ProblemDetails::new(Problem::StoreUnavailable, "the gateway could not write the call down");
        if written { Ok(()) } else { Err(problem()) }
    }
}
