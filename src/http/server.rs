//! Serving a router: HTTP/1.1 and HTTP/2, with limits on what one connection may hold up, and an orderly end.

mod tls;

pub use tls::{Certificates, TlsError};

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::pipeline::Source;

/// How long a connection may take to send the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest buffer for the headers of an HTTP/1 request, bytes: room for one credential of 8 KiB and as much again.
const MAX_HEADERS: usize = 24 << 10;
/// Connections at a time; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 4096;
/// How long requests in flight may take to finish at a shutdown.
const DRAIN: Duration = Duration::from_secs(10);

/// An address that is listened on and not served yet, so that others can be told of it first.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`; with port 0, on a free one.
    ///
    /// # Errors
    /// The system's, if the address cannot be listened on.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` in a task of its own.
    pub fn serve(self, router: Router) -> Server {
        self.serve_with(router, None)
    }

    /// The same behind TLS.
    ///
    /// # Errors
    /// [`TlsError::Rustls`], if TLS cannot be set up.
    pub fn serve_tls(self, router: Router, certificates: &Certificates) -> Result<Server, TlsError> {
        let acceptor = TlsAcceptor::from(Arc::new(certificates.config()?));
        Ok(self.serve_with(router, Some(acceptor)))
    }

    fn serve_with(self, router: Router, tls: Option<TlsAcceptor>) -> Server {
        let (stop, stopped) = watch::channel(false);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(accept(self.listener, router, tls, stopped));
        Server { address: self.address, scheme, stop, task: Some(task) }
    }
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

async fn accept(listener: TcpListener, router: Router, tls: Option<TlsAcceptor>, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&listener, &places) => accepted,
            _ = stopped.changed() => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let (router, tls, watcher) = (router.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            match tls {
                None => serve_one(stream, router, watcher).await,
                Some(tls) => {
                    // Who takes longer holds a place for nothing.
                    if let Ok(Ok(stream)) = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await {
                        serve_one(stream, router, watcher).await;
                    }
                }
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}

async fn serve_one(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, router: Router, watcher: Watcher) {
    let connection = Source::new();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_header_list_size(MAX_HEADERS as u32)
        .max_concurrent_streams(256);
    let serving = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    // What goes wrong on one connection (a reset, garbage) is its peer's affair.
    let _ = watcher.watch(serving).await;
}

async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(_) => {
            // Out of file descriptors, most likely: an immediate next try would fail as well.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
