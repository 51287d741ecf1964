//! The freedoms that remain, each pinned: what a prover may choose, and that neither nullifier, share nor change depend on it.

use ff::{Field, PrimeField};
use pasta_curves::pallas::{Base, Scalar};

use super::super::*;
use super::chain::{Chain, digits_of, honestly};
use super::cheater::{Cheater, Filling, leaf_of, signature};
use super::forgeries::{alias_filling, plus_modulus};
use crate::circuit::layout::{CHAIN_END, CONSTANT};
use crate::note::Leaf;
use crate::schnorr::low_128;

/// `s + n q`, for as long as that is below `2^256`.
fn plus_order(s: &[u8; 32], n: usize) -> Option<[u8; 32]> {
    let order_less_one = (-Scalar::ONE).to_repr();
    (0..n).try_fold(*s, |s, _| {
        let mut carry = 1u16;
        let sum = core::array::from_fn(|i| {
            carry += u16::from(s[i]) + u16::from(order_less_one[i]);
            let byte = carry as u8;
            carry >>= 8;
            byte
        });
        (carry == 0).then_some(sum)
    })
}

#[test]
fn s_may_be_any_string_of_256_bits_of_its_class() {
    let cheater = Cheater::new(1);
    let Filling { mut trace, instance } = cheater.fill(&[]);
    let e = trace.get((Col::Z, CONSTANT)).to_repr();
    let s = (cheater.nonce + cheater.secret * Scalar::from_repr(e).unwrap()).to_repr();
    let r = (trace.get((Col::X, CHAIN_END)), trace.get((Col::Y, CHAIN_END)));
    let mut tried = 0;
    for n in 0..=4 {
        let Some(same) = plus_order(&s, n) else {
            continue;
        };
        let digits = [digits_of(&same), digits_of(&e[..16])].concat();
        assert_eq!(Chain::of(digits).fill(&mut trace, &cheater, honestly), r);
        assert!(cheater.refusals(Filling { trace: super::support::copy(&trace), instance }).is_empty(), "s + {n} q");
        tried += 1;
    }
    // 4q is above 2^256, and s + 3q mostly below.
    assert!((3..=4).contains(&tried));
}

#[test]
fn the_sign_of_r_is_not_bound() {
    let cheater = Cheater::new(2);
    let Filling { trace, instance } = cheater.fill(&[]);
    let e = low_128(&trace.get(CHALLENGE_2.output()));
    let leaf = Leaf::from_value(leaf_of(&trace));
    let mirrored = Cheater { nonce: -cheater.nonce, ..cheater.clone() };
    let other = mirrored.fill(&[]);
    assert_eq!(other.instance, instance);
    assert_eq!(other.trace.get((Col::Y, CHAIN_END)), -trace.get((Col::Y, CHAIN_END)));
    assert!(cheater.refusals(other).is_empty());
    // Natively it is the same: both are signatures of the leaf, and to find one from the other takes the key.
    for nonce in [cheater.nonce, mirrored.nonce] {
        let s = nonce + cheater.secret * Scalar::from_u128(e);
        assert!(cheater.key.verify(&leaf, &signature(e, &s)));
    }
}

/// `ch2` and `ch2 + p` are both decompositions of the hash where the latter is below `2^255`, which it nearly always is. So
/// two values of `e` pass for a hash, where the native check knows one. It doubles a forger's chances.
#[test]
fn the_hash_may_be_decomposed_plus_the_modulus() {
    let cheater = Cheater::new(3);
    let Filling { trace, instance } = cheater.fill(&[]);
    let hash = trace.get(CHALLENGE_2.output()).to_repr();
    let leaf = Leaf::from_value(leaf_of(&trace));
    let alias = plus_modulus(&hash);
    assert!(alias[31] < 0x80, "below 2^255");
    let other = alias_filling(&cheater, trace, &alias);
    assert_eq!(other.instance, instance);
    let e = u128::from_le_bytes(alias[..16].try_into().unwrap());
    assert_ne!(e, low_128(&Base::from_repr(hash).unwrap()));
    assert!(cheater.refusals(other).is_empty());
    let s = cheater.nonce + cheater.secret * Scalar::from_u128(e);
    assert!(!cheater.key.verify(&leaf, &signature(e, &s)), "the signer releases the canonical one alone");
    // There is no third: see `forgeries::upper_half_of_128_bits`.
    assert!(plus_modulus(&alias)[31] >= 0x80);
}
