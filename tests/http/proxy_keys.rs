//! Local keys at the proxy: programs that get a budget and not the wallet.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use halometer::http::proxy::{KeyRule, Keys, LocalKey, Proxy, ProxyOptions, SESSION_HEADER, STATUS_PATH};
use halometer::protocol::{Credits, Timestamp};
use halometer::wallet::{Budget, Policy};
use http::{HeaderName, Method};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use serde_json::Value;

use crate::payer_hostile::impatient;
use crate::proxy::{Proxied, read};
use crate::world::{CLASS, QUESTION, TARGET, World};

const COST: u64 = 100;
const USAGE: &str = r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;

fn key() -> LocalKey {
    LocalKey::generate(&mut UnwrapErr(SysRng))
}

fn micro(amount: u64) -> Option<Credits> {
    Some(Credits::from_micro(amount))
}

/// A service that is told nothing of keys, whatever it is sent.
async fn world(key: &LocalKey) -> World {
    let secret = key.as_str().to_owned();
    let service = Router::new().fallback(move |request: Request| {
        let secret = secret.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let seen = format!("{parts:?}{}", String::from_utf8_lossy(&body));
            assert!(!seen.contains(&secret) && !seen.contains("sk-halometer"), "{seen}");
            if body.windows(6).any(|word| word == b"slowly") {
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
            ([("content-type", "application/json")], USAGE)
        }
    });
    World::selling(service).await
}

async fn proxied(world: &World, rules: Vec<KeyRule>) -> Proxied {
    let options = ProxyOptions::default().with_keys(Keys::new(rules).unwrap());
    Proxied::with(world, impatient(world), options).await
}

/// Status, code, and seconds after which it may be tried again.
async fn said(request: reqwest::RequestBuilder) -> (u16, String, Option<u64>) {
    let answer = request.send().await.unwrap();
    let after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    let status = answer.status().as_u16();
    let (_, body) = read(answer).await;
    let code = body["error"]["code"].as_str().unwrap_or("none").to_owned();
    if status != 200 {
        assert_eq!(body["error"]["credit"], "untouched", "{body}");
    }
    (status, code, after)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_the_proxy_and_goes_no_further() {
    let one = key();
    let world = world(&one).await;
    let proxied = proxied(&world, vec![KeyRule::new(one.hash(), Budget::new("one"))]).await;
    for (name, value) in [("authorization", format!("Bearer {}", one.as_str())), ("x-api-key", one.as_str().to_owned())]
    {
        assert_eq!(said(proxied.question().header(name, value)).await.0, 200, "{name}");
    }
    let spent = world.charged();
    assert_eq!(spent, 2 * COST);
    let stranger = key();
    for (header, value, code) in [
        ("accept", "*/*".to_owned(), "key_missing"),
        ("authorization", "Bearer none".to_owned(), "invalid_api_key"),
        ("authorization", format!("Bearer {}", stranger.as_str()), "invalid_api_key"),
        ("x-api-key", one.as_str().to_uppercase(), "invalid_api_key"),
    ] {
        let answer = proxied.question().header(header, value);
        assert_eq!(said(answer).await, (401, code.to_owned(), None));
    }
    let two = proxied.question().bearer_auth(one.as_str()).header("x-api-key", stranger.as_str());
    assert_eq!(said(two).await.1, "key_ambiguous");
    // In the address, in the body, in a header that is passed on: it would leave.
    let query = proxied.request(Method::POST, &format!("{TARGET}?key={}", one.as_str())).body(QUESTION);
    assert_eq!(said(query.bearer_auth(one.as_str())).await.1, "key_would_leave");
    let body = proxied.request(Method::POST, TARGET).body(format!(r#"{{"my_key":"{}"}}"#, one.as_str()));
    assert_eq!(said(body.bearer_auth(one.as_str())).await.1, "key_would_leave");
    let range = proxied.question().header("range", one.as_str()).bearer_auth(one.as_str());
    assert_eq!(said(range).await.1, "key_would_leave");
    assert_eq!((world.charged(), world.held()), (spent, 0));
    for name in ["x-api-key", "api-key", "x-goog-api-key"] {
        let pass = vec![HeaderName::from_static(name)];
        let options = ProxyOptions::default().with_keys(Keys::default()).with_pass_headers(pass);
        assert!(Proxy::new(proxied.payer.clone(), options).is_err(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caps_routes_models_and_ends_refuse_before_anything_is_spent() {
    let keys: Vec<LocalKey> = (0..7).map(|_| key()).collect();
    let world = world(&keys[0]).await;
    let day = Budget::new("day").with_per_day(micro(CLASS.micro() + COST - 1));
    let rules = vec![
        KeyRule::new(keys[0].hash(), Budget::new("call").with_per_call(micro(CLASS.micro() - 1))),
        KeyRule::new(keys[1].hash(), day),
        KeyRule::new(keys[2].hash(), Budget::new("total").with_total(micro(CLASS.micro() + COST - 1))),
        KeyRule::new(keys[3].hash(), Budget::new("route")).with_routes(vec!["GET /v1/models".parse().unwrap()]),
        KeyRule::new(keys[4].hash(), Budget::new("model")).with_models(vec!["m-*".into()]),
        KeyRule::new(keys[5].hash(), Budget::new("end").with_until(Some(Timestamp::from_seconds(1)))),
        KeyRule::new(keys[6].hash(), Budget::new("gone")).with_revoked(true),
    ];
    let proxied = proxied(&world, rules).await;
    let ask = |at: usize, body: &str| {
        proxied.request(Method::POST, TARGET).body(body.to_owned()).bearer_auth(keys[at].as_str())
    };
    assert_eq!(said(ask(0, QUESTION)).await, (402, "key_call_cap".to_owned(), None));
    assert_eq!(said(ask(1, QUESTION)).await.0, 200);
    let (status, code, after) = said(ask(1, QUESTION)).await;
    assert_eq!((status, code.as_str()), (429, "key_day_cap"));
    assert!(after.is_some_and(|after| (1..=86_400).contains(&after)), "{after:?}");
    let again = ask(1, QUESTION).send().await.unwrap();
    assert_eq!(again.headers()["x-should-retry"], "false", "hours are too long for a client to wait");
    assert_eq!(said(ask(2, QUESTION)).await.0, 200);
    assert_eq!(said(ask(2, QUESTION)).await, (402, "key_total_cap".to_owned(), None));
    assert_eq!(said(ask(3, QUESTION)).await, (402, "key_route".to_owned(), None));
    assert_eq!(said(ask(4, r#"{"model":"m-1"}"#)).await.0, 200);
    for body in [r#"{"model":"dear"}"#, r#"{"model":"m-1","model":"dear"}"#, r#"{"Model":"dear"}"#, "{}", "x"] {
        assert_eq!(said(ask(4, body)).await, (402, "key_model".to_owned(), None), "{body}");
    }
    let coded = ask(4, r#"{"model":"m-1"}"#).header("content-encoding", "gzip");
    assert_eq!(said(coded).await.1, "key_model");
    assert_eq!(said(ask(5, QUESTION)).await, (402, "key_ended".to_owned(), None));
    assert_eq!(said(ask(6, QUESTION)).await, (401, "key_revoked".to_owned(), None));
    assert_eq!((world.charged(), world.held()), (3 * COST, 0));
    let (_, status) = read(proxied.request(Method::GET, STATUS_PATH).send().await.unwrap()).await;
    let spent: Vec<_> = status["keys"].as_array().unwrap().iter().map(|key| key["ever"]["cost"].clone()).collect();
    assert_eq!(spent, ["0", "100", "100", "0", "100", "0", "0"], "{status}");
    assert_eq!(status["spending"][0]["keys"].as_array().unwrap().len(), 3, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_in_the_dialect_of_the_client() {
    let one = key();
    let world = world(&one).await;
    let rule = KeyRule::new(one.hash(), Budget::new("one").with_per_call(micro(1)));
    let proxied = proxied(&world, vec![rule]).await;
    let ask = async |target: &str, name: &str| -> (u16, Value) {
        let request = proxied.request(Method::POST, target).header(name, one.as_str()).body(QUESTION);
        let answer = request.send().await.unwrap();
        let (status, body) = read(answer).await;
        (status.as_u16(), body)
    };
    let (status, body) = ask("/v1/messages", "x-api-key").await;
    assert_eq!((status, &body["type"], &body["error"]["type"]), (402, &"error".into(), &"billing_error".into()));
    let (status, body) = ask("/v1beta/models/m:generateContent", "x-goog-api-key").await;
    assert_eq!(
        (status, &body["error"]["code"], &body["error"]["status"]),
        (402, &402.into(), &"RESOURCE_EXHAUSTED".into())
    );
    let (status, body) = ask("/api/chat", "x-api-key").await;
    assert!(status == 402 && body["error"].as_str().is_some_and(|text| text.contains("cap of 1,")), "{body}");
    let (status, body) = ask(TARGET, "api-key").await;
    assert_eq!((status, &body["error"]["type"]), (402, &"insufficient_quota".into()));
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_pass_no_cap_together() {
    let one = key();
    let world = world(&one).await;
    // Three charges fit, and what they do not cost is of no use while they run.
    let rule = KeyRule::new(one.hash(), Budget::new("one").with_total(micro(3 * CLASS.micro())));
    let proxied = Arc::new(proxied(&world, vec![rule]).await);
    proxied.payer.wait_ready(8).await.unwrap();
    let secret = one.as_str().to_owned();
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let request = proxied.request(Method::POST, TARGET).body(r#"{"x":"slowly"}"#).bearer_auth(&secret);
            tokio::spawn(said(request))
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    let fine = answers.iter().filter(|(status, ..)| *status == 200).count();
    assert_eq!(fine, 3, "{answers:?}");
    for (status, code, after) in answers.iter().filter(|(status, ..)| *status != 200) {
        assert_eq!((*status, code.as_str(), *after), (429, "key_busy", Some(2)));
    }
    // They are settled, and two more fit; the exact cost counts.
    for _ in 0..2 {
        assert_eq!(said(proxied.question().bearer_auth(one.as_str())).await.0, 200);
    }
    assert_eq!(world.charged(), 5 * COST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_one_key_and_holds_its_whole_charge() {
    let (one, other) = (key(), key());
    let world = world(&one).await;
    let cap = micro(CLASS.micro() + COST);
    let rules = vec![
        KeyRule::new(one.hash(), Budget::new("one").with_total(cap)),
        KeyRule::new(other.hash(), Budget::new("other").with_per_call(micro(1))),
    ];
    let parts = impatient(&world);
    let policy = Policy { session_seconds: 300, ..parts.policy };
    let options = ProxyOptions::default().with_keys(Keys::new(rules).unwrap());
    let proxied = Proxied::with(&world, parts.with_policy(policy), options).await;
    let short = r#"{"max_tokens":10,"messages":[]}"#;
    let ask = |key: &LocalKey, session: Option<&str>| {
        let request = proxied.request(Method::POST, TARGET).body(short).bearer_auth(key.as_str());
        session.iter().fold(request, |request, name| request.header(SESSION_HEADER, *name))
    };
    for _ in 0..3 {
        assert_eq!(said(ask(&one, Some("s"))).await.0, 200);
    }
    // The other key has no part in the session of that name.
    assert_eq!(said(ask(&other, Some("s"))).await, (402, "key_call_cap".to_owned(), None));
    assert_eq!(said(ask(&one, None)).await.1, "key_busy", "the session holds it");
    assert!(proxied.proxy.drain(Duration::from_secs(10)).await);
    assert_eq!((world.charged(), world.held()), (3 * COST, 0));
    let ever = proxied.payer.with_wallet(|wallet| wallet.spending().unwrap().total(Some("one"))).await.unwrap();
    assert_eq!((ever.calls, ever.cost, ever.reserved), (1, u128::from(3 * COST), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_taken_back_or_cannot_be_read_open_nothing() {
    let one = key();
    let world = world(&one).await;
    let rule = KeyRule::new(one.hash(), Budget::new("one"));
    let proxied = proxied(&world, vec![rule.clone()]).await;
    let ask = || proxied.question().bearer_auth(one.as_str());
    assert_eq!(said(ask()).await.0, 200);
    proxied.proxy.set_keys(Ok(Keys::new(vec![rule.clone().with_revoked(true)]).unwrap()));
    assert_eq!(said(ask()).await.1, "key_revoked");
    proxied.proxy.set_keys(Err("line 3".to_owned()));
    assert_eq!(said(ask()).await, (503, "keys_unreadable".to_owned(), Some(5)));
    proxied.proxy.set_keys(Ok(Keys::new(vec![rule]).unwrap()));
    assert_eq!(said(ask()).await.0, 200);
    // Without keys it stays as it is.
    let open = Proxied::new(&world).await;
    open.proxy.set_keys(Ok(Keys::default()));
    assert_eq!(said(open.question().bearer_auth("anything")).await.0, 200);
}
