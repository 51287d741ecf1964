//! A service of one's own, sold by the call, and a caller who pays for one:
//! `cargo run --release --features http --example paid_service`.
//!
//! Issuer, gateway, service and caller are in one process here, and talk over HTTP all the same. Everything is in memory; payments are
//! made by saying so. What a real deployment has instead: TLS in front, a durable spent set, a payment provider, and keys that
//! are kept.

// An example says what it does.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use halometer::gateway::{Gateway, GatewayParts};
use halometer::http::clock::now;
use halometer::http::exchange::GatewayLimits;
use halometer::http::gateway::{GatewayService, GatewayServiceParts};
use halometer::http::observer::NoObserver;
use halometer::http::payer::{Client, Payer, PayerParts};
use halometer::http::pricing::{Call, End, Meter, Metered, NotSold, Pricing};
use halometer::http::server::Listener;
use halometer::http::upstream::{Upstream, UpstreamLimits};
use halometer::issuer::{DevelopmentPayments, EpochKeys, Issuer};
use halometer::protocol::*;
use halometer::store::{MemoryMintBook, MemorySpentSet, SpentSet as _};
use halometer::wallet::{MemoryJournal, Policy, RootSecret, Wallet};
use http::{HeaderMap, Method};

const DAY: u64 = 86_400;
const CHARGE: Credits = Credits::from_micro(1_000);

/// What this service costs: so much a call, and so much for each kilobyte of the answer, if there is one.
struct ByKilobyte;

impl Pricing for ByKilobyte {
    fn meter(&self, _: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        Ok(Box::new(Kilobytes { success: false, bytes: 0 }))
    }
}

/// One call, as far as it has come.
struct Kilobytes {
    success: bool,
    bytes: usize,
}

impl Meter for Kilobytes {
    fn head(&mut self, head: &mut http::response::Parts) {
        self.success = head.status.is_success();
    }

    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        self.bytes += chunk.len();
        chunk
    }

    fn metered(&self) -> Metered {
        match self.success {
            true => Metered::usage([("call", 1), ("kilobyte", self.bytes.div_ceil(1_000) as u64)]),
            false => Metered::NOTHING,
        }
    }

    // A longer answer than the charge pays for is stopped there.
    fn least(&self) -> Metered {
        self.metered()
    }

    fn end(&mut self, _: End) -> Metered {
        self.metered()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut rng = rand::rng();

    // The service knows nothing of payments.
    let service = listen().await?.serve(Router::new().fallback(|| async { "la ".repeat(1_500) }));

    // The directory says who the parties are and what things cost. It is signed, and the same for everybody.
    let listener = listen().await?;
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
        tariffs: vec![Tariff::new(month, vec![price("call", 100), price("kilobyte", 10)])?],
        epochs: vec![Epoch { number, key: keys.generate(number, &mut rng), issue: month, spend: month }],
        gateways: vec![GatewayEntry {
            id,
            origins: vec![format!("http://{}", listener.address())],
            key: key.public_key(),
        }],
    })?;

    // Issuer and gateway share the spent set.
    let set = Arc::new(MemorySpentSet::new());
    set.create(number)?;
    let payments = Arc::new(DevelopmentPayments::new());
    let mints = Arc::new(MemoryMintBook::new());
    let issuer = Arc::new(Issuer::new(&root, directory.clone(), keys, mints, payments.clone())?);
    let owner = OwnerId::from_bytes(rand::random());
    let gateway = Gateway::new(
        GatewayParts { id, directory, set, owner, lease_seconds: 700, quotas: Default::default() },
        now(),
    )?;
    let paid_service = GatewayService::start(GatewayServiceParts {
        gateway: Arc::new(gateway),
        issuer: Arc::clone(&issuer),
        upstream: Upstream::new(&service.url(), None, UpstreamLimits::default())?,
        pricing: Box::new(ByKilobyte),
        free: Vec::new(),
        observer: Arc::new(NoObserver),
        limits: GatewayLimits::default(),
        key,
        upkeep: None,
    })?;
    let server = listener.serve(paid_service.router());

    // The caller pays once, and has the payment minted into eight lanes.
    let payment = PaymentId::of_reference(b"invoice 1");
    payments.grant(payment, Credits::from_micro(80_000))?;
    let device = DeviceId::from_bytes([0; 8]);
    let secret = RootSecret::generate(&mut rng);
    let signed = issuer.signed_directory();
    let mut wallet = Wallet::new(secret, device, root.public_key(), signed, MemoryJournal::new())?;
    let request = wallet.request_mint(payment, [Credits::from_micro(10_000); LANES])?;
    wallet.accept_mint(&payment, &issuer.mint(&request, now())?)?;

    // Proofs are made ahead from here on; a call takes one that is ready.
    let parts = PayerParts::new(id, Policy::personal(CHARGE), Client::plain()?);
    let payer = Payer::start(wallet, parts).await?;
    let paid = payer.call(Method::GET, "/song", HeaderMap::new(), Bytes::new()).await?;
    let balance = payer.with_wallet(|wallet| wallet.balance().total()).await?;
    println!("{}: {} bytes for {} micro-credits, {balance} left", paid.status, paid.body.len(), paid.accepted.cost);

    server.shutdown().await;
    paid_service.drain().await;
    service.shutdown().await;
    Ok(())
}

async fn listen() -> std::io::Result<Listener> {
    Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_does_what_it_says() {
        super::main().unwrap();
    }
}
