//! What the integration tests share.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fmt::Write as _;
use std::path::Path;

use ff::{Field, PrimeField};
use halometer_circuits::note::{AccountSecret, ContextHash, NoteSecret};
use halometer_circuits::proof::{Proof, ProvingKey, VerifyingKey};
use halometer_circuits::schnorr::{PublicKey, SigningKey};
use halometer_circuits::spend::{SpendPublic, SpendWitness};
use pasta_curves::pallas;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// A signing key with its proving and verifying keys.
pub(crate) struct Epoch {
    signer: SigningKey,
    pub(crate) proving: ProvingKey,
}

/// A proof, and what it is of.
#[derive(Clone)]
pub(crate) struct Proven {
    pub(crate) key: VerifyingKey,
    pub(crate) public: SpendPublic,
    pub(crate) proof: Proof,
}

impl Epoch {
    pub(crate) fn new(seed: u64) -> Self {
        let signer = SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(seed));
        let proving = ProvingKey::build(&signer.public_key());
        Self { signer, proving }
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.signer.public_key()
    }

    pub(crate) fn verifying(&self) -> &VerifyingKey {
        self.proving.verifying_key()
    }

    /// An honest spend.
    pub(crate) fn spend(&self, seed: u64) -> (SpendPublic, SpendWitness) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (account, note, next_note) =
            (AccountSecret::random(&mut rng), NoteSecret::random(&mut rng), NoteSecret::random(&mut rng));
        let (hidden, refund) = (rng.next_u64() >> 8, rng.next_u64() >> 8);
        let signature = self.signer.sign(&account.account_id().commit(&note, hidden).leaf(refund));
        let witness = SpendWitness { account, note, hidden, refund, signature, next_note };
        let context = ContextHash::hash(b"halometer1-tests", &[&seed.to_le_bytes()]).expect("not zero");
        let public = witness.public(context, hidden / 2).expect("payable");
        (public, witness)
    }

    /// A valid proof.
    pub(crate) fn prove(&self, seed: u64) -> Proven {
        let (public, witness) = self.spend(seed);
        let proof =
            self.proving.prove(&public, &witness, &mut ChaCha20Rng::seed_from_u64(seed)).expect("a true statement");
        Proven { key: self.verifying().clone(), public, proof }
    }
}

/// Any field element but zero, for the types that take bytes.
pub(crate) fn element(seed: u64) -> [u8; 32] {
    pallas::Base::random(&mut ChaCha20Rng::seed_from_u64(seed)).to_repr()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// Compares `found` with a file of this directory, or writes it there when HALOMETER_BLESS is set.
pub(crate) fn compare(file: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    if std::env::var_os("HALOMETER_BLESS").is_some() {
        std::fs::write(&path, found).expect("the file can be written");
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, pinned,
        "\ncircuits/tests/{file} has other values. Notes and signatures made before would be worthless. If that is meant, run \
         the test with HALOMETER_BLESS=1 and say in CHANGELOG.md what changed and why.\n"
    );
}
