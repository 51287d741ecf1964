//! Keys of an epoch, one proof, and its verification.

use std::sync::Arc;

use ff::Field;
use group::Group;
use halo2_proofs::plonk;
use rand_core::{CryptoRng, Rng};

use super::fast::{self, Columns, Commitments, Equation, Total};
use super::setup::prepare;
use super::stock::Stock;
use super::sums::{Adder, Scalar};
use super::transcript::{Malformed, POINT_BYTES, SCALAR_BYTES};
use crate::circuit::{K, SpendCircuit};
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
    /// quotient, the opening's blinding polynomial, and two for each of its rounds.
    const POINTS: usize = 8 + 1 + 1 + 5 + 1 + 1 + 2 * Self::ROUNDS;
    /// Scalars: evaluations of the instance (1), of advice (15), fixed (24) and permutation columns (3), of the random
    /// polynomial (1), of the product (2), of the two sets of the multi-opening, what the opening's rounds leave of its
    /// vector, and its blinding.
    const SCALARS: usize = 1 + 15 + 24 + 3 + 1 + 2 + 2 + (1 << (K as usize - Self::ROUNDS)) + 1;
    /// Rounds of the opening's inner-product argument. Format 1 had all eight: see `docs/fast-path.md`.
    pub(super) const ROUNDS: usize = 4;
    /// Length of a proof of format 1.
    const FIRST_LENGTH: usize = 3_712;
    /// The format of proofs. Another format is another encoding with another transcript.
    pub const FORMAT: u8 = 2;
    /// Length of a proof in bytes. Fixed: shorter or longer is refused.
    pub const LENGTH: usize = Self::POINTS * POINT_BYTES + Self::SCALARS * SCALAR_BYTES;

    /// Takes the bytes of a proof.
    ///
    /// # Errors
    /// [`VerifyError::Length`], [`VerifyError::Superseded`]. Everything else shows when the proof is verified.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, VerifyError> {
        match bytes.len() {
            Self::LENGTH => Ok(Self(bytes.into())),
            Self::FIRST_LENGTH => Err(VerifyError::Superseded { found: 1 }),
            found => Err(VerifyError::Length { found }),
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
    /// A proof of an earlier format, told by its length.
    #[error("a proof of format {found} is refused; make it again in format {}", Proof::FORMAT)]
    Superseded {
        /// The format found.
        found: u8,
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
    columns: Columns,
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
    stock: Stock,
    commitments: Commitments,
    epoch_key: PublicKey,
}

impl core::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("VerifyingKey").field(&self.epoch_key()).finish()
    }
}

impl ProvingKey {
    /// Builds the keys for an epoch key `D`. Deterministic; some tens of milliseconds of one core, and the first in a process
    /// as many for the parameters and tables, which all epochs share.
    ///
    /// # Panics
    /// When the key is not the one that `halo2_proofs` makes of the circuit, or not of the pinned circuit: an error of this
    /// library or of the machine.
    pub fn build(epoch_key: &PublicKey) -> Self {
        let circuit = SpendCircuit::for_key(epoch_key);
        let values = fast::columns(&circuit);
        let verifying = VerifyingKey::from_values(epoch_key, &circuit, &values);
        Self(Arc::new(ProvingInner { columns: Columns::new(values), circuit, verifying }))
    }

    /// The verifying key.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.0.verifying
    }

    /// Proves the statement. Checks it natively first, so that a false one costs little. Computes on this thread alone.
    ///
    /// Time and memory accesses depend on the witness: see `docs/fast-path.md`.
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
        let bytes = self.prove_in(Proof::ROUNDS, public, circuit, rng)?;
        assert_eq!(bytes.len(), Proof::LENGTH, "the length of a proof is a property of the circuit");
        Ok(Proof(bytes.into()))
    }

    /// A proof with any number of rounds of the opening.
    pub(super) fn prove_in<R: Rng + CryptoRng>(
        &self,
        rounds: usize,
        public: &SpendPublic,
        circuit: SpendCircuit,
        rng: &mut R,
    ) -> Result<Vec<u8>, ProveError> {
        let advice = circuit.advice().ok_or(ProveError::Prover(plonk::Error::Synthesis))?;
        drop(circuit);
        fast::prove(&self.0.columns, &self.0.verifying.0.stock.representative, public, advice, rounds, rng).map_err(
            |Malformed| {
                let error = "a commitment is the identity, or a challenge is zero; try again";
                ProveError::Prover(plonk::Error::Transcript(std::io::Error::other(error)))
            },
        )
    }

    #[cfg(test)]
    pub(super) fn circuit(&self) -> &SpendCircuit {
        &self.0.circuit
    }
}

impl VerifyingKey {
    /// Builds the key for an epoch key `D`, as [`ProvingKey::build`] does, in less time.
    ///
    /// # Panics
    /// As [`ProvingKey::build`].
    pub fn build(epoch_key: &PublicKey) -> Self {
        let circuit = SpendCircuit::for_key(epoch_key);
        Self::from_values(epoch_key, &circuit, &fast::columns(&circuit))
    }

    fn from_values(epoch_key: &PublicKey, circuit: &SpendCircuit, values: &fast::Values) -> Self {
        prepare();
        let stock = Stock::new(circuit);
        let commitments = Commitments::new(values);
        let (fixed, permutation) = commitments.parts();
        stock.demand(fixed, permutation);
        Self(Arc::new(VerifyingInner { stock, commitments, epoch_key: *epoch_key }))
    }

    /// The epoch key `D` that is part of this key.
    pub fn epoch_key(&self) -> PublicKey {
        self.0.epoch_key
    }

    /// BLAKE2b-256 of the full description of this key: domain, columns, gates, queries, commitments.
    pub fn digest(&self) -> [u8; 32] {
        self.0.stock.digest()
    }

    /// The full description of this key, a long text that names every gate and query.
    pub fn description(&self) -> String {
        self.0.stock.description()
    }

    /// Verifies one proof.
    ///
    /// # Errors
    /// [`VerifyError::Encoding`], [`VerifyError::Invalid`].
    pub fn verify(&self, public: &SpendPublic, proof: &Proof) -> Result<(), VerifyError> {
        let equation = self.equation(public, proof, Scalar::ONE)?;
        let mut total = Total::with_capacity(1);
        total.add(self.commitments(), &equation, None);
        if bool::from(total.sum(&mut Adder::default()).is_identity()) { Ok(()) } else { Err(VerifyError::Invalid) }
    }

    /// Does everything but the last step of verification: the equation times `weight`.
    pub(super) fn equation(
        &self,
        public: &SpendPublic,
        proof: &Proof,
        weight: Scalar,
    ) -> Result<Equation, VerifyError> {
        self.equation_in(Proof::ROUNDS, public, &proof.0, weight)
    }

    /// The equation of a proof with any number of rounds of the opening.
    pub(super) fn equation_in(
        &self,
        rounds: usize,
        public: &SpendPublic,
        proof: &[u8],
        weight: Scalar,
    ) -> Result<Equation, VerifyError> {
        Equation::new(&self.0.stock.representative, public, proof, rounds, weight)
    }

    pub(super) fn commitments(&self) -> &Commitments {
        &self.0.commitments
    }

    #[cfg(any(test, feature = "reference"))]
    pub(super) fn stock(&self) -> &Stock {
        &self.0.stock
    }
}
