//! Figures for people: amounts with their thousands set apart, times in a fitting unit, medians.

use std::time::Duration;

use serde::Serialize;

/// Median and worst of some times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub count: usize,
    /// The middle one, or the mean of the two in the middle, milliseconds. 0 if there is none.
    pub median_ms: f64,
    /// The longest, milliseconds. 0 if there is none.
    pub worst_ms: f64,
}

impl Spread {
    /// Of `times`, in any order.
    pub fn of(times: &[Duration]) -> Self {
        let mut sorted: Vec<f64> = times.iter().map(|t| t.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        let Some(&worst) = sorted.last() else { return Self::default() };
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Self { count: sorted.len(), median_ms: round((low + high) / 2.0), worst_ms: round(worst) }
    }
}

/// To whole nanoseconds: what is beyond them is noise of the arithmetic.
fn round(ms: f64) -> f64 {
    (ms * 1e6).round() / 1e6
}

/// A time in the unit that leaves three figures.
pub fn time(ms: f64) -> String {
    match ms {
        ms if ms < 0.0995 => format!("{:.1} us", ms * 1e3),
        ms if ms < 0.9995 => format!("{:.0} us", ms * 1e3),
        ms if ms < 9.995 => format!("{ms:.2} ms"),
        ms if ms < 99.95 => format!("{ms:.1} ms"),
        ms if ms < 9_999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

/// A sum of the demo, which fits; one that did not would reconcile with nothing.
pub(super) fn narrow(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}

/// A whole number with a comma after every three digits.
pub fn amount(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let of = |ms: &[u64]| Spread::of(&ms.iter().map(|&ms| Duration::from_millis(ms)).collect::<Vec<_>>());
        assert_eq!(of(&[]), Spread::default());
        assert_eq!(of(&[7]), Spread { count: 1, median_ms: 7.0, worst_ms: 7.0 });
        assert_eq!(of(&[9, 1, 5]), Spread { count: 3, median_ms: 5.0, worst_ms: 9.0 });
        assert_eq!(of(&[9, 1, 5, 6]), Spread { count: 4, median_ms: 5.5, worst_ms: 9.0 });
    }

    #[test]
    fn figures_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(amount), ["0", "999", "1,000", "1,234,567"]);
        let times = [0.0123, 0.4567, 4.5678, 45.678, 456.78, 45_678.0].map(time);
        assert_eq!(times, ["12.3 us", "457 us", "4.57 ms", "45.7 ms", "457 ms", "45.7 s"]);
    }
}
