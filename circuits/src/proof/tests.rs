//! The short cuts of the verifier against the stock one: `verify_proof` of `halo2_proofs` on the true instance.

use ff::{Field, PrimeField};
use group::CurveAffine as _;
use halo2_proofs::plonk::{self, SingleVerifier, VerificationStrategy, verify_proof};
use halo2_proofs::poly::commitment::{Guard, MSM};
use halo2_proofs::transcript::EncodedChallenge;
use pasta_curves::arithmetic::CurveAffine;
use pasta_curves::{pallas, vesta};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::key::{Equation, vanishes};
use super::setup::PARAMS;
use super::transcript::{POINT_BYTES, Reader, SCALAR_BYTES};
use super::*;
use crate::note::{AccountSecret, ContextHash, NoteSecret, Nullifier, ShareY, ValueCommitment};
use crate::schnorr::SigningKey;
use crate::spend::{SpendPublic, SpendWitness};

struct Proven {
    key: VerifyingKey,
    public: SpendPublic,
    proof: Proof,
}

fn prove(seed: u64) -> Proven {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let signer = SigningKey::generate(&mut rng);
    let (account, note, next_note) =
        (AccountSecret::random(&mut rng), NoteSecret::random(&mut rng), NoteSecret::random(&mut rng));
    let (hidden, refund) = (rng.next_u64() >> 1, rng.next_u64() >> 1);
    let signature = signer.sign(&account.account_id().commit(&note, hidden).leaf(refund));
    let witness = SpendWitness { account, note, hidden, refund, signature, next_note };
    let context = ContextHash::from_value(pallas::Base::random(&mut rng));
    let public = witness.public(context, hidden / 3).unwrap();
    let key = ProvingKey::build(&signer.public_key());
    let proof = key.prove(&public, &witness, &mut rng).unwrap();
    Proven { key: key.verifying_key().clone(), public, proof }
}

/// The verdict of the stock verifier.
fn stock(key: &VerifyingKey, public: &SpendPublic, proof: &Proof) -> bool {
    let instance = public.instance();
    let mut transcript = Reader::new(public, proof.as_bytes());
    verify_proof(&PARAMS, key.inner(), SingleVerifier::new(&PARAMS), &[&[&instance]], &mut transcript).is_ok()
}

/// The equation of the stock verifier, before it is asked whether it is zero.
struct Full;

impl VerificationStrategy<'static, vesta::Affine> for Full {
    type Output = MSM<'static, vesta::Affine>;

    fn process<E: EncodedChallenge<vesta::Affine>>(
        self,
        f: impl FnOnce(MSM<'static, vesta::Affine>) -> Result<Guard<'static, vesta::Affine, E>, plonk::Error>,
    ) -> Result<Self::Output, plonk::Error> {
        Ok(f(PARAMS.empty_msm())?.use_challenges())
    }
}

/// Demands that both equations are the same point, be it zero or not, and that the verdicts agree. Says what they are.
fn compare(key: &VerifyingKey, public: &SpendPublic, proof: &Proof) -> Result<(), VerifyError> {
    let verdict = key.verify(public, proof);
    assert_eq!(stock(key, public, proof), verdict.is_ok());
    if verdict != Err(VerifyError::Encoding) {
        let Equation { mut rest, generators } = key.equation(public, proof).unwrap();
        let instance = public.instance();
        let mut transcript = Reader::new(public, proof.as_bytes());
        let mut full = verify_proof(&PARAMS, key.inner(), Full, &[&[&instance]], &mut transcript).unwrap();
        full.scale(-pallas::Base::ONE);
        rest.add_msm(&full);
        assert!(vanishes(rest, generators.sum()), "the equations differ");
    }
    verdict
}

fn others(public: &SpendPublic) -> Vec<SpendPublic> {
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

#[test]
fn the_equation_is_that_of_the_stock_verifier() {
    let proven = [prove(1), prove(2)];
    for Proven { key, public, proof } in &proven {
        assert_eq!(compare(key, public, proof), Ok(()));
        for other in others(public) {
            assert_eq!(compare(key, &other, proof), Err(VerifyError::Invalid));
        }
    }
    // The other epoch's key, and the other's proof.
    assert_eq!(compare(&proven[1].key, &proven[0].public, &proven[0].proof), Err(VerifyError::Invalid));
    assert_eq!(compare(&proven[0].key, &proven[0].public, &proven[1].proof), Err(VerifyError::Invalid));
}

/// The same, with each scalar and each point of the proof replaced by another that is well formed.
#[test]
fn the_equation_is_that_of_the_stock_verifier_on_bad_proofs() {
    let Proven { key, public, proof } = prove(3);
    let (mut points, mut scalars, mut at) = (0, 0, 0);
    while at < Proof::LENGTH {
        let mut bytes = proof.as_bytes().to_vec();
        if let Some(negated) = negate_point(&bytes[at..]) {
            bytes[at..at + POINT_BYTES].copy_from_slice(&negated);
            points += 1;
            at += POINT_BYTES;
        } else {
            let slot = &mut bytes[at..at + SCALAR_BYTES];
            let value = pallas::Base::from_repr((&*slot).try_into().unwrap()).unwrap() + pallas::Base::ONE;
            slot.copy_from_slice(&value.to_repr());
            scalars += 1;
            at += SCALAR_BYTES;
        }
        let bad = Proof::from_bytes(&bytes).unwrap();
        assert_eq!(compare(&key, &public, &bad), Err(VerifyError::Invalid));
    }
    assert_eq!(points * POINT_BYTES + scalars * SCALAR_BYTES, Proof::LENGTH);
    assert!(points > 30 && scalars > 30);
}

/// The negation of the point that the bytes begin with, if they do.
fn negate_point(bytes: &[u8]) -> Option<[u8; POINT_BYTES]> {
    let coordinate =
        |at: usize| Option::<vesta::Base>::from(vesta::Base::from_repr(bytes.get(at..at + 32)?.try_into().ok()?));
    let (x, y) = (coordinate(0)?, coordinate(32)?);
    Option::<vesta::Affine>::from(vesta::Affine::from_xy(x, y)).filter(|p| !bool::from(p.is_identity()))?;
    let mut negated = [0; POINT_BYTES];
    negated[..32].copy_from_slice(&x.to_repr());
    negated[32..].copy_from_slice(&(-y).to_repr());
    Some(negated)
}

/// The transcript absorbs the public inputs, so that a proof is of them and of no others, even where the polynomials are the
/// same: `x` enters only the line, and a prover who knows `k` and `a` could otherwise move along it.
#[test]
fn the_challenges_depend_on_each_public_input() {
    let Proven { public, proof, .. } = prove(4);
    let first = |public: &SpendPublic| {
        use halo2_proofs::transcript::Transcript;
        let challenge = Reader::new(public, proof.as_bytes()).squeeze_challenge();
        challenge.get_scalar()
    };
    for other in others(&public) {
        assert_ne!(first(&other), first(&public));
    }
}

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
