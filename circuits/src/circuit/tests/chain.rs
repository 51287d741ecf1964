//! The signature chain as a cheater fills it: any digits, any start, and any sums.

use ff::{Field, PrimeField};
use group::CurveAffine as _;
use pasta_curves::arithmetic::CurveAffine;
use pasta_curves::pallas::{Affine, Base};

use super::super::*;
use super::cheater::Cheater;
use crate::circuit::layout::{CHAIN_END, CONSTANT, E_DIGITS, E_START, S_DIGITS};

/// A point, or something that ought to be one.
pub(super) type Pair = (Base, Base);

/// `lambda` of a row, and what the next row holds.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    pub(super) lambda: Base,
    pub(super) x: Base,
    pub(super) y: Base,
}

impl Sum {
    /// The sum of the fixed point `t` and the accumulator `p`.
    pub(super) fn of(t: Pair, p: Pair) -> Self {
        Self::with_slope((t.1 - p.1) * (t.0 - p.0).invert().unwrap_or(Base::ZERO), t, p)
    }

    /// What follows from another slope.
    pub(super) fn with_slope(lambda: Base, t: Pair, p: Pair) -> Self {
        let x = lambda.square() - t.0 - p.0;
        Self { lambda, x, y: lambda * (p.0 - x) - p.1 }
    }

    /// What follows from the true slope and another `x'`.
    pub(super) fn with_x(x: Base, t: Pair, p: Pair) -> Self {
        let lambda = Self::of(t, p).lambda;
        Self { lambda, x, y: lambda * (p.0 - x) - p.1 }
    }
}

/// A digit of `s` or `e`; only those in 0..=3 are honest.
pub(super) type Digits = Vec<Base>;

/// How to fill the chain.
pub(super) struct Chain {
    /// 128 digits of `s`, then 64 of `e`, most significant first.
    pub(super) digits: Digits,
    /// The accumulator of row 0.
    pub(super) start: Pair,
    /// `z` where the digits of `e` begin.
    pub(super) middle: Base,
}

impl Chain {
    /// An honest one, but for its digits.
    pub(super) fn of(digits: Digits) -> Self {
        assert_eq!(digits.len(), S_DIGITS + E_DIGITS);
        Self { digits, start: start(), middle: Base::ZERO }
    }

    /// Fills all cells of the chain and returns what its last row holds. `lie` may give another sum for a row.
    pub(super) fn fill(
        &self,
        trace: &mut Trace,
        cheater: &Cheater,
        lie: impl Fn(usize, Pair, Pair) -> Option<Sum>,
    ) -> Pair {
        let four_n = Base::from(4).pow_vartime([S_DIGITS as u64]);
        let s = self.digits[..S_DIGITS].iter().fold(Base::ZERO, |sum, digit| sum * Base::from(4) + digit);
        let mut z = (self.middle - s) * four_n.invert().unwrap();
        let mut p = self.start;
        for row in 0..=CONSTANT {
            let digit = self.digits.get(row).copied().unwrap_or(Base::ZERO);
            let t = cheater.circuit.fixed.table[row].at(digit);
            let sum = lie(row, t, p).unwrap_or_else(|| Sum::of(t, p));
            trace.set((Col::Z, row), z);
            trace.set((Col::X, row), p.0);
            trace.set((Col::Y, row), p.1);
            trace.set((Col::Lambda, row), sum.lambda);
            z = z * Base::from(4) + digit;
            p = (sum.x, sum.y);
        }
        trace.set((Col::Z, CHAIN_END), Base::ZERO);
        trace.set((Col::X, CHAIN_END), p.0);
        trace.set((Col::Y, CHAIN_END), p.1);
        p
    }
}

/// No lie.
pub(super) fn honestly(_: usize, _: Pair, _: Pair) -> Option<Sum> {
    None
}

/// The base-4 digits of a little-endian number, most significant first.
pub(super) fn digits_of(bytes: &[u8]) -> Digits {
    signature::digits(bytes, 4 * bytes.len()).map(Base::from).collect()
}

/// `S`, read off an honest chain.
pub(super) fn start() -> Pair {
    let mut trace = Trace::empty();
    let cheater = Cheater::new(0);
    signature::fill(&mut trace, &cheater.circuit.fixed.table, &super::cheater::signature(0, &cheater.nonce));
    (trace.get((Col::X, 0)), trace.get((Col::Y, 0)))
}

/// The point, if it is one.
pub(super) fn point((x, y): Pair) -> Option<Affine> {
    Option::from(Affine::from_xy(x, y)).filter(|point: &Affine| !bool::from(point.is_identity()))
}

#[test]
fn the_cheater_can_fill_the_chain_honestly() {
    for seed in 0..4 {
        let cheater = Cheater::new(seed);
        let honest = cheater.fill(&[]);
        let e = honest.trace.get((Col::Z, CONSTANT)).to_repr();
        let s = cheater.nonce + cheater.secret * pasta_curves::pallas::Scalar::from_repr(e).unwrap();
        let digits = [digits_of(&s.to_repr()), digits_of(&e[..16])].concat();
        let mut trace = Trace::empty();
        Chain::of(digits).fill(&mut trace, &cheater, honestly);
        assert_eq!(trace.get((Col::Z, E_START)), Base::ZERO);
        for at in &trace.written {
            assert_eq!(trace.get(*at), honest.trace.get(*at), "{at:?}");
        }
    }
}
