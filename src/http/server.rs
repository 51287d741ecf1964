//! Serving a router: HTTP/1.1 and HTTP/2, with limits on what one connection may hold up, and an orderly end.

mod activity;
mod draining;
mod limits;
mod noted;
mod tls;

pub use tls::{Certificates, TlsError};

use core::pin::pin;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;

use super::kept::Kept;
use super::peers::{FromReplica, Peers, proved, sender_of};
use super::problem::ProblemDetails;
use crate::pipeline::Source;
use crate::protocol::Sender;
use crate::quota::Shares;
use crate::store::ReplicaKey;
use activity::{Activity, Times};
use draining::Draining;
pub use limits::{ServerLimits, TrustedProxies, TrustedProxiesError};
use noted::Noted;

/// How long a connection may take to send the headers of a request; of its first one, from its beginning, whatever it sends meanwhile.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that never had a request may take to end.
const ENDING: Duration = Duration::from_secs(5);
/// How long one that had may take: what was written may still be on its way to a slow reader.
const LINGERING: Duration = Duration::from_secs(300);
/// Largest buffer for the headers of an HTTP/1 request, bytes: room for one credential of 8 KiB and as much again.
const MAX_HEADERS: usize = 24 << 10;
/// How long a connection of another replica may have no request: longer than that one keeps it for the next, so that it never sends a
/// request into one that is closed at that moment.
const REPLICA_IDLE: Duration = Duration::from_secs(600);
/// How long requests in flight may take to finish at a shutdown.
const DRAIN: Duration = Duration::from_secs(10);

/// An address that is listened on and not served yet, so that others can be told of it first.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    limits: ServerLimits,
}

impl Listener {
    /// Listens on `address`; with port 0, on a free one.
    ///
    /// # Errors
    /// The system's, if the address cannot be listened on.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, limits: ServerLimits::default() })
    }

    /// The same with other limits.
    #[must_use]
    pub fn limited(self, limits: ServerLimits) -> Self {
        Self { limits, ..self }
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` in a task of its own.
    pub fn serve(self, router: Router) -> Server {
        self.serve_with(router, Door::Plain)
    }

    /// The same behind TLS.
    ///
    /// # Errors
    /// [`TlsError::Rustls`], if TLS cannot be set up.
    pub fn serve_tls(self, router: Router, certificates: &Certificates) -> Result<Server, TlsError> {
        let acceptor = TlsAcceptor::from(Arc::new(certificates.config()?));
        Ok(self.serve_with(router, Door::Tls(acceptor)))
    }

    /// Serves `router` to the other replicas of this gateway, and to nobody else: [`peers`](super::peers). The limits on one address do
    /// not count.
    pub fn serve_peers(mut self, router: Router, peers: &Peers) -> Server {
        self.limits.idle = self.limits.idle.max(REPLICA_IDLE);
        self.serve_with(router, Door::Replicas(peers.acceptor(), peers.clone()))
    }

    fn serve_with(self, router: Router, door: Door) -> Server {
        let (stop, stopped) = watch::channel(false);
        let scheme = if matches!(door, Door::Plain) { "http" } else { "https" };
        let task = tokio::spawn(accept(self.listener, self.limits, router, door, stopped));
        Server { address: self.address, scheme, stop, task: Some(task) }
    }
}

/// What a connection has to go through.
#[derive(Clone)]
enum Door {
    Plain,
    Tls(TlsAcceptor),
    /// Only other replicas are let in.
    Replicas(TlsAcceptor, Peers),
}

/// A running server. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Server {
    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` or `https://` and the address.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Takes no more connections, lets requests in flight finish (for 10 seconds at most), and stops.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn accept(
    listener: TcpListener,
    limits: ServerLimits,
    router: Router,
    door: Door,
    mut stopped: watch::Receiver<bool>,
) {
    let ServerLimits { connections, connections_per_address, trusted_proxies: proxies, idle } = limits;
    let times = Times { first: HEADER_TIMEOUT, between: idle };
    let connections = connections.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
    let (places, shares) = (Arc::new(Semaphore::new(connections)), Arc::new(Shares::new(connections_per_address)));
    let proxies = Arc::new(proxies);
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&listener, &places) => accepted,
            _ = stopped.changed() => break,
        };
        let Some((stream, peer, place)) = accepted else { continue };
        // A proxy's connections are of many callers, whom it limits by itself.
        let share = match proxies.contains(peer) || matches!(door, Door::Replicas(..)) {
            true => None,
            // Closed at once: who has too many keeps nobody else waiting.
            false => match shares.take(Sender::of_address(peer)) {
                Some(share) => Some(share),
                None => continue,
            },
        };
        let (router, door, stopped) = (router.clone(), door.clone(), stopped.clone());
        let from = Origin { peer: Some(peer), proxies: Arc::clone(&proxies), replica: None };
        tokio::spawn(async move {
            match door {
                Door::Plain => serve_one(stream, from, router, stopped, times).await,
                Door::Tls(tls) => {
                    // A slower client holds a place for nothing.
                    if let Ok(Ok(stream)) = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await {
                        serve_one(stream, from, router, stopped, times).await;
                    }
                }
                Door::Replicas(tls, peers) => {
                    let entered = tokio::time::timeout(HEADER_TIMEOUT, enter(stream, &tls, &peers)).await;
                    if let Ok(Some((stream, key))) = entered {
                        let from = Origin { replica: Some((peers, key)), ..from };
                        serve_one(stream, from, router, stopped, times).await;
                    }
                }
            }
            drop((place, share));
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, places.acquire_many(u32::try_from(connections).unwrap_or(u32::MAX))).await;
}

/// Lets another replica in: it proves its key, and the book has that key.
async fn enter(stream: TcpStream, tls: &TlsAcceptor, peers: &Peers) -> Option<(TlsStream<TcpStream>, ReplicaKey)> {
    let stream = tls.accept(stream).await.ok()?;
    let key = proved(stream.get_ref().1.peer_certificates())?;
    peers.admits(&key).await.then_some((stream, key))
}

/// Whose requests a connection carries.
#[derive(Clone, Default)]
struct Origin {
    peer: Option<IpAddr>,
    proxies: Arc<TrustedProxies>,
    /// The replica that passes requests on over it.
    replica: Option<(Peers, ReplicaKey)>,
}

impl Origin {
    fn sender(&self, headers: &HeaderMap) -> Sender {
        self.peer.map(|peer| self.proxies.sender(peer, headers)).unwrap_or_default()
    }
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    from: Origin,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    times: Times,
) {
    let (connection, activity) = (Source::new(), Arc::new(Activity::new()));
    let seen = Arc::clone(&activity);
    let stream = Noted { stream, activity: Arc::clone(&activity) };
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let mut router = router.clone();
        match &from.replica {
            None => {
                let sender = from.sender(request.headers());
                request.extensions_mut().insert(connection.clone().sent_by(sender));
            }
            Some((peers, key)) => {
                let sender = sender_of(request.headers_mut());
                // Its requests are of many callers, and what one of them sends is not held against the others.
                request.extensions_mut().insert(Source::new().sent_by(sender));
                request.extensions_mut().insert(FromReplica);
                // A key may have left the book since the connection was made.
                if peers.knows(key) {
                    peers.took();
                } else {
                    router = Router::new().fallback(|| async { no_replica().into_response() });
                }
            }
        }
        let held_back = request.headers().contains_key(http::header::EXPECT);
        let request = request.map(|body| Draining::new(body, held_back));
        let (answer, running) = (router.oneshot(request.map(axum::body::Body::new)), seen.begin());
        async move { answer.await.map(|answer| answer.map(|body| Kept { body, _kept: running })) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(times.between.max(HEADER_TIMEOUT))
        .max_buf_size(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_header_list_size(MAX_HEADERS as u32)
        .max_concurrent_streams(256);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // What goes wrong on one connection (a reset, garbage) is its peer's affair.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = told(&mut stopped) => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
        // A client that sends nothing, or not enough to be one of the two protocols, holds a place for nothing: no timer of theirs runs yet.
        () = activity.idle(times) => {
            serving.as_mut().graceful_shutdown();
            let patience = if activity.was_used() { LINGERING } else { ENDING };
            // A request may have come just then, and is served.
            while tokio::time::timeout(patience, serving.as_mut()).await.is_err() && activity.is_used() {}
        }
    }
}

fn no_replica() -> ProblemDetails {
    ProblemDetails::plain(StatusCode::FORBIDDEN, "the key of this connection is no replica's any more")
}

/// Waits until the server is to stop, or is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, peer.ip(), place))
        }
        Err(_) => {
            // Out of file descriptors, most likely: an immediate next try would fail as well. It passes, and so does this.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use bytes::Bytes;
    use core::pin::Pin;
    use core::task::{Context, Poll, ready};
    use hyper::body::Frame;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::{Sleep, sleep};

    use super::*;

    const TIMES: Times = Times { first: Duration::from_millis(400), between: Duration::from_millis(400) };
    /// Ten are three times as long as a connection may be idle.
    const PAUSE: Duration = Duration::from_millis(120);

    /// So many pieces, with pauses.
    struct Slow(u8, Pin<Box<Sleep>>);

    impl hyper::body::Body for Slow {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            ready!(self.1.as_mut().poll(context));
            if self.0 == 0 {
                return Poll::Ready(None);
            }
            self.0 -= 1;
            self.1 = Box::pin(sleep(PAUSE));
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece ")))))
        }
    }

    #[tokio::test]
    async fn an_answer_slower_than_the_idle_limit_arrives_whole() {
        let router = Router::new().route("/", get(|| async { Body::new(Slow(10, Box::pin(sleep(PAUSE)))) }));
        let (mut here, there) = tokio::io::duplex(1 << 16);
        let (_stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve_one(there, Origin::default(), router, stopped, TIMES));
        here.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        here.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.matches("piece ").count(), 10, "{answer}");
        assert!(answer.ends_with("0\r\n\r\n"));
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn connections_that_send_nothing_or_no_more_are_closed() {
        let router = || Router::new().route("/", get(|| async { "answer" }));
        for request in ["", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let (mut here, there) = tokio::io::duplex(1 << 16);
            let (_stop, stopped) = watch::channel(false);
            let serving = tokio::spawn(serve_one(there, Origin::default(), router(), stopped, TIMES));
            here.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let read = tokio::time::timeout(Duration::from_secs(20), here.read_to_string(&mut answer)).await;
            assert!(read.is_ok(), "{request:?}");
            assert_eq!(answer.contains("answer"), !request.is_empty());
            serving.await.unwrap();
        }
    }

    /// A connection from one of the addresses of loopback.
    async fn connect(from: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect(to).await
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "multi_thread")]
    async fn idle_sockets_of_one_address_hold_nobody_else_up() {
        let limits = ServerLimits { connections: 40, connections_per_address: 10, ..ServerLimits::default() };
        let listener = Listener::bind(([0, 0, 0, 0], 0).into()).await.unwrap().limited(limits);
        let server = listener.serve(Router::new().route("/", get(|| async { "answer" })));
        let to = SocketAddr::from(([127, 0, 0, 1], server.address().port()));
        let mut idle = Vec::new();
        for _ in 0..200 {
            idle.push(connect([127, 0, 0, 2], to).await.unwrap());
        }
        let begun = std::time::Instant::now();
        let mut other = connect([127, 0, 0, 3], to).await.unwrap();
        other.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        other.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("answer"), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        // The last of them was closed at once.
        let last = tokio::time::timeout(Duration::from_secs(5), idle.pop().unwrap().read(&mut [0; 1])).await;
        assert!(matches!(last, Ok(Ok(0) | Err(_))), "{last:?}");
    }
}
