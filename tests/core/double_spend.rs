//! Spending a note twice, and forging the look of it (protocol, section 5, "Double spend").

use halometer::circuits::proof::VerifyingKey;
use halometer::gateway::{AdmitError, Opened};
use halometer::lifecycle::{Evidence, EvidenceError};
use halometer::protocol::*;
use halometer::store::SpentSet;
use halometer::wallet::{Authorised, LaneId, Wallet};

use crate::world::*;

/// Two wallets that are copies of each other, as after a restored backup: the same secrets, each with a journal of its own.
fn copies(world: &World) -> (Wallet, Wallet) {
    (world.funded(1), world.funded(1))
}

/// The copies spend one note under two classes.
fn spent_twice(world: &World) -> (Authorised, Authorised) {
    let (mut original, mut copy) = copies(world);
    (pay(&mut original, LANE0, 10, T0), pay(&mut copy, LANE0, 20, T0))
}

fn spend_of(paid: &Authorised) -> Spend {
    Opening::from_bytes(&paid.opening).unwrap().spend
}

fn verifying_key(world: &World) -> &VerifyingKey {
    world.gateway.verifying_key(EPOCH[0]).unwrap()
}

#[test]
fn spending_a_note_twice_is_refused_and_names_the_payment() {
    let world = World::new();
    let (first, second) = spent_twice(&world);
    assert_eq!(first.key.nullifier, second.key.nullifier);
    let spend = world.admit(&first);
    let evidence = match world.open(&second, T0) {
        Err(error @ AdmitError::DoubleSpend(_)) => {
            assert_eq!(error.problem(), Problem::DoubleSpend);
            let AdmitError::DoubleSpend(evidence) = error else { unreachable!() };
            evidence
        }
        other => panic!("{other:?}"),
    };
    let mint = world.issuer.name(&evidence).unwrap().unwrap();
    assert_eq!(mint.payment, PaymentId::from_bytes([1; 32]));
    // Anyone can check it, offline, from its bytes and the directory.
    let read = Evidence::from_bytes(&evidence.to_bytes(), world.gateway.directory()).unwrap();
    assert_eq!(read.account(), mint.account);
    // The first of the two is settled as if nothing had happened; the second is charged nothing.
    world.settle(&spend, 3);
    assert!(matches!(world.open(&second, T0), Err(AdmitError::DoubleSpend(_))));
    assert_eq!(world.set.totals(EPOCH[0]).unwrap().cost, 3);
}

#[test]
fn racing_two_spends_of_one_note_admits_one() {
    let world = World::new();
    let (first, second) = spent_twice(&world);
    let replica = world.replica(OwnerId::from_bytes([2; 16]));
    let (a, b) = std::thread::scope(|scope| {
        let a = scope.spawn(|| world.open(&first, T0));
        let b = scope.spawn(|| replica.open(&second.opening, &request(), T0));
        (a.join().unwrap(), b.join().unwrap())
    });
    let admitted = [&a, &b].into_iter().filter(|opened| matches!(opened, Ok(Opened::Admitted(_)))).count();
    let caught = [&a, &b].into_iter().filter(|opened| matches!(opened, Err(AdmitError::DoubleSpend(_)))).count();
    assert_eq!((admitted, caught), (1, 1));
}

#[test]
fn a_second_spend_after_the_evidence_window_is_refused_unnamed() {
    let world = World::new();
    let (first, second) = spent_twice(&world);
    let spend = world.admit(&first);
    // An open record keeps its evidence, whatever its age.
    assert_eq!(world.set.erase_evidence(EPOCH[0], T0.after(DAY)).unwrap(), 0);
    let settled = world.settle(&spend, 3);
    assert_eq!(world.set.erase_evidence(EPOCH[0], T0).unwrap(), 0);
    assert_eq!(world.set.erase_evidence(EPOCH[0], T0.after(1)).unwrap(), 1);
    assert!(matches!(world.open(&second, T0), Err(AdmitError::AlreadySpent)));
    let record = world.set.find(EPOCH[0], &first.key.nullifier).unwrap().unwrap();
    assert!(record.evidence.is_none());
    // The honest retry still finds its settlement.
    assert!(matches!(world.open(&first, T0), Ok(Opened::Settled(again)) if again == settled));
}

#[test]
fn a_made_up_second_spend_accuses_nobody() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let honest = pay(&mut wallet, LANE0, 10, T0);
    world.admit(&honest);
    // An observer of the honest spend puts in another session key and class, and signs.
    let mut opening = Opening::from_bytes(&honest.opening).unwrap();
    let own = SessionKey::from_bytes(&[7; 32]);
    (opening.spend.session, opening.spend.charge) = (own.public_key(), micro(20));
    let directory = world.gateway.directory();
    let x = opening.spend.context(&directory.issuer(), directory.epoch(EPOCH[0]).unwrap()).hash().unwrap();
    opening.authorisation = Authorisation::sign(&own, &opening.spend.nullifier, &x, Action::Open, 0, &request());
    let error = world.gateway.open(&opening.to_bytes(), &request(), T0).unwrap_err();
    assert_eq!(error.problem(), Problem::ProofInvalid, "not double-spend");
    let forged = Evidence::new(spend_of(&honest), opening.spend, directory, verifying_key(&world));
    assert!(matches!(forged, Err(EvidenceError::Verify(_))));
}

#[test]
fn framing_with_one_altered_spend_is_refused() {
    let world = World::new();
    let (first, second) = spent_twice(&world);
    let (first, second) = (spend_of(&first), spend_of(&second));
    let directory = world.gateway.directory();
    let evidence = Evidence::new(first.clone(), second.clone(), directory, verifying_key(&world)).unwrap();

    // Every field of either spend, and both orders.
    type Change = fn(&mut Spend);
    let changes: [(&str, Change); 9] = [
        ("gateway", |spend| spend.gateway = OTHER_GATEWAY),
        ("tariff", |spend| spend.tariff = Digest::from_bytes([0; 32])),
        ("session", |spend| spend.session = SessionKey::from_bytes(&[7; 32]).public_key()),
        ("charge", |spend| spend.charge = micro(5)),
        ("not-after", |spend| spend.not_after = spend.not_after.after(1)),
        ("memo", |spend| spend.memo = Memo::from_bytes([0; 64])),
        ("share", |spend| spend.share = halometer::circuits::note::ShareY::from_bytes(&[1; 32]).unwrap()),
        ("change", |spend| spend.change = halometer::circuits::note::ValueCommitment::from_bytes(&[1; 32]).unwrap()),
        ("epoch", |spend| spend.epoch = EPOCH[1]),
    ];
    for (name, change) in changes {
        let mut altered = first.clone();
        change(&mut altered);
        for (a, b) in [(&altered, &second), (&second, &altered)] {
            let framed = Evidence::new(a.clone(), b.clone(), directory, verifying_key(&world));
            assert!(framed.is_err(), "{name}");
        }
    }
    let mut bytes = evidence.to_bytes();
    bytes.push(0);
    assert!(matches!(Evidence::from_bytes(&bytes, directory), Err(EvidenceError::Decode(_))));
    let twice = [first.to_bytes(), first.to_bytes()].concat();
    assert_eq!(Evidence::from_bytes(&twice, directory).unwrap_err(), EvidenceError::SameSpend);
}

#[test]
fn two_honest_spends_of_two_notes_accuse_nobody() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let first = pay(&mut wallet, LANE0, 10, T0);
    let second = pay(&mut wallet, LaneId { lane: 1, ..LANE0 }, 10, T0);
    let pair = Evidence::new(spend_of(&first), spend_of(&second), world.gateway.directory(), verifying_key(&world));
    assert_eq!(pair.unwrap_err(), EvidenceError::OtherNote);
    // Nor two spends of one lane, one after the other.
    let settled = world.settle(&world.admit(&first), 3);
    wallet.accept(&first.key, settled.settlement(), T0).unwrap();
    let third = pay(&mut wallet, LANE0, 10, T0);
    let pair = Evidence::new(spend_of(&first), spend_of(&third), world.gateway.directory(), verifying_key(&world));
    assert_eq!(pair.unwrap_err(), EvidenceError::OtherNote);
}

#[test]
fn a_copy_that_makes_the_same_call_makes_the_same_spend() {
    // Session key, memo and change come from the root secret: two copies that spend one note for one class in one window
    // show one share, not two.
    let world = World::new();
    let (mut original, mut copy) = copies(&world);
    let (first, second) = (pay(&mut original, LANE0, 10, T0), pay(&mut copy, LANE0, 10, T0));
    assert_eq!(first.key, second.key);
    world.admit(&first);
    assert!(matches!(world.open(&second, T0), Ok(Opened::InProgress)));
}

#[test]
fn one_spend_at_two_gateways_counts_at_its_own_only() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let elsewhere = ready_for(&wallet, LANE0, OTHER_GATEWAY, 10, T0);
    let paid = wallet.authorise(elsewhere, &request(), T0).unwrap();
    assert!(matches!(world.open(&paid, T0), Err(AdmitError::WrongGateway(id)) if id == OTHER_GATEWAY));
    // With this gateway's id written over it, it is another context, and the session signature is not of it.
    let mut opening = Opening::from_bytes(&paid.opening).unwrap();
    opening.spend.gateway = GATEWAY;
    let error = world.gateway.open(&opening.to_bytes(), &request(), T0).unwrap_err();
    assert!(matches!(error, AdmitError::SessionSignature));
}

#[test]
fn half_a_transfer_and_a_call_of_one_note_are_evidence() {
    let world = World::new();
    let directory = world.gateway.directory();
    let (mut original, mut copy) = copies(&world);
    let sent = send(&mut original, [LANE0, LANE1], 20, T0);
    let halves = Transfer::from_bytes(&sent.transfer).unwrap().halves.map(|half| half.spend);
    for (half, lane) in halves.iter().zip(sent.lanes) {
        let call = spend_of(&pay(&mut copy, lane, 10, T0));
        for (first, second) in [(half, &call), (&call, half)] {
            let evidence = Evidence::new(first.clone(), second.clone(), directory, verifying_key(&world)).unwrap();
            let bytes = evidence.to_bytes();
            assert_eq!(bytes.len(), Spend::LENGTH + Spend::TRANSFER_LENGTH);
            let read = Evidence::from_bytes(&bytes, directory).unwrap();
            let mint = world.issuer.name(&read).unwrap().unwrap();
            assert_eq!(mint.payment, PaymentId::from_bytes([1; 32]));
            // Neither the lengths nor what the half names can be played with.
            for place in [1, 198, 230, bytes.len() - 1] {
                let mut altered = bytes.clone();
                altered[place] ^= 1;
                assert!(Evidence::from_bytes(&altered, directory).is_err(), "byte {place}");
            }
            assert!(Evidence::from_bytes(&bytes[..bytes.len() - 1], directory).is_err());
            assert!(Evidence::from_bytes(&[&bytes[..], &[0]].concat(), directory).is_err());
            assert!(Evidence::from_bytes(&bytes[..Spend::LENGTH], directory).is_err());
        }
    }
    // Two transfers of one note, too: both its halves are spent in two contexts.
    let mut third = world.funded(1);
    let other = send(&mut third, [LANE0, LANE1], 10, T0);
    let other = Transfer::from_bytes(&other.transfer).unwrap().halves.map(|half| half.spend);
    for (one, another) in halves.iter().zip(&other) {
        let evidence = Evidence::new(one.clone(), another.clone(), directory, verifying_key(&world)).unwrap();
        assert_eq!(evidence.to_bytes().len(), 2 * Spend::TRANSFER_LENGTH);
        Evidence::from_bytes(&evidence.to_bytes(), directory).unwrap();
    }
}

#[test]
fn the_halves_of_one_transfer_accuse_nobody() {
    let world = World::new();
    let directory = world.gateway.directory();
    let mut wallet = world.funded(1);
    let sent = send(&mut wallet, [LANE0, LANE1], 20, T0);
    let [give, take] = Transfer::from_bytes(&sent.transfer).unwrap().halves.map(|half| half.spend);
    let framed = |first: &Spend, second: &Spend| {
        Evidence::new(first.clone(), second.clone(), directory, verifying_key(&world)).unwrap_err()
    };
    assert_eq!(framed(&give, &take), EvidenceError::OtherNote);
    assert_eq!(framed(&give, &give), EvidenceError::SameSpend);
    assert_eq!(framed(&take, &take), EvidenceError::SameSpend);
    let bytes = [give.to_bytes(), take.to_bytes()].concat();
    assert_eq!(Evidence::from_bytes(&bytes, directory).unwrap_err(), EvidenceError::OtherNote);
    // Nor when it is made to look like another spend of the same note.
    type Change = fn(&mut Spend, &Spend);
    let changes: [(&str, Change); 5] = [
        ("as a call", |spend, _| spend.purpose = Purpose::Session),
        ("as a rollover", |spend, _| spend.purpose = Purpose::Rollover),
        ("of another note", |spend, other| spend.nullifier = other.nullifier),
        ("with another partner", |spend, _| {
            spend.purpose = Purpose::Transfer { nullifier: spend.nullifier, change: spend.change };
        }),
        ("of another amount", |spend, _| spend.charge = micro(10)),
    ];
    for (name, change) in changes {
        for (half, other) in [(&give, &take), (&take, &give)] {
            let mut altered = half.clone();
            change(&mut altered, other);
            for (first, second) in [(half, &altered), (&altered, half), (&altered, other), (other, &altered)] {
                let error = framed(first, second);
                assert!(matches!(error, EvidenceError::Verify(_) | EvidenceError::OtherNote), "{name}: {error}");
            }
        }
    }
}
