//! An answer as it comes from the service, chunk by chunk.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::bill::Bill;
use super::outflow::{Part, room};
use super::running::Entry;
use crate::http::pricing::End;
use crate::http::upstream::UpstreamError;

/// How long it is waited for the end of an answer whose length is not known, before it is passed on as it comes.
const GATHERING: Duration = Duration::from_secs(1);

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

/// What has come of an answer before it is decided how it is passed on.
pub(super) enum Gathered {
    Whole(Bytes),
    Open(Vec<Bytes>),
    Over(End),
}

/// What comes next of an answer.
enum Step {
    Chunk(Bytes),
    Over(End),
}

impl Inflow {
    /// Until when the next chunk has to be here, or to be taken.
    fn patience(&self) -> Instant {
        self.deadline.min(Instant::now() + self.idle)
    }

    /// The next chunk. Nothing is lost if it is not waited for to the end.
    async fn next(&mut self, entry: &Entry, until: Instant) -> Step {
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

    /// Waits for the whole answer, unless it is a stream, or long. What costs more than can be paid for is withheld, for nothing of it
    /// was passed on.
    pub(super) async fn gather(&mut self, bill: &mut Bill, headers: &HeaderMap, entry: &Entry, max: usize) -> Gathered {
        let length = self.body.size_hint();
        if is_stream(headers) || length.lower() > max as u64 {
            return Gathered::Open(Vec::new());
        }
        let by = match length.exact() {
            Some(_) => self.deadline,
            None => self.deadline.min(Instant::now() + GATHERING),
        };
        let (mut here, mut size) = (Vec::new(), 0);
        loop {
            let until = self.patience();
            let step = tokio::select! {
                biased;
                step = self.next(entry, until) => step,
                () = sleep_until(by), if by < until => return Gathered::Open(here),
            };
            match step {
                Step::Chunk(chunk) => {
                    let passed = bill.meter.chunk(chunk);
                    if bill.meter.unpriced().is_some() {
                        return Gathered::Over(End::Failed);
                    }
                    if bill.is_withheld() {
                        return Gathered::Over(End::CapReached);
                    }
                    // Where the service says what it costs, this is to be had for what is left of a session's charge.
                    if bill.is_over() && !bill.is_reported() {
                        return Gathered::Open(here);
                    }
                    size += passed.len();
                    here.push(passed);
                    if size > max {
                        return Gathered::Open(here);
                    }
                }
                Step::Over(End::Complete) => {
                    bill.meter.trailers(&mut self.trailers);
                    if bill.is_withheld() {
                        return Gathered::Over(End::CapReached);
                    }
                    here.extend(bill.meter.last_words(End::Complete));
                    if bill.meter.unpriced().is_some() {
                        return Gathered::Over(End::Failed);
                    }
                    if bill.is_withheld() {
                        return Gathered::Over(End::CapReached);
                    }
                    return Gathered::Whole(here.concat().into());
                }
                Step::Over(end) => return Gathered::Over(end),
            }
        }
    }

    /// Passes an answer on, after what of it is here already, until it ends or is stopped.
    pub(super) async fn pass_on(
        &mut self,
        bill: &mut Bill,
        send: &mpsc::Sender<Part>,
        entry: &Entry,
        here: Vec<Bytes>,
    ) -> End {
        for chunk in here {
            match room(send, entry, self.patience()).await {
                Ok(room) => room.send(Part::Frame(Frame::data(chunk))),
                Err(end) => return end,
            }
        }
        if bill.is_over() {
            return End::CapReached;
        }
        loop {
            // First the room: what is not taken is not asked for.
            let room = match room(send, entry, self.patience()).await {
                Ok(room) => room,
                Err(end) => return end,
            };
            let until = self.patience();
            let step = loop {
                let note_at = bill.note_at();
                tokio::select! {
                    biased;
                    () = send.closed() => return End::Gone,
                    step = self.next(entry, until) => break step,
                    () = sleep_until(note_at.unwrap_or(until)), if note_at.is_some() => bill.note(),
                }
            };
            match step {
                Step::Chunk(chunk) => {
                    let passed = bill.meter.chunk(chunk);
                    if bill.meter.unpriced().is_some() {
                        return End::Failed;
                    }
                    if bill.is_over() {
                        return End::CapReached;
                    }
                    bill.note();
                    if !passed.is_empty() {
                        room.send(Part::Frame(Frame::data(passed)));
                    }
                }
                Step::Over(end) => return end,
            }
        }
    }
}

/// Whether the answer is to be passed on as it comes, however short.
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(kind.as_str(), "text/event-stream" | "application/x-ndjson" | "application/jsonl")
}
