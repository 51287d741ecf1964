//! The prover.
//!
//! With eight rounds of the opening it writes the bytes that `create_proof` of `halo2_proofs` writes, from the same
//! randomness drawn in the same order; a test compares them.

use std::array;

use ff::{BatchInverter, Field, PrimeField};
use pasta_curves::vesta;
use rand_core::{CryptoRng, Rng};
use zeroize::{Zeroize, Zeroizing};

use super::super::setup::{BLINDING, LAGRANGE_TABLE, TABLE};
use super::super::sums::{Adder, Scalar, Table};
use super::super::transcript::{Malformed, Writer};
use super::domain::{COSETS, DOMAIN, N, USABLE, Vector, dot, evaluate, powers};
use super::gates::{Cells, GATES, Gates, Permutation, PermutedCells, weights};
use super::key::{Columns, Polynomial, ROW_POLYNOMIALS, normalized};
use super::opening::open;
use super::queries::{ADVICE_QUERIES, AT_BOTH, AT_ONE, Rotation};
use crate::circuit::{Col, FIXED};
use crate::spend::SpendPublic;

/// A secret polynomial with the blinding of its commitment. Wiped on drop.
struct Hidden {
    coefficients: Vector,
    blind: Scalar,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.coefficients.zeroize();
        self.blind.zeroize();
    }
}

/// A vector of secrets.
type Secret = Zeroizing<Vector>;

/// The cells of all advice columns.
pub(in crate::proof) type Advice = [Secret; Col::COUNT];

/// One proof in the making.
struct Prover<'a, R> {
    columns: &'a Columns,
    adder: Adder,
    transcript: Writer,
    rng: &'a mut R,
}

/// Writes a proof that `advice` satisfies the circuit with these `columns`. `key` represents the verifying key in the transcript.
/// The rows that blind are filled here. See [`open`] for `rounds`.
///
/// # Errors
/// With negligible probability: a commitment that is the identity, or a challenge that cannot be divided by.
pub(in crate::proof) fn prove<R: Rng + CryptoRng>(
    columns: &Columns,
    key: &Scalar,
    public: &SpendPublic,
    advice: Advice,
    rounds: usize,
    rng: &mut R,
) -> Result<Vec<u8>, Malformed> {
    let mut transcript = Writer::new(public, 4096);
    transcript.absorb(key);
    Prover { columns, adder: Adder::default(), transcript, rng }.run(public, advice, rounds)
}

impl<R: Rng + CryptoRng> Prover<'_, R> {
    fn run(mut self, public: &SpendPublic, mut advice: Advice, rounds: usize) -> Result<Vec<u8>, Malformed> {
        let domain = &*DOMAIN;
        for column in &mut advice {
            self.fill_random(&mut column[USABLE..]);
        }
        let blinds: Zeroizing<[Scalar; Col::COUNT]> =
            Zeroizing::new(array::from_fn(|_| Scalar::random(&mut *self.rng)));
        self.commit(&LAGRANGE_TABLE, &array::from_fn::<_, { Col::COUNT }, _>(|i| (&advice[i][..], blinds[i])))?;
        let polynomials: [Hidden; Col::COUNT] =
            array::from_fn(|i| Hidden { coefficients: domain.coefficients(&advice[i]), blind: blinds[i] });

        // No lookup needs theta.
        let _theta = self.transcript.challenge();
        let (beta, gamma) = (self.transcript.challenge(), self.transcript.challenge());
        let product = self.product(&advice, beta, gamma);
        drop(advice);
        let product_blind = Scalar::random(&mut *self.rng);
        self.commit(&LAGRANGE_TABLE, &[(&product[..], product_blind)])?;
        let product = Hidden { coefficients: domain.coefficients(&product), blind: product_blind };

        let random = self.random_polynomial();
        self.commit(&TABLE, &[(&random.coefficients[..], random.blind)])?;

        let y = self.transcript.challenge();
        let instance = instance_polynomial(public);
        let pieces = self.quotient(&polynomials, &product, &instance, beta, gamma, y);
        self.commit(&TABLE, &array::from_fn::<_, COSETS, _>(|i| (&pieces[i].coefficients[..], pieces[i].blind)))?;

        let x = self.transcript.challenge();
        let (here, next) = (powers(x, N), powers(x * domain.omega, N));
        let at = |rotation| match rotation {
            Rotation::Here => &here,
            Rotation::Next => &next,
        };
        self.transcript.scalar(&dot(&instance, &here));
        for (column, rotation) in ADVICE_QUERIES {
            self.transcript.scalar(&dot(&polynomials[column.index()].coefficients, at(rotation)));
        }
        for column in self.columns.fixed() {
            self.transcript.scalar(&dot(&column.coefficients, &here));
        }
        self.transcript.scalar(&dot(&random.coefficients, &here));
        for column in self.columns.permutation() {
            self.transcript.scalar(&dot(&column.coefficients, &here));
        }
        self.transcript.scalar(&dot(&product.coefficients, &here));
        self.transcript.scalar(&dot(&product.coefficients, &next));

        // All openings become one.
        let (x_1, x_2) = (self.transcript.challenge(), self.transcript.challenge());
        let x_n = here[N - 1] * x;
        let quotient = combined(pieces.iter().rev().map(|piece| (&piece.coefficients[..], piece.blind)), x_n);
        let one = Scalar::ONE;
        let at_one = [(&instance[..], one)]
            .into_iter()
            .chain(AT_ONE.iter().map(|column| {
                let polynomial = &polynomials[column.index()];
                (&polynomial.coefficients[..], polynomial.blind)
            }))
            .chain(self.columns.all().iter().map(|column| (&column.coefficients[..], one)))
            .chain([(&quotient.coefficients[..], quotient.blind), (&random.coefficients[..], random.blind)]);
        let at_one = combined(at_one, x_1);
        let at_both = AT_BOTH
            .iter()
            .map(|column| &polynomials[column.index()])
            .chain([&product])
            .map(|polynomial| (&polynomial.coefficients[..], polynomial.blind));
        let at_both = combined(at_both, x_1);
        let divided_one = divided(&at_one.coefficients, x);
        let divided_both = Zeroizing::new(divided(&at_both.coefficients, x));
        let divided_both = Zeroizing::new(divided(&divided_both, x * domain.omega));
        let mut divided = Hidden { coefficients: divided_one, blind: Scalar::ZERO };
        for (one, both) in divided.coefficients.iter_mut().zip(divided_both.iter()) {
            *one = *one * x_2 + both;
        }
        divided.blind = Scalar::random(&mut *self.rng);
        self.commit(&TABLE, &[(&divided.coefficients[..], divided.blind)])?;
        let x_3 = self.transcript.challenge();
        self.transcript.scalar(&evaluate(&at_one.coefficients, x_3));
        self.transcript.scalar(&evaluate(&at_both.coefficients, x_3));
        let x_4 = self.transcript.challenge();
        let opened = combined([&divided, &at_one, &at_both].map(|p| (&p.coefficients[..], p.blind)).into_iter(), x_4);
        open(&opened.coefficients, opened.blind, x_3, rounds, &mut self.transcript, &mut self.adder, self.rng)?;
        Ok(self.transcript.into_proof())
    }

    fn fill_random(&mut self, values: &mut [Scalar]) {
        for value in values {
            *value = Scalar::random(&mut *self.rng);
        }
    }

    fn random_polynomial(&mut self) -> Hidden {
        let mut coefficients = vec![Scalar::ZERO; N];
        self.fill_random(&mut coefficients);
        Hidden { coefficients, blind: Scalar::random(&mut *self.rng) }
    }

    /// Writes the commitments to vectors with their blindings, over the generators of `table`.
    fn commit<const M: usize>(&mut self, table: &Table, vectors: &[(&[Scalar], Scalar); M]) -> Result<(), Malformed> {
        let points = array::from_fn::<vesta::Point, M, _>(|i| {
            let (values, blind) = &vectors[i];
            table.sum(&mut self.adder, &[(0, 0, values), (0, BLINDING, core::slice::from_ref(blind))])
        });
        normalized(&points).iter().try_for_each(|point| self.transcript.point(point))
    }

    /// The values of the permutation's product polynomial in the rows.
    fn product(&mut self, advice: &Advice, beta: Scalar, gamma: Scalar) -> Secret {
        let columns: [(&[Scalar], &[Scalar]); 3] =
            array::from_fn(|i| (&advice[Col::PERMUTED[i].index()][..], &self.columns.permutation()[i].values[..]));
        let mut ratios: Secret = Zeroizing::new(
            (0..N)
                .map(|row| {
                    columns.iter().fold(Scalar::ONE, |product, (values, sigma)| {
                        product * (beta * sigma[row] + gamma + values[row])
                    })
                })
                .collect(),
        );
        // In uniform time, where the stock prover's depends on the values: it costs nothing.
        let mut scratch: Secret = Zeroizing::new(vec![Scalar::ZERO; N]);
        BatchInverter::invert_with_external_scratch(&mut ratios, &mut scratch);
        let mut shift = beta;
        for (values, _) in columns {
            let mut place = shift;
            for (ratio, value) in ratios.iter_mut().zip(values) {
                *ratio *= place + gamma + value;
                place *= DOMAIN.omega;
            }
            shift *= Scalar::DELTA;
        }
        let mut product: Secret = Zeroizing::new(Vec::with_capacity(N));
        product.push(Scalar::ONE);
        for row in 1..N {
            let value = product[row - 1] * ratios[row - 1];
            product.push(value);
        }
        self.fill_random(&mut product[USABLE + 1..]);
        product
    }

    /// The pieces of the quotient, with blindings.
    fn quotient(
        &mut self,
        advice: &[Hidden; Col::COUNT],
        product: &Hidden,
        instance: &[Scalar],
        beta: Scalar,
        gamma: Scalar,
        y: Scalar,
    ) -> [Hidden; COSETS] {
        let all = weights(y);
        let (of_gates, of_permutation) = all.split_at(GATES);
        let gates = Gates::new(of_gates.try_into().expect("one a gate"));
        let permutation =
            Permutation { beta, gamma, weights: of_permutation.try_into().expect("three of the permutation") };
        let mut values: [Vector; COSETS] = array::from_fn(|r| {
            let there = |coefficients: &[Scalar]| Zeroizing::new(DOMAIN.coset(coefficients, r));
            let advice: [Secret; Col::COUNT] = array::from_fn(|i| there(&advice[i].coefficients));
            let fifths: [Secret; 4] =
                array::from_fn(|i| Zeroizing::new(advice[i].iter().map(|x| crate::hash::pow5(*x)).collect()));
            let product = there(&product.coefficients);
            let instance = DOMAIN.coset(instance, r);
            let places = DOMAIN.places(r);
            (0..N)
                .map(|row| {
                    let next = (row + 1) % N;
                    let cells = Cells {
                        now: array::from_fn(|i| advice[i][row]),
                        next: array::from_fn(|i| advice[i][next]),
                        now_fifth: array::from_fn(|i| fifths[i][row]),
                        next_fifth: array::from_fn(|i| fifths[i][next]),
                        fixed: array::from_fn::<_, FIXED, _>(|i| self.columns.fixed()[i].cosets[r][row]),
                        instance: instance[row],
                    };
                    let [first, last, active] = ROW_POLYNOMIALS.each_ref().map(|p: &Polynomial| p.cosets[r][row]);
                    let permuted = PermutedCells {
                        values: Col::PERMUTED.map(|column| cells.now[column.index()]),
                        sigma: array::from_fn(|i| self.columns.permutation()[i].cosets[r][row]),
                        product: product[row],
                        product_next: product[next],
                        place: places[row],
                        first,
                        last,
                        active,
                    };
                    gates.at(&cells) + permutation.at(&permuted)
                })
                .collect()
        });
        let pieces = DOMAIN.quotient(&mut values);
        values.zeroize();
        pieces.map(|coefficients| Hidden { coefficients, blind: Scalar::random(&mut *self.rng) })
    }
}

fn instance_polynomial(public: &SpendPublic) -> Vector {
    let mut values = vec![Scalar::ZERO; N];
    values[..SpendPublic::COUNT].copy_from_slice(&public.instance());
    DOMAIN.coefficients(&values)
}

/// `(p_0 x + p_1) x + ..`, of the blindings too.
fn combined<'a>(mut polynomials: impl Iterator<Item = (&'a [Scalar], Scalar)>, x: Scalar) -> Hidden {
    let (first, blind) = polynomials.next().expect("not nothing");
    let mut sum = Hidden { coefficients: first.to_vec(), blind };
    for (coefficients, blind) in polynomials {
        for (sum, c) in sum.coefficients.iter_mut().zip(coefficients) {
            *sum = *sum * x + c;
        }
        sum.blind = sum.blind * x + blind;
    }
    sum
}

/// The polynomial less its value at `x`, divided by `X - x`. As long as `p`, with a zero on top.
fn divided(p: &[Scalar], x: Scalar) -> Vector {
    let mut quotient = vec![Scalar::ZERO; p.len()];
    let mut carry = Scalar::ZERO;
    for i in (1..p.len()).rev() {
        carry = p[i] + carry * x;
        quotient[i - 1] = carry;
    }
    quotient
}
