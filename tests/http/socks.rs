//! A payer behind a SOCKS5 proxy: what the proxy is asked for, on which circuits, and what happens when it fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use halometer::http::payer::{CallError, Client, CreditState, Payer, PayerError, PayerParts, Socks5};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{MemoryJournal, Policy};
use http::{HeaderMap, HeaderValue, Method, header};

use crate::socks_server::{Asked, Mood, SocksServer};
use crate::world::{CLASS, PAID, QUESTION, TARGET, World};

/// A name that only the proxy knows.
const NAME: &str = "gateway.onion";

/// A gateway under a name that nothing on this machine can look up, and a proxy that can.
async fn world(options: StackOptions) -> (World, SocksServer) {
    let adjust = |parts: &mut DirectoryParts| parts.gateways[0].origins = vec![format!("http://{NAME}")];
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..options }).await;
    let socks = SocksServer::start().await;
    socks.knows(NAME, &world.stack.gateway_url());
    (world, socks)
}

fn client(socks: &SocksServer) -> Client {
    let proxy: Socks5 = socks.address().parse().unwrap();
    Client::plain().unwrap().through(proxy).unwrap()
}

fn parts(world: &World, socks: &SocksServer) -> PayerParts {
    let policy = Policy { gather: false, session_seconds: 300, ..Policy::agent(CLASS, 2) };
    PayerParts::new(world.gateway(), policy, client(socks)).with_answer_timeout(Duration::from_secs(20))
}

async fn start(world: &World, socks: &SocksServer) -> Payer<MemoryJournal> {
    Payer::start(world.caller().wallet, parts(world, socks)).await.unwrap()
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

async fn ask(payer: &Payer<MemoryJournal>) -> Result<halometer::http::payer::Paid, CallError> {
    payer.call(Method::POST, TARGET, headers(), Bytes::from_static(QUESTION.as_bytes())).await
}

fn users(asked: &[Asked]) -> HashSet<(String, String)> {
    asked.iter().map(|asked| (asked.user.clone(), asked.password.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_go_to_the_proxy_and_every_spend_has_its_circuit() {
    let (world, socks) = world(StackOptions::default()).await;
    let payer = start(&world, &socks).await;
    for _ in 0..3 {
        ask(&payer).await.unwrap();
    }
    let asked = socks.asked();
    assert!(asked.iter().all(|asked| asked.is_name && asked.host == NAME && asked.port == 80), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.user.len() >= 16 && asked.password.len() >= 16), "{asked:?}");
    let calls = asked.iter().filter(|asked| asked.line.contains(TARGET)).count();
    assert_eq!(calls, 3);
    // Nothing was asked for twice here, so that no two requests are one spend's.
    assert_eq!(users(&asked).len(), asked.len(), "each has a circuit of its own: {asked:?}");
    assert_eq!(payer.with_wallet(|wallet| wallet.balance().total()).await.unwrap(), u128::from(PAID - world.charged()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tries_of_one_spend_share_a_circuit_and_no_other() {
    let (world, socks) = world(StackOptions::default()).await;
    let payer = start(&world, &socks).await;
    socks.forget();
    socks.is(Mood::DiesLate);
    let trying = tokio::spawn({
        let payer = payer.clone();
        async move { ask(&payer).await }
    });
    while socks.asked().iter().filter(|asked| asked.line.contains(TARGET)).count() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    socks.is(Mood::Serves);
    // The first try was served and its answer lost.
    let paid = trying.await.unwrap();
    assert!(paid.is_ok() || matches!(paid.as_ref().unwrap_err().credit(), CreditState::Spent(_)), "{paid:?}");
    let tried: Vec<_> = socks.asked().into_iter().filter(|asked| asked.line.contains(TARGET)).collect();
    assert!(tried.len() >= 2);
    let users = users(&tried);
    assert_eq!(users.len(), 1, "{tried:?}");
    let one = users.iter().next().unwrap();
    let others = socks.asked().into_iter().filter(|asked| !asked.line.starts_with("POST"));
    assert!(others.into_iter().all(|asked| asked.user != one.0), "what is asked in the background is elsewhere");
    ask(&payer).await.unwrap();
    assert!(socks.asked().last().unwrap().user != one.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_one_circuit_and_the_next_another() {
    let (world, socks) = world(StackOptions::default()).await;
    let payer = start(&world, &socks).await;
    let mut seen = HashSet::new();
    for _ in 0..2 {
        socks.forget();
        let session = payer.open_session().await.unwrap();
        let body = Bytes::from_static(br#"{"max_tokens":10,"messages":[]}"#);
        session.call(Method::POST, TARGET, headers(), body).await.unwrap();
        session.close().await.unwrap();
        let asked = socks.asked();
        let own: Vec<_> = asked.into_iter().filter(|asked| asked.line.starts_with("POST")).collect();
        assert_eq!(users(&own).len(), 1, "{own:?}");
        assert!(seen.insert(own[0].user.clone()), "the sessions are not one caller's to see");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_is_never_on_a_circuit_of_a_call() {
    let (world, socks) = world(StackOptions::default()).await;
    socks.knows("issuer.onion", &world.stack.issuer_url());
    let payer = start(&world, &socks).await;
    ask(&payer).await.unwrap();
    // Even if the program gives a client that would go straight.
    for straight in [true, false] {
        let client = if straight { Client::plain().unwrap() } else { client(&socks) };
        let payment = world.stack.pay(Credits::from_micro(80_000)).unwrap();
        payer.fund(&client, "http://issuer.onion", payment, [Credits::from_micro(10_000); LANES]).await.unwrap();
    }
    ask(&payer).await.unwrap();
    let asked = socks.asked();
    let (mints, rest): (Vec<_>, Vec<_>) = asked.into_iter().partition(|asked| asked.host == "issuer.onion");
    assert!(mints.len() >= 2 && mints.iter().all(|asked| asked.is_name), "{mints:?}");
    assert!(users(&mints).is_disjoint(&users(&rest)));
    assert_eq!(users(&mints).len(), mints.len());
}

/// Counts what connects to it, and answers nothing.
async fn trap() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (url, count) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (url, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_proxy_nothing_connects_to_anything() {
    let (gateway, connected) = trap().await;
    let origin = gateway.clone();
    let adjust = move |parts: &mut DirectoryParts| parts.gateways[0].origins = vec![origin];
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    // A port at which nothing listens.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::plain().unwrap().through(nobody.to_string().parse().unwrap()).unwrap();
    let parts = PayerParts::new(world.gateway(), Policy::agent(CLASS, 1), client.clone());
    let Err(PayerError::Client(error)) = Payer::start(world.caller().wallet, parts).await else { panic!("it started") };
    assert!(error.to_string().contains(&format!("the SOCKS5 proxy at {nobody}")), "{error}");

    // Whatever is asked.
    let epoch = world.stack.gateway().directory().parts().epochs[0].number;
    assert!(client.directory(&gateway).await.is_err());
    assert!(client.challenge(&gateway).await.is_err());
    assert!(client.spent_count(&gateway, epoch).await.is_err());
    assert!(client.cancel(&gateway, vec![0; 100]).await.is_err());
    assert!(client.transfer(&gateway, vec![0; 100]).await.is_err());
    assert!(client.rollover(&gateway, vec![0; 100]).await.is_err());
    assert!(client.open_session(&gateway, vec![0; 100]).await.is_err());
    assert_eq!(connected.load(Ordering::SeqCst), 0, "nothing went past the proxy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_fails_ends_the_call_and_costs_nothing() {
    for mood in [Mood::Refuses, Mood::Anonymous, Mood::DiesEarly] {
        let (world, socks) = world(StackOptions::default()).await;
        let payer = start(&world, &socks).await;
        socks.is(mood);
        socks.forget();
        let error = ask(&payer).await.unwrap_err();
        assert!(matches!(error, CallError::Unreachable(_)), "{mood:?}: {error:?}");
        assert_eq!(error.credit(), CreditState::Safe, "{mood:?}");
        assert!(error.to_string().contains("the SOCKS5 proxy at"), "{mood:?}: {error}");
        assert!(socks.connections() > 0, "{mood:?}");
        assert_eq!(world.charged(), 0, "{mood:?}");
        // When it is back the spend is settled, through it.
        socks.is(Mood::Serves);
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while payer.status().await.unwrap().in_flight > 0 {
            assert!(tokio::time::Instant::now() < until, "{mood:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(payer.with_wallet(|wallet| wallet.balance().total()).await.unwrap(), u128::from(PAID));
    }
}
