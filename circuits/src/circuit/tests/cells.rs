//! No cell and no public input is free: changed alone, each is refused.

use ff::Field;
use pasta_curves::pallas::Base;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rayon::prelude::*;

use super::super::*;
use super::constraints::refusals;
use super::support::*;
use crate::circuit::layout::At;

/// Ways to change a value.
#[derive(Clone, Copy, Debug)]
enum Change {
    PlusOne,
    Zero,
    Negation,
    Random,
}

impl Change {
    const ALL: [Change; 4] = [Change::PlusOne, Change::Zero, Change::Negation, Change::Random];

    fn of(self, value: Base, seed: u64) -> Base {
        match self {
            Change::PlusOne => value + Base::ONE,
            Change::Zero => Base::ZERO,
            Change::Negation => -value,
            Change::Random => Base::random(&mut ChaCha20Rng::seed_from_u64(seed)),
        }
    }
}

/// Changes the cells, one at a time, and demands that each is refused.
fn change(spend: &Honest, changes: Vec<(At, Change)>) -> usize {
    let honest = spend.trace();
    let circuit = spend.empty_circuit();
    let instance = spend.public.instance();
    let accepted: Vec<_> = changes
        .par_iter()
        .enumerate()
        .filter_map(|(seed, (at, change))| {
            let mut trace = copy(&honest);
            trace.set(*at, change.of(honest.get(*at), seed as u64));
            // Zero changed to zero is no change.
            if trace.get(*at) == honest.get(*at) {
                return None;
            }
            Some((*at, *change, refusals(&circuit, trace, &instance).is_empty()))
        })
        .collect();
    let free: Vec<_> = accepted.iter().filter(|(_, _, accepted)| *accepted).collect();
    assert!(free.is_empty(), "free cells: {free:?}");
    accepted.len()
}

#[test]
fn every_cell_changed_alone_is_refused() {
    // One more, and in turn one of the other changes.
    let rest = Change::ALL[1..].iter().cycle();
    let changes: Vec<_> =
        CELLS.iter().zip(rest).flat_map(|(at, other)| [(*at, Change::PlusOne), (*at, *other)]).collect();
    let tried = change(&Honest::new(3), changes);
    assert!(tried >= CELLS.len());
}

#[test]
#[ignore = "slow suite"]
fn every_cell_changed_alone_in_every_way_is_refused() {
    for seed in 10..12 {
        let all = CELLS.iter().flat_map(|at| Change::ALL.map(|change| (*at, change))).collect();
        change(&Honest::new(seed), all);
    }
}

#[test]
fn every_public_input_changed_alone_is_refused() {
    let spend = Honest::new(4);
    let honest = spend.public.instance();
    for i in 0..honest.len() {
        let changes = Change::ALL.map(|change| change.of(honest[i], 1));
        for value in changes.into_iter().chain(edges().map(|(_, value)| value)) {
            let mut instance = honest;
            instance[i] = value;
            assert!(!refusals(&spend.empty_circuit(), spend.trace(), &instance).is_empty(), "input {i} as {value:?}");
        }
    }
}

#[test]
fn every_two_public_inputs_exchanged_are_refused() {
    let spend = Honest::new(5);
    let honest = spend.public.instance();
    for i in 0..honest.len() {
        for j in 0..i {
            let mut instance = honest;
            instance.swap(i, j);
            assert!(!refusals(&spend.empty_circuit(), spend.trace(), &instance).is_empty(), "inputs {i} and {j}");
        }
    }
}
