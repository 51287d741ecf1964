//! The whole exchange as a tower layer: challenge, admission, metering, settlement and receipts around any service.
#![doc = include_str!("../../docs/embed.md")]

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::{BoxError, Router};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use tower::{Layer, Service, ServiceExt as _};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, Any, CorsLayer};

use super::content_digest::CONTENT_DIGEST;
use super::payment::RECEIPT_HEADER;

use super::exchange::{
    AdoptError, Adoption, AlsoPassed, Engine, Exchange, Load, Next, PaymentLayerParts, RemoteLayerParts, is_own,
    may_pass,
};
use super::pattern::RoutePattern;
use super::peers::{FromReplica, Peers};
use super::pricing::Pricing;
use crate::gateway::Gateway;
use crate::issuer::Issuer;
use crate::protocol::{Directory, GatewayId};

/// Lets requests through to a service for a payment. Cheap to clone; what clones wrap is one gateway.
///
/// It answers the gateway's own paths below `/.well-known/halometer/` itself: [`gateway`](super::gateway) lists them.
#[derive(Clone, Debug)]
pub struct PaymentLayer {
    engine: Arc<Engine>,
    own: Router,
    passed: AlsoPassed,
}

/// A header that is never passed on: it pays, names a hop, belongs to a connection, or is made anew. The operator is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header `{0}` cannot be passed to the service; leave it out")]
pub struct NeverPassed(pub HeaderName);

impl PaymentLayer {
    /// Starts the worker threads, and upkeep where it is given, for which it has to be called within a runtime. Upkeep ends with the
    /// last clone of the layer, services included.
    ///
    /// # Errors
    /// The system's, if a thread cannot be started. [`io::ErrorKind::InvalidInput`] if a call may take so long that the lease of its
    /// spend can run out meanwhile: a retry would then settle it at nothing; or if the key is not the one that the directory names:
    /// nobody would believe its receipts.
    pub fn start(parts: PaymentLayerParts) -> io::Result<Self> {
        let engine = Arc::new(Engine::start(parts)?);
        Ok(Self { own: engine.own_routes(), engine, passed: AlsoPassed::default() })
    }

    /// The same for a gateway that shares no set with its issuer, which admits and settles, by
    /// [`clearing`](crate::clearing). To be called within a runtime. It fetches newer directories by itself and goes on under them, until
    /// the last clone of the layer is gone.
    ///
    /// Nothing is served before the issuer has admitted it, so that each call waits for it once before it is served, and once more
    /// before its answer is complete. What it does not answer is asked again. Where it cannot be reached calls are refused as
    /// `store-unavailable`; a call that was served meanwhile is settled when it is back, or after its lease at what was metered. It moves
    /// no credit between lanes (404), and passes on what it says of spent notes.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the directory is not signed by the pinned root key, does not name the gateway with this key,
    /// or if a call may take longer than a session; else the system's, if a thread cannot be started.
    pub fn start_remote(parts: RemoteLayerParts) -> io::Result<Self> {
        let engine = Engine::start_remote(parts)?;
        Ok(Self { own: engine.own_routes(), engine, passed: AlsoPassed::default() })
    }

    /// The same, with further headers of requests that reach the service. By themselves only those do that say how a body is written,
    /// which answer is wanted, and which revision of an interface is spoken: all others tell one caller from another.
    ///
    /// # Errors
    /// [`NeverPassed`], of the first that no setting passes on.
    pub fn passing(self, headers: impl IntoIterator<Item = HeaderName>) -> Result<Self, NeverPassed> {
        let headers: Vec<HeaderName> = headers.into_iter().collect();
        match headers.iter().find(|name| !may_pass(name)) {
            Some(name) => Err(NeverPassed(name.clone())),
            None => Ok(Self { passed: AlsoPassed(headers.into()), ..self }),
        }
    }

    /// Goes on under a newer directory, and with other prices if there are some. No call waits for it and none is lost: one that has
    /// begun ends by what it has begun with, settlement included; one that comes later finds all of the new and nothing of the old.
    /// What was paid for under an older tariff is accepted as long as the directory has that tariff and it holds, and
    /// [`Grid::GRACE`](crate::protocol::Grid::GRACE) seconds more. Upkeep, and the answers which notes are spent, follow.
    ///
    /// Where the issuer is a service of its own beside this, that goes on with the new issuer as well.
    ///
    /// # Errors
    /// [`AdoptError`]; nothing has changed then.
    pub fn adopt(&self, next: Adoption) -> Result<(), AdoptError> {
        self.engine.adopt(next)
    }

    /// Goes on under the same directory with other prices, and other requests that cost nothing. They count for spends under every
    /// tariff of the directory, so that each of those needs a price for all that they count. For a gateway whose issuer is elsewhere
    /// this is the only change that is not fetched.
    pub fn reprice(&self, pricing: Box<dyn Pricing>, free: Vec<RoutePattern>) {
        self.engine.reprice(pricing, free);
    }

    /// The gateway's own paths and nothing else, for a listener that another proxy routes them to.
    pub fn own_paths(&self) -> Router {
        self.own.clone()
    }

    pub(in crate::http) fn now(&self) -> Arc<Exchange> {
        self.engine.now()
    }

    /// The other replicas; none if this gateway is alone.
    pub fn peers(&self) -> Option<Peers> {
        self.engine.now().peers().cloned()
    }

    /// The gateway's id.
    pub fn id(&self) -> GatewayId {
        self.engine.now().id()
    }

    /// The directory that new calls are admitted under.
    pub fn directory(&self) -> Directory {
        self.engine.now().directory().clone()
    }

    /// The gateway that new calls are admitted by, and the issuer that they are settled by. None where that is elsewhere.
    pub fn parties(&self) -> Option<(Arc<Gateway>, Arc<Issuer>)> {
        self.engine.now().parties()
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        self.engine.now().load()
    }

    /// Waits until no admitted call is worked on any more. To be called after the server took its last request. For settlements by an
    /// remote issuer it waits 20 seconds at most, and says how many are not made: the issuer makes those after their lease, at what was
    /// metered last. 0 where the set is at hand.
    pub async fn drain(&self) -> usize {
        self.engine.drain().await
    }
}

/// Whether [`PaymentLayer::passing`] takes a header.
pub fn may_be_passed(name: &HeaderName) -> bool {
    may_pass(name)
}

/// Lets pages of any origin ask the gateway's own paths: nothing there is had by a cookie.
fn open() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, CONTENT_DIGEST])
        .expose_headers([RECEIPT_HEADER, header::WWW_AUTHENTICATE, header::RETRY_AFTER])
}

/// Lets pages of these origins (`https://shop.example`), or of any (`*`), call a paid service: they may send any header that a request
/// needs, and may read the challenge of a 402 and the receipt.
pub fn cors(origins: impl IntoIterator<Item = HeaderValue>) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins.into_iter().collect();
    let origins = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([RECEIPT_HEADER, header::WWW_AUTHENTICATE, header::RETRY_AFTER])
}

impl<S> Layer<S> for PaymentLayer {
    type Service = PaidService<S>;

    fn layer(&self, service: S) -> PaidService<S> {
        PaidService { layer: self.clone(), service }
    }
}

/// A service that is paid for. It is always ready: whether the service inside is, is asked call by call.
#[derive(Clone, Debug)]
pub struct PaidService<S> {
    layer: PaymentLayer,
    service: S,
}

impl<S, B, R> Service<Request<B>> for PaidService<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: hyper::body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.layer.passed.clone());
        if is_own(request.uri().path()) {
            // What pages may ask is for the replica to say that they asked.
            if request.extensions().get::<FromReplica>().is_some() {
                return Box::pin(self.layer.own.clone().oneshot(request));
            }
            return Box::pin(open().layer(self.layer.own.clone()).oneshot(request));
        }
        let (exchange, service) = (self.layer.engine.now(), self.service.clone());
        let next: Next = Box::new(move |request| {
            Box::pin(async move {
                let answer = service.oneshot(request).await.map_err(Into::into)?;
                Ok(answer.map(Body::new))
            })
        });
        Box::pin(async move { Ok(exchange.serve(request, next).await) })
    }
}
