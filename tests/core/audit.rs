//! An audit of a world in which everything has happened, and of the same world with one thing wrong.

use std::collections::BTreeMap;

use halometer::circuits::note::{AccountId, Nullifier, ValueCommitment};
use halometer::circuits::schnorr::SigningKey;
use halometer::issuer::{Audit, AuditReport, BooksError, Finding, PaymentSource};
use halometer::protocol::*;
use halometer::store::*;
use halometer::wallet::LaneId;

use crate::world::*;

/// Two payments, calls, a cancel, a transfer within an epoch and one across two, a cancelled half, a rollover, an open call,
/// and evidence of the first day erased.
fn history() -> World {
    let world = World::new();
    let [mut first, mut second] = [world.funded(1), world.funded(2)];
    for (lane, class, cost) in [(LANE0, 10, 3), (LANE1, 20, 20), (LANE0, 5, 0)] {
        let paid = pay(&mut first, lane, class, T0);
        let settled = world.settle(&world.admit(&paid), cost);
        first.accept(&paid.key, settled.settlement(), FLIP).unwrap();
    }
    let sent = send(&mut first, [LANE0, LANE1], 10, T0);
    world.moved(&mut first, &sent, T0);
    assert_eq!(world.set.erase_evidence(EPOCH[0], T0.after(1)).unwrap(), 5);

    let unsent = pay(&mut first, LANE0, 10, FLIP);
    let settled = world.cancel_unseen(&first, &unsent.key, FLIP);
    first.accept(&unsent.key, settled.settlement(), FLIP).unwrap();
    let across = send(&mut first, [LANE1, LANE0], 20, FLIP);
    assert_eq!(across.keys.map(|key| key.epoch), [EPOCH[0], EPOCH[1]]);
    world.moved(&mut first, &across, FLIP);
    let rolled = roll(&mut second, LANE1, FLIP);
    let spend = admitted(world.gateway.rollover(&rolled.opening, &errand(), FLIP));
    let settled = world.issuer.settle(&*world.set, &spend, Credits::ZERO, FLIP).unwrap();
    second.accept(&rolled.key, settled.settlement(), FLIP).unwrap();
    let parted = send(&mut second, [LANE0, LaneId { lane: 2, ..LANE0 }], 50, FLIP);
    let settled = world.cancel_unseen(&second, &parted.keys[0], FLIP);
    second.accept(&parted.keys[0], settled.settlement(), FLIP).unwrap();
    let call = pay(&mut first, LANE0, 20, FLIP);
    let spend = admitted(world.open(&call, FLIP));
    let settled = world.issuer.settle(&*world.set, &spend, micro(12), FLIP).unwrap();
    first.accept(&call.key, settled.settlement(), FLIP).unwrap();
    admitted(world.open(&pay(&mut second, LANE0, 5, FLIP), FLIP));
    assert_eq!(first.balance().total() + second.balance().total(), 200 - 23 - 12);
    world
}

fn audit(world: &World, set: &dyn SpentSet, proofs: bool) -> Result<AuditReport, BooksError> {
    let payments = Some(&*world.payments as &dyn PaymentSource);
    Audit { directory: world.issuer.directory(), set, mints: &*world.mints, payments, proofs }.run()
}

#[test]
fn a_history_of_everything_is_clean_and_its_books_balance() {
    let world = history();
    let report = audit(&world, &*world.set, true).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    // Of 12 records 5 are erased.
    assert_eq!((report.records, report.with_evidence, report.proofs, report.mints), (12, 7, 7, 2));
    assert_eq!(report.unknown_epoch, 0);
    let books = &report.books;
    assert_eq!(*books, world.issuer.books(&*world.set).unwrap());
    assert_eq!((books.minted, books.charged, books.held, books.outstanding), (200, 35, 5, 160));
    let [first, second] = EPOCH.map(|epoch| books.epochs[&epoch]);
    assert_eq!((first.minted, second.minted), (200, 0));
    assert_eq!((first.spends.moved_out, first.spends.moved_in, first.spends.cost), (30, 10, 23));
    assert_eq!((second.spends.moved_out, second.spends.moved_in, second.spends.cost), (0, 20, 12));
    assert_eq!((second.spends.open, second.spends.held), (1, 5));

    let world_sums = EPOCH.map(|epoch| world.set.totals(epoch).unwrap());
    // When epoch 1 is dropped its sums are all that is left, and they still balance.
    world.set.close(EPOCH[0]).unwrap();
    world.set.retire(EPOCH[0]).unwrap();
    let report = audit(&world, &*world.set, false).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(EPOCH.map(|epoch| report.books.epochs[&epoch].spends), world_sums);
    assert_eq!((report.records, report.proofs, report.books.outstanding), (3, 0, 160));
}

type Change = fn(&mut Tampered);

/// What was in a set, to be tampered with.
struct Tampered {
    records: BTreeMap<EpochNumber, Vec<Record>>,
    totals: BTreeMap<EpochNumber, Totals>,
    erased: BTreeMap<EpochNumber, Totals>,
}

impl Tampered {
    fn of(set: &dyn SpentSet) -> Self {
        let all = |sums: &dyn Fn(EpochNumber) -> Totals| EPOCH.map(|epoch| (epoch, sums(epoch))).into();
        Self {
            records: EPOCH.map(|epoch| (epoch, set.scan(epoch, None, 100).unwrap())).into(),
            totals: all(&|epoch| set.totals(epoch).unwrap()),
            erased: all(&|epoch| set.erased_totals(epoch).unwrap()),
        }
    }

    /// The first record that fits, with its evidence.
    fn record(&mut self, epoch: usize, fits: impl Fn(&Spend, &RecordState) -> bool) -> &mut Record {
        let fits = |record: &&mut Record| {
            let evidence = record.evidence.as_ref();
            evidence.is_some_and(|evidence| fits(&Spend::from_bytes(&evidence.spend).unwrap(), &record.state))
        };
        self.records.get_mut(&EPOCH[epoch]).unwrap().iter_mut().find(fits).unwrap()
    }

    /// The settled call of epoch 2: 12 of 20.
    fn call(&mut self) -> &mut Record {
        self.record(1, |spend, state| {
            spend.purpose == Purpose::Session && matches!(state, RecordState::Settled(_)) && spend.charge == micro(20)
        })
    }

    /// The giving half of the transfer across the epochs.
    fn given(&mut self) -> &mut Record {
        self.record(0, |spend, state| {
            matches!(spend.purpose, Purpose::Transfer { .. })
                && matches!(state, RecordState::Settled(settlement) if settlement.refund.is_zero())
        })
    }
}

fn settlement(record: &mut Record) -> &mut Settlement {
    match &mut record.state {
        RecordState::Settled(settlement) => settlement,
        _ => panic!("it is open"),
    }
}

fn totals(tampered: &mut Tampered, epoch: usize) -> &mut Totals {
    tampered.totals.get_mut(&EPOCH[epoch]).unwrap()
}

fn sign(record: &mut Record, refund: u64) {
    let change = record.evidence.as_ref().unwrap().change;
    let key = SigningKey::generate(&mut rng(2));
    *settlement(record) =
        Settlement { epoch: EPOCH[1], refund: micro(refund), signature: key.sign(&change.leaf(refund)) };
}

/// A spend byte and what goes with it, so that only the byte itself is wrong.
fn change_spend(record: &mut Record, change: impl FnOnce(&mut Spend)) {
    let evidence = record.evidence.as_mut().unwrap();
    let mut spend = Spend::from_bytes(&evidence.spend).unwrap();
    change(&mut spend);
    evidence.spend = spend.to_bytes();
}

#[test]
fn one_thing_that_is_wrong_with_the_spends_is_found_and_named() {
    let world = history();
    let record =
        |what| move |finding: &Finding| matches!(finding, Finding::Record { what: found, .. } if *found == what);
    let total =
        |what| move |finding: &Finding| matches!(finding, Finding::Totals { what: found, .. } if *found == what);
    type Named = Box<dyn Fn(&Finding) -> bool>;
    let record = |what: &'static str| Box::new(record(what)) as Named;
    let total = |what: &'static str| Box::new(total(what)) as Named;
    let numbers = "the numbers of open and settled records";
    let unsigned = "its settlement is not signed by the key of its epoch";
    let cases: Vec<(&str, Change, Named)> = vec![
        ("a refund", |set| settlement(set.call()).refund = micro(9), record(unsigned)),
        ("a signed refund, which only the sums betray", |set| sign(set.call(), 9), total("the costs")),
        (
            "a signed refund above the charge",
            |set| sign(set.call(), 21),
            record("it is neither open with its evidence nor settled within its charge"),
        ),
        (
            "a signature",
            |set| {
                let other = settlement(set.given()).signature.clone();
                settlement(set.call()).signature = other;
            },
            record(unsigned),
        ),
        ("the epoch of a signature", |set| settlement(set.call()).epoch = EPOCH[0], record(unsigned)),
        (
            "a charge",
            |set| set.call().evidence.as_mut().unwrap().charge = micro(30),
            record("its spend is another one"),
        ),
        (
            "a change commitment",
            |set| set.call().evidence.as_mut().unwrap().change = ValueCommitment::from_bytes(&[1; 32]).unwrap(),
            record("its spend is another one"),
        ),
        ("a memo", |set| set.call().memo = Memo::from_bytes([0; 64]), record("its spend is another one")),
        ("a tag", |set| set.call().key.tag = SpendTag::from_bytes([0; 32]), record("its spend is another one")),
        (
            "a nullifier",
            |set| set.call().key.nullifier = Nullifier::from_bytes(&[1; 32]).unwrap(),
            record("its spend is another one"),
        ),
        (
            "a byte of a spend's head",
            |set| change_spend(set.call(), |spend| spend.not_after = spend.not_after.after(1)),
            record("its context is another one"),
        ),
        (
            "the gateway of a spend",
            |set| change_spend(set.call(), |spend| spend.gateway = OTHER_GATEWAY),
            record("its context is another one"),
        ),
        (
            "a byte of a proof",
            |set| *set.call().evidence.as_mut().unwrap().spend.last_mut().unwrap() ^= 1,
            record("its proof does not hold"),
        ),
        (
            "a share",
            |set| {
                change_spend(set.call(), |spend| {
                    spend.share = halometer::circuits::note::ShareY::from_bytes(&[1; 32]).unwrap();
                });
            },
            record("its proof does not hold"),
        ),
        (
            "a spend cut off",
            |set| set.call().evidence.as_mut().unwrap().spend.truncate(100),
            record("its spend cannot be read"),
        ),
        (
            "an open record without evidence",
            |set| {
                let open = |_: &Spend, state: &RecordState| matches!(state, RecordState::Open { .. });
                set.record(1, open).evidence = None;
            },
            record("it is neither open with its evidence nor settled within its charge"),
        ),
        ("a missing record", |set| drop(set.records.get_mut(&EPOCH[1]).unwrap().pop()), total(numbers)),
        (
            "a record twice",
            |set| {
                let records = set.records.get_mut(&EPOCH[1]).unwrap();
                records.push(records[0].clone());
            },
            total(numbers),
        ),
        (
            "a missing record without evidence",
            |set| set.records.get_mut(&EPOCH[0]).unwrap().retain(|record| record.evidence.is_some()),
            total("the number of erased records"),
        ),
        (
            "a refund whose evidence is erased",
            |set| {
                let records = set.records.get_mut(&EPOCH[0]).unwrap();
                settlement(records.iter_mut().find(|record| record.evidence.is_none()).unwrap()).refund = micro(99);
            },
            total("the refunds"),
        ),
        (
            "evidence that was erased and is counted as kept",
            |set| set.call().evidence = None,
            total("the number of erased records"),
        ),
        (
            "a record in the partition of another epoch, where its note is unspent",
            |set| {
                let records = set.records.get_mut(&EPOCH[1]).unwrap();
                let at = records.iter().position(|record| record.evidence.is_some()).unwrap();
                let moved = records.remove(at);
                set.records.get_mut(&EPOCH[0]).unwrap().push(moved);
            },
            record("it is of another epoch"),
        ),
        (
            "half a transfer that kept a part",
            |set| sign(set.given(), 5),
            record("it is half a transfer, and neither carried out nor cancelled"),
        ),
        (
            "half a transfer that was cancelled after the other was carried out",
            |set| {
                sign(set.given(), 20);
                let totals = totals(set, 0);
                totals.moved_out -= 20;
                totals.refunded += 20;
            },
            Box::new(|finding| matches!(finding, Finding::Transfers { given: 10, taken: 30 })),
        ),
        (
            "half a transfer that is missing in the sums as well",
            |set| {
                let given = set.given().key;
                set.records.get_mut(&EPOCH[0]).unwrap().retain(|record| record.key != given);
                let totals = totals(set, 0);
                totals.moved_out -= 20;
                totals.settled -= 1;
            },
            Box::new(|finding| matches!(finding, Finding::Transfers { given: 10, taken: 30 })),
        ),
        ("the open ones off by one", |set| totals(set, 1).open += 1, total(numbers)),
        ("the settled ones off by one", |set| totals(set, 1).settled -= 1, total(numbers)),
        ("what is held off by one", |set| totals(set, 1).held += 1, total("the held charges")),
        ("the costs off by one", |set| totals(set, 1).cost -= 1, total("the costs")),
        ("the refunds off by one", |set| totals(set, 0).refunded += 1, total("the refunds")),
        ("what was given off by one", |set| totals(set, 0).moved_out += 1, total("the transfers")),
        ("what was taken off by one", |set| totals(set, 1).moved_in -= 1, total("the transfers")),
        ("the erased costs off by one", |set| set.erased.get_mut(&EPOCH[0]).unwrap().cost += 1, total("the costs")),
    ];
    let untouched = audit(&world, &Tampered::of(&*world.set), false).unwrap();
    assert!(untouched.is_clean(), "{:?}", untouched.findings);
    for (name, change, named) in cases {
        let mut set = Tampered::of(&*world.set);
        change(&mut set);
        let report = audit(&world, &set, name.contains("proof") || name.contains("share")).unwrap();
        assert!(!report.is_clean(), "{name}");
        assert_eq!(report.wrong, report.findings.len() as u64);
        assert!(report.findings.iter().any(named), "{name}: {:?}", report.findings);
        for finding in &report.findings {
            assert!(!finding.to_string().is_empty());
        }
    }
}

#[test]
fn sums_beyond_belief_are_refused_and_panic_nowhere() {
    let world = history();
    let changes: [Change; 4] = [
        |set| totals(set, 0).cost = u128::MAX,
        |set| totals(set, 0).held = 1_000,
        |set| totals(set, 0).moved_in = u128::MAX,
        |set| totals(set, 0).moved_in = 1_000,
    ];
    for change in changes {
        let mut set = Tampered::of(&*world.set);
        change(&mut set);
        assert!(matches!(audit(&world, &set, false), Err(BooksError::Unbalanced(_))));
    }
    let mut set = Tampered::of(&*world.set);
    totals(&mut set, 0).refunded = u128::MAX - 100;
    assert!(matches!(audit(&world, &set, false), Ok(report) if !report.is_clean()));
}

/// A book of mints that says something else.
struct TamperedMints {
    mints: Vec<MintRecord>,
    totals: MintTotals,
}

#[test]
fn one_thing_that_is_wrong_with_the_mints_is_found_and_named() {
    let world = history();
    type Change = fn(&mut TamperedMints);
    let sums = "their sums are not those of the records";
    let cases: [(&str, Change, &str); 6] = [
        (
            "a payment minted twice",
            |book| {
                let twice = MintRecord { payment: PaymentId::from_bytes([9; 32]), ..book.mints[0].clone() };
                book.totals.add(&twice);
                book.mints.push(twice);
            },
            "two have one account",
        ),
        (
            "a mint without payment",
            |book| {
                book.mints[0].payment = PaymentId::from_bytes([0; 32]);
            },
            "one has no payment",
        ),
        (
            "a mint of more than was paid",
            |book| {
                book.mints[0].amount = micro(1_000);
                *book.totals.by_epoch.get_mut(&EPOCH[0]).unwrap() += 900;
            },
            "one is of another amount than its payment",
        ),
        ("a missing mint", |book| drop(book.mints.pop()), sums),
        ("the number of mints", |book| book.totals.mints += 1, sums),
        (
            "the epoch of a mint",
            |book| {
                book.totals.by_epoch = BTreeMap::from([(EPOCH[1], 200)]);
            },
            sums,
        ),
    ];
    for (name, change, what) in cases {
        let mut mints =
            TamperedMints { mints: world.mints.scan(None, 100).unwrap(), totals: world.mints.totals().unwrap() };
        change(&mut mints);
        let payments = Some(&*world.payments as &dyn PaymentSource);
        let audit =
            Audit { directory: world.issuer.directory(), set: &*world.set, mints: &mints, payments, proofs: false };
        let report = audit.run().unwrap();
        assert!(report.findings.contains(&Finding::Mints { what }), "{name}: {:?}", report.findings);
        // Without the payments at hand, only what needs none is found.
        let report = Audit { payments: None, ..audit }.run().unwrap();
        assert_eq!(report.is_clean(), what.starts_with("one "), "{name}");
    }
    // So little minted that more was spent.
    let nothing = TamperedMints { mints: Vec::new(), totals: MintTotals::default() };
    let audit =
        Audit { directory: world.issuer.directory(), set: &*world.set, mints: &nothing, payments: None, proofs: false };
    assert!(matches!(audit.run(), Err(BooksError::Unbalanced(_))));
}

impl MintBook for TamperedMints {
    fn totals(&self) -> Result<MintTotals, StoreError> {
        Ok(self.totals.clone())
    }
    fn scan(&self, after: Option<&PaymentId>, limit: usize) -> Result<Vec<MintRecord>, StoreError> {
        let mut mints = self.mints.clone();
        mints.sort_by_key(|mint| mint.payment);
        Ok(mints.into_iter().filter(|mint| after.is_none_or(|after| mint.payment > *after)).take(limit).collect())
    }
    fn record(&self, _: MintRecord) -> Result<MintOutcome, StoreError> {
        unreachable!("an audit changes nothing")
    }
    fn by_payment(&self, _: &PaymentId) -> Result<Option<MintRecord>, StoreError> {
        unreachable!()
    }
    fn by_account(&self, _: &AccountId) -> Result<Option<MintRecord>, StoreError> {
        unreachable!()
    }
}

impl SpentSet for Tampered {
    fn beat(&self, _: Look) -> Result<Beat, StoreError> {
        unreachable!()
    }
    fn pulse(&self) -> Result<Option<Pulse>, StoreError> {
        unreachable!()
    }
    fn partitions(&self) -> Result<Vec<(EpochNumber, PartitionPhase)>, StoreError> {
        Ok(EPOCH.map(|epoch| (epoch, PartitionPhase::Open)).into())
    }
    fn scan(&self, epoch: EpochNumber, after: Option<&Nullifier>, limit: usize) -> Result<Vec<Record>, StoreError> {
        // In pages of few, as a page may end anywhere.
        let records = &self.records[&epoch];
        let from = after.map_or(0, |after| {
            1 + records.iter().rposition(|record| record.key.nullifier == *after).expect("it was in the page before")
        });
        Ok(records[from..].iter().take(limit.min(3)).cloned().collect())
    }
    fn totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        Ok(self.totals[&epoch])
    }
    fn erased_totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        Ok(self.erased[&epoch])
    }
    fn find(&self, _: EpochNumber, _: &Nullifier) -> Result<Option<Record>, StoreError> {
        unreachable!("an audit reads all")
    }
    fn create(&self, _: EpochNumber) -> Result<(), StoreError> {
        unreachable!("an audit changes nothing")
    }
    fn close(&self, _: EpochNumber) -> Result<(), StoreError> {
        unreachable!()
    }
    fn retire(&self, _: EpochNumber) -> Result<(), StoreError> {
        unreachable!()
    }
    fn insert_all(&self, _: Vec<Record>, _: Timestamp) -> Vec<Result<Insertion, StoreError>> {
        unreachable!()
    }
    fn insert_pair(&self, _: [Record; 2], _: Timestamp) -> Result<PairInsertion, StoreError> {
        unreachable!()
    }
    fn meter(&self, _: &RecordKey, _: OwnerId, _: Credits, _: Timestamp) -> Result<(), StoreError> {
        unreachable!()
    }
    fn take_over(&self, _: &RecordKey, _: Lease, _: Timestamp) -> Result<Record, StoreError> {
        unreachable!()
    }
    fn settle(&self, _: &RecordKey, _: OwnerId, _: Timestamp, _: &Settlement) -> Result<Settlement, StoreError> {
        unreachable!()
    }
    fn erase_evidence(&self, _: EpochNumber, _: Timestamp) -> Result<u64, StoreError> {
        unreachable!()
    }
    fn lapsed(&self, _: EpochNumber, _: Timestamp, _: usize) -> Result<Vec<RecordKey>, StoreError> {
        unreachable!()
    }
    fn bucket(&self, _: EpochNumber, _: Prefix, _: Option<&Nullifier>, _: usize) -> Result<Vec<Nullifier>, StoreError> {
        unreachable!()
    }
}
