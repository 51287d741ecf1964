//! What is printed.

use std::io::{self, Write as _};

use serde_json::Value;

use super::trouble::Trouble;
use crate::protocol::{Credits, Timestamp};

/// Prints the one value, or the lines.
pub(in crate::cli) fn say(json: bool, value: &Value, lines: impl IntoIterator<Item = String>) -> Result<(), Trouble> {
    let mut text = String::new();
    if json {
        text = format!("{value}\n");
    } else {
        lines.into_iter().for_each(|line| text.extend([line.as_str(), "\n"]));
    }
    bytes(text.as_bytes())
}

/// Prints bytes as they are. A reader that has seen enough (`| head`) is no error.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Trouble::yours(format!("cannot write to standard output: {error}")).next("look to where it goes"))
        }
        _ => Ok(()),
    }
}

/// An amount in JSON.
pub(super) fn amount(credits: Credits) -> Value {
    credits.to_string().into()
}

/// An instant for people: UTC, as in `2026-11-22 23:18:01`.
pub(super) fn utc(at: Timestamp) -> String {
    let (days, second) = (at.seconds() / 86_400, at.seconds() % 86_400);
    // Beyond the year 9999 nothing is shown that anybody can read.
    let Some((year, month, day)) = date(days) else { return format!("{} s after 1970", at.seconds()) };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days after 1970-01-01.
fn date(mut days: u64) -> Option<(u64, usize, u64)> {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    for year in 1970..10_000 {
        let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, length) in lengths.into_iter().enumerate() {
            if days < length {
                return Some((year, month + 1, days + 1));
            }
            days -= length;
        }
    }
    None
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
