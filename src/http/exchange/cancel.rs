//! Cancelling a spend.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request as HttpRequest;
use axum::response::Response;
use bytes::Bytes;

use super::ledger::Ledger;
use super::local::Local;
use super::received::Received;
use super::{Exchange, work_problem};
use crate::gateway::{Cancelled, Opened, Screened};
use crate::http::clock::now;
use crate::http::problem::ProblemDetails;
use crate::http::requests::Signed;
use crate::http::wire::settled_answer;
use crate::pipeline::Source;
use crate::protocol::{Authorisation, Problem, Spend, SpendKey};
use crate::store::RecordKey;

/// Length of the longest cancellation, bytes: of half a transfer.
const LONGEST: usize = Spend::TRANSFER_LENGTH + Authorisation::LENGTH;
/// How long a cancel waits for work to stop and to be settled, a few tries included. After that it is in progress still.
pub(super) const STOPPING: Duration = Duration::from_secs(20);
/// How often a cancel looks for a settlement that another thread is making, and the pause between.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

impl Exchange {
    pub(super) async fn cancel(self: Arc<Self>, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let source = request.extensions().get::<Source>().cloned().unwrap_or_default();
        let received = self.receive(request, LONGEST).await?;
        self.apart(|exchange| async move { exchange.cancel_spend(received, source).await }).await
    }

    async fn cancel_spend(self: Arc<Self>, received: Received, source: Source) -> Result<Response, ProblemDetails> {
        let (signed, bytes) = (received.signed_bare(), received.body.clone());
        let local = match &self.ledger {
            Ledger::Local(local) => local,
            Ledger::Remote(remote) => return remote.cancel(bytes, signed, &self.running).await,
        };
        let (keys, screened) = self.screen_cancel(local, bytes, signed).await?;
        // Before it can be admitted, so that another cancel finds somebody to wait for.
        let entry = self.running.enter(keys.0);
        let opened = match screened {
            Screened::Known(opened) => opened,
            Screened::Unknown(spend) | Screened::Conflict(spend) => self.verify(local, spend, &source).await?,
        };
        let settlement = match self.cancelled(local, keys, opened).await? {
            Cancelled::Settled(settled) => settled.settlement().clone(),
            Cancelled::Fresh(spend) | Cancelled::Lapsed(spend) => {
                // Nothing of what was cancelled before it was worked for was metered: 0.
                self.settle_lapsed(Arc::new(spend)).await?
            }
            Cancelled::Elsewhere => {
                let detail = "another process works on this spend";
                return Err(ProblemDetails::new(Problem::WrongOwner, detail));
            }
            Cancelled::Running(key) => {
                // Others wait for whoever is entered.
                drop(entry);
                return self.stop(local, keys, &key).await;
            }
        };
        Ok(settled_answer(&settlement, None))
    }

    async fn screen_cancel(
        &self,
        local: &Local,
        bytes: Bytes,
        signed: Signed,
    ) -> Result<((SpendKey, RecordKey), Screened), ProblemDetails> {
        let gateway = Arc::clone(&local.gateway);
        let screen = move || signed.with(|request| gateway.screen_cancel(&bytes, request, now()));
        local.pipeline.run(screen).await.map_err(work_problem)??.map_err(|error| self.refusal(error))
    }

    pub(super) async fn cancelled(
        &self,
        local: &Local,
        keys: (SpendKey, RecordKey),
        opened: Opened,
    ) -> Result<Cancelled, ProblemDetails> {
        let gateway = Arc::clone(&local.gateway);
        let looked = local.pipeline.run(move || gateway.cancelled(keys, opened)).await;
        looked.map_err(work_problem)?.map_err(|error| self.refusal(error))
    }

    /// Stops work that goes on here, and answers with the settlement that it comes to.
    async fn stop(
        &self,
        local: &Local,
        keys: (SpendKey, RecordKey),
        key: &SpendKey,
    ) -> Result<Response, ProblemDetails> {
        if let Some(stopping) = self.running.stop(key) {
            let _ = tokio::time::timeout(STOPPING, stopping.ended()).await;
        }
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            // What is released is what the set holds.
            if let Cancelled::Settled(settled) = self.cancelled(local, keys, Opened::InProgress).await? {
                return Ok(settled_answer(settled.settlement(), None));
            }
        }
        Err(ProblemDetails::new(Problem::InProgress, "the spend is being settled: ask again"))
    }
}
