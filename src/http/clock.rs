//! The clock. The core has none; the rim brings the system's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::protocol::Timestamp;
use crate::store::{ClockJump, Pulse};

/// The time of the system's clock, whole seconds. A clock before 1970 counts as 1970: then every window is closed.
pub fn system() -> Timestamp {
    Timestamp::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// The time that a gateway goes by: the system's, as long as it moves by itself. If it jumps by more than [`Pulse::JUMP`], the time
/// goes on as if it had not, and [`jumped`] says so: under a clock that may be wrong nothing is admitted, settled or published.
pub fn now() -> Timestamp {
    let mut hand = HAND.lock().unwrap_or_else(PoisonError::into_inner);
    look(&mut hand, system(), Instant::now()).0
}

/// Whether the system's clock jumped while this process ran, and is not back yet.
pub fn jumped() -> Option<ClockJump> {
    let mut hand = HAND.lock().unwrap_or_else(PoisonError::into_inner);
    look(&mut hand, system(), Instant::now()).1
}

/// When it was looked last, by a clock that cannot be set, and the time then.
static HAND: Mutex<Option<(Instant, Timestamp)>> = Mutex::new(None);

fn look(hand: &mut Option<(Instant, Timestamp)>, wall: Timestamp, at: Instant) -> (Timestamp, Option<ClockJump>) {
    let seen = hand.map_or(wall, |(last, time)| time.after(at.saturating_duration_since(last).as_secs()));
    if wall > seen.after(Pulse::JUMP) || seen > wall.after(Pulse::JUMP) {
        return (seen, Some(ClockJump { seen, now: wall }));
    }
    *hand = Some((at, wall));
    (wall, None)
}

/// Says what time it is.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock of one's own.
    pub fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(clock))
    }

    /// The system's.
    pub fn system() -> Self {
        Self::new(system)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl core::fmt::Debug for Clock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Clock(..)")
    }
}

/// Unix seconds as RFC 3339, UTC. The calendar by the method of days from civil, in eras of 400 years beginning in March.
pub fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_jumps_is_not_gone_by_until_it_is_back() {
        let (mut hand, start) = (None, Instant::now());
        let (day, t0) = (86_400, Timestamp::from_seconds(1_800_000_000));
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(look(&mut hand, t0, start), (t0, None));
        assert_eq!(look(&mut hand, t0.after(12), later(10)), (t0.after(12), None), "it is set by a little");
        for wall in [t0.after(40 * day), Timestamp::from_seconds(0)] {
            let (time, jump) = look(&mut hand, wall, later(20));
            assert_eq!((time, jump), (t0.after(22), Some(ClockJump { seen: t0.after(22), now: wall })));
        }
        assert_eq!(look(&mut hand, t0.after(31), later(30)), (t0.after(31), None), "it is back");
    }

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
