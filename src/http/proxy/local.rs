//! The proxy's own paths.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::{HEALTH_PATH, Passage, STATUS_PATH};
use crate::http::payer::{CallError, Status};
use crate::wallet::Journal;

impl<J: Journal + 'static> Passage<J> {
    pub(super) async fn local(&self, method: &Method, path: &str) -> Response {
        let known = [HEALTH_PATH, STATUS_PATH].contains(&path);
        if known && !matches!(*method, Method::GET | Method::HEAD) {
            let next = "use GET";
            let message = "this path is only looked at";
            return Refusal::request(StatusCode::METHOD_NOT_ALLOWED, "method", message, next).into_response();
        }
        let status = self.payer.status().await;
        let value = match (path, status) {
            (HEALTH_PATH, Ok(_)) => json!({ "status": "ok" }),
            (STATUS_PATH, Ok(status)) => self.describe(&status),
            (HEALTH_PATH | STATUS_PATH, Err(stopped)) => {
                return Refusal::from(CallError::from(stopped)).into_response();
            }
            _ => {
                let next = "the proxy's own paths are /.halometer/healthz and /.halometer/status";
                let message = "the proxy has no such path";
                return Refusal::request(StatusCode::NOT_FOUND, "not_found", message, next).into_response();
            }
        };
        let mut answer = Json(value).into_response();
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    /// Amounts are text, as they may not fit a number.
    fn describe(&self, status: &Status) -> Value {
        let balance = &status.balance;
        let under_way = self.options.max_requests as usize - self.places.available_permits();
        json!({
            "balance": {
                "total": balance.total().to_string(),
                "available": balance.available.to_string(),
                "waiting": balance.waiting.to_string(),
                "reserved": balance.reserved.to_string(),
                "unchecked": balance.unchecked.to_string(),
                "frozen": balance.frozen.to_string(),
                "disputed": balance.disputed.to_string(),
                "void": balance.void.to_string(),
                "ending": balance.ending.to_string(),
            },
            "lanes": {
                "total": status.lanes,
                "ready": status.ready,
                "proving": status.proving,
                "in_flight": status.in_flight,
                "disputed": status.disputed,
                "unchecked": status.unchecked,
                "frozen": status.frozen,
            },
            "requests": { "under_way": under_way, "waiting": status.waiting_calls },
            "quarantined_until": status.quarantined_until.map(|until| until.seconds()),
            "contradicted": status.contradicted,
            "directory_serial": status.serial,
        })
    }
}
