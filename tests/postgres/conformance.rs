//! What every spent set must pass, under both isolation levels and over crashes of process and server.

use std::sync::{Arc, Mutex};

use halometer::conformance::Backend;
use halometer::store::postgres::{Isolation, PostgresOptions, PostgresSpentSet, PostgresStore};

use crate::server::{GATEWAY, Server, or_skip, shared};

/// Sets on a server that goes on when their process is killed.
struct Shared {
    server: Arc<Server>,
    isolation: Isolation,
    /// How the set that is crashed was opened.
    opened: Mutex<Vec<(PostgresOptions, tempfile::TempDir)>>,
}

impl Shared {
    fn new(server: Arc<Server>, isolation: Isolation) -> Self {
        Self { server, isolation, opened: Mutex::default() }
    }
}

impl Backend for Shared {
    type Set = PostgresSpentSet;

    fn create(&self) -> PostgresSpentSet {
        let mark = tempfile::tempdir().unwrap();
        let options = self.server.place().0.with_isolation(self.isolation).with_mark(mark.path().join("mark"));
        let set = PostgresStore::open(&options, GATEWAY).unwrap().spent_set();
        self.opened.lock().unwrap().push((options, mark));
        set
    }

    fn crash(&self, set: PostgresSpentSet) -> Option<PostgresSpentSet> {
        drop(set);
        let opened = self.opened.lock().unwrap();
        Some(reopen(&opened.last().unwrap().0))
    }
}

/// Opens it as soon as the process before has let its mark go.
fn reopen(options: &PostgresOptions) -> PostgresSpentSet {
    let mut last = None;
    for _ in 0..200 {
        match PostgresStore::open(options, GATEWAY) {
            Ok(store) => return store.spent_set(),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{last:?}");
}

/// Sets on a server that is killed with them.
struct Killed {
    server: Server,
    opened: Mutex<Option<(PostgresOptions, tempfile::TempDir)>>,
}

impl Backend for Killed {
    type Set = PostgresSpentSet;

    fn create(&self) -> PostgresSpentSet {
        let mark = tempfile::tempdir().unwrap();
        let options = self.server.place().0.with_mark(mark.path().join("mark"));
        let set = PostgresStore::open(&options, GATEWAY).unwrap().spent_set();
        *self.opened.lock().unwrap() = Some((options, mark));
        set
    }

    fn crash(&self, set: PostgresSpentSet) -> Option<PostgresSpentSet> {
        self.server.kill();
        drop(set);
        self.server.run();
        Some(reopen(&self.opened.lock().unwrap().as_ref().unwrap().0))
    }
}

mod read_committed {
    use super::*;
    halometer::spent_set_conformance!(Shared::new(or_skip!(shared()), Isolation::ReadCommitted));
}

mod serializable {
    use super::*;
    halometer::spent_set_conformance!(Shared::new(or_skip!(shared()), Isolation::Serializable));
}

mod killed_server {
    use super::*;
    halometer::spent_set_conformance!(
        Killed { server: or_skip!(Server::start(&[])), opened: Mutex::default() };
        what_was_answered_is_there_after_a_crash,
        a_partition_keeps_its_phase_over_a_crash,
        erased_evidence_stays_erased_over_a_crash,
    );
}

mod replicas {
    use super::*;
    // Those that need no clock of the test's own: this book goes by the database's.
    halometer::replica_book_conformance!(
        or_skip!(shared()).store().replica_book();
        a_replica_is_found_until_it_is_withdrawn,
        what_is_no_replica_is_not_written_in,
        racing_for_a_lease_has_one_holder,
        a_lease_is_kept_by_renewing_it,
        a_released_lease_is_free_and_its_term_is_over,
        a_replaced_holder_publishes_nothing,
        a_publication_is_the_next_one_or_none,
        racing_to_publish_has_one_winner,
    );
}
