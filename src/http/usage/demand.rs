//! How much a request asks a model for.

use core::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::members::Members;

/// Characters of words to a token: more than tokenizers make of running text in any language, so that there are no fewer tokens.
const CHARACTERS_PER_TOKEN: u64 = 8;
/// What is longer than so many bytes is no word, and may be anything: a picture in base64, an address, a line.
const LONGEST_WORD: usize = 40;

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

/// Tokens that a request has at the very least: those of the running text in it. 0 if it is no JSON. It keeps those who offer too little
/// from paying for nothing, and is no defence: who does not want to be counted writes without spaces.
pub(crate) fn least_asked(body: &[u8]) -> u64 {
    let mut characters = 0;
    // What cannot be read to its end is counted as far as it goes.
    let _ = serde_json::Deserializer::from_slice(body).deserialize_any(Words(&mut characters));
    characters / CHARACTERS_PER_TOKEN
}

/// Whether any of these names, of which each is of ASCII letters, may be in a JSON text, however it is written there.
pub(crate) fn may_name(body: &[u8], names: &[&str]) -> bool {
    // Letters are never written as escapes but to hide them.
    let escapes = ["\\u004", "\\u005", "\\u006", "\\u007"];
    std::str::from_utf8(body).map_or(true, |text| names.iter().chain(&escapes).any(|part| text.contains(part)))
}

/// How many characters begin in a text of UTF-8. In all languages a token is some characters, and not so many bytes.
pub(crate) fn characters(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count() as u64
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

/// Adds up the characters of words in all strings of a JSON value, but for names.
struct Words<'a>(&'a mut u64);

impl<'de> DeserializeSeed<'de> for Words<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Words<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        let words = text.split_ascii_whitespace().filter(|word| word.len() <= LONGEST_WORD);
        *self.0 = words.map(|word| characters(word.as_bytes())).fold(*self.0, u64::saturating_add);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(Words(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key::<IgnoredAny>()?.is_some() {
            members.next_value_seed(Words(self.0))?;
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn only_running_text_is_sure_to_be_tokens() {
        let words = "some words of a prompt ".repeat(100);
        let picture = format!("data:image/png;base64,{}", "QUJD".repeat(10_000));
        let lines = format!("{}\\n", "QUJD".repeat(15)).repeat(100);
        for (body, characters) in [
            (format!(r#"{{"messages":[{{"role":"user","content":"{words}"}}]}}"#), 1_804),
            (format!(r#"["{words}",{{"a":{{"b":"{words}"}}}}]"#), 3_600),
            (format!("\"{words}\""), 1_800),
            (format!(r#"{{"{words}":1}}"#), 0),
            (format!(r#"[1,-1,1.5,true,null,"{picture}","{lines}","{}"]"#, "-".repeat(80)), 0),
            (format!(r#"["{words}", nonsense"#), 1_800),
            (format!("{}\"{words}\"", "[".repeat(200)), 0),
            ("nonsense".to_owned(), 0),
            (String::new(), 0),
        ] {
            assert_eq!(least_asked(body.as_bytes()), characters / 8, "{body}");
        }
        // Escapes are what they stand for.
        assert_eq!(least_asked(format!(r#""{}""#, "\\u00e9 ".repeat(80)).as_bytes()), 10);
    }

    #[test]
    fn the_token_count_is_a_lower_bound_in_any_language() {
        // Ten times each, in tokens of OpenAI's o200k_base.
        for (text, tokens) in [
            ("Anonymous credentials let people pay for a service without telling it who they are.", 151),
            ("Анонимные учётные данные позволяют людям платить за услугу, не сообщая, кто они такие.", 221),
            ("गुमनाम क्रेडेंशियल लोगों को यह बताए बिना भुगतान करने देते हैं कि वे कौन हैं।", 221),
        ] {
            let body = serde_json::to_string(&format!("{text} ").repeat(10)).unwrap();
            assert!(least_asked(body.as_bytes()) <= tokens, "{text}: {}", least_asked(body.as_bytes()));
        }
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
