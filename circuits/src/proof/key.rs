//! Keys of an epoch, one proof, and its verification.

use std::sync::Arc;

use blake2b_simd::Params as Blake2b;
use ff::Field;
use group::{Curve, CurveAffine as _};
use halo2_proofs::plonk::{self, VerificationStrategy, create_proof, keygen_pk, keygen_vk, verify_proof};
use halo2_proofs::poly::commitment::{Guard, MSM};
use halo2_proofs::transcript::EncodedChallenge;
use pasta_curves::{pallas, vesta};
use rand_core::{CryptoRng, Rng};

use super::generators::{GeneratorScalars, prepare};
use super::setup::{INSTANCE_BASES, PARAMS};
use super::transcript::{POINT_BYTES, Reader, SCALAR_BYTES, Writer};
use crate::circuit::SpendCircuit;
use crate::schnorr::PublicKey;
use crate::spend::{SpendPublic, SpendWitness, Violation, check};

/// A proof of the Spend statement: [`Proof::LENGTH`] bytes, of which nothing is known but their number until it is verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof(Box<[u8]>);

impl core::fmt::Debug for Proof {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Proof(..)")
    }
}

impl Proof {
    /// Points: 8 advice columns, permutation product, random polynomial, 5 pieces of the quotient, the multi-opening's
    /// quotient, the opening's blinding polynomial, and two for each of 8 rounds.
    const POINTS: usize = 8 + 1 + 1 + 5 + 1 + 1 + 2 * 8;
    /// Scalars: evaluations of the instance (1), of advice (15), fixed (24) and permutation columns (3), of the random
    /// polynomial (1), of the product (2), of the two sets of the multi-opening, and the opening's last two.
    const SCALARS: usize = 1 + 15 + 24 + 3 + 1 + 2 + 2 + 2;
    /// Length of a proof in bytes. Fixed: shorter or longer is refused.
    pub const LENGTH: usize = Self::POINTS * POINT_BYTES + Self::SCALARS * SCALAR_BYTES;

    /// Takes the bytes of a proof.
    ///
    /// # Errors
    /// [`VerifyError::Length`]. Everything else shows when the proof is verified.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, VerifyError> {
        if bytes.len() == Self::LENGTH {
            Ok(Self(bytes.into()))
        } else {
            Err(VerifyError::Length { found: bytes.len() })
        }
    }

    /// The bytes of the proof.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The statement is false for this witness. The caller's fault; nothing was computed.
    #[error("the statement is false: {0}")]
    Statement(#[from] Violation),
    /// The proof system failed, which it does with negligible probability. Try again.
    #[error("the prover failed: {0}")]
    Prover(plonk::Error),
}

/// Why a proof is refused. The prover's fault in all cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Not [`Proof::LENGTH`] bytes.
    #[error("a proof has {} bytes, not {found}", Proof::LENGTH)]
    Length {
        /// The number of bytes found.
        found: usize,
    },
    /// A field element that is not canonical, or a point that is not on the curve or is the identity.
    #[error("the proof holds an encoding that is not canonical, or no point of the curve")]
    Encoding,
    /// It does not prove the statement for these public inputs under this key.
    #[error("the proof does not verify")]
    Invalid,
}

/// What it takes to prove spends of one epoch's notes. Cheap to clone: the clones share it.
#[derive(Clone)]
pub struct ProvingKey(Arc<ProvingInner>);

struct ProvingInner {
    key: plonk::ProvingKey<vesta::Affine>,
    circuit: SpendCircuit,
    verifying: VerifyingKey,
}

impl core::fmt::Debug for ProvingKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("ProvingKey").field(&self.0.verifying.epoch_key()).finish()
    }
}

/// What it takes to verify spends of one epoch's notes. Cheap to clone: the clones share it.
#[derive(Clone)]
pub struct VerifyingKey(Arc<VerifyingInner>);

struct VerifyingInner {
    key: plonk::VerifyingKey<vesta::Affine>,
    epoch_key: PublicKey,
}

impl core::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("VerifyingKey").field(&self.epoch_key()).finish()
    }
}

impl ProvingKey {
    /// Builds the keys for an epoch key `D`. Deterministic; some tens of milliseconds of one core, and the first in a process
    /// as many for the parameters, which all epochs share.
    pub fn build(epoch_key: &PublicKey) -> Self {
        let circuit = SpendCircuit::for_key(epoch_key);
        let verifying = VerifyingKey::from_circuit(epoch_key, &circuit);
        let key = keygen_pk(&PARAMS, verifying.0.key.clone(), &circuit).expect("the layout fits, for every key");
        Self(Arc::new(ProvingInner { key, circuit, verifying }))
    }

    /// The verifying key.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.0.verifying
    }

    /// Proves the statement. Checks it natively first, so that a false one costs little. Computes in the rayon pool that it
    /// is called in; to make many proofs, give each of them one thread.
    ///
    /// # Errors
    /// [`ProveError::Statement`] names the broken rule.
    pub fn prove<R: Rng + CryptoRng>(
        &self,
        public: &SpendPublic,
        witness: &SpendWitness,
        rng: &mut R,
    ) -> Result<Proof, ProveError> {
        check(&self.0.verifying.epoch_key(), public, witness)?;
        let circuit = self.0.circuit.with_witness(public, witness)?;
        self.prove_circuit(public, circuit, rng)
    }

    pub(crate) fn prove_circuit<R: Rng + CryptoRng>(
        &self,
        public: &SpendPublic,
        circuit: SpendCircuit,
        rng: &mut R,
    ) -> Result<Proof, ProveError> {
        let mut transcript = Writer::new(public, Proof::LENGTH);
        let instance = public.instance();
        create_proof(&PARAMS, &self.0.key, &[circuit], &[&[&instance[..]]], rng, &mut transcript)
            .map_err(ProveError::Prover)?;
        let bytes = transcript.into_proof();
        assert_eq!(bytes.len(), Proof::LENGTH, "the length of a proof is a property of the circuit");
        Ok(Proof(bytes.into()))
    }
}

impl VerifyingKey {
    /// Builds the key for an epoch key `D`, as [`ProvingKey::build`] does, in less time.
    pub fn build(epoch_key: &PublicKey) -> Self {
        Self::from_circuit(epoch_key, &SpendCircuit::for_key(epoch_key))
    }

    fn from_circuit(epoch_key: &PublicKey, circuit: &SpendCircuit) -> Self {
        prepare();
        let key = keygen_vk(&PARAMS, circuit).expect("the layout fits, for every key");
        Self(Arc::new(VerifyingInner { key, epoch_key: *epoch_key }))
    }

    /// The epoch key `D` that is part of this key.
    pub fn epoch_key(&self) -> PublicKey {
        self.0.epoch_key
    }

    /// BLAKE2b-256 of the full description of this key: domain, columns, gates, queries, commitments.
    pub fn digest(&self) -> [u8; 32] {
        let description = self.description();
        let hash = Blake2b::new().hash_length(32).personal(b"halometer1-vkey_").hash(description.as_bytes());
        hash.as_bytes().try_into().expect("32 bytes were asked for")
    }

    /// The full description of this key, a long text that names every gate and query.
    pub fn description(&self) -> String {
        format!("{:?}", self.0.key.pinned())
    }

    /// Verifies one proof.
    ///
    /// # Errors
    /// [`VerifyError::Encoding`], [`VerifyError::Invalid`].
    pub fn verify(&self, public: &SpendPublic, proof: &Proof) -> Result<(), VerifyError> {
        let Equation { rest, generators } = self.equation(public, proof)?;
        if vanishes(rest, generators.sum()) { Ok(()) } else { Err(VerifyError::Invalid) }
    }

    /// Does everything but the last step of verification.
    pub(super) fn equation(&self, public: &SpendPublic, proof: &Proof) -> Result<Equation, VerifyError> {
        let mut transcript = Reader::new(public, &proof.0);
        let result = verify_proof(&PARAMS, &self.0.key, Deferred, &[&[&[]]], &mut transcript);
        if transcript.malformed() {
            return Err(VerifyError::Encoding);
        }
        // Proofs of other lengths do not get here, so that nothing can be left over; it costs nothing to look.
        let mut rest = result.ok().filter(|_| transcript.finished()).ok_or(VerifyError::Invalid)?;
        let kappa = transcript.kappa();
        for (value, base) in public.instance().into_iter().zip(*INSTANCE_BASES) {
            rest.append_term(kappa * value, base);
        }
        Ok(Equation { rest, generators: transcript.generator_scalars() })
    }

    #[cfg(test)]
    pub(crate) fn inner(&self) -> &plonk::VerifyingKey<vesta::Affine> {
        &self.0.key
    }
}

/// A proof's equation: it is valid if the sum of both parts is zero.
#[derive(Clone, Debug)]
pub(super) struct Equation {
    /// Terms on the proof's points, on those of the key, and on the instance's.
    pub(super) rest: MSM<'static, vesta::Affine>,
    /// Terms on the generators.
    pub(super) generators: GeneratorScalars,
}

/// Whether the terms of `rest` and the point `generators` add up to zero.
pub(super) fn vanishes(mut rest: MSM<'static, vesta::Affine>, generators: vesta::Point) -> bool {
    // append_term passes over the identity, which is what it adds.
    rest.append_term(pallas::Base::ONE, generators.to_affine());
    rest.eval()
}

/// The strategy that stops before the last step, and leaves out the terms on the generators.
struct Deferred;

impl VerificationStrategy<'static, vesta::Affine> for Deferred {
    type Output = MSM<'static, vesta::Affine>;

    fn process<E: EncodedChallenge<vesta::Affine>>(
        self,
        f: impl FnOnce(MSM<'static, vesta::Affine>) -> Result<Guard<'static, vesta::Affine, E>, plonk::Error>,
    ) -> Result<Self::Output, plonk::Error> {
        // `use_g` adds `[-c] G` for a point `G` that the caller has computed; for the identity it adds nothing.
        let (msm, _) = f(PARAMS.empty_msm())?.use_g(vesta::Affine::identity());
        Ok(msm)
    }
}
