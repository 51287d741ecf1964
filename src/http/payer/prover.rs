//! Proofs, made ahead.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tokio::task::JoinSet;

use super::events::Event;
use super::shared::Shared;
use crate::protocol::{Credits, Timestamp};
use crate::wallet::{Journal, LaneId, PlanError, ProofJob, ProvingKeys, ReadySpend, Wallet};
use crate::workers::{WorkError, WorkerLimits, WorkerPool};

/// How often proofs are looked over for those of a window that is past, at least; as long again is added by chance. A call that
/// finds no proof does not wait for it.
const LOOK_OVER: Duration = Duration::from_secs(15);
/// Jobs that may wait besides those that are worked on: both halves of a transfer.
const WAITING: usize = 4;

/// Threads that prove, each one proof at a time.
pub(super) struct Provers {
    pool: WorkerPool<ProofJob, Option<Proved>>,
    stopping: Arc<AtomicBool>,
}

/// A proof, and how long it took.
pub(super) struct Proved {
    pub(super) ready: ReadySpend,
    pub(super) took: Duration,
}

impl Provers {
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (keys, stop) = (ProvingKeys::new(), Arc::clone(&stopping));
        let prove = move |job: ProofJob| {
            // Nobody wants it any more.
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let key = keys.of(&job.epoch_key());
            let started = Instant::now();
            let ready = job.prove(&key, &mut rand::rng()).ok()?;
            Some(Proved { ready, took: started.elapsed() })
        };
        let limits = WorkerLimits { threads, queue: threads.max(1) + WAITING, batch: 1 };
        let pool = WorkerPool::start("prove", limits, move |jobs: Vec<ProofJob>| {
            lower_priority();
            jobs.into_iter().map(&prove).collect()
        })?;
        Ok(Self { pool, stopping })
    }

    /// Makes a proof. None if it could not be made.
    pub(super) async fn prove(&self, job: ProofJob) -> Option<Proved> {
        self.pool.submit(job).await.unwrap_or_else(|_: WorkError| None)
    }

    /// What is being proved is finished, in some tenth of a second, and thrown away; nothing else is begun.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Gives way to whatever else the machine does, calls among it. On Linux a thread has a priority of its own, which it can lower
/// without privileges; elsewhere it would be the whole process's, or is left to the system.
fn lower_priority() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use thread_priority::{ThreadPriority, set_current_thread_priority};
        thread_local! {
            // Whether it worked does not matter: proofs are made either way.
            static LOWERED: bool = set_current_thread_priority(ThreadPriority::Min).is_ok();
        }
        LOWERED.with(|_| {});
    }
}

/// What could be planned.
struct Plan {
    jobs: Vec<ProofJob>,
    /// The directory does not let any proof be made.
    unlisted: bool,
}

impl<J: Journal + 'static> Shared<J> {
    /// Plans for lanes in an order of chance; at most `most`.
    fn plan(&self, wallet: &Wallet<J>, most: usize) -> Plan {
        let mut plan = Plan { jobs: Vec::new(), unlisted: !self.has_class(wallet.directory()) };
        let (classes, awaited) = self.classes_to_prove(wallet);
        let kept = usize::try_from(self.policy.ready).unwrap_or(usize::MAX).max(1);
        // Each class has its share; the one that a call waits for has all it wants.
        let share = (kept / classes.len().max(1)).max(1);
        let (mut order, rest): (Vec<Credits>, Vec<Credits>) =
            classes.into_iter().partition(|class| awaited == Some(*class));
        order.extend(rest);
        for class in order {
            let kept = if awaited == Some(class) { kept } else { share };
            self.plan_class(wallet, class, (most, kept), &mut plan);
        }
        plan
    }

    fn plan_class(&self, wallet: &Wallet<J>, class: Credits, (most, kept): (usize, usize), plan: &mut Plan) {
        let now = self.clock.now();
        let ready = wallet.ready(&self.gateway, class, now);
        let mut lanes = wallet.lanes_to_prove(&self.gateway, class, now);
        let proving = self.proving();
        // What is being proved may be for another class; then more are made a little later.
        let mut left = most.saturating_sub(plan.jobs.len()).min(kept.saturating_sub(ready + proving.len()));
        lanes.retain(|lane| !proving.contains(lane));
        drop(proving);
        let mut rng = rand::rng();
        while left > 0 && !lanes.is_empty() {
            let lane = lanes.swap_remove(rng.random_range(0..lanes.len()));
            match wallet.plan(lane, &self.gateway, class, now) {
                Ok(job) => {
                    self.proving().insert(lane);
                    plan.jobs.push(job);
                    left -= 1;
                }
                Err(PlanError::UnknownGateway(_) | PlanError::UnknownClass(_) | PlanError::NoTariff) => {
                    plan.unlisted = true;
                    break;
                }
                // Nothing is wrong with the others.
                Err(_) => {}
            }
        }
    }

    /// Makes the proof of a job whose lane is among those that are proved for.
    async fn prove_ahead(self: Arc<Self>, lane: LaneId, job: ProofJob) {
        let _proving = Proving { shared: Arc::clone(&self), lane };
        let Some(Proved { ready, took }) = self.provers.prove(job).await else {
            self.state().prover_failed = true;
            self.tell(&Event::ProverFailed);
            return;
        };
        self.proof_took(took);
        let shared = Arc::clone(&self);
        let kept = self.keeper.run(move |wallet| {
            wallet.keep(ready);
            shared.state().prover_failed = false;
        });
        if kept.await.is_ok() {
            self.tell(&Event::ProofReady { lane, took });
        }
    }
}

/// A lane that is proved for.
pub(super) struct Proving<J: Journal + 'static> {
    pub(super) shared: Arc<Shared<J>>,
    pub(super) lane: LaneId,
}

impl<J: Journal + 'static> Drop for Proving<J> {
    fn drop(&mut self) {
        self.shared.proving().remove(&self.lane);
        self.shared.changed.notify_waiters();
    }
}

/// Keeps every prover busy while there is a lane without a proof.
pub(super) async fn run<J: Journal + 'static>(shared: Arc<Shared<J>>) {
    let provers = usize::try_from(shared.policy.provers).unwrap_or(1).max(1);
    // When this task ends, those end with it.
    let mut proofs = JoinSet::new();
    let mut window = None;
    let mut rest_until = Instant::now();
    loop {
        while proofs.try_join_next().is_some() {}
        let changed = shared.changed.notified();
        let now = shared.clock.now();
        let pool = Arc::clone(&shared);
        let looked = shared.keeper.ask(move |wallet| {
            let window = wallet.directory().grid().callers_not_after(now);
            (window, !pool.state().prover_failed && !pool.state().contradicted)
        });
        let Ok((current, able)) = looked.await else { return };
        // At a boundary all proofs are of the past, everywhere. They are made again some time after it, unless somebody waits.
        if window.replace(current).is_some_and(|last: Timestamp| last != current) {
            rest_until = Instant::now() + shared.jitter();
            let clock = shared.clock.clone();
            shared.keeper.leave(move |wallet| wallet.discard_stale(clock.now()));
        }
        let resting = Instant::now() < rest_until && shared.waiting() == 0;
        let free = provers.saturating_sub(shared.proving().len());
        if able && free > 0 && !resting {
            let planner = Arc::clone(&shared);
            let Ok(plan) = shared.keeper.run(move |wallet| planner.plan(wallet, free)).await else { return };
            if core::mem::replace(&mut shared.state().unlisted, plan.unlisted) != plan.unlisted {
                shared.changed.notify_waiters();
            }
            for job in plan.jobs {
                proofs.spawn(Arc::clone(&shared).prove_ahead(job.lane(), job));
            }
        }
        let rest = rest_until.saturating_duration_since(Instant::now());
        let pause = LOOK_OVER + Duration::from_millis(rand::rng().random_range(0..LOOK_OVER.as_millis() as u64));
        let pause = if resting { rest.min(pause) } else { pause };
        tokio::select! {
            () = changed => {}
            () = shared.wanted.notified() => {}
            () = tokio::time::sleep(pause) => {
                shared.state().prover_failed = false;
                let clock = shared.clock.clone();
                shared.keeper.leave(move |wallet| wallet.discard_stale(clock.now()));
            }
        }
    }
}
