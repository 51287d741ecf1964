//! Targets: what comes in HTTP: the payment scheme, and what services answer.

use serde_json::Value;

use super::samples::SAMPLES;
use crate::http::payment::{Credential, MAX_HEADER_LINE, Payload, PaymentChallenge};
use crate::http::sse::{self, Events, Piece};
use crate::http::usage::{Documents, Reports};
use crate::testing::fuzz::planted;
use crate::testing::world::GATEWAY;

/// What is read is printed so that the same is read. The planted fault: what is printed is taken for what was read.
pub(super) fn credential(bytes: &[u8]) {
    let Ok(credential) = Credential::from_header_values([bytes]) else { return };
    assert!(bytes.len() < MAX_HEADER_LINE);
    let printed = credential.to_header_value();
    assert!(Credential::from_header_values([printed.as_bytes()]) == Ok(credential), "another credential");
    assert!(!planted() || printed.as_bytes() == bytes, "planted");
}

pub(super) fn credential_seeds() -> Vec<Vec<u8>> {
    let print = |payload| {
        let challenge = PaymentChallenge::of(&SAMPLES.directory, &GATEWAY);
        Credential { challenge, payload }.to_header_value().into_bytes()
    };
    vec![
        print(Payload::Opening(vec![5; 12])),
        print(Payload::Opening(SAMPLES.opening.clone())),
        print(Payload::Following(vec![1; 174])),
    ]
}

/// The same of challenges.
pub(super) fn challenge(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    let Ok(challenge) = PaymentChallenge::from_header_values([text]) else { return };
    let printed = challenge.to_header_value();
    let again = PaymentChallenge::from_header_values([printed.as_str()]);
    let _ = challenge.request();
    assert!(again.as_ref() == Ok(&challenge), "another challenge");
    assert!(!planted() || printed == text, "planted");
}

pub(super) fn challenge_seeds() -> Vec<Vec<u8>> {
    let value = PaymentChallenge::of(&SAMPLES.directory, &GATEWAY).to_header_value();
    let beside = format!("Basic realm=\"a \\\"b\\\"\", Negotiate abc=, {value}, Payment method=\"tempo\", id=\"x\"");
    vec![value.into_bytes(), beside.into_bytes()]
}

/// However an answer is cut, and whatever it is: the same reports; and those of a whole JSON object are what serde finds. The planted
/// fault loses a byte at each cut.
pub(super) fn usage(bytes: &[u8]) {
    let read = |size: usize| {
        let (mut documents, mut reports) = (Documents::default(), Reports::default());
        for chunk in bytes.chunks(size) {
            let chunk = if planted() && size == 7 { &chunk[1..] } else { chunk };
            documents.push(chunk, &mut |value| {
                reports.read(&value);
            });
        }
        (reports.input(), reports.output())
    };
    let whole = read(bytes.len().max(1));
    for size in [1, 2, 7, 64] {
        assert_eq!(read(size), whole, "by {size}");
    }
    if let Ok(value @ Value::Object(_)) = serde_json::from_slice(bytes) {
        let mut reports = Reports::default();
        reports.read(&value);
        assert_eq!((reports.input(), reports.output()), whole);
    }
}

pub(super) fn usage_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
        r#"{"id":"x","choices":[{"message":{"content":"say \"usage\": {}"}}],"usage":{"input_tokens":3,"output_tokens":4}}"#,
        r#"{"usage":null,"a":[{"usage":{"prompt_tokens":1}}],"usage":{"prompt_tokens":18446744073709551615}}"#,
        r#" { "usage" : { "input_tokens" : 3 , "cache_read_input_tokens" : 7 } } "#,
        r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}{"usage":{}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A stream is the same events however it is cut, and what comes out adds up to what went in. The planted fault takes a line
/// feed at the beginning of a chunk for one that was seen.
pub(super) fn events(bytes: &[u8]) {
    let read = |size: usize| {
        let (mut events, mut out, mut found) = (Events::default(), Vec::new(), Vec::new());
        for chunk in bytes.chunks(size) {
            let chunk = if planted() && size == 3 { chunk.strip_prefix(b"\n").unwrap_or(chunk) } else { chunk };
            for piece in events.push(chunk) {
                let (Piece::Event(part) | Piece::Rest(part) | Piece::Part(part) | Piece::LastPart(part)) = &piece;
                out.extend_from_slice(part);
                if let Piece::Event(event) = &piece {
                    found.extend(sse::data(event));
                }
            }
        }
        out.extend_from_slice(&events.rest());
        assert!(out == bytes, "something was lost or added, by {size}");
        found
    };
    let whole = read(bytes.len().max(1));
    for size in [1, 2, 3, 16] {
        assert!(read(size) == whole, "other events, by {size}");
    }
}

pub(super) fn event_seeds() -> Vec<Vec<u8>> {
    let lines =
        ": hello\n\ndata: {\"a\":1}\n\nevent: x\ndata: two\ndata:lines\nid: 7\n\n\n\ndata\n\ndata: [DONE]\n\nda";
    [lines.to_owned(), lines.replace('\n', "\r\n"), lines.replace('\n', "\r"), format!("\u{feff}{lines}")]
        .map(String::into_bytes)
        .to_vec()
}
