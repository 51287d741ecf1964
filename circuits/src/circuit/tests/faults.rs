//! Circuits with a fault in them: one copy is an assignment of the same value, or a gate has no selector. The real circuit,
//! synthesised through a layer that leaves one thing out.

use halo2_proofs::circuit::layouter::RegionLayouter;
use halo2_proofs::circuit::{Cell, Layouter, Region, SimpleFloorPlanner, Value};
use halo2_proofs::plonk::{Advice, Assigned, Circuit, Column, ConstraintSystem, Error, Fixed, Instance, Selector};
use pasta_curves::pallas::Base;
use std::collections::BTreeSet;

use super::super::*;
use super::constraints::Constraint;
use super::support::*;
use super::system::System;
use crate::circuit::description::{Description, Record, selector_number};

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The copy of this number: its second cell is assigned the value, and no more.
    Assigned(usize),
    /// A selector, in all rows: its gates are nowhere on.
    Unselected(usize),
    /// A selector in one row.
    UnselectedIn(usize, usize),
}

impl Fault {
    /// Each copy, each selector, and some selectors in one row: the first, the middle and the last of those in which they are
    /// on.
    pub(super) fn all() -> Vec<Self> {
        let description = Description::of(&Honest::new(1).empty_circuit());
        let Record { selectors: on, copies, .. } = &description.record;
        let mut all: Vec<_> = (0..copies.len()).map(Self::Assigned).collect();
        for selector in 0..description.columns[3] {
            all.push(Self::Unselected(selector));
            let rows: Vec<_> = on.iter().filter(|(s, _)| *s == selector).map(|(_, row)| *row).collect();
            let some: BTreeSet<_> = [rows[0], rows[rows.len() / 2], rows[rows.len() - 1]].into();
            if rows.len() > 1 {
                all.extend(some.into_iter().map(|row| Self::UnselectedIn(selector, row)));
            }
        }
        all
    }

    fn silences(self, selector: usize, row: usize) -> bool {
        self == Self::Unselected(selector) || self == Self::UnselectedIn(selector, row)
    }

    /// The constraints of a circuit that are gone; `sound` are all of them.
    pub(super) fn removed(self, circuit: &SpendCircuit, sound: &BTreeSet<Constraint>) -> BTreeSet<Constraint> {
        sound.difference(&System::of(&Faulty::new(circuit.clone(), self)).constraints()).copied().collect()
    }
}

/// A circuit with a fault.
#[derive(Clone, Debug)]
pub(super) struct Faulty {
    circuit: SpendCircuit,
    fault: Fault,
}

impl Faulty {
    pub(super) fn new(circuit: SpendCircuit, fault: Fault) -> Self {
        Self { circuit, fault }
    }
}

impl Circuit<Base> for Faulty {
    type Config = SpendConfig;
    type FloorPlanner = SimpleFloorPlanner;

    fn without_witnesses(&self) -> Self {
        Self { circuit: self.circuit.without_witnesses(), fault: self.fault }
    }

    fn configure(meta: &mut ConstraintSystem<Base>) -> SpendConfig {
        SpendCircuit::configure(meta)
    }

    fn synthesize(&self, config: SpendConfig, layouter: impl Layouter<Base>) -> Result<(), Error> {
        self.circuit.synthesize(config, Omitting { layouter, fault: self.fault })
    }
}

/// A layouter whose regions leave out what the fault says.
struct Omitting<L> {
    layouter: L,
    fault: Fault,
}

impl<L: Layouter<Base>> Layouter<Base> for Omitting<L> {
    type Root = L::Root;

    fn assign_region<A, AR, N, NR>(&mut self, name: N, mut assignment: A) -> Result<AR, Error>
    where
        A: FnMut(Region<'_, Base>) -> Result<AR, Error>,
        N: Fn() -> NR,
        NR: Into<String>,
    {
        let fault = self.fault;
        self.layouter.assign_region(name, |region| {
            let mut omitting = OmittingRegion { region, fault, copies: 0 };
            let region: &mut dyn RegionLayouter<Base> = &mut omitting;
            assignment(region.into())
        })
    }

    fn assign_table<A, N, NR>(&mut self, name: N, assignment: A) -> Result<(), Error>
    where
        A: FnMut(halo2_proofs::circuit::Table<'_, Base>) -> Result<(), Error>,
        N: Fn() -> NR,
        NR: Into<String>,
    {
        self.layouter.assign_table(name, assignment)
    }

    fn constrain_instance(&mut self, cell: Cell, column: Column<Instance>, row: usize) -> Result<(), Error> {
        self.layouter.constrain_instance(cell, column, row)
    }

    fn get_root(&mut self) -> &mut Self::Root {
        self.layouter.get_root()
    }

    fn push_namespace<NR: Into<String>, N: FnOnce() -> NR>(&mut self, name: N) {
        self.layouter.push_namespace(name);
    }

    fn pop_namespace(&mut self, name: Option<String>) {
        self.layouter.pop_namespace(name);
    }
}

#[derive(Debug)]
struct OmittingRegion<'r> {
    region: Region<'r, Base>,
    fault: Fault,
    copies: usize,
}

impl RegionLayouter<Base> for OmittingRegion<'_> {
    fn enable_selector<'v>(
        &'v mut self,
        _: &'v (dyn Fn() -> String + 'v),
        selector: &Selector,
        offset: usize,
    ) -> Result<(), Error> {
        if self.fault.silences(selector_number(selector), offset) {
            return Ok(());
        }
        selector.enable(&mut self.region, offset)
    }

    fn assign_advice<'v>(
        &'v mut self,
        annotation: &'v (dyn Fn() -> String + 'v),
        column: Column<Advice>,
        offset: usize,
        to: &'v mut (dyn FnMut() -> Value<Assigned<Base>> + 'v),
    ) -> Result<Cell, Error> {
        self.region.assign_advice(annotation, column, offset, to).map(|assigned| assigned.cell())
    }

    fn assign_advice_from_constant<'v>(
        &'v mut self,
        _: &'v (dyn Fn() -> String + 'v),
        _: Column<Advice>,
        _: usize,
        _: Assigned<Base>,
    ) -> Result<Cell, Error> {
        panic!("the circuit copies no constants")
    }

    fn assign_advice_from_instance<'v>(
        &mut self,
        _: &'v (dyn Fn() -> String + 'v),
        _: Column<Instance>,
        _: usize,
        _: Column<Advice>,
        _: usize,
    ) -> Result<(Cell, Value<Base>), Error> {
        panic!("the instance is read by gates alone")
    }

    fn instance_value(&mut self, _: Column<Instance>, _: usize) -> Result<Value<Base>, Error> {
        panic!("the instance is read by gates alone")
    }

    fn assign_fixed<'v>(
        &'v mut self,
        annotation: &'v (dyn Fn() -> String + 'v),
        column: Column<Fixed>,
        offset: usize,
        to: &'v mut (dyn FnMut() -> Value<Assigned<Base>> + 'v),
    ) -> Result<Cell, Error> {
        self.region.assign_fixed(annotation, column, offset, to).map(|assigned| assigned.cell())
    }

    fn constrain_constant(&mut self, _: Cell, _: Assigned<Base>) -> Result<(), Error> {
        panic!("the circuit copies no constants")
    }

    fn constrain_equal(&mut self, left: Cell, right: Cell) -> Result<(), Error> {
        self.copies += 1;
        if self.fault == Fault::Assigned(self.copies - 1) {
            return Ok(());
        }
        self.region.constrain_equal(left, right)
    }
}

#[test]
fn a_fault_leaves_out_what_it_says_and_no_more() {
    let circuit = Honest::new(1).empty_circuit();
    let sound = System::of(&circuit).constraints();
    for fault in Fault::all() {
        let removed = fault.removed(&circuit, &sound);
        match fault {
            Fault::Assigned(copy) => assert_eq!(removed, [Constraint::Copy(COPIES[copy].0)].into()),
            Fault::Unselected(_) | Fault::UnselectedIn(..) => {
                assert!(!removed.is_empty(), "{fault:?}");
                assert!(removed.iter().all(|c| matches!(c, Constraint::Gate(..))), "{fault:?}");
            }
        }
    }
}
