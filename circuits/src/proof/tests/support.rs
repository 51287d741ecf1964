//! Spends and proofs of the tests here.

use ff::Field;
use pasta_curves::pallas;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::note::{AccountSecret, ContextHash, NoteSecret, Nullifier, ShareY, ValueCommitment};
use crate::proof::ProvingKey;
use crate::schnorr::SigningKey;
use crate::spend::{SpendPublic, SpendWitness};

pub(in crate::proof) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// An epoch, with its keys.
pub(in crate::proof) struct Epoch {
    signer: SigningKey,
    pub(in crate::proof) key: ProvingKey,
}

impl Epoch {
    pub(in crate::proof) fn new(seed: u64) -> Self {
        let signer = SigningKey::generate(&mut rng(seed));
        let key = ProvingKey::build(&signer.public_key());
        Self { signer, key }
    }

    /// An honest spend of a note that is worth `hidden + refund`.
    pub(in crate::proof) fn spend(
        &self,
        seed: u64,
        hidden: u64,
        refund: u64,
        charge: u64,
    ) -> (SpendPublic, SpendWitness) {
        let mut rng = rng(seed);
        let (account, note, next_note) =
            (AccountSecret::random(&mut rng), NoteSecret::random(&mut rng), NoteSecret::random(&mut rng));
        let signature = self.signer.sign(&account.account_id().commit(&note, hidden).leaf(refund));
        let witness = SpendWitness { account, note, hidden, refund, signature, next_note };
        let context = ContextHash::from_value(pallas::Base::random(&mut rng));
        let public = witness.public(context, charge).unwrap();
        (public, witness)
    }

    /// The same with values of its own.
    pub(in crate::proof) fn some_spend(&self, seed: u64) -> (SpendPublic, SpendWitness) {
        let mut rng = rng(seed ^ 0xfeed);
        let (hidden, refund) = (rng.next_u64() >> 1, rng.next_u64() >> 1);
        self.spend(seed, hidden, refund, hidden / 3)
    }
}

/// Other public inputs.
pub(in crate::proof) fn others(public: &SpendPublic) -> Vec<SpendPublic> {
    let other = |value: pallas::Base| value + pallas::Base::ONE;
    vec![
        SpendPublic { context: ContextHash::from_value(other(public.context.value())), ..*public },
        SpendPublic { share: ShareY::from_value(other(public.share.value())), ..*public },
        SpendPublic { nullifier: Nullifier::from_value(other(public.nullifier.value())), ..*public },
        SpendPublic { change: ValueCommitment::from_value(other(public.change.value())), ..*public },
        SpendPublic { charge: public.charge - 1, ..*public },
        SpendPublic { charge: 0, ..*public },
    ]
}
