//! Session signatures that are checked together.

use ed25519_dalek::{Signature, verify_batch};

use super::{SIGNATURE, SessionPublicKey, below_modulus};

/// A session signature to check: the message that it is said to be of, and the key that it is said to be by.
pub(crate) struct Claim {
    pub(crate) key: SessionPublicKey,
    pub(crate) message: Vec<u8>,
    pub(crate) signature: [u8; SIGNATURE],
}

/// Below this many, one equation for all of them saves nothing.
const FEWEST: usize = 4;

/// The y-coordinates of the points of small order, the sign left out: 1, -1, 0, and the two of the points of order 8.
const SMALL_ORDER: [[u8; 32]; 5] = {
    let (mut one, mut minus_one) = ([0; 32], [0xff; 32]);
    one[0] = 1;
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let order8 = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ];
    let other8 = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ];
    [one, minus_one, [0; 32], order8, other8]
};

impl Claim {
    fn holds(&self) -> bool {
        self.key.verify(&self.message, &self.signature)
    }

    /// Whether the nonce point is one that the strict check may accept: it has its one encoding, and is not of small order.
    fn has_plain_nonce(&self) -> bool {
        let Some(nonce) = self.signature.first_chunk::<32>() else { return false };
        let mut y = *nonce;
        y[31] &= 0x7f;
        below_modulus(nonce) && !SMALL_ORDER.contains(&y)
    }
}

/// Whether each signature is its key's of its message. One random combination of their equations is checked for all, which takes
/// about half of the time; if it does not hold, or if not `together`, they are checked one by one by the strict equation.
///
/// The combination accepts nothing that the key's holder did not sign. What can differ from the strict check is a signature whose
/// holder made its nonce point or its key with a part of small order: the combination may miss that part, with a chance of a half at
/// most for each. Eight times the equation holds for it all the same, and that cannot be reached without the key. Nothing depends on
/// a session signature having one form: retries are known by `nf` and `x`.
pub(crate) fn verify_each(claims: &[Claim], together: bool) -> Vec<bool> {
    if together && claims.len() >= FEWEST && claims.iter().all(Claim::has_plain_nonce) {
        let messages: Vec<&[u8]> = claims.iter().map(|claim| &claim.message[..]).collect();
        let signatures: Vec<_> = claims.iter().map(|claim| Signature::from_bytes(&claim.signature)).collect();
        let keys: Vec<_> = claims.iter().map(|claim| claim.key.0).collect();
        if verify_batch(&messages, &signatures, &keys).is_ok() {
            return vec![true; claims.len()];
        }
    }
    claims.iter().map(Claim::holds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SessionKey;

    fn claim(n: u8) -> Claim {
        let (key, message) = (SessionKey::from_bytes(&[n; 32]), vec![n; usize::from(n)]);
        Claim { key: key.public_key(), signature: key.sign(&message), message }
    }

    #[test]
    fn signatures_hold_together_exactly_if_each_holds() {
        for count in [0, 1, 3, 4, 5, 32] {
            let good: Vec<_> = (1..=count).map(claim).collect();
            assert_eq!(verify_each(&good, true), vec![true; good.len()]);
            for bad in 0..good.len() {
                for harm in 0..5 {
                    let mut claims: Vec<_> = (1..=count).map(claim).collect();
                    let it = &mut claims[bad];
                    match harm {
                        0 => it.message.push(0),
                        1 => it.signature[3] ^= 1,
                        2 => it.signature[40] ^= 1,
                        // A scalar that is not reduced.
                        3 => it.signature[63] |= 0xf0,
                        _ => it.key = SessionKey::from_bytes(&[99; 32]).public_key(),
                    }
                    let verdicts = verify_each(&claims, true);
                    assert!(verdicts.iter().enumerate().all(|(i, verdict)| *verdict == (i != bad)), "{bad} {harm}");
                    assert_eq!(verdicts, verify_each(&claims, false));
                }
            }
        }
    }

    #[test]
    fn two_wrong_signatures_do_not_make_up_for_each_other() {
        let mut claims: Vec<_> = (1..=8).map(claim).collect();
        // The same amount more in one scalar and less in another.
        claims[2].signature[32] = claims[2].signature[32].wrapping_add(1);
        claims[5].signature[32] = claims[5].signature[32].wrapping_sub(1);
        let verdicts = verify_each(&claims, true);
        assert!(!verdicts[2] && !verdicts[5] && verdicts.iter().filter(|verdict| **verdict).count() == 6);
    }

    #[test]
    fn a_nonce_of_small_order_is_refused_among_good_ones_too() {
        let key = SessionKey::from_bytes(&[7; 32]);
        for y in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut claims: Vec<_> = (1..=8).map(claim).collect();
                claims[3].signature[..32].copy_from_slice(&y);
                claims[3].signature[31] |= sign;
                assert!(!claims[3].has_plain_nonce());
                assert!(!verify_each(&claims, true)[3]);
            }
        }
        let good = Claim { key: key.public_key(), message: vec![1], signature: key.sign(&[1]) };
        assert!(good.has_plain_nonce());
    }
}
