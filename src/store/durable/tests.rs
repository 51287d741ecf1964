//! The durable store under attack: crashes, torn writes, damage, files put back, and what is left on disk.

mod check;
mod damage;
mod disks;
mod evidence;
mod mark_place;
mod operation;
mod queue;
mod set_back;
mod table_numbers;
mod torn;

use std::path::{Path, PathBuf};

use blake2b_simd::Params;
use halometer_circuits::note::{ContextHash, Nullifier, ShareY, ValueCommitment};
use halometer_circuits::proof::Proof;
use halometer_circuits::schnorr::SigningKey;

use super::*;
use crate::protocol::*;
use crate::store::*;

const EPOCH: [EpochNumber; 2] = [EpochNumber::new(1), EpochNumber::new(2)];
const GATEWAY: GatewayId = GatewayId::from_bytes([1; 16]);
const OWNER: OwnerId = OwnerId::from_bytes(*b"process number 1");
const T0: Timestamp = Timestamp::from_seconds(1_800_000_000);
const CHARGE: u64 = 10;

/// 32 bytes of noise that are a field element.
fn noise(label: &str, n: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(
        Params::new().hash_length(32).personal(b"tests").hash(format!("{label}{n}").as_bytes()).as_bytes(),
    );
    bytes[31] &= 0x3f;
    bytes
}

fn key(epoch: EpochNumber, n: u64) -> RecordKey {
    let nullifier = Nullifier::from_bytes(&noise("nf", n)).unwrap();
    RecordKey { epoch, nullifier, tag: SpendTag::from_bytes([n as u8; 32]) }
}

/// An open record all of whose parts are noise.
fn record(epoch: EpochNumber, n: u64) -> Record {
    let key = key(epoch, n);
    let change = ValueCommitment::from_bytes(&noise("change", n)).unwrap();
    let proof: Vec<u8> = (0..Proof::LENGTH.div_ceil(32) as u64).flat_map(|i| noise("proof", n * 1_000 + i)).collect();
    let spend = Spend {
        purpose: Purpose::Session,
        epoch,
        gateway: GATEWAY,
        tariff: Digest::from_bytes(noise("tariff", n)),
        session: SessionKey::from_bytes(&noise("session", n)).public_key(),
        charge: Credits::from_micro(CHARGE),
        not_after: T0,
        memo: Memo::from_bytes([noise("memo", n), noise("more", n)].concat().try_into().unwrap()),
        nullifier: key.nullifier,
        share: ShareY::from_bytes(&noise("share", n)).unwrap(),
        change,
        proof: Proof::from_bytes(&proof[..Proof::LENGTH]).unwrap(),
    };
    Record {
        key,
        memo: spend.memo,
        evidence: Some(RecordEvidence {
            context: ContextHash::from_bytes(&noise("context", n)).unwrap(),
            charge: spend.charge,
            change,
            spend: spend.to_bytes(),
        }),
        state: RecordState::Open { lease: Lease { owner: OWNER, until: T0.after(60) }, metered: Credits::ZERO },
    }
}

fn settlement(n: u64, refund: u64) -> Settlement {
    let signer = SigningKey::from_bytes(&[1; 32]).unwrap();
    let leaf = ValueCommitment::from_bytes(&noise("change", n)).unwrap().leaf(refund);
    Settlement { epoch: EPOCH[0], refund: Credits::from_micro(refund), signature: signer.sign(&leaf) }
}

/// The halves of a transfer out of one epoch into the other.
fn pair(give: u64, take: u64) -> [Record; 2] {
    let (mut give, mut take) = (record(EPOCH[0], give), record(EPOCH[1], take));
    for (half, charge, refund) in [(&mut give, CHARGE, 0), (&mut take, 0, CHARGE)] {
        let evidence = half.evidence.as_mut().unwrap();
        let mut spend = Spend::from_bytes(&evidence.spend).unwrap();
        spend.purpose = Purpose::Transfer { nullifier: spend.nullifier, change: spend.change };
        spend.charge = Credits::from_micro(charge);
        (evidence.charge, evidence.spend) = (spend.charge, spend.to_bytes());
        half.state = RecordState::Settled(settlement(refund, refund));
    }
    [give, take]
}

fn options() -> StoreOptions {
    // Where copies are made of a directory and put back, the mark goes with them.
    StoreOptions { cache_bytes: 1 << 20, threads: 1, allow_mark_inside: true, ..StoreOptions::default() }
}

/// A new store with two open partitions.
fn created(path: &Path, options: &StoreOptions) -> DurableStore {
    let store = DurableStore::create(path, GATEWAY, options).unwrap();
    EPOCH.iter().for_each(|epoch| store.spent_set().create(*epoch).unwrap());
    store
}

fn insert(store: &DurableStore, n: u64) {
    assert_eq!(store.spent_set().insert(record(EPOCH[0], n), T0).unwrap(), Insertion::Fresh);
}

fn settle(store: &DurableStore, n: u64, refund: u64) {
    let stored = store.spent_set().settle(&key(EPOCH[0], n), OWNER, T0, &settlement(n, refund)).unwrap();
    assert_eq!(stored, settlement(n, refund));
}

fn find(store: &DurableStore, n: u64) -> Result<Option<Record>, StoreError> {
    store.spent_set().find(EPOCH[0], &key(EPOCH[0], n).nullifier)
}

/// The files of a directory and of all that are in it.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Copies a directory as it is in this instant. The zeros that a journal ends with are left out.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        // A table that was just replaced may be gone.
        let Ok(mut bytes) = std::fs::read(&file) else { continue };
        if file.extension().is_some_and(|extension| extension == "jnl") {
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        }
        std::fs::write(target, bytes).unwrap();
    }
}

/// The newest journal.
fn journal(path: &Path) -> PathBuf {
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let journals = files(&path.join("db")).into_iter().filter(|path| path.extension().is_some_and(|end| end == "jnl"));
    journals.max_by_key(number).unwrap()
}

/// A store is right, but not necessarily whole: its sums are those of its records.
fn assert_sound(store: &DurableStore) {
    let report = store.check().unwrap();
    assert_eq!(report.damage, [], "{report:?}");
    for (epoch, phase) in store.spent_set().partitions().unwrap() {
        if phase == PartitionPhase::Retired {
            continue;
        }
        let mut sums = store.spent_set().erased_totals(epoch).unwrap();
        for record in store.spent_set().scan(epoch, None, usize::MAX).unwrap() {
            match (&record.state, &record.evidence) {
                (RecordState::Open { .. }, Some(evidence)) => sums.admit(evidence.charge),
                (RecordState::Settled(settlement), Some(evidence)) => {
                    rules::add_settled(&mut sums, evidence, settlement).unwrap();
                }
                (RecordState::Settled(_), None) => {}
                (RecordState::Open { .. }, None) => panic!("an open record without evidence"),
            }
        }
        assert_eq!(sums, store.spent_set().totals(epoch).unwrap());
    }
}
