//! The way of a paid call.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request as HttpRequest;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::Exchange;
use super::bill::{Bill, Purse};
use super::forward::Next;
use super::found::{Candidate, Errand};
use super::ledger::Unadmitted;
use super::pass::elsewhere;
use super::problems::failed;
use super::reply::Reply;
use super::running::Entry;
use super::session::{self, Reserved};
use crate::http::clock::now;
use crate::http::payment::{Payload, PaymentReceipt};
use crate::http::pricing::{End, Meter, Metered};
use crate::http::problem::ProblemDetails;
use crate::http::requests::{Signed, read_credential};
use crate::lifecycle::ParsedSpend;
use crate::pipeline::Source;
use crate::protocol::{Action, Credits, Following, Opening, Problem, Settlement};

/// What a request for the service pays with.
pub(super) enum Paying {
    Opening(Vec<u8>),
    Following(Box<Following>),
}

impl Paying {
    /// Before the body is read: a caller that cannot even get the length right does not get to send one.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, ProblemDetails> {
        match read_credential(headers)? {
            Payload::Opening(opening) if opening.len() != Opening::LENGTH => {
                Err(ProblemDetails::new(Problem::Malformed, "the spend has the wrong length"))
            }
            Payload::Opening(opening) => Ok(Self::Opening(opening)),
            Payload::Following(following) => {
                session::read_following(&following, Action::Call).map(|following| Self::Following(Box::new(following)))
            }
        }
    }
}

/// What a call needs once it is priced.
enum Priced {
    /// A spend of its own, which must be screened and admitted.
    Spend(Vec<u8>, Signed, Box<dyn Meter>),
    /// Its part of a session's charge, which is reserved.
    Reserved(Call),
}

/// The way of a paid call, from its request to its answer: read, price, screen, admit, serve, meter, settle, answer.
///
/// A short answer is kept until it is settled and answered with its receipt; a stream is passed on while it is metered, and the last
/// step says what is left to say of it.
pub(super) async fn pay(exchange: Arc<Exchange>, request: HttpRequest, next: Next) -> Result<Response, ProblemDetails> {
    // Read: what it pays with, then all of it.
    let paying = Paying::read(request.headers())?;
    let source = request.extensions().get::<Source>().cloned().unwrap_or_default();
    let received = exchange.receive(request, exchange.limits.max_body).await?;
    let (since, observer) = (Instant::now(), Arc::clone(&exchange.observer));
    let signed = received.signed();
    // Price: what meters it. A session's call reserves the most that it may cost, beside the calls that run.
    let priced = match paying {
        Paying::Opening(opening) => Priced::Spend(opening, signed, exchange.meter(&received)?),
        Paying::Following(following) => {
            match session::reserve(&exchange, *following, &received, signed).await? {
                Reserved::Call(call) => Priced::Reserved(*call),
                // Not in a task of its own: it ends when its caller hangs up, as it does at the owner.
                Reserved::NotHere(found) => return elsewhere(&exchange, found, received).await,
            }
        }
    };
    // In a task of its own: a caller that hangs up does not stop what must be settled.
    let (mut reply, answer) = Reply::new();
    tokio::spawn(async move {
        let answering = &mut reply;
        let carried = async move {
            let mut call = match priced {
                Priced::Reserved(call) => call,
                Priced::Spend(opening, signed, meter) => {
                    // Screen: the cheap checks, and whether the spend is known.
                    let opening = Bytes::from(opening);
                    let screened = exchange.ledger.screen(opening.clone(), signed, Errand::Session).await?;
                    let candidate = screened.fresh().await.map_err(|problem| timed(&exchange, problem, &opening))?;
                    // Admit: verified, and in the set.
                    let call = Call::admit(exchange, *candidate, &source, meter).await?;
                    observer.admission_took(since.elapsed());
                    call
                }
            };
            call.begin(call.entry.is_stopped()).await?;
            // The place is kept until all is settled.
            let (parts, body, _place) = received.into_parts();
            // Serve, and meter what comes of it.
            let over = match call.serve(parts, body, next).await {
                Ok(served) => call.meter(served, answering).await,
                Err(over) => over,
            };
            // Settle.
            let settled = call.end(over.end).await;
            observer.call_took(since.elapsed());
            // Answer.
            over.answer(settled, answering)
        };
        if let Err(problem) = carried.await {
            reply.send(Err(problem));
        }
    });
    answer.await.unwrap_or_else(|_| Err(failed()))
}

/// A refusal, with the time after which to ask again.
fn timed(exchange: &Exchange, problem: ProblemDetails, opening: &[u8]) -> ProblemDetails {
    // Nothing is read again for other refusals, of which there may be many.
    if problem.kind() != Some(Problem::InProgress) {
        return problem;
    }
    match ParsedSpend::parse(opening, exchange.directory()) {
        Ok(parsed) => exchange.running.timed(problem, &parsed.key()),
        Err(_) => problem,
    }
}

/// A call that is let in: what pays for it, and its place among those that run.
pub(super) struct Call {
    /// By which it is worked on.
    pub(super) exchange: Arc<Exchange>,
    pub(super) bill: Bill,
    pub(super) entry: Entry,
}

/// A call that is over and settled.
pub(super) struct Settled {
    /// None in a session, which is settled when it is over.
    settlement: Option<Settlement>,
    receipt: Option<Vec<u8>>,
    pub(super) cost: Credits,
}

impl Call {
    /// Admits a spend that opens a session of one call.
    pub(super) async fn admit(
        exchange: Arc<Exchange>,
        candidate: Candidate<Unadmitted>,
        source: &Source,
        meter: Box<dyn Meter>,
    ) -> Result<Self, ProblemDetails> {
        let (tariff, content) = (candidate.tariff, candidate.content);
        // Before it can be admitted, so that no cancel finds work that it cannot stop.
        let entry = exchange.running.enter(candidate.key);
        let held = candidate.admit(source).await?.admitted().await?;
        let rates = exchange.rates(&tariff, held.charge());
        let bill = Bill::new(Purse::Whole(held), rates, meter, content);
        Ok(Self { exchange, bill, entry })
    }

    /// Whether work may begin for what was admitted. What was cancelled before it was begun is not, nor what has no price or costs more
    /// than its charge: all are settled at nothing.
    pub(super) async fn begin(&mut self, stopped: bool) -> Result<(), ProblemDetails> {
        self.exchange.observer.admitted();
        let bill = &self.bill;
        let problem = if stopped {
            bill.cancelled()
        } else if !bill.rates.knows(&bill.meter.items()) {
            let detail = "the tariff that this is paid under has no price for what is counted; nothing was done";
            ProblemDetails::new(Problem::ClassUnknown, detail)
        } else if bill.is_over() {
            bill.too_dear()
        } else {
            return Ok(());
        };
        Err(self.settle(Metered::NOTHING).await?.refusal(problem))
    }

    /// Settles it at what its meter makes of its end.
    async fn end(&mut self, end: End) -> Result<Settled, ProblemDetails> {
        let metered = self.bill.meter.end(end);
        if let Some(notice) = self.bill.meter.notice() {
            self.exchange.observer.service_noticed(&notice);
        }
        self.settle(metered).await
    }

    /// Settles it. Can be asked again after a failure.
    pub(super) async fn settle(&mut self, metered: Metered) -> Result<Settled, ProblemDetails> {
        let held = match &mut self.bill.purse {
            Purse::Whole(held) => held,
            Purse::Part(part) => return Ok(Settled { settlement: None, receipt: None, cost: part.end(&metered) }),
        };
        // What counts is what the set holds, which another may have settled.
        let settlement = held.settle(self.bill.rates.cost(&metered)).await?;
        let cost = held.charge().checked_sub(settlement.refund).unwrap_or(Credits::ZERO);
        let receipt = self.exchange.receipt(held.key(), self.bill.content, metered.units(), cost);
        Ok(Settled { settlement: Some(settlement), receipt, cost })
    }
}

impl Settled {
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
            Some(settlement) => PaymentReceipt::new(&settlement.to_bytes(), cost, now),
            None => PaymentReceipt::in_session(rand::random(), cost, now),
        };
        let receipt = match &self.receipt {
            Some(signed) => receipt.with_signed(signed),
            None => receipt,
        };
        HeaderValue::from_str(&receipt.to_header_value()).ok()
    }
}
