//! Proofs, made ahead.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::Shared;
use crate::pipeline::{Limits, WorkerPool};
use crate::wallet::{Journal, LaneId, PlanError};

/// How often proofs are looked over for those of a window that is past, at least; as long again is added by chance, so that
/// wallets do not all begin to prove at one moment. A call that finds no proof does not wait for it.
const LOOK_OVER: Duration = Duration::from_secs(15);

/// How many times of proofs are kept.
const MOST_TIMES: usize = 1 << 16;

/// A lane to make a proof for.
pub(super) struct Proof<J> {
    shared: Arc<Shared<J>>,
    lane: LaneId,
}

pub(super) fn pool<J: Journal + 'static>(provers: usize) -> io::Result<WorkerPool<Proof<J>, ()>> {
    let limits = Limits { threads: provers, queue: provers.max(1), batch: 1 };
    WorkerPool::start("prove", limits, |proofs: Vec<Proof<J>>| proofs.into_iter().map(|proof| proof.make()).collect())
}

impl<J: Journal> Proof<J> {
    /// Plans under the wallet's lock, proves outside of it.
    fn make(self) {
        let Self { shared, lane } = self;
        let planned = shared.wallet().plan(lane, &shared.gateway, shared.class, shared.clock.now());
        let job = match planned {
            Ok(job) => job,
            // Its note was taken for a call meanwhile, or it has too little: nothing is wrong.
            Err(PlanError::InFlight(_) | PlanError::Balance(_) | PlanError::NotSpendable(_)) => {
                return shared.finished(lane);
            }
            Err(_) => return shared.failed(),
        };
        let key = shared.keys.of(&job.epoch_key());
        let started = Instant::now();
        match job.prove(&key, &mut rand::rng()) {
            Ok(ready) => {
                shared.took(started.elapsed());
                shared.wallet().keep(ready);
                shared.finished(lane);
            }
            Err(_) => shared.failed(),
        }
    }
}

impl<J> Shared<J> {
    fn took(&self, time: Duration) {
        let mut times = self.proof_times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == MOST_TIMES {
            times.pop_front();
        }
        times.push_back(time);
    }

    fn finished(&self, lane: LaneId) {
        self.proving().remove(&lane);
        self.changed.notify_waiters();
    }

    /// The lane is left among those that are proved for, so that it is not tried again at once.
    fn failed(&self) {
        self.prover_failed.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

impl<J: Journal> Shared<J> {
    /// The number of lanes that could have a proof and have none, being made ones included.
    pub(super) fn lanes_to_prove(&self) -> usize {
        self.wallet().lanes_to_prove(&self.gateway, self.class, self.clock.now()).len()
    }

    /// Lanes for which a proof should be begun, in an order of chance.
    fn next_lanes(&self) -> Vec<LaneId> {
        let mut lanes = self.wallet().lanes_to_prove(&self.gateway, self.class, self.clock.now());
        let proving = self.proving();
        lanes.retain(|lane| !proving.contains(lane));
        drop(proving);
        let mut rng = rand::rng();
        for last in (1..lanes.len()).rev() {
            lanes.swap(last, rng.random_range(..=last));
        }
        lanes
    }
}

/// Keeps every prover busy while there is a lane without a proof.
pub(super) async fn run<J: Journal + 'static>(shared: Arc<Shared<J>>, pool: WorkerPool<Proof<J>, ()>, provers: usize) {
    let pool = Arc::new(pool);
    loop {
        let changed = shared.changed.notified();
        for lane in shared.next_lanes() {
            // No more are begun than are worked on, so that the next is chosen as late as possible and little is lost at the end.
            if shared.proving().len() >= provers {
                break;
            }
            if !shared.proving().insert(lane) {
                continue;
            }
            let (pool, shared) = (Arc::clone(&pool), Arc::clone(&shared));
            tokio::spawn(async move {
                if pool.submit(Proof { shared: Arc::clone(&shared), lane }).await.is_err() {
                    shared.failed();
                }
            });
        }
        let pause = LOOK_OVER + Duration::from_millis(rand::rng().random_range(0..LOOK_OVER.as_millis() as u64));
        tokio::select! {
            () = changed => {}
            () = shared.wanted.notified() => {}
            () = tokio::time::sleep(pause) => {
                shared.wallet().discard_stale(shared.clock.now());
                if shared.prover_failed.swap(false, Ordering::Relaxed) {
                    shared.proving().clear();
                }
            }
        }
    }
}
