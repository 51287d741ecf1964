//! Beside a proxy of another make: it asks about each request, and serves those that are paid for.
//!
//! ```text
//! caller --request, spend--> proxy --request without its body--> Beside: screen, verify, admit
//!                              |   <--yes, a handle or a receipt--
//!                              +--request without what pays--> service
//!                                                                 |
//!                            Beside: settle <--handle, cost-------+  (or the proxy says it)
//! ```
//!
//! A [`Beside`] stands on a [`PaymentLayer`] and is the same gateway: the same threads, limits, prices, quotas and records. It has two
//! routers. [`Beside::router`] is for the proxy and the service alone, each of whose requests shows the [`ProxySecret`]:
//!
//! | route | what |
//! | --- | --- |
//! | `/check/nginx` | nginx's `auth_request`: 200, or 401 or 403 with what it stands for in headers |
//! | `/check/forwarded` | Caddy's `forward_auth`, Traefik's ForwardAuth: 200, or the refusal as it is |
//! | `/check/forwarded/body` | the same, where the body comes along |
//! | `/envoy.service.auth.v3.Authorization/Check` | Envoy's `ext_authz` over gRPC, with the feature `envoy` |
//! | `POST /.well-known/halometer/report` | what a call came to: a [`CallReport`] |
//!
//! [`Beside::own_paths`] is for callers: the directory, settlements, cancels. The proxy sends `/.well-known/halometer/` there.
//!
//! A call with a fixed price is settled before it is let through, and its receipt goes with the answer where the proxy can put it there.
//! Any other is *held*: the service gets a handle in the header [`CALL_HEADER`], and the party that knows the cost reports it. What is not
//! reported in time is settled at what is set for that, and that is in the record before the call is let through, so that a crash changes
//! nothing about it. A held call cannot be cancelled, as nobody here can stop its work: its cancel waits for the report.
//!
//! `docs/beside.md` says what each proxy can do and cannot do, and has the steps.

mod decision;
#[cfg(feature = "envoy")]
mod ext_authz;
mod forward_auth;
mod held;
mod report;
mod secret;

pub use decision::CALL_HEADER;
pub use report::{CallReport, CallSettled, REPORT_PATH};
pub use secret::{ProxySecret, ProxySecretError, SECRET_HEADER};

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, post};
use http::StatusCode;

use super::exchange::HoldTerms;
use super::layer::PaymentLayer;
use super::pricing::Metered;
use super::problem::ProblemDetails;
use forward_auth::Dialect;
use held::Held;

/// What a [`Beside`] is made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BesideParts {
    /// The gateway. It may serve requests of its own as well.
    pub layer: PaymentLayer,
    /// What the proxy shows.
    pub secret: ProxySecret,
    /// How long a call is held for its report. Longer than the longest call, and shorter than the lease of a spend.
    pub hold: Duration,
    /// What a call comes to that is not reported in time. [`Metered::Charge`] is on the safe side: with anything less, a caller who
    /// hangs up at the right moment pays less, where the proxy does not report that.
    pub unreported: Metered,
    /// Whether calls with a fixed price are held too, so that one that fails costs nothing. Then all have to be reported, if only with
    /// their status.
    pub hold_all: bool,
}

impl BesideParts {
    /// What is not reported in time costs its charge, and calls with a fixed price are not held.
    pub fn new(layer: PaymentLayer, secret: ProxySecret, hold: Duration) -> Self {
        Self { layer, secret, hold, unreported: Metered::Charge, hold_all: false }
    }

    /// The same with this [`unreported`](Self::unreported).
    #[must_use]
    pub fn with_unreported(self, unreported: Metered) -> Self {
        Self { unreported, ..self }
    }

    /// The same with this [`hold_all`](Self::hold_all).
    #[must_use]
    pub fn with_hold_all(self, hold_all: bool) -> Self {
        Self { hold_all, ..self }
    }
}

/// The gateway as other proxies ask it. Cheap to clone.
#[derive(Clone)]
pub struct Beside(Arc<Door>);

/// What all requests share.
struct Door {
    layer: PaymentLayer,
    secret: ProxySecret,
    terms: HoldTerms,
    held: Arc<Held>,
}

impl core::fmt::Debug for Beside {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Beside").field("layer", &self.0.layer).finish_non_exhaustive()
    }
}

impl Beside {
    /// Nothing is started: the threads are the layer's.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if calls may be held until the lease of their spend has run out: others would settle them first.
    pub fn new(parts: BesideParts) -> io::Result<Self> {
        let BesideParts { layer, secret, hold, unreported, hold_all } = parts;
        if !layer.now().outlasts(hold) {
            let what = "the lease of a spend must outlast the time that a call is held";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let terms = HoldTerms { unreported, hold_all };
        Ok(Self(Arc::new(Door { layer, secret, terms, held: Arc::new(Held::new(hold)) })))
    }

    /// The routes for the proxy, on a listener that only it and the service reach.
    pub fn router(&self) -> Router {
        let checks = |dialect| any(move |State(shared), request| forward_auth::check(shared, dialect, request));
        let router = Router::new()
            .route("/check/nginx", checks(Dialect::Nginx))
            .route("/check/forwarded", checks(Dialect::Forwarded { body: false }))
            .route("/check/forwarded/body", checks(Dialect::Forwarded { body: true }))
            .route(REPORT_PATH, post(|State(shared), request: Request| report::report(shared, request.into_body())));
        #[cfg(feature = "envoy")]
        let router = {
            use envoy_types::pb::envoy::service::auth::v3::authorization_server::SERVICE_NAME;
            let service = ext_authz::ExtAuthz::server(Arc::clone(&self.0));
            router.route_service(&format!("/{SERVICE_NAME}/{{method}}"), service)
        };
        let router =
            router.fallback(|| async { ProblemDetails::plain(StatusCode::NOT_FOUND, "there is no such path") });
        router.layer(middleware::from_fn_with_state(Arc::clone(&self.0), admit)).with_state(Arc::clone(&self.0))
    }

    /// The routes for callers: the gateway's own paths, and nothing else. For a listener that the proxy sends these paths to.
    pub fn own_paths(&self) -> Router {
        self.0.layer.own_paths()
    }

    /// Waits for the reports of calls that are held, but no longer than `patience`; then they are settled as unreported. To be called
    /// after the servers took their last request; until all is settled, as [`PaymentLayer::drain`] does.
    pub async fn drain(&self, patience: Duration) -> usize {
        match tokio::time::timeout(patience, self.0.layer.drain()).await {
            Ok(left) => left,
            Err(_) => {
                self.0.held.hurry();
                self.0.layer.drain().await
            }
        }
    }
}

/// Lets requests in that show the secret.
async fn admit(State(shared): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    if shared.secret.take(&mut request) {
        return next.run(request).await;
    }
    ProblemDetails::plain(StatusCode::FORBIDDEN, "this is for the proxy, which has to show its secret").into_response()
}
