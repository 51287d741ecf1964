//! What a call costs.

use bytes::Bytes;
use http::StatusCode;

use super::upstream::UpstreamError;
use super::usage::Usage;
use crate::protocol::{Credits, Tariff};

/// Name of the tariff's item for tokens of the request.
pub const INPUT_TOKEN: &str = "input_token";
/// Name of the tariff's item for tokens of the answer.
pub const OUTPUT_TOKEN: &str = "output_token";

/// A call that is over, as far as its price depends on it.
#[derive(Debug)]
pub struct Call<'a> {
    /// Body of the request.
    pub request: &'a Bytes,
    /// What came of it.
    pub outcome: Outcome<'a>,
}

/// What came of a call.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// The upstream answered.
    Answered {
        /// With this status,
        status: StatusCode,
        /// and this body.
        body: &'a Bytes,
    },
    /// It did not.
    Failed(&'a UpstreamError),
    /// The caller cancelled the call while the upstream worked on it. The caller gets nothing of the answer, but the upstream may
    /// have worked.
    Stopped,
}

/// Turns a call into its cost. The gateway takes the least of it and the charge.
pub trait Pricing: Send + Sync {
    /// The cost under the tariff that the caller agreed to, a multiple of `quantum`. `None` if the tariff gives none: the charge.
    fn cost(&self, call: &Call<'_>, tariff: &Tariff, quantum: Credits) -> Option<Credits>;

    /// What was metered, for the receipt: how many units of which items of the tariff, of at most 32 items. None by default: the
    /// receipt then says what the call cost and not why.
    fn usage(&self, call: &Call<'_>) -> Vec<(String, u64)> {
        let _ = call;
        Vec::new()
    }
}

/// Prices by tokens, as OpenAI's `usage` reports them: items [`INPUT_TOKEN`] and [`OUTPUT_TOKEN`] of the tariff.
///
/// | what happened | price |
/// | --- | --- |
/// | success with a usable `usage` | by that |
/// | success without | by the gateway's estimate of both bodies, 3 bytes to a token |
/// | the upstream answered with an error (4xx, 5xx) or a redirect | nothing |
/// | the upstream could not be reached | nothing |
/// | the answer broke off, came too late or was too long; the call was cancelled while it went on | by the gateway's estimate of the request, for it was worked on |
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenPricing;

impl TokenPricing {
    /// The tokens to be paid for.
    pub fn usage(call: &Call<'_>) -> Usage {
        match call.outcome {
            Outcome::Answered { status, body } if status.is_success() => {
                Usage::reported(body).unwrap_or_else(|| Usage::estimated(call.request, body))
            }
            Outcome::Answered { .. } => Usage::default(),
            Outcome::Failed(UpstreamError::Unreachable(_) | UpstreamError::Target) => Usage::default(),
            Outcome::Failed(_) | Outcome::Stopped => Usage::estimated(call.request, b""),
        }
    }

    /// What so many tokens cost. `None` if the tariff has no price for them, or the cost does not fit 64 bits.
    pub fn price(usage: Usage, tariff: &Tariff, quantum: Credits) -> Option<Credits> {
        tariff.cost([(INPUT_TOKEN, usage.input), (OUTPUT_TOKEN, usage.output)], quantum).ok()
    }
}

impl Pricing for TokenPricing {
    fn cost(&self, call: &Call<'_>, tariff: &Tariff, quantum: Credits) -> Option<Credits> {
        Self::price(Self::usage(call), tariff, quantum)
    }

    fn usage(&self, call: &Call<'_>) -> Vec<(String, u64)> {
        let Usage { input, output } = Self::usage(call);
        vec![(INPUT_TOKEN.to_owned(), input), (OUTPUT_TOKEN.to_owned(), output)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Price, Timestamp, Window};

    fn cost(status: u16, request: &'static str, body: &'static str) -> Option<u64> {
        let valid = Window { from: Timestamp::from_seconds(0), until: Timestamp::MAX };
        let price =
            |item: &str, credits| Price { item: item.to_owned(), credits: Credits::from_micro(credits), per: 1 };
        let tariff = Tariff::new(valid, vec![price(INPUT_TOKEN, 2), price(OUTPUT_TOKEN, 8)]).unwrap();
        let (request, body) = (Bytes::from_static(request.as_bytes()), Bytes::from_static(body.as_bytes()));
        let outcome = Outcome::Answered { status: StatusCode::from_u16(status).unwrap(), body: &body };
        TokenPricing.cost(&Call { request: &request, outcome }, &tariff, Credits::from_micro(5)).map(Credits::micro)
    }

    #[test]
    fn every_outcome_has_a_price() {
        let usage = r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        assert_eq!(cost(200, "", usage), Some(40));
        assert_eq!(cost(500, "", usage), Some(0));
        assert_eq!(cost(404, "abc", ""), Some(0));
        assert_eq!(cost(302, "abc", ""), Some(0));
        // 2 tokens in and 1 out, to the next multiple of 5.
        assert_eq!(cost(200, "abcd", "{}"), Some(15));
        assert_eq!(cost(200, "abcd", r#"{"usage":null}"#), Some(2 * 2 + 8 * 5 + 1));
        assert_eq!(cost(200, "", r#"{"usage":{"prompt_tokens":18446744073709551615}}"#), None);
    }

    #[test]
    fn work_that_was_done_is_estimated() {
        let request = Bytes::from_static(b"abcdef");
        let usage =
            |error: &UpstreamError| TokenPricing::usage(&Call { request: &request, outcome: Outcome::Failed(error) });
        assert_eq!(usage(&UpstreamError::Timeout), Usage { input: 2, output: 0 });
        assert_eq!(usage(&UpstreamError::TooLong(1)), Usage { input: 2, output: 0 });
        let stopped = Call { request: &request, outcome: Outcome::Stopped };
        assert_eq!(TokenPricing::usage(&stopped), Usage { input: 2, output: 0 });
        let items = Pricing::usage(&TokenPricing, &stopped);
        assert_eq!(items, [(INPUT_TOKEN.to_owned(), 2), (OUTPUT_TOKEN.to_owned(), 0)]);
    }
}
