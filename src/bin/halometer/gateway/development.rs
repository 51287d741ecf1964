//! Payments by anybody's word, for trying things out.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use rand::RngExt as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use serde::Deserialize;
use serde_json::json;

use halometer::http::problem::ProblemDetails;
use halometer::issuer::{PaymentSource, PaymentSourceError};
use halometer::protocol::{Credits, PaymentId};
use halometer::store::PaymentBook;

/// Where it is said that somebody has paid, at the operator's address.
pub(super) const PAY_PATH: &str = "/development/payments";

/// What was paid by a book: its writer has seen to it that it was.
pub(super) struct Booked(pub(super) Arc<dyn PaymentBook>);

impl PaymentSource for Booked {
    fn paid(&self, payment: &PaymentId) -> Result<Option<Credits>, PaymentSourceError> {
        self.0.paid(payment).map_err(|error| PaymentSourceError(error.into()))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paid {
    /// Micro-credits.
    amount: u64,
}

/// `POST {"amount": N}` is a payment; its id is the answer.
pub(super) fn router(book: Arc<dyn PaymentBook>) -> Router {
    Router::new().route(PAY_PATH, post(pay)).with_state(book)
}

// JSON by its type only: a form on somebody else's page cannot send it.
async fn pay(State(book): State<Arc<dyn PaymentBook>>, Json(paid): Json<Paid>) -> Response {
    let payment = PaymentId::from_bytes(UnwrapErr(SysRng).random());
    let amount = Credits::from_micro(paid.amount);
    if amount.is_zero() {
        return ProblemDetails::plain(StatusCode::BAD_REQUEST, "the amount is 0").into_response();
    }
    match tokio::task::spawn_blocking(move || book.record(payment, amount)).await {
        Ok(Ok(_)) => Json(json!({ "payment": payment.to_string(), "amount": amount.to_string() })).into_response(),
        _ => {
            ProblemDetails::plain(StatusCode::SERVICE_UNAVAILABLE, "the payment could not be recorded").into_response()
        }
    }
}
