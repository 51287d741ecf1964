//! An answer on its way, read as what it is.

use bytes::{Bytes, BytesMut};
use http::{header, response};
use serde_json::Value;

use crate::http::coding::{Coding, Decoder};
use crate::http::sse::{Events, Piece, data};
use crate::http::usage::{Documents, Tap, read};

/// Longest answer when it is decoded, bytes.
const DECODED: usize = 256 << 20;
/// Fields by which a body of server-sent events begins.
const FIELDS: [&[u8]; 5] = [b"data", b"event", b"id", b"retry", b":"];
/// Charsets whose JSON has the bytes of ASCII.
const CHARSETS: [&str; 7] = ["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"];

const CODED: &str = "is compressed, although it was asked for as it is, and cannot be decoded";
const CHARSET: &str = "is in a charset that cannot be read";
const BINARY: &str = "is no text, and says no usage";

/// What was read.
pub(super) enum Seen<'a> {
    /// A value of its own: an event's data, or a JSON object. Whether it must be taken out is asked of an event.
    Value(&'a Value),
    /// Text that is no JSON.
    Text(&'a [u8]),
}

/// Reads an answer.
#[derive(Debug)]
pub(super) struct Reading {
    decoder: Option<Decoder>,
    /// Whether its head says that it is events.
    declared: bool,
    kind: Kind,
    unreadable: Option<&'static str>,
    /// Whether anything came but blanks.
    came: bool,
}

#[derive(Debug)]
enum Kind {
    /// Not enough of it is here to tell.
    Unknown(BytesMut),
    Events {
        events: Box<Events>,
        /// Of an event that is longer than is held.
        tap: Box<Tap>,
        /// Whether the event before was taken out.
        removed: bool,
        /// Whether a part of an event was passed on, and not its end.
        open: bool,
    },
    Documents(Box<Documents>),
    Text,
}

impl Reading {
    /// Reads by a head, of which it takes out what is not so any more.
    pub(super) fn new(head: &mut response::Parts) -> Self {
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.to_ascii_lowercase();
        let mut parts = kind.split(';').map(str::trim);
        let declared = parts.next() == Some("text/event-stream");
        let charset = parts.find_map(|part| part.strip_prefix("charset=")).map(|name| name.trim_matches(['"', ' ']));
        let known = charset.is_none_or(|charset| CHARSETS.contains(&charset));
        let decoder =
            Coding::of(&head.headers).and_then(|coding| coding.map(|coding| Decoder::new(coding, DECODED)).transpose());
        let unreadable = if decoder.is_err() { Some(CODED) } else { (!known).then_some(CHARSET) };
        if matches!(decoder, Ok(Some(_))) {
            for name in ["content-encoding", "content-digest", "digest", "content-md5", "etag"] {
                head.headers.remove(name);
            }
        }
        let kind = Kind::Unknown(BytesMut::new());
        Self { decoder: decoder.unwrap_or(None), declared, kind, unreadable, came: false }
    }

    pub(super) fn unreadable(&self) -> Option<&'static str> {
        self.unreadable
    }

    /// Whether there was anything.
    pub(super) fn is_any(&self) -> bool {
        self.came
    }

    /// Whether it comes in parts that are each for themselves.
    pub(super) fn is_stream(&self) -> bool {
        match &self.kind {
            Kind::Events { .. } => true,
            Kind::Documents(documents) => documents.are_many(),
            Kind::Unknown(_) | Kind::Text => false,
        }
    }

    /// Whether it is one JSON object, as far as is known.
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.kind, Kind::Documents(documents) if !documents.are_many())
    }

    pub(super) fn is_events(&self) -> bool {
        matches!(self.kind, Kind::Events { .. }) || (self.declared && matches!(self.kind, Kind::Unknown(_)))
    }

    /// Takes a chunk; gives what is passed on. `seen` says of each value whether it must be taken out.
    pub(super) fn chunk(&mut self, chunk: Bytes, seen: &mut dyn FnMut(Seen<'_>) -> bool) -> Bytes {
        if self.unreadable.is_some() {
            return Bytes::new();
        }
        let chunk = match &mut self.decoder {
            None => chunk,
            Some(decoder) => match decoder.push(&chunk) {
                Ok(decoded) => decoded,
                Err(_) => {
                    self.unreadable = Some(CODED);
                    return Bytes::new();
                }
            },
        };
        self.read(chunk, seen)
    }

    /// What is left when it is over.
    pub(super) fn end(&mut self, seen: &mut dyn FnMut(Seen<'_>) -> bool) -> Bytes {
        let mut passed = BytesMut::new();
        if let Some(mut decoder) = self.decoder.take() {
            match decoder.end() {
                Ok(rest) => passed.extend_from_slice(&self.read(rest, seen)),
                Err(_) if self.came => self.unreadable = Some(CODED),
                // An empty answer, whatever it is said to be.
                Err(_) => {}
            }
        }
        match &mut self.kind {
            Kind::Unknown(held) => {
                let held = held.split().freeze();
                if !held.is_empty() {
                    seen(Seen::Text(&held));
                }
                passed.extend_from_slice(&held);
            }
            Kind::Events { events, .. } => {
                // Services forget the empty line after their last event.
                let rest = events.rest();
                if !event(&rest, seen) {
                    passed.extend_from_slice(&rest);
                }
            }
            Kind::Documents(_) | Kind::Text => {}
        }
        passed.freeze()
    }

    /// Whether what was passed on of it ends in the midst of an event.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Events { open: true, .. })
    }

    fn read(&mut self, chunk: Bytes, seen: &mut dyn FnMut(Seen<'_>) -> bool) -> Bytes {
        self.came |= !chunk.trim_ascii().is_empty();
        let chunk = match &mut self.kind {
            Kind::Unknown(held) => {
                held.extend_from_slice(&chunk);
                let Some(kind) = kind(held, self.declared) else { return Bytes::new() };
                let held = held.split().freeze();
                self.kind = kind;
                if is_binary(&held) {
                    self.unreadable = Some(BINARY);
                    return Bytes::new();
                }
                held
            }
            _ => chunk,
        };
        match &mut self.kind {
            Kind::Unknown(_) => Bytes::new(),
            Kind::Text => {
                if chunk.contains(&0) {
                    self.unreadable = Some(BINARY);
                    return Bytes::new();
                }
                seen(Seen::Text(&chunk));
                chunk
            }
            Kind::Documents(documents) => {
                documents.push(&chunk, &mut |value| {
                    seen(Seen::Value(&value));
                });
                chunk
            }
            Kind::Events { events, tap, removed, open } => {
                let mut passed = BytesMut::new();
                for piece in events.push(&chunk) {
                    match piece {
                        Piece::Event(bytes) => {
                            *removed = event(&bytes, seen);
                            if !*removed {
                                passed.extend_from_slice(&bytes);
                            }
                        }
                        Piece::Rest(bytes) if *removed => drop(bytes),
                        Piece::Rest(bytes) => passed.extend_from_slice(&bytes),
                        Piece::Part(bytes) => {
                            tap.push(&bytes);
                            passed.extend_from_slice(&bytes);
                            (*open, *removed) = (true, false);
                        }
                        Piece::LastPart(bytes) => {
                            tap.push(&bytes);
                            passed.extend_from_slice(&bytes);
                            (*open, *removed) = (false, false);
                            seen(Seen::Value(&tap.take()));
                        }
                    }
                }
                passed.freeze()
            }
        }
    }
}

/// Reads an event; whether it must be taken out.
fn event(event: &[u8], seen: &mut dyn FnMut(Seen<'_>) -> bool) -> bool {
    let Some(data) = data(event).filter(|data| data.trim_ascii() != b"[DONE]") else { return false };
    match read(&data) {
        Some(value) => seen(Seen::Value(&value)),
        None => {
            seen(Seen::Text(&data));
            false
        }
    }
}

/// What a body is that begins so; whatever is said of it. None if that is too little to tell.
fn kind(start: &[u8], declared: bool) -> Option<Kind> {
    let events = || Kind::Events { events: Box::default(), tap: Box::default(), removed: false, open: false };
    if b"\xef\xbb\xbf".starts_with(start) {
        return None;
    }
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let first = *start.first()?;
    if matches!(first, b'{' | b'[') {
        return Some(Kind::Documents(Box::default()));
    }
    if declared || FIELDS.iter().any(|field| start.starts_with(field) && is_field(&start[field.len()..], field)) {
        return Some(events());
    }
    let may_be = |field: &[u8]| field.starts_with(start) || (start == field && field != b":");
    if FIELDS.iter().any(|field| may_be(field)) { None } else { Some(Kind::Text) }
}

/// Whether a field is there and not the beginning of a word.
fn is_field(after: &[u8], field: &[u8]) -> bool {
    field == b":" || matches!(after.first(), Some(b':' | b'\r' | b'\n'))
}

/// Whether this is no text in bytes of ASCII: a picture, sound, or a wide charset.
fn is_binary(start: &[u8]) -> bool {
    let whole = |error: core::str::Utf8Error| error.error_len().is_none();
    let text = core::str::from_utf8(start).map_or_else(whole, |_| true);
    let ascii = start.iter().filter(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()).count();
    // Latin letters of other charsets are few.
    start.contains(&0) || (!text && ascii * 8 < start.len() * 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_it_begins_as() {
        for (start, expected) in [
            (" {\"a\"", "json"),
            ("\u{feff}[1", "json"),
            ("data: x", "events"),
            ("\n\n: ping", "events"),
            ("event: x", "events"),
            ("id:7", "events"),
            ("retry\n", "events"),
            ("data", "unknown"),
            ("  da", "unknown"),
            ("", "unknown"),
            ("\r\n", "unknown"),
            ("database", "text"),
            ("hello", "text"),
        ] {
            let found = match kind(start.as_bytes(), false) {
                None | Some(Kind::Unknown(_)) => "unknown",
                Some(Kind::Events { .. }) => "events",
                Some(Kind::Documents(_)) => "json",
                Some(Kind::Text) => "text",
            };
            assert_eq!(found, expected, "{start:?}");
        }
        assert!(matches!(kind(b"nonsense", true), Some(Kind::Events { .. })));
        assert!(matches!(kind(b"{", true), Some(Kind::Documents(_))));
        let wide: Vec<u8> = "{\"a\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(is_binary(&wide) && is_binary(b"\x89PNG\r\n\x1a\n\0\0") && is_binary(b"\xff\xfb\x90\x64\x00"));
        assert!(!is_binary("à propos, 漢字".as_bytes()) && !is_binary(b"a caf\xe9, and more of it"));
        assert!(!is_binary(&"漢字".as_bytes()[..4]));
    }
}
