//! What answers of each dialect cost, at 2 a token in and 8 a token out. The answers are written anew after the services' own
//! documentation, whose pages are named in `src/http/usage/dialects.rs`.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};

use crate::http::pricing::{Call, End, Meter, Metered, Pricing as _, TokenPricing};

const CHAT: &str = "/v1/chat/completions";
const ASKING: &str = r#"{"stream":true,"messages":[{"role":"user","content":"Why is the sky blue?"}]}"#;
const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// The cost of what was metered.
fn cost(metered: &Metered) -> u64 {
    match metered {
        Metered::Usage(items) => {
            items.iter().map(|(item, units)| units * if item == "input_token" { 2 } else { 8 }).sum()
        }
        Metered::Cost(cost) => cost.micro(),
        Metered::Charge => panic!("the charge"),
    }
}

/// What a call whose service said nothing pays for its request.
fn request(body: &str) -> u64 {
    2 * (body.len() as u64).div_ceil(3)
}

fn meter(path: &str, body: &str) -> Box<dyn Meter> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let call = Call { method: &Method::POST, target: path, headers: &HeaderMap::new(), body: &body };
    let mut meter = TokenPricing::new().meter(&call).unwrap();
    meter.request(&mut Request::new(()).into_parts().0, &mut body.clone());
    meter
}

/// What an answer costs, and whether it is withheld, in chunks of a size.
fn answered(path: &str, body: &str, kind: &str, answer: &[u8], size: usize) -> (u64, bool) {
    let mut meter = meter(path, body);
    let head = Response::builder().status(200);
    let head = if kind.is_empty() { head } else { head.header("content-type", kind) };
    meter.head(&mut head.body(()).unwrap().into_parts().0);
    for chunk in answer.chunks(size) {
        meter.chunk(Bytes::copy_from_slice(chunk));
    }
    meter.last_words(End::Complete).unwrap();
    let withheld = meter.unpriced().is_some();
    (cost(&meter.end(if withheld { End::Failed } else { End::Complete })), withheld)
}

#[track_caller]
fn costs(path: &str, kind: &str, answer: &str, expected: u64) {
    for size in [1, 7, 4_096] {
        assert_eq!(answered(path, ASKING, kind, answer.as_bytes(), size), (expected, false), "by {size}: {answer}");
    }
}

/// Events of these data.
fn events(data: &[&str]) -> String {
    data.iter().map(|data| format!("data: {data}\n\n")).collect()
}

/// A whole chat completion with a usage.
fn whole(usage: &str) -> String {
    format!(r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"Because."}}}}],"usage":{usage}}}"#)
}

const SAID: &str = r#"{"choices":[{"index":0,"delta":{"content":"Because."}}]}"#;
const USED: &str = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2000,"total_tokens":2010}}"#;

#[test]
fn whole_answers_cost_what_their_usage_says() {
    for (usage, expected) in [
        (r#"{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}"#, 180),
        // Reasoning beside the completion: told by the total, and without one by being more than what it is a part of.
        (
            r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}"#,
            888,
        ),
        (r#"{"prompt_tokens":32,"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":94}}"#, 888),
        // And within it.
        (
            r#"{"prompt_tokens":32,"completion_tokens":103,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}"#,
            888,
        ),
        // Cached input is counted once, within the prompt or beside the input.
        (
            r#"{"prompt_tokens":100,"completion_tokens":1,"total_tokens":101,"prompt_tokens_details":{"cached_tokens":90}}"#,
            208,
        ),
        (r#"{"input_tokens":10,"cache_read_input_tokens":90,"output_tokens":1}"#, 208),
        (r#"{"prompt_tokens":10,"cache_read_input_tokens":9,"completion_tokens":1}"#, 28),
        (
            r#"{"input_tokens":100,"input_tokens_details":{"cached_tokens":90},"output_tokens":1,"total_tokens":101}"#,
            208,
        ),
        // What is absent is the rest of the total.
        (r#"{"prompt_tokens":10,"total_tokens":30}"#, 180),
        (r#"{"completion_tokens":20,"total_tokens":30}"#, 180),
        (r#"{"prompt_tokens":10.0,"completion_tokens":20.0}"#, 180),
    ] {
        costs(CHAT, JSON, &whole(usage), expected);
    }
    // Or it is estimated: of the answer, or of the request.
    let (input, output) = (whole(r#"{"prompt_tokens":10}"#), whole(r#"{"completion_tokens":20}"#));
    costs(CHAT, JSON, &input, 20 + 8 * (input.len() as u64).div_ceil(3));
    costs(CHAT, JSON, &output, request(ASKING) + 160);
    for usage in
        ["null", "{}", r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#, r#"{"prompt_tokens":-1}"#]
    {
        let answer = whole(usage);
        costs(CHAT, JSON, &answer, request(ASKING) + 8 * (answer.len() as u64).div_ceil(3));
    }
}

#[test]
fn streams_cost_what_they_report_and_it_never_falls() {
    let zero = r#"{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#;
    let null = r#"{"choices":[],"usage":null}"#;
    let less = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
    for data in [
        &[SAID, USED, "[DONE]"][..],
        &[SAID, USED, zero, "[DONE]"],
        &[zero, SAID, USED, null],
        &[SAID, USED, less],
        &[SAID, USED, USED],
    ] {
        costs(CHAT, SSE, &events(data), 16_020);
    }
    // Groq says it in a place of its own.
    costs(
        CHAT,
        SSE,
        &events(&[
            SAID,
            r#"{"choices":[{"delta":{}}],"x_groq":{"id":"x","usage":{"prompt_tokens":10,"completion_tokens":2000}}}"#,
        ]),
        16_020,
    );
    // vLLM says it with each piece.
    let so_far = |tokens: u64| {
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}}}}],"usage":{{"prompt_tokens":10,"completion_tokens":{tokens}}}}}"#
        )
    };
    costs(CHAT, SSE, &events(&[&so_far(0), &so_far(1), &so_far(2), "[DONE]"]), 36);
    // Moonshot says it in the choice.
    costs(
        CHAT,
        SSE,
        &events(&[
            SAID,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":10,"completion_tokens":20}}]}"#,
        ]),
        180,
    );
    // Nothing but zeros is no report of what was said.
    costs(CHAT, SSE, &events(&[SAID, zero]), request(ASKING) + 8 * 3);
}

#[test]
fn usage_by_choice_adds_up() {
    let choice = |index: u64, tokens: u64| {
        let usage = format!(r#"{{"prompt_tokens":10,"completion_tokens":{tokens}}}"#);
        format!(
            r#"{{"choices":[{{"index":{index},"delta":{{"content":"a"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
        )
    };
    let four = [choice(0, 25), choice(1, 30), choice(2, 20), choice(3, 25)];
    let four: Vec<&str> = four.iter().map(String::as_str).collect();
    costs(CHAT, SSE, &events(&four), 820);
    // With the sum at the end, or with less.
    let end = |tokens: u64| format!(r#"{{"choices":[],"usage":{{"prompt_tokens":10,"completion_tokens":{tokens}}}}}"#);
    for tokens in [100, 0, 25] {
        costs(CHAT, SSE, &events(&[&four[..], &[&end(tokens)]].concat()), 820);
    }
    // Reports of all choices so far, each with the choice that it came with: the end says so.
    let rising = [choice(0, 10), choice(1, 20), choice(2, 30), choice(3, 40), end(40)];
    costs(CHAT, SSE, &events(&rising.iter().map(String::as_str).collect::<Vec<_>>()), 340);
}

#[test]
fn responses_report_at_their_end() {
    let data = [
        r#"{"type":"response.created","response":{"status":"in_progress","usage":null,"error":null}}"#,
        r#"{"type":"response.output_text.delta","output_index":0,"delta":"Because."}"#,
        r#"{"type":"response.completed","response":{"status":"completed","error":null,"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":8},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":15},"total_tokens":30}}}"#,
    ];
    costs("/v1/responses", SSE, &events(&data), 180);
    let failed = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"},"usage":null}}"#;
    costs("/v1/responses", SSE, &events(&[data[0], failed]), 0);
    costs(
        "/v1/responses",
        JSON,
        r#"{"object":"response","error":null,"output":[],"usage":{"input_tokens":10,"output_tokens":20,"total_tokens":30}}"#,
        180,
    );
}

#[test]
fn messages_say_their_input_at_the_start() {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":85,"output_tokens":1}}}"#;
    let said = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Because."}}"#;
    let delta =
        |usage: &str| format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{usage}}}"#);
    let stop = r#"{"type":"message_stop"}"#;
    costs("/v1/messages", SSE, &events(&[start, said, &delta(r#"{"output_tokens":15}"#), stop]), 320);
    // The end says the input again, and all that was written: not once more.
    let again =
        delta(r#"{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":85,"output_tokens":15}"#);
    costs("/v1/messages", SSE, &events(&[start, said, &delta(r#"{"output_tokens":7}"#), &again, stop]), 320);
    costs(
        "/v1/messages",
        JSON,
        r#"{"type":"message","content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":90,"output_tokens":15}}"#,
        320,
    );
    let broken = format!(
        "event: error\ndata: {}\n\n",
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#
    );
    costs("/v1/messages", SSE, &broken, 0);
}

#[test]
fn ollama_reports_in_its_last_line() {
    let said = r#"{"model":"m","message":{"role":"assistant","content":"Because."},"done":false}"#;
    let done = r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"prompt_eval_count":10,"eval_count":20}"#;
    for kind in [LINES, JSON, "text/plain", ""] {
        costs("/api/chat", kind, &format!("{said}\n{said}\n{done}\n"), 180);
    }
    costs(
        "/api/generate",
        JSON,
        r#"{"model":"m","response":"Because.","done":true,"prompt_eval_count":10,"eval_count":20}"#,
        180,
    );
    // A prompt that is remembered is not counted again, and not said.
    let remembered = done.replace(r#""prompt_eval_count":10,"#, "");
    costs("/api/chat", LINES, &format!("{said}\n{remembered}\n"), request(ASKING) + 160);
    costs("/api/chat", LINES, "{\"error\":\"model not found\"}\n", 0);
}

#[test]
fn gemini_counts_thoughts_beside_candidates() {
    let path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent";
    let said = |usage: &str| {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"Because."}}],"role":"model"}}}}],"usageMetadata":{usage}}}"#
        )
    };
    let first = said(r#"{"promptTokenCount":10,"totalTokenCount":40,"thoughtsTokenCount":30}"#);
    let last = said(
        r#"{"promptTokenCount":10,"candidatesTokenCount":20,"totalTokenCount":60,"thoughtsTokenCount":30,"cachedContentTokenCount":8}"#,
    );
    costs(&format!("{path}?alt=sse"), SSE, &events(&[&first, &last]), 420);
    costs(path, JSON, &format!("[{first}\n,\r\n{last}\n]"), 420);
    costs("/v1beta/models/gemini-2.5-pro:generateContent", JSON, &last, 420);
    let tools =
        said(r#"{"promptTokenCount":4,"toolUsePromptTokenCount":6,"candidatesTokenCount":50,"totalTokenCount":60}"#);
    costs(path, JSON, &format!("[{tools}]"), 420);
    costs(path, JSON, r#"[{"error":{"code":503,"message":"overloaded"}}]"#, 0);
}

#[test]
fn cohere_says_what_it_bills() {
    let usage = r#"{"billed_units":{"input_tokens":10.0,"output_tokens":20.0},"tokens":{"input_tokens":76.0,"output_tokens":20.0}}"#;
    let said = r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Because."}}}}"#;
    let end = format!(r#"{{"type":"message-end","delta":{{"finish_reason":"COMPLETE","usage":{usage}}}}}"#);
    costs("/v2/chat", SSE, &events(&[said, &end]), 180);
    costs("/v2/chat", JSON, &format!(r#"{{"message":{{"content":[]}},"usage":{usage}}}"#), 180);
    let lines = [
        r#"{"event_type":"text-generation","text":"Because."}"#.to_owned(),
        format!(r#"{{"event_type":"stream-end","response":{{"text":"Because.","meta":{usage}}}}}"#),
    ];
    costs("/v1/chat", "application/stream+json", &lines.join("\n"), 180);
    costs("/v2/chat", JSON, r#"{"usage":{"tokens":{"input_tokens":10,"output_tokens":20}}}"#, 180);
}

#[test]
fn embeddings_pictures_and_sound_cost_what_they_report() {
    let numbers = "0.0123456,".repeat(30_000);
    let vectors =
        format!(r#"{{"data":[{{"embedding":[{numbers}0]}}],"usage":{{"prompt_tokens":10,"total_tokens":10}}}}"#);
    costs("/v1/embeddings", JSON, &vectors, 20);
    costs("/v1/embeddings", JSON, &vectors.replace("usage", "x"), request(ASKING));
    let picture = "iVBORw0KGgo".repeat(150_000);
    let usage = r#""usage":{"input_tokens":10,"output_tokens":4160,"total_tokens":4170,"input_tokens_details":{"text_tokens":10}}"#;
    costs("/v1/images/generations", JSON, &format!(r#"{{"data":[{{"b64_json":"{picture}"}}],{usage}}}"#), 33_300);
    let completed = format!(r#"{{"type":"image_generation.completed","b64_json":"{picture}",{usage}}}"#);
    costs("/v1/images/generations", SSE, &events(&[&completed]), 33_300);
    let form = "multipart/form-data; boundary=x";
    let mut headers = HeaderMap::new();
    headers.insert("content-type", form.parse().unwrap());
    let body = Bytes::from_static(b"--x");
    let call = Call { method: &Method::POST, target: "/v1/audio/transcriptions", headers: &headers, body: &body };
    for (answer, expected) in [
        (
            r#"{"text":"Because.","usage":{"type":"tokens","input_tokens":10,"output_tokens":20,"total_tokens":30}}"#,
            Some(180),
        ),
        (r#"{"text":"Because.","usage":{"type":"duration","seconds":3}}"#, None),
        ("Because.", None),
    ] {
        let mut meter = TokenPricing::new().meter(&call).unwrap();
        meter.head(&mut Response::new(()).into_parts().0);
        meter.chunk(Bytes::from(answer));
        meter.last_words(End::Complete);
        assert_eq!(meter.unpriced().is_none(), expected.is_some(), "{answer}");
        let end = if expected.is_some() { End::Complete } else { End::Failed };
        assert_eq!(cost(&meter.end(end)), expected.unwrap_or(0));
    }
}

#[test]
fn nothing_costs_nothing() {
    for path in [CHAT, "/v1/messages", "/api/chat", "/v1/embeddings", "/v1/images/generations"] {
        for kind in [JSON, SSE, "", "text/plain"] {
            for nothing in [
                "",
                "\n\n",
                r#"{"error":{"message":"x","type":"server_error"}}"#,
                "data: {\"error\":{\"message\":\"x\"}}\n\n",
            ] {
                costs(path, kind, nothing, 0);
            }
        }
    }
    let role = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;
    costs(CHAT, SSE, &events(&[role, "[DONE]"]), 0);
    costs(CHAT, SSE, ": PROCESSING\n\n: PROCESSING\n\ndata: [DONE]\n\n", 0);
    // Unless the service reports what it did all the same, or said something before.
    costs(CHAT, SSE, &events(&[r#"{"error":{"message":"x"},"usage":{"prompt_tokens":10,"completion_tokens":0}}"#]), 20);
    costs(CHAT, SSE, &events(&[SAID, r#"{"error":{"message":"x"}}"#]), request(ASKING) + 8 * 3);
    costs(CHAT, JSON, r#"{"error":{"message":"x"},"usage":{"prompt_tokens":10,"completion_tokens":20}}"#, 180);
    for (end, expected) in [(End::Unreached, 0), (End::Failed, 0), (End::Cancelled, request(ASKING))] {
        assert_eq!(cost(&meter(CHAT, ASKING).end(end)), expected, "{end:?}");
    }
}

#[test]
fn an_answer_is_read_as_what_it_is() {
    let stream = events(&[SAID, USED, "[DONE]"]);
    for kind in ["", JSON, "text/plain", "application/octet-stream", "TEXT/Event-Stream ; charset=\"UTF-8\"", LINES] {
        costs(CHAT, kind, &stream, 16_020);
        costs(CHAT, kind, &format!("\u{feff}{stream}"), 16_020);
        costs(CHAT, kind, &format!(": ping\n\n{stream}"), 16_020);
        costs(CHAT, kind, &stream.replace('\n', "\r\n"), 16_020);
        costs(CHAT, kind, &format!("  \n{}", whole(r#"{"prompt_tokens":10,"completion_tokens":2000}"#)), 16_020);
    }
    let long = format!(r#"{{"choices":[{{"index":0,"delta":{{"audio":{{"data":"{}"}}}}}}]}}"#, "QUJD".repeat(350_000));
    costs(CHAT, SSE, &events(&[&long, SAID, USED]), 16_020);
    let with_usage =
        format!("{},\"usage\":{{\"prompt_tokens\":10,\"completion_tokens\":2000}}}}", &long[..long.len() - 1]);
    costs(CHAT, SSE, &events(&[&with_usage]), 16_020);
}

#[test]
fn what_cannot_be_read_is_withheld_and_costs_nothing() {
    let wide: Vec<u8> =
        whole(r#"{"prompt_tokens":10,"completion_tokens":2000}"#).encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (kind, answer) in [
        (JSON, &wide[..]),
        ("application/json; charset=utf-16", &wide),
        ("audio/mpeg", b"\xff\xfb\x90\x64\0\0\0\0"),
        (SSE, &wide),
    ] {
        assert_eq!(answered(CHAT, ASKING, kind, answer, 4_096), (0, true), "{kind}");
    }
    let asking = r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://example.org/x.png"}}]}]}"#;
    assert_eq!(answered(CHAT, asking, JSON, whole("null").as_bytes(), 64), (0, true));
    let used = whole(r#"{"prompt_tokens":10,"completion_tokens":20}"#);
    assert_eq!(answered(CHAT, asking, JSON, used.as_bytes(), 64), (180, false));
    // What is in a request in base64 is not words, where it is estimated.
    let asking = format!(r#"{{"x":"{}","messages":[]}}"#, "QUJD".repeat(10_000));
    let (estimated, withheld) = answered(CHAT, &asking, SSE, events(&[SAID]).as_bytes(), 64);
    assert!(!withheld && estimated < 50, "{estimated}");
}
