//! Serving, metering and settling what was admitted.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, response};
use hyper::body::Body as _;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Exchange;
use super::forward::{self, Answering, Next};
use super::metering::{Bill, Purse};
use super::received::Received;
use super::running::Entry;
use super::stream::{Inflow, Outflow, Part, Step, tail};
use crate::http::clock::now;
use crate::http::content_digest::CONTENT_DIGEST;
use crate::http::payment::{RECEIPT_HEADER, Receipt};
use crate::http::pricing::{End, Metered};
use crate::http::problem::ProblemDetails;
use crate::http::upstream::UpstreamError;
use crate::protocol::{
    ContentDigest, Credits, Problem, Receipt as SignedReceipt, ReceiptSubject, Settlement, SpendKey,
};

/// How long it is waited for the end of an answer whose length is not known, before it is passed on as it comes.
const GATHERING: Duration = Duration::from_secs(1);

/// What is to be done, and what pays for it.
pub(super) struct Work {
    pub(super) received: Received,
    pub(super) bill: Bill,
    pub(super) next: Next,
}

/// Whoever waits for the answer. The work goes on when he does not any more.
pub(super) struct Reply(Option<oneshot::Sender<Result<Response, ProblemDetails>>>);

impl Reply {
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<Response, ProblemDetails>>) {
        let (send, receive) = oneshot::channel();
        (Self(Some(send)), receive)
    }

    /// Answers, if that was not done yet.
    pub(super) fn send(&mut self, answer: Result<Response, ProblemDetails>) {
        if let Some(send) = self.0.take() {
            // A body that is not taken is seen to be dropped.
            let _ = send.send(answer);
        }
    }
}

/// A call that is over and accounted for.
pub(super) struct Closed {
    /// None in a session, which is settled when it is over.
    settlement: Option<Settlement>,
    receipt: Option<Vec<u8>>,
    pub(super) cost: Credits,
}

/// What became of asking the service.
enum Asked {
    Answer(Response),
    Failed(UpstreamError),
    Cancelled,
}

/// What has come of an answer before it is decided how it is passed on.
enum Gathered {
    Whole(Bytes),
    Open(Vec<Bytes>),
    Over(End),
}

impl Exchange {
    /// Serves, meters and settles what was admitted.
    pub(super) async fn work(&self, work: Work, entry: &Entry, reply: &mut Reply) -> Result<(), ProblemDetails> {
        let Work { received, mut bill, next } = work;
        // The place is kept until all is settled.
        let Received { parts, mut body, place: _place, .. } = received;

        self.may_begin(&mut bill, entry.is_stopped()).await?;

        let takes_trailers = forward::takes_trailers(&parts.headers);
        let mut parts = forward::head(parts);
        // What cannot be read cannot be metered.
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // It was compared, and is not that of a body which the meter changes.
        parts.headers.remove(CONTENT_DIGEST);
        bill.meter.request(&mut parts, &mut body);
        let deadline = Instant::now() + self.timeout();
        let answer = match self.ask(next(forward::request(parts, body)), entry, deadline).await {
            Asked::Answer(answer) => answer,
            Asked::Failed(error) => {
                self.observer.upstream_failed(&error);
                let end = if error.is_unreached() { End::Unreached } else { End::Failed };
                return Err(self.end(&mut bill, end).await?.refusal(upstream_problem(&error)));
            }
            Asked::Cancelled => {
                let closed = self.end(&mut bill, End::Cancelled).await?;
                return Err(closed.refusal(cancelled(&bill)));
            }
        };
        let (mut head, body) = answer.into_parts();
        bill.meter.head(&mut head);
        forward::answer(&mut head);
        if let Some(problem) = upstream_refuses(head.status) {
            drop(body);
            // What goes on in another protocol was no answer.
            let end = if head.status == StatusCode::SWITCHING_PROTOCOLS { End::Failed } else { End::Complete };
            return Err(self.end(&mut bill, end).await?.refusal(problem));
        }
        if bill.is_withheld() {
            drop(body);
            return Err(self.end(&mut bill, End::CapReached).await?.refusal(withheld(&bill)));
        }

        let idle = self.limits.idle_timeout;
        let mut inflow = Inflow { body, trailers: HeaderMap::new(), error: None, deadline, idle };
        let here = match self.gather(&mut bill, &mut inflow, &head, entry).await {
            Gathered::Whole(body) => {
                let closed = self.end(&mut bill, End::Complete).await?;
                reply.send(Ok(closed.response(head, body)));
                return Ok(());
            }
            Gathered::Over(end) => {
                let problem = match inflow.error.take() {
                    Some(error) => {
                        self.observer.upstream_failed(&error);
                        upstream_problem(&error)
                    }
                    None if end == End::CapReached => withheld(&bill),
                    None => cancelled(&bill),
                };
                drop(inflow);
                return Err(self.end(&mut bill, end).await?.refusal(problem));
            }
            Gathered::Open(here) => here,
        };

        // From here on nothing but the answer itself can say what goes wrong.
        if head.status.is_success() {
            head.headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        if takes_trailers {
            head.headers.insert(header::TRAILER, HeaderValue::from_name(RECEIPT_HEADER));
        }
        let (send, outflow) = Outflow::new();
        reply.send(Ok(Response::from_parts(head, Body::new(outflow))));
        let end = match self.pass_on(&mut bill, &mut inflow, &send, entry, here).await {
            End::Failed => End::BrokenOff,
            end => end,
        };
        self.finish(bill, inflow, end, send, takes_trailers).await
    }

    /// Whether work may begin for what was admitted. What was cancelled before it was begun is not, nor what has no price or costs more
    /// than its charge: all are settled at nothing.
    pub(super) async fn may_begin(&self, bill: &mut Bill, stopped: bool) -> Result<(), ProblemDetails> {
        self.observer.admitted();
        let problem = if stopped {
            cancelled(bill)
        } else if !bill.rates.knows(&bill.meter.items()) {
            let detail = "the tariff that this is paid under has no price for what is counted; nothing was done";
            ProblemDetails::new(Problem::ClassUnknown, detail)
        } else if bill.is_over() {
            too_dear(bill)
        } else {
            return Ok(());
        };
        Err(self.close(bill, Metered::NOTHING).await?.refusal(problem))
    }

    /// Settles a call whose answer was passed on, and says how that ends.
    async fn finish(
        &self,
        mut bill: Bill,
        inflow: Inflow,
        end: End,
        send: Sender<Part>,
        takes_trailers: bool,
    ) -> Result<(), ProblemDetails> {
        let Inflow { body, mut trailers, error, idle, .. } = inflow;
        // The service stops before anything else happens.
        drop(body);
        if let Some(error) = error {
            self.observer.upstream_failed(&error);
        }
        bill.meter.trailers(&mut trailers);
        let words = bill.meter.last_words(end);
        let closed = self.end(&mut bill, end).await;
        if let Some(words) = words {
            forward::trailers(&mut trailers);
            let receipt = closed.as_ref().ok().and_then(Closed::receipt_header);
            trailers.extend(receipt.map(|receipt| (RECEIPT_HEADER, receipt)));
            let trailers = takes_trailers.then_some(trailers);
            // In its own time: what is settled does not wait for who is slow to read.
            tokio::spawn(tail(send, words, trailers, idle));
        }
        closed.map(drop)
    }

    /// Asks the service. In a task of its own, as it may panic, and this one has to settle.
    async fn ask(&self, answering: Answering, entry: &Entry, deadline: Instant) -> Asked {
        let mut asking = tokio::spawn(answering);
        let asked = tokio::select! {
            biased;
            answer = timeout_at(deadline, &mut asking) => match answer {
                Ok(Ok(Ok(answer))) => Asked::Answer(answer),
                Ok(Ok(Err(error))) => Asked::Failed(UpstreamError::from_service(error)),
                Ok(Err(panic)) => Asked::Failed(UpstreamError::Service(panic.into())),
                Err(_) => Asked::Failed(UpstreamError::Timeout),
            },
            () = entry.stopped() => Asked::Cancelled,
        };
        asking.abort();
        asked
    }

    /// Waits for the whole answer, unless it is a stream, or long. What costs more than can be paid for is withheld, for nothing of it
    /// was passed on.
    async fn gather(&self, bill: &mut Bill, inflow: &mut Inflow, head: &response::Parts, entry: &Entry) -> Gathered {
        let (max, length) = (self.limits.max_whole, inflow.body.size_hint());
        if is_stream(&head.headers) || length.lower() > max as u64 {
            return Gathered::Open(Vec::new());
        }
        let by = match length.exact() {
            Some(_) => inflow.deadline,
            None => inflow.deadline.min(Instant::now() + GATHERING),
        };
        let (mut here, mut size) = (Vec::new(), 0);
        loop {
            let until = inflow.patience();
            let step = tokio::select! {
                biased;
                step = inflow.next(entry, until) => step,
                () = sleep_until(by), if by < until => return Gathered::Open(here),
            };
            match step {
                Step::Chunk(chunk) => {
                    let passed = bill.meter.chunk(chunk);
                    if bill.is_withheld() {
                        return Gathered::Over(End::CapReached);
                    }
                    // Where the service says what it costs, this is to be had for what is left of a session's charge.
                    if bill.is_over() && !bill.is_reported() {
                        return Gathered::Open(here);
                    }
                    size += passed.len();
                    here.push(passed);
                    if size > max {
                        return Gathered::Open(here);
                    }
                }
                Step::Over(End::Complete) => {
                    bill.meter.trailers(&mut inflow.trailers);
                    if bill.is_withheld() {
                        return Gathered::Over(End::CapReached);
                    }
                    here.extend(bill.meter.last_words(End::Complete));
                    return Gathered::Whole(here.concat().into());
                }
                Step::Over(end) => return Gathered::Over(end),
            }
        }
    }

    /// Settles a call that is over.
    async fn end(&self, bill: &mut Bill, end: End) -> Result<Closed, ProblemDetails> {
        let metered = bill.meter.end(end);
        self.close(bill, metered).await
    }

    pub(super) async fn close(&self, bill: &mut Bill, metered: Metered) -> Result<Closed, ProblemDetails> {
        let spend = match &mut bill.purse {
            Purse::Whole(spend) => spend,
            Purse::Part(part) => return Ok(Closed { settlement: None, receipt: None, cost: part.end(&metered) }),
        };
        let (charge, key) = (spend.charge(), spend.key());
        // What counts is what the set holds, which another may have settled.
        let settlement = self.settle(spend, bill.rates.cost(&metered)).await?;
        let cost = charge.checked_sub(settlement.refund).unwrap_or(Credits::ZERO);
        let receipt = self.receipt(key, bill.content, metered.units(), cost);
        Ok(Closed { settlement: Some(settlement), receipt, cost })
    }

    /// The signed receipt. None where the pricing reports a usage that no receipt can have.
    pub(super) fn receipt(
        &self,
        spend: SpendKey,
        content: ContentDigest,
        usage: Vec<(String, u64)>,
        cost: Credits,
    ) -> Option<Vec<u8>> {
        let (issuer, gateway) = (self.ledger.directory().issuer(), self.ledger.id());
        let subject = ReceiptSubject { issuer, gateway, spend, content };
        let receipt = SignedReceipt::sign(&self.key, &subject, usage, cost, rand::random());
        receipt.ok().map(|receipt| receipt.to_bytes())
    }
}

impl Closed {
    /// A problem with what it came to attached, where that is known.
    pub(super) fn refusal(&self, problem: ProblemDetails) -> ProblemDetails {
        let problem = match &self.settlement {
            Some(settlement) => problem.with_settlement(&settlement.to_bytes()),
            None => problem,
        };
        problem.with_receipt(self.receipt.as_deref())
    }

    pub(super) fn receipt_header(&self) -> Option<HeaderValue> {
        let (cost, now) = (self.cost.micro(), now().seconds());
        let receipt = match &self.settlement {
            Some(settlement) => Receipt::new(&settlement.to_bytes(), cost, now),
            None => Receipt::in_session(rand::random(), cost, now),
        };
        let receipt = match &self.receipt {
            Some(signed) => receipt.with_signed(signed),
            None => receipt,
        };
        HeaderValue::from_str(&receipt.to_header_value()).ok()
    }

    /// What the service answered, with the receipt if it was a success (the scheme allows it nowhere else; after a failure the
    /// settlement is asked for).
    fn response(&self, mut head: response::Parts, body: Bytes) -> Response {
        if head.status.is_success() {
            head.headers.extend(self.receipt_header().map(|receipt| (RECEIPT_HEADER, receipt)));
            head.headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        (head.status, head.headers, body).into_response()
    }
}

/// Whether the answer is to be passed on as it comes, however short.
fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(kind.as_str(), "text/event-stream" | "application/x-ndjson" | "application/jsonl")
}

fn too_dear(bill: &Bill) -> ProblemDetails {
    let detail = match &bill.purse {
        Purse::Whole(_) => {
            "the charge is below the price of this call; nothing was done, and its settlement is attached"
        }
        Purse::Part(_) => "what is left of the session's charge is below the price of this call; nothing was done",
    };
    ProblemDetails::new(Problem::CapReached, detail)
}

fn withheld(bill: &Bill) -> ProblemDetails {
    ProblemDetails::withheld(match &bill.purse {
        Purse::Whole(_) => {
            "the service's price is above the charge: the answer is withheld, and the settlement is attached"
        }
        Purse::Part(_) => "the service's price is above what can be paid in this session: the answer is withheld",
    })
}

fn cancelled(bill: &Bill) -> ProblemDetails {
    let detail = match &bill.purse {
        Purse::Whole(_) => "the call was cancelled; its settlement is attached",
        Purse::Part(_) => "the session was ended; its settlement can be asked for",
    };
    ProblemDetails::new(Problem::AlreadySpent, detail)
}

/// These would tell the caller that *he* lacks a permission, when it is the gateway's that the service refused.
fn upstream_refuses(status: StatusCode) -> Option<ProblemDetails> {
    let ours = [StatusCode::UNAUTHORIZED, StatusCode::PAYMENT_REQUIRED, StatusCode::PROXY_AUTHENTICATION_REQUIRED];
    // Nothing here goes on in another protocol, and nobody asked for one: `Upgrade` is not passed on.
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let detail = "the upstream answers 101: another protocol is not passed on";
        return Some(ProblemDetails::plain(StatusCode::BAD_GATEWAY, detail));
    }
    let detail = || format!("the upstream refuses the gateway: {status}");
    ours.contains(&status).then(|| ProblemDetails::plain(StatusCode::BAD_GATEWAY, detail()))
}

pub(super) fn upstream_problem(error: &UpstreamError) -> ProblemDetails {
    let status = match error {
        UpstreamError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    ProblemDetails::plain(status, error.to_string())
}
