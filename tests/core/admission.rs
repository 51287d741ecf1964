//! Spends that must not be admitted (protocol, section 5, "Admit", and section 3, context).

use std::sync::Arc;

use halometer::circuits::schnorr::SigningKey;
use halometer::gateway::{AdmitError, GatewayError, Opened, Quotas, Rate};
use halometer::protocol::*;
use halometer::store::{MemorySpentSet, SpentSet};
use halometer::wallet::{AuthoriseError, Authorised, PlanError};

use crate::world::*;

/// The opening with its spend changed, and the signature left as it was.
fn altered(paid: &Authorised, change: impl FnOnce(&mut Spend)) -> Vec<u8> {
    let mut opening = Opening::from_bytes(&paid.opening).unwrap();
    change(&mut opening.spend);
    opening.to_bytes()
}

fn problem(world: &World, opening: &[u8], now: Timestamp) -> Problem {
    let error = world.gateway.open(opening, &request(), now).unwrap_err();
    let open = world.set.totals(EPOCH[0]).unwrap().open + world.set.totals(EPOCH[1]).unwrap().open;
    assert_eq!(open, 0, "refused, and in the set all the same");
    error.problem()
}

#[test]
fn a_spend_after_its_window_is_expired() {
    let world = World::new();
    let paid = pay(&mut world.funded(1), LANE0, 10, T0);
    let window = T0.before(INTO_WINDOW);
    assert_eq!(problem(&world, &paid.opening, window.before(Grid::EARLY + 1)), Problem::Expired, "to come");
    assert_eq!(problem(&world, &paid.opening, window.after(HOUR + 300)), Problem::Expired);
    assert!(matches!(world.open(&paid, window.after(HOUR + 299)), Ok(Opened::Admitted(_))));
}

#[test]
fn a_spend_of_an_epoch_that_is_over_or_not_begun_is_refused() {
    let world = World::new();
    let paid = pay(&mut world.funded(1), LANE0, 10, T0);
    for now in [T0.before(HOUR + Grid::EARLY + 1), T0.after(2 * DAY)] {
        assert_eq!(problem(&world, &paid.opening, now), Problem::UnknownEpoch);
    }
    let unknown = altered(&paid, |spend| spend.epoch = EpochNumber::new(7));
    assert_eq!(problem(&world, &unknown, T0), Problem::UnknownEpoch);
    // The wallet does not even make one.
    let wallet = world.funded(2);
    assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(10), T0.after(2 * DAY)), Err(PlanError::NotSpendable(_))));
}

#[test]
fn a_charge_or_a_tariff_of_ones_own_is_refused() {
    let world = World::new();
    let wallet = world.funded(1);
    assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(11), T0), Err(PlanError::UnknownClass(_))));
    assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(0), T0), Err(PlanError::UnknownClass(_))));
    let paid = pay(&mut world.funded(1), LANE0, 10, T0);
    for charge in [0, 11, u64::MAX] {
        assert!(matches!(
            world.gateway.open(&altered(&paid, |spend| spend.charge = micro(charge)), &request(), T0),
            // The charge is in the context, so that the signature does not hold either.
            Err(AdmitError::SessionSignature | AdmitError::UnknownClass(_))
        ));
    }
    let tariff = altered(&paid, |spend| spend.tariff = Digest::from_bytes([1; 32]));
    assert!(matches!(
        world.gateway.open(&tariff, &request(), T0),
        Err(AdmitError::SessionSignature | AdmitError::UnknownTariff)
    ));
}

#[test]
fn a_gateway_that_dropped_a_class_refuses_it() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let mut parts = directory_parts();
    (parts.serial, parts.published, parts.classes) = (2, T0, vec![micro(5)]);
    let gateway = world.gateway.adopt(Directory::new(parts.clone()).unwrap(), T0).unwrap();
    let refused = gateway.open(&paid.opening, &request(), T0).unwrap_err();
    assert_eq!(refused.problem(), Problem::ClassUnknown);
    // No error frees the note: it stays pinned to that spend.
    assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(5), T0), Err(PlanError::InFlight(_))));
    assert_eq!(wallet.resend(&paid.key, &request()).unwrap(), paid);
}

#[test]
fn an_old_tariff_is_accepted_for_five_minutes() {
    let world = World::new();
    let mut parts = directory_parts();
    let old = parts.tariffs[0].valid();
    let until = T0.after(60);
    let prices = parts.tariffs[0].prices().to_vec();
    parts.tariffs = vec![
        Tariff::new(Window { until, ..old }, prices.clone()).unwrap(),
        Tariff::new(Window { from: until, ..old }, prices).unwrap(),
    ];
    (parts.serial, parts.published) = (2, T0);
    let directory = Directory::new(parts).unwrap();
    let signed = SignedDirectory::sign(&directory, &world.root).unwrap();
    let gateway = world.gateway.adopt(directory, T0).unwrap();
    let mut wallet = world.funded(1);
    wallet.adopt(&signed).unwrap();
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let late = gateway.open(&paid.opening, &request(), until.after(300)).unwrap_err();
    assert!(matches!(late, AdmitError::UnknownTariff));
    assert!(matches!(gateway.open(&paid.opening, &request(), until.after(299)), Ok(Opened::Admitted(_))));
}

#[test]
fn changing_any_byte_of_a_spend_gets_it_refused() {
    let world = World::new();
    let paid = pay(&mut world.funded(1), LANE0, 10, T0);
    // All of the head and of the session signature; of the proof every 97th byte (the whole of it is the circuit's test).
    let head = Spend::LENGTH - halometer::circuits::proof::Proof::LENGTH;
    let places = (0..head).chain((head..Spend::LENGTH).step_by(97)).chain(Spend::LENGTH..Opening::LENGTH);
    for place in places {
        let mut opening = paid.opening.clone();
        opening[place] ^= 1 << (place % 8);
        problem(&world, &opening, T0);
    }
    assert!(matches!(world.open(&paid, T0), Ok(Opened::Admitted(_))));
}

#[test]
fn other_lengths_are_malformed() {
    let world = World::new();
    let paid = pay(&mut world.funded(1), LANE0, 10, T0);
    let mut longer = paid.opening.clone();
    longer.push(0);
    let shorter = &paid.opening[..Opening::LENGTH - 1];
    for bytes in [&[], shorter, &longer, &vec![0; Opening::LENGTH], &vec![0xff; Opening::LENGTH]] {
        assert_eq!(problem(&world, bytes, T0), Problem::Malformed);
    }
}

#[test]
fn a_note_signed_by_another_key_is_refused() {
    // A forger signs notes with another key, and has all the rest right.
    let world = World::new();
    let mut keys = halometer::issuer::EpochKeys::new();
    let forged = SigningKey::generate(&mut rng(99));
    let forged_key = forged.public_key();
    keys.insert(EPOCH[0], forged);
    let mut parts = directory_parts();
    parts.epochs = vec![Epoch { key: forged_key, ..parts.epochs[0] }];
    parts.root = RootSigningKey::from_bytes(&[66; 32]).public_key();
    let directory = Directory::new(parts).unwrap();
    let forger = World::under(directory, RootSigningKey::from_bytes(&[66; 32]), keys);
    let mut wallet = forger.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    assert!(matches!(forger.open(&paid, T0), Ok(Opened::Admitted(_))), "good in the forger's own world");
    // In the real one the context is another, so that not even the session signature holds.
    assert_eq!(problem(&world, &paid.opening, T0), Problem::SessionSignatureInvalid);
}

#[test]
fn spends_under_a_tagged_epoch_key_hold_nowhere_else() {
    // The same root key signs another entry for epoch 1: key tagging by the issuer itself.
    let world = World::new();
    let mut tagged = directory_parts();
    tagged.epochs[0].spend.until = tagged.epochs[0].spend.until.before(1);
    let tagged = World::under(Directory::new(tagged).unwrap(), root_key(), epoch_keys());
    let mut victim = tagged.funded(1);
    let paid = pay(&mut victim, LANE0, 10, T0);
    assert_eq!(problem(&world, &paid.opening, T0), Problem::SessionSignatureInvalid);
    // The victim meets the other directory at another gateway, and refuses it.
    assert!(matches!(
        victim.adopt(world.issuer.signed_directory()),
        Err(halometer::wallet::OpenError::Directory(DirectoryError::Contradiction))
    ));
}

#[test]
fn a_spent_set_that_fails_admits_nothing() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    // No partition was created: its data may be lost.
    let empty = Arc::new(MemorySpentSet::new());
    let gateway = gateway(GATEWAY, OWNER, empty.clone(), world.gateway.directory().clone());
    let error = gateway.open(&paid.opening, &request(), T0).unwrap_err();
    assert_eq!((error.problem(), error.fault()), (Problem::StoreUnavailable, Fault::Operator));
    assert!(empty.totals(EPOCH[0]).is_err(), "the gateway has made no partition by itself");
    // A partition that closes while a proof is verified takes it no more.
    empty.create(EPOCH[0]).unwrap();
    empty.close(EPOCH[0]).unwrap();
    assert_eq!(gateway.open(&paid.opening, &request(), T0).unwrap_err().problem(), Problem::UnknownEpoch);
    empty.retire(EPOCH[0]).unwrap();
    assert_eq!(gateway.open(&paid.opening, &request(), T0).unwrap_err().problem(), Problem::UnknownEpoch);
}

#[test]
fn a_proof_of_a_window_that_is_over_is_not_sent() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let old = ready(&wallet, LANE0, 10, T0);
    let late = T0.after(HOUR + Grid::GRACE);
    assert!(matches!(wallet.authorise(old, &request(), late), Err(AuthoriseError::Stale)));
    // It was not sent, so that the note is free for another.
    assert!(wallet.plan(LANE0, &GATEWAY, micro(20), late).is_ok());
}

#[test]
fn a_lease_that_a_session_may_outlast_makes_no_gateway() {
    let world = World::new();
    let made = |lease_seconds| {
        let parts = halometer::gateway::GatewayParts::new(
            GATEWAY,
            world.gateway.directory().clone(),
            world.set.clone(),
            OWNER,
            lease_seconds,
        );
        halometer::gateway::Gateway::new(parts, T0)
    };
    // A session has 600 seconds, and the clocks of two processes may be 60 apart.
    for short in [0, 600, 660] {
        assert_eq!(made(short).unwrap_err(), GatewayError::ShortLease { lease: short, session: 600 });
    }
    assert!(made(661).is_ok());
}

#[test]
fn proofs_that_do_not_hold_use_up_no_admissions() {
    let world = World::new();
    let limited = world.limited(Quotas { admissions: Rate { per_minute: 1, burst: 1 }, ..Quotas::default() });
    let [mut first, mut second] = [world.funded(1), world.funded(2)];
    let [paid, other] = [pay(&mut first, LANE0, 10, T0), pay(&mut second, LANE0, 10, T0)];
    for _ in 0..3 {
        let mut bad = paid.opening.clone();
        bad[Spend::LENGTH - 1] ^= 1;
        assert_eq!(limited.open(&bad, &request(), T0).unwrap_err().problem(), Problem::ProofInvalid);
    }
    // Each sender by itself: what one uses up is no other's.
    let from = |n: u8| request().sent_by(Sender::of_address([192, 0, 2, n].into()));
    assert!(matches!(limited.open(&paid.opening, &from(1), T0), Ok(Opened::Admitted(_))));
    assert_eq!(limited.open(&other.opening, &from(1), T0).unwrap_err().problem(), Problem::Busy);
    assert!(matches!(limited.open(&other.opening, &from(2), T0), Ok(Opened::Admitted(_))));
}

#[test]
fn nothing_is_admitted_while_nothing_issues() {
    let world = World::new();
    let mut wallet = world.funded(1);
    // Both epochs can be spent in, and by a clock that was set no epoch issues.
    let mut parts = directory_parts();
    parts.serial += 1;
    parts.epochs.truncate(1);
    let gateway = {
        let gateway = halometer::gateway::GatewayParts::new(
            GATEWAY,
            Directory::new(parts.clone()).unwrap(),
            world.set.clone(),
            OWNER,
            LEASE,
        );
        halometer::gateway::Gateway::new(gateway, T0).unwrap()
    };
    let late = parts.epochs[0].issue.until;
    assert!(parts.epochs[0].spend.contains(late));
    let [paid, other] = [LANE0, LANE1].map(|lane| pay(&mut wallet, lane, 10, late));
    let refused = gateway.open(&paid.opening, &request(), late).unwrap_err();
    assert!(matches!(refused, AdmitError::NothingIssues), "{refused}");
    assert_eq!(refused.problem(), Problem::StoreUnavailable);
    let cancel = wallet.cancel(&other.key, &errand()).unwrap();
    assert!(matches!(gateway.cancel(&cancel, &errand(), late), Err(AdmitError::NothingIssues)));
    assert_eq!(world.records(), (0, 0));
}

#[test]
fn each_clock_that_is_wrong_has_words_of_its_own() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let step = u64::from(directory_parts().grid.step());
    let ahead = world.open(&paid, T0.before(step)).unwrap_err();
    assert!(matches!(ahead, AdmitError::Early { .. }), "{ahead}");
    assert!(ahead.to_string().contains("caller's clock is ahead"), "{ahead}");
    let behind = world.open(&paid, T0.after(3 * step)).unwrap_err();
    assert!(behind.to_string().contains("caller's clock is behind"), "{behind}");
    assert_eq!((ahead.problem(), behind.problem()), (Problem::Expired, Problem::Expired));
    assert!(world.open(&paid, T0).is_ok());
}
