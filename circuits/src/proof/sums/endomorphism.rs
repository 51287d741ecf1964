//! Scalars of half the length, by the endomorphism of the curve.
//!
//! `(x, y) -> (zeta x, y)` multiplies a point of Vesta by `lambda`, a cube root of one. With `A` and `B` below, the order of the
//! group is `A^2 + A B + B^2`, and both `(A, -B)` and `(B, A + B)` are pairs `(a, b)` with `a + b lambda = 0`. A scalar `k`, taken
//! as the pair `(k, 0)`, is reduced by the multiples of these pairs that come nearest to it. What is left has two parts below
//! 2^127.

use super::Scalar;
use super::digits::{Limbs, limbs};

const A: u128 = 0x49e6_9d16_40f0_4915_7fca_e1c7_0000_0000;
const B: u128 = 0x49e6_9d16_40a8_9953_8cb1_2793_0000_0001;
/// `(A + B) 2^384` and `B 2^384`, divided by the order of the group, rounded down.
const BY_SUM: Limbs = [0x841d_8d62_296e_1563, 0xc35f_bd4d_0afe_9926, 0x31f0_2568_0000_0002, 0x4f34_e8b2_0663_89a4, 0x2];
const BY_B: Limbs = [0x8414_14c2_4bf9_9a82, 0x61af_dea6_85cc_1578, 0x32c4_9e4c_0000_0003, 0x279a_7459_02a2_654e, 0x1];

/// Bits of each part.
pub(super) const BITS: usize = 127;

/// `k1` and `k2` with `k = k1 + k2 lambda`, each as its magnitude and whether it is negative.
pub(super) fn split(scalar: &Scalar) -> [(Limbs, bool); 2] {
    let k = limbs(scalar);
    let (c1, c2) = (rounded(&BY_SUM, &k), rounded(&BY_B, &k));
    let k = [k[0], k[1], k[2], k[3]];
    let k1 = minus(minus(k, product(c1, A)), product(c2, B));
    let k2 = minus(product(c1, B), product(c2, A + B));
    [signed(k1), signed(k2)]
}

/// `x y / 2^384`, rounded.
fn rounded(x: &Limbs, y: &Limbs) -> u128 {
    let mut product = [0u64; 10];
    multiply(x, y, &mut product);
    let whole = u128::from(product[6]) | u128::from(product[7]) << 64;
    whole.wrapping_add(u128::from(product[5] >> 63))
}

fn product(x: u128, y: u128) -> [u64; 4] {
    let mut product = [0; 4];
    multiply(&[x as u64, (x >> 64) as u64], &[y as u64, (y >> 64) as u64], &mut product);
    product
}

fn multiply(x: &[u64], y: &[u64], product: &mut [u64]) {
    for (i, x) in x.iter().enumerate() {
        let mut carry = 0u128;
        for (j, y) in y.iter().enumerate() {
            carry += u128::from(product[i + j]) + u128::from(*x) * u128::from(*y);
            product[i + j] = carry as u64;
            carry >>= 64;
        }
        product[i + y.len()] = carry as u64;
    }
}

/// Modulo 2^256.
fn minus(x: [u64; 4], y: [u64; 4]) -> [u64; 4] {
    let mut borrow = false;
    core::array::from_fn(|i| {
        let (difference, first) = x[i].overflowing_sub(y[i]);
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        borrow = first | second;
        difference
    })
}

/// A number modulo 2^256 that is known to be small.
fn signed(x: [u64; 4]) -> (Limbs, bool) {
    let negative = x[3] >> 63 == 1;
    let [low, high, ..] = if negative { minus([0; 4], x) } else { x };
    ([low, high, 0, 0, 0], negative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ff::{Field, PrimeField, WithSmallOrderMulGroup};
    use group::{Curve, Group};
    use pasta_curves::vesta;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn number((limbs, negative): (Limbs, bool)) -> Scalar {
        assert_eq!(limbs[2..], [0; 3]);
        let magnitude = u128::from(limbs[0]) | u128::from(limbs[1]) << 64;
        assert_eq!(magnitude >> BITS, 0);
        let magnitude = Scalar::from_u128(magnitude);
        if negative { -magnitude } else { magnitude }
    }

    #[test]
    fn the_parts_make_up_the_scalar() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let edges = (0..255).flat_map(|bits| {
            let power = Scalar::from(2).pow_vartime([bits]);
            [power, -power, power - Scalar::ONE, Scalar::TWO_INV * power]
        });
        let random: Vec<_> = (0..5_000).map(|_| Scalar::random(&mut rng)).collect();
        for scalar in edges.chain(random).chain([Scalar::ZERO, Scalar::TWO_INV, Scalar::ZETA, -Scalar::ZETA]) {
            let [k1, k2] = split(&scalar).map(number);
            assert_eq!(k1 + k2 * Scalar::ZETA, scalar);
        }
    }

    #[test]
    fn the_endomorphism_multiplies_by_lambda() {
        use super::super::Xy;
        let point = vesta::Point::random(&mut ChaCha20Rng::seed_from_u64(2));
        let xy = Xy::of(&point.to_affine()).unwrap();
        assert_eq!(vesta::Point::from(xy.turned().point()), point * Scalar::ZETA);
    }
}
