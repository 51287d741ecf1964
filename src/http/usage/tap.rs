//! Members of JSON texts that are too long to be kept.

use serde_json::{Map, Value};

use super::dialects::KEPT;

/// Longest value that is kept, bytes.
const LONGEST: usize = 64 << 10;
/// Longest name that is compared, bytes, and how deep what is kept may be.
const NAME: usize = 32;
const DEEP: usize = 3;

/// Keeps the members [`KEPT`] of a JSON object that comes in pieces, and nothing else of it. It is no judge of the rest; of a member that
/// occurs twice the last one counts.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    string: bool,
    escaped: bool,
    /// The last string, which may turn out to be a name; no more of it than tells it from others.
    name: Vec<u8>,
    /// The name of the member whose value comes next.
    pending: Option<Vec<u8>>,
    /// The names of the objects that this is in, the outermost without one; what is in an array has none that is known.
    within: Vec<Option<Vec<u8>>>,
    /// How much deeper than those it is.
    deeper: u64,
    value: Option<Kept>,
    found: Map<String, Value>,
}

#[derive(Debug)]
struct Kept {
    path: &'static str,
    depth: usize,
    bytes: Vec<u8>,
}

impl Tap {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.step(*byte));
    }

    /// What was found, as an object with nothing but that.
    pub(crate) fn take(&mut self) -> Value {
        let found = core::mem::take(self).found;
        let mut root = Map::new();
        for (path, value) in found {
            put(&mut root, &path, value);
        }
        Value::Object(root)
    }

    fn step(&mut self, byte: u8) {
        if self.string {
            self.keep(byte);
            match byte {
                _ if core::mem::take(&mut self.escaped) => {}
                b'\\' => self.escaped = true,
                b'"' => self.string = false,
                _ => {}
            }
            if self.string && self.name.len() <= NAME {
                self.name.push(byte);
            }
            return;
        }
        match byte {
            b'"' => {
                self.string = true;
                self.name.clear();
            }
            b'{' | b'[' if self.within.len() > DEEP => self.deeper = self.deeper.saturating_add(1),
            b'{' => self.within.push(Some(self.pending.take().unwrap_or_default())),
            b'[' => self.within.push(None),
            b'}' | b']' if self.deeper > 0 => self.deeper -= 1,
            b'}' | b']' => {
                self.finish();
                self.within.pop();
            }
            b',' if self.deeper == 0 => self.finish(),
            b':' if self.deeper == 0 => {
                let within = self.value.is_some();
                self.begin();
                if !within {
                    return;
                }
            }
            _ => {}
        }
        self.keep(byte);
    }

    /// The value of a member begins.
    fn begin(&mut self) {
        let name = core::mem::take(&mut self.name);
        if self.value.is_none() && self.within.iter().all(Option::is_some) {
            let names = self.within.iter().skip(1).flatten().chain([&name]);
            let path = names.map(Vec::as_slice).collect::<Vec<_>>().join(&b'.');
            let path = KEPT.iter().find(|kept| kept.as_bytes() == path);
            let depth = self.within.len();
            self.value = path.map(|path| Kept { path, depth, bytes: Vec::new() });
        }
        self.pending = Some(name);
    }

    fn keep(&mut self, byte: u8) {
        if let Some(value) = &mut self.value {
            value.bytes.push(byte);
            if value.bytes.len() > LONGEST {
                self.value = None;
            }
        }
    }

    /// A member of the object that this is in has ended.
    fn finish(&mut self) {
        self.pending = None;
        if let Some(value) = self.value.take_if(|value| value.depth == self.within.len())
            && let Ok(read) = serde_json::from_slice(&value.bytes)
        {
            self.found.insert(value.path.to_owned(), read);
        }
    }
}

/// Puts a value where its path says.
fn put(members: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(members.insert(path.to_owned(), value)),
        Some((name, rest)) => {
            let holder = members.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Some(within) = holder.as_object_mut() {
                put(within, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(text: &str, size: usize) -> Value {
        let mut tap = Tap::default();
        text.as_bytes().chunks(size).for_each(|chunk| tap.push(chunk));
        tap.take()
    }

    #[test]
    fn only_members_in_their_place_count_however_cut() {
        let real = r#" "usage" : {"prompt_tokens":1, "completion_tokens":2, "more":{"a":[1,{"b":"}"}]}} "#;
        let usage = json!({ "prompt_tokens": 1, "completion_tokens": 2, "more": { "a": [1, { "b": "}" }] } });
        let fake = r#"{"usage":{"prompt_tokens":9}}"#;
        for text in [
            format!("{{{real}}}"),
            format!(r#"{{"choices":[{fake},"\"usage\":{{\"prompt_tokens\":9}}"],{real},"x":{fake}}}"#),
            format!(r#"{{"a":"usage","b":"\\",{real}}}"#),
            format!(r#"{{"usage":null,{real}}}"#),
            format!(r#"{{"a":{{"b":{{"c":{{"d":{fake}}}}}}},{real}}}"#),
        ] {
            for size in 1..=text.len() {
                assert_eq!(found(&text, size), json!({ "usage": usage }), "{text} by {size}");
            }
        }
        for text in [
            format!("[{fake}]"),
            format!(r#"{{"x":{fake}}}"#),
            r#"{"usage":{"prompt_tokens":1}"#.to_owned(),
            r#"{"\u0075sage":{"prompt_tokens":1}}"#.to_owned(),
            r#"{"usages":{"prompt_tokens":1}}"#.to_owned(),
        ] {
            assert_eq!(found(&text, 1), json!({}), "{text}");
        }
        let nested =
            r#"{"type":"response.completed","response":{"output":["x"],"usage":{"input_tokens":4}},"error":null}"#;
        let expected =
            json!({ "type": "response.completed", "response": { "usage": { "input_tokens": 4 } }, "error": null });
        assert_eq!(found(nested, 7), expected);
    }

    #[test]
    fn a_value_without_end_is_not_kept() {
        let mut tap = Tap::default();
        tap.push(br#"{"usage":""#);
        for _ in 0..100 {
            tap.push(&[b'x'; 10_000]);
            assert!(tap.value.as_ref().is_none_or(|value| value.bytes.len() <= LONGEST));
        }
        tap.push(&[b'}'; 1_000]);
        assert_eq!(tap.take(), json!({}));
    }
}
