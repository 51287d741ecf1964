//! The spent sets of this crate under the suite that every spent set has to pass (protocol, section 5, "Retirement" and "One
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
