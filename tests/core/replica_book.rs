//! The replica book of this crate under the suite that every one must pass.

use halometer::store::MemoryReplicaBook;

halometer::replica_book_conformance!(MemoryReplicaBook::new());
