//! Sessions from the caller's side: the payer's, and those that clients of the proxy ask for by name.

use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use bytes::Bytes;
use halometer::http::payer::{CallError, CreditState, PaidSession, PayerParts};
use halometer::http::proxy::{ProxyOptions, SESSION_HEADER};
use halometer::http::wire::{CLOSE_PATH, SESSION_PATH};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{MemoryJournal, Policy, ReceiptVerdict};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;

use crate::front::{Act, behind};
use crate::payer_hostile::{TestPayer, impatient, started, until};
use crate::proxy::{Proxied, json};
use crate::world::{CLASS, PAID, QUESTION, TARGET, World};

/// What a call of [`service`] costs: 10 tokens of a question, 10 of an answer.
const COST: u64 = 100;
const SHORT: &str = r#"{"max_tokens":10,"messages":[]}"#;

fn service() -> Router {
    let usage = r#""usage":{"prompt_tokens":10,"completion_tokens":10}"#;
    let stream = format!("data: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n");
    Router::new().fallback(any(move |body: String| {
        let stream = stream.clone();
        async move {
            if body.contains("slowly") {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if body.contains("stream") {
                return ([("content-type", "text/event-stream")], stream);
            }
            let usage = if body.contains("dearly") { usage.replace(":10}", ":1000}") } else { usage.to_owned() };
            ([("content-type", "application/json")], format!("{{{usage}}}"))
        }
    }))
}

fn parts(world: &World) -> PayerParts {
    let parts = impatient(world);
    let policy = Policy { session_seconds: 300, ..parts.policy };
    parts.with_policy(policy)
}

async fn ask(session: &PaidSession<MemoryJournal>, body: &'static str) -> Result<Option<u64>, CallError> {
    let answer = session.call(Method::POST, TARGET, json(), Bytes::from_static(body.as_bytes())).await?;
    assert_eq!(answer.status, StatusCode::OK);
    Ok(answer.cost.map(Credits::micro))
}

async fn balance(payer: &TestPayer) -> u128 {
    payer.with_wallet(|wallet| wallet.balance().total()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_makes_many_calls_with_one_spend() {
    let world = World::selling(service()).await;
    let payer = started(world.caller().wallet, parts(&world)).await;
    let session = payer.open_session().await.unwrap();
    assert!(session.remaining() > Duration::from_secs(290) && !session.is_over());
    assert_eq!(payer.status().await.unwrap().in_flight, 1);
    let calls = (0..10).map(|_| ask(&session, SHORT));
    for answer in futures_join(calls.collect()).await {
        assert_eq!(answer.unwrap(), Some(COST));
    }
    // As it comes, with its receipt in the trailers.
    let body = Bytes::from_static(br#"{"stream":true,"max_tokens":10,"messages":[]}"#);
    let answer = session.stream(Method::POST, TARGET, HeaderMap::new(), body).await.unwrap();
    let trailers = answer.into_body().collect().await.unwrap().trailers().cloned().unwrap();
    assert!(trailers.contains_key("payment-receipt"));
    assert_eq!((world.held(), world.charged()), (CLASS.micro(), 0));
    let settled = session.close().await.unwrap();
    assert_eq!((settled.accepted.cost.micro(), settled.receipt), (11 * COST, ReceiptVerdict::Fair));
    assert_eq!((world.held(), world.charged()), (0, 11 * COST));
    assert_eq!(balance(&payer).await, u128::from(PAID - 11 * COST));
}

/// Waits for all of them, all at once.
async fn futures_join<T>(calls: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut calls: Vec<_> = calls.into_iter().map(|call| (Box::pin(call), None)).collect();
    std::future::poll_fn(|cx| {
        for (call, done) in &mut calls {
            if done.is_none()
                && let std::task::Poll::Ready(answer) = call.as_mut().poll(cx)
            {
                *done = Some(answer);
            }
        }
        if calls.iter().all(|(_, done)| done.is_some()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    calls.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_session_settles_at_its_cost_and_frees_its_lane() {
    let world = World::selling(service()).await;
    let payer = started(world.caller().wallet, parts(&world)).await;
    let session = payer.open_session().await.unwrap();
    assert_eq!(ask(&session, SHORT).await.unwrap(), Some(COST));
    drop(session);
    until(&payer, "settled", |status| status.in_flight == 0).await;
    assert_eq!((world.charged(), balance(&payer).await), (COST, u128::from(PAID - COST)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_the_charge_is_all_that_calls_can_cost() {
    let world = World::selling(service()).await;
    let payer = started(world.caller().wallet, parts(&world)).await;
    let session = payer.open_session().await.unwrap();
    let dear = r#"{"max_tokens":1000,"messages":[]}"#;
    let refused = ask(&session, dear).await.unwrap_err();
    let CallError::Refused(details) = &refused else { panic!("{refused:?}") };
    assert_eq!(details.kind(), Some(Problem::CapReached));
    // Of unknown length: it has all that is left for itself.
    assert_eq!(ask(&session, QUESTION).await.unwrap(), Some(COST));
    assert!(!session.is_over());
    session.close().await.unwrap();
    assert_eq!(world.charged(), COST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_without_sessions_opens_none() {
    let world = World::selling(service()).await;
    let payer = started(world.caller().wallet, impatient(&world)).await;
    let refused = payer.open_session().await.unwrap_err();
    assert!(matches!((&refused, refused.credit()), (CallError::SessionOver, CreditState::Safe)), "{refused:?}");
    assert_eq!(payer.status().await.unwrap().in_flight, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_gateway_ended_says_so() {
    let adjust: Option<halometer::testing::market::Adjust> =
        Some(Box::new(|parts: &mut DirectoryParts| parts.limits.session_seconds = 2));
    let world = World::selling_with(service(), StackOptions { adjust, ..StackOptions::default() }).await;
    let payer = started(world.caller().wallet, parts(&world)).await;
    let session = payer.open_session().await.unwrap();
    assert_eq!(ask(&session, SHORT).await.unwrap(), Some(COST));
    assert!(session.remaining() <= Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    assert!(matches!(ask(&session, SHORT).await, Err(CallError::SessionOver)));
    assert_eq!(session.close().await.unwrap().accepted.cost.micro(), COST);
}

/// A box before the gateway that loses answers: of the opening, of a call, of the closing.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_cost_nothing_twice() {
    let lost = [SESSION_PATH, TARGET, CLOSE_PATH, CLOSE_PATH];
    let left = Mutex::new(lost.to_vec());
    let script = move |path: &str, _| {
        let mut left = left.lock().unwrap();
        match left.iter().position(|lost| *lost == path) {
            Some(at) => {
                left.remove(at);
                Act::Swallow
            }
            None => Act::Pass,
        }
    };
    let (world, front) = behind(StackOptions::default(), script).await;
    let payer = started(world.caller().wallet, parts(&world)).await;
    let session = payer.open_session().await.unwrap();
    let lost = ask(&session, QUESTION).await;
    assert!(matches!(lost, Err(CallError::LostInSession)), "{lost:?}");
    let settled = session.close().await.unwrap();
    assert!(settled.accepted.cost > Credits::ZERO, "it was served");
    assert_eq!((world.charged(), world.held()), (settled.accepted.cost.micro(), 0));
    assert_eq!((front.notes(), front.second_shares()), (1, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_proxy_share_a_session_by_its_name() {
    let world = World::selling(service()).await;
    let options = ProxyOptions::default().with_session_idle(Duration::from_secs(2));
    let proxied = Proxied::with(&world, parts(&world), options).await;
    let asked = async |name: &str, body: &'static str| {
        let answer = proxied.json(body).header(SESSION_HEADER, name).send().await.unwrap();
        let cost = answer.headers().get("halometer-cost").map(|cost| cost.to_str().unwrap().to_owned());
        assert!(!answer.headers().contains_key("payment-receipt"));
        (answer.status().as_u16(), cost, answer.text().await.unwrap())
    };
    for _ in 0..3 {
        let (status, cost, body) = asked("a", SHORT).await;
        assert_eq!((status, cost.as_deref()), (200, Some("100")), "{body}");
    }
    assert_eq!(asked("b", SHORT).await.0, 200);
    assert_eq!((world.held(), world.charged()), (2 * CLASS.micro(), 0));
    let (status, cost, body) = asked("a", r#"{"stream":true,"max_tokens":10,"messages":[]}"#).await;
    assert_eq!((status, cost), (200, None));
    assert!(body.ends_with("data: [DONE]\n\n"));
    // Nobody has used them for a while.
    until(&proxied.payer, "closed", |status| status.in_flight == 0).await;
    assert_eq!((world.held(), world.charged()), (0, 5 * COST));
    // The same name is another session now.
    assert_eq!(asked("a", SHORT).await.0, 200);
    assert_eq!(world.held(), CLASS.micro());
    assert!(proxied.proxy.drain(Duration::from_secs(20)).await);
    assert_eq!((world.held(), world.charged()), (0, 6 * COST));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_session_is_used_up_gets_another() {
    let world = World::selling(service()).await;
    let proxied = Proxied::with(&world, parts(&world), ProxyOptions::default()).await;
    // Each may take all that is left, so that at one time a session has one of them.
    let body = r#"{"messages":["slowly"]}"#;
    let asked = (0..3).map(|_| proxied.json(body).header(SESSION_HEADER, "a").send()).collect();
    for answer in futures_join(asked).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }
    assert!(proxied.proxy.drain(Duration::from_secs(20)).await);
    assert_eq!((world.held(), world.charged()), (0, 3 * COST));
    // What is dearer than any session is refused as what it is.
    let proxied = Proxied::with(&world, parts(&world), ProxyOptions::default()).await;
    let dear = proxied.json(r#"{"max_tokens":9999,"messages":[]}"#).header(SESSION_HEADER, "a").send().await.unwrap();
    let status = dear.status();
    assert!(status == 402 && dear.text().await.unwrap().contains("cap_reached"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_above_its_class_is_withheld_and_not_retried() {
    let world = World::selling(service()).await;
    let proxied = Proxied::with(&world, parts(&world), ProxyOptions::default()).await;
    let dear = r#"{"messages":["dearly"]}"#;
    for (session, status, code, cost) in
        [(None, 402, "cap_reached", Some("4000")), (Some("a"), 402, "cap_reached", None)]
    {
        let request = proxied.json(dear);
        let request = session.into_iter().fold(request, |request, name| request.header(SESSION_HEADER, name));
        let answer = request.send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((answer.status().as_u16(), header("halometer-cost").as_deref()), (status, cost), "{answer:?}");
        assert_eq!(header("x-should-retry").unwrap(), "false");
        let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(body["error"]["code"], code, "{body}");
        assert!(status != 402 || body["error"]["next"].as_str().unwrap().contains("--class"), "{body}");
    }
    // The session that it used up is left for another one.
    let answer = proxied.json(SHORT).header(SESSION_HEADER, "a").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(proxied.proxy.drain(Duration::from_secs(20)).await);
    assert_eq!((world.held(), world.charged()), (0, 2 * CLASS.micro() + COST));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_cannot_be_are_refused() {
    let world = World::selling(service()).await;
    let proxied = Proxied::with(&world, parts(&world), ProxyOptions::default()).await;
    let long = "x".repeat(65);
    for name in ["", &long] {
        let answer = proxied.json(SHORT).header(SESSION_HEADER, name).send().await.unwrap();
        assert_eq!(answer.status(), 400);
        assert!(answer.text().await.unwrap().contains("session_name"));
    }
    let without = Proxied::new(&world).await;
    let answer = without.json(SHORT).header(SESSION_HEADER, "a").send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains("session_over"));
    assert_eq!(without.json(SHORT).send().await.unwrap().status(), 200);
}
