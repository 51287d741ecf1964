//! The remote ledger: an issuer elsewhere admits and settles, by clearing.

mod buckets;
mod held;
mod link;
mod refresh;

pub(super) use held::RemoteHeld;
pub(super) use link::IssuerLink;
pub(super) use refresh::keep_fresh;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use super::found::{Candidate, Errand, Found};
use super::lease::remote_lease;
use super::limits::GatewayLimits;
use super::problems::{refused, untold, work_problem};
use super::running::Running;
use crate::clearing::{ClearingProblem, Progress, RemoteFetched, RemoteGateway, RemoteGatewayError, RemoteSpend};
use crate::gateway::{AdmitError, FetchError};
use crate::http::clock::now;
use crate::http::issuer_client::IssuerClient;
use crate::http::observer::Observer;
use crate::http::problem::ProblemDetails;
use crate::http::requests::Signed;
use crate::pipeline::{Current, Source};
use crate::protocol::{Directory, Problem, Purpose, Settlement};
use crate::quota::{Meter, Rate};
use crate::workers::{TaskPool, WorkError};
use buckets::Buckets;
use link::{Ask, FIRST_PAUSE, LONGEST_PAUSE, Place, Silent, may_pass, refuses_gateway};

/// How long a caller waits for an admission, a cancel or an answer of the issuer, the tries included.
const ASKING: Duration = Duration::from_secs(12);
/// How long a shutdown waits for settlements that are pursued. What is not settled by then is at what was metered, after the lease.
const DRAIN: Duration = Duration::from_secs(20);

/// How often each sender may cancel for nothing: an eighth of what the issuer lets a gateway, so that it takes many to use that up.
const CANCELS: Rate = Rate { per_minute: 75, burst: 75 };

/// What a gateway without a set works with.
#[derive(Clone)]
pub(super) struct Remote {
    pub(super) gateway: Arc<RemoteGateway>,
    link: Arc<IssuerLink>,
}

impl Remote {
    pub(super) fn start(
        gateway: RemoteGateway,
        issuer: IssuerClient,
        observer: Arc<dyn Observer>,
        limits: &GatewayLimits,
    ) -> io::Result<Self> {
        let gateway = Arc::new(gateway);
        let link = IssuerLink {
            gateway: Current::new(Arc::clone(&gateway)),
            buckets: Arc::new(Buckets::new(issuer.clone())),
            issuer,
            front: TaskPool::start("remote-read", limits.pipeline.screen_threads, limits.pipeline.queue)?,
            back: TaskPool::start("remote-clear", 1, usize::MAX)?,
            open: Mutex::default(),
            suspects: Semaphore::new(1),
            cancels: Arc::new(Meter::new(CANCELS)),
            stale: Notify::new(),
            trouble: Mutex::default(),
            refused: Mutex::default(),
            observer,
        };
        Ok(Self { gateway, link: Arc::new(link) })
    }

    /// The same under a newer directory. Nobody is told of it yet.
    pub(super) fn succeed(&self, directory: Directory) -> Result<Self, RemoteGatewayError> {
        let gateway = Arc::new(self.gateway.succeed(directory)?);
        Ok(Self { gateway, link: Arc::clone(&self.link) })
    }

    /// From now on the issuer is asked under this directory.
    pub(super) fn publish(&self) {
        self.link.gateway.set(Arc::clone(&self.gateway));
    }

    pub(super) fn link(&self) -> Arc<IssuerLink> {
        Arc::clone(&self.link)
    }

    /// What keeps calls from being taken, as far as it was found when the issuer was last asked: once in each interval at least, and
    /// after each request that the issuer left unanswered or refused.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        self.link.trouble()
    }

    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.link.front.waiting(), self.link.back.waiting())
    }

    /// Waits until nothing is asked about or served, settlements that are pursued included; not for ever, as the issuer may be away.
    /// How many are left.
    pub(super) async fn drain(&self) -> usize {
        let settled = async {
            while !self.link.open().is_empty() {
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        };
        let _ = timeout(DRAIN, settled).await;
        self.link.open().len()
    }

    pub(super) fn spent_router(&self) -> Router {
        Buckets::router(&self.link.buckets)
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        self.link.front.run(task).await
    }

    /// Checks the session signature; all else is the issuer's to check.
    pub(super) async fn screen(
        &self,
        opening: Bytes,
        signed: Signed,
        errand: Errand,
    ) -> Result<Candidate<RemoteSpend>, ProblemDetails> {
        let gateway = Arc::clone(&self.gateway);
        let take = move || signed.with(|request| (gateway.take(&opening, request), request.content()));
        let (taken, content) = self.run(take).await.map_err(work_problem)??;
        let spend = taken.map_err(|error| refused(&error))?;
        let fits = match spend.spend().purpose {
            Purpose::Session => errand == Errand::Session,
            Purpose::Rollover => errand == Errand::Rollover,
            Purpose::Transfer { .. } => false,
        };
        if !fits {
            return Err(refused(&AdmitError::WrongPurpose));
        }
        Ok(Candidate::new(spend.key(), &spend.spend().clone(), content, spend))
    }

    /// Has the issuer admit a spend. Not to be dropped before it is done.
    pub(super) async fn admit(&self, spend: RemoteSpend, source: &Source) -> Result<Found<RemoteHeld>, ProblemDetails> {
        let link = &self.link;
        // The issuer pays for each proof that does not hold: a sender of one waits for the others.
        let _suspect = match source.is_suspect() {
            true => link.suspects.acquire().await.ok(),
            false => None,
        };
        // Before it is asked about, so that no answer to somebody else is taken for leave to cancel what is served.
        let Some(place) = Place::take(link, spend.key()) else { return Ok(Found::InProgress) };
        let (charge, spend) = (spend.charge(), Arc::new(Mutex::new(spend)));
        match link.ask(&spend, Ask::Admit, ASKING).await {
            Ok((Progress::Serve, _)) => Ok(Found::Admitted(RemoteHeld::new(self, spend, charge, place))),
            // The answer that it was admitted by was lost, or another process of this gateway serves it. Nobody does here, so that the
            // caller gets all of it back.
            Ok((Progress::InProgress, true)) => match self.withdraw(&spend, ASKING).await {
                Ok(settlement) => Ok(Found::Settled(settlement)),
                Err(problem) => {
                    self.pursue_withdrawal(spend, place);
                    Err(problem)
                }
            },
            Ok((Progress::InProgress, false)) => Ok(Found::InProgress),
            Ok((Progress::Settled(cleared), _)) => Ok(Found::Settled(cleared.settlement().clone())),
            Ok((progress, lost)) => {
                // It may have been admitted by the try whose answer was lost.
                if lost && refuses_gateway(&progress) {
                    self.pursue_withdrawal(spend, place);
                }
                Err(self.refusal(&progress, Some(source)))
            }
            Err(Silent { lost }) => {
                if lost {
                    self.pursue_withdrawal(spend, place);
                }
                Err(unanswered())
            }
        }
    }

    /// Cancels what is not served here.
    async fn withdraw(&self, spend: &Arc<Mutex<RemoteSpend>>, within: Duration) -> Result<Settlement, ProblemDetails> {
        match self.link.ask(spend, Ask::Cancel, within).await {
            Ok((Progress::Settled(cleared), _)) => Ok(cleared.settlement().clone()),
            Ok((progress, _)) => Err(self.refusal(&progress, None)),
            Err(_) => Err(unanswered()),
        }
    }

    /// Goes on cancelling what nobody serves, as long as the issuer leaves it to this gateway; then the issuer settles it, at nothing.
    fn pursue_withdrawal(&self, spend: Arc<Mutex<RemoteSpend>>, place: Place) {
        let (link, within) = (Arc::clone(&self.link), self.pursuit());
        tokio::spawn(async move {
            let _place = place;
            let end = Instant::now() + within;
            let left = || end.saturating_duration_since(Instant::now());
            // Also where it is the gateway that is refused: its operator, or the issuer's, may mend that.
            while let Ok((progress, _)) = link.ask(&spend, Ask::Cancel, left()).await
                && refuses_gateway(&progress)
                && left() > LONGEST_PAUSE
            {
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
        });
    }

    /// For so long what is admitted is this gateway's to settle: less than the issuer's lease, by the issuer's own rule.
    pub(super) fn lease(&self) -> Duration {
        remote_lease(self.gateway.directory())
    }

    /// For so long this gateway alone may settle or cancel what is admitted, whatever the clocks say.
    fn pursuit(&self) -> Duration {
        Duration::from_secs(self.gateway.directory().parts().limits.session_seconds.into())
    }

    /// The settlement of a spend that a following request names; none while it is open.
    pub(super) async fn fetch(&self, following: Vec<u8>, signed: Signed) -> Result<Option<Settlement>, ProblemDetails> {
        let gateway = Arc::clone(&self.gateway);
        let take = move || signed.with(|request| gateway.take_following(&following, request));
        let taken = self.run(take).await.map_err(work_problem)??;
        let mut fetch = taken.map_err(|error| untold(&error))?;
        if self.link.open().contains(&fetch.key()) {
            return Ok(None);
        }
        let (end, mut pause) = (Instant::now() + ASKING, FIRST_PAUSE);
        loop {
            let envelope = fetch.ask(&self.link.gateway.get(), now(), &mut rand::rng());
            let answered = timeout(end.saturating_duration_since(Instant::now()), self.link.issuer.clear(envelope));
            if let Ok(Ok(bytes)) = answered.await
                && let Ok(fetched) = fetch.answer(&bytes)
            {
                if let RemoteFetched::Refused(problem) = &fetched {
                    self.link.note_refusal(*problem);
                }
                match fetched {
                    RemoteFetched::Settled(settlement) => return Ok(Some(settlement)),
                    RemoteFetched::InProgress => return Ok(None),
                    RemoteFetched::Refused(problem) if may_pass(problem) => {}
                    RemoteFetched::Refused(ClearingProblem::NoSpend) => {
                        return Err(untold(&FetchError::SessionSignature));
                    }
                    RemoteFetched::Refused(ClearingProblem::Erased) => {
                        let detail = "the spend was settled long ago: send it again, whole, to be told how";
                        return Err(ProblemDetails::new(Problem::AlreadySpent, detail));
                    }
                    RemoteFetched::Refused(problem) => return Err(self.refusal(&Progress::Refused(problem), None)),
                }
            }
            if Instant::now() + pause >= end {
                return Err(unanswered());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Cancels a spend: stops the work that goes on for it here, and has the issuer settle what was never admitted, or what nobody works on.
    pub(super) async fn cancel(
        &self,
        bytes: Bytes,
        signed: Signed,
        source: &Source,
        running: &Running,
    ) -> Result<Settlement, ProblemDetails> {
        let gateway = Arc::clone(&self.gateway);
        let take = move || signed.with(|request| gateway.take_cancellation(&bytes, request));
        let taken = self.run(take).await.map_err(work_problem)??;
        let spend = taken.map_err(|error| refused(&error))?;
        // The issuer has one quota for all that this gateway vouches for: here it is divided among those who ask.
        let permit = self.link.cancels.take(source.sender(), now());
        let permit = permit.ok_or_else(|| ProblemDetails::new(Problem::Busy, "too many cancels: wait a moment"))?;
        running.stop_and_wait(&spend.key()).await;
        // As long as it is asked about, its settlement included, nobody says anything else of it.
        let Some(place) = Place::take(&self.link, spend.key()) else {
            return Err(ProblemDetails::new(Problem::InProgress, "the spend is being settled: ask again"));
        };
        let (charge, spend) = (spend.charge(), Arc::new(Mutex::new(spend)));
        let settlement = self.withdraw(&spend, ASKING).await?;
        drop(place);
        if settlement.refund == charge {
            // It earned nothing, and stays in the set.
            permit.used();
        }
        Ok(settlement)
    }

    /// What a caller is told of what the issuer says.
    fn refusal(&self, progress: &Progress, source: Option<&Source>) -> ProblemDetails {
        let problem = match progress {
            Progress::DoubleSpend => Problem::DoubleSpend,
            Progress::InProgress => Problem::InProgress,
            Progress::Refused(ClearingProblem::Spend(problem)) => {
                if *problem == Problem::ProofInvalid {
                    source.into_iter().for_each(Source::suspect);
                }
                *problem
            }
            Progress::Refused(_) => {
                return ProblemDetails::new(
                    Problem::StoreUnavailable,
                    "the issuer does not clear for this gateway now",
                );
            }
            _ => return unanswered(),
        };
        ProblemDetails::new(problem, format!("the issuer refuses the spend: {problem}"))
    }
}

fn unanswered() -> ProblemDetails {
    let detail = "the issuer does not answer; nothing was served. Send the same again, or cancel it";
    ProblemDetails::new(Problem::StoreUnavailable, detail)
}
