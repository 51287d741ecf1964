//! What was minted, for wallets that are being restored.

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use http::StatusCode;

use super::{IssuerService, answered, bytes_answer, work_problem};
use crate::http::problem::ProblemDetails;
use crate::protocol::{AccountQuery, Problem};

pub(super) async fn mints(State(service): State<IssuerService>, request: HttpRequest) -> Response {
    answered(service.mints(request).await)
}

impl IssuerService {
    async fn mints(&self, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let (_, body, _place) = self.receive(request, AccountQuery::MAX_LENGTH).await?;
        let query = AccountQuery::from_bytes(&body).map_err(|error| {
            ProblemDetails::new(Problem::Malformed, error.to_string()).with_status(StatusCode::BAD_REQUEST)
        })?;
        let issuer = self.issuer.get();
        let found = self.workers.run(move || issuer.minted(&query)).await.map_err(work_problem)?;
        found
            .map(|found| bytes_answer(found.to_bytes()))
            .map_err(|_| ProblemDetails::new(Problem::StoreUnavailable, "the book of mints did not answer"))
    }
}
