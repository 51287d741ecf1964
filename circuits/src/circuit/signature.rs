//! The signature chain: `R = [s]G - [e]D` in 193 incomplete additions of fixed points, four columns `z, x, y, lambda`.
//!
//! Row `i` adds to the accumulator `(x, y)` one of four points of a fixed table and leaves the sum in row `i + 1`. The digit
//! `b` in 0..=3 is `z(next) - 4 z`; the table holds `[d] T_i` with `d = 2b - 3` in `{-3, -1, 1, 3}`. The first coordinate of
//! `[d] T` is even in `d`, so it is a function of `m = b (b - 3)`, which is 0 for `d = 3, -3` and -2 for `d = 1, -1`; the second is
//! odd, so it is `b - 3/2` times such a function:
//!
//! ```text
//! -x = a + b' m        y = g + (b - 3/2) (c + e m)
//! ```
//!
//! with five fixed columns `a, b', c, e, g`. The base `T_i` is `[4^j / 2]G` for the digits of `s` (rows 0 to 127, most
//! significant first) and `-[4^j / 2]D` for those of `e` (rows 128 to 191). As `sum d_j 4^j = 2 (sum b_j 4^j) - (4^n - 1)`, the
//! digits add up to `[s]G - [e]D` but for a constant. The accumulator starts at a fixed point `S` of which nobody knows a
//! discrete logarithm; row 192 adds the constant that takes `S` and the surplus away: there `b' = c = e = 0`, so that the
//! point is `(-a, g)` whatever the digit. Row 193 holds `R`, and a `z` that is pinned to zero, as row 192's gate reads it.
//!
//! # Why incomplete addition is sound here
//!
//! The three equations of a row are `lambda (x_T - x) = y_T - y`, `x' = lambda^2 - x_T - x`, `y' = lambda (x - x') - y`. They
//! force the sum unless `x_T = x`. There are two such cases. If the accumulator is `-T`, the first equation reads `0 = 2 y_T`,
//! and no point of Pallas has `y = 0`: the row cannot be satisfied. If it is `T`, `lambda` is free: a forgery. By induction,
//! as long as no row was of the second kind, the accumulator of row `i` is `S + [u]G + [w]D` for `u, w` that the digits of
//! the rows before give, and `T` is `[u']G`, `[w']D`, or in row 192 `-S + [u'']G + [w'']D`. So a prover that reaches
//! `accumulator = T` has found an equation `[n]S = [u*]G + [w*]D` with `n` 1 or 2, hence, given `D`'s logarithm, the
//! logarithm of `S` to the base `G`; and `S` and `G` are independent outputs of a hash to the curve. An honest prover
//! meets an exceptional row with probability about 2^-246.
//!
//! # Freedoms that remain
//!
//! * `s` is any string of 128 two-bit digits: `s` and `s + q` and the others below 2^256 of that class all pass. `R` is the
//!   same for all of them.
//! * Only `R.x` enters the challenge, so `R` and `-R` pass both. The holder of a signature with `R` would need another
//!   `s`, that is the key, for `-R`.
//! * The challenge hash may be decomposed as `h + p` where that is below 2^255: one more value of `e` at most.
//!
//! A note's nullifier, share and value depend on none of them: they give nobody a second nullifier.

use std::sync::LazyLock;

use ff::{Field, PrimeField};
use group::Curve;
use halo2_proofs::circuit::{Region, Value};
use halo2_proofs::plonk::{
    Advice, Column, ConstraintSystem, Constraints, Error, Expression, Fixed, Selector, VirtualCells,
};
use halo2_proofs::poly::Rotation;
use pasta_curves::pallas::{self, Base};
use zeroize::Zeroizing;

use super::layout::{CHAIN_END, CONSTANT, Col, E_DIGITS, E_START, S_DIGITS};
use super::trace::Trace;
use crate::fixed_base::{DigitTable, start};
use crate::schnorr::{PublicKey, Signature, coordinates, generator_table};

/// The fixed points of one row: `[d] T` for `d` in `{-3, -1, 1, 3}`, or a constant. The first coordinate is held negated: its
/// gates need it so, and a negation costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    a: Base,
    b: Base,
    c: Base,
    e: Base,
    g: Base,
}

impl Row {
    /// Interpolates `[d] T` from `T`, where `b = 2` and `m = -2`, and `[3] T`, where `b = 3` and `m = 0`.
    fn of_base(one: &pallas::Affine, three: &pallas::Affine) -> Self {
        let two_thirds = Base::from(2) * *THIRD;
        let ((x1, y1), (x3, y3)) =
            (coordinates(one).expect("not the identity"), coordinates(three).expect("not the identity"));
        let (a, c) = (-x3, y3 * two_thirds);
        // At T: -x1 = a - 2b and y1 = (c - 2e) / 2.
        Self { a, b: (x1 + a) * Base::TWO_INV, c, e: c * Base::TWO_INV - y1, g: Base::ZERO }
    }

    fn of_constant(point: &pallas::Affine) -> Self {
        let (x, y) = coordinates(point).expect("not the identity");
        Self { a: -x, b: Base::ZERO, c: Base::ZERO, e: Base::ZERO, g: y }
    }

    /// The point for the digit `b`.
    pub(crate) fn at(&self, digit: Base) -> (Base, Base) {
        let m = digit * (digit - Base::from(3));
        (-(self.a + self.b * m), self.g + (digit - three_halves()) * (self.c + self.e * m))
    }

    fn columns(&self) -> [Base; 5] {
        [self.a, self.b, self.c, self.e, self.g]
    }
}

/// The rows of a table's digits, most significant first.
fn digit_rows(table: &DigitTable) -> Vec<Row> {
    table.pairs.iter().rev().map(|[one, three]| Row::of_base(one, three)).collect()
}

/// The fixed rows of the chain for the epoch key `D`: 128 of `G`, 64 of `-D`, one constant.
pub(crate) fn table(key: &PublicKey) -> Vec<Row> {
    static OF_G: LazyLock<Vec<Row>> = LazyLock::new(|| digit_rows(generator_table()));
    let of_d = DigitTable::new(-pallas::Point::from(key.point()), E_DIGITS);
    // Not the identity: `PublicKey` excludes the only D for which it is.
    let constant = (generator_table().surplus + of_d.surplus - start()).to_affine();
    let mut rows = OF_G.clone();
    rows.extend(digit_rows(&of_d));
    rows.push(Row::of_constant(&constant));
    rows
}

static THIRD: LazyLock<Base> = LazyLock::new(|| Base::from(3).invert().expect("3 is not 0"));

pub(crate) fn three_halves() -> Base {
    Base::from(3) * Base::TWO_INV
}

/// The digit that `column` adds to its sum: `next - 4 cur`.
pub(crate) fn digit_of(meta: &mut VirtualCells<'_, Base>, column: Column<Advice>) -> Expression<Base> {
    meta.query_advice(column, Rotation::next()) + meta.query_advice(column, Rotation::cur()) * -Base::from(4)
}

/// A gate's expression that is zero for `b` in 0..=3 and nowhere else.
pub(crate) fn digit_check(b: Expression<Base>) -> Expression<Base> {
    (1..4).fold(b.clone(), |product, n| product * (b.clone() + Expression::Constant(-Base::from(n))))
}

/// Columns and selectors of the chain.
#[derive(Clone, Debug)]
pub(crate) struct SignatureConfig {
    pub(super) table: [Column<Fixed>; 5],
    pub(super) add: Selector,
    pub(super) digit: Selector,
    pub(super) zero: Selector,
    first: Selector,
    pub(super) nonce: Selector,
}

impl SignatureConfig {
    /// Adds the chain's gates, five fixed columns and four selectors. `first` is the selector of row 0; `hashed` is the
    /// column whose cell in row 193 takes `R.x`. Enables equality on nothing.
    pub(crate) fn configure(
        meta: &mut ConstraintSystem<Base>,
        [z, x, y, lambda]: [Column<Advice>; 4],
        hashed: Column<Advice>,
        first: Selector,
    ) -> Self {
        let config = Self {
            table: core::array::from_fn(|_| meta.fixed_column()),
            add: meta.selector(),
            digit: meta.selector(),
            zero: meta.complex_selector(),
            first,
            nonce: meta.complex_selector(),
        };
        let (cur, next) = (Rotation::cur(), Rotation::next());
        let constant = |value: Base| Expression::Constant(value);

        meta.create_gate("signature: addition", |meta| {
            let selector = meta.query_selector(config.add);
            let b = digit_of(meta, z);
            let [a, slope, c, e, g] = config.table.map(|column| meta.query_fixed(column));
            let m = b.clone() * (b.clone() + constant(-Base::from(3)));
            let minus_x_t = a + slope * m.clone();
            let y_t = g + (b + constant(-three_halves())) * (c + e * m);
            let (x, x_next) = (meta.query_advice(x, cur), meta.query_advice(x, next));
            let (y, y_next) = (meta.query_advice(y, cur), meta.query_advice(y, next));
            let lambda = meta.query_advice(lambda, cur);
            Constraints::with_selector(
                selector,
                [
                    ("slope", lambda.clone() * (minus_x_t.clone() + x.clone()) + y_t - y.clone()),
                    ("x", lambda.clone() * lambda.clone() + minus_x_t - (x.clone() + x_next.clone())),
                    ("y", lambda * (x - x_next) - (y + y_next)),
                ],
            )
        });

        meta.create_gate("signature: digit", |meta| {
            let selector = meta.query_selector(config.digit);
            let digit = digit_of(meta, z);
            Constraints::with_selector(selector, [digit_check(digit)])
        });

        meta.create_gate("signature: z is zero", |meta| {
            let selector = meta.query_selector(config.zero);
            Constraints::with_selector(selector, [meta.query_advice(z, cur)])
        });

        let (start_x, start_y) = coordinates(&start().to_affine()).expect("not the identity");
        meta.create_gate("signature: the chain starts at S", |meta| {
            let selector = meta.query_selector(config.first);
            Constraints::with_selector(
                selector,
                [
                    ("x", meta.query_advice(x, cur) - constant(start_x)),
                    ("y", meta.query_advice(y, cur) - constant(start_y)),
                ],
            )
        });

        meta.create_gate("signature: R.x is what is hashed", |meta| {
            let selector = meta.query_selector(config.nonce);
            Constraints::with_selector(selector, [meta.query_advice(hashed, cur) - meta.query_advice(x, cur)])
        });

        config
    }

    /// Fixes table and selectors. `range` are the rows in which `z` goes on with a range.
    pub(crate) fn assign(
        &self,
        region: &mut Region<'_, Base>,
        table: &[Row],
        range: core::ops::Range<usize>,
    ) -> Result<(), Error> {
        for (at, row) in table.iter().enumerate() {
            for (column, value) in self.table.iter().zip(row.columns()) {
                region.assign_fixed(|| "table", *column, at, || Value::known(value))?;
            }
            self.add.enable(region, at)?;
        }
        for at in (0..CONSTANT).chain(range.clone()) {
            self.digit.enable(region, at)?;
        }
        self.zero.enable(region, E_START)?;
        self.zero.enable(region, CHAIN_END)?;
        self.zero.enable(region, range.start)?;
        self.nonce.enable(region, CHAIN_END)
    }
}

/// The `n` two-bit digits of a little-endian number, most significant first.
pub(crate) fn digits(bytes: &[u8], n: usize) -> impl Iterator<Item = u64> {
    (0..n).rev().map(|i| u64::from(bytes[i / 4] >> (2 * (i % 4)) & 3))
}

/// Fills the chain's cells for any string of digits of `s` and returns `R`.
pub(crate) fn fill(trace: &mut Trace, table: &[Row], signature: &Signature) -> (Base, Base) {
    let s = Zeroizing::new(signature.s().to_repr());
    let e = Zeroizing::new(signature.e().to_le_bytes());
    // The sum over the digits of s must be zero where that of e starts; its own start is what makes it so.
    let four_n = (0..S_DIGITS).fold(Base::ONE, |power, _| power.double().double());
    let s_sum = digits(&*s, S_DIGITS).fold(Base::ZERO, |sum, digit| sum.double().double() + Base::from(digit));
    let mut z = -s_sum * four_n.invert().expect("a power of 4 is not 0");
    let (start_x, start_y) = coordinates(&start().to_affine()).expect("not the identity");
    let (mut x, mut y) = (trace.wire(start_x), trace.wire(start_y));
    trace.set((Col::X, 0), x);
    trace.set((Col::Y, 0), y);

    let all = digits(&*s, S_DIGITS).chain(digits(&*e, E_DIGITS)).map(Base::from);
    for (row, digit) in all.chain([Base::ZERO]).enumerate() {
        if row == E_START {
            // Zero up to the lie of a test.
            z = trace.wire(z);
        }
        trace.set((Col::Z, row), z);
        // The last row has no digit, and its point depends on none.
        let digit = if row < CONSTANT { trace.wire(digit) } else { digit };
        (x, y) = add(trace, row, &table[row], digit, (x, y));
        z = z.double().double() + digit;
    }
    let z = trace.wire(Base::ZERO);
    trace.set((Col::Z, CHAIN_END), z);
    (x, y)
}

/// Fills `lambda` of a row and `(x, y)` of the next.
fn add(trace: &mut Trace, row: usize, fixed: &Row, digit: Base, (x, y): (Base, Base)) -> (Base, Base) {
    let (x_t, y_t) = fixed.at(digit);
    // Not invertible only in an exceptional case, which then fails to verify.
    let run = (x_t - x).invert().unwrap_or(Base::ZERO);
    let lambda = trace.wire((y_t - y) * run);
    let next_x = trace.wire(lambda.square() - x_t - x);
    let next_y = trace.wire(lambda * (x - next_x) - y);
    trace.set((Col::Lambda, row), lambda);
    trace.set((Col::X, row + 1), next_x);
    trace.set((Col::Y, row + 1), next_y);
    (next_x, next_y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Leaf;
    use crate::schnorr::{SigningKey, generator};
    use group::Group;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn tables_agree_with_native_multiplication() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let key = SigningKey::generate(&mut rng).public_key();
        let table = table(&key);
        assert_eq!(table.len(), CHAIN_END);
        let half = pallas::Scalar::TWO_INV;
        let mut surplus = pallas::Point::identity();
        for (base, first, digits) in
            [(generator(), 0, S_DIGITS), (-pallas::Point::from(key.point()), E_START, E_DIGITS)]
        {
            let mut power = pallas::Scalar::ONE;
            for row in (first..first + digits).rev() {
                for (d, plus, minus) in [(1u64, 2u64, 1u64), (3, 3, 0)] {
                    let point = (base * (half * power * pallas::Scalar::from(d))).to_affine();
                    let (x, y) = coordinates(&point).unwrap();
                    assert_eq!(table[row].at(Base::from(plus)), (x, y));
                    assert_eq!(table[row].at(Base::from(minus)), (x, -y));
                }
                surplus += base * (half * power * pallas::Scalar::from(3));
                power = power.double().double();
            }
        }
        let constant = coordinates(&(surplus - start()).to_affine()).unwrap();
        for digit in 0..4 {
            assert_eq!(table[CONSTANT].at(Base::from(digit)), constant);
        }
    }

    #[test]
    fn the_chain_computes_the_nonce_point() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        for n in 0..8u64 {
            let key = SigningKey::generate(&mut rng);
            let leaf = Leaf::from_value(Base::from(n));
            let signature = key.sign(&leaf);
            let mut trace = Trace::empty();
            let r = fill(&mut trace, &table(&key.public_key()), &signature);
            assert_eq!(Some(r), key.public_key().nonce_point(&signature));
            assert_eq!(trace.get((Col::Z, E_START)), Base::ZERO);
            assert_eq!(trace.get((Col::Z, CONSTANT)), Base::from_u128(signature.e()));
        }
    }

    #[test]
    fn start_and_generator_are_unrelated_hashes() {
        assert_ne!(start(), generator());
        assert_ne!(start(), -generator());
        assert!(!bool::from(start().is_identity()));
    }
}
