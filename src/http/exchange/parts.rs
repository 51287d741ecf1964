//! What a gateway is made of.

use std::sync::Arc;
use std::time::Duration;

use super::limits::GatewayLimits;
use super::local::UpkeepTask;
use crate::gateway::Gateway;
use crate::http::issuer_client::IssuerClient;
use crate::http::observer::{NoObserver, Observer};
use crate::http::pattern::RoutePattern;
use crate::http::peers::Peers;
use crate::http::pricing::Pricing;
use crate::issuer::Issuer;
use crate::protocol::{GatewayId, GatewaySigningKey, RootKey, SignedDirectory};

/// What every exchange is made of, whatever settles it: the part that [`PaymentLayerParts`] and [`RemoteLayerParts`] share.
#[non_exhaustive]
pub struct ExchangeParts {
    /// What calls cost.
    pub pricing: Box<dyn Pricing>,
    /// Requests that cost nothing: health checks, `OPTIONS` of browsers. The gateway's own paths are free without being named.
    pub free: Vec<RoutePattern>,
    /// Takes what is told of calls.
    pub observer: Arc<dyn Observer>,
    /// Limits. Those of the pipeline say how many openings wait to be read.
    pub limits: GatewayLimits,
    /// How long a call may take, from its admission to the last byte of its answer, streams included: less than the lease of a
    /// spend, and with an issuer elsewhere less than a session. A reverse proxy takes its upstream's time instead.
    pub call_timeout: Duration,
}

impl ExchangeParts {
    /// Nothing free, nothing told, the default limits, and 300 seconds for a call.
    pub fn new(pricing: Box<dyn Pricing>) -> Self {
        let (observer, limits) = (Arc::new(NoObserver), GatewayLimits::default());
        Self { pricing, free: Vec::new(), observer, limits, call_timeout: Duration::from_secs(300) }
    }

    /// The same with this [`free`](Self::free).
    #[must_use]
    pub fn with_free(self, free: Vec<RoutePattern>) -> Self {
        Self { free, ..self }
    }

    /// The same with this [`observer`](Self::observer).
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    /// The same with this [`limits`](Self::limits).
    #[must_use]
    pub fn with_limits(self, limits: GatewayLimits) -> Self {
        Self { limits, ..self }
    }

    /// The same with this [`call_timeout`](Self::call_timeout).
    #[must_use]
    pub fn with_call_timeout(self, call_timeout: Duration) -> Self {
        Self { call_timeout, ..self }
    }
}

impl core::fmt::Debug for ExchangeParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (limits, call_timeout) = (&self.limits, &self.call_timeout);
        f.debug_struct("ExchangeParts")
            .field("limits", limits)
            .field("call_timeout", call_timeout)
            .finish_non_exhaustive()
    }
}

/// What a payment layer is made of.
#[non_exhaustive]
pub struct PaymentLayerParts {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The issuer that settles, which shares the gateway's directory.
    pub issuer: Arc<Issuer>,
    /// The key that the directory names for the gateway: it signs receipts.
    pub key: GatewaySigningKey,
    /// What it sells, and how.
    pub exchange: ExchangeParts,
    /// Upkeep, if this layer is to see to it.
    pub upkeep: Option<UpkeepTask>,
    /// The other processes over the same set, if there may be some: what has its session there is passed on to them, and upkeep is
    /// done by the one that leads.
    pub peers: Option<Peers>,
}

impl PaymentLayerParts {
    /// With the defaults of [`ExchangeParts::new`], and no upkeep.
    pub fn new(gateway: Arc<Gateway>, issuer: Arc<Issuer>, key: GatewaySigningKey, pricing: Box<dyn Pricing>) -> Self {
        Self { gateway, issuer, key, exchange: ExchangeParts::new(pricing), upkeep: None, peers: None }
    }

    /// The same with these requests free of charge.
    #[must_use]
    pub fn with_free(self, free: Vec<RoutePattern>) -> Self {
        Self { exchange: self.exchange.with_free(free), ..self }
    }

    /// The same with this observer.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn Observer>) -> Self {
        Self { exchange: self.exchange.with_observer(observer), ..self }
    }

    /// The same with these limits.
    #[must_use]
    pub fn with_limits(self, limits: GatewayLimits) -> Self {
        Self { exchange: self.exchange.with_limits(limits), ..self }
    }

    /// The same with this time for a call.
    #[must_use]
    pub fn with_call_timeout(self, call_timeout: Duration) -> Self {
        Self { exchange: self.exchange.with_call_timeout(call_timeout), ..self }
    }

    /// The same with upkeep.
    #[must_use]
    pub fn with_upkeep(self, upkeep: impl Into<Option<UpkeepTask>>) -> Self {
        Self { upkeep: upkeep.into(), ..self }
    }

    /// The same as a replica among others.
    #[must_use]
    pub fn with_peers(self, peers: impl Into<Option<Peers>>) -> Self {
        Self { peers: peers.into(), ..self }
    }
}

impl core::fmt::Debug for PaymentLayerParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PaymentLayerParts").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// What a gateway without a set is made of.
#[non_exhaustive]
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
    /// What it sells, and how.
    pub exchange: ExchangeParts,
}

impl RemoteLayerParts {
    /// With the defaults of [`ExchangeParts::new`], and a newer directory asked for every minute.
    pub fn new(
        id: GatewayId,
        key: GatewaySigningKey,
        root: RootKey,
        directory: SignedDirectory,
        issuer: IssuerClient,
        pricing: Box<dyn Pricing>,
    ) -> Self {
        let (refresh, exchange) = (Duration::from_secs(60), ExchangeParts::new(pricing));
        Self { id, key, root, directory, issuer, refresh, exchange }
    }

    /// The same with these requests free of charge.
    #[must_use]
    pub fn with_free(self, free: Vec<RoutePattern>) -> Self {
        Self { exchange: self.exchange.with_free(free), ..self }
    }

    /// The same with this observer.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn Observer>) -> Self {
        Self { exchange: self.exchange.with_observer(observer), ..self }
    }

    /// The same with these limits.
    #[must_use]
    pub fn with_limits(self, limits: GatewayLimits) -> Self {
        Self { exchange: self.exchange.with_limits(limits), ..self }
    }

    /// The same with this time for a call.
    #[must_use]
    pub fn with_call_timeout(self, call_timeout: Duration) -> Self {
        Self { exchange: self.exchange.with_call_timeout(call_timeout), ..self }
    }

    /// The same with this issuer.
    #[must_use]
    pub fn with_issuer(self, issuer: IssuerClient) -> Self {
        Self { issuer, ..self }
    }

    /// The same with newer directories asked for so often.
    #[must_use]
    pub fn with_refresh(self, refresh: Duration) -> Self {
        Self { refresh, ..self }
    }
}

impl core::fmt::Debug for RemoteLayerParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RemoteLayerParts").field("id", &self.id).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
