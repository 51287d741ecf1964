//! Many proofs at a time.
//!
//! Verification ends in the question whether a sum of points is zero. A batch asks it once for a random combination of
//! the sums `M_i` of all proofs: `sum r_i M_i = 0` with `r_i` random and independent of the proofs. If some `M_i` is not zero,
//! then for fixed others at most one value of its `r_i` in 2^254 lets the sum vanish. The cost is linear: each `M_i` is scaled
//! once and added once (the batch verifier of `halo2_proofs` rescales all that it has accumulated for each further proof).
//!
//! When the sum is not zero, it is halved: the transcripts are not read again, only partial sums are formed and asked.
//! If the left half is zero then the right one is not, and need not be asked. After a sum that was not zero the next ones
//! are formed of fewer proofs, as bad ones seldom come alone.

use ff::Field;
use pasta_curves::{pallas, vesta};
use rand_core::{CryptoRng, Rng};

use super::generators::GeneratorScalars;
use super::key::{Equation, Proof, VerifyError, VerifyingKey, vanishes};
use super::setup::PARAMS;
use super::workers::Workers;
use crate::spend::SpendPublic;

/// The most proofs that one sum is formed of: above it a larger sum gains little, and costs more when a proof is bad.
const LARGEST: usize = 128;
/// How many the first sum of a batch is formed of.
const FIRST: usize = 64;
/// How many, once a proof of the batch was bad. About what is cheapest when one in a hundred is.
const WARY: usize = 20;

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
    /// A bad proof passes with a probability below 2^-250 over `rng`, and a good one always does.
    pub fn verify<R: Rng + CryptoRng>(self, rng: &mut R) -> Vec<Verdict> {
        verify_all(&with_coefficients(self.items, rng))
    }

    /// As [`verify`](Self::verify), with the batch split evenly among `workers`.
    pub fn verify_on<R: Rng + CryptoRng>(self, workers: &Workers, rng: &mut R) -> Vec<Verdict> {
        workers.run(with_coefficients(self.items, rng), |part| verify_all(&part)).into_iter().flatten().collect()
    }
}

fn with_coefficients<R: Rng + CryptoRng>(items: Vec<Item>, rng: &mut R) -> Vec<(Item, pallas::Base)> {
    items.into_iter().map(|item| (item, pallas::Base::random(&mut *rng))).collect()
}

fn verify_all(mut items: &[(Item, pallas::Base)]) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(items.len());
    let mut size = FIRST;
    while !items.is_empty() {
        // A last part that is small would cost almost as much as one sum for all, and two cores share a batch of 256.
        let fits = size != WARY && items.len() <= LARGEST;
        let count = if fits || items.len() < size + size / 2 { items.len() } else { size };
        let (chunk, rest) = items.split_at(count);
        let chunk = verify_chunk(chunk);
        size = if size == WARY || chunk.iter().any(Result::is_err) { WARY } else { LARGEST };
        verdicts.extend(chunk);
        items = rest;
    }
    verdicts
}

/// A proof's equation, scaled by its coefficient, and its place in the chunk.
type Term = (usize, Equation);

fn verify_chunk(items: &[(Item, pallas::Base)]) -> Vec<Verdict> {
    let mut verdicts = vec![Ok(()); items.len()];
    let mut terms = Vec::with_capacity(items.len());
    for (place, (item, coefficient)) in items.iter().enumerate() {
        match item.key.equation(&item.public, &item.proof) {
            Ok(mut equation) => {
                equation.rest.scale(*coefficient);
                equation.generators.scale(*coefficient);
                terms.push((place, equation));
            }
            Err(error) => verdicts[place] = Err(error),
        }
    }
    if terms.is_empty() {
        return verdicts;
    }
    let generators = generator_sum(&terms);
    if !sum_vanishes(&terms, generators) {
        find_bad(&terms, generators, &mut |place| verdicts[place] = Err(VerifyError::Invalid));
    }
    verdicts
}

fn generator_sum(terms: &[Term]) -> vesta::Point {
    let mut sum = GeneratorScalars::zero();
    for (_, equation) in terms {
        sum.add(&equation.generators);
    }
    sum.sum()
}

/// Whether the equations add up to zero; `generators` is the sum of their terms on the generators.
fn sum_vanishes(terms: &[Term], generators: vesta::Point) -> bool {
    let mut sum = PARAMS.empty_msm();
    for (_, equation) in terms {
        sum.add_msm(&equation.rest);
    }
    vanishes(sum, generators)
}

/// Names the bad ones of terms whose sum is known not to vanish.
fn find_bad(terms: &[Term], generators: vesta::Point, bad: &mut impl FnMut(usize)) {
    if let [(place, _)] = terms {
        return bad(*place);
    }
    let (left, right) = terms.split_at(terms.len() / 2);
    let left_generators = generator_sum(left);
    let right_generators = generators - left_generators;
    if sum_vanishes(left, left_generators) {
        find_bad(right, right_generators, bad);
    } else {
        find_bad(left, left_generators, bad);
        if !sum_vanishes(right, right_generators) {
            find_bad(right, right_generators, bad);
        }
    }
}
