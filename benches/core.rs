//! The gateway core, step by step: what a spend costs before and after its proof. `halometer bench --only core` has the whole.

// `criterion_group!` makes a public function.
#![allow(missing_docs)]

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use halometer::gateway::Screened;
use halometer::lifecycle::{AuthenticSpend, verify_batch};
use halometer::store::durable::{DurableStore, StoreOptions};
use halometer::store::{MemorySpentSet, SpentSet};
use halometer::testing::world::*;
use halometer::wallet::LaneId;

const SPENDS: usize = 16;

fn openings(world: &World) -> Vec<Vec<u8>> {
    (0..SPENDS / 2)
        .flat_map(|seed| {
            let mut wallet = world.funded(seed as u8 + 1);
            [0, 1].map(|lane| pay(&mut wallet, LaneId { payment: 0, lane }, 10, T0).opening)
        })
        .collect()
}

fn screen(gateway: &halometer::gateway::Gateway, opening: &[u8]) -> AuthenticSpend {
    match gateway.screen(opening, &request(), T0).unwrap() {
        Screened::Unknown(spend) => spend,
        other => panic!("{other:?}"),
    }
}

fn gateway_over(world: &World, set: Arc<dyn SpentSet>) -> halometer::gateway::Gateway {
    EPOCH.iter().for_each(|epoch| set.create(*epoch).unwrap());
    gateway(GATEWAY, OWNER, set, world.gateway.directory().clone())
}

fn core(c: &mut Criterion) {
    let world = World::new();
    let openings = openings(&world);
    let place = tempfile::tempdir().unwrap();
    let store = |name: &str| {
        DurableStore::create(place.path().join(name), GATEWAY, &StoreOptions::default()).unwrap().spent_set()
    };
    let gateway = gateway_over(&world, Arc::new(store("screen")));
    c.bench_function("screen one, from bytes to the queue", |b| b.iter(|| screen(&gateway, &openings[0])));

    let mut group = c.benchmark_group("a batch of 16");
    group.throughput(Throughput::Elements(SPENDS as u64)).sample_size(20);
    group.bench_function("verify", |b| {
        let key = gateway.verifying_key(EPOCH[0]).unwrap();
        b.iter_batched(
            || openings.iter().map(|opening| (screen(&gateway, opening), key)).collect::<Vec<_>>(),
            |spends| verify_batch(spends, &mut rng(1)),
            BatchSize::LargeInput,
        );
    });
    let key = gateway.verifying_key(EPOCH[0]).unwrap();
    for durable in [false, true] {
        let mut made = 0;
        let mut gateway_of_its_own = || {
            made += 1;
            let set: Arc<dyn SpentSet> =
                if durable { Arc::new(store(&made.to_string())) } else { Arc::new(MemorySpentSet::new()) };
            gateway_over(&world, set)
        };
        let name = if durable { "admit, durable" } else { "admit, in memory" };
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let gateway = gateway_of_its_own();
                    let spends = openings.iter().map(|opening| (screen(&gateway, opening), key)).collect();
                    let verified: Vec<_> = verify_batch(spends, &mut rng(1)).into_iter().map(Result::unwrap).collect();
                    (gateway, verified)
                },
                |(gateway, verified)| {
                    let opened = gateway.admit_all(verified, T0);
                    // The gateway's end is not part of it.
                    (gateway, opened)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, core);
criterion_main!(benches);
