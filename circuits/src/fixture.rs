//! Spends to measure and to test with (feature `fixtures`). Not for production: what is secret here is derived from a number.

use rand_core::{CryptoRng, Rng};

use crate::circuit::{Description, SpendCircuit};
use crate::note::{AccountSecret, ContextHash, NoteSecret};
use crate::schnorr::{PublicKey, SigningKey};
use crate::spend::{SpendPublic, SpendWitness};

/// An epoch key, and honest spends of notes that it signed.
#[derive(Debug)]
pub struct Fixture {
    key: SigningKey,
}

impl Fixture {
    /// Draws an epoch key.
    pub fn new<R: Rng + CryptoRng>(rng: &mut R) -> Self {
        Self { key: SigningKey::generate(rng) }
    }

    /// The epoch key `D`.
    pub fn epoch_key(&self) -> PublicKey {
        self.key.public_key()
    }

    /// The spend of a note of its own, worth 5 credits and some micro-credits, under a charge of one credit.
    pub fn spend<R: Rng + CryptoRng>(&self, rng: &mut R) -> (SpendPublic, SpendWitness) {
        let (account, note, next_note) = (AccountSecret::random(rng), NoteSecret::random(rng), NoteSecret::random(rng));
        let (hidden, refund, charge) = (5_000_000, rng.next_u64() % 1_000_000, 1_000_000);
        let signature = self.key.sign(&account.account_id().commit(&note, hidden).leaf(refund));
        let witness = SpendWitness { account, note, hidden, refund, signature, next_note };
        let context = loop {
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes);
            if let Some(context) = ContextHash::hash(b"halometer1-fixtu", &[&bytes]) {
                break context;
            }
        };
        let public = witness.public(context, charge).expect("the charge is below what the note is worth");
        (public, witness)
    }
}

/// The circuit for an epoch key as plain text: gates, fixed cells, selectors, copies and assigned cells, for tools that look
/// for what it leaves free. `docs/constraints.md` describes the format, and `cargo run -p halometer-circuits --features
/// fixtures --example describe` prints it.
pub fn describe(key: &PublicKey) -> String {
    Description::of(&SpendCircuit::for_key(key)).text()
}

/// BLAKE2b-256, under a label of its own, of what [`describe`] returns: the digest in `tests/golden/circuit.txt`.
pub fn description_digest(key: &PublicKey) -> [u8; 32] {
    Description::of(&SpendCircuit::for_key(key)).digest()
}
