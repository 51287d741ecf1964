//! Calls a paid API, anonymously: `cargo run --release --features http --example call`.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use halometer::testing::stack::{Stack, StackOptions};
use http::{HeaderMap, Method};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An API that is sold by the call, here in this process.
    let api = Stack::start(StackOptions::default()).await?;
    // A wallet that has paid once, and a client in front of it. No call tells the API which wallet pays.
    let payer = api.payer().await?;
    let paid = payer.call(Method::GET, "/v1/models", HeaderMap::new(), Default::default()).await?;
    println!("{}: {} of {} micro-credits", paid.status, paid.accepted.cost, paid.accepted.charge);
    payer.shutdown().await;
    api.shutdown().await;
    Ok(())
}

#[test]
fn a_call_is_paid() {
    main().unwrap();
}
