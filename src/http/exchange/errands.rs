//! What is asked of the gateway itself, about one spend or two: its settlement, a cancel, a transfer, a rollover.

use std::sync::Arc;

use axum::extract::Request as HttpRequest;
use axum::response::Response;

use super::Exchange;
use super::found::{CancelOutcome, Errand, Screening};
use super::pass::pass;
use super::received::Received;
use crate::http::payment::Payload;
use crate::http::problem::ProblemDetails;
use crate::http::requests::read_credential;
use crate::http::wire::settled_answer;
use crate::lifecycle::ParsedSpend;
use crate::pipeline::Source;
use crate::protocol::{Authorisation, Following, Opening, Problem, Spend, Transfer};

/// Length of the longest cancellation, bytes: of half a transfer.
const LONGEST_CANCELLATION: usize = Spend::TRANSFER_LENGTH + Authorisation::LENGTH;

/// Tells a settlement afterwards.
pub(super) async fn fetch(exchange: Arc<Exchange>, request: HttpRequest) -> Result<Response, ProblemDetails> {
    let Payload::Following(following) = read_credential(request.headers())? else {
        return Err(ProblemDetails::new(Problem::Malformed, "this credential asks for no settlement"));
    };
    if following.len() != Following::LENGTH {
        return Err(ProblemDetails::new(Problem::Malformed, "the credential has the wrong length"));
    }
    let received = exchange.receive(request, 1024).await?;
    let key = Following::from_bytes(&following).map(|following| following.key());
    match exchange.ledger.fetch(following, received.signed()).await? {
        Some(settlement) => Ok(settled_answer(&settlement, None)),
        None => {
            let problem = ProblemDetails::new(Problem::InProgress, "this very spend is being worked on");
            Err(key.map_or(problem.clone(), |key| exchange.running.timed(problem, &key)))
        }
    }
}

/// Cancels a spend.
pub(super) async fn cancel(exchange: Arc<Exchange>, request: HttpRequest) -> Result<Response, ProblemDetails> {
    let (received, source) = receive(&exchange, request, LONGEST_CANCELLATION).await?;
    exchange
        .apart(|exchange| async move {
            let (signed, bytes) = (received.signed_bare(), received.body.clone());
            let cancelled = exchange.ledger.cancel(bytes.clone(), signed, &source, &exchange.running).await;
            let cancelled = cancelled.map_err(|problem| {
                if problem.kind() != Some(Problem::InProgress) {
                    return problem;
                }
                let key = ParsedSpend::parse_cancellation(&bytes, exchange.directory()).map(|parsed| parsed.key());
                key.map_or(problem.clone(), |key| exchange.running.timed(problem, &key))
            })?;
            match cancelled {
                CancelOutcome::Settled(settlement) => Ok(settled_answer(&settlement, None)),
                CancelOutcome::Elsewhere(lease) => pass(&exchange, &lease, received).await,
            }
        })
        .await
}

/// Moves credit between lanes.
pub(super) async fn transfer(exchange: Arc<Exchange>, request: HttpRequest) -> Result<Response, ProblemDetails> {
    let (received, source) = receive(&exchange, request, Transfer::LENGTH).await?;
    exchange
        .apart(|exchange| async move {
            let (signed, bytes) = (received.signed_bare(), received.body.clone());
            exchange.ledger.transfer(bytes, signed, &source).await
        })
        .await
}

/// Rolls a note over.
pub(super) async fn rollover(exchange: Arc<Exchange>, request: HttpRequest) -> Result<Response, ProblemDetails> {
    let (received, source) = receive(&exchange, request, Opening::LENGTH).await?;
    exchange.apart(|exchange| async move { roll_over(&exchange, received, &source).await }).await
}

async fn roll_over(exchange: &Exchange, received: Received, source: &Source) -> Result<Response, ProblemDetails> {
    let (signed, bytes) = (received.signed_bare(), received.body.clone());
    let (found, _entry) = match exchange.ledger.screen(bytes, signed, Errand::Rollover).await? {
        Screening::Known(found) => (found, None),
        Screening::Fresh(candidate) => {
            // So that a cancel waits for it.
            let entry = exchange.running.enter(candidate.key);
            (candidate.admit(source).await?, Some(entry))
        }
    };
    // Its charge is 0, and so is its cost.
    match found.settlement().await? {
        Some(settlement) => Ok(settled_answer(&settlement, None)),
        None => Err(ProblemDetails::new(Problem::InProgress, "this very rollover is being worked on")),
    }
}

/// Reads a request whose body is the credential.
async fn receive(
    exchange: &Exchange,
    request: HttpRequest,
    longest: usize,
) -> Result<(Received, Source), ProblemDetails> {
    let source = request.extensions().get::<Source>().cloned().unwrap_or_default();
    Ok((exchange.receive(request, longest).await?, source))
}
