//! What a store over PostgreSQL has done so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the round-trip histogram, microseconds; the last one is without.
const BOUNDS: [u64; 11] = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 512_000, 2_000_000];

/// Counters, from the store's start.
#[derive(Debug, Default)]
pub(super) struct Meters {
    trips: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
    pub(super) batches: AtomicU64,
    pub(super) batched: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) doubts: AtomicU64,
    pub(super) resolved: AtomicU64,
    pub(super) unresolved: AtomicU64,
    pub(super) connections: AtomicU64,
}

/// What a store over PostgreSQL has done since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresFigures {
    /// Connections that are open.
    pub pool_size: usize,
    /// Of them, those that nothing uses.
    pub pool_idle: usize,
    /// How many may be open.
    pub pool_limit: usize,
    /// Connections made.
    pub connections: u64,
    /// Round trips of statements.
    pub round_trips: u64,
    /// The time that they took together.
    pub round_trip_time: Duration,
    /// How many took at most so long, for ascending bounds; the last bound is none.
    pub round_trip_histogram: Vec<(Option<Duration>, u64)>,
    /// Batches of insertions and settlements.
    pub batches: u64,
    /// What was in them together.
    pub batched: u64,
    /// Statements repeated after a conflict.
    pub retries: u64,
    /// Commits whose outcome was unknown.
    pub doubts: u64,
    /// Of them, those that were resolved by reading.
    pub doubts_resolved: u64,
    /// Of them, those that were answered as errors.
    pub doubts_unresolved: u64,
    /// Lines of commits of other processes that this one watches.
    pub watched: usize,
}

impl Meters {
    pub(super) fn trip(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.trips.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> PostgresFigures {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut sum = 0;
        let histogram = self.buckets.iter().enumerate().map(|(i, count)| {
            sum += get(count);
            (BOUNDS.get(i).map(|bound| Duration::from_micros(*bound)), sum)
        });
        PostgresFigures {
            connections: get(&self.connections),
            round_trips: get(&self.trips),
            round_trip_time: Duration::from_micros(get(&self.micros)),
            round_trip_histogram: histogram.collect(),
            batches: get(&self.batches),
            batched: get(&self.batched),
            retries: get(&self.retries),
            doubts: get(&self.doubts),
            doubts_resolved: get(&self.resolved),
            doubts_unresolved: get(&self.unresolved),
            ..PostgresFigures::default()
        }
    }
}
