//! Whether a request was sent on a connection that was kept, which the service may have closed meanwhile.

use core::cell::Cell;
use core::error::Error;
use core::task::{Context, Poll};
use std::io;

use tower::{Layer, Service};

tokio::task_local! {
    /// Whether a connection was made for the request that is being sent.
    static CONNECTED: Cell<bool>;
}

/// Sends a request; and says whether a connection was made for it.
pub(super) async fn noted<F: Future>(sending: F) -> (F::Output, bool) {
    CONNECTED
        .scope(Cell::new(false), async {
            let sent = sending.await;
            (sent, CONNECTED.with(Cell::get))
        })
        .await
}

/// Whether the connection was closed before anything of an answer came.
pub(super) fn is_closed(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let incomplete = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionAborted, io::ErrorKind::BrokenPipe];
        let reset = error.downcast_ref::<io::Error>().is_some_and(|error| kinds.contains(&error.kind()));
        if incomplete || reset {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Notes that a connection is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoteConnects;

#[derive(Clone, Debug)]
pub(super) struct Noting<S>(S);

impl<S> Layer<S> for NoteConnects {
    type Service = Noting<S>;

    fn layer(&self, connector: S) -> Noting<S> {
        Noting(connector)
    }
}

impl<S: Service<T>, T> Service<T> for Noting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, target: T) -> S::Future {
        // What is made in the background is made for no request.
        let _ = CONNECTED.try_with(|connected| connected.set(true));
        self.0.call(target)
    }
}
