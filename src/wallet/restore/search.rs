//! The last spent note of a lane, found by doubling and halving.

/// How many notes behind the last one are looked at as well, where that tells nothing.
const BEYOND: u64 = 64;
/// Up to which note spends are looked for one by one, where that tells nothing, and the first ones are gone.
const ONE_BY_ONE: u64 = 4_096;
/// Up to two to which power they are looked for in steps.
const POWERS: u32 = 20;
/// No lane has so many.
const MOST: u64 = 1 << 40;

/// What is known before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Whether the first spends are on record: then all are, and a lane whose first note is not spent was never spent from.
    pub(super) from_the_first: bool,
    /// Whether the whole partitions are at hand: then looking tells nobody anything.
    pub(super) tells_nothing: bool,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stuck<E> {
    /// It is not known of a note whether it is spent.
    Asked(E),
    /// A later note is spent, and an earlier one is not.
    Hidden,
}

impl<E> From<E> for Stuck<E> {
    fn from(asked: E) -> Self {
        Self::Asked(asked)
    }
}

/// Index of the last spent note; none if none is spent. Of the spends on record the first may be missing, with partitions that are
/// gone, and none behind them.
pub(super) fn last_spent<E>(
    mut spent: impl FnMut(u64) -> Result<bool, E>,
    known: Known,
) -> Result<Option<u64>, Stuck<E>> {
    let Some(first) = any_spent(&mut spent, known)? else { return Ok(None) };
    let (mut low, mut step) = (first, 1);
    let mut high = loop {
        let next = low + step;
        if next > MOST || !spent(next)? {
            break next;
        }
        (low, step) = (next, 2 * step);
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if spent(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    if known.tells_nothing {
        for beyond in low + 2..low + BEYOND {
            if spent(beyond)? {
                return Err(Stuck::Hidden);
            }
        }
    }
    Ok(Some(low))
}

fn any_spent<E>(spent: &mut impl FnMut(u64) -> Result<bool, E>, known: Known) -> Result<Option<u64>, Stuck<E>> {
    if spent(0)? {
        return Ok(Some(0));
    }
    if known.from_the_first {
        let beyond = if known.tells_nothing { BEYOND } else { 1 };
        for at in 1..beyond {
            if spent(at)? {
                return Err(Stuck::Hidden);
            }
        }
        return Ok(None);
    }
    let mut last = None;
    for power in 0..POWERS {
        let (from, step) = (1_u64 << power, (1_u64 << power).div_ceil(8));
        let mut at = from;
        while at < 2 * from {
            if spent(at)? {
                last = Some(at);
            }
            at += step;
        }
    }
    if last.is_none() && known.tells_nothing {
        for at in 0..ONE_BY_ONE {
            if spent(at)? {
                return Ok(Some(at));
            }
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::convert::Infallible;

    fn find(spent: impl Fn(u64) -> bool, from_the_first: bool, tells_nothing: bool) -> (Option<u64>, u64) {
        let mut asked = 0;
        let mut count = |at| {
            asked += 1;
            Ok::<_, Infallible>(spent(at))
        };
        let found = last_spent(&mut count, Known { from_the_first, tells_nothing }).unwrap();
        (found, asked)
    }

    #[test]
    fn the_last_spend_is_found_in_few_steps() {
        for last in (0..300).chain([999, 1_000, 1_023, 1_024, 65_535, 1 << 30]) {
            let (found, asked) = find(|at| at <= last, true, false);
            assert_eq!(found, Some(last));
            assert!(asked <= 2 * u64::from((last + 2).ilog2()) + 4, "{last}: {asked}");
        }
        assert_eq!(find(|_| false, true, false), (None, 1), "one question of a lane that was never spent from");
    }

    #[test]
    fn spends_whose_first_ones_are_gone_are_found() {
        for from in [1, 2, 7, 100, 1_000, 3_000] {
            for count in [1, 2, 5, 200] {
                let last = from + count - 1;
                assert_eq!(find(|at| (from..=last).contains(&at), false, true).0, Some(last), "{from} {count}");
            }
            // Where looking tells something fewer are looked at: a run of an eighth is found.
            let last = from + from / 4 + 1;
            assert_eq!(find(|at| (from..=last).contains(&at), false, false).0, Some(last), "{from}");
        }
    }

    #[test]
    fn a_hidden_spend_before_others_is_noticed() {
        for hidden in 0..40 {
            let spent = |at: u64| Ok::<_, Infallible>(at <= 40 && at != hidden);
            let found = last_spent(spent, Known { from_the_first: true, tells_nothing: true });
            match found {
                // It was stepped over, or seen to be missing.
                Ok(Some(40)) | Err(Stuck::Hidden) => {}
                other => panic!("{hidden}: {other:?}"),
            }
        }
    }
}
