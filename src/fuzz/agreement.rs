//! Targets: what must agree with a simpler form of itself.

use std::sync::LazyLock;

use halometer_circuits::fixture::Fixture;
use halometer_circuits::proof::{BatchVerifier, Proof, ProvingKey, VerifyingKey};
use halometer_circuits::spend::SpendPublic;
use rand_core::Rng as _;

use crate::testing::fuzz::planted;
use crate::testing::world::rng;

/// The core of a gateway and a model of it, through the history that the bytes stand for.
pub(super) fn gateway_model(bytes: &[u8]) {
    crate::trials::model::history(bytes);
}

pub(super) fn histories() -> Vec<Vec<u8>> {
    let mut rng = rng(7);
    // Longer ones meet more states; short ones are made out faster by a fuzzer.
    [30, 120, 360, 360].map(|length| core::iter::repeat_with(|| rng.next_u64() as u8).take(length).collect()).to_vec()
}

struct Pool {
    key: VerifyingKey,
    proofs: Vec<(SpendPublic, Proof)>,
}

static POOL: LazyLock<Pool> = LazyLock::new(|| {
    let mut rng = rng(3);
    let fixture = Fixture::new(&mut rng);
    let key = ProvingKey::build(&fixture.epoch_key());
    let proofs = (0..3).map(|_| {
        let (public, witness) = fixture.spend(&mut rng);
        (public, key.prove(&public, &witness, &mut rng).expect("a true statement"))
    });
    Pool { proofs: proofs.collect(), key: key.verifying_key().clone() }
});

/// Each four bytes are a proof: which, of what, and a change of it. The batch says of each what single verification says. The
/// planted fault: the batch says of a good proof beside a bad one that it is bad.
pub(super) fn batch(bytes: &[u8]) {
    let Pool { key, proofs } = &*POOL;
    let mut batch = BatchVerifier::new();
    let mut single = Vec::new();
    for item in bytes.chunks_exact(4).take(8) {
        let (mut public, proof) = proofs[usize::from(item[0]) % proofs.len()].clone();
        let mut changed = proof.as_bytes().to_vec();
        let at = usize::from(u16::from_le_bytes([item[2], item[3]])) % changed.len();
        match item[1] % 8 {
            0..4 => {}
            4 | 5 => changed[at] ^= 1 << (item[1] >> 5),
            6 => public.charge ^= 1 << (at % 64),
            _ => public = proofs[at % proofs.len()].0,
        }
        let proof = Proof::from_bytes(&changed).expect("the right length");
        batch.add(key, &public, &proof);
        single.push(key.verify(&public, &proof));
    }
    let mut found = batch.verify(&mut rng(1));
    if planted() && found.iter().any(Result::is_err) {
        let bad = found.iter().find(|verdict| verdict.is_err()).cloned().expect("a bad one");
        found.fill(bad);
    }
    assert_eq!(found, single);
}

pub(super) fn batches() -> Vec<Vec<u8>> {
    vec![vec![0; 12], vec![0, 0, 0, 0, 1, 0, 0, 0, 2, 4, 9, 1], vec![0, 5, 1, 1, 1, 6, 3, 0, 2, 7, 1, 0, 1, 0, 0, 0]]
}
