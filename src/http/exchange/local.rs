//! The set at hand, and the issuer in the same process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::limits::GatewayLimits;
use super::work_problem;
use crate::gateway::Gateway;
use crate::http::clock::now;
use crate::http::observer::Observer;
use crate::http::problem::ProblemDetails;
use crate::http::spent::SpentBuckets;
use crate::issuer::{Issuer, SettleError};
use crate::lifecycle::AdmittedSpend;
use crate::pipeline::{Current, Pipeline, PipelineParts, TaskPool};
use crate::protocol::{Credits, Problem, Settlement};

/// Threads that settle. Each waits for its commit most of the time, and what waits at one moment is committed together: with one thread
/// there would be nothing to put together.
const SETTLERS: usize = 8;

/// Transfers that wait to be verified; one more is answered `busy`.
const TRANSFERS: usize = 64;
/// Notes of what was metered that wait to be written; one more has to wait for the next.
const NOTES: usize = 256;

/// What a gateway that has the set works with. What depends on the directory is exchanged with it, the threads go on.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) gateway: Arc<Gateway>,
    pub(super) issuer: Arc<Issuer>,
    pub(super) pipeline: Pipeline,
    /// Settles. Its queue has no bound of its own: what was admitted is bounded, and must be settled.
    back: Arc<TaskPool>,
    /// Writes down what was metered. Apart from what settles, which does not wait for it.
    notes: Arc<TaskPool>,
    /// Verifies and stores transfers.
    pub(super) transfers: Arc<TaskPool>,
    pub(super) spent: SpentBuckets,
}

impl Local {
    /// Starts the threads. `current` is the issuer of the time, for what belongs to no request.
    pub(super) fn start(
        gateway: Arc<Gateway>,
        issuer: Arc<Issuer>,
        observer: Arc<dyn Observer>,
        limits: &GatewayLimits,
        current: &Arc<Current<Issuer>>,
    ) -> io::Result<Self> {
        let (settling, settler) = (gateway.shared_set(), Arc::clone(current));
        let pipeline = Pipeline::start(PipelineParts {
            gateway: Arc::clone(&gateway),
            clock: Arc::new(now),
            // If it fails, the lease sees to it.
            abandoned: Arc::new(move |spend: AdmittedSpend| {
                let issuer = settler.get();
                let cost = spend.lapsed_cost(issuer.directory().quantum());
                drop(issuer.settle(&*settling, &spend, cost, now()));
            }),
            verified: Arc::new(move |spends, elapsed| observer.verified(spends, elapsed)),
            limits: limits.pipeline,
        })?;
        Ok(Self {
            pipeline,
            back: Arc::new(TaskPool::start("settle", SETTLERS, usize::MAX)?),
            notes: Arc::new(TaskPool::start("meter", 1, NOTES)?),
            transfers: Arc::new(TaskPool::start("transfer", 1, TRANSFERS)?),
            spent: SpentBuckets::start(gateway.shared_set(), gateway.directory(), limits.spent)?,
            gateway,
            issuer,
        })
    }

    /// The same under a newer directory.
    pub(super) fn succeed(&self, gateway: Arc<Gateway>, issuer: Arc<Issuer>) -> Self {
        Self { gateway, issuer, ..self.clone() }
    }

    pub(super) async fn settle(&self, spend: &Arc<AdmittedSpend>, cost: Credits) -> Result<Settlement, ProblemDetails> {
        let mut pause = Duration::from_millis(50);
        for _ in 0..5 {
            let (gateway, issuer, spend) = (Arc::clone(&self.gateway), Arc::clone(&self.issuer), Arc::clone(spend));
            let settle = move || {
                let settled = issuer.settle(gateway.set(), &spend, cost, now());
                if settled.is_err() {
                    // So that whoever settles it in the end, after a restart or another process, does so at what it cost. If the
                    // set fails at this too, nothing better can be done.
                    let _ = spend.meter(gateway.set(), cost, now());
                }
                settled
            };
            match self.back.run(settle).await {
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

    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.pipeline.waiting() + self.transfers.waiting(), self.back.waiting())
    }

    pub(super) async fn write_now(&self, spend: &Arc<AdmittedSpend>, so_far: Credits) -> Result<bool, ProblemDetails> {
        let (gateway, spend) = (Arc::clone(&self.gateway), Arc::clone(spend));
        let written = self.notes.run(move || spend.meter(gateway.set(), so_far, now()).is_ok()).await;
        written.map_err(work_problem)
    }

    pub(super) fn write_down(
        &self,
        spend: &Arc<AdmittedSpend>,
        so_far: Credits,
        done: impl FnOnce() + Send + 'static,
    ) -> bool {
        let (gateway, spend) = (Arc::clone(&self.gateway), Arc::clone(spend));
        let left = self.notes.leave(move || {
            // If it fails there is the next one, and the settlement.
            let _ = spend.meter(gateway.set(), so_far, now());
            done();
        });
        // Too many are waiting: the next one says it all.
        left.is_ok()
    }
}
