//! The observer: it is told what happens at a gateway.

use std::time::Duration;

use http::StatusCode;

use super::upstream::UpstreamError;
use crate::lifecycle::Evidence;
use crate::protocol::Problem;
use crate::upkeep::{UpkeepError, UpkeepReport};

/// Is told what happens at a gateway. Nothing that it is told may be logged with a time or address beside it, but for sums.
pub trait Observer: Send + Sync {
    /// A call was admitted, by a spend of its own or in a session: work for it begins.
    fn admitted(&self) {}

    /// From the request, read whole, to the admission of its spend it took so long: what the gateway adds to a call before the service.
    fn admission_took(&self, took: Duration) {
        let _ = took;
    }

    /// From the request, read whole, to the settlement of a paid call, or to the end of one in a session, it took so long.
    fn call_took(&self, took: Duration) {
        let _ = took;
    }

    /// A request was refused, with this problem where it is one of the protocol's, and this status.
    fn refused(&self, problem: Option<Problem>, status: StatusCode) {
        let _ = (problem, status);
    }

    /// So many spends were verified together in this time.
    fn verified(&self, spends: usize, elapsed: Duration) {
        let _ = (spends, elapsed);
    }

    /// The service did not answer. Callers are told less.
    fn upstream_failed(&self, error: &UpstreamError) {
        let _ = error;
    }

    /// What the service behind showed that its operator should know. Says nothing of any call.
    fn service_noticed(&self, notice: &str) {
        let _ = notice;
    }

    /// The issuer elsewhere did not answer, refuses this gateway, or shows a directory that is not taken. Says nothing of any call.
    fn issuer_failed(&self, reason: &str) {
        let _ = reason;
    }

    /// What keeps calls from being taken has changed; none when they are taken again. Of a store that fails it has the system's words.
    fn trouble(&self, trouble: Option<&str>) {
        let _ = trouble;
    }

    /// A round of upkeep is over. Its warnings and failures are for the operator.
    fn upkeep(&self, outcome: &Result<UpkeepReport, UpkeepError>) {
        let _ = outcome;
    }

    /// A spend was refused because another one of its note came first, whether or not that names the account.
    fn conflict(&self) {}

    /// Somebody spent a note twice, and here is the proof of it.
    fn double_spend(&self, evidence: Evidence) {
        let _ = evidence;
    }
}

/// An observer that does not care.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
