//! Restoring a wallet over HTTP: what is asked, who is told what, and parties that hide something.

use std::time::Duration;

use axum::Router;
use axum::routing::any;
use halometer::http::clock::now;
use halometer::http::payer::{Client, ClientError, RestoreFrom, RestoreTrouble};
use halometer::http::server::Listener;
use halometer::http::wire::{RESTORE_CHANGE_PATH, RESTORE_MEMO_PATH, spent_path};
use halometer::protocol::*;
use halometer::testing::Past;
use halometer::wallet::{MemoryJournal, Restore, RestoreError, RestoreOptions, Restored, RootSecret};
use http::StatusCode;

use crate::world::{PAID, World, lane};

const EPOCH: EpochNumber = EpochNumber::new(1);
const SECRET: [u8; 32] = [5; 32];

fn begin(world: &World) -> Restore {
    let signed = world.stack.issuer().signed_directory();
    let root = RootSecret::from_bytes(SECRET);
    Restore::new(root, world.stack.root_key(), signed, &RestoreOptions::default(), now()).unwrap()
}

fn from(world: &World) -> RestoreFrom {
    RestoreFrom {
        issuer: world.stack.issuer_url(),
        gateways: vec![world.origin()],
        patience: Duration::from_millis(100),
    }
}

async fn restored(world: &World, from: &RestoreFrom) -> Result<Restored, RestoreTrouble> {
    let mut restore = begin(world);
    let mut steps = 0;
    from.run(&Client::plain().unwrap(), &mut restore, |_| steps += 1).await?;
    assert!(steps >= 5, "accounts alone are as many questions");
    Ok(restore.finish(now(), &mut rand::rng())?)
}

fn worth(restored: &Restored) -> u64 {
    restored.lanes().iter().map(|lane| lane.found.available().micro()).sum()
}

/// A party that answers what it is asked about what is spent with nothing, and nothing else.
async fn hiding() -> (halometer::http::server::Server, String) {
    let answer = |uri: http::Uri| async move {
        match uri.path().matches('/').count() {
            4 => (StatusCode::OK, br#"{"spent": 0}"#.to_vec()),
            6 => (StatusCode::OK, vec![0; 4]),
            _ => (StatusCode::NOT_FOUND, Vec::new()),
        }
    };
    let server = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(Router::new().fallback(any(answer)));
    let url = server.url();
    (server, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_wallet_comes_back_over_http() {
    let world = World::new().await;
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let mut lost = world.caller_with(SECRET, DeviceId::from_number(0), payment);
    let mut cost = 0;
    for (number, index) in [(0, 0), (1, 0), (2, 3)] {
        let (key, opening) = lost.pay(&world, lane(index));
        assert_eq!(world.ask(&opening).await.status, 200, "{number}");
        let record = world.stack.gateway().shared_set().find(EPOCH, &key.nullifier).unwrap().unwrap();
        let halometer::store::RecordState::Settled(settlement) = record.state else { panic!() };
        let accepted = lost.wallet.accept(&key, &settlement, now()).unwrap();
        cost += accepted.cost.micro();
    }
    drop(lost);
    let found = restored(&world, &from(&world)).await.unwrap();
    assert_eq!(worth(&found), PAID - cost);
    let wallet = found.into_wallet(MemoryJournal::new()).unwrap();
    assert_eq!(wallet.balance().unchecked, u128::from(PAID - cost));
    // From either of them alone, and beside one that hides what is spent.
    let (_server, liar) = hiding().await;
    for gateways in [vec![], vec![liar.clone()], vec![liar, world.origin()]] {
        let found = restored(&world, &RestoreFrom { gateways, ..from(&world) }).await.unwrap();
        assert_eq!(worth(&found), PAID - cost);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_runs_is_waited_for_and_then_told() {
    let world = World::new().await;
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let mut lost = world.caller_with(SECRET, DeviceId::from_number(0), payment);
    let (_, opening) = lost.pay(&world, lane(0));
    world.leave_open(world.stack.gateway(), &opening, now());
    let found = restored(&world, &from(&world)).await.unwrap();
    assert_eq!(worth(&found), PAID / 8 * 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memo_is_told_to_all_and_a_settlement_to_its_reader() {
    let world = World::new().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    assert_eq!(world.ask(&opening).await.status, 200);
    let client = Client::plain().unwrap();
    let spend = MemoQuery { epoch: EPOCH, nullifier: key.nullifier };
    let kept = world.stack.gateway().shared_set().find(EPOCH, &key.nullifier).unwrap().unwrap().memo;
    let status = |error: ClientError| match error {
        ClientError::Problem(problem) => problem.status,
        other => panic!("{other:?}"),
    };
    for origin in [world.origin(), world.stack.issuer_url()] {
        assert!(client.memo(&origin, &spend).await.unwrap() == kept);
        // A code that somebody made up, or took for the nonce.
        let mut nonce = [0; MemoCode::LENGTH];
        nonce[..MemoCode::NONCE].copy_from_slice(kept.nonce());
        for code in [[0; MemoCode::LENGTH], nonce] {
            let query = ChangeQuery { spend, code: MemoCode::from_bytes(code) };
            assert_eq!(status(client.change(&origin, &query).await.unwrap_err()), 403);
        }
        let unknown = MemoQuery {
            nullifier: Option::from(halometer::circuits::note::Nullifier::from_bytes(&[3; 32])).unwrap(),
            ..spend
        };
        assert_eq!(status(client.memo(&origin, &unknown).await.unwrap_err()), 404);
        let over = MemoQuery { epoch: EpochNumber::new(9), ..spend };
        assert_eq!(status(client.memo(&origin, &over).await.unwrap_err()), 404);
    }
    for path in [RESTORE_MEMO_PATH, RESTORE_CHANGE_PATH] {
        assert_eq!(world.post_bytes(path, &[]).await.status, 400);
        assert_eq!(world.post_bytes(path, &[1; 200]).await.status, 413);
    }
    let account = Option::from(halometer::circuits::note::AccountId::from_bytes(&[1; 32])).unwrap();
    let found = client.mints(&world.stack.issuer_url(), &AccountQuery::new(vec![account; 64]).unwrap()).await.unwrap();
    assert_eq!(found.0, vec![None; 64]);
    assert!(AccountQuery::new(vec![account; 65]).is_none() && AccountQuery::new(Vec::new()).is_none());
    assert_eq!(client.spent_count(&world.origin(), EPOCH).await.unwrap(), 1, "{}", spent_path(EPOCH));
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_nobody_and_a_silent_issuer_are_told_apart() {
    let world = World::new().await;
    let nobody = restored(&world, &from(&world)).await.unwrap_err();
    assert!(matches!(nobody, RestoreTrouble::Refused(RestoreError::Nothing)), "{nobody:?}");
    let silent = RestoreFrom { issuer: "http://127.0.0.1:1".to_owned(), ..from(&world) };
    let silent = restored(&world, &silent).await.unwrap_err();
    assert!(matches!(&silent, RestoreTrouble::Client { party, .. } if party.ends_with(":1")), "{silent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_spends_are_found_in_few_questions() {
    let world = World::new().await;
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    drop(world.caller_with(SECRET, DeviceId::from_number(0), payment));
    let root = RootSecret::from_bytes(SECRET);
    let amounts = [Credits::from_micro(PAID / 8); LANES];
    let past = Past { root: &root, device: DeviceId::from_number(0), payment: 0, amounts };
    past.write(&*world.stack.gateway().shared_set(), world.stack.issuer(), EPOCH, 100, now()).unwrap();
    let mut restore = begin(&world);
    let mut steps = 0;
    from(&world).run(&Client::plain().unwrap(), &mut restore, |_| steps += 1).await.unwrap();
    let found = restore.finish(now(), &mut rand::rng()).unwrap();
    assert_eq!(worth(&found), PAID - 8 * 100);
    assert!(steps < 30, "{steps}: accounts, one bucket, and two questions for each lane");
}
