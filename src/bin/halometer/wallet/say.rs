//! What is printed.

use std::io::{self, Write as _};

use serde_json::Value;

use halometer::http::clock::rfc3339;
use halometer::protocol::{Credits, Timestamp, grouped};

/// Standard output takes nothing.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(crate) struct CannotSay(#[source] io::Error);

/// Prints the one value, or the lines.
pub(crate) fn say(json: bool, value: &Value, lines: impl IntoIterator<Item = String>) -> Result<(), CannotSay> {
    let mut text = String::new();
    if json {
        text = format!("{value}\n");
    } else {
        lines.into_iter().for_each(|line| text.extend([line.as_str(), "\n"]));
    }
    bytes(text.as_bytes())
}

/// Prints bytes as they are. A reader that has seen enough (`| head`) is no error.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), CannotSay> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CannotSay(error)),
        _ => Ok(()),
    }
}

/// An amount in JSON.
pub(super) fn amount(credits: Credits) -> Value {
    credits.to_string().into()
}

/// A number for people, from its text: `16,000`.
pub(super) fn number(text: &str) -> String {
    text.parse().map_or_else(|_| text.to_owned(), grouped)
}

/// 9999-12-31 23:59:59, Unix seconds. Beyond that nothing is shown that anybody can read.
const LAST: u64 = 253_402_300_799;

/// An instant for people: UTC, as in `2026-11-22 23:18:01`.
pub(super) fn utc(at: Timestamp) -> String {
    match at.seconds() {
        seconds @ ..=LAST => rfc3339(seconds).trim_end_matches('Z').replace('T', " "),
        seconds => format!("{seconds} s after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_795_389_481, "2026-11-22 23:18:01"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (253_402_300_799, "9999-12-31 23:59:59"),
            (u64::MAX, "18446744073709551615 s after 1970"),
        ] {
            assert_eq!(utc(Timestamp::from_seconds(seconds)), text);
        }
    }
}
