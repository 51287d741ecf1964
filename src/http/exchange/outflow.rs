//! An answer on its way to the caller, chunk by chunk.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::running::Entry;
use crate::http::pricing::End;

/// What is handed to the caller's side.
pub(super) enum Part {
    Frame(Frame<Bytes>),
    /// The answer is over. What stops without it broke off.
    Done,
}

/// How long the caller's side has to send what it took before an answer breaks off: with the error, all that waits is thrown away, the
/// head included.
const FLUSHING: Duration = Duration::from_millis(50);

/// The body of an answer as the caller gets it. One chunk waits at a time: who is slow to take it slows the service down.
pub(super) struct Outflow {
    parts: mpsc::Receiver<Part>,
    /// When it breaks off.
    breaking: Option<Pin<Box<Sleep>>>,
    done: bool,
}

/// The answer broke off. Its settlement can be fetched.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(super) struct BrokenOff;

impl Outflow {
    pub(super) fn new() -> (mpsc::Sender<Part>, Self) {
        let (send, parts) = mpsc::channel(1);
        (send, Self { parts, breaking: None, done: false })
    }
}

impl hyper::body::Body for Outflow {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let part = match &self.breaking {
            None => ready!(self.parts.poll_recv(cx)),
            Some(_) => None,
        };
        Poll::Ready(match part {
            Some(Part::Frame(frame)) => Some(Ok(frame)),
            Some(Part::Done) => {
                self.done = true;
                None
            }
            None => {
                ready!(self.breaking.get_or_insert_with(|| Box::pin(sleep(FLUSHING))).as_mut().poll(cx));
                self.done = true;
                Some(Err(BrokenOff))
            }
        })
    }
}

/// Waits until the caller's side takes a part.
pub(super) async fn room<'a>(
    send: &'a mpsc::Sender<Part>,
    entry: &Entry,
    until: Instant,
) -> Result<mpsc::Permit<'a, Part>, End> {
    tokio::select! {
        biased;
        () = entry.stopped() => Err(End::Cancelled),
        // A reader that does not read any more is as good as gone.
        room = timeout_at(until, send.reserve()) => room.ok().and_then(Result::ok).ok_or(End::Gone),
    }
}

/// Hands over how an answer ends. What of it is not taken in time is not said, and the answer has broken off.
pub(super) async fn tail(send: mpsc::Sender<Part>, words: Bytes, trailers: Option<HeaderMap>, patience: Duration) {
    let words = Some(words).filter(|words| !words.is_empty()).map(Frame::data);
    let trailers = trailers.filter(|trailers| !trailers.is_empty()).map(Frame::trailers);
    for part in words.into_iter().chain(trailers).map(Part::Frame).chain([Part::Done]) {
        if send.send_timeout(part, patience).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use core::future::poll_fn;
    use std::task::Waker;

    use hyper::body::Body as _;

    use super::*;

    #[tokio::test]
    async fn what_was_taken_can_be_sent_before_the_answer_breaks_off() {
        let (send, mut outflow) = Outflow::new();
        send.send(Part::Frame(Frame::data(Bytes::from_static(b"paid")))).await.unwrap();
        drop(send);
        let mut next = async || poll_fn(|cx| Pin::new(&mut outflow).poll_frame(cx)).await;
        assert_eq!(next().await.unwrap().unwrap().into_data().unwrap(), "paid");
        let before = Instant::now();
        assert!(next().await.unwrap().is_err());
        assert!(before.elapsed() >= FLUSHING);
        assert!(next().await.is_none());

        // The server is told to go on with what it has: it is not given the error at once.
        let (_, mut outflow) = Outflow::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut outflow).poll_frame(&mut cx).is_pending());
    }
}
