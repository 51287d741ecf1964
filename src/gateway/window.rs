//! Which requests of a session were made already.

/// The sequence numbers that a session has seen, of the last [`LENGTH`](Self::LENGTH) up to the highest. Requests may arrive in
/// another order than they were signed in, as they do over HTTP/2 and over several connections; what is further behind than
/// the window is long is refused, seen or not. 520 bytes.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One more than the highest number that was seen; 0 if none was.
    end: u64,
    /// For each number of the window a bit, at the number modulo its length.
    seen: Box<[u64; Self::WORDS]>,
}

/// The request was made before, or is too old to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this request of the session was made before, or is too old")]
pub struct Replayed;

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { end: 0, seen: Box::new([0; Self::WORDS]) }
    }
}

impl ReplayWindow {
    /// Numbers in the window.
    pub const LENGTH: u64 = 4_096;
    const WORDS: usize = (Self::LENGTH / 64) as usize;

    /// Notes a number, once.
    ///
    /// # Errors
    /// [`Replayed`]. The number `u64::MAX` is refused always.
    pub fn see(&mut self, number: u64) -> Result<(), Replayed> {
        let end = number.checked_add(1).ok_or(Replayed)?;
        if end > self.end {
            // What comes into the window is not seen yet.
            let first = self.end.max(end.saturating_sub(Self::LENGTH));
            (first..end).for_each(|entering| self.bit(entering, |word, bit| *word &= !bit));
            self.end = end;
        } else if self.end - number > Self::LENGTH {
            return Err(Replayed);
        }
        let mut known = false;
        self.bit(number, |word, bit| {
            known = *word & bit != 0;
            *word |= bit;
        });
        if known { Err(Replayed) } else { Ok(()) }
    }

    fn bit(&mut self, number: u64, change: impl FnOnce(&mut u64, u64)) {
        let place = number % Self::LENGTH;
        let index = usize::try_from(place / 64).unwrap_or_default();
        if let Some(word) = self.seen.get_mut(index) {
            change(word, 1 << (place % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const LENGTH: u64 = ReplayWindow::LENGTH;

    #[test]
    fn each_number_is_seen_once_in_any_order_within_the_window() {
        let mut window = ReplayWindow::default();
        for number in (0..LENGTH).rev() {
            assert_eq!(window.see(number), Ok(()), "{number}");
        }
        assert!((0..LENGTH).all(|number| window.see(number) == Err(Replayed)));
    }

    #[test]
    fn entries_behind_the_window_are_refused_and_their_place_reused() {
        let mut window = ReplayWindow::default();
        window.see(5).unwrap();
        window.see(5 + LENGTH).unwrap();
        assert_eq!(window.see(5), Err(Replayed), "behind it");
        assert_eq!(window.see(4), Err(Replayed), "behind it, and never seen");
        assert_eq!(window.see(6), Ok(()), "the oldest in it");
        assert_eq!(window.see(5 + LENGTH), Err(Replayed));
    }

    #[test]
    fn a_leap_forgets_nothing_that_counts_and_takes_no_time() {
        let mut window = ReplayWindow::default();
        (0..LENGTH).for_each(|number| window.see(number).unwrap());
        window.see(u64::MAX - 1).unwrap();
        assert_eq!(window.see(u64::MAX), Err(Replayed));
        assert_eq!(window.see(u64::MAX - 1), Err(Replayed));
        assert_eq!(window.see(u64::MAX - 2), Ok(()), "its place was another's before the leap");
        assert_eq!(window.see(0), Err(Replayed));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(numbers in prop::collection::vec(0..3 * LENGTH, 0..400)) {
            let (mut window, mut seen, mut highest) = (ReplayWindow::default(), BTreeSet::new(), 0);
            for number in numbers {
                let late = number + LENGTH <= highest;
                let fresh = seen.insert(number) && !late;
                highest = highest.max(number);
                prop_assert_eq!(window.see(number).is_ok(), fresh, "{}", number);
            }
        }
    }
}
