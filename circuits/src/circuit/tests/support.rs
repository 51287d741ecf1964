//! An honest spend to start cheating from.

use ff::Field;
use pasta_curves::pallas::Base;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::super::*;
use crate::note::{AccountSecret, ContextHash, NoteSecret};
use crate::schnorr::SigningKey;

/// The instance column.
pub(super) type Instance = [Base; SpendPublic::COUNT];

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

    /// # Panics
    /// When the values make no valid spend.
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
        Self { key, witness, public }
    }

    /// The circuit of the key, without a witness.
    pub(super) fn empty_circuit(&self) -> SpendCircuit {
        SpendCircuit::for_key(&self.key.public_key())
    }

    pub(super) fn circuit(&self) -> SpendCircuit {
        self.empty_circuit().with_witness(&self.public, &self.witness).unwrap()
    }

    pub(super) fn trace(&self) -> Trace {
        let mut trace = Trace::empty();
        self.empty_circuit().fill(&mut trace, &self.public, &self.witness).unwrap();
        trace
    }
}

/// A copy of all cells.
pub(super) fn copy(trace: &Trace) -> Trace {
    let mut copy = Trace::empty();
    for at in CELLS.iter() {
        copy.set(*at, trace.get(*at));
    }
    copy
}

/// `-1, 0, 1` and what lies at the bound of values.
pub(super) fn edges() -> [(&'static str, Base); 5] {
    [
        ("0", Base::ZERO),
        ("1", Base::ONE),
        ("p - 1", -Base::ONE),
        ("2^64 - 1", Base::from(u64::MAX)),
        ("2^64", crate::spend::value_bound()),
    ]
}
