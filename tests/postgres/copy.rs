//! From the store of one machine into a database.

use halometer::protocol::{Credits, PaymentId};
use halometer::store::durable::{DurableStore, OpenError, StoreOptions};
use halometer::store::postgres::{CopyError, PostgresError, PostgresStore};
use halometer::store::*;

use crate::server::{GATEWAY, or_skip, shared};
use crate::spends::{EPOCH, OWNER, T0, key, pair, record, settlement};

#[test]
fn a_copy_has_all_and_takes_the_place_of_the_store() {
    let server = or_skip!(shared());
    let dir = tempfile::tempdir().unwrap();
    let (path, options) = (dir.path().join("store"), StoreOptions::default());
    let store = DurableStore::create(&path, GATEWAY, &options).unwrap();
    let set = store.spent_set();
    let retired = halometer::protocol::EpochNumber::new(0);
    set.create(retired).unwrap();
    set.insert(Record { key: RecordKey { epoch: retired, ..key(1, 1) }, ..record(key(1, 1)) }, T0).unwrap();
    set.close(retired).unwrap();
    set.retire(retired).unwrap();
    set.create(EPOCH).unwrap();
    set.beat(Look::Confirmed(T0)).unwrap();
    set.insert_all((0..30).map(|number| record(key(number, 1))).collect(), T0);
    (0..10).for_each(|number| drop(set.settle(&key(number, 1), OWNER, T0, &settlement(4)).unwrap()));
    (10..30).for_each(|number| drop(set.settle(&key(number, 1), OWNER, T0, &settlement(1)).unwrap()));
    set.erase_evidence(EPOCH, T0.after(1)).unwrap();
    set.insert_all((100..1_300).map(|number| record(key(number, 1))).collect(), T0);
    (100..700).for_each(|number| drop(set.settle(&key(number, 1), OWNER, T0, &settlement(4)).unwrap()));
    set.insert_pair(pair(2_000, 2_001), T0).unwrap();
    for number in 0..5 {
        store.payment_book().record(PaymentId::from_bytes([number; 32]), Credits::from_micro(u64::MAX)).unwrap();
    }
    let totals = set.totals(EPOCH).unwrap();

    let target = server.place().0;
    let report = PostgresStore::copy(&store, &target).unwrap();
    assert_eq!((report.partitions, report.records, report.payments), (2, 1_232, 5));
    assert!(report.compared >= 64);
    drop((set, store));
    let Err(OpenError::Moved(to)) = DurableStore::open(&path, &options) else { panic!("it opens") };
    assert!(to.contains("PostgreSQL at 127.0.0.1"), "{to}");
    let copied = PostgresStore::open(&target, GATEWAY).unwrap();
    let set = copied.spent_set();
    assert_eq!(set.totals(EPOCH).unwrap(), totals);
    assert_eq!(set.erased_totals(EPOCH).unwrap().settled, 30);
    assert!(matches!(set.find(retired, &key(1, 1).nullifier), Err(StoreError::PartitionRetired(_))));
    assert!(matches!(set.insert(record(key(5, 2)), T0), Ok(Insertion::Conflict(found)) if found.evidence.is_none()));
    assert!(matches!(set.insert(record(key(105, 2)), T0), Ok(Insertion::Conflict(found)) if found.evidence.is_some()));
    assert_eq!(set.insert(record(key(5_000, 1)), T0).unwrap(), Insertion::Fresh);
    assert_eq!(set.settle(&key(701, 1), OWNER, T0, &settlement(3)).unwrap(), settlement(3));
    assert_eq!(copied.payment_book().total().unwrap(), 5 * u128::from(u64::MAX));
    assert_eq!(copied.check().unwrap().findings, Vec::<String>::new());
    // What was copied goes when it is due.
    (700..1_300).for_each(|number| drop(set.settle(&key(number, 1), OWNER, T0, &settlement(3)).unwrap()));
    assert_eq!(set.erase_evidence(EPOCH, T0.after(1)).unwrap(), 1_202);
    assert_eq!(copied.check().unwrap().findings, Vec::<String>::new());
}

#[test]
fn nothing_is_copied_into_a_set_that_is_in_use() {
    let server = or_skip!(shared());
    let dir = tempfile::tempdir().unwrap();
    let store = DurableStore::create(dir.path().join("store"), GATEWAY, &StoreOptions::default()).unwrap();
    store.spent_set().create(EPOCH).unwrap();
    let target = server.place().0;
    let used = PostgresStore::open(&target, GATEWAY).unwrap();
    assert!(matches!(PostgresStore::copy(&store, &target), Err(CopyError::NotEmpty)));
    drop(used);
    // A copy that was cut short opens to nobody.
    store.spent_set().insert(record(key(1, 1)), T0).unwrap();
    let (target, schema) = server.place();
    assert!(server.sql(&format!("CREATE TABLE {schema}.halometer_spend_1 (nf text)")));
    assert!(PostgresStore::copy(&store, &target).is_err());
    assert!(matches!(PostgresStore::open(&target, GATEWAY), Err(PostgresError::Stopped(_))));
    assert_eq!(store.spent_set().insert(record(key(2, 1)), T0).unwrap(), Insertion::Fresh, "the old one goes on");
}
