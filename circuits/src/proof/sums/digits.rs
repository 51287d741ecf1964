//! Scalars as signed digits.

use ff::PrimeField;
use zeroize::Zeroize;

use super::Scalar;

/// Bits of a scalar.
pub(super) const BITS: usize = 255;

/// A number of up to 256 bits, the least significant limb first, with a limb of zeros above.
pub(super) type Limbs = [u64; 5];

/// The number of signed digits of `window` bits that a number of `bits` has, the last carry included.
pub(super) const fn count(bits: usize, window: usize) -> usize {
    bits / window + 1
}

/// Hands over the digits of `limbs`, a number of `bits`, in base `2^window`, the least significant first: position, magnitude of at
/// most `2^(window - 1)`, and whether it is negative. Digits of zero are left out.
#[inline(always)]
pub(super) fn signed(limbs: &Limbs, bits: usize, window: usize, mut digit: impl FnMut(usize, u32, bool)) {
    let (mask, half) = ((1u64 << window) - 1, 1u64 << (window - 1));
    let mut carry = 0;
    for position in 0..count(bits, window) {
        let (limb, shift) = (position * window / 64, position * window % 64);
        let mut bits = limbs[limb] >> shift;
        if shift + window > 64 {
            bits |= limbs[limb + 1] << (64 - shift);
        }
        let value = (bits & mask) + carry;
        carry = u64::from(value > half);
        let magnitude = if carry == 1 { (1 << window) - value } else { value };
        if magnitude != 0 {
            digit(position, magnitude as u32, carry == 1);
        }
    }
    debug_assert_eq!(carry, 0, "the last digit has room for the carry");
}

/// The scalar as a number.
pub(super) fn limbs(scalar: &Scalar) -> Limbs {
    let mut repr = scalar.to_repr();
    let mut limbs = [0; 5];
    for (limb, bytes) in limbs.iter_mut().zip(repr.chunks_exact(8)) {
        *limb = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    }
    repr.zeroize();
    limbs
}
