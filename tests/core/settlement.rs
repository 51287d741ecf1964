//! Attacks on settlements, on either side (protocol, section 5, "Settle").

use std::sync::Arc;

use halometer::circuits::schnorr::SigningKey;
use halometer::issuer::{Issuer, SettleError};
use halometer::protocol::*;
use halometer::store::SpentSet;
use halometer::wallet::{AcceptError, LaneId};

use crate::world::*;

#[test]
fn settling_twice_gives_the_first_settlement() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let spend = world.admit(&pay(&mut wallet, LANE0, 10, T0));
    let first = world.settle(&spend, 3);
    for cost in [0, 3, 10] {
        assert_eq!(world.settle(&spend, cost), first);
    }
    // Also for a cost that would be refused now, and also when another epoch issues: nothing is signed again.
    assert_eq!(world.settle(&spend, 11), first);
    let flipped = world.issuer.settle(&*world.set, &spend, micro(3), T0.after(DAY)).unwrap();
    assert_eq!(flipped, first);
    assert_eq!(flipped.settlement().epoch, EPOCH[0]);
    assert_eq!(world.set.totals(EPOCH[0]).unwrap().refunded, 7);
}

#[test]
fn replicas_that_race_over_an_epoch_flip_release_one_settlement() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let spend = world.admit(&pay(&mut wallet, LANE0, 10, T0));
    let replica = Issuer::new(
        &world.root,
        world.issuer.directory().clone(),
        epoch_keys(),
        world.mints.clone(),
        world.payments.clone(),
    )
    .unwrap();
    let (spend, set) = (&spend, &*world.set);
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8u64)
            .map(|i| {
                let (issuer, now) = if i % 2 == 0 { (&world.issuer, T0) } else { (&replica, T0.after(DAY)) };
                scope.spawn(move || issuer.settle(set, spend, micro(i), now).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|settled| *settled == all[0]));
    assert_eq!(world.set.totals(EPOCH[0]).unwrap().settled, 1);
}

#[test]
fn a_change_note_of_the_next_epoch_is_spent_there() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let spend = world.admit(&paid);
    let later = T0.after(DAY);
    let settled = world.issuer.settle(&*world.set, &spend, micro(4), later).unwrap();
    assert_eq!(settled.settlement().epoch, EPOCH[1]);
    wallet.accept(&paid.key, settled.settlement(), later).unwrap();
    let next = pay(&mut wallet, LANE0, 10, later);
    assert_eq!(next.key.epoch, EPOCH[1]);
    admitted(world.open(&next, later));
    // Each nullifier is filed under the epoch of the note that was spent.
    assert!(world.set.find(EPOCH[0], &paid.key.nullifier).unwrap().is_some());
    assert!(world.set.find(EPOCH[1], &next.key.nullifier).unwrap().is_some());
    assert!(world.set.find(EPOCH[0], &next.key.nullifier).unwrap().is_none());
}

#[test]
fn a_cost_above_the_charge_or_off_the_quantum_is_not_settled() {
    let mut parts = directory_parts();
    parts.quantum = micro(5);
    let world = World::under(Directory::new(parts).unwrap(), root_key(), epoch_keys());
    let mut wallet = world.funded(1);
    let spend = world.admit(&pay(&mut wallet, LANE0, 10, T0));
    let settle = |cost| world.issuer.settle(&*world.set, &spend, micro(cost), T0);
    assert!(matches!(settle(15), Err(SettleError::AboveCap { .. })));
    assert!(matches!(settle(u64::MAX), Err(SettleError::AboveCap { .. })));
    assert!(matches!(settle(3), Err(SettleError::NotQuantised { .. })));
    assert_eq!(world.set.totals(EPOCH[0]).unwrap().settled, 0);
    settle(5).unwrap();
}

#[test]
fn nothing_is_settled_when_no_epoch_issues() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let spend = world.admit(&pay(&mut wallet, LANE0, 10, T0));
    let never = world.issuer.settle(&*world.set, &spend, micro(3), T0.after(4 * DAY));
    assert!(matches!(never, Err(SettleError::NoIssuingEpoch)));
}

#[test]
fn a_spend_admitted_into_one_set_is_not_settled_in_another() {
    let world = World::new();
    let other = World::new();
    let mut wallet = world.funded(1);
    let spend = world.admit(&pay(&mut wallet, LANE0, 10, T0));
    assert!(matches!(world.issuer.settle(&*other.set, &spend, micro(3), T0), Err(SettleError::Store(_))));
    // Nor is it given the settlement that another spend of the same note has there.
    let elsewhere = pay(&mut other.funded(1), LANE0, 20, T0);
    other.settle(&other.admit(&elsewhere), 3);
    assert!(matches!(world.issuer.settle(&*other.set, &spend, micro(3), T0), Err(SettleError::Store(_))));
    assert_eq!(other.set.totals(EPOCH[0]).unwrap().settled, 1);
}

#[test]
fn a_lane_refuses_hostile_settlements_and_awaits_the_real_one() {
    let mut parts = directory_parts();
    parts.quantum = micro(5);
    let world = World::under(Directory::new(parts).unwrap(), root_key(), epoch_keys());
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let settled = world.settle(&world.admit(&paid), 5);
    let real = settled.settlement();
    let change = Opening::from_bytes(&paid.opening).unwrap().spend.change;
    let key = SigningKey::generate(&mut rng(1));
    assert_eq!(key.public_key(), world.issuer.directory().epochs()[0].key, "the world's own key of epoch 1");
    let signed =
        |refund: u64| Settlement { epoch: EPOCH[0], refund: micro(refund), signature: key.sign(&change.leaf(refund)) };

    // More than the charge, though the issuer has signed it: the sum would mark the caller.
    assert!(matches!(wallet.accept(&paid.key, &signed(15), T0), Err(AcceptError::AboveCharge { .. })));
    // An odd amount.
    assert!(matches!(wallet.accept(&paid.key, &signed(7), T0), Err(AcceptError::NotQuantised { .. })));
    // Another refund than the signed one.
    let lie = Settlement { refund: micro(10), ..real.clone() };
    assert!(matches!(wallet.accept(&paid.key, &lie, T0), Err(AcceptError::Signature(_))));
    // Another epoch than the signed one, and one that is in no directory.
    let lie = Settlement { epoch: EPOCH[1], ..real.clone() };
    assert!(matches!(wallet.accept(&paid.key, &lie, T0), Err(AcceptError::Signature(_))));
    let lie = Settlement { epoch: EpochNumber::new(9), ..real.clone() };
    assert!(matches!(wallet.accept(&paid.key, &lie, T0), Err(AcceptError::UnknownEpoch(_))));
    // A key that is in no directory.
    let own = SigningKey::generate(&mut rng(77));
    let lie = Settlement { signature: own.sign(&change.leaf(5)), ..real.clone() };
    assert!(matches!(wallet.accept(&paid.key, &lie, T0), Err(AcceptError::Signature(_))));
    // The settlement of another spend.
    let other = pay(&mut wallet, LaneId { lane: 1, ..LANE0 }, 10, T0);
    let foreign = world.settle(&world.admit(&other), 5);
    assert!(matches!(wallet.accept(&paid.key, foreign.settlement(), T0), Err(AcceptError::Signature(_))));

    assert_eq!(wallet.balance().total(), 100);
    assert_eq!(wallet.accept(&paid.key, real, T0).unwrap().cost, micro(5));
    // It counts once.
    assert!(matches!(wallet.accept(&paid.key, real, T0), Err(AcceptError::NotInFlight)));
    assert_eq!(wallet.balance().total(), 95);
}

#[test]
fn no_issuer_is_made_with_keys_that_the_directory_lacks() {
    let world = World::new();
    let mut keys = halometer::issuer::EpochKeys::new();
    keys.generate(EPOCH[0], &mut rng(12345));
    let made = Issuer::new(
        &world.root,
        world.issuer.directory().clone(),
        keys,
        Arc::clone(&world.mints) as _,
        Arc::clone(&world.payments) as _,
    );
    assert!(made.is_err());
}
