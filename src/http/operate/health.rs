//! Whether calls can be taken.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::cause::chain;
use crate::protocol::{Directory, Timestamp};
use crate::store::{PartitionPhase, SpentSet};

/// What was found out longer ago than this is not believed: the store hangs.
const FRESH: Duration = Duration::from_secs(15);

/// How a program stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServingState {
    /// It takes no calls yet.
    #[default]
    Starting,
    /// It takes calls.
    Serving,
    /// It finishes those that it has, and takes no more.
    Draining,
}

/// How the program stands, and what was found when it was last looked.
pub(super) struct Health(Mutex<Found>);

struct Found {
    standing: ServingState,
    trouble: Option<String>,
    at: Option<Instant>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Found { standing: ServingState::default(), trouble: None, at: None }))
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_state(&self, standing: ServingState) {
        self.found().standing = standing;
    }

    /// Says what was found; to be said again and again.
    ///
    /// Says whether it is something else than before.
    pub(super) fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut found = self.found();
        let differs = found.trouble != trouble;
        (found.trouble, found.at) = (trouble, Some(Instant::now()));
        differs
    }

    pub(super) fn ready(&self) -> Result<(), String> {
        let found = self.found();
        match (found.standing, found.at, &found.trouble) {
            (ServingState::Starting, ..) | (_, None, _) => Err("starting".to_owned()),
            (ServingState::Draining, ..) => Err("draining".to_owned()),
            (ServingState::Serving, Some(at), _) if at.elapsed() > FRESH => Err("the store does not answer".to_owned()),
            (ServingState::Serving, Some(_), Some(trouble)) => Err(trouble.clone()),
            (ServingState::Serving, Some(_), None) => Ok(()),
        }
    }
}

/// What keeps calls from being taken over this set. Asks it.
pub(super) fn trouble_here(set: &dyn SpentSet, directory: &Directory, now: Timestamp) -> Option<String> {
    let partitions = match set.partitions() {
        Ok(partitions) => partitions,
        Err(error) => return Some(chain(&error)),
    };
    let open = |epoch| partitions.contains(&(epoch, PartitionPhase::Open));
    match directory.issuing(now) {
        None => Some("no epoch issues".to_owned()),
        Some(_) if directory.spendable(now).all(|epoch| open(epoch.number)) => None,
        Some(_) => Some("an epoch that can be spent has no open partition".to_owned()),
    }
}

/// What keeps calls from being taken where the set is the issuer's, elsewhere.
pub(super) fn trouble_there(issuer: Option<&'static str>, directory: &Directory, now: Timestamp) -> Option<String> {
    issuer.or_else(|| directory.issuing(now).is_none().then_some("no epoch issues")).map(ToOwned::to_owned)
}
