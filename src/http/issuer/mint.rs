//! Minting.

use core::num::NonZeroU64;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use http::StatusCode;

use super::{IssuerService, answered, bytes_answer, work_problem};
use crate::http::clock::now;
use crate::http::problem::ProblemDetails;
use crate::issuer::MintError;
use crate::protocol::{MintRequest, Problem};

pub(super) async fn mint(State(service): State<IssuerService>, request: HttpRequest) -> Response {
    answered(service.mint(request).await)
}

impl IssuerService {
    async fn mint(&self, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let (_, body, _place) = self.receive(request, MintRequest::LENGTH).await?;
        let request = MintRequest::from_bytes(&body).map_err(|error| {
            ProblemDetails::new(Problem::Malformed, error.to_string()).with_status(StatusCode::BAD_REQUEST)
        })?;
        let issuer = self.issuer.get();
        let minted = self.workers.run(move || issuer.mint(&request, now())).await.map_err(work_problem)?;
        minted.map(|response| bytes_answer(response.to_bytes())).map_err(|error| mint_problem(&error))
    }
}

/// An issuer has no challenge to put beside a 402, so that what is wrong with a request has other statuses here.
fn mint_problem(error: &MintError) -> ProblemDetails {
    let mut details = ProblemDetails::new(error.problem(), error.to_string());
    if let MintError::Amount { paid } = error {
        details.paid = NonZeroU64::new(paid.micro());
    }
    match error.problem() {
        Problem::Unpaid => details.with_status(StatusCode::NOT_FOUND),
        Problem::Malformed => details.with_status(StatusCode::BAD_REQUEST),
        _ => details,
    }
}
