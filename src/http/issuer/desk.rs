//! Settlements and cancels for callers whose gateway does not answer.

use std::io;
use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;

use super::{IssuerService, answered, work_problem};
use crate::clearing::{Desk, DeskError};
use crate::gateway::{AdmitError, FetchError, Fetched};
use crate::http::clock::now;
use crate::http::payment::Payload;
use crate::http::problem::ProblemDetails;
use crate::http::requests::{Signed, authority, read_credential};
use crate::http::wire::{authorities, settled_answer};
use crate::pipeline::Current;
use crate::protocol::{Authorisation, Following, Problem, Spend};
use crate::workers::TaskPool;

/// Length of the longest cancellation, bytes: of half a transfer.
const LONGEST: usize = Spend::TRANSFER_LENGTH + Authorisation::LENGTH;
/// Fetches that wait, and cancels; one more is answered `busy`. A cancel takes a few milliseconds.
const QUEUE: usize = 256;

/// The desk, its threads, and the addresses that session signatures are for.
pub(super) struct DeskDoor {
    pub(super) desk: Current<Desk>,
    authorities: Vec<(String, String)>,
    looks: TaskPool,
    /// Apart from what only looks: each of these may have a proof to verify.
    cancels: TaskPool,
}

impl DeskDoor {
    pub(super) fn start(desk: Arc<Desk>, origins: &[String]) -> io::Result<Self> {
        let read = |origin: &String| {
            let what = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{origin}` is no origin"));
            authorities(origin).ok_or_else(what)
        };
        let authorities = origins.iter().map(read).collect::<io::Result<Vec<_>>>()?;
        if authorities.is_empty() {
            let what = "without an origin of the issuer's own, no session signature is for it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let (looks, cancels) = (TaskPool::start("desk", 1, QUEUE)?, TaskPool::start("desk-cancel", 1, QUEUE)?);
        Ok(Self { desk: Current::new(desk), authorities, looks, cancels })
    }

    fn signed(&self, parts: &Parts) -> Result<Signed, ProblemDetails> {
        let authority = authority(&self.authorities, parts).ok_or_else(|| {
            let detail = "the request is for a host that is not this issuer's";
            ProblemDetails::new(Problem::WrongGateway, detail).with_status(StatusCode::BAD_REQUEST)
        })?;
        Ok(Signed::empty(authority, parts))
    }
}

pub(super) async fn settlement(State(service): State<IssuerService>, request: HttpRequest) -> Response {
    answered(service.fetch(request).await)
}

pub(super) async fn cancel(State(service): State<IssuerService>, request: HttpRequest) -> Response {
    answered(service.cancel(request).await)
}

impl IssuerService {
    fn desk(&self) -> Result<&DeskDoor, ProblemDetails> {
        let none =
            || ProblemDetails::plain(StatusCode::NOT_FOUND, "this issuer answers callers at their gateways only");
        self.desk.as_deref().ok_or_else(none)
    }

    async fn fetch(&self, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let door = self.desk()?;
        let credential = read_credential(request.headers()).map_err(|details| match details.kind() {
            Some(Problem::Unpaid) => {
                let detail = "a credential has to say which settlement is asked for";
                without_challenge(ProblemDetails::new(Problem::Unpaid, detail))
            }
            _ => without_challenge(details),
        })?;
        let Payload::Following(following) = credential else {
            return Err(malformed("this credential asks for no settlement"));
        };
        if following.len() != Following::LENGTH {
            return Err(malformed("the credential has the wrong length"));
        }
        let (parts, _, _place) = self.receive(request, 0).await?;
        let (signed, desk) = (door.signed(&parts)?, door.desk.get());
        let look = move || signed.with(|request| desk.fetch(&following, request));
        match door.looks.run(look).await.map_err(work_problem)?? {
            Ok(Fetched::Settled(settled)) => Ok(settled_answer(settled.settlement(), None)),
            Ok(Fetched::InProgress) => Err(ProblemDetails::new(Problem::InProgress, "a gateway works on this spend")),
            Err(error) => Err(fetch_problem(&error)),
        }
    }

    async fn cancel(&self, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let door = self.desk()?;
        let (parts, body, place) = self.receive(request, LONGEST).await?;
        let (signed, desk) = (door.signed(&parts)?, door.desk.get());
        let observer = Arc::clone(&self.observer);
        // It goes on when the caller hangs up, and keeps its place.
        let cancel = move || {
            let _place = place;
            let cancelled = signed.with(|request| desk.cancel(&body, request, now()))?;
            cancelled.map_err(|error| {
                let details = desk_problem(&error);
                if let DeskError::Admit(AdmitError::DoubleSpend(_) | AdmitError::AlreadySpent) = &error {
                    observer.conflict();
                }
                if let DeskError::Admit(AdmitError::DoubleSpend(evidence)) = error {
                    observer.double_spend(*evidence);
                }
                details
            })
        };
        let settled = door.cancels.run(cancel).await.map_err(work_problem)??;
        Ok(settled_answer(settled.settlement(), None))
    }
}

fn malformed(detail: &str) -> ProblemDetails {
    ProblemDetails::new(Problem::Malformed, detail).with_status(StatusCode::BAD_REQUEST)
}

/// An issuer has no challenge to put beside a 402.
fn without_challenge(details: ProblemDetails) -> ProblemDetails {
    match details.status() {
        StatusCode::PAYMENT_REQUIRED => details.with_status(StatusCode::BAD_REQUEST),
        _ => details,
    }
}

fn fetch_problem(error: &FetchError) -> ProblemDetails {
    without_challenge(ProblemDetails::new(error.problem(), error.to_string()))
}

fn desk_problem(error: &DeskError) -> ProblemDetails {
    without_challenge(ProblemDetails::new(error.problem(), error.to_string()))
}
