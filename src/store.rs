//! Where records are kept.
//!
//! Two traits, small and fail-closed: [`SpentSet`] holds the spends, [`MintBook`] the mints. An error is never "not spent" and
//! never "not minted". [`MemorySpentSet`] and [`MemoryMintBook`] keep everything in memory, for tests and small gateways.

#[cfg(feature = "durable")]
pub mod durable;
#[cfg(any(feature = "durable", feature = "postgres"))]
mod mark;
mod memory_mint_book;
mod memory_payment_book;
mod memory_spent_set;
mod mint_book;
mod payment_book;
#[cfg(feature = "postgres")]
pub mod postgres;
mod pulse;
mod record;
mod rules;
mod spent_set;

pub use memory_mint_book::MemoryMintBook;
pub use memory_payment_book::MemoryPaymentBook;
pub use memory_spent_set::MemorySpentSet;
pub use mint_book::{MintBook, MintOutcome, MintRecord, MintTotals};
pub use payment_book::{PaymentBook, PaymentOutcome};
#[cfg(any(feature = "client", feature = "server", feature = "durable"))]
pub(crate) use pulse::span;
pub use pulse::{Beat, ClockJump, Look, Pulse};
pub use record::{Lease, PartitionPhase, Record, RecordEvidence, RecordKey, RecordState, Totals};
pub(crate) use rules::add_settled;
pub use spent_set::{Insertion, PairInsertion, SpentSet, StoreError};
