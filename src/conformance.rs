//! What every [`SpentSet`] must pass (feature `conformance`).
//!
//! A backend, also somebody else's, implements [`Backend`] and names it to [`spent_set_conformance!`](crate::spent_set_conformance),
//! which makes a test of each function here:
//!
//! ```
//! use halometer::conformance::Backend;
//! use halometer::store::MemorySpentSet;
//!
//! struct Memory;
//!
//! impl Backend for Memory {
//!     type Set = MemorySpentSet;
//!
//!     fn create(&self) -> MemorySpentSet {
//!         MemorySpentSet::new()
//!     }
//!
//!     fn crash(&self, _: MemorySpentSet) -> Option<MemorySpentSet> {
//!         None
//!     }
//! }
//!
//! halometer::spent_set_conformance!(Memory);
//! ```
//!
//! # Panics
//! Every function panics if the set breaks a rule, as a test does.

pub mod replicas;

use halometer_circuits::note::{ContextHash, Nullifier, ShareY, ValueCommitment};
use halometer_circuits::proof::Proof;
use halometer_circuits::schnorr::SigningKey;

use crate::protocol::*;
use crate::store::*;

/// How to come by the sets that are tested.
pub trait Backend: Sync {
    /// The set.
    type Set: SpentSet;

    /// A new set without partitions, in a place of its own.
    fn create(&self) -> Self::Set;

    /// The set as it is after its process was killed, or the power was cut, in this instant. None for a set that is meant to
    /// forget.
    fn crash(&self, set: Self::Set) -> Option<Self::Set>;
}

/// Makes a test of every function of [`conformance`](crate::conformance) for a backend.
#[macro_export]
macro_rules! spent_set_conformance {
    ($backend:expr) => {
        $crate::spent_set_conformance!($backend;
            a_partition_that_was_never_created_takes_nothing,
            a_closing_partition_settles_what_is_open_and_takes_no_more,
            a_retired_partition_does_not_rise_again,
            racing_for_one_nullifier_has_one_winner_every_time,
            racing_to_settle_releases_one_settlement,
            retiring_while_others_insert_lets_none_through_afterwards,
            a_refund_above_the_charge_is_not_stored,
            only_the_owner_settles_before_the_lease_is_over,
            another_context_finds_nothing,
            one_tag_in_two_contexts_is_two_spends,
            a_bucket_names_more_than_one,
            a_bucket_is_read_page_by_page,
            a_record_that_is_not_new_is_not_inserted,
            what_is_metered_never_goes_down,
            many_at_once_are_decided_one_by_one,
            a_pair_goes_in_whole_or_not_at_all,
            a_pair_of_which_one_was_cancelled_stays_parted,
            evidence_goes_when_it_is_due_and_not_before,
            what_lapsed_is_found,
            scanning_gives_every_record_once,
            what_was_answered_is_there_after_a_crash,
            a_partition_keeps_its_phase_over_a_crash,
            erased_evidence_stays_erased_over_a_crash,
        );
    };
    ($backend:expr; $($test:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                $crate::conformance::$test(&$backend);
            }
        )*
    };
}

const EPOCH: [EpochNumber; 2] = [EpochNumber::new(1), EpochNumber::new(2)];
const OWNER: OwnerId = OwnerId::from_bytes(*b"process number 1");
const THIEF: OwnerId = OwnerId::from_bytes(*b"process number 2");
const T0: Timestamp = Timestamp::from_seconds(1_800_000_000);
const YEAR: u64 = 365 * 86_400;
const CHARGE: Credits = Credits::from_micro(10);

fn micro(amount: u64) -> Credits {
    Credits::from_micro(amount)
}

fn key(nullifier: u8, tag: u8) -> RecordKey {
    let mut bytes = [nullifier; 32];
    // Below the modulus.
    bytes[31] &= 0x3f;
    let nullifier = Nullifier::from_bytes(&bytes).unwrap();
    RecordKey { epoch: EPOCH[0], nullifier, tag: SpendTag::from_bytes([tag; 32]) }
}

/// An open record of a charge of 10, the lease of which runs for a minute.
fn record(key: RecordKey) -> Record {
    let change = ValueCommitment::from_bytes(&[1; 32]).unwrap();
    let context = ContextHash::from_bytes(&[3; 32]).unwrap();
    let spend = Spend {
        purpose: Purpose::Session,
        epoch: key.epoch,
        gateway: GatewayId::from_bytes([4; 16]),
        tariff: Digest::from_bytes([5; 32]),
        session: SessionKey::from_bytes(&[7; 32]).public_key(),
        charge: CHARGE,
        not_after: T0,
        memo: Memo::from_bytes([6; 64]),
        nullifier: key.nullifier,
        share: ShareY::from_bytes(&[8; 32]).unwrap(),
        change,
        proof: Proof::from_bytes(&[9; Proof::LENGTH]).expect("its length is right"),
    };
    Record {
        key,
        memo: spend.memo,
        evidence: Some(RecordEvidence { context, charge: CHARGE, change, spend: spend.to_bytes() }),
        state: RecordState::Open { lease: Lease { owner: OWNER, until: T0.after(60) }, metered: Credits::ZERO },
    }
}

fn settlement(refund: u64) -> Settlement {
    let key = SigningKey::from_bytes(&[1; 32]).unwrap();
    let leaf = ValueCommitment::from_bytes(&[1; 32]).unwrap().leaf(refund);
    Settlement { epoch: EPOCH[0], refund: micro(refund), signature: key.sign(&leaf) }
}

/// The halves of a transfer of 10, in two partitions.
fn pair(give: u8, take: u8) -> [Record; 2] {
    let (mut give, mut take) = (record(key(give, 1)), record(RecordKey { epoch: EPOCH[1], ..key(take, 1) }));
    for (half, charge, refund) in [(&mut give, 10, 0), (&mut take, 0, 10)] {
        let mut spend = Spend::from_bytes(&half.evidence.as_ref().unwrap().spend).unwrap();
        spend.purpose = Purpose::Transfer { nullifier: spend.nullifier, change: spend.change };
        (spend.epoch, spend.charge) = (half.key.epoch, micro(charge));
        let evidence = half.evidence.as_mut().unwrap();
        (evidence.charge, evidence.spend) = (micro(charge), spend.to_bytes());
        half.state = RecordState::Settled(settlement(refund));
    }
    [give, take]
}

fn created<B: Backend>(backend: &B) -> B::Set {
    let set = backend.create();
    EPOCH.iter().for_each(|epoch| set.create(*epoch).unwrap());
    set
}

fn insert(set: &impl SpentSet, key: RecordKey) -> Result<Insertion, StoreError> {
    set.insert(record(key), T0)
}

/// An epoch without a partition is not an empty one.
pub fn a_partition_that_was_never_created_takes_nothing<B: Backend>(backend: &B) {
    let set = backend.create();
    assert!(matches!(insert(&set, key(1, 1)), Err(StoreError::PartitionMissing(_))));
    assert!(matches!(set.find(EPOCH[0], &key(1, 1).nullifier), Err(StoreError::PartitionMissing(_))));
    assert!(matches!(set.settle(&key(1, 1), OWNER, T0, &settlement(1)), Err(StoreError::PartitionMissing(_))));
    assert!(matches!(set.meter(&key(1, 1), OWNER, micro(1), T0), Err(StoreError::PartitionMissing(_))));
    assert!(matches!(set.close(EPOCH[0]), Err(StoreError::PartitionMissing(_))));
    assert!(matches!(set.retire(EPOCH[0]), Err(StoreError::PartitionMissing(_))));
    assert!(matches!(set.totals(EPOCH[0]), Err(StoreError::PartitionMissing(_))));
    assert!(set.partitions().unwrap().is_empty());
    set.create(EPOCH[0]).unwrap();
    assert!(matches!(set.insert_pair(pair(1, 2), T0), Err(StoreError::PartitionMissing(_))));
    assert_eq!(set.find(EPOCH[0], &key(1, 1).nullifier).unwrap(), None, "half a transfer");
    assert!(matches!(set.create(EPOCH[0]), Err(StoreError::PartitionExists(_))));
}

/// Closing ends insertion, not settlement.
pub fn a_closing_partition_settles_what_is_open_and_takes_no_more<B: Backend>(backend: &B) {
    let set = created(backend);
    assert_eq!(insert(&set, key(1, 1)).unwrap(), Insertion::Fresh);
    assert!(matches!(set.retire(EPOCH[0]), Err(StoreError::PartitionOpen(_))));
    set.close(EPOCH[0]).unwrap();
    set.close(EPOCH[0]).unwrap();
    assert!(matches!(insert(&set, key(2, 1)), Err(StoreError::PartitionClosed(_))));
    assert!(matches!(set.insert_pair(pair(2, 3), T0), Err(StoreError::PartitionClosed(_))));
    assert_eq!(set.find(EPOCH[1], &key(3, 1).nullifier).unwrap(), None, "half a transfer");
    assert!(matches!(insert(&set, key(1, 1)), Ok(Insertion::Same(_))));
    assert!(matches!(insert(&set, key(1, 2)), Ok(Insertion::Conflict(_))));
    set.settle(&key(1, 1), OWNER, T0, &settlement(4)).unwrap();
    assert_eq!(set.partitions().unwrap(), [(EPOCH[0], PartitionPhase::Closing), (EPOCH[1], PartitionPhase::Open)]);
}

fn assert_retired(set: &impl SpentSet) {
    assert!(matches!(set.create(EPOCH[0]), Err(StoreError::PartitionExists(_))));
    assert!(matches!(set.close(EPOCH[0]), Err(StoreError::PartitionRetired(_))));
    // The note that was spent in it cannot be spent again, and no settlement of it is signed.
    for other in [key(1, 1), key(1, 2), key(9, 9)] {
        assert!(matches!(insert(set, other), Err(StoreError::PartitionRetired(_))));
    }
    assert!(matches!(set.insert_pair(pair(9, 9), T0), Err(StoreError::PartitionRetired(_))));
    assert!(matches!(set.settle(&key(1, 1), OWNER, T0, &settlement(4)), Err(StoreError::PartitionRetired(_))));
    assert!(matches!(set.find(EPOCH[0], &key(1, 1).nullifier), Err(StoreError::PartitionRetired(_))));
    assert!(matches!(set.bucket(EPOCH[0], Prefix::WHOLE, None, 1), Err(StoreError::PartitionRetired(_))));
    assert!(matches!(set.scan(EPOCH[0], None, 1), Err(StoreError::PartitionRetired(_))));
    assert!(matches!(set.lapsed(EPOCH[0], T0, 1), Err(StoreError::PartitionRetired(_))));
    // The books need its sums.
    assert_eq!(set.totals(EPOCH[0]).unwrap().cost, 6);
    assert!(set.partitions().unwrap().contains(&(EPOCH[0], PartitionPhase::Retired)));
}

/// Nothing brings a dropped partition back.
pub fn a_retired_partition_does_not_rise_again<B: Backend>(backend: &B) {
    let set = created(backend);
    insert(&set, key(1, 1)).unwrap();
    set.settle(&key(1, 1), OWNER, T0, &settlement(4)).unwrap();
    set.close(EPOCH[0]).unwrap();
    set.retire(EPOCH[0]).unwrap();
    set.retire(EPOCH[0]).unwrap();
    assert_retired(&set);
}

/// One of many threads that insert one nullifier wins, every time; the others see its record.
pub fn racing_for_one_nullifier_has_one_winner_every_time<B: Backend>(backend: &B) {
    let set = created(backend);
    for round in 0..50 {
        let outcomes: Vec<Insertion> = std::thread::scope(|scope| {
            let race = |tag| {
                let set = &set;
                scope.spawn(move || insert(set, key(round, tag)).unwrap())
            };
            let threads: Vec<_> = (1..=8).map(race).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Insertion::Fresh).count(), 1);
        let found = set.find(EPOCH[0], &key(round, 1).nullifier).unwrap().unwrap();
        for outcome in outcomes {
            match outcome {
                Insertion::Fresh => {}
                Insertion::Conflict(record) => assert_eq!(*record, found),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(set.totals(EPOCH[0]).unwrap().open, 50);
}

/// Of many threads that settle one record at different costs, all are told the same.
pub fn racing_to_settle_releases_one_settlement<B: Backend>(backend: &B) {
    let set = created(backend);
    let settlements: Vec<_> = (0..8).map(settlement).collect();
    for round in 0..20 {
        insert(&set, key(round, 1)).unwrap();
        let told: Vec<Settlement> = std::thread::scope(|scope| {
            let race = |settlement| {
                let set = &set;
                scope.spawn(move || set.settle(&key(round, 1), OWNER, T0, settlement).unwrap())
            };
            let threads: Vec<_> = settlements.iter().map(race).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(told.iter().all(|settlement| *settlement == told[0]));
        let found = set.find(EPOCH[0], &key(round, 1).nullifier).unwrap().unwrap();
        assert_eq!(found.state, RecordState::Settled(told[0].clone()));
    }
    let totals = set.totals(EPOCH[0]).unwrap();
    assert_eq!((totals.open, totals.held, totals.settled, totals.cost + totals.refunded), (0, 0, 20, 200));
}

/// After `close` has returned, nothing is inserted, not even what was on its way.
pub fn retiring_while_others_insert_lets_none_through_afterwards<B: Backend>(backend: &B) {
    let set = created(backend);
    let closed = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let (set, closed) = (&set, &closed);
            scope.spawn(move || {
                for n in 0..40 {
                    let was_closed = closed.load(std::sync::atomic::Ordering::SeqCst);
                    match insert(set, key(thread * 50 + n, 1)) {
                        Ok(Insertion::Fresh) => assert!(!was_closed, "inserted after it was closed"),
                        Err(StoreError::PartitionClosed(_) | StoreError::PartitionRetired(_)) => {}
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
        set.close(EPOCH[0]).unwrap();
        closed.store(true, std::sync::atomic::Ordering::SeqCst);
        set.retire(EPOCH[0]).unwrap();
    });
}

/// More than the charge never comes back.
pub fn a_refund_above_the_charge_is_not_stored<B: Backend>(backend: &B) {
    let set = created(backend);
    insert(&set, key(1, 1)).unwrap();
    assert!(matches!(set.settle(&key(1, 1), OWNER, T0, &settlement(11)), Err(StoreError::BadRecord(_))));
    let totals = set.totals(EPOCH[0]).unwrap();
    assert_eq!((totals.open, totals.held, totals.settled), (1, 10, 0));
}

/// A lease keeps others off, and ends.
pub fn only_the_owner_settles_before_the_lease_is_over<B: Backend>(backend: &B) {
    let set = created(backend);
    insert(&set, key(1, 1)).unwrap();
    let lease = Lease { owner: THIEF, until: T0.after(120) };
    assert!(matches!(set.settle(&key(1, 1), THIEF, T0.after(59), &settlement(4)), Err(StoreError::NotOwner)));
    assert!(matches!(set.take_over(&key(1, 1), lease, T0.after(59)), Err(StoreError::NotOwner)));
    assert!(matches!(set.meter(&key(1, 1), THIEF, micro(9), T0.after(59)), Err(StoreError::NotOwner)));
    // The owner may renew.
    set.take_over(&key(1, 1), Lease { owner: OWNER, until: T0.after(90) }, T0.after(59)).unwrap();
    assert!(matches!(set.take_over(&key(1, 1), lease, T0.after(89)), Err(StoreError::NotOwner)));
    set.take_over(&key(1, 1), lease, T0.after(90)).unwrap();
    assert!(matches!(set.settle(&key(1, 1), OWNER, T0.after(100), &settlement(4)), Err(StoreError::NotOwner)));
    set.settle(&key(1, 1), THIEF, T0.after(100), &settlement(4)).unwrap();
    // What is settled is told to all and taken by none.
    assert_eq!(set.settle(&key(1, 1), OWNER, T0, &settlement(9)).unwrap(), settlement(4));
    let record = set.take_over(&key(1, 1), lease, T0).unwrap();
    assert!(matches!(record.state, RecordState::Settled(_)));
}

/// The same note under another tag is another spend.
pub fn another_context_finds_nothing<B: Backend>(backend: &B) {
    let set = created(backend);
    insert(&set, key(1, 1)).unwrap();
    let elsewhere = RecordKey { epoch: EPOCH[1], ..key(1, 1) };
    for other in [key(1, 2), key(2, 1), elsewhere] {
        assert!(matches!(set.settle(&other, OWNER, T0, &settlement(4)), Err(StoreError::NoRecord)));
        assert!(matches!(set.meter(&other, OWNER, micro(1), T0), Err(StoreError::NoRecord)));
        let lease = Lease { owner: OWNER, until: T0 };
        assert!(matches!(set.take_over(&other, lease, T0), Err(StoreError::NoRecord)));
    }
    // Two notes of two epochs may share a nullifier.
    assert_eq!(insert(&set, elsewhere).unwrap(), Insertion::Fresh);
}

/// Tags are made by callers. While there is evidence, the context itself counts; and every byte of a tag does.
pub fn one_tag_in_two_contexts_is_two_spends<B: Backend>(backend: &B) {
    let set = created(backend);
    insert(&set, key(1, 1)).unwrap();
    let mut other = record(key(1, 1));
    let evidence = other.evidence.as_mut().expect("it was just made");
    evidence.context = ContextHash::from_bytes(&[4; 32]).unwrap();
    assert!(matches!(set.insert(other, T0), Ok(Insertion::Conflict(_))));
    for byte in 0..SpendTag::LENGTH {
        let mut tag = [1; SpendTag::LENGTH];
        tag[byte] ^= 1;
        let near = RecordKey { tag: SpendTag::from_bytes(tag), ..key(1, 1) };
        assert!(matches!(set.insert(record(near), T0), Ok(Insertion::Conflict(_))), "byte {byte}");
        assert!(matches!(set.settle(&near, OWNER, T0, &settlement(4)), Err(StoreError::NoRecord)), "byte {byte}");
    }
    assert!(matches!(insert(&set, key(1, 1)), Ok(Insertion::Same(_))));
}

/// A bucket is all nullifiers of a prefix, in order.
pub fn a_bucket_names_more_than_one<B: Backend>(backend: &B) {
    let set = created(backend);
    for nullifier in [1, 2, 3] {
        insert(&set, key(nullifier, 1)).unwrap();
    }
    let mut near = key(2, 1);
    let mut bytes = [2; 32];
    bytes[2] = 0;
    near.nullifier = Nullifier::from_bytes(&bytes).unwrap();
    insert(&set, near).unwrap();
    let bucket = |bits, value| set.bucket(EPOCH[0], Prefix::new(bits, value).unwrap(), None, 9).unwrap();
    let [one, two, three] = [1, 2, 3].map(|nullifier| key(nullifier, 1).nullifier);
    assert_eq!(bucket(16, 0x0202), [near.nullifier, two]);
    // 1, 2 and 3 differ in the last two bits of a byte.
    assert_eq!(bucket(8, 3), [three]);
    assert_eq!(bucket(7, 1), [near.nullifier, two, three]);
    assert_eq!(bucket(6, 0), [one, near.nullifier, two, three]);
    assert_eq!(bucket(0, 0), [one, near.nullifier, two, three]);
    for (bits, value) in [(16, 0x0203), (16, 0xffff), (6, 1), (1, 1)] {
        assert!(bucket(bits, value).is_empty());
    }
    assert!(set.bucket(EPOCH[1], Prefix::WHOLE, None, 9).unwrap().is_empty());
    assert!(matches!(set.bucket(EpochNumber::new(3), Prefix::WHOLE, None, 9), Err(StoreError::PartitionMissing(_))));
}

/// Pages of any size add up to the bucket, whatever they begin behind.
pub fn a_bucket_is_read_page_by_page<B: Backend>(backend: &B) {
    let set = created(backend);
    for nullifier in 1..=9 {
        insert(&set, key(nullifier, 1)).unwrap();
    }
    // Of 1 to 9, those that begin with 000001: 4 to 7.
    let prefix = Prefix::new(6, 1).unwrap();
    let expected = [4, 5, 6, 7].map(|nullifier| key(nullifier, 1).nullifier);
    for size in [1, 2, 4, 5] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = set.bucket(EPOCH[0], prefix, after.as_ref(), size).unwrap();
            assert!(page.len() <= size);
            let Some(last) = page.last() else { break };
            after = Some(*last);
            seen.extend(page);
        }
        assert_eq!(seen, expected);
    }
    let behind = |nullifier| set.bucket(EPOCH[0], prefix, Some(&key(nullifier, 1).nullifier), 9).unwrap();
    assert_eq!((behind(1), behind(3)), (expected.to_vec(), expected.to_vec()));
    assert_eq!(behind(5), expected[2..]);
    assert!(behind(7).is_empty() && behind(9).is_empty());
    assert!(set.bucket(EPOCH[0], prefix, None, 0).unwrap().is_empty());
}

/// Records begin open, with their evidence.
pub fn a_record_that_is_not_new_is_not_inserted<B: Backend>(backend: &B) {
    let set = created(backend);
    let (mut settled, mut erased, mut dear) = (record(key(1, 1)), record(key(1, 1)), record(key(1, 1)));
    settled.state = RecordState::Settled(settlement(4));
    erased.evidence = None;
    dear.state = RecordState::Open {
        lease: Lease { owner: OWNER, until: T0.after(60) },
        metered: CHARGE.checked_add(micro(1)).unwrap(),
    };
    for bad in [settled, erased, dear] {
        assert!(matches!(set.insert(bad, T0), Err(StoreError::BadRecord(_))));
    }
    assert_eq!(set.totals(EPOCH[0]).unwrap(), Totals::default());
}

/// What was metered is what a successor finds.
pub fn what_is_metered_never_goes_down<B: Backend>(backend: &B) {
    let set = created(backend);
    insert(&set, key(1, 1)).unwrap();
    for (metered, expected) in [(3, 3), (2, 3), (7, 7)] {
        set.meter(&key(1, 1), OWNER, micro(metered), T0).unwrap();
        let RecordState::Open { metered, .. } = set.find(EPOCH[0], &key(1, 1).nullifier).unwrap().unwrap().state else {
            panic!("it is open")
        };
        assert_eq!(metered, micro(expected));
    }
    assert!(matches!(set.meter(&key(1, 1), OWNER, micro(11), T0), Err(StoreError::BadRecord(_))));
    let taken = set.take_over(&key(1, 1), Lease { owner: THIEF, until: T0.after(200) }, T0.after(60)).unwrap();
    assert!(matches!(taken.state, RecordState::Open { metered, .. } if metered == micro(7)));
    set.settle(&key(1, 1), THIEF, T0, &settlement(3)).unwrap();
    set.meter(&key(1, 1), OWNER, micro(9), T0).unwrap();
    assert_eq!(set.totals(EPOCH[0]).unwrap().cost, 7);
}

/// A batch is no more than its records one after the other.
pub fn many_at_once_are_decided_one_by_one<B: Backend>(backend: &B) {
    let set = created(backend);
    insert(&set, key(5, 1)).unwrap();
    let lost = RecordKey { epoch: EpochNumber::new(9), ..key(1, 1) };
    let mut bare = record(key(6, 1));
    bare.evidence = None;
    let mut records: Vec<_> = [key(1, 1), key(2, 1), key(1, 1), key(1, 2), key(5, 2), lost].map(record).into();
    records.push(bare);
    let outcomes = set.insert_all(records, T0);
    assert_eq!(outcomes.len(), 7);
    assert!(matches!(outcomes[0], Ok(Insertion::Fresh)));
    assert!(matches!(outcomes[1], Ok(Insertion::Fresh)));
    assert!(matches!(outcomes[2], Ok(Insertion::Same(RecordState::Open { .. }))));
    assert!(
        matches!(&outcomes[3], Ok(Insertion::Conflict(record)) if record.key == key(1, 1) && record.evidence.is_some())
    );
    assert!(matches!(&outcomes[4], Ok(Insertion::Conflict(record)) if record.key == key(5, 1)));
    assert!(matches!(outcomes[5], Err(StoreError::PartitionMissing(_))));
    assert!(matches!(outcomes[6], Err(StoreError::BadRecord(_))));
    assert_eq!(set.totals(EPOCH[0]).unwrap().open, 3);
    assert!(set.insert_all(Vec::new(), T0).is_empty());
}

/// Both halves of a transfer, or neither.
pub fn a_pair_goes_in_whole_or_not_at_all<B: Backend>(backend: &B) {
    let set = created(backend);
    assert_eq!(set.insert_pair(pair(1, 2), T0).unwrap(), PairInsertion::Fresh);
    let stored = Box::new([settlement(0), settlement(10)]);
    assert_eq!(set.insert_pair(pair(1, 2), T0).unwrap(), PairInsertion::Same(stored));
    let mut found = set.find(EPOCH[1], &key(2, 1).nullifier).unwrap().unwrap();
    assert_eq!(found, pair(1, 2)[1]);
    found.evidence = None;
    // The note of either half was spent before.
    insert(&set, key(3, 9)).unwrap();
    assert!(matches!(set.insert_pair(pair(3, 4), T0), Ok(PairInsertion::Conflict(record)) if record.key == key(3, 9)));
    assert_eq!(set.find(EPOCH[1], &key(4, 1).nullifier).unwrap(), None);
    insert(&set, RecordKey { epoch: EPOCH[1], ..key(6, 9) }).unwrap();
    assert!(matches!(set.insert_pair(pair(5, 6), T0), Ok(PairInsertion::Conflict(_))));
    assert_eq!(set.find(EPOCH[0], &key(5, 1).nullifier).unwrap(), None);
    // What is no pair.
    let [give, take] = pair(7, 8);
    for bad in [[take.clone(), give.clone()], [give.clone(), give.clone()], [record(key(7, 1)), take.clone()]] {
        assert!(matches!(set.insert_pair(bad, T0), Err(StoreError::BadRecord(_))));
    }
    let (first, second) = (set.totals(EPOCH[0]).unwrap(), set.totals(EPOCH[1]).unwrap());
    assert_eq!((first.settled, first.moved_out, first.moved_in, first.cost, first.refunded), (1, 10, 0, 0, 0));
    assert_eq!((second.settled, second.moved_out, second.moved_in, second.cost, second.refunded), (1, 0, 10, 0, 0));
}

/// A transfer of which one half was cancelled is never carried out.
pub fn a_pair_of_which_one_was_cancelled_stays_parted<B: Backend>(backend: &B) {
    let set = created(backend);
    let [give, take] = pair(1, 2);
    let open = RecordState::Open { lease: Lease { owner: OWNER, until: T0.after(60) }, metered: Credits::ZERO };
    assert_eq!(set.insert(Record { state: open.clone(), ..give.clone() }, T0).unwrap(), Insertion::Fresh);
    assert_eq!(set.insert_pair(pair(1, 2), T0).unwrap(), PairInsertion::Parted);
    set.settle(&give.key, OWNER, T0, &settlement(10)).unwrap();
    assert_eq!(set.insert_pair(pair(1, 2), T0).unwrap(), PairInsertion::Parted);
    assert_eq!(set.find(EPOCH[1], &take.key.nullifier).unwrap(), None);
    // The other half is cancelled, too.
    assert_eq!(set.insert(Record { state: open, ..take.clone() }, T0).unwrap(), Insertion::Fresh);
    set.settle(&take.key, OWNER, T0, &settlement(0)).unwrap();
    assert_eq!(set.insert_pair(pair(1, 2), T0).unwrap(), PairInsertion::Parted);
}

/// Only settled evidence goes, and only after its time; sums and settlements stay.
pub fn evidence_goes_when_it_is_due_and_not_before<B: Backend>(backend: &B) {
    let set = created(backend);
    insert(&set, key(1, 1)).unwrap();
    // An open record keeps its evidence, whatever its age.
    assert_eq!(set.erase_evidence(EPOCH[0], T0.after(YEAR)).unwrap(), 0);
    set.settle(&key(1, 1), OWNER, T0, &settlement(4)).unwrap();
    assert_eq!(set.insert_pair(pair(2, 3), T0).unwrap(), PairInsertion::Fresh);
    assert_eq!(set.erase_evidence(EPOCH[0], T0).unwrap(), 0);
    assert!(set.find(EPOCH[0], &key(1, 1).nullifier).unwrap().unwrap().evidence.is_some());
    let before = set.totals(EPOCH[0]).unwrap();
    assert_eq!(set.erase_evidence(EPOCH[0], T0.after(YEAR)).unwrap(), 2);
    assert_eq!(set.erase_evidence(EPOCH[0], T0.after(YEAR)).unwrap(), 0);
    assert_eq!(set.totals(EPOCH[0]).unwrap(), before);
    let erased = set.erased_totals(EPOCH[0]).unwrap();
    assert_eq!((erased.settled, erased.cost, erased.refunded, erased.moved_out), (2, 6, 4, 10));
    let record = set.find(EPOCH[0], &key(1, 1).nullifier).unwrap().unwrap();
    assert_eq!((record.evidence, record.state), (None, RecordState::Settled(settlement(4))));
    assert!(matches!(insert(&set, key(1, 1)), Ok(Insertion::Same(RecordState::Settled(_)))));
    assert!(matches!(insert(&set, key(1, 2)), Ok(Insertion::Conflict(record)) if record.evidence.is_none()));
    // What comes later is later erased.
    insert(&set, key(4, 1)).unwrap();
    assert!(set.find(EPOCH[0], &key(4, 1).nullifier).unwrap().unwrap().evidence.is_some());
    set.settle(&key(4, 1), OWNER, T0.after(2 * YEAR), &settlement(4)).unwrap();
    assert_eq!(set.erase_evidence(EPOCH[0], T0.after(YEAR)).unwrap(), 0);
    assert_eq!(set.erase_evidence(EPOCH[0], T0.after(3 * YEAR)).unwrap(), 1);
    assert_eq!(set.erased_totals(EPOCH[0]).unwrap().settled, 3);
}

/// What a dead process left is found by the process that comes after it.
pub fn what_lapsed_is_found<B: Backend>(backend: &B) {
    let set = created(backend);
    for nullifier in 1..=5 {
        insert(&set, key(nullifier, 1)).unwrap();
    }
    set.settle(&key(2, 1), OWNER, T0, &settlement(4)).unwrap();
    set.take_over(&key(3, 1), Lease { owner: OWNER, until: T0.after(300) }, T0).unwrap();
    assert!(set.lapsed(EPOCH[0], T0.after(59), 9).unwrap().is_empty());
    let mut lapsed = set.lapsed(EPOCH[0], T0.after(60), 9).unwrap();
    lapsed.sort_by_key(|key| key.nullifier.to_bytes());
    assert_eq!(lapsed, [key(1, 1), key(4, 1), key(5, 1)]);
    assert_eq!(set.lapsed(EPOCH[0], T0.after(60), 2).unwrap().len(), 2);
    assert_eq!(set.lapsed(EPOCH[0], T0.after(300), 9).unwrap().len(), 4);
    assert!(set.lapsed(EPOCH[1], T0.after(300), 9).unwrap().is_empty());
}

/// Pages of any size add up to the partition.
pub fn scanning_gives_every_record_once<B: Backend>(backend: &B) {
    let set = created(backend);
    for nullifier in 1..=7 {
        insert(&set, key(nullifier, 1)).unwrap();
    }
    for size in [1, 3, 7, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = set.scan(EPOCH[0], after.as_ref(), size).unwrap();
            assert!(page.len() <= size);
            let Some(last) = page.last() else { break };
            after = Some(last.key.nullifier);
            seen.extend(page);
        }
        let expected: Vec<_> = (1..=7).map(|nullifier| record(key(nullifier, 1))).collect();
        assert_eq!(seen, expected);
    }
    assert!(set.scan(EPOCH[1], None, 5).unwrap().is_empty());
}

/// Nothing that was answered is lost by a crash.
pub fn what_was_answered_is_there_after_a_crash<B: Backend>(backend: &B) {
    let mut set = created(backend);
    for round in 0..3_u8 {
        let n = round * 10;
        insert(&set, key(n + 1, 1)).unwrap();
        set.meter(&key(n + 1, 1), OWNER, micro(5), T0).unwrap();
        insert(&set, key(n + 2, 1)).unwrap();
        set.settle(&key(n + 2, 1), OWNER, T0, &settlement(4)).unwrap();
        insert(&set, key(n + 3, 1)).unwrap();
        set.take_over(&key(n + 3, 1), Lease { owner: THIEF, until: T0.after(900) }, T0.after(60)).unwrap();
        set.insert_pair(pair(n + 4, n + 5), T0).unwrap();
        let before: Vec<_> = EPOCH.iter().map(|epoch| set.scan(*epoch, None, 100).unwrap()).collect();
        let totals = EPOCH.map(|epoch| (set.totals(epoch).unwrap(), set.erased_totals(epoch).unwrap()));
        let Some(after) = backend.crash(set) else { return };
        set = after;
        let now: Vec<_> = EPOCH.iter().map(|epoch| set.scan(*epoch, None, 100).unwrap()).collect();
        assert_eq!(now, before);
        assert_eq!(EPOCH.map(|epoch| (set.totals(epoch).unwrap(), set.erased_totals(epoch).unwrap())), totals);
        assert_eq!(set.lapsed(EPOCH[0], T0.after(60), 100).unwrap().len(), usize::from(round) + 1);
        assert!(matches!(insert(&set, key(n + 2, 2)), Ok(Insertion::Conflict(_))));
        assert_eq!(set.settle(&key(n + 2, 1), THIEF, T0, &settlement(1)).unwrap(), settlement(4));
    }
}

/// A crash neither reopens nor revives a partition.
pub fn a_partition_keeps_its_phase_over_a_crash<B: Backend>(backend: &B) {
    let set = created(backend);
    insert(&set, key(1, 1)).unwrap();
    set.settle(&key(1, 1), OWNER, T0, &settlement(4)).unwrap();
    set.close(EPOCH[0]).unwrap();
    let Some(set) = backend.crash(set) else { return };
    assert!(matches!(insert(&set, key(2, 1)), Err(StoreError::PartitionClosed(_))));
    set.retire(EPOCH[0]).unwrap();
    let Some(set) = backend.crash(set) else { return };
    assert_retired(&set);
}

/// Erasure is for good.
pub fn erased_evidence_stays_erased_over_a_crash<B: Backend>(backend: &B) {
    let set = created(backend);
    insert(&set, key(1, 1)).unwrap();
    set.settle(&key(1, 1), OWNER, T0, &settlement(4)).unwrap();
    insert(&set, key(2, 1)).unwrap();
    let Some(set) = backend.crash(set) else { return };
    set.settle(&key(2, 1), OWNER, T0.after(9), &settlement(4)).unwrap();
    assert_eq!(set.erase_evidence(EPOCH[0], T0.after(YEAR)).unwrap(), 2);
    let Some(set) = backend.crash(set) else { return };
    for nullifier in [1, 2] {
        let record = set.find(EPOCH[0], &key(nullifier, 1).nullifier).unwrap().unwrap();
        assert_eq!((record.evidence, record.state), (None, RecordState::Settled(settlement(4))));
    }
    assert_eq!(set.erased_totals(EPOCH[0]).unwrap().settled, 2);
    insert(&set, key(3, 1)).unwrap();
    assert!(set.find(EPOCH[0], &key(3, 1).nullifier).unwrap().unwrap().evidence.is_some());
}
