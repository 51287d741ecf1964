//! What synthesis assigns, switches on and copies, at which absolute rows.

use halo2_proofs::circuit::Value;
use halo2_proofs::plonk::{
    Advice, Any, Assigned, Assignment, Circuit, Column, Error, Fixed, FloorPlanner, Instance, Selector,
};
use pasta_curves::pallas::Base;

/// An advice cell, by the number of its column.
pub(crate) type Cell = (usize, usize);

/// The record of one synthesis, each list in its order.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) advice: Vec<Cell>,
    /// Numbers of selectors with the rows in which they are on.
    pub(crate) selectors: Vec<(usize, usize)>,
    pub(crate) copies: Vec<(Cell, Cell)>,
    pub(crate) fixed: Vec<(usize, usize, Base)>,
    pub(crate) regions: usize,
}

impl Record {
    pub(super) fn of<C: Circuit<Base>>(circuit: &C, config: C::Config) -> Self {
        let mut record = Self::default();
        C::FloorPlanner::synthesize(&mut record, circuit, config, vec![]).expect("the layout fits");
        record
    }
}

/// The number in `Column { index: 3, column_type: Fixed }`; it shows nowhere else.
fn index(column: &impl core::fmt::Debug) -> usize {
    let text = format!("{column:?}");
    let number = text.trim_start_matches("Column { index: ").split(',').next().and_then(|n| n.parse().ok());
    number.expect("the number of a column")
}

/// The number in `Selector(3, true)`.
pub(crate) fn selector_number(selector: &Selector) -> usize {
    let text = format!("{selector:?}");
    let number = text.trim_start_matches("Selector(").split(',').next().and_then(|n| n.parse().ok());
    number.expect("the number of a selector")
}

fn advice_cell(column: Column<Any>, row: usize) -> Cell {
    assert_eq!(column.column_type(), &Any::Advice, "only advice is copied");
    (index(&column), row)
}

impl Assignment<Base> for Record {
    fn enter_region<NR: Into<String>, N: FnOnce() -> NR>(&mut self, _: N) {
        self.regions += 1;
    }

    fn exit_region(&mut self) {}

    fn enable_selector<A, AR>(&mut self, _: A, selector: &Selector, row: usize) -> Result<(), Error>
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.selectors.push((selector_number(selector), row));
        Ok(())
    }

    fn query_instance(&self, _: Column<Instance>, _: usize) -> Result<Value<Base>, Error> {
        panic!("the instance is read by gates alone")
    }

    fn assign_advice<V, VR, A, AR>(&mut self, _: A, column: Column<Advice>, row: usize, _: V) -> Result<(), Error>
    where
        V: FnOnce() -> Value<VR>,
        VR: Into<Assigned<Base>>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.advice.push(advice_cell(column.into(), row));
        Ok(())
    }

    fn assign_fixed<V, VR, A, AR>(&mut self, _: A, column: Column<Fixed>, row: usize, to: V) -> Result<(), Error>
    where
        V: FnOnce() -> Value<VR>,
        VR: Into<Assigned<Base>>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        let mut found = None;
        to().map(|value| found = Some(Into::<Assigned<Base>>::into(value).evaluate()));
        self.fixed.push((index(&column), row, found.expect("what is fixed is known without a witness")));
        Ok(())
    }

    fn copy(&mut self, a: Column<Any>, a_row: usize, b: Column<Any>, b_row: usize) -> Result<(), Error> {
        self.copies.push((advice_cell(a, a_row), advice_cell(b, b_row)));
        Ok(())
    }

    fn fill_from_row(&mut self, _: Column<Fixed>, _: usize, _: Value<Assigned<Base>>) -> Result<(), Error> {
        panic!("the circuit has no tables to fill")
    }

    fn push_namespace<NR: Into<String>, N: FnOnce() -> NR>(&mut self, _: N) {}

    fn pop_namespace(&mut self, _: Option<String>) {}
}
