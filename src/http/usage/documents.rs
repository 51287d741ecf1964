//! JSON objects that come one after the other: one whole answer, lines of JSON, or an array.

use bytes::BytesMut;
use serde_json::Value;

use super::tap::Tap;

/// Longest object that is read whole, bytes. Of longer ones only what is [kept](Tap) is seen.
pub(crate) const LONGEST: usize = 1 << 20;

/// Reads objects out of bytes that go by. What stands between them is nothing.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    depth: u64,
    string: bool,
    escaped: bool,
    /// Whether they are elements of an array.
    array: bool,
    held: BytesMut,
    /// Whether the object is longer than is held.
    long: bool,
    tap: Tap,
    count: u64,
}

impl Documents {
    /// Takes a chunk, and gives the objects that are whole by it.
    pub(crate) fn push(&mut self, chunk: &[u8], whole: &mut dyn FnMut(Value)) {
        let mut from = 0;
        for (at, byte) in chunk.iter().enumerate() {
            let was = self.depth;
            self.step(*byte);
            if was == 0 && self.depth == 1 {
                from = at;
            }
            if was == 1 && self.depth == 0 {
                self.hold(&chunk[from..=at]);
                self.finish(whole);
            }
        }
        if self.depth > 0 {
            self.hold(&chunk[from..]);
        }
    }

    /// Whether there are several, or may be.
    pub(crate) fn are_many(&self) -> bool {
        self.array || self.count > 1
    }

    fn step(&mut self, byte: u8) {
        if self.string {
            match byte {
                _ if core::mem::take(&mut self.escaped) => {}
                b'\\' => self.escaped = true,
                b'"' => self.string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.string = true,
            // Around all objects.
            b'[' if self.depth == 0 && self.count == 0 => self.array = true,
            b']' if self.depth == 0 => {}
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.tap.push(bytes);
        if self.held.len() + bytes.len() > LONGEST {
            self.long = true;
            self.held.clear();
        }
        if !self.long {
            self.held.extend_from_slice(bytes);
        }
    }

    fn finish(&mut self, whole: &mut dyn FnMut(Value)) {
        self.count = self.count.saturating_add(1);
        let kept = self.tap.take();
        let read = if self.long { None } else { read(&self.held) };
        (self.long, self.array) = (false, self.array);
        self.held.clear();
        whole(read.unwrap_or(kept));
    }
}

/// A JSON value in bytes of which some may be no UTF-8.
pub(crate) fn read(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).or_else(|_| serde_json::from_str(&String::from_utf8_lossy(bytes))).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_lines_and_arrays_are_the_same_however_cut() {
        let (one, two) = (r#"{"a":"}{[\"","b":[{}]}"#, r#"{"usage":{"prompt_tokens":1}}"#);
        for (text, many) in [
            (format!("{one}\n{two}\n"), true),
            (format!("[{one}\n,\r\n{two}]"), true),
            (format!(" {one}{two}"), true),
            (format!("{{\"x\":{one}}}"), false),
        ] {
            for size in 1..=text.len() {
                let (mut documents, mut found) = (Documents::default(), Vec::new());
                text.as_bytes().chunks(size).for_each(|chunk| documents.push(chunk, &mut |value| found.push(value)));
                assert_eq!((found.len(), documents.are_many()), (1 + usize::from(many), many), "{text} by {size}");
                if many {
                    assert_eq!(found[1], json!({ "usage": { "prompt_tokens": 1 } }));
                }
            }
        }
    }

    #[test]
    fn of_a_long_one_its_usage_is_read_and_nothing_held() {
        let mut documents = Documents::default();
        let mut found = Vec::new();
        documents.push(br#"{"data":[""#, &mut |value| found.push(value));
        for _ in 0..200 {
            documents.push(&[b'x'; 10_000], &mut |value| found.push(value));
            assert!(documents.held.len() <= LONGEST);
        }
        documents.push(br#""],"usage":{"prompt_tokens":7}}{"eval_count":1}"#, &mut |value| found.push(value));
        assert_eq!(found, [json!({ "usage": { "prompt_tokens": 7 } }), json!({ "eval_count": 1 })]);
    }
}
