//! Sessions: many calls against one charge (protocol, section 6).
//!
//! A session is opened by a spend without a call, called by requests that its key signs, and settled once: when it is closed, when
//! its time is over, when its spend is cancelled, or when the gateway shuts down. It is this process's, by the lease of its spend;
//! another that shares the set [passes on](super::pass) what follows, and says `wrong-owner` if this one is gone. What its calls have come to is written into the record each second, so that
//! a crash settles at that.

mod account;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::Request as HttpRequest;
use axum::response::{IntoResponse as _, Response};
use http::header;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::Exchange;
use super::bill::{Bill, Purse};
use super::call::Call;
use super::found::{Elsewhere, Errand, Found, Screening};
use super::ledger::Held;
use super::pass::elsewhere;
use super::problems::{busy, refused, untold, work_problem};
use super::received::Received;
use super::running::Entry;
use crate::gateway::{FetchError, ReplayWindow};
use crate::http::payment::Payload;
use crate::http::pricing::Metered;
use crate::http::problem::ProblemDetails;
use crate::http::requests::{Signed, read_credential};
use crate::http::wire::{SessionAnswer, settled_answer};
use crate::lifecycle::ParsedSpend;
use crate::pipeline::Source;
use crate::protocol::{
    Action, ContentDigest, Credits, Following, Opening, Problem, SessionPublicKey, Settlement, SpendKey,
};
use account::{Account, NotBegun};

/// How often what the calls came to is written down. It is what a crash can make a session cheaper by.
const EVERY: Duration = Duration::from_secs(1);
/// How long a caller that closes a session waits for its calls to end and for its settlement. After that it asks for it.
const CLOSING: Duration = Duration::from_secs(20);
/// How long calls may take to end once they are stopped.
const STOPPING: Duration = Duration::from_secs(5);

/// The sessions of this process.
pub(super) struct Sessions {
    table: Mutex<HashMap<SpendKey, Arc<Session>>>,
    places: Arc<Semaphore>,
    most: usize,
}

/// One session.
pub(super) struct Session {
    /// What it began with. Its calls are worked on by that, whatever the gateway goes by meanwhile.
    exchange: Arc<Exchange>,
    key: SpendKey,
    public: SessionPublicKey,
    spend: Held,
    /// Of the request that opened it: of an empty body.
    content: ContentDigest,
    until: Instant,
    account: Mutex<Account>,
    /// Something that its keeper has to see to.
    wake: Notify,
    outcome: watch::Sender<Option<Outcome>>,
}

/// What a session came to.
#[derive(Clone)]
struct Outcome {
    settlement: Settlement,
    receipt: Option<Vec<u8>>,
}

/// What is reserved for one call, until it ends.
pub(super) struct Part {
    session: Arc<Session>,
    number: u64,
    ended: bool,
}

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self { table: Mutex::default(), places: Arc::new(Semaphore::new(most)), most }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SpendKey, Arc<Session>>> {
        // Nothing that can panic runs under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &SpendKey) -> Option<Arc<Session>> {
        self.table().get(key).cloned()
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.table().len()
    }

    /// Closes all sessions, and waits until they are settled.
    pub(super) async fn drain(&self) {
        let all: Vec<_> = self.table().values().cloned().collect();
        all.iter().for_each(|session| session.close());
        // Each has a place until it is settled.
        let most = u32::try_from(self.most).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(most).await;
    }
}

impl Session {
    fn account(&self) -> MutexGuard<'_, Account> {
        // What is behind it is whole at any moment.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.account().close();
        self.wake.notify_one();
    }

    /// Changes the account, and has its keeper see to what follows from it.
    fn change<T>(&self, change: impl FnOnce(&mut Account) -> T) -> T {
        let mut account = self.account();
        let before = account.has_changed();
        let outcome = change(&mut account);
        // A keeper that has something to write knows so already.
        let wake = account.is_over() || (account.has_changed() && !before);
        drop(account);
        if wake {
            self.wake.notify_one();
        }
        outcome
    }

    fn answer(&self) -> Response {
        let seconds = self.until.saturating_duration_since(Instant::now()).as_secs();
        let answer = SessionAnswer { seconds, window: ReplayWindow::LENGTH };
        ([(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response()
    }

    /// Whether a request is of the holder of the session's key.
    fn is_signed(&self, following: &Following, signed: &Signed) -> Result<bool, ProblemDetails> {
        signed.with(|request| following.session == self.public && following.verify(request))
    }
}

impl Part {
    /// The call has come to so much by now.
    pub(super) fn note(&self, so_far: Credits) {
        self.session.change(|account| account.note(self.number, so_far));
    }

    /// The call is over. Gives what it cost.
    pub(super) fn end(&mut self, metered: &Metered) -> Credits {
        self.ended = true;
        self.session.change(|account| account.end(self.number, metered))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.ended {
            self.session.change(|account| account.abandon(self.number));
        }
    }
}

/// Opens a session with the spend in the request's body. Nothing is served yet.
pub(super) async fn open(exchange: Arc<Exchange>, request: HttpRequest) -> Result<Response, ProblemDetails> {
    let source = request.extensions().get::<Source>().cloned().unwrap_or_default();
    let received = exchange.receive(request, Opening::LENGTH).await?;
    if received.body.len() != Opening::LENGTH {
        return Err(ProblemDetails::new(Problem::Malformed, "the spend has the wrong length"));
    }
    exchange.apart(|exchange| begin(exchange, received, source)).await
}

async fn begin(exchange: Arc<Exchange>, received: Received, source: Source) -> Result<Response, ProblemDetails> {
    let place = Arc::clone(&exchange.sessions.places).try_acquire_owned().map_err(|_| busy())?;
    let (signed, bytes) = (received.signed_bare(), received.body.clone());
    let candidate = match exchange.ledger.screen(bytes, signed, Errand::Session).await? {
        Screening::Known(found) => return opened_again(&exchange, received, found).await,
        Screening::Fresh(candidate) => candidate,
    };
    let (public, tariff, content) = (candidate.public, candidate.tariff, candidate.content);
    // Before it can be admitted, so that no cancel finds a session that it cannot end.
    let entry = exchange.running.enter(candidate.key);
    let spend = match candidate.admit(&source).await? {
        Found::Admitted(held) => held,
        found => return opened_again(&exchange, received, found).await,
    };
    let rates = exchange.rates(&tariff, spend.charge());
    let longest = Duration::from_secs(exchange.directory().parts().limits.session_seconds.into());
    let session = Arc::new(Session {
        exchange: Arc::clone(&exchange),
        key: spend.key(),
        public,
        spend,
        content,
        until: Instant::now() + longest,
        account: Mutex::new(Account::new(rates)),
        wake: Notify::new(),
        outcome: watch::Sender::new(None),
    });
    let answer = session.answer();
    let kept = Kept { entry, session, _place: place };
    exchange.sessions.table().insert(kept.session.key, Arc::clone(&kept.session));
    tokio::spawn(kept.keep());
    Ok(answer)
}

/// Answers an opening whose spend is in the set already: its answer was lost, most likely.
async fn opened_again(exchange: &Exchange, received: Received, found: Found<Held>) -> Result<Response, ProblemDetails> {
    if !matches!(found, Found::InProgress) {
        return Err(found.refusal().await);
    }
    let parsed = ParsedSpend::parse(&received.body, exchange.directory());
    let parsed = parsed.map_err(|error| refused(&error.into()))?;
    if let Some(session) = exchange.sessions.find(&parsed.key()) {
        return Ok(session.answer());
    }
    match exchange.ledger.find(&parsed).await? {
        Elsewhere::Settled(settlement) => Err(Found::<Held>::Settled(settlement).refusal().await),
        found => elsewhere(exchange, found, received).await,
    }
}

/// What becomes of a further call of a session.
pub(super) enum Reserved {
    /// It is let in.
    Call(Call),
    /// The session is not in the table of this process.
    NotHere(Elsewhere),
}

/// Lets a further call of a session in: the most that it may cost is reserved.
pub(super) async fn reserve(
    exchange: &Exchange,
    following: Following,
    received: &Received,
    signed: Signed,
) -> Result<Reserved, ProblemDetails> {
    let Some(session) = exchange.sessions.find(&following.key()) else {
        return exchange.ledger.whereabouts(following, signed).await.map(Reserved::NotHere);
    };
    let meter = session.exchange.meter(received)?;
    check_signature(exchange, &session, following, signed).await?;
    let (number, most) = (following.authorisation.sequence, meter.most());
    let begun = session.change(|account| account.begin(number, most.as_ref()));
    let rates = begun.map_err(not_begun)?;
    let part = Part { session: Arc::clone(&session), number, ended: false };
    let bill = Bill::new(Purse::Part(part), rates, meter, session.content);
    let entry = exchange.running.enter(session.key);
    Ok(Reserved::Call(Call { exchange: Arc::clone(&session.exchange), bill, entry }))
}

/// Closes a session, and answers with its settlement.
pub(super) async fn close(exchange: Arc<Exchange>, request: HttpRequest) -> Result<Response, ProblemDetails> {
    let Payload::Following(following) = read_credential(request.headers())? else {
        return Err(ProblemDetails::new(Problem::Malformed, "this credential closes no session"));
    };
    let following = read_following(&following, Action::Close)?;
    let received = exchange.receive(request, 1_024).await?;
    let Some(session) = exchange.sessions.find(&following.key()) else {
        return match exchange.ledger.whereabouts(following, received.signed()).await? {
            Elsewhere::Settled(settled) => Ok(settled_answer(&settled, None)),
            other => elsewhere(&exchange, other, received).await,
        };
    };
    check_signature(&exchange, &session, following, received.signed()).await?;
    session.close();
    let mut outcome = session.outcome.subscribe();
    let waited = timeout(CLOSING, outcome.wait_for(Option::is_some)).await;
    match waited.ok().and_then(Result::ok).and_then(|outcome| outcome.clone()) {
        Some(Outcome { settlement, receipt }) => Ok(settled_answer(&settlement, receipt.as_deref())),
        None => {
            let problem = ProblemDetails::new(Problem::InProgress, "calls of the session go on: ask again");
            Err(exchange.running.timed(problem, &session.key))
        }
    }
}

async fn check_signature(
    exchange: &Exchange,
    session: &Arc<Session>,
    following: Following,
    signed: Signed,
) -> Result<(), ProblemDetails> {
    let valid = if signed.is_short() {
        session.is_signed(&following, &signed)?
    } else {
        let session = Arc::clone(session);
        let check = move || session.is_signed(&following, &signed);
        exchange.ledger.run(check).await.map_err(work_problem)??
    };
    if valid { Ok(()) } else { Err(untold(&FetchError::SessionSignature)) }
}

/// A session that is seen to. Whatever becomes of the task that sees to it, nothing is done for a session that nobody does.
struct Kept {
    session: Arc<Session>,
    entry: Entry,
    _place: OwnedSemaphorePermit,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.session.exchange.sessions.table().remove(&self.session.key);
    }
}

impl Kept {
    /// Sees to the session from its opening to its settlement.
    async fn keep(self) {
        self.last().await;
        let Self { session, .. } = &self;
        let exchange = &session.exchange;
        let (cost, units) = {
            let account = session.account();
            (account.so_far(), account.units())
        };
        // What cannot be settled is settled by upkeep after its lease, at what was written down.
        if let Ok(settlement) = session.spend.settle(cost).await {
            // What counts is what the set holds, which another may have settled.
            let cost = session.spend.charge().checked_sub(settlement.refund).unwrap_or(Credits::ZERO);
            let receipt = exchange.receipt(session.key, session.content, units, cost);
            session.outcome.send_replace(Some(Outcome { settlement, receipt }));
        }
    }

    /// Waits until the session is over, and writes down meanwhile what it comes to.
    async fn last(&self) {
        let Self { session, entry, .. } = self;
        let mut note_at = None;
        loop {
            let stopped = tokio::select! {
                biased;
                () = entry.stopped() => true,
                () = sleep_until(session.until) => true,
                () = sleep_until(note_at.unwrap_or(session.until)), if note_at.is_some() => {
                    note_at = None;
                    self.write_down();
                    false
                }
                () = session.wake.notified() => false,
            };
            let (over, changed) = {
                let account = session.account();
                (account.is_over(), account.has_changed())
            };
            if over {
                return;
            }
            if stopped {
                return self.stop_calls().await;
            }
            if changed && note_at.is_none() {
                note_at = Some(Instant::now() + EVERY);
            }
        }
    }

    /// Stops the calls, and waits until they have ended.
    async fn stop_calls(&self) {
        let Self { session, .. } = self;
        session.account().close();
        let _ = session.exchange.running.stop(&session.key);
        let ended = async {
            while !session.account().is_over() {
                session.wake.notified().await;
            }
        };
        let _ = timeout(STOPPING, ended).await;
    }

    /// Has what the calls have come to written into the record, by a thread that may take its time.
    fn write_down(&self) {
        let Some(so_far) = self.session.account().take_unwritten() else { return };
        // If it fails, or too many are waiting, there is the next one, and the settlement.
        let _ = self.session.spend.note(so_far, || {});
    }
}

pub(super) fn read_following(bytes: &[u8], action: Action) -> Result<Following, ProblemDetails> {
    let malformed = |detail: String| ProblemDetails::new(Problem::Malformed, detail);
    let following = Following::from_bytes(bytes).map_err(|error| malformed(error.to_string()))?;
    if following.authorisation.action == action {
        Ok(following)
    } else {
        Err(malformed("the credential asks for something else".to_owned()))
    }
}

fn not_begun(why: NotBegun) -> ProblemDetails {
    let problem = match why {
        NotBegun::Replayed(_) => Problem::AlreadySpent,
        NotBegun::Closing => Problem::InProgress,
        NotBegun::CapReached => Problem::CapReached,
    };
    ProblemDetails::new(problem, format!("{why}; nothing was done"))
}
