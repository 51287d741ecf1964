//! What a call used, by OpenAI's `usage`, and the gateway's own estimate where the upstream does not say.

use serde::Deserialize;

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

/// A request that goes to a model, as far as metering reads it.
#[derive(Deserialize)]
struct Answer {
    usage: Option<Wire>,
}

/// Chat completions and completions say `prompt` and `completion`; responses say `input` and `output`; embeddings have no output.
#[derive(Deserialize)]
struct Wire {
    #[serde(alias = "input_tokens")]
    prompt_tokens: u64,
    #[serde(alias = "output_tokens", default)]
    completion_tokens: u64,
}

impl Usage {
    /// Reads the `usage` of a response body. `None` if the body is no JSON object, or has no usable `usage`: it is missing,
    /// null, negative or fractional.
    pub fn reported(response: &[u8]) -> Option<Self> {
        let usage = serde_json::from_slice::<Answer>(response).ok()?.usage?;
        Some(Self { input: usage.prompt_tokens, output: usage.completion_tokens })
    }

    /// What request and response would have used, by their length.
    pub fn estimated(request: &[u8], response: &[u8]) -> Self {
        let tokens = |bytes: &[u8]| (bytes.len() as u64).div_ceil(BYTES_PER_TOKEN);
        Self { input: tokens(request), output: tokens(response) }
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
            (r#"{"usage":{"prompt_tokens":3,"total_tokens":3}}"#, 3, 0),
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
            r#"{"usage":{"prompt_tokens":-1}}"#,
            r#"{"usage":{"prompt_tokens":1.5}}"#,
            r#"{"usage":{"prompt_tokens":99999999999999999999}}"#,
        ] {
            assert_eq!(Usage::reported(body.as_bytes()), None, "{body}");
        }
        assert_eq!(Usage::estimated(b"1234", b""), Usage { input: 2, output: 0 });
    }
}
