//! Sessions: many calls with one spend.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout};

use super::call::{Outgoing, PAUSE, TRIES};
use super::client::{Answer, MAX_ANSWER, is_challenge, is_problem};
use super::receipts::receipt_in;
use super::shared::{Held, Shared};
use super::stream::Settled;
use super::{CallError, Client, ClientError, Payer};
use crate::http::hop::HopBody;
use crate::http::payment::Payload;
use crate::http::problem::ProblemDetails;
use crate::http::wire::{CLOSE_PATH, SESSION_PATH, SessionAnswer};
use crate::protocol::{Credits, Problem};
use crate::wallet::{Budget, Journal, SessionSigner};

/// A session that is open: calls with it cost no proof and no spend of their own, and are linkable to each other. A caller that wants them
/// unlinkable makes them by [`Payer::call`].
///
/// It is worth what is left of its charge. It ends when it is [closed](Self::close), or by the gateway when its time is over;
/// dropped without being closed, its spend is pursued, which ends it as well.
///
/// All of its calls go to one gateway over connections of its own, so that they reach the process that has it.
#[derive(Debug)]
pub struct PaidSession<J: Journal + 'static> {
    shared: Arc<Shared<J>>,
    held: Held<J>,
    signer: SessionSigner,
    client: Client,
    until: Instant,
    over: AtomicBool,
}

/// An answer within a session, whole.
#[derive(Clone, Debug)]
pub struct SessionPaid {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What it cost, by the gateway's word; what counts is the settlement of the session. None if it was not said, as it is not with
    /// answers that are no success.
    pub cost: Option<Credits>,
}

/// The body of an answer within a session, given as it comes.
pub struct SessionBody {
    body: HopBody,
    _visit: Box<dyn Send + Sync>,
}

impl core::fmt::Debug for SessionBody {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SessionBody").finish_non_exhaustive()
    }
}

impl Body for SessionBody {
    type Data = Bytes;
    type Error = ClientError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientError>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(ClientError::Http)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<J: Journal + 'static> Payer<J> {
    /// Opens a session, with a spend of the policy's class. It ends after the policy's `session_seconds`, and sooner if the issuer's
    /// directory says so.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::SessionOver`] if the policy allows none.
    pub async fn open_session(&self) -> Result<PaidSession<J>, CallError> {
        self.open_session_within(None).await
    }

    /// [`open_session`](Self::open_session) on a budget: until the session is closed its whole charge counts.
    ///
    /// # Errors
    /// As there; and [`CallError::Budget`].
    pub async fn open_session_within(&self, budget: Option<Arc<Budget>>) -> Result<PaidSession<J>, CallError> {
        let shared = &self.0.shared;
        shared.unless_stopped(Arc::clone(shared).open_session(budget)).await
    }
}

impl<J: Journal + 'static> Shared<J> {
    async fn open_session(self: Arc<Self>, budget: Option<Arc<Budget>>) -> Result<PaidSession<J>, CallError> {
        let longest = Duration::from_secs(self.policy.session_seconds.into());
        if longest.is_zero() {
            return Err(CallError::SessionOver);
        }
        let outgoing = Outgoing::opening(SESSION_PATH, budget);
        self.meet_for_call().await?;
        let _visit = self.enter().await;
        // It opens one session, however often it is sent.
        let opening = |held: Held<J>, _| {
            let shared = &self;
            async move {
                // For each spend another one: a second spend is not to be known by the connection or circuit of the first.
                let client = shared.client.of_session();
                let open = || client.open_session(&held.terms.origin, held.opening.clone());
                let answer = shared.persist(open).await?;
                Ok((held, client, answer))
            }
        };
        let (held, client, SessionAnswer { seconds, .. }) = self.with_spend(&outgoing, opening).await?;
        let key = held.key();
        let signer = self.keeper.ask(move |wallet| wallet.session(&key)).await?;
        let signer = signer.map_err(|_| CallError::SessionOver)?;
        let until = Instant::now() + longest.min(Duration::from_secs(seconds));
        Ok(PaidSession { shared: self, held, signer, client, until, over: AtomicBool::new(false) })
    }

    /// Asks the gateway something about a session until it answers with anything but "later".
    async fn persist<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, CallError> {
        let mut pause = PAUSE;
        for last in (0..TRIES).map(|tries| tries + 1 == TRIES) {
            match self.errand(ask()).await {
                Ok(answer) => return Ok(answer),
                Err(ClientError::Problem(details)) if last || !is_later(&details) => {
                    return Err(CallError::Refused(details));
                }
                Err(ClientError::Problem(_)) => {}
                Err(error) if last => {
                    self.lost_sight(&error);
                    return Err(CallError::Unreachable(error));
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(CallError::Stopped)
    }
}

/// Whether the same request may fare better later, or at another process.
fn is_later(details: &ProblemDetails) -> bool {
    let later = [Problem::Busy, Problem::StoreUnavailable, Problem::WrongOwner, Problem::InProgress];
    details.kind().is_some_and(|kind| later.contains(&kind))
}

impl<J: Journal + 'static> PaidSession<J> {
    /// For how long calls can still be made.
    pub fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Whether no call can be made any more: its time is over, or the gateway has ended it.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.remaining().is_zero()
    }

    /// Sends a request and reads its answer whole, up to 64 MiB. Several may be under way at a time.
    ///
    /// A call is made at most once. One whose answer is lost is [`CallError::LostInSession`]: it may have been served.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::SessionOver`] if there is no session any more, and nothing was done. [`CallError::Refused`] with
    /// `cap-reached` if what is left of the charge does not cover the call.
    pub async fn call(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<SessionPaid, CallError> {
        let (head, body) = self.stream(method, target, headers, body).await?.into_parts();
        let read = timeout(self.shared.answer_timeout, Limited::new(body, MAX_ANSWER).collect()).await;
        let body = read.map_err(|_| CallError::LostInSession)?.map_err(|_| CallError::LostInSession)?;
        let said = receipt_in(&head.headers).or_else(|| body.trailers().and_then(receipt_in));
        let cost = said.map(|receipt| Credits::from_micro(receipt.cost));
        Ok(SessionPaid { status: head.status, headers: head.headers, body: body.to_bytes(), cost })
    }

    /// The same, with the answer given as it comes. Its receipt is in the head or in the trailers. Dropping the body hangs up.
    ///
    /// # Errors
    /// As of [`call`](Self::call).
    pub async fn stream(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<SessionBody>, CallError> {
        let outgoing = Outgoing::new(method, target, headers, body);
        let visit = self.shared.enter().await;
        let answer = self.shared.unless_stopped(self.send(&outgoing)).await?;
        // A call lasts until its body is over.
        Ok(answer.map(|body| SessionBody { body, _visit: Box::new(visit) }))
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Response<HopBody>, CallError> {
        outgoing.check_target()?;
        let terms = &self.held.terms;
        let following = self.signer.call(&outgoing.signed(&terms.authority)?);
        let mut headers = outgoing.headers();
        headers.insert(header::AUTHORIZATION, terms.credential(Payload::Following(following)));
        let (mut pause, mut sent) = (PAUSE, false);
        for last in (0..TRIES).map(|tries| tries + 1 == TRIES) {
            if self.is_over() {
                return Err(if sent { CallError::LostInSession } else { CallError::SessionOver });
            }
            let (method, headers) = (outgoing.method.clone(), headers.clone());
            let within = self.shared.answer_timeout.saturating_add(terms.longest);
            let begun = self.client.begin(
                method,
                &terms.origin,
                &outgoing.target,
                headers,
                outgoing.body.clone(),
                Some(within),
            );
            match timeout(self.shared.answer_timeout, begun).await {
                Ok(Ok(answer)) if !is_problem(answer.headers()) && !is_challenge(answer.status(), answer.headers()) => {
                    return Ok(answer);
                }
                Ok(Ok(answer)) => {
                    let details = Answer::read(answer, MAX_ANSWER).await.map_err(|_| CallError::LostInSession)?;
                    let details = Box::new(details.problem());
                    match details.kind() {
                        // Nothing was done for it, so that it may be sent again as it is.
                        Some(Problem::Busy | Problem::StoreUnavailable | Problem::WrongOwner) if !last => {}
                        Some(problem @ (Problem::AlreadySpent | Problem::InProgress)) => {
                            let begun = problem == Problem::AlreadySpent && details.settlement.is_none();
                            // Begun without having been sent before: it was the session that ended meanwhile.
                            self.over.fetch_or(!begun || !sent, Ordering::Relaxed);
                            return Err(if begun || sent { CallError::LostInSession } else { CallError::SessionOver });
                        }
                        _ if details.withheld => return Err(CallError::Withheld(details)),
                        _ => return Err(CallError::Refused(details)),
                    }
                }
                // Whether it was served is not known; the gateway does, and serves it once.
                Ok(Err(_)) if !last => sent = true,
                Ok(Err(_)) | Err(_) => return Err(CallError::LostInSession),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(CallError::LostInSession)
    }

    /// Closes the session: what it did not cost comes back. Calls that are under way are waited for.
    ///
    /// # Errors
    /// [`CallError`]: its spend is pursued then.
    pub async fn close(self) -> Result<Settled, CallError> {
        let Self { shared, held, signer, client, .. } = self;
        let terms = Arc::clone(&held.terms);
        let request = terms.request(CLOSE_PATH)?;
        // Each try has a number of its own.
        let close = || {
            let closing = signer.close(&request);
            client.close_session(&terms.origin, terms.credential(Payload::Following(closing)))
        };
        let (settlement, receipt) = shared.persist(close).await?;
        shared.accept(held, settlement, receipt).await
    }
}
