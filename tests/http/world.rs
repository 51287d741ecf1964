//! A running issuer and gateway, callers with credit, and an HTTP client that sends whatever it is told.

use std::collections::HashMap;
use std::sync::Arc;

use halometer::gateway::{Gateway, GatewayParts, Opened};
use halometer::http::clock::now;
use halometer::http::payment::{Credential, Payload, PaymentChallenge, PaymentReceipt};
use halometer::http::problem::ProblemDetails;
use halometer::http::server::{Listener, Server};
use halometer::http::wire::CANCEL_PATH;
use halometer::lifecycle::AdmittedSpend;
use halometer::protocol::*;
use halometer::testing::stack::{Stack, StackOptions, UpstreamOptions};
use halometer::wallet::{LaneId, MemoryJournal, ProvingKeys, RootSecret, Wallet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::openapi::Seen;

pub(crate) const TARGET: &str = "/v1/chat/completions";
pub(crate) const QUESTION: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"Why do cats knead blankets?"}]}"#;
pub(crate) const CLASS: Credits = Credits::from_micro(4_000);
pub(crate) const OTHER_CLASS: Credits = Credits::from_micro(16_000);
pub(crate) const PAID: u64 = 8 * 20_000;

pub(crate) struct World {
    pub(crate) stack: Stack,
    /// The service behind the gateway, where it is the test's own.
    _upstream: Option<Server>,
    /// When payments are minted; now if it is not said.
    pub(crate) minted: Option<Timestamp>,
}

/// A request to one of the gateway's own paths, whose body is a credential.
pub(crate) fn errand<'a>(host: &'a str, target: &'a str) -> Request<'a> {
    Request::new(host, "POST", target, ContentDigest::of(b"")).unwrap()
}

pub(crate) struct Caller {
    pub(crate) wallet: Wallet<MemoryJournal>,
    pub(crate) keys: ProvingKeys,
}

pub(crate) fn lane(lane: u32) -> LaneId {
    LaneId { payment: 0, lane }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(StackOptions::default()).await
    }

    pub(crate) async fn with(options: StackOptions) -> Self {
        Self { stack: Stack::start(options).await.unwrap(), _upstream: None, minted: None }
    }

    /// With a service of the test's own.
    pub(crate) async fn selling(service: axum::Router) -> Self {
        Self::selling_with(service, StackOptions::default()).await
    }

    pub(crate) async fn selling_with(service: axum::Router, options: StackOptions) -> Self {
        let server = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(service);
        let upstream = Some(UpstreamOptions { url: server.url(), api_key: Some("operator's key".to_owned()) });
        let stack = Stack::start(StackOptions { upstream, ..options }).await.unwrap();
        Self { stack, _upstream: Some(server), minted: None }
    }

    /// A caller that has paid.
    pub(crate) fn caller(&self) -> Caller {
        self.caller_with(
            rand::random(),
            DeviceId::from_bytes([1; 8]),
            self.stack.pay(Credits::from_micro(PAID)).unwrap(),
        )
    }

    pub(crate) fn caller_with(&self, secret: [u8; 32], device: DeviceId, payment: PaymentId) -> Caller {
        let issuer = self.stack.issuer();
        let directory = issuer.signed_directory();
        let root = RootSecret::from_bytes(secret);
        let mut wallet = Wallet::new(root, device, self.stack.root_key(), directory, MemoryJournal::new()).unwrap();
        let at = self.minted.unwrap_or_else(now);
        let request = wallet.request_mint(payment, [Credits::from_micro(PAID / 8); LANES], at).unwrap();
        wallet.accept_mint(&payment, &issuer.mint(&request, at).unwrap(), at).unwrap();
        Caller { wallet, keys: ProvingKeys::new() }
    }

    /// As callers know it.
    pub(crate) fn origin(&self) -> String {
        self.stack.gateway_url()
    }

    /// The cancel of a spend that was sent.
    pub(crate) fn cancellation(&self, caller: &Caller, key: &SpendKey) -> Vec<u8> {
        caller.wallet.cancel(key, &errand(&self.host(), CANCEL_PATH)).unwrap()
    }

    /// Bytes to one of the gateway's own paths.
    pub(crate) async fn post_bytes(&self, target: &str, body: &[u8]) -> Answer {
        let (host, length) = (self.host(), body.len());
        let head =
            format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await.expect("an answer")
    }

    pub(crate) async fn cancel(&self, caller: &Caller, key: &SpendKey) -> Answer {
        self.post_bytes(CANCEL_PATH, &self.cancellation(caller, key)).await
    }

    /// Another process of the gateway, over the same set.
    pub(crate) fn replica(&self) -> Gateway {
        let (gateway, owner) = (self.stack.gateway(), OwnerId::from_bytes(*b"another process!"));
        let parts = GatewayParts::new(
            gateway.id(),
            gateway.directory().clone(),
            gateway.shared_set(),
            owner,
            gateway.lease_seconds(),
        );
        Gateway::new(parts, now()).unwrap()
    }

    /// Admits a spend and does nothing for it, as a process that dies.
    pub(crate) fn leave_open(&self, gateway: &Gateway, opening: &[u8], now: Timestamp) -> AdmittedSpend {
        let host = self.host();
        let request = Request::new(&host, "POST", TARGET, ContentDigest::of(QUESTION.as_bytes())).unwrap();
        match gateway.open(opening, &request, now).unwrap() {
            Opened::Admitted(spend) => spend,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn host(&self) -> String {
        self.stack.gateway_url().trim_start_matches("http://").to_owned()
    }

    pub(crate) fn gateway(&self) -> GatewayId {
        self.stack.gateway().id()
    }

    /// What was charged in all, by the issuer's books.
    pub(crate) fn charged(&self) -> u64 {
        u64::try_from(self.stack.books().unwrap().charged).unwrap()
    }

    /// What is reserved for calls that are not settled, by the issuer's books.
    pub(crate) fn held(&self) -> u64 {
        u64::try_from(self.stack.books().unwrap().held).unwrap()
    }

    pub(crate) fn credential(&self, payload: Payload) -> String {
        let challenge = PaymentChallenge::of(self.stack.gateway().directory(), &self.gateway());
        Credential { challenge, payload }.to_header_value()
    }

    pub(crate) fn opening(&self, opening: &[u8]) -> String {
        self.credential(Payload::Opening(opening.to_vec()))
    }

    /// The question, paid with these bytes.
    pub(crate) async fn ask(&self, opening: &[u8]) -> Answer {
        self.post(TARGET, Some(&self.opening(opening)), QUESTION).await
    }

    pub(crate) async fn post(&self, target: &str, authorization: Option<&str>, body: &str) -> Answer {
        self.send("POST", target, &self.host(), authorization, body).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        host: &str,
        authorization: Option<&str>,
        body: &str,
    ) -> Answer {
        let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n{authorization}\r\n"
        );
        self.raw(format!("{head}{body}").as_bytes()).await.expect("an answer")
    }

    /// Sends bytes, reads the answer until the gateway closes the connection.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect().await;
        // A gateway that refuses early may close before it has read all.
        let _ = stream.write_all(bytes).await;
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read).await;
        let answer = Answer::read(&read)?;
        // Every answer to a request that can be read is as it is described.
        if let Some([method, target]) = request_line(bytes) {
            let headers = answer.headers.clone().into_iter().collect();
            let Answer { status, body, .. } = &answer;
            crate::openapi::check(&Seen { method, target, status: *status, headers, body });
        }
        Some(answer)
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.host()).await.unwrap()
    }

    /// The settlement of a spend, as its caller asks for it.
    pub(crate) async fn fetch(&self, caller: &mut Caller, key: &SpendKey) -> Answer {
        let target = halometer::http::wire::SETTLEMENT_PATH;
        let host = self.host();
        let request = Request::new(&host, "POST", target, ContentDigest::of(b"")).unwrap();
        let following = caller.wallet.fetch(key, &request).unwrap();
        self.post(target, Some(&self.credential(Payload::Following(following))), "").await
    }
}

/// Method and target of a request that is well-formed so far.
fn request_line(bytes: &[u8]) -> Option<[&str; 2]> {
    let line = std::str::from_utf8(bytes.split(|byte| *byte == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    let line = [words.next()?, words.next()?];
    (words.next() == Some("HTTP/1.1") && words.next().is_none() && line[1].starts_with('/')).then_some(line)
}

impl Caller {
    /// Spends a lane's note for the question. The bytes may be sent.
    pub(crate) fn pay(&mut self, world: &World, lane: LaneId) -> (SpendKey, Vec<u8>) {
        self.pay_at(world, lane, CLASS, world.gateway(), now())
    }

    pub(crate) fn pay_at(
        &mut self,
        world: &World,
        lane: LaneId,
        class: Credits,
        gateway: GatewayId,
        now: Timestamp,
    ) -> (SpendKey, Vec<u8>) {
        self.pay_for(world, QUESTION, lane, class, gateway, now)
    }

    /// Spends the first lane's note for another question.
    pub(crate) fn pay_to_ask(&mut self, world: &World, body: &str) -> (SpendKey, Vec<u8>) {
        self.pay_for(world, body, lane(0), CLASS, world.gateway(), now())
    }

    fn pay_for(
        &mut self,
        world: &World,
        body: &str,
        lane: LaneId,
        class: Credits,
        gateway: GatewayId,
        now: Timestamp,
    ) -> (SpendKey, Vec<u8>) {
        let host = world.host();
        let request = Request::new(&host, "POST", TARGET, ContentDigest::of(body.as_bytes())).unwrap();
        self.pay_for_request(&request, lane, class, gateway, now)
    }

    /// Spends the first lane's note for any request.
    pub(crate) fn pay_request(&mut self, world: &World, request: &Request<'_>) -> (SpendKey, Vec<u8>) {
        self.pay_for_request(request, lane(0), CLASS, world.gateway(), now())
    }

    fn pay_for_request(
        &mut self,
        request: &Request<'_>,
        lane: LaneId,
        class: Credits,
        gateway: GatewayId,
        now: Timestamp,
    ) -> (SpendKey, Vec<u8>) {
        let job = self.wallet.plan(lane, &gateway, class, now).unwrap();
        let key = self.keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng());
        let authorised = self.wallet.authorise(ready.unwrap(), request, now).unwrap();
        (authorised.key, authorised.opening)
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..split]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Some(Self { status, headers: lines.map(header).collect(), body: bytes[split + 4..].to_vec() })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn details(&self) -> ProblemDetails {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let details: ProblemDetails = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(details.status, self.status);
        details
    }

    pub(crate) fn problem(&self) -> Option<Problem> {
        self.details().kind()
    }

    /// The kind of problem, if it is one.
    pub(crate) fn problem_kind(&self) -> Option<Problem> {
        (self.header("content-type") == Some("application/problem+json")).then(|| self.problem()).flatten()
    }

    /// The settlement, wherever it stands.
    pub(crate) fn settlement(&self) -> Settlement {
        let bytes = match self.header("payment-receipt") {
            Some(receipt) => PaymentReceipt::from_header_value(receipt).unwrap().settlement().unwrap(),
            None => self.details().settlement().expect("a settlement"),
        };
        Settlement::from_bytes(&bytes).unwrap()
    }

    /// The settlement in an answer to a fetch.
    pub(crate) fn fetched(&self) -> Settlement {
        use base64::Engine as _;
        assert_eq!(self.status, 200, "{self:?}");
        let answer: halometer::http::wire::SettlementAnswer = serde_json::from_slice(&self.body).unwrap();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(answer.settlement).unwrap();
        Settlement::from_bytes(&bytes).unwrap()
    }
}

/// A refusal of a type, with its status and a challenge where one belongs.
#[track_caller]
pub(crate) fn assert_refused(answer: &Answer, problem: Problem) {
    assert_eq!(answer.problem(), Some(problem), "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.status, halometer::http::problem::status(problem).as_u16());
    assert_eq!(answer.header("www-authenticate").is_some(), answer.status == 402);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("payment-receipt").is_none());
}

/// Waits for something that is bound to happen; not for ever, in case it is not.
pub(crate) async fn until(happened: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if happened() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it did not happen in 30 seconds");
}

/// For what needs to outlive a task.
pub(crate) fn shared(world: World) -> Arc<World> {
    Arc::new(world)
}
