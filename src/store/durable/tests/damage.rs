//! Damage to what lies on disk in tables: an error that names the partition, which then serves nothing.

use super::*;

const RECORDS: u64 = 40;

/// A store of two partitions, all of it in tables.
fn compacted(path: &Path) -> Vec<PathBuf> {
    let store = created(path, &options());
    for n in 0..RECORDS {
        for epoch in EPOCH {
            store.spent_set().insert(record(epoch, n), T0).unwrap();
        }
        if n.is_multiple_of(2) {
            settle(&store, n, 3);
        }
    }
    store.compact().unwrap();
    let files_of = |table: &str| {
        let prefix = store.0.engine.table_directory(table);
        files(&prefix)
    };
    let found = [files_of("spends-1"), files_of("evidence-1-1")].concat();
    drop(store);
    found
}

fn expected(n: u64) -> Record {
    let mut record = record(EPOCH[0], n);
    if n.is_multiple_of(2) {
        record.state = RecordState::Settled(settlement(n, 3));
    }
    record
}

/// Reads everything of the damaged partition: all is right up to the first error, which is the partition's, and then nothing.
fn read_all(store: &DurableStore, what: &str) -> bool {
    let set = store.spent_set();
    let mut damaged = false;
    for n in 0..RECORDS {
        match find(store, n) {
            Ok(found) => assert!(!damaged && found == Some(expected(n)), "{what}: record {n}"),
            Err(StoreError::Corrupt { epoch, .. }) => {
                assert_eq!(epoch, EPOCH[0], "{what}");
                damaged = true;
            }
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
    match set.scan(EPOCH[0], None, usize::MAX) {
        Ok(all) => assert!(!damaged && all.len() as u64 == RECORDS, "{what}"),
        Err(StoreError::Corrupt { .. }) => damaged = true,
        Err(other) => panic!("{what}: {other:?}"),
    }
    if damaged {
        let corrupt =
            |outcome: Result<(), StoreError>| assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{what}");
        corrupt(find(store, 1).map(drop));
        corrupt(set.insert(record(EPOCH[0], 500), T0).map(drop));
        corrupt(set.settle(&key(EPOCH[0], 1), OWNER, T0, &settlement(1, 1)).map(drop));
        corrupt(set.insert_pair(pair(501, 502), T0).map(drop));
        corrupt(set.bucket(EPOCH[0], Prefix::WHOLE, None, 9).map(drop));
        corrupt(set.lapsed(EPOCH[0], T0, 1).map(drop));
        corrupt(set.erase_evidence(EPOCH[0], T0.after(99)).map(drop));
        let report = store.check().unwrap();
        assert!(report.damage.iter().any(|(epoch, _)| *epoch == Some(EPOCH[0])), "{what}: {report:?}");
        assert!(report.damage.iter().all(|(epoch, _)| *epoch == Some(EPOCH[0])), "{what}: {report:?}");
    }
    // The other partition goes on.
    for n in 0..RECORDS {
        assert_eq!(set.find(EPOCH[1], &key(EPOCH[1], n).nullifier).unwrap(), Some(record(EPOCH[1], n)), "{what}");
    }
    assert_eq!(set.insert(record(EPOCH[1], 600), T0).unwrap(), Insertion::Fresh, "{what}");
    damaged
}

#[test]
fn damage_to_a_table_is_served_or_stops_the_other_partition() {
    let place = tempfile::tempdir().unwrap();
    let (origin, base, path) = (place.path().join("origin"), place.path().join("base"), place.path().join("store"));
    let tables = compacted(&origin);
    copy(&origin, &base);
    let (mut damaged, mut refused, mut harmless) = (0, 0, 0);
    for table in &tables {
        let name = table.strip_prefix(&origin).unwrap();
        let whole = std::fs::read(table).unwrap();
        let flip = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            bytes
        };
        let step = (whole.len() / 9).max(1);
        let flips = (0..whole.len()).step_by(step).map(|at| (flip(at), format!("{name:?} flipped at {at}")));
        let cut = (whole[..whole.len() / 2].to_vec(), format!("{name:?} cut"));
        let zeros = (vec![0; whole.len()], format!("{name:?} zeroed"));
        for (bytes, what) in flips.chain([cut, zeros]) {
            copy(&base, &path);
            std::fs::write(path.join(name), bytes).unwrap();
            match DurableStore::open(&path, &options()) {
                Ok(store) if read_all(&store, &what) => damaged += 1,
                Ok(_) => harmless += 1,
                Err(OpenError::Damaged { .. }) => refused += 1,
                Err(other) => panic!("{what}: {other:?}"),
            }
        }
    }
    assert!(damaged > 15, "{damaged} damaged, {refused} refused, {harmless} harmless");
}

/// What the sums, the index and the books say must be so.
#[test]
fn a_check_overlooks_what_is_wrong() {
    let place = tempfile::tempdir().unwrap();
    let (origin, path) = (place.path().join("origin"), place.path().join("store"));
    let store = created(&origin, &options());
    (0..4).for_each(|n| insert(&store, n));
    settle(&store, 1, 1);
    let report = store.check().unwrap();
    assert_eq!((report.records, report.evidence, report.mints, report.damage.len()), (4, 4, 0, 0));
    drop(store);
    type Harm = fn(&DurableStore);
    let nf = |n| key(EPOCH[0], n).nullifier.to_bytes().to_vec();
    static NF: std::sync::OnceLock<[Vec<u8>; 3]> = std::sync::OnceLock::new();
    let _ = NF.set([nf(0), nf(1), nf(2)]);
    let nf = || NF.get().unwrap();
    assert_eq!(nf().len(), 3);
    fn table(store: &DurableStore, name: &str) -> Table {
        store.0.engine.table(name, engine::TableKind::Records).unwrap()
    }
    let harms: [(&str, Harm); 6] = [
        ("a settled record is gone", |store| {
            store.0.engine.commit([(table(store, "spends-1"), NF.get().unwrap()[1].clone(), None)]).unwrap();
        }),
        ("a record is of no kind", |store| {
            let row = (table(store, "spends-1"), NF.get().unwrap()[1].clone(), Some(vec![9; 100]));
            store.0.engine.commit([row]).unwrap();
        }),
        ("a nullifier is too short", |store| {
            store.0.engine.commit([(table(store, "spends-1"), vec![9; 31], Some(vec![9; 100]))]).unwrap();
        }),
        ("evidence is gone", |store| {
            store.0.engine.commit([(table(store, "evidence-1-1"), NF.get().unwrap()[2].clone(), None)]).unwrap();
        }),
        ("evidence is another's", |store| {
            let evidence = table(store, "evidence-1-1");
            let other = evidence.read(&NF.get().unwrap()[0]).unwrap();
            store.0.engine.commit([(evidence, NF.get().unwrap()[2].clone(), other)]).unwrap();
        }),
        ("a mint is of no kind", |store| {
            store.0.engine.commit([(store.0.tables.mints.clone(), vec![1; 32], Some(vec![1; 8]))]).unwrap();
        }),
    ];
    for (what, harm) in harms {
        copy(&origin, &path);
        let store = DurableStore::open(&path, &options()).unwrap();
        harm(&store);
        let report = store.check().unwrap();
        assert!(!report.damage.is_empty(), "{what}");
        drop(store);
    }
}
