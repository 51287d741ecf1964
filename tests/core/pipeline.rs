//! Many spends at once, good and bad, with callers that go away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use halometer::gateway::{Gateway, Opened};
use halometer::lifecycle::AdmittedSpend;
use halometer::pipeline::{OwnedRequest, Pipeline, PipelineError, PipelineLimits, PipelineParts, Source};
use halometer::protocol::*;
use halometer::store::durable::{DurableStore, StoreOptions};
use halometer::store::{MemorySpentSet, SpentSet};
use halometer::wallet::LaneId;
use halometer::workers::WorkError;

use crate::world::*;

/// A gateway of the world over a set of its own.
fn over(world: &World, set: Arc<dyn SpentSet>) -> Arc<Gateway> {
    EPOCH.iter().for_each(|epoch| set.create(*epoch).unwrap());
    Arc::new(gateway(GATEWAY, OWNER, set, world.gateway.directory().clone()))
}

fn parts(gateway: Arc<Gateway>) -> PipelineParts {
    PipelineParts::new(gateway, Arc::new(|| T0), Arc::new(|_| panic!("nobody went away")))
        .with_verified(Arc::new(|_, _| {}))
        .with_limits(
            PipelineLimits::default().with_screen_threads(1).with_verify_threads(2).with_queue(64).with_batch(16),
        )
}

fn owned() -> OwnedRequest {
    OwnedRequest::new("api.example.org", "POST", "/v1/chat/completions", ContentDigest::of(b"{}")).unwrap()
}

/// Openings of distinct notes, two a wallet.
fn openings(world: &World, count: usize) -> Vec<Vec<u8>> {
    let wallet = |seed: usize| world.funded(seed as u8 + 1);
    let mut openings = Vec::new();
    for seed in 0..count.div_ceil(2) {
        let mut wallet = wallet(seed);
        for lane in [0, 1] {
            openings.push(pay(&mut wallet, LaneId { payment: 0, lane }, 10, T0).opening);
        }
    }
    openings.truncate(count);
    openings
}

/// A scalar of the proof: it is read, and does not hold.
fn spoil(opening: &[u8]) -> Vec<u8> {
    let mut spoilt = opening.to_vec();
    spoilt[262 + 1_000] ^= 1;
    spoilt
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

#[test]
fn bad_proofs_cost_their_neighbours_nothing_but_time() {
    let world = World::new();
    let good = openings(&world, 12);
    for bad_of_twelve in [1, 6, 12] {
        let place = tempfile::tempdir().unwrap();
        let store = DurableStore::create(place.path().join("store"), GATEWAY, &StoreOptions::default()).unwrap();
        let gateway = over(&world, Arc::new(store.spent_set()));
        let pipeline = Pipeline::start(parts(Arc::clone(&gateway))).unwrap();
        runtime().block_on(async {
            let open = |(i, opening): (usize, &Vec<u8>)| {
                let (pipeline, bad) = (pipeline.clone(), i < bad_of_twelve);
                let opening = if bad { spoil(opening) } else { opening.clone() };
                tokio::spawn(async move {
                    let source = Source::new();
                    let opened = pipeline.open(opening, owned(), &source).await;
                    (bad, opened, source)
                })
            };
            let waiting: Vec<_> = good.iter().enumerate().map(open).collect();
            for answer in waiting {
                let (bad, opened, source) = answer.await.unwrap();
                match opened {
                    Ok(Opened::Admitted(_)) => assert!(!bad),
                    Err(error) => assert_eq!((bad, error.problem()), (true, Problem::ProofInvalid)),
                    other => panic!("{other:?}"),
                }
                assert_eq!(source.is_suspect(), bad);
            }
        });
        assert_eq!(gateway.set().totals(EPOCH[0]).unwrap().open, 12 - bad_of_twelve as u64);
    }
}

#[test]
fn a_flood_of_suspects_lets_the_good_ones_through() {
    let world = World::new();
    let good = openings(&world, 6);
    let gateway = over(&world, Arc::new(MemorySpentSet::new()));
    let limits = PipelineLimits::default().with_screen_threads(1).with_verify_threads(1).with_queue(400).with_batch(16);
    let pipeline = Pipeline::start(parts(gateway).with_limits(limits)).unwrap();
    let flooder = Source::new();
    flooder.suspect();
    runtime().block_on(async {
        let refused = Arc::new(AtomicUsize::new(0));
        let flood: Vec<_> = (0..100)
            .map(|i| {
                let (pipeline, opening, refused) = (pipeline.clone(), spoil(&good[i % 6]), Arc::clone(&refused));
                let flooder = flooder.clone();
                tokio::spawn(async move {
                    let answer = pipeline.open(opening, owned(), &flooder).await;
                    refused.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(answer.unwrap_err().problem(), Problem::ProofInvalid);
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(5)).await;
        for opening in &good {
            let opened = pipeline.open(opening.clone(), owned(), &Source::new()).await;
            assert!(matches!(opened, Ok(Opened::Admitted(_))), "{opened:?}");
        }
        assert!(refused.load(Ordering::Relaxed) < 90, "the good ones did not wait for the flood");
        for answer in flood {
            answer.await.unwrap();
        }
    });
}

#[test]
fn a_full_queue_says_busy_and_nothing_was_done() {
    let world = World::new();
    let good = openings(&world, 6);
    let gateway = over(&world, Arc::new(MemorySpentSet::new()));
    let limits = PipelineLimits::default().with_screen_threads(1).with_verify_threads(1).with_queue(2).with_batch(2);
    let pipeline = Pipeline::start(parts(Arc::clone(&gateway)).with_limits(limits)).unwrap();
    runtime().block_on(async {
        let open = |opening: &Vec<u8>| {
            let (pipeline, opening) = (pipeline.clone(), opening.clone());
            tokio::spawn(async move { pipeline.open(opening, owned(), &Source::new()).await })
        };
        let answers: Vec<_> = good.iter().map(open).collect();
        let (mut admitted, mut busy) = (0, 0);
        for answer in answers {
            match answer.await.unwrap() {
                Ok(Opened::Admitted(_)) => admitted += 1,
                Err(PipelineError::Work(WorkError::Busy)) => busy += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(admitted >= 2 && busy >= 1, "{admitted} admitted, {busy} busy");
        assert_eq!(gateway.set().totals(EPOCH[0]).unwrap().open, admitted);
        // A caller refused as busy comes again, and is served once.
        for opening in &good {
            match pipeline.open(opening.clone(), owned(), &Source::new()).await {
                Ok(Opened::Admitted(_) | Opened::InProgress) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(gateway.set().totals(EPOCH[0]).unwrap().open, 6);
    });
}

#[test]
fn one_spend_sent_by_many_at_once_is_served_once() {
    let world = World::new();
    let opening = openings(&world, 1).remove(0);
    let gateway = over(&world, Arc::new(MemorySpentSet::new()));
    let pipeline = Pipeline::start(parts(gateway)).unwrap();
    runtime().block_on(async {
        let open = |_| {
            let (pipeline, opening) = (pipeline.clone(), opening.clone());
            tokio::spawn(async move { pipeline.open(opening, owned(), &Source::new()).await.unwrap() })
        };
        let answers: Vec<_> = (0..20).map(open).collect();
        let mut admitted = 0;
        for answer in answers {
            match answer.await.unwrap() {
                Opened::Admitted(_) => admitted += 1,
                Opened::InProgress => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(admitted, 1);
    });
}

/// Futures are dropped at every moment of their way; afterwards each spend is either not in the set, or settled at nothing.
#[test]
fn a_dropped_future_leaves_no_spend_half_admitted() {
    let world = Arc::new(World::new());
    let good = openings(&world, 10);
    let set = Arc::new(MemorySpentSet::new());
    let gateway = over(&world, set.clone());
    let settled = Arc::new(Mutex::new(Vec::new()));
    let abandoned = {
        let (world, set, settled) = (Arc::clone(&world), set.clone(), Arc::clone(&settled));
        move |spend: AdmittedSpend| {
            let outcome = world.issuer.settle(&*set, &spend, spend.metered(), T0).unwrap();
            settled.lock().unwrap().push(outcome);
        }
    };
    let parts = parts(Arc::clone(&gateway)).with_abandoned(Arc::new(abandoned));
    let pipeline = Pipeline::start(parts).unwrap();
    let served = runtime().block_on(async {
        let mut served = 0;
        for (i, opening) in good.iter().enumerate() {
            // From before it is screened to after it would have been answered.
            let patience = Duration::from_micros(700 * i as u64);
            let source = Source::new();
            let open = pipeline.open(opening.clone(), owned(), &source);
            if let Ok(opened) = tokio::time::timeout(patience, open).await {
                assert!(matches!(opened, Ok(Opened::Admitted(_))));
                served += 1;
            }
        }
        served
    });
    // The threads finish what waits.
    drop(pipeline);
    let mut quiet = 0;
    while quiet < 30 {
        let before = set.totals(EPOCH[0]).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        quiet = if before == set.totals(EPOCH[0]).unwrap() { quiet + 1 } else { 0 };
    }
    let totals = set.totals(EPOCH[0]).unwrap();
    assert_eq!(totals.open, served, "what is open is being served");
    assert_eq!((totals.cost, totals.refunded), (0, 10 * u128::from(totals.settled)));
    assert_eq!(totals.settled, settled.lock().unwrap().len() as u64);
    assert!(totals.open + totals.settled <= 10);
}
