//! Counting what a gateway tells.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;

use super::latency::{Latencies, Latency};
use crate::http::observer::{NoObserver, Observer};
use crate::http::upstream::UpstreamError;
use crate::lifecycle::Evidence;
use crate::protocol::Problem;
use crate::upkeep::{UpkeepError, UpkeepReport};

/// An observer that counts, and passes on what it is told. What it keeps are sums over all callers.
pub struct Tally {
    next: Arc<dyn Observer>,
    admitted: AtomicU64,
    verified: AtomicU64,
    verify_micros: AtomicU64,
    double_spends: AtomicU64,
    conflicts: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    upstream: Mutex<BTreeMap<&'static str, u64>>,
    issuer: Mutex<(u64, String)>,
    upkeep: Mutex<UpkeepTally>,
    admissions: Latency,
    calls: Latency,
    batches: Latency,
}

/// The kinds of failures of the service behind.
pub(super) const UPSTREAM_FAILURES: [&str; 6] = ["unreachable", "target", "timeout", "broken", "too-long", "service"];

/// What upkeep did, and how it stands.
#[derive(Clone, Debug, Default)]
pub(super) struct UpkeepTally {
    pub(super) rounds: u64,
    pub(super) settled: u64,
    pub(super) erased: u64,
    pub(super) failures: u64,
    /// Of the last round, in words.
    pub(super) warnings: Vec<String>,
}

impl core::fmt::Debug for Tally {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tally").field("admitted", &self.admitted).finish_non_exhaustive()
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new(Arc::new(NoObserver))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    /// Counts from 0, and passes on to `next`.
    pub fn new(next: Arc<dyn Observer>) -> Self {
        Self {
            next,
            admitted: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            verify_micros: AtomicU64::new(0),
            double_spends: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            refused: Mutex::default(),
            upstream: Mutex::default(),
            issuer: Mutex::default(),
            upkeep: Mutex::default(),
            admissions: Latency::default(),
            calls: Latency::default(),
            batches: Latency::default(),
        }
    }

    /// Calls that were admitted.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Spends that were verified, and how long that took all threads together.
    pub fn verified(&self) -> (u64, Duration) {
        let micros = self.verify_micros.load(Ordering::Relaxed);
        (self.verified.load(Ordering::Relaxed), Duration::from_micros(micros))
    }

    /// Notes that were found to be spent twice, counted each time.
    pub fn double_spends(&self) -> u64 {
        self.double_spends.load(Ordering::Relaxed)
    }

    /// Spends that were refused because another one of their note came first, named or not.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Requests that were refused, by the name of the problem; by `http-` and the status where it is none of the protocol's.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.refused).clone()
    }

    /// How often the service did not answer, by kind: `unreachable`, `target`, `timeout`, `broken`, `too-long`, `service`.
    pub fn upstream_failures(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.upstream).clone()
    }

    /// How often an issuer elsewhere did not answer or answered what was not taken, and why the last time.
    pub fn issuer_failures(&self) -> (u64, String) {
        lock(&self.issuer).clone()
    }

    /// How long admissions, calls, and verifications of batches took.
    pub(super) fn latencies(&self) -> [Latencies; 3] {
        [&self.admissions, &self.calls, &self.batches].map(Latency::read)
    }

    pub(super) fn upkeep(&self) -> UpkeepTally {
        lock(&self.upkeep).clone()
    }
}

impl Observer for Tally {
    fn admitted(&self) {
        self.admitted.fetch_add(1, Ordering::Relaxed);
        self.next.admitted();
    }

    fn admission_took(&self, took: Duration) {
        self.admissions.note(took);
        self.next.admission_took(took);
    }

    fn call_took(&self, took: Duration) {
        self.calls.note(took);
        self.next.call_took(took);
    }

    fn refused(&self, problem: Option<Problem>, status: StatusCode) {
        let name = problem.map_or_else(|| name_of(status), Problem::as_str);
        *lock(&self.refused).entry(name).or_default() += 1;
        self.next.refused(problem, status);
    }

    fn verified(&self, spends: usize, elapsed: Duration) {
        self.verified.fetch_add(spends as u64, Ordering::Relaxed);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.verify_micros.fetch_add(micros, Ordering::Relaxed);
        self.batches.note(elapsed);
        self.next.verified(spends, elapsed);
    }

    fn upstream_failed(&self, error: &UpstreamError) {
        let kind = match error {
            UpstreamError::Unreachable(_) => "unreachable",
            UpstreamError::Target => "target",
            UpstreamError::Timeout => "timeout",
            UpstreamError::Broken(_) => "broken",
            UpstreamError::TooLong(_) => "too-long",
            UpstreamError::Service(_) => "service",
        };
        *lock(&self.upstream).entry(kind).or_default() += 1;
        self.next.upstream_failed(error);
    }

    fn service_noticed(&self, notice: &str) {
        self.next.service_noticed(notice);
    }

    fn issuer_failed(&self, reason: &str) {
        {
            let mut issuer = lock(&self.issuer);
            issuer.0 += 1;
            reason.clone_into(&mut issuer.1);
        }
        self.next.issuer_failed(reason);
    }

    fn trouble(&self, trouble: Option<&str>) {
        self.next.trouble(trouble);
    }

    fn upkeep(&self, outcome: &Result<UpkeepReport, UpkeepError>) {
        let mut upkeep = lock(&self.upkeep);
        upkeep.rounds += 1;
        match outcome {
            Ok(report) => {
                upkeep.settled += report.settled;
                upkeep.erased += report.erased;
                upkeep.failures += report.failures.len() as u64;
                let standing =
                    report.standing.iter().map(|(epoch, why)| format!("epoch {epoch} is not retired: {why}"));
                upkeep.warnings = report.warnings.iter().map(ToString::to_string).chain(standing).collect();
            }
            Err(_) => upkeep.failures += 1,
        }
        drop(upkeep);
        self.next.upkeep(outcome);
    }

    fn conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
        self.next.conflict();
    }

    fn double_spend(&self, evidence: Evidence) {
        self.double_spends.fetch_add(1, Ordering::Relaxed);
        self.next.double_spend(evidence);
    }
}

/// As few names as there are kinds of refusals that a gateway makes of its own.
fn name_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "http-400",
        404 => "http-404",
        408 => "http-408",
        413 => "http-413",
        414 => "http-414",
        500 => "http-500",
        502 => "http-502",
        503 => "http-503",
        504 => "http-504",
        _ => "http-other",
    }
}
