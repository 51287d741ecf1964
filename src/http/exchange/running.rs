//! The work that is going on in this process, by spend, so that a cancel can stop it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::protocol::SpendKey;

/// How long a cancel waits for work to stop and to be settled, a few tries included. After that it is in progress still.
const STOPPING: Duration = Duration::from_secs(20);

/// Which task works on which spend, or is about to. Several may be entered for one spend: all but one of them find that another has it.
#[derive(Default)]
pub(super) struct Running(Mutex<HashMap<SpendKey, Arc<watch::Sender<bool>>>>);

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
    fn table(&self) -> MutexGuard<'_, HashMap<SpendKey, Arc<watch::Sender<bool>>>> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(self: &Arc<Self>, key: SpendKey) -> Entry {
        let stop = self.table().entry(key).or_insert_with(|| Arc::new(watch::channel(false).0)).subscribe();
        Entry { running: Arc::clone(self), key, stop: Some(stop) }
    }

    /// Tells the task that works on a spend to stop. None if nobody does.
    pub(super) fn stop(&self, key: &SpendKey) -> Option<Stopping> {
        let work = Arc::clone(self.table().get(key)?);
        work.send_replace(true);
        Some(Stopping(work))
    }

    /// The same, and waits for a while until nobody works on it any more.
    pub(super) async fn stop_and_wait(&self, key: &SpendKey) {
        if let Some(stopping) = self.stop(key) {
            let _ = timeout(STOPPING, stopping.ended()).await;
        }
    }
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
        if table.get(&self.key).is_some_and(|work| work.receiver_count() == 0) {
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
