//! Asking a service for the `usage` of a stream.

use super::members::Members;

const OPTIONS: &str = "stream_options";
const INCLUDE: &str = "include_usage";

/// A request that asks for the `usage` of its stream.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The body to send.
    pub(crate) body: Vec<u8>,
    /// Whether the caller had asked for it as well.
    pub(crate) by_caller: bool,
}

/// Adds `stream_options.include_usage` to a request for a stream. None if there is nothing to be done: it is no request for a stream,
/// or asks for it already.
///
/// Members that occur twice are read by services in one way or another. None of these ways gets a stream without `usage`, for the
/// tokens that a model thinks and does not show are only there.
pub(crate) fn ask_for_usage(body: &[u8]) -> Option<Asked> {
    let request = Members::read(body)?;
    if !request.values("stream").any(|value| value.get() == "true") {
        return None;
    }
    let options = request.values(OPTIONS).next_back().and_then(|value| Members::read(value.get().as_bytes()));
    let options = options.unwrap_or_default();
    let by_caller = options.values(INCLUDE).next_back().is_some_and(|value| value.get() == "true");
    if by_caller && request.values(OPTIONS).count() == 1 && options.values(INCLUDE).count() == 1 {
        return None;
    }
    let body = request.with(OPTIONS, &options.with(INCLUDE, "true"));
    Some(Asked { body: body.into_bytes(), by_caller })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Option<(String, bool)> {
        ask_for_usage(body.as_bytes()).map(|asked| (String::from_utf8(asked.body).unwrap(), asked.by_caller))
    }

    #[test]
    fn what_is_missing_is_added_and_the_rest_is_as_it_was_written() {
        for (body, sent) in [
            (r#"{"stream":true}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            (
                r#" { "temperature" : 0.10000000000000000001, "x" : [ 1e400, "\u00e4" ] , "stream" : true } "#,
                r#"{"temperature":0.10000000000000000001,"x":[ 1e400, "\u00e4" ],"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream_options":{"a":1,"include_usage":false},"stream":true}"#,
                r#"{"stream":true,"stream_options":{"a":1,"include_usage":true}}"#,
            ),
            (r#"{"stream":true,"stream_options":null}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            (r#"{"stream":true,"stream_options":"x"}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            (
                r#"{"stream":true,"stream":false}"#,
                r#"{"stream":true,"stream":false,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":true},"stream_options":{}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(asked(body), Some((sent.to_owned(), false)), "{body}");
        }
    }

    #[test]
    fn a_client_that_asked_for_usage_gets_what_it_asked_for() {
        assert_eq!(asked(r#"{"stream":true,"stream_options":{"include_usage":true}}"#), None);
        let twice = r#"{"stream":true,"stream_options":{"include_usage":false,"include_usage":true}}"#;
        let sent = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(asked(twice), Some((sent.to_owned(), true)));
    }

    #[test]
    fn what_is_no_request_for_a_stream_is_left_alone() {
        for body in ["", "null", "[]", "x", "{}", r#"{"stream":false}"#, r#"{"stream":null}"#, r#"{"stream":true"#] {
            assert_eq!(asked(body), None, "{body}");
        }
    }
}
