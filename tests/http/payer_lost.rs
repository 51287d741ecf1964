//! A gateway whose set lost what it settled is noticed over HTTP, and an honest one behind a cache is not accused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use halometer::http::payer::{Client, Event, Payer};
use halometer::http::wire::{SPENT_PATH, bucket_path};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{DisputeKind, Journal as _, MemoryJournal, NotShown, Wallet};
use http::StatusCode;

use crate::front::{Act, Front, behind};
use crate::payer_hostile::{TestPayer, ask, impatient, started, until};
use crate::world::World;

const EPOCH: EpochNumber = EpochNumber::new(1);

fn is_bucket(path: &str) -> bool {
    path.strip_prefix(SPENT_PATH).is_some_and(|rest| rest.matches('/').count() > 1)
}

type Told = Arc<Mutex<Vec<Event>>>;

/// A caller that has paid for a call, and whose wallet is opened again.
async fn opened_again(world: &World, told: &Told, before: impl AsyncFnOnce()) -> TestPayer {
    let caller = world.caller_with([7; 32], DeviceId::from_bytes([1; 8]), world.stack.pay(paid()).unwrap());
    let payer = started(caller.wallet, impatient(world)).await;
    ask(&payer).await.unwrap();
    let wallet = payer.shutdown().await.unwrap();
    before().await;
    let told = Arc::clone(told);
    let observer = Arc::new(move |event: &Event| told.lock().unwrap().push(event.clone()));
    Payer::start(again(world, wallet.into_journal()), impatient(world).with_observer(observer)).await.unwrap()
}

fn paid() -> Credits {
    Credits::from_micro(crate::world::PAID)
}

fn again(world: &World, journal: MemoryJournal) -> Wallet<MemoryJournal> {
    let root = halometer::wallet::RootSecret::from_bytes([7; 32]);
    let directory = world.stack.issuer().signed_directory();
    Wallet::new(root, DeviceId::from_bytes([1; 8]), world.stack.root_key(), directory, journal).unwrap()
}

fn disputes(told: &Told) -> usize {
    let told = told.lock().unwrap();
    told.iter().filter(|event| **event == Event::DisputeKept(DisputeKind::Lost)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_denies_a_settled_spend_is_told_loudly() {
    let lies = Arc::new(AtomicBool::new(false));
    let script = {
        let lies = Arc::clone(&lies);
        move |path: &str, _| match is_bucket(path) && lies.load(Ordering::SeqCst) {
            // A page of none.
            true => Act::Answer(StatusCode::OK, Bytes::from_static(&[0; 4])),
            false => Act::Pass,
        }
    };
    let (world, _front): (World, Front) = behind(StackOptions::default(), script).await;
    let told = Told::default();
    let payer = opened_again(&world, &told, async || lies.store(true, Ordering::SeqCst)).await;
    let status = until(&payer, "nothing is noticed", |status| status.set_lost && status.unchecked == 0).await;
    assert_eq!((status.frozen, disputes(&told)), (0, 1));
    let kept = payer.with_wallet(|wallet| wallet.journal().disputes().unwrap()).await.unwrap();
    let [dispute] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((dispute.kind, dispute.heard.len()), (DisputeKind::Lost, 2), "it was asked for twice");
    let root = world.stack.root_key();
    let Err(NotShown::Ask { epoch, prefix }) = dispute.verify(&root) else { panic!("{:?}", dispute.verify(&root)) };
    // A judge asks the gateway, which lies or does not.
    assert_eq!(dispute.verify_lost(&root, prefix, &[]), Ok(()));
    let has = Client::plain().unwrap().spent_bucket(&world.origin(), epoch, prefix).await.unwrap();
    assert_eq!(dispute.verify_lost(&root, prefix, &has), Err(NotShown::Nothing));
    // Calls go on.
    ask(&payer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_set_behind_a_cache_is_not_accused() {
    for says_age in [true, false] {
        let script = move |path: &str, _| if is_bucket(path) { Act::Keep { says_age } } else { Act::Pass };
        let (world, _front): (World, Front) = behind(StackOptions::default(), script).await;
        // What is kept is of before the call.
        let origin = world.stack.gateway().directory().gateway(&world.gateway()).unwrap().origins[0].clone();
        let client = Client::plain().unwrap();
        assert!(client.spent_bucket(&origin, EPOCH, Prefix::WHOLE).await.unwrap().is_empty());
        let told = Told::default();
        let payer = opened_again(&world, &told, async || {
            let still = client.spent_bucket(&origin, EPOCH, Prefix::WHOLE).await.unwrap();
            assert!(still.is_empty(), "the cache keeps {}", bucket_path(EPOCH, Prefix::WHOLE));
        })
        .await;
        // A question that nothing can have an answer to settles it; where the cache puts an age to that as well, nothing is believed.
        if says_age {
            for _ in 0..200 {
                if told.lock().unwrap().contains(&Event::QuestionsFailed) {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            assert!(told.lock().unwrap().contains(&Event::QuestionsFailed));
        } else {
            until(&payer, "nothing is known", |status| status.unchecked == 0).await;
            ask(&payer).await.unwrap();
        }
        assert_eq!((disputes(&told), payer.status().await.unwrap().set_lost), (0, false));
    }
}
