//! What a partition takes.

use super::{PartitionPhase, Totals};
use crate::protocol::EpochNumber;

/// What is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStats {
    /// Its epoch.
    pub epoch: EpochNumber,
    /// How far it is.
    pub phase: PartitionPhase,
    /// Its sums.
    pub totals: Totals,
    /// Of the settled records, how many have no evidence any more.
    pub erased: u64,
    /// Number of buckets of evidence.
    pub buckets: usize,
    /// Bytes of its records on disk, indexes included. 0 where a database does not tell.
    pub record_bytes: u64,
    /// Bytes of its evidence on disk, indexes included. 0 where a database does not tell.
    pub evidence_bytes: u64,
}
