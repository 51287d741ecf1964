//! A gateway beside a proxy of another make: `cargo run --release --features http,envoy --example beside`, and then nginx, Caddy,
//! Traefik or Envoy with its configuration in `examples/`.
//!
//! `docs/beside.md` goes through it step by step. A service that is sold by the call, halometer's two listeners, and, once a proxy
//! answers at port 8080, a caller who pays for two calls through it. As in `paid_service`, the issuer is one for development, and
//! everything is in memory.

// An example says what it does.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap as AxumHeaders;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use halometer::http::beside::{
    Beside, BesideParts, CALL_HEADER, CallReport, CallSettled, ProxySecret, REPORT_PATH, SECRET_HEADER,
};
use halometer::http::payer::Client;
use halometer::http::payment::RECEIPT_HEADER;
use halometer::http::pricing::{Call, FixedPricing, Meter, NotSold, Pricing, ReportedPricing};
use halometer::http::server::Listener;
use halometer::testing::market::{Market, MarketOptions};
use http::{HeaderMap, Method};

/// Where everybody listens, as the configurations in `examples/` have it.
struct Ports {
    proxy: u16,
    inner: u16,
    own: u16,
    service: u16,
}

/// What proxy, service and gateway know. In the configurations it is the same; a real one is made by `openssl rand -hex 32`.
const SECRET: &str = "replace-this-by-32-random-bytes-in-hex";

/// A page has a price; what else is asked for has the one that the service says.
struct Prices(FixedPricing);

impl Pricing for Prices {
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        self.0.meter(call).or_else(|_| ReportedPricing::new().meter(call))
    }
}

/// The service. It reports what a call cost before it answers, and hands the receipt on. Behind a proxy that reports, a header
/// `Halometer-Cost` would do.
fn service(inner: String) -> Router {
    Router::new()
        .route("/pages/{name}", get(|| async { "a page" }))
        .route("/square/{number}", get(square))
        .with_state(inner)
}

async fn square(State(inner): State<String>, Path(number): Path<u64>, headers: AxumHeaders) -> Response {
    let mut answer = number.wrapping_mul(number).to_string().into_response();
    let Some(call) = headers.get(CALL_HEADER).and_then(|call| call.to_str().ok()) else { return answer };
    let report =
        CallReport { call: call.to_owned(), cost: None, usage: Some([("digit".to_owned(), 3)].into()), status: None };
    let settled = async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().ok()?;
        let request = client.post(format!("{inner}{REPORT_PATH}")).header(SECRET_HEADER, SECRET);
        let told = request.body(serde_json::to_vec(&report).ok()?).send().await.ok()?.bytes().await.ok()?;
        serde_json::from_slice::<CallSettled>(&told).ok()
    };
    if let Some(receipt) = settled.await.and_then(|settled| settled.receipt?.parse().ok()) {
        answer.headers_mut().insert(RECEIPT_HEADER, receipt);
    }
    answer
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("halometer listens; start a proxy at port 8080");
    run(Ports { proxy: 8080, inner: 8403, own: 8404, service: 9000 }).await
}

async fn run(ports: Ports) -> Result<(), Box<dyn Error>> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let origin = format!("http://{}", local(ports.proxy));

    // Issuer and gateway, for development. The gateway's origin is the proxy.
    let market = Market::open(MarketOptions::new(&origin, 1_000, &[("digit", 4), ("page", 25)]))?;

    // The gateway, and beside the proxy.
    let layer = market.layer(Prices(FixedPricing::new().route("GET /pages/*".parse()?, "page")), Vec::new())?;
    let beside = Beside::new(BesideParts::new(layer, ProxySecret::new(SECRET)?, Duration::from_secs(330)))?;
    let inner = Listener::bind(local(ports.inner)).await?.serve(beside.router());
    let own = Listener::bind(local(ports.own)).await?.serve(beside.own_paths());
    let service = Listener::bind(local(ports.service)).await?.serve(service(inner.url()));

    // The caller waits for the proxy. It has paid once, and pays call by call from here on.
    let client = Client::plain()?;
    while client.challenge(&origin).await.is_err() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let payer = market.payer().await?;
    for (target, cost) in [("/pages/first", 25), ("/square/12", 12)] {
        let paid = payer.call(Method::GET, target, HeaderMap::new(), Bytes::new()).await?;
        let body = String::from_utf8_lossy(&paid.body);
        println!("{origin}{target}: {} \"{body}\", for {} micro-credits", paid.status, paid.accepted.cost);
        if paid.accepted.cost.micro() != cost {
            return Err(format!("{target} should have cost {cost}").into());
        }
    }

    for server in [service, inner, own] {
        server.shutdown().await;
    }
    beside.drain(Duration::from_secs(1)).await;
    Ok(())
}
