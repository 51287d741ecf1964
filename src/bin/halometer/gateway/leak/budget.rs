//! How many bits a public choice tells. docs/privacy.md argues the formula.

use std::collections::BTreeMap;

/// The calls of each value of a public choice.
pub(super) type Counts = BTreeMap<String, u64>;

/// What a choice tells about the caller that made it, bits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    /// On average over the calls, at most: the entropy of the choice.
    pub(super) average: f64,
    /// Of the rarest value, at most: `log2(calls / calls with it)`.
    pub(super) worst: f64,
    /// The rarest value that was chosen, and its calls.
    pub(super) rarest: Option<(String, u64)>,
    /// Number of values that were chosen.
    pub(super) values: usize,
    /// Number of calls.
    pub(super) calls: u64,
}

/// What these calls tell: `H(X)` on average and `-log2 p(x)` of the rarest `x`. With calls of one value, or none, nothing.
pub(super) fn told(counts: &Counts) -> Told {
    let chosen = || counts.iter().filter(|(_, calls)| **calls > 0);
    let calls = chosen().fold(0_u64, |sum, (_, calls)| sum.saturating_add(*calls));
    let bits = |with: u64| (calls as f64 / with as f64).log2();
    let rarest = chosen().min_by_key(|(_, calls)| **calls).map(|(value, calls)| (value.clone(), *calls));
    let average: f64 = chosen().map(|(_, with)| *with as f64 / calls as f64 * bits(*with)).sum();
    let worst = rarest.as_ref().map_or(0.0, |(_, with)| bits(*with));
    Told { average: average.max(0.0), worst: worst.max(0.0), rarest, values: chosen().count(), calls }
}

/// The most that a choice among so many values can tell on average, whatever callers choose.
pub(super) fn most(values: u64) -> f64 {
    if values < 2 { 0.0 } else { (values as f64).log2() }
}

/// What is left of a crowd when so many bits about one of it are told.
pub(super) fn left(crowd: u64, bits: f64) -> f64 {
    (crowd as f64 / bits.exp2()).max(if crowd == 0 { 0.0 } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(calls: &[u64]) -> Counts {
        calls.iter().enumerate().map(|(value, calls)| (format!("{value:04}"), *calls)).collect()
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn known_distributions_tell_what_they_tell() {
        for (calls, average, worst) in [
            (&[][..], 0.0, 0.0),
            (&[7], 0.0, 0.0),
            (&[0, 9, 0], 0.0, 0.0),
            (&[5, 5], 1.0, 1.0),
            (&[100, 100, 100, 100], 2.0, 2.0),
            // Halves of halves: 1/2, 1/4, 1/8, 1/8.
            (&[4, 2, 1, 1], 1.75, 3.0),
            // A coin of one in four.
            (&[3, 1], 0.811_278_124_459_132_8, 2.0),
            // One in 1,024 stands out by 10 bits, and tells hardly anything on average.
            (&[1_023, 1], 0.011_173_818_721_219_527, 10.0),
        ] {
            let told = told(&counts(calls));
            assert!(close(told.average, average), "{calls:?}: {told:?}");
            assert!(close(told.worst, worst), "{calls:?}: {told:?}");
        }
        assert!(told(&counts(&[u64::MAX, u64::MAX])).average.is_finite());
    }

    #[test]
    fn a_crowd_is_halved_by_each_bit_and_never_less_than_one() {
        for (crowd, bits, expected) in [(0, 0.0, 0.0), (400, 0.0, 400.0), (400, 2.0, 100.0), (400, 20.0, 1.0)] {
            assert!(close(left(crowd, bits), expected), "{crowd} {bits}");
        }
    }

    /// The mutual information of caller and choice, from how often each caller makes each choice.
    fn learned(table: &[Vec<u64>]) -> f64 {
        let all: u64 = table.iter().flatten().sum();
        let of_caller: Vec<u64> = table.iter().map(|row| row.iter().sum()).collect();
        let of_value: Vec<u64> = (0..table[0].len()).map(|value| table.iter().map(|row| row[value]).sum()).collect();
        let mut bits = 0.0;
        for (row, caller) in table.iter().zip(&of_caller) {
            for (calls, value) in row.iter().zip(&of_value).filter(|(calls, _)| **calls > 0) {
                let ratio = *calls as f64 * all as f64 / (*caller as f64 * *value as f64);
                bits += *calls as f64 / all as f64 * ratio.log2();
            }
        }
        bits
    }

    proptest! {
        #[test]
        fn nothing_tells_more_than_is_said(table in prop::collection::vec(prop::collection::vec(0u64..50, 4), 1..12)) {
            let totals: Vec<u64> = (0..4).map(|value| table.iter().map(|row| row[value]).sum()).collect();
            prop_assume!(totals.iter().sum::<u64>() > 0);
            let told = told(&counts(&totals));
            prop_assert!(learned(&table) <= told.average + 1e-9, "on average");
            // No caller becomes more likely by more than the bits of the value that was seen.
            let all: u64 = totals.iter().sum();
            for row in table.iter().filter(|row| row.iter().sum::<u64>() > 0) {
                let before = row.iter().sum::<u64>() as f64 / all as f64;
                for (calls, total) in row.iter().zip(&totals).filter(|(_, total)| **total > 0) {
                    let after = *calls as f64 / *total as f64;
                    prop_assert!((after / before).log2() <= told.worst + 1e-9);
                }
            }
            prop_assert!(told.average <= most(told.values as u64) + 1e-9);
            prop_assert!(told.average <= told.worst + 1e-9);
        }

        #[test]
        fn two_choices_tell_no_more_than_both(pairs in prop::collection::vec((0u8..3, 0u8..5), 1..200)) {
            let count = |name: &dyn Fn(&(u8, u8)) -> String| {
                let mut counts = Counts::new();
                pairs.iter().for_each(|pair| *counts.entry(name(pair)).or_default() += 1);
                told(&counts).average
            };
            let (one, other) = (count(&|pair| pair.0.to_string()), count(&|pair| pair.1.to_string()));
            let both = count(&|pair| format!("{pair:?}"));
            prop_assert!(both <= one + other + 1e-9);
            prop_assert!(both + 1e-9 >= one.max(other));
        }
    }
}
