//! The not-after grid.

use super::time::Timestamp;

/// Two public grids of time. The instants that a spend may carry as its not-after are the multiples of a step: all callers of one
/// window carry the same one, so that it tells them apart by no more than the window (protocol, section 5, "Prove ahead"). And the
/// instants at which a directory may be published are the multiples of another: one directory for each window of that grid, the
/// same for all callers (section 5, "Directory").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    step: u32,
    publication: u32,
}

impl Grid {
    /// For so many seconds after a boundary gateways still accept the not-after of before it.
    pub const GRACE: u64 = 300;
    /// So many seconds after a boundary callers still use the not-after of before it. A caller whose clock is a little ahead
    /// would else send what the gateway does not take yet, and its note would be pinned to it. Below
    /// [`GRACE`](Self::GRACE) by far, so that a clock that is behind, and the way, do no harm either.
    pub const LAG: u64 = 30;
    /// The shortest step, seconds.
    pub const MIN_STEP: u32 = 2 * Self::GRACE as u32;

    /// A grid with a step in seconds; none when it is below [`MIN_STEP`](Self::MIN_STEP). Directories are published on the same.
    pub const fn new(step: u32) -> Option<Self> {
        Self::with_publication(step, step)
    }

    /// The same, with directories published on a grid of so many seconds, at least 1. Below [`MIN_STEP`](Self::MIN_STEP) it is for
    /// development: an issuer that may publish every second can show almost every caller a directory of its own.
    pub const fn with_publication(step: u32, publication: u32) -> Option<Self> {
        if step < Self::MIN_STEP || publication == 0 { None } else { Some(Self { step, publication }) }
    }

    /// The step in seconds.
    pub const fn step(&self) -> u32 {
        self.step
    }

    /// The step of the grid of publication in seconds. The same in all directories of an issuer.
    pub const fn publication(&self) -> u32 {
        self.publication
    }

    /// Whether callers are a crowd to an issuer that publishes as often as it may.
    pub const fn is_for_development(&self) -> bool {
        self.publication < Self::MIN_STEP
    }

    /// The last instant of the grid of publication that is not after `now`: when a directory that is made now is published.
    pub fn published(&self, now: Timestamp) -> Timestamp {
        let step = u64::from(self.publication);
        Timestamp::from_seconds(now.seconds() / step * step)
    }

    /// For so long a directory is the newest at most, seconds: then the issuer publishes it again, changed or not, so
    /// that a caller that takes a directory that is new to it can tell that it is the one of this window.
    pub fn lifetime(&self) -> u64 {
        u64::from(self.publication.max(Self::MIN_STEP))
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
    fn the_previous_grid_value_counts_for_five_minutes_only() {
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
