//! What a set remembers of the time, so that one look at one clock destroys nothing.
//!
//! ```text
//! now    |------------------------------------------|==== jump ====|     refused, nothing is changed
//! seen   |----------------------------------------->|                    the latest time that was seen
//! sure   |------------------------------->. . . . . |                    the time that surely has passed: what is over by it goes
//! ```

use crate::protocol::Timestamp;

/// The times that a set remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    seen: Timestamp,
    sure: Timestamp,
}

/// One look at a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Look {
    /// At the clock of a machine, which anybody may set.
    Clock {
        /// What it says.
        now: Timestamp,
        /// How long ago this process looked last, by a clock that cannot be set, seconds; 0 the first time.
        passed: u64,
    },
    /// At the same, by an operator that says it is right, however far it is from what was seen before.
    Accepted(Timestamp),
    /// At a clock that is right for certain: a second source, such as the clock of a database, has confirmed it.
    Confirmed(Timestamp),
}

/// What becomes of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The clock goes on. This is remembered from now on.
    Steady(Pulse),
    /// The clock jumped. All is as it was.
    Jumped(ClockJump),
}

/// A clock that is further from what was seen before than it can be by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockJump {
    /// The time that was seen before.
    pub seen: Timestamp,
    /// The time that the clock says.
    pub now: Timestamp,
}

impl core::fmt::Display for ClockJump {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (seen, now) = (self.seen.seconds(), self.now.seconds());
        let (by, where_to) = if now > seen { (now - seen, "ahead") } else { (seen - now, "back") };
        write!(f, "the clock jumped {} {where_to}: it says {now} s since 1970, and was seen at {seen} s", span(by))
    }
}

/// A length of time in words.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} minutes", seconds / 60),
        7_200..=172_799 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

impl Pulse {
    /// How far a clock may be from what was seen before, either way, seconds. A gateway may be stopped for so long; what is farther is
    /// for its operator to confirm.
    pub const JUMP: u64 = 18 * 3_600;
    /// How many seconds may be taken for sure in a second, after time passed that nobody saw pass.
    pub const CATCHING_UP: u64 = 4;
    /// A set with records that does not remember any time yet is sure of so much less than the clock says, seconds.
    const UNKNOWN: u64 = 30 * 86_400;
    /// As long as a look may be after the one before it, seconds: a process that looks less often is less sure.
    const LONGEST: u64 = 3_600;

    /// Times that are known to be so: one that was confirmed.
    pub const fn confirmed(now: Timestamp) -> Self {
        Self { seen: now, sure: now }
    }

    /// As it was stored.
    pub const fn from_parts(seen: Timestamp, sure: Timestamp) -> Self {
        Self { seen, sure }
    }

    /// The latest time that was seen.
    pub const fn seen(&self) -> Timestamp {
        self.seen
    }

    /// The time that surely has passed: never later than what was seen. Only what is over by this may be destroyed.
    pub const fn sure(&self) -> Timestamp {
        self.sure
    }

    /// What a set makes of a look: the rule for all sets. `known` is what it remembers, `is_new` whether it has no partition and never
    /// had one.
    pub fn next(known: Option<Self>, is_new: bool, look: Look) -> Beat {
        let (now, passed) = match look {
            Look::Confirmed(now) => return Beat::Steady(Self::confirmed(now)),
            Look::Accepted(now) => {
                let sure = known.map_or(now.before(Self::UNKNOWN), |known| known.sure.min(now));
                return Beat::Steady(Self { seen: now, sure: if is_new { now } else { sure } });
            }
            Look::Clock { now, passed } => (now, passed),
        };
        let Some(Self { seen, sure }) = known else {
            return Beat::Steady(Self { seen: now, sure: if is_new { now } else { now.before(Self::UNKNOWN) } });
        };
        if now > seen.after(Self::JUMP) || seen > now.after(Self::JUMP) {
            return Beat::Jumped(ClockJump { seen, now });
        }
        let step = passed.min(Self::LONGEST).saturating_mul(Self::CATCHING_UP);
        Beat::Steady(Self { seen: seen.max(now), sure: sure.max(now.min(sure.after(step))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn look(now: u64, passed: u64) -> Look {
        Look::Clock { now: at(now), passed }
    }

    fn steady(beat: Beat) -> Pulse {
        let Beat::Steady(pulse) = beat else { panic!("{beat:?}") };
        pulse
    }

    #[test]
    fn one_look_at_a_clock_makes_no_time_sure() {
        let mut pulse = Pulse::confirmed(at(100 * DAY));
        for ahead in [Pulse::JUMP, DAY / 2, 1] {
            pulse = steady(Pulse::next(Some(pulse), false, look(100 * DAY + ahead, 0)));
            assert_eq!(pulse.sure(), at(100 * DAY), "{ahead}");
        }
        // Nor do many processes that look once each, nor one that looks as often as it can.
        for _ in 0..1_000 {
            pulse = steady(Pulse::next(Some(pulse), false, look(100 * DAY + DAY / 2, 0)));
        }
        assert_eq!((pulse.sure(), pulse.seen()), (at(100 * DAY), at(100 * DAY + Pulse::JUMP)));
        // Four seconds are worth four times four.
        pulse = steady(Pulse::next(Some(pulse), false, look(100 * DAY + DAY / 2, 4)));
        assert_eq!(pulse.sure(), at(100 * DAY + 16));
    }

    #[test]
    fn time_that_passes_in_small_steps_is_sure() {
        let mut pulse = Pulse::confirmed(at(0));
        for minute in 1..=10_000 {
            pulse = steady(Pulse::next(Some(pulse), false, look(60 * minute, 60)));
            assert_eq!((pulse.seen(), pulse.sure()), (at(60 * minute), at(60 * minute)));
        }
        // After half a day that nobody saw, it is caught up with in a third of that.
        let woken = 600_000 + DAY / 2;
        pulse = steady(Pulse::next(Some(pulse), false, look(woken, 0)));
        let minutes = (1..).find(|minute| {
            pulse = steady(Pulse::next(Some(pulse), false, look(woken + 60 * minute, 60)));
            pulse.sure() == pulse.seen()
        });
        assert_eq!(minutes, Some(240));
    }

    #[test]
    fn a_jump_either_way_changes_nothing_until_it_is_accepted() {
        let pulse = Pulse::confirmed(at(100 * DAY));
        for now in [140 * DAY, 100 * DAY + Pulse::JUMP + 1, 100 * DAY - Pulse::JUMP - 1, 0, u64::MAX] {
            let jump = ClockJump { seen: at(100 * DAY), now: at(now) };
            assert_eq!(Pulse::next(Some(pulse), false, look(now, 60)), Beat::Jumped(jump));
            let accepted = steady(Pulse::next(Some(pulse), false, Look::Accepted(at(now))));
            assert_eq!(accepted.seen(), at(now));
            // What was accepted by mistake destroys nothing either.
            assert_eq!(accepted.sure(), at(now).min(at(100 * DAY)));
        }
        let jump = ClockJump { seen: at(100 * DAY), now: at(140 * DAY) };
        assert!(jump.to_string().contains("40 days ahead"), "{jump}");
        let jump = ClockJump { seen: at(100 * DAY), now: at(98 * DAY) };
        assert!(jump.to_string().contains("2 days back"), "{jump}");
    }

    #[test]
    fn a_set_that_remembers_no_time_is_sure_of_little() {
        let fresh = steady(Pulse::next(None, true, look(100 * DAY, 0)));
        assert_eq!(fresh.sure(), at(100 * DAY));
        let unknown = steady(Pulse::next(None, false, look(100 * DAY, 0)));
        assert_eq!(unknown.sure(), at(70 * DAY));
    }
}
