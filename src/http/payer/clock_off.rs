//! Whether this machine's clock is off, by what answers say of the time.
//!
//! A wallet whose clock is off has its spends refused as expired, or finds epochs that are over. Every answer over HTTP says what
//! time its sender has, so that what comes of a clock is told as what it is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::UNIX_EPOCH;

use http::{HeaderMap, header};

use crate::http::clock::system;
use crate::store::span;

/// Clocks that differ by less than this are as good as one another, seconds.
const TOLERATED: u64 = 120;

/// By how much this machine's clock is ahead of the sender's of the last answer, seconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// A clock of this machine that is off, or of all that it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOff {
    ahead: i64,
}

impl ClockOff {
    /// By how much this machine's clock is ahead, seconds; negative if it is behind.
    pub fn ahead_seconds(&self) -> i64 {
        self.ahead
    }
}

impl core::fmt::Display for ClockOff {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let direction = if self.ahead > 0 { "ahead of" } else { "behind" };
        write!(
            f,
            "this machine's clock is {} {direction} the clock of the last answer",
            span(self.ahead.unsigned_abs())
        )
    }
}

/// Whether this machine's clock is further from that of the last answer than clocks may differ. None before the first answer.
pub fn clock_off() -> Option<ClockOff> {
    off(AHEAD.load(Ordering::Relaxed))
}

fn off(ahead: i64) -> Option<ClockOff> {
    (ahead.unsigned_abs() > TOLERATED).then_some(ClockOff { ahead })
}

/// Takes the time in that an answer has.
pub(super) fn note(headers: &HeaderMap) {
    if let Some(ahead) = ahead_of(headers, system().seconds()) {
        AHEAD.store(ahead, Ordering::Relaxed);
    }
}

fn ahead_of(headers: &HeaderMap, now: u64) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    let theirs = date.duration_since(UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(now).ok()?.checked_sub(i64::try_from(theirs).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much() {
        let headers = |date: &str| HeaderMap::from_iter([(header::DATE, date.parse().unwrap())]);
        let date = headers("Fri, 15 Jan 2027 08:00:00 GMT");
        for (now, told) in [
            (1_800_000_000 + 3 * 86_400, Some("3 days ahead of")),
            (1_800_000_000 - 3 * 3_600, Some("3 hours behind")),
            (1_800_000_000 - 200, Some("3 minutes behind")),
            (1_800_000_000 + 100, None),
            (1_800_000_000, None),
        ] {
            let found = off(ahead_of(&date, now).unwrap()).map(|off| off.to_string());
            assert_eq!(found.is_some(), told.is_some(), "{found:?}");
            assert!(told.is_none_or(|told| found.as_ref().is_some_and(|found| found.contains(told))), "{found:?}");
        }
        for none in [HeaderMap::new(), headers("yesterday")] {
            assert_eq!(ahead_of(&none, 1_800_000_000), None);
        }
    }
}
