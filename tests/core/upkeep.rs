//! What is done by the clock: at its time and not before, whatever fails meanwhile (protocol, section 5, "Crash",
//! "Retirement"). The records are made up: the holder of the set has verified them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use halometer::circuits::note::{ContextHash, Nullifier, ValueCommitment};
use halometer::issuer::{DevelopmentPayments, Issuer, SettleError};
use halometer::protocol::*;
use halometer::store::*;
use halometer::upkeep::*;

use crate::world::*;

/// When the epochs are over.
const OVER: [Timestamp; 2] = [T0.after(2 * DAY - HOUR), T0.after(3 * DAY - HOUR)];
const GRACE: u64 = Grid::GRACE + Grid::LAG + 600 + LEASE as u64 + 1;
const DEAD: OwnerId = OwnerId::from_bytes(*b"a dead process 1");
const SESSION: u8 = 1;
const TRANSFER: u8 = 2;

fn issuer_of(parts: DirectoryParts) -> Issuer {
    let (mints, payments) = (Arc::new(MemoryMintBook::new()), Arc::new(DevelopmentPayments::new()));
    Issuer::new(&root_key(), Directory::new(parts).unwrap(), epoch_keys(), mints, payments).unwrap()
}

fn issuer() -> Issuer {
    issuer_of(directory_parts())
}

fn upkeep_of(owner: u8, records_per_partition: usize) -> Upkeep {
    let owner = OwnerId::from_bytes([owner; 16]);
    let (lease_seconds, warn_seconds) = (LEASE, HOUR as u32);
    Upkeep::new(
        UpkeepParts::new(owner, lease_seconds)
            .with_extra_grace_seconds(0)
            .with_records_per_partition(records_per_partition)
            .with_warn_seconds(warn_seconds),
    )
}

/// Upkeep at times that surely have passed.
trait Sure {
    fn tick_at(&self, set: &dyn SpentSet, issuer: &Issuer, now: Timestamp) -> Result<UpkeepReport, UpkeepError>;
}

impl Sure for Upkeep {
    fn tick_at(&self, set: &dyn SpentSet, issuer: &Issuer, now: Timestamp) -> Result<UpkeepReport, UpkeepError> {
        set.beat(Look::Confirmed(now))?;
        self.tick(set, issuer, now)
    }
}

fn upkeep() -> Upkeep {
    upkeep_of(7, 100)
}

fn nullifier(n: u8) -> Nullifier {
    Nullifier::from_bytes(&[n; 32]).unwrap()
}

/// A set with both partitions.
fn set() -> MemorySpentSet {
    let set = MemorySpentSet::new();
    EPOCH.iter().for_each(|epoch| set.create(*epoch).unwrap());
    set
}

/// Leaves a spend open, metered at something, until its lease runs out.
fn leave(set: &dyn SpentSet, n: u8, purpose: u8, (charge, metered): (u64, u64), lease: Timestamp) {
    let key = RecordKey { epoch: EPOCH[0], nullifier: nullifier(n), tag: SpendTag::from_bytes([n; 32]) };
    let evidence = RecordEvidence {
        context: ContextHash::from_bytes(&[n; 32]).unwrap(),
        charge: micro(charge),
        change: ValueCommitment::from_bytes(&[n; 32]).unwrap(),
        spend: vec![VERSION, purpose],
    };
    let state = RecordState::Open { lease: Lease { owner: DEAD, until: lease }, metered: micro(metered) };
    let record = Record { key, memo: Memo::from_bytes([0; 64]), evidence: Some(evidence), state };
    assert_eq!(set.insert(record, T0).unwrap(), Insertion::Fresh);
}

fn refund(set: &dyn SpentSet, n: u8) -> Option<u64> {
    match set.find(EPOCH[0], &nullifier(n)).unwrap().unwrap().state {
        RecordState::Settled(settlement) => Some(settlement.refund.micro()),
        _ => None,
    }
}

/// All that the set holds.
fn contents(set: &dyn SpentSet) -> (Vec<(EpochNumber, PartitionPhase)>, Vec<Record>, Vec<Totals>) {
    let partitions = set.partitions().unwrap();
    let live = || partitions.iter().filter(|(_, phase)| *phase != PartitionPhase::Retired);
    let records = live().flat_map(|(epoch, _)| set.scan(*epoch, None, 100).unwrap()).collect();
    let totals = partitions.iter().map(|(epoch, _)| set.totals(*epoch).unwrap()).collect();
    (partitions, records, totals)
}

fn phases(set: &dyn SpentSet) -> [PartitionPhase; 2] {
    let all: BTreeMap<_, _> = set.partitions().unwrap().into_iter().collect();
    EPOCH.map(|epoch| all[&epoch])
}

#[test]
fn a_lapsed_spend_is_settled_at_what_was_metered_and_not_before() {
    let (issuer, set) = (issuer(), set());
    leave(&set, 1, SESSION, (10, 4), T0.after(50));
    leave(&set, 2, SESSION, (10, 0), T0.after(50));
    leave(&set, 3, SESSION, (10, 10), T0.after(51));
    for now in [T0, T0.after(49), Timestamp::from_seconds(0)] {
        assert_eq!(upkeep().tick_at(&set, &issuer, now).unwrap().settled, 0);
    }
    let report = upkeep().tick_at(&set, &issuer, T0.after(50)).unwrap();
    assert_eq!((report.settled, report.more, report.failures.len()), (2, false, 0));
    assert_eq!([1, 2, 3].map(|n| refund(&set, n)), [Some(6), Some(10), None]);
    assert_eq!(upkeep().tick_at(&set, &issuer, T0.after(51)).unwrap().settled, 1);
    assert_eq!(refund(&set, 3), Some(0));
    let totals = set.totals(EPOCH[0]).unwrap();
    assert_eq!((totals.open, totals.cost, totals.refunded), (0, 14, 16));
}

#[test]
fn what_a_dead_process_left_is_settled_at_once() {
    let (issuer, set) = (issuer(), set());
    for n in 1..=40 {
        leave(&set, n, SESSION, (10, 4), T0.after(u64::from(LEASE)));
    }
    // A gateway elsewhere lives, and its records are its own.
    let lives = OwnerId::from_bytes(*b"a remote gateway");
    let taken = set.find(EPOCH[0], &nullifier(7)).unwrap().unwrap();
    set.take_over(&taken.key, Lease { owner: lives, until: T0.after(DAY) }, Timestamp::MAX).unwrap();
    let report = upkeep().settle_left(&set, &issuer, |owner| *owner != lives, T0).unwrap();
    assert_eq!((report.settled, report.failures.len()), (39, 0));
    assert!((1..=40).all(|n| refund(&set, n) == (n != 7).then_some(6)));
    // Done again it does nothing, and where nothing issues it takes nothing over.
    assert_eq!(upkeep().settle_left(&set, &issuer, |owner| *owner != lives, T0).unwrap().settled, 0);
    let found = || set.find(EPOCH[0], &nullifier(7)).unwrap();
    let before = found();
    assert_eq!(upkeep().settle_left(&set, &issuer, |_| true, T0.after(30 * DAY)).unwrap().settled, 0);
    assert_eq!(found(), before);
    assert_eq!(upkeep().settle_left(&set, &issuer, |_| true, T0).unwrap().settled, 1);
}

#[test]
fn what_was_metered_off_the_quantum_is_settled_all_the_same() {
    let mut parts = directory_parts();
    parts.quantum = micro(5);
    let (issuer, set) = (issuer_of(parts), set());
    leave(&set, 1, SESSION, (20, 7), T0);
    leave(&set, 2, SESSION, (10, 9), T0);
    // A charge that is no multiple itself: never more than that.
    leave(&set, 3, SESSION, (8, 7), T0);
    assert_eq!(upkeep().tick_at(&set, &issuer, T0).unwrap().settled, 3);
    assert_eq!([1, 2, 3].map(|n| refund(&set, n)), [Some(10), Some(0), Some(3)]);
}

#[test]
fn half_a_transfer_that_was_being_cancelled_costs_nothing() {
    let (issuer, set) = (issuer(), set());
    // Metered by mistake, even: at its charge it would count as carried out.
    leave(&set, 1, TRANSFER, (10, 10), T0);
    leave(&set, 2, TRANSFER, (0, 0), T0);
    assert_eq!(upkeep().tick_at(&set, &issuer, T0).unwrap().settled, 2);
    assert_eq!([1, 2].map(|n| refund(&set, n)), [Some(10), Some(0)]);
    let totals = set.totals(EPOCH[0]).unwrap();
    assert_eq!((totals.moved_out, totals.moved_in, totals.cost, totals.refunded), (0, 0, 0, 10));
}

#[test]
fn one_tick_takes_a_bounded_batch_and_says_if_more_remain() {
    let (issuer, set) = (issuer(), set());
    (1..=5).for_each(|n| leave(&set, n, SESSION, (10, 1), T0));
    let ticks = [(); 4].map(|()| {
        let report = upkeep_of(7, 2).tick_at(&set, &issuer, T0).unwrap();
        (report.settled, report.more)
    });
    assert_eq!(ticks, [(2, true), (2, true), (1, false), (0, false)]);
}

#[test]
fn evidence_is_erased_after_its_window_but_never_while_open() {
    let mut parts = directory_parts();
    parts.evidence_seconds = HOUR as u32;
    let (issuer, set) = (issuer_of(parts), set());
    leave(&set, 1, SESSION, (10, 4), T0);
    leave(&set, 2, SESSION, (10, 4), T0.after(DAY));
    assert_eq!(upkeep().tick_at(&set, &issuer, T0).unwrap().settled, 1);
    let evidence = |n| set.find(EPOCH[0], &nullifier(n)).unwrap().unwrap().evidence.is_some();
    // A clock that goes back in between changes nothing.
    for now in [T0, T0.after(HOUR), T0.before(DAY), Timestamp::from_seconds(0), T0.after(HOUR)] {
        assert_eq!(upkeep().tick_at(&set, &issuer, now).unwrap().erased, 0);
    }
    assert_eq!(upkeep().tick_at(&set, &issuer, T0.after(HOUR + 1)).unwrap().erased, 1);
    assert_eq!([evidence(1), evidence(2)], [false, true]);
    assert_eq!(upkeep().tick_at(&set, &issuer, T0.after(HOUR + 1)).unwrap().erased, 0);
    // Open for a day, settled now: its window begins now.
    let report = upkeep().tick_at(&set, &issuer, T0.after(DAY)).unwrap();
    assert_eq!((report.settled, report.erased, evidence(2)), (1, 0, true));
    assert_eq!(upkeep().tick_at(&set, &issuer, T0.after(DAY + HOUR + 1)).unwrap().erased, 1);
    assert_eq!(refund(&set, 1), Some(6), "the settlement stays");
}

#[test]
fn a_partition_closes_with_its_epoch_and_retires_after_grace() {
    use PartitionPhase::{Closing, Open, Retired};
    let (issuer, set) = (issuer(), set());
    leave(&set, 1, SESSION, (10, 4), T0);
    assert_eq!(upkeep().grace_seconds(issuer.directory()), GRACE);
    let mut seen = Vec::new();
    let instants = [T0, OVER[0].before(1), OVER[0], OVER[0].after(GRACE - 1), OVER[0].after(GRACE), OVER[1]];
    for now in instants.into_iter().chain([OVER[1].after(GRACE - 1), OVER[1].after(GRACE)]) {
        let report = upkeep().tick_at(&set, &issuer, now).unwrap();
        assert!(report.failures.is_empty() && report.standing.is_empty(), "{report:?}");
        seen.push((phases(&set), report.closed, report.retired));
    }
    let [one, two] = EPOCH;
    let expected = [
        ([Open, Open], vec![], vec![]),
        ([Open, Open], vec![], vec![]),
        ([Closing, Open], vec![one], vec![]),
        ([Closing, Open], vec![], vec![]),
        ([Retired, Open], vec![], vec![one]),
        ([Retired, Closing], vec![two], vec![]),
        ([Retired, Closing], vec![], vec![]),
        ([Retired, Retired], vec![], vec![two]),
    ];
    assert_eq!(seen, expected);
    assert_eq!(set.totals(EPOCH[0]).unwrap().cost, 4, "the sums outlive the records");
}

#[test]
fn a_partition_in_which_something_is_open_is_not_retired() {
    let (issuer, set) = (issuer(), set());
    let end = OVER[0].after(GRACE + 100);
    leave(&set, 1, SESSION, (10, 4), end);
    leave(&set, 2, SESSION, (10, 4), T0);
    let ticks = [OVER[0], OVER[0].after(GRACE), end.before(1)].map(|now| upkeep().tick_at(&set, &issuer, now).unwrap());
    assert!(ticks[0].standing.is_empty(), "it is not due yet");
    // Nothing issues by then in this directory, so that not even the lapsed one would have been settled later.
    for report in &ticks[1..] {
        assert_eq!(report.standing, [(EPOCH[0], Unretired::Open(2))]);
        assert!(report.retired.is_empty() && report.warnings.contains(&Warning::NothingIssues));
    }
    // With an epoch that issues, both are settled, and it goes.
    let mut parts = directory_parts();
    parts.serial = 2;
    let issue = Window { from: OVER[0], until: OVER[0].after(DAY) };
    let mut keys = epoch_keys();
    let (number, spend) = (EpochNumber::new(3), Window { until: issue.until.after(DAY), ..issue });
    parts.epochs.push(Epoch { number, key: keys.generate(number, &mut rng(3)), issue, spend });
    let (mints, payments) = (Arc::new(MemoryMintBook::new()), Arc::new(DevelopmentPayments::new()));
    let issuer = Issuer::new(&root_key(), Directory::new(parts).unwrap(), keys, mints, payments).unwrap();
    let report = upkeep().tick_at(&set, &issuer, end.before(1)).unwrap();
    assert_eq!((report.settled, report.standing), (1, vec![(EPOCH[0], Unretired::Open(1))]));
    let report = upkeep().tick_at(&set, &issuer, end).unwrap();
    assert_eq!((report.settled, report.retired), (1, vec![EPOCH[0]]));
}

#[test]
fn clock_jumps_neither_retire_at_once_nor_undo_anything() {
    use PartitionPhase::{Closing, Open};
    let (issuer, set) = (issuer(), set());
    let far = OVER[0].after(GRACE);
    let report = upkeep().tick_at(&set, &issuer, far).unwrap();
    assert_eq!((report.closed, report.retired), (vec![EPOCH[0]], vec![]));
    assert_eq!(report.standing, [(EPOCH[0], Unretired::JustClosed)]);
    for now in [T0, Timestamp::from_seconds(0), OVER[0].before(1)] {
        let report = upkeep().tick_at(&set, &issuer, now).unwrap();
        assert_eq!(phases(&set), [Closing, Open]);
        assert!(report.warnings.contains(&Warning::PartitionClosed(EPOCH[0])));
        assert!(report.closed.is_empty() && report.retired.is_empty());
    }
    assert_eq!(upkeep().tick_at(&set, &issuer, far).unwrap().retired, [EPOCH[0]]);
    assert!(upkeep().tick_at(&set, &issuer, T0).unwrap().warnings.contains(&Warning::PartitionClosed(EPOCH[0])));
    // The last instant overflows nothing.
    upkeep().tick_at(&set, &issuer, Timestamp::MAX).unwrap();
}

#[test]
fn doing_it_again_changes_nothing() {
    let (issuer, set) = (issuer(), set());
    leave(&set, 1, SESSION, (10, 4), T0);
    for now in [T0, OVER[0], OVER[0].after(GRACE)] {
        upkeep().tick_at(&set, &issuer, now).unwrap();
        let before = contents(&set);
        let report = upkeep_of(8, 100).tick_at(&set, &issuer, now).unwrap();
        assert_eq!(contents(&set), before);
        assert_eq!((report.settled, report.erased), (0, 0));
        assert!(report.closed.is_empty() && report.retired.is_empty());
    }
}

#[test]
fn processes_that_tick_at_once_settle_each_record_once() {
    let (issuer, set) = (issuer(), set());
    (1..=40).for_each(|n| leave(&set, n, SESSION, (10, 1), T0));
    let settled: u64 = std::thread::scope(|scope| {
        let tick = |owner| upkeep_of(owner, 100).tick_at(&set, &issuer, T0).unwrap();
        let threads: Vec<_> = (1..=4).map(|owner| scope.spawn(move || tick(owner))).collect();
        let reports = threads.into_iter().map(|thread| thread.join().unwrap());
        reports.inspect(|report| assert!(report.failures.is_empty(), "{report:?}")).map(|report| report.settled).sum()
    });
    assert_eq!(settled, 40);
    let totals = set.totals(EPOCH[0]).unwrap();
    assert_eq!((totals.open, totals.settled, totals.cost), (0, 40, 40));
}

#[test]
fn nothing_is_taken_over_while_nothing_issues() {
    let (issuer, set) = (issuer(), set());
    leave(&set, 1, SESSION, (10, 4), T0);
    let before = contents(&set).1;
    let report = upkeep().tick_at(&set, &issuer, T0.before(DAY)).unwrap();
    assert_eq!(report.warnings, [Warning::NothingIssues]);
    upkeep().tick_at(&set, &issuer, OVER[0].after(1)).unwrap();
    assert_eq!(contents(&set).1, before);
}

#[test]
fn an_epoch_removed_too_early_is_reported_and_left_alone() {
    let (set, one) = (set(), EPOCH[0]);
    let mut parts = directory_parts();
    parts.epochs.remove(0);
    let issuer = issuer_of(parts);
    leave(&set, 1, SESSION, (10, 4), T0.after(DAY));
    let report = upkeep().tick_at(&set, &issuer, T0.after(DAY)).unwrap();
    assert_eq!(report.standing, [(one, Unretired::Unnamed)]);
    assert_eq!(report.settled, 1, "what is open is settled all the same");
    assert_eq!(phases(&set), [PartitionPhase::Open; 2]);
}

#[test]
fn missing_partitions_are_told_and_never_created() {
    let (issuer, set) = (issuer(), MemorySpentSet::new());
    set.create(EPOCH[1]).unwrap();
    for now in [T0, OVER[0].before(1)] {
        let report = upkeep().tick_at(&set, &issuer, now).unwrap();
        assert!(report.warnings.contains(&Warning::PartitionMissing(EPOCH[0])));
        assert!(!report.warnings.contains(&Warning::PartitionMissing(EPOCH[1])));
    }
    assert!(!upkeep().tick_at(&set, &issuer, OVER[0]).unwrap().warnings.contains(&Warning::PartitionMissing(EPOCH[0])));
    assert_eq!(set.partitions().unwrap(), [(EPOCH[1], PartitionPhase::Open)]);
}

#[test]
fn an_epoch_without_a_successor_is_told_before_it_ends() {
    let (issuer, set) = (issuer(), set());
    // The first has one.
    let ends = OVER[0];
    for now in [T0, T0.after(DAY - HOUR - 1), ends.before(HOUR + 1)] {
        assert_eq!(upkeep().tick_at(&set, &issuer, now).unwrap().warnings, []);
    }
    let told = Warning::NoSuccessor { epoch: EPOCH[1], ends };
    for now in [ends.before(HOUR), ends.before(1)] {
        assert_eq!(upkeep().tick_at(&set, &issuer, now).unwrap().warnings, [told]);
    }
    assert_eq!(upkeep().tick_at(&set, &issuer, ends).unwrap().warnings, [Warning::NothingIssues]);
}

#[test]
fn a_partition_is_created_only_for_an_unpublished_epoch() {
    let (issuer, set) = (issuer(), MemorySpentSet::new());
    let directory = issuer.directory();
    // Published: whether its data is lost or was never there, nobody knows.
    for epoch in EPOCH {
        assert!(matches!(begin_epoch(&set, directory, epoch), Err(BeginEpochError::Published(_))));
    }
    let mut parts = directory_parts();
    parts.epochs.remove(0);
    let later = Directory::new(parts).unwrap();
    assert!(matches!(begin_epoch(&set, &later, EPOCH[0]), Err(BeginEpochError::Past(_))));
    assert!(set.partitions().unwrap().is_empty());
    let next = EpochNumber::new(3);
    begin_epoch(&set, directory, next).unwrap();
    // Again, after a crash before it was published.
    begin_epoch(&set, directory, next).unwrap();
    assert_eq!(set.partitions().unwrap(), [(next, PartitionPhase::Open)]);
    // Upkeep leaves it alone until it is published.
    let report = upkeep().tick_at(&set, &issuer, OVER[1].after(GRACE)).unwrap();
    assert!(report.closed.is_empty() && report.standing.is_empty());
    set.close(next).unwrap();
    assert!(matches!(begin_epoch(&set, directory, next), Err(BeginEpochError::Closed(_))));
    set.retire(next).unwrap();
    assert!(matches!(begin_epoch(&set, directory, next), Err(BeginEpochError::Closed(_))));
    let broken = Faulty::new(MemorySpentSet::new(), |_, _| Fault::Before);
    assert!(matches!(begin_epoch(&broken, directory, next), Err(BeginEpochError::Store(_))));
}

/// What is wrong with a call.
#[derive(Clone, Copy)]
enum Fault {
    No,
    /// It fails and has done nothing.
    Before,
    /// It fails and has done what was asked.
    After,
}

/// A set whose calls fail, by number and record.
struct Faulty<F> {
    set: MemorySpentSet,
    calls: AtomicUsize,
    fault: F,
}

impl<F: Fn(usize, Option<&RecordKey>) -> Fault + Send + Sync> Faulty<F> {
    fn new(set: MemorySpentSet, fault: F) -> Self {
        Self { set, calls: AtomicUsize::new(0), fault }
    }

    fn call<T>(
        &self,
        key: Option<&RecordKey>,
        call: impl FnOnce(&MemorySpentSet) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let failed = || Err(StoreError::Failed("as it was told".into()));
        match (self.fault)(self.calls.fetch_add(1, Ordering::Relaxed), key) {
            Fault::No => call(&self.set),
            Fault::Before => failed(),
            Fault::After => call(&self.set).and_then(|_| failed()),
        }
    }
}

impl<F: Fn(usize, Option<&RecordKey>) -> Fault + Send + Sync> SpentSet for Faulty<F> {
    fn create(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.call(None, |set| set.create(epoch))
    }
    fn close(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.call(None, |set| set.close(epoch))
    }
    fn retire(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.call(None, |set| set.retire(epoch))
    }
    fn beat(&self, look: Look) -> Result<Beat, StoreError> {
        self.set.beat(look)
    }
    fn pulse(&self) -> Result<Option<Pulse>, StoreError> {
        self.set.pulse()
    }
    fn partitions(&self) -> Result<Vec<(EpochNumber, PartitionPhase)>, StoreError> {
        self.call(None, MemorySpentSet::partitions)
    }
    fn find(&self, epoch: EpochNumber, nullifier: &Nullifier) -> Result<Option<Record>, StoreError> {
        self.call(None, |set| set.find(epoch, nullifier))
    }
    fn insert_all(&self, records: Vec<Record>, now: Timestamp) -> Vec<Result<Insertion, StoreError>> {
        self.set.insert_all(records, now)
    }
    fn insert_pair(&self, pair: [Record; 2], now: Timestamp) -> Result<PairInsertion, StoreError> {
        self.call(None, |set| set.insert_pair(pair, now))
    }
    fn meter(&self, key: &RecordKey, owner: OwnerId, metered: Credits, now: Timestamp) -> Result<(), StoreError> {
        self.call(Some(key), |set| set.meter(key, owner, metered, now))
    }
    fn take_over(&self, key: &RecordKey, lease: Lease, now: Timestamp) -> Result<Record, StoreError> {
        self.call(Some(key), |set| set.take_over(key, lease, now))
    }
    fn settle(
        &self,
        key: &RecordKey,
        owner: OwnerId,
        now: Timestamp,
        settlement: &Settlement,
    ) -> Result<Settlement, StoreError> {
        self.call(Some(key), |set| set.settle(key, owner, now, settlement))
    }
    fn erase_evidence(&self, epoch: EpochNumber, settled_before: Timestamp) -> Result<u64, StoreError> {
        self.call(None, |set| set.erase_evidence(epoch, settled_before))
    }
    fn lapsed(&self, epoch: EpochNumber, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, StoreError> {
        self.call(None, |set| set.lapsed(epoch, now, limit))
    }
    fn bucket(
        &self,
        epoch: EpochNumber,
        prefix: Prefix,
        after: Option<&Nullifier>,
        limit: usize,
    ) -> Result<Vec<Nullifier>, StoreError> {
        self.call(None, |set| set.bucket(epoch, prefix, after, limit))
    }
    fn scan(&self, epoch: EpochNumber, after: Option<&Nullifier>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.call(None, |set| set.scan(epoch, after, limit))
    }
    fn totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.call(None, |set| set.totals(epoch))
    }
    fn erased_totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.call(None, |set| set.erased_totals(epoch))
    }
}

#[test]
fn one_record_that_cannot_be_settled_stops_no_other() {
    let issuer = issuer();
    let bad = nullifier(1);
    let set = Faulty::new(set(), |_, key| match key {
        Some(key) if key.nullifier == bad => Fault::Before,
        _ => Fault::No,
    });
    (1..=3).for_each(|n| leave(&set, n, SESSION, (10, 4), T0));
    let report = upkeep().tick_at(&set, &issuer, T0).unwrap();
    assert_eq!((report.settled, report.failures.len()), (2, 1));
    let failure = &report.failures[0];
    assert_eq!((failure.epoch, failure.step), (EPOCH[0], UpkeepStep::Settle));
    assert!(matches!(failure.error, SettleError::Store(StoreError::Failed(_))));
    assert_eq!([1, 2, 3].map(|n| refund(&set.set, n)), [None, Some(6), Some(6)]);
}

/// The instants at which all kinds of steps are due: a lapse, an erasure, a close, a retirement.
fn busy() -> (Issuer, Vec<Timestamp>) {
    let mut parts = directory_parts();
    parts.evidence_seconds = HOUR as u32;
    // Spendable for so short a time that the next epoch still issues when it is retired.
    parts.epochs[0].spend.until = T0.after(DAY);
    let grace = T0.after(DAY + GRACE);
    (issuer_of(parts), vec![T0, T0.after(2 * HOUR), T0.after(DAY), grace])
}

fn busy_set() -> MemorySpentSet {
    let set = set();
    leave(&set, 1, SESSION, (10, 4), T0);
    leave(&set, 2, TRANSFER, (10, 0), T0);
    leave(&set, 3, SESSION, (10, 2), T0.after(DAY));
    set
}

/// A run in which call number `call` of the tick at `instants[at]` goes wrong, and if it `dies`, all calls after it; then the
/// ticks that follow, by another process. What the set holds at the end, and whether there was such a call.
fn disturbed(at: usize, call: usize, fault: Fault, dies: bool) -> (MemorySpentSet, bool) {
    let (issuer, instants) = busy();
    let set = busy_set();
    instants[..at].iter().for_each(|now| drop(upkeep().tick_at(&set, &issuer, *now).unwrap()));
    let faulty = Faulty::new(set, |number, _| match number.cmp(&call) {
        std::cmp::Ordering::Equal => fault,
        std::cmp::Ordering::Greater if dies => Fault::Before,
        _ => Fault::No,
    });
    let outcome = upkeep().tick_at(&faulty, &issuer, instants[at]);
    let reached = faulty.calls.load(Ordering::Relaxed) > call;
    let failed = outcome.map_or(1, |report| report.failures.len());
    assert_eq!(failed > 0, reached, "a failure is told");
    let set = faulty.set;
    // What the dead one had taken over is the next one's after the lease; the rest comes in its time.
    let mut after = vec![instants[at], instants[at].after(u64::from(LEASE))];
    after.extend(&instants[at + 1..]);
    after.extend([instants[3].after(u64::from(LEASE)), instants[3].after(u64::from(LEASE) + 60)]);
    after.iter().for_each(|now| drop(upkeep_of(9, 100).tick_at(&set, &issuer, *now).unwrap()));
    (set, reached)
}

#[test]
fn crashes_and_set_failures_at_any_step_are_made_good() {
    let (issuer, instants) = busy();
    let undisturbed = busy_set();
    for now in &instants {
        assert!(upkeep().tick_at(&undisturbed, &issuer, *now).unwrap().failures.is_empty());
    }
    let expected = contents(&undisturbed);
    assert_eq!(expected.0[0], (EPOCH[0], PartitionPhase::Retired));
    let totals = expected.2[0];
    assert_eq!((totals.open, totals.settled, totals.cost, totals.refunded, totals.moved_out), (0, 3, 6, 24, 0));
    for at in 0..instants.len() {
        for fault in [Fault::Before, Fault::After] {
            for dies in [true, false] {
                let mut call = 0;
                loop {
                    let (set, reached) = disturbed(at, call, fault, dies);
                    assert_eq!(contents(&set), expected, "at {at}, call {call}");
                    if !reached {
                        break;
                    }
                    call += 1;
                }
                assert!(call >= 5, "the tick makes several calls: {call}");
            }
        }
    }
}

/// The clock is ahead by 40 days for a while, and then right again.
#[test]
fn a_clock_that_is_ahead_for_a_while_destroys_nothing() {
    let (issuer, set) = (issuer(), set());
    let kept = |set: &MemorySpentSet| contents(set);
    set.beat(Look::Confirmed(T0)).unwrap();
    leave(&set, 1, SESSION, (10, 4), T0.after(50));
    upkeep().round(&set, &issuer, T0.after(60), 60).unwrap();
    let before = kept(&set);
    // A jump is refused, however often it is looked; and a tick by hand destroys nothing either.
    for seconds in 0..100 {
        let ahead = T0.after(40 * DAY + seconds);
        let error = upkeep().round(&set, &issuer, ahead, 1).unwrap_err();
        assert!(matches!(error, UpkeepError::Clock(_)) && error.to_string().contains("days ahead"), "{error}");
        let report = upkeep().tick(&set, &issuer, ahead).unwrap();
        assert_eq!((report.erased, report.closed.len(), report.retired.len()), (0, 0, 0));
    }
    // So does one that an operator accepted by mistake: time must pass first.
    set.beat(Look::Accepted(T0.after(40 * DAY))).unwrap();
    for seconds in 0..100 {
        let report = upkeep().round(&set, &issuer, T0.after(40 * DAY + seconds), 1).unwrap();
        assert_eq!((report.erased, report.closed.len(), report.retired.len()), (0, 0, 0));
    }
    assert!(kept(&set) == before, "something is gone");
    // The clock is right again: all goes on.
    set.beat(Look::Accepted(T0.after(600))).unwrap();
    upkeep().round(&set, &issuer, T0.after(660), 60).unwrap();
    assert!(kept(&set) == before);
}
