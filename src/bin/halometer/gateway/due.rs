//! The directory that is due: by the clock, and by the configuration.

use tracing::{info, warn};

use super::config::Config;
use super::publish::{self, PublishError};
use super::vault::{Vault, VaultError};
use halometer::issuer::{Schedule, ScheduleError};
use halometer::protocol::{Directory, DirectoryError, DirectoryParts, Limits, Timestamp};
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

/// What is due.
pub(super) enum Due {
    /// The newest that was ever published goes on.
    Nothing,
    /// What the configuration asks for is published at this time: of this window there is a directory already.
    Later(Timestamp),
    /// A directory.
    Now(Box<Directory>),
}

/// The directory that is due. Keys and partitions of its new epochs are made: in this order, and before anybody sees the directory.
///
/// Of each window of the grid of publication there is one directory, so that nothing is due before the window of the newest is over.
/// From then on it is published again if it has changed, and in any case when its lifetime is over.
pub(super) fn due(
    known: &Directory,
    config: &Config,
    vault: &mut Vault,
    set: &dyn SpentSet,
    now: Timestamp,
) -> Result<Due, DueError> {
    // Whether it can be carried out at all is known at once.
    let wished = publish::next(known, config, vault.gateway(), now)?;
    let limits = Limits { session_seconds: config.directory.session_seconds };
    let schedule = Schedule::new(config.issuer.schedule.parts(), limits)?;
    // The first directory that has such a grid follows at once.
    let window = known.publication().map(|step| known.parts().published.after(step.into()));
    if let Some(next) = window.filter(|next| now < *next) {
        return Ok(if wished.is_some() { Due::Later(next) } else { Due::Nothing });
    }
    // What is planned in one go is published as one.
    let draft = |directory: &Directory| {
        let (serial, published) = (known.parts().serial, known.parts().published);
        Directory::new(DirectoryParts { serial, published, ..directory.parts().clone() })
    };
    let mut directory = wished;
    let mut drafted = directory.as_ref().map_or_else(|| Ok(known.clone()), draft)?;
    while let Some(planned) = schedule.next(&drafted, now)? {
        if let Some(pause) = planned.pause() {
            let (from, until) = (pause.from.seconds(), pause.until.seconds());
            warn!(
                from,
                until, "no epoch issued in this time; notes of epochs that ended in it are lost to their owners"
            );
        }
        let key = vault.add(planned.number())?;
        begin_epoch(set, &drafted, planned.number())?;
        info!(epoch = %planned.number(), "an epoch is announced");
        let next = planned.into_directory(key, now)?;
        drafted = draft(&next)?;
        directory = Some(next);
    }
    let over = now >= known.parts().published.after(known.grid().lifetime());
    match directory {
        Some(directory) => {
            directory.check_follows(known)?;
            Ok(Due::Now(Box::new(directory)))
        }
        None if over || known.publication().is_none() => Ok(Due::Now(Box::new(publish::again(known, now)?))),
        None => Ok(Due::Nothing),
    }
}
