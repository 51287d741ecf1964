//! The spent sets of this crate under the suite that every spent set must pass (protocol, section 5, "Retirement" and "One
//! gateway id is one linearizable set").

mod memory {
    use halometer::conformance::Backend;
    use halometer::store::MemorySpentSet;

    struct Memory;

    impl Backend for Memory {
        type Set = MemorySpentSet;

        fn create(&self) -> MemorySpentSet {
            MemorySpentSet::new()
        }

        fn crash(&self, _: MemorySpentSet) -> Option<MemorySpentSet> {
            None
        }
    }

    halometer::spent_set_conformance!(Memory);
}

mod durable {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    use halometer::conformance::Backend;
    use halometer::protocol::GatewayId;
    use halometer::store::SpentSet as _;
    use halometer::store::durable::{DurableSpentSet, DurableStore, StoreOptions};
    use tempfile::TempDir;

    struct Durable {
        place: TempDir,
        made: AtomicU32,
    }

    impl Durable {
        fn new() -> Self {
            Self { place: tempfile::tempdir().unwrap(), made: AtomicU32::new(0) }
        }

        fn next(&self) -> PathBuf {
            self.place.path().join(self.made.fetch_add(1, Ordering::Relaxed).to_string())
        }
    }

    impl Backend for Durable {
        type Set = DurableSpentSet;

        fn create(&self) -> DurableSpentSet {
            let gateway = GatewayId::from_bytes([1; 16]);
            DurableStore::create(self.next(), gateway, &options()).unwrap().spent_set()
        }

        /// The files as they are in this instant, with nobody having closed them.
        fn crash(&self, set: DurableSpentSet) -> Option<DurableSpentSet> {
            let after = self.next();
            copy(set.store().path(), &after);
            assert!(set.partitions().is_ok(), "it was alive until now");
            drop(set);
            Some(DurableStore::open(after, &options()).unwrap().spent_set())
        }
    }

    /// A copy of the directory is a whole store.
    fn options() -> StoreOptions {
        StoreOptions::default().with_mark_inside()
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            if from.is_dir() {
                copy(&from, &to);
            } else {
                std::fs::copy(&from, &to).unwrap();
            }
        }
    }

    halometer::spent_set_conformance!(Durable::new());
}
