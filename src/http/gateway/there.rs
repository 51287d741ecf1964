//! An issuer elsewhere, who admits and settles by clearing.

mod buckets;

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use super::cancel::STOPPING;
use super::fetch::untold;
use super::ledger::{Candidate, Errand, Found, Held, Screening, Unadmitted};
use super::limits::GatewayLimits;
use super::observer::Observer;
use super::received::Signed;
use super::running::Running;
use super::{settled_answer, work_problem};
use crate::clearing::{ClearingProblem, Progress, RemoteFetched, RemoteGateway, RemoteGatewayError, RemoteSpend};
use crate::gateway::{AdmitError, FetchError};
use crate::http::clock::now;
use crate::http::problem::ProblemDetails;
use crate::http::remote::IssuerClient;
use crate::pipeline::{Current, Source, TaskPool, WorkError};
use crate::protocol::{ContentDigest, Credits, Directory, Problem, Purpose, Settlement, SpendKey};
use buckets::Buckets;

/// How long a caller waits for an admission, a cancel or an answer of the issuer, the tries included.
const ASKING: Duration = Duration::from_secs(12);
/// How long he waits for a settlement. It is pursued for longer.
const SETTLING: Duration = Duration::from_secs(12);
/// How long a note of what was metered is tried: the next one says it all.
const NOTING: Duration = Duration::from_secs(3);
/// How long a shutdown waits for settlements that are pursued. What is not settled by then is at what was metered, after the lease.
const DRAIN: Duration = Duration::from_secs(20);
/// The pauses between tries: they double.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a gateway without a set works with.
#[derive(Clone)]
pub(super) struct There {
    pub(super) gateway: Arc<RemoteGateway>,
    remote: Arc<Remote>,
}

/// What it goes on with from directory to directory.
pub(super) struct Remote {
    /// The newest. What is asked about an older spend is the same under it: entries never change.
    gateway: Current<RemoteGateway>,
    issuer: IssuerClient,
    /// Reads what callers send.
    front: TaskPool,
    /// Signs envelopes and checks answers. Without a bound: what is asked is bounded.
    back: TaskPool,
    /// The spends that are being asked about or served here, each by one.
    open: Mutex<HashSet<SpendKey>>,
    /// One of those who sent a bad proof at a time.
    suspects: Semaphore,
    buckets: Arc<Buckets>,
    stale: Notify,
    /// Whether the issuer showed his directory when he was last asked for it.
    answers: AtomicBool,
    observer: Arc<dyn Observer>,
}

/// The place of a spend among those that are asked about or served.
struct Place {
    remote: Arc<Remote>,
    key: SpendKey,
}

/// A spend that the issuer has admitted.
pub(super) struct Open {
    spend: Arc<Mutex<RemoteSpend>>,
    /// Held by whoever asks about it: only the answer to the newest question is taken.
    turn: tokio::sync::Mutex<()>,
    settled: OnceLock<Settlement>,
    key: SpendKey,
    charge: Credits,
    /// Given up as soon as it is settled: from then on the issuer says the same to whoever asks.
    place: Mutex<Option<Place>>,
}

/// What is asked of the issuer.
#[derive(Clone, Copy)]
enum Ask {
    Admit,
    Meter(Credits),
    Settle(Credits),
    Cancel,
}

/// There was no answer in time.
struct Silent {
    /// Whether one may have been lost.
    lost: bool,
}

/// Why one try came to nothing.
enum Failed {
    /// The issuer has not carried it out.
    Undone,
    Lost,
    /// It is not to be asked: a bug here.
    Never,
}

impl Place {
    fn take(remote: &Arc<Remote>, key: SpendKey) -> Option<Self> {
        remote.open().insert(key).then(|| Self { remote: Arc::clone(remote), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remote.open().remove(&self.key);
    }
}

impl Open {
    pub(super) fn key(&self) -> SpendKey {
        self.key
    }

    pub(super) fn charge(&self) -> Credits {
        self.charge
    }
}

fn lock(spend: &Mutex<RemoteSpend>) -> MutexGuard<'_, RemoteSpend> {
    // Whatever panicked, the spend is in a state that it allows itself.
    spend.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Remote {
    fn open(&self) -> MutexGuard<'_, HashSet<SpendKey>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn issuer(&self) -> &IssuerClient {
        &self.issuer
    }

    pub(super) fn gateway(&self) -> Arc<RemoteGateway> {
        self.gateway.get()
    }

    /// Waits until something came that the present directory does not explain.
    pub(super) async fn stale(&self) {
        self.stale.notified().await;
    }

    /// How the issuer answered when he was last asked for his directory.
    pub(super) fn set_answers(&self, answers: bool) {
        self.answers.store(answers, Ordering::Relaxed);
    }

    pub(super) fn complain(&self, what: &str) {
        self.observer.issuer_failed(what);
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        self.back.run(task).await
    }

    /// Asks until there is an answer that means something, for so long.
    async fn ask(
        &self,
        spend: &Arc<Mutex<RemoteSpend>>,
        ask: Ask,
        within: Duration,
    ) -> Result<(Progress, bool), Silent> {
        let (end, mut pause, mut lost) = (Instant::now() + within, FIRST_PAUSE, false);
        loop {
            match timeout(end.saturating_duration_since(Instant::now()), self.once(spend, ask)).await {
                Ok(Ok(Progress::Refused(problem))) if may_pass(problem) => {}
                Ok(Ok(progress)) => return Ok((progress, lost)),
                Ok(Err(Failed::Undone)) => {}
                Ok(Err(Failed::Never)) => return Err(Silent { lost }),
                Ok(Err(Failed::Lost)) | Err(_) => lost = true,
            }
            if Instant::now() + pause >= end {
                return Err(Silent { lost });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, spend: &Arc<Mutex<RemoteSpend>>, ask: Ask) -> Result<Progress, Failed> {
        let (gateway, asking) = (self.gateway.get(), Arc::clone(spend));
        let write = move || {
            let (mut spend, rng) = (lock(&asking), &mut rand::rng());
            match ask {
                Ask::Admit => spend.admit(&gateway, now(), rng),
                Ask::Meter(cost) => spend.meter(&gateway, cost, now(), rng),
                Ask::Settle(cost) => spend.settle(&gateway, cost, now(), rng),
                Ask::Cancel => spend.cancel(&gateway, Credits::ZERO, now(), rng),
            }
        };
        let envelope = self.run(write).await.map_err(|_| Failed::Undone)?.map_err(|_| Failed::Never)?;
        let answer = self.issuer.clear(envelope).await.map_err(|trouble| {
            // Whether he is away altogether is found out by the directory.
            self.stale.notify_one();
            self.complain(&trouble.to_string());
            if trouble.is_undone() { Failed::Undone } else { Failed::Lost }
        })?;
        let (gateway, asked) = (self.gateway.get(), Arc::clone(spend));
        let read = self.run(move || lock(&asked).answer(&gateway, &answer)).await;
        read.map_err(|_| Failed::Lost)?.map_err(|error| {
            // An epoch that is not known here, most likely.
            self.stale.notify_one();
            self.complain(&error.to_string());
            Failed::Lost
        })
    }
}

impl There {
    pub(super) fn start(
        gateway: RemoteGateway,
        issuer: IssuerClient,
        observer: Arc<dyn Observer>,
        limits: &GatewayLimits,
    ) -> io::Result<Self> {
        let gateway = Arc::new(gateway);
        let remote = Remote {
            gateway: Current::new(Arc::clone(&gateway)),
            buckets: Arc::new(Buckets::new(issuer.clone(), limits.spent)),
            issuer,
            front: TaskPool::start("remote-read", limits.pipeline.screen_threads, limits.pipeline.queue)?,
            back: TaskPool::start("remote-clear", 1, usize::MAX)?,
            open: Mutex::default(),
            suspects: Semaphore::new(1),
            stale: Notify::new(),
            // The directory to begin with is his.
            answers: AtomicBool::new(true),
            observer,
        };
        Ok(Self { gateway, remote: Arc::new(remote) })
    }

    /// The same under a newer directory. Nobody is told of it yet.
    pub(super) fn succeed(&self, directory: Directory) -> Result<Self, RemoteGatewayError> {
        let gateway = Arc::new(self.gateway.succeed(directory)?);
        Ok(Self { gateway, remote: Arc::clone(&self.remote) })
    }

    /// From now on the issuer is asked under this directory.
    pub(super) fn publish(&self) {
        self.remote.gateway.set(Arc::clone(&self.gateway));
    }

    pub(super) fn remote(&self) -> Arc<Remote> {
        Arc::clone(&self.remote)
    }

    /// Whether the issuer answered when he was last asked: once in each interval at least, and after each request that he left
    /// unanswered.
    pub(super) fn answers(&self) -> bool {
        self.remote.answers.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.remote.front.waiting(), self.remote.back.waiting())
    }

    /// Waits until nothing is asked about or served, settlements that are pursued included; not for ever, as the issuer may be away.
    pub(super) async fn drain(&self) {
        let settled = async {
            while !self.remote.open().is_empty() {
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        };
        let _ = timeout(DRAIN, settled).await;
    }

    pub(super) fn spent_router(&self) -> Router {
        Buckets::router(&self.remote.buckets)
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        self.remote.front.run(task).await
    }

    /// Checks the session signature; all else is the issuer's to check.
    pub(super) async fn screen(
        &self,
        opening: Bytes,
        signed: Signed,
        errand: Errand,
    ) -> Result<(Screening, ContentDigest), ProblemDetails> {
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
        Ok((Screening::Fresh(Candidate::new(Unadmitted::There(spend))), content))
    }

    /// Has the issuer admit a spend. Not to be dropped before it is done.
    pub(super) async fn admit(&self, spend: RemoteSpend, source: &Source) -> Result<Found, ProblemDetails> {
        let remote = &self.remote;
        // The issuer pays for each proof that does not hold: whoever sent one waits for the others who did.
        let _suspect = match source.is_suspect() {
            true => remote.suspects.acquire().await.ok(),
            false => None,
        };
        // Before it is asked about, so that no answer to somebody else is taken for leave to cancel what is served.
        let Some(place) = Place::take(remote, spend.key()) else { return Ok(Found::InProgress) };
        let (charge, spend) = (spend.charge(), Arc::new(Mutex::new(spend)));
        match remote.ask(&spend, Ask::Admit, ASKING).await {
            Ok((Progress::Serve, _)) => {
                let (turn, settled) = (tokio::sync::Mutex::default(), OnceLock::new());
                let (key, place) = (place.key, Mutex::new(Some(place)));
                Ok(Found::Admitted(Held::There(Arc::new(Open { spend, turn, settled, key, charge, place }))))
            }
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
            Ok((progress, _)) => Err(self.refusal(&progress, Some(source))),
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
        match self.remote.ask(spend, Ask::Cancel, within).await {
            Ok((Progress::Settled(cleared), _)) => Ok(cleared.settlement().clone()),
            Ok((progress, _)) => Err(self.refusal(&progress, None)),
            Err(_) => Err(unanswered()),
        }
    }

    /// Goes on cancelling what nobody serves, as long as the issuer leaves it to this gateway; then he settles it himself, at nothing.
    fn pursue_withdrawal(&self, spend: Arc<Mutex<RemoteSpend>>, place: Place) {
        let (there, lease) =
            (Self { gateway: Arc::clone(&self.gateway), remote: Arc::clone(&self.remote) }, self.lease());
        tokio::spawn(async move {
            let _place = place;
            let _ = there.withdraw(&spend, lease).await;
        });
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(self.gateway.directory().parts().limits.session_seconds.into())
    }

    /// Has a spend settled. In a task of its own, which goes on for as long as this gateway alone may settle it.
    pub(super) async fn settle(&self, open: &Arc<Open>, cost: Credits) -> Result<Settlement, ProblemDetails> {
        let (send, receive) = oneshot::channel();
        let (remote, open, lease) = (Arc::clone(&self.remote), Arc::clone(open), self.lease());
        tokio::spawn(async move {
            let _turn = open.turn.lock().await;
            let outcome = match open.settled.get() {
                Some(settlement) => Ok(settlement.clone()),
                None => match remote.ask(&open.spend, Ask::Settle(cost), lease).await {
                    // It may be an earlier one, at another cost: what counts is what the issuer has.
                    Ok((Progress::Settled(cleared), _)) => {
                        let settlement = open.settled.get_or_init(|| cleared.settlement().clone()).clone();
                        drop(open.place.lock().unwrap_or_else(PoisonError::into_inner).take());
                        Ok(settlement)
                    }
                    Ok((progress, _)) => Err(Some(progress)),
                    Err(_) => Err(None),
                },
            };
            let _ = send.send(outcome);
        });
        match timeout(SETTLING, receive).await {
            Ok(Ok(Ok(settlement))) => Ok(settlement),
            Ok(Ok(Err(Some(progress)))) => Err(self.refusal(&progress, None)),
            _ => {
                let detail = "the call was served and is not settled yet: ask for its settlement later";
                Err(ProblemDetails::new(Problem::StoreUnavailable, detail))
            }
        }
    }

    pub(super) fn write_down(&self, open: &Arc<Open>, so_far: Credits, done: impl FnOnce() + Send + 'static) -> bool {
        let (remote, open) = (Arc::clone(&self.remote), Arc::clone(open));
        tokio::spawn(async move {
            note(&remote, &open, so_far).await;
            done();
        });
        true
    }

    pub(super) async fn write_now(&self, open: &Arc<Open>, so_far: Credits) -> bool {
        note(&self.remote, open, so_far).await
    }

    /// The settlement of a spend that a following request names; none while it is open.
    pub(super) async fn fetch(&self, following: Vec<u8>, signed: Signed) -> Result<Option<Settlement>, ProblemDetails> {
        let gateway = Arc::clone(&self.gateway);
        let take = move || signed.with(|request| gateway.take_following(&following, request));
        let taken = self.run(take).await.map_err(work_problem)??;
        let mut fetch = taken.map_err(|error| untold(&error))?;
        if self.remote.open().contains(&fetch.key()) {
            return Ok(None);
        }
        let (end, mut pause) = (Instant::now() + ASKING, FIRST_PAUSE);
        loop {
            let envelope = fetch.ask(&self.remote.gateway.get(), now(), &mut rand::rng());
            let answered = timeout(end.saturating_duration_since(Instant::now()), self.remote.issuer.clear(envelope));
            if let Ok(Ok(bytes)) = answered.await
                && let Ok(fetched) = fetch.answer(&bytes)
            {
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
        running: &Running,
    ) -> Result<Response, ProblemDetails> {
        let gateway = Arc::clone(&self.gateway);
        let take = move || signed.with(|request| gateway.take_cancellation(&bytes, request));
        let taken = self.run(take).await.map_err(work_problem)??;
        let spend = taken.map_err(|error| refused(&error))?;
        if let Some(stopping) = running.stop(&spend.key()) {
            let _ = timeout(STOPPING, stopping.ended()).await;
        }
        // As long as it is asked about, its settlement included, nobody says anything else of it.
        let Some(place) = Place::take(&self.remote, spend.key()) else {
            return Err(ProblemDetails::new(Problem::InProgress, "the spend is being settled: ask again"));
        };
        let spend = Arc::new(Mutex::new(spend));
        let settlement = self.withdraw(&spend, ASKING).await?;
        drop(place);
        Ok(settled_answer(&settlement, None))
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
            Progress::Refused(problem) => {
                self.remote.complain(problem.as_str());
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

/// Tells the issuer what a call has come to so far. Where somebody asks about it already, that says more.
async fn note(remote: &Remote, open: &Open, so_far: Credits) -> bool {
    let Ok(_turn) = open.turn.try_lock() else { return false };
    matches!(
        remote.ask(&open.spend, Ask::Meter(so_far), NOTING).await,
        Ok((Progress::Metered | Progress::Settled(_), _))
    )
}

/// Whether the same request may be answered otherwise before long.
fn may_pass(problem: ClearingProblem) -> bool {
    matches!(
        problem,
        ClearingProblem::Spend(Problem::Busy | Problem::StoreUnavailable) | ClearingProblem::NoIssuingEpoch
    )
}

fn refused(error: &AdmitError) -> ProblemDetails {
    ProblemDetails::new(error.problem(), error.to_string())
}

fn unanswered() -> ProblemDetails {
    let detail = "the issuer does not answer; nothing was served. Send the same again, or cancel it";
    ProblemDetails::new(Problem::StoreUnavailable, detail)
}
