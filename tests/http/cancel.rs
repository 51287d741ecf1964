//! Cancelling over HTTP: before the call, while it goes on, and after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use halometer::gateway::{Quotas, Rate};
use halometer::http::clock::now;
use halometer::http::payer::{Client, ClientError};
use halometer::http::wire::{CANCEL_PATH, SETTLEMENT_PATH};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

use crate::world::{Answer, CLASS, Caller, OTHER_CLASS, PAID, QUESTION, TARGET, World, assert_refused, lane};
use crate::world::{errand, shared, until};

const HOUR: u64 = 3_600;
/// What the gateway thinks the question costs when it sees no answer: 2 for 3 bytes.
const QUESTION_COST: u64 = 2 * (QUESTION.len() as u64).div_ceil(3);

/// A service that takes its time, and counts the calls that began and those dropped.
#[derive(Clone, Default)]
struct Slow {
    begun: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

struct Working(Arc<AtomicUsize>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Slow {
    fn service(&self, work: Duration) -> Router {
        let slow = self.clone();
        Router::new().fallback(move || async move {
            slow.begun.fetch_add(1, Ordering::SeqCst);
            let working = Working(slow.dropped.clone());
            tokio::time::sleep(work).await;
            std::mem::forget(working);
            r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#
        })
    }

    async fn world(&self) -> Arc<World> {
        shared(World::selling(self.service(Duration::from_secs(60))).await)
    }

    async fn has_begun(&self, count: usize) {
        until(|| self.begun.load(Ordering::SeqCst) == count).await;
    }
}

fn ask(world: &Arc<World>, opening: &[u8]) -> JoinHandle<Answer> {
    let (world, opening) = (world.clone(), opening.to_vec());
    tokio::spawn(async move { world.ask(&opening).await })
}

fn accept(caller: &mut Caller, key: &SpendKey, settlement: &Settlement) -> u64 {
    caller.wallet.accept(key, settlement, now()).unwrap().cost.micro()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_gateway_admits_any_more_is_cancelled_for_nothing() {
    let adjust = |parts: &mut DirectoryParts| {
        let from = now().before(24 * HOUR);
        (parts.epochs[0].issue.from, parts.epochs[0].spend.from) = (from, from);
        let until = parts.tariffs[0].valid().until;
        parts.tariffs[0] = Tariff::new(Window { from, until }, parts.tariffs[0].prices().to_vec()).unwrap();
    };
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_at(&world, lane(0), CLASS, world.gateway(), now().before(4 * HOUR));
    assert_refused(&world.ask(&opening).await, Problem::Expired);

    let client = Client::plain().unwrap();
    let settlement = client.cancel(&world.origin(), world.cancellation(&caller, &key)).await.unwrap();
    assert_eq!(settlement.refund, CLASS);
    assert_eq!((world.charged(), world.held()), (0, 0));
    // Again, and by the other ways: the same settlement. It serves nothing any more.
    assert_eq!(world.cancel(&caller, &key).await.fetched(), settlement);
    assert_eq!(world.fetch(&mut caller, &key).await.fetched(), settlement);
    let again = world.ask(&opening).await;
    assert_refused(&again, Problem::AlreadySpent);
    assert_eq!(again.settlement(), settlement);
    assert_eq!(accept(&mut caller, &key, &settlement), 0);
    assert_eq!(caller.wallet.balance().available, u128::from(PAID));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_goes_on_is_stopped_and_costs_the_estimate() {
    let slow = Slow::default();
    let world = slow.world().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let call = ask(&world, &opening);
    slow.has_begun(1).await;
    let (one, other) = (world.cancel(&caller, &key), world.cancel(&caller, &key));
    let (one, other) = tokio::join!(one, other);
    let settlement = one.fetched();
    assert_eq!(other.fetched(), settlement);
    // The service was hung up on.
    until(|| slow.dropped.load(Ordering::SeqCst) == 1).await;
    let answer = call.await.unwrap();
    assert_refused(&answer, Problem::AlreadySpent);
    assert_eq!(answer.settlement(), settlement);
    assert_eq!(accept(&mut caller, &key, &settlement), QUESTION_COST);
    assert_eq!((world.charged(), world.held()), (QUESTION_COST, 0));
    // The lane goes on, and its next call is not stopped by the cancel before it.
    let (_, opening) = caller.pay(&world, lane(0));
    let next = ask(&world, &opening);
    slow.has_begun(2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!next.is_finished());
    next.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_changes_nothing() {
    let slow = Slow::default();
    let world = slow.world().await;
    let mut caller = world.caller();
    // The caller of the call has gone, and then the canceller does not wait for the answer.
    let (key, opening) = caller.pay(&world, lane(0));
    let call = ask(&world, &opening);
    slow.has_begun(1).await;
    call.abort();
    let cancellation = world.cancellation(&caller, &key);
    let mut stream = world.connect().await;
    let (host, length) = (world.host(), cancellation.len());
    let head = format!("POST {CANCEL_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), &cancellation].concat()).await.unwrap();
    until(|| world.held() == 0).await;
    drop(stream);
    let settlement = world.fetch(&mut caller, &key).await.fetched();
    assert_eq!(world.cancel(&caller, &key).await.fetched(), settlement);
    assert_eq!(accept(&mut caller, &key, &settlement), QUESTION_COST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_races_the_settlement_gets_what_is_stored() {
    let slow = Slow::default();
    let world = shared(World::selling(slow.service(Duration::from_millis(40))).await);
    let mut caller = world.caller();
    let (mut total, mut seen) = (0, [0; 3]);
    for round in 0..12 {
        let (key, opening) = caller.pay(&world, lane(round % 8));
        let call = ask(&world, &opening);
        // From before it is admitted to after it is settled.
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 8)).await;
        let cancelled = world.cancel(&caller, &key).await.fetched();
        assert_eq!(world.fetch(&mut caller, &key).await.fetched(), cancelled);
        let answer = call.await.unwrap();
        match answer.problem_kind() {
            None => assert_eq!((answer.status, answer.settlement()), (200, cancelled.clone())),
            Some(Problem::AlreadySpent) => assert_eq!(answer.settlement(), cancelled),
            // The cancel was first.
            Some(kind) => assert_eq!((kind, cancelled.refund), (Problem::InProgress, CLASS)),
        }
        let cost = accept(&mut caller, &key, &cancelled);
        seen[[0, QUESTION_COST, 100].iter().position(|known| *known == cost).unwrap()] += 1;
        total += cost;
        assert_eq!(world.charged(), total);
    }
    assert_eq!(seen.iter().sum::<usize>(), 12);
    assert_eq!(caller.wallet.balance().total(), u128::from(PAID - total));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_call_that_is_over_changes_nothing() {
    let world = World::new().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let settlement = world.ask(&opening).await.settlement();
    let charged = world.charged();
    assert_eq!(world.cancel(&caller, &key).await.fetched(), settlement);
    assert_eq!(world.charged(), charged);
    assert_eq!(accept(&mut caller, &key, &settlement), charged);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_left_is_settled_at_what_was_metered() {
    let world = World::new().await;
    let mut caller = world.caller();
    let long_ago = now().before(1_500);
    for (index, metered) in [(0, 0), (1, 70)] {
        let (key, opening) = caller.pay_at(&world, lane(index), CLASS, world.gateway(), long_ago);
        let replica = world.replica();
        let dead = world.leave_open(&replica, &opening, long_ago);
        dead.meter(replica.set(), Credits::from_micro(metered), long_ago).unwrap();
        let settlement = world.cancel(&caller, &key).await.fetched();
        assert_eq!(accept(&mut caller, &key, &settlement), metered);
    }
    assert_eq!((world.charged(), world.held()), (70, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_works_on_is_not_cancelled_here() {
    let world = World::new().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let replica = world.replica();
    let open = world.leave_open(&replica, &opening, now());
    assert_refused(&world.cancel(&caller, &key).await, Problem::WrongOwner);
    // Of this process, but nobody is at it: for a cancel it looks as if it were just being settled.
    let (known, opening) = caller.pay(&world, lane(1));
    let left = world.leave_open(world.stack.gateway(), &opening, now());
    assert_refused(&world.cancel(&caller, &known).await, Problem::InProgress);
    for (key, spend) in [(key, open), (known, left)] {
        let gateway = if key == known { world.stack.gateway() } else { &replica };
        let settled = world.stack.issuer().settle(gateway.set(), &spend, Credits::from_micro(5), now()).unwrap();
        assert_eq!(world.cancel(&caller, &key).await.fetched(), *settled.settlement());
        assert_eq!(accept(&mut caller, &key, settled.settlement()), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_cancel_of_this_spend_at_this_place_is_refused() {
    let world = World::new().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let good = world.cancellation(&caller, &key);
    let host = world.host();
    let elsewhere = |target| caller.wallet.cancel(&key, &errand(&host, target)).unwrap();
    for (bytes, problem) in [
        (vec![], Problem::Malformed),
        (good[1..].to_vec(), Problem::Malformed),
        ([&good[..], &[0]].concat(), Problem::Malformed),
        (opening.clone(), Problem::Malformed),
        (elsewhere(SETTLEMENT_PATH), Problem::SessionSignatureInvalid),
        (elsewhere(TARGET), Problem::SessionSignatureInvalid),
        (caller.wallet.cancel(&key, &errand("other.example", CANCEL_PATH)).unwrap(), Problem::SessionSignatureInvalid),
    ] {
        assert_refused(&world.post_bytes(CANCEL_PATH, &bytes).await, problem);
    }
    assert_eq!(world.post_bytes(CANCEL_PATH, &[0; 5_000]).await.status, 413);
    assert_eq!(world.send("GET", CANCEL_PATH, &host, None, "").await.status, 405);
    // A captured cancel is no call.
    assert_refused(&world.ask(&good).await, Problem::Malformed);
    assert_eq!((world.charged(), world.held()), (0, 0));
    let client = Client::plain().unwrap();
    match client.cancel(&world.origin(), opening).await {
        Err(ClientError::Problem(problem)) => assert_eq!(problem.kind(), Some(Problem::Malformed)),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.cancel(&caller, &key).await.fetched().refund, CLASS);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_cancels_are_busy_and_bad_proofs_use_up_nothing() {
    let one = Rate { per_minute: 1, burst: 1 };
    let quotas = Quotas { cancels: one, ..Quotas::default() };
    let world = World::with(StackOptions { quotas, ..StackOptions::default() }).await;
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let copy = || world.caller_with([3; 32], DeviceId::from_bytes([3; 8]), payment);
    let (mut caller, mut other) = (copy(), copy());
    let [first, second] = [0, 1].map(|index| caller.pay(&world, lane(index)).0);
    let (_, foreign) = other.pay_at(&world, lane(0), OTHER_CLASS, world.gateway(), now());
    let mut forged = world.cancellation(&caller, &first);
    let proof = Spend::LENGTH - halometer::circuits::proof::Proof::LENGTH..Spend::LENGTH;
    forged[proof.clone()].copy_from_slice(&foreign[proof]);
    for _ in 0..3 {
        assert_refused(&world.post_bytes(CANCEL_PATH, &forged).await, Problem::ProofInvalid);
    }
    let settlement = world.cancel(&caller, &first).await.fetched();
    let busy = world.cancel(&caller, &second).await;
    assert_refused(&busy, Problem::Busy);
    assert_eq!(busy.header("retry-after"), Some("1"));
    // What is settled costs nothing to answer.
    assert_eq!(world.cancel(&caller, &first).await.fetched(), settlement);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_one_of_two_spends_names_the_spender() {
    let world = World::new().await;
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let copy = || world.caller_with([3; 32], DeviceId::from_bytes([3; 8]), payment);
    let (mut first, mut second) = (copy(), copy());
    let (_, opening) = first.pay(&world, lane(0));
    assert_eq!(world.ask(&opening).await.status, 200);
    let charged = world.charged();
    let (key, _) = second.pay_at(&world, lane(0), OTHER_CLASS, world.gateway(), now());
    assert_refused(&world.cancel(&second, &key).await, Problem::DoubleSpend);
    assert_eq!(world.stack.name(&world.stack.evidence()[0]).unwrap().unwrap().payment, payment);
    assert_eq!((world.charged(), world.held()), (charged, 0));
}
