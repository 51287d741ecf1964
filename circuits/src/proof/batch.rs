//! Many proofs at a time.
//!
//! Verification ends in the question whether a sum of points is zero. A batch asks it once for a random combination of
//! the sums `M_i` of all proofs: `sum r_i M_i = 0` with `r_i` random and independent of the proofs. If some `M_i` is not zero,
//! then for fixed others at most one value of its `r_i` in 2^254 lets the sum vanish. The cost is linear: each `M_i` is scaled
//! once and added once.
//!
//! # Bad proofs
//!
//! Write `N_i = r_i M_i`. When `S = sum N_i` is not zero, the transcripts are not read again. First `T = sum i N_i` is
//! formed: if proof `j` alone is bad then `T = j S`, and if `T = j S` then `sum (i - j) N_i` vanishes, a random combination of all
//! the others, so that these are good. One sum thus names a bad proof that is alone. If it is not, the proofs are halved. The sum
//! of the right half is `S` less that of the left one, and so is its `T`. Where most of what has been looked at was bad, the rest is
//! taken one by one.

use ff::Field;
use group::Group;
use pasta_curves::vesta;
use rand_core::{CryptoRng, Rng};

use super::fast::{Commitments, Equation, Total};
use super::key::{Proof, VerifyError, VerifyingKey};
use super::sums::{Adder, Scalar};
use super::workers::Workers;
use crate::spend::SpendPublic;

/// The most proofs that one sum is formed of: above it a larger sum gains little, and costs more when a proof is bad.
const LARGEST: usize = 256;
/// How many the first sum of a larger batch is formed of.
const FIRST: usize = 64;
/// The fewest for which a bad one is looked for by a second sum rather than by halves.
const WEIGHED: usize = 5;

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

    /// Verifies all and returns one verdict for each, in the order in which they were added. Computes on this thread; see
    /// [`verify_on`](Self::verify_on) for many.
    ///
    /// A bad proof passes with a probability below 2^-240 over `rng`, and a good one always does.
    pub fn verify<R: Rng + CryptoRng>(self, rng: &mut R) -> Vec<Verdict> {
        verify_all(&with_weights(self.items, rng))
    }

    /// As [`verify`](Self::verify), with the batch split evenly among `workers`.
    pub fn verify_on<R: Rng + CryptoRng>(self, workers: &Workers, rng: &mut R) -> Vec<Verdict> {
        workers.run(with_weights(self.items, rng), |part| verify_all(&part)).into_iter().flatten().collect()
    }
}

fn with_weights<R: Rng + CryptoRng>(items: Vec<Item>, rng: &mut R) -> Vec<(Item, Scalar)> {
    items.into_iter().map(|item| (item, Scalar::random(&mut *rng))).collect()
}

fn verify_all(mut items: &[(Item, Scalar)]) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = Vec::with_capacity(items.len());
    let mut adder = Adder::default();
    let mut bad = 0;
    while !items.is_empty() {
        let size = chunk(items.len(), verdicts.len(), bad);
        let (chunk, rest) = items.split_at(size);
        let chunk = verify_chunk(chunk, &mut adder);
        bad += chunk.iter().filter(|verdict| **verdict == Err(VerifyError::Invalid)).count();
        verdicts.extend(chunk);
        items = rest;
    }
    verdicts
}

/// How many of `left` proofs the next sum is formed of, when of `seen` ones `bad` were bad: about what is cheapest if the
/// rest is like them. A sum costs as much as seven proofs in it, whatever their number is. Even where all are bad, two
/// together cost less than each by itself, as the second is what the sum has more than the first.
fn chunk(left: usize, seen: usize, bad: usize) -> usize {
    let size = match bad * 100 {
        0 if seen == 0 && left > LARGEST => FIRST,
        0 => LARGEST,
        share if share < 2 * seen => 32,
        share if share < 6 * seen => 16,
        share if share < 20 * seen => 8,
        _ => 2,
    };
    // A last part that is small would cost almost as much as one sum for all.
    if left < size + size / 2 { left } else { size }
}

/// A proof's equation, times its weight, and its place in the chunk.
struct Term<'a> {
    place: usize,
    commitments: &'a Commitments,
    equation: Equation,
}

fn verify_chunk(items: &[(Item, Scalar)], adder: &mut Adder) -> Vec<Verdict> {
    let mut verdicts = vec![Ok(()); items.len()];
    let mut terms = Vec::with_capacity(items.len());
    for (place, (item, weight)) in items.iter().enumerate() {
        match item.key.equation(&item.public, &item.proof, *weight) {
            Ok(equation) => terms.push(Term { place, commitments: item.key.commitments(), equation }),
            Err(error) => verdicts[place] = Err(error),
        }
    }
    let mut search = Search { adder, good: 0, bad: Vec::new() };
    let sum = search.sum(&terms);
    search.look(&terms, sum, None);
    for place in search.bad {
        verdicts[place] = Err(VerifyError::Invalid);
    }
    verdicts
}

/// A search for the bad ones among proofs.
struct Search<'a> {
    adder: &'a mut Adder,
    /// Proofs that were found to be good.
    good: usize,
    /// The places of those that were found to be bad.
    bad: Vec<usize>,
}

fn vanishes(point: &vesta::Point) -> bool {
    point.is_identity().into()
}

impl Search<'_> {
    fn sum(&mut self, terms: &[Term<'_>]) -> vesta::Point {
        let mut total = Total::with_capacity(terms.len());
        for term in terms {
            total.add(term.commitments, &term.equation, None);
        }
        total.sum(self.adder)
    }

    /// The sum in which each equation is multiplied by its place.
    fn weighed(&mut self, terms: &[Term<'_>]) -> vesta::Point {
        let mut total = Total::with_capacity(terms.len());
        for term in terms {
            total.add(term.commitments, &term.equation, Some(Scalar::from(term.place as u64)));
        }
        total.sum(self.adder)
    }

    /// Finds the bad ones of terms with this sum. `weighed` is their weighed sum, where it is known.
    fn look(&mut self, terms: &[Term<'_>], sum: vesta::Point, weighed: Option<vesta::Point>) {
        if vanishes(&sum) {
            self.good += terms.len();
            return;
        }
        if let [term] = terms {
            self.bad.push(term.place);
            return;
        }
        if self.mostly_bad() {
            return self.look_at_each(terms, sum);
        }
        let weighed = if terms.len() < WEIGHED { None } else { Some(weighed.unwrap_or_else(|| self.weighed(terms))) };
        if let Some(place) = weighed.and_then(|weighed| alone(terms, sum, weighed)) {
            self.bad.push(place);
            self.good += terms.len() - 1;
            return;
        }
        let (left, right) = terms.split_at(terms.len() / 2);
        let left_sum = self.sum(left);
        let right_sum = sum - left_sum;
        // A half that is good weighs nothing.
        let left_weighed = weighed.and_then(|weighed| match (vanishes(&left_sum), vanishes(&right_sum)) {
            (true, _) => Some(vesta::Point::identity()),
            (_, true) => Some(weighed),
            _ if left.len() >= WEIGHED && !self.mostly_bad() => Some(self.weighed(left)),
            _ => None,
        });
        let right_weighed = weighed.zip(left_weighed).map(|(weighed, left)| weighed - left);
        self.look(left, left_sum, left_weighed);
        self.look(right, right_sum, right_weighed);
    }

    /// Whether so many are bad that it is cheapest to take each by itself.
    fn mostly_bad(&self) -> bool {
        self.bad.len() >= 4 && self.bad.len() > self.good / 2
    }

    fn look_at_each(&mut self, terms: &[Term<'_>], sum: vesta::Point) {
        let Some((last, terms)) = terms.split_last() else { return };
        let mut rest = sum;
        for term in terms {
            let own = self.sum(core::slice::from_ref(term));
            rest -= own;
            self.look(core::slice::from_ref(term), own, None);
        }
        self.look(core::slice::from_ref(last), rest, None);
    }
}

/// The place of the one bad proof, if there is but one.
fn alone(terms: &[Term<'_>], sum: vesta::Point, weighed: vesta::Point) -> Option<usize> {
    let (mut multiple, mut factor) = (vesta::Point::identity(), 0);
    for term in terms {
        while factor < term.place {
            multiple += sum;
            factor += 1;
        }
        if multiple == weighed {
            return Some(term.place);
        }
    }
    None
}
