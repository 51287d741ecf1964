//! Asking which notes are spent.

use halometer::gateway::Rate;
use halometer::http::exchange::GatewayLimits;
use halometer::http::payer::{Client, ClientError};
use halometer::http::wire::{SPENT_PATH, bucket_path, spent_path};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;

use crate::world::{World, lane};

const EPOCH: EpochNumber = EpochNumber::new(1);

fn kind(error: &ClientError) -> Option<Problem> {
    match error {
        ClientError::Problem(problem) => problem.kind(),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_learns_what_is_spent_and_names_nothing() {
    let world = World::new().await;
    let mut caller = world.caller();
    let client = Client::plain().unwrap();
    for origin in [world.origin(), world.stack.issuer_url()] {
        assert_eq!(client.spent_count(&origin, EPOCH).await.unwrap(), 0);
        assert!(client.spent_bucket(&origin, EPOCH, Prefix::WHOLE).await.unwrap().is_empty());
    }
    // Settled, cancelled, and open.
    let paid: Vec<_> = (0..3).map(|index| caller.pay(&world, lane(index))).collect();
    assert_eq!(world.ask(&paid[0].1).await.status, 200);
    assert_eq!(world.cancel(&caller, &paid[1].0).await.status, 200);
    world.leave_open(world.stack.gateway(), &paid[2].1, halometer::http::clock::now());
    let mut expected: Vec<_> = paid.iter().map(|(key, _)| key.nullifier).collect();
    expected.sort_by_key(|nullifier| nullifier.to_bytes());
    for origin in [world.origin(), world.stack.issuer_url()] {
        let spent = client.spent_count(&origin, EPOCH).await.unwrap();
        // 3, rounded down.
        assert_eq!((spent, Prefix::bits_for(spent, spent)), (2, 0));
        assert_eq!(client.spent_bucket(&origin, EPOCH, Prefix::WHOLE).await.unwrap(), expected);
        for bits in [1, 7, 12, 16] {
            let prefix = Prefix::of(&expected[1], bits);
            let inside: Vec<_> = expected.iter().copied().filter(|nullifier| prefix.is_of(nullifier)).collect();
            assert_eq!(client.spent_bucket(&origin, EPOCH, prefix).await.unwrap(), inside);
        }
        assert!(client.spent_bucket(&origin, EpochNumber::new(2), Prefix::WHOLE).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_an_error_and_never_empty() {
    let world = World::new().await;
    let client = Client::plain().unwrap();
    let unknown = client.spent_bucket(&world.origin(), EpochNumber::new(9), Prefix::WHOLE).await.unwrap_err();
    assert_eq!(kind(&unknown), Some(Problem::UnknownEpoch));
    let unknown = client.spent_count(&world.origin(), EpochNumber::new(9)).await.unwrap_err();
    assert_eq!(kind(&unknown), Some(Problem::UnknownEpoch));
    let set = world.stack.gateway().shared_set();
    set.close(EPOCH).unwrap();
    assert!(client.spent_bucket(&world.origin(), EPOCH, Prefix::WHOLE).await.unwrap().is_empty());
    set.retire(EPOCH).unwrap();
    for origin in [world.origin(), world.stack.issuer_url()] {
        let retired = client.spent_bucket(&origin, EPOCH, Prefix::WHOLE).await.unwrap_err();
        assert_eq!(kind(&retired), Some(Problem::UnknownEpoch));
        assert_eq!(kind(&client.spent_count(&origin, EPOCH).await.unwrap_err()), Some(Problem::UnknownEpoch));
    }
    // A gateway that knows of no such thing.
    let elsewhere = client.spent_count(world.stack.upstream_url(), EPOCH).await;
    assert!(elsewhere.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_have_one_form() {
    let world = World::new().await;
    let host = world.host();
    let get = |path: String| {
        let (world, host) = (&world, &host);
        async move { world.send("GET", &path, host, None, "").await }
    };
    assert_eq!(get(spent_path(EPOCH)).await.status, 200);
    assert_eq!(get(bucket_path(EPOCH, Prefix::new(12, 0xabc).unwrap())).await.status, 200);
    for path in
        ["01", "+1", "x", "4294967297", "1/0/00000", "1/00/0000", "1/17/0000", "1/4/0010", "1/12/0ABC", "1/-1/0000"]
    {
        let answer = get(format!("{SPENT_PATH}/{path}")).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.header("www-authenticate").is_none());
    }
    // What is not below it is for sale.
    assert_eq!(get(format!("{SPENT_PATH}/1/4")).await.status, 402);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_with_many_questions_locks_a_wallet_out() {
    // What wallets ask costs no quota, however small that is.
    let limits = GatewayLimits::default().with_spent(Rate { per_minute: 1, burst: 0 });
    let world = World::with(StackOptions { limits, ..StackOptions::default() }).await;
    let client = Client::plain().unwrap();
    for _ in 0..100 {
        client.spent_count(&world.origin(), EPOCH).await.unwrap();
        client.spent_bucket(&world.origin(), EPOCH, Prefix::WHOLE).await.unwrap();
    }
    // And nothing that was spent is missed for it.
    let (key, opening) = world.caller().pay(&world, lane(0));
    assert_eq!(world.ask(&opening).await.status, 200);
    assert!(client.spent_bucket(&world.origin(), EPOCH, Prefix::WHOLE).await.unwrap().contains(&key.nullifier));
}
