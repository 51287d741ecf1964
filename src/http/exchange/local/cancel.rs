//! Cancelling a spend of the set at hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Local, LocalHeld};
use crate::gateway::{Cancelled, Opened, Screened};
use crate::http::clock::now;
use crate::http::exchange::found::CancelOutcome;
use crate::http::exchange::problems::work_problem;
use crate::http::exchange::running::Running;
use crate::http::problem::ProblemDetails;
use crate::http::requests::Signed;
use crate::pipeline::Source;
use crate::protocol::{Problem, Settlement, SpendKey};
use crate::store::{Lease, RecordKey, RecordState};

/// How often a cancel looks for a settlement that another thread is making, and the pause between.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

impl Local {
    /// Cancels a spend: stops the work that goes on for it here, and gives the settlement that it comes to.
    pub(in crate::http::exchange) async fn cancel(
        &self,
        bytes: Bytes,
        signed: Signed,
        source: &Source,
        running: &Arc<Running>,
    ) -> Result<CancelOutcome, ProblemDetails> {
        let gateway = Arc::clone(&self.gateway);
        let screen = move || signed.with(|request| gateway.screen_cancel(&bytes, request, now()));
        let screened = self.run(screen).await.map_err(work_problem)??;
        let (keys, screened) = screened.map_err(|error| self.refusal(error))?;
        // Before it can be admitted, so that another cancel finds somebody to wait for.
        let entry = running.enter(keys.0);
        let opened = match screened {
            Screened::Known(opened) => opened,
            Screened::Unknown(spend) | Screened::Conflict(spend) => self.verify(spend, source).await?,
        };
        match self.look(keys, opened).await? {
            Cancelled::Settled(settled) => Ok(CancelOutcome::Settled(settled.settlement().clone())),
            Cancelled::Fresh(spend) | Cancelled::Lapsed(spend) => {
                // Nothing of what was cancelled before it was worked for was metered: 0.
                let held = LocalHeld::new(self, spend);
                held.settle(held.lapsed_cost()).await.map(CancelOutcome::Settled)
            }
            Cancelled::Elsewhere => match self.lease_of(keys.0).await {
                Some(lease) => Ok(CancelOutcome::Elsewhere(lease)),
                None => Err(being_settled()),
            },
            Cancelled::Running(key) => {
                // Others wait for whatever is entered.
                drop(entry);
                self.stop(keys, &key, running).await.map(CancelOutcome::Settled)
            }
        }
    }

    /// The lease of an open record; none if it is settled, or cannot be told.
    pub(super) async fn lease_of(&self, key: SpendKey) -> Option<Lease> {
        let gateway = Arc::clone(&self.gateway);
        let found = self.run(move || gateway.set().find(key.epoch, &key.nullifier)).await;
        match found.ok().and_then(Result::ok).flatten().map(|record| record.state) {
            Some(RecordState::Open { lease, .. }) => Some(lease),
            _ => None,
        }
    }

    /// Stops work that goes on here, and gives the settlement that it comes to.
    async fn stop(
        &self,
        keys: (SpendKey, RecordKey),
        key: &SpendKey,
        running: &Running,
    ) -> Result<Settlement, ProblemDetails> {
        running.stop_and_wait(key).await;
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            // What is released is what the set holds.
            if let Cancelled::Settled(settled) = self.look(keys, Opened::InProgress).await? {
                return Ok(settled.settlement().clone());
            }
        }
        Err(being_settled())
    }
}

fn being_settled() -> ProblemDetails {
    ProblemDetails::new(Problem::InProgress, "the spend is being settled: ask again")
}
