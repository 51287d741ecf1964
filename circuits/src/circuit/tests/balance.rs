//! More than the note is worth: each attack either pays a charge that the note does not cover, or leaves a change that is
//! worth more than the note.

use ff::Field;
use pasta_curves::pallas::Base;

use super::super::*;
use super::attack::{Attack, attacks};
use super::cheater::{Cheater, Filling};
use super::constraints::Constraint::{Copy, Gate};
use super::forgeries::{fill_range, one_wide_digit};
use crate::circuit::layout::{BALANCE, CHANGE, CHANGE_VALUE, RANGE_DIGITS};

attacks! {
    charge_above_the_balance_by_one by Copy("v': range");
    charge_above_the_balance_from_another_start by Gate("signature: z is zero", 0, RANGE_START);
    charge_above_the_balance_by_a_wide_digit by Gate("signature: digit", 0, RANGE_END - 1);
    change_of_65_bits by Gate("signature: digit", 0, RANGE_START);
    change_that_is_more_than_what_is_left by Gate("header: v' = v + r - charge", 0, BALANCE);
    commitment_to_more_than_the_change by Copy("v': balance");
    published_commitment_to_more_than_the_change by Copy("C'");
    balance_of_a_richer_note by Copy("v");
    balance_of_a_larger_refund by Copy("r");
    richer_note_under_a_signed_commitment by Copy("C");
}

/// A prover that pays one micro-credit more than there is: `v' = -1`.
fn overdrawn(cheater: &Cheater) -> Cheater {
    Cheater { charge: 57_000_001, change: 0, ..cheater.clone() }
}

fn charge_above_the_balance_by_one(cheater: &Cheater) -> Filling {
    overdrawn(cheater).fill(&[])
}

fn charge_above_the_balance_from_another_start(cheater: &Cheater) -> Filling {
    let mut filling = overdrawn(cheater).fill(&[]);
    let start = -Base::from(4).pow_vartime([RANGE_DIGITS as u64]).invert().unwrap();
    fill_range(&mut filling.trace, Col::Z, start, &[Base::ZERO; RANGE_DIGITS]);
    filling
}

fn charge_above_the_balance_by_a_wide_digit(cheater: &Cheater) -> Filling {
    let mut filling = overdrawn(cheater).fill(&[]);
    fill_range(&mut filling.trace, Col::Z, Base::ZERO, &one_wide_digit(-Base::ONE, RANGE_DIGITS - 1));
    filling
}

/// `v'` is `2^64`, whose first digit would be 4. The issuer has signed a value that it must not sign.
fn change_of_65_bits(cheater: &Cheater) -> Filling {
    let bound = crate::spend::value_bound();
    let me = Cheater { v: bound + Base::from(cheater.charge) - cheater.r, ..cheater.clone() };
    let mut filling = me.fill(&[]);
    assert_eq!(filling.trace.get((Col::P0, CHANGE_VALUE)), bound);
    fill_range(&mut filling.trace, Col::Z, Base::ZERO, &one_wide_digit(bound, 0));
    filling
}

/// Replaces `v'`, where it is computed and from there on.
fn with_change(cheater: &Cheater, mut filling: Filling, change: u64) -> Filling {
    let trace = &mut filling.trace;
    trace.set((Col::P0, CHANGE_VALUE), Base::from(change));
    let digits: Vec<_> = super::chain::digits_of(&change.to_le_bytes());
    fill_range(trace, Col::Z, Base::ZERO, &digits);
    commit(cheater, filling, Base::from(change))
}

/// Replaces what `C'` commits to.
fn commit(cheater: &Cheater, mut filling: Filling, value: Base) -> Filling {
    let trace = &mut filling.trace;
    let note = trace.get(layout::NEXT_NOTE.output());
    let commitment = poseidon::fill(trace, layout::NEXT_VALUE, note, value);
    trace.set((Col::P0, CHANGE), commitment);
    cheater.conclude(filling.trace)
}

fn change_that_is_more_than_what_is_left(cheater: &Cheater) -> Filling {
    with_change(cheater, cheater.fill(&[]), cheater.change + 1)
}

fn commitment_to_more_than_the_change(cheater: &Cheater) -> Filling {
    commit(cheater, cheater.fill(&[]), Base::from(cheater.change + 1))
}

fn published_commitment_to_more_than_the_change(cheater: &Cheater) -> Filling {
    let filling = cheater.fill(&[]);
    let richer = commit(cheater, cheater.fill(&[]), Base::from(cheater.change + 1));
    let mut trace = filling.trace;
    trace.set((Col::P0, CHANGE), richer.trace.get((Col::P0, CHANGE)));
    cheater.conclude(trace)
}

fn balance_of_a_richer_note(cheater: &Cheater) -> Filling {
    let mut filling = cheater.fill(&[]);
    filling.trace.set((Col::P0, BALANCE), cheater.v + Base::from(1000));
    with_change(cheater, filling, cheater.change + 1000)
}

fn balance_of_a_larger_refund(cheater: &Cheater) -> Filling {
    let mut filling = cheater.fill(&[]);
    filling.trace.set((Col::P1, BALANCE), cheater.r + Base::from(1000));
    with_change(cheater, filling, cheater.change + 1000)
}

/// The leaf is made of the signed `C`, the balance of another.
fn richer_note_under_a_signed_commitment(cheater: &Cheater) -> Filling {
    let mut filling = balance_of_a_richer_note(cheater);
    let note = filling.trace.get(layout::NOTE.output());
    poseidon::fill(&mut filling.trace, layout::VALUE, note, cheater.v + Base::from(1000));
    filling
}
