//! Creating the partition of a new epoch.

use crate::protocol::{Directory, EpochNumber, Fault};
use crate::store::{PartitionPhase, SpentSet, StoreError};

/// Why the partition of an epoch was not created. The issuer's operator is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginEpochError {
    /// The directory names the epoch: its notes may be out, and spent. When its partition is missing, its data is lost.
    #[error("epoch {0} is published already")]
    Published(EpochNumber),
    /// The directory names a later epoch: this one may have been in it, and left it.
    #[error("epoch {0} is before one that is published already")]
    Past(EpochNumber),
    /// The epoch has a partition that is closing or retired.
    #[error("the partition of epoch {0} was closed before")]
    Closed(EpochNumber),
    /// The set failed. Try again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BeginEpochError {
    /// The party at fault: never a caller.
    pub fn fault(&self) -> Fault {
        Fault::Operator
    }
}

/// Creates the partition of an epoch that is not published yet: after its key was made, before
/// [`Issuer::publish`](crate::issuer::Issuer::publish). `known` is the newest directory that was ever published.
///
/// Why then: until the directory names the epoch nobody has its key, nothing is signed by it, and so none of its notes can be
/// spent; an empty partition is then the truth. From then on it may be a lie, as lost data looks the same as none. So
/// the set must have the partition before the directory has the epoch, and after that none is created, by whatever
/// need. For the same reason a number below one that is published is refused: its epoch may have come and gone. A crash
/// between the two leaves a partition that nobody uses, and doing it again finds it.
///
/// # Errors
/// [`BeginEpochError`].
pub fn begin_epoch(set: &dyn SpentSet, known: &Directory, epoch: EpochNumber) -> Result<(), BeginEpochError> {
    if known.epoch(epoch).is_some() {
        return Err(BeginEpochError::Published(epoch));
    }
    if known.epochs().iter().any(|published| epoch < published.number) {
        return Err(BeginEpochError::Past(epoch));
    }
    match set.create(epoch) {
        Err(StoreError::PartitionExists(_)) => {
            let partitions = set.partitions()?;
            let open = partitions.contains(&(epoch, PartitionPhase::Open));
            if open { Ok(()) } else { Err(BeginEpochError::Closed(epoch)) }
        }
        created => Ok(created?),
    }
}
