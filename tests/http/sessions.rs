//! Sessions of several calls against one charge: what they cost, what they refuse, and how they end.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::any;
use halometer::gateway::{Gateway, GatewayParts, ReplayWindow};
use halometer::http::clock::now;
use halometer::http::exchange::GatewayLimits;
use halometer::http::exchange::PaymentLayerParts;
use halometer::http::layer::PaymentLayer;
use halometer::http::payment::{Payload, PaymentReceipt, RECEIPT_HEADER};
use halometer::http::pricing::{
    Call, End, FixedPricing, HeaderPricing, Meter, Metered, NotSold, OUTPUT_TOKEN, Pricing, TokenPricing,
};
use halometer::http::server::Listener;
use halometer::http::wire::{CANCEL_PATH, CLOSE_PATH, SESSION_PATH, SETTLEMENT_PATH, SessionAnswer, SettlementAnswer};
use halometer::protocol::*;
use halometer::store::RecordState;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{ReceiptVerdict, SessionSigner};
use http::HeaderName;
use hyper::body::Frame;
use tokio::sync::Semaphore;
use tower::Layer as _;

use crate::world::{Answer, CLASS, Caller, PAID, QUESTION, TARGET, World, assert_refused, errand, lane, shared, until};

/// What one call of these tests costs: a token of an answer.
const PRICE: u64 = 8;

/// A service that counts its calls. Those to `/slow` end when they are let.
#[derive(Clone)]
struct Shop {
    served: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Shop {
    fn new() -> Self {
        Self { served: Arc::default(), begun: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    fn service(&self) -> Router {
        let (shop, slow) = (self.clone(), self.clone());
        let fast = move || async move {
            shop.served.fetch_add(1, Ordering::SeqCst);
            "served"
        };
        let slow = move || async move {
            slow.begun.fetch_add(1, Ordering::SeqCst);
            slow.gate.acquire().await.unwrap().forget();
            slow.served.fetch_add(1, Ordering::SeqCst);
            "served"
        };
        Router::new().route("/fast", any(fast)).route("/slow", any(slow))
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    async fn begun(&self, calls: usize) {
        until(|| self.begun.load(Ordering::SeqCst) >= calls).await;
    }

    async fn world(&self) -> Arc<World> {
        self.world_with(StackOptions::default()).await
    }

    async fn world_with(&self, options: StackOptions) -> Arc<World> {
        let pricing: Option<Box<dyn Pricing>> = Some(Box::new(prices()));
        shared(World::selling_with(self.service(), StackOptions { pricing, ..options }).await)
    }
}

fn prices() -> FixedPricing {
    let route = |pricing: FixedPricing, path: &str| pricing.route(path.parse().unwrap(), OUTPUT_TOKEN);
    ["* /fast", "* /slow"].into_iter().fold(FixedPricing::new(), route)
}

/// A session as its caller holds it.
struct Session {
    world: Arc<World>,
    caller: Caller,
    key: SpendKey,
    opening: Vec<u8>,
    signer: SessionSigner,
}

impl Session {
    /// Spends a note for a session. Nothing is sent yet.
    fn paid(world: &Arc<World>) -> Self {
        Self::paid_at(world, world.gateway(), &world.host())
    }

    fn paid_at(world: &Arc<World>, gateway: GatewayId, host: &str) -> Self {
        let mut caller = world.caller();
        let job = caller.wallet.plan(lane(0), &gateway, CLASS, now()).unwrap();
        let key = caller.keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        let paid = caller.wallet.authorise(ready, &errand(host, SESSION_PATH), now()).unwrap();
        let signer = caller.wallet.session(&paid.key).unwrap();
        Self { world: world.clone(), caller, key: paid.key, opening: paid.opening, signer }
    }

    async fn open(world: &Arc<World>) -> Self {
        let session = Self::paid(world);
        let answer = session.begin().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        session
    }

    async fn begin(&self) -> Answer {
        self.world.post_bytes(SESSION_PATH, &self.opening).await
    }

    /// The credential of the next call.
    fn credential(&self, method: &str, target: &str, body: &str) -> String {
        let host = self.world.host();
        let request = Request::new(&host, method, target, ContentDigest::of(body.as_bytes())).unwrap();
        self.world.credential(Payload::Following(self.signer.call(&request)))
    }

    async fn call(&self, target: &str, body: &str) -> Answer {
        self.world.post(target, Some(&self.credential("POST", target, body)), body).await
    }

    async fn close(&self) -> Answer {
        let host = self.world.host();
        let credential = self.world.credential(Payload::Following(self.signer.close(&errand(&host, CLOSE_PATH))));
        self.world.post(CLOSE_PATH, Some(&credential), "").await
    }

    /// Takes the settlement of a closed session: what it cost, and what its receipt is worth.
    fn settle(&mut self, answer: &Answer) -> (u64, ReceiptVerdict) {
        let accepted = self.caller.wallet.accept(&self.key, &answer.fetched(), now()).unwrap();
        let closed: SettlementAnswer = serde_json::from_slice(&answer.body).unwrap();
        use base64::Engine as _;
        let decode = |text| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
        let receipt = closed.receipt.map(decode);
        let verdict = self.caller.wallet.take_receipt(&self.key, &accepted, receipt.as_deref(), now()).unwrap();
        (accepted.cost.micro(), verdict)
    }

    /// Asks for the settlement until it is there.
    async fn settled(&mut self) -> u64 {
        for _ in 0..300 {
            let answer = self.world.fetch(&mut self.caller, &self.key).await;
            if answer.status == 200 {
                return self.caller.wallet.accept(&self.key, &answer.fetched(), now()).unwrap().cost.micro();
            }
            assert_refused(&answer, Problem::InProgress);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it is not settled in 15 seconds");
    }

    /// What its record was metered at.
    fn metered(&self) -> u64 {
        let record = self.world.stack.gateway().set().find(self.key.epoch, &self.key.nullifier).unwrap().unwrap();
        match record.state {
            RecordState::Open { metered, .. } => metered.micro(),
            other => panic!("{other:?}"),
        }
    }
}

fn cost(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{answer:?}");
    let receipt = PaymentReceipt::from_header_value(answer.header(RECEIPT_HEADER.as_str()).unwrap()).unwrap();
    assert!(receipt.settlement.is_none() && receipt.receipt.is_none());
    receipt.cost
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_are_settled_once_at_what_they_cost_together() {
    let world = shared(World::new().await);
    let mut session = Session::paid(&world);
    let answer = session.begin().await;
    let opened: SessionAnswer = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((opened.window, answer.header("cache-control")), (ReplayWindow::LENGTH, Some("no-store")));
    assert!((590..=600).contains(&opened.seconds), "{opened:?}");
    assert_eq!((world.held(), world.charged()), (CLASS.micro(), 0));

    let body = r#"{"model":"m","max_tokens":40,"messages":[{"role":"user","content":"Why do cats knead blankets?"}]}"#;
    let mut sum = 0;
    for _ in 0..3 {
        sum += cost(&session.call(TARGET, body).await);
    }
    assert!(sum > 0);
    // Nothing is settled before the end, and the opening, sent again, opens nothing else.
    assert_eq!((world.held(), world.charged()), (CLASS.micro(), 0));
    assert_eq!(session.begin().await.status, 200);

    let answer = session.close().await;
    assert_eq!(session.settle(&answer), (sum, ReceiptVerdict::Fair));
    assert_eq!((world.held(), world.charged()), (0, sum));
    assert_eq!(session.caller.wallet.balance().total(), u128::from(PAID - sum));
    // Closing it again, and opening it again, tell the same.
    assert_eq!(session.close().await.fetched(), answer.fetched());
    let again = session.begin().await;
    assert_refused(&again, Problem::AlreadySpent);
    assert_eq!(again.settlement(), answer.fetched());
    let late = session.call(TARGET, body).await;
    assert_refused(&late, Problem::AlreadySpent);
    assert_eq!(late.settlement(), answer.fetched());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_at_once_never_cost_more_than_the_charge() {
    let affordable = usize::try_from(CLASS.micro() / PRICE).unwrap();
    for http2 in [false, true] {
        let shop = Shop::new();
        let limits = GatewayLimits::default().with_requests(2_000);
        let world = shop.world_with(StackOptions { limits, ..StackOptions::default() }).await;
        let mut session = Session::open(&world).await;
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        let client = if http2 { client.http2_prior_knowledge() } else { client.http1_only() }.build().unwrap();
        let calls: Vec<_> = (0..1_000)
            .map(|_| {
                let credential = session.credential("POST", "/fast", "");
                let call = client.post(format!("{}/fast", world.origin())).header("authorization", credential);
                tokio::spawn(async move {
                    let answer = call.send().await.unwrap();
                    let status = answer.status().as_u16();
                    (status, answer.bytes().await.unwrap())
                })
            })
            .collect();
        let mut answers = BTreeMap::new();
        for call in calls {
            let (status, body) = call.await.unwrap();
            if status == 402 {
                assert!(String::from_utf8_lossy(&body).contains("cap-reached"), "{body:?}");
            }
            *answers.entry(status).or_insert(0) += 1;
        }
        assert_eq!(answers, BTreeMap::from([(200, affordable), (402, 1_000 - affordable)]));
        assert_eq!(shop.served(), affordable);
        let answer = session.close().await;
        assert_eq!(session.settle(&answer), (CLASS.micro(), ReceiptVerdict::Fair));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_call_reserves_its_worst_case_and_frees_the_rest() {
    let shop = Shop::new();
    let world = shop.world().await;
    let session = Session::open(&world).await;
    let affordable = usize::try_from(CLASS.micro() / PRICE).unwrap();
    let running: Vec<_> = (0..affordable)
        .map(|_| {
            let (world, credential) = (world.clone(), session.credential("POST", "/slow", ""));
            tokio::spawn(async move { world.post("/slow", Some(&credential), "").await })
        })
        .collect();
    shop.begun(affordable).await;
    let refused = session.call("/fast", "").await;
    assert_refused(&refused, Problem::CapReached);
    assert!(refused.details().settlement.is_none());
    // The service fails: that is free, and there is room again.
    for call in &running[..2] {
        call.abort();
    }
    shop.gate.close();
    for call in running.into_iter().skip(2) {
        // The service's task panics when its gate is closed: no answer, and so no cost.
        assert_eq!(call.await.unwrap().status, 502);
    }
    until(|| session.metered() == 0).await;
    assert_eq!(cost(&session.call("/fast", "").await), PRICE);
}

/// A world in which each call costs what the request says.
async fn priced_by_request(limits: Option<Box<dyn Pricing>>) -> Arc<World> {
    let service = Router::new().fallback(|body: String| async move {
        let usage = body.split('#').nth(1).unwrap_or("0").to_owned();
        let answer = format!("{{\"usage\":{{\"prompt_tokens\":0,\"completion_tokens\":{usage}}}}}");
        ([("x-cost", (usage.parse::<u64>().unwrap() * PRICE).to_string())], answer)
    });
    shared(World::selling_with(service, StackOptions { pricing: limits, ..StackOptions::default() }).await)
}

/// Says what a call costs while it runs, as a service in the same process may.
struct Running;

impl Pricing for Running {
    fn meter(&self, _: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        Ok(Box::new(RunningMeter(Metered::NOTHING)))
    }
}

struct RunningMeter(Metered);

impl Meter for RunningMeter {
    fn head(&mut self, head: &mut http::response::Parts) {
        let cost = head.headers["x-cost"].to_str().unwrap().parse().unwrap();
        self.0 = Metered::Cost(Credits::from_micro(cost));
    }

    fn least(&self) -> Metered {
        self.0.clone()
    }

    fn reported(&self) -> Metered {
        self.0.clone()
    }

    fn metered(&self) -> Metered {
        self.0.clone()
    }

    fn end(&mut self, _: End) -> Metered {
        self.0.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_withholds_answers_above_the_whole_charge() {
    let header = || HeaderPricing::credits(HeaderName::from_static("x-cost"));
    let prices: [Box<dyn Pricing>; 3] =
        [Box::new(header()), Box::new(TokenPricing::new().everything()), Box::new(Running)];
    for pricing in prices {
        let world = priced_by_request(Some(pricing)).await;
        let mut session = Session::open(&world).await;
        assert_eq!(cost(&session.call("/", "#400").await), 400 * PRICE);
        // More than is left, and no more than a session has that is new: it is given for what is left.
        assert_eq!(cost(&session.call("/", "#500").await), 100 * PRICE);
        assert_refused(&session.call("/", "#1").await, Problem::CapReached);
        let answer = session.close().await;
        assert_eq!(session.settle(&answer).0, CLASS.micro());

        let mut session = Session::open(&world).await;
        let answer = session.call("/", "#501").await;
        assert_refused(&answer, Problem::CapReached);
        assert!(answer.details().withheld, "{answer:?}");
        let answer = session.close().await;
        assert_eq!(session.settle(&answer).0, CLASS.micro());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_understates_its_maximum_gains_nothing() {
    let world = priced_by_request(Some(Box::new(TokenPricing::new().everything()))).await;
    let mut session = Session::open(&world).await;
    let reserved = |body: &str| body.len() as u64 * 2 + PRICE;
    let (fair, lie) = (r##"{"max_tokens":1,"user":"#1#"}"##, r##"{"max_tokens":1,"user":"#99#"}"##);
    assert_eq!(cost(&session.call(TARGET, fair).await), PRICE);
    assert!(session.call(TARGET, lie).await.details().withheld);
    assert_eq!(cost(&session.call(TARGET, fair).await), PRICE, "the session goes on");
    let answer = session.close().await;
    assert_eq!(session.settle(&answer).0, 2 * PRICE + reserved(lie));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_unknown_length_holds_all_that_is_left() {
    let shop = Shop::new();
    let pricing: Option<Box<dyn Pricing>> = Some(Box::new(TokenPricing::new().everything()));
    let options = StackOptions { pricing, ..StackOptions::default() };
    let world = shared(World::selling_with(shop.service(), options).await);
    let session = Session::open(&world).await;
    let (asking, credential) = (world.clone(), session.credential("POST", "/slow", "{}"));
    let running = tokio::spawn(async move { asking.post("/slow", Some(&credential), "{}").await });
    shop.begun(1).await;
    assert_refused(&session.call("/fast", r#"{"max_tokens":1}"#).await, Problem::CapReached);
    shop.gate.add_permits(1);
    assert!(cost(&running.await.unwrap()) < CLASS.micro());
    assert_eq!(session.call("/fast", r#"{"max_tokens":1}"#).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_call_is_served_once() {
    let shop = Shop::new();
    let world = shop.world().await;
    let mut session = Session::open(&world).await;
    let calls: Vec<_> = (0..5).map(|_| session.credential("POST", "/fast", "x")).collect();
    // In any order, as over HTTP/2.
    for call in calls.iter().rev() {
        assert_eq!(cost(&world.post("/fast", Some(call), "x").await), PRICE);
    }
    for call in &calls {
        assert_refused(&world.post("/fast", Some(call), "x").await, Problem::AlreadySpent);
    }
    assert_eq!(shop.served(), 5);

    // A call that was captured and has not arrived is good for this very request and no other.
    let held_back = session.credential("POST", "/fast", "x");
    for (method, target, body) in [("POST", "/fast", "y"), ("PUT", "/fast", "x"), ("POST", "/fast?x", "x")] {
        let answer = world.send(method, target, &world.host(), Some(&held_back), body).await;
        assert_refused(&answer, Problem::SessionSignatureInvalid);
    }
    let elsewhere = world.send("POST", "/fast", "other.example", Some(&held_back), "x").await;
    assert_refused(&elsewhere, Problem::WrongGateway);
    assert_eq!(cost(&world.post("/fast", Some(&held_back), "x").await), PRICE);

    // So far behind the newest that nobody can tell whether it was made.
    let late = session.credential("POST", "/fast", "");
    let host = world.host();
    let request = Request::new(&host, "POST", "/none", ContentDigest::of(b"")).unwrap();
    (0..ReplayWindow::LENGTH).for_each(|_| drop(session.signer.call(&request)));
    assert_eq!(session.call("/fast", "").await.status, 200);
    assert_refused(&world.post("/fast", Some(&late), "").await, Problem::AlreadySpent);
    let answer = session.close().await;
    assert_eq!(session.settle(&answer).0, 7 * PRICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_calls_or_closes_a_session() {
    let shop = Shop::new();
    let world = shop.world().await;
    let session = Session::open(&world).await;
    let host = world.host();
    let thief = SessionKey::from_bytes(&[7; 32]);
    let call = Request::new(&host, "POST", "/fast", ContentDigest::of(b"")).unwrap();
    let opened = Opening::from_bytes(&session.opening).unwrap().spend.session;
    for (target, action, request) in
        [("/fast", Action::Call, call), (CLOSE_PATH, Action::Close, errand(&host, CLOSE_PATH))]
    {
        let own = Following::sign(&thief, &session.key, action, 1, &request);
        let foreign = Following { session: opened, ..own };
        for stolen in [own, foreign] {
            let credential = world.credential(Payload::Following(stolen.to_bytes()));
            assert_refused(&world.post(target, Some(&credential), "").await, Problem::SessionSignatureInvalid);
        }
        // Of a session that never was.
        let never = SpendKey { epoch: EpochNumber::new(1), ..Session::paid(&world).key };
        let credential = Following::sign(&thief, &never, action, 1, &request).to_bytes();
        let credential = world.credential(Payload::Following(credential));
        assert_refused(&world.post(target, Some(&credential), "").await, Problem::SessionSignatureInvalid);
    }
    // What is signed for one thing is good for no other.
    let credential = |bytes| world.credential(Payload::Following(bytes));
    let closing = credential(session.signer.close(&errand(&host, "/fast")));
    let calling = credential(session.signer.call(&errand(&host, CLOSE_PATH)));
    let asking = credential(session.signer.call(&errand(&host, SETTLEMENT_PATH)));
    for (target, wrong) in [("/fast", &closing), (CLOSE_PATH, &calling), (SETTLEMENT_PATH, &asking)] {
        assert_refused(&world.post(target, Some(wrong), "").await, Problem::Malformed);
    }
    assert_refused(&world.post(CLOSE_PATH, Some(&world.opening(&session.opening)), "").await, Problem::Malformed);
    assert_refused(&world.post(CLOSE_PATH, None, "").await, Problem::Unpaid);
    assert_eq!(shop.served(), 0);
    assert_eq!(session.call("/fast", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_a_session_opens_no_call_and_the_other_way_round() {
    let world = shared(World::new().await);
    let session = Session::paid(&world);
    assert_refused(&world.ask(&session.opening).await, Problem::SessionSignatureInvalid);
    let (key, opening) = world.caller().pay(&world, lane(0));
    assert_refused(&world.post_bytes(SESSION_PATH, &opening).await, Problem::SessionSignatureInvalid);
    for wrong in [&session.opening[1..], b"", &[0; Opening::LENGTH]] {
        assert_refused(&world.post_bytes(SESSION_PATH, wrong).await, Problem::Malformed);
    }
    assert_eq!((world.charged(), world.held()), (0, 0));
    // A call by itself is no session.
    let mut caller = world.caller();
    let (single, opening) = caller.pay(&world, lane(0));
    let spend = world.leave_open(world.stack.gateway(), &opening, now());
    assert_eq!(spend.key(), single);
    let signer = caller.wallet.session(&single).unwrap();
    let host = world.host();
    let request = Request::new(&host, "POST", TARGET, ContentDigest::of(QUESTION.as_bytes())).unwrap();
    let credential = world.credential(Payload::Following(signer.call(&request)));
    assert_refused(&world.post(TARGET, Some(&credential), QUESTION).await, Problem::InProgress);
    assert_ne!(single, key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_by_itself_when_its_time_is_over() {
    let shop = Shop::new();
    let adjust: Option<halometer::testing::market::Adjust> =
        Some(Box::new(|parts: &mut DirectoryParts| parts.limits.session_seconds = 2));
    let world = shop.world_with(StackOptions { adjust, ..StackOptions::default() }).await;
    let mut session = Session::open(&world).await;
    assert_eq!(session.call("/fast", "").await.status, 200);
    let (asking, credential) = (world.clone(), session.credential("POST", "/slow", ""));
    let running = tokio::spawn(async move { asking.post("/slow", Some(&credential), "").await });
    shop.begun(1).await;
    // A call that outlives its session is stopped, and costs what it used: here the price of the route.
    assert_refused(&running.await.unwrap(), Problem::AlreadySpent);
    assert_eq!(session.settled().await, 2 * PRICE);
    assert_refused(&session.call("/fast", "").await, Problem::AlreadySpent);
    assert_eq!((shop.served(), world.held()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_lets_calls_finish_and_no_other_begin() {
    let shop = Shop::new();
    let world = shop.world().await;
    let mut session = Session::open(&world).await;
    let (asking, credential) = (world.clone(), session.credential("POST", "/slow", ""));
    let running = tokio::spawn(async move { asking.post("/slow", Some(&credential), "").await });
    shop.begun(1).await;
    let host = world.host();
    let closing = world.credential(Payload::Following(session.signer.close(&errand(&host, CLOSE_PATH))));
    let closer = world.clone();
    let closing = tokio::spawn(async move { closer.post(CLOSE_PATH, Some(&closing), "").await });
    // As soon as it is closing.
    let mut refused = session.call("/fast", "").await;
    for _ in 0..100 {
        if refused.status != 200 {
            break;
        }
        refused = session.call("/fast", "").await;
    }
    assert_refused(&refused, Problem::InProgress);
    assert!(!closing.is_finished());
    shop.gate.add_permits(1);
    assert_eq!(cost(&running.await.unwrap()), PRICE);
    let answer = closing.await.unwrap();
    let (cost, verdict) = session.settle(&answer);
    assert_eq!((cost, verdict), (shop.served() as u64 * PRICE, ReceiptVerdict::Fair));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_a_session_and_its_calls() {
    let shop = Shop::new();
    let world = shop.world().await;
    let mut session = Session::open(&world).await;
    assert_eq!(session.call("/fast", "").await.status, 200);
    let (asking, credential) = (world.clone(), session.credential("POST", "/slow", ""));
    let running = tokio::spawn(async move { asking.post("/slow", Some(&credential), "").await });
    shop.begun(1).await;
    let answer = world.post_bytes(CANCEL_PATH, &world.cancellation(&session.caller, &session.key)).await;
    assert_eq!(session.settle(&answer).0, 2 * PRICE);
    assert_refused(&running.await.unwrap(), Problem::AlreadySpent);
    assert_refused(&session.call("/fast", "").await, Problem::AlreadySpent);
    assert_eq!(world.held(), 0);
    // One that is cancelled before it was opened is never opened.
    let never = Session::paid(&world);
    assert_eq!(world.cancel(&never.caller, &never.key).await.status, 200);
    assert_refused(&never.begin().await, Problem::AlreadySpent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_in_a_session_pays_for_the_call_and_goes_on() {
    let shop = Shop::new();
    let world = shop.world().await;
    let mut session = Session::open(&world).await;
    let (asking, credential) = (world.clone(), session.credential("POST", "/slow", ""));
    let running = tokio::spawn(async move { asking.post("/slow", Some(&credential), "").await });
    shop.begun(1).await;
    running.abort();
    assert!(running.await.is_err());
    shop.gate.add_permits(1);
    until(|| shop.served() == 1).await;
    assert_eq!(session.call("/fast", "").await.status, 200);
    let answer = session.close().await;
    assert_eq!(session.settle(&answer), (2 * PRICE, ReceiptVerdict::Fair));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_calls_came_to_is_in_the_record_before_the_end() {
    let shop = Shop::new();
    let world = shop.world().await;
    let mut session = Session::open(&world).await;
    for calls in 1..=2u64 {
        for _ in 0..3 {
            assert_eq!(session.call("/fast", "").await.status, 200);
        }
        // A process that dies now leaves this to the next sweep.
        until(|| session.metered() == calls * 3 * PRICE).await;
    }
    let answer = session.close().await;
    assert_eq!(session.settle(&answer).0, 6 * PRICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_shuts_down_settles_its_sessions() {
    let shop = Shop::new();
    let world = shop.world().await;
    let sessions = [Session::open(&world).await, Session::open(&world).await];
    assert_eq!(sessions[0].call("/fast", "").await.status, 200);
    let (set, epoch) = (world.stack.gateway().shared_set(), sessions[0].key.epoch);
    assert_eq!(set.totals(epoch).unwrap().open, 2);
    drop(sessions);
    Arc::into_inner(world).unwrap().stack.shutdown().await;
    let totals = set.totals(epoch).unwrap();
    assert_eq!((totals.open, totals.settled, totals.cost), (0, 2, PRICE.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_sessions_at_a_time() {
    let shop = Shop::new();
    let limits = GatewayLimits::default().with_sessions(1);
    let world = shop.world_with(StackOptions { limits, ..StackOptions::default() }).await;
    let mut first = Session::open(&world).await;
    let second = Session::paid(&world);
    assert_refused(&second.begin().await, Problem::Busy);
    assert_eq!(world.held(), CLASS.micro(), "nothing was taken for the second");
    let answer = first.close().await;
    assert_eq!(first.settle(&answer).0, 0);
    until(|| world.held() == 0).await;
    let mut answer = second.begin().await;
    for _ in 0..100 {
        if answer.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        answer = second.begin().await;
    }
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stream_stops_at_the_cap_with_a_trailer_receipt() {
    let said = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":30}}\n\n";
    let whole = [said("Hello"), usage.to_owned(), "data: [DONE]\n\n".to_owned()].concat();
    let service = Router::new().fallback(any(move |body: String| {
        let whole = whole.clone();
        async move {
            let endless = (0..10_000).map(move |_| said(&"words ".repeat(50)));
            let body = match body.contains("endless") {
                true => Body::new(Chunks(endless)),
                false => Body::from(whole),
            };
            ([("content-type", "text/event-stream")], body)
        }
    }));
    let world = shared(World::selling(service).await);
    let mut session = Session::open(&world).await;
    let stream = async |body: &'static str| {
        let credential = session.credential("POST", TARGET, body);
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let request = client.post(format!("{}{TARGET}", world.origin())).body(body);
        let answer = request.header("authorization", credential).header("te", "trailers").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = http_body_util::BodyExt::collect(reqwest::Body::from(answer)).await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let receipt = trailers.get(RECEIPT_HEADER).map(|value| value.to_str().unwrap().to_owned());
        (receipt.unwrap(), String::from_utf8(body.to_bytes().to_vec()).unwrap())
    };
    let (receipt, text) = stream(r#"{"stream":true,"max_tokens":50,"messages":[]}"#).await;
    let receipt = PaymentReceipt::from_header_value(&receipt).unwrap();
    assert_eq!((receipt.cost, receipt.settlement), (20 * 2 + 30 * PRICE, None));
    assert!(text.ends_with("data: [DONE]\n\n"));
    // Its limit is a lie, so that it is stopped at what was reserved for it.
    let (receipt, text) = stream(r#"{"stream":true,"max_tokens":50,"messages":["endless"]}"#).await;
    let dear = PaymentReceipt::from_header_value(&receipt).unwrap().cost;
    assert!(dear > 50 * PRICE && dear < 50 * PRICE + 200, "{dear}");
    assert!(text.contains("cap-reached"), "{text}");
    let answer = session.close().await;
    assert_eq!(session.settle(&answer).0, 280 + dear);
}

/// A body of many chunks.
struct Chunks<I>(I);

impl<I: Iterator<Item = String> + Unpin> hyper::body::Body for Chunks<I> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.next().map(|chunk| Ok(Frame::data(chunk.into()))))
    }
}

/// Two processes of one gateway over one set, each with an address of its own.
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_says_that_it_is_not_the_owner() {
    let listeners = [0, 1].map(|_| Listener::bind(([127, 0, 0, 1], 0).into()));
    let [first, second] = listeners;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let (id, secret) = (GatewayId::from_bytes(rand::random()), rand::random());
    let host = first.address().to_string();
    let key = || GatewaySigningKey::from_bytes(&secret);
    let entry = GatewayEntry { id, origins: vec![format!("http://{host}")], key: key().public_key() };
    let adjust = Some(Box::new(move |parts: &mut DirectoryParts| parts.gateways.push(entry)) as _);
    let world = shared(World::with(StackOptions { adjust, ..StackOptions::default() }).await);
    let shop = Shop::new();
    let replica = |owner: u8| {
        let gateway = world.stack.gateway();
        let parts = GatewayParts::new(
            id,
            gateway.directory().clone(),
            gateway.shared_set(),
            OwnerId::from_bytes([owner; 16]),
            700,
        );
        let layer = PaymentLayer::start(
            PaymentLayerParts::new(
                Arc::new(Gateway::new(parts, now()).unwrap()),
                world.stack.shared_issuer(),
                key(),
                Box::new(prices()),
            )
            .with_call_timeout(Duration::from_secs(60)),
        );
        Router::new().fallback_service(layer.unwrap().layer(shop.service()))
    };
    let servers = [first.serve(replica(1)), second.serve(replica(2))];
    let session = Session::paid_at(&world, id, &host);
    let post = async |server: usize, target: &str, credential: Option<String>, body: Vec<u8>| {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let request = client.post(format!("{}{target}", servers[server].url())).header("host", &host).body(body);
        let request = credential.into_iter().fold(request, |request, value| request.header("authorization", value));
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap())
    };
    let challenge = halometer::http::payment::PaymentChallenge::of(world.stack.gateway().directory(), &id);
    let credential = |following| {
        let payload = Payload::Following(following);
        Some(halometer::http::payment::Credential { challenge: challenge.clone(), payload }.to_header_value())
    };
    let call = || {
        let request = Request::new(&host, "POST", "/fast", ContentDigest::of(b"")).unwrap();
        credential(session.signer.call(&request))
    };
    assert_eq!(post(0, SESSION_PATH, None, session.opening.clone()).await.0, 200);
    let misdirected = call();
    for (target, credential, body) in [
        (SESSION_PATH, None, session.opening.clone()),
        ("/fast", misdirected.clone(), Vec::new()),
        (CLOSE_PATH, credential(session.signer.close(&errand(&host, CLOSE_PATH))), Vec::new()),
    ] {
        let (status, body) = post(1, target, credential, body).await;
        assert!(status == 421 && body.contains("wrong-owner"), "{target}: {status} {body}");
    }
    // What the wrong one refused the right one takes.
    assert_eq!(post(0, "/fast", misdirected, Vec::new()).await.0, 200);
    assert_eq!(shop.served(), 1);
    let (status, settled) =
        post(0, CLOSE_PATH, credential(session.signer.close(&errand(&host, CLOSE_PATH))), Vec::new()).await;
    assert_eq!(status, 200);
    // Once it is settled, each of them tells.
    let closing = credential(session.signer.close(&errand(&host, CLOSE_PATH)));
    let (status, told) = post(1, CLOSE_PATH, closing, Vec::new()).await;
    let settlement = |text: &str| serde_json::from_str::<SettlementAnswer>(text).unwrap().settlement;
    assert_eq!((status, settlement(&told)), (200, settlement(&settled)));
    let (status, body) = post(1, "/fast", call(), Vec::new()).await;
    assert!(status == 409 && body.contains("already-spent"), "{body}");
}
