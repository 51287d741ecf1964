//! Ranges: three sums of two-bit digits in `z`, `x` and `y`, most significant first, in the rows below the chain.
//!
//! All start at zero and take 32 digits: `next = 4 cur + digit`. `z` ends as `v'`, so `0 <= v' < 2^64`. `x` ends as bits 128 to
//! 191 of the challenge hash and `y` as its bits 192 to 254: the first digit of `y` is a single bit, so that together they
//! have strictly 127 bits. Where they end, the hash lands:
//!
//! ```text
//! ch2 = e + 2^128 x + 2^192 y
//! ```

use ff::{Field, PrimeField};
use halo2_proofs::circuit::Region;
use halo2_proofs::plonk::{Advice, Column, ConstraintSystem, Constraints, Error, Expression, Selector};
use halo2_proofs::poly::Rotation;
use pasta_curves::pallas::Base;

use super::layout::{Col, LOW, RANGE_DIGITS, RANGE_END, RANGE_START};
use super::signature::{digit_check, digit_of, digits};
use super::trace::Trace;

/// Selectors of the ranges.
#[derive(Clone, Debug)]
pub(crate) struct RangeConfig {
    pub(super) digits: Selector,
    pub(super) start: Selector,
    pub(super) split: Selector,
}

/// `2^n`.
pub(crate) fn power_of_two(n: u32) -> Base {
    Base::from_u128(1 << (n / 2)) * Base::from_u128(1 << (n - n / 2))
}

impl RangeConfig {
    /// Adds the gates of the ranges in `x` and `y` (those of `z` are the chain's) and three selectors. `hash` is the column in
    /// which the challenge hash lands, `low` the one whose next cell has its low 128 bits. Enables equality on nothing.
    pub(crate) fn configure(
        meta: &mut ConstraintSystem<Base>,
        [x, y]: [Column<Advice>; 2],
        hash: Column<Advice>,
        low: Column<Advice>,
    ) -> Self {
        let config = Self { digits: meta.selector(), start: meta.complex_selector(), split: meta.complex_selector() };
        let (cur, next) = (Rotation::cur(), Rotation::next());

        meta.create_gate("range: digits", |meta| {
            let selector = meta.query_selector(config.digits);
            let digits = [x, y].map(|column| digit_check(digit_of(meta, column)));
            Constraints::with_selector(selector, digits)
        });

        meta.create_gate("range: start, and strictly 127 bits", |meta| {
            let selector = meta.query_selector(config.start);
            let first = meta.query_advice(y, next);
            let one = Expression::Constant(Base::from(1));
            Constraints::with_selector(
                selector,
                [
                    ("x starts at zero", meta.query_advice(x, cur)),
                    ("y starts at zero", meta.query_advice(y, cur)),
                    ("the first digit of y is a bit", first.clone() * (first - one)),
                ],
            )
        });

        meta.create_gate("range: challenge = low 128 bits of the hash", |meta| {
            let selector = meta.query_selector(config.split);
            let minus_high =
                meta.query_advice(x, cur) * -power_of_two(128) + meta.query_advice(y, cur) * -power_of_two(192);
            let low = meta.query_advice(low, next);
            Constraints::with_selector(selector, [meta.query_advice(hash, cur) - low + minus_high])
        });

        config
    }

    /// Enables the selectors.
    pub(crate) fn assign(&self, region: &mut Region<'_, Base>) -> Result<(), Error> {
        for row in RANGE_START..RANGE_END {
            self.digits.enable(region, row)?;
        }
        self.start.enable(region, RANGE_START)?;
        self.split.enable(region, RANGE_END)
    }
}

/// Fills the range cells: `change` in `z`, and the high half of `hash` in `x` and `y`. The low half is `low`.
pub(crate) fn fill(trace: &mut Trace, change: u64, hash: Base, low: Base) {
    let bytes = hash.to_repr();
    sum(trace, Col::Z, &change.to_le_bytes());
    sum(trace, Col::X, &bytes[16..24]);
    sum(trace, Col::Y, &bytes[24..32]);
    trace.set(LOW, low);
}

fn sum(trace: &mut Trace, col: Col, bytes: &[u8]) {
    let mut sum = trace.wire(Base::ZERO);
    trace.set((col, RANGE_START), sum);
    for (i, digit) in digits(bytes, RANGE_DIGITS).enumerate() {
        let digit = trace.wire(Base::from(digit));
        sum = sum.double().double() + digit;
        trace.set((col, RANGE_START + 1 + i), sum);
    }
}
