//! The verifying key as `halo2_proofs` makes it. It says what a key of ours must be, and stands for it in transcripts.

use std::io;

use blake2b_simd::Params as Blake2b;
use ff::Field;
use halo2_proofs::plonk::{self, keygen_vk};
use halo2_proofs::transcript::{Challenge255, Transcript};
use pasta_curves::{pallas, vesta};

use super::setup::PARAMS;
use crate::circuit::SpendCircuit;

/// BLAKE2b-256 of the description of all keys up to their commitments, which alone depend on the epoch.
const SHAPE: [u8; 32] = [
    0xce, 0xb9, 0xbf, 0x93, 0x6b, 0xab, 0x5c, 0x06, 0x1b, 0x52, 0x94, 0x4d, 0xab, 0xd3, 0x79, 0xcf, 0xdc, 0xcf, 0x82,
    0x37, 0x8c, 0xf2, 0xce, 0xbe, 0xac, 0x23, 0x03, 0x95, 0x12, 0x01, 0x16, 0xb7,
];

/// The key of `halo2_proofs` for an epoch.
pub(super) struct Stock {
    key: plonk::VerifyingKey<vesta::Affine>,
    /// What stands for the key in a transcript: a hash of its description.
    pub(super) representative: pallas::Base,
}

impl Stock {
    pub(super) fn new(circuit: &SpendCircuit) -> Self {
        let key = keygen_vk(&PARAMS, circuit).expect("the layout fits, for every key");
        let mut representative = Representative(pallas::Base::ZERO);
        key.hash_into(&mut representative).expect("a transcript that takes all");
        Self { key, representative: representative.0 }
    }

    /// The full description: domain, columns, gates, queries, commitments.
    pub(super) fn description(&self) -> String {
        format!("{:?}", self.key.pinned())
    }

    /// BLAKE2b-256 of the description.
    pub(super) fn digest(&self) -> [u8; 32] {
        digest(self.description().as_bytes())
    }

    /// Demands that the key is one of the pinned circuit, with these commitments.
    ///
    /// # Panics
    /// When it is not.
    pub(super) fn demand(&self, fixed: &[vesta::Affine], permutation: &[vesta::Affine]) {
        let description = self.description();
        let commitments =
            format!("fixed_commitments: {fixed:?}, permutation: VerifyingKey {{ commitments: {permutation:?} }} }}");
        let shape = description
            .strip_suffix(&commitments)
            .expect("the commitments of the key are those that halo2_proofs computes");
        assert_eq!(digest(shape.as_bytes()), SHAPE, "the key is one of the pinned circuit");
    }

    #[cfg(any(test, feature = "reference"))]
    pub(super) fn key(&self) -> &plonk::VerifyingKey<vesta::Affine> {
        &self.key
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let hash = Blake2b::new().hash_length(32).personal(b"halometer1-vkey_").hash(bytes);
    hash.as_bytes().try_into().expect("32 bytes were asked for")
}

/// A transcript that keeps the one scalar that a key absorbs.
struct Representative(pallas::Base);

type Challenge = Challenge255<vesta::Affine>;

impl Transcript<vesta::Affine, Challenge> for Representative {
    fn squeeze_challenge(&mut self) -> Challenge {
        <Challenge as halo2_proofs::transcript::EncodedChallenge<vesta::Affine>>::new(&[0; 64])
    }

    fn common_point(&mut self, _: vesta::Affine) -> io::Result<()> {
        Err(io::Error::other("a key absorbs a scalar"))
    }

    fn common_scalar(&mut self, scalar: pallas::Base) -> io::Result<()> {
        self.0 = scalar;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::proof::tests::support::Epoch;

    #[test]
    #[should_panic(expected = "the commitments of the key are those that halo2_proofs computes")]
    fn a_key_with_another_commitment_is_refused() {
        let (one, other) = (Epoch::new(300), Epoch::new(301));
        let (fixed, permutation) = one.key.verifying_key().commitments().parts();
        other.key.verifying_key().stock().demand(fixed, permutation);
    }

    #[test]
    #[should_panic(expected = "the commitments of the key are those that halo2_proofs computes")]
    fn a_key_with_another_permutation_is_refused() {
        let epoch = Epoch::new(300);
        let (fixed, permutation) = epoch.key.verifying_key().commitments().parts();
        let mut other = permutation.to_vec();
        other.swap(0, 1);
        epoch.key.verifying_key().stock().demand(fixed, &other);
    }
}
