//! Signed receipts.

use std::io::ErrorKind;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use halometer::http::exchange::PaymentLayerParts;
use halometer::http::gateway::GatewayService;
use halometer::http::payment::PaymentReceipt;
use halometer::http::pricing::{INPUT_TOKEN, OUTPUT_TOKEN, TokenPricing};
use halometer::http::upstream::{Upstream, UpstreamLimits};
use halometer::issuer::{DevelopmentPayments, EpochKeys, Issuer};
use halometer::protocol::*;
use halometer::store::MemoryMintBook;

use crate::world::{Answer, QUESTION, World, lane};
use halometer::http::clock::now;

/// The receipt of an answer, wherever it stands.
fn signed(answer: &Answer) -> Receipt {
    let bytes = match answer.header("payment-receipt") {
        Some(value) => PaymentReceipt::from_header_value(value).unwrap().signed().unwrap(),
        None => answer.details().receipt(),
    };
    Receipt::from_bytes(&bytes.expect("a receipt")).unwrap()
}

fn subject(world: &World, spend: SpendKey, body: &str) -> ReceiptSubject {
    let directory = world.stack.gateway().directory();
    let content = ContentDigest::of(body.as_bytes());
    ReceiptSubject { issuer: directory.issuer(), gateway: world.gateway(), spend, content }
}

fn key(world: &World) -> GatewayKey {
    world.stack.gateway().directory().gateway(&world.gateway()).unwrap().key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_what_was_metered_and_what_it_cost() {
    let body = r#"{"usage":{"prompt_tokens":100,"completion_tokens":7}}"#;
    let world = World::selling(Router::new().fallback(move || async move { body })).await;
    let mut caller = world.caller();
    let mut paid = Vec::new();
    for index in 0..2 {
        let (spend, opening) = caller.pay(&world, lane(index));
        let answer = world.ask(&opening).await;
        let receipt = signed(&answer);
        let usage = [(INPUT_TOKEN.to_owned(), 100), (OUTPUT_TOKEN.to_owned(), 7)];
        assert_eq!((receipt.usage(), receipt.cost().micro()), (&usage[..], 256));
        assert_eq!(receipt.verify(&key(&world), &subject(&world, spend, QUESTION)), Ok(()));
        // It agrees with the settlement, or it is evidence.
        assert_eq!(caller.wallet.accept(&spend, &answer.settlement(), now()).unwrap().cost, receipt.cost());
        assert!(answer.header("payment-receipt").unwrap().len() < 1_000);
        paid.push((spend, receipt));
    }
    // Of another spend, another request, another gateway's key.
    let [(first, receipt), (second, other)] = &paid[..] else { panic!() };
    assert!(receipt.verify(&key(&world), &subject(&world, *second, QUESTION)).is_err());
    assert!(other.verify(&key(&world), &subject(&world, *first, QUESTION)).is_err());
    assert!(receipt.verify(&key(&world), &subject(&world, *first, "another question")).is_err());
    let stranger = GatewaySigningKey::from_bytes(&[1; 32]).public_key();
    assert!(receipt.verify(&stranger, &subject(&world, *first, QUESTION)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_call_cost_is_signed_as_well() {
    let world = World::selling(Router::new().fallback(|| async { StatusCode::UNAUTHORIZED })).await;
    let (spend, opening) = world.caller().pay(&world, lane(0));
    let answer = world.ask(&opening).await;
    assert_eq!(answer.status, 502);
    let receipt = signed(&answer);
    assert_eq!(receipt.cost(), Credits::ZERO);
    assert_eq!(receipt.verify(&key(&world), &subject(&world, spend, QUESTION)), Ok(()));
    // What is asked for again was signed once.
    assert!(world.ask(&opening).await.details().receipt.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_receipts_nobody_would_believe_does_not_start() {
    let world = World::new().await;
    let directory = world.stack.issuer().directory().clone();
    // Not even one that signs nothing for the present.
    let (mints, payments) = (Arc::new(MemoryMintBook::new()), Arc::new(DevelopmentPayments::new()));
    let issuer = Issuer::new(world.stack.root_signing_key(), directory, EpochKeys::new(), mints, payments);
    let started = GatewayService::start(
        PaymentLayerParts::new(
            Arc::new(world.replica()),
            Arc::new(issuer.unwrap()),
            GatewaySigningKey::from_bytes(&[1; 32]),
            Box::new(TokenPricing::new()),
        ),
        Upstream::new(world.stack.upstream_url(), None, UpstreamLimits::default()).unwrap(),
    );
    assert_eq!(started.unwrap_err().kind(), ErrorKind::InvalidInput);
}
