//! Server-sent events, as they come in.

use bytes::{Bytes, BytesMut};

/// Longest event that is looked into, bytes.
const LONGEST: usize = 1 << 20;

/// A stream of events, cut at their ends. What it gives adds up, byte for byte, to what it was given.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Of the event that is not whole yet.
    held: BytesMut,
    /// How much of it has been looked at for an end.
    seen: usize,
    /// Where its last line begins.
    line: usize,
    /// Whether that is in what was given away already.
    within: bool,
    /// Whether what was looked at last is a carriage return, whose line feed may follow.
    after_return: bool,
    /// The event is longer than is held.
    lost: bool,
}

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A whole event with the empty line that ends it, or with such lines only.
    Event(Bytes),
    /// The line feed of the carriage return that the event before ended with.
    Rest(Bytes),
    /// A part of an event that is longer than is held.
    Part(Bytes),
    /// The last part of it.
    LastPart(Bytes),
}

impl Events {
    /// Takes a chunk, and gives the pieces that are whole by it.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Vec<Piece> {
        self.held.extend_from_slice(chunk);
        let mut pieces = Vec::new();
        while self.seen < self.held.len() {
            let byte = self.held[self.seen];
            let follows = core::mem::take(&mut self.after_return) && byte == b'\n';
            if follows && self.seen == 0 {
                pieces.push(Piece::Rest(self.held.split_to(1).freeze()));
                continue;
            }
            self.seen += 1;
            if follows {
                // Of a line that has ended.
                self.line = self.seen;
            } else if byte == b'\n' || byte == b'\r' {
                let empty = self.seen - 1 == self.line && !self.within;
                (self.line, self.within) = (self.seen, false);
                self.after_return = byte == b'\r';
                if empty {
                    let lost = core::mem::take(&mut self.lost);
                    let event = self.cut();
                    pieces.push(if lost { Piece::LastPart(event) } else { Piece::Event(event) });
                }
            }
        }
        if self.held.len() > LONGEST || (self.lost && !self.held.is_empty()) {
            self.lost = true;
            self.within = self.line < self.seen;
            pieces.push(Piece::Part(self.rest()));
        }
        pieces
    }

    /// What is held of an event that is not whole.
    pub(crate) fn rest(&mut self) -> Bytes {
        (self.seen, self.line) = (0, 0);
        self.held.split().freeze()
    }

    fn cut(&mut self) -> Bytes {
        // The line feed may be here already.
        if self.after_return && self.held.get(self.seen) == Some(&b'\n') {
            self.after_return = false;
            self.seen += 1;
        }
        let event = self.held.split_to(self.seen);
        (self.seen, self.line) = (0, 0);
        event.freeze()
    }
}

/// The data of an event: its `data` lines, joined by line feeds. None if it has none.
pub(crate) fn data(event: &[u8]) -> Option<Vec<u8>> {
    let mut data: Option<Vec<u8>> = None;
    // A mark of the byte order may be at the beginning of the stream.
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let value = match line.strip_prefix(b"data") {
            Some([]) => &[],
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => value,
            _ => continue,
        };
        match &mut data {
            None => data = Some(value.to_vec()),
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: Vec<Piece>) -> Vec<Bytes> {
        let bytes = |piece| match piece {
            Piece::Event(bytes) | Piece::Rest(bytes) | Piece::Part(bytes) | Piece::LastPart(bytes) => bytes,
        };
        pieces.into_iter().map(bytes).collect()
    }

    fn events(pieces: &[Piece]) -> Vec<Vec<u8>> {
        let event = |piece: &Piece| match piece {
            Piece::Event(event) => data(event),
            _ => None,
        };
        pieces.iter().filter_map(event).collect()
    }

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let lf =
            ": hello\n\ndata: {\"a\":1}\n\nevent: x\ndata: two\ndata:lines\nid: 7\n\n\n\ndata\n\ndata: [DONE]\n\nda";
        for stream in [lf.to_owned(), lf.replace('\n', "\r\n"), lf.replace('\n', "\r"), format!("\u{feff}{lf}")] {
            let bytes = stream.as_bytes();
            let expected: Vec<Vec<u8>> =
                [&b"{\"a\":1}"[..], b"two\nlines", b"", b"[DONE]"].map(<[u8]>::to_vec).to_vec();
            for size in 1..bytes.len() {
                let mut events = Events::default();
                let mut pieces = Vec::new();
                bytes.chunks(size).for_each(|chunk| pieces.extend(events.push(chunk)));
                assert_eq!(super::tests::events(&pieces), expected, "{stream:?} by {size}");
                let rest = events.rest();
                assert_eq!(&rest[..], b"da");
                let passed: Vec<u8> = all(pieces).concat();
                assert_eq!([&passed[..], &rest].concat(), bytes, "{stream:?} by {size}");
            }
        }
    }

    #[test]
    fn a_long_event_is_passed_on_and_the_next_is_read() {
        for newline in ["\n", "\r\n", "\r"] {
            let mut events = Events::default();
            let mut passed = 0;
            for _ in 0..40 {
                passed += all(events.push(&[b'x'; 100_000])).iter().map(Bytes::len).sum::<usize>();
                assert!(events.held.len() <= LONGEST + 100_000);
            }
            let ending = format!("{newline}data: y{newline}{newline}data: z{newline}{newline}");
            let (mut parts, mut after) = (Vec::new(), Vec::new());
            for byte in ending.as_bytes() {
                for piece in events.push(&[*byte]) {
                    match piece {
                        Piece::Event(event) => after.push(data(&event).unwrap()),
                        Piece::Part(part) | Piece::LastPart(part) | Piece::Rest(part) => parts.extend(part),
                    }
                }
            }
            parts.extend(events.rest());
            assert_eq!((passed, after), (4_000_000, vec![b"z".to_vec()]), "{newline:?}");
            let lost = String::from_utf8(parts).unwrap();
            assert!(lost.starts_with(&format!("{newline}data: y{newline}")), "{lost:?}");
        }
    }
}
