//! The way of many spends at once: from bytes to the set, at the full speed of the machine.
//!
//! ```text
//! bytes --> screen --> queue --> verify in batches --> admit a batch in one commit --> answer
//!           cheap      bounded   dedicated threads     one fsync
//! ```
//!
//! What has arrived while the last batch was worked on is the next batch, so that a lone spend never waits and a loaded gateway
//! verifies at batch speed. A spend is screened before it is queued, and a full queue says so before anything is done. A bad
//! proof costs its neighbours nothing but time, and its sender is verified alone from then on, one after each batch.
//!
//! The core stays without clock and threads; here are the threads, and the clock is an argument of [`Pipeline::start`]. Nothing here
//! needs a runtime: futures are answered by the threads.

mod current;
mod screening;

pub(crate) use current::Current;
use screening::{Opening, Screening};

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::gateway::{AdmitError, Gateway, Opened, Screened};
use crate::lifecycle::{AdmittedSpend, AuthenticSpend, VerifyError, verify_batch};
use crate::protocol::{ContentDigest, Problem, Request, RequestError, Sender, Timestamp};
use crate::store::StoreError;
use crate::workers::{TaskPool, WorkError, WorkerLimits, WorkerPool};

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a pipeline is made of.
#[non_exhaustive]
pub struct PipelineParts {
    /// The gateway that checks and admits.
    pub gateway: Arc<Gateway>,
    /// Says what time it is.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// What to do with a spend that was admitted for a caller that had gone by then: settle it at 0. Runs on a thread
    /// of the pipeline.
    pub abandoned: Arc<dyn Fn(AdmittedSpend) + Send + Sync>,
    /// Told how many spends were verified together, and in what time.
    pub verified: Arc<dyn Fn(usize, Duration) + Send + Sync>,
    /// Limits.
    pub limits: PipelineLimits,
}

impl PipelineParts {
    /// With the default limits, and nothing told of what was verified.
    pub fn new(
        gateway: Arc<Gateway>,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        abandoned: Arc<dyn Fn(AdmittedSpend) + Send + Sync>,
    ) -> Self {
        Self { gateway, clock, abandoned, verified: Arc::new(|_, _| {}), limits: PipelineLimits::default() }
    }

    /// The same with this [`abandoned`](Self::abandoned).
    #[must_use]
    pub fn with_abandoned(self, abandoned: Arc<dyn Fn(AdmittedSpend) + Send + Sync>) -> Self {
        Self { abandoned, ..self }
    }

    /// The same with this [`verified`](Self::verified).
    #[must_use]
    pub fn with_verified(self, verified: Arc<dyn Fn(usize, Duration) + Send + Sync>) -> Self {
        Self { verified, ..self }
    }

    /// The same with this [`limits`](Self::limits).
    #[must_use]
    pub fn with_limits(self, limits: PipelineLimits) -> Self {
        Self { limits, ..self }
    }
}

impl core::fmt::Debug for PipelineParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PipelineParts").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// How many threads a pipeline has, and how much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipelineLimits {
    /// Threads for cheap checks: at 0.1 ms a spend, one keeps several verifying threads busy.
    pub screen_threads: usize,
    /// Threads that verify. While one waits for a commit, the others go on, so that one more than there are cores keeps all of
    /// them busy.
    pub verify_threads: usize,
    /// How many spends wait to be screened, and how many to be verified, at most.
    pub queue: usize,
    /// How many are verified together at most. More than 128 gain little and wait for each other.
    pub batch: usize,
}

impl PipelineLimits {
    /// The same with this [`screen_threads`](Self::screen_threads).
    #[must_use]
    pub fn with_screen_threads(self, screen_threads: usize) -> Self {
        Self { screen_threads, ..self }
    }

    /// The same with this [`verify_threads`](Self::verify_threads).
    #[must_use]
    pub fn with_verify_threads(self, verify_threads: usize) -> Self {
        Self { verify_threads, ..self }
    }

    /// The same with this [`queue`](Self::queue).
    #[must_use]
    pub fn with_queue(self, queue: usize) -> Self {
        Self { queue, ..self }
    }

    /// The same with this [`batch`](Self::batch).
    #[must_use]
    pub fn with_batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }
}

impl Default for PipelineLimits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { screen_threads: 1, verify_threads: cores + 1, queue: 4_096, batch: 128 }
    }
}

/// Where spends come from, for instance a connection. A source of a proof that does not hold is verified alone from
/// then on.
#[derive(Clone, Debug, Default)]
pub struct Source {
    suspect: Arc<AtomicBool>,
    sender: Sender,
}

impl Source {
    /// A source that nothing is held against.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, of requests from there: limits count by it.
    #[must_use]
    pub fn sent_by(self, sender: Sender) -> Self {
        Self { sender, ..self }
    }

    /// Where it sends from.
    pub fn sender(&self) -> Sender {
        self.sender
    }

    /// Notes that a proof from here did not hold.
    pub fn suspect(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// Whether one was noted.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }
}

/// A [`Request`] that owns its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRequest {
    authority: String,
    method: String,
    target: String,
    content: ContentDigest,
}

impl OwnedRequest {
    /// As [`Request::new`].
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn new(
        authority: impl Into<String>,
        method: impl Into<String>,
        target: impl Into<String>,
        content: ContentDigest,
    ) -> Result<Self, RequestError> {
        let (authority, method, target) = (authority.into(), method.into(), target.into());
        Request::new(&authority, &method, &target, content)?;
        Ok(Self { authority, method, target, content })
    }

    /// The same as a request, without where it came from.
    #[cfg(any(test, feature = "server"))]
    pub(crate) fn of(request: &Request<'_>) -> Self {
        Self {
            authority: request.authority().to_owned(),
            method: request.method().to_owned(),
            target: request.target().to_owned(),
            content: request.content(),
        }
    }

    /// The request.
    ///
    /// # Errors
    /// None of what [`new`](Self::new) made.
    pub fn as_request(&self) -> Result<Request<'_>, RequestError> {
        Request::new(&self.authority, &self.method, &self.target, self.content)
    }
}

/// Why a pipeline gave no spend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The gateway refused it.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// Too much waits, or the pipeline is shutting down.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The request cannot be signed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl PipelineError {
    /// The problem on the wire.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Admit(error) => error.problem(),
            Self::Work(WorkError::Busy) => Problem::Busy,
            Self::Work(_) => Problem::StoreUnavailable,
            Self::Request(_) => Problem::Malformed,
        }
    }
}

/// A gateway's threads. Cheap to clone; the threads end with the last clone, after what waits is done.
#[derive(Clone)]
pub struct Pipeline(Arc<Threads>);

struct Threads {
    gateway: Arc<Current<Gateway>>,
    screen: Screening,
    verify: WorkerPool<AuthenticSpend, Delivery>,
    abandoned: Arc<Abandoned>,
}

impl core::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pipeline").field("gateway", &self.0.gateway.get()).finish_non_exhaustive()
    }
}

/// What became of a spend, on its way to the task that waits for it. If it does not get there, what was admitted is not
/// left open.
struct Delivery {
    outcome: Option<Result<Opened, PipelineError>>,
    abandoned: Arc<Abandoned>,
}

struct Abandoned {
    action: Arc<dyn Fn(AdmittedSpend) + Send + Sync>,
    threads: TaskPool,
}

impl Delivery {
    fn take(mut self) -> Result<Opened, PipelineError> {
        self.outcome.take().unwrap_or(Err(PipelineError::Work(WorkError::Gone)))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(Ok(Opened::Admitted(spend) | Opened::Lapsed(spend))) = self.outcome.take() {
            let action = Arc::clone(&self.abandoned.action);
            // On a thread, as this may be dropped by an async task. If there is none any more, the lease sees to it.
            let _ = self.abandoned.threads.leave(move || action(spend));
        }
    }
}

impl Pipeline {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system's, if a thread cannot be started.
    pub fn start(parts: PipelineParts) -> io::Result<Self> {
        let PipelineParts { gateway, clock, abandoned, verified, limits } = parts;
        let gateway = Arc::new(Current::new(gateway));
        let threads = TaskPool::start("abandoned", 1, usize::MAX)?;
        let abandoned = Arc::new(Abandoned { action: abandoned, threads });
        let (verifying, time, left) = (Arc::clone(&gateway), Arc::clone(&clock), Arc::clone(&abandoned));
        let PipelineLimits { screen_threads, verify_threads, queue, batch } = limits;
        let verify =
            WorkerPool::start("verify", WorkerLimits { threads: verify_threads, queue, batch }, move |spends| {
                let outcomes = verify_and_admit(&verifying.get(), &*time, &*verified, spends);
                let deliver = |outcome: Result<_, AdmitError>| Delivery {
                    outcome: Some(outcome.map_err(Into::into)),
                    abandoned: Arc::clone(&left),
                };
                outcomes.into_iter().map(deliver).collect()
            })?;
        let screen = Screening::start(clock, screen_threads, queue)?;
        Ok(Self(Arc::new(Threads { gateway, screen, verify, abandoned })))
    }

    /// The gateway that checks and admits now.
    pub fn gateway(&self) -> Arc<Gateway> {
        self.0.gateway.get()
    }

    /// Checks and admits by `gateway` from now on: the same one under a newer directory ([`Gateway::adopt`]), over the same set. What
    /// waits is verified by it too. That is as good: entries of epochs never change, and none leaves while it can be spent.
    pub fn adopt(&self, gateway: Arc<Gateway>) {
        self.0.gateway.set(gateway);
    }

    /// How many spends wait to be screened or verified.
    pub fn waiting(&self) -> usize {
        self.0.screen.waiting() + self.0.verify.waiting()
    }

    /// Takes the bytes of an [`Opening`](crate::protocol::Opening) all the way: [`Gateway::open`], with many others.
    ///
    /// Dropped before it is done, it leaves nothing behind: a spend that was not admitted by then is not, or is given to
    /// [`PipelineParts::abandoned`].
    ///
    /// # Errors
    /// [`PipelineError`]. [`WorkError::Busy`] before any work is done.
    pub async fn open(
        &self,
        opening: Vec<u8>,
        request: OwnedRequest,
        source: &Source,
    ) -> Result<Opened, PipelineError> {
        let (inner, alone, sender) = (Arc::clone(&self.0), source.is_suspect(), source.sender());
        let (reply, answer) = oneshot::channel();
        // From the screening thread straight to the queue of the verifying ones.
        let done = Box::new(move |screened| inner.screened(screened, alone, reply));
        self.0.screen.leave(Opening { gateway: self.gateway(), bytes: Box::new(opening), request, sender, done })?;
        answered(answer.await, source)
    }

    /// The first half of [`open`](Self::open): [`Gateway::screen`] of this gateway, which may be older than the current one, with
    /// many others.
    ///
    /// # Errors
    /// [`PipelineError`]. [`WorkError::Busy`] before any work is done.
    pub async fn screen(
        &self,
        gateway: Arc<Gateway>,
        opening: impl AsRef<[u8]> + Send + 'static,
        request: OwnedRequest,
        sender: Sender,
    ) -> Result<Screened, PipelineError> {
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |screened| {
            let _ = reply.send(screened);
        });
        self.0.screen.leave(Opening { gateway, bytes: Box::new(opening), request, sender, done })?;
        answer.await.unwrap_or(Err(PipelineError::Work(WorkError::Gone)))
    }

    /// Runs a short task that may block, such as a look into the set, on a screening thread.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> Result<T, WorkError> {
        self.0.screen.run(task).await
    }

    /// The second half of [`open`](Self::open): verifies and admits a spend that was screened.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub async fn verify(&self, spend: AuthenticSpend, source: &Source) -> Result<Opened, PipelineError> {
        let (reply, answer) = oneshot::channel();
        self.0.verify.enqueue_for(reply, spend, source.is_suspect()).map_err(|(error, _)| error)?;
        answered(answer.await, source)
    }
}

fn answered(delivery: Result<Delivery, oneshot::error::RecvError>, source: &Source) -> Result<Opened, PipelineError> {
    let outcome = delivery.map_err(|_| WorkError::Gone)?.take();
    if outcome.as_ref().is_err_and(|error| error.problem() == Problem::ProofInvalid) {
        source.suspect();
    }
    outcome
}

impl Threads {
    /// Runs on a screening thread.
    fn screened(&self, screened: Result<Screened, PipelineError>, alone: bool, reply: oneshot::Sender<Delivery>) {
        let (outcome, reply) = match screened {
            Ok(Screened::Known(opened)) => (Ok(opened), reply),
            Ok(Screened::Unknown(spend) | Screened::Conflict(spend)) => {
                // A caller that has gone by now gets no verification.
                if reply.is_closed() {
                    return;
                }
                match self.verify.enqueue_for(reply, spend, alone) {
                    Ok(()) => return,
                    Err((error, reply)) => (Err(error.into()), reply),
                }
            }
            Err(error) => (Err(error), reply),
        };
        let _ = reply.send(Delivery { outcome: Some(outcome), abandoned: Arc::clone(&self.abandoned) });
    }
}

/// Runs on the verifying threads.
fn verify_and_admit(
    gateway: &Gateway,
    clock: &dyn Fn() -> Timestamp,
    verified: &dyn Fn(usize, Duration),
    spends: Vec<AuthenticSpend>,
) -> Vec<Result<Opened, AdmitError>> {
    let (count, started) = (spends.len(), Instant::now());
    let mut keyless = vec![false; count];
    let mut keyed = Vec::with_capacity(count);
    for (index, spend) in spends.into_iter().enumerate() {
        match gateway.verifying_key(spend.key().epoch) {
            Some(key) => keyed.push((spend, key)),
            None => keyless[index] = true,
        }
    }
    let verdicts = verify_batch(keyed, &mut rand::rng());
    verified(count, started.elapsed());
    let mut refused: Vec<Option<AdmitError>> = Vec::with_capacity(count);
    let mut good = Vec::with_capacity(count);
    let mut verdicts = verdicts.into_iter();
    for keyless in keyless {
        // There is a verdict for every spend; if there were none, it would not be a good one.
        let missing = || Err(VerifyError::OtherEpochKey);
        match if keyless { missing() } else { verdicts.next().unwrap_or_else(missing) } {
            Ok(spend) => {
                good.push(spend);
                refused.push(None);
            }
            Err(error) => refused.push(Some(error.into())),
        }
    }
    let mut admitted = gateway.admit_all(good, clock()).into_iter();
    let outcome = |refused: Option<AdmitError>| match refused {
        Some(error) => Err(error),
        None => admitted.next().unwrap_or_else(|| Err(StoreError::Failed("the store gave no answer".into()).into())),
    };
    refused.into_iter().map(outcome).collect()
}
