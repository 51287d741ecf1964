//! The chain of hashes that makes a note, and the line that its owner reveals one point of (protocol, section 3).
//!
//! ```text
//! A  = H_account(k, 0)      N = H_note(A, rho)       C = H_value(N, v)       L = H_leaf(C, r)
//! a  = H_line(k, rho)       nf = H_nullifier(a, 0)   y = k + a*x
//! ```
//!
//! All are elements of the Pallas base field, encoded as 32 bytes little-endian; an encoding that is not below the
//! modulus is refused.

use ff::{Field, FromUniformBytes, PrimeField};
use pasta_curves::pallas;
use rand_core::{CryptoRng, Rng};
use subtle::{ConstantTimeEq, CtOption};
use zeroize::Zeroize;

use crate::hash::{Tag, hash_two};

macro_rules! public_element {
    ($(#[$doc:meta])* $name:ident) => {
        public_element! { $(#[$doc])* $name, |_| subtle::Choice::from(1) }
    };
    ($(#[$doc:meta])* $name:ident, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pallas::Base);

        impl $name {
            /// Reads 32 bytes little-endian; none when they are not below the modulus, or no value of this type.
            pub fn from_bytes(bytes: &[u8; 32]) -> CtOption<Self> {
                let valid: fn(&pallas::Base) -> subtle::Choice = $valid;
                pallas::Base::from_repr(*bytes).and_then(|value| CtOption::new(Self(value), valid(&value)))
            }

            /// 32 bytes little-endian.
            pub fn to_bytes(&self) -> [u8; 32] {
                self.0.to_repr()
            }

            #[allow(dead_code)]
            pub(crate) fn from_value(value: pallas::Base) -> Self {
                Self(value)
            }

            /// The field element.
            #[allow(dead_code)]
            pub(crate) fn value(&self) -> pallas::Base {
                self.0
            }
        }

        impl core::hash::Hash for $name {
            fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
                self.to_bytes().hash(state);
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                for byte in self.to_bytes() {
                    write!(f, "{byte:02x}")?;
                }
                f.write_str(")")
            }
        }
    };
}

macro_rules! secret_element {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(pallas::Base);

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }

        impl $name {
            /// Draws one at random.
            pub fn random<R: Rng + CryptoRng>(rng: &mut R) -> Self {
                let mut wide = [0u8; 64];
                loop {
                    rng.fill_bytes(&mut wide);
                    let drawn = Option::from(Self::from_wide(&wide));
                    wide.zeroize();
                    if let Some(secret) = drawn {
                        return secret;
                    }
                }
            }

            /// Reduces 64 uniform bytes, as a key derivation gives them; none when the result is zero.
            pub fn from_wide(bytes: &[u8; 64]) -> CtOption<Self> {
                let value = pallas::Base::from_uniform_bytes(bytes);
                CtOption::new(Self(value), !value.is_zero())
            }

            /// Reads 32 bytes little-endian; none when they are zero or not below the modulus.
            pub fn from_bytes(bytes: &[u8; 32]) -> CtOption<Self> {
                pallas::Base::from_repr(*bytes).and_then(|value| CtOption::new(Self(value), !value.is_zero()))
            }

            /// 32 bytes little-endian. The caller wipes them.
            pub fn to_bytes(&self) -> [u8; 32] {
                self.0.to_repr()
            }

            pub(crate) fn value(&self) -> pallas::Base {
                self.0
            }

            #[cfg(test)]
            #[allow(dead_code)]
            pub(crate) fn from_value(value: pallas::Base) -> Self {
                Self(value)
            }
        }

        impl ConstantTimeEq for $name {
            fn ct_eq(&self, other: &Self) -> subtle::Choice {
                self.0.ct_eq(&other.0)
            }
        }
    };
}

secret_element! {
    /// `k`: the secret of an account, never zero; a fresh one per payment. Wiped on drop, never printed, not `Clone`.
    AccountSecret
}
secret_element! {
    /// `rho`: the secret of one note. Wiped on drop, never printed, not `Clone`.
    NoteSecret
}
public_element! {
    /// `A`: account id. The issuer records it with the payment; a double spend reveals it.
    AccountId
}
public_element! {
    /// `C`: commitment to the hidden value `v` of a note.
    ValueCommitment
}
public_element! {
    /// `L`: what the issuer signs.
    Leaf
}
public_element! {
    /// `nf`: marks a note as spent, and tells nothing else of it.
    Nullifier
}
public_element! {
    /// `x`: hash of the context a spend is made for; where on its note's line a spend shows a point. Never zero.
    ContextHash, |x| !x.is_zero()
}
public_element! {
    /// `y`: the second coordinate of the share `(x, y)`.
    ShareY
}

impl AccountSecret {
    /// `A = H_account(k, 0)`.
    pub fn account_id(&self) -> AccountId {
        AccountId(hash_two(Tag::Account, self.0, pallas::Base::ZERO))
    }

    /// The slope `a = H_line(k, rho)`, which must stay secret: with one share it gives `k`.
    pub(crate) fn slope(&self, rho: &NoteSecret) -> pallas::Base {
        hash_two(Tag::Line, self.0, rho.0)
    }

    /// `nf = H_nullifier(H_line(k, rho), 0)`.
    pub fn nullifier(&self, rho: &NoteSecret) -> Nullifier {
        let mut slope = self.slope(rho);
        let nullifier = Nullifier(hash_two(Tag::Nullifier, slope, pallas::Base::ZERO));
        slope.zeroize();
        nullifier
    }

    /// `y = k + a*x`. Two of these for one note and different `x` reveal `k`; see [`recover_account`].
    pub fn share(&self, rho: &NoteSecret, x: &ContextHash) -> ShareY {
        let mut slope = self.slope(rho);
        let y = ShareY(self.0 + slope * x.0);
        slope.zeroize();
        y
    }
}

impl AccountId {
    /// Whether this is the account of the secret 0, which anybody knows: an issuer mints nothing for it.
    pub fn is_of_zero(&self) -> bool {
        self.0 == hash_two(Tag::Account, pallas::Base::ZERO, pallas::Base::ZERO)
    }

    /// `C = H_value(H_note(A, rho), v)`.
    pub fn commit(&self, rho: &NoteSecret, v: u64) -> ValueCommitment {
        let mut note = hash_two(Tag::Note, self.0, rho.0);
        let commitment = ValueCommitment(hash_two(Tag::Value, note, pallas::Base::from(v)));
        note.zeroize();
        commitment
    }
}

impl ValueCommitment {
    /// `L = H_leaf(C, r)`.
    pub fn leaf(&self, r: u64) -> Leaf {
        Leaf(hash_two(Tag::Leaf, self.0, pallas::Base::from(r)))
    }
}

impl ContextHash {
    /// Hashes a context (protocol, section 3). Zero is refused on both sides: at `x = 0` a share would be `k` itself.
    pub fn hash(personal: &[u8; 16], parts: &[&[u8]]) -> Option<Self> {
        let x = crate::hash::hash_to_field(personal, parts);
        (!bool::from(x.is_zero())).then_some(Self(x))
    }
}

/// Solves two shares of one note for the account that they are of: `a = (y1 - y2) / (x1 - x2)`, `k = y1 - a*x1`,
/// `A = H_account(k, 0)`. None when the `x` are equal.
///
/// Nothing is refused on account of `k`, not even 0, which no honest wallet uses and the circuit lets pass: a note
/// spent twice must name its account, whatever its `k`.
pub fn recover_account(first: (&ContextHash, &ShareY), second: (&ContextHash, &ShareY)) -> Option<AccountId> {
    let ((x1, y1), (x2, y2)) = (first, second);
    let run: Option<pallas::Base> = (x1.0 - x2.0).invert().into();
    let slope = (y1.0 - y2.0) * run?;
    Some(AccountId(hash_two(Tag::Account, y1.0 - slope * x1.0, pallas::Base::ZERO)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    proptest! {
        #[test]
        fn two_shares_name_the_account(seed: u64, a in 1u64.., b in 1u64..) {
            prop_assume!(a != b);
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let (k, rho) = (AccountSecret::random(&mut rng), NoteSecret::random(&mut rng));
            let (xa, xb) = (ContextHash(a.into()), ContextHash(b.into()));
            let (ya, yb) = (k.share(&rho, &xa), k.share(&rho, &xb));
            let found = recover_account((&xa, &ya), (&xb, &yb)).unwrap();
            prop_assert_eq!(found, k.account_id());
            prop_assert!(recover_account((&xa, &ya), (&xa, &ya)).is_none());
            // A share of another note leads elsewhere.
            let other = NoteSecret::random(&mut rng);
            let wrong = recover_account((&xa, &ya), (&xb, &k.share(&other, &xb))).unwrap();
            prop_assert_ne!(wrong, k.account_id());
        }
    }

    #[test]
    fn an_account_secret_of_zero_is_named_too() {
        let (k, rho) = (AccountSecret(pallas::Base::ZERO), NoteSecret(pallas::Base::from(7)));
        let (xa, xb) = (ContextHash(3.into()), ContextHash(5.into()));
        let found = recover_account((&xa, &k.share(&rho, &xa)), (&xb, &k.share(&rho, &xb)));
        assert_eq!(found, Some(k.account_id()));
        assert!(k.account_id().is_of_zero());
    }

    #[test]
    fn encodings_are_canonical() {
        // p itself is the encoding of no element.
        let mut p = (-pallas::Base::ONE).to_repr();
        p[0] += 1;
        assert!(bool::from(Nullifier::from_bytes(&p).is_none()));
        assert!(bool::from(AccountSecret::from_bytes(&p).is_none()));
        assert!(bool::from(AccountSecret::from_bytes(&[0; 32]).is_none()));
        assert!(bool::from(Nullifier::from_bytes(&[0; 32]).is_some()));
        assert!(bool::from(ContextHash::from_bytes(&[0; 32]).is_none()), "x = 0 would show k itself");
    }
}
