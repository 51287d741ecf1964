//! What a call used, as services say it in their dialects, and the gateway's own estimate where they do not.

mod ask;
mod body;
mod demand;
mod dialects;
mod documents;
mod media;
mod members;
mod paths;
mod reports;
mod tap;
mod words;

pub(crate) use ask::{Asked, ask_for_usage};
pub(crate) use body::check;
pub(crate) use demand::{least_asked, may_name, most_answered};
pub(crate) use dialects::{Body, DIALECTS, Dialect, STARTS};
pub(crate) use documents::{Documents, read};
pub(crate) use media::{has_media, text_bytes};
pub(crate) use paths::{at, each};
pub(crate) use reports::Reports;
pub(crate) use tap::Tap;
#[cfg(feature = "client")]
pub(crate) use words::Tokens;
pub(crate) use words::{Counter, WordCount};

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

impl Usage {
    /// Reads what a response body reports, in any dialect. None if the body is no JSON object, or does not say what was read: it says
    /// nothing, or nothing usable (null, negative, fractional).
    pub fn reported(response: &[u8]) -> Option<Self> {
        let (mut reports, mut documents) = (Reports::default(), Documents::default());
        documents.push(response, &mut |value| {
            reports.read(&value);
        });
        reports.input().map(|input| Self { input, output: reports.output().unwrap_or(0) })
    }

    /// What request and response would have used, by their length in bytes.
    pub fn estimated(request: u64, response: u64) -> Self {
        Self { input: request.div_ceil(BYTES_PER_TOKEN), output: response.div_ceil(BYTES_PER_TOKEN) }
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
            r#"[{"usages":1}]"#,
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
