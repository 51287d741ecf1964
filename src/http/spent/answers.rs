//! Answers of which many ask: read once for all that ask while nobody reads yet, and kept as long as nothing was spent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::protocol::{EpochNumber, Prefix};
use crate::store::StoreError;
use crate::workers::{TaskPool, WorkError};

/// Most bytes that are kept: 32 MiB.
const KEPT: usize = 32 << 20;

/// What is asked: how many there are, or those of a prefix.
pub(super) type Question = (EpochNumber, Option<Prefix>);
/// An answer, which may go to many.
pub(super) type Answer = Result<Told, Arc<StoreError>>;

#[derive(Clone)]
pub(super) enum Told {
    /// So many are in the partition.
    Count(u64),
    /// The whole body.
    Pages(Bytes),
    /// There are more than an answer that is made at once may have; so many by estimate.
    Many(u64),
}

/// The questions that wait, and the bodies that are kept.
#[derive(Default)]
pub(super) struct Answers {
    waiting: Mutex<HashMap<Question, Vec<oneshot::Sender<Answer>>>>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// With the number of records that the partition had before it was read: none leaves while the partition is live, so that
    /// the same number means the same records.
    bodies: HashMap<(EpochNumber, Prefix), (u64, Bytes)>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under the locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answers {
    /// Asks, together with all that ask the same while `read` waits for its turn. It begins after each of them came, so that
    /// each is told of everything that was spent before it asked.
    pub(super) async fn ask(
        self: &Arc<Self>,
        workers: &TaskPool,
        question: Question,
        read: impl FnOnce() -> Result<Told, StoreError> + Send + 'static,
    ) -> Result<Answer, WorkError> {
        let (reply, answer) = oneshot::channel();
        let first = {
            let mut waiting = lock(&self.waiting);
            let asking = waiting.entry(question).or_default();
            asking.push(reply);
            asking.len() == 1
        };
        if first {
            let answers = Arc::clone(self);
            let left = workers.leave(move || {
                let asking = lock(&answers.waiting).remove(&question).unwrap_or_default();
                let answer = read().map_err(Arc::new);
                asking.into_iter().for_each(|reply| drop(reply.send(answer.clone())));
            });
            if let Err(error) = left {
                // Nobody will read for those who came meanwhile either: they see that the sender is gone.
                lock(&self.waiting).remove(&question);
                return Err(error);
            }
        }
        answer.await.map_err(|_| WorkError::Busy)
    }

    /// The body for a prefix of a partition that has so many records.
    pub(super) fn kept(&self, epoch: EpochNumber, prefix: Prefix, count: u64) -> Option<Bytes> {
        let kept = lock(&self.kept);
        kept.bodies.get(&(epoch, prefix)).filter(|(of, _)| *of == count).map(|(_, body)| body.clone())
    }

    /// Keeps a body that was read after the partition was found to have so many records.
    pub(super) fn keep(&self, epoch: EpochNumber, prefix: Prefix, count: u64, body: &Bytes) {
        let mut kept = lock(&self.kept);
        if kept.bytes.saturating_add(body.len()) > KEPT {
            *kept = Kept::default();
        }
        kept.bytes += body.len();
        if let Some((_, old)) = kept.bodies.insert((epoch, prefix), (count, body.clone())) {
            kept.bytes -= old.len().min(kept.bytes);
        }
    }
}
