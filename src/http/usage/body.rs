//! The body of a request: what a strict reader and a lenient one read alike, and nothing else.

use http::header::{self, HeaderMap};
use serde_json::value::RawValue;

use super::dialects::{Body, Dialect};
use super::members::Members;
use crate::http::pricing::NotSold;

/// Members that every dialect's service may look at, and the one way that each is written. `max_tokens` and the like are those of the
/// dialect.
const SWITCHES: &[&str] =
    &["stream", "stream_options", "n", "best_of", "candidateCount", "background", "stream_format"];
/// Members that hold others which are looked at.
const HOLDERS: &[(&str, &[&str])] = &[
    ("stream_options", &["include_usage"]),
    ("options", &["num_predict"]),
    ("generationConfig", &["maxOutputTokens", "candidateCount"]),
];
/// Counts.
const NUMBERS: &[&str] = &[
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "num_predict",
    "maxOutputTokens",
    "candidateCount",
];
const BOOLEANS: &[&str] = &["stream", "include_usage"];

/// Checks the kind of a body, and the body, decoded.
///
/// An empty body asks for nothing, and is left to the service.
pub(crate) fn check(dialect: &Dialect, headers: &HeaderMap, body: &[u8]) -> Result<(), NotSold> {
    if body.is_empty() || dialect.body == Body::Any {
        return Ok(());
    }
    kind(dialect, headers)?;
    if dialect.body == Body::Form {
        return Ok(());
    }
    let malformed = |what: &str| NotSold::Malformed(format!("the body {what}; send one JSON object in UTF-8"));
    let text = core::str::from_utf8(body).map_err(|_| malformed("is not UTF-8"))?;
    if text.starts_with('\u{feff}') {
        return Err(malformed("begins with a byte order mark"));
    }
    let members = Members::read(body).ok_or_else(|| malformed("is no JSON object"))?;
    let looked_at = SWITCHES.iter().chain(NUMBERS).chain(HOLDERS.iter().map(|(name, _)| name)).copied();
    object(&members, &looked_at.collect::<Vec<_>>())?;
    for (name, within) in HOLDERS {
        let Some(value) = members.values(name).next().filter(|value| value.get() != "null") else { continue };
        let inner = Members::read(value.get().as_bytes());
        object(&inner.ok_or_else(|| said(name, value, "an object, null, or nothing"))?, within)?;
    }
    for (name, values) in dialect.only {
        let value = members.values(name).next().map_or("null", RawValue::get);
        if !values.contains(&value) {
            let detail =
                format!("`{name}` is {value:.40}, and such an answer never says its usage; send {}", values[0]);
            return Err(NotSold::Malformed(detail));
        }
    }
    Ok(())
}

/// Whether the body is of the kind that its dialect takes.
fn kind(dialect: &Dialect, headers: &HeaderMap) -> Result<(), NotSold> {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, more) = (kinds.next(), kinds.next());
    let unsupported = |what: &str, fix: &str| Err(NotSold::Unsupported(format!("the content type {what}; send {fix}")));
    let fix = if dialect.body == Body::Form { "multipart/form-data" } else { "application/json" };
    if more.is_some() {
        return unsupported("is there twice", fix);
    }
    let Some(first) = first else { return Ok(()) };
    let first = first.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = first.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let fits = match dialect.body {
        Body::Form => essence == "multipart/form-data",
        Body::Json | Body::Any => {
            essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
        }
    };
    if !fits {
        return unsupported(&format!("is {essence:.60}"), fix);
    }
    let mut charsets = parts.filter_map(|part| part.strip_prefix("charset=")).map(|charset| charset.trim_matches('"'));
    match charsets.find(|charset| !matches!(*charset, "utf-8" | "utf8")) {
        Some(charset) if dialect.body == Body::Json => unsupported(&format!("says charset {charset:.20}"), fix),
        _ => Ok(()),
    }
}

/// Checks the members that are looked at: each once, in its own spelling, and with a value of its own type.
fn object(members: &Members, looked_at: &[&'static str]) -> Result<(), NotSold> {
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in members.all() {
        let alike = fold(name);
        let Some(own) = looked_at.iter().find(|own| fold(own) == alike) else { continue };
        if name != *own && !(fold(name) == fold(own) && is_other_name(name)) {
            let detail = format!("the member `{name:.40}` may be read as `{own}`; write it so");
            return Err(NotSold::Malformed(detail));
        }
        if seen.contains(&alike) {
            return Err(NotSold::Malformed(format!("the member `{own}` is there twice; send it once")));
        }
        seen.push(alike);
        let value_is = value.get();
        let null = value_is == "null";
        if BOOLEANS.contains(own) && !null && !matches!(value_is, "true" | "false") {
            return Err(said(own, value, "true, false, null, or nothing"));
        }
        let digits = value_is.strip_prefix('-').unwrap_or(value_is);
        if NUMBERS.contains(own) && !null && !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(said(own, value, "a whole number"));
        }
    }
    Ok(())
}

/// Gemini takes its members under two names each.
fn is_other_name(name: &str) -> bool {
    matches!(name, "generation_config" | "max_output_tokens" | "candidate_count")
}

fn said(name: &str, value: &RawValue, fix: &str) -> NotSold {
    NotSold::Malformed(format!("`{name}` is {:.40}; send {fix}", value.get()))
}

/// A name as the most lenient reader takes it: in any case, by any letter that folds to another, with or without underscores.
fn fold(name: &str) -> String {
    let plain = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    name.trim().chars().filter(|letter| !matches!(letter, '_' | '-' | '\0')).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(dialect: &str, kind: &str, body: &[u8]) -> Option<u16> {
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        }
        let checked = check(Dialect::named(dialect).unwrap(), &headers, body);
        checked.err().map(|error| match error {
            NotSold::Malformed(_) => 400,
            NotSold::Unsupported(_) => 415,
            _ => 404,
        })
    }

    #[test]
    fn what_everybody_reads_alike_is_sold() {
        for body in [
            r#"{"stream":true}"#,
            r#" { "stream" : null, "n" : 2, "max_tokens" : -1 } "#,
            r#"{"stream":false,"stream_options":null,"messages":[{"Stream":"true","stream":1,"stream":2}]}"#,
            r#"{"str\u0065am":true,"stream_options":{"include_usage":true},"temperature":0.1}"#,
            "",
        ] {
            for kind in ["", "application/json", "Application/JSON; charset=UTF-8", "application/vnd.api+json"] {
                assert_eq!(refusal("openai-chat", kind, body.as_bytes()), None, "{kind} {body}");
            }
        }
        assert_eq!(refusal("gemini", "", br#"{"generation_config":{"max_output_tokens":5}}"#), None);
        assert_eq!(refusal("openai-transcriptions", "multipart/form-data; boundary=x", b"--x"), None);
        assert_eq!(refusal("openai-speech", "", br#"{"stream_format":"sse"}"#), None);
    }

    #[test]
    fn what_may_be_read_in_two_ways_is_refused() {
        for body in [
            r#"{"stream":"true"}"#,
            r#"{"stream":1}"#,
            r#"{"stream":"on"}"#,
            r#"{"stream":[true]}"#,
            r#"{"stream":true,"stream":false}"#,
            r#"{"stream":false,"str\u0065am":true}"#,
            r#"{"stream":false,"Stream":true}"#,
            r#"{"STREAM":true}"#,
            "{\"\u{17f}tream\":true}",
            r#"{"stream ":true}"#,
            r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#,
            r#"{"stream_options":{"include_usage":"true"}}"#,
            r#"{"stream_options":"x"}"#,
            r#"{"stream_options":{},"streamOptions":{}}"#,
            r#"{"n":"4"}"#,
            r#"{"n":4.0}"#,
            r#"{"max_tokens":1e3}"#,
            r#"{"stream":true}{}"#,
            r#"{"stream":true,}"#,
            r#"{'stream':true}"#,
            r#"{"stream":True}"#,
            r#"{"x":NaN}"#,
            "\u{feff}{\"stream\":true}",
            "[{}]",
            "\"x\"",
            "stream=true",
        ] {
            assert_eq!(refusal("openai-chat", "", body.as_bytes()), Some(400), "{body}");
        }
        let wide: Vec<u8> = r#"{"stream":true}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(refusal("openai-chat", "application/json", &wide), Some(400));
        assert_eq!(refusal("openai-chat", "", b"{\"x\":\"\xff\"}"), Some(400));
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "multipart/form-data",
        ] {
            assert_eq!(refusal("openai-chat", kind, b"{}"), Some(415), "{kind}");
        }
        assert_eq!(refusal("openai-transcriptions", "application/json", b"{}"), Some(415));
        assert_eq!(refusal("openai-speech", "", b"{}"), Some(400));
        assert_eq!(refusal("openai-responses", "", br#"{"background":true}"#), Some(400));
        assert_eq!(refusal("gemini", "", br#"{"generationConfig":{},"generation_config":{}}"#), Some(400));
    }
}
