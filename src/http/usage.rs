//! What a call used, by OpenAI's `usage`, and the gateway's own estimate where the upstream does not say.

mod ask;
mod demand;
mod members;
mod tap;

pub(crate) use ask::{Asked, ask_for_usage};
pub(crate) use demand::{characters, least_asked, may_name, most_answered};
use serde::Deserialize;
pub(crate) use tap::UsageTap;

/// Bytes of text to a token, for estimates. Low for English, so that an estimate is above the truth rather than below; never
/// above the cap, whatever it says.
const BYTES_PER_TOKEN: u64 = 3;

/// Tokens in and out of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the request.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
}

/// Chat completions and completions say `prompt` and `completion`; responses say `input` and `output`; embeddings have no output.
/// Services that say both mean the same by them. Anthropic's messages say apart what of the input was written to a cache or read there.
#[derive(Deserialize)]
struct Wire {
    prompt_tokens: Option<u64>,
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Usage {
    /// Reads the `usage` of a response body. None if the body is no JSON object, or has no usable `usage`: it is missing,
    /// null, negative or fractional.
    pub fn reported(response: &[u8]) -> Option<Self> {
        let mut tap = UsageTap::default();
        tap.push(response);
        tap.usage()
    }

    /// What request and response would have used, by their length in bytes.
    pub fn estimated(request: u64, response: u64) -> Self {
        Self { input: request.div_ceil(BYTES_PER_TOKEN), output: response.div_ceil(BYTES_PER_TOKEN) }
    }

    /// Reads a `usage` by itself.
    pub(crate) fn read(usage: &[u8]) -> Option<Self> {
        Self::of(serde_json::from_slice(usage).ok()?)
    }

    /// The same of one that is parsed.
    pub(crate) fn of_value(usage: &serde_json::Value) -> Option<Self> {
        Self::of(Wire::deserialize(usage).ok()?)
    }

    fn of(wire: Wire) -> Option<Self> {
        // Who says `input` does not count these in it; who says `prompt` does.
        let cached = [wire.cache_creation_input_tokens, wire.cache_read_input_tokens].into_iter().flatten();
        let apart = || Some(cached.fold(wire.input_tokens?, u64::saturating_add));
        let input = wire.prompt_tokens.or_else(apart)?;
        Some(Self { input, output: wire.completion_tokens.or(wire.output_tokens).unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_is_read() {
        for (body, input, output) in [
            (r#"{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#, 3, 4),
            (r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#, 3, 4),
            (r#"{"usage":{"prompt_tokens":3,"input_tokens":3,"completion_tokens":4,"output_tokens":4}}"#, 3, 4),
            (r#"{"usage":{"prompt_tokens":3,"total_tokens":3}}"#, 3, 0),
            (
                r#"{"usage":{"input_tokens":3,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":4}}"#,
                15,
                4,
            ),
            (r#"{"usage":{"input_tokens":3,"cache_read_input_tokens":null,"output_tokens":4}}"#, 3, 4),
            (r#"{"usage":{"prompt_tokens":9,"cache_read_input_tokens":7,"completion_tokens":4}}"#, 9, 4),
        ] {
            assert_eq!(Usage::reported(body.as_bytes()), Some(Usage { input, output }), "{body}");
        }
    }

    #[test]
    fn what_is_not_usable_is_none() {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "data: {}",
            r#"{"usage":null}"#,
            r#"{"usage":{}}"#,
            r#"{"usage":{"completion_tokens":1}}"#,
            r#"{"usage":{"prompt_tokens":-1}}"#,
            r#"{"usage":{"prompt_tokens":1,"completion_tokens":-1}}"#,
            r#"{"usage":{"prompt_tokens":1.5}}"#,
            r#"{"usage":{"prompt_tokens":99999999999999999999}}"#,
        ] {
            assert_eq!(Usage::reported(body.as_bytes()), None, "{body}");
        }
        assert_eq!(Usage::estimated(4, 0), Usage { input: 2, output: 0 });
    }
}
