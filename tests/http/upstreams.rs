//! What a call costs when the service does not do what it should, and what of a request reaches it.

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use halometer::protocol::*;
use halometer::testing::stack::{StackOptions, UpstreamOptions};
use halometer::wallet::Accepted;

use crate::world::{Answer, CLASS, QUESTION, TARGET, World, lane};
use halometer::http::clock::now;

/// Pays for one call; its answer, and what it cost by the settlement that the caller gets in the end.
async fn call(world: &World) -> (Answer, Accepted) {
    let mut caller = world.caller();
    let (key, opening) = caller.pay(world, lane(0));
    let answer = world.ask(&opening).await;
    let fetched = world.fetch(&mut caller, &key).await.fetched();
    let accepted = caller.wallet.accept(&key, &fetched, now()).unwrap();
    assert_eq!((world.charged(), world.held()), (accepted.cost.micro(), 0));
    (answer, accepted)
}

fn service<B: axum::response::IntoResponse + Clone + Send + Sync + 'static>(answer: B) -> Router {
    Router::new().route(TARGET, post(move || async move { answer }))
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_what_is_paid_for() {
    let body = r#"{"usage":{"prompt_tokens":100,"completion_tokens":7}}"#;
    let (answer, accepted) = call(&World::selling(service(body)).await).await;
    assert_eq!((answer.status, accepted.cost.micro()), (200, 100 * 2 + 7 * 8));
    assert_eq!(answer.body, body.as_bytes());
    assert!(answer.header("cache-control").unwrap().contains("private"));
    assert_eq!(answer.settlement().refund, accepted.refund);
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_than_the_charge() {
    let body = r#"{"usage":{"prompt_tokens":1000000,"completion_tokens":18446744073709551615}}"#;
    let (answer, accepted) = call(&World::selling(service(body)).await).await;
    assert_eq!((answer.problem(), accepted.cost), (Some(Problem::CapReached), CLASS));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_usage_the_gateway_estimates() {
    for body in [r#"{"usage":null}"#, "plain text"] {
        let (answer, accepted) = call(&World::selling(service(body)).await).await;
        let tokens = |text: &str| text.len().div_ceil(3) as u64;
        assert_eq!((answer.status, accepted.cost.micro()), (200, tokens(QUESTION) * 2 + tokens(body) * 8));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_service_costs_nothing() {
    let world = World::selling(service((StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":{"message":"no"}}"#))).await;
    let (answer, accepted) = call(&world).await;
    assert_eq!((answer.status, accepted.cost), (500, Credits::ZERO));
    // It is the service's own error, and the scheme knows no receipt for one.
    assert_eq!(answer.body, br#"{"error":{"message":"no"}}"#);
    assert!(answer.header("payment-receipt").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_wants_money_itself_is_a_bad_gateway() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::PAYMENT_REQUIRED] {
        let (answer, accepted) = call(&World::selling(service(status)).await).await;
        assert_eq!((answer.status, accepted.cost), (502, Credits::ZERO));
        assert_eq!(answer.settlement().refund, CLASS);
        assert!(answer.header("www-authenticate").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_costs_nothing() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let upstream = Some(UpstreamOptions { url: format!("http://127.0.0.1:{port}"), api_key: None });
    let world = World::with(StackOptions { upstream, ..StackOptions::default() }).await;
    let (answer, accepted) = call(&world).await;
    assert_eq!((answer.status, accepted.cost), (502, Credits::ZERO));
    assert_eq!(answer.settlement().refund, CLASS);
    assert_eq!(answer.problem(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_sees_the_operators_key_and_no_payment() {
    let echo = |headers: HeaderMap| async move {
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let seen = ["authorization", "content-type", "cookie", "connection"].map(|name| (name, value(name)));
        let names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        let cookie = [("set-cookie", "caller=1"), ("payment-receipt", "forged")];
        (cookie, format!("{:?} {names:?}", std::collections::BTreeMap::from(seen)))
    };
    let world = World::selling(Router::new().route(TARGET, post(echo))).await;
    let (answer, _) = call(&world).await;
    let seen = String::from_utf8(answer.body.clone()).unwrap();
    assert!(seen.contains(r#""authorization": Some("Bearer operator's key")"#), "{seen}");
    assert!(seen.contains(r#""content-type": Some("application/json")"#), "{seen}");
    assert!(seen.contains(r#""cookie": None"#) && seen.contains(r#""connection": None"#), "{seen}");
    assert!(seen.contains(r#""te""#), "{seen}");
    assert!(!seen.contains("forwarded"), "{seen}");
    assert!(answer.header("set-cookie").is_none());
    answer.settlement();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_is_a_bad_gateway_and_costs_nothing() {
    let upgrade = (StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "websocket")]);
    let (answer, accepted) = call(&World::selling(service(upgrade)).await).await;
    assert_eq!((answer.status, accepted.cost), (502, Credits::ZERO));
}
