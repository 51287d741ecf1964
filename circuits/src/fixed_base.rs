//! Multiplying secrets: in time that does not depend on them.
//!
//! The multiplication that `pasta_curves` offers skips an addition for each leading zero bit of the scalar, and a signer whose
//! time tells the length of its nonces gives its key away after some ten thousand signatures. So nothing here ever adds
//! to the identity, or leaves an addition out: the accumulator starts at `S`, a point whose logarithm nobody knows, and
//! every digit adds a point.

use std::sync::LazyLock;

use ff::PrimeField;
use group::{Curve, Group};
use pasta_curves::arithmetic::CurveExt;
use pasta_curves::pallas;
use subtle::{Choice, ConditionallySelectable};
use zeroize::Zeroize;

/// `S`: where sums start that must not start at the identity. Nobody knows a logarithm of it.
pub(crate) fn start() -> pallas::Point {
    static S: LazyLock<pallas::Point> = LazyLock::new(|| pallas::Point::hash_to_curve("halometer/1")(b"chain start"));
    *S
}

/// Odd multiples for the signed digits of a fixed point `P`: `[4^j / 2] P` and three times that.
pub(crate) struct DigitTable {
    /// The pair for digit `j`, the least significant first.
    pub(crate) pairs: Vec<[pallas::Affine; 2]>,
    /// `[(4^n - 1) / 2] P`: what the sum of all digits lacks.
    pub(crate) surplus: pallas::Point,
}

impl DigitTable {
    /// For scalars of `digits` two-bit digits `b`. As `d = 2b - 3` is one of -3, -1, 1, 3 and never zero,
    /// `sum d_j 4^j = 2 (sum b_j 4^j) - (4^n - 1)`.
    ///
    /// `base` is not the identity.
    pub(crate) fn new(base: pallas::Point, digits: usize) -> Self {
        let half = base * pallas::Scalar::TWO_INV;
        let mut points = Vec::with_capacity(2 * digits);
        let mut t = half;
        for _ in 0..digits {
            let double = t.double();
            points.push(t);
            points.push(double + t);
            t = double.double();
        }
        let mut affine = vec![pallas::Affine::default(); points.len()];
        pallas::Point::batch_normalize(&points, &mut affine);
        Self { pairs: affine.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect(), surplus: t - half }
    }

    /// `[scalar] P`, for a table of 128 digits.
    pub(crate) fn mul(&self, scalar: &pallas::Scalar) -> pallas::Point {
        let mut bytes = scalar.to_repr();
        let mut sum = start();
        for (j, [one, three]) in self.pairs.iter().enumerate() {
            let digit = bytes[j / 4] >> (2 * (j % 4)) & 3;
            // 0, 1, 2, 3 stand for -3, -1, 1, 3.
            let high = Choice::from(digit >> 1);
            let outer = Choice::from(digit >> 1 ^ digit & 1 ^ 1);
            let point = pallas::Affine::conditional_select(one, three, outer);
            sum += pallas::Affine::conditional_select(&-point, &point, high);
        }
        bytes.zeroize();
        sum + self.surplus - start()
    }
}

/// `[scalar] point` for a scalar of 128 bits, for points that have no table.
pub(crate) fn mul_128(point: pallas::Point, scalar: u128) -> pallas::Point {
    static BACK: LazyLock<pallas::Point> = LazyLock::new(|| (0..128).fold(start(), |sum, _| sum.double()));
    let mut sum = start();
    for bit in (0..128).rev() {
        sum = sum.double();
        let added = sum + point;
        sum.conditional_assign(&added, Choice::from((scalar >> bit) as u8 & 1));
    }
    sum - *BACK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schnorr::generator;
    use ff::Field;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn agree_with_the_multiplication_of_pasta_curves() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let table = DigitTable::new(generator(), 128);
        let edges = [pallas::Scalar::ZERO, pallas::Scalar::ONE, -pallas::Scalar::ONE, pallas::Scalar::from(2)];
        for scalar in edges.into_iter().chain((0..32).map(|_| pallas::Scalar::random(&mut rng))) {
            assert_eq!(table.mul(&scalar), generator() * scalar);
        }
        for scalar in [0, 1, 2, 3, 1 << 127, u128::MAX, 0x0123_4567_89ab_cdef_u128 << 40] {
            let point = pallas::Point::random(&mut rng);
            assert_eq!(mul_128(point, scalar), point * pallas::Scalar::from_u128(scalar));
        }
    }

    #[test]
    fn no_secret_is_multiplied_otherwise() {
        // `point * scalar` of pasta_curves tells the scalar's length by its time.
        let source = include_str!("schnorr.rs");
        let code = source.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            assert!(!line.contains("generator() *") && !line.contains(") * pallas::Scalar"), "{line}");
        }
    }
}
