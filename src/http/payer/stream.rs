//! Answers that are passed on as they come.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::events::Event;
use super::receipts::{settlement_in, signed_in};
use super::shared::{Held, Shared, Visit};
use super::{CallError, ClientError, Spent};
use crate::http::hop::HopBody;
use crate::wallet::{Accepted, Journal, ReceiptVerdict};

/// What ends a stream of events. Clients stop reading there, before the answer's own end has come.
const DONE: &[u8] = b"[DONE]";
/// How long its own end is waited for then.
const LINGER: Duration = Duration::from_secs(5);

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Streamed {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: PaidBody,
    /// What it came to, if that is known already.
    pub settled: Option<Settled>,
    /// Whether the body is whole, and what it came to is asked for still, by itself: [`PaidBody::settled`] says why.
    pub unsettled: bool,
    /// How long it took up to here.
    pub spent: Spent,
    /// Length of the `Authorization` header line, bytes.
    pub header_line: usize,
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Charge, cost and refund.
    pub accepted: Accepted,
    /// What the gateway's signed receipt says.
    pub receipt: ReceiptVerdict,
}

/// The body of an answer, given as it comes: one chunk waits at a time, so that who takes slowly slows the gateway down.
///
/// Once it is over, [`settled`](Self::settled) says what it came to. Dropping it before it is over hangs up: the gateway is told
/// to stop by the end of the connection, and the spend is pursued until it is settled. Dropping it after that leaves nothing to
/// do: the settlement is taken all the same.
#[derive(Debug)]
pub struct PaidBody {
    chunks: mpsc::Receiver<Part>,
    over: bool,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Known(Result<Settled, Box<CallError>>),
    Awaited(oneshot::Receiver<Result<Settled, CallError>>),
}

#[derive(Debug)]
enum Part {
    Chunk(Bytes),
    /// The answer is whole. What ends without this broke off.
    Done,
}

impl PaidBody {
    pub(super) fn of_whole(body: Bytes, settled: Result<Settled, CallError>) -> Self {
        let (send, chunks) = mpsc::channel(2);
        // There is room for both.
        let _ = send.try_send(Part::Chunk(body));
        let _ = send.try_send(Part::Done);
        Self { chunks, over: false, outcome: Outcome::Known(settled.map_err(Box::new)) }
    }

    /// The next chunk; none when the answer is whole.
    ///
    /// # Errors
    /// [`ClientError::BrokenOff`]. What it cost is settled all the same.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, ClientError>> {
        core::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// What it came to. Waits for the settlement if the body is over; a body that is not is hung up on, unless its settlement came
    /// with its head.
    ///
    /// # Errors
    /// [`CallError`]: the spend is pursued.
    pub async fn settled(self) -> Result<Settled, CallError> {
        let Self { chunks, over, outcome } = self;
        drop(chunks);
        match outcome {
            Outcome::Known(settled) => settled.map_err(|error| *error),
            Outcome::Awaited(settling) => match settling.await {
                Ok(outcome) => outcome,
                Err(_) if over => Err(CallError::Stopped),
                Err(_) => Err(CallError::HungUp),
            },
        }
    }

    /// All of it, and what it came to.
    pub(super) async fn whole(mut self, max: usize) -> Result<(Bytes, Settled), CallError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await {
            match chunk {
                Ok(chunk) if whole.len() + chunk.len() > max => {
                    return Err(CallError::Unreachable(ClientError::TooLong));
                }
                Ok(chunk) => whole.extend_from_slice(&chunk),
                Err(_) => return Err(CallError::Lost(self.settled().await?.accepted)),
            }
        }
        Ok((whole.freeze(), self.settled().await?))
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClientError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let part = ready!(self.chunks.poll_recv(cx));
        Poll::Ready(match part {
            Some(Part::Chunk(chunk)) => Some(Ok(chunk)),
            Some(Part::Done) => {
                self.over = true;
                None
            }
            None => {
                self.over = true;
                Some(Err(ClientError::BrokenOff))
            }
        })
    }
}

impl Body for PaidBody {
    type Data = Bytes;
    type Error = ClientError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientError>>> {
        self.poll_chunk(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// What is left to settle of an answer.
pub(super) enum Left<J: Journal + 'static> {
    Nothing(Settled),
    Settlement(Box<Held<J>>),
}

/// An answer that is being passed on. Whenever this is dropped, the connection ends, and then the spend is let go of.
struct Inflow<J: Journal + 'static> {
    body: HopBody,
    held: Option<Box<Held<J>>>,
    shared: Arc<Shared<J>>,
    _visit: Visit<J>,
}

/// How the body of an answer ended.
enum End {
    /// It is over, with these trailers.
    Whole(HeaderMap),
    /// It broke off, or was not taken in time.
    Broken,
    /// Nobody wants it any more.
    HungUp,
}

impl<J: Journal + 'static> Shared<J> {
    /// Passes the body of an answer on, in a task of its own, and then settles what is `left`.
    pub(super) fn passing(self: &Arc<Self>, body: HopBody, visit: Visit<J>, left: Left<J>) -> PaidBody {
        let (send, chunks) = mpsc::channel(1);
        let (tell, told) = oneshot::channel();
        let (held, outcome) = match left {
            Left::Nothing(settled) => (None, Outcome::Known(Ok(settled))),
            Left::Settlement(held) => (Some(held), Outcome::Awaited(told)),
        };
        let mut stop = self.stop.subscribe();
        let inflow = Inflow { body, held, shared: Arc::clone(self), _visit: visit };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => {}
                () = inflow.run(send, tell) => {}
            }
        });
        PaidBody { chunks, over: false, outcome }
    }
}

impl<J: Journal + 'static> Inflow<J> {
    async fn run(mut self, send: mpsc::Sender<Part>, tell: oneshot::Sender<Result<Settled, CallError>>) {
        let end = self.pass(send).await;
        let Self { body, held, shared, _visit } = self;
        // A gateway that is hung up on stops. Before anything is asked of it.
        drop(body);
        let Some(held) = held else { return };
        let trailers = match end {
            End::Whole(trailers) => trailers,
            End::Broken => HeaderMap::new(),
            // It will be a while until it is settled; that is the pursuit's affair.
            End::HungUp => return,
        };
        let settled = match settlement_in(&trailers) {
            Some(settlement) => shared.accept(*held, settlement, signed_in(&trailers)).await,
            None => match shared.fetch(&held).await {
                Ok(settlement) => shared.accept(*held, settlement, None).await,
                Err(error) => Err(error),
            },
        };
        if let Err(CallError::Refused(details)) = &settled {
            shared.tell(&Event::CallRefused(details.kind()));
        }
        // A caller that does not care what it came to has dropped the other end.
        let _ = tell.send(settled);
    }

    /// Passes the body on. Of a stream that said that it is over the end is waited for, even if nobody else does any more: it brings the
    /// settlement.
    async fn pass(&mut self, send: mpsc::Sender<Part>) -> End {
        let mut said_done = false;
        match self.pass_chunks(send, &mut said_done).await {
            End::HungUp if said_done => timeout(LINGER, self.rest()).await.unwrap_or(End::HungUp),
            end => end,
        }
    }

    /// Reads what is left of the body, and throws it away.
    async fn rest(&mut self) -> End {
        let mut trailers = HeaderMap::new();
        loop {
            match self.body.frame().await {
                None => return End::Whole(trailers),
                Some(Ok(frame)) => trailers = frame.into_trailers().unwrap_or(trailers),
                Some(Err(_)) => return End::Broken,
            }
        }
    }

    async fn pass_chunks(&mut self, send: mpsc::Sender<Part>, said_done: &mut bool) -> End {
        let mut trailers = HeaderMap::new();
        let idle = self.shared.answer_timeout;
        loop {
            // First the room: what is not taken is not asked for.
            let room = match timeout(idle, send.reserve()).await {
                Ok(Ok(room)) => room,
                Ok(Err(_)) => return End::HungUp,
                Err(_) => return End::Broken,
            };
            let frame = tokio::select! {
                biased;
                () = send.closed() => return End::HungUp,
                frame = timeout(idle, self.body.frame()) => frame,
            };
            match frame {
                Ok(None) => {
                    room.send(Part::Done);
                    return End::Whole(trailers);
                }
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) if chunk.is_empty() => {}
                    Ok(chunk) => {
                        *said_done = chunk.trim_ascii_end().ends_with(DONE);
                        room.send(Part::Chunk(chunk));
                    }
                    Err(frame) => trailers = frame.into_trailers().unwrap_or(trailers),
                },
                Ok(Some(Err(_))) | Err(_) => return End::Broken,
            }
        }
    }
}
