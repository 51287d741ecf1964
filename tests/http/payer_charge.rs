//! The payer chooses the charge of each call, learns from what was too small, and gathers for a call that waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use bytes::Bytes;
use halometer::http::estimate::TokenEstimator;
use halometer::http::payer::{CallError, CreditState, Event, Paid, PayerParts, TooSmall};
use halometer::http::pricing::{FixedPricing, OUTPUT_TOKEN};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{Budget, MemoryJournal, Policy, RootSecret, Wallet};
use http::{Method, StatusCode};

use crate::front::{Act, behind};
use crate::payer_hostile::{TestPayer, impatient, started};
use crate::proxy::{Proxied, json};
use crate::world::{CLASS, OTHER_CLASS, TARGET, World};

/// Chooses up to this class.
fn choosing(world: &World, ceiling: u64) -> PayerParts {
    let parts = impatient(world).with_estimator(Arc::new(TokenEstimator));
    let class = Credits::from_micro(ceiling);
    let policy = Policy { class, ..parts.policy }.choosing();
    parts.with_policy(policy)
}

async fn call(payer: &TestPayer, body: &'static str) -> Result<Paid, CallError> {
    payer.call(Method::POST, TARGET, json(), Bytes::from_static(body.as_bytes())).await
}

/// A service whose answers have so many tokens, whatever they were bounded to.
fn service(tokens: &Arc<AtomicU64>) -> Router {
    let tokens = Arc::clone(tokens);
    Router::new().fallback(move || {
        let tokens = tokens.load(Ordering::SeqCst);
        async move {
            format!(
                r#"{{"choices":[{{"message":{{"content":"x"}}}}],"usage":{{"prompt_tokens":0,"completion_tokens":{tokens}}}}}"#
            )
        }
    })
}

const SHORT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":10}"#;
const LONG: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":1500}"#;
const OPEN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const OTHER: &str = r#"{"model":"other","messages":[{"role":"user","content":"hi"}]}"#;

/// At 8 micro-credits a token; a lane has 20,000.
#[tokio::test(flavor = "multi_thread")]
async fn each_call_gets_the_class_that_it_needs() {
    let tokens = Arc::new(AtomicU64::new(10));
    let world = World::selling(service(&tokens)).await;
    let payer = started(world.caller().wallet, choosing(&world, 1_000_000)).await;
    for (body, class) in [
        // By its limit, whatever such calls have cost.
        (SHORT, CLASS),
        (LONG, OTHER_CLASS),
        (SHORT, CLASS),
        // By what such calls have cost, and where there were none by what most calls cost: what a lane can pay of it.
        (OPEN, CLASS),
        (OTHER, OTHER_CLASS),
        (OTHER, CLASS),
    ] {
        let paid = call(&payer, body).await.unwrap();
        assert_eq!((paid.accepted.charge, paid.accepted.cost.micro()), (class, 80), "{body}");
    }
    assert_eq!(world.charged(), 6 * 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_charged_above_the_ceiling() {
    let tokens = Arc::new(AtomicU64::new(10));
    let world = World::selling(service(&tokens)).await;
    let payer = started(world.caller().wallet, choosing(&world, 15_999)).await;
    for body in [LONG, OPEN, OTHER, SHORT] {
        assert_eq!(call(&payer, body).await.unwrap().accepted.charge, CLASS, "{body}");
    }
}

async fn within(payer: &TestPayer, budget: &Arc<Budget>, body: &'static str) -> Result<Credits, CallError> {
    let body = Bytes::from_static(body.as_bytes());
    let streamed = payer.stream_within(Some(Arc::clone(budget)), Method::POST, TARGET, json(), body).await?;
    let mut rest = streamed.body;
    while let Some(chunk) = rest.chunk().await {
        chunk.unwrap();
    }
    Ok(rest.settled().await?.accepted.charge)
}

fn micro(amount: u64) -> Option<Credits> {
    Some(Credits::from_micro(amount))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_between_classes_takes_the_smaller_one() {
    let tokens = Arc::new(AtomicU64::new(10));
    let world = World::selling(service(&tokens)).await;
    let payer = started(world.caller().wallet, choosing(&world, 1_000_000)).await;
    for (name, budget) in [
        ("least", Budget::new("least").with_per_call(micro(4_000))),
        ("call", Budget::new("call").with_per_call(micro(15_999))),
        ("day", Budget::new("day").with_per_day(micro(15_999))),
        ("total", Budget::new("total").with_total(micro(15_999))),
    ] {
        let budget = Arc::new(budget);
        for body in [OPEN, LONG, OTHER] {
            assert_eq!(within(&payer, &budget, body).await.unwrap(), CLASS, "{name} {body}");
        }
    }
    let whole = Arc::new(Budget::new("whole").with_per_call(micro(16_000)));
    assert_eq!(within(&payer, &whole, LONG).await.unwrap(), OTHER_CLASS);
    let before = world.charged();
    for (name, budget) in [
        ("call", Budget::new("call").with_per_call(micro(3_999))),
        ("day", Budget::new("day").with_per_day(micro(3_999))),
        ("total", Budget::new("total").with_total(micro(4_000))),
    ] {
        let refused = within(&payer, &Arc::new(budget), SHORT).await;
        assert!(matches!(refused, Err(CallError::Budget(_))), "{name} {refused:?}");
    }
    assert_eq!((world.charged(), world.held()), (before, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_budget_is_not_lost_on_a_withheld_answer() {
    let tokens = Arc::new(AtomicU64::new(1_000));
    let world = World::selling(service(&tokens)).await;
    let payer = started(world.caller().wallet, choosing(&world, 1_000_000)).await;
    // Such a call costs 8,000, and after it there are 12,000 left.
    let day = Arc::new(Budget::new("day").with_per_day(micro(20_000)));
    assert_eq!(within(&payer, &day, OPEN).await.unwrap(), OTHER_CLASS);
    let refused = within(&payer, &day, OPEN).await;
    assert!(matches!(refused, Err(CallError::Budget(_))), "{refused:?}");
    assert_eq!((world.charged(), world.held()), (8_000, 0));
    // Calls of which nothing is known, or less, are made.
    tokens.store(10, Ordering::SeqCst);
    assert_eq!(within(&payer, &day, OTHER).await.unwrap(), CLASS);
    assert_eq!(within(&payer, &day, SHORT).await.unwrap(), CLASS);
    // No cap of a call is ever grown into: it is a ceiling, and no refusal.
    let call = Arc::new(Budget::new("call").with_per_call(micro(4_000)));
    assert_eq!(within(&payer, &call, OPEN).await.unwrap(), CLASS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_was_too_small_is_told_and_not_used_again() {
    let tokens = Arc::new(AtomicU64::new(1_000));
    let world = World::selling(service(&tokens)).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let observer = move |event: &Event| {
        if let Event::TooSmall(small) = event {
            heard.lock().unwrap().push(*small);
        }
    };
    let proxied =
        Proxied::with(&world, choosing(&world, 1_000_000).with_observer(Arc::new(observer)), Default::default()).await;
    let answer = proxied.json(SHORT).send().await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["halometer-cost"]),
        (StatusCode::PAYMENT_REQUIRED, &"4000".parse().unwrap())
    );
    let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    let told = "class 4,000 was too small for this answer; 4,000 were kept; calls of this kind now use 16,000";
    assert!(message.contains(told), "{message}");
    assert_eq!((&body["error"]["code"], &body["error"]["credit"]), (&"cap_reached".into(), &"spent".into()));
    assert_eq!(*events.lock().unwrap(), [TooSmall { class: CLASS, kept: CLASS, now: Some(OTHER_CLASS) }]);

    let paid = call(&proxied.payer, SHORT).await.unwrap();
    assert_eq!((paid.accepted.charge, paid.accepted.cost.micro()), (OTHER_CLASS, 8_000));
    // Calls of another kind know nothing of it.
    tokens.store(1, Ordering::SeqCst);
    let other = r#"{"model":"other","messages":[],"max_tokens":10}"#;
    assert_eq!(call(&proxied.payer, other).await.unwrap().accepted.charge, CLASS);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_class_for_all_the_error_names_the_setting() {
    let tokens = Arc::new(AtomicU64::new(1_000));
    let world = World::selling(service(&tokens)).await;
    let payer = started(world.caller().wallet, impatient(&world)).await;
    for _ in 0..2 {
        let error = call(&payer, SHORT).await.unwrap_err();
        assert_eq!(error.to_string(), "class 4,000 was too small for this answer; 4,000 were kept");
        assert!(error.next().contains("--class"), "{}", error.next());
        assert!(matches!(error.credit(), CreditState::Spent(accepted) if accepted.cost == CLASS));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sold_by_tokens_goes_by_its_route() {
    let service = Router::new().fallback(|| async { "done" });
    let pricing = FixedPricing::new().route("POST /a".parse().unwrap(), OUTPUT_TOKEN);
    let options = StackOptions { pricing: Some(Box::new(pricing)), ..StackOptions::default() };
    let world = World::selling_with(service, options).await;
    let payer = started(world.caller().wallet, choosing(&world, 1_000_000)).await;
    for class in [OTHER_CLASS, CLASS, CLASS] {
        let paid = payer.call(Method::POST, "/a?b=c", json(), Bytes::new()).await.unwrap();
        assert_eq!((paid.accepted.charge, paid.accepted.cost.micro()), (class, 8));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poor_lanes_are_gathered_for_a_call_that_waits() {
    let (world, front) = behind(StackOptions::default(), |_, _| Act::Pass).await;
    // Eight lanes of 2,000, of which none can pay the smallest class.
    let payment = world.stack.pay(Credits::from_micro(16_000)).unwrap();
    let directory = world.stack.issuer().signed_directory();
    let (secret, device) = (RootSecret::from_bytes([21; 32]), DeviceId::from_bytes([1; 8]));
    let mut wallet: Wallet<MemoryJournal> =
        Wallet::new(secret, device, world.stack.root_key(), directory, MemoryJournal::new()).unwrap();
    let now = halometer::http::clock::now();
    let request = wallet.request_mint(payment, [Credits::from_micro(2_000); LANES], now).unwrap();
    wallet.accept_mint(&payment, &world.stack.issuer().mint(&request, now).unwrap(), now).unwrap();
    let parts = choosing(&world, 1_000_000);
    // No quiet time will come.
    let policy = Policy { gather: true, quiet_seconds: 86_400, ..parts.policy };
    let payer = started(wallet, parts.with_policy(policy)).await;
    let paid = call(&payer, SHORT).await.unwrap();
    assert_eq!(paid.accepted.charge, CLASS);
    let total = payer.status().await.unwrap().balance.total();
    assert_eq!(total, 16_000 - u128::from(paid.accepted.cost.micro()));
    assert_eq!(front.second_shares(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_settlement_is_an_answer_all_the_same() {
    // Neither with the answer nor by asking is it told what the call cost.
    let script = |path: &str, _| match path {
        TARGET => Act::Withhold,
        path if path.contains("settlement") || path.contains("cancel") => Act::Refuse(Problem::InProgress),
        _ => Act::Pass,
    };
    for status in [StatusCode::OK, StatusCode::IM_A_TEAPOT] {
        let (world, _front) = behind(StackOptions::default(), script).await;
        let payer = started(world.caller().wallet, impatient(&world)).await;
        // The demo's service refuses a question without messages.
        let body = if status.is_success() { SHORT } else { r#"{"model":"m","max_tokens":10}"# };
        let streamed = payer.stream(Method::POST, TARGET, json(), Bytes::from_static(body.as_bytes())).await.unwrap();
        assert_eq!(streamed.status.is_success(), status.is_success());
        let mut rest = streamed.body;
        let mut answer = Vec::new();
        while let Some(chunk) = rest.chunk().await {
            answer.extend_from_slice(&chunk.unwrap());
        }
        assert!(!answer.is_empty());
        let error = rest.settled().await.unwrap_err();
        assert_eq!(error.credit(), CreditState::Safe, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_are_kept_ready_for_the_classes_that_are_used() {
    let tokens = Arc::new(AtomicU64::new(10));
    let world = World::selling(service(&tokens)).await;
    let payer = started(world.caller().wallet, choosing(&world, 1_000_000)).await;
    for body in [SHORT, LONG] {
        call(&payer, body).await.unwrap();
    }
    let gateway = world.gateway();
    for _ in 0..600 {
        let ready = move |wallet: &Wallet<MemoryJournal>| {
            let now = halometer::http::clock::now();
            [CLASS, OTHER_CLASS].map(|class| wallet.ready(&gateway, class, now))
        };
        if payer.look(ready).await.unwrap().iter().all(|ready| *ready > 1) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("there are none for one of them");
}
