//! The not-after grid.

use super::time::Timestamp;

/// The instants that a spend may carry as its not-after: the multiples of a step. All callers of one window carry the same
/// one, so that it tells them apart by no more than the window (protocol, section 5, "Prove ahead").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    step: u32,
}

impl Grid {
    /// For so many seconds after a boundary gateways still accept the not-after of before it.
    pub const GRACE: u64 = 300;
    /// So many seconds after a boundary callers still use the not-after of before it. A caller whose clock is a little ahead
    /// would else send what the gateway does not take yet, and his note would be pinned to it. Below [`GRACE`](Self::GRACE) by
    /// far, so that a clock that is behind, and the way, do no harm either.
    pub const LAG: u64 = 30;
    /// The shortest step, seconds.
    pub const MIN_STEP: u32 = 2 * Self::GRACE as u32;

    /// A grid with a step in seconds; none when it is below [`MIN_STEP`](Self::MIN_STEP).
    pub const fn new(step: u32) -> Option<Self> {
        if step < Self::MIN_STEP { None } else { Some(Self { step }) }
    }

    /// The step in seconds.
    pub const fn step(&self) -> u32 {
        self.step
    }

    /// The last boundary that is not after `now`.
    pub fn window_start(&self, now: Timestamp) -> Timestamp {
        let step = u64::from(self.step);
        Timestamp::from_seconds(now.seconds() / step * step)
    }

    /// The not-after of a spend made now: the end of the window after the current one.
    pub fn not_after(&self, now: Timestamp) -> Timestamp {
        self.window_start(now).after(2 * u64::from(self.step))
    }

    /// The not-after that a caller uses now: that of [`LAG`](Self::LAG) seconds ago.
    pub fn callers_not_after(&self, now: Timestamp) -> Timestamp {
        self.not_after(now.before(Self::LAG))
    }

    /// So many seconds before a boundary gateways already accept the not-after of behind it, so that one whose clock is behind is
    /// borne with as one whose clock is ahead by as much.
    pub const EARLY: u64 = Self::GRACE - Self::LAG;

    /// Whether a gateway accepts this not-after now: the current one, the one before it for [`GRACE`](Self::GRACE), and the next
    /// one from [`EARLY`](Self::EARLY) on.
    pub fn accepts(&self, not_after: Timestamp, now: Timestamp) -> bool {
        let start = self.window_start(now);
        let previous = start.after(u64::from(self.step));
        let early = self.not_after(now.after(Self::EARLY));
        not_after == self.not_after(now)
            || not_after == early
            || (not_after == previous && now < start.after(Self::GRACE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_uses_is_accepted_by_clocks_that_differ() {
        let grid = Grid::new(3600).unwrap();
        for now in 7100..7600 {
            let used = grid.callers_not_after(Timestamp::from_seconds(now));
            for gateways in now - Grid::GRACE..now + Grid::GRACE - Grid::LAG {
                assert!(grid.accepts(used, Timestamp::from_seconds(gateways)), "{now} at the caller, {gateways}");
            }
        }
    }

    #[test]
    fn only_the_current_and_for_five_minutes_the_previous_value_count() {
        let grid = Grid::new(3600).unwrap();
        let at = Timestamp::from_seconds;
        assert_eq!(grid.not_after(at(7200)), at(14400));
        assert_eq!(grid.not_after(at(10799)), at(14400));
        for now in [7200, 10799] {
            assert!(grid.accepts(at(14400), at(now)));
        }
        assert!(grid.accepts(at(14400), at(10800 + 299)));
        assert!(grid.accepts(at(18000), at(10800 - 270)), "for a gateway whose clock is behind");
        for (not_after, now) in [(14400, 10800 + 300), (18000, 10800 - 271), (14401, 7200), (0, 7200), (u64::MAX, 7200)]
        {
            assert!(!grid.accepts(at(not_after), at(now)), "{not_after} at {now}");
        }
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        let grid = Grid::new(3600).unwrap();
        assert_eq!(grid.not_after(Timestamp::MAX), Timestamp::MAX);
        assert!(Grid::new(599).is_none());
    }
}
