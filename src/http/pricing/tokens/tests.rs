use http::{HeaderMap, Method, Request, Response, response};

use serde_json::Value;

use super::super::End;
use super::*;
use crate::http::sse::data;

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = "text/event-stream; charset=utf-8";

fn meter(path: &str, body: &'static str) -> Box<dyn Meter> {
    let call = Call {
        method: &Method::POST,
        target: path,
        headers: &HeaderMap::new(),
        body: &Bytes::from_static(body.as_bytes()),
    };
    TokenPricing::new().meter(&call).unwrap()
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
    // Four bytes, which are two tokens.
    let asked = "{  }";
    assert_eq!(price(200, "", usage, End::Complete), used(3, 4));
    for status in [500, 404, 302] {
        assert_eq!(price(status, asked, usage, End::Complete), used(0, 0));
    }
    assert_eq!(price(200, asked, "{}", End::Complete), used(2, 1));
    assert_eq!(price(200, asked, r#"{"usage":null}"#, End::Complete), used(2, 5));
    // It failed, and nothing was passed on.
    assert_eq!(price(200, asked, "1234", End::Failed), used(0, 0));
    assert_eq!(price(200, asked, usage, End::Failed), used(3, 4));
    for end in [End::BrokenOff, End::Cancelled, End::Gone] {
        assert_eq!(price(200, asked, "1234", end), used(2, 2), "{end:?}");
        assert_eq!(price(200, asked, "", end), used(0, 0), "{end:?}");
    }
    for (end, expected) in [(End::Unreached, used(0, 0)), (End::Failed, used(0, 0)), (End::Cancelled, used(2, 0))] {
        assert_eq!(meter(CHAT, asked).end(end), expected, "{end:?}");
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
fn an_event_that_never_ends_is_passed_on_and_is_no_words() {
    let mut meter = meter(CHAT, "");
    meter.head(&mut head(200, STREAM));
    let mut passed = 0;
    for _ in 0..30 {
        passed += meter.chunk(Bytes::from(vec![b'x'; 100_000])).len();
    }
    assert_eq!((meter.metered(), passed), (used(0, 0), 3_000_000));
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
    // Fewer words than it is worth to count.
    assert_eq!((meter.metered(), meter.least()), (used(5, 2), used(0, 0)));
    assert_eq!(meter.chunk(Bytes::from(end)), end);
    assert_eq!((meter.end(End::Complete), meter.least()), (used(4, 6), used(0, 0)));
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
fn only_known_routes_in_their_normal_form_are_sold() {
    let sells = |pricing: &TokenPricing, method: &Method, target: &str| {
        pricing.meter(&Call { method, target, headers: &HeaderMap::new(), body: &Bytes::new() }).is_ok()
    };
    let (known, every) = (TokenPricing::new(), TokenPricing::new().everything());
    let narrow = TokenPricing::new().sells(["POST /v1/**".parse().unwrap()]);
    for target in [
        CHAT,
        "/v1/chat/completions?x=1",
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/messages",
        "/api/chat",
        "/api/generate",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        "/v2/chat",
        "/v1/images/generations",
    ] {
        assert!(sells(&known, &Method::POST, target) && sells(&every, &Method::POST, target), "{target}");
    }
    for target in ["/v1/batches", "/v1/files", "/", "/v1/models", "/v1/responses/x", "/api/pull"] {
        assert!(!sells(&known, &Method::POST, target) && sells(&every, &Method::POST, target), "{target}");
    }
    assert!(!sells(&known, &Method::GET, CHAT));
    for target in [
        "/v1/chat\\completions",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "//v1/chat/completions",
        "/v1/Chat/completions",
        "/V1/CHAT/COMPLETIONS",
        "/v1/chat/completions;x=1",
        "/v1/chat;x=1/completions",
        "/v1/chat/c%6Fmpletions",
        "/v1/chat/c%6fmpletions",
        "/v1/chat%2Fcompletions",
        "/v1/x/../chat/completions",
        "/v1/./chat/completions",
        "/v1/chat/completions%00",
        "/v1/chat/completions%20/",
    ] {
        for pricing in [&known, &every, &narrow] {
            assert!(!sells(pricing, &Method::POST, target), "{target}");
        }
    }
}

#[test]
fn compressed_requests_are_passed_on_decoded_or_refused() {
    use std::io::Write as _;

    let asking = br#"{"stream":true,"messages":[]}"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(asking).unwrap();
    let gzip = Bytes::from(gzip.finish().unwrap());
    let mut headers = HeaderMap::new();
    headers.insert("content-encoding", "gzip".parse().unwrap());
    headers.insert("content-type", "application/json".parse().unwrap());
    let call = Call { method: &Method::POST, target: CHAT, headers: &headers, body: &gzip };
    let mut meter = TokenPricing::new().meter(&call).unwrap();
    let mut request = Request::new(()).into_parts().0;
    request.headers = headers.clone();
    let mut body = gzip.clone();
    meter.request(&mut request, &mut body);
    assert_eq!(body, r#"{"stream":true,"messages":[],"stream_options":{"include_usage":true}}"#);
    assert!(!request.headers.contains_key("content-encoding"));
    let refused = |pricing: TokenPricing, call: &Call<'_>| pricing.meter(call).err();
    assert!(matches!(refused(TokenPricing::new().without_compressed_requests(), &call), Some(NotSold::Unsupported(_))));
    assert!(matches!(refused(TokenPricing::new().max_decoded(20), &call), Some(NotSold::Unsupported(_))));
    let plain = Bytes::from_static(asking);
    assert!(matches!(refused(TokenPricing::new(), &Call { body: &plain, ..call }), Some(NotSold::Malformed(_))));
    let mut other = headers.clone();
    other.insert("content-encoding", "br".parse().unwrap());
    let call = Call { headers: &other, ..call };
    assert!(matches!(refused(TokenPricing::new(), &call), Some(NotSold::Unsupported(_))));
}

#[test]
fn compressed_answers_are_decoded() {
    use std::io::Write as _;

    let answer = br#"{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":4000}}"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(answer).unwrap();
    let gzip = gzip.finish().unwrap();
    let answered = |coding: &str, size: usize| {
        let mut meter = meter(CHAT, "");
        let mut parts = head(200, "application/json");
        parts.headers.insert("content-encoding", coding.parse().unwrap());
        meter.head(&mut parts);
        let passed: Vec<u8> = gzip.chunks(size).flat_map(|chunk| meter.chunk(Bytes::copy_from_slice(chunk))).collect();
        let rest = meter.last_words(End::Complete).unwrap();
        let coded = parts.headers.contains_key("content-encoding");
        ([&passed[..], &rest].concat(), coded, meter.unpriced().is_some(), meter.end(End::Complete))
    };
    for size in [1, 9, 1_000] {
        assert_eq!(answered("gzip", size), (answer.to_vec(), false, false, used(20, 4_000)));
    }
    for coding in ["br", "zstd", "gzip, gzip", "deflate"] {
        let (passed, _, withheld, _) = answered(coding, 1_000);
        assert!(passed.is_empty() && withheld, "{coding}");
    }
}

#[test]
fn a_service_that_refuses_what_was_added_is_not_asked_again() {
    let pricing = TokenPricing::new();
    let call = |asking: &'static str, status: u16, answer: &'static str| {
        let mut body = Bytes::from_static(asking.as_bytes());
        let headers = HeaderMap::new();
        let mut meter = pricing
            .meter(&Call { method: &Method::POST, target: CHAT, headers: &headers, body: &body.clone() })
            .unwrap();
        meter.request(&mut Request::new(()).into_parts().0, &mut body);
        meter.head(&mut head(status, "application/json"));
        meter.chunk(Bytes::from_static(answer.as_bytes()));
        assert_eq!(meter.end(End::Complete), used(0, 0));
        (body.ends_with(b"\"include_usage\":true}}"), meter.notice().is_some())
    };
    let asking = r#"{"stream":true}"#;
    let refusal = r#"{"error":{"message":"Unrecognized request argument supplied: stream_options"}}"#;
    // What a caller can bring about, and what is no refusal of it.
    let own = r#"{"stream":true,"messages":["stream_options"]}"#;
    assert_eq!(call(own, 400, refusal), (true, false));
    assert_eq!(call(asking, 500, refusal), (true, false));
    assert_eq!(
        call(asking, 400, r#"{"error":{"message":"no such model"},"body":{"stream_options":{}}}"#),
        (true, false)
    );
    assert_eq!(call(asking, 400, refusal), (true, true));
    assert_eq!(call(asking, 400, refusal), (false, false));
    let unasked = TokenPricing::new().without_stream_options([format!("POST {CHAT}").parse().unwrap()]);
    let mut body = Bytes::from_static(asking.as_bytes());
    let mut meter = unasked
        .meter(&Call { method: &Method::POST, target: CHAT, headers: &HeaderMap::new(), body: &body.clone() })
        .unwrap();
    meter.request(&mut Request::new(()).into_parts().0, &mut body);
    assert_eq!(body, asking);
}

#[test]
fn what_was_added_reaches_nobody_who_did_not_ask() {
    let asking = r#"{"stream":true}"#;
    let said = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Because.\"}}]}\n\n";
    for usage in [
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
        "data: {\"object\":\"chat.completion.chunk\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
    ] {
        for kind in ["text/event-stream", "application/json", "text/plain", "application/octet-stream", "x"] {
            let mut meter = meter(CHAT, asking);
            meter.request(&mut Request::new(()).into_parts().0, &mut Bytes::from_static(asking.as_bytes()));
            meter.head(&mut head(200, kind));
            let passed = meter.chunk(Bytes::from(format!("{said}{usage}data: [DONE]\n\n")));
            assert_eq!(passed, format!("{said}data: [DONE]\n\n"), "{kind}");
            assert_eq!(meter.end(End::Complete), used(1, 2));
        }
    }
}

#[test]
fn only_words_above_what_is_paid_for_stop_a_stream() {
    let least = |delta: &dyn Fn(&str) -> Value, text: &str| {
        let mut meter = meter(CHAT, "");
        meter.head(&mut head(200, STREAM));
        for _ in 0..200 {
            let event = serde_json::json!({ "choices": [{ "index": 0, "delta": delta(text) }] });
            meter.chunk(Bytes::from(format!("data: {event}\n\n")));
        }
        let Metered::Usage(items) = meter.least() else { panic!("a usage") };
        items[1].1
    };
    let content = |text: &str| serde_json::json!({ "content": text });
    // Nine tokens each, of which two count as one.
    let words = least(&content, "some words of a prompt and two more ");
    assert!((700..=800).contains(&words), "{words}");
    let both = least(
        &|text| serde_json::json!({ "reasoning": text, "reasoning_content": text }),
        "some words of a prompt and two more ",
    );
    assert_eq!(both, words);
    for text in [" ", "-", "    ", "\n        "] {
        assert!(least(&content, text) <= 200, "{text:?}");
    }
    let base64 = |text: &str| serde_json::json!({ "audio": { "data": text } });
    assert_eq!(least(&base64, "QUJDREVG"), 0);
}

#[test]
fn the_most_a_call_may_cost_is_told_by_its_limits() {
    let most = |path, body| meter(path, body).most();
    assert_eq!(most(CHAT, r#"{"max_tokens":10}"#), Some(used(17, 10)));
    assert_eq!(most(CHAT, r#"{"max_tokens":10,"n":3}"#), Some(used(23, 30)));
    assert_eq!(most("/v1/embeddings", r#"{"input":"x"}"#), Some(used(13, 0)));
    for body in ["{}", "", r#"{"max_tokens":-1}"#, r#"{"max_tokens":1,"x":"image_url"}"#] {
        assert_eq!(most(CHAT, body), None, "{body}");
    }
    assert_eq!(most("/v1/responses", r#"{"max_tokens":10}"#), None);
}
