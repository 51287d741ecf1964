//! The verifier's equation: a sum of multiples of points that is zero for a valid proof.
//!
//! It is the equation of `verify_proof` of `halo2_proofs`, term by term; a test compares the sums as points, for proofs that
//! are valid and for others. What is regrouped is where terms fall on: 263 points that all epochs share, 27 commitments of the
//! epoch's key, and the points of the proof.
//!
//! # The instance
//!
//! `halo2_proofs` computes the commitment of the instance, `sum v_i L_i + W`, and gives it its weight in the equation. The
//! equation is linear in it, so that here the five values are weighted and the `L_i` are points of the shared table.
//!
//! # Where no proof leads
//!
//! `verify_proof` divides by `x^256 - 1`, by `x_3 - x`, by `x_3 - omega x` and by `omega x - x`, and panics, or opens other sets
//! of points, where one of them is zero. They are outputs of the hash, zero with a probability of 2^-245 each time. Such a
//! proof is refused here. A round's challenge of zero has the inverse zero there, and so it has here.

use std::array;

use ff::Field;
use pasta_curves::arithmetic::VartimeBatchInvert;
use pasta_curves::vesta;

use super::super::key::VerifyError;
use super::super::setup::{BLINDING, INNER, INSTANCE, TABLE, TABLED};
use super::super::sums::{Adder, Scalar, Table, Terms, Xy};
use super::super::transcript::{Malformed, Reader};
use super::assembly::{COLUMNS, PERMUTED};
use super::domain::{COSETS, DOMAIN, N, USABLE, powers};
use super::gates::{Cells, GATES, Gates, Permutation, PermutedCells, weights};
use super::key::Commitments;
use super::queries::{ADVICE_QUERIES, AT_BOTH, AT_ONE, Rotation};
use crate::circuit::{Col, FIXED, K};
use crate::hash::pow5;
use crate::spend::SpendPublic;

/// Blinding rows, and the last of the permutation: those of which Lagrange polynomials are needed, with the first row.
const LAST_ROWS: usize = N - USABLE;

/// The sum, not yet formed.
#[derive(Clone, Debug)]
pub(in crate::proof) struct Equation {
    /// Scalars of the shared table's points.
    shared: Vec<Scalar>,
    /// Scalars of the key's commitments.
    key: [Scalar; COLUMNS],
    /// The proof's own points.
    terms: Terms,
}

/// Points and scalars of a proof, and the challenges that they lead to.
struct Read {
    advice: [Xy; Col::COUNT],
    product: Xy,
    random: Xy,
    pieces: [Xy; COSETS],
    divided: Xy,
    masking: Xy,
    rounds: Vec<[Xy; 2]>,
    beta: Scalar,
    gamma: Scalar,
    y: Scalar,
    x: Scalar,
    x_1: Scalar,
    x_2: Scalar,
    x_3: Scalar,
    x_4: Scalar,
    xi: Scalar,
    z: Scalar,
    u: Vec<Scalar>,
    instance_there: Scalar,
    advice_there: [Scalar; ADVICE_QUERIES.len()],
    fixed_there: [Scalar; FIXED],
    random_there: Scalar,
    sigma_there: [Scalar; PERMUTED],
    product_there: [Scalar; 2],
    /// The two sets of polynomials at `x_3`.
    sets_there: [Scalar; 2],
    /// What is left of the opened vector.
    last: Vec<Scalar>,
    f: Scalar,
}

/// An array of what `next` gives.
fn all<T: Copy + Default, const M: usize>(mut next: impl FnMut() -> Result<T, Malformed>) -> Result<[T; M], Malformed> {
    let mut items = [T::default(); M];
    for item in &mut items {
        *item = next()?;
    }
    Ok(items)
}

impl Read {
    fn new(key: &Scalar, public: &SpendPublic, proof: &[u8], rounds: usize) -> Result<Self, Malformed> {
        let mut reader = Reader::new(public, proof);
        reader.absorb(key);
        let point = |reader: &mut Reader<'_>| Xy::of(&reader.point()?).ok_or(Malformed);
        let advice = all(|| point(&mut reader))?;
        // No lookup needs theta.
        let _theta = reader.challenge();
        let (beta, gamma) = (reader.challenge(), reader.challenge());
        let (product, random) = (point(&mut reader)?, point(&mut reader)?);
        let y = reader.challenge();
        let pieces = all(|| point(&mut reader))?;
        let x = reader.challenge();
        let instance_there = reader.scalar()?;
        let advice_there = all(|| reader.scalar())?;
        let fixed_there = all(|| reader.scalar())?;
        let random_there = reader.scalar()?;
        let sigma_there = all(|| reader.scalar())?;
        let product_there = all(|| reader.scalar())?;
        let (x_1, x_2) = (reader.challenge(), reader.challenge());
        let divided = point(&mut reader)?;
        let x_3 = reader.challenge();
        let sets_there = all(|| reader.scalar())?;
        let x_4 = reader.challenge();
        let masking = point(&mut reader)?;
        let (xi, z) = (reader.challenge(), reader.challenge());
        let mut points = Vec::with_capacity(rounds);
        let mut u = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            points.push([point(&mut reader)?, point(&mut reader)?]);
            u.push(reader.challenge());
        }
        let last = (0..N >> rounds).map(|_| reader.scalar()).collect::<Result<_, _>>()?;
        let f = reader.scalar()?;
        if !reader.finished() {
            return Err(Malformed);
        }
        Ok(Self {
            advice,
            product,
            random,
            pieces,
            divided,
            masking,
            rounds: points,
            beta,
            gamma,
            y,
            x,
            x_1,
            x_2,
            x_3,
            x_4,
            xi,
            z,
            u,
            instance_there,
            advice_there,
            fixed_there,
            random_there,
            sigma_there,
            product_there,
            sets_there,
            last,
            f,
        })
    }

    fn advice(&self, column: Col, rotation: Rotation) -> Scalar {
        let place = ADVICE_QUERIES.iter().position(|query| *query == (column, rotation));
        place.map_or(Scalar::ZERO, |place| self.advice_there[place])
    }

    /// What the quotient must be at `x`, times `x^256 - 1`. `lagrange[i]` is the polynomial of row `-i` there.
    fn expressions(&self, lagrange: &[Scalar; LAST_ROWS + 1]) -> Scalar {
        let now = Col::ALL.map(|column| self.advice(column, Rotation::Here));
        let next: [Scalar; Col::COUNT - 1] = array::from_fn(|i| self.advice(Col::ALL[i], Rotation::Next));
        let all = weights(self.y);
        let (of_gates, of_permutation) = all.split_at(GATES);
        let gates = Gates::new(of_gates.try_into().expect("one a gate"));
        let cells = Cells {
            now,
            next,
            now_fifth: array::from_fn(|i| pow5(now[i])),
            next_fifth: array::from_fn(|i| pow5(next[i])),
            fixed: self.fixed_there,
            instance: self.instance_there,
        };
        let permutation = Permutation {
            beta: self.beta,
            gamma: self.gamma,
            weights: of_permutation.try_into().expect("three of the permutation"),
        };
        let permuted = PermutedCells {
            values: Col::PERMUTED.map(|column| now[column.index()]),
            sigma: self.sigma_there,
            product: self.product_there[0],
            product_next: self.product_there[1],
            place: self.x,
            first: lagrange[0],
            last: lagrange[LAST_ROWS],
            active: Scalar::ONE - lagrange[1..].iter().sum::<Scalar>(),
        };
        gates.at(&cells) + permutation.at(&permuted)
    }
}

impl Equation {
    /// The equation of a proof with `rounds` rounds under the key that `key` stands for, times `weight`.
    ///
    /// # Errors
    /// [`VerifyError::Encoding`], and [`VerifyError::Invalid`] where no proof leads.
    pub(in crate::proof) fn new(
        key: &Scalar,
        public: &SpendPublic,
        proof: &[u8],
        rounds: usize,
        weight: Scalar,
    ) -> Result<Self, VerifyError> {
        let read = Read::new(key, public, proof, rounds).map_err(|Malformed| VerifyError::Encoding)?;
        Self::of(&read, public, weight).ok_or(VerifyError::Invalid)
    }

    fn of(read: &Read, public: &SpendPublic, weight: Scalar) -> Option<Self> {
        let Read { x, x_1, x_2, x_3, x_4, .. } = *read;
        let domain = &*DOMAIN;
        let x_next = x * domain.omega;
        let x_n = (0..K).fold(x, |power, _| power.square());

        // One inversion for all: the divisors, then the challenges of the rounds.
        let mut inverses = vec![x_n - Scalar::ONE, x_3 - x, x_3 - x_next, x_next - x];
        if inverses.iter().any(|divisor| divisor.is_zero_vartime()) {
            return None;
        }
        // Not zero, as then x_n would be one.
        inverses.extend(domain.omega_inverses.iter().map(|root| x - root));
        inverses.extend(&read.u);
        inverses.iter_mut().batch_invert_vartime();
        let (divisors, rest) = inverses.split_at(4);
        let (of_roots, u_inverses) = rest.split_at(LAST_ROWS + 1);

        let scale = (x_n - Scalar::ONE) * domain.n_inverse;
        let lagrange = array::from_fn(|i| scale * domain.omega_inverses[i] * of_roots[i]);
        let quotient_there = read.expressions(&lagrange) * divisors[0];

        // The values of both sets at their places, those first queried with the highest power of x_1.
        let one = [read.instance_there]
            .into_iter()
            .chain(AT_ONE.map(|column| read.advice(column, Rotation::Here)))
            .chain(read.fixed_there)
            .chain(read.sigma_there)
            .chain([quotient_there, read.random_there])
            .fold(Scalar::ZERO, |sum, value| sum * x_1 + value);
        let both = AT_BOTH
            .map(|column| [Rotation::Here, Rotation::Next].map(|rotation| read.advice(column, rotation)))
            .into_iter()
            .chain([read.product_there])
            .fold([Scalar::ZERO; 2], |sum, value| [sum[0] * x_1 + value[0], sum[1] * x_1 + value[1]]);
        let [one_at_x_3, both_at_x_3] = read.sets_there;
        let line_at_x_3 = both[0] + (both[1] - both[0]) * divisors[3] * (x_3 - x);
        let divided_at_x_3 =
            (one_at_x_3 - one) * divisors[1] * x_2 + (both_at_x_3 - line_at_x_3) * divisors[1] * divisors[2];
        let opened = (divided_at_x_3 * x_4 + one_at_x_3) * x_4 + both_at_x_3;

        let mut shared = read.generators(weight);
        let mut key = [Scalar::ZERO; COLUMNS];
        let mut terms = Terms::with_capacity(Col::COUNT + COSETS + 4 + 2 * read.rounds.len());

        // The first set, from its last member.
        let mut power = weight * x_4;
        terms.push(power, read.random);
        power *= x_1;
        let mut of_piece = power;
        for piece in read.pieces {
            terms.push(of_piece, piece);
            of_piece *= x_n;
        }
        for scalar in key.iter_mut().rev() {
            power *= x_1;
            *scalar = power;
        }
        for column in AT_ONE.iter().rev() {
            power *= x_1;
            terms.push(power, read.advice[column.index()]);
        }
        power *= x_1;
        for (scalar, value) in shared[INSTANCE..].iter_mut().zip(public.instance()) {
            *scalar += power * value;
        }
        shared[BLINDING] += power;

        // The second set.
        let mut power = weight;
        terms.push(power, read.product);
        for column in AT_BOTH.iter().rev() {
            power *= x_1;
            terms.push(power, read.advice[column.index()]);
        }

        terms.push(weight * x_4.square(), read.divided);
        terms.push(weight * read.xi, read.masking);
        for ((u, u_inverse), [l, r]) in read.u.iter().zip(u_inverses).zip(&read.rounds) {
            terms.push(weight * u_inverse, *l);
            terms.push(weight * u, *r);
        }
        shared[0] -= weight * opened;
        shared[INNER] -= weight * read.inner_product() * read.z;
        shared[BLINDING] -= weight * read.f;
        Some(Self { shared, key, terms })
    }
}

impl Read {
    /// What the argument puts on the generators: what is left of the vector, times `-weight`, in all products of the rounds'
    /// challenges. Zeros for the other points of the table.
    fn generators(&self, weight: Scalar) -> Vec<Scalar> {
        let mut scalars = Vec::with_capacity(TABLED);
        scalars.extend(self.last.iter().map(|scalar| -(weight * scalar)));
        for u in self.u.iter().rev() {
            let half = scalars.len();
            scalars.extend_from_within(..);
            for scalar in &mut scalars[half..] {
                *scalar *= u;
            }
        }
        scalars.resize(TABLED, Scalar::ZERO);
        scalars
    }

    /// The product of what is left of the vector with what is left of the powers of `x_3`.
    fn inner_product(&self) -> Scalar {
        let left = powers(self.x_3, self.last.len());
        let mut product = self.last.iter().zip(&left).fold(Scalar::ZERO, |sum, (a, b)| sum + *a * b);
        let mut power = left[left.len() - 1] * self.x_3;
        for u in self.u.iter().rev() {
            product *= Scalar::ONE + *u * power;
            power = power.square();
        }
        product
    }
}

/// Equations of one key, added up.
pub(in crate::proof) struct Total<'a> {
    commitments: Vec<(&'a Commitments, [Scalar; COLUMNS])>,
    shared: Vec<Scalar>,
    terms: Terms,
}

impl<'a> Total<'a> {
    /// Nothing, with room for `count` equations.
    pub(in crate::proof) fn with_capacity(count: usize) -> Self {
        Self { commitments: Vec::new(), shared: vec![Scalar::ZERO; TABLED], terms: Terms::with_capacity(count * TERMS) }
    }

    /// Adds an equation under `commitments`, times `factor` if there is one.
    pub(in crate::proof) fn add(&mut self, commitments: &'a Commitments, equation: &Equation, factor: Option<Scalar>) {
        let place =
            self.commitments.iter().position(|(known, _)| core::ptr::eq(*known, commitments)).unwrap_or_else(|| {
                self.commitments.push((commitments, [Scalar::ZERO; COLUMNS]));
                self.commitments.len() - 1
            });
        add_all(&mut self.shared, &equation.shared, factor);
        add_all(&mut self.commitments[place].1, &equation.key, factor);
        self.terms.extend(&equation.terms, factor.as_ref());
    }

    /// The sum: zero if all equations are, and if not, then not, but with negligible probability over their weights.
    pub(in crate::proof) fn sum(&self, adder: &mut Adder) -> vesta::Point {
        let mut sum = self.terms.sum(adder);
        let mut shared: &[Scalar] = &self.shared;
        for (commitments, key) in &self.commitments {
            sum += Table::sums([&*TABLE, &commitments.table], adder, &[&[(0, 0, shared), (1, 0, key)]])[0];
            shared = &[];
        }
        sum
    }
}

/// The proof's own points in an equation, about.
const TERMS: usize = Col::COUNT + COSETS + 4 + K as usize * 2;

fn add_all(sums: &mut [Scalar], scalars: &[Scalar], factor: Option<Scalar>) {
    for (sum, scalar) in sums.iter_mut().zip(scalars) {
        *sum += factor.map_or(*scalar, |factor| factor * scalar);
    }
}
