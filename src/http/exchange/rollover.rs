//! Rolling a note over.

use std::sync::Arc;

use axum::extract::Request as HttpRequest;
use axum::response::Response;

use super::Exchange;
use super::ledger::{Errand, Found, Screening};
use super::received::Received;
use crate::http::problem::ProblemDetails;
use crate::http::wire::settled_answer;
use crate::pipeline::Source;
use crate::protocol::{Credits, Opening, Problem};

impl Exchange {
    pub(super) async fn rollover(self: Arc<Self>, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let source = request.extensions().get::<Source>().cloned().unwrap_or_default();
        let received = self.receive(request, Opening::LENGTH).await?;
        self.apart(|exchange| async move { exchange.roll_over(received, source).await }).await
    }

    async fn roll_over(self: Arc<Self>, received: Received, source: Source) -> Result<Response, ProblemDetails> {
        let (signed, bytes) = (received.signed_bare(), received.body.clone());
        let (screening, _) = self.screen(bytes, signed, Errand::Rollover).await?;
        let (found, _entry) = match screening {
            Screening::Known(found) => (found, None),
            Screening::Fresh(candidate) => {
                // So that a cancel waits for it.
                let entry = self.running.enter(candidate.key);
                (self.take_in(*candidate, &source).await?, Some(entry))
            }
        };
        match found {
            Found::Settled(settlement) => Ok(settled_answer(&settlement, None)),
            // Its charge is 0, and so is its cost.
            Found::Admitted(held) => Ok(settled_answer(&self.settle(&held, Credits::ZERO).await?, None)),
            Found::Lapsed(spend) => Ok(settled_answer(&self.settle_lapsed(spend).await?, None)),
            Found::InProgress => Err(ProblemDetails::new(Problem::InProgress, "this very rollover is being worked on")),
        }
    }
}
