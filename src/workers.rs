//! Threads for work that takes milliseconds of a core: proving and verifying. Async tasks hand it over and wait without
//! blocking anything.
//!
//! Work is batched by nature: what arrived while a batch was being worked on is the next batch. A lone item waits for nothing,
//! and a crowd is worked on together, without a timer or a batch size to tune.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use tokio::sync::oneshot;

/// How many threads, and how much they take on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Number of threads; each is one core's worth of work. At least 1.
    pub threads: usize,
    /// How many items may wait. One more is refused with [`WorkError::Busy`].
    pub queue: usize,
    /// How many items are worked on together. At least 1.
    pub batch: usize,
}

/// Why an item was not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The queue is full. Try again later.
    #[error("too much is waiting already")]
    Busy,
    /// The workers are shutting down, or the work on this item's batch panicked.
    #[error("the workers gave the work up")]
    Gone,
}

/// A pool of worker threads that turn batches of `I` into as many `O`.
///
/// Each thread has a rayon pool of one thread, so that what it calls does not spread over the machine: work is parallel across
/// items, never inside one. When the pool is dropped, the threads finish what waits and end; nobody waits for them.
pub struct WorkerPool<I, O> {
    shared: Arc<Crew<I, O>>,
}

struct Crew<I, O> {
    state: Mutex<State<I, O>>,
    arrived: Condvar,
    limits: WorkerLimits,
}

struct State<I, O> {
    queue: VecDeque<Job<I, O>>,
    /// What is worked on by itself: in a batch its neighbours would pay for it.
    alone: VecDeque<Job<I, O>>,
    /// Whether one of `alone` has its turn.
    turn: bool,
    closed: bool,
}

struct Job<I, O> {
    item: I,
    reply: oneshot::Sender<O>,
}

impl<I: Send + 'static, O: Send + 'static> WorkerPool<I, O> {
    /// Starts the threads. `work` gets a batch and returns one result per item, in order.
    ///
    /// # Errors
    /// The system's, if a thread cannot be started.
    pub fn start(
        name: &str,
        limits: WorkerLimits,
        work: impl Fn(Vec<I>) -> Vec<O> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Crew {
            state: Mutex::new(State { queue: VecDeque::new(), alone: VecDeque::new(), turn: false, closed: false }),
            arrived: Condvar::new(),
            limits,
        });
        let workers = Self { shared };
        let work = Arc::new(work);
        for index in 0..limits.threads.max(1) {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(1)
                .thread_name(move |_| format!("rayon-{index}"))
                .build()
                .map_err(io::Error::other)?;
            let (shared, work) = (Arc::clone(&workers.shared), Arc::clone(&work));
            let run = move || shared.run(|batch| pool.install(|| work(batch)));
            Builder::new().name(format!("{name}-{index}")).spawn(run)?;
        }
        Ok(workers)
    }

    /// Has `item` worked on, together with others that wait.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn submit(&self, item: I) -> Result<O, WorkError> {
        self.enqueue(item, false)?.await.map_err(|_| WorkError::Gone)
    }

    /// Has `item` worked on by itself. One such item has its turn after each batch, however many there are, so that the others
    /// lose no more than that; a quarter of the queue's length may wait.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn submit_alone(&self, item: I) -> Result<O, WorkError> {
        self.enqueue(item, true)?.await.map_err(|_| WorkError::Gone)
    }

    /// How many items wait.
    pub fn waiting(&self) -> usize {
        let state = self.shared.lock();
        state.queue.len() + state.alone.len()
    }

    fn enqueue(&self, item: I, alone: bool) -> Result<oneshot::Receiver<O>, WorkError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue_for(reply, item, alone).map_err(|(error, _)| error)?;
        Ok(answer)
    }

    /// As [`submit`](Self::submit) or [`submit_alone`](Self::submit_alone), answered by a channel that is there already. It is
    /// given back with an error.
    pub(crate) fn enqueue_for(
        &self,
        reply: oneshot::Sender<O>,
        item: I,
        alone: bool,
    ) -> Result<(), (WorkError, oneshot::Sender<O>)> {
        let limit = self.shared.limits.queue;
        let mut state = self.shared.lock();
        if state.closed {
            return Err((WorkError::Gone, reply));
        }
        let (queue, limit) = if alone { (&mut state.alone, limit.div_ceil(4)) } else { (&mut state.queue, limit) };
        if queue.len() >= limit {
            return Err((WorkError::Busy, reply));
        }
        queue.push_back(Job { item, reply });
        drop(state);
        self.shared.arrived.notify_one();
        Ok(())
    }
}

impl<I, O> Crew<I, O> {
    /// A panic cannot happen while the lock is held: nothing that is foreign runs under it.
    fn lock(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, work: impl Fn(Vec<I>) -> Vec<O>) {
        while let Some(batch) = self.next_batch() {
            // A caller that hung up does not want the result, but a spend that was sent must still be decided on: so no
            // item is left out because its reply is closed.
            let (items, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|job| (job.item, job.reply)).unzip();
            // A panic is a bug in `work`. It costs its own batch an answer (the replies are dropped), not the gateway its life.
            if let Ok(results) = catch_unwind(AssertUnwindSafe(|| work(items))) {
                for (reply, result) in replies.into_iter().zip(results) {
                    let _ = reply.send(result);
                }
            }
        }
    }

    /// Waits for work. `None` once the pool is closed and nothing waits.
    fn next_batch(&self) -> Option<Vec<Job<I, O>>> {
        let mut state = self.lock();
        loop {
            let waiting = state.queue.len();
            if (state.turn || waiting == 0)
                && let Some(job) = state.alone.pop_front()
            {
                state.turn = false;
                return Some(vec![job]);
            }
            if waiting > 0 {
                state.turn = true;
                // A fair part: another free thread would wait for what one thread took.
                let part = waiting.div_ceil(self.limits.threads.max(1)).min(self.limits.batch.max(1));
                return Some(state.queue.drain(..part).collect());
            }
            if state.closed {
                return None;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<I, O> Drop for WorkerPool<I, O> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_all();
    }
}

impl<I, O> core::fmt::Debug for WorkerPool<I, O> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WorkerPool").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

/// A pool for short work that may block: a look into the spent set, a signature.
#[derive(Debug)]
pub struct TaskPool(WorkerPool<Task, ()>);

type Task = Box<dyn FnOnce() + Send>;

impl TaskPool {
    /// Starts `threads` threads; at most `queue` tasks wait.
    ///
    /// # Errors
    /// The system's, if a thread cannot be started.
    pub fn start(name: &str, threads: usize, queue: usize) -> io::Result<Self> {
        let run = |tasks: Vec<Task>| tasks.into_iter().map(|task| task()).collect();
        WorkerPool::start(name, WorkerLimits { threads, queue, batch: 1 }, run).map(Self)
    }

    /// How many tasks wait.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }

    /// Runs `task` on one of the threads, some time. Nobody waits for it.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn leave(&self, task: impl FnOnce() + Send + 'static) -> Result<(), WorkError> {
        self.0.enqueue(Box::new(task), false).map(drop)
    }

    /// Runs `task` on one of the threads. It runs even if nobody waits for it any more.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> Result<T, WorkError> {
        let (reply, answer) = oneshot::channel();
        let task = move || {
            let _ = reply.send(task());
        };
        let done = self.0.enqueue(Box::new(task), false)?;
        let result = answer.await.map_err(|_| WorkError::Gone);
        drop(done);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    type Gated = (Arc<WorkerPool<u32, u32>>, mpsc::Receiver<Vec<u32>>, mpsc::Sender<()>);

    const LIMITS: WorkerLimits = WorkerLimits { threads: 1, queue: 3, batch: 8 };

    /// Workers that report each batch and wait for a go-ahead.
    fn gated(limits: WorkerLimits) -> Gated {
        let (report, batches) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        let work = move |batch: Vec<u32>| {
            report.send(batch.clone()).unwrap();
            gate.lock().unwrap().recv().unwrap();
            batch.into_iter().map(|n| n * 2).collect()
        };
        (Arc::new(WorkerPool::start("test", limits, work).unwrap()), batches, go)
    }

    fn spawn(workers: &Arc<WorkerPool<u32, u32>>, item: u32) -> oneshot::Receiver<u32> {
        workers.enqueue(item, false).unwrap()
    }

    #[test]
    fn what_arrives_meanwhile_is_the_next_batch() {
        let (workers, batches, go) = gated(LIMITS);
        let first = spawn(&workers, 1);
        assert_eq!(batches.recv().unwrap(), [1]);
        let rest = [spawn(&workers, 2), spawn(&workers, 3), spawn(&workers, 4)];
        assert_eq!(workers.enqueue(5, false).err(), Some(WorkError::Busy));
        go.send(()).unwrap();
        assert_eq!(first.blocking_recv(), Ok(2));
        assert_eq!(batches.recv().unwrap(), [2, 3, 4]);
        go.send(()).unwrap();
        assert_eq!(rest.map(|r| r.blocking_recv().unwrap()), [4, 6, 8]);
    }

    #[test]
    fn the_suspect_is_worked_on_alone_and_in_turn() {
        let (workers, batches, go) = gated(WorkerLimits { queue: 8, ..LIMITS });
        let _first = spawn(&workers, 1);
        batches.recv().unwrap();
        let _good = [spawn(&workers, 2), spawn(&workers, 3)];
        let _bad = [workers.enqueue(10, true).unwrap(), workers.enqueue(11, true).unwrap()];
        assert_eq!(workers.enqueue(12, true).err(), Some(WorkError::Busy), "a quarter of the queue");
        let _late = spawn(&workers, 4);
        // One after each batch: after the first, after the others, and when nothing else waits.
        for expected in [&[10][..], &[2, 3, 4], &[11]] {
            go.send(()).unwrap();
            assert_eq!(batches.recv().unwrap(), expected);
        }
        go.send(()).unwrap();
    }

    #[test]
    fn two_threads_share_what_waits() {
        let (workers, batches, go) = gated(WorkerLimits { threads: 2, queue: 8, batch: 8 });
        let _busy = [spawn(&workers, 1), spawn(&workers, 2)];
        let first: Vec<_> = (0..2).flat_map(|_| batches.recv().unwrap()).collect();
        assert_eq!(first.len(), 2);
        let _rest: Vec<_> = (3..9).map(|n| spawn(&workers, n)).collect();
        go.send(()).unwrap();
        assert_eq!(batches.recv().unwrap(), [3, 4, 5]);
        (0..4).for_each(|_| go.send(()).unwrap());
    }

    #[test]
    fn a_panic_costs_its_batch_and_no_more() {
        let work = |batch: Vec<u32>| batch.into_iter().map(|n| 10 / n).collect();
        let workers: WorkerPool<u32, u32> = WorkerPool::start("test", LIMITS, work).unwrap();
        let wait = |item| workers.enqueue(item, false).unwrap().blocking_recv();
        assert!(wait(0).is_err());
        assert_eq!(wait(5), Ok(2));
    }

    #[test]
    fn dropping_finishes_what_waits() {
        let workers: WorkerPool<u32, u32> = WorkerPool::start("test", LIMITS, |batch| batch).unwrap();
        let answer = workers.enqueue(7, false).unwrap();
        drop(workers);
        assert_eq!(answer.blocking_recv(), Ok(7));
    }
}
