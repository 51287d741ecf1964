//! Asking a remote issuer, again and again until it answers.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use super::buckets::Buckets;
use crate::clearing::{ClearingProblem, Progress, RemoteGateway, RemoteSpend};
use crate::http::cause::chain;
use crate::http::clock::now;
use crate::http::issuer_client::IssuerClient;
use crate::http::observer::Observer;
use crate::pipeline::Current;
use crate::protocol::{Credits, Fault, Problem, SpendKey};
use crate::quota::Meter;
use crate::workers::{TaskPool, WorkError};

/// The pauses between tries: they double.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// For so long a gateway that was refused is taken for one that is.
const REFUSED: Duration = Duration::from_secs(30);

/// What a gateway without a set goes on with from directory to directory.
pub(in crate::http::exchange) struct IssuerLink {
    /// The newest. What is asked about an older spend is the same under it: entries never change.
    pub(super) gateway: Current<RemoteGateway>,
    pub(super) issuer: IssuerClient,
    /// Reads what callers send.
    pub(super) front: TaskPool,
    /// Signs envelopes and checks answers. Without a bound: what is asked is bounded.
    pub(super) back: TaskPool,
    /// The spends that are being asked about or served here, each by one.
    pub(super) open: Mutex<HashSet<SpendKey>>,
    /// Cancels of each sender, which the issuer counts together.
    pub(super) cancels: Arc<Meter>,
    /// One of those who sent a bad proof at a time.
    pub(super) suspects: Semaphore,
    pub(super) buckets: Arc<Buckets>,
    pub(super) stale: Notify,
    /// What is wrong with the directory that the issuer showed when it was last asked, or that it showed none.
    pub(super) trouble: Mutex<Option<&'static str>>,
    /// When it last said that it does not clear for this gateway.
    pub(super) refused: Mutex<Option<Instant>>,
    pub(super) observer: Arc<dyn Observer>,
}

/// The place of a spend among those that are asked about or served.
pub(super) struct Place {
    link: Arc<IssuerLink>,
    pub(super) key: SpendKey,
}

/// What is asked of the issuer.
#[derive(Clone, Copy)]
pub(super) enum Ask {
    Admit,
    Meter(Credits),
    Settle(Credits),
    Cancel,
}

/// Remote was no answer in time.
pub(super) struct Silent {
    /// Whether one may have been lost.
    pub(super) lost: bool,
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
    pub(super) fn take(link: &Arc<IssuerLink>, key: SpendKey) -> Option<Self> {
        link.open().insert(key).then(|| Self { link: Arc::clone(link), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.link.open().remove(&self.key);
    }
}

fn lock(spend: &Mutex<RemoteSpend>) -> MutexGuard<'_, RemoteSpend> {
    // Whatever panicked, the spend is in a state that it allows itself.
    spend.lock().unwrap_or_else(PoisonError::into_inner)
}

impl IssuerLink {
    pub(super) fn open(&self) -> MutexGuard<'_, HashSet<SpendKey>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::http::exchange) fn issuer(&self) -> &IssuerClient {
        &self.issuer
    }

    pub(in crate::http::exchange) fn gateway(&self) -> Arc<RemoteGateway> {
        self.gateway.get()
    }

    /// Waits until something came that the present directory does not explain.
    pub(in crate::http::exchange) async fn stale(&self) {
        self.stale.notified().await;
    }

    /// What came of asking the issuer for its directory.
    pub(in crate::http::exchange) fn set_trouble(&self, trouble: Option<&'static str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What keeps calls from being taken.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        let of_directory = *self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        // An issuer that is out of service is asked nothing, and would stay so: after a while it is tried again.
        let refused = refused.is_some_and(|at| at.elapsed() < REFUSED);
        of_directory.or(refused.then_some("the issuer does not clear for this gateway"))
    }

    pub(in crate::http::exchange) fn complain(&self, what: &str) {
        self.observer.issuer_failed(what);
    }

    pub(in crate::http::exchange) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        self.back.run(task).await
    }

    /// Asks until there is an answer that means something, for so long.
    pub(super) async fn ask(
        &self,
        spend: &Arc<Mutex<RemoteSpend>>,
        ask: Ask,
        within: Duration,
    ) -> Result<(Progress, bool), Silent> {
        let (end, mut pause, mut lost) = (Instant::now() + within, FIRST_PAUSE, false);
        loop {
            match timeout(end.saturating_duration_since(Instant::now()), self.once(spend, ask)).await {
                Ok(Ok(Progress::Refused(problem))) if may_pass(problem) => {}
                // What was served must be settled. The operator of either party can mend this, and then it is.
                Ok(Ok(progress)) if matches!(ask, Ask::Settle(_)) && refuses_gateway(&progress) => {}
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
            // Whether it is away altogether is found out by the directory.
            self.stale.notify_one();
            self.complain(&chain(&trouble));
            if trouble.is_undone() { Failed::Undone } else { Failed::Lost }
        })?;
        let (gateway, asked) = (self.gateway.get(), Arc::clone(spend));
        let read = self.run(move || lock(&asked).answer(&gateway, &answer)).await;
        let progress = read.map_err(|_| Failed::Lost)?.map_err(|error| {
            // An epoch that is not known here, most likely.
            self.stale.notify_one();
            self.complain(&error.to_string());
            Failed::Lost
        })?;
        match &progress {
            Progress::Refused(problem) => self.note_refusal(*problem),
            _ => self.set_refused(None),
        }
        Ok(progress)
    }

    fn set_refused(&self, refused: Option<Instant>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// Tells the operator of a refusal that no caller is to blame for.
    pub(super) fn note_refusal(&self, problem: ClearingProblem) {
        if problem.is_of_gateway() {
            self.set_refused(Some(Instant::now()));
            self.stale.notify_one();
        }
        // A caller may ask for what there is not, or is not any more.
        let asked = matches!(problem, ClearingProblem::NoSpend | ClearingProblem::Erased);
        if problem.fault() == Fault::Operator && !may_pass(problem) && !asked {
            self.complain(problem.as_str());
        }
    }
}

/// Whether it is the gateway that is refused, whatever it asks.
pub(super) fn refuses_gateway(progress: &Progress) -> bool {
    matches!(progress, Progress::Refused(problem) if problem.is_of_gateway())
}

/// Whether the same request may be answered otherwise before long.
pub(super) fn may_pass(problem: ClearingProblem) -> bool {
    matches!(
        problem,
        ClearingProblem::Spend(Problem::Busy | Problem::StoreUnavailable) | ClearingProblem::NoIssuingEpoch
    )
}
