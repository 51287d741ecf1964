//! Polynomials of fewer than 256 coefficients, by their coefficients, by their values in the 256 rows, or by their values
//! in five cosets of the rows.
//!
//! A gate has degree 6, so that the quotient has at most 1,280 coefficients and is fixed by as many values. `halo2_proofs`
//! takes 2,048 of them, the next power of two; here they are five cosets of 256.

use std::sync::LazyLock;

use ff::{Field, PrimeField, WithSmallOrderMulGroup};

use super::super::sums::Scalar;
use crate::circuit::K;

/// Rows, and the coefficients of a polynomial.
pub(in crate::proof) const N: usize = 1 << K;
/// Cosets, and the pieces of the quotient.
pub(in crate::proof) const COSETS: usize = 5;
/// Rows that the circuit may use. The row after them is the last of the permutation, and five blind.
pub(in crate::proof) const USABLE: usize = N - 6;

/// Values of a polynomial in a coset, or its coefficients.
pub(in crate::proof) type Vector = Vec<Scalar>;

/// Roots of unity, cosets, and how a quotient follows from its values in them.
pub(in crate::proof) struct Domain {
    /// The generator of the rows.
    pub(in crate::proof) omega: Scalar,
    /// `omega^-i` for the rows that the Lagrange polynomials of the argument need.
    pub(in crate::proof) omega_inverses: [Scalar; N - USABLE + 1],
    /// `1 / 256`.
    pub(in crate::proof) n_inverse: Scalar,
    twiddles: Vector,
    inverse_twiddles: Vector,
    /// The cosets' shifts `s`, their powers, and the powers of their inverses.
    shifts: [Scalar; COSETS],
    powers: [Vector; COSETS],
    inverse_powers: [Vector; COSETS],
    /// Coefficient `m 256 + i` of the quotient is the sum over `r` of `solve[m][r]` times coefficient `i` of the
    /// interpolation in coset `r`. `1 / 256` and the division by `X^256 - 1` are in it.
    solve: [[Scalar; COSETS]; COSETS],
}

pub(in crate::proof) static DOMAIN: LazyLock<Domain> = LazyLock::new(Domain::new);

/// `1, b, b^2` and on.
pub(in crate::proof) fn powers(base: Scalar, count: usize) -> Vector {
    let mut power = Scalar::ONE;
    (0..count)
        .map(|_| {
            let this = power;
            power *= base;
            this
        })
        .collect()
}

/// `sum p_i q_i`.
pub(in crate::proof) fn dot(p: &[Scalar], q: &[Scalar]) -> Scalar {
    p.iter().zip(q).fold(Scalar::ZERO, |sum, (p, q)| sum + *p * q)
}

/// The polynomial's value at `x`.
pub(in crate::proof) fn evaluate(coefficients: &[Scalar], x: Scalar) -> Scalar {
    coefficients.iter().rev().fold(Scalar::ZERO, |sum, c| sum * x + c)
}

impl Domain {
    fn new() -> Self {
        let mut extended = Scalar::ROOT_OF_UNITY;
        for _ in K + 3..Scalar::S {
            extended = extended.square();
        }
        let omega = extended.pow_vartime([8]);
        let omega_inverse = omega.invert().expect("a root of unity");
        let n_inverse = Scalar::from(N as u64).invert().expect("a power of two");
        let shifts: [Scalar; COSETS] = core::array::from_fn(|r| Scalar::ZETA * extended.pow_vartime([r as u64]));
        // In coset r the quotient's pieces h_m add up to sum t_r^m h_m, with t_r = s_r^256.
        let t = shifts.map(|shift| shift.pow_vartime([N as u64]));
        let inverse = inverted(core::array::from_fn(|r| {
            let powers = powers(t[r], COSETS);
            core::array::from_fn(|m| powers[m])
        }));
        let solve = core::array::from_fn(|m| {
            core::array::from_fn(|r| {
                let vanishing = (t[r] - Scalar::ONE).invert().expect("a coset apart from the rows");
                inverse[m][r] * vanishing * n_inverse
            })
        });
        let inverse_power = powers(omega_inverse, N - USABLE + 1);
        Self {
            omega,
            omega_inverses: core::array::from_fn(|i| inverse_power[i]),
            n_inverse,
            twiddles: powers(omega, N / 2),
            inverse_twiddles: powers(omega_inverse, N / 2),
            shifts,
            powers: shifts.map(|shift| powers(shift, N)),
            inverse_powers: shifts.map(|shift| powers(shift.invert().expect("not zero"), N)),
            solve,
        }
    }

    /// The coefficients of the polynomial with these values in the rows.
    pub(in crate::proof) fn coefficients(&self, values: &[Scalar]) -> Vector {
        let mut a = values.to_vec();
        transform(&mut a, &self.inverse_twiddles);
        for x in &mut a {
            *x *= self.n_inverse;
        }
        a
    }

    /// The polynomial's values in coset `r`.
    pub(in crate::proof) fn coset(&self, coefficients: &[Scalar], r: usize) -> Vector {
        let mut a: Vector = coefficients.iter().zip(&self.powers[r]).map(|(c, power)| *c * power).collect();
        transform(&mut a, &self.twiddles);
        a
    }

    /// The places of coset `r`: what the polynomial `X` has there.
    pub(in crate::proof) fn places(&self, r: usize) -> Vector {
        powers(self.omega, N).into_iter().map(|power| power * self.shifts[r]).collect()
    }

    /// Divides by `X^256 - 1` the polynomial with these values in the cosets. Returns the quotient's five pieces, the least
    /// significant first.
    pub(in crate::proof) fn quotient(&self, values: &mut [Vector; COSETS]) -> [Vector; COSETS] {
        for (values, inverses) in values.iter_mut().zip(&self.inverse_powers) {
            transform(values, &self.inverse_twiddles);
            for (value, inverse) in values.iter_mut().zip(inverses) {
                *value *= inverse;
            }
        }
        core::array::from_fn(|m| {
            (0..N).map(|i| (0..COSETS).fold(Scalar::ZERO, |sum, r| sum + self.solve[m][r] * values[r][i])).collect()
        })
    }
}

/// Values of the polynomial with coefficients `a` in the powers of the root whose powers are `twiddles`; and, with those of
/// its inverse, 256 times the way back.
fn transform(a: &mut [Scalar], twiddles: &[Scalar]) {
    debug_assert_eq!(a.len(), N);
    for i in 0..N {
        let j = (i as u32).reverse_bits() as usize >> (32 - K);
        if i < j {
            a.swap(i, j);
        }
    }
    let mut half = 1;
    while half < N {
        let step = N / (2 * half);
        for block in a.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (i, (low, high)) in low.iter_mut().zip(high).enumerate() {
                // The first twiddle is one.
                let turned = if i == 0 { *high } else { *high * twiddles[i * step] };
                *high = *low - turned;
                *low += turned;
            }
        }
        half *= 2;
    }
}

/// The inverse of an invertible matrix.
fn inverted(mut a: [[Scalar; COSETS]; COSETS]) -> [[Scalar; COSETS]; COSETS] {
    let mut b: [[Scalar; COSETS]; COSETS] =
        core::array::from_fn(|i| core::array::from_fn(|j| if i == j { Scalar::ONE } else { Scalar::ZERO }));
    for column in 0..COSETS {
        let pivot = (column..COSETS).find(|row| !a[*row][column].is_zero_vartime()).expect("an invertible matrix");
        a.swap(column, pivot);
        b.swap(column, pivot);
        let inverse = a[column][column].invert().expect("a pivot");
        for entry in a[column].iter_mut().chain(&mut b[column]) {
            *entry *= inverse;
        }
        for row in (0..COSETS).filter(|row| *row != column) {
            let factor = a[row][column];
            for i in 0..COSETS {
                let (x, y) = (a[column][i] * factor, b[column][i] * factor);
                a[row][i] -= x;
                b[row][i] -= y;
            }
        }
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn random(seed: u64, count: usize) -> Vector {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        (0..count).map(|_| Scalar::random(&mut rng)).collect()
    }

    #[test]
    fn transforms_agree_with_evaluation() {
        let coefficients = random(1, N);
        let domain = &*DOMAIN;
        let rows: Vector = powers(domain.omega, N).into_iter().map(|x| evaluate(&coefficients, x)).collect();
        assert_eq!(domain.coefficients(&rows), coefficients);
        for r in 0..COSETS {
            let there: Vector = domain.places(r).into_iter().map(|x| evaluate(&coefficients, x)).collect();
            assert_eq!(domain.coset(&coefficients, r), there);
        }
    }

    #[test]
    fn the_quotient_times_the_divisor_is_the_dividend() {
        let quotient = random(2, COSETS * N);
        let domain = &*DOMAIN;
        let mut values = core::array::from_fn(|r| {
            let places = domain.places(r);
            places.iter().map(|x| evaluate(&quotient, *x) * (x.pow_vartime([N as u64]) - Scalar::ONE)).collect()
        });
        assert_eq!(domain.quotient(&mut values).concat(), quotient);
    }
}
