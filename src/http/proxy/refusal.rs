//! What goes wrong, as clients of the API that is called read it.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

use super::COST_HEADER;
use super::dialect::{Dialect, Said};
use crate::http::clock::now;
use crate::http::payer::{CallError, ClientError, CreditState};
use crate::http::problem::ProblemDetails;
use crate::protocol::{Credits, Fault, Problem, Timestamp};
use crate::wallet::BudgetError;

/// What clients look at before they send a request again by themselves, which would be paid for again.
const SHOULD_RETRY: &str = "x-should-retry";
/// Seconds after which something that passes may have passed.
const SOON: u32 = 2;
/// Hours may pass until it passes: no client should try again by itself.
const DAY_CAP: &str = "key_day_cap";

/// Why a request has no answer of the service.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    fault: Fault,
    credit: CreditState,
    next: &'static str,
    /// Seconds after which the same request may fare better.
    retry_after: Option<u32>,
}

impl Refusal {
    /// The client's request is refused, and nothing was sent.
    pub(super) fn request(status: StatusCode, code: &'static str, message: &str, next: &'static str) -> Self {
        Self {
            status,
            code,
            message: message.to_owned(),
            fault: Fault::Caller,
            credit: CreditState::Untouched,
            next,
            retry_after: None,
        }
    }

    pub(super) fn too_long(max: usize) -> Self {
        let message = format!("the request's body is longer than {max} bytes");
        Self::request(StatusCode::PAYLOAD_TOO_LARGE, "body_too_long", &message, "send less")
    }

    pub(super) fn broken_body(status: StatusCode) -> Self {
        Self::request(status, "body_broken", "the request's body did not arrive", "send it again")
    }

    pub(super) fn busy() -> Self {
        let message = "too many requests are under way";
        let busy = Self::request(StatusCode::SERVICE_UNAVAILABLE, "busy", message, "send it again a little later");
        Self { fault: Fault::Nobody, retry_after: Some(SOON), ..busy }
    }

    /// The same, with another word on what to do.
    pub(super) fn because(status: StatusCode, code: &'static str, message: String, next: &'static str) -> Self {
        Self { message, ..Self::request(status, code, "", next) }
    }

    /// The same, for a client that may try again after so many seconds.
    pub(super) fn passing(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

/// Status, code, and seconds after which it may be better.
fn classify(error: &CallError) -> (StatusCode, &'static str, Option<u32>) {
    use StatusCode as S;
    match error {
        CallError::OutOfCredit => (S::PAYMENT_REQUIRED, "out_of_credit", None),
        CallError::Spread => (S::PAYMENT_REQUIRED, "credit_spread", None),
        CallError::Unchecked => (S::SERVICE_UNAVAILABLE, "unchecked", Some(5)),
        CallError::Quarantined(until) => (S::SERVICE_UNAVAILABLE, "quarantined", Some(seconds_to(*until))),
        CallError::Resting(until) => (S::SERVICE_UNAVAILABLE, "credit_resting", Some(seconds_to(*until))),
        CallError::NotReady => (S::SERVICE_UNAVAILABLE, "not_ready", Some(SOON)),
        CallError::Prover => (S::SERVICE_UNAVAILABLE, "prover_failed", Some(5)),
        CallError::Stopped => (S::SERVICE_UNAVAILABLE, "stopped", None),
        CallError::Unlisted => (S::BAD_GATEWAY, "gateway_unlisted", None),
        CallError::Contradiction => (S::BAD_GATEWAY, "issuer_contradicts_itself", None),
        CallError::OtherDirectory => (S::BAD_GATEWAY, "other_directory", None),
        CallError::Request(_) => (S::BAD_REQUEST, "request_unsignable", None),
        CallError::Target => (S::BAD_REQUEST, "no_path", None),
        CallError::Journal(_) => (S::INTERNAL_SERVER_ERROR, "wallet_failed", None),
        CallError::Refused(details) => refused(details),
        CallError::Failed { details, .. } => match details.kind() {
            Some(Problem::CapReached) => (S::PAYMENT_REQUIRED, "cap_reached", None),
            _ if details.status == S::GATEWAY_TIMEOUT.as_u16() => (S::GATEWAY_TIMEOUT, "service_timeout", None),
            _ => (S::BAD_GATEWAY, "service_failed", None),
        },
        CallError::Withheld(_) => (S::PAYMENT_REQUIRED, "cap_reached", None),
        CallError::SessionOver => (S::SERVICE_UNAVAILABLE, "session_over", Some(SOON)),
        CallError::Lost(_) | CallError::LostInSession => (S::BAD_GATEWAY, "answer_lost", None),
        CallError::Unreachable(ClientError::Timeout) => (S::GATEWAY_TIMEOUT, "gateway_timeout", None),
        CallError::Unreachable(_) => (S::BAD_GATEWAY, "gateway_unreachable", None),
        CallError::Away(_) => (S::BAD_GATEWAY, "gateway_unreachable", Some(SOON)),
        CallError::Budget(error) => budget(error),
        CallError::Unknown => (S::BAD_GATEWAY, "settlement_unknown", Some(SOON)),
        CallError::HungUp => (S::BAD_REQUEST, "hung_up", None),
        CallError::Settlement(_) => (S::BAD_GATEWAY, "gateway_cheats", None),
    }
}

fn seconds_to(until: Timestamp) -> u32 {
    u32::try_from(until.seconds().saturating_sub(now().seconds()).max(1)).unwrap_or(u32::MAX)
}

/// Caps are a matter of payment; that of a day passes.
fn budget(error: &BudgetError) -> (StatusCode, &'static str, Option<u32>) {
    use StatusCode as S;
    match error {
        BudgetError::PerCall { .. } => (S::PAYMENT_REQUIRED, "key_call_cap", None),
        BudgetError::PerDay { over_in, .. } => {
            (S::TOO_MANY_REQUESTS, DAY_CAP, Some(u32::try_from(*over_in).unwrap_or(u32::MAX)))
        }
        BudgetError::Total { .. } => (S::PAYMENT_REQUIRED, "key_total_cap", None),
        BudgetError::Ended { .. } => (S::PAYMENT_REQUIRED, "key_ended", None),
        BudgetError::UnderWay { .. } => (S::TOO_MANY_REQUESTS, "key_busy", Some(SOON)),
        BudgetError::Journal(_) => (S::INTERNAL_SERVER_ERROR, "wallet_failed", None),
    }
}

fn refused(details: &ProblemDetails) -> (StatusCode, &'static str, Option<u32>) {
    use StatusCode as S;
    match details.kind() {
        Some(Problem::Busy | Problem::StoreUnavailable | Problem::InProgress) => {
            (S::SERVICE_UNAVAILABLE, "gateway_busy", Some(SOON))
        }
        Some(Problem::CapReached) => (S::PAYMENT_REQUIRED, "cap_reached", None),
        Some(Problem::DoubleSpend | Problem::AlreadySpent) if details.settlement.is_none() => {
            (S::CONFLICT, "wallet_copied", None)
        }
        Some(_) => (S::BAD_GATEWAY, "gateway_refuses", None),
        None => match details.status() {
            S::SERVICE_UNAVAILABLE => (S::SERVICE_UNAVAILABLE, "gateway_busy", Some(SOON)),
            S::GATEWAY_TIMEOUT => (S::GATEWAY_TIMEOUT, "gateway_timeout", None),
            // It was about the payment, and the client knows of none.
            S::UNAUTHORIZED | S::PAYMENT_REQUIRED | S::PROXY_AUTHENTICATION_REQUIRED => {
                (S::BAD_GATEWAY, "gateway_refuses", None)
            }
            status if status.is_client_error() => (status, "gateway_refuses", None),
            _ => (S::BAD_GATEWAY, "gateway_refuses", None),
        },
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        let (status, code, retry_after) = classify(&error);
        let next = match code {
            "cap_reached" => "what is asked for may cost more than the class: run the proxy with a larger --class",
            _ => error.next(),
        };
        Self {
            status,
            code,
            message: error.to_string(),
            fault: error.fault(),
            credit: error.credit(),
            next,
            retry_after,
        }
    }
}

impl Refusal {
    /// As clients of an API read it.
    pub(super) fn into_response(self, dialect: Dialect) -> Response {
        let fault = match self.fault {
            Fault::Caller => "caller",
            Fault::Operator => "operator",
            Fault::Nobody => "nobody",
        };
        let (credit, cost) = match self.credit {
            CreditState::Untouched => ("untouched", None),
            CreditState::Safe => ("safe", None),
            CreditState::Spent(accepted) => ("spent", Some(accepted.cost)),
            CreditState::Disputed => ("disputed", None),
            CreditState::Elsewhere => ("elsewhere", None),
        };
        let said = Said {
            status: self.status,
            code: self.code,
            message: format!("halometer: {}; credit: {credit}; next: {}", self.message, self.next),
            fault,
            credit,
            cost: cost.as_ref().map(ToString::to_string),
            next: self.next,
        };
        let mut answer = (self.status, Json(dialect.say(&said))).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let again = self.retry_after.is_some() && self.code != DAY_CAP;
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(if again { "true" } else { "false" }));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(cost) = cost.map(Credits::micro) {
            headers.insert(COST_HEADER, HeaderValue::from(cost));
        }
        answer
    }
}
