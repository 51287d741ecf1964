//! The durable spent set by itself.

use std::path::Path;
use std::time::{Duration, Instant};

use halometer_circuits::note::{ContextHash, Nullifier, ValueCommitment};
use halometer_circuits::schnorr::Signature;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::database::Database;
use super::disk::{Place, bytes_on_disk};
use super::figures::Figures;
use super::machine;
use super::progress::Progress;
use halometer::protocol::{Credits, EpochNumber, GatewayId, Memo, OwnerId, Settlement, Spend, SpendTag, Timestamp};
use halometer::store::durable::{DurableSpentSet, DurableStore, StoreOptions};
use halometer::store::{Insertion, Lease, Record, RecordEvidence, RecordKey, RecordState, SpentSet, StoreError};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const EPOCH: EpochNumber = EpochNumber::new(1);
const OWNER: OwnerId = OwnerId::from_bytes([1; 16]);
/// Spends that are inserted before they are settled and their evidence is erased, as happens as time goes by.
const DAY: u64 = 250_000;
/// Spends that come to the set together, as from a verified batch.
const BATCH: u64 = 32;
/// Callers at a time; what they bring shares commits.
const CALLERS: u64 = 8;
const READING: Duration = Duration::from_secs(3);

/// Measures everything of this group.
pub(super) fn measure(figures: &mut Figures, progress: &mut Progress, dir: &Path, entries: u64) -> Outcome<()> {
    let place = Place::new(dir)?;
    let path = place.next();
    let options = StoreOptions::default().with_bucket_seconds(1);
    let store = DurableStore::create(&path, GatewayId::from_bytes([1; 16]), &options)?;
    let set = store.spent_set();
    set.create(EPOCH)?;
    progress.start("inserting, settling, erasing", entries as usize);
    let (mut inserting, mut settling, mut slowest) = (Duration::ZERO, Duration::ZERO, f64::INFINITY);
    let mut now = Timestamp::from_seconds(1_800_000_000);
    let mut done = 0;
    while done < entries {
        let day = done..(done + DAY).min(entries);
        let start = Instant::now();
        each_caller(&day, |part| insert(&set, part, now, progress))?;
        let took = start.elapsed();
        inserting += took;
        slowest = slowest.min((day.end - day.start) as f64 / took.as_secs_f64());
        let start = Instant::now();
        each_caller(&day, |part| settle(&set, part, now))?;
        settling += start.elapsed();
        now = now.after(10);
        set.erase_evidence(EPOCH, now)?;
        done = day.end;
    }
    let erased = set.erased_totals(EPOCH)?.settled;
    if erased != entries {
        return Err(format!("{erased} of {entries} spends are erased").into());
    }
    figures.number("store_entries", entries as f64);
    figures.number("store_inserts_per_second", entries as f64 / inserting.as_secs_f64());
    figures.number("store_inserts_per_second_slowest_quarter_million", slowest);
    figures.number("store_settles_per_second", entries as f64 / settling.as_secs_f64());

    // As it is found after a restart.
    drop((set, store));
    let start = Instant::now();
    let store = DurableStore::open(&path, &options)?;
    figures.number("store_open_ms", start.elapsed().as_secs_f64() * 1e3);
    let set = store.spent_set();
    progress.start("misses and hits", 4);
    let misses = reads(&set, 1, |i| nullifier(entries + i), false)?;
    figures.number("store_misses_per_second_one_core", misses);
    let misses = reads(&set, machine::parallelism() as u64, |i| nullifier(entries + i), false)?;
    figures.number("store_misses_per_second", misses);
    let hits = reads(&set, machine::parallelism() as u64, |i| nullifier(i % entries), true)?;
    figures.number("store_hits_per_second", hits);
    figures.number("store_rss_mb", machine::peak_rss_mb());

    let before: u64 = store.stats()?.partitions.iter().map(|partition| partition.record_bytes).sum();
    store.compact()?;
    drop((set, store));
    let store = DurableStore::open(&path, &options)?;
    let after: u64 = store.stats()?.partitions.iter().map(|partition| partition.record_bytes).sum();
    figures.number("store_bytes_per_nullifier", before as f64 / entries as f64);
    figures.number("store_bytes_per_nullifier_compacted", after as f64 / entries as f64);
    figures.number("store_bytes_per_nullifier_memo", Memo::LENGTH as f64);
    figures.number("store_disk_mb", bytes_on_disk(&path)? as f64 / 1e6);
    Ok(())
}

/// The same of a database that gateways share: inserting with evidence, settling, and what a nullifier takes on disk.
pub(super) fn measure_database(
    figures: &mut Figures,
    progress: &mut Progress,
    database: &Database,
    entries: u64,
) -> Outcome<()> {
    let store = database.store(GatewayId::from_bytes([1; 16]), 21_600)?;
    let set = store.spent_set();
    set.create(EPOCH)?;
    progress.start("inserting and settling over the database", entries as usize);
    let now = Timestamp::from_seconds(1_800_000_000);
    let start = Instant::now();
    each_caller(&(0..entries), |part| insert(&set, part, now, progress))?;
    figures.number("database_inserts_per_second", entries as f64 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    each_caller(&(0..entries), |part| settle(&set, part, now))?;
    figures.number("database_settles_per_second", entries as f64 / start.elapsed().as_secs_f64());
    let stats = store.stats()?;
    let bytes = |bytes: u64| bytes as f64 / entries as f64;
    figures.number("database_bytes_per_nullifier", bytes(stats.partitions.iter().map(|part| part.record_bytes).sum()));
    let evidence = stats.partitions.iter().map(|part| part.evidence_bytes).sum();
    figures.number("database_evidence_bytes_per_nullifier", bytes(evidence));
    let told = store.figures();
    figures.number("database_records_per_batch", told.batched as f64 / (told.batches.max(1)) as f64);
    let trip = told.round_trip_time.as_secs_f64() * 1e3 / told.round_trips.max(1) as f64;
    figures.number("database_round_trip_ms", trip);
    Ok(())
}

/// Splits a range among callers that work at one time.
fn each_caller(
    range: &std::ops::Range<u64>,
    work: impl Fn(std::ops::Range<u64>) -> Result<(), StoreError> + Sync,
) -> Outcome<()> {
    let size = (range.end - range.start).div_ceil(CALLERS).max(1);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let from = (range.start + caller * size).min(range.end);
                let part = from..(from + size).min(range.end);
                let work = &work;
                scope.spawn(move || work(part))
            })
            .collect();
        callers.into_iter().try_for_each(|caller| Ok(caller.join().map_err(|_| "a caller panicked")??))
    })
}

fn insert(
    set: &dyn SpentSet,
    part: std::ops::Range<u64>,
    now: Timestamp,
    progress: &Progress,
) -> Result<(), StoreError> {
    let lease = Lease { owner: OWNER, until: now.after(900) };
    let mut at = part.start;
    while at < part.end {
        let batch = at..(at + BATCH).min(part.end);
        for insertion in set.insert_all(batch.clone().map(|i| record(i, lease)).collect(), now) {
            if insertion? != Insertion::Fresh {
                return Err(StoreError::BadRecord("a new nullifier was found"));
            }
            progress.step();
        }
        at = batch.end;
    }
    Ok(())
}

fn settle(set: &dyn SpentSet, part: std::ops::Range<u64>, now: Timestamp) -> Result<(), StoreError> {
    // Settlements come one by one. So that they share commits as those of many callers do, each caller here has many threads.
    let size = (part.end - part.start).div_ceil(16).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|thread| {
                let from = (part.start + thread * size).min(part.end);
                let part = from..(from + size).min(part.end);
                scope.spawn(move || -> Result<(), StoreError> {
                    for i in part {
                        set.settle(&key(i), OWNER, now, &settlement(i))?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or(Err(StoreError::BadRecord("a thread panicked"))))
    })
}

/// Reads a second, on so many threads.
fn reads(
    set: &DurableSpentSet,
    threads: u64,
    nullifier: impl Fn(u64) -> Nullifier + Sync,
    there: bool,
) -> Outcome<f64> {
    let start = Instant::now();
    let count = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|thread| {
                let nullifier = &nullifier;
                scope.spawn(move || -> Result<u64, StoreError> {
                    let mut count = 0;
                    while start.elapsed() < READING {
                        for _ in 0..256 {
                            // Steps that no two threads share, all over the set.
                            let i = (count * threads + thread).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                            if set.find(EPOCH, &nullifier(i))?.is_some() != there {
                                return Err(StoreError::BadRecord("a nullifier is where it should not be, or is not"));
                            }
                            count += 1;
                        }
                    }
                    Ok(count)
                })
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap_or(Err(StoreError::BadRecord("a reader panicked"))))
            .sum::<Result<u64, _>>()
    })?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Random bytes that are a field element's.
fn element(i: u64, what: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    ChaCha20Rng::seed_from_u64(i.wrapping_mul(8).wrapping_add(what)).fill_bytes(&mut bytes);
    bytes[31] &= 0x1f;
    bytes[0] |= 1;
    bytes
}

fn nullifier(i: u64) -> Nullifier {
    Nullifier::from_bytes(&element(i, 0)).expect("below the modulus")
}

fn key(i: u64) -> RecordKey {
    let mut tag = [0; SpendTag::LENGTH];
    tag.copy_from_slice(&element(i, 1)[..SpendTag::LENGTH]);
    RecordKey { epoch: EPOCH, nullifier: nullifier(i), tag: SpendTag::from_bytes(tag) }
}

fn record(i: u64, lease: Lease) -> Record {
    let mut rng = ChaCha20Rng::seed_from_u64(!i);
    let (mut spend, mut memo) = (vec![0; Spend::LENGTH], [0; Memo::LENGTH]);
    rng.fill_bytes(&mut spend);
    rng.fill_bytes(&mut memo);
    let evidence = RecordEvidence {
        context: ContextHash::from_bytes(&element(i, 2)).expect("below the modulus and not zero"),
        charge: Credits::from_micro(10_000),
        change: ValueCommitment::from_bytes(&element(i, 3)).expect("below the modulus"),
        spend,
    };
    let state = RecordState::Open { lease, metered: Credits::ZERO };
    Record { key: key(i), memo: Memo::from_bytes(memo), evidence: Some(evidence), state }
}

fn settlement(i: u64) -> Settlement {
    let mut signature = [0; Signature::LENGTH];
    signature[..16].copy_from_slice(&element(i, 4)[..16]);
    signature[16..].copy_from_slice(&element(i, 5));
    Settlement {
        epoch: EPOCH,
        refund: Credits::from_micro(i % 10_000),
        signature: Signature::from_bytes(&signature).expect("both parts are in range"),
    }
}
