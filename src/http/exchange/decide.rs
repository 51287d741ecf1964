//! Deciding about a request that somebody else serves: another proxy, which asks first. Screening, verification, admission, settlement
//! and cancel are those of every other call.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request as HttpRequest;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::Exchange;
use super::bill::Purse;
use super::call::{Call, Paying};
use super::found::Errand;
use super::lease::longest;
use super::received::{Place, other_host};
use super::routes::is_own;
use super::session::{self, Reserved};
use crate::http::content_digest;
use crate::http::pricing::{End, Meter, Metered};
use crate::http::problem::ProblemDetails;
use crate::http::requests::authority;
use crate::pipeline::Source;
use crate::protocol::{ContentDigest, Credits, Problem};

/// A request that is asked about.
pub(in crate::http) struct Asked {
    /// As its caller sent it; its body, if the proxy that asks brings it.
    pub(in crate::http) request: HttpRequest,
    /// Whether the body is that of the request. If not, its digest is what the caller says it is.
    pub(in crate::http) has_body: bool,
}

/// How calls are held whose cost is said later.
#[derive(Clone, Debug)]
pub(in crate::http) struct HoldTerms {
    /// What a call comes to of which nothing is said.
    pub(in crate::http) unreported: Metered,
    /// Whether calls are held too that have a fixed price.
    pub(in crate::http) hold_all: bool,
}

/// What was decided.
pub(in crate::http) enum Decided {
    /// It costs nothing.
    Free,
    /// It is settled, with this receipt.
    Settled(Option<HeaderValue>),
    /// It is paid for, and has to be settled.
    Held(Box<HeldCall>),
}

/// A call that is served elsewhere, and not settled yet.
pub(in crate::http) struct HeldCall {
    call: Call,
    /// What it is settled at if nothing is said.
    unreported: Metered,
    _place: Place,
}

/// What a held call came to.
#[derive(Clone, Debug)]
pub(in crate::http) struct HeldSettled {
    pub(in crate::http) cost: Credits,
    /// For the caller.
    pub(in crate::http) receipt: Option<HeaderValue>,
    /// Whether it costs more than can be paid, so that the answer is to be kept back.
    pub(in crate::http) withheld: bool,
}

/// Admits a request, if it is paid for. To be called in a task of its own; `gone` says whether nobody waits for the decision any more:
/// what was let through to nobody costs nothing.
pub(in crate::http) async fn decide(
    exchange: Arc<Exchange>,
    asked: Asked,
    terms: &HoldTerms,
    gone: &(dyn Fn() -> bool + Send + Sync),
) -> Result<Decided, ProblemDetails> {
    let Asked { mut request, has_body } = asked;
    // The connection is the proxy's, and so would its limits be.
    request.extensions_mut().remove::<Source>();
    let path = request.uri().path();
    if is_own(path) {
        let detail = "this path is the gateway's own: the proxy has to send it there";
        return Err(ProblemDetails::plain(StatusCode::NOT_FOUND, detail));
    }
    if exchange.is_free(&request) {
        let (parts, _) = request.into_parts();
        return authority(&exchange.terms.authorities, &parts).map(|_| Decided::Free).ok_or_else(other_host);
    }
    let paying = Paying::read(request.headers())?;
    let received = exchange.receive(request, exchange.limits.max_body).await?;
    let signed = match has_body {
        true => received.signed(),
        false => received.signed().with_content(declared(&received.parts.headers)?),
    };
    let mut call = match paying {
        Paying::Opening(opening) => {
            let meter = exchange.meter(&received)?;
            let screened = exchange.ledger.screen(opening.into(), signed, Errand::Session).await?;
            // The connection is the proxy's. What one caller sent is not held against the others.
            Call::admit(exchange, *screened.fresh().await?, &Source::new(), meter).await?
        }
        Paying::Following(following) => match session::reserve(&exchange, *following, &received, signed).await? {
            Reserved::Call(call) => call,
            // The proxy that asks serves the call: there is nothing here to pass on.
            Reserved::NotHere(found) => return Err(found.into_problem()),
        },
    };
    call.begin(call.entry.is_stopped() || gone()).await?;
    if let Some(price) = fixed_price(&*call.bill.meter).filter(|_| !terms.hold_all) {
        return Ok(Decided::Settled(call.settle(price).await?.receipt_header()));
    }
    let (_, _, place) = received.into_parts();
    let call = HeldCall { call, unreported: terms.unreported.clone(), _place: place };
    call.write_down().await.map(|call| Decided::Held(Box::new(call)))
}

impl HeldCall {
    /// Writes down what the call comes to if this process dies, before it is let through.
    async fn write_down(mut self) -> Result<Self, ProblemDetails> {
        let cost = self.call.bill.rates.cost(&self.unreported);
        if cost == Credits::ZERO {
            return Ok(self);
        }
        let written = match &self.call.bill.purse {
            Purse::Whole(held) => held.write_now(cost).await,
            // Into its session's account, which is written down each second.
            Purse::Part(part) => {
                part.note(cost);
                return Ok(self);
            }
        };
        let Err(problem) = written else { return Ok(self) };
        Err(self.call.settle(Metered::NOTHING).await?.refusal(problem))
    }

    /// Waits until it has to be settled because its session ends; perhaps for ever. What is paid for by itself waits for its report,
    /// even if it is cancelled: nobody here can stop the work, and who cancels it may have had it.
    pub(in crate::http) fn stopped(&self) -> impl Future<Output = ()> + Send {
        let entry = matches!(self.call.bill.purse, Purse::Part(_)).then_some(&self.call.entry);
        async move {
            match entry {
                Some(entry) => entry.stopped().await,
                None => core::future::pending().await,
            }
        }
    }

    /// How long it may be held, and still be settled by the process that admitted it.
    pub(in crate::http) fn longest(&self) -> Duration {
        longest(self.call.exchange.ledger.lease())
    }

    /// Whether the tariff has a price for what was counted.
    pub(in crate::http) fn knows(&self, metered: &Metered) -> bool {
        self.call.bill.rates.knows(metered)
    }

    /// What the pricing makes of an answer of which nothing but the status is known.
    pub(in crate::http) fn answered(&mut self, status: StatusCode) -> Metered {
        let mut head = Response::new(()).into_parts().0;
        head.status = status;
        self.call.bill.meter.head(&mut head);
        self.call.bill.meter.end(End::Complete)
    }

    /// What it is settled at if nothing is said.
    pub(in crate::http) fn unreported(&self) -> Metered {
        self.unreported.clone()
    }

    /// Settles it. Can be asked again after a failure.
    pub(in crate::http) async fn settle(&mut self, metered: Metered) -> Result<HeldSettled, ProblemDetails> {
        let withheld = self.call.bill.rates.withholds(&metered);
        let settled = self.call.settle(metered).await?;
        Ok(HeldSettled { cost: settled.cost, receipt: settled.receipt_header(), withheld })
    }
}

/// The price, where it is known before anything is done.
fn fixed_price(meter: &dyn Meter) -> Option<Metered> {
    meter.most().filter(|most| *most == meter.least())
}

/// The digest of a body that is not here, as the request says it; that of an empty one if it says nothing and has none.
fn declared(headers: &HeaderMap) -> Result<ContentDigest, ProblemDetails> {
    let malformed = |detail: String| ProblemDetails::new(Problem::Malformed, detail);
    if let Some(digest) = content_digest::read(headers).map_err(|error| malformed(error.to_string()))? {
        return Ok(digest);
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (first, more) = (lengths.next(), lengths.next());
    let empty = first.is_none_or(|length| length.as_bytes() == b"0") && more.is_none();
    if !empty || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(malformed("the body is not seen local: Content-Digest has to say its SHA-256".to_owned()));
    }
    Ok(ContentDigest::of(b""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pattern::RoutePattern;
    use crate::http::pricing::{Call, FixedPricing, HeaderPricing, Pricing as _};

    #[test]
    fn a_body_that_is_not_here_has_a_digest_or_there_is_none() {
        let of = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            declared(&headers)
        };
        let (empty, other) = (ContentDigest::of(b""), ContentDigest::of(b"x"));
        let field = content_digest::write(&other);
        let field = ("content-digest", field.to_str().unwrap());
        assert_eq!((of(&[]), of(&[("content-length", "0")])), (Ok(empty), Ok(empty)));
        assert_eq!((of(&[field]), of(&[("content-length", "1"), field])), (Ok(other), Ok(other)));
        for lines in [
            &[("content-length", "1")][..],
            &[("content-length", "0"), ("content-length", "1")],
            &[("transfer-encoding", "chunked")],
            &[("content-digest", "sha-256=x")],
            &[field, field],
        ] {
            assert_eq!(of(lines).unwrap_err().kind(), Some(Problem::Malformed), "{lines:?}");
        }
    }

    #[test]
    fn only_what_is_sure_is_a_fixed_price() {
        let (headers, body) = (HeaderMap::new(), bytes::Bytes::new());
        let call = Call { method: &http::Method::GET, target: "/", headers: &headers, body: &body };
        let fixed = FixedPricing::new().route("GET /".parse::<RoutePattern>().unwrap(), "page");
        assert_eq!(fixed_price(&*fixed.meter(&call).unwrap()), Some(Metered::usage([("page", 1)])));
        let reported = HeaderPricing::credits(http::HeaderName::from_static("x-cost"));
        assert_eq!(fixed_price(&*reported.meter(&call).unwrap()), None);
    }
}
