//! Which process opens what, operators' work, and operations that fail.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn two_have_a_store_open() {
    let place = tempfile::tempdir().unwrap();
    let store = created(place.path(), &options());
    assert!(matches!(DurableStore::open(place.path(), &options()), Err(OpenError::Locked(_))));
    assert!(matches!(DurableStore::create(place.path(), GATEWAY, &options()), Err(OpenError::Exists(_))));
    insert(&store, 1);
    let clone = store.clone();
    drop(store);
    assert!(matches!(DurableStore::open(place.path(), &options()), Err(OpenError::Locked(_))));
    drop(clone);
    assert!(find(&DurableStore::open(place.path(), &options()).unwrap(), 1).unwrap().is_some());
}

#[test]
fn a_store_is_made_where_one_is_and_opened_where_none_is() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    assert!(matches!(DurableStore::open(&path, &options()), Err(OpenError::Missing(_))));
    assert!(!path.exists(), "opening made something");
    drop(created(&path, &options()));
    assert!(matches!(DurableStore::create(&path, GATEWAY, &options()), Err(OpenError::Exists(_))));
    assert!(matches!(DurableStore::open_backup(&path, &options()), Err(OpenError::Format(_))));
    // A new store under the mark of another.
    let elsewhere = StoreOptions { mark: Some(path.join("mark")), ..options() };
    assert!(matches!(DurableStore::create(place.path().join("other"), GATEWAY, &elsewhere), Err(OpenError::Exists(_))));
    assert_eq!(DurableStore::open(&path, &options()).unwrap().gateway(), GATEWAY);
}

#[test]
fn a_backup_is_served_from() {
    let place = tempfile::tempdir().unwrap();
    let (path, backup) = (place.path().join("store"), place.path().join("backup"));
    let store = created(&path, &options());
    insert(&store, 1);
    store.backup(&backup).unwrap();
    assert!(matches!(store.backup(&backup), Err(BackupError::Exists)));
    insert(&store, 2);
    assert!(matches!(DurableStore::open(&backup, &options()), Err(OpenError::Backup)));
    let backup = DurableStore::open_backup(&backup, &options()).unwrap();
    assert_sound(&backup);
    assert_eq!(find(&backup, 1).unwrap(), Some(record(EPOCH[0], 1)));
    let set = backup.spent_set();
    // The note that was spent since is not spent again, and nothing else changes.
    assert!(set.insert(record(EPOCH[0], 2), T0).is_err());
    assert!(set.settle(&key(EPOCH[0], 1), OWNER, T0, &settlement(1, 1)).is_err());
    assert!(set.meter(&key(EPOCH[0], 1), OWNER, Credits::from_micro(1), T0).is_err());
    assert!(set.insert_pair(pair(5, 6), T0).is_err());
    assert!(set.create(EpochNumber::new(9)).is_err() && set.close(EPOCH[0]).is_err() && set.retire(EPOCH[0]).is_err());
    assert!(set.erase_evidence(EPOCH[0], T0.after(99)).is_err());
    let lease = Lease { owner: OWNER, until: T0.after(99) };
    assert!(set.take_over(&key(EPOCH[0], 1), lease, T0).is_err());
    assert!(
        PaymentBook::record(&backup.payment_book(), PaymentId::from_bytes([1; 32]), Credits::from_micro(1)).is_err()
    );
    assert_eq!(set.totals(EPOCH[0]).unwrap().open, 1);
}

#[test]
fn a_backup_is_of_several_instants_when_others_write() {
    let place = tempfile::tempdir().unwrap();
    // A bucket for every record, to be erased in no time.
    let options = StoreOptions { bucket_seconds: 1, ..options() };
    let store = created(&place.path().join("store"), &options);
    let (done, written) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let set = store.spent_set();
            for n in 0.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let now = T0.after(n / 8);
                set.insert(record(EPOCH[0], n), now).unwrap();
                set.settle(&key(EPOCH[0], n), OWNER, now, &settlement(n, n % 11)).unwrap();
                set.insert_pair(pair(1_000_000 + 2 * n, 1_000_001 + 2 * n), now).unwrap();
                if n % 16 == 15 {
                    set.erase_evidence(EPOCH[0], now.before(1)).unwrap();
                }
                written.store(n, Ordering::SeqCst);
            }
        });
        for n in 0..4 {
            while written.load(Ordering::SeqCst) < n * 20 {
                std::thread::yield_now();
            }
            let path = place.path().join(format!("backup-{n}"));
            store.backup(&path).unwrap();
            let backup = DurableStore::open_backup(&path, &options).unwrap();
            assert_sound(&backup);
            let [giving, taking] = EPOCH.map(|epoch| backup.spent_set().totals(epoch).unwrap());
            assert_eq!(giving.moved_out, taking.moved_in, "half a transfer");
            assert!(giving.settled > 0 || n == 0);
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_sound(&store);
}

/// Readers look at tables one after the other, while one thread changes them.
#[test]
fn a_reader_sees_a_record_before_its_evidence_or_its_bucket() {
    let place = tempfile::tempdir().unwrap();
    let store = created(place.path(), &StoreOptions { bucket_seconds: 1, ..options() });
    let inserted = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut at = 0;
                    while at < 60 {
                        let there = at < inserted.load(Ordering::SeqCst);
                        match find(&store, at).unwrap() {
                            // The commit that was just made, and again what is settled.
                            Some(record) => {
                                assert!(record.evidence.is_some(), "{at}");
                                at += 1;
                            }
                            None => assert!(!there, "{at}"),
                        }
                    }
                })
            })
            .collect();
        for n in 0..60 {
            store.spent_set().insert(record(EPOCH[0], n), T0.after(n)).unwrap();
            inserted.store(n + 1, Ordering::SeqCst);
        }
    });
    assert_eq!(store.stats().unwrap().partitions[0].buckets, 60);
    drop(store);
    assert_sound(&DurableStore::open(place.path(), &options()).unwrap());
}

#[test]
fn stats_and_compaction_and_retirement_leave_what_is_gone_on_disk() {
    let place = tempfile::tempdir().unwrap();
    let store = created(place.path(), &options());
    for n in 0..60 {
        insert(&store, n);
        settle(&store, n, 4);
        for _ in 0..4 {
            // Written again and again.
            store.spent_set().insert(record(EPOCH[1], n), T0).unwrap();
            let lease = Lease { owner: OWNER, until: T0.after(n) };
            store.spent_set().take_over(&key(EPOCH[1], n), lease, T0).unwrap();
        }
    }
    store.compact().unwrap();
    let stats = store.stats().unwrap();
    assert_eq!(stats.partitions.len(), 2);
    let first = stats.partitions[0];
    assert_eq!((first.epoch, first.phase, first.buckets, first.erased), (EPOCH[0], PartitionPhase::Open, 1, 0));
    assert_eq!((first.totals.settled, first.totals.cost), (60, 360));
    assert!(first.record_bytes > 60 * 100 && first.evidence_bytes > 60 * 4_000, "{first:?}");
    assert!(first.record_bytes < 60 * 400, "{first:?}");
    let names = store.0.engine.table_names();
    assert!(names.contains(&"spends-1".to_owned()) && names.contains(&"evidence-1-1".to_owned()));

    store.spent_set().erase_evidence(EPOCH[0], T0.after(1)).unwrap();
    let stats = store.stats().unwrap();
    assert_eq!(
        (stats.partitions[0].buckets, stats.partitions[0].erased, stats.partitions[0].evidence_bytes),
        (0, 60, 0)
    );
    // With records that are open: what is left of them is in nobody's way.
    for epoch in EPOCH {
        store.spent_set().close(epoch).unwrap();
        store.spent_set().retire(epoch).unwrap();
    }
    assert_eq!(store.0.engine.table_names().len(), 5, "{:?}", store.0.engine.table_names());
    assert_eq!(store.stats().unwrap().partitions[1].totals.open, 60);
    drop(store);
    let store = DurableStore::open(place.path(), &options()).unwrap();
    assert!(matches!(find(&store, 1), Err(StoreError::PartitionRetired(_))));
    assert_eq!(store.check().unwrap(), CheckReport::default());
    // Two are the engine's own, the other five are every store's.
    assert_eq!(std::fs::read_dir(place.path().join("db/keyspaces")).unwrap().count(), 7);
}

/// A crash after the tombstone, before the keys are forgotten and the tables dropped.
#[test]
fn a_half_done_retirement_keeps_the_store_from_opening() {
    let place = tempfile::tempdir().unwrap();
    let (path, crashed) = (place.path().join("store"), place.path().join("crashed"));
    let store = created(&path, &options());
    insert(&store, 1);
    store.spent_set().close(EPOCH[0]).unwrap();
    copy(&path, &crashed);
    // The commit is all there is of it.
    let tombstone = |transaction: &mut Transaction<'_>| {
        transaction.retire(EPOCH[0])?;
        transaction.dropped.clear();
        transaction.forgotten.clear();
        Ok(())
    };
    store.transact(tombstone).unwrap();
    drop(store);
    for (path, retired) in [(path, true), (crashed, false)] {
        let store = DurableStore::open(&path, &options()).unwrap();
        assert_eq!(matches!(find(&store, 1), Err(StoreError::PartitionRetired(_))), retired);
        assert_eq!(store.0.engine.table_names().contains(&"evidence-1-1".to_owned()), !retired);
        let keys = evidence_keys::EvidenceKeys::open(path.join("evidence.keys")).unwrap();
        assert_eq!(keys.buckets().count(), usize::from(!retired));
    }
}

#[test]
fn buckets_without_number_are_mixed_up() {
    let place = tempfile::tempdir().unwrap();
    let options = StoreOptions { bucket_seconds: 1, ..options() };
    let mut store = created(place.path(), &options);
    for round in 0..3_u64 {
        for n in 0..10 {
            let n = round * 10 + n;
            let now = T0.after(n);
            store.spent_set().insert(record(EPOCH[0], n), now).unwrap();
            if n % 2 == 0 {
                store.spent_set().settle(&key(EPOCH[0], n), OWNER, now, &settlement(n, 1)).unwrap();
            }
        }
        // Those that are settled, of which each has its own bucket.
        store.spent_set().erase_evidence(EPOCH[0], T0.after(100)).unwrap();
        drop(store);
        store = DurableStore::open(place.path(), &options).unwrap();
        assert_sound(&store);
        for n in 0..round * 10 + 10 {
            assert_eq!(find(&store, n).unwrap().unwrap().evidence.is_some(), n % 2 == 1, "{n}");
        }
    }
}

#[test]
fn an_operation_that_panics_leaves_a_store_that_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let store = created(place.path(), &options());
    insert(&store, 1);
    let set = store.spent_set();
    let half = record(EPOCH[0], 2);
    std::thread::scope(|scope| {
        let panics = scope.spawn(|| {
            store.transact(move |transaction| -> Result<(), StoreError> {
                transaction.put_new(&half, None, T0)?;
                panic!("in an operation, as this test has it")
            })
        });
        assert!(matches!(panics.join().unwrap(), Err(StoreError::Failed(_))));
    });
    assert!(matches!(find(&store, 1), Err(StoreError::Failed(_))), "it is served");
    assert!(matches!(set.insert(record(EPOCH[0], 3), T0), Err(StoreError::Failed(_))));
    assert!(
        set.partitions().is_err() && set.totals(EPOCH[0]).is_err() && store.backup(&place.path().join("b")).is_err()
    );
    drop((store, set));
    let store = DurableStore::open(place.path(), &options()).unwrap();
    assert!(find(&store, 1).unwrap().is_some() && find(&store, 2).unwrap().is_none());
    assert_sound(&store);
}

/// Its second half finds no room for its bucket.
#[test]
fn a_pair_that_fails_half_way_is_committed_by_half() {
    let place = tempfile::tempdir().unwrap();
    let store = created(place.path(), &options());
    insert(&store, 1);
    // Nothing can be put beside the keys, so that no bucket is begun any more.
    let keys = place.path().join("evidence.keys");
    std::fs::rename(&keys, place.path().join("aside")).unwrap();
    std::fs::create_dir_all(keys.join("in the way")).unwrap();
    assert!(store.spent_set().insert_pair(pair(5, 6), T0).is_err());
    assert!(find(&store, 1).is_err(), "it is served");
    drop(store);
    std::fs::remove_dir_all(&keys).unwrap();
    std::fs::rename(place.path().join("aside"), &keys).unwrap();
    let store = DurableStore::open(place.path(), &options()).unwrap();
    for half in pair(5, 6) {
        assert_eq!(store.spent_set().find(half.key.epoch, &half.key.nullifier).unwrap(), None);
    }
    assert_sound(&store);
    assert_eq!(store.spent_set().insert_pair(pair(5, 6), T0).unwrap(), PairInsertion::Fresh);
}
