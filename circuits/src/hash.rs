//! Tagged hashing: Poseidon over the Pallas base field for what the circuit sees, BLAKE2b for what it does not.
//!
//! Protocol, section 3: `H_tag(a, b)` is the Poseidon permutation P128Pow5T3 (width 3, rate 2, S-box `x^5`, 8 full and 56
//! partial rounds) of the state `[a, b, tag]`; its value is the first word of the result. The tag fills the capacity
//! word, so that hashes of different kinds are different functions. The round constants and the matrix are those of
//! `halo2_gadgets`, that is, of Zcash's Orchard.

use std::sync::LazyLock;

use blake2b_simd::Params;
use ff::{FromUniformBytes, PrimeField};
use halo2_gadgets::poseidon::primitives::{P128Pow5T3, Spec};
use pasta_curves::pallas;

/// Full rounds on each side of the partial ones.
pub(crate) const HALF_FULL_ROUNDS: usize = 4;
/// Partial rounds, in which only the first word goes through the S-box.
pub(crate) const PARTIAL_ROUNDS: usize = 56;

/// Round constants, matrix and inverse matrix of P128Pow5T3 over the Pallas base field.
pub(crate) struct Constants {
    pub(crate) round: Vec<[pallas::Base; 3]>,
    pub(crate) mds: [[pallas::Base; 3]; 3],
    pub(crate) mds_inv: [[pallas::Base; 3]; 3],
}

pub(crate) static CONSTANTS: LazyLock<Constants> = LazyLock::new(|| {
    let (round, mds, mds_inv) = <P128Pow5T3 as Spec<pallas::Base, 3, 2>>::constants();
    assert_eq!(round.len(), 2 * HALF_FULL_ROUNDS + PARTIAL_ROUNDS);
    Constants { round, mds, mds_inv }
});

/// The kinds of hash in the protocol. Each has its own capacity word, and none of these words is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tag {
    /// `A = H_account(k, 0)`: account id of an account secret.
    Account,
    /// `N = H_note(A, rho)`: note id.
    Note,
    /// `C = H_value(N, v)`: commitment to the hidden value.
    Value,
    /// `L = H_leaf(C, r)`: the leaf that the issuer signs.
    Leaf,
    /// `H_ch1(R.x, L)`: first half of the signature challenge.
    Challenge1,
    /// `H_ch2(H_ch1(R.x, L), H_key(D))`: second half of the signature challenge.
    Challenge2,
    /// `H_key(D.x, D.y)`: fingerprint of an epoch key inside the challenge.
    Key,
    /// `a = H_line(k, rho)`: slope of a note's line.
    Line,
    /// `nf = H_nullifier(a, 0)`: nullifier.
    Nullifier,
}

impl Tag {
    /// All tags, in the order of their numbers.
    pub const ALL: [Tag; 9] = [
        Tag::Account,
        Tag::Note,
        Tag::Value,
        Tag::Leaf,
        Tag::Challenge1,
        Tag::Challenge2,
        Tag::Key,
        Tag::Line,
        Tag::Nullifier,
    ];

    const fn label(self) -> &'static [u8] {
        match self {
            Tag::Account => b"halometer/1/account",
            Tag::Note => b"halometer/1/note",
            Tag::Value => b"halometer/1/value",
            Tag::Leaf => b"halometer/1/leaf",
            Tag::Challenge1 => b"halometer/1/challenge1",
            Tag::Challenge2 => b"halometer/1/challenge2",
            Tag::Key => b"halometer/1/key",
            Tag::Line => b"halometer/1/line",
            Tag::Nullifier => b"halometer/1/nullifier",
        }
    }

    /// The capacity word: the label's bytes as a little-endian number. Labels are shorter than 32 bytes and not empty,
    /// so the word is canonical and not zero.
    pub fn capacity(self) -> pallas::Base {
        let label = self.label();
        let mut repr = [0u8; 32];
        repr[..label.len()].copy_from_slice(label);
        pallas::Base::from_repr(repr).expect("a label of at most 31 bytes is below the modulus")
    }
}

/// `x^5`, the S-box.
pub(crate) fn pow5(x: pallas::Base) -> pallas::Base {
    let square = x.square();
    square.square() * x
}

/// Matrix times vector.
pub(crate) fn mul3(m: &[[pallas::Base; 3]; 3], v: &[pallas::Base; 3]) -> [pallas::Base; 3] {
    core::array::from_fn(|i| m[i][0] * v[0] + m[i][1] * v[1] + m[i][2] * v[2])
}

/// The Poseidon permutation P128Pow5T3. Runs in time independent of the state.
pub(crate) fn permute(mut state: [pallas::Base; 3]) -> [pallas::Base; 3] {
    let constants = &*CONSTANTS;
    for (round, rc) in constants.round.iter().enumerate() {
        for (word, rc) in state.iter_mut().zip(rc) {
            *word += rc;
        }
        state[0] = pow5(state[0]);
        let partial = HALF_FULL_ROUNDS..HALF_FULL_ROUNDS + PARTIAL_ROUNDS;
        if !partial.contains(&round) {
            state[1] = pow5(state[1]);
            state[2] = pow5(state[2]);
        }
        state = mul3(&constants.mds, &state);
    }
    state
}

/// `H_tag(a, b)` of protocol section 3. Runs in time independent of `a` and `b`.
pub fn hash_two(tag: Tag, a: pallas::Base, b: pallas::Base) -> pallas::Base {
    permute([a, b, tag.capacity()])[0]
}

/// `hash_to_field` of protocol section 3: BLAKE2b-512 under a personalisation of 16 bytes, reduced modulo the field's
/// order (the bias is below 2^-256). The caller makes `parts` injective: every part of fixed width, or length-prefixed.
pub fn hash_to_field(personal: &[u8; 16], parts: &[&[u8]]) -> pallas::Base {
    let mut state = Params::new().hash_length(64).personal(personal).to_state();
    for part in parts {
        state.update(part);
    }
    pallas::Base::from_uniform_bytes(state.finalize().as_array())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ff::Field;

    #[test]
    fn tags_are_distinct_and_not_zero() {
        for (i, a) in Tag::ALL.iter().enumerate() {
            assert!(!bool::from(a.capacity().is_zero()));
            for b in &Tag::ALL[..i] {
                assert_ne!(a.capacity(), b.capacity());
            }
        }
    }

    #[test]
    fn a_tag_makes_another_function() {
        let (a, b) = (pallas::Base::from(3), pallas::Base::from(5));
        for (i, x) in Tag::ALL.iter().enumerate() {
            for y in &Tag::ALL[..i] {
                assert_ne!(hash_two(*x, a, b), hash_two(*y, a, b));
            }
        }
    }
}
