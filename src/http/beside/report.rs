//! The report that closes the loop: what a call came to that somebody else served.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Door;
use super::held::{Handle, ReportError, Said};
use crate::http::pricing::Metered;
use crate::http::problem::ProblemDetails;
use crate::http::requests::read_body;
use crate::protocol::Credits;

/// Where calls are reported.
pub const REPORT_PATH: &str = "/.well-known/halometer/report";

/// Longest report, bytes.
const LONGEST: usize = 16 << 10;
/// How long a report may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Items of the tariff in one report, at most: as many as a receipt can name.
const ITEMS: usize = 32;

/// What a call came to, as JSON: `{"call":"..","usage":{"output_token":12}}`, `{"call":"..","cost":120}` or
/// `{"call":"..","status":502}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallReport {
    /// The value of [`CALL_HEADER`](super::CALL_HEADER).
    pub call: String,
    /// What it cost, micro-credits; rounded up to the quantum, and at most the charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u64>,
    /// Units of items of the tariff, at most 32 items. Not beside a cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<BTreeMap<String, u64>>,
    /// The status of the answer. By itself it leaves the price to the pricing; beside a cost or a usage it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// The answer to a [`CallReport`], as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSettled {
    /// What the call was settled at, micro-credits.
    pub cost: u64,
    /// The value of `Payment-Receipt` for the caller, where the answer is a success and its head was not sent yet. Without it the
    /// caller asks for the settlement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Whether the charge does not cover what was reported. A service that has not answered yet keeps its answer back.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub withheld: bool,
}

impl CallReport {
    fn said(&self) -> Result<Said, &'static str> {
        match (self.cost, &self.usage, self.status) {
            (Some(_), Some(_), _) => Err("a report has a cost or a usage, not both"),
            (Some(cost), None, _) => Ok(Said::Metered(Metered::Cost(Credits::from_micro(cost)))),
            (None, Some(usage), _) if usage.len() > ITEMS => Err("a report names at most 32 items"),
            (None, Some(usage), _) => {
                Ok(Said::Metered(Metered::usage(usage.iter().map(|(item, units)| (item.as_str(), *units)))))
            }
            (None, None, Some(status)) => {
                let status = StatusCode::from_u16(status).map_err(|_| "a status is a number from 100 to 999")?;
                Ok(Said::Status(status))
            }
            (None, None, None) => Err("a report has a cost, a usage or a status"),
        }
    }
}

pub(super) async fn report(shared: Arc<Door>, body: Body) -> Response {
    match take(&shared, body).await {
        Ok(settled) => ([(header::CACHE_CONTROL, "no-store")], Json(settled)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn take(shared: &Door, body: Body) -> Result<CallSettled, ProblemDetails> {
    let bad = |detail: String| ProblemDetails::plain(StatusCode::BAD_REQUEST, detail);
    let body = read_body(body, LONGEST, PATIENCE).await?;
    let report: CallReport = serde_json::from_slice(&body).map_err(|error| bad(format!("no report: {error}")))?;
    let said = report.said().map_err(|error| bad(error.to_owned()))?;
    let unknown = || ReportError::Unknown;
    let reported = match Handle::read(&report.call).ok_or_else(unknown) {
        Ok(handle) => shared.held.report(handle, &said).await,
        Err(error) => Err(error),
    };
    let settled = reported.map_err(|error| {
        let status = match &error {
            ReportError::Unknown => StatusCode::NOT_FOUND,
            ReportError::Settled(_) | ReportError::Other => StatusCode::CONFLICT,
            ReportError::Unpriced => StatusCode::UNPROCESSABLE_ENTITY,
            ReportError::Failed(problem) => return (**problem).clone(),
        };
        ProblemDetails::plain(status, error.to_string())
    })?;
    let receipt = settled.receipt.and_then(|receipt| receipt.to_str().ok().map(str::to_owned));
    Ok(CallSettled { cost: settled.cost.micro(), receipt, withheld: settled.withheld })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> Option<Said> {
        serde_json::from_str::<CallReport>(json).ok()?.said().ok()
    }

    #[test]
    fn a_report_says_one_thing() {
        let cost = Said::Metered(Metered::Cost(Credits::from_micro(7)));
        assert_eq!(said(r#"{"call":"x","cost":7}"#), Some(cost.clone()));
        assert_eq!(said(r#"{"call":"x","cost":7,"status":500}"#), Some(cost));
        let usage = Said::Metered(Metered::usage([("a", 1), ("b", 2)]));
        assert_eq!(said(r#"{"call":"x","usage":{"b":2,"a":1}}"#), Some(usage));
        assert_eq!(said(r#"{"call":"x","status":404}"#), Some(Said::Status(StatusCode::NOT_FOUND)));
        let many: BTreeMap<String, u64> = (0..33).map(|item| (item.to_string(), 1)).collect();
        let many = serde_json::json!({ "call": "x", "usage": many }).to_string();
        for odd in [
            "",
            "[]",
            r#"{"call":"x"}"#,
            r#"{"cost":7}"#,
            r#"{"call":"x","cost":-1}"#,
            r#"{"call":"x","cost":1.5}"#,
            r#"{"call":"x","cost":18446744073709551616}"#,
            r#"{"call":"x","cost":7,"usage":{}}"#,
            r#"{"call":"x","cost":7,"cost":8}"#,
            r#"{"call":"x","cots":7}"#,
            r#"{"call":"x","status":20}"#,
            &many,
        ] {
            assert_eq!(said(odd), None, "{odd}");
        }
    }
}
