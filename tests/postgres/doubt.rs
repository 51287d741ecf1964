//! Connections that are lost at a commit: what was asked for happens once, and its outcome is told.

use halometer::protocol::Credits;
use halometer::store::postgres::{PostgresOptions, PostgresStore};
use halometer::store::*;

use crate::proxy::{Cut, Proxy};
use crate::server::{GATEWAY, or_skip, shared};
use crate::spends::{EPOCH, OWNER, T0, key, pair, record, settlement};

const CUTS: [Cut; 4] = [Cut::Before, Cut::Half, Cut::In, Cut::After];

/// A store behind a proxy, and the same set without.
fn behind_proxy() -> Option<(PostgresStore, PostgresStore, Proxy)> {
    let server = shared()?;
    let (options, schema) = server.place();
    let proxy = Proxy::start(server.port);
    let through: PostgresOptions = server.options_at(proxy.port, &schema);
    let store = PostgresStore::open(&through, GATEWAY).unwrap();
    store.spent_set().create(EPOCH).unwrap();
    // The statements are prepared by that.
    let set = store.spent_set();
    let first: Vec<_> = (0..16).map(|number| set.insert(record(key(1_000 + number, 1)), T0)).collect();
    assert!(first.iter().all(|outcome| matches!(outcome, Ok(Insertion::Fresh))));
    Some((store, PostgresStore::open(&options, GATEWAY).unwrap(), proxy))
}

#[test]
fn an_admission_cut_anywhere_is_made_once_and_told() {
    let (store, direct, proxy) = or_skip!(behind_proxy());
    let set = store.spent_set();
    for (number, cut) in (1..).zip(CUTS) {
        proxy.arm(cut, &key(number, 1).nullifier.to_bytes());
        assert_eq!(set.insert(record(key(number, 1)), T0).unwrap(), Insertion::Fresh, "{cut:?}");
        assert!(proxy.has_cut(), "{cut:?}");
        assert_eq!(store.figures().doubts_resolved, u64::from(number), "{cut:?}");
        assert_eq!(direct.spent_set().totals(EPOCH).unwrap().open, 16 + u64::from(number), "{cut:?}");
        assert!(matches!(set.insert(record(key(number, 1)), T0), Ok(Insertion::Same(_))));
    }
    assert_eq!(store.figures().doubts_unresolved, 0);
    assert_eq!(direct.check().unwrap().findings, Vec::<String>::new());
}

#[test]
fn an_admission_cut_in_a_race_is_another_ones_or_its_own() {
    let (store, direct, proxy) = or_skip!(behind_proxy());
    for (number, cut) in (1..).zip(CUTS) {
        assert_eq!(direct.spent_set().insert(record(key(number, 2)), T0).unwrap(), Insertion::Fresh);
        proxy.arm(cut, &key(number, 1).nullifier.to_bytes());
        let mine = store.spent_set().insert(record(key(number, 1)), T0).unwrap();
        assert!(matches!(mine, Insertion::Conflict(found) if found.key == key(number, 2)), "{cut:?}");
    }
}

#[test]
fn a_settlement_cut_anywhere_is_stored_once() {
    let (store, direct, proxy) = or_skip!(behind_proxy());
    let set = store.spent_set();
    for (number, cut) in (0..).zip(CUTS) {
        let key = key(1_000 + number, 1);
        proxy.arm(cut, &key.nullifier.to_bytes());
        assert_eq!(set.settle(&key, OWNER, T0, &settlement(4)).unwrap(), settlement(4), "{cut:?}");
        assert!(proxy.has_cut(), "{cut:?}");
        assert_eq!(set.settle(&key, OWNER, T0, &settlement(9)).unwrap(), settlement(4), "{cut:?}");
    }
    let totals = direct.spent_set().totals(EPOCH).unwrap();
    assert_eq!((totals.open, totals.settled, totals.cost, totals.refunded), (12, 4, 24, 16));
    assert_eq!(direct.check().unwrap().findings, Vec::<String>::new());
}

#[test]
fn metering_and_taking_over_survive_a_cut() {
    let (store, _, proxy) = or_skip!(behind_proxy());
    let set = store.spent_set();
    for (number, cut) in (0..).zip(CUTS) {
        let key = key(1_000 + number, 1);
        proxy.arm(cut, &key.nullifier.to_bytes());
        set.meter(&key, OWNER, Credits::from_micro(7), T0).unwrap();
        assert!(proxy.has_cut(), "{cut:?}");
        let lease = Lease { owner: OWNER, until: T0.after(500) };
        // The first statement with these bytes reads the record; a read is made again.
        proxy.arm(cut, &key.nullifier.to_bytes());
        let found = set.take_over(&key, lease, T0).unwrap();
        assert_eq!(found.state, RecordState::Open { lease, metered: Credits::from_micro(7) }, "{cut:?}");
    }
}

#[test]
fn a_transfer_cut_anywhere_goes_in_whole_and_once() {
    let (store, direct, proxy) = or_skip!(behind_proxy());
    let set = store.spent_set();
    assert_eq!(set.insert_pair(pair(50, 51), T0).unwrap(), PairInsertion::Fresh);
    for (number, cut) in (1..).zip(CUTS) {
        let [give, take] = pair(2 * number, 2 * number + 1);
        proxy.arm(cut, &give.key.nullifier.to_bytes());
        assert_eq!(set.insert_pair([give, take], T0).unwrap(), PairInsertion::Fresh, "{cut:?}");
        assert!(proxy.has_cut(), "{cut:?}");
    }
    let totals = direct.spent_set().totals(EPOCH).unwrap();
    assert_eq!((totals.moved_out, totals.moved_in, totals.settled), (50, 50, 10));
    assert_eq!(direct.check().unwrap().findings, Vec::<String>::new());
}

#[test]
fn a_payment_cut_anywhere_is_booked_once() {
    use halometer::protocol::PaymentId;
    let (store, direct, proxy) = or_skip!(behind_proxy());
    let book = store.payment_book();
    for (number, cut) in (1_u8..).zip(CUTS) {
        let payment = PaymentId::from_bytes([number; 32]);
        proxy.arm(cut, payment.as_bytes());
        let max = Credits::from_micro(u64::MAX);
        assert_eq!(book.record(payment, max).unwrap(), PaymentOutcome::Fresh, "{cut:?}");
        assert_eq!(book.record(payment, Credits::from_micro(1)).unwrap(), PaymentOutcome::Known(max), "{cut:?}");
    }
    assert_eq!(direct.payment_book().total().unwrap(), 4 * u128::from(u64::MAX));
}

#[test]
fn a_database_that_is_gone_is_an_error_and_no_empty_set() {
    let server = or_skip!(crate::server::Server::start(&[]));
    let (options, _) = server.place();
    let store = PostgresStore::open(&options.with_patience(std::time::Duration::from_millis(300)), GATEWAY).unwrap();
    let set = store.spent_set();
    set.create(EPOCH).unwrap();
    assert_eq!(set.insert(record(key(1, 1)), T0).unwrap(), Insertion::Fresh);
    server.kill();
    assert!(matches!(set.insert(record(key(1, 2)), T0), Err(StoreError::Failed(_))));
    assert!(matches!(set.find(EPOCH, &key(1, 1).nullifier), Err(StoreError::Failed(_))));
    server.run();
    assert!(matches!(set.insert(record(key(1, 2)), T0), Ok(Insertion::Conflict(_))));
    assert!(!store.is_stopped());
}
