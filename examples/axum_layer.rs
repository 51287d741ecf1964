//! An axum service that sells its own routes, without a proxy: `cargo run --release --features http --example axum_layer`.
//!
//! `docs/embed.md` goes through it step by step. Issuer and gateway are a market for development, in this process and in memory;
//! its source, `src/testing/market.rs`, shows how both are made.

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
use halometer::http::exchange::PaymentLayerParts;
use halometer::http::layer::PaymentLayer;
use halometer::http::pricing::{Metered, Report, ReportedPricing};
use halometer::http::server::Listener;
use halometer::testing::market::{Market, MarketOptions};
use http::{HeaderMap, Method};
use hyper::body::Frame;

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
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;

    // Issuer and gateway, for development: what a call is charged at most, and what things cost.
    let prices = [("sum", 25), ("number", 2)];
    let market = Market::open(MarketOptions::new(format!("http://{}", listener.address()), 1_000, &prices))?;

    // The layer around the service.
    let layer = PaymentLayer::start(
        PaymentLayerParts::new(
            Arc::clone(market.gateway()),
            Arc::clone(market.issuer()),
            market.key(),
            Box::new(ReportedPricing::new()),
        )
        .with_free(vec!["GET /health".parse()?])
        .with_call_timeout(Duration::from_secs(300)),
    )?;
    let server = listener.serve(service().layer(layer.clone()));

    // The caller has paid once, and pays call by call from here on.
    let payer = market.payer().await?;
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
