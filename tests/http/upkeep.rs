//! What the gateway does by the clock.

use std::time::Duration;

use halometer::http::clock::now;
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;

use crate::world::{CLASS, World, lane, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_lapsed_is_settled_without_anybody_asking() {
    let upkeep_every = Some(Duration::from_millis(100));
    let world = World::with(StackOptions { upkeep_every, ..StackOptions::default() }).await;
    let mut caller = world.caller();
    let long_ago = now().before(1_500);
    let (key, opening) = caller.pay_at(&world, lane(0), CLASS, world.gateway(), long_ago);
    let (running, fresh) = caller.pay(&world, lane(1));
    let replica = world.replica();
    // Admitted now and so not lapsed yet, by either process.
    world.leave_open(&replica, &fresh, now());
    world.leave_open(&replica, &opening, long_ago);
    until(|| world.held() == CLASS.micro()).await;
    let settlement = world.fetch(&mut caller, &key).await.fetched();
    assert_eq!(caller.wallet.accept(&key, &settlement, now()).unwrap().cost, Credits::ZERO);
    assert!(world.fetch(&mut caller, &running).await.problem() == Some(Problem::InProgress));
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_ends_with_the_service() {
    let upkeep_every = Some(Duration::from_millis(100));
    let world = World::with(StackOptions { upkeep_every, ..StackOptions::default() }).await;
    let mut caller = world.caller();
    let (replica, long_ago) = (world.replica(), now().before(1_500));
    let (_, opening) = caller.pay_at(&world, lane(0), CLASS, world.gateway(), long_ago);
    let host = world.host();
    world.stack.shutdown().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let request =
        Request::new(&host, "POST", crate::world::TARGET, ContentDigest::of(crate::world::QUESTION.as_bytes()));
    replica.open(&opening, &request.unwrap(), long_ago).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let totals = replica.set().totals(EpochNumber::new(1)).unwrap();
    assert_eq!((totals.open, totals.settled), (1, 0));
}
