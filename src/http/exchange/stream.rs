//! An answer on its way from the service to the caller, chunk by chunk.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};

use super::Exchange;
use super::metering::Bill;
use super::running::Entry;
use crate::http::pricing::End;
use crate::http::upstream::UpstreamError;

/// The body of an answer as the service gives it.
pub(super) struct Inflow {
    pub(super) body: Body,
    /// What came after it.
    pub(super) trailers: HeaderMap,
    /// Why it ended.
    pub(super) error: Option<UpstreamError>,
    /// When the call has to be over.
    pub(super) deadline: Instant,
    /// How long from one chunk to the next.
    pub(super) idle: Duration,
}

/// What comes next of an answer.
pub(super) enum Step {
    Chunk(Bytes),
    Over(End),
}

impl Inflow {
    /// Until when the next chunk has to be here, or to be taken.
    pub(super) fn patience(&self) -> Instant {
        self.deadline.min(Instant::now() + self.idle)
    }

    /// The next chunk. Nothing is lost if it is not waited for to the end.
    pub(super) async fn next(&mut self, entry: &Entry, until: Instant) -> Step {
        loop {
            let frame = tokio::select! {
                biased;
                () = entry.stopped() => return Step::Over(End::Cancelled),
                frame = timeout_at(until, self.body.frame()) => frame,
            };
            let failed = match frame {
                Ok(None) => return Step::Over(End::Complete),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) => return Step::Chunk(chunk),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.trailers = trailers;
                        }
                        continue;
                    }
                },
                Ok(Some(Err(error))) => UpstreamError::from_service(error.into()),
                Err(_) => UpstreamError::Timeout,
            };
            self.error = Some(failed);
            return Step::Over(End::Failed);
        }
    }
}

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
        // Who does not read any more is as good as gone.
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

impl Exchange {
    /// Passes an answer on, after what of it is here already, until it ends or is stopped.
    pub(super) async fn pass_on(
        &self,
        bill: &mut Bill,
        inflow: &mut Inflow,
        send: &mpsc::Sender<Part>,
        entry: &Entry,
        here: Vec<Bytes>,
    ) -> End {
        for chunk in here {
            match room(send, entry, inflow.patience()).await {
                Ok(room) => room.send(Part::Frame(Frame::data(chunk))),
                Err(end) => return end,
            }
        }
        if bill.is_over() {
            return End::CapReached;
        }
        loop {
            // First the room: what is not taken is not asked for.
            let room = match room(send, entry, inflow.patience()).await {
                Ok(room) => room,
                Err(end) => return end,
            };
            let until = inflow.patience();
            let step = loop {
                let note_at = bill.note_at();
                tokio::select! {
                    biased;
                    () = send.closed() => return End::Gone,
                    step = inflow.next(entry, until) => break step,
                    () = sleep_until(note_at.unwrap_or(until)), if note_at.is_some() => self.note(bill),
                }
            };
            match step {
                Step::Chunk(chunk) => {
                    let passed = bill.meter.chunk(chunk);
                    if bill.is_over() {
                        return End::CapReached;
                    }
                    self.note(bill);
                    if !passed.is_empty() {
                        room.send(Part::Frame(Frame::data(passed)));
                    }
                }
                Step::Over(end) => return end,
            }
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
