//! Notices of payments, from the party that is paid.

use std::io;
use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

use super::{IssuerService, QUEUE, answered, work_problem};
use crate::http::clock::now;
use crate::http::problem::ProblemDetails;
use crate::issuer::{NoticeError, NoticeOutcome, PaymentNotices};
use crate::protocol::Problem;
use crate::workers::TaskPool;

/// The request header that carries the signature of a payment notice: `t=<seconds>,k=<key id>,v1=<hex>`.
///
/// Not `Signature`, which means the fields of RFC 9421 to what stands between.
pub const NOTICE_SIGNATURE: HeaderName = HeaderName::from_static("halometer-signature");

/// What a payment notice is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeAnswer {
    /// What it was good for.
    pub outcome: NoticeResult,
    /// What the payment is recorded with, micro-credits in decimal digits. None while it is not final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
}

/// What a payment notice was good for. The sender is not to send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeResult {
    /// The payment is recorded now.
    Recorded,
    /// The payment was recorded before, with this amount.
    Known,
    /// The payment is not final; nothing is recorded.
    NotFinal,
}

/// What takes notices. On a thread of its own, so that nobody's junk delays who mints.
pub(super) struct Notices {
    notices: Arc<PaymentNotices>,
    workers: TaskPool,
}

impl Notices {
    pub(super) fn start(notices: Arc<PaymentNotices>) -> io::Result<Self> {
        Ok(Self { notices, workers: TaskPool::start("notice", 1, QUEUE)? })
    }
}

pub(super) async fn notice(State(service): State<IssuerService>, request: HttpRequest) -> Response {
    answered(service.notice(request).await)
}

impl IssuerService {
    async fn notice(&self, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let Notices { notices, workers } = self.notices.as_deref().ok_or_else(|| {
            ProblemDetails::plain(StatusCode::NOT_FOUND, "this issuer learns of payments in another way")
        })?;
        // Before the body is read: who has no signature to show does not get to send one.
        let signature = signature(request.headers())?;
        let (_, body, _place) = self.receive(request, PaymentNotices::MAX_BODY).await?;
        let notices = Arc::clone(notices);
        let received = workers.run(move || notices.receive(&body, &signature, now())).await;
        match received.map_err(work_problem)? {
            Ok(outcome) => Ok(answer(outcome)),
            Err(error) => {
                self.observer.notice_refused(&error);
                Err(problem(&error))
            }
        }
    }
}

/// The one signature of a request. With two, a proxy in front might look at the other one.
fn signature(headers: &HeaderMap) -> Result<String, ProblemDetails> {
    let mut values = headers.get_all(NOTICE_SIGNATURE).iter();
    let refusal = |detail| Err(ProblemDetails::plain(StatusCode::BAD_REQUEST, detail));
    match (values.next(), values.next()) {
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => refusal("the signature header of the notice is not well-formed"),
        },
        (None, _) => refusal("the notice has no header `Halometer-Signature`"),
        (Some(_), Some(_)) => refusal("the notice has more than one header `Halometer-Signature`"),
    }
}

fn answer(outcome: NoticeOutcome) -> Response {
    let (outcome, amount) = match outcome {
        NoticeOutcome::Fresh(amount) => (NoticeResult::Recorded, Some(amount)),
        NoticeOutcome::Known(amount) => (NoticeResult::Known, Some(amount)),
        NoticeOutcome::NotFinal => (NoticeResult::NotFinal, None),
    };
    let amount = amount.map(|amount| amount.micro().to_string());
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(NoticeAnswer { outcome, amount })).into_response()
}

/// What is the store's fault is worth sending again; nothing else is.
fn problem(error: &NoticeError) -> ProblemDetails {
    let status = match error {
        NoticeError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        NoticeError::UnknownKey | NoticeError::Signature | NoticeError::Age { .. } => StatusCode::FORBIDDEN,
        NoticeError::Conflict { .. } => StatusCode::CONFLICT,
        NoticeError::Store(_) => return ProblemDetails::new(Problem::StoreUnavailable, error.to_string()),
        _ => StatusCode::BAD_REQUEST,
    };
    ProblemDetails::plain(status, error.to_string())
}
