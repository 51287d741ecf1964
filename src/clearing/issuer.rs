//! The issuer's side.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::gateway::{Gateway, GatewayError, GatewayParts, Quotas};
use crate::issuer::Issuer;
use crate::protocol::{GatewayId, OwnerId, Timestamp};
use crate::store::SpentSet;

/// The issuer as remote gateways see it. Immutable, like [`Gateway`]: a newer directory makes a new one. All methods
/// take `&self`; a request that carries a spend takes a few milliseconds of one core for its proof, and all of them ask
/// the set.
pub struct Clearing {
    pub(super) issuer: Arc<Issuer>,
    pub(super) gateways: BTreeMap<GatewayId, Gateway>,
}

impl core::fmt::Debug for Clearing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Clearing").field("gateways", &self.gateways.keys()).finish_non_exhaustive()
    }
}

/// What clearing takes.
#[non_exhaustive]
pub struct ClearingParts {
    /// The issuer.
    pub issuer: Arc<Issuer>,
    /// The issuer's spent set. All of its gateways share it, the remote ones through here: a note that is spent at two
    /// of them is caught.
    pub set: Arc<dyn SpentSet>,
    /// The gateways that clear, by their ids in the directory: those that do not share the set by themselves.
    pub gateways: Vec<GatewayId>,
    /// How long a remote gateway alone may settle what was admitted for it, seconds: longer than the longest session.
    pub lease_seconds: u32,
    /// How often each of them may ask for what earns the issuer nothing.
    pub quotas: Quotas,
}

impl ClearingParts {
    /// With the default quotas.
    pub fn new(issuer: Arc<Issuer>, set: Arc<dyn SpentSet>, gateways: Vec<GatewayId>, lease_seconds: u32) -> Self {
        Self { issuer, set, gateways, lease_seconds, quotas: Quotas::default() }
    }

    /// The same with this [`quotas`](Self::quotas).
    #[must_use]
    pub fn with_quotas(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }
}

impl core::fmt::Debug for ClearingParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ClearingParts").field("gateways", &self.gateways).finish_non_exhaustive()
    }
}

impl Clearing {
    /// Makes it, under the issuer's directory. Builds the verifying keys of all epochs that can still be spent, about 0.1 s each.
    ///
    /// # Errors
    /// [`GatewayError`], of the first gateway that it does not work for.
    pub fn new(parts: ClearingParts, now: Timestamp) -> Result<Self, GatewayError> {
        let ClearingParts { issuer, set, gateways: ids, lease_seconds, quotas } = parts;
        let mut gateways: BTreeMap<GatewayId, Gateway> = BTreeMap::new();
        for id in ids {
            let owner = owner(&id);
            let gateway = match gateways.values().next() {
                Some(first) => first.beside(id, owner, quotas, now)?,
                None => {
                    let (directory, set) = (issuer.directory().clone(), Arc::clone(&set));
                    Gateway::new(GatewayParts { id, directory, set, owner, lease_seconds, quotas }, now)?
                }
            };
            gateways.insert(id, gateway);
        }
        Ok(Self { issuer, gateways })
    }

    /// The same under a newer directory. Gateways that it does not name any more do not clear any more; what they left open is
    /// settled after its lease.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn adopt(&self, issuer: Arc<Issuer>, now: Timestamp) -> Result<Self, GatewayError> {
        let directory = issuer.directory();
        let mut gateways: BTreeMap<GatewayId, Gateway> = BTreeMap::new();
        for (id, gateway) in self.gateways.iter().filter(|(id, _)| directory.gateway(id).is_some()) {
            let adopted = match gateways.values().next() {
                Some(first) => gateway.adopt_from(first, now)?,
                None => gateway.adopt(directory.clone(), now)?,
            };
            gateways.insert(*id, adopted);
        }
        Ok(Self { issuer, gateways })
    }
}

fn owner(gateway: &GatewayId) -> OwnerId {
    OwnerId::from_bytes(gateway.to_bytes())
}
