//! The Ed25519 keys of the protocol: root, gateway and session. Checked strictly: a public key has one encoding and is not
//! of small order, and signatures are verified by the strict equation, so that no key verifies a message that its owner did
//! not sign and no signature has a second form.

use blake2b_simd::Params;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand_core::{CryptoRng, Rng};
use zeroize::{Zeroize, Zeroizing};

use super::bytes::{IssuerId, digest};

#[cfg(feature = "pipeline")]
mod together;

#[cfg(feature = "pipeline")]
pub(crate) use together::{Claim, verify_each};

/// Length of an Ed25519 signature in bytes.
pub(crate) const SIGNATURE: usize = 64;

/// Whether bytes 0..32 are the encoding of a number below 2^255 - 19, the top bit left out.
fn below_modulus(bytes: &[u8; 32]) -> bool {
    let top = bytes[31] & 0x7f;
    !(top == 0x7f && bytes[1..31].iter().all(|byte| *byte == 0xff) && bytes[0] >= 0xed)
}

fn read_key(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    if !below_modulus(bytes) {
        return None;
    }
    VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak())
}

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name(VerifyingKey);

        impl $name {
            /// Reads 32 bytes; none for what is not canonical, not on the curve, or of small order.
            pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
                read_key(bytes).map(Self)
            }

            /// The 32 bytes.
            pub fn to_bytes(&self) -> [u8; 32] {
                self.0.to_bytes()
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str(")")
            }
        }
    };
}

macro_rules! secret_key {
    ($(#[$doc:meta])* $name:ident, $public:ident) => {
        $(#[$doc])*
        pub struct $name(SigningKey);

        impl $name {
            /// From its 32 secret bytes, which the caller wipes. Every value is a key.
            pub fn from_bytes(bytes: &[u8; 32]) -> Self {
                Self(SigningKey::from_bytes(bytes))
            }

            /// Draws a key.
            pub fn generate<R: Rng + CryptoRng>(rng: &mut R) -> Self {
                let mut secret = [0; 32];
                rng.fill_bytes(&mut secret);
                let key = Self::from_bytes(&secret);
                secret.zeroize();
                key
            }

            /// The 32 secret bytes. The caller wipes them.
            pub fn to_bytes(&self) -> [u8; 32] {
                self.0.to_bytes()
            }

            /// The public half.
            pub fn public_key(&self) -> $public {
                $public(self.0.verifying_key())
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

public_key! {
    /// An issuer's root key: it signs directories, and the key that signs mints. Wallets pin it.
    RootKey
}
public_key! {
    /// A gateway's key, named in the directory: it signs receipts, and what a remote gateway sends the issuer. Each kind of
    /// message begins with a prefix of its own.
    GatewayKey
}
public_key! {
    /// The key that signs mints, certified by the root key.
    MintKey
}
public_key! {
    /// The public half of a one-time session key. It is part of the context, so that a spend can be used by the holder
    /// of the session key, and not by an onlooker that only saw the spend.
    SessionPublicKey
}
secret_key! {
    /// The secret of an issuer's root key. Wiped on drop, never printed, not `Clone`.
    RootSigningKey, RootKey
}
secret_key! {
    /// The secret of the key that signs mints. Wiped on drop, never printed, not `Clone`.
    MintSigningKey, MintKey
}
secret_key! {
    /// The secret of a gateway's key. Wiped on drop, never printed, not `Clone`.
    GatewaySigningKey, GatewayKey
}
secret_key! {
    /// The secret of a one-time session key. Wiped on drop, never printed, not `Clone`.
    SessionKey, SessionPublicKey
}

impl RootKey {
    /// The issuer's id: the hash of this key.
    pub fn issuer_id(&self) -> IssuerId {
        IssuerId::from_bytes(digest(b"halometer1-issid", &[&self.to_bytes()]).to_bytes())
    }
}

impl RootSigningKey {
    /// The key that signs mints, derived from this one: its holder learns nothing of this one.
    pub(super) fn mint_key(&self) -> MintSigningKey {
        let secret = Zeroizing::new(self.to_bytes());
        let hash = Params::new().hash_length(32).key(&secret[..]).personal(b"halometer1-mintk").hash(b"");
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(hash.as_bytes());
        MintSigningKey::from_bytes(&seed)
    }
}

macro_rules! signs {
    ($secret:ident, $public:ident) => {
        impl $secret {
            pub(crate) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE] {
                self.0.sign(message).to_bytes()
            }
        }

        impl $public {
            /// Whether the signature is this key's of the message, by the strict equation.
            pub(crate) fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE]) -> bool {
                self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
            }
        }
    };
}

signs!(RootSigningKey, RootKey);
signs!(GatewaySigningKey, GatewayKey);
signs!(MintSigningKey, MintKey);
signs!(SessionKey, SessionPublicKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_small_order_are_refused() {
        // y = 1 (the identity), y = -1 (order 2), y = 0 (order 4), a point of order 8.
        let order8: [u8; 32] = [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ];
        let mut one = [0; 32];
        one[0] = 1;
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        for bytes in [one, minus_one, [0; 32], order8] {
            assert!(SessionPublicKey::from_bytes(&bytes).is_none());
            let mut signed = bytes;
            signed[31] |= 0x80;
            assert!(SessionPublicKey::from_bytes(&signed).is_none());
        }
    }

    #[test]
    fn a_second_encoding_of_a_key_is_refused() {
        // y + p for the small y that have one: below_modulus says no before decompression may say yes.
        for low in 0xed..=0xff {
            let mut bytes = [0xff; 32];
            bytes[0] = low;
            for top in [0x7f, 0xff] {
                bytes[31] = top;
                assert!(RootKey::from_bytes(&bytes).is_none(), "{low:x} {top:x}");
            }
        }
        let key = SessionKey::from_bytes(&[7; 32]).public_key();
        assert_eq!(SessionPublicKey::from_bytes(&key.to_bytes()), Some(key));
    }

    #[test]
    fn a_signature_with_a_larger_scalar_is_refused() {
        let key = SessionKey::from_bytes(&[7; 32]);
        let signature = key.sign(b"message");
        assert!(key.public_key().verify(b"message", &signature));
        assert!(!key.public_key().verify(b"massage", &signature));
        // s + l is the same number modulo the group's order.
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut malleated = signature;
        let mut carry = 0u16;
        for (byte, add) in malleated[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert!(!key.public_key().verify(b"message", &malleated));
    }

    #[test]
    fn a_signature_with_a_nonce_point_of_small_order_is_refused() {
        // R is the identity and s = H(R, A, message) * a: the equation without cofactor holds, the strict check does not.
        let key = SessionKey::from_bytes(&[7; 32]);
        let mut signature = [0; SIGNATURE];
        signature[0] = 1;
        signature[32..].copy_from_slice(&[
            0xd4, 0xc5, 0x32, 0x31, 0x31, 0xff, 0x96, 0x83, 0xcf, 0xb3, 0xd3, 0x01, 0x97, 0xc7, 0x86, 0xc9, 0x04, 0x3f,
            0x10, 0x52, 0xd6, 0xc2, 0xd5, 0x29, 0x3f, 0x19, 0xd6, 0xf3, 0x6b, 0x91, 0x11, 0x04,
        ]);
        let lax = ed25519_dalek::Verifier::verify(&key.public_key().0, b"message", &Signature::from_bytes(&signature));
        assert!(lax.is_ok());
        assert!(!key.public_key().verify(b"message", &signature));
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", SessionKey::from_bytes(&[7; 32])), "SessionKey(..)");
        assert_eq!(format!("{:?}", RootSigningKey::from_bytes(&[7; 32])), "RootSigningKey(..)");
    }
}
