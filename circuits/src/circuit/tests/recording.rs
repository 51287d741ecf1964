//! What synthesis really assigns, switches on and copies, at which absolute rows.

use std::collections::BTreeSet;

use halo2_proofs::circuit::Value;
use halo2_proofs::plonk::{
    Advice, Any, Assigned, Assignment, Circuit, Column, ConstraintSystem, Error, Fixed, FloorPlanner, Instance,
    Selector,
};
use pasta_curves::pallas::Base;

use super::super::*;
use super::support::*;
use crate::circuit::layout::{At, USABLE_ROWS};

const COLUMNS: [Col; Col::COUNT] = [Col::P0, Col::P1, Col::P2, Col::P3, Col::Z, Col::X, Col::Y, Col::Lambda];

/// The record of one synthesis.
#[derive(Default)]
pub(super) struct Recording {
    columns: Vec<Column<Any>>,
    /// In the order of assignment.
    pub(super) advice: Vec<At>,
    /// Numbers of selectors with the rows in which they are on.
    pub(super) selectors: Vec<(usize, usize)>,
    pub(super) copies: Vec<(At, At)>,
    pub(super) fixed: Vec<(Column<Fixed>, usize)>,
    regions: usize,
}

impl Recording {
    pub(super) fn of(circuit: &SpendCircuit) -> Self {
        let mut meta = ConstraintSystem::default();
        let config = SpendCircuit::configure(&mut meta);
        let columns = config.advice.iter().map(|column| Column::<Any>::from(*column)).collect();
        let mut recording = Self { columns, ..Default::default() };
        <SpendCircuit as Circuit<Base>>::FloorPlanner::synthesize(&mut recording, circuit, config, vec![])
            .expect("the layout fits");
        recording
    }

    fn at(&self, column: Column<Any>, row: usize) -> At {
        let index = self.columns.iter().position(|known| *known == column).expect("one of the eight advice columns");
        (COLUMNS[index], row)
    }
}

impl Assignment<Base> for Recording {
    fn enter_region<NR: Into<String>, N: FnOnce() -> NR>(&mut self, _: N) {
        self.regions += 1;
    }

    fn exit_region(&mut self) {}

    fn enable_selector<A, AR>(&mut self, _: A, selector: &Selector, row: usize) -> Result<(), Error>
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        // A selector shows its number only in its debug form: `Selector(3, true)`.
        let text = format!("{selector:?}");
        let number = text.trim_start_matches("Selector(").split(',').next().and_then(|n| n.parse().ok());
        self.selectors.push((number.expect("a number"), row));
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
        let at = self.at(column.into(), row);
        self.advice.push(at);
        Ok(())
    }

    fn assign_fixed<V, VR, A, AR>(&mut self, _: A, column: Column<Fixed>, row: usize, _: V) -> Result<(), Error>
    where
        V: FnOnce() -> Value<VR>,
        VR: Into<Assigned<Base>>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.fixed.push((column, row));
        Ok(())
    }

    fn copy(&mut self, a: Column<Any>, a_row: usize, b: Column<Any>, b_row: usize) -> Result<(), Error> {
        let copy = (self.at(a, a_row), self.at(b, b_row));
        self.copies.push(copy);
        Ok(())
    }

    fn fill_from_row(&mut self, _: Column<Fixed>, _: usize, _: Value<Assigned<Base>>) -> Result<(), Error> {
        panic!("the circuit has no tables to fill")
    }

    fn push_namespace<NR: Into<String>, N: FnOnce() -> NR>(&mut self, _: N) {}

    fn pop_namespace(&mut self, _: Option<String>) {}
}

#[test]
fn synthesis_assigns_the_cells_of_the_layout_and_no_other() {
    let spend = Honest::new(1);
    let layout: BTreeSet<At> = CELLS.iter().copied().collect();
    for circuit in [spend.empty_circuit(), spend.circuit()] {
        let recording = Recording::of(&circuit);
        let assigned: BTreeSet<At> = recording.advice.iter().copied().collect();
        assert_eq!(recording.regions, 1);
        assert_eq!(assigned.len(), recording.advice.len(), "no cell is assigned twice");
        // Absolute rows: the region starts at row 0, or these would differ, and the instance would be read elsewhere.
        assert_eq!(assigned, layout);
        assert!(recording.fixed.iter().all(|(_, row)| *row < USABLE_ROWS));
    }
    assert_eq!(spend.trace().written, layout, "every cell is computed, none is left at its initial zero");
}

#[test]
fn synthesis_copies_what_the_layout_says() {
    let recording = Recording::of(&Honest::new(1).empty_circuit());
    assert_eq!(recording.copies, COPIES.map(|(_, from, to)| (from, to)));
    // No copy follows from the others: each joins two classes of equal cells that were apart.
    let mut classes: Vec<BTreeSet<At>> = CELLS.iter().map(|at| BTreeSet::from([*at])).collect();
    for (what, from, to) in COPIES {
        let a = classes.iter().position(|class| class.contains(&from)).unwrap();
        let joined = classes.swap_remove(a);
        assert!(!joined.contains(&to), "{what} follows from the copies before it");
        let b = classes.iter().position(|class| class.contains(&to)).unwrap();
        classes[b].extend(joined);
    }
}

#[test]
fn what_is_fixed_does_not_depend_on_the_witness() {
    let spend = Honest::new(1);
    let (empty, full) = (Recording::of(&spend.empty_circuit()), Recording::of(&spend.circuit()));
    assert_eq!(empty.selectors, full.selectors);
    assert_eq!(empty.fixed, full.fixed);
    let distinct: BTreeSet<_> = empty.selectors.iter().collect();
    assert_eq!(distinct.len(), empty.selectors.len(), "nothing is switched on twice");
}
