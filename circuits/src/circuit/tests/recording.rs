//! What synthesis really assigns, switches on and copies, at which absolute rows.

use std::collections::BTreeSet;

use halo2_proofs::plonk::Circuit;
use pasta_curves::pallas::Base;

use super::super::*;
use super::support::*;
use crate::circuit::description::Description;
use crate::circuit::layout::{At, USABLE_ROWS};

pub(super) const COLUMNS: [Col; Col::COUNT] = [Col::P0, Col::P1, Col::P2, Col::P3, Col::Z, Col::X, Col::Y, Col::Lambda];

/// The record of one synthesis, its cells named as the layout names them.
pub(super) struct Recording {
    /// In the order of assignment.
    pub(super) advice: Vec<At>,
    /// Numbers of selectors with the rows in which they are on.
    pub(super) selectors: Vec<(usize, usize)>,
    pub(super) copies: Vec<(At, At)>,
    pub(super) fixed: Vec<(usize, usize, Base)>,
    regions: usize,
}

impl Recording {
    pub(super) fn of(circuit: &impl Circuit<Base>) -> Self {
        let record = Description::of(circuit).record;
        // The numbers of the columns are those of their creation: the first eight, as `configure` lists them.
        let at = |(column, row): (usize, usize)| (COLUMNS[column], row);
        Self {
            advice: record.advice.into_iter().map(at).collect(),
            selectors: record.selectors,
            copies: record.copies.into_iter().map(|(from, to)| (at(from), at(to))).collect(),
            fixed: record.fixed,
            regions: record.regions,
        }
    }
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
        assert!(recording.fixed.iter().all(|(_, row, _)| *row < USABLE_ROWS));
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
