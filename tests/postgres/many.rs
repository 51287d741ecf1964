//! Many gateways over one set.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use halometer::store::postgres::{Isolation, PostgresStore};
use halometer::store::*;

use crate::server::{GATEWAY, Server, or_skip, shared};
use crate::spends::{EPOCH, OWNER, T0, key, pair, record, settlement};

#[test]
fn of_many_gateways_one_admits_a_nullifier_every_time() {
    let server = or_skip!(shared());
    for isolation in [Isolation::ReadCommitted, Isolation::Serializable] {
        let options = server.place().0.with_isolation(isolation);
        let stores: Vec<_> = (0..3).map(|_| PostgresStore::open(&options, GATEWAY).unwrap()).collect();
        stores[0].spent_set().create(EPOCH).unwrap();
        for round in 0..15 {
            // Batches with the same nullifiers, in other orders.
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let race = |tag: u8| {
                    let set = stores[usize::from(tag) % 3].spent_set();
                    scope.spawn(move || {
                        let mut numbers: Vec<u32> = (0..5).map(|n| round * 5 + n).collect();
                        if tag.is_multiple_of(2) {
                            numbers.reverse();
                        }
                        let records = numbers.iter().map(|number| record(key(*number, tag))).collect();
                        numbers.into_iter().zip(set.insert_all(records, T0)).collect::<Vec<_>>()
                    })
                };
                let threads: Vec<_> = (1..=6).map(race).collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            for number in round * 5..round * 5 + 5 {
                let of: Vec<_> = outcomes.iter().filter(|(n, _)| *n == number).map(|(_, outcome)| outcome).collect();
                let fresh = of.iter().filter(|outcome| matches!(outcome, Ok(Insertion::Fresh))).count();
                assert_eq!(fresh, 1, "{isolation:?}: {of:?}");
                let stored = stores[0].spent_set().find(EPOCH, &key(number, 1).nullifier).unwrap().unwrap();
                let told =
                    of.iter().filter(|outcome| matches!(outcome, Ok(Insertion::Conflict(found)) if **found == stored));
                assert_eq!(told.count(), 5, "{isolation:?}: {of:?}");
            }
        }
        assert_eq!(stores[1].spent_set().totals(EPOCH).unwrap().open, 75);
        assert_eq!(stores[2].check().unwrap().findings, Vec::<String>::new());
    }
}

#[test]
fn two_gateways_settle_what_lapsed_once() {
    let server = or_skip!(shared());
    let options = server.place().0;
    let stores: Vec<_> = (0..2).map(|_| PostgresStore::open(&options, GATEWAY).unwrap()).collect();
    stores[0].spent_set().create(EPOCH).unwrap();
    let records = (0..40).map(|number| record(key(number, 1))).collect();
    assert!(
        stores[0].spent_set().insert_all(records, T0).iter().all(|outcome| matches!(outcome, Ok(Insertion::Fresh)))
    );
    let told: Vec<Vec<_>> = std::thread::scope(|scope| {
        let race = |(i, store): (u8, &PostgresStore)| {
            let set = store.spent_set();
            scope.spawn(move || {
                let owner = halometer::protocol::OwnerId::from_bytes([i; 16]);
                let lapsed = set.lapsed(EPOCH, T0.after(60), 100).unwrap();
                let settle = |key: &RecordKey| {
                    (key.nullifier.to_bytes(), set.settle(key, owner, T0.after(60), &settlement(u64::from(i))).unwrap())
                };
                let mut told: Vec<_> = lapsed.iter().map(settle).collect();
                told.sort_by_key(|(nf, _)| *nf);
                told
            })
        };
        let threads: Vec<_> = (1..).zip(&stores).map(race).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let stored = |nf: &[u8; 32]| {
        let nullifier = halometer_circuits::note::Nullifier::from_bytes(nf).unwrap();
        match stores[0].spent_set().find(EPOCH, &nullifier).unwrap().unwrap().state {
            RecordState::Settled(settlement) => settlement,
            other => panic!("{other:?}"),
        }
    };
    for (nf, settlement) in told.iter().flatten() {
        assert_eq!(*settlement, stored(nf));
    }
    let totals = stores[1].spent_set().totals(EPOCH).unwrap();
    assert_eq!((totals.open, totals.held, totals.settled, totals.cost + totals.refunded), (0, 0, 40, 400));
}

#[test]
fn closing_at_one_gateway_ends_insertion_at_all() {
    let server = or_skip!(shared());
    let options = server.place().0;
    let stores: Vec<_> = (0..3).map(|_| PostgresStore::open(&options, GATEWAY).unwrap()).collect();
    stores[0].spent_set().create(EPOCH).unwrap();
    let (closed, number) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for store in &stores {
            let (closed, number) = (&closed, &number);
            scope.spawn(move || {
                loop {
                    let was_closed = closed.load(Ordering::SeqCst);
                    let number = number.fetch_add(1, Ordering::SeqCst);
                    match store.spent_set().insert(record(key(number, 1)), T0) {
                        Ok(Insertion::Fresh) => assert!(!was_closed, "inserted after it was closed"),
                        Err(StoreError::PartitionClosed(_) | StoreError::PartitionRetired(_)) => break,
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(150));
        stores[0].spent_set().close(EPOCH).unwrap();
        closed.store(true, Ordering::SeqCst);
    });
    assert_eq!(stores[1].check().unwrap().findings, Vec::<String>::new());
    stores[1].spent_set().retire(EPOCH).unwrap();
    assert!(matches!(stores[2].spent_set().find(EPOCH, &key(1, 1).nullifier), Err(StoreError::PartitionRetired(_))));
    assert!(matches!(
        stores[2].spent_set().settle(&key(1, 1), OWNER, T0, &settlement(1)),
        Err(StoreError::PartitionRetired(_))
    ));
}

#[test]
fn a_bucket_that_another_gateway_ended_takes_nothing_more() {
    let server = or_skip!(shared());
    let options = server.place().0;
    let [one, other] = [(); 2].map(|()| PostgresStore::open(&options, GATEWAY).unwrap());
    one.spent_set().create(EPOCH).unwrap();
    for (number, store) in [(1, &one), (2, &other)] {
        assert_eq!(store.spent_set().insert(record(key(number, 1)), T0).unwrap(), Insertion::Fresh);
        store.spent_set().settle(&key(number, 1), OWNER, T0, &settlement(4)).unwrap();
    }
    assert_eq!(one.spent_set().erase_evidence(EPOCH, T0.after(1)).unwrap(), 2);
    // This one still believes in the bucket.
    let found = other.spent_set().find(EPOCH, &key(1, 1).nullifier).unwrap().unwrap();
    assert_eq!(found.evidence, None);
    assert_eq!(other.spent_set().insert(record(key(3, 1)), T0).unwrap(), Insertion::Fresh);
    assert_eq!(other.spent_set().insert_pair(pair(4, 5), T0).unwrap(), PairInsertion::Fresh);
    assert_eq!(one.spent_set().erase_evidence(EPOCH, T0.after(1)).unwrap(), 0);
    assert!(one.spent_set().find(EPOCH, &key(3, 1).nullifier).unwrap().unwrap().evidence.is_some());
    assert_eq!(one.spent_set().erased_totals(EPOCH).unwrap().settled, 2);
    assert_eq!(other.check().unwrap().findings, Vec::<String>::new());
}

#[test]
fn many_that_settle_and_meter_share_round_trips() {
    let server = or_skip!(shared());
    let store = PostgresStore::open(&server.place().0.with_lines(1), GATEWAY).unwrap();
    let set = store.spent_set();
    set.create(EPOCH).unwrap();
    let records = (0..64).map(|number| record(key(number, 1))).collect();
    assert!(set.insert_all(records, T0).iter().all(|outcome| matches!(outcome, Ok(Insertion::Fresh))));
    let before = store.figures();
    std::thread::scope(|scope| {
        for number in 0..64 {
            let set = set.clone();
            scope.spawn(move || {
                set.meter(&key(number, 1), OWNER, halometer::protocol::Credits::from_micro(3), T0).unwrap();
                assert_eq!(set.settle(&key(number, 1), OWNER, T0, &settlement(7)).unwrap(), settlement(7));
            });
        }
    });
    let after = store.figures();
    assert_eq!(after.batched - before.batched, 128);
    assert!(after.batches - before.batches < 128, "{after:?}");
    assert_eq!(set.totals(EPOCH).unwrap().cost, 64 * 3);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let server = or_skip!(Server::start(&[]));
    let options = server.place().0.with_patience(std::time::Duration::from_secs(20));
    let stores: Vec<_> = (0..2).map(|_| PostgresStore::open(&options, GATEWAY).unwrap()).collect();
    stores[0].spent_set().create(EPOCH).unwrap();
    let (done, number) = (AtomicBool::new(false), AtomicU32::new(0));
    let fresh: Vec<BTreeSet<u32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|i: usize| {
                let (set, done, number) = (stores[i % 2].spent_set(), &done, &number);
                scope.spawn(move || {
                    let mut fresh = BTreeSet::new();
                    while !done.load(Ordering::SeqCst) {
                        let number = number.fetch_add(1, Ordering::SeqCst);
                        // An error is no answer: the caller asks again, and it is this very spend.
                        while !done.load(Ordering::SeqCst) {
                            match set.insert(record(key(number, 1)), T0) {
                                Ok(Insertion::Fresh | Insertion::Same(_)) => {
                                    fresh.insert(number);
                                    break;
                                }
                                Ok(other) => panic!("{other:?}"),
                                Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
                            }
                        }
                    }
                    fresh
                })
            })
            .collect();
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(400));
            server.kill();
            server.run();
        }
        std::thread::sleep(std::time::Duration::from_millis(400));
        done.store(true, Ordering::SeqCst);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let set = stores[1].spent_set();
    for number in fresh.iter().flatten() {
        assert!(set.find(EPOCH, &key(*number, 1).nullifier).unwrap().is_some(), "{number}");
    }
    let answered = fresh.iter().map(BTreeSet::len).sum::<usize>() as u64;
    assert!(answered > 20, "{answered}");
    assert!(set.totals(EPOCH).unwrap().open >= answered);
    assert_eq!(stores[0].check().unwrap().findings, Vec::<String>::new());
    assert!(stores.iter().all(|store| !store.is_stopped()));
}

#[test]
fn many_nullifiers_are_looked_up_at_once() {
    let server = or_skip!(shared());
    let store = server.store();
    let set = store.spent_set();
    set.create(EPOCH).unwrap();
    let records = (0..20).map(|number| record(key(number, 1))).collect();
    assert!(set.insert_all(records, T0).iter().all(|outcome| matches!(outcome, Ok(Insertion::Fresh))));
    let missing = halometer::protocol::EpochNumber::new(9);
    let mut keys: Vec<_> = (0..30).rev().map(|number| (EPOCH, key(number, 1).nullifier)).collect();
    keys.extend([keys[29], (missing, key(1, 1).nullifier)]);
    let before = store.figures().round_trips;
    let found = set.find_all(&keys);
    assert!(store.figures().round_trips - before <= 3, "not one by one");
    assert_eq!(found.len(), 32);
    for (i, found) in found.iter().take(30).enumerate() {
        let number = 29 - i as u32;
        assert_eq!(found.as_ref().unwrap().as_ref().map(|found| found.key), (number < 20).then(|| key(number, 1)));
    }
    assert_eq!(found[30].as_ref().unwrap().as_ref().map(|found| found.key), Some(key(0, 1)));
    assert!(matches!(found[31], Err(StoreError::PartitionMissing(_))));
    assert!(set.find_all(&[]).is_empty());
}
