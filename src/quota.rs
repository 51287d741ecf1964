//! Limits on what costs work and earns nothing.
//!
//! A [`Meter`] counts by [`Sender`], so that nobody uses up what others need, and gives leave as a value: a [`Permit`] goes back
//! by being dropped, once, and only where it came from. Work that earned it says so ([`Permit::used`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::{Sender, Timestamp};

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

/// Senders that are counted by themselves at a time. Those beyond share one bucket, until others have been quiet.
const SENDERS: usize = 1 << 16;

/// A token bucket for each sender. A token is 60 parts, so that each second adds `per_minute` parts.
pub(crate) struct Meter {
    rate: Rate,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    of: HashMap<Sender, Bucket>,
    /// The latest time that was seen: a clock that went back adds nothing and takes nothing away.
    now: Timestamp,
    /// When full buckets were last looked for.
    swept: Timestamp,
}

#[derive(Clone, Copy)]
struct Bucket {
    parts: u64,
    at: Timestamp,
}

/// Leave for one piece of work. Dropped, it goes back to the bucket that it was taken from, unless it was [used](Self::used).
#[must_use]
pub(crate) struct Permit(Option<(Arc<Meter>, Sender)>);

impl Permit {
    /// Leave that nobody counts.
    pub(crate) const fn free() -> Self {
        Self(None)
    }

    /// The work was worth it: the permit does not go back.
    pub(crate) fn used(mut self) {
        self.0 = None;
    }
}

impl core::fmt::Debug for Permit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Permit(..)")
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((meter, sender)) = self.0.take() {
            meter.put_back(&sender);
        }
    }
}

impl Meter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes a token of this sender's, if there is one.
    pub(crate) fn take(self: &Arc<Self>, sender: Sender, now: Timestamp) -> Option<Permit> {
        if self.rate == Rate::UNLIMITED {
            return Some(Permit::free());
        }
        let mut buckets = self.lock();
        buckets.now = buckets.now.max(now);
        let now = buckets.now;
        let sender = self.admit(&mut buckets, sender, now);
        let bucket = buckets.of.entry(sender).or_insert(Bucket { parts: self.full(), at: now });
        bucket.parts = self.parts(bucket, now);
        bucket.at = now;
        bucket.parts = bucket.parts.checked_sub(60)?;
        Some(Permit(Some((Arc::clone(self), sender))))
    }

    /// The name under which a sender is counted: its own, or the common one where there are too many.
    fn admit(&self, buckets: &mut Buckets, sender: Sender, now: Timestamp) -> Sender {
        if buckets.of.len() < SENDERS || buckets.of.contains_key(&sender) {
            return sender;
        }
        if buckets.swept < now {
            buckets.swept = now;
            buckets.of.retain(|_, bucket| self.parts(bucket, now) < self.full());
        }
        if buckets.of.len() < SENDERS { sender } else { Sender::UNKNOWN }
    }

    fn full(&self) -> u64 {
        u64::from(self.rate.burst) * 60
    }

    fn parts(&self, bucket: &Bucket, now: Timestamp) -> u64 {
        let passed = now.seconds().saturating_sub(bucket.at.seconds());
        let gained = passed.saturating_mul(u64::from(self.rate.per_minute));
        bucket.parts.saturating_add(gained).min(self.full())
    }

    fn put_back(&self, sender: &Sender) {
        // A bucket that was swept away was full.
        if let Some(bucket) = self.lock().of.get_mut(sender) {
            bucket.parts = bucket.parts.saturating_add(60).min(self.full());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        // Nothing that can panic runs under the lock.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many things at a time for each sender, so that one sender cannot hold what others need. Unknown senders are not
/// counted: where addresses are not known, only the whole is bounded.
pub(crate) struct Shares {
    most: usize,
    held: Mutex<HashMap<Sender, usize>>,
}

/// One of a sender's things, until it is dropped.
#[must_use]
pub(crate) struct Share(Option<(Arc<Shares>, Sender)>);

impl Shares {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: Mutex::default() }
    }

    pub(crate) fn take(self: &Arc<Self>, sender: Sender) -> Option<Share> {
        if sender == Sender::UNKNOWN {
            return Some(Share(None));
        }
        let mut held = self.lock();
        let count = held.entry(sender).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share(Some((Arc::clone(self), sender))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Sender, usize>> {
        // Nothing that can panic runs under the lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((shares, sender)) = self.0.take() else { return };
        let mut held = shares.lock();
        if let Some(count) = held.get_mut(&sender) {
            *count -= 1;
            if *count == 0 {
                held.remove(&sender);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    fn meter(per_minute: u32, burst: u32) -> Arc<Meter> {
        Arc::new(Meter::new(Rate { per_minute, burst }))
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_000_000 + seconds)
    }

    fn sender(address: [u8; 4]) -> Sender {
        Sender::of_address(IpAddr::from(address))
    }

    /// Takes and uses a token.
    fn used(meter: &Arc<Meter>, sender: Sender, now: Timestamp) -> bool {
        meter.take(sender, now).map(Permit::used).is_some()
    }

    #[test]
    fn a_burst_is_used_up_and_comes_back_with_time() {
        let meter = meter(30, 3);
        let take = |s| used(&meter, Sender::UNKNOWN, at(s));
        assert_eq!([0, 0, 0, 0].map(take), [true, true, true, false]);
        // One every two seconds.
        assert_eq!([1, 2, 2, 4].map(take), [false, true, false, true]);
        // A clock that goes back and forth mints nothing.
        assert_eq!([0, 4, 0, 5].map(take), [false, false, false, false]);
        assert_eq!([3_600; 4].map(take), [true, true, true, false]);
        assert!(!used(&self::meter(60, 0), Sender::UNKNOWN, at(9)));
    }

    #[test]
    fn nobody_uses_up_what_is_anothers() {
        let meter = meter(1, 2);
        let [thief, other] = [sender([192, 0, 2, 1]), sender([192, 0, 2, 2])];
        while used(&meter, thief, at(0)) {}
        assert!(used(&meter, other, at(0)) && used(&meter, other, at(0)) && !used(&meter, other, at(0)));
    }

    #[test]
    fn only_what_was_taken_goes_back_and_only_once() {
        let meter = meter(1, 1);
        let one = sender([192, 0, 2, 1]);
        let permit = meter.take(one, at(0)).unwrap();
        assert!(meter.take(one, at(0)).is_none());
        drop(permit);
        let permit = meter.take(one, at(0)).unwrap();
        permit.used();
        assert!(meter.take(one, at(0)).is_none(), "what was used does not come back");
        drop(Permit::free());
        assert!(meter.take(one, at(0)).is_none(), "nor does leave that nobody counted");
        // However often a token comes back, there are never more than the burst.
        let full = meter.take(one, at(3_600)).unwrap();
        drop(full);
        assert!(used(&meter, one, at(3_600)) && !used(&meter, one, at(3_600)));
    }

    #[test]
    fn a_share_is_held_by_one_sender_and_given_back() {
        let shares = Arc::new(Shares::new(2));
        let [one, other] = [sender([192, 0, 2, 1]), sender([192, 0, 2, 2])];
        let held = [shares.take(one).unwrap(), shares.take(one).unwrap()];
        assert!(shares.take(one).is_none() && shares.take(other).is_some());
        drop(held);
        assert!(shares.take(one).is_some());
        assert!(shares.lock().is_empty(), "a sender that holds nothing is still remembered");
        let _all: Vec<_> = (0..10).map(|_| shares.take(Sender::UNKNOWN).unwrap()).collect();
    }

    #[test]
    fn more_senders_than_can_be_counted_share_a_bucket() {
        let meter = meter(1, 1);
        for n in 0..SENDERS as u32 {
            assert!(used(&meter, sender(n.to_be_bytes()), at(0)));
        }
        let late = |n: u32, s| used(&meter, sender(n.to_be_bytes()), at(s));
        // The common one is beyond the number by one.
        assert!(late(u32::MAX, 0) && !late(u32::MAX - 1, 0));
        assert!(late(u32::MAX, 60) && late(u32::MAX - 1, 60), "when the others have been quiet");
    }
}
