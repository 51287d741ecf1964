//! What was passed on between replicas.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often something was passed on, from the start of the process. Sums over all callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCounts {
    /// Requests that were passed on to the replica that has their session, and answered.
    pub passed: u64,
    /// Requests that could not be passed on: the owner was gone, or did not answer.
    pub failed: u64,
    /// Requests that other replicas passed on to this one.
    pub taken: u64,
    /// Connections that were refused, as their key is no replica's.
    pub strangers: u64,
}

#[derive(Default)]
pub(super) struct Counts {
    passed: AtomicU64,
    failed: AtomicU64,
    taken: AtomicU64,
    strangers: AtomicU64,
}

impl Counts {
    pub(super) fn passed(&self, well: bool) {
        if well { &self.passed } else { &self.failed }.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stranger(&self) {
        self.strangers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> PeerCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (passed, failed) = (of(&self.passed), of(&self.failed));
        PeerCounts { passed, failed, taken: of(&self.taken), strangers: of(&self.strangers) }
    }
}
