//! A note pays once: replays, races, double spends.

use std::time::Duration;

use halometer::http::clock::now;
use halometer::lifecycle::Evidence;
use halometer::protocol::*;

use crate::world::{CLASS, OTHER_CLASS, PAID, World, assert_refused, lane, shared};

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_gets_the_same_settlement_and_is_charged_once() {
    let world = World::new().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let settlement = world.ask(&opening).await.settlement();
    let charged = world.charged();
    assert_eq!(charged, CLASS.micro() - settlement.refund.micro());
    for _ in 0..3 {
        let again = world.ask(&opening).await;
        assert_refused(&again, Problem::AlreadySpent);
        assert_eq!(again.settlement(), settlement);
    }
    assert_eq!(world.charged(), charged);
    caller.wallet.accept(&key, &settlement, now()).unwrap();
    assert_eq!(caller.wallet.balance().total(), u128::from(PAID - charged));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_one_moment_one_is_served() {
    let service = axum::Router::new().fallback(|| async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#
    });
    let world = shared(World::selling(service).await);
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let racers: Vec<_> = (0..16)
        .map(|_| {
            let (world, opening) = (world.clone(), opening.clone());
            tokio::spawn(async move { world.ask(&opening).await })
        })
        .collect();
    let mut served = Vec::new();
    for racer in racers {
        let answer = racer.await.unwrap();
        match answer.status {
            200 => served.push(answer.settlement()),
            _ => assert!(matches!(answer.problem(), Some(Problem::InProgress | Problem::AlreadySpent)), "{answer:?}"),
        }
    }
    assert_eq!(served.len(), 1);
    assert_eq!(world.charged(), 10 * 2 + 10 * 8);
    caller.wallet.accept(&key, &served[0], now()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_spent_twice_is_refused_and_names_its_payment() {
    let world = World::new().await;
    let honest = world.caller();
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let copy = || world.caller_with([3; 32], DeviceId::from_bytes([3; 8]), payment);
    let (mut first, mut second) = (copy(), copy());
    let (key, opening) = first.pay(&world, lane(5));
    let settlement = world.ask(&opening).await.settlement();
    let charged = world.charged();

    let (_, opening) = second.pay_at(&world, lane(5), OTHER_CLASS, world.gateway(), now());
    for _ in 0..2 {
        assert_refused(&world.ask(&opening).await, Problem::DoubleSpend);
    }
    assert_eq!((world.charged(), world.held()), (charged, 0));
    assert_eq!(world.stack.conflicts(), 2, "each refusal counts");
    // A spend that is sent again is no conflict.
    let (key_again, again) = first.pay(&world, lane(6));
    for _ in 0..2 {
        world.ask(&again).await;
    }
    first.wallet.release(&key_again);
    assert_eq!(world.stack.conflicts(), 2);

    let evidence = world.stack.evidence();
    let read = Evidence::from_bytes(&evidence[0].to_bytes(), world.stack.gateway().directory()).unwrap();
    assert_eq!(world.stack.name(&read).unwrap().unwrap().payment, payment);
    // The first spend is as good as it was, and nobody else is touched.
    first.wallet.accept(&key, &settlement, now()).unwrap();
    assert_eq!(honest.wallet.balance().total(), u128::from(PAID));
}

/// Both spends of a note arrive before either is admitted: they may be in one batch.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_spends_at_one_moment_one_is_served() {
    let world = shared(World::new().await);
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let copy = || world.caller_with([3; 32], DeviceId::from_bytes([3; 8]), payment);
    let (mut first, mut second) = (copy(), copy());
    let (_, one) = first.pay(&world, lane(0));
    let (_, other) = second.pay_at(&world, lane(0), OTHER_CLASS, world.gateway(), now());
    let ask = |opening: Vec<u8>| {
        let world = world.clone();
        tokio::spawn(async move { world.ask(&opening).await })
    };
    let (one, other) = (ask(one), ask(other));
    let answers = [one.await.unwrap(), other.await.unwrap()];
    let (served, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((served.len(), refused.len()), (1, 1), "{answers:?}");
    assert_refused(refused[0], Problem::DoubleSpend);
    assert_eq!((world.stack.evidence().len(), world.stack.conflicts()), (1, 1));
}
