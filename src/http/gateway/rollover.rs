//! Rolling a note over.

use std::sync::Arc;

use axum::extract::Request as HttpRequest;
use axum::response::Response;

use super::received::{Received, Signed};
use super::{Inner, settled_answer, work_problem};
use crate::gateway::{Opened, Screened, Unpaid};
use crate::http::clock::now;
use crate::http::problem::ProblemDetails;
use crate::pipeline::Source;
use crate::protocol::{Opening, Problem};

impl Inner {
    pub(super) async fn rollover(self: Arc<Self>, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let source = request.extensions().get::<Source>().cloned().unwrap_or_default();
        let received = self.receive(request, Opening::LENGTH).await?;
        self.apart(|inner| async move { inner.roll_over(received, source).await }).await
    }

    async fn roll_over(self: Arc<Self>, received: Received, source: Source) -> Result<Response, ProblemDetails> {
        let (signed, bytes) = (Signed::without_body(&received), received.body.clone());
        let gateway = Arc::clone(&self.gateway);
        let screen = move || signed.with(|request| gateway.screen_rollover(&bytes, request, now()));
        let screened = self.pipeline.run(screen).await.map_err(work_problem)??;
        let (opened, _entry) = match screened.map_err(|error| self.refusal(error))? {
            Screened::Known(opened) => (opened, None),
            Screened::Unknown(spend) | Screened::Conflict(spend) => {
                // So that a cancel waits for it.
                let entry = self.running.enter(spend.key());
                (self.verify(spend, &source, Some(Unpaid::Rollover)).await?, Some(entry))
            }
        };
        match opened {
            Opened::Settled(settled) => Ok(settled_answer(&settled, None)),
            // Its charge is 0, and so is its cost.
            Opened::Admitted(spend) | Opened::Lapsed(spend) => {
                let cost = spend.lapsed_cost(self.gateway.directory().quantum());
                Ok(settled_answer(&self.settle(spend, cost).await?, None))
            }
            Opened::InProgress => {
                Err(ProblemDetails::new(Problem::InProgress, "this very rollover is being worked on"))
            }
        }
    }
}
