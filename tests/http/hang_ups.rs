//! Callers that hang up, dawdle, or send too much.

use std::time::Duration;

use halometer::http::exchange::GatewayLimits;
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use tokio::io::AsyncWriteExt as _;

use crate::world::{CLASS, QUESTION, TARGET, World, assert_refused, lane, until};
use halometer::http::clock::now;

fn limited(limits: GatewayLimits) -> StackOptions {
    StackOptions { limits, ..StackOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_hung_up_is_settled_all_the_same() {
    let service = axum::Router::new().fallback(|| async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#
    });
    let world = World::selling(service).await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let (host, credential, length) = (world.host(), world.opening(&opening), QUESTION.len());
    let request = format!(
        "POST {TARGET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nAuthorization: {credential}\r\n\r\n{QUESTION}"
    );
    let mut stream = world.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    // Until it is admitted, and not until it is answered.
    until(|| world.held() != 0).await;
    drop(stream);
    assert_refused(&world.fetch(&mut caller, &key).await, Problem::InProgress);
    until(|| world.held() == 0).await;
    let settlement = world.fetch(&mut caller, &key).await.fetched();
    assert_eq!(caller.wallet.accept(&key, &settlement, now()).unwrap().cost.micro(), 100);
    assert_eq!(world.charged(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_the_limit_is_refused_and_nothing_is_spent() {
    let world = World::with(limited(GatewayLimits::default().with_max_body(64))).await;
    let mut caller = world.caller();
    let (_, opening) = caller.pay(&world, lane(0));
    let answer = world.ask(&opening).await;
    assert_eq!((answer.status, answer.problem()), (413, None));
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_is_given_up() {
    let limits = GatewayLimits::default().with_body_timeout(Duration::from_millis(200));
    let world = World::with(limited(limits)).await;
    let (_, opening) = world.caller().pay(&world, lane(0));
    let (host, credential) = (world.host(), world.opening(&opening));
    let request = format!(
        "POST {TARGET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\nConnection: close\r\n\
         Authorization: {credential}\r\n\r\nonly this"
    );
    assert_eq!(world.raw(request.as_bytes()).await.unwrap().status, 408);
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_gateway_says_so_and_takes_the_same_spend_later() {
    let world = World::with(limited(GatewayLimits::default().with_requests(1))).await;
    let mut caller = world.caller();
    let (_, opening) = caller.pay(&world, lane(0));
    let (host, credential) = (world.host(), world.opening(&opening));
    // A client takes the one place and does not send what it announced.
    let request = format!(
        "POST {TARGET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\nAuthorization: {credential}\r\n\r\n"
    );
    let mut dawdlers = Vec::new();
    let answer = loop {
        let mut dawdler = world.connect().await;
        dawdler.write_all(request.as_bytes()).await.unwrap();
        dawdlers.push(dawdler);
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Where no dawdler was faster than this request, it has the place, and its signature is of another body.
        let answer = world.post(TARGET, Some(&credential), "x").await;
        if answer.problem() != Some(Problem::SessionSignatureInvalid) || dawdlers.len() == 100 {
            break answer;
        }
    };
    assert_refused(&answer, Problem::Busy);
    assert_eq!(answer.header("retry-after"), Some("1"));
    drop(dawdlers);
    let mut answer = world.ask(&opening).await;
    for _ in 0..500 {
        if answer.status != 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = world.ask(&opening).await;
    }
    assert_eq!(answer.status, 200);
    assert!(answer.settlement().refund < CLASS);
}
