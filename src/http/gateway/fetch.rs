//! Telling a settlement afterwards.

use std::sync::Arc;

use axum::extract::Request as HttpRequest;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::received::{Signed, read_credential};
use super::{Inner, settled_answer, work_problem};
use crate::gateway::{FetchError, Fetched};
use crate::http::payment::Payload;
use crate::http::problem::ProblemDetails;
use crate::protocol::{Following, Problem};

/// What [`SETTLEMENT_PATH`](super::SETTLEMENT_PATH), [`CANCEL_PATH`](super::CANCEL_PATH) and
/// [`ROLLOVER_PATH`](super::ROLLOVER_PATH) answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementAnswer {
    /// The settlement, base64url.
    pub settlement: String,
    /// The gateway's signed [receipt](crate::protocol::Receipt), base64url, of a session that this closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

impl Inner {
    pub(super) async fn fetch(self: Arc<Self>, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let Payload::Following(following) = read_credential(request.headers())? else {
            return Err(ProblemDetails::new(Problem::Malformed, "this credential asks for no settlement"));
        };
        if following.len() != Following::LENGTH {
            return Err(ProblemDetails::new(Problem::Malformed, "the credential has the wrong length"));
        }
        let received = self.receive(request, 1024).await?;
        let signed = Signed::of(&received);
        let fetched = match &self.ledger {
            Ledger::There(there) => there.fetch(following, signed).await?,
            Ledger::Here(here) => {
                let gateway = Arc::clone(&here.gateway);
                let fetch = move || signed.with(|request| gateway.fetch(&following, request));
                match here.pipeline.run(fetch).await.map_err(work_problem)?? {
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
