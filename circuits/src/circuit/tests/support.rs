//! An honest spend to start cheating from.

use ff::Field;
use pasta_curves::pallas::Base;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::super::*;
use crate::note::{AccountSecret, ContextHash, NoteSecret};
use crate::schnorr::SigningKey;

/// A key, a note signed under it, and a spend of that note.
pub(super) struct Honest {
    pub(super) key: SigningKey,
    pub(super) witness: SpendWitness,
    pub(super) public: SpendPublic,
}

impl Honest {
    pub(super) fn new(seed: u64) -> Self {
        Self::with_values(seed, 50_000_000, 7_000_000, 10_000_000)
    }

    pub(super) fn with_values(seed: u64, hidden: u64, refund: u64, charge: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let key = SigningKey::generate(&mut rng);
        let (account, note, next_note) =
            (AccountSecret::random(&mut rng), NoteSecret::random(&mut rng), NoteSecret::random(&mut rng));
        let leaf = account.account_id().commit(&note, hidden).leaf(refund);
        let signature = key.sign(&leaf);
        let witness = SpendWitness { account, note, hidden, refund, signature, next_note };
        let context = ContextHash::from_value(Base::random(&mut rng));
        let public = witness.public(context, charge).unwrap();
        let _ = rng.next_u64();
        Self { key, witness, public }
    }

    pub(super) fn circuit(&self) -> SpendCircuit {
        SpendCircuit::for_key(&self.key.public_key()).with_witness(&self.public, &self.witness).unwrap()
    }
}
