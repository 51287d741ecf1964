//! The Poseidon lane: one permutation in 23 rows of four columns.
//!
//! ```text
//! row 0..=3    state before full rounds 0 to 3 (p0, p1, p2)
//! row 4..=17   S-box inputs of the 56 partial rounds, four a row (p0, p1, p2, p3)
//! row 18..=21  state before full rounds 60 to 63
//! row 22       the result; its p0 is the hash
//! ```
//!
//! The first row's `p2` is zero; the tag is added to its round constant. A hash with one input has `p1` zero as well; a
//! constant second input is added to the round constant of `p1`.
//!
//! # Why four S-box inputs a row determine the partial rounds
//!
//! Write the matrix as `M = [[m, r], [c, B]]` (`m` a number, `r` a row, `c` a column, `B` 2x2), and let `(u_i, W_i)` be the
//! state of partial round `i` after its constants were added. Only `u_i` goes through the S-box:
//!
//! ```text
//! u_{i+1} = m u_i^5 + r W_i + const        W_{i+1} = c u_i^5 + B W_i + const
//! ```
//!
//! So `r W_i` can be read off `u_i` and `u_{i+1}`, and `r B W_i` off `u_i`, `u_{i+1}`, `u_{i+2}`. With `O = [r; rB]`
//! invertible (a test asserts it) these two determine `W_i`, hence:
//!
//! * *in*: `u_0, u_1, u_2` correspond one to one to the state that full round 3 leaves. Its gate states that this state is
//!   that of the S-boxes of row 3.
//! * *through*: by Cayley and Hamilton, `B^2 = tB - d` with `t` the trace and `d` the determinant of `B`; applied to `r W_i`
//!   it gives the recurrence
//!   `u_{i+3} = t u_{i+2} - d u_{i+1} + m u_{i+2}^5 + (rc - tm) u_{i+1}^5 + (dm + rBc - t rc) u_i^5 + K_i`,
//!   where `rc` is the product of row and column and `K_i` a constant. It fixes `u_3` to `u_55` one after another.
//! * *out*: `W_55` is again a linear function of `u_53, u_54, u_55` and their fifth powers, and the state before full round 60
//!   is `M (u_55^5, W_55)`.
//!
//! Each statement is an equivalence, so the gates hold for exactly the runs of the permutation. The full rounds are stated
//! through the inverse matrix, `(M^-1 next)_j = (p_j + rc_j)^5`, one S-box a gate instead of three.

use std::sync::LazyLock;

use ff::Field;
use halo2_proofs::circuit::Region;
use halo2_proofs::plonk::{
    Advice, Column, ConstraintSystem, Constraints, Error, Expression, Fixed, Selector, VirtualCells,
};
use halo2_proofs::poly::Rotation;
use pasta_curves::pallas::Base;

use zeroize::Zeroizing;

use super::layout::{Block, Col};
use super::trace::Trace;
use crate::hash::{CONSTANTS, HALF_FULL_ROUNDS, PARTIAL_ROUNDS, mul3, pow5};

/// Rows of a permutation, the one of its result included.
pub(crate) const ROWS: usize = 23;
const WIDTH: usize = 4;
const PARTIAL_ROWS: usize = PARTIAL_ROUNDS / WIDTH;
const FIRST_PARTIAL: usize = HALF_FULL_ROUNDS;
const LAST_PARTIAL: usize = FIRST_PARTIAL + PARTIAL_ROWS - 1;
const _: () = assert!(ROWS == 2 * HALF_FULL_ROUNDS + PARTIAL_ROWS + 1 && PARTIAL_ROUNDS.is_multiple_of(WIDTH));

pub(crate) const fn is_partial_row(row: usize) -> bool {
    row >= FIRST_PARTIAL && row <= LAST_PARTIAL
}

/// A linear function of S-box inputs, their fifth powers, and one.
pub(crate) struct Form<const N: usize> {
    pub(crate) linear: [Base; N],
    pub(crate) fifth: [Base; N],
    pub(crate) constant: Base,
}

impl<const N: usize> Form<N> {
    /// The form that agrees with `f` everywhere, where `f(u, u^5)` is known to be affine in its arguments.
    fn of(f: impl Fn(&[Base; N], &[Base; N]) -> Base) -> Self {
        let zero = [Base::ZERO; N];
        let unit = |i| core::array::from_fn(|j| if i == j { Base::ONE } else { Base::ZERO });
        let constant = f(&zero, &zero);
        Self {
            linear: core::array::from_fn(|i| f(&unit(i), &zero) - constant),
            fifth: core::array::from_fn(|i| f(&zero, &unit(i)) - constant),
            constant,
        }
    }

    fn negated(&self) -> Self {
        Self { linear: self.linear.map(|c| -c), fifth: self.fifth.map(|c| -c), constant: -self.constant }
    }

    /// `rest` less the form. The sign goes into the coefficients: a negation would cost the prover a multiplication in each
    /// of 2,048 places.
    fn subtracted_from(&self, rest: Expression<Base>, u: &[Expression<Base>; N]) -> Expression<Base> {
        let mut sum = rest;
        if !bool::from(self.constant.is_zero()) {
            sum = sum + Expression::Constant(-self.constant);
        }
        for (i, u) in u.iter().enumerate() {
            for (coefficient, term) in [(self.linear[i], u.clone()), (self.fifth[i], fifth_power(u))] {
                if !bool::from(coefficient.is_zero()) {
                    sum = sum + term * -coefficient;
                }
            }
        }
        sum
    }
}

fn fifth_power(e: &Expression<Base>) -> Expression<Base> {
    let square = e.clone() * e.clone();
    square.clone() * square * e.clone()
}

/// The parts of the matrix, and what follows from them.
struct Algebra {
    m: Base,
    r: [Base; 2],
    c: [Base; 2],
    b: [[Base; 2]; 2],
    observe_inv: [[Base; 2]; 2],
    /// `u_{i+3}` but for `K_i`, of `u_i, u_{i+1}, u_{i+2}`.
    recurrence: Form<3>,
    /// `K_i`, for `u_{i+3}`.
    constants: Vec<Base>,
}

type Pair = [Base; 2];

fn dot(a: &Pair, b: &Pair) -> Base {
    a[0] * b[0] + a[1] * b[1]
}

fn mul2(m: &[Pair; 2], v: &Pair) -> Pair {
    [dot(&m[0], v), dot(&m[1], v)]
}

fn determinant(m: &[Pair; 2]) -> Base {
    m[0][0] * m[1][1] - m[0][1] * m[1][0]
}

/// Round constants of partial round `i`.
fn partial_constants(i: usize) -> [Base; 3] {
    CONSTANTS.round[HALF_FULL_ROUNDS + i]
}

static ALGEBRA: LazyLock<Algebra> = LazyLock::new(|| {
    let mds = &CONSTANTS.mds;
    let m = mds[0][0];
    let r = [mds[0][1], mds[0][2]];
    let c = [mds[1][0], mds[2][0]];
    let b = [[mds[1][1], mds[1][2]], [mds[2][1], mds[2][2]]];
    let transposed = [[b[0][0], b[1][0]], [b[0][1], b[1][1]]];
    let observe = [r, mul2(&transposed, &r)];
    let inverse = determinant(&observe).invert().expect("the partial rounds are observable: a property of the matrix");
    let observe_inv =
        [[observe[1][1] * inverse, -observe[0][1] * inverse], [-observe[1][0] * inverse, observe[0][0] * inverse]];
    let (t, d) = (b[0][0] + b[1][1], determinant(&b));
    let rc = dot(&r, &c);
    let recurrence = Form {
        linear: [Base::ZERO, -d, t],
        fifth: [d * m + dot(&r, &mul2(&b, &c)) - t * rc, rc - t * m, m],
        constant: Base::ZERO,
    };
    let mut algebra = Algebra { m, r, c, b, observe_inv, recurrence, constants: Vec::new() };
    // K_i is what the recurrence lacks on any run; take the one from the zero state.
    algebra.constants = (0..PARTIAL_ROUNDS - 3)
        .map(|i| {
            let mut u = [Base::ZERO; 4];
            let mut w = [Base::ZERO; 2];
            for j in 0..3 {
                (u[j + 1], w) = algebra.partial_round(i + j, pow5(u[j]), &w);
            }
            u[3] - algebra.recur(&[u[0], u[1], u[2]], Base::ZERO)
        })
        .collect();
    algebra
});

impl Algebra {
    /// `(u_{i+1}, W_{i+1})` of `u_i^5` and `W_i`.
    fn partial_round(&self, i: usize, fifth: Base, w: &Pair) -> (Base, Pair) {
        let rc = partial_constants(i + 1);
        let bw = mul2(&self.b, w);
        (
            self.m * fifth + dot(&self.r, w) + rc[0],
            [self.c[0] * fifth + bw[0] + rc[1], self.c[1] * fifth + bw[1] + rc[2]],
        )
    }

    fn recur(&self, u: &[Base; 3], constant: Base) -> Base {
        (0..3).fold(constant, |sum, i| sum + self.recurrence.linear[i] * u[i] + self.recurrence.fifth[i] * pow5(u[i]))
    }

    /// `W_i` of `u_i, u_{i+1}, u_{i+2}`, with the fifth powers taken as arguments of their own.
    fn hidden(&self, i: usize, u: &[Base; 3], fifth: &[Base; 3]) -> Pair {
        // With W = 0 the rounds give the offsets; what is over is r W and r B W.
        let (u1, w1) = self.partial_round(i, fifth[0], &[Base::ZERO; 2]);
        let (u2, _) = self.partial_round(i + 1, fifth[1], &w1);
        mul2(&self.observe_inv, &[u[1] - u1, u[2] - u2])
    }

    /// The S-box outputs of row 3 that lead to `u_0, u_1, u_2`.
    fn entry(&self, j: usize) -> Form<3> {
        Form::of(|u, fifth| {
            let rc = partial_constants(0);
            let w = self.hidden(0, u, fifth);
            mul3(&CONSTANTS.mds_inv, &[u[0] - rc[0], w[0] - rc[1], w[1] - rc[2]])[j]
        })
    }

    /// `W_55` of `u_53, u_54, u_55`: word `j`.
    fn exit(&self, j: usize) -> Form<3> {
        Form::of(|u, fifth| {
            let w = self.hidden(PARTIAL_ROUNDS - 3, u, fifth);
            let (_, w) = self.partial_round(PARTIAL_ROUNDS - 3, fifth[0], &w);
            let (_, w) = self.partial_round(PARTIAL_ROUNDS - 2, fifth[1], &w);
            w[j]
        })
    }

    /// Two combinations of the words of `W_55`, with their weights, such that each has one S-box less: the first is free of
    /// `u_53^5` and the second of `u_54^5`. They are independent (a test asserts it), so that they say as much.
    fn exits(&self) -> [([Base; 2], Form<3>); 2] {
        let words = [self.exit(0), self.exit(1)];
        [0, 1].map(|i| {
            let weights = [words[1].fifth[i], -words[0].fifth[i]];
            let combine = |pick: fn(&Form<3>) -> [Base; 3]| -> [Base; 3] {
                core::array::from_fn(|k| weights[0] * pick(&words[0])[k] + weights[1] * pick(&words[1])[k])
            };
            let form = Form {
                linear: combine(|form| form.linear),
                fifth: combine(|form| form.fifth),
                constant: weights[0] * words[0].constant + weights[1] * words[1].constant,
            };
            (weights, form)
        })
    }
}

/// Columns and selectors of the lane.
#[derive(Clone, Debug)]
pub(crate) struct PoseidonConfig {
    pub(super) constants: [Column<Fixed>; WIDTH],
    pub(super) full: Selector,
    pub(super) enter: Selector,
    pub(super) partial: Selector,
    pub(super) leave: Selector,
    pub(super) capacity: Selector,
    pub(super) single: Selector,
}

impl PoseidonConfig {
    /// Adds the lane's gates over `lane`, four fixed columns and six selectors. Enables equality on nothing.
    pub(crate) fn configure(meta: &mut ConstraintSystem<Base>, lane: [Column<Advice>; WIDTH]) -> Self {
        let config = Self {
            constants: core::array::from_fn(|_| meta.fixed_column()),
            full: meta.selector(),
            enter: meta.selector(),
            partial: meta.selector(),
            leave: meta.selector(),
            capacity: meta.complex_selector(),
            single: meta.complex_selector(),
        };
        let algebra = &*ALGEBRA;
        let mds_inv = &CONSTANTS.mds_inv;
        let cells = |meta: &mut VirtualCells<'_, Base>, width: usize, rotation| -> Vec<Expression<Base>> {
            lane[..width].iter().map(|column| meta.query_advice(*column, rotation)).collect()
        };
        let constants = |meta: &mut VirtualCells<'_, Base>| -> [Expression<Base>; WIDTH] {
            config.constants.map(|column| meta.query_fixed(column))
        };
        // What the S-boxes gave if `next` is the state after the matrix, taken from `rest`.
        let less_boxed = |rest: Expression<Base>, next: &[Expression<Base>], coefficients: &[Base; 3]| {
            next.iter().zip(coefficients).fold(rest, |sum, (word, c)| sum + word.clone() * -*c)
        };

        meta.create_gate("poseidon: full round", |meta| {
            let selector = meta.query_selector(config.full);
            let (cur, next) = (cells(meta, 3, Rotation::cur()), cells(meta, 3, Rotation::next()));
            let rc = constants(meta);
            let words = (0..3)
                .map(|j| less_boxed(fifth_power(&(cur[j].clone() + rc[j].clone())), &next, &mds_inv[j]))
                .collect::<Vec<_>>();
            Constraints::with_selector(selector, words)
        });

        meta.create_gate("poseidon: into the partial rounds", |meta| {
            let selector = meta.query_selector(config.enter);
            let (cur, next) = (cells(meta, 3, Rotation::cur()), cells(meta, 4, Rotation::next()));
            let rc = constants(meta);
            let u = [next[0].clone(), next[1].clone(), next[2].clone()];
            let mut all = (0..3)
                .map(|j| algebra.entry(j).subtracted_from(fifth_power(&(cur[j].clone() + rc[j].clone())), &u))
                .collect::<Vec<_>>();
            all.push(algebra.recurrence.subtracted_from(next[3].clone() + rc[3].clone(), &u));
            Constraints::with_selector(selector, all)
        });

        meta.create_gate("poseidon: partial rounds", |meta| {
            let selector = meta.query_selector(config.partial);
            let (cur, next) = (cells(meta, 4, Rotation::cur()), cells(meta, 4, Rotation::next()));
            let rc = constants(meta);
            let u: Vec<_> = cur.iter().chain(&next).collect();
            let all = (0..WIDTH)
                .map(|j| {
                    let u: [_; 3] = core::array::from_fn(|i| u[j + 1 + i].clone());
                    algebra.recurrence.subtracted_from(next[j].clone() + rc[j].clone(), &u)
                })
                .collect::<Vec<_>>();
            Constraints::with_selector(selector, all)
        });

        meta.create_gate("poseidon: out of the partial rounds", |meta| {
            let selector = meta.query_selector(config.leave);
            let (cur, next) = (cells(meta, 4, Rotation::cur()), cells(meta, 3, Rotation::next()));
            let u = [cur[1].clone(), cur[2].clone(), cur[3].clone()];
            let mut all = vec![less_boxed(fifth_power(&u[2]), &next, &mds_inv[0])];
            for (weights, form) in algebra.exits() {
                let combined = core::array::from_fn(|k| weights[0] * mds_inv[1][k] + weights[1] * mds_inv[2][k]);
                let form = form.negated();
                all.push(less_boxed(form.subtracted_from(Expression::Constant(Base::ZERO), &u), &next, &combined));
            }
            Constraints::with_selector(selector, all)
        });

        meta.create_gate("poseidon: the capacity word starts as its tag", |meta| {
            let selector = meta.query_selector(config.capacity);
            Constraints::with_selector(selector, [meta.query_advice(lane[2], Rotation::cur())])
        });

        meta.create_gate("poseidon: the second input is fixed", |meta| {
            let selector = meta.query_selector(config.single);
            Constraints::with_selector(selector, [meta.query_advice(lane[1], Rotation::cur())])
        });

        config
    }

    /// Fixes constants and selectors of a permutation; `second` is the second input of a block with one input.
    pub(crate) fn assign(&self, region: &mut Region<'_, Base>, block: Block, second: Base) -> Result<(), Error> {
        let start = block.start;
        self.capacity.enable(region, start)?;
        if block.single {
            self.single.enable(region, start)?;
        }
        for row in 0..ROWS - 1 {
            let at = start + row;
            let constants: [Base; WIDTH] = if !is_partial_row(row) {
                let [a, mut b, mut c] = CONSTANTS.round[round_of(row)];
                if row == 0 {
                    b += second;
                    c += block.tag.capacity();
                }
                let entering = row + 1 == FIRST_PARTIAL;
                if entering {
                    self.enter.enable(region, at)?
                } else {
                    self.full.enable(region, at)?
                }
                [a, b, c, if entering { -ALGEBRA.constants[0] } else { Base::ZERO }]
            } else if row < LAST_PARTIAL {
                self.partial.enable(region, at)?;
                let first = WIDTH * (row - FIRST_PARTIAL) + 1;
                core::array::from_fn(|j| -ALGEBRA.constants[first + j])
            } else {
                self.leave.enable(region, at)?;
                [Base::ZERO; WIDTH]
            };
            for (column, constant) in self.constants.iter().zip(constants) {
                region.assign_fixed(
                    || "round constant",
                    *column,
                    at,
                    || halo2_proofs::circuit::Value::known(constant),
                )?;
            }
        }
        Ok(())
    }
}

/// The forms that the gates of the partial rounds state: what a prover and a verifier of our own evaluate.
pub(crate) struct Forms {
    /// The S-box outputs of row 3, of `u_0, u_1, u_2`.
    pub(crate) entry: [Form<3>; 3],
    /// `u_{i+3}` but for its constant, of `u_i, u_{i+1}, u_{i+2}`.
    pub(crate) recurrence: Form<3>,
    /// Two combinations of the words of `W_55`, of `u_53, u_54, u_55`, with their weights.
    pub(crate) exits: [([Base; 2], Form<3>); 2],
}

impl Forms {
    pub(crate) fn new() -> Self {
        let Form { linear, fifth, constant } = ALGEBRA.recurrence;
        Self {
            entry: core::array::from_fn(|j| ALGEBRA.entry(j)),
            recurrence: Form { linear, fifth, constant },
            exits: ALGEBRA.exits(),
        }
    }
}

/// The round whose input state lies in a row of full rounds.
fn round_of(row: usize) -> usize {
    if row < FIRST_PARTIAL { row } else { row - LAST_PARTIAL - 1 + HALF_FULL_ROUNDS + PARTIAL_ROUNDS }
}

/// Fills the cells of a permutation of `[first, second, tag]` and returns the hash. `second` is the constant of a block
/// with one input.
pub(crate) fn fill(trace: &mut Trace, block: Block, first: Base, second: Base) -> Base {
    let algebra = &*ALGEBRA;
    let start = block.start;
    let put = |trace: &mut Trace, row: usize, values: &[Base]| {
        for (col, value) in Col::LANE.iter().zip(values) {
            trace.set((*col, start + row), *value);
        }
    };
    let (in_cell, in_constant) = if block.single { (Base::ZERO, second) } else { (second, Base::ZERO) };
    let second_cell = trace.wire(in_cell);
    let capacity_cell = trace.wire(Base::ZERO);
    let mut state = [first, second_cell, capacity_cell];
    put(trace, 0, &state);
    // What the constants of the first round add.
    state[1] += in_constant;
    state[2] += block.tag.capacity();

    let full_round = |trace: &mut Trace, row: usize, state: [Base; 3]| -> [Base; 3] {
        let rc = CONSTANTS.round[round_of(row)];
        let boxed = core::array::from_fn(|j| trace.wire(pow5(state[j] + rc[j])));
        mul3(&CONSTANTS.mds, &boxed)
    };
    for row in 0..FIRST_PARTIAL - 1 {
        state = full_round(trace, row, state);
        put(trace, row + 1, &state);
    }
    state = full_round(trace, FIRST_PARTIAL - 1, state);

    let rc = partial_constants(0);
    // Three of these give the whole state, and with it the inputs. The capacity is all it needs: it never moves.
    let mut u = Zeroizing::new(Vec::with_capacity(PARTIAL_ROUNDS));
    u.push(state[0] + rc[0]);
    let mut w = [state[1] + rc[1], state[2] + rc[2]];
    for i in 0..2 {
        let (next, next_w) = algebra.partial_round(i, pow5(u[i]), &w);
        u.push(next);
        w = next_w;
    }
    for i in 0..PARTIAL_ROUNDS - 3 {
        let next = algebra.recur(&[u[i], u[i + 1], u[i + 2]], algebra.constants[i]);
        u.push(trace.wire(next));
    }
    for (i, four) in u.chunks(WIDTH).enumerate() {
        put(trace, FIRST_PARTIAL + i, four);
    }

    let last = [u[PARTIAL_ROUNDS - 3], u[PARTIAL_ROUNDS - 2], u[PARTIAL_ROUNDS - 1]];
    let fifth = last.map(pow5);
    let w = algebra.hidden(PARTIAL_ROUNDS - 3, &last, &fifth);
    let (_, w) = algebra.partial_round(PARTIAL_ROUNDS - 3, fifth[0], &w);
    let (_, w) = algebra.partial_round(PARTIAL_ROUNDS - 2, fifth[1], &w);
    state = mul3(&CONSTANTS.mds, &[trace.wire(fifth[2]), trace.wire(w[0]), trace.wire(w[1])]);
    put(trace, LAST_PARTIAL + 1, &state);
    for row in LAST_PARTIAL + 1..ROWS - 1 {
        state = full_round(trace, row, state);
        put(trace, row + 1, &state);
    }
    state[0]
}

/// The weights with which the gate out of the partial rounds states the two words of `W_55`.
#[cfg(test)]
pub(crate) fn exit_weights() -> [[Base; 2]; 2] {
    ALGEBRA.exits().map(|(weights, _)| weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::permute;

    #[test]
    fn the_partial_rounds_are_observable() {
        // ALGEBRA's construction inverts the matrix; here it is checked to be the inverse.
        let a = &*ALGEBRA;
        let transposed = [[a.b[0][0], a.b[1][0]], [a.b[0][1], a.b[1][1]]];
        let observe = [a.r, mul2(&transposed, &a.r)];
        for (i, row) in observe.iter().enumerate() {
            for j in 0..2 {
                let product = row[0] * a.observe_inv[0][j] + row[1] * a.observe_inv[1][j];
                assert_eq!(product, if i == j { Base::ONE } else { Base::ZERO });
            }
        }
    }

    #[test]
    fn the_words_that_leave_the_partial_rounds_are_both_stated() {
        let [(a, form_a), (b, form_b)] = ALGEBRA.exits();
        assert_ne!(a[0] * b[1], a[1] * b[0]);
        assert_eq!((form_a.fifth[0], form_b.fifth[1]), (Base::ZERO, Base::ZERO));
    }

    #[test]
    fn the_lane_computes_the_permutation() {
        use super::super::layout::{CHALLENGE_2, SLOPE};
        for n in 0..16u64 {
            let (a, b) = (Base::from(n), Base::from(n * n + 7).square());
            for block in [SLOPE, CHALLENGE_2] {
                let mut trace = Trace::empty();
                let hash = fill(&mut trace, block, a, b);
                let expected = permute([a, b, block.tag.capacity()]);
                assert_eq!(hash, expected[0]);
                for (col, word) in Col::LANE.iter().zip(expected) {
                    assert_eq!(trace.get((*col, block.landing())), word);
                }
            }
        }
    }
}
