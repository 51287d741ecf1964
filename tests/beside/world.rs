//! An issuer, a gateway beside a proxy, a service that is told by its requests what to answer, and callers with credit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request as HttpRequest;
use axum::response::{IntoResponse as _, Response};
use halometer::gateway::{Gateway, GatewayParts};
use halometer::http::beside::{Beside, BesideParts, CALL_HEADER, CallReport, ProxySecret, REPORT_PATH, SECRET_HEADER};
use halometer::http::clock::now;
use halometer::http::exchange::PaymentLayerParts;
use halometer::http::layer::PaymentLayer;
use halometer::http::operate::Tally;
use halometer::http::payer::{Client, Payer, PayerParts};
use halometer::http::payment::{Credential, Payload, PaymentChallenge};
use halometer::http::pricing::{Call, FixedPricing, Meter, Metered, NotSold, Pricing, ReportedPricing};
use halometer::http::problem::ProblemDetails;
use halometer::http::server::{Listener, Server};
use halometer::http::wire::SETTLEMENT_PATH;
use halometer::protocol::*;
use halometer::store::{MemorySpentSet, RecordState, SpentSet as _};
use halometer::testing::stack::{Stack, StackOptions};
use halometer::wallet::{LaneId, MemoryJournal, Policy, ProvingKeys, RootSecret, Wallet};
use http::{HeaderMap, Method, StatusCode};

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const CLASS: Credits = Credits::from_micro(4_000);
pub(crate) const PAID: u64 = 8 * 20_000;
/// What a call below `/fixed/` costs: an output token.
pub(crate) const FIXED: u64 = 8;
/// The cost of a call that nobody reports.
pub(crate) const UNREPORTED: u64 = 77;

/// How a world differs from what it is by itself.
pub(crate) struct Options {
    pub(crate) hold: Duration,
    pub(crate) unreported: Metered,
    pub(crate) hold_all: bool,
    /// Whether the service reports what its calls cost, or leaves it to the proxy, which is told by a header.
    pub(crate) service_reports: bool,
    pub(crate) lease_seconds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(30),
            unreported: Metered::Cost(Credits::from_micro(UNREPORTED)),
            hold_all: false,
            service_reports: true,
            lease_seconds: 700,
        }
    }
}

/// A request as it came to the service.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) struct World {
    /// What the operator is told.
    pub(crate) tally: Arc<Tally>,
    pub(crate) stack: Stack,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) layer: PaymentLayer,
    pub(crate) beside: Beside,
    inner: Option<Server>,
    own: Option<Server>,
    service: Server,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Where callers go: the proxy, once it runs.
    pub(crate) host: String,
}

pub(crate) struct Caller {
    pub(crate) wallet: Wallet<MemoryJournal>,
    pub(crate) keys: ProvingKeys,
}

/// Calls below `/fixed/` have a price; elsewhere the service states it.
struct Prices(FixedPricing);

impl Pricing for Prices {
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        match call.path() {
            path if path.starts_with("/fixed/") => self.0.meter(call),
            path if path.starts_with("/dear") => Ok(Box::new(Dear)),
            path if path.starts_with("/absent") => Err(NotSold::Path),
            _ => ReportedPricing::new().meter(call),
        }
    }
}

/// More than any charge.
struct Dear;

impl Meter for Dear {
    fn least(&self) -> Metered {
        self.metered()
    }

    fn metered(&self) -> Metered {
        Metered::Cost(Credits::from_micro(u64::MAX))
    }

    fn end(&mut self, _: halometer::http::pricing::End) -> Metered {
        self.metered()
    }
}

pub(crate) async fn listen() -> Listener {
    Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap()
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn plain_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0).build().unwrap()
}

impl World {
    pub(crate) async fn new(options: Options) -> Self {
        let Options { hold, unreported, hold_all, service_reports, lease_seconds } = options;
        let host = format!("127.0.0.1:{}", free_port());
        let (id, key) = (GatewayId::from_bytes(rand::random()), GatewaySigningKey::generate(&mut rand::rng()));
        let entry = GatewayEntry { id, origins: vec![format!("http://{host}")], key: key.public_key() };
        let adjust = Some(Box::new(move |parts: &mut DirectoryParts| parts.gateways.push(entry)) as _);
        let stack = Stack::start(StackOptions { adjust, ..StackOptions::default() }).await.unwrap();
        let set = Arc::new(MemorySpentSet::new());
        let directory = stack.issuer().directory().clone();
        directory.epochs().iter().for_each(|epoch| set.create(epoch.number).unwrap());
        let owner = OwnerId::from_bytes(rand::random());
        let parts = GatewayParts::new(id, directory, set, owner, lease_seconds);
        let gateway = Arc::new(Gateway::new(parts, now()).unwrap());
        let fixed = FixedPricing::new().route("* /fixed/**".parse().unwrap(), "output_token");
        let tally = Arc::new(Tally::default());
        let layer = PaymentLayer::start(
            PaymentLayerParts::new(gateway.clone(), stack.shared_issuer(), key, Box::new(Prices(fixed)))
                .with_free(vec!["GET /health".parse().unwrap()])
                .with_observer(Arc::clone(&tally) as _)
                .with_call_timeout(Duration::from_secs(60)),
        )
        .unwrap();
        let secret = ProxySecret::new(SECRET).unwrap();
        let parts = BesideParts::new(layer.clone(), secret, hold).with_unreported(unreported).with_hold_all(hold_all);
        let beside = Beside::new(parts).unwrap();
        let inner = listen().await.serve(beside.router());
        let own = listen().await.serve(beside.own_paths());
        let seen = Arc::default();
        let service = service(Arc::clone(&seen), service_reports.then(|| inner.url()));
        let service = listen().await.serve(service);
        Self { tally, stack, gateway, layer, beside, inner: Some(inner), own: Some(own), service, seen, host }
    }

    pub(crate) fn inner_url(&self) -> String {
        self.inner.as_ref().unwrap().url()
    }

    pub(crate) fn ports(&self) -> [u16; 4] {
        let port = |server: &Option<Server>| server.as_ref().unwrap().address().port();
        let own = self.host.rsplit(':').next().unwrap().parse().unwrap();
        [own, port(&self.inner), port(&self.own), self.service.address().port()]
    }

    /// The requests that came to the service.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Halometer is gone.
    pub(crate) async fn stop_halometer(&mut self) {
        for server in [self.inner.take(), self.own.take()].into_iter().flatten() {
            server.shutdown().await;
        }
    }

    /// A caller that has paid.
    pub(crate) fn caller(&self) -> Caller {
        let (issuer, payment) = (self.stack.issuer(), self.stack.pay(Credits::from_micro(PAID)).unwrap());
        let (root, device) = (RootSecret::from_bytes(rand::random()), DeviceId::from_bytes([1; 8]));
        let directory = issuer.signed_directory();
        let mut wallet = Wallet::new(root, device, self.stack.root_key(), directory, MemoryJournal::new()).unwrap();
        let request = wallet.request_mint(payment, [Credits::from_micro(PAID / 8); LANES], now()).unwrap();
        wallet.accept_mint(&payment, &issuer.mint(&request, now()).unwrap(), now()).unwrap();
        Caller { wallet, keys: ProvingKeys::new() }
    }

    /// The same with proofs made ahead.
    pub(crate) async fn payer(&self) -> Payer<MemoryJournal> {
        let parts = PayerParts::new(self.gateway.id(), Policy::agent(CLASS, 2), Client::plain().unwrap());
        let payer = Payer::start(self.caller().wallet, parts).await.unwrap();
        payer.wait_ready(3).await.unwrap();
        payer
    }

    pub(crate) fn credential(&self, payload: Payload) -> String {
        let challenge = PaymentChallenge::of(self.gateway.directory(), &self.gateway.id());
        Credential { challenge, payload }.to_header_value()
    }

    /// A credential for a request.
    pub(crate) fn pay(&self, caller: &mut Caller, lane: u32, target: &str, body: &[u8]) -> (SpendKey, String) {
        let request = Request::new(&self.host, "POST", target, ContentDigest::of(body)).unwrap();
        let lane = LaneId { payment: 0, lane };
        let job = caller.wallet.plan(lane, &self.gateway.id(), CLASS, now()).unwrap();
        let key = caller.keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        let paid = caller.wallet.authorise(ready, &request, now()).unwrap();
        (paid.key, self.credential(Payload::Opening(paid.opening)))
    }

    /// Sends a request to where callers send them.
    pub(crate) async fn post(&self, target: &str, credential: Option<&str>, body: &[u8]) -> reqwest::Response {
        self.post_with(target, credential, body, &[]).await
    }

    pub(crate) async fn post_with(
        &self,
        target: &str,
        credential: Option<&str>,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> reqwest::Response {
        let request = plain_client().request(Method::POST, format!("http://{}{target}", self.host));
        let request = credential.iter().fold(request, |request, value| request.header("authorization", *value));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(body.to_vec()).send().await.unwrap()
    }

    /// Asks as nginx does.
    pub(crate) async fn check(&self, target: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let request = plain_client().get(format!("{}/check/nginx", self.inner_url())).header(SECRET_HEADER, SECRET);
        let own = [("x-original-method", "POST"), ("x-original-uri", target), ("x-original-host", &self.host)];
        let request = own.iter().chain(headers).fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap()
    }

    /// Pays for a call that is then held; its handle.
    pub(crate) async fn hold(&self, caller: &mut Caller, lane: u32) -> (SpendKey, String) {
        let (key, credential) = self.pay(caller, lane, "/told", b"");
        let answer = self.check("/told", &[("authorization", &credential)]).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        (key, answer.headers()[CALL_HEADER].to_str().unwrap().to_owned())
    }

    pub(crate) async fn report(&self, report: &CallReport) -> reqwest::Response {
        report_to(&self.inner_url(), report).await
    }

    /// What a spend cost, if it is settled.
    pub(crate) fn cost(&self, key: &SpendKey) -> Option<u64> {
        let record = self.gateway.set().find(key.epoch, &key.nullifier).unwrap()?;
        match record.state {
            RecordState::Settled(settlement) => Some(CLASS.micro() - settlement.refund.micro()),
            _ => None,
        }
    }

    /// Sends a request to one of the gateway's own paths.
    pub(crate) async fn post_own(&self, path: &str, credential: Option<&str>, body: Vec<u8>) -> reqwest::Response {
        let url = format!("{}{path}", self.own.as_ref().unwrap().url());
        let request = plain_client().post(url).header("host", &self.host).body(body);
        let request = credential.iter().fold(request, |request, value| request.header("authorization", *value));
        request.send().await.unwrap()
    }

    /// The settlement as its caller gets it, at the gateway's own paths.
    pub(crate) async fn fetch(&self, caller: &mut Caller, key: &SpendKey) -> StatusCode {
        let request = Request::new(&self.host, "POST", SETTLEMENT_PATH, ContentDigest::of(b"")).unwrap();
        let following = self.credential(Payload::Following(caller.wallet.fetch(key, &request).unwrap()));
        self.post_own(SETTLEMENT_PATH, Some(&following), Vec::new()).await.status()
    }
}

pub(crate) fn call_report(call: &str, cost: u64) -> CallReport {
    CallReport { call: call.to_owned(), cost: Some(cost), usage: None, status: None }
}

pub(crate) async fn report_to(inner: &str, report: &CallReport) -> reqwest::Response {
    let body = serde_json::to_vec(report).unwrap();
    let request = plain_client().post(format!("{inner}{REPORT_PATH}")).header(SECRET_HEADER, SECRET);
    request.body(body).send().await.unwrap()
}

/// `/told/12` costs 12; `/slow/12` too, and takes two seconds; `/error/12` is a 500.
fn service(seen: Arc<Mutex<Vec<Seen>>>, reports_to: Option<String>) -> Router {
    Router::new().fallback(move |request: HttpRequest| {
        let (seen, reports_to) = (Arc::clone(&seen), reports_to.clone());
        async move { serve(seen, reports_to, request).await }
    })
}

async fn serve(seen: Arc<Mutex<Vec<Seen>>>, reports_to: Option<String>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    let target = parts.uri.path_and_query().unwrap().as_str().to_owned();
    seen.lock().unwrap().push(Seen { target, headers: parts.headers.clone(), body });
    let mut path = parts.uri.path().split('/').skip(1);
    let (kind, number) = (path.next().unwrap_or_default(), path.next().and_then(|number| number.parse().ok()));
    if kind == "slow" {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let mut headers = HeaderMap::new();
    headers.insert("set-cookie", "caller=1".parse().unwrap());
    let status = if kind == "error" { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    let call = parts.headers.get(CALL_HEADER).and_then(|call| call.to_str().ok());
    match (number, reports_to, call) {
        (Some(cost), Some(inner), Some(call)) => {
            let settled = report_to(&inner, &call_report(call, cost)).await;
            assert_eq!(settled.status(), 200);
            let settled: HashMap<String, serde_json::Value> =
                serde_json::from_slice(&settled.bytes().await.unwrap()).unwrap();
            assert_eq!(settled["cost"], cost);
            headers.insert("payment-receipt", settled["receipt"].as_str().unwrap().parse().unwrap());
        }
        (Some(cost), None, _) => drop(headers.insert("halometer-cost", cost.into())),
        _ => drop(headers.insert("payment-receipt", "forged".parse().unwrap())),
    }
    (status, headers, "here").into_response()
}

pub(crate) async fn problem(answer: reqwest::Response) -> Option<Problem> {
    details(answer).await.kind()
}

pub(crate) async fn details(answer: reqwest::Response) -> ProblemDetails {
    let body = answer.bytes().await.unwrap();
    serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&body)))
}

/// Waits for something that is bound to happen; not for ever, in case it is not.
pub(crate) async fn until(happened: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen in 30 seconds");
}
