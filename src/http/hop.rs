//! One request to one server, byte for byte as it was given.
//!
//! No URL library stands between the caller's signature and the socket: a target is what follows the authority, and is sent as it is
//! or refused. No environment variable leads a request elsewhere, and no redirect is followed. Every connection goes the one
//! way that its sender was made with: straight, or through a proxy.

mod connect;
#[cfg(feature = "client")]
mod socks5;
mod target;
mod way;

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{Client, Error as LegacyError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

pub(crate) use connect::trusting_platform;
#[cfg(feature = "client")]
pub(crate) use connect::trusting_platform_unasked;
use connect::{Connector, Uses};
#[cfg(feature = "server")]
pub(crate) use connect::{read_authorities, trusting_only};
#[cfg(feature = "client")]
pub use socks5::{Socks5, Socks5Error};
pub(crate) use target::Base;
#[cfg(feature = "client")]
pub(crate) use target::is_target;
pub(crate) use way::Way;

/// Why a request has no answer, or not all of one.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct HopError(Kind);

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error("the address is not of the form http(s)://host[:port]/path")]
    Target,
    #[error("no connection: {}", crate::http::cause::chain(.0))]
    Connect(#[source] LegacyError),
    #[error("no answer within the time that was set")]
    Timeout,
    #[error("the connection broke: {}", crate::http::cause::chain(.0))]
    Broken(#[source] LegacyError),
    #[error("the answer broke off: {}", crate::http::cause::chain(.0))]
    BrokenOff(#[source] hyper::Error),
}

impl HopError {
    /// The target, or the address, is none that can be sent.
    pub(crate) fn target() -> Self {
        Self(Kind::Target)
    }

    /// Whether the request was certainly not sent.
    pub fn is_unsent(&self) -> bool {
        matches!(self.0, Kind::Connect(_) | Kind::Target)
    }

    /// Whether a SOCKS5 proxy gave no connection. Nothing was sent past it.
    #[cfg(feature = "client")]
    pub fn is_of_proxy(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&self.0);
        while let Some(error) = cause {
            // An I/O error shows what it was made of, and hides it among its sources.
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if inner.is_some_and(|inner| inner.is::<way::ProxyFailure>()) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Whether the time was up.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Kind::Timeout)
    }
}

/// Which connections serve a further request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    /// Idle ones do.
    Idle,
    /// Idle ones do, and a request that finds one closed is sent once more, over a new one. For a service, which closes
    /// connections when it likes; never for a request that is signed to be carried out once.
    IdleAgain,
    /// None does: each request has a connection of its own, that it shares with no other.
    #[cfg(feature = "client")]
    Nothing,
}

/// How requests are sent. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    kept: Client<Connector, Full<Bytes>>,
    /// Asks once more, over a new connection.
    fresh: Option<Client<Connector, Full<Bytes>>>,
    timeout: Duration,
}

impl Hop {
    /// By `way` and no other. Over TLS by `tls`, where an address is `https`; without one such addresses cannot be asked. `connect` is the time to get a
    /// connection, TLS included, and `timeout` that from the request to the last byte of its answer.
    pub(crate) fn new(
        way: Way,
        tls: Option<Arc<rustls::ClientConfig>>,
        keep: Keep,
        connect: Duration,
        timeout: Duration,
    ) -> Self {
        // Per process, and never in place of another that is chosen already: other clients in it may count on one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connector = Connector::new(way, tls, connect);
        let client = |idle| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_max_idle_per_host(idle)
                .build(connector.clone())
        };
        let kept = client(match keep {
            Keep::Idle | Keep::IdleAgain => 1_024,
            #[cfg(feature = "client")]
            Keep::Nothing => 0,
        });
        let fresh = matches!(keep, Keep::IdleAgain).then(|| client(0));
        Self { kept, fresh, timeout }
    }

    /// Sends a request, and comes back when its answer begins. `within` is the time for all of it, its body included.
    ///
    /// With [`Keep::IdleAgain`] a request that found a kept connection closed before anything was answered is sent once more.
    pub(crate) async fn send(
        &self,
        uri: http::Uri,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
        within: Option<Duration>,
    ) -> Result<Response<HopBody>, HopError> {
        let deadline = Instant::now() + within.unwrap_or(self.timeout).min(FOR_EVER);
        let request = || {
            let mut request = Request::new(Full::new(body.clone()));
            (*request.uri_mut(), *request.method_mut()) = (uri.clone(), method.clone());
            *request.headers_mut() = headers.clone();
            request
        };
        let mut first = request();
        let connection = capture_connection(&mut first);
        let answer = match (timeout_at(deadline, self.kept.request(first)).await, &self.fresh) {
            (Ok(Err(error)), Some(fresh)) if was_stale(&error, &connection) => {
                timeout_at(deadline, fresh.request(request())).await
            }
            (answer, _) => answer,
        };
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_connect() => return Err(HopError(Kind::Connect(error))),
            Ok(Err(error)) => return Err(HopError(Kind::Broken(error))),
            Err(_) => return Err(HopError(Kind::Timeout)),
        };
        if let Some(uses) = uses_of(&connection) {
            uses.count();
        }
        Ok(answer.map(|body| HopBody { body, deadline: Box::pin(sleep_until(deadline)) }))
    }
}

/// What is added to a point in time must not go beyond what can be told.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The uses of the connection that a request went over, if it came to one.
fn uses_of(connection: &CaptureConnection) -> Option<Uses> {
    let mut extensions = http::Extensions::new();
    connection.connection_metadata().as_ref()?.get_extras(&mut extensions);
    extensions.remove()
}

/// Whether a connection that had served before was closed on without a byte of an answer.
fn was_stale(error: &LegacyError, connection: &CaptureConnection) -> bool {
    if error.is_connect() || !uses_of(connection).is_some_and(|uses| uses.any()) {
        return false;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled() || error.is_closed())
        {
            return true;
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind as E;
            return matches!(error.kind(), E::ConnectionReset | E::BrokenPipe | E::ConnectionAborted | E::NotConnected);
        }
        source = cause.source();
    }
    false
}

/// The body of an answer. Dropping it before its end closes the connection.
#[derive(Debug)]
pub(crate) struct HopBody {
    body: Incoming,
    deadline: Pin<Box<Sleep>>,
}

impl hyper::body::Body for HopBody {
    type Data = Bytes;
    type Error = HopError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HopError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| HopError(Kind::BrokenOff(error)))));
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(HopError(Kind::Timeout))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
