//! How many tokens a text that comes in pieces has at the very least.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

use super::dialects::{Dialect, Words};
use super::paths::{Choice, at, each};
use crate::http::pricing::Vocabulary;

/// Bytes that wait until it is worth to look for the ends of words in them.
const ENOUGH: usize = 64;
/// Longest run without an end of a word that is held, bytes.
const LONGEST: usize = 16 << 10;
/// Most texts that are counted side by side.
const TEXTS: usize = 64;
/// Longest run of one letter that is counted, bytes.
const RUN: usize = 16;
/// Tokens that a cut in the midst of a run may add.
const CUT: u64 = 16;
/// A vocabulary to count with, and how many of its tokens another model's tokenizer may make one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) margin: u64,
}

impl Counter {
    fn tokenizer(self) -> Option<&'static bpe_openai::Tokenizer> {
        match self.vocabulary {
            Vocabulary::O200k => Some(bpe_openai::o200k_base()),
            Vocabulary::Cl100k => Some(bpe_openai::cl100k_base()),
            Vocabulary::None => None,
        }
    }

    /// Tokens that another tokenizer makes at least where this one makes so many.
    fn at_least(self, tokens: u64) -> u64 {
        tokens / self.margin.max(1)
    }

    /// Tokens of a whole text, by the vocabulary.
    fn count(self, text: &str) -> u64 {
        self.tokenizer().map_or(0, |tokenizer| count(text, tokenizer))
    }

    /// Tokens that these texts have at least, all together.
    pub(crate) fn least(self, texts: &[&str]) -> u64 {
        self.at_least(texts.iter().map(|text| self.count(text)).fold(0, u64::saturating_add))
    }
}

/// A whole text, counted for an estimate that should be no lower than the truth.
#[cfg(feature = "client")]
#[derive(Debug)]
pub(crate) struct Tokens;

#[cfg(feature = "client")]
impl Tokens {
    /// Text that is counted, bytes; what is longer is counted by this part of it.
    const PART: usize = 256 << 10;

    /// About how many tokens a text has, by OpenAI's `o200k_base`.
    pub(crate) fn count(text: &str) -> u64 {
        let mut end = text.len().min(Self::PART);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let tokens = bpe_openai::o200k_base().count(&text[..end]) as u64;
        match text.len() - end {
            0 => tokens,
            // The rest may be denser.
            rest => tokens.saturating_add(tokens.saturating_mul(rest as u64 * 3 / 2).div_ceil(end.max(1) as u64)),
        }
    }
}

/// Tokens of a text, but for those of long runs of one letter: vocabularies differ most in these.
fn count(text: &str, tokenizer: &bpe_openai::Tokenizer) -> u64 {
    let run = |word: &str| word.len() > RUN && word.bytes().all(|byte| byte == word.as_bytes()[0]);
    let words = tokenizer.split(text).filter(|word| !run(word));
    words.map(|word| tokenizer.bpe.count(word.as_bytes()) as u64).sum()
}

/// The words of a stream, counted as they come.
#[derive(Debug)]
pub(crate) struct WordCount {
    counter: Counter,
    texts: HashMap<(usize, Choice), Joined>,
}

/// A text that is joined of its pieces, as far as its tokens may still change.
#[derive(Debug, Default)]
struct Joined {
    held: String,
    tokens: u64,
    /// Length and hash of the last piece, and whether it was the one before and more.
    last: (usize, u64),
    grown: bool,
}

impl WordCount {
    pub(crate) fn new(counter: Counter) -> Self {
        Self { counter, texts: HashMap::new() }
    }

    /// Counts the words of an event. Whether there were any.
    pub(crate) fn event(&mut self, dialect: &Dialect, event: &Value) -> bool {
        let mut any = false;
        let mut seen: Vec<(Choice, &str)> = Vec::new();
        for (group, words) in dialect.words.iter().enumerate() {
            for (choice, text) in pieces(words, event) {
                any |= !text.is_empty();
                // The same words under two names were written once.
                if !seen.contains(&(choice, text)) {
                    seen.push((choice, text));
                    self.push(group, choice, text);
                }
            }
        }
        any
    }

    fn push(&mut self, group: usize, choice: Choice, text: &str) {
        let Some(tokenizer) = self.counter.tokenizer() else { return };
        if self.texts.len() >= TEXTS && !self.texts.contains_key(&(group, choice)) {
            return;
        }
        self.texts.entry((group, choice)).or_default().push(text, tokenizer);
    }

    /// Tokens that the service has written at least.
    pub(crate) fn least(&self) -> u64 {
        self.counter.at_least(self.texts.values().map(|text| text.tokens).fold(0, u64::saturating_add))
    }
}

/// The pieces of a text in an event, one for each choice: the longest of those that its places have.
fn pieces<'a>(words: &Words, event: &'a Value) -> Vec<(Choice, &'a str)> {
    let is = |(path, values): (&str, &[&str])| {
        at(event, path).and_then(Value::as_str).is_some_and(|value| values.contains(&value))
    };
    if !words.when.is_none_or(is) {
        return Vec::new();
    }
    let mut longest: Vec<(Choice, &str)> = Vec::new();
    for path in words.at {
        let mut here: Vec<(Choice, &str)> = Vec::new();
        each(event, path, &mut |choice, value| here.extend(value.as_str().map(|text| (choice, text))));
        let length = |texts: &[(Choice, &str)]| texts.iter().map(|(_, text)| text.len()).sum::<usize>();
        if length(&here) > length(&longest) {
            longest = here;
        }
    }
    longest
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Joined {
    /// What a piece has that was not said before: some services say all of it again each time, and more.
    fn new_of<'a>(&mut self, piece: &'a str) -> &'a str {
        let (length, last) = self.last;
        let begins =
            length > 0 && piece.is_char_boundary(length) && piece.len() >= length && hash(&piece[..length]) == last;
        // The same once more is more of it, unless they grew until now.
        let again = begins && (piece.len() > length || self.grown);
        (self.grown, self.last) = (again, (piece.len(), hash(piece)));
        if again { &piece[length..] } else { piece }
    }

    fn push(&mut self, piece: &str, tokenizer: &bpe_openai::Tokenizer) {
        let new = self.new_of(piece);
        self.held.push_str(new);
        if self.held.len() < ENOUGH {
            return;
        }
        let ends: Vec<usize> = tokenizer
            .split(&self.held)
            .scan(0, |end, word| {
                *end += word.len();
                Some(*end)
            })
            .collect();
        // What comes next may change the last word, and how the one before it ends.
        let settled = ends.len().checked_sub(3).map_or(0, |at| ends[at]);
        if settled > 0 {
            self.tokens = self.tokens.saturating_add(count(&self.held[..settled], tokenizer));
            self.held.drain(..settled);
        } else if self.held.len() > LONGEST {
            let run = tokenizer.bpe.count(self.held.as_bytes()) as u64;
            self.tokens = self.tokens.saturating_add(run.saturating_sub(CUT));
            self.held.clear();
        }
    }
}

#[cfg(test)]
mod tests;
