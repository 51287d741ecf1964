//! A set that went back: a copy that is put back stops its gateways, and says by how much.

use std::time::{Duration, Instant};

use halometer::store::postgres::{PostgresError, PostgresStore};
use halometer::store::*;

use crate::server::{GATEWAY, Server, or_skip};
use crate::spends::{EPOCH, T0, key, record};

fn admit(store: &PostgresStore, number: u32) {
    assert_eq!(store.spent_set().insert(record(key(number, 1)), T0).unwrap(), Insertion::Fresh);
}

/// Opens it as soon as the process before has let its mark go.
fn open(options: &halometer::store::postgres::PostgresOptions) -> Result<PostgresStore, PostgresError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match PostgresStore::open(options, GATEWAY) {
            Err(PostgresError::Taken) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            outcome => return outcome,
        }
    }
}

#[test]
fn a_backup_that_is_put_back_is_not_opened() {
    let server = or_skip!(Server::start(&[]));
    let mark = tempfile::tempdir().unwrap();
    let options = server.place().0.with_mark(mark.path().join("mark")).with_lines(1);
    let store = open(&options).unwrap();
    store.spent_set().create(EPOCH).unwrap();
    admit(&store, 1);
    drop(store);
    server.stop();
    let copy = server.copy();
    server.run();
    let store = open(&options).unwrap();
    (2..5).for_each(|number| admit(&store, number));
    drop(store);
    server.stop();
    server.put_back(&copy);
    server.run();
    let error = open(&options).unwrap_err();
    assert!(matches!(error, PostgresError::SetBack { by: 3, .. }), "{error:?}");
    // Nor by a process that comes without a mark.
    let error = open(&options.clone().with_mark(None)).unwrap_err();
    assert!(matches!(error, PostgresError::Stopped(_)), "{error:?}");
}

#[test]
fn a_backup_put_back_under_running_gateways_stops_all() {
    let server = or_skip!(Server::start(&[]));
    let options = server.place().0.with_lines(1);
    let [busy, idle] = [(); 2].map(|()| open(&options).unwrap());
    busy.spent_set().create(EPOCH).unwrap();
    admit(&busy, 1);
    server.stop();
    let copy = server.copy();
    server.run();
    admit(&busy, 2);
    // The idle one sees how far the other is.
    let deadline = Instant::now() + Duration::from_secs(10);
    while idle.figures().watched == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(1_500));
    // The busy one dies with what only it knows.
    drop(busy);
    server.stop();
    server.put_back(&copy);
    server.run();
    let outcome = idle.spent_set().insert(record(key(2, 2)), T0);
    assert!(matches!(outcome, Err(StoreError::Failed(_))), "{outcome:?}");
    assert!(matches!(idle.trouble(), Some(PostgresError::SetBack { by: 1, .. })), "{:?}", idle.trouble());
    assert!(idle.is_stopped());
    // What comes later finds the note.
    assert!(matches!(open(&options), Err(PostgresError::Stopped(_))));
}

#[test]
fn a_database_made_anew_is_not_the_set_of_before() {
    let server = or_skip!(Server::start(&[]));
    let mark = tempfile::tempdir().unwrap();
    let (options, schema) = server.place();
    let options = options.with_mark(mark.path().join("mark"));
    let store = open(&options).unwrap();
    store.spent_set().create(EPOCH).unwrap();
    admit(&store, 1);
    assert!(server.sql(&format!("DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}")));
    assert!(store.spent_set().insert(record(key(1, 2)), T0).is_err());
    drop(store);
    assert!(matches!(open(&options), Err(PostgresError::NoSchema)));
    PostgresStore::migrate(&options, GATEWAY, false).unwrap();
    assert!(matches!(open(&options), Err(PostgresError::Mark { .. })));
}

#[test]
fn a_mark_that_was_copied_stops_the_first_of_its_users() {
    let server = or_skip!(crate::server::shared());
    let mark = tempfile::tempdir().unwrap();
    let (options, _) = server.place();
    let first = open(&options.clone().with_mark(mark.path().join("mark"))).unwrap();
    first.spent_set().create(EPOCH).unwrap();
    let copied = mark.path().join("copied");
    std::fs::create_dir(&copied).unwrap();
    for file in std::fs::read_dir(mark.path().join("mark")).unwrap().flatten() {
        std::fs::copy(file.path(), copied.join(file.file_name())).unwrap();
    }
    let second = open(&options.with_mark(copied)).unwrap();
    admit(&second, 1);
    assert!(first.spent_set().insert(record(key(1, 2)), T0).is_err());
    assert!(matches!(first.trouble(), Some(PostgresError::Taken)));
}
