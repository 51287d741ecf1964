//! The life of a partition, and races for a nullifier (protocol, section 5, "Retirement" and "One gateway id is one
//! linearizable set").

use halometer::circuits::note::{ContextHash, Nullifier, ValueCommitment};
use halometer::protocol::*;
use halometer::store::*;

use crate::world::*;

fn key(nullifier: u8, context: u8) -> SpendKey {
    SpendKey {
        epoch: EPOCH[0],
        nullifier: Nullifier::from_bytes(&[nullifier; 32]).unwrap(),
        context: ContextHash::from_bytes(&[context; 32]).unwrap(),
    }
}

fn record(key: SpendKey, owner: OwnerId) -> Record {
    let change = ValueCommitment::from_bytes(&[1; 32]).unwrap();
    Record {
        key,
        session: SessionKey::from_bytes(&[7; 32]).public_key(),
        memo: Memo::from_bytes([0; 64]),
        evidence: Some(RecordEvidence { charge: micro(10), change, spend: vec![1; 10] }),
        state: RecordState::Open(Lease { owner, until: T0.after(60) }),
    }
}

fn settlement(refund: u64) -> Settlement {
    let key = halometer::circuits::schnorr::SigningKey::generate(&mut rng(refund));
    let leaf = ValueCommitment::from_bytes(&[1; 32]).unwrap().leaf(refund);
    Settlement { epoch: EPOCH[0], refund: micro(refund), signature: key.sign(&leaf) }
}

fn set() -> MemorySpentSet {
    let set = MemorySpentSet::new();
    set.create(EPOCH[0]).unwrap();
    set
}

#[test]
fn a_partition_that_was_never_created_takes_nothing() {
    let set = MemorySpentSet::new();
    let nullifier = key(1, 1).nullifier;
    assert!(matches!(set.insert(record(key(1, 1), OWNER)), Err(StoreError::PartitionMissing(_))));
    assert!(matches!(set.find(EPOCH[0], &nullifier), Err(StoreError::PartitionMissing(_))));
    assert!(matches!(set.settle(&key(1, 1), OWNER, T0, &settlement(1)), Err(StoreError::PartitionMissing(_))));
    assert!(matches!(set.close(EPOCH[0]), Err(StoreError::PartitionMissing(_))));
    assert!(matches!(set.retire(EPOCH[0]), Err(StoreError::PartitionMissing(_))));
}

#[test]
fn a_closing_partition_settles_what_is_open_and_takes_no_more() {
    let set = set();
    set.insert(record(key(1, 1), OWNER)).unwrap();
    assert!(matches!(set.retire(EPOCH[0]), Err(StoreError::PartitionOpen(_))));
    set.close(EPOCH[0]).unwrap();
    set.close(EPOCH[0]).unwrap();
    assert!(matches!(set.insert(record(key(2, 1), OWNER)), Err(StoreError::PartitionClosed(_))));
    assert!(matches!(set.insert(record(key(1, 1), OWNER)), Ok(Insertion::Same(_))));
    assert!(matches!(set.insert(record(key(1, 2), OWNER)), Ok(Insertion::Conflict(_))));
    set.settle(&key(1, 1), OWNER, T0, &settlement(4)).unwrap();
}

#[test]
fn a_retired_partition_does_not_rise_again() {
    let set = set();
    set.insert(record(key(1, 1), OWNER)).unwrap();
    set.settle(&key(1, 1), OWNER, T0, &settlement(4)).unwrap();
    set.close(EPOCH[0]).unwrap();
    set.retire(EPOCH[0]).unwrap();
    set.retire(EPOCH[0]).unwrap();
    assert!(matches!(set.create(EPOCH[0]), Err(StoreError::PartitionExists(_))));
    assert!(matches!(set.close(EPOCH[0]), Err(StoreError::PartitionRetired(_))));
    // The note that was spent in it cannot be spent again, and no settlement of it is signed.
    assert!(matches!(set.insert(record(key(1, 2), OWNER)), Err(StoreError::PartitionRetired(_))));
    assert!(matches!(set.insert(record(key(9, 9), OWNER)), Err(StoreError::PartitionRetired(_))));
    assert!(matches!(set.settle(&key(1, 1), OWNER, T0, &settlement(4)), Err(StoreError::PartitionRetired(_))));
    assert!(matches!(set.find(EPOCH[0], &key(1, 1).nullifier), Err(StoreError::PartitionRetired(_))));
    // The books need its sums.
    assert_eq!(set.totals(EPOCH[0]).unwrap().cost, 6);
}

#[test]
fn racing_for_one_nullifier_has_one_winner_every_time() {
    for round in 0..50 {
        let set = set();
        let outcomes: Vec<Insertion> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=8)
                .map(|x| {
                    let set = &set;
                    scope.spawn(move || set.insert(record(key(round, x), OWNER)).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Insertion::Fresh).count(), 1);
        let found = set.find(EPOCH[0], &key(round, 1).nullifier).unwrap().unwrap();
        for outcome in outcomes {
            match outcome {
                Insertion::Fresh => {}
                Insertion::Conflict(record) => assert_eq!(*record, found),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_refund_above_the_charge_is_not_stored() {
    let set = set();
    set.insert(record(key(1, 1), OWNER)).unwrap();
    assert!(matches!(set.settle(&key(1, 1), OWNER, T0, &settlement(11)), Err(StoreError::BadRecord(_))));
    let totals = set.totals(EPOCH[0]).unwrap();
    assert_eq!((totals.open, totals.held, totals.settled), (1, 10, 0));
}

#[test]
fn only_the_owner_settles_before_the_lease_is_over() {
    let set = set();
    let thief = OwnerId::from_bytes([9; 16]);
    set.insert(record(key(1, 1), OWNER)).unwrap();
    let lease = Lease { owner: thief, until: T0.after(120) };
    assert!(matches!(set.settle(&key(1, 1), thief, T0.after(59), &settlement(4)), Err(StoreError::NotOwner)));
    assert!(matches!(set.take_over(&key(1, 1), lease, T0.after(59)), Err(StoreError::NotOwner)));
    // The owner may renew.
    set.take_over(&key(1, 1), Lease { owner: OWNER, until: T0.after(90) }, T0.after(59)).unwrap();
    assert!(matches!(set.take_over(&key(1, 1), lease, T0.after(89)), Err(StoreError::NotOwner)));
    set.take_over(&key(1, 1), lease, T0.after(90)).unwrap();
    assert!(matches!(set.settle(&key(1, 1), OWNER, T0.after(100), &settlement(4)), Err(StoreError::NotOwner)));
    set.settle(&key(1, 1), thief, T0.after(100), &settlement(4)).unwrap();
    // What is settled is told to all and taken by none.
    assert_eq!(set.settle(&key(1, 1), OWNER, T0, &settlement(9)).unwrap(), settlement(4));
    let record = set.take_over(&key(1, 1), lease, T0).unwrap();
    assert!(matches!(record.state, RecordState::Settled { .. }));
}

#[test]
fn settling_under_another_context_finds_nothing() {
    let set = set();
    set.insert(record(key(1, 1), OWNER)).unwrap();
    for other in [key(1, 2), key(2, 1)] {
        assert!(matches!(set.settle(&other, OWNER, T0, &settlement(4)), Err(StoreError::NoRecord)));
        let lease = Lease { owner: OWNER, until: T0 };
        assert!(matches!(set.take_over(&other, lease, T0), Err(StoreError::NoRecord)));
    }
}

#[test]
fn a_bucket_names_more_than_one() {
    let set = set();
    for nullifier in [1, 2, 3] {
        set.insert(record(key(nullifier, 1), OWNER)).unwrap();
    }
    let mut near = key(2, 1);
    let mut bytes = [2; 32];
    bytes[2] = 0;
    near.nullifier = Nullifier::from_bytes(&bytes).unwrap();
    set.insert(record(near, OWNER)).unwrap();
    let bucket = set.bucket(EPOCH[0], [2, 2]).unwrap();
    assert_eq!(bucket, [near.nullifier, key(2, 1).nullifier]);
    assert!(set.bucket(EPOCH[0], [2, 3]).unwrap().is_empty());
    assert!(set.bucket(EPOCH[0], [0xff, 0xff]).unwrap().is_empty());
}

#[test]
fn a_record_that_is_not_new_is_not_inserted() {
    let set = set();
    let mut settled = record(key(1, 1), OWNER);
    settled.state = RecordState::Settled { settlement: settlement(4), at: T0 };
    assert!(matches!(set.insert(settled), Err(StoreError::BadRecord(_))));
    let mut erased = record(key(1, 1), OWNER);
    erased.evidence = None;
    assert!(matches!(set.insert(erased), Err(StoreError::BadRecord(_))));
}
