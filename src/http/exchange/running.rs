//! The work that is going on in this process, by spend, so that a cancel can stop it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::http::problem::ProblemDetails;
use crate::protocol::{Problem, SpendKey};

/// How long a cancel waits for work to stop and to be settled, a few tries included. After that it is in progress still.
const STOPPING: Duration = Duration::from_secs(20);

/// Which task works on which spend, or is about to. Several may be entered for one spend: all but one of them find that another has it.
#[derive(Default)]
pub(super) struct Running(Mutex<HashMap<SpendKey, Work>>);

struct Work {
    stop: Arc<watch::Sender<bool>>,
    since: Instant,
}

/// After so many seconds a spend is asked for again that nobody works on here: another process does, or one did that died, and what it
/// left is settled within seconds.
const UNKNOWN_HERE: u32 = 5;
/// The longest time that a caller is told to wait for work that goes on, seconds.
const LONGEST_WAIT: u64 = 30;

/// The place of somebody who works on a spend, or may come to, from before it is admitted until after it is settled.
pub(super) struct Entry {
    running: Arc<Running>,
    key: SpendKey,
    /// Taken when it is dropped.
    stop: Option<watch::Receiver<bool>>,
}

/// Work that was told to stop.
pub(super) struct Stopping(Arc<watch::Sender<bool>>);

impl Running {
    fn table(&self) -> MutexGuard<'_, HashMap<SpendKey, Work>> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(self: &Arc<Self>, key: SpendKey) -> Entry {
        let begin = || Work { stop: Arc::new(watch::channel(false).0), since: Instant::now() };
        let stop = self.table().entry(key).or_insert_with(begin).stop.subscribe();
        Entry { running: Arc::clone(self), key, stop: Some(stop) }
    }

    /// Tells the task that works on a spend to stop. None if nobody does.
    pub(super) fn stop(&self, key: &SpendKey) -> Option<Stopping> {
        let work = Arc::clone(&self.table().get(key)?.stop);
        work.send_replace(true);
        Some(Stopping(work))
    }

    /// The same problem; one that says that a spend is in progress also says when to ask again: after half of the time for which it is
    /// worked on already. So a short call is asked for soon, and a long one not often.
    pub(super) fn timed(&self, problem: ProblemDetails, key: &SpendKey) -> ProblemDetails {
        if problem.kind() != Some(Problem::InProgress) {
            return problem;
        }
        let since = self.table().get(key).map(|work| work.since);
        problem.after(since.map_or(UNKNOWN_HERE, |since| pause(since.elapsed())))
    }

    /// The same, and waits for a while until nobody works on it any more.
    pub(super) async fn stop_and_wait(&self, key: &SpendKey) {
        if let Some(stopping) = self.stop(key) {
            let _ = timeout(STOPPING, stopping.ended()).await;
        }
    }
}

fn pause(so_far: Duration) -> u32 {
    u32::try_from((so_far.as_secs() / 2).clamp(1, LONGEST_WAIT)).unwrap_or(1)
}

impl Stopping {
    /// Waits until nobody works on the spend any more.
    pub(super) async fn ended(self) {
        self.0.closed().await;
    }
}

impl Entry {
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| *stop.borrow())
    }

    /// Waits until the work is to stop; perhaps for ever.
    pub(super) async fn stopped(&self) {
        if let Some(mut stop) = self.stop.clone() {
            // The sender is in the table as long as this entry is.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut table = self.running.table();
        // Under the lock, so that nobody enters between the last one leaving and the end of it.
        drop(self.stop.take());
        if table.get(&self.key).is_some_and(|work| work.stop.receiver_count() == 0) {
            table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::circuits::note::{ContextHash, Nullifier};
    use crate::protocol::EpochNumber;

    fn key(context: u8) -> SpendKey {
        let nullifier = Option::from(Nullifier::from_bytes(&[1; 32])).unwrap();
        let context = Option::from(ContextHash::from_bytes(&[context; 32])).unwrap();
        SpendKey { epoch: EpochNumber::new(1), nullifier, context }
    }

    #[tokio::test]
    async fn work_is_stopped_and_waited_for() {
        let running = Arc::new(Running::default());
        let (one, other, elsewhere) = (running.enter(key(1)), running.enter(key(1)), running.enter(key(2)));
        assert!(running.stop(&key(3)).is_none());
        let stopping = running.stop(&key(1)).unwrap();
        one.stopped().await;
        assert!(one.is_stopped() && other.is_stopped() && !elsewhere.is_stopped());
        drop(one);
        let ended = tokio::spawn(stopping.ended());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!ended.is_finished());
        drop(other);
        ended.await.unwrap();
        assert_eq!(running.table().len(), 1);
        drop(elsewhere);
        assert!(running.table().is_empty());
    }

    #[tokio::test]
    async fn the_longer_work_goes_on_the_later_it_is_asked_for() {
        for (so_far, told) in [(0, 1), (3, 1), (8, 4), (60, 30), (4_000, 30)] {
            assert_eq!(pause(Duration::from_secs(so_far)), told, "{so_far}");
        }
        let running = Arc::new(Running::default());
        let in_progress = || ProblemDetails::new(Problem::InProgress, "x");
        assert_eq!(running.timed(in_progress(), &key(1)).retry_after, Some(UNKNOWN_HERE), "nobody works on it here");
        let _entry = running.enter(key(1));
        assert_eq!(running.timed(in_progress(), &key(1)).retry_after, Some(1));
        let other = ProblemDetails::new(Problem::DoubleSpend, "x");
        assert_eq!(running.timed(other, &key(1)).retry_after, None, "no other problem passes with time");
    }

    #[tokio::test]
    async fn a_hang_up_while_waiting_leaves_nothing_in_the_table() {
        let running = Arc::new(Running::default());
        let entry = running.enter(key(1));
        let waiting = async { entry.stopped().await };
        assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
        drop(entry);
        assert!(running.table().is_empty());
        // A later spend of the same key is not stopped by what came before.
        let stopping = {
            let entry = running.enter(key(1));
            running.stop(&entry.key)
        };
        assert!(!running.enter(key(1)).is_stopped());
        stopping.unwrap().ended().await;
    }
}
