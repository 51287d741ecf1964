//! Bringing notes from one epoch into the next, and trying to get more out of it (protocol, section 5, "Rollover").

use halometer::gateway::{AdmitError, Cancelled, Opened, Quotas, Rate};
use halometer::lifecycle::ParsedSpend;
use halometer::protocol::*;
use halometer::store::SpentSet;
use halometer::wallet::{Authorised, LaneStatus, PlanError};

use crate::world::*;

fn rollover(world: &World, paid: &Authorised, now: Timestamp) -> Result<Opened, AdmitError> {
    world.gateway.rollover(&paid.opening, &errand(), now)
}

#[test]
fn a_note_outlives_its_epoch_by_a_rollover() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = roll(&mut wallet, LANE0, FLIP);
    let spend = admitted(rollover(&world, &paid, FLIP));
    assert_eq!((spend.charge(), spend.cap()), (Credits::ZERO, Credits::ZERO));
    assert!(matches!(rollover(&world, &paid, FLIP), Ok(Opened::InProgress)));
    let settled = world.issuer.settle(&*world.set, &spend, Credits::ZERO, FLIP).unwrap();
    // Sent again: the same, also when its epoch is over.
    for now in [FLIP, FLIP.after(2 * HOUR), FLIP.after(DAY)] {
        assert!(matches!(rollover(&world, &paid, now), Ok(Opened::Settled(again)) if again == settled));
    }
    let accepted = wallet.accept(&paid.key, settled.settlement(), FLIP).unwrap();
    assert_eq!((accepted.cost, accepted.refund), (Credits::ZERO, Credits::ZERO));
    assert_eq!(wallet.lanes().next().unwrap().1, LaneStatus::Idle { value: micro(60), epoch: EPOCH[1] });
    // Epoch 1 is over. The lane that was left in it is lost, the other one is not.
    let later = FLIP.after(DAY).after(HOUR);
    assert!(matches!(wallet.plan(LANE1, &GATEWAY, micro(10), later), Err(PlanError::NotSpendable(_))));
    let call = pay(&mut wallet, LANE0, 10, later);
    // No epoch issues by then, so that nothing is admitted: the note waits.
    assert!(matches!(world.open(&call, later), Err(AdmitError::NothingIssues)));
    let books = world.issuer.books(&*world.set).unwrap();
    assert_eq!((books.charged, books.held, books.outstanding), (0, 0, 100));
}

#[test]
fn a_note_of_the_epoch_that_issues_is_not_rolled_over() {
    let world = World::new();
    let mut wallet = world.funded(1);
    assert!(matches!(wallet.plan_rollover(LANE0, &GATEWAY, T0), Err(PlanError::NothingToRoll(_))));
    // A caller whose clock is ahead.
    let paid = roll(&mut wallet, LANE0, FLIP);
    assert!(matches!(rollover(&world, &paid, FLIP.before(1)), Err(AdmitError::NoRollover)));
    assert_eq!(world.records(), (0, 0));
    assert!(matches!(rollover(&world, &paid, FLIP), Ok(Opened::Admitted(_))));
}

#[test]
fn when_no_epoch_issues_nothing_is_rolled_over() {
    // The change could not be signed, and the note would be spent.
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = roll(&mut wallet, LANE0, FLIP);
    let settled = {
        let spend = admitted(rollover(&world, &paid, FLIP));
        world.issuer.settle(&*world.set, &spend, Credits::ZERO, FLIP).unwrap()
    };
    wallet.accept(&paid.key, settled.settlement(), FLIP).unwrap();
    let none = FLIP.after(DAY).after(60);
    assert!(world.issuer.directory().issuing(none).is_none());
    assert!(matches!(wallet.plan_rollover(LANE0, &GATEWAY, none), Err(PlanError::NothingToRoll(_))));
    let own = SessionKey::from_bytes(&[7; 32]);
    let forged = forged(&world, &paid, &own, |spend| {
        (spend.epoch, spend.not_after) = (EPOCH[1], directory_parts().grid.not_after(none));
    });
    assert!(matches!(world.gateway.rollover(&forged, &errand(), none), Err(AdmitError::NothingIssues)));
}

/// An opening with its spend changed, signed with a session key of one's own.
fn forged(world: &World, paid: &Authorised, own: &SessionKey, change: impl FnOnce(&mut Spend)) -> Vec<u8> {
    let Opening { mut spend, authorisation } = Opening::from_bytes(&paid.opening).unwrap();
    change(&mut spend);
    spend.session = own.public_key();
    let bytes = Opening { spend: spend.clone(), authorisation }.to_bytes();
    let x = ParsedSpend::parse(&bytes, world.gateway.directory()).unwrap().context();
    let authorisation = Authorisation::sign(own, &spend.nullifier, &x, Action::Open, 0, &errand());
    Opening { spend, authorisation }.to_bytes()
}

#[test]
fn a_rollover_that_charges_something_is_refused() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = roll(&mut wallet, LANE0, FLIP);
    let own = SessionKey::from_bytes(&[7; 32]);
    for charge in [1, 10, u64::MAX] {
        let forged = forged(&world, &paid, &own, |spend| spend.charge = micro(charge));
        assert!(matches!(world.gateway.rollover(&forged, &errand(), FLIP), Err(AdmitError::NoRollover)));
    }
    // As it is, but under the thief's key.
    let forged = forged(&world, &paid, &own, |_| ());
    let refused = world.gateway.rollover(&forged, &errand(), FLIP).unwrap_err();
    assert_eq!(refused.problem(), Problem::ProofInvalid);
    assert_eq!(world.records(), (0, 0));
}

#[test]
fn a_rollover_pays_for_no_call_and_a_call_is_no_rollover() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let rolled = roll(&mut wallet, LANE0, FLIP);
    let paid = pay(&mut wallet, LANE1, 10, FLIP);
    assert!(matches!(world.gateway.open(&rolled.opening, &errand(), FLIP), Err(AdmitError::WrongPurpose)));
    assert!(matches!(world.gateway.rollover(&paid.opening, &request(), FLIP), Err(AdmitError::WrongPurpose)));
    // The purpose is in the context.
    for (opening, request) in [(&rolled.opening, errand()), (&paid.opening, request())] {
        let mut turned = opening.clone();
        turned[1] ^= 1 ^ 3;
        assert!(world.gateway.open(&turned, &request, FLIP).is_err());
        assert!(world.gateway.rollover(&turned, &request, FLIP).is_err());
    }
    assert_eq!(world.records(), (0, 0));
}

#[test]
fn too_many_rollovers_are_busy() {
    let world = World::new();
    let one = Rate { per_minute: 1, burst: 1 };
    let limited = world.limited(Quotas { rollovers: one, ..Quotas::default() });
    let mut wallet = world.funded(1);
    let [first, second] = [LANE0, LANE1].map(|lane| roll(&mut wallet, lane, FLIP));
    assert!(matches!(limited.rollover(&first.opening, &errand(), FLIP), Ok(Opened::Admitted(_))));
    let refused = limited.rollover(&second.opening, &errand(), FLIP).unwrap_err();
    assert_eq!(refused.problem(), Problem::Busy);
    assert!(matches!(limited.rollover(&first.opening, &errand(), FLIP), Ok(Opened::InProgress)));
    assert_eq!(world.records(), (1, 0));
    assert!(matches!(limited.rollover(&second.opening, &errand(), FLIP.after(60)), Ok(Opened::Admitted(_))));
}

#[test]
fn a_dead_process_rollover_is_resumed_or_cancelled_by_another() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let [first, second] = [LANE0, LANE1].map(|lane| roll(&mut wallet, lane, FLIP));
    for paid in [&first, &second] {
        admitted(rollover(&world, paid, FLIP));
    }
    let replica = world.replica(OwnerId::from_bytes([2; 16]));
    let after = FLIP.after(u64::from(LEASE));
    assert!(matches!(replica.rollover(&first.opening, &errand(), after.before(1)), Ok(Opened::InProgress)));
    let Ok(Opened::Lapsed(taken)) = replica.rollover(&first.opening, &errand(), after) else { panic!("not lapsed") };
    let cancel = wallet.cancel(&second.key, &errand()).unwrap();
    let Ok(Cancelled::Lapsed(cancelled)) = replica.cancel(&cancel, &errand(), after) else { panic!("not lapsed") };
    for spend in [taken, cancelled] {
        let settled = world.issuer.settle(&*world.set, &spend, spend.metered(), after).unwrap();
        wallet.accept(&spend.key(), settled.settlement(), FLIP).unwrap();
    }
    assert_eq!(worth(&wallet), [Some(60), Some(40)]);
    assert!(world.set.lapsed(EPOCH[0], FLIP.after(DAY), 10).unwrap().is_empty());
}

#[test]
fn a_note_rolled_over_and_spent_by_a_copy_names_its_owner() {
    let world = World::new();
    let (mut original, mut copy) = (world.funded(1), world.funded(1));
    let rolled = roll(&mut original, LANE0, FLIP);
    let paid = pay(&mut copy, LANE0, 10, FLIP);
    admitted(rollover(&world, &rolled, FLIP));
    let Err(AdmitError::DoubleSpend(evidence)) = world.open(&paid, FLIP) else { panic!("not named") };
    assert!(world.issuer.name(&evidence).unwrap().is_some());
}
