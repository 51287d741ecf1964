//! Where the demo's prompts come from: a file, standard input, or the questions that are shipped.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// The prompts that are shipped.
const SHIPPED: &str = include_str!("demo/prompts.txt");
/// Longest input, in bytes.
const MAX_INPUT: u64 = 16 << 20;
/// Longest prompt, in bytes.
const MAX_PROMPT: usize = 64 << 10;
/// How long standard input that nobody asked for may take to show its first byte.
const PATIENCE: Duration = Duration::from_millis(800);

/// Prompts, at least one, and where they are from.
#[derive(Clone, Debug)]
pub struct Prompts {
    source: String,
    lines: Vec<String>,
}

/// Why there are no prompts. The one who called the program is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptsError {
    /// The file or standard input cannot be read.
    #[error("cannot read prompts from {origin}: {error}")]
    Read {
        /// The file, or "standard input".
        origin: String,
        /// What the system said.
        error: io::Error,
    },
    /// More than 16 MiB.
    #[error("{origin} is longer than 16 MiB; prompts are one a line")]
    TooLong {
        /// The file, or "standard input".
        origin: String,
    },
    /// A line is longer than 64 KiB.
    #[error("line {line} of {origin} is longer than 64 KiB; prompts are one a line")]
    LineTooLong {
        /// The file, or "standard input".
        origin: String,
        /// Number of the line, from 1.
        line: usize,
    },
    /// Not UTF-8.
    #[error("line {line} of {origin} is not UTF-8 text")]
    NotText {
        /// The file, or "standard input".
        origin: String,
        /// Number of the line, from 1.
        line: usize,
    },
    /// No line holds a prompt.
    #[error("there is no prompt in {origin}: prompts are one a line, and lines that begin with # are skipped")]
    Empty {
        /// The file, or "standard input".
        origin: String,
    },
}

impl Prompts {
    /// The prompts of `file` (`-` is standard input) if it is given; else those of standard input if it is no terminal and
    /// not empty; else the shipped ones.
    ///
    /// # Errors
    /// [`PromptsError`].
    pub fn load(file: Option<&Path>) -> Result<Self, PromptsError> {
        match file {
            Some(path) if path == Path::new("-") => Self::read("standard input", io::stdin()),
            Some(path) => {
                let origin = path.display().to_string();
                let file = File::open(path).map_err(|error| PromptsError::Read { origin: origin.clone(), error })?;
                Self::read(&origin, file)
            }
            None if io::stdin().is_terminal() => Ok(Self::shipped()),
            None => Self::from_waiting_stdin(),
        }
    }

    /// The questions that are shipped with the program.
    pub fn shipped() -> Self {
        let lines = parse("the shipped prompts", SHIPPED.as_bytes()).unwrap_or_default();
        Self { source: "the shipped questions".to_owned(), lines }
    }

    /// `lines` as they are.
    ///
    /// # Errors
    /// [`PromptsError::Empty`].
    pub fn from_lines(source: &str, lines: Vec<String>) -> Result<Self, PromptsError> {
        if lines.is_empty() {
            return Err(PromptsError::Empty { origin: source.to_owned() });
        }
        Ok(Self { source: source.to_owned(), lines })
    }

    /// Where they are from, for people.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How many different lines there are. Never 0.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// The prompt of call `index`: they are used in turn, and again from the start when there are more calls.
    pub fn of_call(&self, index: usize) -> &str {
        &self.lines[index % self.lines.len()]
    }

    /// Some programs are started with a pipe as standard input that nobody writes to and nobody closes. So it gets a moment to
    /// show that it holds something, and is left alone otherwise. The thread that waits ends with the process.
    fn from_waiting_stdin() -> Result<Self, PromptsError> {
        let (sender, receiver) = mpsc::channel();
        let waiting = sender.clone();
        let reader = move || {
            let mut first = [0];
            let outcome = match io::stdin().read(&mut first) {
                Ok(0) => Ok(Self::shipped()),
                Ok(_) => {
                    let _ = waiting.send(None);
                    Self::read("standard input", first.as_slice().chain(io::stdin()))
                }
                Err(error) => Err(PromptsError::Read { origin: "standard input".to_owned(), error }),
            };
            let _ = sender.send(Some(outcome));
        };
        if std::thread::Builder::new().name("stdin".to_owned()).spawn(reader).is_err() {
            return Ok(Self::shipped());
        }
        match receiver.recv_timeout(PATIENCE) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => receiver.recv().ok().flatten().unwrap_or_else(|| Ok(Self::shipped())),
            Err(_) => Ok(Self::shipped()),
        }
    }

    fn read(origin: &str, input: impl Read) -> Result<Self, PromptsError> {
        let mut bytes = Vec::new();
        input
            .take(MAX_INPUT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| PromptsError::Read { origin: origin.to_owned(), error })?;
        if bytes.len() as u64 > MAX_INPUT {
            return Err(PromptsError::TooLong { origin: origin.to_owned() });
        }
        Self::from_lines(origin, parse(origin, &bytes)?)
    }
}

fn parse(origin: &str, bytes: &[u8]) -> Result<Vec<String>, PromptsError> {
    let mut prompts = Vec::new();
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let line_number = index + 1;
        if line.len() > MAX_PROMPT {
            return Err(PromptsError::LineTooLong { origin: origin.to_owned(), line: line_number });
        }
        let text = std::str::from_utf8(line)
            .map_err(|_| PromptsError::NotText { origin: origin.to_owned(), line: line_number })?
            .trim_start_matches('\u{feff}')
            .trim();
        if !text.is_empty() && !text.starts_with('#') {
            prompts.push(text.to_owned());
        }
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_prompts_are_there_and_differ() {
        let shipped = Prompts::shipped();
        let different: std::collections::BTreeSet<_> = shipped.lines.iter().collect();
        assert!(shipped.count() >= 24);
        assert_eq!(different.len(), shipped.count());
        assert_eq!(shipped.of_call(0), shipped.of_call(shipped.count()));
    }

    #[test]
    fn lines_are_prompts() {
        let found = Prompts::read("x", "\u{feff}one\r\n\n# no\n  two  ".as_bytes()).unwrap();
        assert_eq!(found.lines, ["one", "two"]);
    }

    #[test]
    fn what_is_no_prompt_is_said() {
        assert!(matches!(Prompts::read("x", "# no\n".as_bytes()), Err(PromptsError::Empty { .. })));
        assert!(matches!(Prompts::read("x", b"ok\n\xff".as_slice()), Err(PromptsError::NotText { line: 2, .. })));
        let long = vec![b'a'; MAX_PROMPT + 1];
        assert!(matches!(Prompts::read("x", long.as_slice()), Err(PromptsError::LineTooLong { line: 1, .. })));
        assert!(matches!(Prompts::read("x", io::repeat(b'\n')), Err(PromptsError::TooLong { .. })));
        assert!(Prompts::load(Some(Path::new("/no/such/file"))).unwrap_err().to_string().contains("/no/such/file"));
    }
}
