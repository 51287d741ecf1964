//! Many proofs at a time.
//!
//! Verification ends in the question whether a sum of points is zero. A batch asks it once for a random combination of
//! the sums `M_i` of all proofs: `sum r_i M_i = 0` with `r_i` random and independent of the proofs. If some `M_i` is not zero,
//! then for fixed others at most one value of its `r_i` in 2^254 lets the sum vanish. The cost is linear: each `M_i` is scaled
//! once and added once (the batch verifier of `halo2_proofs` rescales all that it has accumulated for each further proof).
//!
//! When the sum is not zero, it is halved: the transcripts are not read again, only partial sums are formed and asked.
//! If the left half is zero then the right one is not, and need not be asked.

use ff::Field;
use halo2_proofs::poly::commitment::MSM;
use pasta_curves::{pallas, vesta};
use rand_core::{CryptoRng, Rng};

use super::key::{Proof, VerifyError, VerifyingKey};
use super::setup::PARAMS;
use super::workers::Workers;
use crate::spend::SpendPublic;

/// The most proofs that one sum is formed of. Above it a larger sum gains little, and loses much when a proof is bad.
const CHUNK: usize = 128;

/// Collects proofs, of any epochs, and verifies them together.
#[derive(Debug, Default)]
pub struct BatchVerifier {
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    key: VerifyingKey,
    public: SpendPublic,
    proof: Proof,
}

type Verdict = Result<(), VerifyError>;

impl BatchVerifier {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a proof under the key of its epoch.
    pub fn add(&mut self, key: &VerifyingKey, public: &SpendPublic, proof: &Proof) {
        self.items.push(Item { key: key.clone(), public: *public, proof: proof.clone() });
    }

    /// The number of proofs added.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Verifies all and returns one verdict for each, in the order in which they were added. Computes on this thread; call it
    /// in a one-thread rayon pool, or see [`verify_on`](Self::verify_on).
    ///
    /// A bad proof never passes but with probability 2^-250 or so over `rng`, and a good one always does.
    pub fn verify<R: Rng + CryptoRng>(self, rng: &mut R) -> Vec<Verdict> {
        let items = with_coefficients(self.items, rng);
        items.chunks(CHUNK).flat_map(verify_chunk).collect()
    }

    /// As [`verify`](Self::verify), with the batch split evenly among `workers`.
    pub fn verify_on<R: Rng + CryptoRng>(self, workers: &Workers, rng: &mut R) -> Vec<Verdict> {
        let items = with_coefficients(self.items, rng);
        let part = |items: Vec<_>| items.chunks(CHUNK).flat_map(verify_chunk).collect::<Vec<_>>();
        workers.run(items, part).into_iter().flatten().collect()
    }
}

fn with_coefficients<R: Rng + CryptoRng>(items: Vec<Item>, rng: &mut R) -> Vec<(Item, pallas::Base)> {
    items.into_iter().map(|item| (item, pallas::Base::random(&mut *rng))).collect()
}

/// A proof's sum, scaled by its coefficient, and its place in the chunk.
type Term = (usize, MSM<'static, vesta::Affine>);

fn verify_chunk(items: &[(Item, pallas::Base)]) -> Vec<Verdict> {
    let mut verdicts = vec![Ok(()); items.len()];
    let mut terms = Vec::with_capacity(items.len());
    for (place, (item, coefficient)) in items.iter().enumerate() {
        match item.key.equation(&item.public, &item.proof) {
            Ok(mut msm) => {
                msm.scale(*coefficient);
                terms.push((place, msm));
            }
            Err(error) => verdicts[place] = Err(error),
        }
    }
    if !terms.is_empty() && !vanishes(&terms) {
        find_bad(&terms, &mut |place| verdicts[place] = Err(VerifyError::Invalid));
    }
    verdicts
}

fn vanishes(terms: &[Term]) -> bool {
    let mut sum = PARAMS.empty_msm();
    for (_, term) in terms {
        sum.add_msm(term);
    }
    sum.eval()
}

/// Names the bad ones of terms whose sum is known not to vanish.
fn find_bad(terms: &[Term], bad: &mut impl FnMut(usize)) {
    if let [(place, _)] = terms {
        return bad(*place);
    }
    let (left, right) = terms.split_at(terms.len() / 2);
    if vanishes(left) {
        find_bad(right, bad);
    } else {
        find_bad(left, bad);
        if !vanishes(right) {
            find_bad(right, bad);
        }
    }
}
