//! The service's answer: asked for, metered as it comes, and given to the caller.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header, request, response};
use hyper::body::Body as _;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, timeout_at};

use super::call::{Call, Settled};
use super::forward::{self, Answering, Ending, Next};
use super::inflow::{Gathered, Inflow, is_stream};
use super::outflow::{Outflow, Part, tail};
use super::problems::{unpriced, upstream_problem, upstream_refuses};
use super::reply::Reply;
use super::running::Entry;
use crate::http::content_digest::CONTENT_DIGEST;
use crate::http::payment::RECEIPT_HEADER;
use crate::http::pricing::End;
use crate::http::problem::ProblemDetails;
use crate::http::upstream::UpstreamError;

/// An answer that has begun.
pub(super) struct Served {
    head: response::Parts,
    inflow: Inflow,
    takes_trailers: bool,
    /// The trailers that the service said beforehand.
    declared: Vec<HeaderName>,
    /// The length that the service said, where it may be said again: over HTTP/1.1 either a length or trailers can be.
    length: Option<u64>,
}

/// An answer that is over, before it is settled.
pub(super) struct Over {
    pub(super) end: End,
    words: Words,
}

/// What is left to say to the caller.
enum Words {
    /// All of it.
    Whole(response::Parts, Bytes, Option<HeaderMap>),
    /// Nothing of it, but why.
    Problem(ProblemDetails),
    /// It was passed on, to its end or not.
    Tail(Tail),
}

struct Tail {
    send: Sender<Part>,
    /// None if it broke off.
    words: Option<Bytes>,
    trailers: HeaderMap,
    takes_trailers: bool,
    idle: std::time::Duration,
}

/// What became of asking the service.
enum Asked {
    Answer(Response),
    Failed(UpstreamError),
    Cancelled,
}

impl Over {
    fn problem(end: End, problem: ProblemDetails) -> Self {
        Self { end, words: Words::Problem(problem) }
    }

    /// Says what is left to say, with the receipt.
    pub(super) fn answer(
        self,
        settled: Result<Settled, ProblemDetails>,
        reply: &mut Reply,
    ) -> Result<(), ProblemDetails> {
        match self.words {
            Words::Whole(head, body, trailers) => {
                reply.send(Ok(whole(head, body, trailers, &settled?)));
                Ok(())
            }
            Words::Problem(problem) => Err(settled?.refusal(problem)),
            Words::Tail(tail) => {
                tail.say(settled.as_ref().ok().and_then(Settled::receipt_header));
                settled.map(drop)
            }
        }
    }
}

impl Tail {
    fn say(self, receipt: Option<HeaderValue>) {
        let Self { send, words, mut trailers, takes_trailers, idle } = self;
        let Some(words) = words else { return };
        forward::trailers(&mut trailers);
        trailers.extend(receipt.map(|receipt| (RECEIPT_HEADER, receipt)));
        let trailers = takes_trailers.then_some(trailers);
        // In its own time: what is settled does not wait for a caller that is slow to read.
        tokio::spawn(tail(send, words, trailers, idle));
    }
}

/// What the service answered, with the receipt if it was a success (the scheme allows it nowhere else; after a failure the settlement
/// is asked for).
fn whole(mut head: response::Parts, body: Bytes, trailers: Option<HeaderMap>, settled: &Settled) -> Response {
    if head.status.is_success() {
        head.headers.extend(settled.receipt_header().map(|receipt| (RECEIPT_HEADER, receipt)));
        head.headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    match trailers.filter(|trailers| !trailers.is_empty()) {
        // Nothing is added: what has no type, and what has no body, stays so.
        None => Response::from_parts(head, Body::from(body)),
        Some(trailers) => {
            forward::declare(&mut head.headers, trailers.keys());
            Response::from_parts(head, Body::new(Ending(Some(body).filter(|body| !body.is_empty()), Some(trailers))))
        }
    }
}

impl Call {
    /// Asks the service, in the time that a call has.
    pub(super) async fn serve(&mut self, parts: request::Parts, mut body: Bytes, next: Next) -> Result<Served, Over> {
        let Self { exchange, bill, entry } = self;
        let takes_trailers = forward::takes_trailers(&parts.headers);
        let mut parts = forward::head(parts);
        let (method, one) = (parts.method.clone(), parts.version < http::Version::HTTP_2);
        // What cannot be read cannot be metered.
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // It was compared, and is not that of a body which the meter changes.
        parts.headers.remove(CONTENT_DIGEST);
        bill.meter.request(&mut parts, &mut body);
        let deadline = Instant::now() + exchange.timeout();
        let answer = match ask(next(forward::request(parts, body)), entry, deadline).await {
            Asked::Answer(answer) => answer,
            Asked::Failed(error) => {
                exchange.observer.upstream_failed(&error);
                let end = if error.is_unreached() { End::Unreached } else { End::Failed };
                return Err(Over::problem(end, upstream_problem(&error)));
            }
            Asked::Cancelled => return Err(Over::problem(End::Cancelled, bill.cancelled())),
        };
        let (mut head, body) = answer.into_parts();
        bill.meter.head(&mut head);
        // A stream may lose what the meter asked for, and gain its last words.
        let length = body.size_hint().exact().filter(|_| !(is_stream(&head.headers) || takes_trailers && one));
        let declared = forward::declared(&head.headers);
        forward::answer(&method, &mut head);
        if let Some(problem) = upstream_refuses(head.status) {
            // What goes on in another protocol was no answer.
            let end = if head.status == http::StatusCode::SWITCHING_PROTOCOLS { End::Failed } else { End::Complete };
            return Err(Over::problem(end, problem));
        }
        if bill.is_withheld() {
            return Err(Over::problem(End::CapReached, bill.withheld()));
        }
        if let Some(why) = bill.meter.unpriced() {
            return Err(Over::problem(End::Failed, unpriced(why)));
        }
        let idle = exchange.limits.idle_timeout;
        let inflow = Inflow { body, trailers: HeaderMap::new(), error: None, deadline, idle };
        Ok(Served { head, inflow, takes_trailers, declared, length })
    }

    /// Meters the answer as it comes, to its end: gathers it while it may be short, and passes it on from then.
    pub(super) async fn meter(&mut self, served: Served, reply: &mut Reply) -> Over {
        let Self { exchange, bill, entry } = self;
        let Served { mut head, mut inflow, takes_trailers, declared, length } = served;
        let here = match inflow.gather(bill, &head.headers, entry, exchange.limits.max_whole).await {
            Gathered::Whole(body) => {
                let mut trailers = core::mem::take(&mut inflow.trailers);
                forward::trailers(&mut trailers);
                let trailers = takes_trailers.then_some(trailers);
                return Over { end: End::Complete, words: Words::Whole(head, body, trailers) };
            }
            Gathered::Over(end) => {
                let problem = match inflow.error.take() {
                    Some(error) => {
                        exchange.observer.upstream_failed(&error);
                        upstream_problem(&error)
                    }
                    None if end == End::CapReached => bill.withheld(),
                    None => bill.meter.unpriced().map_or_else(|| bill.cancelled(), unpriced),
                };
                return Over::problem(end, problem);
            }
            Gathered::Open(here) => here,
        };
        // From here on nothing but the answer itself can say what goes wrong.
        if head.status.is_success() {
            head.headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        if takes_trailers {
            forward::declare(&mut head.headers, declared.iter().chain([&RECEIPT_HEADER]));
        }
        // A service of another kind may not know it beforehand; and what has no length by its status has none.
        head.headers.extend(length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from(length))));
        let (send, outflow) = Outflow::new();
        reply.send(Ok(Response::from_parts(head, Body::new(outflow))));
        let end = match inflow.pass_on(bill, &send, entry, here).await {
            End::Failed => End::BrokenOff,
            end => end,
        };
        let Inflow { body, mut trailers, error, idle, .. } = inflow;
        // The service stops before anything else happens.
        drop(body);
        if let Some(error) = error {
            exchange.observer.upstream_failed(&error);
        }
        bill.meter.trailers(&mut trailers);
        let words = bill.meter.last_words(end);
        Over { end, words: Words::Tail(Tail { send, words, trailers, takes_trailers, idle }) }
    }
}

/// Asks the service. In a task of its own, as it may panic, and the call must be settled.
async fn ask(answering: Answering, entry: &Entry, deadline: Instant) -> Asked {
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
