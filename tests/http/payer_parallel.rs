//! Many calls at once, calls that are dropped, payers that end and begin again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use halometer::http::clock::now;
use halometer::http::payer::{CallError, Client, CreditState, Event, Payer};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{MemoryJournal, Policy, RootSecret, Wallet};
use http::{HeaderMap, Method};

use crate::front::{Act, behind};
use crate::payer_hostile::{TestPayer, ask, dust_settles, impatient, started, until};
use crate::world::{PAID, TARGET, World, lane};

const USAGE: &str = r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;

/// On one thread, so that the calls begin in their order.
#[tokio::test]
async fn fifty_calls_on_eight_lanes_get_their_turns_in_order() {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&arrived);
    let service = Router::new().fallback(move |body: Bytes| {
        let question: serde_json::Value = serde_json::from_slice(&body).unwrap();
        seen.lock().unwrap().push(question["user"].as_str().unwrap().parse::<u8>().unwrap());
        async { USAGE }
    });
    let world = World::selling(service).await;
    let payer = started(world.caller().wallet, impatient(&world)).await;
    payer.wait_ready(LANES).await.unwrap();
    let calls: Vec<_> = (0..50_u8)
        .map(|index| {
            let payer = payer.clone();
            let question = format!(r#"{{"user":"{index}"}}"#);
            let call = async move { payer.call(Method::POST, TARGET, HeaderMap::new(), question.into()).await };
            tokio::spawn(call)
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().accepted.cost.micro(), 100);
    }
    assert_eq!(world.charged(), 5_000);
    // Eight are under way at a time, and may overtake each other on the way.
    for (place, index) in arrived.lock().unwrap().iter().enumerate() {
        assert!(place.abs_diff(usize::from(*index)) <= 2 * LANES, "call {index} came in place {place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_dropped_at_any_point_leave_nothing_half_done() {
    let (world, front) = behind(StackOptions::default(), |_, _| Act::Pass).await;
    let payer = started(world.caller().wallet, impatient(&world)).await;
    payer.wait_ready(4).await.unwrap();
    for round in 0..48_u64 {
        // From before the first poll to after the answer.
        let patience = Duration::from_micros(round * round * 60);
        let _ = tokio::time::timeout(patience, ask(&payer)).await;
    }
    dust_settles(&world, &payer, &front).await;
    payer.wait_ready(LANES).await.unwrap();
    ask(&payer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_is_immediate_and_the_next_payer_takes_over() {
    let service = Router::new().fallback(|| async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        USAGE
    });
    let world = World::selling(service).await;
    let (secret, device) = ([7; 32], DeviceId::from_bytes([1; 8]));
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let payer = started(world.caller_with(secret, device, payment).wallet, impatient(&world)).await;
    payer.wait_ready(2).await.unwrap();
    let calls = [(); 2].map(|()| {
        let payer = payer.clone();
        tokio::spawn(async move { ask(&payer).await })
    });
    until(&payer, "nothing is sent", |status| status.in_flight == 2).await;
    // Proofs are being made at this moment.
    let began = Instant::now();
    let wallet = payer.shutdown().await.expect("the wallet");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Stopped) && error.credit() == CreditState::Safe, "{error:?}");
    }
    assert!(payer.shutdown().await.is_none());
    assert!(payer.status().await.is_err());

    // The process begins again, with what its journal has.
    let journal = wallet.into_journal();
    let directory = world.stack.issuer().signed_directory();
    let wallet =
        Wallet::new(RootSecret::from_bytes(secret), device, world.stack.root_key(), directory, journal).unwrap();
    let payer = started(wallet, impatient(&world)).await;
    let status = until(&payer, "not taken over", |status| status.in_flight == 0 && status.unchecked == 0).await;
    assert_eq!((status.frozen, status.balance.total()), (0, u128::from(PAID - world.charged())));
    assert_eq!(world.held(), 0);
    payer.wait_ready(LANES).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_a_copy_spent_freeze_before_anything_is_sent() {
    let (world, front) = behind(StackOptions::default(), |_, _| Act::Pass).await;
    let (secret, device) = ([8; 32], DeviceId::from_bytes([1; 8]));
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let journal = world.caller_with(secret, device, payment).wallet.into_journal();
    let mut copy = world.caller_with(secret, device, payment);
    for number in [2, 5] {
        let (_, opening) = copy.pay(&world, lane(number));
        assert_eq!(world.ask(&opening).await.status, 200);
    }
    let directory = world.stack.issuer().signed_directory();
    let wallet =
        Wallet::new(RootSecret::from_bytes(secret), device, world.stack.root_key(), directory, journal).unwrap();
    let frozen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&frozen);
    let observer = Arc::new(move |event: &Event| {
        if let Event::LaneFrozen(lane) = event {
            told.lock().unwrap().push(*lane);
        }
    });
    let payer = started(wallet, impatient(&world).with_observer(observer)).await;
    for _ in 0..12 {
        ask(&payer).await.unwrap();
    }
    let status = payer.status().await.unwrap();
    assert_eq!((status.frozen, status.unchecked), (2, 0));
    assert_eq!(*frozen.lock().unwrap(), [lane(2), lane(5)]);
    assert_eq!(front.second_shares(), Vec::<String>::new());
    assert!(world.stack.evidence().is_empty(), "nobody was named");
}

#[tokio::test(flavor = "multi_thread")]
async fn unverifiable_notes_are_not_spent_and_the_error_says_so() {
    let script = |path: &str, _| if path.contains("/spent/") { Act::Hang } else { Act::Pass };
    let (world, front) = behind(StackOptions::default(), script).await;
    let (secret, device) = ([9; 32], DeviceId::from_bytes([1; 8]));
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let journal = world.caller_with(secret, device, payment).wallet.into_journal();
    let directory = world.stack.issuer().signed_directory();
    let wallet =
        Wallet::new(RootSecret::from_bytes(secret), device, world.stack.root_key(), directory, journal).unwrap();
    let payer = started(wallet, impatient(&world)).await;
    let error = ask(&payer).await.unwrap_err();
    assert!(matches!(error, CallError::Unchecked), "{error:?}");
    assert_eq!(error.credit(), CreditState::Untouched);
    assert_eq!(front.notes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_that_is_spread_is_gathered_in_a_quiet_time() {
    let (world, front) = behind(StackOptions::default(), |_, _| Act::Pass).await;
    let class = Credits::from_micro(64_000);
    let policy = Policy { lanes: 1, gather: true, quiet_seconds: 1, jitter_seconds: 0, ..Policy::agent(class, 3) };
    let payer = started(world.caller().wallet, impatient(&world).with_policy(policy)).await;
    until(&payer, "not gathered", |status| status.ready >= 1).await;
    let paid = ask(&payer).await.unwrap();
    assert_eq!(paid.accepted.charge, class);
    dust_settles(&world, &payer, &front).await;
}

/// A mint is asked for until it comes, and opens its lanes once.
#[tokio::test(flavor = "multi_thread")]
async fn funding_again_changes_nothing() {
    let world = World::new().await;
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let directory = world.stack.issuer().signed_directory();
    let secret = RootSecret::from_bytes([10; 32]);
    let device = DeviceId::from_bytes([1; 8]);
    let wallet = Wallet::new(secret, device, world.stack.root_key(), directory, MemoryJournal::new()).unwrap();
    let payer: TestPayer = started(wallet, impatient(&world)).await;
    assert!(matches!(ask(&payer).await, Err(CallError::OutOfCredit)));
    let (client, issuer) = (Client::plain().unwrap(), world.stack.issuer_url());
    for _ in 0..2 {
        payer.fund(&client, &issuer, payment, [Credits::from_micro(PAID / 8); LANES]).await.unwrap();
        assert_eq!(payer.status().await.unwrap().balance.total(), u128::from(PAID));
    }
    ask(&payer).await.unwrap();
    let again = payer.fund(&client, &issuer, payment, [Credits::from_micro(PAID / 8); LANES]).await;
    assert!(again.is_ok(), "{again:?}");
    let balance = payer.status().await.unwrap().balance.total();
    assert_eq!(balance, u128::from(PAID - world.charged()));
}

/// At the boundary of a window a caller's proofs are all of the past at once; the call that comes then must wait for one, and is
/// not refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_right_after_a_boundary_waits_for_its_proof() {
    let world = World::new().await;
    let ahead = Arc::new(AtomicU64::new(0));
    let clock = {
        let ahead = Arc::clone(&ahead);
        halometer::http::clock::Clock::new(move || now().after(ahead.load(Ordering::SeqCst)))
    };
    let policy = Policy { jitter_seconds: 3_600, ..impatient(&world).policy };
    let payer = Payer::start(world.caller().wallet, impatient(&world).with_clock(clock).with_policy(policy));
    let payer: TestPayer = payer.await.unwrap();
    payer.wait_ready(1).await.unwrap();
    let step = u64::from(world.stack.gateway().directory().grid().step());
    ahead.store(step - now().seconds() % step + 60, Ordering::SeqCst);
    // The gateway's clock is before the boundary: it refuses what is made for the window after, which the caller is told.
    let outcome = tokio::time::timeout(Duration::from_secs(20), ask(&payer)).await.expect("no hour's rest");
    assert!(matches!(outcome, Ok(_) | Err(CallError::Refused(_))), "{outcome:?}");
    assert!(payer.proof_times().len() > 1);
}
