//! Whether a connection is used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What a connection has been used for.
pub(super) struct Activity(Mutex<Use>);

struct Use {
    /// Requests that are worked on, their answers included.
    running: usize,
    /// Since when there is none.
    since: Instant,
    /// Whether there ever was one.
    ever: bool,
    /// Since when the head of a request is on its way.
    head: Option<Instant>,
}

/// How long a connection may have no request.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// Before its first one.
    pub(super) first: Duration,
    /// Between two.
    pub(super) between: Duration,
}

/// A request, until its answer is over.
pub(super) struct Running(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Use { running: 0, since: Instant::now(), ever: false, head: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Use> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(self: &Arc<Self>) -> Running {
        let mut used = self.lock();
        used.running += 1;
        used.ever = true;
        used.head = None;
        Running(Arc::clone(self))
    }

    /// Something came. Between two requests it is the beginning of the next one's head.
    pub(super) fn received(&self) {
        let mut used = self.lock();
        if used.running == 0 && used.ever {
            used.head.get_or_insert_with(Instant::now);
        }
    }

    /// Whether there ever was a request.
    pub(super) fn was_used(&self) -> bool {
        self.lock().ever
    }

    /// Whether there is one.
    pub(super) fn is_used(&self) -> bool {
        self.lock().running > 0
    }

    /// Waits until there was no request for so long.
    pub(super) async fn idle(&self, Times { first, between }: Times) {
        loop {
            let until = {
                let used = self.lock();
                match (used.running, used.ever) {
                    (0, false) => used.since + first,
                    (0, true) => match used.head {
                        Some(head) => (head + first).min(used.since + between),
                        None => used.since + between,
                    },
                    _ => Instant::now() + between,
                }
            };
            if until <= Instant::now() {
                return;
            }
            // A head that begins meanwhile may have to be here before that.
            sleep_until(until.min(Instant::now() + first)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut used = self.0.lock();
        used.running -= 1;
        (used.since, used.head) = (Instant::now(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(150);
    const BETWEEN: Duration = Duration::from_millis(300);
    const TIMES: Times = Times { first: FIRST, between: BETWEEN };

    #[tokio::test]
    async fn connections_idle_before_the_first_and_between_requests() {
        let activity = Arc::new(Activity::new());
        let begun = Instant::now();
        activity.idle(TIMES).await;
        assert!(begun.elapsed() >= FIRST);

        let activity = Arc::new(Activity::new());
        let (first, second) = (activity.begin(), activity.begin());
        let idle = tokio::time::timeout(3 * BETWEEN, activity.idle(TIMES)).await;
        assert!(idle.is_err(), "it is used");
        drop(first);
        assert!(tokio::time::timeout(2 * BETWEEN, activity.idle(TIMES)).await.is_err(), "and still is");
        drop(second);
        let over = Instant::now();
        activity.idle(TIMES).await;
        assert!(over.elapsed() >= BETWEEN);
    }

    #[tokio::test]
    async fn a_head_that_begins_must_end_sooner_than_idleness() {
        const LONG: Times = Times { first: FIRST, between: Duration::from_secs(60) };
        let activity = Arc::new(Activity::new());
        drop(activity.begin());
        assert!(tokio::time::timeout(3 * FIRST, activity.idle(LONG)).await.is_err(), "idle it may be");
        activity.received();
        assert!(tokio::time::timeout(10 * FIRST, activity.idle(LONG)).await.is_ok(), "slow it may not");
    }
}
