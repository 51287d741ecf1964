use http::{HeaderMap, Method, Request, Response};

use super::*;

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = "text/event-stream; charset=utf-8";

fn meter(path: &str, body: &'static str) -> Box<dyn Meter> {
    let call = Call {
        method: &Method::POST,
        target: path,
        headers: &HeaderMap::new(),
        body: &Bytes::from_static(body.as_bytes()),
    };
    TokenPricing.meter(&call).unwrap()
}

fn head(status: u16, kind: &str) -> response::Parts {
    Response::builder().status(status).header("content-type", kind).body(()).unwrap().into_parts().0
}

fn used(input: u64, output: u64) -> Metered {
    metered(Usage { input, output })
}

/// A stream that was asked to say its usage, and what of it the caller gets, in chunks of a size.
fn stream(request: &'static str, answer: &str, size: usize) -> (Box<dyn Meter>, String) {
    let mut meter = meter(CHAT, request);
    let mut parts = Request::new(()).into_parts().0;
    let mut body = Bytes::from_static(request.as_bytes());
    meter.request(&mut parts, &mut body);
    meter.head(&mut head(200, STREAM));
    let mut passed = Vec::new();
    for chunk in answer.as_bytes().chunks(size) {
        passed.extend(meter.chunk(Bytes::copy_from_slice(chunk)));
    }
    passed.extend(meter.last_words(End::Complete).unwrap());
    (meter, String::from_utf8(passed).unwrap())
}

#[test]
fn every_end_of_a_whole_answer_has_a_price() {
    let usage = r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let price = |status, request, answer: &'static str, end| {
        let mut meter = meter(CHAT, request);
        meter.head(&mut head(status, "application/json"));
        assert_eq!(meter.chunk(Bytes::from_static(answer.as_bytes())), answer);
        meter.end(end)
    };
    assert_eq!(price(200, "", usage, End::Complete), used(3, 4));
    for status in [500, 404, 302] {
        assert_eq!(price(status, "abc", usage, End::Complete), used(0, 0));
    }
    assert_eq!(price(200, "abcd", "{}", End::Complete), used(2, 1));
    assert_eq!(price(200, "abcd", r#"{"usage":null}"#, End::Complete), used(2, 5));
    assert_eq!(price(200, "abcd", "1234", End::Failed), used(2, 0));
    for end in [End::BrokenOff, End::Cancelled, End::Gone] {
        assert_eq!(price(200, "abcd", "1234", end), used(2, 2), "{end:?}");
    }
    for (end, expected) in [(End::Unreached, used(0, 0)), (End::Failed, used(2, 0)), (End::Cancelled, used(2, 0))] {
        assert_eq!(meter(CHAT, "abcd").end(end), expected, "{end:?}");
    }
}

#[test]
fn stream_usage_is_requested_and_removed_at_any_chunking() {
    let said = |text: &str| format!(r#"data: {{"choices":[{{"delta":{{"content":"{text}"}}}}],"usage":null}}"#);
    let usage = r#"data: {"choices":[],
data: "usage":{"prompt_tokens":11,"completion_tokens":7}}"#;
    for newline in ["\n", "\r\n", "\r"] {
        let end = newline.repeat(2);
        let usage = usage.replace('\n', newline);
        let before = format!(": ping{end}{}{end}event: message{newline}{}{end}", said("usage"), said("two"));
        let after = format!("data: [DONE]{end}");
        let answer = format!("{before}{usage}{end}{after}");
        for size in 1..answer.len() {
            let (mut meter, passed) = stream(r#"{"stream":true}"#, &answer, size);
            assert_eq!(passed, format!("{before}{after}"), "by {size}");
            assert_eq!(meter.end(End::Complete), used(11, 7));
            let asked = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
            let (mut meter, passed) = stream(asked, &answer, size);
            assert_eq!((passed, meter.end(End::Complete)), (answer.clone(), used(11, 7)));
        }
    }
}

#[test]
fn a_stream_without_usage_is_estimated_by_its_text() {
    let answer = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"abcdefg\",\"tool_calls\":\
                  [{\"id\":\"x\",\"function\":{\"arguments\":\"{}\"}}]}},{\"text\":\"abc\"}]}\n\ndata: [DONE]\n\n";
    let (mut meter, passed) = stream(r#"{"stream":true}"#, answer, 5);
    assert_eq!((passed.as_str(), meter.end(End::Complete)), (answer, used(5, 4)));
    // Not even JSON: as it stands.
    let (mut meter, passed) = stream("", "data: abcdef\n\ndata: {\n\n", 4);
    assert_eq!((passed.as_str(), meter.end(End::Gone)), ("data: abcdef\n\ndata: {\n\n", used(0, 3)));
    let (mut meter, passed) = stream("", "this is no event", 4);
    assert_eq!((passed.as_str(), meter.end(End::Complete)), ("this is no event", used(0, 0)));
    // Events that say nothing of a model's.
    let (mut meter, _) = stream("", "data: {\"type\":\"ping\"}\n\ndata: [1]\n\n: x\n\n", 4);
    assert_eq!(meter.end(End::Complete), used(0, 0));
}

#[test]
fn an_event_that_never_ends_is_passed_on_and_counted() {
    let mut meter = meter(CHAT, "");
    meter.head(&mut head(200, STREAM));
    let mut passed = 0;
    for _ in 0..30 {
        passed += meter.chunk(Bytes::from(vec![b'x'; 100_000])).len();
    }
    assert_eq!(meter.end(End::Gone), used(0, 1_000_000));
    assert_eq!(passed, 3_000_000);
    assert!(meter.last_words(End::CapReached).unwrap().starts_with(b"\n\ndata: {"));
}

#[test]
fn usage_on_the_way_counts_with_what_is_said_after_it() {
    let answer = "data: {\"choices\":[{\"delta\":{\"content\":\"abc\"}}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5}}\n\n\
                  data: {\"choices\":[{\"delta\":{\"content\":\"abcdef\"}}]}\n\n";
    let (meter, _) = stream(r#"{"stream":true}"#, answer, 9);
    assert_eq!((meter.metered(), meter.least()), (used(9, 7), used(9, 5)));
    // A zero or a broken one takes nothing back that was reported.
    let broken = format!("{answer}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":-1}}}}\n\n");
    let (meter, _) = stream(r#"{"stream":true}"#, &broken, 9);
    assert_eq!(meter.metered(), used(9, 7));
}

#[test]
fn responses_report_at_their_end() {
    let answer =
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"abcdef\"}\n\n";
    let end = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"text\":\"abcdef\"}],\
               \"usage\":{\"input_tokens\":4,\"output_tokens\":6}}}\n\n";
    let request = r#"{"stream":true}"#;
    let mut meter = meter("/v1/responses", request);
    let mut body = Bytes::from_static(request.as_bytes());
    meter.request(&mut Request::new(()).into_parts().0, &mut body);
    assert_eq!(body, request);
    meter.head(&mut head(200, STREAM));
    assert_eq!(meter.chunk(Bytes::from(answer)), answer);
    assert_eq!((meter.metered(), meter.least()), (used(5, 2), used(0, 1)));
    assert_eq!(meter.chunk(Bytes::from(end)), end);
    assert_eq!((meter.end(End::Complete), meter.least()), (used(4, 6), used(0, 1)));
}

#[test]
fn a_reader_is_told_why_the_stream_ends() {
    for (end, code) in
        [(End::CapReached, "cap-reached"), (End::Cancelled, "cancelled"), (End::BrokenOff, "upstream-failed")]
    {
        let mut meter = meter(CHAT, "");
        meter.head(&mut head(200, STREAM));
        assert_eq!(meter.chunk(Bytes::from_static(b"data: half an ev")), "");
        let words = meter.last_words(end).unwrap();
        let event: Value = serde_json::from_slice(&data(&words).unwrap()).unwrap();
        assert_eq!(event["error"]["code"], code);
        assert!(words.ends_with(b"\n\n"));
    }
    let mut whole = meter(CHAT, "");
    whole.head(&mut head(200, "application/json"));
    assert_eq!((whole.last_words(End::BrokenOff), whole.last_words(End::Complete)), (None, Some(Bytes::new())));
}

#[test]
fn a_changed_body_leaves_its_digest_behind() {
    let mut meter = meter(CHAT, r#"{"stream":true}"#);
    let mut parts = Request::builder().header("content-digest", "x").header("content-md5", "x").body(()).unwrap();
    let mut parts = core::mem::replace(&mut parts, Request::new(())).into_parts().0;
    meter.request(&mut parts, &mut Bytes::from_static(br#"{"stream":true}"#));
    assert!(parts.headers.is_empty());
}

#[test]
fn the_most_a_call_may_cost_is_told_by_its_limits() {
    let most = |path, body| meter(path, body).most();
    assert_eq!(most(CHAT, r#"{"max_tokens":10}"#), Some(used(17, 10)));
    assert_eq!(most(CHAT, r#"{"max_tokens":10,"n":3}"#), Some(used(23, 30)));
    assert_eq!(most("/v1/embeddings", r#"{"input":"x"}"#), Some(used(13, 0)));
    for body in ["{}", "", r#"{"max_tokens":-1}"#, r#"{"max_tokens":1,"x":"image_url"}"#, r#"{"max_tokens":1e99}"#] {
        assert_eq!(most(CHAT, body), None, "{body}");
    }
    assert_eq!(most("/v1/responses", r#"{"max_tokens":10}"#), None);
}
