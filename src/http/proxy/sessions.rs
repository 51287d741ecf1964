//! Sessions that clients ask for by name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::SESSION_HEADER;
use super::refusal::Refusal;
use crate::http::payer::{CallError, PaidSession, Payer, SessionBody};
use crate::protocol::Problem;
use crate::wallet::{Budget, Journal};

/// Sessions at a time. Each takes a lane of the wallet, so that there are hardly more.
const MOST: u32 = 64;
/// In how many sessions a request is tried. Each was opened for somebody who was faster, but for the last two.
const TRIES: u32 = 8;
/// The longest name of a session, bytes.
const LONGEST_NAME: usize = 64;
/// What has to be left of a session's time for a call to be begun with it.
const ENOUGH: Duration = Duration::from_secs(5);

/// The sessions that clients have asked for.
pub(super) struct Sessions<J: Journal + 'static> {
    payer: Payer<J>,
    idle: Duration,
    table: Mutex<HashMap<String, Arc<Slot<J>>>>,
    /// One for each session, from before it is opened until it is closed.
    places: Arc<Semaphore>,
}

/// The place of a name's session.
struct Slot<J: Journal + 'static> {
    /// Held while a session is opened, so that a name has one.
    session: tokio::sync::Mutex<Option<Using<J>>>,
    used: Mutex<Instant>,
}

/// A session, as long as anybody uses it. The last user closes it.
pub(super) struct Using<J: Journal + 'static>(Option<Arc<Open<J>>>);

struct Open<J: Journal + 'static> {
    session: PaidSession<J>,
    place: OwnedSemaphorePermit,
}

impl<J: Journal + 'static> Clone for Using<J> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<J: Journal + 'static> Drop for Using<J> {
    fn drop(&mut self) {
        let Some(Open { session, place }) = self.0.take().and_then(Arc::into_inner) else { return };
        // Without a runtime nothing can be closed; the spend is pursued when the wallet is used again.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // If it fails, its spend is pursued.
                let _ = session.close().await;
                drop(place);
            });
        }
    }
}

impl<J: Journal + 'static> Using<J> {
    fn session(&self) -> Option<&PaidSession<J>> {
        self.0.as_deref().map(|open| &open.session)
    }

    fn is_same(&self, other: &Self) -> bool {
        matches!((&self.0, &other.0), (Some(one), Some(other)) if Arc::ptr_eq(one, other))
    }
}

/// The session that a request asks for.
pub(super) fn name(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(SESSION_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let name = value.to_str().ok().filter(|name| (1..=LONGEST_NAME).contains(&name.len()) && values.next().is_none());
    match name {
        Some(name) => Ok(Some(name.to_owned())),
        None => Err(Refusal::request(
            StatusCode::BAD_REQUEST,
            "session_name",
            "a session's name is one value of at most 64 visible characters",
            "send another Halometer-Session, or none",
        )),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole at any moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<J: Journal + 'static> Sessions<J> {
    pub(super) fn new(payer: Payer<J>, idle: Duration) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(MOST as usize));
        Arc::new(Self { payer, idle, table: Mutex::default(), places })
    }

    /// Sends a request in the session of that name, which is opened if there is none; or in a new one, where what is left of this one
    /// does not cover the request.
    pub(super) async fn stream(
        self: &Arc<Self>,
        budget: Option<Arc<Budget>>,
        name: String,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(Response<SessionBody>, Using<J>), Refusal> {
        // No key has a part in another's session. No name has a line end in it.
        let name = budget.as_ref().map_or_else(|| name.clone(), |budget| format!("{}\n{name}", budget.name));
        let slot = self.slot(&name);
        let mut opened = 0;
        for _ in 0..TRIES {
            let (using, new) = self.open(&name, &slot, budget.clone()).await?;
            opened += u32::from(new);
            *lock(&slot.used) = Instant::now();
            let Some(session) = using.session() else { break };
            let (method, headers, body) = (method.clone(), headers.clone(), body.clone());
            match session.stream(method, target, headers, body).await {
                Ok(answer) => return Ok((answer, using)),
                // What has a session for itself, and is refused for all that, is too dear for any. It may have lost the first one that was
                // opened for it to somebody else.
                Err(error) if opened == 2 || !wants_another(&error) => return Err(error.into()),
                Err(_) => self.leave(&slot, &using).await,
            }
        }
        Err(CallError::SessionOver.into())
    }

    fn slot(&self, name: &str) -> Arc<Slot<J>> {
        let mut table = lock(&self.table);
        let slot = || Arc::new(Slot { session: tokio::sync::Mutex::new(None), used: Mutex::new(Instant::now()) });
        Arc::clone(table.entry(name.to_owned()).or_insert_with(slot))
    }

    /// The session of a slot, and whether it was opened for this.
    async fn open(
        self: &Arc<Self>,
        name: &str,
        slot: &Arc<Slot<J>>,
        budget: Option<Arc<Budget>>,
    ) -> Result<(Using<J>, bool), Refusal> {
        let mut session = slot.session.lock().await;
        if let Some(using) = &*session
            && using.session().is_some_and(|session| !session.is_over() && session.remaining() > ENOUGH)
        {
            return Ok((using.clone(), false));
        }
        *session = None;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refusal::busy())?;
        let opened = self.payer.open_session_within(budget).await;
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                drop(session);
                self.forget(name, slot);
                return Err(error.into());
            }
        };
        let ends = opened.remaining();
        let using = Using(Some(Arc::new(Open { session: opened, place })));
        *session = Some(using.clone());
        drop(session);
        let watched = using.0.as_ref().map(Arc::downgrade).unwrap_or_default();
        tokio::spawn(watch(Arc::clone(self), name.to_owned(), Arc::clone(slot), watched, Instant::now() + ends));
        Ok((using, true))
    }

    /// Gives a session up, unless that was done already.
    async fn leave(&self, slot: &Slot<J>, left: &Using<J>) {
        let mut session = slot.session.lock().await;
        if session.as_ref().is_some_and(|session| session.is_same(left)) {
            *session = None;
        }
    }

    /// Forgets a name, unless it was given anew.
    fn forget(&self, name: &str, slot: &Arc<Slot<J>>) {
        let mut table = lock(&self.table);
        if table.get(name).is_some_and(|known| Arc::ptr_eq(known, slot)) {
            table.remove(name);
        }
    }

    /// Closes all sessions, and waits until they are.
    pub(super) async fn close_all(&self) {
        let slots: Vec<_> = lock(&self.table).drain().map(|(_, slot)| slot).collect();
        for slot in slots {
            *slot.session.lock().await = None;
        }
        let _ = self.places.acquire_many(MOST).await;
    }
}

/// Whether another session may fare better.
fn wants_another(error: &CallError) -> bool {
    match error {
        CallError::SessionOver => true,
        CallError::Refused(details) => details.kind() == Some(Problem::CapReached),
        _ => false,
    }
}

/// Closes a session when its name was not used for a while, or its time is over.
async fn watch<J: Journal + 'static>(
    sessions: Arc<Sessions<J>>,
    name: String,
    slot: Arc<Slot<J>>,
    watched: Weak<Open<J>>,
    ends: Instant,
) {
    loop {
        let idle_at = *lock(&slot.used) + sessions.idle;
        tokio::time::sleep_until(idle_at.min(ends)).await;
        if ends <= Instant::now() || *lock(&slot.used) + sessions.idle <= Instant::now() {
            break;
        }
    }
    let mut session = slot.session.lock().await;
    let open = session.as_ref().and_then(|using| using.0.as_ref());
    // There may be another by now, which is seen to by another.
    if open.is_some_and(|open| core::ptr::eq(Arc::as_ptr(open), watched.as_ptr())) {
        sessions.forget(&name, &slot);
        *session = None;
    }
}
