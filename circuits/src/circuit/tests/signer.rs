//! Lies at one equation of the signature chain, each row in turn.
//!
//! A lie in the middle of the chain moves `R`, and with it the challenge, that is the digits that the chain must add:
//! few could follow up on that. The issuer can: its lies are chosen so that the accumulator stays on the curve and is a
//! known combination of `G`, `D`, `S` and one other point, and with `d` it solves for the `s` that leads to the `R` it
//! hashed:
//!
//! | lie in row `i`            | the accumulator becomes | instead of |
//! | ------------------------- | ----------------------- | ---------- |
//! | the slope of `-T`         | `P - T`                 | `P + T`    |
//! | `x' = x`                  | `-P`                    | `P + T`    |
//! | `y'` negated              | `-(P + T)`              | `P + T`    |
//! | a digit above 3           | `P + T'`                | `P + T`    |
//! | `x` of `S` times a root of unity, or `y` negated | another start | `S` |
//!
//! The result satisfies every equation of the circuit but one, and `verify` refuses its signature.

use ff::{Field, PrimeField, WithSmallOrderMulGroup};
use group::Curve;
use pasta_curves::pallas::{Base, Point, Scalar};

use super::super::*;
use super::chain::{Chain, Pair, Sum, honestly, point, start};
use super::cheater::{Cheater, Filling, leaf_of, x_of};
use crate::circuit::layout::{CONSTANT, E_DIGITS, E_START, S_DIGITS};
use crate::schnorr::{coordinates, generator, low_128};

/// At which equation of the chain the lie is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    StartX,
    StartY,
    Slope(usize),
    X(usize),
    Y(usize),
    Digit(usize),
}

impl Lie {
    /// All lies of the chain.
    pub(super) fn all() -> impl Iterator<Item = Lie> {
        let sums = (0..=CONSTANT).flat_map(|row| [Lie::Slope(row), Lie::X(row), Lie::Y(row)]);
        sums.chain((0..CONSTANT).map(Lie::Digit)).chain([Lie::StartX, Lie::StartY])
    }

    /// The row whose digit does not count any more, if there is one.
    fn omitted(self) -> Option<usize> {
        match self {
            Lie::X(row) | Lie::Digit(row) => Some(row),
            _ => None,
        }
    }

    /// The number of rows whose points end up negated.
    fn negated(self) -> usize {
        match self {
            Lie::X(row) => row,
            Lie::Y(row) => row + 1,
            _ => 0,
        }
    }
}

/// `[g]G + [s]S + [other]O`, with `O` the point that the lie brings in.
#[derive(Clone, Copy, Debug)]
struct Combination {
    g: Scalar,
    s: Scalar,
    other: Scalar,
}

impl Combination {
    fn of(g: Scalar, s: i8, other: i8) -> Self {
        let small = |n: i8| {
            if n < 0 { -Scalar::ONE } else { Scalar::from(n as u64) }
        };
        Self { g, s: small(s), other: small(other) }
    }

    fn plus(self, b: Self) -> Self {
        Self { g: self.g + b.g, s: self.s + b.s, other: self.other + b.other }
    }

    fn negated(self) -> Self {
        Self { g: -self.g, s: -self.s, other: -self.other }
    }
}

/// The issuer, lying.
struct Signer<'a> {
    cheater: &'a Cheater,
    lie: Lie,
    /// `O`.
    other: Option<Pair>,
    /// The digit that leads to `O`, for [`Lie::Digit`].
    digit: Base,
}

/// A filling that is wrong at the equation of the lie alone. None when the lie would leave the curve, as some digits do.
pub(super) fn lie(cheater: &Cheater, lie: Lie) -> Option<Filling> {
    let (other, digit) = match lie {
        Lie::StartX => (Some((start().0 * Base::ZETA, start().1)), Base::ZERO),
        Lie::Digit(row) => {
            let (digit, point) = third_digit(cheater, row)?;
            (Some(point), digit)
        }
        _ => (None, Base::ZERO),
    };
    Signer { cheater, lie, other, digit }.fill()
}

/// A fifth digit whose point in the table is one of the curve. For `d = 2b - 3` the equation of the curve is a cubic in
/// `d^2`, of which 1 and 9 are roots; the third may be a square.
fn third_digit(cheater: &Cheater, row: usize) -> Option<(Base, Pair)> {
    let fixed = &cheater.circuit.fixed.table[row];
    let digit = |d: Base| (d + Base::from(3)) * Base::TWO_INV;
    let cubic = |d: u64| {
        let (x, y) = fixed.at(digit(Base::from(d)));
        x.square() * x + Base::from(5) - y.square()
    };
    // f(0) = -9 D l and f(25) = 24 * 16 * (25 - D) l, with l the leading coefficient.
    let ratio = cubic(0) * cubic(5).invert().unwrap();
    let third = ratio * Base::from(9600) * (ratio * Base::from(384) - Base::from(9)).invert().unwrap();
    let digit = digit(Option::<Base>::from(third.sqrt())?);
    let found = fixed.at(digit);
    assert!(point(found).is_some(), "a root of the cubic gives a point");
    Some((digit, found))
}

impl Signer<'_> {
    fn fill(&self) -> Option<Filling> {
        let mut trace = self.cheater.fill(&[]).trace;
        let leaf = leaf_of(&trace);
        let mut nonce = self.cheater.nonce;
        // Some lies leave a hole in the digits. Every fourth nonce, or sixteenth, gets along without.
        for _ in 0..1000 {
            nonce += Scalar::ONE;
            let zero = self.combine(&[0; S_DIGITS], &[0; E_DIGITS]);
            let r = generator() * nonce + self.known(&Combination { g: Scalar::ZERO, ..zero });
            let r_x = x_of(&r);
            let hash = self.cheater.hash_challenge(&mut trace, r_x, leaf);
            let Some((e_digits, of_ranges)) = self.challenge(hash) else {
                continue;
            };
            let Some(s_digits) = self.respond(nonce, &e_digits) else {
                continue;
            };
            assert_eq!(self.combine(&s_digits, &e_digits).g, nonce);

            let mut digits: Vec<Base> = s_digits.iter().chain(&e_digits).map(|b| Base::from(u64::from(*b))).collect();
            if let Lie::Digit(row) = self.lie {
                digits[row] = self.digit;
            }
            let mut chain = Chain::of(digits);
            match self.lie {
                Lie::StartX => chain.start = self.other?,
                Lie::StartY => chain.start.1 = -chain.start.1,
                _ => {}
            }
            let end = chain.fill(&mut trace, self.cheater, |row, t, p| self.sum(row, t, p));
            assert_eq!(end.0, r_x, "{:?}", self.lie);
            self.cheater.fill_ranges(&mut trace, of_ranges);
            return Some(self.cheater.conclude(trace));
        }
        panic!("{:?}: no nonce will do", self.lie)
    }

    /// The lie, where it is one about a sum.
    fn sum(&self, at: usize, t: Pair, p: Pair) -> Option<Sum> {
        match self.lie {
            Lie::Slope(row) if row == at => Some(Sum::with_slope(Sum::of((t.0, -t.1), p).lambda, t, p)),
            Lie::X(row) if row == at => Some(Sum::with_x(p.0, t, p)),
            Lie::Y(row) if row == at => {
                let sum = Sum::of(t, p);
                Some(Sum { y: -sum.y, ..sum })
            }
            _ => honestly(at, t, p),
        }
    }

    fn known(&self, c: &Combination) -> Point {
        let s = Point::from(point(start()).unwrap());
        let other = self.other.map(|other| Point::from(point(other).unwrap()) * c.other);
        s * c.s + generator() * c.g + other.unwrap_or_default()
    }

    /// `[4^j / 2]`, or that of `-D`.
    fn weight(&self, row: usize) -> Scalar {
        let power = |j: usize| Scalar::from(4).pow_vartime([j as u64]) * Scalar::TWO_INV;
        if row < E_START { power(E_START - 1 - row) } else { -self.cheater.secret * power(CONSTANT - 1 - row) }
    }

    /// What the chain adds up to.
    fn combine(&self, s: &[u8; S_DIGITS], e: &[u8; E_DIGITS]) -> Combination {
        let mut sum = match self.lie {
            Lie::StartX => Combination::of(Scalar::ZERO, 0, 1),
            Lie::StartY => Combination::of(Scalar::ZERO, -1, 0),
            _ => Combination::of(Scalar::ZERO, 1, 0),
        };
        let mut surplus = Scalar::ZERO;
        for (row, b) in s.iter().chain(e).enumerate() {
            let weight = self.weight(row);
            surplus += weight * Scalar::from(3);
            let t = if self.lie == Lie::Digit(row) {
                Combination::of(Scalar::ZERO, 0, 1)
            } else {
                Combination::of(weight * (Scalar::from(2 * u64::from(*b)) - Scalar::from(3)), 0, 0)
            };
            sum = self.step(row, sum, t);
        }
        self.step(CONSTANT, sum, Combination::of(surplus, -1, 0))
    }

    fn step(&self, at: usize, p: Combination, t: Combination) -> Combination {
        match self.lie {
            Lie::Slope(row) if row == at => p.plus(t.negated()),
            Lie::X(row) if row == at => p.negated(),
            Lie::Y(row) if row == at => p.plus(t).negated(),
            _ => p.plus(t),
        }
    }

    /// The digits of `e`, and the number whose upper half goes into the ranges.
    fn challenge(&self, hash: Base) -> Option<([u8; E_DIGITS], Base)> {
        let large = match self.lie {
            Lie::Digit(row) if row >= E_START => self.digit * Base::from(4).pow_vartime([(CONSTANT - 1 - row) as u64]),
            _ => Base::ZERO,
        };
        let rest = hash - large;
        let e = digits::<E_DIGITS>(&low_128(&rest).to_le_bytes());
        let hole = self.lie.omitted().filter(|_| large != Base::ZERO);
        (hole.is_none_or(|row| e[row - E_START] == 0)).then_some((e, rest))
    }

    /// The digits of the `s` for which the chain ends in the point of the nonce.
    fn respond(&self, nonce: Scalar, e: &[u8; E_DIGITS]) -> Option<[u8; S_DIGITS]> {
        let omitted = self.lie.omitted().filter(|row| *row < E_START);
        let negated = self.lie.negated().min(S_DIGITS);
        let mut target = nonce - self.combine(&[0; S_DIGITS], e).g;
        let flipped = match self.lie {
            Lie::Slope(row) if row < E_START => Some(row),
            _ => None,
        };
        if let Some(row) = flipped {
            // There 3 - b counts in place of b.
            target += self.weight(row).double() * Scalar::from(3);
        }
        let mut s = if negated == 0 {
            digits(&target.to_repr())
        } else {
            // high - low = -target, with the last digits all in low.
            let mut s = digits::<S_DIGITS>(&(-target).to_repr());
            complement(&mut s, negated);
            s
        };
        if omitted.is_some_and(|row| s[row] != 0) {
            return None;
        }
        if let Some(row) = flipped {
            s[row] = 3 - s[row];
        }
        Some(s)
    }
}

/// Rewrites `n` as `high - low`: the digits from `split` on become those of `4^m - (n mod 4^m)`, and what is before grows by
/// one.
fn complement(s: &mut [u8; S_DIGITS], split: usize) {
    let mut borrow = 0;
    for digit in s[split..].iter_mut().rev() {
        let negative = -i16::from(*digit) - borrow;
        *digit = negative.rem_euclid(4) as u8;
        borrow = i16::from(negative < 0);
    }
    for digit in s[..split].iter_mut().rev() {
        let sum = i16::from(*digit) + borrow;
        *digit = (sum % 4) as u8;
        borrow = sum / 4;
    }
    assert_eq!(borrow, 0, "a scalar is well below 4^128");
}

fn digits<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut digits = signature::digits(bytes, N);
    core::array::from_fn(|_| digits.next().unwrap() as u8)
}

#[test]
fn the_issuer_can_lie_about_its_signature() {
    use super::constraints::Constraint;
    let cheater = Cheater::new(7);
    for (attempt, gate, poly, row) in [
        (Lie::StartX, "signature: the chain starts at S", 0, 0),
        (Lie::StartY, "signature: the chain starts at S", 1, 0),
        (Lie::Slope(3), "signature: addition", 0, 3),
        (Lie::X(64), "signature: addition", 1, 64),
        (Lie::Y(150), "signature: addition", 2, 150),
        (Lie::Y(127), "signature: addition", 2, 127),
        (Lie::X(0), "signature: addition", 1, 0),
        (Lie::Slope(192), "signature: addition", 0, 192),
    ] {
        let filling = lie(&cheater, attempt).unwrap();
        let one = Constraint::Gate(gate, poly, row);
        assert_eq!(cheater.refusals(filling), [one].into(), "{attempt:?}");
    }
    // Of fifth digits there are fewer.
    let found: Vec<_> = (0..CONSTANT).filter(|row| third_digit(&cheater, *row).is_some()).collect();
    assert!(found.len() >= CONSTANT / 3, "{}", found.len());
    for row in found.iter().step_by(20) {
        let one = Constraint::Gate("signature: digit", 0, *row);
        assert_eq!(cheater.refusals(lie(&cheater, Lie::Digit(*row)).unwrap()), [one].into(), "digit in row {row}");
    }
}

/// The coordinates of an affine point are what the chain's rows hold.
#[test]
fn other_starts_are_points() {
    let s = point(start()).unwrap();
    let turned = point((start().0 * Base::ZETA, start().1)).unwrap();
    assert_ne!(s, turned);
    assert_eq!(coordinates(&(Point::from(s) * Scalar::ONE).to_affine()), Some(start()));
}
