//! Local determinism: near an honest witness nothing can move that the statement does not leave free.
//!
//! All equations are differentiated over all assigned cells at an honest filling. A vector that every derivative takes to
//! zero is a direction in which the cells could move. The numbers of such directions are exact ranks over the circuit's own
//! field. What is cut into digits (`s`, `e`, the upper half of the challenge hash, `v'`) cannot move by little: each digit is
//! one of four. So the signed leaf and `v'` stand still, and of `k, rho, v, r, rho', x, charge` five are left to move.

use std::collections::BTreeSet;

use halo2_proofs::plonk::Circuit;
use pasta_curves::pallas::Base;
use rayon::prelude::*;

use super::super::*;
use super::faults::{Fault, Faulty};
use super::sparse::rank;
use super::support::*;
use super::system::{Gradient, System, Var};
use crate::circuit::layout::{LEAF, NEXT_NOTE, SLOPE, VALUE};

/// The inputs that move freely: `k`, `rho`, `r`, `rho'` and `x`. `v` follows from the leaf, which is signed, and the charge
/// from `v'`, which is a number of 64 bits.
const FREE: [Var; 5] = [
    Var::Cell(SLOPE.first_input()),
    Var::Cell(SLOPE.second_input()),
    Var::Cell(LEAF.second_input()),
    Var::Cell(NEXT_NOTE.second_input()),
    Var::Public(0),
];

/// The numbers of directions in which cells can move.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directions {
    /// With the public inputs fixed.
    public_fixed: usize,
    /// With the public inputs and the secrets fixed.
    inputs_fixed: usize,
    /// With everything free, the public inputs too.
    all_free: usize,
    /// With the [`FREE`] inputs fixed: they are coordinates of all that can move.
    free_fixed: usize,
}

impl Directions {
    /// What the statement leaves.
    const TIED: Self = Self { public_fixed: 0, inputs_fixed: 0, all_free: FREE.len(), free_fixed: 0 };

    fn of(system: &System, trace: &Trace, instance: &Instance) -> Self {
        let gradients = system.gradients(trace, instance);
        let public: BTreeSet<Var> = (0..instance.len()).map(Var::Public).collect();
        let secrets = [SLOPE.first_input(), SLOPE.second_input(), VALUE.second_input(), LEAF.second_input()];
        let secrets = secrets.into_iter().chain([NEXT_NOTE.second_input()]).map(Var::Cell);
        let inputs: BTreeSet<Var> = public.iter().copied().chain(secrets).collect();
        // A cell that a gate reads without its being assigned would be one more.
        let all: BTreeSet<Var> =
            gradients.iter().flat_map(|row| row.keys().copied()).chain(system.cells()).chain(public.clone()).collect();
        let nullity = |fixed: &BTreeSet<Var>| {
            let rows = gradients.iter().map(|row| -> Gradient {
                row.iter().filter(|(var, _)| !fixed.contains(var)).map(|(var, slope)| (*var, *slope)).collect()
            });
            all.difference(fixed).count() - rank(rows.collect())
        };
        Self {
            public_fixed: nullity(&public),
            inputs_fixed: nullity(&inputs),
            all_free: nullity(&BTreeSet::new()),
            free_fixed: nullity(&FREE.into()),
        }
    }

    /// Those of a circuit at an honest spend.
    fn at(circuit: &impl Circuit<Base>, spend: &Honest) -> Self {
        Self::of(&System::of(circuit), &spend.trace(), &spend.public.instance())
    }
}

#[test]
fn nothing_moves_but_what_the_statement_leaves_free() {
    let spends = [
        Honest::new(1),
        Honest::new(2),
        Honest::new(3),
        Honest::with_values(4, 0, 0, 0),
        Honest::with_values(5, u64::MAX, u64::MAX, u64::MAX),
        Honest::with_values(6, 1, u64::MAX, 1),
    ];
    spends.par_iter().for_each(|spend| {
        assert_eq!(Directions::at(&spend.empty_circuit(), spend), Directions::TIED);
    });
}

#[test]
fn every_seeded_fault_lets_something_move() {
    let spend = Honest::new(8);
    Fault::all().into_par_iter().for_each(|fault| {
        let faulty = Faulty::new(spend.empty_circuit(), fault);
        let found = Directions::at(&faulty, &spend);
        // With all inputs fixed something else than an input moves. A copy into a cell that the other inputs determine shows
        // only while they are free.
        assert!(found.public_fixed > 0 && found.all_free > FREE.len(), "{fault:?}: {found:?}");
    });
}
