//! The caller's side: proofs made ahead, lanes in parallel, answers that get lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use halometer::http::clock::{Clock, now};
use halometer::http::payer::{CallError, Client, CreditState, Payer, PayerError, PayerParts};
use halometer::http::server::Listener;
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{MemoryJournal, Policy, RootSecret, Wallet};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::world::{CLASS, OTHER_CLASS, PAID, QUESTION, TARGET, World};

fn payer_parts(world: &World, class: Credits) -> PayerParts {
    PayerParts::new(world.gateway(), Policy::agent(class, 3), Client::plain().unwrap())
}

async fn payer(world: &World) -> Payer<MemoryJournal> {
    Payer::start(world.caller().wallet, payer_parts(world, CLASS)).await.unwrap()
}

async fn ask(payer: &Payer<MemoryJournal>) -> Result<halometer::http::payer::Paid, CallError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    payer.call(Method::POST, TARGET, headers, Bytes::from_static(QUESTION.as_bytes())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_pay_in_parallel_and_the_balance_is_exact() {
    let service = Router::new().fallback(|| async { r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"# });
    let world = World::selling(service).await;
    let payer = payer(&world).await;
    payer.wait_ready(8).await.unwrap();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let payer = payer.clone();
            tokio::spawn(async move { ask(&payer).await.unwrap() })
        })
        .collect();
    for call in calls {
        let paid = call.await.unwrap();
        assert_eq!((paid.status, paid.accepted.cost.micro()), (StatusCode::OK, 100));
    }
    assert_eq!(payer.with_wallet(|wallet| wallet.balance().total()).await.unwrap(), u128::from(PAID - 1_000));
    assert_eq!(world.charged(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_service_is_an_answer_and_comes_back_free() {
    let service = Router::new().fallback(|| async { (StatusCode::IM_A_TEAPOT, "short and stout") });
    let world = World::selling(service).await;
    let paid = ask(&payer(&world).await).await.unwrap();
    assert_eq!((paid.status, &paid.body[..]), (StatusCode::IM_A_TEAPOT, &b"short and stout"[..]));
    assert_eq!((paid.accepted.cost, paid.accepted.refund), (Credits::ZERO, CLASS));
}

/// Between payer and gateway stands something that swallows the first answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_charged_once_and_its_change_is_not_lost() {
    // The gateway's origin, as the directory has it, is the middle box; it passes on to where the gateway listens.
    let box_listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let origin = format!("http://{}", box_listener.address());
    let adjust = move |parts: &mut DirectoryParts| parts.gateways[0].origins.insert(0, origin);
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    let swallowed = Arc::new(AtomicUsize::new(0));
    let (gateway, count) = (world.stack.gateway_url(), Arc::clone(&swallowed));
    let pass_on = move |request: axum::extract::Request| {
        let (gateway, count) = (gateway.clone(), Arc::clone(&count));
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
            let url = format!("{gateway}{}", parts.uri);
            let answer =
                client.request(parts.method.clone(), url).headers(parts.headers).body(body).send().await.unwrap();
            if parts.uri.path() == TARGET && count.fetch_add(1, Ordering::SeqCst) == 0 {
                return (StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new(), Bytes::new());
            }
            (answer.status(), answer.headers().clone(), answer.bytes().await.unwrap())
        }
    };
    let _box = box_listener.serve(Router::new().fallback(pass_on));
    let payer = payer(&world).await;
    // The answer is some box's 503: the settlement is asked for, and comes.
    let paid = ask(&payer).await.unwrap();
    assert_eq!(paid.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(paid.accepted.cost > Credits::ZERO);
    assert_eq!(world.charged(), paid.accepted.cost.micro());
    assert_eq!(payer.with_wallet(|wallet| wallet.balance().total()).await.unwrap(), u128::from(PAID - world.charged()));
    assert_eq!(swallowed.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_shows_another_directory_is_not_paid() {
    let world = World::new().await;
    let mut wallet = world.caller().wallet;
    let mut parts = world.stack.gateway().directory().parts().clone();
    (parts.serial, parts.published) = (parts.serial + 1, parts.published.after(1));
    let newer = SignedDirectory::sign(&Directory::new(parts).unwrap(), world.stack.root_signing_key()).unwrap();
    wallet.adopt(&newer).unwrap();
    let refused = Payer::start(wallet, payer_parts(&world, CLASS)).await;
    assert!(matches!(refused, Err(PayerError::OtherDirectory { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_is_out_of_credit_says_so() {
    let world = World::new().await;
    let class = Credits::from_micro(64_000);
    for gather in [true, false] {
        let policy = Policy { gather, ..Policy::agent(class, 2) };
        let parts = payer_parts(&world, class).with_policy(policy);
        let payer = Payer::start(world.caller().wallet, parts).await.unwrap();
        let refused = tokio::time::timeout(Duration::from_secs(5), ask(&payer)).await.expect("at once");
        let error = refused.unwrap_err();
        assert_eq!(error.credit(), CreditState::Untouched);
        match gather {
            true => assert!(matches!(error, CallError::Spread), "{error:?}"),
            false => assert!(matches!(error, CallError::OutOfCredit), "{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_of_a_window_that_is_past_are_made_anew() {
    let world = World::new().await;
    let ahead = Arc::new(AtomicU64::new(0));
    let clock = {
        let ahead = Arc::clone(&ahead);
        Clock::new(move || now().after(ahead.load(Ordering::SeqCst)))
    };
    let parts = payer_parts(&world, CLASS).with_clock(clock);
    let payer = Payer::start(world.caller().wallet, parts).await.unwrap();
    payer.wait_ready(8).await.unwrap();
    assert_eq!(payer.proof_times().len(), 8);
    // Well into the next window: there a gateway would refuse them.
    let step = u64::from(world.stack.gateway().directory().grid().step());
    ahead.store(step - now().seconds() % step + 400, Ordering::SeqCst);
    assert_eq!(payer.status().await.unwrap().ready, 0);
    payer.wait_ready(8).await.unwrap();
    assert_eq!(payer.proof_times().len(), 16);
}

/// A gateway that sees two calls on one connection knows that they are one caller's, whatever was proved, and however the packets
/// came to it.
#[tokio::test(flavor = "multi_thread")]
async fn no_two_requests_share_a_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let adjust = move |parts: &mut DirectoryParts| parts.gateways[0].origins.insert(0, origin);
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    let connections = Arc::new(AtomicUsize::new(0));
    let (host, count) = (world.host(), Arc::clone(&connections));
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let host = host.clone();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(host).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let payer = payer(&world).await;
    for calls in 1..=3 {
        ask(&payer).await.unwrap();
        assert!(connections.load(Ordering::SeqCst) > calls, "the challenge, and each call");
    }
}

/// A wallet that was away for a while: of its notes, some are of an epoch of which the gateways know nothing any more. Empty lanes
/// stay behind in every epoch.
#[tokio::test(flavor = "multi_thread")]
async fn notes_of_an_ended_epoch_do_not_block_the_others() {
    let (begun, over) = (now().before(86_400), now().before(60));
    let adjust = move |parts: &mut DirectoryParts| {
        (parts.epochs[0].issue, parts.epochs[0].spend) =
            (Window { from: begun.before(86_400), until: begun }, Window { from: begun.before(86_400), until: over });
        (parts.epochs[1].issue.from, parts.epochs[1].spend.from) = (begun, begun);
    };
    let mut world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    let (old, new) = (world.stack.pay(Credits::from_micro(PAID)).unwrap(), world.stack.pay(CLASS).unwrap());
    world.minted = Some(begun.before(60));
    let (secret, device) = ([7; 32], DeviceId::from_bytes([1; 8]));
    let mut wallet = world.caller_with(secret, device, old).wallet;
    let amounts = core::array::from_fn(|lane| if lane == 0 { CLASS } else { Credits::ZERO });
    let request = wallet.request_mint(new, amounts, now()).unwrap();
    wallet.accept_mint(&new, &world.stack.issuer().mint(&request, now()).unwrap(), now()).unwrap();
    let set = world.stack.gateway().shared_set();
    set.close(EpochNumber::new(1)).unwrap();
    set.retire(EpochNumber::new(1)).unwrap();

    let (root, directory) = (world.stack.root_key(), world.stack.issuer().signed_directory());
    let journal = wallet.into_journal();
    let wallet = Wallet::new(RootSecret::from_bytes(secret), device, root, directory, journal).unwrap();
    let payer = Payer::start(wallet, payer_parts(&world, CLASS)).await.unwrap();
    let paid = tokio::time::timeout(Duration::from_secs(30), ask(&payer)).await.expect("in time").unwrap();
    assert_eq!(paid.status, StatusCode::OK);
    // Nothing is waited for that cannot come.
    let none = tokio::time::timeout(Duration::from_secs(30), payer.wait_ready(8)).await.expect("in time");
    assert!(matches!(none, Err(CallError::OutOfCredit)), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_that_a_copy_of_the_wallet_spent_is_elsewhere() {
    let world = World::new().await;
    let (secret, device) = ([4; 32], DeviceId::from_bytes([1; 8]));
    let original = world.caller_with(secret, device, world.stack.pay(Credits::from_micro(PAID)).unwrap()).wallet;
    let (pinned, directory) = (world.stack.root_key(), world.stack.issuer().signed_directory());
    let journal = original.journal().clone();
    let copy = Wallet::new(RootSecret::from_bytes(secret), device, pinned, directory, journal).unwrap();
    // The original knows all its notes to be its own; the copy asks first, and spends every one of them.
    // With one class and one window the two would make the very same spend, which is no conflict.
    let original = Payer::start(original, payer_parts(&world, OTHER_CLASS)).await.unwrap();
    let copy = Payer::start(copy, payer_parts(&world, CLASS)).await.unwrap();
    copy.wait_ready(LANES).await.unwrap();
    let calls: Vec<_> = (0..LANES)
        .map(|_| {
            let copy = copy.clone();
            tokio::spawn(async move { ask(&copy).await.unwrap() })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let charged = world.charged();
    let error = ask(&original).await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(_)), "{error:?}");
    assert_eq!((error.credit(), error.fault()), (CreditState::Elsewhere, Fault::Caller), "{error:?}");
    assert!(error.next().contains("another copy of this wallet"), "{}", error.next());
    assert_eq!((world.charged(), world.stack.conflicts() > 0), (charged, true), "nothing is charged for it");
}
