//! What waits for the next commit. Written against `super::primitives`, so that it is tested under a scheduler of its own.

use std::collections::VecDeque;

use super::primitives::{Condvar, Mutex, MutexGuard};

/// A queue from many threads to one, which takes all that has arrived at once: what came while a commit was written is the next
/// commit.
pub(super) struct CommitQueue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> CommitQueue<T> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), closed: false }), arrived: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Adds an item, or gives it back when the queue is closed.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed {
            return Err(item);
        }
        state.waiting.push_back(item);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for items and takes at most `limit` of them, in their order. None when the queue is closed and empty.
    pub(super) fn take(&self, limit: usize) -> Option<Vec<T>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self.arrived.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let count = state.waiting.len().min(limit);
        Some(state.waiting.drain(..count).collect())
    }

    /// Takes no more items. What waits can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Closes the queue and drops what waits.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // Outside the lock: to drop an item wakes the thread that waits for it.
        drop(waiting);
        self.arrived.notify_all();
    }
}
