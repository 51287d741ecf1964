//! An axum service that sells its own routes, without a proxy: `cargo run --release --features http --example axum_layer`.
//!
//! `docs/embed.md` goes through it step by step. As in `paid_service`, everything is in one process and in memory.

// An example says what it does.
#![allow(clippy::print_stdout)]

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, body::HttpBody};
use halometer::gateway::{Gateway, GatewayParts};
use halometer::http::clock::now;
use halometer::http::exchange::GatewayLimits;
use halometer::http::exchange::PaymentLayerParts;
use halometer::http::layer::PaymentLayer;
use halometer::http::observer::NoObserver;
use halometer::http::payer::{Client, Payer, PayerParts};
use halometer::http::pricing::{Metered, Report, ReportedPricing};
use halometer::http::server::Listener;
use halometer::issuer::{DevelopmentPayments, EpochKeys, Issuer};
use halometer::protocol::*;
use halometer::store::{MemoryMintBook, MemorySpentSet, SpentSet as _};
use halometer::wallet::{MemoryJournal, Policy, RootSecret, Wallet};
use http::{HeaderMap, Method};
use hyper::body::Frame;

const DAY: u64 = 86_400;
const CHARGE: Credits = Credits::from_micro(1_000);

/// The service. It knows what things cost it, and nothing of payments.
fn service() -> Router {
    Router::new()
        .route("/health", get(|| async { "well" }))
        .route("/square/{number}", get(square))
        .route("/count", post(count))
}

/// Says what it cost with its answer.
async fn square(Path(number): Path<u64>) -> Response {
    let mut answer = number.wrapping_mul(number).to_string().into_response();
    answer.extensions_mut().insert(Metered::usage([("sum", 1)]));
    answer
}

/// Says what it has cost as it goes on.
async fn count(Extension(report): Extension<Report>) -> Body {
    Body::new(Counting { report, next: 1 })
}

struct Counting {
    report: Report,
    next: u64,
}

impl HttpBody for Counting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let number = self.next;
        self.next += 1;
        self.report.set(Metered::usage([("number", number.min(100))]));
        std::task::Poll::Ready((number <= 100).then(|| Ok(Frame::data(format!("{number} ").into()))))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut rng = rand::rng();
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;

    // What is signed by the issuer, and the same for everybody.
    let root = RootSigningKey::generate(&mut rng);
    let (number, mut keys) = (EpochNumber::new(1), EpochKeys::new());
    let (id, key) = (GatewayId::from_bytes(rand::random()), GatewaySigningKey::generate(&mut rng));
    let month = Window { from: now(), until: now().after(30 * DAY) };
    let price = |item: &str, credits| Price { item: item.to_owned(), credits: Credits::from_micro(credits), per: 1 };
    let directory = Directory::new(DirectoryParts {
        root: root.public_key(),
        serial: 1,
        published: now(),
        quantum: Credits::from_micro(1),
        grid: Grid::new(3_600).ok_or("the grid is too fine")?,
        evidence_seconds: 7 * DAY as u32,
        limits: Limits { session_seconds: 600 },
        classes: vec![CHARGE],
        tariffs: vec![Tariff::new(month, vec![price("sum", 25), price("number", 2)])?],
        epochs: vec![Epoch { number, key: keys.generate(number, &mut rng), issue: month, spend: month }],
        gateways: vec![GatewayEntry {
            id,
            origins: vec![format!("http://{}", listener.address())],
            key: key.public_key(),
        }],
    })?;
    let set = Arc::new(MemorySpentSet::new());
    set.create(number)?;
    let payments = Arc::new(DevelopmentPayments::new());
    let mints = Arc::new(MemoryMintBook::new());
    let issuer = Arc::new(Issuer::new(&root, directory.clone(), keys, mints, payments.clone())?);
    let owner = OwnerId::from_bytes(rand::random());
    let parts = GatewayParts { id, directory, set, owner, lease_seconds: 700, quotas: Default::default() };
    let gateway = Arc::new(Gateway::new(parts, now())?);

    // The layer around the service.
    let layer = PaymentLayer::start(PaymentLayerParts {
        gateway,
        issuer: Arc::clone(&issuer),
        pricing: Box::new(ReportedPricing::new()),
        free: vec!["GET /health".parse()?],
        observer: Arc::new(NoObserver),
        limits: GatewayLimits::default(),
        call_timeout: Duration::from_secs(300),
        key,
        upkeep: None,
    })?;
    let server = listener.serve(service().layer(layer.clone()));

    // The caller pays once, and then call by call.
    let payment = PaymentId::of_reference(b"invoice 1");
    payments.grant(payment, Credits::from_micro(80_000))?;
    let (secret, device) = (RootSecret::generate(&mut rng), DeviceId::from_bytes([0; 8]));
    let signed = issuer.signed_directory();
    let mut wallet = Wallet::new(secret, device, root.public_key(), signed, MemoryJournal::new())?;
    let request = wallet.request_mint(payment, [Credits::from_micro(10_000); LANES])?;
    wallet.accept_mint(&payment, &issuer.mint(&request, now())?)?;
    let payer = Payer::start(wallet, PayerParts::new(id, Policy::personal(CHARGE), Client::plain()?)).await?;
    for (method, target, cost) in [(Method::GET, "/square/12", 25), (Method::POST, "/count", 200)] {
        let paid = payer.call(method, target, HeaderMap::new(), Bytes::new()).await?;
        println!("{target}: {} bytes for {} micro-credits", paid.body.len(), paid.accepted.cost);
        if paid.accepted.cost.micro() != cost {
            return Err(format!("{target} should have cost {cost}").into());
        }
    }

    server.shutdown().await;
    layer.drain().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_does_what_it_says() {
        super::main().unwrap();
    }
}
