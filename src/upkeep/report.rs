//! What a tick did, and what the operator must look at.

use crate::issuer::SettleError;
use crate::protocol::{EpochNumber, Fault, Timestamp};

/// What a tick did.
#[derive(Debug, Default)]
pub struct UpkeepReport {
    /// Number of lapsed spends that were settled.
    pub settled: u64,
    /// Whether more may have lapsed than one tick takes on: tick again soon.
    pub more: bool,
    /// Number of records whose evidence was erased.
    pub erased: u64,
    /// Partitions that were closed.
    pub closed: Vec<EpochNumber>,
    /// Partitions that were retired.
    pub retired: Vec<EpochNumber>,
    /// Partitions that should be retired by now, and why they are not.
    pub standing: Vec<(EpochNumber, Unretired)>,
    /// What the operator must learn.
    pub warnings: Vec<Warning>,
    /// What failed. The next tick tries again.
    pub failures: Vec<UpkeepFailure>,
}

/// Why a partition whose grace is over is not retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unretired {
    /// It was closed by this tick. A later one retires it.
    JustClosed,
    /// So many of its records are open.
    Open(u64),
    /// The directory has dropped the epoch before its partition was retired, so that nothing says when it was over. To be closed
    /// and retired by hand.
    Unnamed,
}

impl core::fmt::Display for Unretired {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::JustClosed => f.write_str("it was closed just now"),
            Self::Open(records) => write!(f, "{records} of its records are open"),
            Self::Unnamed => f.write_str("the directory has dropped the epoch: close and retire it by hand"),
        }
    }
}

/// What is not as it should be, or will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// An epoch that can be spent, now or later, has no partition: its spends are refused. Unless it was never created, data is
    /// lost, and the issuer must retire the epoch (protocol, section 5).
    PartitionMissing(EpochNumber),
    /// An epoch that can be spent, now or later, has a partition that is closing or retired: a clock was ahead.
    PartitionClosed(EpochNumber),
    /// No epoch issues now: nothing is minted or settled.
    NothingIssues,
    /// The epoch that issues ends then, and none follows.
    NoSuccessor {
        /// The epoch.
        epoch: EpochNumber,
        /// When it ends.
        ends: Timestamp,
    },
}

impl core::fmt::Display for Warning {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::PartitionMissing(epoch) => {
                write!(f, "epoch {epoch} has no partition: its data is lost, and the epoch is to be retired")
            }
            Self::PartitionClosed(epoch) => {
                write!(f, "epoch {epoch} can be spent, and its partition is closed: a clock was ahead")
            }
            Self::NothingIssues => f.write_str("no epoch issues now: nothing is minted or settled"),
            Self::NoSuccessor { epoch, ends } => {
                write!(f, "epoch {epoch} issues until {}, and none follows", ends.seconds())
            }
        }
    }
}

/// Something that failed.
#[derive(Debug, thiserror::Error)]
#[error("epoch {epoch}, to {step}: {error}")]
pub struct UpkeepFailure {
    /// The partition.
    pub epoch: EpochNumber,
    /// Which step.
    pub step: UpkeepStep,
    /// Why. [`SettleError::Store`] for a set that failed.
    #[source]
    pub error: SettleError,
}

impl UpkeepFailure {
    /// The party at fault: never a caller.
    pub fn fault(&self) -> Fault {
        Fault::Operator
    }
}

/// The steps of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpkeepStep {
    /// Settling what has lapsed.
    Settle,
    /// Erasing evidence.
    Erase,
    /// Closing a partition.
    Close,
    /// Retiring a partition.
    Retire,
}

impl core::fmt::Display for UpkeepStep {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Settle => "settle",
            Self::Erase => "erase",
            Self::Close => "close",
            Self::Retire => "retire",
        })
    }
}
