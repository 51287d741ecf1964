//! What cheats are tried on the circuit. See also `docs/constraints.md`.

mod support;

use halo2_proofs::dev::MockProver;

use super::*;
use support::*;

#[test]
fn an_honest_spend_satisfies_the_circuit() {
    for seed in 0..4 {
        let spend = Honest::new(seed);
        let circuit = spend.circuit();
        let prover = MockProver::run(K, &circuit, vec![spend.public.instance().to_vec()]).unwrap();
        assert_eq!(prover.verify(), Ok(()));
    }
}

#[test]
fn counts() {
    use crate::proof::ProvingKey;
    let spend = Honest::new(1);
    let pk = ProvingKey::build(&spend.key.public_key());
    let d = pk.verifying_key().description();
    println!("{}", &d[..3000.min(d.len())]);
    println!("fixed {}", d.matches("FixedMeta").count());
    let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::seed_from_u64(1);
    let proof = pk.prove(&spend.public, &spend.witness, &mut rng).unwrap();
    pk.verifying_key().verify(&spend.public, &proof).unwrap();
}
