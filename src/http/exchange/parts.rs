//! What a gateway is made of.

use std::sync::Arc;
use std::time::Duration;

use super::limits::GatewayLimits;
use super::local::UpkeepTask;
use crate::gateway::Gateway;
use crate::http::issuer_client::IssuerClient;
use crate::http::observer::Observer;
use crate::http::pattern::RoutePattern;
use crate::http::pricing::Pricing;
use crate::issuer::Issuer;
use crate::protocol::{GatewayId, GatewaySigningKey, RootKey, SignedDirectory};

/// What a payment layer is made of.
pub struct PaymentLayerParts {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The issuer that settles, which shares the gateway's directory.
    pub issuer: Arc<Issuer>,
    /// What calls cost.
    pub pricing: Box<dyn Pricing>,
    /// Requests that cost nothing: health checks, `OPTIONS` of browsers. The gateway's own paths are free without being named.
    pub free: Vec<RoutePattern>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// Limits.
    pub limits: GatewayLimits,
    /// How long a call may take, from its admission to the last byte of its answer, streams included.
    pub call_timeout: Duration,
    /// The key that the directory names for the gateway: it signs receipts.
    pub key: GatewaySigningKey,
    /// Upkeep, if this layer is to see to it.
    pub upkeep: Option<UpkeepTask>,
}

impl core::fmt::Debug for PaymentLayerParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PaymentLayerParts").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// What a gateway without a set is made of.
pub struct RemoteLayerParts {
    /// Its id, one of the directory.
    pub id: GatewayId,
    /// The key that the directory names for it: it signs its envelopes and receipts.
    pub key: GatewaySigningKey,
    /// The issuer's root key, pinned.
    pub root: RootKey,
    /// The directory to begin with.
    pub directory: SignedDirectory,
    /// Where the issuer is.
    pub issuer: IssuerClient,
    /// How often a newer directory is asked for. One is asked for at once as well when a settlement names an epoch that is not known.
    pub refresh: Duration,
    /// What calls cost.
    pub pricing: Box<dyn Pricing>,
    /// Requests that cost nothing.
    pub free: Vec<RoutePattern>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// Limits. Those of the pipeline say how many openings wait to be read.
    pub limits: GatewayLimits,
    /// How long a call may take, from its admission to the last byte of its answer, streams included: less than a session.
    pub call_timeout: Duration,
}

impl core::fmt::Debug for RemoteLayerParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RemoteLayerParts").field("id", &self.id).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
