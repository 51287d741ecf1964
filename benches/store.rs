//! The durable spent set, operation by operation. `halometer bench --only store` has the figures of a large one.

// `criterion_group!` makes a public function.
#![allow(missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use halometer::circuits::note::{ContextHash, Nullifier, ValueCommitment};
use halometer::protocol::*;
use halometer::store::durable::{DurableStore, StoreOptions};
use halometer::store::{Lease, Record, RecordEvidence, RecordKey, RecordState, SpentSet};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const EPOCH: EpochNumber = EpochNumber::new(1);
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn element(rng: &mut ChaCha20Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes[31] &= 0x1f;
    bytes
}

fn nullifier(rng: &mut ChaCha20Rng) -> Nullifier {
    Nullifier::from_bytes(&element(rng)).unwrap()
}

fn record(rng: &mut ChaCha20Rng) -> Record {
    let mut spend = vec![0; Spend::LENGTH];
    rng.fill_bytes(&mut spend);
    let evidence = RecordEvidence {
        context: ContextHash::from_bytes(&element(rng)).unwrap(),
        charge: Credits::from_micro(10),
        change: ValueCommitment::from_bytes(&element(rng)).unwrap(),
        spend,
    };
    let lease = Lease { owner: OwnerId::from_bytes([1; 16]), until: NOW.after(900) };
    Record {
        key: RecordKey { epoch: EPOCH, nullifier: nullifier(rng), tag: SpendTag::from_bytes([1; 32]) },
        memo: Memo::from_bytes([2; 64]),
        evidence: Some(evidence),
        state: RecordState::Open { lease, metered: Credits::ZERO },
    }
}

fn store(c: &mut Criterion) {
    let place = tempfile::tempdir_in(".").unwrap();
    let path = place.path().join("store");
    let store = DurableStore::create(path, GatewayId::from_bytes([1; 16]), &StoreOptions::default()).unwrap();
    let set = store.spent_set();
    set.create(EPOCH).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);

    let mut group = c.benchmark_group("insert, durable");
    for size in [1, 32, 256] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(size.to_string(), |b| {
            b.iter_batched(
                || (0..size).map(|_| record(&mut rng)).collect::<Vec<_>>(),
                |records| set.insert_all(records, NOW),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
    let known = record(&mut rng);
    set.insert(known.clone(), NOW).unwrap();
    c.bench_function("find, a miss", |b| {
        b.iter_batched(|| nullifier(&mut rng), |nullifier| set.find(EPOCH, &nullifier), BatchSize::SmallInput);
    });
    c.bench_function("find, a hit with its evidence", |b| b.iter(|| set.find(EPOCH, &known.key.nullifier)));
}

criterion_group!(benches, store);
criterion_main!(benches);
