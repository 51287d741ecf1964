//! A spend that was admitted to the set at hand.

use std::sync::Arc;
use std::time::Duration;

use super::Local;
use crate::http::clock::now;
use crate::http::exchange::problems::work_problem;
use crate::http::problem::ProblemDetails;
use crate::issuer::SettleError;
use crate::lifecycle::AdmittedSpend;
use crate::protocol::{Credits, Problem, Settlement, SpendKey};

/// A spend, and the local ledger that admitted it.
#[derive(Clone)]
pub(in crate::http::exchange) struct LocalHeld {
    local: Local,
    spend: Arc<AdmittedSpend>,
}

impl LocalHeld {
    pub(super) fn new(local: &Local, spend: AdmittedSpend) -> Self {
        Self { local: local.clone(), spend: Arc::new(spend) }
    }

    pub(in crate::http::exchange) fn key(&self) -> SpendKey {
        self.spend.key()
    }

    pub(in crate::http::exchange) fn charge(&self) -> Credits {
        self.spend.charge()
    }

    /// What it is settled at where it was left open: what was metered.
    pub(super) fn lapsed_cost(&self) -> Credits {
        self.spend.lapsed_cost(self.local.gateway.directory().quantum())
    }

    pub(in crate::http::exchange) async fn settle(&self, cost: Credits) -> Result<Settlement, ProblemDetails> {
        let mut pause = Duration::from_millis(50);
        for _ in 0..5 {
            let (gateway, issuer) = (Arc::clone(&self.local.gateway), Arc::clone(&self.local.issuer));
            let spend = Arc::clone(&self.spend);
            let settle = move || {
                let settled = issuer.settle(gateway.set(), &spend, cost, now());
                if settled.is_err() {
                    // So that whatever settles it in the end, after a restart or another process, does so at what it cost. If the
                    // set fails at this too, nothing better can be done.
                    let _ = spend.meter(gateway.set(), cost, now());
                }
                settled
            };
            match self.local.back.run(settle).await {
                // What counts is what the set holds, which another may have settled.
                Ok(Ok(settled)) => return Ok(settled.settlement().clone()),
                Ok(Err(SettleError::Store(_))) => {}
                Ok(Err(error)) => return Err(ProblemDetails::new(error.problem(), error.to_string())),
                Err(error) => return Err(work_problem(error)),
            }
            // The set is what makes it happen once, so that a store that failed may be asked again.
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let detail = "the call was served and is not settled yet: ask for its settlement later";
        Err(ProblemDetails::new(Problem::StoreUnavailable, detail))
    }

    pub(in crate::http::exchange) async fn write_now(&self, so_far: Credits) -> Result<bool, ProblemDetails> {
        let (gateway, spend) = (Arc::clone(&self.local.gateway), Arc::clone(&self.spend));
        let written = self.local.notes.run(move || spend.meter(gateway.set(), so_far, now()).is_ok()).await;
        written.map_err(work_problem)
    }

    pub(in crate::http::exchange) fn note(&self, so_far: Credits, done: impl FnOnce() + Send + 'static) -> bool {
        let (gateway, spend) = (Arc::clone(&self.local.gateway), Arc::clone(&self.spend));
        let left = self.local.notes.leave(move || {
            // If it fails there is the next one, and the settlement.
            let _ = spend.meter(gateway.set(), so_far, now());
            done();
        });
        // Too many are waiting: the next one says it all.
        left.is_ok()
    }
}
