//! Where records are kept.
//!
//! Traits, small and fail-closed: [`SpentSet`] holds the spends, [`MintBook`] the mints, [`PaymentBook`] the payments. An error is
//! never "not spent" and never "not minted". [`ReplicaBook`] holds the processes that share a set. [`MemorySpentSet`],
//! [`MemoryMintBook`] and the like keep everything in memory, for tests and small gateways.

#[cfg(feature = "durable")]
pub mod durable;
#[cfg(any(feature = "durable", feature = "postgres"))]
mod mark;
mod memory_mint_book;
mod memory_payment_book;
mod memory_replica_book;
mod memory_spent_set;
mod mint_book;
#[cfg(any(feature = "durable", feature = "postgres"))]
mod partition_stats;
mod payment_book;
#[cfg(feature = "postgres")]
pub mod postgres;
mod pulse;
mod record;
mod replica_book;
mod rules;
mod spent_set;

pub use memory_mint_book::MemoryMintBook;
pub use memory_payment_book::MemoryPaymentBook;
pub use memory_replica_book::MemoryReplicaBook;
pub use memory_spent_set::MemorySpentSet;
pub use mint_book::{MintBook, MintOutcome, MintRecord, MintTotals};
#[cfg(any(feature = "durable", feature = "postgres"))]
pub use partition_stats::PartitionStats;
pub use payment_book::{PaymentBook, PaymentOutcome};
#[cfg(any(feature = "client", feature = "server", feature = "durable"))]
pub(crate) use pulse::span;
pub use pulse::{Beat, ClockJump, Look, Pulse};
pub use record::{Lease, PartitionPhase, Record, RecordEvidence, RecordKey, RecordState, Totals};
pub use replica_book::{Claim, HeldLease, LeaseName, Publication, Published, Replica, ReplicaBook, ReplicaKey};
pub(crate) use rules::add_settled;
pub use spent_set::{Insertion, PairInsertion, SpentSet, StoreError};
