//! Problem details (RFC 9457): how a refusal says what a caller can do about it.

use core::num::NonZeroU64;

#[cfg(feature = "server")]
use axum::response::{IntoResponse, Response};
use http::StatusCode;
#[cfg(feature = "server")]
use http::header::{self, HeaderValue};
use serde::{Deserialize, Serialize};

use super::payment;
use crate::protocol::Problem;

/// The media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";
/// What the type of every problem begins with; the rest is [`Problem::as_str`].
pub const TYPE_BASE: &str = "https://github.com/halometer/halometer/blob/main/docs/problems.md#";

/// The HTTP status that goes with a problem.
///
/// 402 where another payment would be taken, as the `Payment` scheme asks; 409 where the note itself is the conflict, so that
/// no client pays again by reflex; 421 and 503 where the payment was not looked at.
pub const fn status(problem: Problem) -> StatusCode {
    match problem {
        Problem::InProgress | Problem::AlreadySpent | Problem::DoubleSpend => StatusCode::CONFLICT,
        Problem::WrongOwner => StatusCode::MISDIRECTED_REQUEST,
        Problem::Busy | Problem::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::PAYMENT_REQUIRED,
    }
}

/// Seconds after which the same request may be sent again, where that can help.
pub const fn retry_after(problem: Problem) -> Option<u32> {
    match problem {
        Problem::InProgress | Problem::Busy | Problem::StoreUnavailable => Some(1),
        _ => None,
    }
}

const fn title(problem: Problem) -> &'static str {
    match problem {
        Problem::Unpaid => "Payment required",
        Problem::Malformed => "The payment cannot be read",
        Problem::WrongGateway => "The payment is made out to another gateway",
        Problem::Expired => "The payment's window is over",
        Problem::UnknownEpoch => "The note's epoch is not spendable here",
        Problem::ClassUnknown => "The charge or the tariff is not one of the directory",
        Problem::ProofInvalid => "The proof does not verify",
        Problem::SessionSignatureInvalid => "The session's signature does not cover this request",
        Problem::InProgress => "This payment is being worked on",
        Problem::AlreadySpent => "This note is spent",
        Problem::DoubleSpend => "This note is spent by another payment",
        Problem::CapReached => "The session's charge does not cover this call",
        Problem::WrongOwner => "Another process owns this session",
        Problem::Busy => "Too much to do",
        Problem::StoreUnavailable => "The spent set cannot be asked",
    }
}

/// A problem as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemDetails {
    /// [`TYPE_BASE`] and a name, or `about:blank` where the status says it all.
    #[serde(rename = "type", default = "about_blank")]
    pub type_uri: String,
    /// The kind in words; the same for all problems of a type.
    #[serde(default)]
    pub title: Box<str>,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What happened this time. Holds nothing that could link a caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The settlement of this very spend, base64url, if it is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement: Option<Box<str>>,
    /// The gateway's signed [receipt](crate::protocol::Receipt) for it, base64url, where the call was worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Box<str>>,
    /// Whether the call was worked on, and its answer is kept back because it costs more than can be paid.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub withheld: bool,
    /// What was paid, micro-credits: to a mint request whose lanes add up to another amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<NonZeroU64>,
    /// Seconds after which the same request may be sent again: `Retry-After`, in which it travels.
    #[serde(skip)]
    pub retry_after: Option<u32>,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

impl ProblemDetails {
    /// A problem of one of the protocol's types.
    pub fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("{TYPE_BASE}{}", problem.as_str()),
            title: title(problem).into(),
            status: status(problem).as_u16(),
            detail: Some(detail.into()),
            settlement: None,
            receipt: None,
            withheld: false,
            paid: None,
            retry_after: retry_after(problem),
        }
    }

    /// A problem that has nothing to do with payments: a body that is too long, an upstream that does not answer.
    pub fn plain(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            type_uri: about_blank(),
            title: status.canonical_reason().unwrap_or_default().into(),
            status: status.as_u16(),
            detail: Some(detail.into()),
            settlement: None,
            receipt: None,
            withheld: false,
            paid: None,
            retry_after: None,
        }
    }

    /// What paths of our own answer to a method that they do not take. The router adds `Allow`.
    #[cfg(feature = "server")]
    pub(in crate::http) async fn method_not_allowed() -> Self {
        Self::plain(StatusCode::METHOD_NOT_ALLOWED, "this path takes other methods: see `Allow`")
    }

    /// What answers for paths that there are none of.
    #[cfg(feature = "server")]
    pub(in crate::http) async fn not_found() -> Self {
        Self::plain(StatusCode::NOT_FOUND, "there is no such path here")
    }

    /// The same under another status.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status: status.as_u16(), ..self }
    }

    /// The same, to be sent again after so many seconds.
    #[must_use]
    pub fn after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The answer costs more than can be paid, and is kept back.
    #[cfg(feature = "server")]
    pub(in crate::http) fn withheld(detail: &str) -> Self {
        Self { withheld: true, ..Self::new(Problem::CapReached, detail) }
    }

    /// The same with the encoded settlement of this very spend.
    #[must_use]
    pub fn with_settlement(self, settlement: &[u8]) -> Self {
        Self { settlement: Some(payment::encode(settlement).into()), ..self }
    }

    /// The same with the bytes of the gateway's signed receipt, if there is one.
    #[must_use]
    pub fn with_receipt(self, receipt: Option<&[u8]>) -> Self {
        Self { receipt: receipt.map(|bytes| payment::encode(bytes).into()), ..self }
    }

    /// The bytes of the attached receipt, if there is one and it is base64url.
    pub fn receipt(&self) -> Option<Vec<u8>> {
        payment::decode(self.receipt.as_deref()?)
    }

    /// The type, if it is one of the protocol's.
    pub fn kind(&self) -> Option<Problem> {
        Problem::from_name(self.type_uri.strip_prefix(TYPE_BASE)?)
    }

    /// The bytes of the attached settlement, if there is one and it is base64url.
    pub fn settlement(&self) -> Option<Vec<u8>> {
        payment::decode(self.settlement.as_deref()?)
    }

    /// The status to send.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

#[cfg(feature = "server")]
impl IntoResponse for ProblemDetails {
    /// Never stored by caches. A 402 still lacks its challenge: the gateway adds it.
    fn into_response(self) -> Response {
        let mut response = (self.status(), axum::Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl core::fmt::Display for ProblemDetails {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.title)?;
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_read_back() {
        for problem in Problem::ALL {
            let json = serde_json::to_string(&ProblemDetails::new(problem, "x")).unwrap();
            let back: ProblemDetails = serde_json::from_str(&json).unwrap();
            assert_eq!((back.kind(), back.status()), (Some(problem), status(problem)));
        }
    }

    #[test]
    fn other_peoples_problems_are_read_too() {
        let problem: ProblemDetails = serde_json::from_str("{}").unwrap();
        assert_eq!(problem.kind(), None);
        assert_eq!(ProblemDetails::plain(StatusCode::BAD_GATEWAY, "x").kind(), None);
        let other: ProblemDetails = serde_json::from_str(r#"{"type":"https://example.org/problems#busy"}"#).unwrap();
        assert_eq!(other.kind(), None);
    }
}
