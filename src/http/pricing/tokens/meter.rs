//! Meters one call by its tokens.

use core::cell::OnceCell;

use bytes::Bytes;
use http::{header, request, response};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::super::{End, Meter, Metered};
use super::answer::{Reading, Seen};
use super::learned::Service;
use super::metered;
use crate::http::usage::{
    Asked, Body, Counter, Dialect, Reports, STARTS, Usage, WordCount, ask_for_usage, at, each, has_media, least_asked,
    may_name, most_answered, read, text_bytes,
};

/// Headers that are of a body as the caller sent it.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];
/// Longest refusal that is read, bytes.
const REFUSAL: usize = 16 << 10;
/// What a service may refuse that it was sent by the gateway.
const OPTIONS: &str = "stream_options";
const SILENT: &str = "is of pictures or sound, or about them, and says no usage";

pub(super) struct TokenMeter {
    dialect: &'static Dialect,
    /// The body as it is read.
    asked: Bytes,
    /// Whether that is not as it came.
    decoded: bool,
    counter: Counter,
    /// The tokens that the request has at least. It is read when that is wanted, which is after it was paid for.
    least_asked: OnceCell<u64>,
    /// The service to ask for the usage of a stream; none if it is not asked.
    service: Option<Service>,
    /// Whether the gateway asked.
    added: bool,
    notice: Option<String>,
    answer: Answer,
    count: Count,
    /// Whether the answer is over, and complete.
    complete: bool,
}

enum Answer {
    None,
    /// One that is no success; of a refusal that may be of what was added, what it says.
    Free(Option<Vec<u8>>),
    Read(Reading),
}

/// What is counted of an answer.
struct Count {
    dialect: &'static Dialect,
    reports: Reports,
    words: WordCount,
    /// Bytes of text since the last report of output, and in all.
    since: u64,
    text: u64,
    /// Bytes of all of it that are no pictures or sound.
    bytes: u64,
    /// Whether a model said anything.
    said: bool,
    /// Whether there was an error before anything was said.
    failed: bool,
    /// What was reported before the end.
    running: Usage,
    strip: bool,
}

impl Count {
    fn see(&mut self, seen: Seen<'_>) -> bool {
        match seen {
            Seen::Value(value) => self.value(value),
            Seen::Text(text) => {
                self.add(text_bytes(text));
                self.said = true;
                false
            }
        }
    }

    fn add(&mut self, bytes: u64) {
        self.since = self.since.saturating_add(bytes);
        self.text = self.text.saturating_add(bytes);
    }

    /// Reads an event's data, or a whole answer; whether it must be taken out.
    fn value(&mut self, value: &Value) -> bool {
        let words = self.words.event(self.dialect, value);
        let before = self.text;
        for path in self.dialect.said {
            let mut found = Vec::new();
            each(value, path, &mut |_, said| found.push(said));
            found.into_iter().for_each(|said| each_string(said, &mut |text| self.add(text_bytes(text.as_bytes()))));
        }
        self.failed |= !self.said && !words && is_error(value);
        self.said |= words || self.text > before;
        let alone = value.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if let Some(reported) = self.reports.read(value) {
            if reported.output {
                self.since = 0;
            }
            let (input, output) = (self.reports.input().unwrap_or(0), self.reports.least_output());
            if STARTS.iter().any(|start| at(value, start).is_some()) {
                self.running.input = input;
            } else if words && !is_last(value) {
                self.running = Usage { input, output };
            }
        }
        self.strip && alone && value.get("usage").is_some_and(Value::is_object)
    }
}

/// Whether a value is an error in place of an answer.
fn is_error(value: &Value) -> bool {
    let error =
        |path| at(value, path).is_some_and(|error| !matches!(error, Value::Null | Value::Bool(false)) && error != "");
    let is = |name: &str, kind: &str| value.get(name).is_some_and(|value| value == kind);
    error("error")
        || error("response.error")
        || is("type", "error")
        || is("type", "response.failed")
        || is("object", "error")
}

/// Whether a service says that it is done. To stop an answer that is there would serve nobody.
fn is_last(value: &Value) -> bool {
    let mut last = value.get("done") == Some(&Value::Bool(true));
    for path in ["choices[].finish_reason", "candidates[].finishReason"] {
        each(value, path, &mut |_, reason| last |= !reason.is_null());
    }
    last
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

impl TokenMeter {
    pub(super) fn new(
        dialect: &'static Dialect,
        body: Bytes,
        decoded: Option<Bytes>,
        counter: Counter,
        service: Option<Service>,
    ) -> Self {
        let count = Count {
            dialect,
            reports: Reports::default(),
            words: WordCount::new(counter),
            since: 0,
            text: 0,
            bytes: 0,
            said: false,
            failed: false,
            running: Usage::default(),
            strip: false,
        };
        Self {
            dialect,
            decoded: decoded.is_some(),
            asked: decoded.unwrap_or(body),
            counter,
            least_asked: OnceCell::new(),
            service,
            added: false,
            notice: None,
            answer: Answer::None,
            count,
            complete: false,
        }
    }

    /// What a request comes to whose service said nothing of it.
    fn of_request(&self) -> Usage {
        let words = if self.dialect.body == Body::Form { 0 } else { text_bytes(&self.asked) };
        Usage::estimated(words, 0)
    }

    /// What it used, if it is over now.
    fn usage(&self) -> Usage {
        let Count { reports, said, failed, since, .. } = &self.count;
        let Answer::Read(reading) = &self.answer else { return Usage::default() };
        let nothing = !reading.is_any() || *failed || (reading.is_stream() && !said);
        if nothing {
            return reports.usage(Usage::default(), false);
        }
        let text = if reading.is_whole() { self.count.bytes } else { self.count.text };
        let output = if self.dialect.answers && !self.dialect.media { text } else { 0 };
        let estimate = Usage { output: Usage::estimated(0, output).output, ..self.of_request() };
        let used = reports.usage(estimate, *said);
        match reports.output() {
            Some(1..) if reading.is_stream() => {
                Usage { output: used.output.saturating_add(Usage::estimated(0, *since).output), ..used }
            }
            _ => used,
        }
    }

    /// Whether nothing but a report could tell what the answer cost, and there is none.
    fn is_silent(&self) -> bool {
        let Answer::Read(reading) = &self.answer else { return false };
        let is_answer = reading.is_any() && !self.count.failed && !self.count.reports.is_any();
        is_answer && (self.dialect.media || (!reading.is_stream() && has_media(&self.asked)))
    }

    /// Whether a refusal is of what the gateway added. What the caller wrote itself may be said back.
    fn refuses_options(&self, refusal: &[u8]) -> bool {
        let may_be_callers = may_name(&self.asked, &[OPTIONS]);
        let Some(said) = read(refusal).filter(|_| !may_be_callers) else { return false };
        let mut found = false;
        for path in ["error.message", "error.param", "error", "message", "detail", "detail[].loc[]", "detail[].msg"] {
            each(&said, path, &mut |_, text| found |= text.as_str().is_some_and(|text| text.contains(OPTIONS)));
        }
        found
    }
}

impl Meter for TokenMeter {
    fn items(&self) -> Metered {
        metered(Usage { input: 0, output: 0 })
    }

    fn request(&mut self, head: &mut request::Parts, body: &mut Bytes) {
        let asked = self.dialect.asks.then(|| ask_for_usage(&self.asked)).flatten();
        let asking = asked.filter(|_| self.service.as_ref().is_some_and(Service::is_asked));
        if self.decoded {
            *body = self.asked.clone();
            head.headers.remove(header::CONTENT_ENCODING);
        }
        if let Some(Asked { body: asking, by_caller }) = &asking {
            (self.count.strip, self.added) = (!by_caller, !by_caller);
            *body = asking.clone().into();
        }
        if self.decoded || asking.is_some() {
            DIGESTS.iter().for_each(|name| drop(head.headers.remove(*name)));
        }
    }

    /// The words of the request and those of a stream, or what it reported on its way. Of other answers nothing, as no more work is done
    /// once they arrive; nor by the report at the end of an answer that is there.
    fn least(&self) -> Metered {
        let running = match &self.answer {
            Answer::None => Usage::default(),
            Answer::Read(reading) if reading.is_stream() => {
                Usage { output: self.count.running.output.max(self.count.words.least()), ..self.count.running }
            }
            Answer::Free(_) | Answer::Read(_) => return Metered::NOTHING,
        };
        let asked = *self.least_asked.get_or_init(|| least_asked(&self.asked, self.dialect.asked, self.counter));
        metered(Usage { input: running.input.max(asked), ..running })
    }

    fn reported(&self) -> Metered {
        match &self.answer {
            Answer::Read(reading) if reading.is_whole() && self.count.reports.is_any() => {
                metered(self.count.reports.usage(Usage::default(), self.count.said))
            }
            _ => Metered::NOTHING,
        }
    }

    /// No tokenizer makes more tokens than there are bytes. Where the request names a limit for its answers, that and the bytes of the
    /// request; none where it does not, or refers to more than is in it: pictures, sound, files, earlier answers.
    fn most(&self) -> Option<Metered> {
        let elsewhere = ["image", "audio", "file", "video"];
        let bounded = !self.dialect.limits.is_empty() || !self.dialect.answers;
        if !bounded || may_name(&self.asked, &elsewhere) {
            return None;
        }
        let output = match self.dialect.answers {
            false => serde_json::from_slice::<IgnoredAny>(&self.asked).ok().map(|_| 0)?,
            true => most_answered(&self.asked, self.dialect.limits)?,
        };
        Some(metered(Usage { input: self.asked.len() as u64, output }))
    }

    fn head(&mut self, head: &mut response::Parts) {
        self.answer = match head.status.is_success() {
            false if self.added && matches!(head.status.as_u16(), 400 | 422) => Answer::Free(Some(Vec::new())),
            false => Answer::Free(None),
            true => {
                if let Some(service) = self.service.as_ref().filter(|_| self.added) {
                    service.took();
                }
                Answer::Read(Reading::new(head))
            }
        };
    }

    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        match &mut self.answer {
            Answer::None | Answer::Free(None) => chunk,
            Answer::Free(Some(said)) => {
                said.extend_from_slice(&chunk[..chunk.len().min(REFUSAL.saturating_sub(said.len()))]);
                chunk
            }
            Answer::Read(reading) => {
                let count = &mut self.count;
                let passed = reading.chunk(chunk, &mut |seen| count.see(seen));
                count.bytes = count.bytes.saturating_add(text_bytes(&passed));
                passed
            }
        }
    }

    fn unpriced(&self) -> Option<&'static str> {
        let Answer::Read(reading) = &self.answer else { return None };
        reading.unreadable().or_else(|| (self.complete && self.is_silent()).then_some(SILENT))
    }

    fn notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    /// Of pictures or sound that were passed on without a report nothing tells the cost.
    fn metered(&self) -> Metered {
        if self.complete && self.dialect.media && self.is_silent() { Metered::Charge } else { metered(self.usage()) }
    }

    fn end(&mut self, end: End) -> Metered {
        if let Answer::Free(Some(said)) = &self.answer
            && self.refuses_options(said)
            && self.service.as_ref().is_some_and(Service::refused)
        {
            let name = self.dialect.name;
            let what = format!("a service of the dialect {name} refuses `{OPTIONS}`, which is left out from now on");
            self.notice = Some(format!("{what}; its streams may say no usage, and are estimated then"));
        }
        match (end, &self.answer) {
            (End::Unreached, _) => metered(Usage::default()),
            (End::Failed, _) => metered(self.count.reports.usage(Usage::default(), false)),
            // The caller ended it before there was an answer.
            (End::Cancelled | End::Gone, Answer::None) => metered(self.of_request()),
            _ => self.metered(),
        }
    }

    fn last_words(&mut self, end: End) -> Option<Bytes> {
        let Answer::Read(reading) = &mut self.answer else {
            return (end == End::Complete).then(Bytes::new);
        };
        let (code, message) = match end {
            End::Complete => {
                let count = &mut self.count;
                self.complete = true;
                return Some(reading.end(&mut |seen| count.see(seen)));
            }
            End::Gone => return None,
            _ if !reading.is_events() => return None,
            End::CapReached => ("cap-reached", "the charge of this call is used up"),
            End::Cancelled => ("cancelled", "the call was cancelled"),
            End::Unreached | End::Failed | End::BrokenOff => ("upstream-failed", "the service broke off"),
        };
        let error = serde_json::json!({ "error": { "message": message, "type": "halometer", "code": code } });
        let before = if reading.is_open() { "\n\n" } else { "" };
        Some(format!("{before}data: {error}\n\n").into())
    }
}
