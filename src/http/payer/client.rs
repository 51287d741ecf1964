//! Plain requests to gateways and issuers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::clock_off;
use crate::circuits::note::Nullifier;
use crate::http::hop::{self, Base, Hop, HopBody, HopError, Keep, Socks5, Way};
use crate::http::payment::{self, ChallengeError, PaymentChallenge};
use crate::http::problem::ProblemDetails;
use crate::http::wire::{
    CANCEL_PATH, CLOSE_PATH, DIRECTORY_PATH, MINT_PATH, ROLLOVER_PATH, SESSION_PATH, SETTLEMENT_PATH, SessionAnswer,
    SettlementAnswer, SpentCount, TRANSFER_PATH, TransferAnswer, bucket_path, padding, read_pages, spent_path,
};
use crate::protocol::{DecodeError, EpochNumber, MintAnswer, MintRequest, Prefix, Settlement, SignedDirectory};

/// Longest answer that is read to be had whole, bytes.
pub(super) const MAX_ANSWER: usize = 64 << 20;
/// Longest answer that is read of a gateway's or issuer's own, but for buckets: a directory's length, and some.
const MAX_OWN: usize = (1 << 20) + 4_096;
/// What everybody's requests accept.
const ANY: HeaderValue = HeaderValue::from_static("*/*");
/// How long an answer may take, unless it is said otherwise.
const TIMEOUT: Duration = Duration::from_secs(330);

/// How long a connection may take to come about, straight and through a proxy, which may have to build a circuit first.
const CONNECT: Duration = Duration::from_secs(10);
const CONNECT_THROUGH: Duration = Duration::from_secs(60);

/// Sends requests, each over a connection of its own: two calls over one connection would be known to be one caller's.
/// [Through a proxy](Self::through) each connection has a circuit of its own as well, but for those of one spend, or of one session.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    hop: Hop,
    /// How services are told from others; none where they are not.
    tls: Option<Arc<rustls::ClientConfig>>,
    /// Where every connection leads through.
    way: Way,
    timeout: Duration,
}

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// The request or its answer did not get through.
    #[error("{0}")]
    Http(#[source] HopError),
    /// There was no answer in time.
    #[error("there was no answer in time")]
    Timeout,
    /// The answer is longer than such an answer can be; 64 MiB for one that was paid for and is wanted whole.
    #[error("the answer is too long")]
    TooLong,
    /// The answer began and broke off.
    #[error("the answer broke off")]
    BrokenOff,
    /// The answer is a problem.
    #[error("{0}")]
    Problem(Box<ProblemDetails>),
    /// The answer has a status that it should not have.
    #[error("an answer with status {0}")]
    Status(StatusCode),
    /// The answer is not what it should be.
    #[error("the answer is malformed: {0}")]
    Decode(#[from] DecodeError),
    /// There is no challenge in it.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
}

/// TLS without tickets: a server knows by a ticket which connections are one client's, and each request has a connection of its own
/// so that it does not.
fn unlinked(config: Result<rustls::ClientConfig, rustls::Error>) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut config = config?;
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The spent nullifiers of a prefix.
pub(super) struct SpentAnswer {
    pub(super) spent: Vec<Nullifier>,
    /// For how long something on the way may have kept it, seconds.
    pub(super) age: u64,
    /// Whether something on the way says that it did.
    pub(super) kept: bool,
}

/// For how long an answer was kept on the way, as caches say it (RFC 9111, section 5.1). What says something that is no number may
/// have kept it for ever.
fn kept_for(headers: &HeaderMap) -> u64 {
    let ages = headers.get_all(header::AGE).iter();
    ages.map(|age| age.to_str().ok().and_then(|age| age.trim().parse().ok()).unwrap_or(u64::MAX)).max().unwrap_or(0)
}

impl Answer {
    /// Reads the rest of an answer that has begun.
    pub(crate) async fn read(answer: Response<HopBody>, max: usize) -> Result<Self, ClientError> {
        let (head, mut body) = answer.into_parts();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(chunk) = frame.map_err(ClientError::Http)?.into_data() else { continue };
            if read.len() + chunk.len() > max {
                return Err(ClientError::TooLong);
            }
            read.extend_from_slice(&chunk);
        }
        Ok(Self { status: head.status, headers: head.headers, body: read.into() })
    }

    /// The problem in it. An answer that is none makes one of its status.
    pub(crate) fn problem(&self) -> ProblemDetails {
        let details = serde_json::from_slice(&self.body)
            .ok()
            .filter(|_| self.is_problem())
            .unwrap_or_else(|| ProblemDetails::plain(self.status, "no details were given"));
        let after = self.headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        ProblemDetails { retry_after: after, ..details }
    }

    pub(crate) fn is_problem(&self) -> bool {
        is_problem(&self.headers)
    }

    fn success(self) -> Result<Bytes, ClientError> {
        match self.status.is_success() {
            true => Ok(self.body),
            false => Err(ClientError::Problem(Box::new(self.problem()))),
        }
    }
}

impl Client {
    /// A client for services that are reached over plain HTTP, such as those on this machine. It goes straight to them; no setting of
    /// the environment leads it elsewhere.
    ///
    /// # Errors
    /// [`ClientError::Tls`].
    pub fn plain() -> Result<Self, ClientError> {
        Ok(Self::made(Way::Straight, None, TIMEOUT))
    }

    /// A client for services anywhere: TLS is checked against the system's certificate authorities. It goes straight to them, as
    /// [`plain`](Self::plain) does.
    ///
    /// # Errors
    /// [`ClientError::Tls`].
    pub fn secure() -> Result<Self, ClientError> {
        let tls = unlinked(hop::trusting_platform()).map_err(ClientError::Tls)?;
        Ok(Self::made(Way::Straight, Some(Arc::new(tls)), TIMEOUT))
    }

    /// The same client, with every connection through this proxy and none past it: if the proxy fails, so does the request. Names go to
    /// the proxy as they are, and certificates are checked without asking the system, which might ask the network.
    ///
    /// # Errors
    /// [`ClientError::Tls`].
    pub fn through(self, proxy: Socks5) -> Result<Self, ClientError> {
        let tls = match self.tls {
            Some(_) => Some(Arc::new(unlinked(hop::trusting_platform_unasked()).map_err(ClientError::Tls)?)),
            None => None,
        };
        Ok(Self::made(Way::through(proxy), tls, self.timeout))
    }

    /// The same client, which waits no longer than this for an answer, from the request to its last byte. Without it 330 seconds.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self::made(self.way, self.tls, timeout)
    }

    /// The proxy that every connection goes through, if there is one.
    pub fn proxy(&self) -> Option<&Socks5> {
        self.way.proxy()
    }

    /// What all clients have in common: no connection serves a second request.
    fn made(way: Way, tls: Option<Arc<rustls::ClientConfig>>, timeout: Duration) -> Self {
        let hop = Hop::new(way.clone(), tls.clone(), Keep::Nothing, patience(&way), timeout);
        Self { hop, tls, way, timeout }
    }

    /// A client for one spend: its requests are known to be one caller's, and share a circuit that no other request has.
    pub(crate) fn of_spend(&self) -> Self {
        match self.proxy() {
            Some(_) => Self::made(self.way.on_one_circuit(), self.tls.clone(), self.timeout),
            None => self.clone(),
        }
    }

    /// A client for one session: its requests are known to be one caller's, and share connections and a circuit. Over TLS it speaks
    /// HTTP/2 where the gateway does.
    pub(crate) fn of_session(&self) -> Self {
        let tls = self.tls.as_ref().map(|tls| {
            let mut tls = rustls::ClientConfig::clone(tls);
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Arc::new(tls)
        });
        let way = self.way.on_one_circuit();
        let hop = Hop::new(way.clone(), tls.clone(), Keep::Idle, patience(&way), self.timeout);
        Self { hop, tls, way, timeout: self.timeout }
    }

    /// Sends a request, and comes back when its answer begins. `within` is the time for all of it, its body included.
    pub(crate) async fn begin(
        &self,
        method: Method,
        origin: &str,
        target: &str,
        mut headers: HeaderMap,
        body: Bytes,
        within: Option<Duration>,
    ) -> Result<Response<HopBody>, ClientError> {
        let address = Base::read(origin).and_then(|base| base.place(target));
        let address = address.ok_or_else(|| ClientError::Http(HopError::target()))?;
        // One and the same for everybody.
        headers.entry(header::ACCEPT).or_insert(ANY);
        let answer = self.hop.send(address, method, headers, body, within).await.map_err(ClientError::Http)?;
        clock_off::note(origin, answer.headers());
        Ok(answer)
    }

    async fn send_up_to(
        &self,
        max: usize,
        method: Method,
        (origin, target): (&str, &str),
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        headers.entry(header::ACCEPT).or_insert(ANY);
        if let Some(address) = Base::read(origin).and_then(|base| base.place(target)) {
            padding::pad_request(&method, &address, &mut headers, body.len());
        }
        let answer = self.begin(method, origin, target, headers, body, None).await?;
        let answer = Answer::read(answer, padding::answer_size(max + 1_024)).await?;
        let body = padding::unpad(&answer.headers, answer.body)?;
        Ok(Answer { body, ..answer })
    }

    /// The challenge of a gateway: what an unpaid request to its root is answered with.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Status`] if it asks for no payment.
    pub async fn challenge(&self, origin: &str) -> Result<PaymentChallenge, ClientError> {
        let answer = self.get(MAX_OWN, (origin, "/")).await?;
        if !matches!(answer.status, StatusCode::PAYMENT_REQUIRED | StatusCode::UNAUTHORIZED) {
            return Err(ClientError::Status(answer.status));
        }
        Ok(challenge_in(&answer.headers)?)
    }

    /// The signed directory that an issuer or a gateway shows. It is not verified yet.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn directory(&self, origin: &str) -> Result<SignedDirectory, ClientError> {
        let bytes = self.get(MAX_OWN, (origin, DIRECTORY_PATH)).await?.success()?;
        Ok(SignedDirectory::from_bytes(&bytes)?)
    }

    /// Has a payment minted.
    ///
    /// # Errors
    /// [`ClientError`]. The same request can be sent again.
    pub async fn mint(&self, issuer: &str, request: &MintRequest) -> Result<MintAnswer, ClientError> {
        let bytes = self.post((issuer, MINT_PATH), request.to_bytes().to_vec()).await?;
        Ok(MintAnswer::from_bytes(&bytes)?)
    }

    /// Cancels a spend: `cancellation` is the bytes of a [`Cancellation`](crate::protocol::Cancellation) that was signed for a
    /// `POST` to [`CANCEL_PATH`] with an empty body. Gives the settlement, whatever the spend came to.
    ///
    /// # Errors
    /// [`ClientError`]. The same cancellation can be sent again.
    pub async fn cancel(&self, origin: &str, cancellation: Vec<u8>) -> Result<Settlement, ClientError> {
        let bytes = self.post((origin, CANCEL_PATH), cancellation).await?;
        let answer: SettlementAnswer = read_json(&bytes, "settlement")?;
        read_settlement(&answer.settlement)
    }

    /// Moves credit between two lanes: `transfer` is the bytes of a [`Transfer`](crate::protocol::Transfer) that was signed for a
    /// `POST` to [`TRANSFER_PATH`] with an empty body. Gives the settlements of the giving and of the taking half.
    ///
    /// # Errors
    /// [`ClientError`]. The same transfer can be sent again. `already-spent` says that one half was cancelled: cancel both.
    pub async fn transfer(&self, origin: &str, transfer: Vec<u8>) -> Result<[Settlement; 2], ClientError> {
        let bytes = self.post((origin, TRANSFER_PATH), transfer).await?;
        let TransferAnswer { settlements: [give, take] } = read_json(&bytes, "settlements")?;
        Ok([read_settlement(&give)?, read_settlement(&take)?])
    }

    /// Rolls a note over: `opening` is the bytes of an [`Opening`](crate::protocol::Opening) of that purpose that was signed for a
    /// `POST` to [`ROLLOVER_PATH`] with an empty body.
    ///
    /// # Errors
    /// [`ClientError`]. The same rollover can be sent again.
    pub async fn rollover(&self, origin: &str, opening: Vec<u8>) -> Result<Settlement, ClientError> {
        let bytes = self.post((origin, ROLLOVER_PATH), opening).await?;
        let answer: SettlementAnswer = read_json(&bytes, "settlement")?;
        read_settlement(&answer.settlement)
    }

    /// Opens a session: `opening` is the bytes of an [`Opening`](crate::protocol::Opening) that was signed for a `POST` to
    /// [`SESSION_PATH`] with an empty body.
    ///
    /// # Errors
    /// [`ClientError`]. The same opening can be sent again.
    pub async fn open_session(&self, origin: &str, opening: Vec<u8>) -> Result<SessionAnswer, ClientError> {
        let bytes = self.post((origin, SESSION_PATH), opening).await?;
        read_json(&bytes, "session")
    }

    /// About how many notes of an epoch are spent: see [`SpentCount`].
    ///
    /// # Errors
    /// [`ClientError`]. No error says that none is.
    pub async fn spent_count(&self, origin: &str, epoch: EpochNumber) -> Result<u64, ClientError> {
        let bytes = self.get(MAX_OWN, (origin, &spent_path(epoch))).await?.success()?;
        let SpentCount { spent } = read_json(&bytes, "number of spent notes")?;
        Ok(spent)
    }

    /// All spent nullifiers of an epoch that begin with a prefix, ascending. How many bits to tell: [`Prefix::bits_for`].
    ///
    /// # Errors
    /// [`ClientError`], also for an answer that broke off. No error says that there are none.
    pub async fn spent_bucket(
        &self,
        origin: &str,
        epoch: EpochNumber,
        prefix: Prefix,
    ) -> Result<Vec<Nullifier>, ClientError> {
        let answer = self.get(MAX_ANSWER, (origin, &bucket_path(epoch, prefix))).await;
        Ok(read_pages(&answer?.success()?, prefix)?)
    }

    /// The same, with the time for which something on the way may have kept the answer. `fresh` asks in a way that nothing on the way
    /// can have kept an answer to.
    pub(super) async fn spent_answer(
        &self,
        origin: &str,
        epoch: EpochNumber,
        prefix: Prefix,
        fresh: bool,
    ) -> Result<SpentAnswer, ClientError> {
        let mut path = bucket_path(epoch, prefix);
        // One and the same for everybody, but for a number of chance.
        let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))]);
        if fresh {
            path = format!("{path}?again={:016x}", rand::random::<u64>());
        }
        let answer = self.send_up_to(MAX_ANSWER, Method::GET, (origin, &path), headers, Bytes::new()).await?;
        let (age, kept) = (clock_off::age(&answer.headers), kept_for(&answer.headers));
        let spent = read_pages(&answer.success()?, prefix)?;
        Ok(SpentAnswer { spent, age: age.max(kept), kept: kept > 0 })
    }

    pub(super) async fn get(&self, max: usize, url: (&str, &str)) -> Result<Answer, ClientError> {
        self.send_up_to(max, Method::GET, url, HeaderMap::new(), Bytes::new()).await
    }

    pub(super) async fn post(&self, url: (&str, &str), body: Vec<u8>) -> Result<Bytes, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        self.send_up_to(MAX_OWN, Method::POST, url, headers, body.into()).await?.success()
    }

    /// Asks for a settlement with a credential that was signed for this very request.
    pub(crate) async fn settlement(&self, origin: &str, credential: HeaderValue) -> Result<Settlement, ClientError> {
        let answer = self.ask_settlement((origin, SETTLEMENT_PATH), credential).await?;
        read_settlement(&answer.settlement)
    }

    /// Closes a session with a credential that was signed for this very request: its settlement, and the bytes of its signed
    /// receipt.
    pub(crate) async fn close_session(
        &self,
        origin: &str,
        credential: HeaderValue,
    ) -> Result<(Settlement, Option<Vec<u8>>), ClientError> {
        let answer = self.ask_settlement((origin, CLOSE_PATH), credential).await?;
        let receipt = answer.receipt.as_deref().and_then(payment::decode);
        Ok((read_settlement(&answer.settlement)?, receipt))
    }

    async fn ask_settlement(
        &self,
        url: (&str, &str),
        credential: HeaderValue,
    ) -> Result<SettlementAnswer, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, credential);
        let bytes = self.send_up_to(MAX_OWN, Method::POST, url, headers, Bytes::new()).await?.success()?;
        read_json(&bytes, "settlement")
    }
}

/// Whether an answer is a refusal of the gateway's.
pub(super) fn is_problem(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with(crate::http::problem::CONTENT_TYPE))
}

/// Whether an answer asks for a payment: as the gateway does, by 402, or as proxies that cannot pass that on, by 401.
pub(super) fn is_challenge(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status, StatusCode::PAYMENT_REQUIRED | StatusCode::UNAUTHORIZED) && challenge_in(headers).is_ok()
}

fn challenge_in(headers: &HeaderMap) -> Result<PaymentChallenge, ChallengeError> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
    PaymentChallenge::from_header_values(values.filter_map(|value| value.to_str().ok()))
}

fn read_json<T: DeserializeOwned>(bytes: &[u8], name: &'static str) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|_| DecodeError::Field(name).into())
}

fn read_settlement(text: &str) -> Result<Settlement, ClientError> {
    let bytes = payment::decode(text).ok_or(DecodeError::Field("settlement"))?;
    Ok(Settlement::from_bytes(&bytes)?)
}

fn patience(way: &Way) -> Duration {
    if way.proxy().is_some() { CONNECT_THROUGH } else { CONNECT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_a_client_goes_its_way() {
        let proxy: Socks5 = "127.0.0.1:9050".parse().unwrap();
        let client = Client::plain().unwrap().through(proxy.clone()).unwrap();
        for made in [client.of_spend(), client.of_session(), client.clone().with_timeout(Duration::ZERO), client] {
            assert_eq!(made.proxy(), Some(&proxy));
            for made in [made.of_spend(), made.of_session()] {
                assert_eq!(made.proxy(), Some(&proxy));
            }
        }
        assert_eq!(Client::plain().unwrap().of_session().proxy(), None);
    }

    #[test]
    fn a_secure_client_is_made_and_takes_up_no_session_again() {
        let proxy: Socks5 = "127.0.0.1:9050".parse().unwrap();
        Client::secure().unwrap().through(proxy).unwrap();
        for config in [hop::trusting_platform(), hop::trusting_platform_unasked()] {
            let config = unlinked(config).unwrap();
            assert!(format!("{:?}", config.resumption).contains("NoClientSessionStorage"), "{:?}", config.resumption);
        }
    }
}
