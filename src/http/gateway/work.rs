//! Serving, metering and settling what was admitted.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};

use super::received::Received;
use super::running::Entry;
use super::{Inner, work_problem};
use crate::http::clock::now;
use crate::http::payment::{RECEIPT_HEADER, Receipt};
use crate::http::pricing::{Call, Outcome};
use crate::http::problem::ProblemDetails;
use crate::http::upstream::{UpstreamAnswer, UpstreamError};
use crate::issuer::SettleError;
use crate::lifecycle::{AdmittedSpend, SettledSpend};
use crate::protocol::{Credits, Digest, Directory, Problem, Settlement, Tariff};

impl Inner {
    /// Serves, meters and settles an admitted spend.
    pub(super) async fn work(
        &self,
        spend: AdmittedSpend,
        tariff: &Digest,
        received: Received,
        entry: &Entry,
    ) -> Result<Response, ProblemDetails> {
        let Received { parts, body, target, place, .. } = received;
        let Parts { method, headers, .. } = parts;
        // What was cancelled before it was begun is not begun.
        let begun = !entry.is_stopped();
        let answer = tokio::select! {
            biased;
            answer = self.upstream.send(method, &target, &headers, body.clone()), if begun => Some(answer),
            // The request to the upstream is dropped with its connection.
            () = entry.stopped() => None,
        };
        if let Some(Err(error)) = &answer {
            self.observer.upstream_failed(error);
        }
        let charge = spend.charge();
        let cost = match begun {
            true => self.cost(&body, answer.as_ref(), tariff, charge),
            false => Credits::ZERO,
        };
        let settled = self.settle(spend, cost).await?;
        // What counts is what the set holds, which another may have settled.
        let cost = charge.checked_sub(settled.settlement().refund).unwrap_or(Credits::ZERO);
        drop(place);
        match answer {
            None => {
                let problem =
                    ProblemDetails::new(Problem::AlreadySpent, "the call was cancelled; its settlement is attached");
                Err(problem.with_settlement(&settled.settlement().to_bytes()))
            }
            Some(Ok(answer)) => Ok(paid_response(answer, settled.settlement(), cost)),
            Some(Err(error)) => Err(upstream_problem(&error).with_settlement(&settled.settlement().to_bytes())),
        }
    }

    fn cost(
        &self,
        request: &Bytes,
        answer: Option<&Result<UpstreamAnswer, UpstreamError>>,
        tariff: &Digest,
        charge: Credits,
    ) -> Credits {
        let outcome = match answer {
            Some(Ok(answer)) => Outcome::Answered { status: answer.status, body: &answer.body },
            Some(Err(error)) => Outcome::Failed(error),
            None => Outcome::Stopped,
        };
        let directory = self.gateway.directory();
        let quantum = directory.quantum();
        let cost = find_tariff(directory, tariff)
            .and_then(|tariff| self.pricing.cost(&Call { request, outcome }, tariff, quantum))
            .and_then(|cost| cost.round_up(quantum));
        // The charge is a class of the directory, and so a multiple of the quantum.
        cost.map_or(charge, |cost| cost.min(charge))
    }

    pub(super) async fn settle(&self, spend: AdmittedSpend, cost: Credits) -> Result<SettledSpend, ProblemDetails> {
        let spend = Arc::new(spend);
        let mut pause = Duration::from_millis(50);
        for _ in 0..5 {
            let (gateway, issuer, spend) = (Arc::clone(&self.gateway), Arc::clone(&self.issuer), Arc::clone(&spend));
            let settle = move || {
                let settled = issuer.settle(gateway.set(), &spend, cost, now());
                if settled.is_err() {
                    // So that whoever settles it in the end, after a restart or another process, does so at what it cost. If the
                    // set fails at this too, nothing better can be done.
                    let _ = spend.meter(gateway.set(), cost, now());
                }
                settled
            };
            match self.back.run(settle).await {
                Ok(Ok(settled)) => return Ok(settled),
                Ok(Err(SettleError::Store(_))) => {}
                Ok(Err(error)) => return Err(ProblemDetails::new(error.problem(), error.to_string())),
                Err(error) => return Err(work_problem(error)),
            }
            // The set is what makes it happen once, so that a store that failed may be asked again.
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let detail = "the call was served and is not settled yet: ask for its settlement later";
        Err(ProblemDetails::new(Problem::StoreUnavailable, detail))
    }
}

/// The tariff that the caller agreed to. It was valid when the spend was admitted; by now it may be gone from `accepted_tariff`.
fn find_tariff<'a>(directory: &'a Directory, digest: &Digest) -> Option<&'a Tariff> {
    directory.parts().tariffs.iter().find(|tariff| tariff.digest() == *digest)
}

/// What the service answered, with the receipt if it was a success (the scheme allows it nowhere else; after a failure the
/// settlement is asked for).
fn paid_response(answer: UpstreamAnswer, settlement: &Settlement, cost: Credits) -> Response {
    let UpstreamAnswer { status, mut headers, body } = answer;
    // These would tell the caller that *he* lacks a permission, when it is the gateway's that the service refused.
    let ours = [StatusCode::UNAUTHORIZED, StatusCode::PAYMENT_REQUIRED, StatusCode::PROXY_AUTHENTICATION_REQUIRED];
    if ours.contains(&status) {
        let problem =
            ProblemDetails::plain(StatusCode::BAD_GATEWAY, format!("the upstream refuses the gateway: {status}"));
        return problem.with_settlement(&settlement.to_bytes()).into_response();
    }
    if status.is_success() {
        let receipt = Receipt::new(&settlement.to_bytes(), cost.micro(), now().seconds());
        if let Ok(value) = HeaderValue::from_str(&receipt.to_header_value()) {
            headers.insert(RECEIPT_HEADER, value);
        }
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    (status, headers, body).into_response()
}

fn upstream_problem(error: &UpstreamError) -> ProblemDetails {
    let status = match error {
        UpstreamError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    ProblemDetails::plain(status, error.to_string())
}
