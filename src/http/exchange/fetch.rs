//! Telling a settlement afterwards.

use std::sync::Arc;

use axum::extract::Request as HttpRequest;
use axum::response::Response;

use super::ledger::Ledger;
use super::{Exchange, work_problem};
use crate::gateway::{FetchError, Fetched};
use crate::http::payment::Payload;
use crate::http::problem::ProblemDetails;
use crate::http::requests::read_credential;
use crate::http::wire::settled_answer;
use crate::protocol::{Following, Problem};

impl Exchange {
    pub(super) async fn fetch(self: Arc<Self>, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let Payload::Following(following) = read_credential(request.headers())? else {
            return Err(ProblemDetails::new(Problem::Malformed, "this credential asks for no settlement"));
        };
        if following.len() != Following::LENGTH {
            return Err(ProblemDetails::new(Problem::Malformed, "the credential has the wrong length"));
        }
        let received = self.receive(request, 1024).await?;
        let signed = received.signed();
        let fetched = match &self.ledger {
            Ledger::Remote(remote) => remote.fetch(following, signed).await?,
            Ledger::Local(local) => {
                let gateway = Arc::clone(&local.gateway);
                let fetch = move || signed.with(|request| gateway.fetch(&following, request));
                match local.pipeline.run(fetch).await.map_err(work_problem)?? {
                    Ok(Fetched::Settled(settled)) => Some(settled.settlement().clone()),
                    Ok(Fetched::InProgress) => None,
                    Err(error) => return Err(untold(&error)),
                }
            }
        };
        match fetched {
            Some(settlement) => Ok(settled_answer(&settlement, None)),
            None => Err(ProblemDetails::new(Problem::InProgress, "this very spend is being worked on")),
        }
    }
}

/// Why a request that follows an opening is told nothing.
pub(super) fn untold(error: &FetchError) -> ProblemDetails {
    ProblemDetails::new(error.problem(), error.to_string())
}
