//! Reading the `usage` out of an answer that goes by.

use super::Usage;

/// Longest `usage` that is read, bytes.
const LONGEST: usize = 64 << 10;
const NAME: &[u8] = b"usage";

/// Finds the member `usage` of a JSON object that comes in pieces, keeping nothing else of it: an answer may be long. It is no judge of
/// the rest of the object; of several, the last one counts.
#[derive(Debug, Default)]
pub(crate) struct UsageTap {
    depth: u64,
    string: bool,
    escaped: bool,
    /// The last string at the top, which may turn out to be a name; no more of it than tells it from others.
    name: Vec<u8>,
    value: Option<Vec<u8>>,
    found: Option<Usage>,
}

impl UsageTap {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.step(*byte));
    }

    /// What was found so far.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.found
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
            if self.string && self.depth == 1 && self.name.len() <= NAME.len() {
                self.name.push(byte);
            }
            return;
        }
        match byte {
            b'"' => {
                self.string = true;
                if self.depth == 1 {
                    self.name.clear();
                }
            }
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.finish();
                }
            }
            b',' if self.depth == 1 => self.finish(),
            b':' if self.depth == 1 => {
                self.value = (self.name == NAME).then(Vec::new);
                return;
            }
            _ => {}
        }
        self.keep(byte);
    }

    fn keep(&mut self, byte: u8) {
        if let Some(value) = &mut self.value {
            value.push(byte);
            if value.len() > LONGEST {
                self.value = None;
            }
        }
    }

    fn finish(&mut self) {
        if let Some(value) = self.value.take() {
            self.found = Usage::read(&value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(text: &str, size: usize) -> Option<(u64, u64)> {
        let mut tap = UsageTap::default();
        text.as_bytes().chunks(size).for_each(|chunk| tap.push(chunk));
        tap.usage().map(|usage| (usage.input, usage.output))
    }

    #[test]
    fn only_the_usage_at_the_top_counts_however_it_is_cut() {
        let real = r#" "usage" : {"prompt_tokens":1, "completion_tokens":2, "more":{"a":[1,{"b":"}"}]}} "#;
        let fake = r#"{"usage":{"prompt_tokens":9}}"#;
        for text in [
            format!("{{{real}}}"),
            format!(r#"{{"choices":[{fake},"\"usage\":{{\"prompt_tokens\":9}}"],{real},"x":{fake}}}"#),
            format!(r#"{{"a":"usage","b":"\\",{real}}}"#),
            format!(r#"{{"usage":null,{real}}}"#),
        ] {
            for size in 1..=text.len() {
                assert_eq!(usage(&text, size), Some((1, 2)), "{text} by {size}");
            }
        }
        for text in [format!("[{fake}]"), format!(r#"{{"x":{fake}}}"#), r#"{"usage":{"prompt_tokens":1}"#.to_owned()] {
            assert_eq!(usage(&text, 1), None, "{text}");
        }
        // A name by other means is another name to us: then there is an estimate.
        assert_eq!(usage(r#"{"\u0075sage":{"prompt_tokens":1}}"#, 3), None);
        assert_eq!(usage(r#"{"usages":{"prompt_tokens":1}}"#, 3), None);
    }

    #[test]
    fn a_usage_without_end_is_not_kept() {
        let mut tap = UsageTap::default();
        tap.push(br#"{"usage":""#);
        for _ in 0..100 {
            tap.push(&[b'x'; 10_000]);
            assert!(tap.value.as_ref().is_none_or(|value| value.len() <= LONGEST));
        }
        tap.push(&[b'}'; 1_000]);
        assert_eq!(tap.usage(), None);
    }
}
