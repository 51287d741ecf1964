//! What a call costs.
//!
//! A [`Pricing`] makes a [`Meter`] for each call, before anything is done for it. The meter sees the request, the head of the answer,
//! each chunk of its body and how it ended, and says at any time what was [`Metered`] so far: that is written into the spend's record
//! while a long answer runs, and what the call is settled at when it ends early. It counts; the gateway turns what was counted into
//! credits, by the tariff that the caller agreed to, rounds up to the quantum, and never takes more than the charge.
//!
//! | what happened | [`FixedPricing`] | [`BytePricing`] | [`HeaderPricing`], [`ReportedPricing`] | [`TokenPricing`] |
//! | --- | --- | --- | --- | --- |
//! | a whole answer | the route's item, by call, picture or second | its bytes and the request's | what was reported | the answer's `usage` |
//! | the same, and nothing was reported | | | what is set for it, or the charge | an estimate of request and answer; nothing if the answer is empty or an error |
//! | the same, of pictures or sound | | | | it is withheld, at no cost; the charge if it is too long to be withheld |
//! | an answer that the meter cannot read | | | | it is withheld, at no cost |
//! | an answer that is no success (3xx, 4xx, 5xx) | nothing | nothing | what was reported, or nothing | nothing |
//! | the service could not be reached | nothing | nothing | nothing | nothing |
//! | it failed, and the caller got nothing of its answer | nothing | nothing | nothing | the `usage` so far, or nothing |
//! | it broke off in an answer that was passed on | nothing | the bytes so far | what was reported, or what is set for it | the `usage` so far, or the estimate so far |
//! | the caller hung up on a stream, or cancelled, before the answer | the route's item | the request's bytes | what was reported, or what is set for it | the estimate of the request |
//! | the same, in the answer | the route's item | the bytes so far | what was reported, or what is set for it | the `usage` so far, or the estimate so far |
//! | the cap was reached, and the answer is broken off or withheld | not served: see [`Meter::least`] | the charge | the charge | the charge |
//!
//! What a caller cancels before the service was asked costs nothing, whatever the pricing says.

mod bytes;
mod fixed;
mod header;
mod rates;
mod reported;
mod sold;
mod tokens;

pub use self::bytes::BytePricing;
pub use fixed::{FixedPricing, Per};
pub use header::HeaderPricing;
pub(crate) use rates::Rates;
pub use reported::{Report, ReportedPricing};
pub use sold::SoldRoutes;
pub use tokens::{INPUT_TOKEN, OUTPUT_TOKEN, Refusals, TokenPricing, UnknownDialect, Vocabulary};

use ::bytes::Bytes;
use http::{HeaderMap, Method, request, response};

/// A request that is paid for and not yet worked on, as far as its price may depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path and query, as they were sent.
    pub target: &'a str,
    /// Its headers, the payment's included.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a Bytes,
}

impl<'a> Call<'a> {
    /// Its path, as it was sent.
    pub fn path(&self) -> &'a str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Metered {
    /// So many units of these items of the tariff; of at most 32 items, as that is what a receipt can say.
    Usage(Vec<(String, u64)>),
    /// A cost, said outright. It is rounded up to the quantum.
    Cost(crate::protocol::Credits),
    /// It cannot be told: the whole charge.
    Charge,
}

impl Metered {
    /// Nothing, which costs nothing.
    pub const NOTHING: Self = Self::Cost(crate::protocol::Credits::ZERO);

    /// Units of items of the tariff.
    pub fn usage<'a>(items: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        Self::Usage(items.into_iter().map(|(item, units)| (item.to_owned(), units)).collect())
    }

    /// What a receipt says: the units, if there are any. One that names none says what the call cost and not why.
    pub(crate) fn units(self) -> Vec<(String, u64)> {
        match self {
            Self::Usage(units) => units,
            Self::Cost(_) | Self::Charge => Vec::new(),
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The answer is whole.
    Complete,
    /// The service could not be reached: it did nothing.
    Unreached,
    /// The service failed, or took too long, before anything of its answer was passed on. It may have worked.
    Failed,
    /// The service broke off, or took too long, in an answer that was being passed on.
    BrokenOff,
    /// The caller hung up on a stream, or did not read it.
    Gone,
    /// The caller cancelled the call after the service was asked.
    Cancelled,
    /// The call costs more than its charge, and was stopped.
    CapReached,
}

/// Why a request is not for sale. Nothing is spent. The caller is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSold {
    /// What it asks for is not. It is answered 404.
    #[error("there is no such path")]
    Path,
    /// It may be read in more than one way, or asks for an answer whose price nobody would say. It is answered 400.
    #[error("{0}")]
    Malformed(String),
    /// Its body is of a kind, or in a coding, that is not read here. It is answered 415.
    #[error("{0}")]
    Unsupported(String),
}

/// What calls cost.
pub trait Pricing: Send + Sync {
    /// A meter for this call. Nothing is done yet, and nothing spent.
    ///
    /// # Errors
    /// [`NotSold`]; nothing is spent then.
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold>;
}

/// Meters one call. What it holds must be bounded, however long the answer.
pub trait Meter: Send {
    /// What the service is sent, which the meter may change. The length of the body is set afterwards.
    fn request(&mut self, head: &mut request::Parts, body: &mut Bytes) {
        let _ = (head, body);
    }

    /// What may be counted, in any numbers: a spend whose tariff has no price for some of it is refused before anything is done for it,
    /// and costs nothing. Nothing by default; what is counted all the same, and has no price, costs the whole charge.
    fn items(&self) -> Metered {
        Metered::NOTHING
    }

    /// What the call costs at least, by what is known so far. Where that is above the charge before the service was asked,
    /// the call is refused and costs nothing; where it becomes so later, the answer is stopped. Nothing by default: the call is never
    /// stopped.
    fn least(&self) -> Metered {
        Metered::NOTHING
    }

    /// What the service says that the call costs, once it has said so: in the head of its answer, or by its end. Where that is above the
    /// charge and nothing of the answer was passed on yet, nothing is, and the charge is kept: who could have answers for less than they
    /// cost by offering less would offer the least. Nothing by default.
    fn reported(&self) -> Metered {
        Metered::NOTHING
    }

    /// What the call may cost at most, by its request: what a session has to hold ready for it. None if nothing less than the whole
    /// charge is sure to be enough.
    fn most(&self) -> Option<Metered> {
        None
    }

    /// The head of the answer, of which the meter may take things out.
    fn head(&mut self, head: &mut response::Parts) {
        let _ = head;
    }

    /// A chunk of the answer's body. Gives what of it is passed on, which may be empty, and less or more than came.
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        chunk
    }

    /// Why nothing more of the answer may be passed on: it cannot be priced, as it cannot be read or says no usage where nothing else tells
    /// what it cost. It is asked for after the head, after each chunk and after the [last words](Self::last_words). An answer of which
    /// nothing was passed on is withheld then, and ends as [`End::Failed`]; another breaks off. None by default.
    fn unpriced(&self) -> Option<&'static str> {
        None
    }

    /// What the operator should be told of this service, once. It says nothing of the call. None by default.
    fn notice(&mut self) -> Option<String> {
        None
    }

    /// The trailers of the answer, of which the meter may take things out.
    fn trailers(&mut self, trailers: &mut HeaderMap) {
        let _ = trailers;
    }

    /// What was metered so far: what the call comes to if everything stops here.
    fn metered(&self) -> Metered;

    /// What the body ends with: after a whole answer what was held back, after another what tells its reader, in a form that it
    /// understands. None, the default for what is not whole, if there is no such form: then the answer is broken off. It is asked for
    /// before [`end`](Self::end), of answers whose head was passed on, and of whole ones.
    fn last_words(&mut self, end: End) -> Option<Bytes> {
        (end == End::Complete).then(Bytes::new)
    }

    /// What the call comes to, now that it is over.
    fn end(&mut self, end: End) -> Metered;
}
