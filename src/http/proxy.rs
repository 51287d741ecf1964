//! The caller's side as a proxy: clients that know nothing of payments talk to it, and it pays.
//!
//! ```text
//! client --any request--> proxy (this machine) --paid request--> gateway
//! client <--the answer, as the service gave it-- proxy <-- ... --'
//! ```
//!
//! It is for one wallet, and asks for no password. So it must listen on loopback; requests that a browser
//! makes for a web page, and names that only lead here, are refused.
//!
//! What reaches the gateway of a request is its method, path, query and body as they are, and of its headers `Content-Type`,
//! `Content-Encoding` and `Range`, in this order, and what [`ProxyOptions::pass_headers`] names. All others would tell one client from
//! another: there is no `User-Agent`, and `Accept` is `*/*` for everybody. A client's key goes nowhere.
//!
//! The answer comes back as it is but for what is of a connection, cookies, and the payment's receipt. Where its cost is known before its
//! body it has [`COST_HEADER`]. Errors that are the payment's own are JSON objects as clients of OpenAI's API read them, with a status, and
//! say in `error.fault`, `error.credit` and `error.next` whose fault it is, what became of the credit, and what to do.
//!
//! Each request is paid by a spend of its own, and linkable to no other. Requests with one and the same [`SESSION_HEADER`] share a
//! session, where the payer's policy allows any: they are linkable to each other, and wait for no proof but the first.
//!
//! With [keys](ProxyOptions::keys) it answers programs that have one, each on a [budget](crate::wallet::Budget) of its own: what is beyond it
//! is refused before anything is spent, and a key goes no further than this.
//!
//! [`HEALTH_PATH`], [`STATUS_PATH`] and [`PAGE_PATH`] are the proxy's own.

mod dialect;
mod keys;
mod local;
mod model;
mod outgoing;
mod page;
mod passing;
mod refusal;
mod sessions;

pub use keys::{KeyHash, KeyRule, Keys, KeysError, LocalKey};

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderName, Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::Semaphore;

use super::payer::Payer;
use crate::wallet::Journal;
use dialect::Dialect;
use keys::{KEY_HEADERS, NoKey};
use outgoing::Outgoing;
use refusal::Refusal;
use sessions::Sessions;

/// What begins the paths of the proxy's own.
const OWN_PREFIX: &str = "/.halometer/";
/// `GET`: 200 while the proxy runs.
pub const HEALTH_PATH: &str = "/.halometer/healthz";
/// `GET`: how the wallet is doing, as JSON.
pub const STATUS_PATH: &str = "/.halometer/status";
/// `GET`: the same as a page for people, and more of it.
pub const PAGE_PATH: &str = "/";
/// What browsers ask for by themselves.
const ICON_PATH: &str = "/favicon.ico";
/// Header of an answer: what the call cost, micro-credits.
pub const COST_HEADER: HeaderName = HeaderName::from_static("halometer-cost");

/// Header of a request: the name of the session that it is part of, of at most 64 visible characters. The gateway does not see it.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("halometer-session");

/// How long the body of a request may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How a proxy is used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProxyOptions {
    /// Longest body of a request, bytes. It is read whole, for its digest is signed.
    pub max_body: usize,
    /// Requests at a time, those included that wait for a spend; one more is answered with 503.
    pub max_requests: u32,
    /// Headers of requests that are passed on as well. Each makes the calls that have it look like one another, and unlike all others.
    pub pass_headers: Vec<HeaderName>,
    /// Whether requests for any host name are taken. Otherwise it is addresses and `localhost`, so that no web page can lead a browser here
    /// under a name of its own.
    pub any_host: bool,
    /// After how long without a request a session is closed. What it did not cost is reserved until then.
    pub session_idle: Duration,
    /// The keys of which each request must have one. Without them anyone that reaches the proxy can spend.
    pub keys: Option<Keys>,
}

impl ProxyOptions {
    /// The same with this [`max_body`](Self::max_body).
    #[must_use]
    pub fn with_max_body(self, max_body: usize) -> Self {
        Self { max_body, ..self }
    }

    /// The same with this [`max_requests`](Self::max_requests).
    #[must_use]
    pub fn with_max_requests(self, max_requests: u32) -> Self {
        Self { max_requests, ..self }
    }

    /// The same with this [`pass_headers`](Self::pass_headers).
    #[must_use]
    pub fn with_pass_headers(self, pass_headers: Vec<HeaderName>) -> Self {
        Self { pass_headers, ..self }
    }

    /// The same with this [`any_host`](Self::any_host).
    #[must_use]
    pub fn with_any_host(self, any_host: bool) -> Self {
        Self { any_host, ..self }
    }

    /// The same with this [`session_idle`](Self::session_idle).
    #[must_use]
    pub fn with_session_idle(self, session_idle: Duration) -> Self {
        Self { session_idle, ..self }
    }

    /// The same with these [`keys`](Self::keys).
    #[must_use]
    pub fn with_keys(self, keys: Keys) -> Self {
        Self { keys: Some(keys), ..self }
    }
}

impl Default for ProxyOptions {
    /// 32 MiB, 256 requests, no further headers, no other host names, a minute, no keys.
    fn default() -> Self {
        Self {
            max_body: 32 << 20,
            max_requests: 256,
            pass_headers: Vec::new(),
            any_host: false,
            session_idle: Duration::from_secs(60),
            keys: None,
        }
    }
}

/// Why there is no proxy. The caller is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The header is the payment's, or of a connection.
    #[error("the header `{0}` cannot be passed on")]
    Header(HeaderName),
    /// Clients send their keys in the header, and keys of the proxy go no further.
    #[error("the header `{0}` has the keys of this proxy, and cannot be passed on")]
    KeyHeader(HeaderName),
}

/// Pays for whatever it is asked. Cheap to clone.
pub struct Proxy<J: Journal + 'static>(Arc<Passage<J>>);

struct Passage<J: Journal + 'static> {
    payer: Payer<J>,
    options: ProxyOptions,
    places: Arc<Semaphore>,
    sessions: Arc<Sessions<J>>,
    keys: RwLock<Keyring>,
}

/// The requests that may spend.
enum Keyring {
    /// Anyone.
    Open,
    Keys(Arc<Keys>),
    /// Nobody: the keys cannot be read.
    Unreadable(String),
}

impl<J: Journal + 'static> Proxy<J> {
    /// A proxy that pays with this payer.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn new(payer: Payer<J>, options: ProxyOptions) -> Result<Self, ProxyError> {
        if let Some(name) = options.pass_headers.iter().find(|name| !outgoing::may_pass(name)) {
            return Err(ProxyError::Header(name.clone()));
        }
        if options.keys.is_some()
            && let Some(name) = options.pass_headers.iter().find(|name| KEY_HEADERS.contains(name))
        {
            return Err(ProxyError::KeyHeader(name.clone()));
        }
        let places = Arc::new(Semaphore::new(options.max_requests as usize));
        let sessions = Sessions::new(payer.clone(), options.session_idle);
        let keyring = options.keys.clone().map_or(Keyring::Open, |keys| Keyring::Keys(Arc::new(keys)));
        Ok(Self(Arc::new(Passage { payer, options, places, sessions, keys: RwLock::new(keyring) })))
    }

    /// Goes by other keys from now on. If they could not be read, no request is taken until they can: one of them may have been taken back.
    /// A proxy that was begun without keys stays as it is.
    pub fn set_keys(&self, keys: Result<Keys, String>) {
        let mut keyring = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*keyring, Keyring::Open) {
            *keyring = match keys {
                Ok(keys) => Keyring::Keys(Arc::new(keys)),
                Err(why) => Keyring::Unreadable(why),
            };
        }
    }

    /// What is to be served.
    pub fn router(&self) -> Router {
        let inner = Arc::clone(&self.0);
        Router::new().fallback(move |request: Request| {
            let inner = Arc::clone(&inner);
            async move { inner.answer(request).await }
        })
    }

    /// Waits until no request is under way any more and all sessions are closed, for so long at most. To be called after the server took its last one, before the payer
    /// is shut down. True if none is left.
    pub async fn drain(&self, within: Duration) -> bool {
        let all = async {
            let _places = self.0.places.acquire_many(self.0.options.max_requests).await;
            self.0.sessions.close_all().await;
        };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

impl<J: Journal + 'static> Passage<J> {
    async fn answer(&self, request: Request) -> Response {
        let dialect = Dialect::of(request.uri().path(), request.headers());
        self.serve(request).await.unwrap_or_else(|refusal| refusal.into_response(dialect))
    }

    async fn serve(&self, request: Request) -> Result<Response, Refusal> {
        let shown = [PAGE_PATH, ICON_PATH].contains(&request.uri().path());
        // The page says more than any answer: no name but this machine's leads to it, whatever else is allowed.
        if outgoing::is_foreign(&request, self.options.any_host && !shown) {
            return Err(Refusal::request(
                StatusCode::FORBIDDEN,
                "not_from_here",
                "web pages, and other names than localhost, may not use this wallet",
                "call the address that the proxy printed, from a program",
            ));
        }
        let (parts, body) = request.into_parts();
        if shown || parts.uri.path().starts_with(OWN_PREFIX) {
            return self.local(&parts.method, parts.uri.path()).await;
        }
        let keys = self.keyring()?;
        let rule = keys.as_deref().map(|keys| keys.of(&parts.headers).map_err(no_key)).transpose()?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refusal::busy())?;
        let session = sessions::name(&parts.headers)?;
        let outgoing = outgoing::read(parts, &self.options.pass_headers)?;
        if let Some(rule) = rule.filter(|rule| !rule.allows_route(&outgoing.method, outgoing.path())) {
            let message = format!("key `{}` is not for {} {}", rule.budget.name, outgoing.method, outgoing.path());
            let next = "call a route of the key, or ask the wallet's owner for another one";
            return Err(Refusal::because(StatusCode::PAYMENT_REQUIRED, "key_route", message, next));
        }
        let body = Limited::new(body, self.options.max_body).collect();
        let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Refusal::too_long(self.options.max_body)),
            Ok(Err(_)) => return Err(Refusal::broken_body(StatusCode::BAD_REQUEST)),
            Err(_) => return Err(Refusal::broken_body(StatusCode::REQUEST_TIMEOUT)),
        };
        let mut budget = None;
        if let (Some(keys), Some(rule)) = (&keys, rule) {
            check_models(rule, &outgoing, &body)?;
            check_secrecy(keys, &outgoing, &body)?;
            budget = Some(Arc::clone(&rule.budget));
        }
        let Outgoing { method, target, headers } = outgoing;
        if let Some(name) = session {
            let (answer, session) = self.sessions.stream(budget, name, method, &target, headers, body).await?;
            return Ok(passing::session_answer(answer, (place, session)));
        }
        let streamed = self.payer.stream_within(budget, method, &target, headers, body).await?;
        Ok(passing::answer(streamed, place))
    }

    /// The keys; none if anyone may spend.
    fn keyring(&self) -> Result<Option<Arc<Keys>>, Refusal> {
        match &*self.keys.read().unwrap_or_else(PoisonError::into_inner) {
            Keyring::Open => Ok(None),
            Keyring::Keys(keys) => Ok(Some(Arc::clone(keys))),
            Keyring::Unreadable(_) => {
                let next = "the wallet's owner mends the file of keys, which the proxy names";
                let message = "the keys of this proxy cannot be read".to_owned();
                Err(Refusal::because(StatusCode::SERVICE_UNAVAILABLE, "keys_unreadable", message, next).passing(5))
            }
        }
    }
}

fn no_key(why: NoKey) -> Refusal {
    let (code, message) = match why {
        NoKey::Missing => ("key_missing", "the request has no key"),
        NoKey::Several => ("key_ambiguous", "the request has several keys"),
        NoKey::Unknown => ("invalid_api_key", "the request's key is none of this proxy"),
        NoKey::Revoked => ("key_revoked", "the request's key was taken back"),
    };
    let next = "send one key that `halometer wallet key new` printed, as bearer token or in `x-api-key`, and not in the address";
    Refusal::request(StatusCode::UNAUTHORIZED, code, message, next)
}

/// A key that is for some models only asks no other, and none that cannot be made out.
fn check_models(rule: &KeyRule, outgoing: &Outgoing, body: &[u8]) -> Result<(), Refusal> {
    if rule.models.is_empty() {
        return Ok(());
    }
    let name = &rule.budget.name;
    let refuse = |message: String| {
        let next = "ask a model of the key by its name, or ask the wallet's owner for another key";
        Err(Refusal::because(StatusCode::PAYMENT_REQUIRED, "key_model", message, next))
    };
    let Some(models) = model::named(outgoing.path(), &outgoing.headers, body) else {
        return refuse(format!("key `{name}` is for some models only, and which one this request asks cannot be read"));
    };
    // A list of models, say.
    if models.is_empty() && body.is_empty() && [Method::GET, Method::HEAD].contains(&outgoing.method) {
        return Ok(());
    }
    if models.is_empty() {
        return refuse(format!("key `{name}` is for some models only, and this request names none"));
    }
    match models.iter().find(|model| !rule.allows_model(model)) {
        Some(model) => refuse(format!("key `{name}` is not for the model `{}`", shortened(model))),
        None => Ok(()),
    }
}

/// No key leaves the machine, whatever a client put where.
fn check_secrecy(keys: &Keys, outgoing: &Outgoing, body: &[u8]) -> Result<(), Refusal> {
    let in_headers = outgoing.headers.values().any(|value| keys.are_in(value.as_bytes()));
    if !(in_headers || keys.are_in(&keys::decoded(&outgoing.target)) || keys.are_in(body)) {
        return Ok(());
    }
    let message = "the request has a key of this proxy where the service would see it";
    let next =
        "send the key as bearer token or in `x-api-key` alone, and not in the address, another header or the body";
    Err(Refusal::request(StatusCode::BAD_REQUEST, "key_would_leave", message, next))
}

/// What a client wrote, as far as it fits into a line.
fn shortened(text: &str) -> String {
    text.chars().take(64).map(|character| if character.is_control() { '?' } else { character }).collect()
}

impl<J: Journal + 'static> Clone for Proxy<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J: Journal + 'static> core::fmt::Debug for Proxy<J> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Proxy").field("options", &self.0.options).finish_non_exhaustive()
    }
}
