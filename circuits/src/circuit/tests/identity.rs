//! One note, many nullifiers: each attack spends the same signed leaf under a nullifier of its own, or shows a share that
//! names somebody else, or hands the change to another account.

use ff::Field;
use pasta_curves::pallas::Base;

use super::super::*;
use super::attack::{Attack, attacks};
use super::cheater::{Cheater, Filling};
use super::constraints::Constraint::{Copy, Gate};
use crate::circuit::layout::{Block, CHANGE, LINE, NULLIFIER, SHARE};

attacks! {
    nullifier_of_another_second_input by Gate("poseidon: the second input is fixed", 0, layout::NULLIFIER_HASH.start);
    nullifier_of_another_capacity by Gate("poseidon: the capacity word starts as its tag", 0, layout::NULLIFIER_HASH.start);
    nullifier_of_another_slope by Copy("a: nullifier");
    nullifier_of_another_rho by Copy("rho");
    nullifier_of_another_account by Copy("k: account");
    nullifier_that_is_not_the_hash by Copy("nf");
    claimed_nullifier by Gate("header: bound to the instance", 0, NULLIFIER);
    note_of_another_account by Copy("A: note");
    value_of_another_note by Copy("N");
    share_of_another_slope by Copy("a: line");
    share_of_another_account by Copy("k: line");
    share_off_the_line by Gate("header: y = k + a*x", 0, LINE);
    claimed_share by Gate("header: bound to the instance", 0, SHARE);
    change_for_another_account by Copy("A: next note");
    change_of_another_note by Copy("N'");
    claimed_change by Gate("header: bound to the instance", 0, CHANGE);
}

/// Something else.
fn other(value: Base) -> Base {
    value + Base::from(1_000_003)
}

/// Fills a block again, with any values in its first row, and returns its hash.
fn refill(trace: &mut Trace, block: Block, [first, second, capacity]: [Base; 3]) -> Base {
    let mut scratch = Trace::empty();
    // The wires of a block begin with its second input and its capacity word.
    scratch.faults = vec![(0, second), (1, capacity)];
    let hash = poseidon::fill(&mut scratch, block, first, Base::ZERO);
    for at in scratch.written.clone() {
        trace.set(at, scratch.get(at));
    }
    hash
}

fn nullify(cheater: &Cheater, mut trace: Trace, words: [Base; 3]) -> Filling {
    let nf = refill(&mut trace, layout::NULLIFIER_HASH, words);
    trace.set((Col::P0, NULLIFIER), nf);
    cheater.conclude(trace)
}

fn nullifier_of_another_second_input(cheater: &Cheater) -> Filling {
    let trace = cheater.fill(&[]).trace;
    let slope = trace.get(layout::SLOPE.output());
    nullify(cheater, trace, [slope, Base::ONE, Base::ZERO])
}

fn nullifier_of_another_capacity(cheater: &Cheater) -> Filling {
    let trace = cheater.fill(&[]).trace;
    let slope = trace.get(layout::SLOPE.output());
    nullify(cheater, trace, [slope, Base::ZERO, Base::ONE])
}

fn nullifier_of_another_slope(cheater: &Cheater) -> Filling {
    let trace = cheater.fill(&[]).trace;
    let slope = other(trace.get(layout::SLOPE.output()));
    nullify(cheater, trace, [slope, Base::ZERO, Base::ZERO])
}

/// Slope, share and nullifier of other secrets than those of the note.
fn with_secrets(cheater: &Cheater, k: Base, rho: Base) -> Filling {
    let mut trace = cheater.fill(&[]).trace;
    let slope = poseidon::fill(&mut trace, layout::SLOPE, k, rho);
    trace.set((Col::P0, LINE), slope);
    trace.set((Col::P1, LINE), k);
    trace.set((Col::P0, SHARE), k + slope * cheater.x);
    nullify(cheater, trace, [slope, Base::ZERO, Base::ZERO])
}

fn nullifier_of_another_rho(cheater: &Cheater) -> Filling {
    with_secrets(cheater, cheater.k, other(cheater.rho))
}

fn nullifier_of_another_account(cheater: &Cheater) -> Filling {
    with_secrets(cheater, other(cheater.k), cheater.rho)
}

fn nullifier_that_is_not_the_hash(cheater: &Cheater) -> Filling {
    let mut trace = cheater.fill(&[]).trace;
    trace.set((Col::P0, NULLIFIER), other(trace.get((Col::P0, NULLIFIER))));
    cheater.conclude(trace)
}

fn claim(cheater: &Cheater, row: usize) -> Filling {
    let mut filling = cheater.fill(&[]);
    filling.instance[row] = other(filling.instance[row]);
    filling
}

fn claimed_nullifier(cheater: &Cheater) -> Filling {
    claim(cheater, NULLIFIER)
}

fn claimed_share(cheater: &Cheater) -> Filling {
    claim(cheater, SHARE)
}

fn claimed_change(cheater: &Cheater) -> Filling {
    claim(cheater, CHANGE)
}

/// Any `k` owns the note, if its account is not that of the signed note.
fn note_of_another_account(cheater: &Cheater) -> Filling {
    let mut trace = with_secrets(cheater, other(cheater.k), cheater.rho).trace;
    let account = poseidon::fill(&mut trace, layout::ACCOUNT, other(cheater.k), Base::ZERO);
    pass_on(cheater, trace, account)
}

/// Any secrets own the note, if the value is committed to under the signed note's id.
fn value_of_another_note(cheater: &Cheater) -> Filling {
    let mut trace = note_of_another_account(cheater).trace;
    let account = trace.get(layout::ACCOUNT.output());
    poseidon::fill(&mut trace, layout::NOTE, account, cheater.rho);
    cheater.conclude(trace)
}

fn share_of_another_slope(cheater: &Cheater) -> Filling {
    let mut trace = cheater.fill(&[]).trace;
    let slope = other(trace.get((Col::P0, LINE)));
    trace.set((Col::P0, LINE), slope);
    trace.set((Col::P0, SHARE), cheater.k + slope * cheater.x);
    cheater.conclude(trace)
}

/// Two such shares name the account of a payer that has not cheated.
fn share_of_another_account(cheater: &Cheater) -> Filling {
    let mut trace = cheater.fill(&[]).trace;
    let (slope, k) = (trace.get((Col::P0, LINE)), other(cheater.k));
    trace.set((Col::P1, LINE), k);
    trace.set((Col::P0, SHARE), k + slope * cheater.x);
    cheater.conclude(trace)
}

fn share_off_the_line(cheater: &Cheater) -> Filling {
    let mut trace = cheater.fill(&[]).trace;
    trace.set((Col::P0, SHARE), other(trace.get((Col::P0, SHARE))));
    cheater.conclude(trace)
}

/// Hands the change to an account.
fn pass_on(cheater: &Cheater, mut trace: Trace, account: Base) -> Filling {
    let note = poseidon::fill(&mut trace, layout::NEXT_NOTE, account, cheater.next_rho);
    commit_under(cheater, trace, note)
}

fn commit_under(cheater: &Cheater, mut trace: Trace, note: Base) -> Filling {
    let commitment = poseidon::fill(&mut trace, layout::NEXT_VALUE, note, Base::from(cheater.change));
    trace.set((Col::P0, CHANGE), commitment);
    cheater.conclude(trace)
}

fn change_for_another_account(cheater: &Cheater) -> Filling {
    let trace = cheater.fill(&[]).trace;
    let account = other(trace.get(layout::ACCOUNT.output()));
    pass_on(cheater, trace, account)
}

fn change_of_another_note(cheater: &Cheater) -> Filling {
    let trace = cheater.fill(&[]).trace;
    let note = other(trace.get(layout::NEXT_NOTE.output()));
    commit_under(cheater, trace, note)
}
