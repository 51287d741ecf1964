//! Keys and parameters are of one size.

use pasta_curves::vesta;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::proof::VerifyingKey;
use crate::proof::setup::PARAMS;
use crate::schnorr::SigningKey;

/// The parameters are no argument of anything here: they are made for the circuit's number of rows, once, and so is the
/// evaluation domain of every key. A key under smaller parameters cannot be made, so none can be verified with.
#[test]
fn parameters_smaller_than_the_key_make_no_key() {
    use crate::circuit::{K, SpendCircuit};
    use halo2_proofs::plonk::{Error, keygen_vk};
    use halo2_proofs::poly::commitment::Params;

    let key = SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(5)).public_key();
    let circuit = SpendCircuit::for_key(&key);
    for k in [K - 1, K - 4] {
        let params = Params::<vesta::Affine>::new(k);
        assert!(matches!(keygen_vk(&params, &circuit), Err(Error::NotEnoughRowsAvailable { .. })), "{k}");
    }
    assert_eq!(PARAMS.get_g().len(), 1 << K);
    assert!(VerifyingKey::build(&key).description().contains(&format!("domain: PinnedEvaluationDomain {{ k: {K},")));
}
