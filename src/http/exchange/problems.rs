//! What a caller is told of what goes wrong in the engine.

use http::StatusCode;

use crate::gateway::{AdmitError, FetchError};
use crate::http::clock::now;
use crate::http::problem::ProblemDetails;
use crate::http::upstream::UpstreamError;
use crate::protocol::Problem;
use crate::store::Lease;
use crate::workers::WorkError;

pub(super) fn failed() -> ProblemDetails {
    ProblemDetails::plain(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed")
}

pub(super) fn busy() -> ProblemDetails {
    ProblemDetails::new(Problem::Busy, "too much is waiting already; nothing was done")
}

pub(super) fn work_problem(error: WorkError) -> ProblemDetails {
    match error {
        WorkError::Busy => busy(),
        WorkError::Gone => ProblemDetails::new(Problem::StoreUnavailable, "the gateway could not finish this"),
    }
}

/// The process that has a session is gone: it is settled when its lease is over.
pub(super) fn wrong_owner(lease: &Lease) -> ProblemDetails {
    let left = lease.until.seconds().saturating_sub(now().seconds());
    let detail = "another process has this session; it is settled when it is over, or when its lease is: ask for the settlement then";
    ProblemDetails::new(Problem::WrongOwner, detail).after(u32::try_from(left).unwrap_or(u32::MAX).max(1))
}

/// A spend that is not admitted.
pub(super) fn refused(error: &AdmitError) -> ProblemDetails {
    ProblemDetails::new(error.problem(), error.to_string())
}

/// Why a request that follows an opening is told nothing.
pub(super) fn untold(error: &FetchError) -> ProblemDetails {
    ProblemDetails::new(error.problem(), error.to_string())
}

/// The service did not answer, or its answer broke off.
pub(super) fn upstream_problem(error: &UpstreamError) -> ProblemDetails {
    let status = match error {
        UpstreamError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    ProblemDetails::plain(status, error.to_string())
}

/// The service's answer has no price that can be told.
pub(super) fn unpriced(why: &str) -> ProblemDetails {
    let detail = format!("the upstream's answer {why}: it is withheld, and costs nothing");
    ProblemDetails::plain(StatusCode::BAD_GATEWAY, detail)
}

/// These would tell the caller that *it* lacks a permission, when it is the gateway's that the service refused.
pub(super) fn upstream_refuses(status: StatusCode) -> Option<ProblemDetails> {
    let ours = [StatusCode::UNAUTHORIZED, StatusCode::PAYMENT_REQUIRED, StatusCode::PROXY_AUTHENTICATION_REQUIRED];
    // Nothing here goes on in another protocol, and nobody asked for one: `Upgrade` is not passed on.
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let detail = "the upstream answers 101: another protocol is not passed on";
        return Some(ProblemDetails::plain(StatusCode::BAD_GATEWAY, detail));
    }
    let detail = || format!("the upstream refuses the gateway: {status}");
    ours.contains(&status).then(|| ProblemDetails::plain(StatusCode::BAD_GATEWAY, detail()))
}
