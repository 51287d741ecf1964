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
use crate::protocol::{
    ContentDigest, Credits, Digest, Directory, Problem, Receipt as SignedReceipt, ReceiptSubject, Settlement, SpendKey,
    Tariff,
};

impl Inner {
    /// Serves, meters and settles an admitted spend.
    pub(super) async fn work(
        &self,
        spend: AdmittedSpend,
        tariff: &Digest,
        content: ContentDigest,
        received: Received,
        entry: &Entry,
    ) -> Result<Response, ProblemDetails> {
        let Received { parts, body, target, place, .. } = received;
        let Parts { method, headers, .. } = parts;
        let (charge, key) = (spend.charge(), spend.key());
        // What was cancelled before it was begun is not begun.
        let (cost, usage, answer) = if entry.is_stopped() {
            (Credits::ZERO, Vec::new(), None)
        } else {
            let answer = tokio::select! {
                biased;
                answer = self.upstream.send(method, &target, &headers, body.clone()) => Some(answer),
                // The request to the upstream is dropped, and its connection with it.
                () = entry.stopped() => None,
            };
            let (cost, usage) = self.meter(&body, answer.as_ref(), tariff, charge);
            (cost, usage, answer)
        };
        if let Some(Err(error)) = &answer {
            self.observer.upstream_failed(error);
        }
        let settled = self.settle(spend, cost).await?;
        // What counts is what the set holds, which another may have settled.
        let settlement = settled.settlement();
        let cost = charge.checked_sub(settlement.refund).unwrap_or(Credits::ZERO);
        let receipt = self.receipt(key, content, usage, cost);
        drop(place);
        let refused = |problem: ProblemDetails| {
            Err(problem.with_settlement(&settlement.to_bytes()).with_receipt(receipt.as_deref()))
        };
        match answer {
            Some(Ok(answer)) => paid_response(answer, settlement, receipt.as_deref(), cost).or_else(refused),
            Some(Err(error)) => refused(upstream_problem(&error)),
            None => {
                let detail = "the call was cancelled; its settlement is attached";
                refused(ProblemDetails::new(Problem::AlreadySpent, detail))
            }
        }
    }

    /// The signed receipt. None where the pricing reports a usage that no receipt can have.
    fn receipt(
        &self,
        spend: SpendKey,
        content: ContentDigest,
        usage: Vec<(String, u64)>,
        cost: Credits,
    ) -> Option<Vec<u8>> {
        let (issuer, gateway) = (self.gateway.directory().issuer(), self.gateway.id());
        let subject = ReceiptSubject { issuer, gateway, spend, content };
        let receipt = SignedReceipt::sign(&self.key, &subject, usage, cost, rand::random());
        receipt.ok().map(|receipt| receipt.to_bytes())
    }

    /// What the call cost, and of what.
    fn meter(
        &self,
        request: &Bytes,
        answer: Option<&Result<UpstreamAnswer, UpstreamError>>,
        tariff: &Digest,
        charge: Credits,
    ) -> (Credits, Vec<(String, u64)>) {
        let outcome = match answer {
            Some(Ok(answer)) => Outcome::Answered { status: answer.status, body: &answer.body },
            Some(Err(error)) => Outcome::Failed(error),
            None => Outcome::Stopped,
        };
        let directory = self.gateway.directory();
        let quantum = directory.quantum();
        let call = Call { request, outcome };
        let cost = find_tariff(directory, tariff)
            .and_then(|tariff| self.pricing.cost(&call, tariff, quantum))
            .and_then(|cost| cost.round_up(quantum));
        // The charge is a class of the directory, and so a multiple of the quantum.
        (cost.map_or(charge, |cost| cost.min(charge)), self.pricing.usage(&call))
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
fn paid_response(
    answer: UpstreamAnswer,
    settlement: &Settlement,
    signed: Option<&[u8]>,
    cost: Credits,
) -> Result<Response, ProblemDetails> {
    let UpstreamAnswer { status, mut headers, body } = answer;
    // These would tell the caller that *he* lacks a permission, when it is the gateway's that the service refused.
    let ours = [StatusCode::UNAUTHORIZED, StatusCode::PAYMENT_REQUIRED, StatusCode::PROXY_AUTHENTICATION_REQUIRED];
    if ours.contains(&status) {
        let detail = format!("the upstream refuses the gateway: {status}");
        return Err(ProblemDetails::plain(StatusCode::BAD_GATEWAY, detail));
    }
    if status.is_success() {
        let receipt = Receipt::new(&settlement.to_bytes(), cost.micro(), now().seconds());
        let receipt = match signed {
            Some(signed) => receipt.with_signed(signed),
            None => receipt,
        };
        if let Ok(value) = HeaderValue::from_str(&receipt.to_header_value()) {
            headers.insert(RECEIPT_HEADER, value);
        }
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    Ok((status, headers, body).into_response())
}

fn upstream_problem(error: &UpstreamError) -> ProblemDetails {
    let status = match error {
        UpstreamError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    ProblemDetails::plain(status, error.to_string())
}
