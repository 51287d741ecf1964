//! The gateway as a reverse proxy: asks for payment, admits, serves, meters, settles.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /.well-known/halometer/directory` | the issuer's signed directory |
//! | `POST /.well-known/halometer/settlement` | the settlement of a spend, for the holder of its session key |
//! | `POST /.well-known/halometer/cancel` | the bytes of a [`Cancellation`](crate::protocol::Cancellation), to its settlement |
//! | `POST /.well-known/halometer/transfer` | the bytes of a [`Transfer`](crate::protocol::Transfer), to both settlements |
//! | `POST /.well-known/halometer/rollover` | the bytes of an [`Opening`](crate::protocol::Opening) that rolls over, to its settlement |
//! | `POST /.well-known/halometer/session` | the bytes of an [`Opening`](crate::protocol::Opening), to a [`SessionAnswer`](super::wire::SessionAnswer) |
//! | `POST /.well-known/halometer/close` | the settlement of a session, which ends with it, for the holder of its session key |
//! | `GET /.well-known/halometer/openapi.json` | the [description](super::openapi) of these routes |
//! | `GET /.well-known/halometer/spent/..` | which notes are spent: [`SPENT_PATH`](super::wire::SPENT_PATH) |
//! | `POST /.well-known/halometer/restore/..` | the last spend of a lane, for a wallet that is being restored |
//! | anything else | the service behind it, for a payment |
//!
//! The way of a paid request: its credential is read; its body is read whole, within limits, for its digest is signed; then, in a task
//! of its own that goes on when the caller hangs up, it is screened and its proof is verified and admitted by worker threads, it is sent
//! on, its answer is metered, and its spend is settled. So whatever the caller does, a spend that was admitted is settled.
//!
//! A short answer is kept until it is whole and settled, and has its receipt in a header. A stream, or what is long or takes long, is
//! passed on as it comes: it has its receipt in a trailer, if the client accepts trailers, and its settlement can be fetched. Hanging up on it
//! stops it. [`layer`](super::layer) does the same around any other service.

use std::io;

use axum::Router;
use http::HeaderName;
use tower::Layer as _;

use super::exchange::{AdoptError, Adoption, ExchangeParts, PaymentLayerParts, RemoteLayerParts};
use super::layer::{NeverPassed, PaymentLayer};
use super::pattern::RoutePattern;
use super::pricing::{Call, Meter, NotSold, Pricing};
use super::upstream::Upstream;

/// A gateway as an HTTP service: the [`PaymentLayer`] around a reverse proxy. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GatewayService {
    layer: PaymentLayer,
    upstream: Upstream,
}

impl GatewayService {
    /// Starts the worker threads, and upkeep where it is given, for which it has to be called within a runtime. Upkeep ends with the
    /// last clone of the service, routers included.
    ///
    /// # Errors
    /// Those of [`PaymentLayer::start`]; the time that a call may take is the upstream's, whatever `parts` say.
    pub fn start(mut parts: PaymentLayerParts, upstream: Upstream) -> io::Result<Self> {
        parts.exchange = reachable(parts.exchange, &upstream);
        Ok(Self { layer: PaymentLayer::start(parts)?, upstream })
    }

    /// The same without a set: see [`PaymentLayer::start_remote`]. The time that a call may take is the upstream's, whatever `parts`
    /// say.
    ///
    /// # Errors
    /// Those of [`PaymentLayer::start_remote`].
    pub fn start_remote(mut parts: RemoteLayerParts, upstream: Upstream) -> io::Result<Self> {
        parts.exchange = reachable(parts.exchange, &upstream);
        Ok(Self { layer: PaymentLayer::start_remote(parts)?, upstream })
    }

    /// The payment layer inside.
    pub fn layer(&self) -> &PaymentLayer {
        &self.layer
    }

    /// The routes.
    pub fn router(&self) -> Router {
        Router::new().fallback_service(self.layer.layer(self.upstream.clone()))
    }

    /// The same, with further headers that reach the service: [`PaymentLayer::passing`].
    ///
    /// # Errors
    /// [`NeverPassed`].
    pub fn passing(self, headers: impl IntoIterator<Item = HeaderName>) -> Result<Self, NeverPassed> {
        Ok(Self { layer: self.layer.passing(headers)?, ..self })
    }

    /// Goes on under a newer directory: [`PaymentLayer::adopt`].
    ///
    /// # Errors
    /// [`AdoptError`]; nothing has changed then.
    pub fn adopt(&self, next: Adoption) -> Result<(), AdoptError> {
        self.layer.adopt(Adoption { pricing: next.pricing.map(|pricing| self.reachable(pricing)), ..next })
    }

    /// Goes on with other prices: [`PaymentLayer::reprice`].
    pub fn reprice(&self, pricing: Box<dyn Pricing>, free: Vec<RoutePattern>) {
        self.layer.reprice(self.reachable(pricing), free);
    }

    fn reachable(&self, pricing: Box<dyn Pricing>) -> Box<dyn Pricing> {
        Box::new(Reachable { pricing, upstream: self.upstream.clone() })
    }

    /// Waits until no admitted call is worked on any more: [`PaymentLayer::drain`].
    pub async fn drain(&self) -> usize {
        self.layer.drain().await
    }
}

/// The same in front of `upstream`: what it has no path for is not sold, and a call has its time.
fn reachable(parts: ExchangeParts, upstream: &Upstream) -> ExchangeParts {
    let pricing = Box::new(Reachable { pricing: parts.pricing, upstream: upstream.clone() });
    ExchangeParts { pricing, call_timeout: upstream.timeout(), ..parts }
}

/// Sells what the upstream has a path for.
struct Reachable {
    pricing: Box<dyn Pricing>,
    upstream: Upstream,
}

impl Pricing for Reachable {
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        if self.upstream.accepts(call.target) { self.pricing.meter(call) } else { Err(NotSold::Path) }
    }
}
