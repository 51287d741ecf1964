//! Forged signatures: the note is worth what the forger likes, and no issuer ever signed its leaf.
//!
//! None of these needs the issuer's secret, unless it says so: each is what anybody could do if one constraint were missing.

use std::cell::Cell;

use ff::{Field, PrimeField};
use pasta_curves::pallas::{Base, Scalar};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::super::*;
use super::attack::{Attack, attacks};
use super::chain::{Chain, Digits, Pair, Sum, digits_of, honestly};
use super::cheater::{Cheater, Filling, leaf_of, nonce_x};
use super::constraints::Constraint::{Copy, Gate};
use crate::circuit::layout::{CHAIN_END, CONSTANT, E_DIGITS, E_START, LOW, RANGE_DIGITS, S_DIGITS};
use crate::schnorr::low_128;

attacks! {
    free_slope by Gate("signature: addition", 0, CONSTANT);
    nonce_off_the_curve by Gate("signature: addition", 0, CONSTANT);
    free_x by Gate("signature: addition", 1, CONSTANT);
    free_y by Gate("signature: addition", 2, CONSTANT - 1);
    challenge_digits_that_do_not_start_at_zero by Gate("signature: z is zero", 0, E_START);
    trailing_z by Gate("signature: z is zero", 0, CHAIN_END);
    another_nonce_point by Gate("signature: R.x is what is hashed", 0, CHAIN_END);
    upper_half_that_does_not_start_at_zero by Gate("range: start, and strictly 127 bits", 0, RANGE_START);
    upper_quarter_that_does_not_start_at_zero by Gate("range: start, and strictly 127 bits", 1, RANGE_START);
    upper_half_of_128_bits by Gate("range: start, and strictly 127 bits", 2, RANGE_START);
    wide_digit_in_the_upper_half by Gate("range: digits", 0, RANGE_END - 1);
    wide_digit_in_the_upper_quarter by Gate("range: digits", 1, RANGE_END - 1);
    challenge_that_is_not_the_hash by Gate("range: challenge = low 128 bits of the hash", 0, RANGE_END);
    another_challenge_in_the_chain by Copy("e");
    signature_of_another_leaf by Copy("L");
    first_challenge_hash_of_another_leaf by Copy("ch1");
}

/// Cells of a spend but for its signature, and randomness.
fn unsigned(cheater: &Cheater) -> (Trace, ChaCha20Rng) {
    (cheater.fill(&[]).trace, ChaCha20Rng::seed_from_u64(17))
}

fn random_digits(n: usize, rng: &mut ChaCha20Rng) -> Digits {
    let bytes = [Scalar::random(&mut *rng).to_repr(), Scalar::random(rng).to_repr()].concat();
    digits_of(&bytes).split_off(256 - n)
}

/// Chooses the `R.x` to be hashed first, which fixes `e`, and then bends the chain so that it ends there.
fn chase(cheater: &Cheater, lie: impl Fn(Base, usize, Pair, Pair) -> Option<Sum>) -> Filling {
    let (mut trace, mut rng) = unsigned(cheater);
    let leaf = leaf_of(&trace);
    loop {
        let r_x = Base::random(&mut rng);
        let hash = cheater.hash_challenge(&mut trace, r_x, leaf);
        let digits = [random_digits(S_DIGITS, &mut rng), digits_of(&low_128(&hash).to_le_bytes())].concat();
        let bent = Cell::new(false);
        Chain::of(digits).fill(&mut trace, cheater, |row, t, p| {
            let sum = lie(r_x, row, t, p);
            bent.set(bent.get() || sum.is_some());
            sum
        });
        if bent.get() {
            cheater.fill_ranges(&mut trace, hash);
            return cheater.conclude(trace);
        }
    }
}

/// `lambda^2 = R.x + x_T + x`: every second `R.x` has one.
fn free_slope(cheater: &Cheater) -> Filling {
    chase(cheater, |r_x, row, t, p| {
        let lambda = Option::from((r_x + t.0 + p.0).sqrt()).filter(|_| row == CONSTANT)?;
        Some(Sum::with_slope(lambda, t, p))
    })
}

/// An `R.x` that no point of the curve has. The three equations of a row are all there is to keep the chain on the curve.
fn nonce_off_the_curve(cheater: &Cheater) -> Filling {
    chase(cheater, |r_x, row, t, p| {
        let on_the_curve = bool::from((r_x.square() * r_x + Base::from(5)).sqrt().is_some());
        let lambda = Option::from((r_x + t.0 + p.0).sqrt()).filter(|_| row == CONSTANT && !on_the_curve)?;
        Some(Sum::with_slope(lambda, t, p))
    })
}

fn free_x(cheater: &Cheater) -> Filling {
    chase(cheater, |r_x, row, t, p| (row == CONSTANT).then(|| Sum::with_x(r_x, t, p)))
}

/// The `y` of row 192 whose sum with the constant has the `x` that was hashed.
fn free_y(cheater: &Cheater) -> Filling {
    chase(cheater, |r_x, row, t, p| {
        if row + 1 != CONSTANT {
            return None;
        }
        let sum = Sum::of(t, p);
        let last = cheater.circuit.fixed.table[CONSTANT].at(Base::ZERO);
        let lambda = Option::<Base>::from((r_x + last.0 + sum.x).sqrt())?;
        Some(Sum { y: last.1 - lambda * (last.0 - sum.x), ..sum })
    })
}

/// The chain stays as it is, and ends elsewhere.
fn another_nonce_point(cheater: &Cheater) -> Filling {
    chase(cheater, |_, row, t, p| (row == 0).then(|| Sum::of(t, p)))
}

/// Any `s` and `e`, the `R` that follows, and its challenge hash: not `e` but with odds of 2^-128. What remains is to
/// make it pass for `e`.
struct Mismatch {
    trace: Trace,
    /// The digits of `s` and `e`.
    digits: Digits,
    e: Base,
    hash: Base,
}

fn mismatch(cheater: &Cheater) -> Mismatch {
    let (mut trace, mut rng) = unsigned(cheater);
    let digits = [random_digits(S_DIGITS, &mut rng), random_digits(E_DIGITS, &mut rng)].concat();
    let (r_x, _) = Chain::of(digits.clone()).fill(&mut trace, cheater, honestly);
    let leaf = leaf_of(&trace);
    let hash = cheater.hash_challenge(&mut trace, r_x, leaf);
    cheater.fill_ranges(&mut trace, hash);
    let e = trace.get((Col::Z, CONSTANT));
    Mismatch { trace, digits, e, hash }
}

fn challenge_that_is_not_the_hash(cheater: &Cheater) -> Filling {
    cheater.conclude(mismatch(cheater).trace)
}

fn another_challenge_in_the_chain(cheater: &Cheater) -> Filling {
    let Mismatch { mut trace, hash, .. } = mismatch(cheater);
    trace.set(LOW, Base::from_u128(low_128(&hash)));
    cheater.conclude(trace)
}

/// `e + 2^128 * anything` as the challenge, of which the chain multiplies `D` by `e` alone.
fn challenge_digits_that_do_not_start_at_zero(cheater: &Cheater) -> Filling {
    let Mismatch { mut trace, digits, e, hash } = mismatch(cheater);
    let missing = Base::from_u128(low_128(&hash)) - e;
    let chain = Chain { middle: missing * power_of_four(E_DIGITS).invert().unwrap(), ..Chain::of(digits) };
    chain.fill(&mut trace, cheater, honestly);
    cheater.fill_ranges(&mut trace, hash);
    cheater.conclude(trace)
}

/// No attack: it is pinned so that no cell is free.
fn trailing_z(cheater: &Cheater) -> Filling {
    let mut filling = cheater.fill(&[]);
    filling.trace.set((Col::Z, CHAIN_END), Base::ONE);
    filling
}

fn power_of_four(n: usize) -> Base {
    Base::from(4).pow_vartime([n as u64])
}

/// Fills a range with digits that may be wide, from a start that need not be zero.
pub(super) fn fill_range(trace: &mut Trace, col: Col, start: Base, digits: &[Base]) {
    assert_eq!(digits.len(), RANGE_DIGITS);
    let mut sum = start;
    trace.set((col, RANGE_START), sum);
    for (i, digit) in digits.iter().enumerate() {
        sum = sum * Base::from(4) + digit;
        trace.set((col, RANGE_START + 1 + i), sum);
    }
}

/// `wide` at one place, zeros elsewhere, so that the sum is `total`.
pub(super) fn one_wide_digit(total: Base, place: usize) -> Digits {
    let mut digits = vec![Base::ZERO; RANGE_DIGITS];
    digits[place] = total * power_of_four(RANGE_DIGITS - 1 - place).invert().unwrap();
    digits
}

/// The start from which zeros add up to `total`.
fn wide_start(total: Base) -> (Base, Digits) {
    (total * power_of_four(RANGE_DIGITS).invert().unwrap(), vec![Base::ZERO; RANGE_DIGITS])
}

/// `ch2 = e + 2^128 x` has a solution for any `e`, if `x` may be any field element.
fn whole_upper_half(mismatch: &Mismatch) -> Base {
    (mismatch.hash - mismatch.e) * power_of_four(64).invert().unwrap()
}

fn with_upper_half(cheater: &Cheater, forged: Mismatch, x: (Base, Digits), y: (Base, Digits)) -> Filling {
    let mut trace = forged.trace;
    fill_range(&mut trace, Col::X, x.0, &x.1);
    fill_range(&mut trace, Col::Y, y.0, &y.1);
    cheater.conclude(trace)
}

fn nothing() -> (Base, Digits) {
    (Base::ZERO, vec![Base::ZERO; RANGE_DIGITS])
}

fn upper_half_that_does_not_start_at_zero(cheater: &Cheater) -> Filling {
    let forged = mismatch(cheater);
    let x = wide_start(whole_upper_half(&forged));
    with_upper_half(cheater, forged, x, nothing())
}

fn wide_digit_in_the_upper_half(cheater: &Cheater) -> Filling {
    wide_digit(cheater, Col::X, RANGE_DIGITS - 1)
}

fn wide_digit_in_the_upper_quarter(cheater: &Cheater) -> Filling {
    wide_digit(cheater, Col::Y, RANGE_DIGITS - 1)
}

fn wide_digit(cheater: &Cheater, col: Col, place: usize) -> Filling {
    let forged = mismatch(cheater);
    let x = whole_upper_half(&forged);
    if col == Col::X {
        with_upper_half(cheater, forged, (Base::ZERO, one_wide_digit(x, place)), nothing())
    } else {
        let y = x * power_of_four(RANGE_DIGITS).invert().unwrap();
        with_upper_half(cheater, forged, nothing(), (Base::ZERO, one_wide_digit(y, place)))
    }
}

/// A wide digit in each place. The first of `y` has a gate of its own.
pub(super) fn wide_digits(cheater: &Cheater) -> Vec<Attack> {
    let attack = |col, place| Attack {
        name: "wide digit",
        refused_by: Gate("range: digits", usize::from(col == Col::Y), RANGE_START + place),
        filling: wide_digit(cheater, col, place),
    };
    let x = (0..RANGE_DIGITS).map(|place| attack(Col::X, place));
    x.chain((1..RANGE_DIGITS).map(|place| attack(Col::Y, place))).collect()
}

/// No attack, as the sum of the first row is a bit all the same; it is pinned so that no cell is free.
fn upper_quarter_that_does_not_start_at_zero(cheater: &Cheater) -> Filling {
    let mut filling = cheater.fill(&[]);
    let first = filling.trace.get((Col::Y, RANGE_START + 1));
    filling.trace.set((Col::Y, RANGE_START), (first - Base::from(2)) * Base::from(4).invert().unwrap());
    filling
}

/// `ch2 + 2p` is below `2^256`, and has other low bits: a third value of `e`, which its upper half of 128 bits would allow.
/// The issuer lends its secret, so that the signature is one for this value.
fn upper_half_of_128_bits(cheater: &Cheater) -> Filling {
    let (mut trace, _) = unsigned(cheater);
    let leaf = leaf_of(&trace);
    let hash = cheater.hash_challenge(&mut trace, nonce_x(&cheater.nonce), leaf);
    let alias = plus_modulus(&plus_modulus(&hash.to_repr()));
    alias_filling(cheater, trace, &alias)
}

/// `n + p`, for as long as that is below `2^256`.
pub(super) fn plus_modulus(n: &[u8; 32]) -> [u8; 32] {
    let minus_one = (-Base::ONE).to_repr();
    let mut carry = 1u16;
    let sum = core::array::from_fn(|i| {
        carry += u16::from(n[i]) + u16::from(minus_one[i]);
        let byte = carry as u8;
        carry >>= 8;
        byte
    });
    assert_eq!(carry, 0);
    sum
}

/// Signs the challenge that the low bits of `alias` are, and fills the ranges with its upper half.
pub(super) fn alias_filling(cheater: &Cheater, mut trace: Trace, alias: &[u8; 32]) -> Filling {
    let e = &alias[..16];
    let s = cheater.nonce + cheater.secret * Scalar::from_u128(u128::from_le_bytes(e.try_into().unwrap()));
    let (r_x, _) = Chain::of([digits_of(&s.to_repr()), digits_of(e)].concat()).fill(&mut trace, cheater, honestly);
    assert_eq!(r_x, nonce_x(&cheater.nonce));
    trace.set(LOW, trace.get((Col::Z, CONSTANT)));
    fill_range(&mut trace, Col::X, Base::ZERO, &digits_of(&alias[16..24]));
    fill_range(&mut trace, Col::Y, Base::ZERO, &digits_of(&alias[24..]));
    cheater.conclude(trace)
}

/// A signature that the forger has, of a note worth little, under a note worth much.
fn signature_of_another_leaf(cheater: &Cheater) -> Filling {
    let poor = cheater.fill(&[]).trace;
    let (rich, mut trace, r_x) = enrich(cheater, &poor);
    let hash = rich.hash_challenge(&mut trace, r_x, leaf_of(&poor));
    rich.fill_ranges(&mut trace, hash);
    rich.conclude(trace)
}

fn first_challenge_hash_of_another_leaf(cheater: &Cheater) -> Filling {
    let poor = cheater.fill(&[]).trace;
    let (rich, mut trace, r_x) = enrich(cheater, &poor);
    let leaf = leaf_of(&trace);
    poseidon::fill(&mut trace, layout::CHALLENGE_1, r_x, leaf);
    let ch1 = poor.get(layout::CHALLENGE_1.output());
    let hash = poseidon::fill(&mut trace, CHALLENGE_2, ch1, rich.key.fingerprint());
    rich.fill_ranges(&mut trace, hash);
    rich.conclude(trace)
}

/// A prover with a note worth much: its cells with the chain of another note's signature, and that signature's `R.x`.
fn enrich(cheater: &Cheater, poor: &Trace) -> (Cheater, Trace, Base) {
    let much = u64::MAX / 2;
    let rich = Cheater { v: much.into(), r: Base::ZERO, change: much - cheater.charge, ..cheater.clone() };
    let mut trace = rich.fill(&[]).trace;
    for at in CELLS.iter().filter(|(col, row)| *col >= Col::Z && *row <= CHAIN_END) {
        trace.set(*at, poor.get(*at));
    }
    let r_x = poor.get((Col::X, CHAIN_END));
    (rich, trace, r_x)
}
