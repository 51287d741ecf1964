//! A gateway without a set and its issuer, with a network between them that loses, delays and forges; and callers of both kinds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use halometer::gateway::Opened;
use halometer::http::clock::now;
use halometer::http::exchange::RemoteLayerParts;
use halometer::http::gateway::GatewayService;
use halometer::http::issuer_client::IssuerClient;
use halometer::http::observer::Observer;
use halometer::http::operate::{OperateParts, Operations, ServingState};
use halometer::http::payer::Client;
use halometer::http::payment::{Credential, Payload, PaymentChallenge, PaymentReceipt};
use halometer::http::pricing::BytePricing;
use halometer::http::problem::ProblemDetails;
use halometer::http::server::{Listener, Server};
use halometer::http::upstream::{Upstream, UpstreamLimits};
use halometer::http::wire::CLEARING_PATH;
use halometer::http::wire::{
    CANCEL_PATH, CLOSE_PATH, DIRECTORY_PATH, ROLLOVER_PATH, SESSION_PATH, SETTLEMENT_PATH, TRANSFER_PATH,
};
use halometer::issuer::Issuer;
use halometer::protocol::*;
use halometer::upkeep::{Upkeep, UpkeepParts};
use halometer::wallet::{Authorised, LaneId};
use http::StatusCode;
use tokio::sync::Semaphore;

use crate::house::*;
use crate::world::until;

/// What a byte of an answer costs.
const BYTE: u64 = 3;
/// What the service answers, and what that costs.
const ANSWER: &str = "because they do";
const COST: u64 = BYTE * ANSWER.len() as u64;

/// What happens to a request on its way to the issuer.
#[derive(Clone)]
enum Fault {
    /// It never gets there.
    Dropped,
    /// Its answer is lost.
    Lost,
    /// Its answer is another.
    Forged(fn(&mut Vec<u8>)),
    /// Its answer is what was answered to the first request of its kind.
    Replayed,
}

/// An action, and what happens to the next requests for it.
type Planned = (u8, VecDeque<Fault>);
/// An action that got to the issuer, and the answer.
type Carried = (u8, Vec<u8>);

/// The network between gateway and issuer.
#[derive(Clone, Default)]
struct Wire {
    issuer: Arc<Mutex<String>>,
    down: Arc<Mutex<bool>>,
    /// What happens next to requests of an action.
    faults: Arc<Mutex<Vec<Planned>>>,
    /// Actions that got to the issuer, and the answers.
    seen: Arc<Mutex<Vec<Carried>>>,
}

const ADMIT: u8 = 1;
const METER: u8 = 2;
const SETTLE: u8 = 3;
const CANCEL: u8 = 4;
/// Where an envelope says what it asks for.
const ACTION: usize = 1 + 32 + 16 + 8 + 16;

impl Wire {
    fn fault(&self, action: u8, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().push((action, faults.into_iter().collect()));
    }

    fn next(&self, action: u8) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        faults.iter_mut().filter(|(of, _)| *of == action).find_map(|(_, faults)| faults.pop_front())
    }

    fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    fn count(&self, action: u8) -> usize {
        self.seen.lock().unwrap().iter().filter(|(of, _)| *of == action).count()
    }

    async fn carry(State(wire): State<Self>, request: HttpRequest) -> Response {
        let gone = || (StatusCode::OK, Body::new(Broken)).into_response();
        if *wire.down.lock().unwrap() {
            return gone();
        }
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let clears = parts.uri.path() == CLEARING_PATH;
        let action = if clears { body[ACTION] } else { 0 };
        let fault = wire.next(action);
        if matches!(fault, Some(Fault::Dropped)) {
            return gone();
        }
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let url = format!("{}{}", wire.issuer.lock().unwrap(), parts.uri);
        let answer = client.request(parts.method, url).body(body).send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut bytes = answer.bytes().await.unwrap().to_vec();
        if clears {
            wire.seen.lock().unwrap().push((action, bytes.clone()));
        }
        match fault {
            Some(Fault::Lost) => return gone(),
            Some(Fault::Forged(forge)) => forge(&mut bytes),
            Some(Fault::Replayed) => {
                let seen = wire.seen.lock().unwrap();
                bytes = seen.iter().find(|(of, _)| *of == action).unwrap().1.clone();
            }
            _ => {}
        }
        let mut response = (status, bytes).into_response();
        for name in [http::header::CONTENT_TYPE, http::header::CACHE_CONTROL] {
            if let Some(value) = headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }
}

/// A body that breaks off before it began.
struct Broken;

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(Some(Err(std::io::Error::other("lost"))))
    }
}

/// A service that counts, and at `/slow` goes on until it is let: it sends a part of its answer at once.
#[derive(Clone)]
struct Service {
    served: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

struct Slow {
    service: Service,
    sent: usize,
    waiting: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    whole: bool,
}

impl hyper::body::Body for Slow {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        use std::task::Poll;
        self.sent += 1;
        if self.sent == 1 {
            return Poll::Ready(Some(Ok(hyper::body::Frame::data(Bytes::from_static(ANSWER.as_bytes())))));
        }
        std::task::ready!(self.waiting.as_mut().poll(context));
        self.whole = true;
        Poll::Ready(None)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        if !self.whole {
            self.service.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Service {
    fn new() -> Self {
        Self { served: Arc::default(), dropped: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    fn router(&self) -> Router {
        let (fast, slow) = (self.clone(), self.clone());
        let fast = move || async move {
            fast.served.fetch_add(1, Ordering::SeqCst);
            ANSWER
        };
        let slow = move || async move {
            slow.served.fetch_add(1, Ordering::SeqCst);
            let gate = slow.gate.clone();
            let waiting = Box::pin(async move { gate.acquire().await.unwrap().forget() });
            let body = Slow { service: slow, sent: 0, waiting, whole: false };
            ([("content-type", "text/event-stream")], Body::new(body))
        };
        Router::new().route(TARGET, any(fast)).route("/slow", any(slow))
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// What the gateway's operator is told.
#[derive(Default)]
struct Failures(Mutex<Vec<String>>);

impl Observer for Failures {
    fn issuer_failed(&self, reason: &str) {
        self.0.lock().unwrap().push(reason.to_owned());
    }
}

/// The issuer, the wire, the gateway without a set, and the service behind it.
struct Town {
    house: House,
    wire: Wire,
    wire_server: Server,
    service: Service,
    upstream: Server,
    origin: String,
    failures: Arc<Failures>,
    gateway: Option<(GatewayService, Server)>,
}

impl Town {
    async fn new() -> Self {
        Self::with(HouseOptions::default()).await
    }

    async fn with(options: HouseOptions) -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let origin = format!("http://{}", listener.address());
        let house = House::with(HouseOptions { remote_origin: origin.clone(), ..options }).await;
        let wire = Wire::default();
        *wire.issuer.lock().unwrap() = house.origin();
        let router = Router::new().fallback(Wire::carry).with_state(wire.clone());
        let wire_server = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(router);
        let service = Service::new();
        let upstream = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(service.router());
        let failures = Arc::new(Failures::default());
        let mut town = Self { house, wire, wire_server, service, upstream, origin, failures, gateway: None };
        let gateway = town.start_gateway();
        let server = listener.serve(gateway.router());
        town.gateway = Some((gateway, server));
        town
    }

    fn parts(&self) -> RemoteLayerParts {
        RemoteLayerParts::new(
            REMOTE,
            gateway_key(&REMOTE),
            self.house.root.public_key(),
            self.house.issuer.signed_directory().clone(),
            IssuerClient::loopback(&self.wire_server.url()).unwrap(),
            Box::new(BytePricing::new().answer("token")),
        )
        .with_refresh(Duration::from_secs(1))
        .with_observer(self.failures.clone())
        .with_call_timeout(Duration::ZERO)
    }

    fn start_gateway(&self) -> GatewayService {
        let upstream = Upstream::new(&self.upstream.url(), None, UpstreamLimits::default()).unwrap();
        GatewayService::start_remote(self.parts(), upstream).unwrap()
    }

    fn host(&self) -> String {
        self.origin.trim_start_matches("http://").to_owned()
    }

    fn credential(&self, payload: Payload) -> String {
        let challenge = PaymentChallenge::of(self.house.directory(), &REMOTE);
        Credential { challenge, payload }.to_header_value()
    }

    async fn post(&self, target: &str, authorization: Option<&str>, body: Vec<u8>) -> Reply {
        let request = self.house.client.post(format!("{}{target}", self.origin)).body(body);
        self.house
            .send(match authorization {
                Some(value) => request.header("authorization", value),
                None => request,
            })
            .await
    }

    async fn ask(&self, spent: &Authorised) -> Reply {
        let credential = self.credential(Payload::Opening(spent.opening.clone()));
        self.post(TARGET, Some(&credential), QUESTION.into()).await
    }

    async fn fetch(&self, caller: &mut Caller, key: &SpendKey) -> Reply {
        let host = self.host();
        let request = Request::new(&host, "POST", SETTLEMENT_PATH, ContentDigest::of(b"")).unwrap();
        let following = caller.wallet.fetch(key, &request).unwrap();
        self.post(SETTLEMENT_PATH, Some(&self.credential(Payload::Following(following))), Vec::new()).await
    }

    async fn cancel(&self, caller: &Caller, key: &SpendKey) -> Reply {
        let host = self.host();
        let request = Request::new(&host, "POST", CANCEL_PATH, ContentDigest::of(b"")).unwrap();
        self.post(CANCEL_PATH, None, caller.wallet.cancel(key, &request).unwrap()).await
    }

    /// Pays for a request to `/slow`, and begins it.
    async fn begin_slow(&self, caller: &mut Caller, number: u32) -> (SpendKey, reqwest::Response) {
        let host = self.host();
        let spent =
            caller.pay_for(number, REMOTE, &Request::new(&host, "POST", "/slow", ContentDigest::of(b"")).unwrap());
        let credential = self.credential(Payload::Opening(spent.opening.clone()));
        let request = self.house.client.post(format!("{}/slow", self.origin)).header("authorization", credential);
        (spent.key, request.send().await.unwrap())
    }

    /// What the issuer's books say was charged, and what is held for open calls.
    fn books(&self) -> (u128, u128) {
        let books = self.house.issuer.books(&*self.house.set).unwrap();
        (books.charged, books.held)
    }

    /// Seconds later, the keeper of the set settles what nobody does any more.
    fn upkeep(&self, later: u64) -> u64 {
        let upkeep = Upkeep::new(
            UpkeepParts::new(OwnerId::from_bytes(*b"upkeep number  1"), LEASE)
                .with_extra_grace_seconds(0)
                .with_records_per_partition(100)
                .with_warn_seconds(HOUR as u32),
        );
        upkeep.tick(&*self.house.set, &self.house.issuer, now().after(later)).unwrap().settled as u64
    }
}

fn details(reply: &Reply) -> ProblemDetails {
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{reply:?}");
    serde_json::from_slice(&reply.body).unwrap()
}

#[track_caller]
fn assert_refused(reply: &Reply, problem: Problem) {
    let details = details(reply);
    assert_eq!(
        (details.kind(), reply.status),
        (Some(problem), halometer::http::problem::status(problem).as_u16()),
        "{details}"
    );
    assert_eq!(reply.headers.contains_key("www-authenticate"), reply.status == 402);
}

fn attached(reply: &Reply) -> Settlement {
    Settlement::from_bytes(&details(reply).settlement().expect("a settlement")).unwrap()
}

fn receipt(reply: &Reply) -> (Settlement, u64) {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let receipt = PaymentReceipt::from_header_value(reply.headers["payment-receipt"].to_str().unwrap()).unwrap();
    (Settlement::from_bytes(&receipt.settlement().unwrap()).unwrap(), receipt.cost)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_admits_before_and_settles_after_each_call() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let unpaid = town.post(TARGET, None, QUESTION.into()).await;
    assert_refused(&unpaid, Problem::Unpaid);
    let challenge = PaymentChallenge::of(town.house.directory(), &REMOTE).to_header_value();
    assert_eq!(unpaid.headers["www-authenticate"], challenge.as_str());

    let spent = caller.pay(0, REMOTE, &town.host());
    let reply = town.ask(&spent).await;
    let (settlement, cost) = receipt(&reply);
    assert_eq!((reply.body.as_slice(), cost, town.service.served()), (ANSWER.as_bytes(), COST, 1));
    assert_eq!(town.books(), (u128::from(COST), 0));
    // The same again is not served again; it is told what it came to, here and by asking.
    let again = town.ask(&spent).await;
    assert_refused(&again, Problem::AlreadySpent);
    assert_eq!(
        (attached(&again), town.fetch(&mut caller, &spent.key).await.settlement()),
        (settlement.clone(), settlement.clone())
    );
    assert_eq!(town.cancel(&caller, &spent.key).await.settlement(), settlement);
    assert_eq!(town.service.served(), 1);
    assert_eq!(caller.wallet.accept(&spent.key, &settlement, now()).unwrap().cost.micro(), COST);
    // The lane goes on.
    let next = caller.pay(0, REMOTE, &town.host());
    assert_eq!(receipt(&town.ask(&next).await).1, COST);
    assert!(town.failures.0.lock().unwrap().is_empty());

    // Which notes are spent is the issuer's word; transfers are refused plainly.
    let (client, epoch) = (Client::plain().unwrap(), EpochNumber::new(1));
    let all: Prefix = "0/0000".parse().unwrap();
    let mut expected = vec![spent.key.nullifier.to_bytes(), next.key.nullifier.to_bytes()];
    expected.sort_unstable();
    let bucket = client.spent_bucket(&town.origin, epoch, all).await.unwrap();
    assert_eq!(bucket.iter().map(|nullifier| nullifier.to_bytes()).collect::<Vec<_>>(), expected);
    assert_eq!(client.spent_count(&town.origin, epoch).await.unwrap(), 2);
    assert!(client.spent_count(&town.origin, EpochNumber::new(9)).await.is_err());
    assert_eq!(details(&town.post(TRANSFER_PATH, None, vec![0; Transfer::LENGTH]).await).status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_issuer_refuses_is_not_served() {
    let town = Town::new().await;
    let (mut caller, mut copy) = (town.house.caller(1), town.house.caller(1));
    let host = town.host();
    // A proof that does not hold; the session signature does not cover it.
    let mut forged = caller.pay(0, REMOTE, &host);
    forged.opening[Spend::LENGTH - 40] ^= 1;
    assert_refused(&town.ask(&forged).await, Problem::ProofInvalid);
    // For another gateway, for another request.
    let elsewhere = caller.pay(1, LOCAL, &host);
    assert_refused(&town.ask(&elsewhere).await, Problem::WrongGateway);
    let other = caller.pay(2, REMOTE, "other.example.org");
    assert_refused(&town.ask(&other).await, Problem::SessionSignatureInvalid);

    // A note that was spent at the gateway which has the set, by a copy of the wallet; and the other way round.
    let local = town.house.local();
    let request = Request::new("local.example.org", "POST", TARGET, ContentDigest::of(QUESTION.as_bytes())).unwrap();
    let here = caller.pay(4, LOCAL, "local.example.org");
    assert!(matches!(local.open(&here.opening, &request, now()), Ok(Opened::Admitted(_))));
    let there = copy.pay(4, REMOTE, &host);
    assert_eq!(here.key.nullifier, there.key.nullifier);
    assert_refused(&town.ask(&there).await, Problem::DoubleSpend);
    assert_eq!(town.house.told.evidence.lock().unwrap().len(), 1);
    assert_eq!(*town.house.told.conflicts.lock().unwrap(), 1, "what clearing refuses counts at the issuer");
    let (there, here) = (copy.pay(5, REMOTE, &host), caller.pay(5, LOCAL, "local.example.org"));
    receipt(&town.ask(&there).await);
    let named = local.open(&here.opening, &request, now()).unwrap_err();
    assert_eq!(named.problem(), Problem::DoubleSpend);
    assert_eq!(town.service.served(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn admissions_in_doubt_are_withdrawn_when_the_issuer_returns() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let spent = caller.pay(0, REMOTE, &town.host());
    town.wire.fault(ADMIT, vec![Fault::Dropped; 100]);
    assert_refused(&town.ask(&spent).await, Problem::StoreUnavailable);
    assert_eq!((town.service.served(), town.books()), (0, (0, 0)));
    assert!(!town.failures.0.lock().unwrap().is_empty());
    // Nobody knows whether one of them got there, so that it is withdrawn: the caller gets all of it back, and is told so.
    town.wire.faults.lock().unwrap().clear();
    for _ in 0..200 {
        let reply = town.ask(&spent).await;
        if details(&reply).kind() == Some(Problem::AlreadySpent) {
            assert_eq!(attached(&reply).refund, CLASS);
            caller.wallet.accept(&spent.key, &attached(&reply), now()).unwrap();
            assert_eq!(town.service.served(), 0);
            return;
        }
        assert_refused(&reply, Problem::InProgress);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the spend was not withdrawn");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spend_that_missed_the_issuer_pays_after_its_return() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    // Where nobody listens yet.
    let address = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().address();
    let issuer = IssuerClient::loopback(&format!("http://{address}")).unwrap();
    let upstream = Upstream::new(&town.upstream.url(), None, UpstreamLimits::default()).unwrap();
    let gateway = GatewayService::start_remote(town.parts().with_issuer(issuer), upstream).unwrap();
    let server = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(gateway.router());
    let host = town.host();
    let spent = caller.pay(0, REMOTE, &host);
    let credential = town.credential(Payload::Opening(spent.opening.clone()));
    let ask = async || {
        let request = town.house.client.post(format!("{}{TARGET}", server.url())).body(QUESTION);
        town.house.send(request.header("authorization", &credential).header("host", &host)).await
    };
    assert_refused(&ask().await, Problem::StoreUnavailable);
    let _back = Listener::bind(address).await.unwrap().serve(town.house.service.router());
    assert_eq!((receipt(&ask().await).1, town.service.served()), (COST, 1));
    // A gateway that shuts down waits until all is settled.
    assert_eq!(gateway.drain().await, 0);
    assert_eq!(town.books(), (u128::from(COST), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admission_with_a_lost_answer_is_withdrawn_not_served() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let spent = caller.pay(0, REMOTE, &town.host());
    town.wire.fault(ADMIT, [Fault::Lost]);
    // Of the cancel too.
    town.wire.fault(CANCEL, [Fault::Lost, Fault::Dropped]);
    let reply = town.ask(&spent).await;
    assert_refused(&reply, Problem::AlreadySpent);
    assert_eq!((attached(&reply).refund, town.service.served(), town.books()), (CLASS, 0, (0, 0)));
    caller.wallet.accept(&spent.key, &attached(&reply), now()).unwrap();
    // One that never got there is simply sent again.
    let next = caller.pay(0, REMOTE, &town.host());
    town.wire.fault(ADMIT, [Fault::Dropped]);
    assert_eq!(receipt(&town.ask(&next).await).1, COST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_whose_answers_are_lost_and_forged_charges_once() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let spent = caller.pay(0, REMOTE, &town.host());
    let more: fn(&mut Vec<u8>) = |bytes| {
        // The refund, made a little larger.
        let place = 34 + 1 + 4 + 7;
        bytes[place] = bytes[place].wrapping_add(1);
    };
    let refused: fn(&mut Vec<u8>) = |bytes| bytes.truncate(33);
    town.wire.fault(SETTLE, [Fault::Lost, Fault::Forged(more), Fault::Dropped, Fault::Forged(refused)]);
    let (settlement, cost) = receipt(&town.ask(&spent).await);
    assert_eq!((cost, town.books()), (COST, (u128::from(COST), 0)));
    assert_eq!(caller.wallet.accept(&spent.key, &settlement, now()).unwrap().cost.micro(), COST);
    assert!(town.failures.0.lock().unwrap().len() >= 4);
}

/// The answer of an issuer that does not clear for the gateway.
fn not_for_this_gateway(bytes: &mut Vec<u8>) {
    let name = b"unknown-gateway";
    bytes.truncate(33);
    bytes.extend_from_slice(&[6, name.len() as u8]);
    bytes.extend_from_slice(name);
}

#[tokio::test(flavor = "multi_thread")]
async fn served_calls_settle_after_the_issuer_refused_for_a_while() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let refuse: fn(&mut Vec<u8>) = not_for_this_gateway;
    let spent = caller.pay(0, REMOTE, &town.host());
    town.wire.fault(SETTLE, vec![Fault::Forged(refuse); 4]);
    let (settlement, cost) = receipt(&town.ask(&spent).await);
    assert_eq!((cost, town.books()), (COST, (u128::from(COST), 0)));
    caller.wallet.accept(&spent.key, &settlement, now()).unwrap();
    assert!(town.failures.0.lock().unwrap().iter().any(|told| told == "unknown-gateway"));
    // A new one is refused at once, and nothing is served.
    let spent = caller.pay(1, REMOTE, &town.host());
    town.wire.fault(ADMIT, [Fault::Forged(refuse)]);
    let began = std::time::Instant::now();
    assert_refused(&town.ask(&spent).await, Problem::StoreUnavailable);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(town.service.served(), 1);
    // And nobody is sent there for a while.
    let (layer, tally) = (town.gateway.as_ref().unwrap().0.layer().clone(), Arc::default());
    let parts = OperateParts::new(layer, tally).with_every(Duration::from_secs(1));
    let operations = Operations::start(parts).unwrap();
    operations.set_state(ServingState::Serving);
    until(|| operations.ready() == Err("the issuer does not clear for this gateway".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_during_an_issuer_outage_says_what_is_left_open() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let (_, answer) = town.begin_slow(&mut caller, 0).await;
    town.wire.set_down(true);
    town.service.gate.add_permits(1);
    assert!(!answer.bytes().await.unwrap().is_empty());
    assert_eq!(town.gateway.as_ref().unwrap().0.drain().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_another_request_is_no_admission() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let first = caller.pay(0, REMOTE, &town.host());
    receipt(&town.ask(&first).await);
    // Somebody answers each admission with that of the first one.
    let second = caller.pay(1, REMOTE, &town.host());
    town.wire.fault(ADMIT, vec![Fault::Replayed; 3]);
    let reply = town.ask(&second).await;
    assert_refused(&reply, Problem::AlreadySpent);
    assert_eq!((attached(&reply).refund, town.service.served()), (CLASS, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_spend_sent_many_times_is_served_once_despite_losses() {
    let town = Arc::new(Town::new().await);
    let mut caller = town.house.caller(1);
    let spent = Arc::new(caller.pay(0, REMOTE, &town.host()));
    town.wire.fault(SETTLE, [Fault::Lost]);
    let crowd: Vec<_> = (0..12)
        .map(|_| {
            let (town, spent) = (town.clone(), spent.clone());
            tokio::spawn(async move { town.ask(&spent).await })
        })
        .collect();
    let mut served = 0;
    for one in crowd {
        let reply = one.await.unwrap();
        match reply.status {
            200 => served += 1,
            _ => assert!(
                matches!(details(&reply).kind(), Some(Problem::InProgress | Problem::AlreadySpent)),
                "{reply:?}"
            ),
        }
    }
    assert_eq!((served, town.service.served(), town.books()), (1, 1, (u128::from(COST), 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unseen_spend_is_cancelled_and_never_served_after() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let spent = caller.pay(0, REMOTE, &town.host());
    assert_refused(&town.fetch(&mut caller, &spent.key).await, Problem::SessionSignatureInvalid);
    let settlement = town.cancel(&caller, &spent.key).await.settlement();
    assert_eq!(settlement.refund, CLASS);
    let late = town.ask(&spent).await;
    assert_refused(&late, Problem::AlreadySpent);
    assert_eq!((attached(&late), town.service.served()), (settlement, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_stops_running_work_and_costs_what_was_done() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let (key, answer) = town.begin_slow(&mut caller, 0).await;
    until(|| town.service.served() == 1).await;
    assert_refused(&town.fetch(&mut caller, &key).await, Problem::InProgress);
    // What came so far is written down at the issuer's within a second or so.
    until(|| town.wire.count(METER) > 0).await;
    let settlement = town.cancel(&caller, &key).await.settlement();
    until(|| town.service.dropped.load(Ordering::SeqCst) == 1).await;
    assert_eq!(CLASS.micro() - settlement.refund.micro(), COST);
    caller.wallet.accept(&key, &settlement, now()).unwrap();
    drop(answer);
    assert_eq!(town.books(), (u128::from(COST), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_settles_at_its_end_after_an_issuer_outage() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let (key, answer) = town.begin_slow(&mut caller, 0).await;
    until(|| town.service.served() == 1).await;
    town.wire.set_down(true);
    town.service.gate.add_permits(1);
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(25), answer.bytes()).await.unwrap().unwrap(),
        ANSWER.as_bytes()
    );
    // Served, and not settled yet. In this process it is known that it is being settled.
    assert_refused(&town.fetch(&mut caller, &key).await, Problem::InProgress);
    assert_refused(&town.cancel(&caller, &key).await, Problem::InProgress);
    town.wire.set_down(false);
    until(|| town.books() == (u128::from(COST), 0)).await;
    let mut fetched = town.fetch(&mut caller, &key).await;
    for _ in 0..100 {
        if fetched.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        fetched = town.fetch(&mut caller, &key).await;
    }
    assert_eq!(caller.wallet.accept(&key, &fetched.settlement(), now()).unwrap().cost.micro(), COST);
}

/// A gateway in a runtime of its own, which is gone from one moment to the next, as a process that is killed.
struct Killable(Option<tokio::runtime::Runtime>);

impl Killable {
    fn start(town: &Town) -> (Self, Server) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let parts = town.parts();
        let upstream = Upstream::new(&town.upstream.url(), None, UpstreamLimits::default()).unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let gateway = GatewayService::start_remote(parts, upstream).unwrap();
            let server = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(gateway.router());
            send.send((server, gateway)).unwrap();
        });
        let (server, gateway) = receive.recv().unwrap();
        std::mem::forget(gateway);
        (Self(Some(runtime)), server)
    }

    fn kill(&mut self) {
        self.0.take().into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateways_metered_calls_settle_only_after_its_lease() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let (mut killable, server) = Killable::start(&town);
    let host = town.host();
    let spent = caller.pay_for(0, REMOTE, &Request::new(&host, "POST", "/slow", ContentDigest::of(b"")).unwrap());
    let credential = town.credential(Payload::Opening(spent.opening.clone()));
    // The other gateway is the same one at another address: the host of the request says where it is meant for.
    let url = format!("{}/slow", server.url());
    let request = town.house.client.post(url).header("authorization", credential.clone()).header("host", &host);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    until(|| town.wire.count(METER) > 0).await;
    killable.kill();
    drop((answer, server));

    // The gateway that was started anew serves it to nobody, and gives nothing back behind the dead one's back: what was metered counts.
    let request = town.house.client.post(format!("{}/slow", town.origin)).header("authorization", credential);
    assert_refused(&town.house.send(request).await, Problem::InProgress);
    assert_refused(&town.fetch(&mut caller, &spent.key).await, Problem::InProgress);
    assert_eq!(town.upkeep(u64::from(LEASE) - 60), 0);
    assert_eq!(town.upkeep(u64::from(LEASE) + 60), 1);
    assert_eq!(town.books(), (u128::from(COST), 0));
    let settlement = town.fetch(&mut caller, &spent.key).await.settlement();
    assert_eq!(caller.wallet.accept(&spent.key, &settlement, now()).unwrap().cost.micro(), COST);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_gateway_cancels_a_killed_ones_calls_at_their_meter() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let (mut killable, server) = Killable::start(&town);
    let host = town.host();
    let spent = caller.pay_for(0, REMOTE, &Request::new(&host, "POST", "/slow", ContentDigest::of(b"")).unwrap());
    let credential = town.credential(Payload::Opening(spent.opening.clone()));
    let url = format!("{}/slow", server.url());
    let request = town.house.client.post(url).header("authorization", credential).header("host", &host);
    let answer = request.send().await.unwrap();
    until(|| town.wire.count(METER) > 0).await;
    killable.kill();
    drop((answer, server));
    let settlement = town.cancel(&caller, &spent.key).await.settlement();
    assert_eq!(CLASS.micro() - settlement.refund.micro(), COST);
    assert_eq!(town.books(), (u128::from(COST), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_several_calls_is_admitted_once_and_settled_once() {
    let town = Town::new().await;
    let mut caller = town.house.caller(1);
    let host = town.host();
    let spent = caller.pay_for(0, REMOTE, &Request::new(&host, "POST", SESSION_PATH, ContentDigest::of(b"")).unwrap());
    let opened = town.post(SESSION_PATH, None, spent.opening.clone()).await;
    assert_eq!(opened.status, 200, "{opened:?}");
    // Its answer was lost, most likely: the same session.
    assert_eq!(town.post(SESSION_PATH, None, spent.opening.clone()).await.status, 200);
    let signer = caller.wallet.session(&spent.key).unwrap();
    let request = Request::new(&host, "POST", TARGET, ContentDigest::of(QUESTION.as_bytes())).unwrap();
    for _ in 0..3 {
        let credential = town.credential(Payload::Following(signer.call(&request)));
        assert_eq!(town.post(TARGET, Some(&credential), QUESTION.into()).await.status, 200);
        // A captured one is not served again.
        assert_refused(&town.post(TARGET, Some(&credential), QUESTION.into()).await, Problem::AlreadySpent);
    }
    assert_eq!((town.service.served(), town.wire.count(ADMIT)), (3, 1));
    let close = Request::new(&host, "POST", CLOSE_PATH, ContentDigest::of(b"")).unwrap();
    let credential = town.credential(Payload::Following(signer.close(&close)));
    let settlement = town.post(CLOSE_PATH, Some(&credential), Vec::new()).await.settlement();
    assert_eq!(CLASS.micro() - settlement.refund.micro(), 3 * COST);
    assert_eq!(town.books(), (u128::from(3 * COST), 0));
    // After it, from the issuer.
    let credential = town.credential(Payload::Following(signer.close(&close)));
    assert_eq!(town.post(CLOSE_PATH, Some(&credential), Vec::new()).await.settlement(), settlement);
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_directories_are_fetched_and_other_roots_refused() {
    let town = Town::new().await;
    let house = &town.house;
    let client = Client::plain().unwrap();
    let shown = async || {
        let signed = client.directory(&town.origin).await.unwrap();
        signed.verify(&house.root.public_key()).unwrap().parts().serial
    };
    let next = |root: &RootSigningKey, serial| {
        let mut parts = house.directory().parts().clone();
        (parts.serial, parts.root) = (serial, root.public_key());
        parts.published = now();
        let directory = Directory::new(parts).unwrap();
        Arc::new(Issuer::new(root, directory, epoch_keys(), house.mints.clone(), house.notices.clone()).unwrap())
    };
    // Somebody else's directory, under the same address.
    let stranger = RootSigningKey::from_bytes(&[9; 32]);
    let fake = halometer::http::issuer::IssuerService::start(next(&stranger, 7)).unwrap();
    let fake = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(fake.router());
    *town.wire.issuer.lock().unwrap() = fake.url();
    until(|| town.failures.0.lock().unwrap().iter().any(|told| told.contains("root key"))).await;
    assert_eq!(shown().await, 1);
    // The issuer's own.
    *town.wire.issuer.lock().unwrap() = house.origin();
    let (service, newer) = (house.service.clone(), next(&house.root, 2));
    tokio::task::spawn_blocking(move || service.adopt(newer)).await.unwrap().unwrap();
    for _ in 0..200 {
        if shown().await == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(shown().await, 2);
    let mut caller = house.caller(1);
    let spent = caller.pay(0, REMOTE, &town.host());
    assert_eq!(receipt(&town.ask(&spent).await).1, COST);
    assert!(client.directory(&town.origin).await.is_ok() && DIRECTORY_PATH.ends_with("directory"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_could_not_keep_its_word_does_not_start() {
    let town = Town::new().await;
    let upstream = || Upstream::new(&town.upstream.url(), None, UpstreamLimits::default()).unwrap();
    let start = |change: fn(&mut RemoteLayerParts)| {
        let mut parts = town.parts();
        change(&mut parts);
        GatewayService::start_remote(parts, upstream()).map(drop)
    };
    for change in [
        |parts: &mut RemoteLayerParts| parts.root = RootSigningKey::from_bytes(&[9; 32]).public_key(),
        |parts: &mut RemoteLayerParts| parts.id = GatewayId::from_bytes([9; 16]),
        |parts: &mut RemoteLayerParts| parts.key = GatewaySigningKey::from_bytes(&[99; 32]),
    ] {
        assert_eq!(start(change).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
    let long = UpstreamLimits::default().with_timeout(Duration::from_secs(3_600));
    let long = Upstream::new(&town.upstream.url(), None, long).unwrap();
    assert!(GatewayService::start_remote(town.parts(), long).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_rolled_over_by_the_issuer_once_whatever_is_lost() {
    let flip = Some(now().before(60));
    let town = Town::with(HouseOptions { flip, ..HouseOptions::default() }).await;
    let mut caller = town.house.caller(1);
    let before = caller.wallet.balance().available;
    let host = town.host();
    let errand = || Request::new(&host, "POST", ROLLOVER_PATH, ContentDigest::of(b"")).unwrap();
    let mut roll = |lane| {
        let lane = LaneId { payment: 0, lane };
        let job = caller.wallet.plan_rollover(lane, &REMOTE, now()).unwrap();
        let key = caller.keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        caller.wallet.authorise(ready, &errand(), now()).unwrap()
    };
    let [plain, settling, admitting] = [0, 1, 2].map(&mut roll);
    let rolled = |reply: &Reply| {
        assert_eq!(reply.status, 200, "{:?}", String::from_utf8_lossy(&reply.body));
        let settlement = reply.settlement();
        assert_eq!((settlement.epoch, settlement.refund), (EpochNumber::new(2), Credits::ZERO));
        settlement
    };
    let first = rolled(&town.post(ROLLOVER_PATH, None, plain.opening.clone()).await);
    assert_eq!(rolled(&town.post(ROLLOVER_PATH, None, plain.opening.clone()).await), first);
    caller.wallet.accept(&plain.key, &first, now()).unwrap();

    town.wire.fault(SETTLE, [Fault::Lost, Fault::Dropped]);
    let second = rolled(&town.post(ROLLOVER_PATH, None, settling.opening.clone()).await);
    caller.wallet.accept(&settling.key, &second, now()).unwrap();

    town.wire.fault(ADMIT, [Fault::Lost]);
    // It was withdrawn, with the same effect: nothing is charged, and the change is of the epoch that issues.
    let third = rolled(&town.post(ROLLOVER_PATH, None, admitting.opening.clone()).await);
    caller.wallet.accept(&admitting.key, &third, now()).unwrap();
    assert_eq!(caller.wallet.balance().available, before);

    // It pays for no call.
    let credential = town.credential(Payload::Opening(plain.opening));
    assert_ne!(town.post(TARGET, Some(&credential), QUESTION.into()).await.status, 200);
    assert_eq!(town.service.served(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sender_that_cancels_much_leaves_the_others_theirs() {
    let town = Town::new().await;
    let (mut caller, host) = (town.house.caller(1), town.host());
    let unseen = caller.pay(0, REMOTE, &host);
    let mut busy = None;
    for _ in 0..400 {
        let reply = town.cancel(&caller, &unseen.key).await;
        if reply.status != 200 {
            busy = Some(reply);
            break;
        }
        assert_eq!(reply.settlement().refund, CLASS);
    }
    assert_eq!(busy.expect("no quota holds a sender back").problem().kind(), Some(Problem::Busy));
    // Another address on this machine.
    let other = reqwest::Client::builder().no_proxy().tls_certs_only([]).local_address(Some([127, 0, 0, 2].into()));
    let request = Request::new(&host, "POST", CANCEL_PATH, ContentDigest::of(b"")).unwrap();
    let cancellation = caller.wallet.cancel(&unseen.key, &request).unwrap();
    let url = format!("http://{host}{CANCEL_PATH}");
    let reply = other.build().unwrap().post(url).body(cancellation).send().await.unwrap();
    assert_eq!(reply.status(), 200, "what one sender used up is not another's");
}
