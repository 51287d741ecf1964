//! What a server must promise, and what it is asked for.

use std::time::{Duration, Instant};

use halometer::protocol::GatewayId;
use halometer::store::postgres::{Durability, PostgresError, PostgresOptions, PostgresStore};
use halometer::store::*;

use crate::server::{GATEWAY, Server, or_skip, shared};
use crate::spends::{EPOCH, T0, key, record};

fn bare(server: &Server, schema: &str) -> PostgresOptions {
    let address = format!("host=127.0.0.1 port={} user=postgres options='-c search_path={schema}'", server.port);
    PostgresOptions::new(&address).unwrap()
}

#[test]
fn a_server_without_fsync_is_refused_unless_accepted() {
    let server = or_skip!(shared());
    let (_, schema) = server.place();
    let error = PostgresStore::open(&bare(&server, &schema), GATEWAY).unwrap_err();
    assert!(matches!(&error, PostgresError::Promise { what, .. } if what == "fsync"), "{error:?}");
    assert!(error.to_string().contains("fsync-off"), "{error}");
}

#[test]
fn a_role_that_commits_asynchronously_commits_durably_here() {
    let server = or_skip!(shared());
    let (options, schema) = server.place();
    assert!(server.sql("CREATE ROLE hasty LOGIN SUPERUSER; ALTER ROLE hasty SET synchronous_commit = off"));
    let address =
        format!("host=127.0.0.1 port={} user=hasty dbname=postgres options='-c search_path={schema}'", server.port);
    let hasty = PostgresOptions::new(&address).unwrap().accepting(options.accept[0]);
    PostgresStore::open(&hasty, GATEWAY).unwrap().spent_set().create(EPOCH).unwrap();
}

#[test]
fn a_schema_comes_by_migration_and_never_by_itself() {
    let server = or_skip!(shared());
    assert!(server.sql("CREATE SCHEMA empty_place"));
    let options = server.options_at(server.port, "empty_place");
    assert!(matches!(PostgresStore::open(&options, GATEWAY), Err(PostgresError::NoSchema)));
    let dry = PostgresStore::migrate(&options, GATEWAY, true).unwrap();
    assert_eq!((dry.from, dry.to), (None, 1));
    assert!(!dry.statements.is_empty());
    assert!(matches!(PostgresStore::open(&options, GATEWAY), Err(PostgresError::NoSchema)));
    PostgresStore::migrate(&options, GATEWAY, false).unwrap();
    let again = PostgresStore::migrate(&options, GATEWAY, false).unwrap();
    assert_eq!((again.from, again.statements.len()), (Some(1), 0));
    let other = GatewayId::from_bytes([9; 16]);
    assert!(matches!(PostgresStore::open(&options, other), Err(PostgresError::OtherGateway { .. })));
    assert!(matches!(PostgresStore::migrate(&options, other, false), Err(PostgresError::OtherGateway { .. })));
    assert!(server.sql("UPDATE empty_place.halometer_meta SET version = 2"));
    assert!(matches!(PostgresStore::open(&options, GATEWAY), Err(PostgresError::Schema { found: 2, needed: 1 })));
    assert!(matches!(PostgresStore::migrate(&options, GATEWAY, false), Err(PostgresError::Schema { .. })));
}

#[test]
fn a_table_that_is_missing_is_not_an_empty_one() {
    let server = or_skip!(shared());
    let (options, schema) = server.place();
    let store = PostgresStore::open(&options, GATEWAY).unwrap();
    store.spent_set().create(EPOCH).unwrap();
    store.spent_set().insert(record(key(1, 1)), T0).unwrap();
    assert!(server.sql(&format!("DROP TABLE {schema}.halometer_spend_1")));
    assert!(store.spent_set().insert(record(key(1, 2)), T0).is_err());
    assert!(store.spent_set().find(EPOCH, &key(1, 1).nullifier).is_err());
    assert!(matches!(PostgresStore::open(&options, GATEWAY), Err(PostgresError::Damaged(_))));
    // Nor is a partition whose row is lost a new one.
    let (options, schema) = server.place();
    let store = PostgresStore::open(&options, GATEWAY).unwrap();
    store.spent_set().create(EPOCH).unwrap();
    store.spent_set().insert(record(key(1, 1)), T0).unwrap();
    assert!(server.sql(&format!("DELETE FROM {schema}.halometer_epoch")));
    assert!(matches!(store.spent_set().create(EPOCH), Err(StoreError::Corrupt { .. })));
}

#[test]
fn sums_that_were_changed_are_found() {
    let server = or_skip!(shared());
    let (options, schema) = server.place();
    let store = PostgresStore::open(&options, GATEWAY).unwrap();
    store.spent_set().create(EPOCH).unwrap();
    store.spent_set().insert(record(key(1, 1)), T0).unwrap();
    assert_eq!(store.check().unwrap().findings, Vec::<String>::new());
    let stats = store.stats().unwrap();
    assert_eq!((stats.partitions.len(), stats.partitions[0].totals.open, stats.partitions[0].buckets), (1, 1, 1));
    assert!(stats.partitions[0].record_bytes > 0 && stats.partitions[0].evidence_bytes > 0);
    assert!(server.sql(&format!("UPDATE {schema}.halometer_sum SET held = held + 1")));
    assert_eq!(store.check().unwrap().findings.len(), 1);
}

#[test]
fn failing_over_to_a_synchronous_standby_loses_nothing() {
    let primary = or_skip!(Server::start(&["synchronous_standby_names=second"]));
    // Nothing commits without a standby: the schema is made by a session that waits for none.
    assert!(primary.sql("SET synchronous_commit = local; CREATE SCHEMA place_r"));
    let plain = primary.options_at(primary.port, "place_r").with_patience(Duration::from_secs(2));
    let replicated = plain.clone().with_durability(Durability::Replicated);
    assert!(matches!(PostgresStore::migrate(&replicated, GATEWAY, true), Err(PostgresError::NotReplicated(_))));
    let standby = primary.standby("second");
    let attached = || PostgresStore::migrate(&replicated, GATEWAY, false);
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = attached() {
        assert!(Instant::now() < deadline, "{error:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let ports = (primary.port, standby.port);
    let address = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=postgres options='-c search_path=place_r' connect_timeout=2",
        ports.0, ports.1
    );
    let options =
        PostgresOptions::new(&address).unwrap().accepting(plain.accept[0]).with_patience(Duration::from_secs(15));
    let mark = tempfile::tempdir().unwrap();
    let store = PostgresStore::open(&options.with_mark(mark.path().join("mark")), GATEWAY).unwrap();
    let set = store.spent_set();
    set.create(EPOCH).unwrap();
    for number in 0..20 {
        assert_eq!(set.insert(record(key(number, 1)), T0).unwrap(), Insertion::Fresh);
    }
    primary.kill();
    standby.promote();
    for number in 0..20 {
        assert!(matches!(set.insert(record(key(number, 2)), T0), Ok(Insertion::Conflict(_))), "{number}");
    }
    assert_eq!(set.insert(record(key(99, 1)), T0).unwrap(), Insertion::Fresh);
    assert!(!store.is_stopped());
}

#[test]
fn failing_over_to_a_standby_that_lost_some_is_refused() {
    let primary = or_skip!(Server::start(&[]));
    let (plain, schema) = primary.place();
    let standby = primary.standby("second");
    let address = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=postgres options='-c search_path={schema}' connect_timeout=2",
        primary.port, standby.port
    );
    let options =
        PostgresOptions::new(&address).unwrap().accepting(plain.accept[0]).with_patience(Duration::from_secs(15));
    let store = PostgresStore::open(&options, GATEWAY).unwrap();
    let set = store.spent_set();
    set.create(EPOCH).unwrap();
    assert_eq!(set.insert(record(key(1, 1)), T0).unwrap(), Insertion::Fresh);
    std::thread::sleep(Duration::from_millis(500));
    // It falls behind, and the primary dies with what it alone has.
    standby.kill();
    for number in 2..6 {
        assert_eq!(set.insert(record(key(number, 1)), T0).unwrap(), Insertion::Fresh);
    }
    primary.kill();
    standby.run();
    standby.promote();
    let outcome = set.insert(record(key(5, 2)), T0);
    assert!(matches!(outcome, Err(StoreError::Failed(_))), "{outcome:?}");
    assert!(matches!(store.trouble(), Some(PostgresError::SetBack { .. })), "{:?}", store.trouble());
}

#[test]
fn over_tls_the_server_is_the_one_that_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let (key, cert) = (dir.path().join(format!("{name}.key")), dir.path().join(format!("{name}.pem")));
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .stderr(std::process::Stdio::null())
            .status();
        made.is_ok_and(|status| status.success()).then_some((key, cert))
    };
    let Some(((key, cert), (_, other))) = make("server").zip(make("other")) else {
        return eprintln!("skipped: there is no openssl to make certificates with");
    };
    let server = or_skip!(Server::start(&[]));
    let (_, schema) = server.place();
    let address = format!(
        "host=localhost port={} user=postgres dbname=postgres sslmode=require options='-c search_path={schema}'",
        server.port
    );
    let options = |authorities: &std::path::Path| {
        let options =
            PostgresOptions::new(&address).unwrap().accepting(halometer::store::postgres::Concession::FsyncOff);
        let pem = std::fs::read(authorities).unwrap();
        options.with_authorities(pem).with_patience(Duration::from_secs(2))
    };
    // A server without TLS is not spoken to.
    assert!(matches!(PostgresStore::open(&options(&cert), GATEWAY), Err(PostgresError::Unreachable(_))));
    server.stop();
    server.give(&key, "server.key");
    server.give(&cert, "server.crt");
    server.set("ssl=on");
    server.run();
    let store = PostgresStore::open(&options(&cert), GATEWAY).unwrap();
    store.spent_set().create(EPOCH).unwrap();
    assert_eq!(store.spent_set().insert(record(self::key(1, 1)), T0).unwrap(), Insertion::Fresh);
    assert!(matches!(PostgresStore::open(&options(&other), GATEWAY), Err(PostgresError::Unreachable(_))));
}

#[test]
fn without_its_standby_a_replicated_gateway_serves_nothing() {
    let primary = or_skip!(Server::start(&["synchronous_standby_names=second"]));
    assert!(primary.sql("SET synchronous_commit = local; CREATE SCHEMA place_s"));
    let options = primary.options_at(primary.port, "place_s").with_durability(Durability::Replicated);
    let options = options.with_patience(Duration::from_secs(2));
    let standby = primary.standby("second");
    let until = |what: &str, done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    until("it is attached", &|| PostgresStore::migrate(&options, GATEWAY, false).is_ok());
    let store = PostgresStore::open(&options, GATEWAY).unwrap();
    let set = store.spent_set();
    set.create(EPOCH).unwrap();
    assert_eq!(set.insert(record(key(1, 1)), T0).unwrap(), Insertion::Fresh);
    standby.kill();
    // It is an error at once, and known as what it is soon.
    assert!(matches!(set.insert(record(key(2, 1)), T0), Err(StoreError::Failed(_))));
    until("it is told", &|| matches!(store.trouble(), Some(PostgresError::NotReplicated(_))));
    assert!(matches!(set.find(EPOCH, &key(1, 1).nullifier), Err(StoreError::Failed(_))));
    standby.run();
    until("it serves again", &|| store.trouble().is_none());
    // What was in doubt was committed when the standby came back, or never will be.
    until("it admits", &|| set.insert(record(key(2, 1)), T0).is_ok());
    assert_eq!(set.totals(EPOCH).unwrap().open, 2);
    assert!(!store.is_stopped());
}
