//! A price for each token.

mod answer;
mod learned;
mod meter;

use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use self::learned::Learned;
use self::meter::TokenMeter;
use super::{Call, Meter, Metered, NotSold, Pricing};
use crate::http::coding::{Coding, CodingError};
use crate::http::pattern::{RoutePattern, is_normal};
use crate::http::usage::{Body, Counter, DIALECTS, Dialect, Usage, check};
use crate::protocol::{Credits, Tariff};

/// Name of the tariff's item for tokens of the request.
pub const INPUT_TOKEN: &str = "input_token";
/// Name of the tariff's item for tokens of the answer.
pub const OUTPUT_TOKEN: &str = "output_token";

/// How many tokens of a [`Vocabulary`] count as one, if nothing else is said: no tokenizer that we measured makes so many one.
const MARGIN: u64 = 2;
/// Longest body when it is decoded, bytes, if nothing else is said.
const DECODED: usize = 4 << 20;

/// Prices by tokens, as services report them: items [`INPUT_TOKEN`] and [`OUTPUT_TOKEN`] of the tariff.
///
/// What is sold are the routes of the dialects that are known: `POST` of OpenAI's chat completions, completions, responses, embeddings,
/// images, transcriptions and speech; Anthropic's messages; Ollama's chat and generate; Gemini's generateContent and
/// streamGenerateContent; Cohere's chat. [`sells`](Self::sells) narrows or extends that, and [`everything`](Self::everything) has no limit.
/// A path is compared as it was sent, and sold in its one normal form only.
///
/// A request is sold if every reader reads it alike; what is not is refused, at no cost. Its body may be coded by gzip, deflate or zstd: it is
/// passed on decoded.
///
/// An answer is read as what it is, whatever its head says. What is reported never falls; what is not reported is no zero, and estimated:
/// 3 bytes of the text in the request, or of that in the answer, to a token. An answer without any content, or with an error in place of
/// one, costs what is reported, or nothing. One that cannot be read, and pictures or sound without a report, is withheld at no cost.
///
/// A stream of completions reports its `usage` where it is asked to by `stream_options.include_usage`. The gateway asks, and where the
/// caller did not, takes the event with the `usage` out again; all other bytes are passed on as they came.
///
/// A stream is stopped at the cap by the words in it, counted by a real [`Vocabulary`]: never by more than were written. A whole answer
/// whose `usage` costs more than the charge is withheld; a request whose words alone cost more is refused at no cost.
#[derive(Clone, Debug)]
pub struct TokenPricing {
    sold: Sold,
    compressed: bool,
    max_decoded: usize,
    counter: Counter,
    /// Routes whose services are not asked for the usage of a stream.
    unasked: Arc<[RoutePattern]>,
    learned: Arc<Learned>,
}

#[derive(Clone, Debug)]
enum Sold {
    Routes(Arc<[RoutePattern]>),
    Everything,
}

/// A vocabulary that words are counted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vocabulary {
    /// OpenAI's `o200k_base`.
    #[default]
    O200k,
    /// OpenAI's `cl100k_base`.
    Cl100k,
    /// None: words are not counted, and a stream is stopped by what it reports on its way only.
    None,
}

/// Which services are known not to take `stream_options`, by path. Clones are one memory: give the same to each pricing that takes the place
/// of another, so that a reload forgets nothing.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Learned>);

/// A name that no dialect has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no dialect; choose one of {known}", known = TokenPricing::dialects().collect::<Vec<_>>().join(", "))]
pub struct UnknownDialect(String);

impl Default for TokenPricing {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenPricing {
    /// Sells the routes of all dialects that are known.
    pub fn new() -> Self {
        let routes = DIALECTS.iter().flat_map(routes).collect();
        Self {
            sold: Sold::Routes(routes),
            compressed: true,
            max_decoded: DECODED,
            counter: Counter { vocabulary: Vocabulary::O200k, margin: MARGIN },
            unasked: Arc::new([]),
            learned: Arc::default(),
        }
    }

    /// The names of the dialects that are known.
    pub fn dialects() -> impl Iterator<Item = &'static str> {
        DIALECTS.iter().map(|dialect| dialect.name)
    }

    /// The routes of a dialect.
    ///
    /// # Errors
    /// [`UnknownDialect`].
    pub fn routes_of(dialect: &str) -> Result<Vec<RoutePattern>, UnknownDialect> {
        let dialect = Dialect::named(dialect).ok_or_else(|| UnknownDialect(dialect.to_owned()))?;
        Ok(routes(dialect).collect())
    }

    /// Sells these routes, and nothing else. What a route's path ends with says which dialect it speaks.
    #[must_use]
    pub fn sells(self, routes: impl IntoIterator<Item = RoutePattern>) -> Self {
        Self { sold: Sold::Routes(routes.into_iter().collect()), ..self }
    }

    /// Sells these routes beside those that it sells already.
    #[must_use]
    pub fn and_sells(self, more: impl IntoIterator<Item = RoutePattern>) -> Self {
        let sold = match self.sold {
            Sold::Routes(routes) => Sold::Routes(routes.iter().cloned().chain(more).collect()),
            Sold::Everything => Sold::Everything,
        };
        Self { sold, ..self }
    }

    /// Sells every path, of dialects that are not known too. What such a service does now and answers later or elsewhere (batches, files,
    /// background work) is sold for the length of a receipt.
    #[must_use]
    pub fn everything(self) -> Self {
        Self { sold: Sold::Everything, ..self }
    }

    /// Refuses requests whose body is compressed.
    #[must_use]
    pub fn without_compressed_requests(self) -> Self {
        Self { compressed: false, ..self }
    }

    /// The longest body that a compressed request may have when it is decoded, bytes. 4 MiB if it is not said.
    #[must_use]
    pub fn max_decoded(self, bytes: usize) -> Self {
        Self { max_decoded: bytes, ..self }
    }

    /// What words are counted by, and how many of these tokens count as one: 1 if it is the vocabulary of the models that are sold. If it
    /// is not said, 2 of `o200k_base` are one.
    #[must_use]
    pub fn vocabulary(self, vocabulary: Vocabulary, margin: u64) -> Self {
        Self { counter: Counter { vocabulary, margin: margin.max(1) }, ..self }
    }

    /// Does not ask for the usage of streams on a route, whose service takes no `stream_options`. That is found out without this, too.
    #[must_use]
    pub fn without_stream_options(self, routes: impl IntoIterator<Item = RoutePattern>) -> Self {
        Self { unasked: routes.into_iter().collect(), ..self }
    }

    /// Remembers refusals of `stream_options` there, and goes by those that are there already.
    #[must_use]
    pub fn remembering(self, refusals: &Refusals) -> Self {
        Self { learned: Arc::clone(&refusals.0), ..self }
    }

    /// What so many tokens cost. None if the tariff has no price for them, or the cost does not fit 64 bits.
    pub fn price(usage: Usage, tariff: &Tariff, quantum: Credits) -> Option<Credits> {
        tariff.cost([(INPUT_TOKEN, usage.input), (OUTPUT_TOKEN, usage.output)], quantum).ok()
    }

    fn is_sold(&self, method: &Method, path: &str) -> bool {
        // To a service that does not mind, another case is the same path, and this would read it as no dialect.
        let named = is_normal(path) && !Dialect::is_misspelt(path);
        named
            && match &self.sold {
                Sold::Everything => true,
                Sold::Routes(routes) => routes.iter().any(|route| route.matches(method, path)),
            }
    }

    /// The body as it is passed on. None if that is as it came.
    fn decoded(&self, dialect: &Dialect, call: &Call<'_>) -> Result<Option<Bytes>, NotSold> {
        if call.body.is_empty() {
            return Ok(None);
        }
        let unsupported = |what: &str| NotSold::Unsupported(format!("the body is {what}; send it as it is"));
        let coding = match Coding::of(call.headers) {
            Ok(None) => return Ok(None),
            Ok(Some(_)) if !self.compressed => return Err(unsupported("compressed, which is not taken here")),
            Ok(Some(coding)) => coding,
            // What is not looked at need not be read.
            Err(_) if dialect.body == Body::Any => return Ok(None),
            Err(error) => return Err(unsupported(&error.to_string())),
        };
        match coding.decode(call.body, self.max_decoded) {
            Ok(body) => Ok(Some(body)),
            Err(CodingError::TooLong) => {
                Err(unsupported(&format!("longer than {} bytes when it is decoded", self.max_decoded)))
            }
            Err(error) => Err(NotSold::Malformed(format!("the body is {error}; send it whole, or as it is"))),
        }
    }
}

/// The routes of a dialect. All of them are patterns: a test says so.
fn routes(dialect: &'static Dialect) -> impl Iterator<Item = RoutePattern> {
    dialect.routes.iter().filter_map(|route| route.parse().ok())
}

impl Pricing for TokenPricing {
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        let path = call.path();
        if !self.is_sold(call.method, path) {
            return Err(NotSold::Path);
        }
        let dialect = Dialect::of(path);
        let decoded = self.decoded(dialect, call)?;
        check(dialect, call.headers, decoded.as_ref().unwrap_or(call.body))?;
        let may_ask = !self.unasked.iter().any(|route| route.matches(call.method, path));
        let service = self.learned.service(path);
        Ok(Box::new(TokenMeter::new(dialect, call.body.clone(), decoded, self.counter, may_ask.then_some(service))))
    }
}

fn metered(usage: Usage) -> Metered {
    Metered::usage([(INPUT_TOKEN, usage.input), (OUTPUT_TOKEN, usage.output)])
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
