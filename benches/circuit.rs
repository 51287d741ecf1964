//! Keys, proofs and batches. `cargo bench --bench circuit`; `cargo halometer bench` prints the same as whole figures.
//!
//! One core throughout: everything runs in a pool of one thread. Batches hold distinct proofs.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use halometer_circuits::fixture::Fixture;
use halometer_circuits::proof::{BatchVerifier, Proof, ProvingKey, VerifyingKey, Workers};
use halometer_circuits::spend::SpendPublic;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

const BATCHES: [usize; 5] = [1, 8, 64, 256, 1024];

fn proofs(fixture: &Fixture, key: &ProvingKey, count: usize) -> Vec<(SpendPublic, Proof)> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let spends = (0..count).map(|_| fixture.spend(&mut rng)).collect();
    let workers = Workers::new(std::thread::available_parallelism().map_or(1, Into::into)).expect("threads");
    let parts = workers.run(spends, |part| {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        part.into_iter()
            .map(|(public, witness)| (public, key.prove(&public, &witness, &mut rng).expect("an honest spend")))
            .collect::<Vec<_>>()
    });
    parts.into_iter().flatten().collect()
}

fn circuit(c: &mut Criterion) {
    let mut rng = ChaCha20Rng::seed_from_u64(0);
    let fixture = Fixture::new(&mut rng);
    let key = ProvingKey::build(&fixture.epoch_key());
    let made = proofs(&fixture, &key, BATCHES[BATCHES.len() - 1]);
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");

    let mut group = c.benchmark_group("key");
    group.sample_size(20);
    group.bench_function("proving", |b| {
        b.iter(|| one_thread.install(|| ProvingKey::build(black_box(&fixture.epoch_key()))));
    });
    group.bench_function("verifying", |b| {
        b.iter(|| one_thread.install(|| VerifyingKey::build(black_box(&fixture.epoch_key()))));
    });
    group.finish();

    let mut group = c.benchmark_group("spend");
    group.sample_size(20);
    let (public, witness) = fixture.spend(&mut rng);
    group.bench_function("prove", |b| b.iter(|| one_thread.install(|| key.prove(&public, &witness, &mut rng))));
    let mut next = made.iter().cycle();
    group.bench_function("verify", |b| {
        b.iter(|| {
            let (public, proof) = next.next().expect("a cycle");
            one_thread.install(|| key.verifying_key().verify(public, proof))
        });
    });
    group.finish();

    let mut group = c.benchmark_group("batch");
    group.sample_size(10);
    for size in BATCHES {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let mut batch = BatchVerifier::new();
                for (public, proof) in &made[..size] {
                    batch.add(key.verifying_key(), public, proof);
                }
                one_thread.install(|| batch.verify(&mut rng))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, circuit);
criterion_main!(benches);
