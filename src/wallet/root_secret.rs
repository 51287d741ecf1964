//! The secret that everything else comes from.

use blake2b_simd::Params;
use halometer_circuits::note::{AccountSecret, NoteSecret};
use halometer_circuits::spend::SpendPublic;
use rand_core::{CryptoRng, Rng};
use subtle::CtOption;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::protocol::{DeviceId, IssuerId, SessionKey};

/// The root secret of a wallet: 32 random bytes. Account secrets, note secrets, session keys and memo keys are derived from it,
/// each under its own label; none of them tells anything of another. Wiped on drop, never printed, not `Clone`.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RootSecret([u8; 32]);

impl core::fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RootSecret(..)")
    }
}

/// Whose and which payment's secrets: the first part of every derivation.
#[derive(Clone, Copy)]
pub(super) struct PaymentPath {
    pub(super) issuer: IssuerId,
    pub(super) device: DeviceId,
    /// Number of the payment in its wallet.
    pub(super) payment: u64,
}

/// Which note's secrets.
#[derive(Clone, Copy)]
pub(super) struct NotePath {
    pub(super) payment: PaymentPath,
    pub(super) lane: u32,
    pub(super) index: u64,
}

const ACCOUNT: &[u8; 16] = b"halometer1-k....";
const NOTE: &[u8; 16] = b"halometer1-rho..";
const SESSION: &[u8; 16] = b"halometer1-sess.";
const BLINDING: &[u8; 16] = b"halometer1-blind";

impl RootSecret {
    /// Draws one.
    pub fn generate<R: Rng + CryptoRng>(rng: &mut R) -> Self {
        let mut secret = Self([0; 32]);
        rng.fill_bytes(&mut secret.0);
        secret
    }

    /// From its 32 bytes, which were drawn at random: with less than 128 bits of entropy in them, credit can be guessed.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storing them encrypted.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }

    /// BLAKE2b-512, keyed with the root secret and personalised with a label: a pseudo-random function for each label.
    pub(super) fn derive(&self, label: &[u8; 16], parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
        let mut state = Params::new().hash_length(64).key(&self.0).personal(label).to_state();
        for part in parts {
            state.update(part);
        }
        Zeroizing::new(*state.finalize().as_array())
    }

    /// A field element that is not 0; the counter is for the one case in 2^254 in which the first attempt is.
    fn element<T>(&self, label: &[u8; 16], parts: &[&[u8]; 5], read: impl Fn(&[u8; 64]) -> CtOption<T>) -> T {
        let [issuer, device, payment, lane, index] = *parts;
        (0..=u8::MAX)
            .find_map(|attempt| {
                read(&self.derive(label, &[issuer, device, payment, lane, index, &[attempt]])).into_option()
            })
            .expect("256 pseudo-random elements are not all zero")
    }

    /// `k` of a payment.
    pub(super) fn account(&self, path: &PaymentPath) -> AccountSecret {
        let path = NotePath { payment: *path, lane: 0, index: 0 };
        path.with_bytes(|parts| self.element(ACCOUNT, parts, AccountSecret::from_wide))
    }

    /// `rho` of a note. Not from `k`: a `k` learnt from a double spend reveals no `rho`.
    pub(super) fn note(&self, path: &NotePath) -> NoteSecret {
        path.with_bytes(|parts| self.element(NOTE, parts, NoteSecret::from_wide))
    }

    /// What the proof of a statement is blinded from, beside fresh randomness. Of all of its public inputs: they say which note, in
    /// which context.
    pub(super) fn blinding(&self, public: &SpendPublic) -> Zeroizing<[u8; 64]> {
        let SpendPublic { context, share, nullifier, change, charge } = public;
        let parts = [context.to_bytes(), share.to_bytes(), nullifier.to_bytes(), change.to_bytes()].concat();
        self.derive(BLINDING, &[&parts, &charge.to_be_bytes()])
    }

    /// The session key of the spend of a note. A note is spent once, so that the key is one-time.
    pub(super) fn session(&self, path: &NotePath) -> SessionKey {
        path.with_bytes(|parts| {
            let wide = self.derive(SESSION, parts);
            let mut seed = Zeroizing::new([0; 32]);
            seed.copy_from_slice(&wide[..32]);
            SessionKey::from_bytes(&seed)
        })
    }
}

impl NotePath {
    fn with_bytes<T>(&self, action: impl FnOnce(&[&[u8]; 5]) -> T) -> T {
        let PaymentPath { issuer, device, payment } = &self.payment;
        action(&[
            issuer.as_bytes(),
            device.as_bytes(),
            &payment.to_be_bytes(),
            &self.lane.to_be_bytes(),
            &self.index.to_be_bytes(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn paths() -> impl Iterator<Item = NotePath> {
        let bits = [0u64, 1];
        let path = move |n: u8| {
            let bit = move |i: u32| bits[usize::from(n >> i & 1)];
            let payment = PaymentPath {
                issuer: IssuerId::from_bytes([bit(0) as u8; 32]),
                device: DeviceId::from_bytes([bit(1) as u8; 8]),
                payment: bit(2),
            };
            NotePath { payment, lane: bit(3) as u32, index: bit(4) }
        };
        (0..32).map(path)
    }

    #[test]
    fn every_place_has_its_own_secrets() {
        let mut seen = HashSet::new();
        let mut accounts = HashSet::new();
        for root in [RootSecret::from_bytes([1; 32]), RootSecret::from_bytes([2; 32])] {
            for path in paths() {
                assert!(seen.insert(root.note(&path).to_bytes()));
                assert!(seen.insert(root.session(&path).to_bytes()));
                accounts.insert(root.account(&path.payment).to_bytes());
            }
        }
        assert_eq!(accounts.len(), 2 * 8, "one for each issuer, device and payment, the same for all its lanes");
        assert!(seen.is_disjoint(&accounts));
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", RootSecret::from_bytes([1; 32])), "RootSecret(..)");
    }
}
