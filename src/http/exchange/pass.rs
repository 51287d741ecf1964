//! A following request that reached another replica than the one that has its session.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;

use super::Exchange;
use super::found::Elsewhere;
use super::problems::wrong_owner;
use super::received::Received;
use crate::http::kept::Kept;
use crate::http::peers::NotPassed;
use crate::http::problem::ProblemDetails;
use crate::protocol::Problem;
use crate::store::Lease;

/// What the owner may take beyond the time of a call: to settle it, or to wait for calls to end.
const MORE: Duration = Duration::from_secs(30);

/// Answers by what has become of a session that is not this process's table: its owner does, if it can be reached.
pub(super) async fn elsewhere(
    exchange: &Exchange,
    elsewhere: Elsewhere,
    received: Received,
) -> Result<Response, ProblemDetails> {
    match elsewhere {
        Elsewhere::OtherProcess(lease) => pass(exchange, &lease, received).await,
        other => Err(other.into_problem()),
    }
}

/// Passes a request on to the process that has a lease, and gives its answer as it comes. Once: what was passed on to this process
/// goes no further.
pub(super) async fn pass(exchange: &Exchange, lease: &Lease, received: Received) -> Result<Response, ProblemDetails> {
    let Some(peers) = exchange.peers.as_ref().filter(|_| !received.is_from_replica()) else {
        return Err(wrong_owner(lease));
    };
    let (passing, place) = received.into_passing(exchange.timeout().saturating_add(MORE));
    match peers.pass(&lease.owner, passing).await {
        Ok(answer) => Ok(answer.map(|body| Body::new(Kept { body, _kept: place }))),
        Err(NotPassed::Gone) => Err(wrong_owner(lease)),
        Err(NotPassed::Unreached) => {
            let detail = "the replica that has this session cannot be reached now; nothing was done: send it again";
            Err(ProblemDetails::new(Problem::Busy, detail).after(1))
        }
        Err(NotPassed::Broken(error)) => {
            let status = if error.is_timeout() { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
            let detail = "the replica that has this session broke off; the request may have been served";
            Err(ProblemDetails::plain(status, detail))
        }
    }
}
