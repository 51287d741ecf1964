//! The directory that is due: by the clock, and by the configuration.

use tracing::{info, warn};

use super::config::Config;
use super::publish::{self, PublishError};
use super::vault::{Vault, VaultError};
use halometer::issuer::{Schedule, ScheduleError};
use halometer::protocol::{Directory, DirectoryError, Limits, Timestamp};
use halometer::store::SpentSet;
use halometer::upkeep::{BeginEpochError, begin_epoch};

/// Why the directory that is due cannot be made. The operator has to act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum DueError {
    /// What the configuration asks for cannot follow what there is.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The schedule cannot go on.
    #[error("`issuer.schedule`: {0}")]
    Schedule(#[from] ScheduleError),
    /// Keys are not at hand.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The partition of a new epoch cannot be made.
    #[error(transparent)]
    Begin(#[from] BeginEpochError),
    /// A directory with the new epoch breaks a rule.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// The directory that is due; none if the newest that was ever published is. Keys and partitions of its new epochs are made: in this
/// order, and before anybody sees the directory.
pub(super) fn due(
    known: &Directory,
    config: &Config,
    vault: &mut Vault,
    set: &dyn SpentSet,
    now: Timestamp,
) -> Result<Option<Directory>, DueError> {
    let wished = publish::next(known, config, vault.gateway(), now)?;
    let limits = Limits { session_seconds: config.directory.session_seconds };
    let schedule = Schedule::new(config.issuer.schedule.parts(), limits)?;
    let mut directory = wished.unwrap_or_else(|| known.clone());
    while let Some(planned) = schedule.next(&directory, now)? {
        if let Some(pause) = planned.pause() {
            let (from, until) = (pause.from.seconds(), pause.until.seconds());
            warn!(
                from,
                until, "no epoch issued in this time; notes of epochs that ended in it are lost to their owners"
            );
        }
        let key = vault.add(planned.number())?;
        begin_epoch(set, &directory, planned.number())?;
        info!(epoch = %planned.number(), "an epoch is announced");
        directory = planned.into_directory(key, now)?;
    }
    Ok((directory != *known).then_some(directory))
}
