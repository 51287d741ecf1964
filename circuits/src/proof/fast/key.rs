//! The columns of an epoch's keys: computed once, and shared by all epochs as far as they are the same.
//!
//! Of 27 columns six depend on the epoch key, and of those only some rows. So the first key that a process builds is the
//! pattern for all others: a column with the same values is the same column, and the commitment of one that differs is that
//! of the pattern and the commitment of the difference.

use std::sync::{Arc, LazyLock, OnceLock};

use ff::Field;
use pasta_curves::arithmetic::CurveExt;
use pasta_curves::vesta;

use super::super::setup::{GENERATORS, LAGRANGE_TABLE};
use super::super::sums::{Adder, Scalar, Table};
use super::assembly::{COLUMNS, Values};
use super::domain::{COSETS, DOMAIN, N, USABLE, Vector};
use crate::circuit::FIXED;

/// A polynomial in all its forms.
pub(in crate::proof) struct Polynomial {
    pub(in crate::proof) values: Vector,
    pub(in crate::proof) coefficients: Vector,
    pub(in crate::proof) cosets: [Vector; COSETS],
}

impl Polynomial {
    pub(in crate::proof) fn new(values: Vector) -> Self {
        let coefficients = DOMAIN.coefficients(&values);
        let cosets = core::array::from_fn(|r| DOMAIN.coset(&coefficients, r));
        Self { values, coefficients, cosets }
    }
}

/// The Lagrange polynomials of the first row and of the last of the permutation, and the sum of all rows before the last.
pub(in crate::proof) static ROW_POLYNOMIALS: LazyLock<[Polynomial; 3]> = LazyLock::new(|| {
    let ones = |on: fn(usize) -> bool| {
        Polynomial::new((0..N).map(|row| if on(row) { Scalar::ONE } else { Scalar::ZERO }).collect())
    };
    [ones(|row| row == 0), ones(|row| row == USABLE), ones(|row| row < USABLE)]
});

/// What it takes to verify: the commitments of all columns.
pub(in crate::proof) struct Commitments {
    pub(in crate::proof) points: [vesta::Affine; COLUMNS],
    /// Multiples of them, for sums.
    pub(in crate::proof) table: Table,
}

/// What it takes to prove: all columns, the fixed ones first.
pub(in crate::proof) struct Columns([Arc<Polynomial>; COLUMNS]);

struct Pattern {
    values: Values,
    points: [vesta::Affine; COLUMNS],
}

static PATTERN: OnceLock<Pattern> = OnceLock::new();
static POLYNOMIALS: OnceLock<[Arc<Polynomial>; COLUMNS]> = OnceLock::new();

fn commit_all(values: &Values) -> [vesta::Affine; COLUMNS] {
    let mut adder = Adder::default();
    let points = values.each_ref().map(|values| LAGRANGE_TABLE.sum(&mut adder, &[(0, 0, values)]) + GENERATORS.w);
    normalized(&points)
}

/// The points in affine coordinates.
pub(in crate::proof) fn normalized<const M: usize>(points: &[vesta::Point; M]) -> [vesta::Affine; M] {
    let mut affine = [vesta::Affine::default(); M];
    vesta::Point::batch_normalize_vartime(points, &mut affine);
    affine
}

impl Commitments {
    pub(in crate::proof) fn new(values: &Values) -> Self {
        let mut adder = Adder::default();
        let pattern = PATTERN.get_or_init(|| Pattern { points: commit_all(values), values: values.clone() });
        let points = core::array::from_fn(|column| {
            let (known, own) = (&pattern.values[column], &values[column]);
            let point = vesta::Point::from(pattern.points[column]);
            if known == own {
                return point;
            }
            let difference: Vector = own.iter().zip(known).map(|(own, known)| *own - known).collect();
            point + LAGRANGE_TABLE.sum(&mut adder, &[(0, 0, &difference)])
        });
        let points = normalized(&points);
        Self { table: Table::new(&points), points }
    }

    /// The commitments of the fixed columns, and those of the permutation.
    pub(in crate::proof) fn parts(&self) -> (&[vesta::Affine], &[vesta::Affine]) {
        self.points.split_at(FIXED)
    }
}

impl Columns {
    pub(in crate::proof) fn new(values: Values) -> Self {
        let known = POLYNOMIALS.get_or_init(|| values.clone().map(|values| Arc::new(Polynomial::new(values))));
        let mut own = values.into_iter().zip(known).map(|(values, known)| {
            if known.values == values { known.clone() } else { Arc::new(Polynomial::new(values)) }
        });
        Self(core::array::from_fn(|_| own.next().expect("as many as there are columns")))
    }

    pub(in crate::proof) fn fixed(&self) -> &[Arc<Polynomial>] {
        &self.0[..FIXED]
    }

    pub(in crate::proof) fn permutation(&self) -> &[Arc<Polynomial>] {
        &self.0[FIXED..]
    }

    pub(in crate::proof) fn all(&self) -> &[Arc<Polynomial>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::SpendCircuit;
    use crate::proof::fast::columns;
    use crate::schnorr::SigningKey;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    /// One constant of the last permutation, and the table of the epoch's point.
    #[test]
    fn epochs_share_all_columns_but_six() {
        let of = |seed| {
            let key = SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(seed)).public_key();
            Columns::new(columns(&SpendCircuit::for_key(&key)))
        };
        let (one, other, again) = (of(1), of(2), of(1));
        let shared = |a: &Columns, b: &Columns| a.all().iter().zip(b.all()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared(&one, &other), COLUMNS - 6);
        assert!(shared(&one, &again) >= COLUMNS - 6);
        let bytes = |p: &Polynomial| (p.values.len() + p.coefficients.len() + COSETS * N) * 32;
        assert_eq!(bytes(&one.all()[0]), 57_344);
    }
}
