//! Limits on what costs the gateway work and earns it nothing.

use std::sync::Mutex;

use crate::protocol::Timestamp;

/// So many a minute on average, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many a minute, in the long run.
    pub per_minute: u32,
    /// How many at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { per_minute: u32::MAX, burst: u32::MAX };
}

/// What a gateway lets happen how often, over all callers, as it cannot tell them apart. One more is refused as busy, before its
/// proof is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// New spends. Unlimited by default: what cannot be verified in time is refused by the queue in front of the verifier.
    pub admissions: Rate,
    /// Cancels of spends that are not in the set, which earn nothing and stay in it. 600 a minute by default.
    pub cancels: Rate,
    /// Rollovers. 600 a minute by default.
    pub rollovers: Rate,
    /// Transfers. 600 a minute by default.
    pub transfers: Rate,
}

impl Default for Quotas {
    fn default() -> Self {
        let free = Rate { per_minute: 600, burst: 600 };
        Self { admissions: Rate::UNLIMITED, cancels: free, rollovers: free, transfers: free }
    }
}

/// The state of all quotas.
pub(super) struct Meters {
    pub(super) admissions: Meter,
    pub(super) cancels: Meter,
    pub(super) rollovers: Meter,
    pub(super) transfers: Meter,
}

impl Meters {
    pub(super) fn new(quotas: Quotas) -> Self {
        let Quotas { admissions, cancels, rollovers, transfers } = quotas;
        Self {
            admissions: Meter::new(admissions),
            cancels: Meter::new(cancels),
            rollovers: Meter::new(rollovers),
            transfers: Meter::new(transfers),
        }
    }
}

/// A token bucket. A token is 60 parts, so that each second adds `per_minute` parts.
pub(crate) struct Meter {
    rate: Rate,
    state: Mutex<(u64, Timestamp)>,
}

impl Meter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, state: Mutex::new((u64::from(rate.burst) * 60, Timestamp::default())) }
    }

    /// Takes a token, if there is one. A clock that went back adds none and takes none away.
    pub(crate) fn take(&self, now: Timestamp) -> bool {
        if self.rate == Rate::UNLIMITED {
            return true;
        }
        // Nothing that can panic runs under the lock.
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let passed = now.seconds().saturating_sub(state.1.seconds());
        let gained = passed.saturating_mul(u64::from(self.rate.per_minute));
        let parts = state.0.saturating_add(gained).min(u64::from(self.rate.burst) * 60);
        let (parts, granted) = if parts >= 60 { (parts - 60, true) } else { (parts, false) };
        *state = (parts, state.1.max(now));
        granted
    }

    /// Gives a token back that was taken for what turned out to be nothing. Otherwise proofs that do not hold, which cost nothing
    /// to make up, would use up what honest callers need.
    pub(super) fn give_back(&self) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0 = state.0.saturating_add(60).min(u64::from(self.rate.burst) * 60);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_used_up_and_comes_back_with_time() {
        let meter = Meter::new(Rate { per_minute: 30, burst: 3 });
        let at = |seconds: u64| Timestamp::from_seconds(1_000_000 + seconds);
        assert_eq!([0, 0, 0, 0].map(|s| meter.take(at(s))), [true, true, true, false]);
        // One every two seconds.
        assert_eq!([1, 2, 2, 4].map(|s| meter.take(at(s))), [false, true, false, true]);
        // A clock that goes back and forth mints nothing.
        assert_eq!([0, 4, 0, 5].map(|s| meter.take(at(s))), [false, false, false, false]);
        assert_eq!([3_600; 4].map(|s| meter.take(at(s))), [true, true, true, false]);
        assert!(!Meter::new(Rate { per_minute: 60, burst: 0 }).take(at(9)));
    }
}
