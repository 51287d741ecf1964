//! A price for each token.

use core::cell::OnceCell;

use bytes::{Bytes, BytesMut};
use http::{header, request, response};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{Call, End, Meter, Metered, NotSold, Pricing};
use crate::http::sse::{Events, Piece, data};
use crate::http::usage::{Asked, Usage, UsageTap, ask_for_usage, characters, least_asked, may_name, most_answered};
use crate::protocol::{Credits, Tariff};

/// Name of the tariff's item for tokens of the request.
pub const INPUT_TOKEN: &str = "input_token";
/// Name of the tariff's item for tokens of the answer.
pub const OUTPUT_TOKEN: &str = "output_token";

/// Characters of text to a token, where a stream is to be stopped at the cap: high, so that no stream is stopped that would have been
/// within it by its `usage`.
const CHARACTERS_PER_TOKEN: u64 = 6;

/// Headers that are of a body as the caller sent it.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// Prices by tokens, as OpenAI's `usage` reports them: items [`INPUT_TOKEN`] and [`OUTPUT_TOKEN`] of the tariff. Chat completions,
/// completions, responses and embeddings are read, as whole answers and as streams; and what speaks like one of them.
///
/// A stream of completions reports its `usage` where it is asked to by `stream_options.include_usage`. The gateway asks, and where the
/// caller did not, takes the event with the `usage` out again; all other bytes are passed on as they came.
///
/// A whole answer whose `usage` costs more than the charge is withheld; a request whose running text alone, at 8 characters to a token,
/// costs more is refused at no cost.
///
/// The estimates: 3 bytes of the request's body to a token; of a stream, 3 bytes of the text in it; of another answer, 3 bytes of it.
/// Events that are no JSON, or too long (1 MiB), count as text.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenPricing;

impl TokenPricing {
    /// What so many tokens cost. None if the tariff has no price for them, or the cost does not fit 64 bits.
    pub fn price(usage: Usage, tariff: &Tariff, quantum: Credits) -> Option<Credits> {
        tariff.cost([(INPUT_TOKEN, usage.input), (OUTPUT_TOKEN, usage.output)], quantum).ok()
    }
}

impl Pricing for TokenPricing {
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        Ok(Box::new(TokenMeter {
            completions: call.path().ends_with("/completions"),
            embeddings: call.path().ends_with("/embeddings"),
            asked: call.body.clone(),
            request: call.body.len() as u64,
            least_asked: OnceCell::new(),
            strip: false,
            answer: Answer::None,
            reported: None,
            last: false,
            since: 0,
            text: 0,
            characters: 0,
        }))
    }
}

fn metered(usage: Usage) -> Metered {
    Metered::usage([(INPUT_TOKEN, usage.input), (OUTPUT_TOKEN, usage.output)])
}

struct TokenMeter {
    completions: bool,
    embeddings: bool,
    asked: Bytes,
    /// Length of the request's body.
    request: u64,
    /// The tokens that it has at least. It is read when that is wanted, which is after it was paid for.
    least_asked: OnceCell<u64>,
    /// Whether the event with the `usage` is taken out.
    strip: bool,
    answer: Answer,
    /// What a stream reported last.
    reported: Option<Usage>,
    /// Whether that came with nothing else, at its end.
    last: bool,
    /// Bytes of text since then, and in all.
    since: u64,
    text: u64,
    /// Characters of it, in all.
    characters: u64,
}

enum Answer {
    None,
    /// One that is no success.
    Free,
    Whole(UsageTap),
    Stream {
        events: Events,
        /// Whether the event before was taken out.
        stripped: bool,
        lost: bool,
    },
}

impl TokenMeter {
    fn usage(&self) -> Usage {
        match (&self.answer, self.reported) {
            (Answer::Free, _) => Usage::default(),
            (_, Some(reported)) => {
                let since = Usage::estimated(0, self.since).output;
                Usage { output: reported.output.saturating_add(since), ..reported }
            }
            (Answer::Whole(tap), None) => tap.usage().unwrap_or_else(|| Usage::estimated(self.request, self.text)),
            (Answer::None | Answer::Stream { .. }, None) => Usage::estimated(self.request, self.text),
        }
    }

    fn count(&mut self, text: &[u8]) {
        let bytes = text.len() as u64;
        self.since = self.since.saturating_add(bytes);
        self.text = self.text.saturating_add(bytes);
        self.characters = self.characters.saturating_add(characters(text));
    }

    /// Reads an event; whether it is to be taken out.
    fn read(&mut self, event: &[u8]) -> bool {
        let Some(data) = data(event).filter(|data| data.trim_ascii() != b"[DONE]") else { return false };
        let Ok(event) = serde_json::from_slice::<Value>(&data) else {
            self.count(&data);
            return false;
        };
        each_said(&event, &mut |text| self.count(text.as_bytes()));
        let Some(usage) = event.get("usage").or_else(|| event.get("response")?.get("usage")) else { return false };
        let alone = event.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if let Some(usage) = Usage::of_value(usage) {
            (self.reported, self.last, self.since) = (Some(usage), alone, 0);
        }
        let of_completions = event.get("choices").is_some();
        self.strip && of_completions && alone && usage.is_object()
    }
}

/// What a model said in an event: in the `delta`, and in the `text` of a completion.
fn each_said(event: &Value, said: &mut impl FnMut(&str)) {
    let choices = event.get("choices").and_then(Value::as_array).into_iter().flatten();
    choices.clone().filter_map(|choice| choice.get("text")?.as_str()).for_each(&mut *said);
    let deltas = choices.chain([event]).filter_map(|holder| holder.get("delta"));
    deltas.for_each(|delta| each_string(delta, said));
}

/// All strings in a value, but for what is no text of a model. The parser has bounded the depth.
fn each_string(value: &Value, said: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => said(text),
        Value::Array(values) => values.iter().for_each(|value| each_string(value, said)),
        Value::Object(members) => {
            let of_model = members.iter().filter(|(name, _)| !matches!(name.as_str(), "role" | "id" | "type"));
            of_model.for_each(|(_, value)| each_string(value, said));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Meter for TokenMeter {
    fn items(&self) -> Metered {
        metered(Usage { input: 0, output: 0 })
    }

    fn request(&mut self, head: &mut request::Parts, body: &mut Bytes) {
        if !self.completions {
            return;
        }
        if let Some(Asked { body: asking, by_caller }) = ask_for_usage(body) {
            self.strip = !by_caller;
            *body = asking.into();
            DIGESTS.iter().for_each(|name| drop(head.headers.remove(*name)));
        }
    }

    /// The running text of the request, and of a stream its text by a low estimate, or what it reported on its way. Of other answers
    /// nothing, as no more work is done once they arrive.
    fn least(&self) -> Metered {
        match self.answer {
            Answer::None | Answer::Stream { .. } => {}
            Answer::Free | Answer::Whole(_) => return Metered::NOTHING,
        }
        // The report at the end is of an answer that is there: to stop it now would serve nobody.
        let usage = match self.reported.filter(|_| !self.last) {
            Some(reported) => reported,
            None => {
                let input = *self.least_asked.get_or_init(|| least_asked(&self.asked));
                Usage { input, output: self.characters / CHARACTERS_PER_TOKEN }
            }
        };
        metered(usage)
    }

    fn reported(&self) -> Metered {
        match &self.answer {
            Answer::Whole(tap) => tap.usage().map_or(Metered::NOTHING, metered),
            _ => Metered::NOTHING,
        }
    }

    /// No tokenizer makes more tokens than there are bytes. Where the request names a limit for its answers, that and the bytes of the
    /// request; none where it does not, or refers to more than is in it: pictures, sound, files, earlier answers.
    fn most(&self) -> Option<Metered> {
        let elsewhere = ["image", "audio", "file", "video"];
        if !(self.completions || self.embeddings) || may_name(&self.asked, &elsewhere) {
            return None;
        }
        let output = match self.embeddings {
            true => serde_json::from_slice::<IgnoredAny>(&self.asked).ok().map(|_| 0)?,
            false => most_answered(&self.asked, &["max_completion_tokens", "max_tokens"])?,
        };
        Some(metered(Usage { input: self.request, output }))
    }

    fn head(&mut self, head: &mut response::Parts) {
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        self.answer = match kind.eq_ignore_ascii_case("text/event-stream") {
            _ if !head.status.is_success() => Answer::Free,
            true => Answer::Stream { events: Events::default(), stripped: false, lost: false },
            false => Answer::Whole(UsageTap::default()),
        };
    }

    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        let pieces = match &mut self.answer {
            Answer::None | Answer::Free => return chunk,
            Answer::Whole(tap) => {
                tap.push(&chunk);
                self.count(&chunk);
                return chunk;
            }
            Answer::Stream { events, .. } => events.push(&chunk),
        };
        let (mut passed, mut removed, mut now_lost) = (BytesMut::new(), None, false);
        for piece in pieces {
            match piece {
                Piece::Event(event) => {
                    let remove = self.read(&event);
                    removed = Some(remove);
                    if !remove {
                        passed.extend_from_slice(&event);
                    }
                }
                Piece::Rest(rest) => {
                    let before = matches!(self.answer, Answer::Stream { stripped: true, .. });
                    if !removed.unwrap_or(before) {
                        passed.extend_from_slice(&rest);
                    }
                }
                Piece::Lost(bytes) => {
                    self.count(&bytes);
                    passed.extend_from_slice(&bytes);
                    now_lost = true;
                }
            }
        }
        if let Answer::Stream { stripped, lost, .. } = &mut self.answer {
            *stripped = removed.unwrap_or(*stripped);
            *lost |= now_lost;
        }
        passed.freeze()
    }

    fn metered(&self) -> Metered {
        metered(self.usage())
    }

    fn end(&mut self, end: End) -> Metered {
        match end {
            End::Unreached => metered(Usage::default()),
            End::Failed if !matches!(self.answer, Answer::Free) => metered(Usage::estimated(self.request, 0)),
            _ => metered(self.usage()),
        }
    }

    fn last_words(&mut self, end: End) -> Option<Bytes> {
        let Answer::Stream { events, lost, .. } = &mut self.answer else {
            return (end == End::Complete).then(Bytes::new);
        };
        let lost = *lost;
        let (code, message) = match end {
            End::Complete => {
                // Services forget the empty line after their last event.
                let rest = events.rest();
                let remove = self.read(&rest);
                return Some(if remove { Bytes::new() } else { rest });
            }
            End::Gone => return None,
            End::CapReached => ("cap-reached", "the charge of this call is used up"),
            End::Cancelled => ("cancelled", "the call was cancelled"),
            End::Unreached | End::Failed | End::BrokenOff => ("upstream-failed", "the service broke off"),
        };
        let error = serde_json::json!({ "error": { "message": message, "type": "halometer", "code": code } });
        let before = if lost { "\n\n" } else { "" };
        Some(format!("{before}data: {error}\n\n").into())
    }
}

#[cfg(test)]
mod tests;
