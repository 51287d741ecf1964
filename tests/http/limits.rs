//! Requests at the limits of what is taken, and beyond: long headers, slow clients, a set that cannot be asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use halometer::gateway::{Gateway, GatewayParts};
use halometer::http::clock::now;
use halometer::http::exchange::PaymentLayerParts;
use halometer::http::layer::PaymentLayer;
use halometer::http::payment::{Credential, Payload, PaymentChallenge};
use halometer::http::pricing::TokenPricing;
use halometer::http::problem::ProblemDetails;
use halometer::http::server::Listener;
use halometer::http::wire::SESSION_PATH;
use halometer::protocol::*;
use halometer::store::MemorySpentSet;
use halometer::testing::stack::StackOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::Layer as _;

use crate::world::{CLASS, QUESTION, TARGET, World, assert_refused, lane, shared};

/// Blanks between the values of a credential's JSON mean nothing, so that one of any length can be made.
fn padded(credential: &str, line: usize) -> String {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let json = engine.decode(credential.strip_prefix("Payment ").unwrap()).unwrap();
    let name = "authorization: \r\n".len() + "Payment ".len();
    (0..)
        .map(|blanks| format!("Payment {}", engine.encode([&json[..], &vec![b' '; blanks]].concat())))
        .find(|value| name + value.len() - "Payment ".len() >= line)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_line_of_8_kib_is_taken_and_no_longer_one() {
    let world = World::new().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let credential = world.opening(&opening);
    let longest = padded(&credential, 8_191);
    let too_long = padded(&credential, 8_193);
    assert!(longest.len() < too_long.len());
    assert_refused(&world.post(TARGET, Some(&too_long), QUESTION).await, Problem::Malformed);
    let answer = world.post(TARGET, Some(&longest), QUESTION).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    caller.wallet.accept(&key, &answer.settlement(), now()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_request_head_is_closed_and_delays_nobody() {
    let world = shared(World::new().await);
    let began = Instant::now();
    let slow: Vec<_> = (0..200)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move {
                let (mut read, mut write) = world.connect().await.into_split();
                let dribble = async {
                    write.write_all(format!("POST {TARGET} HTTP/1.1\r\nX-Slow: ").as_bytes()).await?;
                    loop {
                        write.write_all(b"x").await?;
                        tokio::time::sleep(Duration::from_millis(250)).await;
                    }
                };
                let mut heard = Vec::new();
                tokio::select! {
                    ended = dribble => drop::<std::io::Result<()>>(ended),
                    _ = read.read_to_end(&mut heard) => {}
                }
                heard
            })
        })
        .collect();
    let (_, opening) = world.caller().pay(&world, lane(0));
    assert_eq!(world.ask(&opening).await.status, 200);
    assert!(slow.iter().all(|slow| !slow.is_finished()), "they are not given up at once");
    for slow in slow {
        let heard = tokio::time::timeout(Duration::from_secs(30), slow).await.expect("they are given up").unwrap();
        assert!(!heard.starts_with(b"HTTP/1.1 200"));
    }
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_request_is_closed_in_any_protocol() {
    let world = shared(World::new().await);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let silent: Vec<_> = [0, 1, 22, preface.len()]
        .into_iter()
        .map(|sent| {
            let world = world.clone();
            tokio::spawn(async move {
                let (mut read, mut write) = world.connect().await.into_split();
                write.write_all(&preface[..sent]).await.unwrap();
                let _ = read.read_to_end(&mut Vec::new()).await;
                sent
            })
        })
        .collect();
    for silent in silent {
        tokio::time::timeout(Duration::from_secs(30), silent).await.expect("it is given up").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_or_long_headers_are_refused_before_any_read() {
    let world = World::new().await;
    let host = world.host();
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X: {}\r\n", "y".repeat(100_000));
    let target = format!("/{}", "x".repeat(70_000));
    for request in [
        format!("POST {TARGET} HTTP/1.1\r\nHost: {host}\r\n{many}\r\n"),
        format!("POST {TARGET} HTTP/1.1\r\nHost: {host}\r\n{long}\r\n"),
        format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ] {
        let answer = world.raw(request.as_bytes()).await;
        assert!(answer.as_ref().is_none_or(|answer| matches!(answer.status, 414 | 431)), "{answer:?}");
    }
}

/// A gateway whose set has lost what it had: nobody can say what is spent, and so nothing is unspent.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_cannot_be_asked_admits_nothing() {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (id, key) = (GatewayId::from_bytes(rand::random()), GatewaySigningKey::generate(&mut rand::rng()));
    let host = listener.address().to_string();
    let entry = GatewayEntry { id, origins: vec![format!("http://{host}")], key: key.public_key() };
    let adjust = Some(Box::new(move |parts: &mut DirectoryParts| parts.gateways.push(entry)) as _);
    let world = World::with(StackOptions { adjust, ..StackOptions::default() }).await;
    let directory = world.stack.issuer().directory().clone();
    // Its partitions were never created.
    let (set, owner) = (Arc::new(MemorySpentSet::new()), OwnerId::from_bytes([3; 16]));
    let parts = GatewayParts::new(id, directory, set, owner, 700);
    let layer = PaymentLayer::start(
        PaymentLayerParts::new(
            Arc::new(Gateway::new(parts, now()).unwrap()),
            world.stack.shared_issuer(),
            key,
            Box::new(TokenPricing::new()),
        )
        .with_call_timeout(Duration::from_secs(60)),
    );
    let service = Router::new();
    let server = listener.serve(Router::new().fallback_service(layer.unwrap().layer(service)));

    let mut caller = world.caller();
    let job = caller.wallet.plan(lane(0), &id, CLASS, now()).unwrap();
    let key = caller.keys.of(&job.epoch_key());
    let ready = job.prove(&key, &mut rand::rng()).unwrap();
    let request = Request::new(&host, "POST", TARGET, ContentDigest::of(QUESTION.as_bytes())).unwrap();
    let paid = caller.wallet.authorise(ready, &request, now()).unwrap();
    let opening = Request::new(&host, "POST", SESSION_PATH, ContentDigest::of(b"")).unwrap();
    let session = caller.wallet.resend(&paid.key, &opening).unwrap().opening;
    let challenge = PaymentChallenge::of(world.stack.gateway().directory(), &id);
    let credential = Credential { challenge, payload: Payload::Opening(paid.opening) }.to_header_value();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let call = client.post(format!("{}{TARGET}", server.url())).header("authorization", credential).body(QUESTION);
    let open = client.post(format!("{}{SESSION_PATH}", server.url())).body(session);
    for asked in [call, open] {
        let answer = asked.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"1".parse().unwrap()));
        let details: ProblemDetails = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(details.kind(), Some(Problem::StoreUnavailable));
    }
}
