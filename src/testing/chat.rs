//! The service that the demo sells: a chat service in OpenAI's dialect, which makes its answers up.
//!
//! Answers are a function of the request, so that a run can be repeated; they differ in length, so that the calls differ in
//! price. The service knows nothing of payments.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::header;
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Tokens that an answer has at most, when the request sets no limit.
const DEFAULT_MAX_TOKENS: u64 = 256;
/// Longest request, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Where questions go.
pub const COMPLETIONS: &str = "/v1/chat/completions";

/// The service: `POST /v1/chat/completions`, `GET /v1/models`.
pub fn service() -> Router {
    Router::new()
        .route(COMPLETIONS, post(complete))
        .route("/v1/models", get(models))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

#[derive(Deserialize)]
struct Request {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Serialize, Deserialize)]
struct Message {
    role: String,
    content: String,
}

async fn models() -> Json<serde_json::Value> {
    Json(
        json!({ "object": "list", "data": [{ "id": "parrot-1", "object": "model", "created": 0, "owned_by": "halometer" }] }),
    )
}

async fn complete(request: Result<Json<Request>, JsonRejection>) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return refusal(rejection.status(), &rejection.body_text()),
    };
    let Some(question) = request.messages.iter().rev().find(|m| m.role == "user") else {
        return refusal(StatusCode::BAD_REQUEST, "there is no message of the role `user`");
    };
    let limit = request.max_completion_tokens.or(request.max_tokens).unwrap_or(DEFAULT_MAX_TOKENS);
    let seed = seed(&request);
    let (answer, complete) = truncate(&answer(&question.content, seed), limit);
    // Four tokens a message for its frame, as the real tokenizers have it.
    let prompt: u64 = request.messages.iter().map(|m| count_tokens(&m.content) + 4).sum();
    let completion = count_tokens(&answer);
    let usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    });
    let id = format!("chatcmpl-{seed:016x}");
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let reason = if complete { "stop" } else { "length" };
    if request.stream {
        let with_usage = request.stream_options.is_some_and(|options| options.include_usage);
        return stream(&id, created, &request.model, &answer, reason, with_usage.then_some(usage));
    }
    Json(json!({
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": request.model,
        "choices": [{
            "index": 0,
            "message": Message { role: "assistant".to_owned(), content: answer },
            "finish_reason": reason,
        }],
        "usage": usage,
    }))
    .into_response()
}

/// The answer word by word, as server-sent events.
fn stream(id: &str, created: u64, model: &str, answer: &str, reason: &str, usage: Option<Value>) -> Response {
    let event = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "choices": choices,
            "usage": usage,
        });
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let delta = |delta: Value, reason: Option<&str>| {
        event(json!([{ "index": 0, "delta": delta, "finish_reason": reason }]), Value::Null)
    };
    let mut events = VecDeque::from([delta(json!({ "role": "assistant", "content": "" }), None)]);
    events.extend(answer.split_inclusive(' ').map(|word| delta(json!({ "content": word }), None)));
    events.push_back(delta(json!({}), Some(reason)));
    events.extend(usage.map(|usage| event(json!([]), usage)));
    events.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(Events(events))).into_response()
}

/// A body of one event after the other.
struct Events(VecDeque<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|event| Ok(Frame::data(event))))
    }
}

/// An error in OpenAI's form.
fn refusal(status: StatusCode, message: &str) -> Response {
    let body = json!({ "error": { "message": message, "type": "invalid_request_error", "param": null, "code": null } });
    (status, Json(body)).into_response()
}

fn seed(request: &Request) -> u64 {
    let mut hash = blake2b_simd::Params::new().hash_length(8).to_state();
    for text in [&request.model].into_iter().chain(request.messages.iter().flat_map(|m| [&m.role, &m.content])) {
        hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hash.finalize().as_bytes().iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// Words by their length, and punctuation: near enough to what tokenizers count.
fn count_tokens(text: &str) -> u64 {
    text.split_whitespace().map(word_tokens).sum()
}

fn word_tokens(word: &str) -> u64 {
    let letters = word.chars().filter(|c| c.is_alphanumeric()).count();
    let signs = word.chars().count() - letters;
    (letters.div_ceil(6) + signs) as u64
}

/// The longest run of whole words that has at most `limit` tokens, and whether that is all of the text.
fn truncate(text: &str, limit: u64) -> (String, bool) {
    let mut left = limit;
    let mut kept = String::new();
    for word in text.split_whitespace() {
        let Some(rest) = left.checked_sub(word_tokens(word)) else { return (kept, false) };
        left = rest;
        if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(word);
    }
    (kept, true)
}

/// SplitMix64: small, and the same on every machine and in every release, which no random generator of a library promises.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // Biased by less than 2^-50 for the small bounds used here.
        (z % bound.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const OPENINGS: &[&str] = &[
    "Good question; most of it comes down to {}.",
    "The short answer turns on {}.",
    "Let us begin with {}, because the rest follows from it.",
    "There are two schools of thought about {}, and both have a point.",
    "People who deal with {} every day would say that it depends, but not on much.",
];
const MIDDLES: &[&str] = &[
    "With {} it is the slow part that decides, so that is where to look first.",
    "What is often overlooked is {}: small in itself, but everything else leans on it.",
    "Measure {} before you change anything, or you will not know what helped.",
    "If {} is settled, two thirds of the work is done.",
    "Nobody has to take this on trust: try it once with {} and once without.",
    "The usual mistake is to treat {} as the cause, when it is the first effect.",
    "A rule of thumb for {}: halve it, wait, and look again.",
    "Books differ on {}, but the differences are smaller than their authors think.",
    "In the long run {} matters less than doing the same thing every week.",
    "It costs little to write down what you expect of {}, and it saves an argument later.",
    "Where {} and common sense disagree, common sense has usually misread the question.",
    "That leaves {}, which is best done last, in good light and without hurry.",
];
const CLOSINGS: &[&str] = &[
    "Start there, and come back if it is not enough.",
    "If in doubt, ask somebody who can see the thing itself.",
    "The rest is practice.",
    "That is all there is to it, though it takes a while to believe.",
    "I can go into more detail if you tell me what you have tried.",
];

/// Some sentences about the longer words of the question.
fn answer(question: &str, seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut topics: Vec<&str> = question
        .split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '\''))
        .filter(|word| word.chars().count() > 4)
        .collect();
    topics.dedup();
    if topics.is_empty() {
        topics.push("it");
    }
    let mut text = dice.pick(OPENINGS).replacen("{}", topics[dice.below(topics.len())], 1);
    let mut middles: Vec<&str> = MIDDLES.to_vec();
    for _ in 0..1 + dice.below(7) {
        let sentence = middles.swap_remove(dice.below(middles.len()));
        let _ = write!(text, " {}", sentence.replacen("{}", topics[dice.below(topics.len())], 1));
    }
    let _ = write!(text, " {}", dice.pick(CLOSINGS));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_repeat_per_question_and_differ_in_length() {
        let lengths: std::collections::BTreeSet<u64> =
            (0..20).map(|n| count_tokens(&answer("Why do cats knead blankets?", n))).collect();
        assert!(lengths.len() > 5);
        assert_eq!(answer("Why do cats knead blankets?", 3), answer("Why do cats knead blankets?", 3));
        assert!(!answer("", 1).is_empty());
    }

    #[test]
    fn an_answer_keeps_to_its_limit() {
        let text = answer("What is the difference between anonymity and pseudonymity?", 9);
        for limit in 0..count_tokens(&text) {
            let (kept, complete) = truncate(&text, limit);
            assert!(count_tokens(&kept) <= limit && !complete);
        }
        assert!(truncate(&text, count_tokens(&text)).1);
    }
}
