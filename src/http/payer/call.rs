//! Paid requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::time::{Instant, timeout};

use super::charge::Wanted;
use super::client::{Answer, MAX_ANSWER, is_challenge, is_problem};
use super::events::Event;
use super::receipts::{settlement_in, signed_in};
use super::shared::{Held, Refreshed, Shared, Visit};
use super::stream::{Left, PaidBody, Settled, Streamed};
use super::{CallError, ClientError, Payer};
use crate::http::content_digest::{self, CONTENT_DIGEST};
use crate::http::hop::{HopBody, is_target};
use crate::http::payment::Payload;
use crate::http::problem::ProblemDetails;
use crate::http::wire::SETTLEMENT_PATH;
use crate::protocol::{ContentDigest, Credits, Problem, Request, RequestError, Settlement};
use crate::wallet::{
    AcceptError, Accepted, AuthoriseError, Budget, Choice, DisputeKind, Heard, Journal, LaneStatus, Policy,
    PursuitStep, ReceiptVerdict, SpendTerms, Wallet,
};

/// How long a call waits for a spend while nothing moves: no spend is taken, and none comes back.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a request is sent, and a settlement asked for, before the call is given up.
pub(super) const TRIES: u32 = 5;
/// The pause before the second try; each further one is twice as long.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// An answer, and what it cost.
#[derive(Clone, Debug)]
pub struct Paid {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Charge, cost and refund.
    pub accepted: Accepted,
    /// What the gateway's signed receipt says.
    pub receipt: ReceiptVerdict,
    /// How long it took.
    pub spent: Spent,
    /// Length of the `Authorization` header line, bytes.
    pub header_line: usize,
}

/// How long the parts of a call took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// To wait for a proof that was not ready.
    pub waiting: Duration,
    /// To take a ready spend, pin it, sign the request and print the credential.
    pub authorising: Duration,
    /// From then on to the accepted settlement.
    pub answering: Duration,
}

/// What is to be sent.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    content: ContentDigest,
    /// Whether the spend is the body, and not in a header.
    bare: bool,
    /// Whose spending it counts for.
    budget: Option<Arc<Budget>>,
}

impl Outgoing {
    pub(super) fn new(method: Method, target: &str, headers: HeaderMap, body: Bytes) -> Arc<Self> {
        Self::within(None, method, target, headers, body)
    }

    /// The same, on a budget.
    pub(super) fn within(
        budget: Option<Arc<Budget>>,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Arc<Self> {
        let content = ContentDigest::of(&body);
        Arc::new(Self { method, target: target.to_owned(), headers, body, content, bare: false, budget })
    }

    /// A spend to one of the gateway's own paths, of which it is the body.
    pub(super) fn opening(target: &str, budget: Option<Arc<Budget>>) -> Arc<Self> {
        let (headers, body, content) = (HeaderMap::new(), Bytes::new(), ContentDigest::of(b""));
        Arc::new(Self { method: Method::POST, target: target.to_owned(), headers, body, content, bare: true, budget })
    }

    /// Whether it opens a session, whose calls are not known yet.
    pub(super) fn is_session(&self) -> bool {
        self.bare
    }

    /// Before anything is spent: what cannot be sent byte for byte cannot be signed for.
    pub(super) fn check_target(&self) -> Result<(), CallError> {
        if is_target(&self.target) { Ok(()) } else { Err(CallError::Target) }
    }

    /// Its headers, and what everybody's requests have.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        // No `Connection: te` beside it: over HTTP/2 that would take it out again.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        // With a body or without: gateways that stand beside another proxy do not see the body.
        headers.insert(CONTENT_DIGEST, content_digest::write(&self.content));
        headers
    }

    pub(super) fn signed<'a>(&'a self, authority: &'a str) -> Result<Request<'a>, RequestError> {
        Request::new(authority, self.method.as_str(), &self.target, self.content)
    }
}

impl<J: Journal + 'static> Payer<J> {
    /// Sends a request to the gateway and pays for it.
    ///
    /// Answers of the service that are no success (a 404, say) are answers too; what they cost is in them. A request that gets
    /// no answer is sent again, with the same spend: it is charged once. Calls get their spends in the order in which they came.
    ///
    /// The future can be dropped at any time: then either nothing was sent, or the spend is pursued until it is settled, and its
    /// lane can be used again.
    ///
    /// A request whose spend had to be refused when it was pinned, by a directory that was published before and that this wallet did not
    /// have yet, is sent a second time with another spend ([`Wallet::had_to_be_refused`]). Nothing else brings that about, whatever a
    /// gateway answers and however long it waits: one that could have a call sent twice would see which two lanes are one caller's.
    ///
    /// The answer is read whole, up to 64 MiB: [`stream`](Self::stream) gives it as it comes.
    ///
    /// # Errors
    /// [`CallError`], which says who is at fault, what became of the credit, and what happens next.
    pub async fn call(&self, method: Method, target: &str, headers: HeaderMap, body: Bytes) -> Result<Paid, CallError> {
        let shared = &self.0.shared;
        let answering = async {
            let streamed = Arc::clone(shared).pay(Outgoing::new(method, target, headers, body)).await?;
            let Streamed { status, headers, body, mut spent, header_line, .. } = streamed;
            let began = Instant::now();
            let read = timeout(shared.answer_timeout, body.whole(MAX_ANSWER)).await;
            let (body, Settled { accepted, receipt }) =
                read.unwrap_or(Err(CallError::Unreachable(ClientError::Timeout)))?;
            spent.answering += began.elapsed();
            Ok(Paid { status, headers, body, accepted, receipt, spent, header_line })
        };
        shared.unless_stopped(answering).await
    }

    /// The same, with the answer given as it comes: its head as soon as it is there, its body chunk by chunk, no faster than it is
    /// taken.
    ///
    /// An answer of success whose settlement does not come with its head is settled when its body is over, by the trailer or by
    /// asking. Dropping the body before that hangs up: the work is stopped, and the spend pursued until it is settled. Answers
    /// of failure are read whole before this returns, up to 64 MiB.
    ///
    /// # Errors
    /// [`CallError`], as of [`call`](Self::call).
    pub async fn stream(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Streamed, CallError> {
        self.stream_within(None, method, target, headers, body).await
    }

    /// [`stream`](Self::stream) on a budget. What it does not allow is refused before anything is spent; what it allows is counted in the
    /// journal with the spend itself.
    ///
    /// # Errors
    /// [`CallError`], [`CallError::Budget`] among them.
    pub async fn stream_within(
        &self,
        budget: Option<Arc<Budget>>,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Streamed, CallError> {
        let outgoing = Outgoing::within(budget, method, target, headers, body);
        let shared = &self.0.shared;
        shared.unless_stopped(Arc::clone(shared).pay(outgoing)).await
    }
}

/// An answer, and how far its spend has come.
struct Driven<J: Journal + 'static> {
    status: StatusCode,
    headers: HeaderMap,
    rest: Rest<J>,
    spent: Spent,
    header_line: usize,
}

/// What is still to come of an answer.
enum Rest<J: Journal + 'static> {
    Nothing(Bytes, Settled),
    /// The service's answer, whose settlement is not known yet.
    Later(Bytes, CallError),
    Body(HopBody, Settled),
    BodyAndSettlement(HopBody, Box<Held<J>>),
}

/// What came of sending a request.
enum Arrived {
    /// An answer of success that has begun.
    Open(Response<HopBody>),
    /// Any other, whole.
    Whole(Answer),
}

impl<J: Journal + 'static> Shared<J> {
    async fn pay(self: Arc<Self>, outgoing: Arc<Outgoing>) -> Result<Streamed, CallError> {
        outgoing.check_target()?;
        outgoing.signed(&self.terms().authority)?;
        self.meet_for_call().await?;
        let visit = self.enter().await;
        let driving = |held, spent| self.drive(held, &outgoing, spent);
        let driven = self.with_spend(&outgoing, driving).await?;
        Ok(self.hand_over(driven, visit))
    }

    /// Does something with a spend. What had to be refused, as the wallet itself finds, is done a second time, with another one.
    pub(super) async fn with_spend<T, F: Future<Output = Result<T, CallError>>>(
        self: &Arc<Self>,
        outgoing: &Arc<Outgoing>,
        attempt: impl Fn(Held<J>, Spent) -> F,
    ) -> Result<T, CallError> {
        let mut spent = Spent::default();
        let wanted = self.wanted(outgoing).await?;
        for first in [true, false] {
            let held = self.hold(outgoing, &wanted, &mut spent).await?;
            let spend = held.spend;
            let cap = outgoing.budget.as_ref().and_then(|budget| budget.per_call);
            let explained = |error| self.explained(error, wanted.kind.as_deref(), cap);
            let details = match attempt(held, spent).await.map_err(explained) {
                Err(CallError::Refused(details)) => details,
                outcome => return outcome,
            };
            self.tell(&Event::CallRefused(details.kind()));
            match self.look_into(&details, spend).await {
                Again::Contradiction => return Err(CallError::Contradiction),
                Again::Yes if first => {}
                _ => return Err(CallError::Refused(details)),
            }
        }
        Err(CallError::Stopped)
    }

    fn hand_over(self: &Arc<Self>, driven: Driven<J>, visit: Visit<J>) -> Streamed {
        let Driven { status, headers, rest, spent, header_line } = driven;
        let unsettled = matches!(rest, Rest::Later(..));
        let (settled, body) = match rest {
            Rest::Later(whole, error) => (None, PaidBody::of_whole(whole, Err(error))),
            Rest::Nothing(whole, settled) => (Some(settled), PaidBody::of_whole(whole, Ok(settled))),
            Rest::Body(body, settled) => (Some(settled), self.passing(body, visit, Left::Nothing(settled))),
            Rest::BodyAndSettlement(body, held) => (None, self.passing(body, visit, Left::Settlement(held))),
        };
        Streamed { status, headers, settled, unsettled, body, spent, header_line }
    }

    /// Whether another spend may be shown for a request whose first one was refused: only if that one was no good when it was pinned.
    /// What the gateway says, how long it took, and what came out meanwhile are its own doing.
    async fn look_into(self: &Arc<Self>, details: &ProblemDetails, spend: Option<SpendTerms>) -> Again {
        let changed = [Problem::Expired, Problem::UnknownEpoch, Problem::ClassUnknown, Problem::WrongGateway];
        if details.kind().is_none_or(|kind| !changed.contains(&kind)) {
            return Again::No;
        }
        if self.refresh_directory().await == Refreshed::Contradiction {
            return Again::Contradiction;
        }
        let Some(spend) = spend else { return Again::No };
        let judging = self.keeper.ask(move |wallet| wallet.had_to_be_refused(&spend));
        if judging.await.unwrap_or(false) { Again::Yes } else { Again::No }
    }

    /// Waits for its turn, then for a ready spend, and signs the request with it.
    async fn hold(
        self: &Arc<Self>,
        outgoing: &Arc<Outgoing>,
        wanted: &Wanted,
        spent: &mut Spent,
    ) -> Result<Held<J>, CallError> {
        let began = Instant::now();
        // Nobody waits for a spend that the budget does not allow.
        if let Some(budget) = outgoing.budget.clone() {
            let (shared, wanted) = (Arc::clone(self), wanted.clone());
            let look = move |wallet: &mut Wallet<J>| {
                shared.policy_within(wallet, Some(&budget), &wanted, shared.clock.now()).map(|_| ())
            };
            self.keeper.ask(look).await??;
        }
        let _waiting = self.wait();
        let _turn = self.turn.lock().await;
        loop {
            let changed = self.changed.notified();
            let (shared, outgoing, wanted) = (Arc::clone(self), Arc::clone(outgoing), wanted.clone());
            let started = Instant::now();
            // Taken and pinned in one go: if nobody wants it any more by then, it is pursued.
            let held = self.keeper.ask(move |wallet| shared.take(wallet, &outgoing, wanted)).await??;
            if let Some(held) = held {
                *spent = Spent { waiting: started - began, authorising: started.elapsed(), ..*spent };
                self.served();
                self.progress();
                return Ok(held);
            }
            self.wanted.notify_one();
            self.pursue.notify_one();
            let give_up = began.max(self.state().progress) + PATIENCE;
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(give_up) => return Err(CallError::NotReady),
            }
        }
    }

    /// Takes a ready spend and pins it, on the wallet's thread. None if there may be one later.
    fn take(
        self: &Arc<Self>,
        wallet: &mut Wallet<J>,
        outgoing: &Outgoing,
        wanted: Wanted,
    ) -> Result<Option<Held<J>>, CallError> {
        if self.state().contradicted {
            return Err(CallError::Contradiction);
        }
        {
            let state = self.state();
            if state.disagrees && !state.unlisted {
                return Err(CallError::OtherDirectory);
            }
        }
        let terms = self.terms();
        let request = outgoing.signed(&terms.authority)?;
        let (now, budget) = (self.clock.now(), outgoing.budget.as_deref());
        // Other calls may have used it up meanwhile. From here to the pin nothing else is done with the wallet.
        let policy = self.policy_within(wallet, budget, &wanted, now)?;
        let class = match self.choose(wallet, &policy, &wanted, now) {
            Choice::Pay(class) => class,
            Choice::Gather(class) => return self.may_be_gathered(wallet, class).map(|()| None),
            Choice::Nothing => return self.may_come(wallet, self.least_class(wallet)).map(|()| None),
        };
        while let Some(ready) = wallet.take(&self.gateway, class, now, &mut rand::rng()) {
            match wallet.authorise_within(ready, &request, budget, now) {
                Ok(authorised) => {
                    let mut held = Held::new(self, authorised.key, Arc::clone(&terms));
                    held.spend = wallet.terms_of(&authorised.key);
                    held.kind = wanted.kind;
                    match outgoing.bare {
                        true => held.opening = authorised.opening,
                        false => held.credential = Some(terms.credential(Payload::Opening(authorised.opening))),
                    }
                    return Ok(Some(held));
                }
                Err(AuthoriseError::Journal(error)) => return Err(CallError::Journal(error)),
                Err(AuthoriseError::Budget(error)) => return Err(error.into()),
                // It was thrown away. There are others.
                Err(_) => {}
            }
        }
        self.may_come(wallet, class).map(|()| None)
    }

    /// No lane can pay, and together they can: it is seen to at once.
    fn may_be_gathered(&self, wallet: &Wallet<J>, class: Credits) -> Result<(), CallError> {
        let (now, policy) = (self.clock.now(), Policy { class, lanes: 1, ..self.policy() });
        let doubtful: Vec<_> = wallet
            .lanes()
            .filter(|(_, status)| match status {
                LaneStatus::Unchecked { value, epoch } => !value.is_zero() && wallet.is_spendable(*epoch, now),
                _ => false,
            })
            .map(|(lane, _)| wallet.held_until(lane, now))
            .collect();
        let unchecked = doubtful.contains(&None);
        let held = doubtful.iter().flatten().min();
        let unasked = self.state().unasked;
        match self.may_come(wallet, class) {
            Err(CallError::Spread) if wallet.suggest_transfer(&policy, now).is_some() => {
                self.gather.notify_one();
                Ok(())
            }
            // What is not asked about yet may be gathered then.
            Err(CallError::OutOfCredit | CallError::Spread) if unchecked && unasked => Err(CallError::Unchecked),
            Err(CallError::OutOfCredit | CallError::Spread) if unchecked => Ok(()),
            Err(error @ (CallError::OutOfCredit | CallError::Spread)) => {
                Err(held.map_or(error, |until| CallError::Quarantined(*until)))
            }
            outcome => outcome,
        }
    }

    /// The class that takes least.
    fn least_class(&self, wallet: &Wallet<J>) -> Credits {
        wallet.allowed_classes(&self.policy).first().copied().unwrap_or(self.policy.class)
    }

    /// Whether there may be a ready spend later; if not, why.
    fn may_come(&self, wallet: &Wallet<J>, class: Credits) -> Result<(), CallError> {
        let now = self.clock.now();
        let policy = Policy { class, ..self.policy() };
        let enough = |value: u64| value >= class.micro();
        let on_its_way = wallet.lanes().any(|(_, status)| match status {
            LaneStatus::InFlight { charge, rest, disputed: false, .. } => {
                enough(charge.micro().saturating_add(rest.micro()))
            }
            _ => false,
        });
        // In a restored wallet the notes of before are held, and those of its own payments are not.
        let doubtful: Vec<_> = wallet
            .lanes()
            .filter(|(_, status)| match status {
                LaneStatus::Unchecked { value, epoch } => enough(value.micro()) && wallet.is_spendable(*epoch, now),
                _ => false,
            })
            .map(|(lane, _)| wallet.held_until(lane, now))
            .collect();
        let unchecked = doubtful.contains(&None);
        let held = doubtful.into_iter().flatten().min();
        let able = !wallet.lanes_to_prove(&self.gateway, class, now).is_empty();
        let resting = wallet.resting_until(class, now);
        let (prover_failed, unlisted, unasked) = {
            let state = self.state();
            (state.prover_failed, state.unlisted, state.unasked)
        };
        match held {
            _ if unlisted => Err(CallError::Unlisted),
            _ if able && prover_failed => Err(CallError::Prover),
            _ if able || on_its_way => Ok(()),
            _ if resting.is_some() => Err(resting.map_or(CallError::OutOfCredit, CallError::Resting)),
            _ if unchecked && unasked => Err(CallError::Unchecked),
            _ if unchecked => Ok(()),
            Some(until) => Err(CallError::Quarantined(until)),
            _ if wallet.suggest_transfer(&policy, now).is_some() => Err(CallError::Spread),
            _ => Err(CallError::OutOfCredit),
        }
    }

    /// Sends the request until it is answered, and takes the settlement if it is there.
    async fn drive(
        self: &Arc<Self>,
        mut held: Held<J>,
        outgoing: &Arc<Outgoing>,
        mut spent: Spent,
    ) -> Result<Driven<J>, CallError> {
        let started = Instant::now();
        let header_line = held.credential.as_ref().map_or(0, |value| "authorization: \r\n".len() + value.len());
        let (arrived, tries) = self.send(&held, outgoing).await?;
        let (status, headers, rest) = match arrived {
            Arrived::Open(answer) => {
                let (head, body) = answer.into_parts();
                let rest = match settlement_in(&head.headers) {
                    Some(settlement) => {
                        let signed = signed_in(&head.headers);
                        held.whole = true;
                        Rest::Body(body, self.accept(held, settlement, signed).await?)
                    }
                    None => Rest::BodyAndSettlement(body, Box::new(held)),
                };
                (head.status, head.headers, rest)
            }
            Arrived::Whole(answer) => {
                let concluded = self.conclude(held, &answer, tries > 1).await?;
                let Answer { status, headers, body } = answer;
                match concluded {
                    Concluded::Settled(settled) => (status, headers, Rest::Nothing(body, settled)),
                    Concluded::Later(error) => (status, headers, Rest::Later(body, error)),
                }
            }
        };
        spent.answering = started.elapsed();
        Ok(Driven { status, headers, rest, spent, header_line })
    }

    /// Takes the settlement of an answer that is no success, wherever it is.
    async fn conclude(self: &Arc<Self>, held: Held<J>, answer: &Answer, again: bool) -> Result<Concluded, CallError> {
        let problem = answer.is_problem().then(|| answer.problem());
        let kind = problem.as_ref().and_then(ProblemDetails::kind);
        // Our own first try is being worked on, or was: its answer is lost, its settlement is not.
        let lost = kind == Some(Problem::InProgress) || (kind == Some(Problem::AlreadySpent) && again);
        let attached = match &problem {
            Some(details) => details.settlement().and_then(|bytes| Settlement::from_bytes(&bytes).ok()),
            None => settlement_in(&answer.headers),
        };
        let settlement = match (attached, &problem) {
            (Some(settlement), _) => settlement,
            (None, _) if lost => self.fetch(&held).await?,
            // One of the protocol's refusals: the spend was not admitted, or belongs to somebody else's session.
            (None, Some(details)) if kind.is_some() => return Err(CallError::Refused(Box::new(details.clone()))),
            // The service's own failure, for which the scheme has no receipt; or a refusal before admission.
            (None, problem) => match (self.fetch(&held).await, problem) {
                (Ok(settlement), _) => settlement,
                (Err(_), Some(details)) => return Err(CallError::Refused(Box::new(details.clone()))),
                // A refusal whose problem some proxy could not pass on: nginx makes a 401 of it.
                (Err(CallError::Refused(_)), None) if is_challenge(answer.status, &answer.headers) => {
                    return Err(CallError::Refused(Box::new(answer.problem())));
                }
                (Err(error), None) => return Ok(Concluded::Later(error)),
            },
        };
        let signed = match &problem {
            Some(details) => details.receipt(),
            None => signed_in(&answer.headers),
        };
        let settled = match self.accept(held, settlement, signed).await {
            Err(error) if problem.is_none() => return Ok(Concluded::Later(error)),
            settled => settled?,
        };
        match problem {
            _ if lost => Err(CallError::Lost(settled.accepted)),
            Some(details) if details.settlement.is_some() => {
                Err(CallError::Failed { details: Box::new(details), accepted: settled.accepted })
            }
            _ => Ok(Concluded::Settled(settled)),
        }
    }

    /// Sends the request until it is answered with something else than "later"; how often it was sent.
    async fn send(&self, held: &Held<J>, outgoing: &Outgoing) -> Result<(Arrived, u32), CallError> {
        let mut headers = outgoing.headers();
        if let Some(credential) = &held.credential {
            headers.insert(header::AUTHORIZATION, credential.clone());
        }
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            tries += 1;
            let last = tries == TRIES;
            let arriving = self.arrive(held, outgoing, headers.clone());
            match timeout(self.answer_timeout, arriving).await {
                Ok(Ok(arrived)) => match arrived.problem() {
                    Some(Problem::Busy | Problem::StoreUnavailable) if !last => {}
                    _ => return Ok((arrived, tries)),
                },
                Ok(Err(error)) if last => {
                    self.lost_sight(&error);
                    return Err(CallError::Unreachable(error));
                }
                Ok(Err(_)) => {}
                // As long again would be too long; the settlement is pursued without anybody waiting for it.
                Err(_) => return Err(CallError::Unreachable(ClientError::Timeout)),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn arrive(&self, held: &Held<J>, outgoing: &Outgoing, headers: HeaderMap) -> Result<Arrived, ClientError> {
        let (method, body) = (outgoing.method.clone(), outgoing.body.clone());
        let within = self.answer_timeout.saturating_add(held.terms.longest);
        let answer = held.client.begin(method, &held.terms.origin, &outgoing.target, headers, body, Some(within));
        let answer = answer.await?;
        if answer.status().is_success() && !is_problem(answer.headers()) {
            return Ok(Arrived::Open(answer));
        }
        Ok(Arrived::Whole(Answer::read(answer, MAX_ANSWER).await?))
    }

    /// Asks for a settlement until there is one.
    pub(super) async fn fetch(self: &Arc<Self>, held: &Held<J>) -> Result<Settlement, CallError> {
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            tries += 1;
            let (terms, key) = (Arc::clone(&held.terms), held.key());
            let asking = self.keeper.ask(move |wallet| {
                let following = wallet.fetch(&key, &terms.request(SETTLEMENT_PATH)?);
                let following = following.map_err(|_| CallError::Settlement(AcceptError::NotInFlight))?;
                Ok::<_, CallError>(terms.credential(Payload::Following(following)))
            });
            let credential = asking.await??;
            let error = match self.errand(held.client.settlement(&held.terms.origin, credential)).await {
                Ok(settlement) => return Ok(settlement),
                Err(error) => error,
            };
            let later = match &error {
                ClientError::Problem(problem) => {
                    let later = [Problem::InProgress, Problem::Busy, Problem::StoreUnavailable];
                    problem.kind().is_some_and(|kind| later.contains(&kind))
                }
                error => matches!(error, ClientError::Http(_)),
            };
            if !later || tries == TRIES {
                return Err(match error {
                    ClientError::Problem(problem) => CallError::Refused(problem),
                    error => CallError::Unreachable(error),
                });
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Checks the settlement and the receipt. That does not depend on somebody still waiting, once it can be checked.
    pub(super) async fn accept(
        self: &Arc<Self>,
        held: Held<J>,
        settlement: Settlement,
        receipt: Option<Vec<u8>>,
    ) -> Result<Settled, CallError> {
        // If it cannot be judged now, it is asked for again, as whatever has no settlement yet.
        if !self.learn(&held.terms.origin, [settlement.epoch]).await {
            return Err(CallError::Unknown);
        }
        let shared = Arc::clone(self);
        let accepting = self.keeper.run(move |wallet| {
            let key = held.key();
            match wallet.accept(&key, &settlement, shared.clock.now()) {
                Ok(accepted) => {
                    held.settled();
                    // What cannot be written down of the history is lost to it, and nothing else.
                    let verdict = wallet
                        .take_receipt(&key, &accepted, receipt.as_deref(), shared.clock.now())
                        .unwrap_or(ReceiptVerdict::Absent);
                    let dispute = match verdict {
                        ReceiptVerdict::Overcharged => Some(DisputeKind::Overcharged),
                        ReceiptVerdict::Contradicted => Some(DisputeKind::Contradicted),
                        _ => None,
                    };
                    dispute.iter().for_each(|kind| shared.tell(&Event::DisputeKept(*kind)));
                    shared.tell(&Event::CallPaid { accepted, receipt: verdict });
                    shared.learn_cost(held.kind.as_deref(), &accepted, held.whole);
                    shared.notes_came();
                    Ok(Settled { accepted, receipt: verdict })
                }
                Err(AcceptError::Journal(error)) => Err(CallError::Journal(error)),
                Err(error) => {
                    let heard = Heard::Settlement(settlement);
                    // Said again for the dispute's sake. If that cannot be written, the pursuit comes to the same.
                    let _ = wallet.heard(&key, PursuitStep::Fetch, &heard, shared.clock.now(), &mut rand::rng());
                    shared.tell(&Event::DisputeKept(DisputeKind::BadSettlement));
                    Err(CallError::Settlement(error))
                }
            }
        });
        accepting.await?
    }
}

/// What an answer that is no success comes to.
enum Concluded {
    Settled(Settled),
    /// It is the service's, and what it cost is asked for still.
    Later(CallError),
}

enum Again {
    Yes,
    No,
    Contradiction,
}

impl Arrived {
    /// The kind of problem, if it is one of the protocol's.
    fn problem(&self) -> Option<Problem> {
        match self {
            Self::Whole(answer) if answer.is_problem() => answer.problem().kind(),
            _ => None,
        }
    }
}
