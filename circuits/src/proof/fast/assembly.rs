//! The fixed columns and the permutation, from the circuit's own synthesis.

use ff::{Field, PrimeField};
use halo2_proofs::circuit::Value;
use halo2_proofs::plonk::{
    Advice, Any, Assigned, Assignment, Circuit, Column, ConstraintSystem, Error, Fixed, FloorPlanner, Instance,
    Selector,
};

use super::super::sums::Scalar;
use super::domain::{DOMAIN, N, Vector, powers};
use crate::circuit::{Col, FIXED, SpendCircuit, SpendConfig};

/// Columns of the permutation argument.
pub(in crate::proof) const PERMUTED: usize = Col::PERMUTED.len();
/// All columns that a verifying key commits to: the fixed ones, then those of the permutation.
pub(in crate::proof) const COLUMNS: usize = FIXED + PERMUTED;

/// The values of all columns in the rows.
pub(in crate::proof) type Values = [Vector; COLUMNS];

/// Records what synthesis fixes.
struct Assembly {
    config: SpendConfig,
    fixed: [Vector; FIXED],
    /// The cell that follows each cell of the permutation in its cycle.
    next: [Vec<(usize, usize)>; PERMUTED],
}

/// The values in the rows of all columns of the circuit's key.
pub(in crate::proof) fn columns(circuit: &SpendCircuit) -> Values {
    let mut meta = ConstraintSystem::default();
    let config = SpendCircuit::configure(&mut meta);
    let mut assembly = Assembly {
        config: config.clone(),
        fixed: core::array::from_fn(|_| vec![Scalar::ZERO; N]),
        next: core::array::from_fn(|column| (0..N).map(|row| (column, row)).collect()),
    };
    <SpendCircuit as Circuit<Scalar>>::FloorPlanner::synthesize(&mut assembly, circuit, config, vec![])
        .expect("the layout fits, for every key");
    let rows = powers(DOMAIN.omega, N);
    let deltas = powers(Scalar::DELTA, PERMUTED);
    let permutation = assembly
        .next
        .map(|column| column.into_iter().map(|(column, row)| deltas[column] * rows[row]).collect::<Vector>());
    let mut all = assembly.fixed.into_iter().chain(permutation);
    core::array::from_fn(|_| all.next().expect("as many as there are columns"))
}

impl Assembly {
    fn permuted(&self, column: Column<Any>, row: usize) -> Result<(usize, usize), Error> {
        let place = self.config.permuted_place(column).ok_or(Error::ColumnNotInPermutation(column))?;
        if row < N { Ok((place, row)) } else { Err(Error::BoundsFailure) }
    }
}

impl Assignment<Scalar> for Assembly {
    fn enter_region<NR: Into<String>, T: FnOnce() -> NR>(&mut self, _: T) {}

    fn exit_region(&mut self) {}

    fn enable_selector<A, AR>(&mut self, _: A, selector: &Selector, row: usize) -> Result<(), Error>
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        let (column, value) = self.config.selector_place(selector).ok_or(Error::Synthesis)?;
        *self.fixed[column].get_mut(row).ok_or(Error::BoundsFailure)? = Scalar::from(value);
        Ok(())
    }

    fn query_instance(&self, _: Column<Instance>, _: usize) -> Result<Value<Scalar>, Error> {
        Ok(Value::unknown())
    }

    fn assign_advice<V, VR, A, AR>(&mut self, _: A, _: Column<Advice>, _: usize, _: V) -> Result<(), Error>
    where
        V: FnOnce() -> Value<VR>,
        VR: Into<Assigned<Scalar>>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        Ok(())
    }

    fn assign_fixed<V, VR, A, AR>(&mut self, _: A, column: Column<Fixed>, row: usize, to: V) -> Result<(), Error>
    where
        V: FnOnce() -> Value<VR>,
        VR: Into<Assigned<Scalar>>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        let place = self.config.fixed_place(column).ok_or(Error::Synthesis)?;
        let cell = self.fixed[place].get_mut(row).ok_or(Error::BoundsFailure)?;
        to().map(|value| *cell = Into::<Assigned<Scalar>>::into(value).evaluate());
        Ok(())
    }

    fn copy(&mut self, a: Column<Any>, a_row: usize, b: Column<Any>, b_row: usize) -> Result<(), Error> {
        let (a, b) = (self.permuted(a, a_row)?, self.permuted(b, b_row)?);
        // Cells that are copies already stay so: to exchange their successors would part them.
        let mut at = a;
        loop {
            if at == b {
                return Ok(());
            }
            at = self.next[at.0][at.1];
            if at == a {
                break;
            }
        }
        let after_a = self.next[a.0][a.1];
        self.next[a.0][a.1] = self.next[b.0][b.1];
        self.next[b.0][b.1] = after_a;
        Ok(())
    }

    fn fill_from_row(&mut self, _: Column<Fixed>, _: usize, _: Value<Assigned<Scalar>>) -> Result<(), Error> {
        // For lookup tables, which the circuit has not.
        Err(Error::Synthesis)
    }

    fn push_namespace<NR: Into<String>, T: FnOnce() -> NR>(&mut self, _: T) {}

    fn pop_namespace(&mut self, _: Option<String>) {}
}
