//! What a request may cost, by its tokens: an [`Estimator`] for services that are sold by them.

use serde_json::Value;

use super::payer::{Asked, Estimate, Estimator};
use super::pricing::{INPUT_TOKEN, OUTPUT_TOKEN};
use super::usage::{Body, Dialect, Tokens, may_name, most_answered, read};
use crate::protocol::Credits;

/// Members that bound the tokens of an answer, whatever the dialect.
const LIMITS: &[&str] = &["max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample"];
/// The same within another member.
const INNER: &[(&str, &str)] = &[
    ("options", "num_predict"),
    ("generationConfig", "maxOutputTokens"),
    ("generation_config", "max_output_tokens"),
    ("inferenceConfig", "maxTokens"),
];
/// Answers to one request, within another member.
const ANSWERS: (&str, &str) = ("generationConfig", "candidateCount");
/// What is in a request by reference, or is no text: its tokens are not to be counted.
const ELSEWHERE: &[&str] = &["image", "audio", "file", "video", "previous_response_id", "conversation", "inlineData"];
/// How many tokens an answer has that names no limit, at most, most of the time.
const USUAL: u64 = 2_000;
/// Tokens that a service may add to a request for each pair of braces in it: roles, separators, tools.
const BESIDE: u64 = 8;
/// Longest name of a model that tells kinds apart, bytes.
const LONGEST_MODEL: usize = 64;

/// Estimates by the tariff's prices for tokens: those of the request, counted by a real tokenizer and doubled, as that of the model may
/// make more of it; and those of the answer, by the limit that the request names. It depends on the request and the pinned tariff alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenEstimator;

impl Estimator for TokenEstimator {
    fn estimate(&self, asked: &Asked<'_>) -> Estimate {
        let dialect = Dialect::of(asked.path());
        // What is not JSON has no members. It is of the route alone.
        let request = (dialect.body != Body::Form).then(|| read(asked.body)).flatten();
        let model = request.as_ref().and_then(|request| request.get("model")).and_then(Value::as_str);
        let model = model.filter(|model| model.len() <= LONGEST_MODEL).unwrap_or_default();
        let kind = format!("{} {} {model}", asked.method, asked.path()).trim_end().to_owned();
        let priced = [INPUT_TOKEN, OUTPUT_TOKEN].iter().any(|item| asked.tariff.price(item).is_some());
        let Some(request) = request.filter(|_| priced && dialect.name != "any") else {
            return Estimate { kind, ..Estimate::default() };
        };
        let text = core::str::from_utf8(asked.body).unwrap_or_default();
        let beside = text.bytes().filter(|byte| *byte == b'{').count() as u64 * BESIDE;
        let input = Tokens::count(text).saturating_mul(2).saturating_add(beside);
        let price = |output| {
            let usage = [(INPUT_TOKEN, input), (OUTPUT_TOKEN, output)];
            asked.tariff.cost(usage, asked.quantum).unwrap_or(Credits::from_micro(u64::MAX))
        };
        let output = if dialect.answers { limit(asked.body, &request) } else { Some(0) };
        let counted = !dialect.media && !may_name(asked.body, ELSEWHERE);
        let most = output.filter(|_| counted).map(price);
        let likely = counted.then(|| price(output.map_or(USUAL, |output| output.min(USUAL))));
        Estimate { kind, most, likely }
    }
}

/// The tokens of all answers, by the request's own limit.
fn limit(body: &[u8], request: &Value) -> Option<u64> {
    let inner = |(outer, name): &(&str, &str)| request.get(*outer)?.get(*name)?.as_u64();
    let within = INNER.iter().filter_map(inner).max();
    let answers = inner(&ANSWERS).unwrap_or(1).max(1);
    let outside = most_answered(body, LIMITS);
    match (outside, within) {
        (Some(outside), within) => Some(outside.max(within.unwrap_or(0)).saturating_mul(answers)),
        // One that names a limit in a way that is not read names none.
        (None, Some(within)) => Some(within.saturating_mul(answers)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Price, Tariff, Timestamp, Window};
    use bytes::Bytes;
    use http::{HeaderMap, Method};

    const CHAT: &str = "/v1/chat/completions";

    fn estimated(prices: &[(&str, u64)], target: &str, body: &str) -> Estimate {
        let valid = Window { from: Timestamp::from_seconds(0), until: Timestamp::MAX };
        let price = |(item, credits): &(&str, u64)| Price {
            item: (*item).into(),
            credits: Credits::from_micro(*credits),
            per: 1,
        };
        let tariff = Tariff::new(valid, prices.iter().map(price).collect()).unwrap();
        let (headers, body) = (HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()));
        let quantum = Credits::from_micro(1);
        let (method, headers, body, tariff) = (&Method::POST, &headers, &body, &tariff);
        TokenEstimator.estimate(&Asked { method, target, headers, body, tariff, quantum })
    }

    /// Eight micro-credits a token of the answer, and none for one of the request.
    fn answers(target: &str, body: &str) -> Option<u64> {
        estimated(&[(OUTPUT_TOKEN, 8)], target, body).most.map(Credits::micro)
    }

    #[test]
    fn the_limit_of_the_answer_is_read_in_every_dialect() {
        for (target, body, tokens) in [
            (CHAT, r#"{"max_tokens":100}"#, Some(100)),
            (CHAT, r#"{"max_completion_tokens":100,"n":3}"#, Some(300)),
            (CHAT, r#"{"max_tokens":5,"max_completion_tokens":100}"#, Some(100)),
            ("/v1/responses?x=1", r#"{"input":"x","max_output_tokens":100}"#, Some(100)),
            ("/v1/completions", r#"{"prompt":["a","b"],"max_tokens":100}"#, Some(200)),
            ("/v1/messages", r#"{"max_tokens":100}"#, Some(100)),
            ("/api/chat", r#"{"options":{"num_predict":100}}"#, Some(100)),
            (
                "/v1beta/models/m:generateContent",
                r#"{"generationConfig":{"maxOutputTokens":100,"candidateCount":2}}"#,
                Some(200),
            ),
            ("/v2/chat", r#"{"max_tokens":100}"#, Some(100)),
            ("/v1/embeddings", r#"{"input":"x"}"#, Some(0)),
            (CHAT, r#"{"max_tokens":18446744073709551615}"#, None),
            (CHAT, r#"{"max_tokens":"100"}"#, None),
            (CHAT, r#"{"messages":[]}"#, None),
            (CHAT, r#"{"max_tokens":100,"messages":[{"content":[{"type":"image_url"}]}]}"#, None),
            ("/v1/responses", r#"{"max_output_tokens":100,"previous_response_id":"r"}"#, None),
            ("/v1/audio/speech", r#"{"max_tokens":100}"#, None),
            ("/v1/models", r#"{"max_tokens":100}"#, None),
            (CHAT, "max_tokens", None),
        ] {
            let most = answers(target, body);
            let expected = if body.contains("1844") { Some(u64::MAX) } else { tokens.map(|tokens| tokens * 8) };
            assert_eq!(most, expected, "{target} {body}");
        }
    }

    #[test]
    fn the_request_is_counted_and_never_too_low() {
        let words = "some words of a prompt, ".repeat(200);
        let body = format!(r#"{{"messages":[{{"role":"user","content":"{words}"}}],"max_tokens":1}}"#);
        let cost = estimated(&[(INPUT_TOKEN, 1)], CHAT, &body).most.unwrap().micro();
        assert!((1_200..4_000).contains(&cost), "{cost}");
        // What is longer than is counted is counted by the part that is.
        let long = format!(r#"{{"messages":"{}","max_tokens":1}}"#, words.repeat(100));
        let cost = estimated(&[(INPUT_TOKEN, 1)], CHAT, &long).most.unwrap().micro();
        assert!((120_000..400_000).contains(&cost), "{cost}");
    }

    #[test]
    fn a_kind_is_a_route_and_a_model() {
        let kind = |body: &str| estimated(&[(OUTPUT_TOKEN, 8)], "/v1/chat/completions?api=2", body).kind;
        assert_eq!(kind(r#"{"model":"parrot-1","messages":[]}"#), "POST /v1/chat/completions parrot-1");
        assert_eq!(kind("{}"), "POST /v1/chat/completions");
        assert_eq!(kind(&format!(r#"{{"model":"{}"}}"#, "x".repeat(65))), "POST /v1/chat/completions");
        let other = estimated(&[("request", 8)], CHAT, r#"{"model":"m","max_tokens":5}"#);
        assert_eq!(other, Estimate { kind: "POST /v1/chat/completions m".into(), most: None, likely: None });
    }

    #[test]
    fn an_answer_without_a_limit_has_a_likely_price() {
        let estimate = estimated(&[(OUTPUT_TOKEN, 8)], CHAT, r#"{"messages":[]}"#);
        assert_eq!((estimate.most, estimate.likely), (None, Some(Credits::from_micro(USUAL * 8))));
        let bounded = estimated(&[(OUTPUT_TOKEN, 8)], CHAT, r#"{"max_tokens":32000}"#);
        assert_eq!(bounded.most, Some(Credits::from_micro(256_000)));
        assert_eq!(bounded.likely, Some(Credits::from_micro(USUAL * 8)));
    }
}
