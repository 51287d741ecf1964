//! A service of one's own, sold by the call, and a caller who pays for one:
//! `cargo run --release --features http --example paid_service`.
//!
//! Issuer, gateway, service and caller are in one process here, and talk over HTTP all the same. The issuer is one for development
//! (`src/testing/market.rs`): everything is in memory, and payments are made by saying so. What a real deployment has instead: TLS in front, a durable spent set, a payment provider, and keys that
//! are kept.

// An example says what it does.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use halometer::http::exchange::PaymentLayerParts;
use halometer::http::gateway::GatewayService;
use halometer::http::pricing::{Call, End, Meter, Metered, NotSold, Pricing};
use halometer::http::server::Listener;
use halometer::http::upstream::{Upstream, UpstreamLimits};
use halometer::testing::market::{Market, MarketOptions};
use http::{HeaderMap, Method};

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
    // The service knows nothing of payments.
    let service = listen().await?.serve(Router::new().fallback(|| async { "la ".repeat(1_500) }));

    // Issuer and gateway share a spent set. The directory says who they are and what things cost; it is signed, and the same for all.
    let listener = listen().await?;
    let prices = [("call", 100), ("kilobyte", 10)];
    let market = Market::open(MarketOptions::new(format!("http://{}", listener.address()), 1_000, &prices))?;
    let paid_service = GatewayService::start(
        PaymentLayerParts::new(
            Arc::clone(market.gateway()),
            Arc::clone(market.issuer()),
            market.key(),
            Box::new(ByKilobyte),
        ),
        Upstream::new(&service.url(), None, UpstreamLimits::default())?,
    )?;
    let server = listener.serve(paid_service.router());

    // The caller has paid once. Proofs are made ahead from here on; a call takes one that is ready.
    let payer = market.payer().await?;
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
