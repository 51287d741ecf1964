//! The local ledger: the set at hand, and the issuer in the same process.

mod cancel;
mod held;
mod transfer;
mod upkeep;

pub(super) use held::LocalHeld;
pub use upkeep::UpkeepTask;
pub(super) use upkeep::start as start_upkeep;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::found::{Candidate, Elsewhere, Errand, Found, Screening};
use super::limits::GatewayLimits;
use super::problems::{refused, untold, work_problem};
use crate::gateway::{AdmitError, Cancelled, Fetched, Gateway, Opened, Screened, Whereabouts};
use crate::http::clock::now;
use crate::http::observer::Observer;
use crate::http::problem::ProblemDetails;
use crate::http::requests::Signed;
use crate::http::spent::SpentBuckets;
use crate::issuer::Issuer;
use crate::lifecycle::{AdmittedSpend, AuthenticSpend, ParsedSpend};
use crate::pipeline::{Current, OwnedRequest, Pipeline, PipelineError, PipelineParts, Source};
use crate::protocol::{ContentDigest, Following, Settlement, SpendKey};
use crate::store::RecordKey;
use crate::workers::{TaskPool, WorkError};

/// Threads that settle. Each waits for its commit most of the time, and what waits at one moment is committed together: with one thread
/// there would be nothing to put together.
const SETTLERS: usize = 8;

/// Transfers that wait to be verified; one more is answered `busy`.
const TRANSFERS: usize = 64;
/// Notes of what was metered that wait to be written; one more has to wait for the next.
const NOTES: usize = 256;

/// What a gateway that has the set works with. What depends on the directory is exchanged with it, the threads go on.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) gateway: Arc<Gateway>,
    pub(super) issuer: Arc<Issuer>,
    pipeline: Pipeline,
    /// Settles. Its queue has no bound of its own: what was admitted is bounded, and must be settled.
    back: Arc<TaskPool>,
    /// Writes down what was metered. Apart from what settles, which does not wait for it.
    notes: Arc<TaskPool>,
    /// Verifies and stores transfers.
    transfers: Arc<TaskPool>,
    pub(super) spent: SpentBuckets,
    observer: Arc<dyn Observer>,
}

impl Local {
    /// Starts the threads. `current` is the issuer of the time, for what belongs to no request.
    pub(super) fn start(
        gateway: Arc<Gateway>,
        issuer: Arc<Issuer>,
        observer: Arc<dyn Observer>,
        limits: &GatewayLimits,
        current: &Arc<Current<Issuer>>,
    ) -> io::Result<Self> {
        let (settling, settler) = (gateway.shared_set(), Arc::clone(current));
        let told = Arc::clone(&observer);
        let pipeline = Pipeline::start(PipelineParts {
            gateway: Arc::clone(&gateway),
            clock: Arc::new(now),
            // If it fails, the lease sees to it.
            abandoned: Arc::new(move |spend: AdmittedSpend| {
                let issuer = settler.get();
                let cost = spend.lapsed_cost(issuer.directory().quantum());
                drop(issuer.settle(&*settling, &spend, cost, now()));
            }),
            verified: Arc::new(move |spends, elapsed| told.verified(spends, elapsed)),
            limits: limits.pipeline,
        })?;
        Ok(Self {
            pipeline,
            back: Arc::new(TaskPool::start("settle", SETTLERS, usize::MAX)?),
            notes: Arc::new(TaskPool::start("meter", 1, NOTES)?),
            transfers: Arc::new(TaskPool::start("transfer", 1, TRANSFERS)?),
            spent: SpentBuckets::start(gateway.shared_set(), gateway.directory(), limits.spent)?,
            gateway,
            issuer,
            observer,
        })
    }

    /// The same under a newer directory.
    pub(super) fn succeed(&self, gateway: Arc<Gateway>, issuer: Arc<Issuer>) -> Self {
        Self { gateway, issuer, ..self.clone() }
    }

    /// From now on the threads go by this directory as well.
    pub(super) fn publish(&self) {
        self.pipeline.adopt(Arc::clone(&self.gateway));
        self.spent.adopt(self.gateway.directory());
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_secs(self.gateway.lease_seconds().into())
    }

    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.pipeline.waiting() + self.transfers.waiting(), self.back.waiting())
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        self.pipeline.run(task).await
    }

    /// The cheap checks of an opening.
    pub(super) async fn screen(
        &self,
        opening: Bytes,
        signed: Signed,
        errand: Errand,
    ) -> Result<Screening<AuthenticSpend, LocalHeld>, ProblemDetails> {
        // Longer bodies are digested on a thread.
        if let (Errand::Session, true) = (errand, signed.is_short()) {
            let (request, content) = signed.with(|request| (OwnedRequest::of(request), request.content()))?;
            let sender = signed.sender();
            let screened = self
                .pipeline
                .screen(Arc::clone(&self.gateway), opening, request, sender)
                .await
                .map_err(|error| self.problem(error))?;
            return Ok(self.screening(screened, content));
        }
        let gateway = Arc::clone(&self.gateway);
        let screen = move || {
            signed.with(|request| {
                let screened = match errand {
                    Errand::Session => gateway.screen(&opening, request, now()),
                    Errand::Rollover => gateway.screen_rollover(&opening, request, now()),
                };
                (screened, request.content())
            })
        };
        let (screened, content) = self.run(screen).await.map_err(work_problem)??;
        Ok(self.screening(screened.map_err(|error| self.refusal(error))?, content))
    }

    fn screening(&self, screened: Screened, content: ContentDigest) -> Screening<AuthenticSpend, LocalHeld> {
        match screened {
            Screened::Known(opened) => Screening::Known(self.found(opened)),
            Screened::Unknown(spend) | Screened::Conflict(spend) => {
                let candidate = Candidate::new(spend.key(), &spend.spend().clone(), content, spend);
                Screening::Fresh(Box::new(candidate))
            }
        }
    }

    /// Verifies and admits.
    pub(super) async fn admit(
        &self,
        spend: AuthenticSpend,
        source: &Source,
    ) -> Result<Found<LocalHeld>, ProblemDetails> {
        Ok(self.found(self.verify(spend, source).await?))
    }

    fn found(&self, opened: Opened) -> Found<LocalHeld> {
        match opened {
            Opened::Admitted(spend) => Found::Admitted(LocalHeld::new(self, spend)),
            Opened::Settled(settled) => Found::Settled(settled.settlement().clone()),
            Opened::InProgress => Found::InProgress,
            Opened::Lapsed(spend) => {
                let held = LocalHeld::new(self, spend);
                let cost = held.lapsed_cost();
                Found::Lapsed(held, cost)
            }
        }
    }

    /// On the pipeline's threads.
    async fn verify(&self, spend: AuthenticSpend, source: &Source) -> Result<Opened, ProblemDetails> {
        self.pipeline.verify(spend, source).await.map_err(|error| self.problem(error))
    }

    fn problem(&self, error: PipelineError) -> ProblemDetails {
        match error {
            PipelineError::Admit(error) => self.refusal(error),
            PipelineError::Work(error) => work_problem(error),
            error => ProblemDetails::new(error.problem(), error.to_string()),
        }
    }

    fn refusal(&self, error: AdmitError) -> ProblemDetails {
        let details = refused(&error);
        if matches!(error, AdmitError::DoubleSpend(_) | AdmitError::AlreadySpent) {
            self.observer.conflict();
        }
        if let AdmitError::DoubleSpend(evidence) = error {
            self.observer.double_spend(*evidence);
        }
        details
    }

    /// The settlement that a following request asks for; none while the spend is open.
    pub(super) async fn fetch(&self, following: Vec<u8>, signed: Signed) -> Result<Option<Settlement>, ProblemDetails> {
        let gateway = Arc::clone(&self.gateway);
        let fetch = move || signed.with(|request| gateway.fetch(&following, request));
        match self.run(fetch).await.map_err(work_problem)?? {
            Ok(Fetched::Settled(settled)) => Ok(Some(settled.settlement().clone())),
            Ok(Fetched::InProgress) => Ok(None),
            Err(error) => Err(untold(&error)),
        }
    }

    /// What has become of a session that is not in this process.
    pub(super) async fn whereabouts(&self, following: Following, signed: Signed) -> Result<Elsewhere, ProblemDetails> {
        let gateway = Arc::clone(&self.gateway);
        let look = move || signed.with(|request| gateway.whereabouts(&following, request));
        match self.run(look).await.map_err(work_problem)?? {
            Ok(Whereabouts::Settled(settled)) => Ok(Elsewhere::Settled(settled.settlement().clone())),
            Ok(Whereabouts::Here) => Ok(Elsewhere::ThisProcess),
            Ok(Whereabouts::Elsewhere(lease)) => Ok(Elsewhere::OtherProcess(lease)),
            Err(error) => Err(untold(&error)),
        }
    }

    /// What a spend is that is in progress, and opened no session of this process.
    pub(super) async fn find(&self, parsed: &ParsedSpend) -> Result<Elsewhere, ProblemDetails> {
        Ok(match self.look((parsed.key(), parsed.record_key()), Opened::InProgress).await? {
            Cancelled::Elsewhere => match self.lease_of(parsed.key()).await {
                Some(lease) => Elsewhere::OtherProcess(lease),
                // It was settled just now.
                None => Elsewhere::ThisProcess,
            },
            Cancelled::Settled(settled) => Elsewhere::Settled(settled.settlement().clone()),
            _ => Elsewhere::ThisProcess,
        })
    }

    /// What the set says of a spend that was sent.
    async fn look(&self, keys: (SpendKey, RecordKey), opened: Opened) -> Result<Cancelled, ProblemDetails> {
        let gateway = Arc::clone(&self.gateway);
        let looked = self.run(move || gateway.cancelled(keys, opened)).await;
        looked.map_err(work_problem)?.map_err(|error| self.refusal(error))
    }
}
