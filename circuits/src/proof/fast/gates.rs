//! The circuit's gates as numbers: one source for the prover, which evaluates them in 1,280 places, and for the verifier,
//! which does so in one.
//!
//! What is evaluated is a weighted sum of the 33 polynomials, in the order in which the circuit creates them. The weights go
//! into the coefficients of what is linear, once for all places, and a fifth power is taken once for all gates that use it.
//! The coefficients are those that the circuit builds its own expressions from ([`Forms`]). A test evaluates each polynomial
//! alone at random places and compares it with the expression that the verifying key is made of.

use std::sync::LazyLock;

use ff::Field;
use group::Curve;

use super::super::sums::Scalar;
use super::domain::powers;
use crate::circuit::{Col, FIXED, Forms, power_of_two, three_halves};
use crate::fixed_base::start;
use crate::hash::{CONSTANTS, pow5};
use crate::schnorr::coordinates;

/// Polynomials of all gates.
pub(in crate::proof) const GATES: usize = 33;
/// What is divided by `X^256 - 1`: the gates, and three polynomials of the permutation.
pub(in crate::proof) const EXPRESSIONS: usize = GATES + 3;

/// What the gates read in one place.
pub(in crate::proof) struct Cells {
    /// The advice columns, in their order.
    pub(in crate::proof) now: [Scalar; Col::COUNT],
    /// All but the last of them in the next row.
    pub(in crate::proof) next: [Scalar; Col::COUNT - 1],
    /// The fifth powers of the lane's four columns, and of the first three in the next row.
    pub(in crate::proof) now_fifth: [Scalar; 4],
    pub(in crate::proof) next_fifth: [Scalar; 3],
    pub(in crate::proof) fixed: [Scalar; FIXED],
    pub(in crate::proof) instance: Scalar,
}

/// Coefficients of linear terms and fifth powers.
#[derive(Clone, Copy)]
struct Sum<const N: usize> {
    linear: [Scalar; N],
    fifth: [Scalar; N],
    constant: Scalar,
}

impl<const N: usize> Sum<N> {
    const ZERO: Self = Self { linear: [Scalar::ZERO; N], fifth: [Scalar::ZERO; N], constant: Scalar::ZERO };
}

/// What the circuit's expressions are made of, computed once.
struct Constants {
    forms: Forms,
    start: (Scalar, Scalar),
    three_halves: Scalar,
    /// `2^128` and `2^192`.
    powers: [Scalar; 2],
}

static CONSTANTS_OF_GATES: LazyLock<Constants> = LazyLock::new(|| Constants {
    forms: Forms::new(),
    start: coordinates(&start().to_affine()).expect("not the identity"),
    three_halves: three_halves(),
    powers: [128, 192].map(power_of_two),
});

/// The gates, with the weights of their polynomials.
pub(in crate::proof) struct Gates {
    weights: [Scalar; GATES],
    /// On the next row's words, in a full round.
    full: [Scalar; 3],
    /// On the next row's words, into the partial rounds.
    enter: Sum<3>,
    /// On this row's last three words and the next row's four: the first and last have no fifth power.
    partial: Sum<7>,
    /// On this row's last three words, and on the next row's words, out of the partial rounds.
    leave: Sum<3>,
    leave_next: [Scalar; 3],
    start: (Scalar, Scalar),
    /// `-2^128` and `-2^192`, weighted.
    split: [Scalar; 2],
    three_halves: Scalar,
}

/// `1`, `y` and on, the last polynomial with 1: the weights with which the quotient is built.
pub(in crate::proof) fn weights(y: Scalar) -> [Scalar; EXPRESSIONS] {
    let powers = powers(y, EXPRESSIONS);
    core::array::from_fn(|i| powers[EXPRESSIONS - 1 - i])
}

fn two_bits(b: Scalar) -> (Scalar, Scalar) {
    // b (b - 1) (b - 2) (b - 3) = m (m + 2) with m = b (b - 3).
    let m = b * (b - THREE);
    (m, m * (m + TWO))
}

const TWO: Scalar = Scalar::from_raw([2, 0, 0, 0]);
const THREE: Scalar = Scalar::from_raw([3, 0, 0, 0]);

impl Gates {
    /// The sum of the polynomials, each times its weight.
    pub(in crate::proof) fn new(weights: [Scalar; GATES]) -> Self {
        let Constants { forms, start, three_halves, powers } = &*CONSTANTS_OF_GATES;
        let inverse = &CONSTANTS.mds_inv;
        let w = &weights;

        let full = core::array::from_fn(|i| -(0..3).fold(Scalar::ZERO, |sum, j| sum + w[3 + j] * inverse[j][i]));

        let mut enter = Sum::ZERO;
        for (weight, form) in w[6..10].iter().zip(forms.entry.iter().chain([&forms.recurrence])) {
            for i in 0..3 {
                enter.linear[i] -= *weight * form.linear[i];
                enter.fifth[i] -= *weight * form.fifth[i];
            }
            enter.constant -= *weight * form.constant;
        }

        let mut partial = Sum::ZERO;
        for (j, weight) in w[10..14].iter().enumerate() {
            partial.linear[3 + j] += weight;
            for i in 0..3 {
                partial.linear[j + i] -= *weight * forms.recurrence.linear[i];
                partial.fifth[j + i] -= *weight * forms.recurrence.fifth[i];
            }
        }

        let mut leave = Sum::ZERO;
        leave.fifth[2] = w[14];
        let mut leave_next = inverse[0].map(|c| -(w[14] * c));
        for (weight, (words, form)) in w[15..17].iter().zip(&forms.exits) {
            for i in 0..3 {
                leave.linear[i] += *weight * form.linear[i];
                leave.fifth[i] += *weight * form.fifth[i];
                leave_next[i] -= *weight * (words[0] * inverse[1][i] + words[1] * inverse[2][i]);
            }
            leave.constant += *weight * form.constant;
        }

        Self {
            full,
            enter,
            partial,
            leave,
            leave_next,
            start: *start,
            split: powers.map(|power| -(w[32] * power)),
            three_halves: *three_halves,
            weights,
        }
    }

    /// The weighted sum in one place.
    #[inline(always)]
    pub(in crate::proof) fn at(&self, cells: &Cells) -> Scalar {
        let w = &self.weights;
        let [p0, p1, p2, p3, z, x, y, lambda] = cells.now;
        let [n0, n1, n2, n3, z_next, x_next, y_next] = cells.next;
        let [_, f1, f2, f3] = cells.now_fifth;
        let [g0, g1, g2] = cells.next_fifth;
        let instance = cells.instance;
        let [
            c0,
            c1,
            c2,
            c3,
            a,
            b,
            c,
            e,
            g,
            first,
            bound,
            balance,
            capacity,
            single,
            zero,
            nonce,
            start,
            split,
            rest @ ..,
        ] = cells.fixed;
        let [full, enter, partial, leave, chain, digit] = rest;

        // The lane.
        let boxed = [pow5(p0 + c0), pow5(p1 + c1), pow5(p2 + c2)];
        let mut sum = full
            * (w[3] * boxed[0]
                + w[4] * boxed[1]
                + w[5] * boxed[2]
                + self.full[0] * n0
                + self.full[1] * n1
                + self.full[2] * n2);
        let into = &self.enter;
        sum += enter
            * (w[6] * boxed[0]
                + w[7] * boxed[1]
                + w[8] * boxed[2]
                + w[9] * (n3 + c3)
                + into.linear[0] * n0
                + into.linear[1] * n1
                + into.linear[2] * n2
                + into.fifth[0] * g0
                + into.fifth[1] * g1
                + into.fifth[2] * g2
                + into.constant);
        let through = &self.partial;
        sum += partial
            * (w[10] * c0
                + w[11] * c1
                + w[12] * c2
                + w[13] * c3
                + through.linear[0] * p1
                + through.linear[1] * p2
                + through.linear[2] * p3
                + through.linear[3] * n0
                + through.linear[4] * n1
                + through.linear[5] * n2
                + through.linear[6] * n3
                + through.fifth[0] * f1
                + through.fifth[1] * f2
                + through.fifth[2] * f3
                + through.fifth[3] * g0
                + through.fifth[4] * g1
                + through.fifth[5] * g2);
        let out = &self.leave;
        sum += leave
            * (out.linear[0] * p1
                + out.linear[1] * p2
                + out.linear[2] * p3
                + out.fifth[0] * f1
                + out.fifth[1] * f2
                + out.fifth[2] * f3
                + self.leave_next[0] * n0
                + self.leave_next[1] * n1
                + self.leave_next[2] * n2
                + out.constant);
        sum += capacity * (w[17] * p2) + single * (w[18] * p1);

        // The header, and the start of the chain, which has the same selector.
        sum += first * (w[0] * (p1 + p0 * instance - n0) + w[24] * (x - self.start.0) + w[25] * (y - self.start.1));
        sum += bound * (w[1] * (p0 - instance)) + balance * (w[2] * (p0 + p1 - instance - n0));

        // The chain and the ranges: one column tells them apart, 1 for an addition and 2 for digits of a range.
        let b_digit = z_next - z.double().double();
        let (m, of_four) = two_bits(b_digit);
        let minus_x_t = a + b * m;
        let y_t = g + (b_digit - self.three_halves) * (c + e * m);
        sum += chain
            * ((TWO - chain)
                * (w[19] * (lambda * (minus_x_t + x) + y_t - y)
                    + w[20] * (lambda.square() + minus_x_t - x - x_next)
                    + w[21] * (lambda * (x - x_next) - y - y_next))
                + (Scalar::ONE - chain)
                    * (w[27] * two_bits(x_next - x.double().double()).1
                        + w[28] * two_bits(y_next - y.double().double()).1));
        sum += digit * (w[22] * of_four) + zero * (w[23] * z) + nonce * (w[26] * (p0 - x));
        sum += start * (w[29] * x + w[30] * y + w[31] * (y_next * (y_next - Scalar::ONE)));
        sum + split * (w[32] * (p0 - n1) + self.split[0] * x + self.split[1] * y)
    }
}

/// What the permutation argument reads in one place.
pub(in crate::proof) struct PermutedCells {
    /// The columns that copies join.
    pub(in crate::proof) values: [Scalar; 3],
    /// Their permutation.
    pub(in crate::proof) sigma: [Scalar; 3],
    /// The product polynomial, and in the next row.
    pub(in crate::proof) product: Scalar,
    pub(in crate::proof) product_next: Scalar,
    /// The place itself.
    pub(in crate::proof) place: Scalar,
    /// The Lagrange polynomials of the first row and of the last of the permutation, and the sum of those of all rows before
    /// the last.
    pub(in crate::proof) first: Scalar,
    pub(in crate::proof) last: Scalar,
    pub(in crate::proof) active: Scalar,
}

/// The permutation argument with its challenges.
pub(in crate::proof) struct Permutation {
    pub(in crate::proof) beta: Scalar,
    pub(in crate::proof) gamma: Scalar,
    pub(in crate::proof) weights: [Scalar; 3],
}

impl Permutation {
    /// The weighted sum of its three polynomials in one place.
    #[inline(always)]
    pub(in crate::proof) fn at(&self, cells: &PermutedCells) -> Scalar {
        use ff::PrimeField;
        let Self { beta, gamma, weights } = *self;
        let z = cells.product;
        let (mut left, mut right, mut identity) = (cells.product_next, z, beta * cells.place);
        for (value, sigma) in cells.values.iter().zip(&cells.sigma) {
            let value = *value + gamma;
            left *= value + beta * sigma;
            right *= value + identity;
            identity *= Scalar::DELTA;
        }
        cells.first * (weights[0] * (Scalar::ONE - z))
            + cells.last * (weights[1] * (z.square() - z))
            + cells.active * (weights[2] * (left - right))
    }
}
