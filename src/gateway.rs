//! The gateway: checks spends, admits them, and catches those that come twice (protocol, section 5, "Admit" to "Double
//! spend").
//!
//! [`Gateway::open`] is the whole way of an opening request. Its parts, [`screen`](Gateway::screen),
//! [`verify`](Gateway::verify) and [`admit`](Gateway::admit), are there for a pipeline that verifies in batches. The settlement
//! is the issuer's: an [`AdmittedSpend`](crate::lifecycle::AdmittedSpend) goes to [`Issuer::settle`](crate::issuer::Issuer::settle).

mod cancel;
mod challenge;
mod error;
mod fetch;
mod open;
mod quota;
mod terms;
mod transfer;
mod vouched;
mod window;

pub use cancel::Cancelled;
pub use challenge::Challenge;
pub(crate) use error::store_problem;
pub use error::{AdmitError, FetchError};
pub use fetch::Fetched;
#[cfg(feature = "server")]
pub(crate) use fetch::Whereabouts;
pub use open::{Opened, Screened};
pub use quota::{Quotas, Rate};
pub use window::{ReplayWindow, Replayed};

use std::collections::BTreeMap;
use std::sync::Arc;

use halometer_circuits::proof::VerifyingKey;

use crate::protocol::{Directory, DirectoryError, EpochNumber, GatewayId, Grid, OwnerId, Timestamp};
use crate::store::{Lease, SpentSet};
use quota::Meters;

/// A gateway: its id, the directory it serves under, the verifying keys of the epochs that are spendable, and the spent set.
/// Cheap to share behind an `Arc`; all methods take `&self`.
pub struct Gateway {
    id: GatewayId,
    directory: Directory,
    keys: BTreeMap<EpochNumber, VerifyingKey>,
    set: Arc<dyn SpentSet>,
    owner: OwnerId,
    lease_seconds: u32,
    meters: Arc<Meters>,
}

impl core::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Gateway").field("id", &self.id).field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// What a gateway is made of.
#[non_exhaustive]
pub struct GatewayParts {
    /// Its id, one of the directory.
    pub id: GatewayId,
    /// The directory, verified.
    pub directory: Directory,
    /// The spent set, with a partition for every spendable epoch: see [`SpentSet::create`].
    pub set: Arc<dyn SpentSet>,
    /// Names this process among those that share the set; never used again after a restart.
    pub owner: OwnerId,
    /// How long this process alone may settle what it admitted, seconds: longer than the longest session by more than
    /// [`Gateway::SKEW`].
    pub lease_seconds: u32,
    /// How often it does what earns it nothing.
    pub quotas: Quotas,
}

impl GatewayParts {
    /// With the default quotas.
    pub fn new(
        id: GatewayId,
        directory: Directory,
        set: Arc<dyn SpentSet>,
        owner: OwnerId,
        lease_seconds: u32,
    ) -> Self {
        Self { id, directory, set, owner, lease_seconds, quotas: Quotas::default() }
    }

    /// The same with this [`quotas`](Self::quotas).
    #[must_use]
    pub fn with_quotas(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }
}

impl core::fmt::Debug for GatewayParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GatewayParts").field("id", &self.id).field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// Why a gateway cannot be made. Its operator is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The directory does not name it.
    #[error("the directory does not name gateway {0}")]
    NotInDirectory(GatewayId),
    /// The lease is not longer than the longest session by more than [`Gateway::SKEW`], so that another process, whose clock is
    /// ahead, could settle a session that still runs.
    #[error(
        "a lease of {lease} s is not longer than a session of {session} s and {} s for clocks that differ",
        Gateway::SKEW
    )]
    ShortLease {
        /// The lease, seconds.
        lease: u32,
        /// The longest session, seconds.
        session: u32,
    },
    /// The new directory cannot follow the one that is served.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl Gateway {
    /// How far the clocks of processes that share a set may be apart, seconds.
    pub const SKEW: u64 = 2 * Grid::LAG;

    /// Makes a gateway and builds the verifying keys of all epochs that can still be spent; that takes about 0.1 s each.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn new(parts: GatewayParts, now: Timestamp) -> Result<Self, GatewayError> {
        let GatewayParts { id, directory, set, owner, lease_seconds, quotas } = parts;
        let (keys, meters) = (BTreeMap::new(), Arc::new(Meters::new(quotas)));
        Self::with_keys(Self { id, directory, keys, set, owner, lease_seconds, meters }, now)
    }

    /// The same gateway under a newer directory, over the same set. Keys that are built already are kept.
    ///
    /// # Errors
    /// [`GatewayError`], among them a directory that contradicts the present one.
    pub fn adopt(&self, directory: Directory, now: Timestamp) -> Result<Self, GatewayError> {
        self.adopt_with(directory, self.keys.clone(), now)
    }

    /// As [`adopt`](Self::adopt), of another gateway's directory, whose keys are built already.
    pub(crate) fn adopt_from(&self, other: &Self, now: Timestamp) -> Result<Self, GatewayError> {
        self.adopt_with(other.directory.clone(), other.keys.clone(), now)
    }

    /// A gateway with another id and owner over the same set, under the same directory and with the same keys.
    pub(crate) fn beside(
        &self,
        id: GatewayId,
        owner: OwnerId,
        quotas: Quotas,
        now: Timestamp,
    ) -> Result<Self, GatewayError> {
        let (directory, keys, set) = (self.directory.clone(), self.keys.clone(), Arc::clone(&self.set));
        let (lease_seconds, meters) = (self.lease_seconds, Arc::new(Meters::new(quotas)));
        Self::with_keys(Self { id, directory, keys, set, owner, lease_seconds, meters }, now)
    }

    fn adopt_with(
        &self,
        directory: Directory,
        keys: BTreeMap<EpochNumber, VerifyingKey>,
        now: Timestamp,
    ) -> Result<Self, GatewayError> {
        directory.check_follows(&self.directory)?;
        let next = Self {
            id: self.id,
            directory,
            keys,
            set: Arc::clone(&self.set),
            owner: self.owner,
            lease_seconds: self.lease_seconds,
            meters: Arc::clone(&self.meters),
        };
        Self::with_keys(next, now)
    }

    fn with_keys(mut self, now: Timestamp) -> Result<Self, GatewayError> {
        if self.directory.gateway(&self.id).is_none() {
            return Err(GatewayError::NotInDirectory(self.id));
        }
        let session = self.directory.parts().limits.session_seconds;
        if u64::from(self.lease_seconds) <= u64::from(session) + Self::SKEW {
            return Err(GatewayError::ShortLease { lease: self.lease_seconds, session });
        }
        let mut known = core::mem::take(&mut self.keys);
        for epoch in self.directory.epochs().iter().filter(|epoch| now < epoch.spend.until) {
            let key = known.remove(&epoch.number).unwrap_or_else(|| VerifyingKey::build(&epoch.key));
            self.keys.insert(epoch.number, key);
        }
        Ok(self)
    }

    /// Names it among those that share the set.
    pub(crate) fn owner(&self) -> OwnerId {
        self.owner
    }

    /// Its id.
    pub fn id(&self) -> GatewayId {
        self.id
    }

    /// The directory it serves under.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// For so long an admitted spend is this process's, seconds. Work on it ends well before.
    pub fn lease_seconds(&self) -> u32 {
        self.lease_seconds
    }

    /// The spent set, for settling.
    pub fn set(&self) -> &dyn SpentSet {
        &*self.set
    }

    /// The spent set, for its upkeep.
    pub fn shared_set(&self) -> Arc<dyn SpentSet> {
        Arc::clone(&self.set)
    }

    /// The verifying key of an epoch that can still be spent.
    pub fn verifying_key(&self, epoch: EpochNumber) -> Option<&VerifyingKey> {
        self.keys.get(&epoch)
    }

    fn lease(&self, now: Timestamp) -> Lease {
        Lease { owner: self.owner, until: now.after(u64::from(self.lease_seconds)) }
    }
}
