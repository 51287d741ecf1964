//! Transfers and rollovers over HTTP.

use halometer::gateway::{Quotas, Rate};
use halometer::http::clock::now;
use halometer::http::exchange::GatewayLimits;
use halometer::http::payer::{Client, ClientError};
use halometer::http::wire::{CANCEL_PATH, ROLLOVER_PATH, TRANSFER_PATH};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{Authorised, AuthorisedTransfer};

use crate::world::{Caller, PAID, World, assert_refused, errand, lane, shared};

const AMOUNT: Credits = Credits::from_micro(5_000);

fn transfer(caller: &mut Caller, world: &World, from: u32, to: u32) -> AuthorisedTransfer {
    let jobs = caller.wallet.plan_transfer(lane(from), lane(to), AMOUNT, &world.gateway(), now()).unwrap();
    let ready = jobs.map(|job| {
        let key = caller.keys.of(&job.epoch_key());
        job.prove(&key, &mut rand::rng()).unwrap()
    });
    let host = world.host();
    caller.wallet.authorise_transfer(ready, &errand(&host, TRANSFER_PATH), now()).unwrap()
}

fn kind(error: &ClientError) -> Option<Problem> {
    match error {
        ClientError::Problem(problem) => problem.kind(),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_moves_between_lanes_once_however_often_it_is_sent() {
    let world = shared(World::new().await);
    let mut caller = world.caller();
    let sent = transfer(&mut caller, &world, 0, 1);
    let client = Client::plain().unwrap();
    let racers: Vec<_> = (0..6)
        .map(|_| {
            let (client, origin, bytes) = (client.clone(), world.origin(), sent.transfer.clone());
            tokio::spawn(async move { client.transfer(&origin, bytes).await.unwrap() })
        })
        .collect();
    let settlements = client.transfer(&world.origin(), sent.transfer.clone()).await.unwrap();
    for racer in racers {
        assert_eq!(racer.await.unwrap(), settlements);
    }
    // Each half can be fetched and cancelled, and is what it is.
    for (key, settlement) in sent.keys.iter().zip(&settlements) {
        assert_eq!(world.fetch(&mut caller, key).await.fetched(), *settlement);
        assert_eq!(world.cancel(&caller, key).await.fetched(), *settlement);
    }
    caller.wallet.accept_transfer(&sent.keys, &settlements, now()).unwrap();
    assert_eq!(caller.wallet.balance().total(), u128::from(PAID));
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_with_a_cancelled_half_is_not_carried_out() {
    let world = World::new().await;
    let mut caller = world.caller();
    let sent = transfer(&mut caller, &world, 0, 1);
    let client = Client::plain().unwrap();
    let cancelled = world.cancel(&caller, &sent.keys[0]).await.fetched();
    assert_eq!(cancelled.refund, AMOUNT);
    let refused = client.transfer(&world.origin(), sent.transfer.clone()).await.unwrap_err();
    assert_eq!(kind(&refused), Some(Problem::AlreadySpent));
    let other = world.cancel(&caller, &sent.keys[1]).await.fetched();
    assert_eq!(other.refund, Credits::ZERO);
    caller.wallet.accept(&sent.keys[0], &cancelled, now()).unwrap();
    caller.wallet.accept(&sent.keys[1], &other, now()).unwrap();
    assert_eq!(caller.wallet.balance().available, u128::from(PAID));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_transfer_of_these_notes_at_this_place_is_refused() {
    let world = World::new().await;
    let mut caller = world.caller();
    let sent = transfer(&mut caller, &world, 0, 1);
    let (good, host) = (sent.transfer.clone(), world.host());
    let half = good.len() / 2;
    let mut altered = good.clone();
    altered[2_000] ^= 1;
    let elsewhere = caller.wallet.resend_transfer(&sent.keys[0], &errand(&host, CANCEL_PATH)).unwrap().transfer;
    for (bytes, problem) in [
        (vec![], Problem::Malformed),
        (good[..half].to_vec(), Problem::Malformed),
        ([&good[half..], &good[..half]].concat(), Problem::Malformed),
        ([&good[..half], &good[..half]].concat(), Problem::Malformed),
        (elsewhere, Problem::SessionSignatureInvalid),
    ] {
        assert_refused(&world.post_bytes(TRANSFER_PATH, &bytes).await, problem);
    }
    let refused = world.post_bytes(TRANSFER_PATH, &altered).await.problem();
    assert!(matches!(refused, Some(Problem::ProofInvalid | Problem::Malformed)), "{refused:?}");
    assert_eq!(world.post_bytes(TRANSFER_PATH, &[&good[..], &[0]].concat()).await.status, 413);
    // Half of it pays for nothing.
    assert_refused(&world.ask(&good[..half]).await, Problem::Malformed);
    assert_refused(&world.post_bytes(ROLLOVER_PATH, &good[..half - 64]).await, Problem::Malformed);
    assert_eq!((world.charged(), world.held()), (0, 0));
    assert_eq!(world.post_bytes(TRANSFER_PATH, &good).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_proofs_use_up_no_transfers_and_too_many_are_busy() {
    let one = Rate { per_minute: 1, burst: 1 };
    let quotas = Quotas { transfers: one, ..Quotas::default() };
    let world = World::with(StackOptions { quotas, ..StackOptions::default() }).await;
    let mut caller = world.caller();
    let (first, second) = (transfer(&mut caller, &world, 0, 1), transfer(&mut caller, &world, 2, 3));
    let mut forged = first.transfer.clone();
    // The proof of the other transfer's giving half.
    let end = Spend::TRANSFER_LENGTH;
    let proof = end - halometer::circuits::proof::Proof::LENGTH..end;
    forged[proof.clone()].copy_from_slice(&second.transfer[proof]);
    for _ in 0..3 {
        assert_refused(&world.post_bytes(TRANSFER_PATH, &forged).await, Problem::ProofInvalid);
    }
    assert_eq!(world.post_bytes(TRANSFER_PATH, &first.transfer).await.status, 200);
    assert_refused(&world.post_bytes(TRANSFER_PATH, &second.transfer).await, Problem::Busy);
    assert_eq!(world.post_bytes(TRANSFER_PATH, &first.transfer).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_spender_by_transfer_is_named_and_moves_nothing() {
    let world = World::new().await;
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let copy = || world.caller_with([3; 32], DeviceId::from_bytes([3; 8]), payment);
    let (mut first, mut second) = (copy(), copy());
    let (_, opening) = first.pay(&world, lane(1));
    assert_eq!(world.ask(&opening).await.status, 200);
    let sent = transfer(&mut second, &world, 0, 1);
    assert_refused(&world.post_bytes(TRANSFER_PATH, &sent.transfer).await, Problem::DoubleSpend);
    assert_eq!(world.stack.name(&world.stack.evidence()[0]).unwrap().unwrap().payment, payment);
    // Nothing of the honest half was stored either.
    assert_eq!(world.cancel(&second, &sent.keys[0]).await.fetched().refund, AMOUNT);
}

/// Notes of an epoch that issued until a minute ago.
async fn after_a_flip(quotas: Quotas) -> World {
    let flip = now().before(60);
    let adjust = move |parts: &mut DirectoryParts| {
        parts.epochs[0].issue.until = flip;
        (parts.epochs[1].issue.from, parts.epochs[1].spend.from) = (flip, flip);
    };
    let limits = GatewayLimits::default();
    let options = StackOptions { adjust: Some(Box::new(adjust)), quotas, limits, ..StackOptions::default() };
    let mut world = World::with(options).await;
    world.minted = Some(flip.before(60));
    world
}

fn rollover(caller: &mut Caller, world: &World, index: u32) -> Authorised {
    let job = caller.wallet.plan_rollover(lane(index), &world.gateway(), now()).unwrap();
    let key = caller.keys.of(&job.epoch_key());
    let ready = job.prove(&key, &mut rand::rng()).unwrap();
    let host = world.host();
    caller.wallet.authorise(ready, &errand(&host, ROLLOVER_PATH), now()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_rolled_over_once_however_often_it_is_sent() {
    let world = shared(after_a_flip(Quotas::default()).await);
    let mut caller = world.caller();
    let sent = rollover(&mut caller, &world, 0);
    let client = Client::plain().unwrap();
    let racers: Vec<_> = (0..6)
        .map(|_| {
            let (client, origin, bytes) = (client.clone(), world.origin(), sent.opening.clone());
            tokio::spawn(async move { client.rollover(&origin, bytes).await })
        })
        .collect();
    let mut settled = Vec::new();
    for racer in racers {
        match racer.await.unwrap() {
            Ok(settlement) => settled.push(settlement),
            Err(error) => assert_eq!(kind(&error), Some(Problem::InProgress)),
        }
    }
    let again = client.rollover(&world.origin(), sent.opening.clone()).await.unwrap();
    assert!(settled.iter().all(|settlement| *settlement == again) && !settled.is_empty());
    assert_eq!((again.epoch, again.refund), (EpochNumber::new(2), Credits::ZERO));
    assert_eq!(world.cancel(&caller, &sent.key).await.fetched(), again);
    caller.wallet.accept(&sent.key, &again, now()).unwrap();
    assert_eq!(caller.wallet.balance().available, u128::from(PAID));
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollover_pays_for_no_call_and_a_call_is_no_rollover() {
    let one = Rate { per_minute: 1, burst: 1 };
    let world = after_a_flip(Quotas { rollovers: one, ..Quotas::default() }).await;
    let mut caller = world.caller();
    let (_, call) = caller.pay(&world, lane(0));
    let [first, second] = [1, 2].map(|index| rollover(&mut caller, &world, index));
    for bytes in [&call[..], &[], &first.opening[1..]] {
        assert_refused(&world.post_bytes(ROLLOVER_PATH, bytes).await, Problem::Malformed);
    }
    assert_refused(&world.ask(&first.opening).await, Problem::Malformed);
    let host = world.host();
    let elsewhere = caller.wallet.resend(&first.key, &errand(&host, CANCEL_PATH)).unwrap().opening;
    assert_refused(&world.post_bytes(ROLLOVER_PATH, &elsewhere).await, Problem::SessionSignatureInvalid);
    let mut forged = first.opening.clone();
    let proof = Spend::LENGTH - halometer::circuits::proof::Proof::LENGTH..Spend::LENGTH;
    forged[proof.clone()].copy_from_slice(&second.opening[proof]);
    assert_refused(&world.post_bytes(ROLLOVER_PATH, &forged).await, Problem::ProofInvalid);
    assert_eq!(world.post_bytes(ROLLOVER_PATH, &first.opening).await.status, 200);
    assert_refused(&world.post_bytes(ROLLOVER_PATH, &second.opening).await, Problem::Busy);
    // What was refused is cancelled, and nothing is lost.
    let settlement = world.cancel(&caller, &second.key).await.fetched();
    caller.wallet.accept(&second.key, &settlement, now()).unwrap();
}
