//! Amounts.

use core::fmt;

/// An amount in integer micro-credits, 0 to 2^64 - 1. Arithmetic is checked (protocol, section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credits(u64);

impl Credits {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From micro-credits.
    pub const fn from_micro(micro: u64) -> Self {
        Self(micro)
    }

    /// In micro-credits.
    pub const fn micro(self) -> u64 {
        self.0
    }

    /// The number of micro-credits for people: `16,000`.
    pub fn grouped(self) -> String {
        grouped(self.0.into())
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, none when it needs more than 64 bits.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, none when it is below zero.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The sum of many, none when it needs more than 64 bits.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// Whether it is a multiple of `quantum`; of a quantum of zero only zero is.
    pub const fn is_multiple_of(self, quantum: Self) -> bool {
        self.0.is_multiple_of(quantum.0)
    }

    /// The least multiple of `quantum` that is not smaller, none when there is none in 64 bits.
    pub fn round_up(self, quantum: Self) -> Option<Self> {
        if quantum.is_zero() { None } else { self.0.checked_next_multiple_of(quantum.0).map(Self) }
    }
}

/// A number for people: `1,048,576`.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl zeroize::DefaultIsZeroes for Credits {}

impl fmt::Display for Credits {
    /// The number of micro-credits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people_have_separators() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (16_000, "16,000"),
            (123_456, "123,456"),
            (1_000_000, "1,000,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(Credits::from_micro(number).grouped(), text);
        }
    }

    #[test]
    fn sums_that_do_not_fit_are_refused() {
        let max = Credits::from_micro(u64::MAX);
        let one = Credits::from_micro(1);
        assert_eq!(max.checked_add(one), None);
        assert_eq!(Credits::ZERO.checked_sub(one), None);
        assert_eq!(Credits::checked_sum([max, Credits::ZERO, one]), None);
        assert_eq!(max.round_up(Credits::from_micro(2)), None);
        assert_eq!(one.round_up(Credits::ZERO), None);
        assert!(!one.is_multiple_of(Credits::ZERO) && Credits::ZERO.is_multiple_of(Credits::ZERO));
        assert_eq!(Credits::from_micro(11).round_up(Credits::from_micro(5)), Some(Credits::from_micro(15)));
    }
}
