//! The observer: it is told what happens at an issuer.

use std::time::Duration;

use crate::clearing::ClearingError;
use crate::issuer::NoticeError;
use crate::lifecycle::Evidence;

/// Is told what happens at an issuer. Nothing that it is told may be logged with a time or address beside it, but for sums.
pub trait IssuerObserver: Send + Sync {
    /// A payment notice was refused. A [`Conflict`](NoticeError::Conflict) is somebody's to look into; the rest may be anybody's
    /// junk.
    fn notice_refused(&self, error: &NoticeError) {
        let _ = error;
    }

    /// A gateway's request was not carried out, for another reason than a double spend.
    fn clearing_refused(&self, error: &ClearingError) {
        let _ = error;
    }

    /// So many spends of gateways elsewhere were verified together in this time.
    fn verified(&self, spends: usize, elapsed: Duration) {
        let _ = (spends, elapsed);
    }

    /// A spend was refused because another one of its note came first, whether or not that names the account: at the desk, or by a
    /// gateway elsewhere.
    fn conflict(&self) {}

    /// Somebody spent a note twice, and here is the proof of it.
    fn double_spend(&self, evidence: Evidence) {
        let _ = evidence;
    }
}

impl IssuerObserver for crate::http::observer::NoObserver {}
