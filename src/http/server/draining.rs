//! What a client still writes when it is already answered.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// How much is read of a body that nobody wants, bytes. A client that writes before it reads would otherwise find its connection reset, and
/// never the answer.
const MOST: usize = 16 << 20;
/// How long.
const LONGEST: Duration = Duration::from_secs(10);

/// The body of a request. What is left of it when it is dropped is read and thrown away, up to a limit.
pub(super) struct Draining {
    body: Option<Incoming>,
    over: bool,
    /// Whether its sender waits for a word before it sends it. Without one it sends nothing.
    held_back: bool,
}

impl Draining {
    pub(super) fn new(body: Incoming, held_back: bool) -> Self {
        Self { body: Some(body), over: false, held_back }
    }
}

impl Body for Draining {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.held_back = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        self.over = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !self.over && !self.held_back && !body.is_end_stream())
        else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(LONGEST, async move {
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > MOST {
                    return;
                }
            }
        }));
    }
}
