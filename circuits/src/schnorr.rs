//! Schnorr signatures over Pallas: how the issuer authenticates a leaf (protocol, section 3).
//!
//! With the epoch key `D = [d]G` and a leaf `L`:
//!
//! ```text
//! t = BLAKE2b-512(label, d, D, L) mod q, not 0        R = [t]G
//! e = low 128 bits of H_ch2(H_ch1(R.x, L), H_key(D.x, D.y))
//! s = t + e*d mod q
//! ```
//!
//! The signature is `(e, s)`, 48 bytes. It is valid when `R = [s]G - [e]D` is not the identity and `e` is the challenge of
//! `(R.x, L, D)`. That is the very equation the circuit proves, where `R` is no witness but comes out of `s` and `e`.

use std::sync::LazyLock;

use blake2b_simd::Params;
use ff::{Field, FromUniformBytes, PrimeField};
use group::{Curve, CurveAffine as _, GroupEncoding};
use pasta_curves::arithmetic::{CurveAffine, CurveExt};
use pasta_curves::pallas;
use rand_core::{CryptoRng, Rng};
use subtle::{ConditionallySelectable, ConstantTimeEq, CtOption};
use zeroize::Zeroize;

use crate::fixed_base::{DigitTable, mul_128, start};
use crate::hash::{Tag, hash_two};
use crate::note::Leaf;

const NONCE_PERSONAL: &[u8; 16] = b"halometer1-nonce";

/// `G`: the generator of all epoch keys, with nothing up its sleeve: hash-to-curve of a fixed string.
pub fn generator() -> pallas::Point {
    static G: LazyLock<pallas::Point> = LazyLock::new(|| pallas::Point::hash_to_curve("halometer/1")(b"generator"));
    *G
}

/// `[scalar] G`, in time independent of the scalar.
fn mul_generator(scalar: &pallas::Scalar) -> pallas::Point {
    generator_table().mul(scalar)
}

/// The digits' multiples of `G`, 128 pairs.
pub(crate) fn generator_table() -> &'static DigitTable {
    static TABLE: LazyLock<DigitTable> = LazyLock::new(|| DigitTable::new(generator(), 128));
    &TABLE
}

/// Affine coordinates of a point that is not the identity.
pub(crate) fn coordinates(p: &pallas::Affine) -> Option<(pallas::Base, pallas::Base)> {
    Option::from(p.coordinates()).map(|c: pasta_curves::arithmetic::Coordinates<_>| (*c.x(), *c.y()))
}

/// The low 128 bits of a field element's canonical form.
pub(crate) fn low_128(x: &pallas::Base) -> u128 {
    u128::from_le_bytes(x.to_repr()[..16].try_into().expect("16 bytes"))
}

/// The secret key `d` of an epoch, `1 <= d < q`. It signs leaves and nothing else. Wiped on drop, never printed.
pub struct SigningKey {
    secret: pallas::Scalar,
    public: PublicKey,
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl core::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Draws a key.
    pub fn generate<R: Rng + CryptoRng>(rng: &mut R) -> Self {
        loop {
            let mut wide = [0u8; 64];
            rng.fill_bytes(&mut wide);
            let secret = pallas::Scalar::from_uniform_bytes(&wide);
            wide.zeroize();
            if let Some(key) = Self::from_scalar(secret).into() {
                return key;
            }
        }
    }

    /// Reads the 32 bytes of [`to_bytes`](Self::to_bytes); none for zero and for what is not below `q`.
    pub fn from_bytes(bytes: &[u8; 32]) -> CtOption<Self> {
        pallas::Scalar::from_repr(*bytes).and_then(Self::from_scalar)
    }

    /// The secret, 32 bytes little-endian. The caller wipes them.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.secret.to_repr()
    }

    fn from_scalar(secret: pallas::Scalar) -> CtOption<Self> {
        let valid = !secret.is_zero();
        // For the invalid zero a stand-in keeps the public key constructible.
        let secret = pallas::Scalar::conditional_select(&secret, &pallas::Scalar::ONE, !valid);
        let public = PublicKey(mul_generator(&secret).to_affine());
        CtOption::new(Self { secret, public }, valid)
    }

    /// `D = [d]G`.
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Signs a leaf. Deterministic: the same leaf gives the same signature. The signature has been verified with the
    /// circuit's own equation before it is returned, so that a fault in the computation cannot release the key.
    pub fn sign(&self, leaf: &Leaf) -> Signature {
        let mut t = self.nonce(leaf);
        let r = mul_generator(&t).to_affine();
        let (r_x, _) = coordinates(&r).expect("t is not 0, and G has prime order");
        let e = self.public.challenge(r_x, leaf);
        let s = t + pallas::Scalar::from_u128(e) * self.secret;
        t.zeroize();
        let signature = Signature { e, s };
        assert!(self.public.verify(leaf, &signature), "a signature that does not verify must not leave the signer");
        signature
    }

    /// `t`. The hash's own state, on the stack, is not wiped: its library offers no way to.
    fn nonce(&self, leaf: &Leaf) -> pallas::Scalar {
        let mut secret = self.to_bytes();
        let mut hash = Params::new()
            .hash_length(64)
            .personal(NONCE_PERSONAL)
            .to_state()
            .update(&secret)
            .update(&self.public.to_bytes())
            .update(&leaf.to_bytes())
            .finalize()
            .as_array()
            .to_owned();
        secret.zeroize();
        let t = pallas::Scalar::from_uniform_bytes(&hash);
        hash.zeroize();
        assert!(!bool::from(t.is_zero()), "a hash of 512 bits is no multiple of q, but with probability 2^-254");
        t
    }
}

/// The `D` for which `[(4^128 - 1)/2] G - [(4^64 - 1)/2] D = S`.
fn without_constant() -> pallas::Affine {
    static POINT: LazyLock<pallas::Affine> = LazyLock::new(|| {
        let surplus = pallas::Scalar::from_u128(u128::MAX >> 1) + pallas::Scalar::TWO_INV;
        let inverse = surplus.invert().expect("(4^64 - 1)/2 is not a multiple of q");
        ((generator_table().surplus - start()) * inverse).to_affine()
    });
    *POINT
}

/// The public key `D` of an epoch: a point of Pallas, never the identity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pallas::Affine);

impl core::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PublicKey(")?;
        for byte in self.to_bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

impl PublicKey {
    /// Reads the 32-byte compressed form; none for a non-canonical one, for what is not on the curve, for the identity, and for
    /// the one point of which the circuit's constant would be the identity. Anybody can compute that point, and nobody its
    /// logarithm: it is no honest key, and no key can be built for it.
    pub fn from_bytes(bytes: &[u8; 32]) -> CtOption<Self> {
        pallas::Affine::from_bytes(bytes)
            .and_then(|p| CtOption::new(Self(p), !p.is_identity() & !p.ct_eq(&without_constant())))
    }

    /// The 32-byte compressed form.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The point itself.
    pub(crate) fn point(&self) -> pallas::Affine {
        self.0
    }

    /// `H_key(D.x, D.y)`.
    pub(crate) fn fingerprint(&self) -> pallas::Base {
        let (x, y) = coordinates(&self.0).expect("never the identity");
        hash_two(Tag::Key, x, y)
    }

    /// `H_ch2(H_ch1(R.x, L), H_key(D))`, all of its bits. Its low 128 are the challenge.
    pub(crate) fn challenge_hash(&self, r_x: pallas::Base, leaf: &Leaf) -> pallas::Base {
        hash_two(Tag::Challenge2, hash_two(Tag::Challenge1, r_x, leaf.value()), self.fingerprint())
    }

    fn challenge(&self, r_x: pallas::Base, leaf: &Leaf) -> u128 {
        low_128(&self.challenge_hash(r_x, leaf))
    }

    /// `R = [s]G - [e]D`, none when it is the identity. Runs in time independent of the signature.
    pub(crate) fn nonce_point(&self, signature: &Signature) -> Option<(pallas::Base, pallas::Base)> {
        let r = mul_generator(&signature.s) - mul_128(self.0.into(), signature.e);
        coordinates(&r.to_affine())
    }

    /// Whether `signature` is a valid signature of `leaf` under this key.
    pub fn verify(&self, leaf: &Leaf, signature: &Signature) -> bool {
        self.nonce_point(signature).is_some_and(|(r_x, _)| bool::from(self.challenge(r_x, leaf).ct_eq(&signature.e)))
    }
}

/// A signature `(e, s)`: the challenge, 128 bits, and the response, below `q`. It is its note owner's secret: an
/// observer of it and a leaf can link the two. Wiped on drop, never printed.
#[derive(Clone)]
pub struct Signature {
    e: u128,
    s: pallas::Scalar,
}

/// In constant time: how long it takes reveals nothing of a signature that is the note owner's secret.
impl ConstantTimeEq for Signature {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.e.ct_eq(&other.e) & self.s.ct_eq(&other.s)
    }
}

impl PartialEq for Signature {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Signature {}

impl Drop for Signature {
    fn drop(&mut self) {
        self.e.zeroize();
        self.s.zeroize();
    }
}

impl core::fmt::Debug for Signature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Signature(..)")
    }
}

impl Signature {
    /// Length of the encoding in bytes.
    pub const LENGTH: usize = 48;

    /// `e` and `s`, little-endian, 16 and 32 bytes.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..16].copy_from_slice(&self.e.to_le_bytes());
        bytes[16..].copy_from_slice(&self.s.to_repr());
        bytes
    }

    /// Reads the encoding; none when `s` is not below `q`. Says nothing of validity: see [`PublicKey::verify`].
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> CtOption<Self> {
        let e = u128::from_le_bytes(bytes[..16].try_into().expect("16 bytes"));
        let s = pallas::Scalar::from_repr(bytes[16..].try_into().expect("32 bytes"));
        s.map(|s| Self { e, s })
    }

    pub(crate) fn e(&self) -> u128 {
        self.e
    }

    pub(crate) fn s(&self) -> &pallas::Scalar {
        &self.s
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn leaf(n: u64) -> Leaf {
        Leaf::from_value(pallas::Base::from(n))
    }

    #[test]
    fn signs_and_verifies() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let key = SigningKey::generate(&mut rng);
        let other = SigningKey::generate(&mut rng).public_key();
        let signature = key.sign(&leaf(7));
        assert!(key.public_key().verify(&leaf(7), &signature));
        assert!(!key.public_key().verify(&leaf(8), &signature));
        assert!(!other.verify(&leaf(7), &signature));
    }

    #[test]
    fn every_bit_counts() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let key = SigningKey::generate(&mut rng);
        let bytes = key.sign(&leaf(7)).to_bytes();
        for bit in 0..8 * bytes.len() {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Some(signature) = Option::<Signature>::from(Signature::from_bytes(&changed)) {
                assert!(!key.public_key().verify(&leaf(7), &signature), "bit {bit}");
            }
        }
    }

    #[test]
    fn the_identity_as_nonce_point_is_refused() {
        // s = e*d makes R the identity; a verifier that went on with "x = 0" would accept a forged e.
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let key = SigningKey::generate(&mut rng);
        let e = low_128(&key.public_key().challenge_hash(pallas::Base::ZERO, &leaf(7)));
        let forged = Signature { e, s: pallas::Scalar::from_u128(e) * key.secret };
        assert!(!key.public_key().verify(&leaf(7), &forged));
    }

    #[test]
    fn the_key_without_a_constant_is_refused() {
        let bytes = PublicKey(without_constant()).to_bytes();
        assert!(bool::from(PublicKey::from_bytes(&bytes).is_none()));
        // An honest directory never has it; what would happen is that the table's last row is no point.
        let surplus = DigitTable::new(-pallas::Point::from(without_constant()), 64).surplus;
        assert_eq!(generator_table().surplus + surplus, start());
    }

    #[test]
    fn keys_from_outside_are_checked() {
        assert!(bool::from(PublicKey::from_bytes(&[0; 32]).is_none()), "identity");
        assert!(bool::from(PublicKey::from_bytes(&[0xff; 32]).is_none()), "not canonical");
        assert!(bool::from(SigningKey::from_bytes(&[0; 32]).is_none()), "zero");
        assert!(bool::from(SigningKey::from_bytes(&[0xff; 32]).is_none()), "not canonical");
    }
}
