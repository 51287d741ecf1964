//! A payer behind a gateway, or a network, that lies on a script.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use halometer::http::clock::{Clock, now};
use halometer::http::payer::{CallError, Client, CreditState, Event, Paid, Payer, PayerParts, Status};
use halometer::http::wire::{CANCEL_PATH, DIRECTORY_PATH, SETTLEMENT_PATH};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{DisputeKind, Journal as _, MemoryJournal, Policy, Wallet};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::front::{Act, Front, behind};
use crate::world::{CLASS, PAID, QUESTION, TARGET, World};

pub(crate) type TestPayer = Payer<MemoryJournal>;

/// All lanes, no pauses, and two seconds for an answer.
pub(crate) fn impatient(world: &World) -> PayerParts {
    let policy = Policy { jitter_seconds: 0, gather: false, provers: 2, ..Policy::agent(CLASS, 2) };
    let answer_timeout = Duration::from_secs(2);
    PayerParts::new(world.gateway(), policy, Client::plain().unwrap()).with_answer_timeout(answer_timeout)
}

pub(crate) async fn started(wallet: Wallet<MemoryJournal>, parts: PayerParts) -> TestPayer {
    Payer::start(wallet, parts).await.unwrap()
}

pub(crate) async fn ask(payer: &TestPayer) -> Result<Paid, CallError> {
    let json = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    payer.call(Method::POST, TARGET, json, Bytes::from_static(QUESTION.as_bytes())).await
}

/// Waits until the payer is in some state.
pub(crate) async fn until(payer: &TestPayer, what: &str, reached: impl Fn(&Status) -> bool) -> Status {
    for _ in 0..1_200 {
        let status = payer.status().await.unwrap();
        if reached(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not in 60 seconds: {:?}", payer.status().await);
}

/// Every lane came back or is disputed, the books balance, and no note was spent in two ways.
pub(crate) async fn dust_settles(world: &World, payer: &TestPayer, front: &Front) -> Status {
    let status = until(payer, "spends are in flight", |status| status.in_flight == 0).await;
    assert_eq!((status.frozen, status.unchecked, status.lanes), (0, 0, LANES));
    assert_eq!(status.balance.total(), u128::from(PAID - world.charged()));
    assert_eq!(world.held(), 0);
    assert_eq!(front.second_shares(), Vec::<String>::new());
    status
}

/// Numbers by chance that are the same each time.
fn chance(seed: u64, index: usize) -> u64 {
    let mut x = seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3 {
        x ^= x >> 31;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    x >> 16
}

fn any_lie(number: u64) -> Act {
    let problem = Problem::ALL[(number / 16) as usize % Problem::ALL.len()];
    match number % 16 {
        0..=2 => Act::Refuse(problem),
        3..=5 => Act::Lie(problem),
        6 => Act::Lose(StatusCode::INTERNAL_SERVER_ERROR),
        7 => Act::Lose(StatusCode::BAD_GATEWAY),
        8 => Act::Withhold,
        9 => Act::Double,
        10 => Act::Delay(Duration::from_millis(300)),
        11 => Act::Hang,
        12 => Act::Answer(StatusCode::OK, Bytes::from_static(b"{\"settlement\":\"AAAA\"}")),
        13 => Act::Answer(StatusCode::NOT_FOUND, Bytes::from_static(b"<html>")),
        14 => Act::Spoil,
        _ => Act::Pass,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_gateway_answer_loses_a_lane_or_spends_a_note_twice() {
    for seed in [1, 2] {
        let calm = Arc::new(AtomicBool::new(false));
        let script = {
            let calm = Arc::clone(&calm);
            move |_: &str, index| match index < 50 && !calm.load(Ordering::SeqCst) {
                true => any_lie(chance(seed, index)),
                false => Act::Pass,
            }
        };
        let (world, front) = behind(StackOptions::default(), script).await;
        let ahead = Arc::new(AtomicU64::new(0));
        let clock = {
            let ahead = Arc::clone(&ahead);
            Clock::new(move || now().after(ahead.load(Ordering::SeqCst)))
        };
        let payer = started(world.caller().wallet, impatient(&world).with_clock(clock)).await;
        let calls: Vec<_> = (0..16)
            .map(|_| {
                let payer = payer.clone();
                tokio::spawn(async move { ask(&payer).await })
            })
            .collect();
        for call in calls {
            if let Err(error) = call.await.unwrap() {
                // No caller was told that its credit is gone.
                assert!(!error.next().is_empty() && !error.to_string().is_empty());
                if let CreditState::Spent(accepted) = error.credit() {
                    assert!(accepted.cost <= CLASS);
                }
            }
        }
        // A lane lied to often comes back late: time passes, a minute in no time.
        for _ in 0..600 {
            ahead.fetch_add(60, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            if payer.status().await.unwrap().in_flight == 0 {
                break;
            }
        }
        ahead.store(0, Ordering::SeqCst);
        // Every lane may have come back before all the lies were told.
        calm.store(true, Ordering::SeqCst);
        dust_settles(&world, &payer, &front).await;
        // And all of them can be used again.
        payer.wait_ready(LANES).await.unwrap();
        ask(&payer).await.unwrap();
        dust_settles(&world, &payer, &front).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_says_whose_fault_it_is_and_its_lane_comes_back() {
    let at = Arc::new(AtomicUsize::new(0));
    let script = {
        let at = Arc::clone(&at);
        move |path: &str, _| match path {
            TARGET => Act::Refuse(Problem::ALL[at.load(Ordering::SeqCst)]),
            _ => Act::Pass,
        }
    };
    let (world, front) = behind(StackOptions::default(), script).await;
    let payer = started(world.caller().wallet, impatient(&world)).await;
    for (index, problem) in Problem::ALL.into_iter().enumerate() {
        at.store(index, Ordering::SeqCst);
        let sent = front.notes();
        let error = ask(&payer).await.unwrap_err();
        // That another spend came first is said of a copy of the wallet: then its credit is where the copy put it.
        let copied = matches!(problem, Problem::DoubleSpend | Problem::AlreadySpent);
        let credit = if copied { CreditState::Elsewhere } else { CreditState::Safe };
        assert_eq!(error.credit(), credit, "{problem}: {error:?}");
        assert!(matches!(error, CallError::Refused(_) | CallError::Unreachable(_)), "{problem}: {error:?}");
        // A gateway does not get to see two lanes by refusing one.
        assert_eq!(front.notes(), sent + 1, "{problem}");
        dust_settles(&world, &payer, &front).await;
    }
    assert_eq!(world.charged(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_settlement_becomes_a_dispute_and_the_good_is_fetched() {
    let script = |path: &str, _| if path == TARGET { Act::Spoil } else { Act::Pass };
    let (world, front) = behind(StackOptions::default(), script).await;
    let payer = started(world.caller().wallet, impatient(&world)).await;
    let error = ask(&payer).await.unwrap_err();
    assert_eq!((error.credit(), error.fault()), (CreditState::Disputed, Fault::Operator), "{error:?}");
    dust_settles(&world, &payer, &front).await;
    let kept = payer.with_wallet(|wallet| wallet.journal().disputes().unwrap()).await.unwrap();
    assert_eq!(kept.iter().map(|dispute| dispute.kind).collect::<Vec<_>>(), [DisputeKind::BadSettlement]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_gateway_is_disputed_and_other_lanes_go_on() {
    // One call is answered, and its settlement denied for as long as the test lasts.
    let script = |path: &str, index| match path {
        TARGET if index == 0 => Act::Lie(Problem::ProofInvalid),
        CANCEL_PATH => Act::Refuse(Problem::AlreadySpent),
        SETTLEMENT_PATH => Act::Refuse(Problem::Malformed),
        _ => Act::Pass,
    };
    let (world, front) = behind(StackOptions::default(), script).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let observer = Arc::new(move |event: &Event| told.lock().unwrap().push(event.clone()));
    let payer = started(world.caller().wallet, impatient(&world).with_observer(observer)).await;
    ask(&payer).await.unwrap_err();
    let status = until(&payer, "no dispute", |status| status.disputed == 1).await;
    assert_eq!(status.in_flight, 1);
    for _ in 0..3 {
        ask(&payer).await.unwrap();
    }
    let events = events.lock().unwrap();
    assert_eq!(events.iter().filter(|event| **event == Event::DisputeKept(DisputeKind::Denied)).count(), 1);
    assert_eq!(front.second_shares(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_gateway_sees_two_notes_for_one_request() {
    // It answers every problem there is, some windows after it got the request, and with a directory that came out meanwhile and
    // under which the spend would be no good.
    let (at, ahead) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let shown = Arc::new(Mutex::new(None::<SignedDirectory>));
    let script = {
        let (at, ahead, shown) = (Arc::clone(&at), Arc::clone(&ahead), Arc::clone(&shown));
        move |path: &str, _| match path {
            TARGET => {
                ahead.store(3 * 3_600, Ordering::SeqCst);
                Act::Refuse(Problem::ALL[at.load(Ordering::SeqCst)])
            }
            DIRECTORY_PATH => match &*shown.lock().unwrap() {
                Some(directory) => Act::Answer(StatusCode::OK, directory.to_bytes().into()),
                None => Act::Pass,
            },
            // Whose challenge would name the directory that it goes by itself.
            "/" if shown.lock().unwrap().is_some() => Act::Lose(StatusCode::BAD_GATEWAY),
            _ => Act::Pass,
        }
    };
    let (world, front) = behind(StackOptions::default(), script).await;
    let clock = {
        let ahead = Arc::clone(&ahead);
        Clock::new(move || now().after(ahead.load(Ordering::SeqCst)))
    };
    let payer = started(world.caller().wallet, impatient(&world).with_clock(clock)).await;
    let mut parts = world.stack.gateway().directory().parts().clone();
    for (index, problem) in Problem::ALL.into_iter().enumerate() {
        at.store(index, Ordering::SeqCst);
        ahead.store(0, Ordering::SeqCst);
        let mut prices = parts.tariffs[0].prices().to_vec();
        prices[0].credits = Credits::from_micro(prices[0].credits.micro() + 1);
        let valid = parts.tariffs[0].valid();
        parts.tariffs = vec![Tariff::new(valid, prices).unwrap()];
        (parts.serial, parts.published) = (parts.serial + 1, parts.published.after(1));
        let newer = SignedDirectory::sign(&Directory::new(parts.clone()).unwrap(), world.stack.root_signing_key());
        *shown.lock().unwrap() = newer;
        payer.wait_ready(1).await.unwrap();
        let sent = front.notes();
        let error = ask(&payer).await.unwrap_err();
        assert_eq!(front.notes(), sent + 1, "{problem}: {error:?}");
        ahead.store(0, Ordering::SeqCst);
        dust_settles(&world, &payer, &front).await;
    }
}

/// Two directories after the world's: one that follows it, and one that says otherwise under the same number.
fn directories(world: &World) -> [SignedDirectory; 2] {
    [7_200, 3_600].map(|evidence| {
        let mut parts = world.stack.gateway().directory().parts().clone();
        (parts.serial, parts.published) = (parts.serial + 1, parts.published.after(1));
        parts.evidence_seconds += evidence;
        SignedDirectory::sign(&Directory::new(parts).unwrap(), world.stack.root_signing_key()).unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_payer_follows_new_directories_and_stops_at_contradiction() {
    let shown = Arc::new(Mutex::new(None::<SignedDirectory>));
    let script = {
        let (shown, refusals) = (Arc::clone(&shown), AtomicUsize::new(0));
        move |path: &str, _| match path {
            TARGET if refusals.fetch_add(1, Ordering::SeqCst) % 2 == 0 => Act::Refuse(Problem::ClassUnknown),
            DIRECTORY_PATH => match &*shown.lock().unwrap() {
                Some(directory) => Act::Answer(StatusCode::OK, directory.to_bytes().into()),
                None => Act::Pass,
            },
            // Whose challenge would name the directory that it goes by itself.
            "/" if shown.lock().unwrap().is_some() => Act::Lose(StatusCode::BAD_GATEWAY),
            _ => Act::Pass,
        }
    };
    let (world, front) = behind(StackOptions::default(), script).await;
    let payer = started(world.caller().wallet, impatient(&world)).await;
    let [newer, contradiction] = directories(&world);
    *shown.lock().unwrap() = Some(newer);
    // Refused, and not shown another lane: the newer directory leaves the spend as good as it was. The next call goes by it.
    assert!(matches!(ask(&payer).await, Err(CallError::Refused(_))));
    assert_eq!(front.notes(), 1);
    dust_settles(&world, &payer, &front).await;
    ask(&payer).await.unwrap();
    assert_eq!(front.notes(), 2);
    dust_settles(&world, &payer, &front).await;

    *shown.lock().unwrap() = Some(contradiction);
    let error = ask(&payer).await.unwrap_err();
    assert!(matches!(error, CallError::Contradiction), "{error:?}");
    assert_eq!((error.fault(), error.credit()), (Fault::Operator, CreditState::Safe));
    assert!(matches!(ask(&payer).await, Err(CallError::Contradiction)));
    let status = dust_settles(&world, &payer, &front).await;
    assert!(status.contradicted);
    let kept = payer.with_wallet(|wallet| wallet.journal().disputes().unwrap()).await.unwrap();
    assert!(kept.iter().any(|dispute| dispute.kind == DisputeKind::TwoDirectories));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_for_one_wallet_alone_stops_it_before_a_call() {
    // The gateway shows this wallet a directory of its own, and everybody the same challenge: it cannot tell callers apart.
    let shown = Arc::new(Mutex::new(None::<SignedDirectory>));
    let script = {
        let shown = Arc::clone(&shown);
        move |path: &str, index| match path {
            TARGET if index == 0 => Act::Refuse(Problem::ClassUnknown),
            DIRECTORY_PATH => match &*shown.lock().unwrap() {
                Some(directory) => Act::Answer(StatusCode::OK, directory.to_bytes().into()),
                None => Act::Pass,
            },
            _ => Act::Pass,
        }
    };
    let (world, front) = behind(StackOptions::default(), script).await;
    let payer = started(world.caller().wallet, impatient(&world)).await;
    let [own, _] = directories(&world);
    *shown.lock().unwrap() = Some(own);
    ask(&payer).await.unwrap_err();
    let sent = front.notes();
    let error = ask(&payer).await.unwrap_err();
    assert!(matches!(error, CallError::OtherDirectory), "{error:?}");
    assert_eq!((error.fault(), error.credit()), (Fault::Operator, CreditState::Untouched));
    assert_eq!(front.notes(), sent, "nothing was sent");
    dust_settles(&world, &payer, &front).await;
}
