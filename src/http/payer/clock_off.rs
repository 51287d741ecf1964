//! Whether this machine's clock is off, by what answers say of the time.
//!
//! A wallet whose clock is off has its spends refused as expired, or finds epochs that are over. Every answer over HTTP says what
//! time its sender has, so that what comes of a clock is told as what it is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use http::{HeaderMap, header};

use crate::http::clock::system;
use crate::store::span;

/// Clocks that differ by less than this are as good as one another, seconds.
const TOLERATED: u64 = 120;

/// Of so many servers it is remembered.
const MOST_ORIGINS: usize = 256;

/// By how much this machine's clock is ahead of that of the last answer of each origin, seconds. A machine has one clock, and so all that
/// run on it learn from each other; but one server with a wrong clock must not speak for another.
static AHEAD: Mutex<BTreeMap<String, i64>> = Mutex::new(BTreeMap::new());

fn table() -> MutexGuard<'static, BTreeMap<String, i64>> {
    // Nothing that can panic runs under the lock.
    AHEAD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock of this machine that is off, or that of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockOff {
    origin: String,
    ahead: i64,
}

impl ClockOff {
    /// By how much this machine's clock is ahead, seconds; negative if it is behind.
    pub fn ahead_seconds(&self) -> i64 {
        self.ahead
    }

    /// The server whose clock it was held against.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

impl core::fmt::Display for ClockOff {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let direction = if self.ahead > 0 { "ahead of" } else { "behind" };
        write!(f, "this machine's clock is {} {direction} that of {}", span(self.ahead.unsigned_abs()), self.origin)
    }
}

/// Whether this machine's clock is further from that of the last answer of a server than clocks may differ. None before the first
/// answer.
pub fn clock_off(origin: &str) -> Option<ClockOff> {
    let ahead = table().get(&key(origin)).copied()?;
    off(origin, ahead)
}

/// All servers from whose clock this machine's is off.
pub fn clocks_off() -> Vec<ClockOff> {
    table().iter().filter_map(|(origin, ahead)| off(origin, *ahead)).collect()
}

fn key(origin: &str) -> String {
    origin.trim_end_matches('/').to_ascii_lowercase()
}

fn off(origin: &str, ahead: i64) -> Option<ClockOff> {
    (ahead.unsigned_abs() > TOLERATED).then(|| ClockOff { origin: origin.to_owned(), ahead })
}

/// Takes the time in that an answer has.
pub(super) fn note(origin: &str, headers: &HeaderMap) {
    let Some(ahead) = ahead_of(headers, system().seconds()) else { return };
    let (mut table, key) = (table(), key(origin));
    if table.len() >= MOST_ORIGINS && !table.contains_key(&key) {
        table.pop_first();
    }
    table.insert(key, ahead);
}

/// How old an answer is by its date, seconds; 0 as long as clocks may differ by that.
pub(super) fn age(headers: &HeaderMap) -> u64 {
    let ahead = ahead_of(headers, system().seconds()).unwrap_or(0);
    u64::try_from(ahead).ok().filter(|age| *age > TOLERATED).unwrap_or(0)
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
            let found = off("https://a.example", ahead_of(&date, now).unwrap()).map(|off| off.to_string());
            assert_eq!(found.is_some(), told.is_some(), "{found:?}");
            assert!(told.is_none_or(|told| found.as_ref().is_some_and(|found| found.contains(told))), "{found:?}");
        }
        for none in [HeaderMap::new(), headers("yesterday")] {
            assert_eq!(ahead_of(&none, 1_800_000_000), None);
        }
    }
    #[test]
    fn the_clock_of_one_server_does_not_speak_for_another() {
        let headers = |date: &str| HeaderMap::from_iter([(header::DATE, date.parse().unwrap())]);
        let now = httpdate::fmt_http_date(std::time::SystemTime::now());
        note("https://Wrong.example/", &headers("Fri, 15 Jan 1999 08:00:00 GMT"));
        note("https://right.example", &headers(&now));
        assert!(clock_off("https://wrong.example").is_some_and(|off| off.ahead_seconds() > 86_400));
        assert_eq!(clock_off("https://right.example"), None);
        assert!(clocks_off().iter().any(|off| off.to_string().contains("that of https://wrong.example")));
        note("https://wrong.example", &headers(&now));
        assert_eq!(clock_off("https://wrong.example"), None, "a clock that was put right is right");
    }

    #[test]
    fn an_answer_of_yesterday_is_as_old_as_its_date() {
        let dated = |seconds| {
            let at = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
            age(&HeaderMap::from_iter([(header::DATE, httpdate::fmt_http_date(at).parse().unwrap())]))
        };
        assert!((86_399..86_500).contains(&dated(86_400)));
        assert_eq!((dated(60), age(&HeaderMap::new())), (0, 0));
    }
}
