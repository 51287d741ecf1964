//! A remote gateway that is honest, one that is not, and the network between it and the issuer (protocol, section 5, "Settle").

use std::sync::Arc;

use halometer::clearing::*;
use halometer::gateway::{AdmitError, GatewayError, Quotas, Rate};
use halometer::issuer::{Issuer, SettleError};
use halometer::protocol::*;
use halometer::store::{Lease, MemorySpentSet, Record, RecordEvidence, RecordKey, RecordState, SpentSet};
use halometer::upkeep::{Upkeep, UpkeepParts};
use halometer::wallet::{Authorised, LaneId, Wallet};

use crate::world::*;

/// The issuer and two remote gateways.
struct House {
    world: World,
    issuer: Arc<Issuer>,
    clearing: Clearing,
    remote: RemoteGateway,
    other: RemoteGateway,
}

fn key(seed: u8) -> GatewaySigningKey {
    GatewaySigningKey::from_bytes(&[seed; 32])
}

impl House {
    fn new() -> Self {
        Self::under(directory_parts())
    }

    fn under(parts: DirectoryParts) -> Self {
        let world = World::under(Directory::new(parts).unwrap(), root_key(), epoch_keys());
        let issuer = Arc::new(Self::issuer(&world, world.issuer.directory().clone()));
        let parts = ClearingParts::new(Arc::clone(&issuer), world.set.clone(), vec![GATEWAY, OTHER_GATEWAY], LEASE);
        let clearing = Clearing::new(parts, T0).unwrap();
        let directory = issuer.directory().clone();
        let remote = RemoteGateway::new(GATEWAY, directory.clone(), key(10)).unwrap();
        let other = RemoteGateway::new(OTHER_GATEWAY, directory, key(11)).unwrap();
        Self { world, issuer, clearing, remote, other }
    }

    fn issuer(world: &World, directory: Directory) -> Issuer {
        let (mints, payments) = (world.mints.clone(), world.payments.clone());
        Issuer::new(&root_key(), directory, epoch_keys(), mints, payments).unwrap()
    }

    fn paid(&self, class: u64) -> (Wallet, Authorised) {
        let mut wallet = self.world.funded(1);
        let paid = pay(&mut wallet, LANE0, class, T0);
        (wallet, paid)
    }

    fn take(&self, paid: &Authorised) -> RemoteSpend {
        self.remote.take(&paid.opening, &request()).unwrap()
    }

    fn admitted(&self, paid: &Authorised) -> RemoteSpend {
        let mut spend = self.take(paid);
        let envelope = spend.admit(&self.remote, T0, &mut rng(1)).unwrap();
        assert_eq!(spend.answer(&self.remote, &self.send(&envelope)).unwrap(), Progress::Serve);
        spend
    }

    fn send(&self, envelope: &[u8]) -> Vec<u8> {
        self.clearing.answer(envelope, T0).bytes
    }

    /// A request that a gateway of its own making signs.
    fn forge(&self, gateway: GatewayId, seed: u8, request: ClearingRequest) -> Vec<u8> {
        Envelope::new(self.issuer.directory().issuer(), gateway, T0, request, &mut rng(9)).sign(&key(seed))
    }

    fn refusal(&self, envelope: &[u8]) -> ClearingError {
        self.refusal_at(envelope, T0)
    }

    /// What is wrong with it; the set is as it was.
    fn refusal_at(&self, envelope: &[u8], now: Timestamp) -> ClearingError {
        let before = self.records();
        let error = self.clearing.answer(envelope, now).outcome.unwrap_err();
        assert_eq!(self.records(), before, "a refusal changes nothing");
        error
    }

    fn records(&self) -> Vec<Record> {
        EPOCH.iter().flat_map(|epoch| self.world.set.scan(*epoch, None, 100).unwrap()).collect()
    }

    fn record_key(&self, paid: &Authorised) -> RecordKey {
        self.world.set.find(paid.key.epoch, &paid.key.nullifier).unwrap().unwrap().key
    }
}

fn spend_of(paid: &Authorised) -> Spend {
    Opening::from_bytes(&paid.opening).unwrap().spend
}

fn admit(spend: Spend) -> ClearingRequest {
    ClearingRequest::Admit { spend: Box::new(spend) }
}

fn cleared(progress: Progress) -> Cleared {
    match progress {
        Progress::Settled(cleared) => *cleared,
        other => panic!("not settled: {other:?}"),
    }
}

#[test]
fn a_remote_gateway_serves_meters_and_settles_a_call() {
    let house = House::new();
    let (mut wallet, paid) = house.paid(10);
    let mut spend = house.admitted(&paid);
    assert_eq!((spend.charge(), spend.key()), (micro(10), paid.key));
    let metered = spend.meter(&house.remote, micro(2), T0, &mut rng(2)).unwrap();
    assert_eq!(spend.answer(&house.remote, &house.send(&metered)).unwrap(), Progress::Metered);
    let settle = spend.settle(&house.remote, micro(3), T0, &mut rng(3)).unwrap();
    let settled = cleared(spend.answer(&house.remote, &house.send(&settle)).unwrap());
    assert_eq!((settled.cost(), settled.asked()), (micro(3), Some(micro(3))));
    assert_eq!(wallet.accept(&settled.key(), settled.settlement(), T0).unwrap().cost, micro(3));
    let books = house.issuer.books(&*house.world.set).unwrap();
    assert_eq!((books.charged, books.held, books.outstanding), (3, 0, 97));
    // The caller's retry at the same gateway, later: the settlement, and nothing is served.
    let mut again = house.take(&paid);
    let envelope = again.admit(&house.remote, T0, &mut rng(4)).unwrap();
    assert_eq!(
        cleared(again.answer(&house.remote, &house.send(&envelope)).unwrap()).settlement(),
        settled.settlement()
    );
    let fetch = again.fetch(&house.remote, T0, &mut rng(5));
    assert_eq!(cleared(again.answer(&house.remote, &house.send(&fetch)).unwrap()).settlement(), settled.settlement());
}

#[test]
fn nothing_is_served_before_the_issuer_admits() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut spend = house.take(&paid);
    let out_of_turn = Err(RemoteError::OutOfTurn);
    assert_eq!(spend.meter(&house.remote, micro(1), T0, &mut rng(1)), out_of_turn);
    assert_eq!(spend.settle(&house.remote, micro(1), T0, &mut rng(1)), out_of_turn);
    let envelope = spend.admit(&house.remote, T0, &mut rng(1)).unwrap();
    let answer = house.send(&envelope);
    // Admitted by another envelope, with a bit changed, cut, or answered as something else.
    let mut second = house.take(&paid);
    second.admit(&house.remote, T0, &mut rng(2)).unwrap();
    assert_eq!(second.answer(&house.remote, &answer), Err(AnswerError::OtherEnvelope));
    for i in 0..answer.len() {
        let mut altered = answer.clone();
        altered[i] ^= 0x80;
        assert!(spend.answer(&house.remote, &altered).is_err(), "byte {i}");
    }
    assert!(spend.answer(&house.remote, &answer[..answer.len() - 1]).is_err());
    assert!(spend.answer(&house.remote, &[&answer[..], &[0]].concat()).is_err());
    assert!(spend.answer(&house.remote, b"").is_err());
    let mut metered = answer.clone();
    metered[33] = 2;
    assert_eq!(spend.answer(&house.remote, &metered), Err(AnswerError::Unexpected));
    // Then the real one, which counts once.
    assert_eq!(spend.answer(&house.remote, &answer), Ok(Progress::Serve));
    assert_eq!(spend.answer(&house.remote, &answer), Err(AnswerError::Unexpected));
    assert_eq!(spend.admit(&house.remote, T0, &mut rng(3)), out_of_turn);
}

#[test]
fn an_admission_that_arrives_after_the_cancel_is_not_served() {
    let house = House::new();
    let (mut wallet, paid) = house.paid(10);
    let mut spend = house.take(&paid);
    let late = house.send(&spend.admit(&house.remote, T0, &mut rng(1)).unwrap());
    let cancel = spend.cancel(&house.remote, Credits::ZERO, T0, &mut rng(2)).unwrap();
    assert_eq!(spend.answer(&house.remote, &late), Err(AnswerError::OtherEnvelope));
    assert_eq!(spend.admit(&house.remote, T0, &mut rng(3)), Err(RemoteError::OutOfTurn));
    let settled = cleared(spend.answer(&house.remote, &house.send(&cancel)).unwrap());
    assert_eq!(settled.cost(), Credits::ZERO);
    wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    assert_eq!(wallet.balance().available, 100);
}

#[test]
fn a_spend_that_the_remote_gateway_made_up_is_not_admitted() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let honest = spend_of(&paid);
    type Change = fn(&mut Spend);
    let changes: [(&str, Change); 9] = [
        ("an inflated charge", |spend| spend.charge = micro(20)),
        ("its own C'", |spend| {
            spend.change = halometer::circuits::note::ValueCommitment::from_bytes(&[1; 32]).unwrap();
        }),
        ("another note", |spend| {
            spend.nullifier = halometer::circuits::note::Nullifier::from_bytes(&[1; 32]).unwrap();
        }),
        ("another share", |spend| spend.share = halometer::circuits::note::ShareY::from_bytes(&[1; 32]).unwrap()),
        ("its own session key", |spend| spend.session = SessionKey::from_bytes(&[7; 32]).public_key()),
        ("another memo", |spend| spend.memo = Memo::from_bytes([0; 64])),
        ("another epoch", |spend| spend.epoch = EPOCH[1]),
        ("another purpose", |spend| spend.purpose = Purpose::Rollover),
        ("a forged proof", |spend| {
            let mut bytes = spend.to_bytes();
            let last = bytes.len() - 40;
            bytes[last] ^= 1;
            *spend = Spend::from_bytes(&bytes).unwrap();
        }),
    ];
    for (name, change) in changes {
        let mut spend = honest.clone();
        change(&mut spend);
        let envelope = house.forge(GATEWAY, 10, admit(spend.clone()));
        assert!(matches!(house.refusal(&envelope), ClearingError::Admit(_)), "{name}");
        // Nor by way of a cancel, which would be settled at once.
        let cancel = ClearingRequest::Cancel { spend: Box::new(spend), cost: Credits::ZERO };
        assert!(matches!(house.refusal(&house.forge(GATEWAY, 10, cancel)), ClearingError::Admit(_)), "{name}");
    }
    assert!(house.records().is_empty());
}

#[test]
fn what_was_never_admitted_is_not_settled() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let spend = spend_of(&paid);
    let known = RecordKey { epoch: EPOCH[0], nullifier: spend.nullifier, tag: SpendTag::from_bytes([0; 32]) };
    for key in [known, RecordKey { epoch: EpochNumber::new(9), ..known }] {
        for request in [
            ClearingRequest::Settle { spend: key, cost: Credits::ZERO },
            ClearingRequest::Meter { spend: key, cost: Credits::ZERO },
            ClearingRequest::Fetch { spend: key },
        ] {
            assert!(matches!(house.refusal(&house.forge(GATEWAY, 10, request)), ClearingError::NoSpend));
        }
    }
    // Nor is the right nullifier with another tag, when it is admitted.
    house.admitted(&paid);
    let settle = ClearingRequest::Settle { spend: known, cost: Credits::ZERO };
    assert!(matches!(house.refusal(&house.forge(GATEWAY, 10, settle)), ClearingError::NoSpend));
}

#[test]
fn a_gateway_admits_spends_for_its_own_id_only() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let taken = house.other.take(&paid.opening, &request()).unwrap_err();
    assert!(matches!(taken, AdmitError::WrongGateway(id) if id == GATEWAY));
    // One that skips the check, and one that writes its own id over it.
    let envelope = house.forge(OTHER_GATEWAY, 11, admit(spend_of(&paid)));
    assert!(matches!(house.refusal(&envelope), ClearingError::Admit(AdmitError::WrongGateway(_))));
    let cancel = ClearingRequest::Cancel { spend: Box::new(spend_of(&paid)), cost: Credits::ZERO };
    assert!(matches!(
        house.refusal(&house.forge(OTHER_GATEWAY, 11, cancel)),
        ClearingError::Admit(AdmitError::WrongGateway(_))
    ));
    let mut spend = spend_of(&paid);
    spend.gateway = OTHER_GATEWAY;
    let envelope = house.forge(OTHER_GATEWAY, 11, admit(spend));
    assert_eq!(house.refusal(&envelope).problem(), ClearingProblem::Spend(Problem::ProofInvalid));
}

#[test]
fn a_gateway_neither_settles_nor_sees_what_is_anothers() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut spend = house.admitted(&paid);
    let key = house.record_key(&paid);
    let attempts = |house: &House, now| {
        for request in [
            ClearingRequest::Settle { spend: key, cost: micro(10) },
            ClearingRequest::Meter { spend: key, cost: micro(10) },
            ClearingRequest::Fetch { spend: key },
        ] {
            let issuer = house.issuer.directory().issuer();
            let envelope = Envelope::new(issuer, OTHER_GATEWAY, now, request, &mut rng(9)).sign(&self::key(11));
            assert!(matches!(house.refusal_at(&envelope, now), ClearingError::NoSpend | ClearingError::Erased));
        }
    };
    attempts(&house, T0);
    // Not even after the lease.
    attempts(&house, T0.after(u64::from(LEASE) + 1));
    let settle = spend.settle(&house.remote, micro(3), T0, &mut rng(3)).unwrap();
    house.send(&settle);
    attempts(&house, T0);
    // After the evidence is gone, the name alone tells nobody; the whole spend shows its owner.
    house.world.set.erase_evidence(EPOCH[0], T0.after(1)).unwrap();
    attempts(&house, T0);
    let fetch = house.forge(GATEWAY, 10, ClearingRequest::Fetch { spend: key });
    assert!(matches!(house.refusal(&fetch), ClearingError::Erased));
    let mut again = house.take(&paid);
    let envelope = again.admit(&house.remote, T0, &mut rng(4)).unwrap();
    assert_eq!(cleared(again.answer(&house.remote, &house.send(&envelope)).unwrap()).cost(), micro(3));
}

#[test]
fn both_sides_refuse_costs_above_the_charge_or_off_the_quantum() {
    let mut parts = directory_parts();
    parts.quantum = micro(5);
    let house = House::under(parts);
    let (_, paid) = house.paid(10);
    let mut spend = house.admitted(&paid);
    let above = RemoteError::AboveCap { cost: micro(15), cap: micro(10) };
    assert_eq!(spend.settle(&house.remote, micro(15), T0, &mut rng(1)), Err(above.clone()));
    assert_eq!(spend.meter(&house.remote, micro(15), T0, &mut rng(1)), Err(above));
    assert_eq!(spend.settle(&house.remote, micro(3), T0, &mut rng(1)), Err(RemoteError::NotQuantised(micro(3))));
    let key = house.record_key(&paid);
    for (cost, problem) in
        [(15, ClearingProblem::AboveCap), (u64::MAX, ClearingProblem::AboveCap), (3, ClearingProblem::NotQuantised)]
    {
        let cost = micro(cost);
        for request in [
            ClearingRequest::Settle { spend: key, cost },
            ClearingRequest::Meter { spend: key, cost },
            ClearingRequest::Cancel { spend: Box::new(spend_of(&paid)), cost },
        ] {
            assert_eq!(house.refusal(&house.forge(GATEWAY, 10, request)).problem(), problem);
        }
    }
    let settle = spend.settle(&house.remote, micro(5), T0, &mut rng(2)).unwrap();
    assert_eq!(cleared(spend.answer(&house.remote, &house.send(&settle)).unwrap()).cost(), micro(5));
}

#[test]
fn foreign_altered_and_stale_envelopes_are_refused() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let request = || admit(spend_of(&paid));
    // A gateway that no directory names, and a named one under another key.
    let stranger = GatewayId::from_bytes([9; 16]);
    let envelope = house.forge(stranger, 10, request());
    assert_eq!(house.refusal(&envelope).problem(), ClearingProblem::UnknownGateway);
    let envelope = house.forge(GATEWAY, 11, request());
    assert_eq!(house.refusal(&envelope).problem(), ClearingProblem::EnvelopeSignature);
    // For another issuer.
    let foreign = Envelope::new(IssuerId::from_bytes([3; 32]), GATEWAY, T0, request(), &mut rng(1)).sign(&key(10));
    assert_eq!(house.refusal(&foreign).problem(), ClearingProblem::OtherIssuer);
    // Any byte changed, any length.
    let envelope = house.forge(GATEWAY, 10, request());
    for i in (0..150).chain((150..envelope.len()).step_by(97)).chain(envelope.len() - 64..envelope.len()) {
        let mut altered = envelope.clone();
        altered[i] ^= 1;
        assert!(matches!(house.refusal(&altered), ClearingError::Envelope(_)), "byte {i}");
    }
    for length in (0..200).chain([envelope.len() - 1]) {
        assert!(matches!(house.refusal(&envelope[..length]), ClearingError::Envelope(_)), "{length} bytes");
    }
    let longer = [&envelope[..], &[0; 64]].concat();
    assert!(matches!(house.refusal(&longer), ClearingError::Envelope(_)));
    assert!(matches!(house.refusal(&vec![1; 100_000]), ClearingError::Envelope(_)));
    // Too old, too new.
    for now in [T0.after(301), T0.before(301), Timestamp::MAX, Timestamp::from_seconds(0)] {
        assert_eq!(house.refusal_at(&envelope, now).problem(), ClearingProblem::Stale);
    }
    // And at the edge, accepted.
    assert_eq!(house.clearing.answer(&envelope, T0.after(300)).outcome.unwrap(), ClearingAnswer::Admitted);
}

#[test]
fn a_gateway_that_left_the_directory_clears_no_more() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut spend = house.admitted(&paid);
    let mut parts = directory_parts();
    (parts.serial, parts.published) = (2, T0);
    parts.gateways.retain(|gateway| gateway.id != GATEWAY);
    let directory = Directory::new(parts).unwrap();
    let issuer = Arc::new(House::issuer(&house.world, directory.clone()));
    let clearing = house.clearing.adopt(Arc::clone(&issuer), T0).unwrap();
    let settle = spend.settle(&house.remote, micro(3), T0, &mut rng(3)).unwrap();
    let answered = clearing.answer(&settle, T0);
    assert_eq!(answered.outcome.unwrap_err().problem(), ClearingProblem::UnknownGateway);
    assert!(matches!(
        spend.answer(&house.remote, &answered.bytes),
        Ok(Progress::Refused(ClearingProblem::UnknownGateway))
    ));
    // What it left open is settled after its lease.
    let after = T0.after(u64::from(LEASE));
    assert_eq!(upkeep().tick(&*house.world.set, &issuer, after).unwrap().settled, 1);
    let mut remote = house.remote;
    assert!(matches!(remote.adopt(directory), Err(RemoteGatewayError::NotInDirectory(_))));
}

fn upkeep() -> Upkeep {
    let owner = OwnerId::from_bytes(*b"upkeep number  1");
    let (lease_seconds, warn_seconds) = (LEASE, HOUR as u32);
    Upkeep::new(
        UpkeepParts::new(owner, lease_seconds)
            .with_extra_grace_seconds(0)
            .with_records_per_partition(100)
            .with_warn_seconds(warn_seconds),
    )
}

#[test]
fn a_replayed_envelope_changes_nothing_that_the_first_did_not() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut spend = house.take(&paid);
    let admit = spend.admit(&house.remote, T0, &mut rng(1)).unwrap();
    let first = house.send(&admit);
    spend.answer(&house.remote, &first).unwrap();
    let later = T0.after(200);
    let replay = |envelope: &[u8], expected: ClearingAnswer| {
        let before = house.records();
        assert_eq!(house.clearing.answer(envelope, later).outcome.unwrap(), expected);
        assert_eq!(house.records(), before, "not even the lease");
    };
    replay(&admit, ClearingAnswer::InProgress);
    let low = spend.meter(&house.remote, micro(1), T0, &mut rng(2)).unwrap();
    house.send(&low);
    let high = spend.meter(&house.remote, micro(4), T0, &mut rng(3)).unwrap();
    house.send(&high);
    // The order of what is metered does not matter either.
    replay(&low, ClearingAnswer::Metered);
    replay(&high, ClearingAnswer::Metered);
    let settle = spend.settle(&house.remote, micro(3), T0, &mut rng(4)).unwrap();
    let Ok(settled) = house.clearing.answer(&settle, T0).outcome else { panic!("not settled") };
    for envelope in [&admit, &low, &high, &settle] {
        replay(envelope, settled.clone());
    }
    assert_eq!(house.world.set.totals(EPOCH[0]).unwrap().cost, 3);
    // A replay of the admission by another party is no answer for the gateway either.
    assert_eq!(spend.answer(&house.remote, &first), Err(AnswerError::OtherEnvelope));
}

#[test]
fn the_issuer_parts_two_racing_gateways_and_names_the_spender() {
    let house = House::new();
    // Two wallets that are copies of each other spend one note at two gateways.
    let (mut original, mut copy) = (house.world.funded(1), house.world.funded(1));
    let here = pay(&mut original, LANE0, 10, T0);
    let there = ready_for(&copy, LANE0, OTHER_GATEWAY, 10, T0);
    let there = copy.authorise(there, &request(), T0).unwrap();
    assert_eq!(here.key.nullifier, there.key.nullifier);
    let mut first = house.take(&here);
    let mut second = house.other.take(&there.opening, &request()).unwrap();
    let envelopes =
        [first.admit(&house.remote, T0, &mut rng(1)).unwrap(), second.admit(&house.other, T0, &mut rng(2)).unwrap()];
    let [a, b] = std::thread::scope(|scope| {
        let threads = envelopes.each_ref().map(|envelope| scope.spawn(|| house.clearing.answer(envelope, T0)));
        threads.map(|thread| thread.join().unwrap())
    });
    let progress = [first.answer(&house.remote, &a.bytes).unwrap(), second.answer(&house.other, &b.bytes).unwrap()];
    assert!(progress.contains(&Progress::Serve) && progress.contains(&Progress::DoubleSpend), "{progress:?}");
    let caught = [a.outcome, b.outcome].into_iter().find_map(Result::err).unwrap();
    let ClearingError::Admit(AdmitError::DoubleSpend(evidence)) = caught else { panic!("{caught:?}") };
    assert_eq!(house.issuer.name(&evidence).unwrap().unwrap().payment, PaymentId::from_bytes([1; 32]));
    assert_eq!(house.records().len(), 1);
}

#[test]
fn each_lost_answer_is_made_up_for() {
    let house = House::new();
    let (mut wallet, paid) = house.paid(10);
    // The admission's is lost: it is never served, and the caller gets everything back.
    let mut spend = house.take(&paid);
    house.send(&spend.admit(&house.remote, T0, &mut rng(1)).unwrap());
    let again = spend.admit(&house.remote, T0, &mut rng(2)).unwrap();
    assert_eq!(spend.answer(&house.remote, &house.send(&again)), Ok(Progress::InProgress));
    assert_eq!(spend.settle(&house.remote, micro(10), T0, &mut rng(3)), Err(RemoteError::OutOfTurn));
    house.send(&spend.cancel(&house.remote, Credits::ZERO, T0, &mut rng(4)).unwrap());
    // The cancel's too.
    let again = spend.cancel(&house.remote, Credits::ZERO, T0, &mut rng(5)).unwrap();
    let settled = cleared(spend.answer(&house.remote, &house.send(&again)).unwrap());
    wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    assert_eq!(wallet.balance().available, 100);

    let paid = pay(&mut wallet, LANE0, 10, T0);
    let mut spend = house.admitted(&paid);
    house.send(&spend.meter(&house.remote, micro(2), T0, &mut rng(6)).unwrap());
    let again = spend.meter(&house.remote, micro(2), T0, &mut rng(7)).unwrap();
    assert_eq!(spend.answer(&house.remote, &house.send(&again)), Ok(Progress::Metered));
    // The settlement's: at the same cost, also when another epoch issues by then; at another not.
    house.send(&spend.settle(&house.remote, micro(3), T0, &mut rng(8)).unwrap());
    assert_eq!(spend.settle(&house.remote, micro(4), T0, &mut rng(9)), Err(RemoteError::OutOfTurn));
    let later = T0.after(DAY);
    let again = spend.settle(&house.remote, micro(3), later, &mut rng(9)).unwrap();
    let answer = house.clearing.answer(&again, later).bytes;
    let settled = cleared(spend.answer(&house.remote, &answer).unwrap());
    assert_eq!((settled.cost(), settled.settlement().epoch), (micro(3), EPOCH[0]));
    // And an answer that came twice says the same.
    assert_eq!(cleared(spend.answer(&house.remote, &answer).unwrap()).settlement(), settled.settlement());
    wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    assert_eq!(wallet.balance().total(), 97);
}

#[test]
fn a_remote_gateway_that_dies_is_settled_for_after_its_lease() {
    let house = House::new();
    let (mut wallet, paid) = house.paid(10);
    let mut spend = house.admitted(&paid);
    house.send(&spend.meter(&house.remote, micro(4), T0, &mut rng(2)).unwrap());
    let set = &*house.world.set;
    assert_eq!(upkeep().tick(set, &house.issuer, T0.after(u64::from(LEASE) - 1)).unwrap().settled, 0);
    let after = T0.after(u64::from(LEASE));
    assert_eq!(upkeep().tick(set, &house.issuer, after).unwrap().settled, 1);
    // It comes back to life and wants more: it gets what is stored, and sees that it is another cost.
    let settle = spend.settle(&house.remote, micro(9), after, &mut rng(3)).unwrap();
    let settled = cleared(spend.answer(&house.remote, &house.clearing.answer(&settle, after).bytes).unwrap());
    assert_eq!((settled.cost(), settled.asked()), (micro(4), Some(micro(9))));
    assert_eq!(wallet.accept(&paid.key, settled.settlement(), T0).unwrap().cost, micro(4));
}

#[test]
fn a_lapsed_spend_sent_again_settles_at_the_metered_cost() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut dead = house.admitted(&paid);
    house.send(&dead.meter(&house.remote, micro(4), T0, &mut rng(2)).unwrap());
    let after = T0.after(u64::from(LEASE));
    let mut spend = house.take(&paid);
    let envelope = spend.admit(&house.remote, after, &mut rng(3)).unwrap();
    let settled = cleared(spend.answer(&house.remote, &house.clearing.answer(&envelope, after).bytes).unwrap());
    assert_eq!(settled.cost(), micro(4));
}

#[test]
fn what_another_process_took_over_is_not_the_gateways_to_settle() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut spend = house.admitted(&paid);
    let after = T0.after(u64::from(LEASE));
    let key = house.record_key(&paid);
    let lease = Lease { owner: OWNER, until: after.after(100) };
    house.world.set.take_over(&key, lease, after).unwrap();
    for envelope in [
        spend.meter(&house.remote, micro(9), after, &mut rng(1)).unwrap(),
        spend.settle(&house.remote, micro(9), after, &mut rng(2)).unwrap(),
    ] {
        let problem = house.refusal_at(&envelope, after).problem();
        assert_eq!(problem, ClearingProblem::Spend(Problem::WrongOwner));
    }
    let cancel = ClearingRequest::Cancel { spend: Box::new(spend_of(&paid)), cost: Credits::ZERO };
    let cancel =
        Envelope::new(house.issuer.directory().issuer(), GATEWAY, after, cancel, &mut rng(3)).sign(&self::key(10));
    assert_eq!(house.refusal_at(&cancel, after).problem(), ClearingProblem::Spend(Problem::WrongOwner));
}

#[test]
fn a_cancel_of_work_that_was_done_costs_what_was_metered() {
    let house = House::new();
    let (wallet, paid) = house.paid(10);
    let bytes = wallet.cancel(&paid.key, &request()).unwrap();
    // The session signature of a cancel is of its request.
    let other = Request::new("evil.example.org", "POST", "/", ContentDigest::of(b"")).unwrap();
    assert!(matches!(house.remote.take_cancellation(&bytes, &other), Err(AdmitError::SessionSignature)));
    assert!(matches!(house.remote.take(&paid.opening, &other), Err(AdmitError::SessionSignature)));
    house.remote.take_cancellation(&bytes, &request()).unwrap();
    let mut spend = house.admitted(&paid);
    house.send(&spend.meter(&house.remote, micro(4), T0, &mut rng(2)).unwrap());
    // Whatever it says now: it was told that 4 had been metered.
    let cancel = spend.cancel(&house.remote, micro(2), T0, &mut rng(3)).unwrap();
    assert_eq!(cleared(spend.answer(&house.remote, &house.send(&cancel)).unwrap()).cost(), micro(4));
}

#[test]
fn a_cancelled_spend_is_never_admitted_afterwards() {
    let house = House::new();
    let (wallet, paid) = house.paid(10);
    let bytes = wallet.cancel(&paid.key, &request()).unwrap();
    let mut cancelled = house.remote.take_cancellation(&bytes, &request()).unwrap();
    assert_eq!(cancelled.admit(&house.remote, T0, &mut rng(1)), Err(RemoteError::OutOfTurn));
    // The gateway claims work that it cannot have done: nothing was admitted.
    let cancel = cancelled.cancel(&house.remote, micro(10), T0, &mut rng(2)).unwrap();
    assert_eq!(cleared(cancelled.answer(&house.remote, &house.send(&cancel)).unwrap()).cost(), Credits::ZERO);
    let mut spend = house.take(&paid);
    let envelope = spend.admit(&house.remote, T0, &mut rng(3)).unwrap();
    assert_eq!(cleared(spend.answer(&house.remote, &house.send(&envelope)).unwrap()).cost(), Credits::ZERO);
}

#[test]
fn a_settlement_not_signed_for_this_spend_is_refused() {
    let mut parts = directory_parts();
    parts.quantum = micro(5);
    let house = House::under(parts);
    let (mut wallet, paid) = house.paid(10);
    let mut spend = house.admitted(&paid);
    let envelope = spend.settle(&house.remote, micro(5), T0, &mut rng(3)).unwrap();
    let real = house.send(&envelope);
    let (digest, answer) = ClearingAnswer::from_bytes(&real).unwrap();
    let ClearingAnswer::Settled(settlement) = answer else { panic!("{answer:?}") };
    let mut lie = |change: &dyn Fn(&mut Settlement)| {
        let mut altered = settlement.clone();
        change(&mut altered);
        spend.answer(&house.remote, &ClearingAnswer::Settled(altered).to_bytes(&digest)).unwrap_err()
    };
    assert_eq!(lie(&|lie| lie.refund = micro(10)), AnswerError::Signature(EPOCH[0]));
    assert_eq!(lie(&|lie| lie.epoch = EPOCH[1]), AnswerError::Signature(EPOCH[1]));
    assert_eq!(lie(&|lie| lie.epoch = EpochNumber::new(9)), AnswerError::UnknownEpoch(EpochNumber::new(9)));
    assert_eq!(lie(&|lie| lie.refund = micro(15)), AnswerError::Refund(micro(15)));
    assert_eq!(lie(&|lie| lie.refund = micro(7)), AnswerError::Refund(micro(7)));
    // That of another spend.
    let other = pay(&mut wallet, LaneId { lane: 1, ..LANE0 }, 10, T0);
    let mut second = house.admitted(&other);
    let envelope = second.settle(&house.remote, micro(5), T0, &mut rng(4)).unwrap();
    let (_, foreign) = ClearingAnswer::from_bytes(&house.send(&envelope)).unwrap();
    assert_eq!(spend.answer(&house.remote, &foreign.to_bytes(&digest)), Err(AnswerError::Signature(EPOCH[0])));
    assert_eq!(cleared(spend.answer(&house.remote, &real).unwrap()).cost(), micro(5));
}

#[test]
fn a_settlement_of_an_unknown_epoch_waits_for_the_directory() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut parts = directory_parts();
    parts.epochs.pop();
    (parts.serial, parts.published) = (0, T0.before(DAY));
    let old = Directory::new(parts).unwrap();
    let mut remote = RemoteGateway::new(GATEWAY, old, key(10)).unwrap();
    let mut spend = remote.take(&paid.opening, &request()).unwrap();
    let envelope = spend.admit(&remote, T0, &mut rng(1)).unwrap();
    assert_eq!(spend.answer(&remote, &house.send(&envelope)), Ok(Progress::Serve));
    let later = T0.after(DAY);
    let envelope = spend.settle(&remote, micro(3), later, &mut rng(2)).unwrap();
    let answer = house.clearing.answer(&envelope, later).bytes;
    assert_eq!(spend.answer(&remote, &answer), Err(AnswerError::UnknownEpoch(EPOCH[1])));
    remote.adopt(house.issuer.directory().clone()).unwrap();
    assert_eq!(cleared(spend.answer(&remote, &answer).unwrap()).cost(), micro(3));
}

#[test]
fn half_a_transfer_is_not_admitted_for_a_remote_gateway() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut half = spend_of(&paid);
    half.purpose = Purpose::Transfer { nullifier: half.nullifier, change: half.change };
    let error = house.refusal(&house.forge(GATEWAY, 10, admit(half)));
    assert!(matches!(error, ClearingError::Admit(AdmitError::WrongPurpose)));
}

#[test]
fn a_half_transfer_left_open_by_a_cancel_settles_at_zero() {
    // As after a cancel that was inserted and could not be settled. Settled at its charge it would count as carried out.
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut half = spend_of(&paid);
    half.purpose = Purpose::Transfer { nullifier: half.nullifier, change: half.change };
    let directory = house.issuer.directory();
    let x = half.context(&directory.issuer(), directory.epoch(EPOCH[0]).unwrap()).hash().unwrap();
    let tag = SpendTag::of(&x, &half.session);
    let key = RecordKey { epoch: EPOCH[0], nullifier: half.nullifier, tag };
    let evidence = RecordEvidence { context: x, charge: half.charge, change: half.change, spend: half.to_bytes() };
    let owner = OwnerId::from_bytes(GATEWAY.to_bytes());
    let state = RecordState::Open { lease: Lease { owner, until: T0.after(900) }, metered: Credits::ZERO };
    let record = Record { key, memo: half.memo, evidence: Some(evidence), state };
    house.world.set.insert(record, T0).unwrap();
    let (cost, spend) = (half.charge, key);
    let whole = || Box::new(half.clone());
    for request in [
        ClearingRequest::Settle { spend, cost },
        ClearingRequest::Meter { spend, cost },
        ClearingRequest::Cancel { spend: whole(), cost },
    ] {
        assert_eq!(house.refusal(&house.forge(GATEWAY, 10, request)).problem(), ClearingProblem::AboveCap);
    }
    let cancel = house.forge(GATEWAY, 10, ClearingRequest::Cancel { spend: whole(), cost: Credits::ZERO });
    let Ok(ClearingAnswer::Settled(settlement)) = house.clearing.answer(&cancel, T0).outcome else { panic!() };
    assert_eq!(settlement.refund, cost);
    let totals = house.world.set.totals(EPOCH[0]).unwrap();
    assert_eq!((totals.moved_out, totals.cost), (0, 0));
}

#[test]
fn when_nothing_issues_an_open_spend_waits() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    house.admitted(&paid);
    let never = T0.after(4 * DAY);
    let settle = ClearingRequest::Settle { spend: house.record_key(&paid), cost: micro(3) };
    let envelope = Envelope::new(house.issuer.directory().issuer(), GATEWAY, never, settle, &mut rng(1)).sign(&key(10));
    let error = house.refusal_at(&envelope, never);
    assert!(matches!(error, ClearingError::Settle(SettleError::NoIssuingEpoch)));
    assert_eq!(error.fault(), Fault::Operator);
    assert!(matches!(house.records()[0].state, RecordState::Open { .. }));
}

#[test]
fn a_gateway_that_the_directory_does_not_name_is_not_made() {
    let house = House::new();
    let directory = house.issuer.directory().clone();
    let made = RemoteGateway::new(GATEWAY, directory.clone(), key(11));
    assert!(matches!(made, Err(RemoteGatewayError::OtherKey(_))));
    let stranger = GatewayId::from_bytes([9; 16]);
    let made = RemoteGateway::new(stranger, directory, key(10));
    assert!(matches!(made, Err(RemoteGatewayError::NotInDirectory(_))));
    let set = Arc::new(MemorySpentSet::new());
    let (issuer, quotas) = (Arc::clone(&house.issuer), Default::default());
    let parts = ClearingParts::new(issuer, set, vec![stranger], LEASE).with_quotas(quotas);
    assert!(matches!(Clearing::new(parts, T0), Err(GatewayError::NotInDirectory(_))));
}

#[test]
fn only_the_gateway_that_signs_for_a_settlement_learns_it() {
    let house = House::new();
    let (mut wallet, paid) = house.paid(10);
    let following = wallet.fetch(&paid.key, &request()).unwrap();
    let told = |gateway: &RemoteGateway, following: &[u8]| {
        let mut fetch = gateway.take_following(following, &request()).unwrap();
        assert_eq!(fetch.key(), paid.key);
        let answer = house.send(&fetch.ask(gateway, T0, &mut rng(7)));
        let fetched = fetch.answer(&answer).unwrap();
        // Nothing else is an answer to it.
        let mut other = answer.clone();
        other[1] ^= 1;
        assert_eq!(fetch.answer(&other), Err(AnswerError::OtherEnvelope));
        assert!(fetch.answer(&answer[..answer.len() - 1]).is_err());
        fetched
    };
    let nothing = RemoteFetched::Refused(ClearingProblem::NoSpend);
    assert_eq!(told(&house.remote, &following), nothing);
    let mut spend = house.admitted(&paid);
    assert_eq!(told(&house.remote, &following), RemoteFetched::InProgress);
    let settle = spend.settle(&house.remote, micro(3), T0, &mut rng(3)).unwrap();
    house.send(&settle);
    let RemoteFetched::Settled(settlement) = told(&house.remote, &following) else { panic!("it is settled") };
    // Another gateway, and a thief that signs by another key.
    assert_eq!(told(&house.other, &following), nothing);
    let thief = Following::sign(&SessionKey::from_bytes(&[7; 32]), &paid.key, Action::Fetch, 1, &request());
    assert_eq!(told(&house.remote, &thief.to_bytes()), nothing);
    // For another request it is not signed at all.
    let elsewhere = Request::new("elsewhere.example.org", "POST", "/", ContentDigest::of(b"")).unwrap();
    assert!(house.remote.take_following(&following, &elsewhere).is_err());
    assert!(house.remote.take_following(&following[1..], &request()).is_err());
    assert_eq!(wallet.accept(&paid.key, &settlement, T0).unwrap().cost, micro(3));
}

#[test]
fn requests_finished_together_are_answered_one_by_one() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut other = house.world.funded(2);
    let unsent = pay(&mut other, LANE1, 20, T0);
    // A copy of the first wallet spends the same note at the other gateway.
    let mut copy = house.world.funded(1);
    let there = ready_for(&copy, LANE0, OTHER_GATEWAY, 10, T0);
    let there = copy.authorise(there, &request(), T0).unwrap();
    let mut forged = spend_of(&paid).to_bytes();
    let last = forged.len() - 40;
    forged[last] ^= 1;
    let forged = Spend::from_bytes(&forged).unwrap();
    let cancel = |spend: Spend, cost| ClearingRequest::Cancel { spend: Box::new(spend), cost: micro(cost) };
    let envelopes = [
        house.forge(GATEWAY, 10, admit(forged)),
        house.forge(GATEWAY, 10, admit(spend_of(&paid))),
        // Whatever the gateway says that it has metered: it was never admitted.
        house.forge(GATEWAY, 10, cancel(spend_of(&unsent), 20)),
        house.forge(GATEWAY, 10, admit(spend_of(&paid))),
        house.forge(OTHER_GATEWAY, 11, admit(spend_of(&there))),
    ];
    let take = |envelope: &Vec<u8>| match house.clearing.take(envelope, T0) {
        Taken::Waiting(waiting) => waiting,
        other => panic!("{other:?}"),
    };
    let waiting: Vec<_> = envelopes.iter().map(take).collect();
    assert!(house.records().is_empty(), "nothing is in the set before a proof holds");
    let answered = house.clearing.finish(waiting, T0, &mut rng(5));
    let outcomes: Vec<_> = answered.iter().map(|answered| answered.outcome.as_ref()).collect();
    assert_eq!(outcomes[0].unwrap_err().problem(), ClearingProblem::Spend(Problem::ProofInvalid));
    assert_eq!(*outcomes[1].unwrap(), ClearingAnswer::Admitted);
    assert!(matches!(outcomes[2], Ok(ClearingAnswer::Settled(settlement)) if settlement.refund == micro(20)));
    assert_eq!(*outcomes[3].unwrap(), ClearingAnswer::InProgress);
    assert!(matches!(outcomes[4], Err(ClearingError::Admit(AdmitError::DoubleSpend(_)))));
    // Each answers its own envelope.
    let named: Vec<_> =
        answered.iter().map(|answered| ClearingAnswer::from_bytes(&answered.bytes).unwrap().0).collect();
    let own: Vec<_> = envelopes.iter().map(|envelope| named_by(&house, envelope)).collect();
    assert_eq!(named, own);
    assert_eq!(house.records().len(), 2);
    // What is known by now waits for no proof.
    assert!(matches!(house.clearing.take(&envelopes[1], T0), Taken::Answered(_)));
    assert!(house.clearing.finish(Vec::new(), T0, &mut rng(6)).is_empty());
}

fn named_by(house: &House, envelope: &[u8]) -> Digest {
    ClearingAnswer::from_bytes(&house.send(envelope)).unwrap().0
}

#[test]
fn proofs_that_do_not_hold_use_up_no_cancels() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    let mut other = house.world.funded(2);
    let unsent = pay(&mut other, LANE1, 20, T0);
    let quotas = Quotas { cancels: Rate { per_minute: 1, burst: 1 }, ..Quotas::default() };
    let (issuer, set) = (Arc::clone(&house.issuer), house.world.set.clone());
    let parts = ClearingParts::new(issuer, set, vec![GATEWAY], LEASE).with_quotas(quotas);
    let clearing = Clearing::new(parts, T0).unwrap();
    let cancel = |spend: Spend| {
        let request = ClearingRequest::Cancel { spend: Box::new(spend), cost: Credits::ZERO };
        house.forge(GATEWAY, 10, request)
    };
    for byte in [40, 41, 42] {
        let mut forged = spend_of(&paid).to_bytes();
        let place = forged.len() - byte;
        forged[place] ^= 1;
        let envelope = cancel(Spend::from_bytes(&forged).unwrap());
        let problem = match byte {
            40 => clearing.answer(&envelope, T0).outcome.unwrap_err().problem(),
            _ => {
                let Taken::Waiting(waiting) = clearing.take(&envelope, T0) else { panic!("no quota is left") };
                let mut answered = clearing.finish(vec![waiting], T0, &mut rng(1));
                answered.pop().unwrap().outcome.unwrap_err().problem()
            }
        };
        assert_eq!(problem, ClearingProblem::Spend(Problem::ProofInvalid));
    }
    assert!(clearing.answer(&cancel(spend_of(&paid)), T0).outcome.is_ok());
    let refused = clearing.answer(&cancel(spend_of(&unsent)), T0).outcome.unwrap_err();
    assert_eq!(refused.problem(), ClearingProblem::Spend(Problem::Busy));
}

#[test]
fn every_message_has_one_encoding() {
    let house = House::new();
    let (_, paid) = house.paid(10);
    house.admitted(&paid);
    let (key, cost) = (house.record_key(&paid), micro(7));
    let spend = || Box::new(spend_of(&paid));
    for (request, length) in [
        (ClearingRequest::Admit { spend: spend() }, 1 + Spend::LENGTH),
        (ClearingRequest::Meter { spend: key, cost }, 77),
        (ClearingRequest::Settle { spend: key, cost }, 77),
        (ClearingRequest::Cancel { spend: spend(), cost }, 9 + Spend::LENGTH),
        (ClearingRequest::Fetch { spend: key }, 69),
    ] {
        let bytes = request.to_bytes();
        assert_eq!(bytes.len(), length);
        assert_eq!(ClearingRequest::from_bytes(&bytes).unwrap(), request);
        assert!(ClearingRequest::from_bytes(&bytes[..length - 1]).is_err());
        assert!(ClearingRequest::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }
    assert!(ClearingRequest::from_bytes(&[]).is_err() && ClearingRequest::from_bytes(&[6]).is_err());
    let digest = Digest::from_bytes([5; 32]);
    for answer in [
        ClearingAnswer::Admitted,
        ClearingAnswer::Metered,
        ClearingAnswer::InProgress,
        ClearingAnswer::DoubleSpend,
        ClearingAnswer::Refused(ClearingProblem::Spend(Problem::Busy)),
        ClearingAnswer::Refused(ClearingProblem::Erased),
    ] {
        let bytes = answer.to_bytes(&digest);
        assert_eq!(ClearingAnswer::from_bytes(&bytes).unwrap(), (digest, answer));
        assert!(ClearingAnswer::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(ClearingAnswer::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }
}
