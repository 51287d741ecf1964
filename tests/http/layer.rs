//! The payment layer around services that are no reverse proxy.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request as HttpRequest};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use halometer::gateway::{Gateway, GatewayParts};
use halometer::http::clock::now;
use halometer::http::exchange::PaymentLayerParts;
use halometer::http::layer::PaymentLayer;
use halometer::http::payment::{Credential, Payload, PaymentChallenge};
use halometer::http::pricing::{Metered, OUTPUT_TOKEN, Report, ReportedPricing};
use halometer::http::server::{Listener, Server};
use halometer::http::wire::{DIRECTORY_PATH, SETTLEMENT_PATH};
use halometer::pipeline::Source;
use halometer::protocol::*;
use halometer::store::{MemorySpentSet, SpentSet as _};
use halometer::testing::stack::StackOptions;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer as _, service_fn};

use crate::world::{CLASS, Caller, QUESTION, World, lane, until};

/// A gateway of its own beside a world's, with the same issuer.
struct Shop {
    world: World,
    gateway: Arc<Gateway>,
    layer: PaymentLayer,
    listener: Option<Listener>,
    server: Option<Server>,
    host: String,
}

impl Shop {
    async fn new(free: &[&str], call_timeout: Duration) -> std::io::Result<Self> {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let (id, key) = (GatewayId::from_bytes(rand::random()), GatewaySigningKey::generate(&mut rand::rng()));
        let host = listener.address().to_string();
        let entry = GatewayEntry { id, origins: vec![format!("http://{host}")], key: key.public_key() };
        let adjust = Some(Box::new(move |parts: &mut DirectoryParts| parts.gateways.push(entry)) as _);
        let world = World::with(StackOptions { adjust, ..StackOptions::default() }).await;
        let set = Arc::new(MemorySpentSet::new());
        let directory = world.stack.issuer().directory().clone();
        directory.epochs().iter().for_each(|epoch| set.create(epoch.number).unwrap());
        let owner = OwnerId::from_bytes(rand::random());
        let parts = GatewayParts::new(id, directory, set, owner, 700);
        let gateway = Arc::new(Gateway::new(parts, now()).unwrap());
        let layer = PaymentLayer::start(
            PaymentLayerParts::new(
                gateway.clone(),
                world.stack.shared_issuer(),
                key,
                Box::new(ReportedPricing::new().otherwise(Metered::usage([(OUTPUT_TOKEN, 1)]))),
            )
            .with_free(free.iter().map(|route| route.parse().unwrap()).collect())
            .with_call_timeout(call_timeout),
        )?;
        Ok(Self { world, gateway, layer, listener: Some(listener), server: None, host })
    }

    async fn selling(service: Router, free: &[&str]) -> Self {
        let mut shop = Self::new(free, Duration::from_secs(60)).await.unwrap();
        shop.serve(service.layer(shop.layer.clone()));
        shop
    }

    fn serve(&mut self, router: Router) {
        self.server = Some(self.listener.take().unwrap().serve(router));
    }

    fn credential(&self, payload: Payload) -> String {
        let challenge = PaymentChallenge::of(self.gateway.directory(), &self.gateway.id());
        Credential { challenge, payload }.to_header_value()
    }

    async fn send(&self, method: Method, target: &str, authorization: Option<&str>) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let body = if authorization.is_some() && target != SETTLEMENT_PATH { QUESTION } else { "" };
        let request = client.request(method, format!("http://{}{target}", self.host)).body(body);
        let request = request.header("cookie", "caller=1").header("x-forwarded-for", "192.0.2.1");
        let request = authorization.iter().fold(request, |request, value| request.header("authorization", *value));
        request.send().await.unwrap()
    }

    /// Pays for the question at a path; the answer, and what it cost.
    async fn buy(&self, target: &str) -> (reqwest::Response, u64) {
        let mut caller: Caller = self.world.caller();
        let signed = |target| Request::new(&self.host, "POST", target, ContentDigest::of(QUESTION.as_bytes())).unwrap();
        let job = caller.wallet.plan(lane(0), &self.gateway.id(), CLASS, now()).unwrap();
        let key = caller.keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        let paid = caller.wallet.authorise(ready, &signed(target), now()).unwrap();
        let credential = self.credential(Payload::Opening(paid.opening));
        let answer = self.send(Method::POST, target, Some(&credential)).await;
        let open = || self.gateway.set().totals(paid.key.epoch).unwrap().open;
        until(|| open() == 0).await;
        let request = Request::new(&self.host, "POST", SETTLEMENT_PATH, ContentDigest::of(b"")).unwrap();
        let following = self.credential(Payload::Following(caller.wallet.fetch(&paid.key, &request).unwrap()));
        let fetched = self.send(Method::POST, SETTLEMENT_PATH, Some(&following)).await;
        let fetched: halometer::http::wire::SettlementAnswer =
            serde_json::from_slice(&fetched.bytes().await.unwrap()).unwrap();
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(fetched.settlement).unwrap();
        let cost = caller.wallet.accept(&paid.key, &Settlement::from_bytes(&bytes).unwrap(), now()).unwrap().cost;
        (answer, cost.micro())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_axum_service_is_paid_what_it_says_and_learns_no_payer() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let said = move |request: HttpRequest| async move {
        let names = request.headers().keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
        let linked = request.extensions().get::<Source>().is_some();
        record.lock().unwrap().push((names, linked));
        let mut answer = "here".into_response();
        answer.extensions_mut().insert(Metered::usage([(OUTPUT_TOKEN, 5)]));
        answer
    };
    let later = |Extension(report): Extension<Report>| async move {
        report.set(Metered::Cost(Credits::from_micro(12)));
        "here"
    };
    let service = Router::new()
        .route("/said", any(said))
        .route("/later", any(later))
        .route("/silent", any(|| async { "here" }))
        .route("/error", any(|| async { StatusCode::CONFLICT }));
    let shop = Shop::selling(service, &[]).await;
    for (target, status, cost) in [("/said", 200, 40), ("/later", 200, 12), ("/silent", 200, 8), ("/error", 409, 0)] {
        let (answer, paid) = shop.buy(target).await;
        assert_eq!((answer.status().as_u16(), paid), (status, cost), "{target}");
        assert_eq!(answer.headers().contains_key("payment-receipt"), status == 200);
    }
    let (names, linked) = seen.lock().unwrap()[0].clone();
    for name in ["authorization", "cookie", "x-forwarded-for"] {
        assert!(!names.iter().any(|own| own == name), "{names:?}");
    }
    assert!(!linked && names.iter().any(|name| name == "content-length"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_named_is_free() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let service =
        Router::new().route("/health", get(|| async { "well" })).fallback(move |request: HttpRequest| async move {
            record.lock().unwrap().push(request.uri().path().to_owned());
            ([("set-cookie", "caller=1"), ("payment-receipt", "forged")], "here")
        });
    let shop = Shop::selling(service, &["GET /health", "OPTIONS /**", "GET /open/**"]).await;
    for (method, target, status) in [
        (Method::GET, "/health", 200),
        (Method::HEAD, "/health", 200),
        (Method::OPTIONS, "/v1/chat", 200),
        (Method::GET, "/open/x", 200),
        (Method::POST, "/health", 402),
        (Method::GET, "/health/", 402),
        (Method::GET, "/", 402),
        (Method::HEAD, "/v1/chat", 402),
        (Method::GET, "/open/%2e%2e%2fdear", 402),
        (Method::GET, "/open//x", 402),
        (Method::GET, DIRECTORY_PATH, 200),
        (Method::GET, "/.well-known/halometer/mint", 402),
    ] {
        let answer = shop.send(method.clone(), target, None).await;
        assert_eq!(answer.status().as_u16(), status, "{method} {target}");
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == 402);
        for name in ["set-cookie", "payment-receipt"] {
            assert!(!answer.headers().contains_key(name), "{method} {target}");
        }
    }
    assert_eq!(*seen.lock().unwrap(), ["/v1/chat", "/open/x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_panics_is_settled_like_one_that_failed() {
    let service = Router::new().fallback(|| async {
        if now().seconds() > 0 {
            panic!("a test of panics");
        }
    });
    let shop = Shop::selling(service, &[]).await;
    let (answer, cost) = shop.buy("/x").await;
    assert_eq!((answer.status().as_u16(), cost), (502, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_tower_service_can_be_sold() {
    let service = service_fn(|request: HttpRequest<Body>| async move {
        match request.uri().path() {
            "/broken" => Err(std::io::Error::from(ErrorKind::ConnectionReset)),
            _ => Ok(Response::new(Full::new(Bytes::from_static(b"here")))),
        }
    });
    let mut shop = Shop::new(&[], Duration::from_secs(60)).await.unwrap();
    let paid = shop.layer.layer(service);
    shop.serve(Router::new().fallback_service(paid));
    let (answer, cost) = shop.buy("/x").await;
    assert_eq!((answer.status().as_u16(), cost), (200, 8));
    assert_eq!(answer.bytes().await.unwrap(), "here");
    let (answer, cost) = shop.buy("/broken").await;
    assert_eq!((answer.status().as_u16(), cost), (502, 0));
    shop.layer.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_may_outlast_its_lease_is_not_begun_with() {
    let error = Shop::new(&[], Duration::from_secs(690)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(Shop::new(&[], Duration::MAX).await.err().unwrap().kind(), ErrorKind::InvalidInput);
}
