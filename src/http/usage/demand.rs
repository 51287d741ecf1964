//! How much a request asks a model for.

use serde_json::Value;
use serde_json::value::RawValue;

use super::documents::read;
use super::members::Members;
use super::words::Counter;

/// Text of a request that is counted, bytes: reading more of it takes longer than it is worth.
const LONGEST: usize = 256 << 10;
/// Members whose strings are text for a model. Elsewhere they are names, places, pictures.
const TEXTS: &[&str] =
    &["content", "text", "parts", "input", "prompt", "system", "instructions", "messages", "contents"];
/// By these a service is asked to read no more of a prompt than it likes.
const CUT: &[&str] = &["truncat"];

/// How many tokens the answers to a request may have by its own word, all together. None if it does not say, or not in a way that everybody
/// reads alike. Members that occur twice are read by services in one way or another: the largest counts.
pub(crate) fn most_answered(body: &[u8], limits: &[&str]) -> Option<u64> {
    let request = Members::read(body)?;
    let largest = |names: &[&str]| {
        let mut values = names.iter().flat_map(|name| request.values(name)).filter(|value| value.get() != "null");
        values.try_fold(None, |largest, value| Some(largest.max(Some(integer(value)?))))
    };
    let each = largest(&["n", "best_of"])?.unwrap_or(1).max(1);
    let prompts = request.values("prompt").map(prompts).max().unwrap_or(1);
    largest(limits)??.checked_mul(each)?.checked_mul(prompts)
}

/// Tokens that a request has at the very least: those of the text in these members. 0 if it is no JSON, or may be cut.
pub(crate) fn least_asked(body: &[u8], members: &[&str], counter: Counter) -> u64 {
    if members.is_empty() || may_name(body, CUT) {
        return 0;
    }
    let Some(request) = read(body) else { return 0 };
    let (mut texts, mut left) = (Vec::new(), LONGEST);
    for name in members {
        if let Some(value) = request.get(*name) {
            each_text(value, &mut |text| {
                if text.len() <= left {
                    left -= text.len();
                    texts.push(text);
                }
            });
        }
    }
    counter.least(&texts)
}

/// The texts for a model in a value that holds some.
fn each_text<'a>(value: &'a Value, found: &mut dyn FnMut(&'a str)) {
    match value {
        Value::String(text) => found(text),
        Value::Array(values) => values.iter().for_each(|value| each_text(value, found)),
        Value::Object(members) => {
            let texts = members.iter().filter(|(name, _)| TEXTS.contains(&name.as_str()));
            texts.for_each(|(_, value)| each_text(value, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether any of these names, of which each is of ASCII letters, may be in a JSON text, however it is written there.
pub(crate) fn may_name(body: &[u8], names: &[&str]) -> bool {
    // Letters are never written as escapes but to hide them.
    let escapes = ["\\u004", "\\u005", "\\u006", "\\u007"];
    std::str::from_utf8(body).map_or(true, |text| names.iter().chain(&escapes).any(|part| text.contains(part)))
}

/// A number that all services read alike: `5.0` and `"5"` are not.
fn integer(value: &RawValue) -> Option<u64> {
    value.get().parse().ok()
}

/// How many prompts there are in a `prompt`: a text, tokens, or several of either.
fn prompts(prompt: &RawValue) -> u64 {
    let Ok(several) = serde_json::from_str::<Vec<&RawValue>>(prompt.get()) else { return 1 };
    let is_token = |value: &&RawValue| integer(value).is_some();
    if several.iter().all(is_token) { 1 } else { several.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pricing::Vocabulary;

    #[test]
    fn answers_and_prompts_count_and_the_largest_limit() {
        let names = ["max_completion_tokens", "max_tokens"];
        for (body, most) in [
            (r#"{"max_tokens":5}"#, Some(5)),
            (r#"{"max_tokens":5,"max_completion_tokens":7,"n":null}"#, Some(7)),
            (r#"{"max_tokens":9,"max\u005ftokens":5}"#, Some(9)),
            (r#"{"max_tokens":5,"n":3}"#, Some(15)),
            (r#"{"max_tokens":5,"n":3,"n":1}"#, Some(15)),
            (r#"{"max_tokens":5,"n":2,"best_of":4}"#, Some(20)),
            (r#"{"max_tokens":5,"n":0}"#, Some(5)),
            (r#"{"max_tokens":5,"prompt":"a"}"#, Some(5)),
            (r#"{"max_tokens":5,"prompt":[1,2,3]}"#, Some(5)),
            (r#"{"max_tokens":5,"prompt":["a","b"],"n":2}"#, Some(20)),
            (r#"{"max_tokens":5,"prompt":[[1],[2],[3]]}"#, Some(15)),
            // Said in no way that everybody reads alike, or not said.
            (r#"{"max_tokens":5,"n":"3"}"#, None),
            (r#"{"max_tokens":5,"n":3.0}"#, None),
            (r#"{"max_tokens":"5"}"#, None),
            (r#"{"max_tokens":-1}"#, None),
            (r#"{"max_tokens":5,"max_completion_tokens":1e3}"#, None),
            (r#"{"max_tokens":18446744073709551615,"n":2}"#, None),
            (r#"{"max_tokens":null}"#, None),
            ("{}", None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(most_answered(body.as_bytes(), &names), most, "{body}");
        }
    }

    #[test]
    fn only_text_for_a_model_is_sure_to_be_tokens() {
        let counter = Counter { vocabulary: Vocabulary::O200k, margin: 1 };
        let least = |body: &str| least_asked(body.as_bytes(), &["messages", "system"], counter);
        let words = "some words of a prompt ".repeat(100);
        let tokens = counter.least(&[&words]);
        assert!((500..=600).contains(&tokens), "{tokens}");
        let picture = format!("data:image/png;base64,{}", "QUJD".repeat(1_000));
        for (body, times) in [
            (format!(r#"{{"messages":[{{"role":"{words}","content":"{words}"}}]}}"#), 1),
            (
                format!(
                    r#"{{"messages":[{{"content":[{{"type":"text","text":"{words}"}},{{"type":"image_url","image_url":{{"url":"{picture}"}}}}]}}]}}"#
                ),
                1,
            ),
            (format!(r#"{{"system":"{words}","messages":["{words}"]}}"#), 2),
            (format!(r#"{{"metadata":"{words}","user":"{words}"}}"#), 0),
            (format!(r#"{{"messages":["{words}"],"truncate":"END"}}"#), 0),
            (format!(r#"["{words}"]"#), 0),
            (format!(r#"{{"messages":["{words}", nonsense"#), 0),
            (String::new(), 0),
        ] {
            assert_eq!(least(&body), times * tokens, "{body:.60}");
        }
        let half = Counter { margin: 2, ..counter };
        assert_eq!(least_asked(format!(r#"{{"messages":["{words}"]}}"#).as_bytes(), &["messages"], half), tokens / 2);
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        let may = |body: &str| may_name(body.as_bytes(), &["image", "file"]);
        assert!(
            may(r#"{"type":"image_url"}"#) && may(r#"{"type":"\u0069mage_url"}"#) && may(r#"{"type":"i\u006dage"}"#)
        );
        assert!(!may(r#"{"type":"text","text":"\u00e9\u003c\u4e2d"}"#) && may_name(b"\xff", &["image"]));
    }
}
