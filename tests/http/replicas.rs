//! Several gateways over one spent set: what follows a session reaches its owner from any of them, one of them leads, and what
//! dies, drains or lies costs nobody anything.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::any;
use halometer::gateway::{Gateway, GatewayParts};
use halometer::http::clock::now;
use halometer::http::exchange::{PaymentLayerParts, UpkeepTask};
use halometer::http::layer::PaymentLayer;
use halometer::http::observer::Observer;
use halometer::http::operate::{OperateParts, Operations, ServingState, Tally};
use halometer::http::payment::{Credential, Payload, PaymentChallenge};
use halometer::http::peers::{Peers, PeersParts};
use halometer::http::pricing::{FixedPricing, OUTPUT_TOKEN};
use halometer::http::server::{Listener, Server};
use halometer::http::wire::{CANCEL_PATH, CLOSE_PATH, SESSION_PATH, SETTLEMENT_PATH};
use halometer::protocol::*;
use halometer::store::{MemoryReplicaBook, RecordState, Replica, ReplicaBook, ReplicaKey};
use halometer::testing::market::{Market, MarketOptions};
use halometer::upkeep::{Upkeep, UpkeepError, UpkeepParts, UpkeepReport};
use halometer::wallet::{MemoryJournal, ProvingKeys, SessionSigner, Wallet};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tower::{Layer as _, ServiceExt as _};

use crate::world::{errand, until};

const HOST: &str = "gateway.example";
const CLASS: Credits = Credits::from_micro(4_000);
/// What a call costs.
const PRICE: u64 = 8;
/// Short, so that the tests are.
const BEAT: Duration = Duration::from_millis(200);

/// The service behind all of the gateways.
#[derive(Clone)]
struct Shop {
    served: Arc<AtomicUsize>,
    /// Lets streams go on.
    gate: Arc<Semaphore>,
    stopped: Arc<AtomicBool>,
}

/// Two chunks, the second one when it is let, and a trailer; its end is noted whatever it is.
struct Stream {
    shop: Shop,
    step: usize,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.step == 1 {
            let gate = Arc::clone(&self.shop.gate);
            let waiting = self.waiting.get_or_insert_with(|| {
                Box::pin(async move {
                    gate.acquire().await.unwrap().forget();
                })
            });
            std::task::ready!(waiting.as_mut().poll(cx));
        }
        self.step += 1;
        Poll::Ready(match self.step {
            1 => Some(Ok(Frame::data(Bytes::from_static(b"data: first\n\n")))),
            2 => Some(Ok(Frame::data(Bytes::from_static(b"data: second\n\n")))),
            3 => {
                let said = (http::HeaderName::from_static("x-said"), "all".parse().unwrap());
                Some(Ok(Frame::trailers(http::HeaderMap::from_iter([said]))))
            }
            _ => None,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shop.stopped.store(true, Ordering::SeqCst);
    }
}

impl Shop {
    fn new() -> Self {
        Self { served: Arc::default(), gate: Arc::new(Semaphore::new(0)), stopped: Arc::default() }
    }

    fn service(&self) -> Router {
        let (fast, stream) = (self.clone(), self.clone());
        let fast = move |body: Bytes| async move {
            fast.served.fetch_add(1, Ordering::SeqCst);
            ([("x-mine", "kept")], body)
        };
        let stream = move || async move {
            let headers = [("content-type", "text/event-stream"), ("trailer", "x-said")];
            (headers, Body::new(Stream { shop: stream.clone(), step: 0, waiting: None }))
        };
        Router::new().route("/fast", any(fast)).route("/stream", any(stream))
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// One of the gateways.
struct Node {
    peers: Peers,
    layer: PaymentLayer,
    server: Server,
    inner: Server,
    tally: Arc<Tally>,
}

/// The gateways, and what they share.
struct Cluster {
    market: Market,
    book: Arc<MemoryReplicaBook>,
    shop: Shop,
    keys: ProvingKeys,
}

/// How a gateway differs from the others.
struct Options {
    book: Option<Arc<MemoryReplicaBook>>,
    upkeep: bool,
    every: Duration,
}

const PLAIN: Options = Options { book: None, upkeep: false, every: BEAT };

async fn listener() -> Listener {
    Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap()
}

impl Cluster {
    async fn new() -> Self {
        let options = MarketOptions::new(format!("http://{HOST}"), CLASS.micro(), &[(OUTPUT_TOKEN, PRICE)]);
        let market = tokio::task::spawn_blocking(move || Market::open(options)).await.unwrap().unwrap();
        Self { market, book: Arc::default(), shop: Shop::new(), keys: ProvingKeys::new() }
    }

    fn gateway(&self, owner: OwnerId) -> Gateway {
        let known = self.market.gateway();
        let parts =
            GatewayParts::new(known.id(), known.directory().clone(), known.shared_set(), owner, known.lease_seconds());
        Gateway::new(parts, now()).unwrap()
    }

    async fn node(&self, options: Options) -> Node {
        let owner = OwnerId::from_bytes(rand::random());
        let (server, inner) = (listener().await, listener().await);
        let book = options.book.unwrap_or_else(|| Arc::clone(&self.book));
        let parts = PeersParts::new(owner, book, inner.address().to_string())
            .with_every(options.every)
            .with_silent_seconds(2)
            .with_lease_seconds(3);
        let peers = Peers::start(parts).await.unwrap();
        let tally = Arc::new(Tally::default());
        let gateway = Arc::new(self.gateway(owner));
        let upkeep = Upkeep::new(UpkeepParts::new(owner, gateway.lease_seconds()));
        let upkeep = options.upkeep.then_some(UpkeepTask { upkeep, every: Duration::from_millis(50) });
        let routes = ["* /fast", "* /stream"].map(|route| route.parse().unwrap());
        let pricing = routes.into_iter().fold(FixedPricing::new(), |pricing, route| pricing.route(route, OUTPUT_TOKEN));
        let parts =
            PaymentLayerParts::new(gateway, Arc::clone(self.market.issuer()), self.market.key(), Box::new(pricing))
                .with_observer(Arc::clone(&tally) as Arc<dyn Observer>)
                .with_upkeep(upkeep)
                .with_peers(peers.clone());
        let layer = PaymentLayer::start(parts).unwrap();
        let router = Router::new().fallback_service(layer.layer(self.shop.service()));
        let (server, inner) = (server.serve(router.clone()), inner.serve_peers(router, &peers));
        Node { peers, layer, server, inner, tally }
    }

    /// A gateway that can be killed, with all that it does beside its requests.
    async fn mortal(self: &Arc<Self>) -> (Node, Runtime) {
        let (runtime, cluster) = (Runtime::new().unwrap(), Arc::clone(self));
        let node = runtime.spawn(async move { cluster.node(PLAIN).await }).await.unwrap();
        (node, runtime)
    }

    /// So many gateways that know each other.
    async fn nodes<const N: usize>(&self) -> [Node; N] {
        let mut nodes = Vec::new();
        for _ in 0..N {
            nodes.push(self.node(PLAIN).await);
        }
        nodes.try_into().unwrap_or_else(|_| unreachable!("as many as were made"))
    }

    /// A session that is paid for, and not opened yet.
    fn session(&self) -> Session {
        let mut wallet = self.market.wallet().unwrap();
        let id = self.market.gateway().id();
        let lane = wallet.lanes_to_prove(&id, CLASS, now())[0];
        let job = wallet.plan(lane, &id, CLASS, now()).unwrap();
        let key = self.keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        let paid = wallet.authorise(ready, &errand(HOST, SESSION_PATH), now()).unwrap();
        let signer = wallet.session(&paid.key).unwrap();
        let challenge = PaymentChallenge::of(self.market.gateway().directory(), &id);
        Session { wallet, key: paid.key, opening: paid.opening, signer, challenge }
    }

    async fn open(&self, at: &Node) -> Session {
        let session = self.session();
        let answer = session.begin(at).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        session
    }

    fn charged(&self) -> u64 {
        let books = self.market.issuer().books(self.market.gateway().set()).unwrap();
        u64::try_from(books.charged).unwrap()
    }

    fn metered(&self, key: &SpendKey) -> u64 {
        let record = self.market.gateway().set().find(key.epoch, &key.nullifier).unwrap().unwrap();
        match record.state {
            RecordState::Open { metered, .. } => metered.micro(),
            other => panic!("{other:?}"),
        }
    }
}

/// A session as its caller holds it.
struct Session {
    wallet: Wallet<MemoryJournal>,
    key: SpendKey,
    opening: Vec<u8>,
    signer: SessionSigner,
    challenge: PaymentChallenge,
}

/// An answer, as it came over the wire.
#[derive(Debug)]
struct Raw {
    status: u16,
    text: String,
}

impl Raw {
    fn is(&self, status: u16, problem: Problem) -> bool {
        self.status == status && self.text.contains(problem.as_str())
    }

    fn settlement(&self) -> Settlement {
        use base64::Engine as _;
        let body = self.text.split("\r\n\r\n").nth(1).unwrap();
        let answer: halometer::http::wire::SettlementAnswer = serde_json::from_str(body).unwrap();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(answer.settlement).unwrap();
        Settlement::from_bytes(&bytes).unwrap()
    }
}

async fn send(at: &Node, head: &str, body: &[u8]) -> Raw {
    let mut stream = TcpStream::connect(at.server.address()).await.unwrap();
    let length = body.len();
    let head = format!("{head}Host: {HOST}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    let text = String::from_utf8(read).unwrap();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{text:?}"));
    Raw { status, text }
}

impl Session {
    async fn begin(&self, at: &Node) -> Raw {
        send(at, &format!("POST {SESSION_PATH} HTTP/1.1\r\n"), &self.opening).await
    }

    fn credential(&self, payload: Vec<u8>) -> String {
        let challenge = self.challenge.clone();
        Credential { challenge, payload: Payload::Following(payload) }.to_header_value()
    }

    /// The head of a further call.
    fn head(&self, target: &str, body: &str) -> String {
        let request = Request::new(HOST, "POST", target, ContentDigest::of(body.as_bytes())).unwrap();
        let credential = self.credential(self.signer.call(&request));
        format!("POST {target} HTTP/1.1\r\nTE: trailers\r\nAuthorization: {credential}\r\n")
    }

    async fn call(&self, at: &Node) -> Raw {
        send(at, &self.head("/fast", "a cat"), b"a cat").await
    }

    async fn close(&self, at: &Node) -> Raw {
        let credential = self.credential(self.signer.close(&errand(HOST, CLOSE_PATH)));
        send(at, &format!("POST {CLOSE_PATH} HTTP/1.1\r\nAuthorization: {credential}\r\n"), b"").await
    }

    async fn fetch(&mut self, at: &Node) -> Raw {
        let fetch = self.wallet.fetch(&self.key, &errand(HOST, SETTLEMENT_PATH)).unwrap();
        let credential = self.credential(fetch);
        send(at, &format!("POST {SETTLEMENT_PATH} HTTP/1.1\r\nAuthorization: {credential}\r\n"), b"").await
    }

    async fn cancel(&self, at: &Node) -> Raw {
        let bytes = self.wallet.cancel(&self.key, &errand(HOST, CANCEL_PATH)).unwrap();
        send(at, &format!("POST {CANCEL_PATH} HTTP/1.1\r\n"), &bytes).await
    }

    fn accept(&mut self, settlement: &Settlement) -> u64 {
        self.wallet.accept(&self.key, settlement, now()).unwrap().cost.micro()
    }

    /// A stream of which the first chunk has come.
    async fn stream(&self, at: &Node) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(at.server.address()).await.unwrap();
        let head = format!("{}Host: {HOST}\r\nContent-Length: 0\r\n\r\n", self.head("/stream", ""));
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.contains("first") {
            let mut bytes = [0; 1_024];
            let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut bytes)).await.unwrap().unwrap();
            assert!(read > 0, "{text}");
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        (stream, text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_session_reaches_its_owner_from_anywhere() {
    let cluster = Cluster::new().await;
    let [one, two, three] = cluster.nodes().await;
    let mut session = cluster.open(&one).await;
    for (calls, at) in [(1, &two), (2, &one), (3, &three)] {
        let answer = session.call(at).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text.contains("x-mine: kept") && answer.text.ends_with("a cat"), "{answer:?}");
        assert!(answer.text.contains("payment-receipt: "), "{answer:?}");
        assert_eq!(cluster.shop.served.load(Ordering::SeqCst), calls);
    }
    // Its opening as well: the answer to it was lost, say.
    let again = session.begin(&two).await;
    assert!(again.status == 200 && again.text.contains("window"), "{again:?}");
    assert_eq!(again.text.matches("access-control-allow-origin").count(), 1, "{again:?}");
    // And what it asks for while it runs is the same everywhere.
    assert!(session.fetch(&two).await.is(409, Problem::InProgress));
    let closed = session.close(&three).await;
    assert_eq!(closed.status, 200, "{closed:?}");
    assert_eq!(session.accept(&closed.settlement()), 3 * PRICE);
    assert_eq!(cluster.charged(), 3 * PRICE);
    let counts = [&one, &two, &three].map(|node| node.peers.view().counts);
    assert_eq!(counts.map(|counts| counts.passed), [0, 2, 2]);
    assert_eq!(counts.map(|counts| counts.taken), [4, 0, 0]);
    assert_eq!(counts.map(|counts| counts.failed), [0, 0, 0]);
    // What is over is told by the set.
    assert!(session.call(&two).await.is(409, Problem::AlreadySpent));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_trailers_pass_through_another_gateway() {
    let cluster = Cluster::new().await;
    let [one, two] = cluster.nodes().await;
    let session = cluster.open(&one).await;
    // The first chunk comes while the second is not there.
    let (mut stream, mut text) = session.stream(&two).await;
    assert!(text.starts_with("HTTP/1.1 200") && !text.contains("second"), "{text}");
    cluster.shop.gate.add_permits(1);
    while !text.ends_with("\r\n\r\n") || !text.contains("x-said") {
        let mut bytes = [0; 1_024];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0, "{text}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        if text.contains("x-said: all") && text.matches("payment-receipt: ").count() == 1 {
            break;
        }
    }
    assert!(text.contains("data: second"), "{text}");
    let trailers = text.split("\r\n0\r\n").nth(1).unwrap_or_else(|| panic!("{text}"));
    assert!(trailers.contains("payment-receipt: ") && trailers.contains("x-said: all"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_at_another_gateway_stops_the_work() {
    let cluster = Cluster::new().await;
    let [one, two] = cluster.nodes().await;
    let mut session = cluster.open(&one).await;
    let (stream, _) = session.stream(&two).await;
    assert!(!cluster.shop.is_stopped());
    drop(stream);
    until(|| cluster.shop.is_stopped()).await;
    let closed = session.close(&two).await;
    assert_eq!(session.accept(&closed.settlement()), PRICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_at_another_gateway_stops_the_session() {
    let cluster = Cluster::new().await;
    let [one, two] = cluster.nodes().await;
    let mut session = cluster.open(&one).await;
    let (_stream, _) = session.stream(&two).await;
    let cancelled = session.cancel(&two).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    until(|| cluster.shop.is_stopped()).await;
    assert_eq!(session.accept(&cancelled.settlement()), PRICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_owner_is_told_and_its_session_settled_once() {
    let cluster = Arc::new(Cluster::new().await);
    let ((one, process), two) = (cluster.mortal().await, cluster.node(PLAIN).await);
    let mut session = cluster.open(&one).await;
    assert_eq!(session.call(&one).await.status, 200);
    until(|| cluster.metered(&session.key) == PRICE).await;
    // It dies: nothing is said, neither to callers nor to the book.
    let owner = one.peers.owner();
    process.shutdown_background();
    // As long as it may live, the request may be sent again; nothing was done for it.
    let mut answer = session.call(&two).await;
    let mut tries = 0;
    while !answer.is(421, Problem::WrongOwner) {
        assert!(answer.is(503, Problem::Busy) && tries < 100, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        answer = session.call(&two).await;
        tries += 1;
    }
    assert!(answer.text.to_ascii_lowercase().contains("retry-after: "), "{answer:?}");
    assert!(session.cancel(&two).await.is(421, Problem::WrongOwner));
    assert_eq!(cluster.shop.served.load(Ordering::SeqCst), 1);
    assert!(session.fetch(&two).await.is(409, Problem::InProgress));
    // When its lease is over all who live settle it, and one does.
    let lease = cluster.market.gateway().lease_seconds();
    let later = now().after(u64::from(lease) + 1);
    let settled: u64 = std::thread::scope(|scope| {
        let settle = |number: u8| {
            let upkeep = Upkeep::new(UpkeepParts::new(OwnerId::from_bytes([number; 16]), lease));
            let report = upkeep.tick(cluster.market.gateway().set(), cluster.market.issuer(), later).unwrap();
            assert!(report.failures.is_empty(), "{report:?}");
            report.settled
        };
        let threads: Vec<_> = (1..=3).map(|number| scope.spawn(move || settle(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(settled, 1, "{owner}");
    let fetched = session.fetch(&two).await;
    assert_eq!(session.accept(&fetched.settlement()), PRICE);
    assert_eq!(cluster.charged(), PRICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_not_let_in_where_gateways_meet() {
    let cluster = Cluster::new().await;
    let [one] = cluster.nodes().await;
    let session = cluster.open(&one).await;
    // Without TLS there is no word.
    let mut plain = TcpStream::connect(one.inner.address()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: gateway.example\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), plain.read_to_end(&mut read)).await.unwrap();
    assert!(!read.starts_with(b"HTTP"), "{read:?}");
    // A stranger that knows all of the book, and even the set, but is not in it.
    let forged = Arc::new(MemoryReplicaBook::new());
    let known = cluster.book.replica(&one.peers.owner()).unwrap().unwrap();
    forged.announce(&known, now()).unwrap();
    let stranger = cluster.node(Options { book: Some(forged), ..PLAIN }).await;
    let answer = session.call(&stranger).await;
    assert_ne!(answer.status, 200, "{answer:?}");
    assert_eq!(cluster.shop.served.load(Ordering::SeqCst), 0);
    let counts = one.peers.view().counts;
    assert!(counts.strangers >= 1 && counts.taken == 0, "{counts:?}");
    // A gateway that left the book is a stranger too, over the connections that it has.
    let two = cluster.node(Options { every: Duration::from_secs(1), ..PLAIN }).await;
    assert_eq!(session.call(&two).await.status, 200);
    let mut refused = 0;
    for _ in 0..20 {
        // It announces itself again with its next sign of life: what comes in between is refused.
        cluster.book.withdraw(&two.peers.owner()).unwrap();
        refused += usize::from(session.call(&two).await.status != 200);
        tokio::time::sleep(Duration::from_millis(37)).await;
    }
    assert!(refused > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_told_to_an_impostor_at_its_address() {
    let cluster = Cluster::new().await;
    let [one, two] = cluster.nodes().await;
    let session = cluster.open(&one).await;
    let (owner, address) = (one.peers.owner(), one.inner.address());
    drop((one.server, one.inner, one.layer, one.peers));
    // Another process listens where the owner did, with a key of its own and every right to be asked.
    let listener = loop {
        match Listener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let router = Router::new().fallback(move || async move {
        seen.fetch_add(1, Ordering::SeqCst);
        "mine"
    });
    let parts = PeersParts::new(OwnerId::from_bytes([9; 16]), Arc::new(MemoryReplicaBook::new()), address.to_string());
    let _impostor = listener.serve_peers(router, &Peers::start(parts).await.unwrap());
    let answer = session.call(&two).await;
    assert!(answer.is(503, Problem::Busy) || answer.is(421, Problem::WrongOwner), "{answer:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "{owner}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_passed_on_once_goes_no_further() {
    let cluster = Cluster::new().await;
    let [one, two, three] = cluster.nodes().await;
    let session = cluster.open(&one).await;
    // A book in which the owner is at the address of another gateway that has not got the session either.
    let owner = one.peers.owner();
    let [wrong, right] = [&three, &one].map(|node| cluster.book.replica(&node.peers.owner()).unwrap().unwrap());
    drop((one.server, one.inner, one.layer, one.peers));
    let lie = || Replica { owner, address: wrong.address.clone(), key: wrong.key, ..right.clone() };
    let mut answer = None;
    for _ in 0..100 {
        cluster.book.announce(&lie(), now().after(60)).unwrap();
        let got = session.call(&two).await;
        if three.peers.view().counts.taken > 0 {
            answer = Some(got);
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = answer.expect("it was passed on");
    assert!(answer.is(421, Problem::WrongOwner), "{answer:?}");
    let counts = three.peers.view().counts;
    assert_eq!((counts.passed, counts.failed), (0, 0), "the third one asks nobody");
    assert_ne!(wrong.key, ReplicaKey::from_bytes([0; 32]));
}

/// Counts what upkeep settled.
#[derive(Default)]
struct Settlers(AtomicUsize);

impl Observer for Settlers {
    fn upkeep(&self, outcome: &Result<UpkeepReport, UpkeepError>) {
        let settled = outcome.as_ref().map_or(0, |report| report.settled);
        self.0.fetch_add(usize::try_from(settled).unwrap(), Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_is_done_by_the_one_that_leads_and_then_the_next() {
    let cluster = Cluster::new().await;
    let with = || Options { upkeep: true, ..PLAIN };
    let (one, two) = (cluster.node(with()).await, cluster.node(with()).await);
    let rounds = async |node: &Node| {
        let parts = OperateParts::new(node.layer.clone(), Arc::clone(&node.tally)).with_every(Duration::from_secs(1));
        let operations = Operations::start(parts).unwrap();
        until(|| operations.status().is_some()).await;
        operations.status().unwrap()
    };
    tokio::time::sleep(Duration::from_millis(600)).await;
    let (first, second) = (rounds(&one).await, rounds(&two).await);
    assert!(first.upkeep.rounds > 0 && second.upkeep.rounds == 0, "{first:?} {second:?}");
    let (first, second) = (first.replicas.unwrap(), second.replicas.unwrap());
    assert!(first.leads && !second.leads);
    assert_eq!((first.leader.as_ref(), second.leader.as_ref()), (Some(&first.own), Some(&first.own)));
    assert_eq!(second.replicas.len(), 2);
    // It dies without a word. Its lease ends, and the other one takes over.
    drop((one.server, one.inner, one.layer, one.peers));
    until(|| two.peers.leads().is_some()).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let second = rounds(&two).await;
    assert!(second.upkeep.rounds > 0, "{second:?}");
    assert_eq!(two.peers.leads().unwrap().term, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_changes_hands_in_upkeep_settles_once() {
    let cluster = Cluster::new().await;
    let set = cluster.market.gateway().shared_set();
    let dead = cluster.gateway(OwnerId::from_bytes(*b"a dead process!!"));
    let long_ago = now().before(1_500);
    let mut spends = Vec::new();
    for _ in 0..3 {
        let mut wallet = cluster.market.wallet().unwrap();
        let id = cluster.market.gateway().id();
        let lane = wallet.lanes_to_prove(&id, CLASS, long_ago)[0];
        let job = wallet.plan(lane, &id, CLASS, long_ago).unwrap();
        let key = cluster.keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        let request = Request::new(HOST, "POST", "/fast", ContentDigest::of(b"")).unwrap();
        let paid = wallet.authorise(ready, &request, long_ago).unwrap();
        dead.open(&paid.opening, &request, long_ago).unwrap();
        spends.push(paid.key);
    }
    // The holder is in the middle of a round when another one takes the lease and begins its own: both go on to the end.
    let settlers: [Settlers; 4] = Default::default();
    std::thread::scope(|scope| {
        for (number, settler) in (1..).zip(&settlers) {
            let (set, issuer) = (Arc::clone(&set), Arc::clone(cluster.market.issuer()));
            scope.spawn(move || {
                let owner = OwnerId::from_bytes([number; 16]);
                settler.upkeep(&Upkeep::new(UpkeepParts::new(owner, 720)).tick(&*set, &issuer, now()));
            });
        }
    });
    assert_eq!(settlers.iter().map(|settler| settler.0.load(Ordering::SeqCst)).sum::<usize>(), spends.len());
    let totals = set.totals(spends[0].epoch).unwrap();
    assert_eq!((totals.open, totals.settled, totals.cost), (0, 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_drains_keeps_its_sessions_to_their_end() {
    let cluster = Cluster::new().await;
    let [one, two] = cluster.nodes().await;
    let mut session = cluster.open(&one).await;
    let over = cluster.open(&one).await;
    let operations = Operations::start(OperateParts::new(one.layer.clone(), Arc::clone(&one.tally))).unwrap();
    operations.set_state(ServingState::Serving);
    let probe = async |path: &str| {
        // As some balancers ask: without a host.
        let request = http::Request::get(path).version(http::Version::HTTP_10).body(Body::empty()).unwrap();
        operations.router().oneshot(request).await.unwrap().status().as_u16()
    };
    until(|| operations.ready().is_ok()).await;
    assert_eq!((probe("/readyz").await, probe("/healthz").await, probe("/metrics").await), (200, 200, 421));
    // It is told to end: no balancer sends it anything, another one leads, and its sessions are still its own.
    operations.set_state(ServingState::Draining);
    one.peers.drain().await.unwrap();
    assert_eq!((probe("/readyz").await, probe("/healthz").await), (503, 200));
    one.server.shutdown().await;
    until(|| two.peers.leads().is_some()).await;
    assert!(two.peers.view().replicas.iter().any(|replica| replica.draining && replica.owner == one.peers.owner()));
    assert_eq!(session.call(&two).await.status, 200);
    let closed = session.close(&two).await;
    assert_eq!(session.accept(&closed.settlement()), PRICE);
    // What is open at the end of its patience is closed and settled, and any gateway tells.
    assert_eq!(over.call(&two).await.status, 200);
    assert_eq!(one.layer.drain().await, 0);
    one.peers.withdraw().await.unwrap();
    one.inner.shutdown().await;
    let told = over.call(&two).await;
    assert!(told.is(409, Problem::AlreadySpent) && told.text.contains("settlement"), "{told:?}");
    assert_eq!(cluster.charged(), 2 * PRICE);
}
