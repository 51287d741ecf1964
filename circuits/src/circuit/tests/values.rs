//! Values at the edges, and what the circuit leaves to the types around it and to the issuer.

use ff::{Field, PrimeField};
use group::{Curve, GroupEncoding};
use pasta_curves::pallas::{self, Base};

use super::super::*;
use super::cheater::{Cheater, Filling, small};
use super::support::*;
use crate::circuit::layout::{BALANCE, CHANGE_VALUE, SHARE};
use crate::note::{AccountSecret, ContextHash, NoteSecret};
use crate::schnorr::generator;
use crate::spend::{check, value_bound};

/// A spend whose range holds `v'`, or its low bits if it is too large for it.
fn fill(mut cheater: Cheater) -> (Cheater, Filling) {
    let change = cheater.v + cheater.r - Base::from(cheater.charge);
    cheater.change = small(&change).unwrap_or_else(|| low_64(&change));
    let filling = cheater.fill(&[]);
    (cheater, filling)
}

fn low_64(value: &Base) -> u64 {
    crate::schnorr::low_128(value) as u64
}

fn accepts((cheater, filling): (Cheater, Filling)) -> bool {
    cheater.refusals(filling).is_empty()
}

#[test]
fn secrets_may_have_any_value() {
    let cheater = Cheater::new(1);
    for (what, value) in edges() {
        for edge in [
            Cheater { k: value, ..cheater.clone() },
            Cheater { rho: value, ..cheater.clone() },
            Cheater { next_rho: value, ..cheater.clone() },
            Cheater { x: value, ..cheater.clone() },
        ] {
            assert!(natively(&edge), "{what}");
            assert!(accepts(fill(edge)), "{what}");
        }
    }
}

/// What the native check says of an honest signature of these values.
fn natively(cheater: &Cheater) -> bool {
    let filling = cheater.fill(&[]);
    let e = crate::schnorr::low_128(&filling.trace.get(CHALLENGE_2.output()));
    let witness = SpendWitness {
        account: AccountSecret::from_value(cheater.k),
        note: NoteSecret::from_value(cheater.rho),
        hidden: small(&cheater.v).unwrap(),
        refund: small(&cheater.r).unwrap(),
        signature: cheater.respond(e),
        next_note: NoteSecret::from_value(cheater.next_rho),
    };
    let Ok(public) = witness.public(ContextHash::from_value(cheater.x), cheater.charge) else {
        return false;
    };
    check(&cheater.key, &public, &witness).is_ok()
}

/// `v`, `r` and the charge at all edges, together: the circuit accepts if and only if `0 <= v + r - charge < 2^64`, and the
/// native check says the same of what it can be asked.
#[test]
fn the_change_decides() {
    let cheater = Cheater::new(2);
    for (v_name, v) in edges() {
        for (r_name, r) in edges() {
            for charge in [0, 1, u64::MAX] {
                let edge = Cheater { v, r, charge, ..cheater.clone() };
                let change = v + r - Base::from(charge);
                let expected = small(&change).is_some();
                let what = format!("v = {v_name}, r = {r_name}, charge = {charge}");
                if small(&v).is_some() && small(&r).is_some() {
                    assert_eq!(natively(&edge), expected, "{what}");
                }
                assert_eq!(accepts(fill(edge)), expected, "{what}");
            }
        }
    }
}

/// The circuit does not look at the range of `v` and `r` themselves. They are as the issuer signed them, and what it signs
/// is 0, the `v'` of a spend, which is in range, and an `r` that it knows.
#[test]
fn the_range_of_what_is_spent_is_the_issuers_to_keep() {
    let cheater = Cheater { v: value_bound(), r: Base::ZERO, charge: 1, ..Cheater::new(3) };
    assert!(accepts(fill(cheater.clone())));
    assert!(accepts(fill(Cheater { v: -Base::ONE, r: Base::from(2), ..cheater.clone() })));
    // What comes out of a spend is in range in any case.
    assert!(!accepts(fill(Cheater { charge: 0, ..cheater })));
}

/// A charge of `-1` would be a gift. It is a `u64` in `SpendPublic`, and nowhere else does the instance come from.
#[test]
fn the_range_of_the_charge_is_its_types_to_keep() {
    let cheater = Cheater::new(4);
    let (cheater, filling) = fill(Cheater { charge: 0, ..cheater });
    let Filling { mut trace, mut instance } = filling;
    instance[BALANCE] = -Base::ONE;
    let richer = trace.get((Col::P0, CHANGE_VALUE)) + Base::ONE;
    trace.set((Col::P0, CHANGE_VALUE), richer);
    let me = Cheater { change: small(&richer).unwrap(), ..cheater };
    let note = trace.get(layout::NEXT_NOTE.output());
    let commitment = poseidon::fill(&mut trace, layout::NEXT_VALUE, note, richer);
    trace.set((Col::P0, layout::CHANGE), commitment);
    instance[layout::CHANGE] = commitment;
    let hash = trace.get(CHALLENGE_2.output());
    me.fill_ranges(&mut trace, hash);
    assert!(me.refusals(Filling { trace, instance }).is_empty());
    for charge in [0, 1, u64::MAX] {
        let public = SpendPublic { charge, ..Honest::new(4).public };
        assert_eq!(small(&public.instance()[BALANCE]), Some(charge));
    }
}

/// At `x = 0` the share is the account secret itself. The circuit has no objection; the type of `x` has none but this one.
#[test]
fn x_zero_is_kept_out_by_its_type() {
    let (cheater, filling) = fill(Cheater { x: Base::ZERO, ..Cheater::new(5) });
    assert_eq!(filling.trace.get((Col::P0, SHARE)), cheater.k);
    assert!(accepts((cheater, filling)));
    assert!(bool::from(ContextHash::from_bytes(&[0; 32]).is_none()));
    assert!(bool::from(ContextHash::from_bytes(&one_byte()).is_some()));
}

fn one_byte() -> [u8; 32] {
    core::array::from_fn(|i| u8::from(i == 0))
}

/// An owner that uses a note's secret again gets a note that is spent already: the nullifier is that of the first. The
/// loss is the owner's alone.
#[test]
fn a_repeated_rho_makes_a_note_that_is_spent() {
    let cheater = Cheater::new(6);
    let (cheater, filling) = fill(Cheater { next_rho: cheater.rho, ..cheater });
    let nullifier = filling.instance[layout::NULLIFIER];
    let change = cheater.change;
    assert!(accepts((cheater.clone(), filling)));
    let next = Cheater { v: change.into(), r: Base::ZERO, charge: 0, ..cheater };
    let (next, filling) = fill(next);
    assert_eq!(filling.instance[layout::NULLIFIER], nullifier);
    assert!(accepts((next, filling)));
}

#[test]
fn the_key_of_another_epoch_is_refused() {
    let (ours, theirs) = (Cheater::new(7), Cheater::new(8));
    // Cells made for one key under the other's verifying key.
    let Filling { trace, instance } = ours.fill(&[]);
    assert!(!super::constraints::refusals(&theirs.circuit, trace, &instance).is_empty());
    // A signature under one key, and all else as the other's circuit has it.
    let confused = Cheater { secret: ours.secret, ..theirs };
    assert!(!accepts((confused.clone(), confused.fill(&[]))));
}

/// There is one point for which the constant of the chain's last row would be the identity, which has no coordinates. Anybody
/// can compute it, and put it into a directory. Nobody knows its logarithm, so that it is no loss as a key.
#[test]
fn the_key_that_has_no_table_is_refused() {
    let bytes = point_without_table().to_affine().to_bytes();
    assert!(bool::from(PublicKey::from_bytes(&bytes).is_none()));
}

/// `D` with `[(4^128 - 1) / 2]G - [(4^64 - 1) / 2]D = S`.
fn point_without_table() -> pallas::Point {
    let half_less_one =
        |n: u64| (pallas::Scalar::from(4).pow_vartime([n]) - pallas::Scalar::ONE) * pallas::Scalar::TWO_INV;
    let s = pallas::Point::from(super::chain::point(super::chain::start()).unwrap());
    (generator() * half_less_one(128) - s) * half_less_one(64).invert().unwrap()
}
