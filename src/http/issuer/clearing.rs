//! Clearing for gateways that share no set.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use tokio::sync::Semaphore;

use super::{IssuerObserver, IssuerService, answered, bytes_answer, work_problem};
use crate::clearing::{Answered, Clearing, ClearingError, Envelope, Taken, Waiting};
use crate::gateway::AdmitError;
use crate::http::clock::now;
use crate::http::problem::ProblemDetails;
use crate::http::requests::read_body;
use crate::pipeline::Current;
use crate::workers::{TaskPool, WorkError, WorkerLimits, WorkerPool};

/// What clearing may take on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClearingLimits {
    /// Requests that are read or worked on at a time; one more is answered `busy`.
    pub requests: usize,
    /// Threads that read requests and carry out what needs no proof. Each may wait for the store, so that several of them share
    /// a commit.
    pub threads: usize,
    /// Threads that verify proofs and admit.
    pub verify_threads: usize,
    /// How many requests wait to be read, and how many for their proofs to be verified, at most.
    pub queue: usize,
    /// How many proofs are verified together at most.
    pub batch: usize,
}

impl ClearingLimits {
    /// The same with this [`requests`](Self::requests).
    #[must_use]
    pub fn with_requests(self, requests: usize) -> Self {
        Self { requests, ..self }
    }

    /// The same with this [`threads`](Self::threads).
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
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

impl Default for ClearingLimits {
    /// 1,024 requests, 4 threads, one verifying thread more than there are cores, 1,024 in each queue, 128 in a batch.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { requests: 1_024, threads: 4, verify_threads: cores + 1, queue: 1_024, batch: 128 }
    }
}

/// How long an envelope may take to arrive: at most 4 KiB, from a gateway that has them at hand.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Clearing and its threads.
pub(super) struct ClearingHouse {
    pub(super) clearing: Arc<Current<Clearing>>,
    /// Apart from those of callers, who cannot keep a gateway waiting by taking all of them.
    places: Arc<Semaphore>,
    takers: TaskPool,
    finishers: WorkerPool<Waiting, Vec<u8>>,
    observer: Arc<dyn IssuerObserver>,
}

impl ClearingHouse {
    pub(super) fn start(
        clearing: Arc<Clearing>,
        limits: ClearingLimits,
        observer: Arc<dyn IssuerObserver>,
    ) -> io::Result<Self> {
        let ClearingLimits { requests, threads, verify_threads, queue, batch } = limits;
        let clearing = Arc::new(Current::new(clearing));
        let (finishing, told) = (Arc::clone(&clearing), Arc::clone(&observer));
        let limits = WorkerLimits { threads: verify_threads, queue, batch };
        let finishers = WorkerPool::start("clearing-verify", limits, move |requests| {
            let (spends, begun) = (requests.len(), Instant::now());
            let answered = finishing.get().finish(requests, now(), &mut rand::rng());
            told.verified(spends, begun.elapsed());
            answered.into_iter().map(|answered| report(&*told, answered)).collect()
        })?;
        let takers = TaskPool::start("clearing", threads, queue)?;
        let places = Arc::new(Semaphore::new(requests.min(Semaphore::MAX_PERMITS)));
        Ok(Self { clearing, places, takers, finishers, observer })
    }

    async fn answer(self: Arc<Self>, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| work_problem(WorkError::Busy))?;
        let envelope = read_body(request.into_body(), Envelope::MAX_LENGTH, BODY_TIMEOUT).await?;
        // In a task of its own: what a gateway has begun with is finished when it hangs up, so that what it asks next finds it done.
        let carried = tokio::spawn(async move {
            let _place = place;
            let clearing = self.clearing.get();
            let taken = self.takers.run(move || clearing.take(&envelope, now())).await.map_err(work_problem)?;
            match taken {
                Taken::Answered(answered) => Ok(report(&*self.observer, answered)),
                Taken::Waiting(waiting) => self.finishers.submit(waiting).await.map_err(work_problem),
            }
        });
        Ok(bytes_answer(carried.await.unwrap_or_else(|_| Err(work_problem(WorkError::Gone)))?))
    }
}

/// Tells the operator what nobody else may know, and leaves the bytes.
fn report(observer: &dyn IssuerObserver, answered: Answered) -> Vec<u8> {
    let Answered { bytes, outcome } = answered;
    if let Err(ClearingError::Admit(AdmitError::DoubleSpend(_) | AdmitError::AlreadySpent)) = &outcome {
        observer.conflict();
    }
    match outcome {
        Err(ClearingError::Admit(AdmitError::DoubleSpend(evidence))) => observer.double_spend(*evidence),
        Err(error) => observer.clearing_refused(&error),
        Ok(_) => {}
    }
    bytes
}

pub(super) async fn clearing(State(service): State<IssuerService>, request: HttpRequest) -> Response {
    let none = || {
        let detail = "no gateway clears with this issuer over HTTP";
        ProblemDetails::plain(http::StatusCode::NOT_FOUND, detail)
    };
    match &service.clearing {
        Some(house) => answered(Arc::clone(house).answer(request).await),
        None => answered(Err(none())),
    }
}
