//! Prices that are fixed, or that the service says, over HTTP.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, any};
use axum::{Json, Router};
use halometer::http::pricing::{
    BytePricing, Call, End, FixedPricing, HeaderPricing, INPUT_TOKEN, Meter, Metered, NotSold, OUTPUT_TOKEN, Pricing,
    TokenPricing,
};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use http::{HeaderMap, HeaderName};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::world::{Answer, CLASS, QUESTION, TARGET, World, assert_refused, lane};
use halometer::http::clock::now;

async fn world<B>(pricing: impl Pricing + 'static, answer: B) -> World
where
    B: IntoResponse + Clone + Send + Sync + 'static,
{
    selling(pricing, any(move || async move { answer })).await
}

async fn selling(pricing: impl Pricing + 'static, service: MethodRouter) -> World {
    let service = Router::new().fallback_service(service);
    World::selling_with(service, StackOptions { pricing: Some(Box::new(pricing)), ..StackOptions::default() }).await
}

/// Pays for the question; the answer, and what it cost.
async fn call(world: &World) -> (Answer, u64) {
    let mut caller = world.caller();
    let (key, opening) = caller.pay(world, lane(0));
    let answer = world.ask(&opening).await;
    let settlement = world.fetch(&mut caller, &key).await.fetched();
    let cost = caller.wallet.accept(&key, &settlement, now()).unwrap().cost.micro();
    assert_eq!((world.charged(), world.held()), (cost, 0));
    (answer, cost)
}

fn fixed(route: &str, item: &str) -> FixedPricing {
    FixedPricing::new().route(route.parse().unwrap(), item)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_its_price_and_an_error_none() {
    let (answer, cost) = call(&world(fixed("POST /v1/**", OUTPUT_TOKEN), "here").await).await;
    assert_eq!((answer.status, &answer.body[..], cost), (200, &b"here"[..], 8));
    let (answer, cost) = call(&world(fixed("POST /v1/**", OUTPUT_TOKEN), StatusCode::NOT_FOUND).await).await;
    assert_eq!((answer.status, cost), (404, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_for_sale_costs_nothing_and_spends_nothing() {
    let world = world(fixed("POST /v1/images", OUTPUT_TOKEN), "here").await;
    let (_, opening) = world.caller().pay(&world, lane(0));
    let answer = world.ask(&opening).await;
    assert_eq!((answer.status, answer.problem()), (404, None));
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_below_the_price_is_refunded_before_any_work() {
    let adjust = |parts: &mut DirectoryParts| {
        let mut prices = parts.tariffs[0].prices().to_vec();
        prices.push(Price {
            item: "dear".to_owned(),
            credits: CLASS.checked_add(Credits::from_micro(1)).unwrap(),
            per: 1,
        });
        parts.tariffs[0] = Tariff::new(parts.tariffs[0].valid(), prices).unwrap();
    };
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let service = Router::new().fallback(move || async move { seen.store(true, Ordering::SeqCst) });
    let pricing = Some(Box::new(fixed("* /**", "dear")) as _);
    let options = StackOptions { pricing, adjust: Some(Box::new(adjust)), ..StackOptions::default() };
    let world = World::selling_with(service, options).await;
    let (answer, cost) = call(&world).await;
    assert_refused(&answer, Problem::CapReached);
    assert_eq!((answer.settlement().refund, cost, asked.load(Ordering::SeqCst)), (CLASS, 0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_tariff_price_are_unserved_and_free() {
    let header = HeaderName::from_static("x-cost");
    let prices: [Box<dyn Pricing>; 3] = [
        Box::new(fixed("* /**", "page")),
        Box::new(BytePricing::new().request(INPUT_TOKEN).answer("byte")),
        Box::new(HeaderPricing::units(header, "second")),
    ];
    for pricing in prices {
        let asked = Arc::new(AtomicBool::new(false));
        let seen = asked.clone();
        let service = Router::new().fallback(move || async move { seen.store(true, Ordering::SeqCst) });
        let options = StackOptions { pricing: Some(pricing), ..StackOptions::default() };
        let (answer, cost) = call(&World::selling_with(service, options).await).await;
        assert_refused(&answer, Problem::ClassUnknown);
        assert_eq!((answer.settlement().refund, cost, asked.load(Ordering::SeqCst)), (CLASS, 0, false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_both_ways_are_counted() {
    let pricing = BytePricing::new().request(INPUT_TOKEN).answer(OUTPUT_TOKEN);
    let (_, cost) = call(&world(pricing, "12345").await).await;
    assert_eq!(cost, 2 * QUESTION.len() as u64 + 8 * 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_prices_in_a_header_hidden_from_the_caller() {
    let name = HeaderName::from_static("x-cost");
    let pricing = || HeaderPricing::credits(name.clone());
    let (answer, cost) = call(&world(pricing(), ([("x-cost", "77")], "here")).await).await;
    assert_eq!((answer.header("x-cost"), cost), (None, 77));
    // The charge itself; and the charge for what is no number, or nothing. An error: nothing.
    for value in ["4000", "18446744073709551616", "-1", ""] {
        let (answer, cost) = call(&world(pricing(), ([("x-cost", value)], "here")).await).await;
        assert_eq!((answer.status, answer.header("x-cost"), cost), (200, None, CLASS.micro()), "{value}");
    }
    let (_, cost) = call(&world(pricing(), (StatusCode::BAD_REQUEST, "no")).await).await;
    assert_eq!(cost, 0);
}

/// An answer whose price comes after it.
fn priced_at_its_end(price: u64) -> impl IntoResponse {
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-cost"), price.into())]);
    // Of no known length, as nothing follows what has one.
    let body = Full::from("here").with_trailers(ready(Some(Ok(trailers)))).map_frame(|frame| frame);
    ([("trailer", "x-cost")], Body::new(body))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_above_the_charge_buys_nothing_and_costs_the_charge() {
    let pricing = || HeaderPricing::credits(HeaderName::from_static("x-cost"));
    let in_head = |kind| move || async move { ([("x-cost", "4001"), ("content-type", kind)], "here") };
    for kind in ["text/plain", "text/event-stream", "application/x-ndjson"] {
        let (answer, cost) = call(&selling(pricing(), any(in_head(kind))).await).await;
        assert_withheld(&answer, cost);
    }
    let at_its_end = |price| any(move || async move { priced_at_its_end(price) });
    let (answer, cost) = call(&selling(pricing(), at_its_end(3_999)).await).await;
    assert_eq!((answer.status, &answer.body[..], cost), (200, &b"here"[..], 3_999));
    let (answer, cost) = call(&selling(pricing(), at_its_end(4_001)).await).await;
    assert_withheld(&answer, cost);
}

#[track_caller]
fn assert_withheld(answer: &Answer, cost: u64) {
    assert_refused(answer, Problem::CapReached);
    assert!(answer.details().withheld, "{answer:?}");
    assert_eq!((answer.settlement().refund, cost), (Credits::ZERO, CLASS.micro()));
}

/// A model that says so much, and counts how often it is asked.
fn model(usage: Value, asked: Arc<AtomicU64>) -> MethodRouter {
    any(move || async move {
        asked.fetch_add(1, Ordering::SeqCst);
        // Longer than what one read takes: what it used comes after much of it was gathered.
        let answer = json!({ "choices": [{ "message": { "content": "x".repeat(9_000) } }], "usage": usage });
        Json(answer)
    })
}

fn used(input: u64, output: u64) -> Value {
    json!({ "prompt_tokens": input, "completion_tokens": output })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_more_tokens_than_paid_for_is_withheld() {
    let asked: Arc<AtomicU64> = Arc::default();
    let selling = |usage| selling(TokenPricing::new(), model(usage, asked.clone()));
    // 2 credits for a token of the request, 8 for one of the answer.
    let (answer, cost) = call(&selling(used(100, 475)).await).await;
    assert_eq!((answer.status, cost), (200, CLASS.micro()));
    for usage in [used(101, 475), used(100, 476), used(1_000_000, 0), used(u64::MAX, u64::MAX)] {
        let (answer, cost) = call(&selling(usage).await).await;
        assert_withheld(&answer, cost);
        assert!(!String::from_utf8_lossy(&answer.body).contains("xxx"));
    }
    // What is only estimated is no reason to keep an answer back.
    let (answer, cost) = call(&selling(Value::Null).await).await;
    assert_eq!((answer.status, cost), (200, CLASS.micro()));
    assert_eq!(asked.load(Ordering::SeqCst), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_more_words_than_paid_for_is_refused_free() {
    let asked: Arc<AtomicU64> = Arc::default();
    let world = selling(TokenPricing::new(), model(used(1, 1), asked.clone())).await;
    // A token each, of which two count as one of 2 credits: 4,000 of words.
    let question = |words: usize| format!(r#"{{"stream":true,"messages":["{}"]}}"#, "words ".repeat(words));
    for (words, cost) in [(4_100, 0), (3_900, 10)] {
        let (mut caller, body) = (world.caller(), question(words));
        let (key, opening) = caller.pay_to_ask(&world, &body);
        let answer = world.post(TARGET, Some(&world.opening(&opening)), &body).await;
        if cost == 0 {
            assert_refused(&answer, Problem::CapReached);
            assert!(answer.details().detail.unwrap().contains("nothing was done"), "{answer:?}");
        }
        assert_eq!(caller.wallet.accept(&key, &answer.settlement(), now()).unwrap().cost.micro(), cost, "{answer:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Counts what it has not said that it would.
struct Forgetful;

impl Pricing for Forgetful {
    fn meter(&self, _: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        Ok(Box::new(Self))
    }
}

impl Meter for Forgetful {
    fn metered(&self) -> Metered {
        Metered::usage([("forgotten", 1)])
    }

    fn end(&mut self, _: End) -> Metered {
        self.metered()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counted_units_without_a_price_cost_nothing() {
    let (answer, cost) = call(&world(Forgetful, "here").await).await;
    assert_eq!((answer.status, cost), (200, 0));
    let world = world(fixed("* /**", OUTPUT_TOKEN), "here").await;
    let answer = world.send("POST", TARGET, &world.host(), None, QUESTION).await;
    assert_refused(&answer, Problem::Unpaid);
}
