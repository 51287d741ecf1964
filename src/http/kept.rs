//! Bodies that something lasts as long as.

use core::pin::Pin;
use core::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};

/// A body as it is, and what is kept until it is over or given up: the place of a request among those that are worked on.
pub(super) struct Kept<B, T> {
    pub(super) body: B,
    pub(super) _kept: T,
}

impl<B: Body + Unpin, T: Unpin> Body for Kept<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
