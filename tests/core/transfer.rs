//! Two spends in one transaction: tearing them apart, and making credit or losing it on the way (protocol, section 5,
//! "Transfer").

use std::sync::Mutex;

use halometer::circuits::note::Nullifier;
use halometer::circuits::schnorr::SigningKey;
use halometer::gateway::{AdmitError, Cancelled, Opened, Quotas, Rate};
use halometer::issuer::SettleError;
use halometer::lifecycle::{ParseError, SettledSpend, Transferred};
use halometer::protocol::*;
use halometer::store::*;
use halometer::wallet::{AcceptError, AuthoriseError, LaneStatus, NotInFlight, PlanError, Wallet};

use crate::world::*;

const LANES: [halometer::wallet::LaneId; 2] = [LANE0, LANE1];

fn settlements(halves: &[SettledSpend; 2]) -> [Settlement; 2] {
    [halves[0].settlement().clone(), halves[1].settlement().clone()]
}

fn halves(transfer: &[u8]) -> [Opening; 2] {
    Transfer::from_bytes(transfer).unwrap().halves
}

fn refused(world: &World, transfer: &[u8], now: Timestamp) -> AdmitError {
    let error = world.gateway.transfer(transfer, &errand(), now).unwrap_err();
    assert_eq!(world.records(), (0, 0));
    error
}

#[test]
fn credit_moves_between_lanes_and_none_is_lost() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let sent = send(&mut wallet, LANES, 20, T0);
    assert_eq!(sent.transfer.len(), Transfer::LENGTH);
    assert_eq!(wallet.balance().total(), 100);
    let settled = both(world.transfer(&sent.transfer, T0));
    assert_eq!(settlements(&settled).map(|half| half.refund), [micro(0), micro(20)]);
    let accepted = wallet.accept_transfer(&sent.keys, &settlements(&settled), T0).unwrap();
    assert_eq!(accepted.map(|half| (half.cost, half.refund.micro())), [(Credits::ZERO, 0), (Credits::ZERO, 20)]);
    assert_eq!(worth(&wallet), [Some(40), Some(60)]);
    let books = world.issuer.books(&*world.set).unwrap();
    assert_eq!((books.charged, books.refunded, books.held, books.outstanding), (0, 0, 0, 100));
    let sums = books.epochs[&EPOCH[0]].spends;
    assert_eq!((sums.settled, sums.moved_out, sums.moved_in), (2, 20, 20));
    // Both changes are notes like any other, and can go back.
    let back = send(&mut wallet, [LANE1, LANE0], 50, T0);
    world.moved(&mut wallet, &back, T0);
    assert_eq!(worth(&wallet), [Some(90), Some(10)]);
}

#[test]
fn sending_a_transfer_again_signs_nothing_and_moves_nothing() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let sent = send(&mut wallet, LANES, 20, T0);
    let settled = both(world.transfer(&sent.transfer, T0));
    // Named by either half; in the same minute, after its window, when another epoch issues, and when its own is over.
    for now in [T0, T0.after(4 * HOUR), FLIP.after(HOUR), FLIP.after(DAY), FLIP.after(9 * DAY)] {
        for key in sent.keys {
            let again = wallet.resend_transfer(&key, &errand()).unwrap();
            assert_eq!(again, sent);
            assert_eq!(both(world.transfer(&again.transfer, now)), settled);
        }
    }
    // Nor after its evidence is erased, and in a partition that closes.
    assert_eq!(world.set.erase_evidence(EPOCH[0], T0.after(1)).unwrap(), 2);
    world.set.close(EPOCH[0]).unwrap();
    assert_eq!(both(world.transfer(&sent.transfer, T0)), settled);
    assert_eq!(world.set.totals(EPOCH[0]).unwrap().moved_in, 20);
    wallet.accept_transfer(&sent.keys, &settlements(&settled), T0).unwrap();
    assert_eq!(wallet.resend_transfer(&sent.keys[0], &errand()), Err(NotInFlight));
    assert!(wallet.accept_transfer(&sent.keys, &settlements(&settled), T0).is_err());
    assert_eq!(worth(&wallet), [Some(40), Some(60)]);
}

#[test]
fn halves_that_do_not_name_each_other_are_no_transfer() {
    let world = World::new();
    // Copies, as their owner can sign anything with both.
    let [mut a, mut b, mut c] = [(); 3].map(|()| world.funded(1));
    let twenty = send(&mut a, LANES, 20, T0);
    let ten = send(&mut b, LANES, 10, T0);
    let back = send(&mut c, [LANE1, LANE0], 20, T0);
    let [give, take] = halves(&twenty.transfer);
    let [other_give, other_take] = halves(&ten.transfer);
    let [back_give, back_take] = halves(&back.transfer);
    let pairs = [
        ("another amount given", [other_give, take.clone()]),
        ("another amount taken", [give.clone(), other_take]),
        ("swapped", [take.clone(), give.clone()]),
        ("both give", [give.clone(), back_give]),
        ("both take", [back_take, take.clone()]),
        ("given to itself", [give.clone(), give.clone()]),
        ("taken from itself", [take.clone(), take.clone()]),
    ];
    for (name, halves) in pairs {
        let error = refused(&world, &Transfer { halves }.to_bytes(), T0);
        assert!(matches!(error, AdmitError::Parse(ParseError::Unpaired)), "{name}: {error}");
        assert_eq!(error.problem(), Problem::Malformed);
    }
    // A spend of another purpose in the place of a half.
    let call = pay(&mut world.funded(1), LANE0, 20, T0);
    let call = Opening::from_bytes(&call.opening).unwrap();
    for halves in [[call.clone(), take.clone()], [give.clone(), call.clone()], [call.clone(), call]] {
        assert_eq!(refused(&world, &Transfer { halves }.to_bytes(), T0).problem(), Problem::Malformed);
    }
    world.transfer(&twenty.transfer, T0);
}

#[test]
fn changing_any_byte_of_either_half_gets_both_refused() {
    let world = World::new();
    let sent = send(&mut world.funded(1), LANES, 20, T0);
    let half = Transfer::LENGTH / 2;
    let head = Spend::TRANSFER_LENGTH - halometer::circuits::proof::Proof::LENGTH;
    let places = (0..head).chain((head..Spend::TRANSFER_LENGTH).step_by(197)).chain(Spend::TRANSFER_LENGTH..half);
    for place in places.flat_map(|place| [place, half + place]) {
        let mut altered = sent.transfer.clone();
        altered[place] ^= 1 << (place % 8);
        refused(&world, &altered, T0);
    }
    for bytes in [&[], &sent.transfer[1..], &sent.transfer[..half], &[&sent.transfer[..], &[0]].concat()[..]] {
        assert_eq!(refused(&world, bytes, T0).problem(), Problem::Malformed);
    }
    let elsewhere = world.gateway.transfer(&sent.transfer, &request(), T0);
    assert!(matches!(elsewhere, Err(AdmitError::SessionSignature)));
    assert!(matches!(refused(&world, &sent.transfer, T0.after(2 * HOUR)), AdmitError::Expired(_)));
    assert!(matches!(refused(&world, &sent.transfer, FLIP.after(DAY)), AdmitError::NotSpendable(_)));
    world.transfer(&sent.transfer, T0);
}

#[test]
fn an_amount_of_ones_own_is_refused() {
    let world = World::new();
    let wallet = world.funded(1);
    for amount in [0, 3, 4, 15, 60, u64::MAX] {
        let planned = wallet.plan_transfer(LANE0, LANE1, micro(amount), &GATEWAY, T0);
        assert!(matches!(planned, Err(PlanError::UnknownDenomination(_))));
    }
    // A wallet that goes by another quantum, and so by other denominations.
    let mut parts = directory_parts();
    (parts.quantum, parts.classes) = (micro(3), vec![micro(6)]);
    let odd = World::under(Directory::new(parts).unwrap(), root_key(), epoch_keys());
    let sent = send(&mut odd.funded(1), LANES, 15, T0);
    let error = refused(&world, &sent.transfer, T0);
    assert!(matches!(error, AdmitError::UnknownDenomination(amount) if amount == micro(15)));
    assert_eq!(error.problem(), Problem::ClassUnknown);
}

#[test]
fn transfers_to_itself_of_missing_or_unfit_notes_are_refused() {
    let world = World::new();
    let mut wallet = world.wallet(1);
    // Two payments, as no one payment holds more than one note can.
    for (n, first) in [(1, u64::MAX - 15), (2, 100)] {
        let payment = PaymentId::from_bytes([n; 32]);
        world.payments.grant(payment, micro(first)).unwrap();
        let amounts = core::array::from_fn(|lane| micro(if lane == 0 { first } else { 0 }));
        let request = wallet.request_mint(payment, amounts, T0).unwrap();
        wallet.accept_mint(&payment, &world.issuer.mint(&request, T0).unwrap(), T0).unwrap();
    }
    let small = halometer::wallet::LaneId { payment: 1, lane: 0 };
    let plan = |from, to, amount| wallet.plan_transfer(from, to, micro(amount), &GATEWAY, T0).map(drop);
    assert!(matches!(plan(LANE0, LANE0, 20), Err(PlanError::SameLane(_))));
    assert!(matches!(plan(small, LANE0, 20), Err(PlanError::Balance(_))), "2^64 and more in one note");
    assert!(matches!(plan(small, LANE0, 200), Err(PlanError::Balance(_))), "more than there is");
    // Up to the brim is a transfer.
    let sent = send(&mut wallet, [small, LANE0], 10, T0);
    world.moved(&mut wallet, &sent, T0);
    assert_eq!(worth(&wallet)[0], Some(u64::MAX - 5));
    assert_eq!(wallet.balance().total(), u128::from(u64::MAX - 15) + 100);
}

#[test]
fn half_a_transfer_pays_for_nothing_by_itself() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let jobs = wallet.plan_transfer(LANE0, LANE1, micro(20), &GATEWAY, T0).unwrap();
    let [give, take] = jobs.map(prove);
    assert!(matches!(wallet.authorise(give, &errand(), T0), Err(AuthoriseError::HalfTransfer)));
    let call = ready(&wallet, LANE0, 20, T0);
    assert!(matches!(wallet.authorise_transfer([call, take], &errand(), T0), Err(AuthoriseError::HalfTransfer)));

    let sent = send(&mut wallet, LANES, 20, T0);
    for key in sent.keys {
        assert_eq!(wallet.resend(&key, &errand()), Err(NotInFlight));
    }
    for half in halves(&sent.transfer) {
        let bytes = half.to_bytes();
        assert_eq!(world.gateway.open(&bytes, &errand(), T0).unwrap_err().problem(), Problem::Malformed);
        let rolled = world.gateway.rollover(&bytes, &errand(), T0).unwrap_err();
        assert_eq!(rolled.problem(), Problem::Malformed);
        assert_eq!(world.gateway.cancel(&bytes, &errand(), T0).unwrap_err().problem(), Problem::Malformed);
        // Without the parameters, as a call.
        let mut short = bytes.clone();
        short.drain(198 - 32..198 + 32);
        short[1] = 1;
        assert!(world.gateway.open(&short, &errand(), T0).is_err());
    }
    assert_eq!(world.records(), (0, 0));
}

#[test]
fn a_transfer_with_a_cancelled_half_is_never_carried_out() {
    for first in [0, 1] {
        let world = World::new();
        let mut wallet = world.funded(1);
        let sent = send(&mut wallet, LANES, 20, T0);
        let mut cancelled = vec![(first, world.cancel_unseen(&wallet, &sent.keys[first], T0))];
        assert!(matches!(world.transfer(&sent.transfer, T0), Transferred::Parted));
        assert_eq!(world.records(), (0, 1), "nothing of the other half was stored");
        cancelled.push((1 - first, world.cancel_unseen(&wallet, &sent.keys[1 - first], T0)));
        // Both are settled now, and not as the transfer would have been.
        assert!(matches!(world.transfer(&sent.transfer, T0), Transferred::Parted));
        for (half, settled) in &cancelled {
            assert_eq!(settled.settlement().refund, micro([20, 0][*half]));
            let accepted = wallet.accept(&sent.keys[*half], settled.settlement(), T0).unwrap();
            assert_eq!(accepted.cost, Credits::ZERO);
        }
        assert_eq!(worth(&wallet), [Some(60), Some(40)]);
        let books = world.issuer.books(&*world.set).unwrap();
        assert_eq!((books.charged, books.outstanding), (0, 100));
        assert_eq!(books.epochs[&EPOCH[0]].spends.moved_out, 0);
    }
}

#[test]
fn cancelling_a_completed_transfer_returns_its_settlements() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let sent = send(&mut wallet, LANES, 20, T0);
    let settled = both(world.transfer(&sent.transfer, T0));
    for (key, half) in sent.keys.iter().zip(&settled) {
        assert!(matches!(world.cancel(&wallet, key, FLIP), Ok(Cancelled::Settled(again)) if again == *half));
        wallet.accept(key, half.settlement(), T0).unwrap();
    }
    assert_eq!(worth(&wallet), [Some(40), Some(60)]);
}

#[test]
fn cancelling_half_a_transfer_is_never_charged_for() {
    // Nobody works for it: what a gateway takes for its own estimate of an unmetered call would be lost.
    let world = World::new();
    let mut wallet = world.funded(1);
    let sent = send(&mut wallet, LANES, 20, T0);
    assert!(matches!(world.cancel(&wallet, &sent.keys[0], T0), Ok(Cancelled::Fresh(_))));
    // And its process dies.
    let after = T0.after(u64::from(LEASE));
    let Ok(Cancelled::Lapsed(spend)) = world.cancel(&wallet, &sent.keys[0], after) else { panic!("not lapsed") };
    assert_eq!((spend.charge(), spend.cap()), (micro(20), Credits::ZERO));
    for cost in [20, 1] {
        let refused = world.issuer.settle(&*world.set, &spend, micro(cost), after);
        assert!(matches!(refused, Err(SettleError::AboveCap { .. })));
    }
    let settled = world.issuer.settle(&*world.set, &spend, spend.metered(), after).unwrap();
    wallet.accept(&sent.keys[0], settled.settlement(), T0).unwrap();
    assert_eq!(worth(&wallet)[0], Some(60));
}

#[test]
fn a_spent_note_in_a_transfer_names_its_owner_and_stores_none() {
    let payment = PaymentId::from_bytes([1; 32]);
    for spent in LANES {
        let world = World::new();
        let (mut original, mut copy) = (world.funded(1), world.funded(1));
        let paid = pay(&mut original, spent, 10, T0);
        world.settle(&world.admit(&paid), 3);
        let sent = send(&mut copy, LANES, 20, T0);
        let Transferred::Conflict { spend, record } = world.transfer(&sent.transfer, T0) else { panic!("stored") };
        assert_eq!(spend.key().nullifier, paid.key.nullifier);
        let AdmitError::DoubleSpend(evidence) = world.gateway.double_spend(*spend, &record) else { panic!("unnamed") };
        assert_eq!(world.issuer.name(&evidence).unwrap().unwrap().payment, payment);
        assert_eq!(world.records(), (0, 1));
        // The half that was not spent before can still be cancelled, and only it.
        let lane = usize::from(spent == LANE0);
        world.cancel_unseen(&copy, &sent.keys[lane], T0);
        assert!(matches!(world.cancel(&copy, &sent.keys[1 - lane], T0), Err(AdmitError::DoubleSpend(_))));
        assert_eq!(world.issuer.books(&*world.set).unwrap().outstanding, 97);
    }
    // The other way round: first the transfer, then a call.
    let world = World::new();
    let (mut original, mut copy) = (world.funded(1), world.funded(1));
    let sent = send(&mut original, LANES, 20, T0);
    world.transfer(&sent.transfer, T0);
    for lane in LANES {
        let paid = pay(&mut copy, lane, 10, T0);
        let Err(AdmitError::DoubleSpend(evidence)) = world.open(&paid, T0) else { panic!("not named") };
        assert_eq!(world.issuer.name(&evidence).unwrap().unwrap().payment, payment);
    }
    assert_eq!(world.records(), (0, 2));
}

#[test]
fn an_old_note_is_merged_into_a_new_one() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let rolled = roll(&mut wallet, LANE1, FLIP);
    let spend = admitted(world.gateway.rollover(&rolled.opening, &errand(), FLIP));
    let settled = world.issuer.settle(&*world.set, &spend, Credits::ZERO, FLIP).unwrap();
    wallet.accept(&rolled.key, settled.settlement(), FLIP).unwrap();
    let sent = send(&mut wallet, LANES, 50, FLIP);
    assert_eq!(sent.keys.map(|key| key.epoch), EPOCH);
    // Only half of it, when the old partition has closed meanwhile.
    let verified = world.gateway.transfer(&sent.transfer, &errand(), FLIP).unwrap();
    let before = world.records();
    let other = World::new();
    other.set.close(EPOCH[0]).unwrap();
    let refused = other.issuer.transfer(&*other.set, verified, FLIP).unwrap_err();
    assert!(matches!(refused, SettleError::Store(StoreError::PartitionClosed(_))));
    assert_eq!((refused.problem(), other.records()), (Problem::UnknownEpoch, (0, 0)));
    assert_eq!(world.records(), before);

    world.moved(&mut wallet, &sent, FLIP);
    let lanes: Vec<_> = wallet.lanes().take(2).map(|(_, status)| status).collect();
    let value = |value| LaneStatus::Idle { value: micro(value), epoch: EPOCH[1] };
    assert_eq!(lanes, [value(10), value(90)], "what is left behind is new as well");
    let books = world.issuer.books(&*world.set).unwrap();
    let [first, second] = EPOCH.map(|epoch| books.epochs[&epoch].spends);
    assert_eq!((first.moved_out, first.moved_in, second.moved_out, second.moved_in), (50, 0, 0, 50));
    assert_eq!(books.outstanding, 100);
    // After the old partition is gone its half is gone with it; the other half still has its answer.
    let over = FLIP.after(DAY);
    world.set.close(EPOCH[0]).unwrap();
    world.set.retire(EPOCH[0]).unwrap();
    assert_eq!(world.gateway.transfer(&sent.transfer, &errand(), over).unwrap_err().problem(), Problem::UnknownEpoch);
    assert_eq!(world.issuer.books(&*world.set).unwrap().outstanding, 100);
}

#[test]
fn a_transfer_that_outwaits_its_epoch_is_not_carried_out() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let late = FLIP.after(DAY).before(1);
    let sent = send(&mut wallet, LANES, 20, late);
    let verified = world.gateway.transfer(&sent.transfer, &errand(), late).unwrap();
    let refused = world.issuer.transfer(&*world.set, verified, late.after(1)).unwrap_err();
    assert!(matches!(refused, SettleError::NotSpendable(epoch) if epoch == EPOCH[0]));
    assert_eq!((refused.problem(), world.records()), (Problem::UnknownEpoch, (0, 0)));
    // Or over the closing of its partition.
    let verified = world.gateway.transfer(&sent.transfer, &errand(), late).unwrap();
    world.set.close(EPOCH[0]).unwrap();
    let refused = world.issuer.transfer(&*world.set, verified, late).unwrap_err();
    assert_eq!((refused.problem(), world.records()), (Problem::UnknownEpoch, (0, 0)));
}

#[test]
fn settlements_that_lose_credit_together_are_refused() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let sent = send(&mut wallet, LANES, 20, T0);
    let spends = halves(&sent.transfer).map(|half| half.spend);
    // The issuer itself is hostile, and has its keys.
    let keys = [1, 2, 77].map(|seed| SigningKey::generate(&mut rng(seed)));
    let signed = |half: usize, refund: u64, key: usize, epoch: usize| Settlement {
        epoch: EPOCH[epoch],
        refund: micro(refund),
        signature: keys[key].sign(&spends[half].change.leaf(refund)),
    };
    let hostile = [
        ("both keep it", [signed(0, 0, 0, 0), signed(1, 0, 0, 0)]),
        ("both give it, which marks the caller", [signed(0, 20, 0, 0), signed(1, 20, 0, 0)]),
        ("a part each", [signed(0, 10, 0, 0), signed(1, 10, 0, 0)]),
        ("of other notes", [signed(1, 20, 0, 0), signed(0, 0, 0, 0)]),
        ("a key of no epoch", [signed(0, 0, 2, 0), signed(1, 20, 2, 0)]),
        ("the key of another epoch", [signed(0, 0, 0, 0), signed(1, 20, 1, 0)]),
        ("another refund than signed", [signed(0, 0, 0, 0), Settlement { refund: micro(20), ..signed(1, 10, 0, 0) }]),
        ("an overflow", [signed(0, 0, 0, 0), signed(1, u64::MAX, 0, 0)]),
    ];
    for (name, settlements) in hostile {
        assert!(wallet.accept_transfer(&sent.keys, &settlements, T0).is_err(), "{name}");
        assert_eq!(worth(&wallet), [None, None], "{name}: neither is taken");
    }
    let swapped = [sent.keys[1], sent.keys[0]];
    assert!(wallet.accept_transfer(&swapped, &[signed(1, 20, 0, 0), signed(0, 0, 0, 0)], T0).is_err());
    // One after the other, as the answers of two cancels: carried out for the one, cancelled for the other.
    wallet.accept(&sent.keys[0], &signed(0, 0, 0, 0), T0).unwrap();
    assert!(matches!(wallet.accept(&sent.keys[1], &signed(1, 0, 0, 0), T0), Err(AcceptError::NotTransfer(_))));
    wallet.accept(&sent.keys[1], &signed(1, 20, 1, 1), FLIP).unwrap();
    assert_eq!(worth(&wallet), [Some(40), Some(60)]);
}

#[test]
fn too_many_transfers_are_busy() {
    let world = World::new();
    let one = Rate { per_minute: 1, burst: 1 };
    let limited = world.limited(Quotas { transfers: one, ..Quotas::default() });
    let [mut first, mut second] = [world.funded(1), world.funded(2)];
    let [a, b] = [send(&mut first, LANES, 20, T0), send(&mut second, LANES, 20, T0)];
    let verified = limited.transfer(&a.transfer, &errand(), T0).unwrap();
    world.issuer.transfer(&*world.set, verified, T0).unwrap();
    assert_eq!(limited.transfer(&b.transfer, &errand(), T0).unwrap_err().problem(), Problem::Busy);
    assert!(limited.transfer(&a.transfer, &errand(), T0).is_ok(), "what is in the set is answered");
    assert_eq!(world.records(), (0, 2));
    assert!(limited.transfer(&b.transfer, &errand(), T0.after(60)).is_ok());
}

#[test]
fn a_transfer_racing_cancels_of_its_halves_is_all_or_nothing() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let mut carried_out = 0;
    for round in 0..6 {
        let sent = send(&mut wallet, LANES, 5, T0);
        let cancels = sent.keys.map(|key| wallet.cancel(&key, &errand()).unwrap());
        std::thread::scope(|scope| {
            for i in 0..6 {
                let (world, sent, cancels) = (&world, &sent, &cancels);
                scope.spawn(move || match (i + round) % 3 {
                    0 => drop(world.transfer(&sent.transfer, T0)),
                    half => {
                        if let Cancelled::Fresh(spend) =
                            world.gateway.cancel(&cancels[half - 1], &errand(), T0).unwrap()
                        {
                            world.settle(&spend, 0);
                        }
                    }
                });
            }
        });
        // Every half was cancelled, if it was not transferred.
        let settled = sent.keys.map(|key| match world.cancel(&wallet, &key, T0).unwrap() {
            Cancelled::Settled(settled) => settled,
            other => panic!("{other:?}"),
        });
        let before = wallet.balance().total();
        wallet.accept_transfer(&sent.keys, &settlements(&settled), T0).unwrap();
        assert_eq!((before, wallet.balance().available), (100, 100), "round {round}");
        carried_out += u64::from(settled[0].settlement().refund.is_zero());
    }
    assert_eq!(worth(&wallet)[0], Some(60 - 5 * carried_out));
    assert_eq!(u128::from(5 * carried_out), world.set.totals(EPOCH[0]).unwrap().moved_out);
}

/// A set that fails at the next pair, before it has stored it or after.
struct Failing<'a> {
    set: &'a MemorySpentSet,
    next: Mutex<Option<bool>>,
}

impl SpentSet for Failing<'_> {
    fn insert_pair(&self, pair: [Record; 2], now: Timestamp) -> Result<PairInsertion, StoreError> {
        let crash = || StoreError::Failed("the power was cut".into());
        match self.next.lock().unwrap().take() {
            Some(true) => self.set.insert_pair(pair, now).and_then(|_| Err(crash())),
            Some(false) => Err(crash()),
            None => self.set.insert_pair(pair, now),
        }
    }
    fn find(&self, epoch: EpochNumber, nullifier: &Nullifier) -> Result<Option<Record>, StoreError> {
        self.set.find(epoch, nullifier)
    }
    fn create(&self, _: EpochNumber) -> Result<(), StoreError> {
        unreachable!()
    }
    fn close(&self, _: EpochNumber) -> Result<(), StoreError> {
        unreachable!()
    }
    fn retire(&self, _: EpochNumber) -> Result<(), StoreError> {
        unreachable!()
    }
    fn beat(&self, _: Look) -> Result<Beat, StoreError> {
        unreachable!()
    }
    fn pulse(&self) -> Result<Option<Pulse>, StoreError> {
        unreachable!()
    }
    fn partitions(&self) -> Result<Vec<(EpochNumber, PartitionPhase)>, StoreError> {
        unreachable!()
    }
    fn insert_all(&self, _: Vec<Record>, _: Timestamp) -> Vec<Result<Insertion, StoreError>> {
        unreachable!("a half that is admitted by itself")
    }
    fn meter(&self, _: &RecordKey, _: OwnerId, _: Credits, _: Timestamp) -> Result<(), StoreError> {
        unreachable!()
    }
    fn take_over(&self, _: &RecordKey, _: Lease, _: Timestamp) -> Result<Record, StoreError> {
        unreachable!()
    }
    fn settle(&self, _: &RecordKey, _: OwnerId, _: Timestamp, _: &Settlement) -> Result<Settlement, StoreError> {
        unreachable!("a half that is settled by itself")
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
    fn scan(&self, _: EpochNumber, _: Option<&Nullifier>, _: usize) -> Result<Vec<Record>, StoreError> {
        unreachable!()
    }
    fn totals(&self, _: EpochNumber) -> Result<Totals, StoreError> {
        unreachable!()
    }
    fn erased_totals(&self, _: EpochNumber) -> Result<Totals, StoreError> {
        unreachable!()
    }
}

#[test]
fn a_crash_leaves_both_halves_or_none_and_a_resend_completes() {
    for stored in [false, true] {
        let world = World::new();
        let mut wallet: Wallet = world.funded(1);
        let sent = send(&mut wallet, LANES, 20, T0);
        let failing = Failing { set: &world.set, next: Mutex::new(Some(stored)) };
        let carry_out = |now| {
            let verified = world.gateway.transfer(&sent.transfer, &errand(), now).unwrap();
            world.issuer.transfer(&failing, verified, now)
        };
        let lost = carry_out(T0).unwrap_err();
        assert_eq!(lost.problem(), Problem::StoreUnavailable, "and no settlement has left");
        assert_eq!(world.records(), (0, if stored { 2 } else { 0 }));
        let settled = both(carry_out(T0.after(60)).unwrap());
        assert_eq!(both(carry_out(FLIP).unwrap_or_else(|_| panic!())), settled);
        wallet.accept_transfer(&sent.keys, &settlements(&settled), T0).unwrap();
        assert_eq!(worth(&wallet), [Some(40), Some(60)]);
    }
}

#[test]
fn a_double_spender_gets_no_third_note_out_of_two_transfers() {
    // Two transfers that share one note, against one another.
    let world = World::new();
    let (mut original, mut copy) = (world.funded(1), world.funded(1));
    let (there, back) = (send(&mut original, LANES, 20, T0), send(&mut copy, [LANE1, LANE0], 20, T0));
    let outcomes: Vec<Transferred> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            [&there, &back].map(|sent| scope.spawn(|| world.transfer(&sent.transfer, T0))).into_iter().collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let settled = outcomes.iter().filter(|outcome| matches!(outcome, Transferred::Settled(_))).count();
    let caught = outcomes.iter().filter(|outcome| matches!(outcome, Transferred::Conflict { .. })).count();
    assert_eq!((settled, caught), (1, 1));
    assert_eq!(world.issuer.books(&*world.set).unwrap().outstanding, 100);
    // What is left of the other one cannot be had by cancelling either.
    for (wallet, sent) in [(&original, &there), (&copy, &back)] {
        for key in sent.keys {
            match world.cancel(wallet, &key, T0) {
                Ok(Cancelled::Settled(_)) | Err(AdmitError::DoubleSpend(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(world.records(), (0, 2));
    assert!(!matches!(world.open(&pay(&mut world.funded(1), LANE0, 5, T0), T0), Ok(Opened::Admitted(_))));
}

/// The bytes with a bit of each proof flipped.
fn with_bad_proofs(transfer: &[u8]) -> Vec<u8> {
    let mut bad = transfer.to_vec();
    for half in 0..2 {
        bad[half * transfer.len() / 2 + Spend::TRANSFER_LENGTH - 1] ^= 1;
    }
    bad
}

#[test]
fn a_known_transfer_gives_back_no_quota_that_it_never_took() {
    let world = World::new();
    let one = Rate { per_minute: 1, burst: 1 };
    let limited = world.limited(Quotas { transfers: one, ..Quotas::default() });
    let [mut first, mut second] = [world.funded(1), world.funded(2)];
    let [a, b] = [send(&mut first, LANES, 20, T0), send(&mut second, LANES, 20, T0)];
    let stored = |bytes: &[u8]| {
        let checked = limited.transfer(bytes, &errand(), T0)?;
        Ok::<_, AdmitError>(both(world.issuer.transfer(&*world.set, checked, T0).unwrap()))
    };
    let settled = stored(&a.transfer).unwrap();
    for _ in 0..3 {
        // Answered from the set: no proof is looked at.
        assert_eq!(stored(&with_bad_proofs(&a.transfer)).unwrap(), settled);
        assert_eq!(stored(&b.transfer).unwrap_err().problem(), Problem::Busy);
    }
    // What was taken for a proof that does not hold comes back, once.
    for _ in 0..3 {
        let refused = limited.transfer(&with_bad_proofs(&b.transfer), &errand(), T0.after(60)).unwrap_err();
        assert_eq!(refused.problem(), Problem::ProofInvalid);
    }
    assert!(limited.transfer(&b.transfer, &errand(), T0.after(60)).is_ok());
    assert_eq!(limited.transfer(&b.transfer, &errand(), T0.after(60)).unwrap_err().problem(), Problem::Busy);
}

#[test]
fn a_parted_transfer_is_answered_from_the_set_with_any_proof() {
    let world = World::new();
    let none = Rate { per_minute: 0, burst: 0 };
    let limited = world.limited(Quotas { transfers: none, ..Quotas::default() });
    let mut wallet = world.funded(1);
    let sent = send(&mut wallet, LANES, 20, T0);
    let cancel = wallet.cancel(&sent.keys[0], &errand()).unwrap();
    let Ok(Cancelled::Fresh(spend)) = world.gateway.cancel(&cancel, &errand(), T0) else { panic!("not fresh") };
    world.issuer.settle(&*world.set, &spend, Credits::ZERO, T0).unwrap();
    for bytes in [sent.transfer.clone(), with_bad_proofs(&sent.transfer)] {
        let checked = limited.transfer(&bytes, &errand(), T0).unwrap();
        assert!(matches!(world.issuer.transfer(&*world.set, checked, T0), Ok(Transferred::Parted)));
    }
    assert_eq!(world.records(), (0, 1));
}
