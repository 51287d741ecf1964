//! A call from the mint to the change, with the numbers of the protocol's worked example.

use halometer::gateway::{Fetched, Opened, Screened};
use halometer::lifecycle::{VerifyError, verify_batch};
use halometer::protocol::*;
use halometer::wallet::{Balance, LaneId, LaneStatus};

use crate::world::*;

#[test]
fn a_call_costs_what_it_cost_to_the_micro_credit() {
    let world = World::new();
    let mut wallet = world.funded(1);
    assert_eq!(wallet.balance(), Balance { available: 100, waiting: 0, reserved: 0, ..Balance::default() });

    // 60 - 10: 50 are hidden, and 7 of the 10 come back.
    let paid = pay(&mut wallet, LANE0, 10, T0);
    assert_eq!(paid.opening.len(), Opening::LENGTH);
    assert_eq!(wallet.balance(), Balance { available: 40, waiting: 50, reserved: 10, ..Balance::default() });
    let spend = world.admit(&paid);
    assert_eq!(spend.charge(), micro(10));
    let settled = world.settle(&spend, 3);
    let settlement = Settlement::from_bytes(&settled.settlement().to_bytes()).unwrap();
    let accepted = wallet.accept(&paid.key, &settlement, T0).unwrap();
    assert_eq!((accepted.charge, accepted.cost, accepted.refund), (micro(10), micro(3), micro(7)));
    assert_eq!(wallet.balance(), Balance { available: 97, waiting: 0, reserved: 0, ..Balance::default() });

    // The change is a note: v = 50 and r = 7 pay for 20, and at another gateway's proof nothing differs.
    let paid = pay(&mut wallet, LANE0, 20, T0);
    let settled = world.settle(&world.admit(&paid), 20);
    wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    let status = wallet.lanes().next().unwrap().1;
    assert_eq!(status, LaneStatus::Idle { value: micro(37), epoch: EPOCH[0] });

    let books = world.issuer.books(&*world.set).unwrap();
    assert_eq!((books.minted, books.charged, books.refunded), (100, 23, 7));
    assert_eq!((books.held, books.outstanding), (0, 77));
    assert_eq!(books.epochs[&EPOCH[0]].spends.cost, 23);
    assert_eq!(wallet.balance().total(), books.outstanding);
}

#[test]
fn ready_proofs_are_kept_taken_and_thrown_away() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let (class, mut rng) = (micro(10), rng(1));
    let lanes = wallet.lanes_to_prove(&GATEWAY, class, T0);
    assert_eq!(lanes.len(), 2, "the lanes that are worth nothing cannot pay");
    assert!(wallet.take(&GATEWAY, class, T0, &mut rng).is_none());
    for lane in lanes {
        let ready = ready(&wallet, lane, 10, T0);
        wallet.keep(ready);
    }
    assert_eq!(wallet.ready(&GATEWAY, class, T0), 2);
    assert!(wallet.lanes_to_prove(&GATEWAY, class, T0).is_empty());
    assert!(wallet.take(&OTHER_GATEWAY, class, T0, &mut rng).is_none());
    assert!(wallet.take(&GATEWAY, micro(20), T0, &mut rng).is_none());
    let taken = wallet.take(&GATEWAY, class, T0, &mut rng).unwrap();
    assert_eq!(wallet.ready(&GATEWAY, class, T0), 1);
    drop(taken);
    // Five minutes into the next window a gateway takes them no more.
    let later = T0.after(HOUR + Grid::GRACE);
    assert_eq!(wallet.ready(&GATEWAY, class, later), 0);
    assert_eq!(wallet.lanes_to_prove(&GATEWAY, class, later).len(), 2);
    wallet.discard_stale(later);
    assert_eq!(wallet.ready(&GATEWAY, class, T0), 0);
}

#[test]
fn a_batch_admits_the_good_and_names_the_bad() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let good = pay(&mut wallet, LANE0, 10, T0);
    let lane1 = LaneId { lane: 1, ..LANE0 };
    let mut bad = pay(&mut wallet, lane1, 10, T0);
    let last = Spend::LENGTH - 1;
    bad.opening[last] ^= 1;
    let screened = [&good, &bad].map(|paid| match world.gateway.screen(&paid.opening, &request(), T0).unwrap() {
        Screened::Unknown(spend) => spend,
        other => panic!("{other:?}"),
    });
    let key = world.gateway.verifying_key(EPOCH[0]).unwrap();
    let mut verdicts = verify_batch(screened.into_iter().map(|spend| (spend, key)).collect(), &mut rng(1)).into_iter();
    let verified = verdicts.next().unwrap().unwrap();
    assert!(matches!(world.gateway.admit(verified, T0), Ok(Opened::Admitted(_))));
    assert_eq!(verdicts.next().unwrap().unwrap_err().problem(), Problem::ProofInvalid);
    assert!(verdicts.next().is_none());
}

#[test]
fn a_proof_is_not_verified_under_the_key_of_another_epoch() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let lane1 = LaneId { lane: 1, ..LANE0 };
    let screened = [LANE0, lane1].map(|lane| {
        let paid = pay(&mut wallet, lane, 10, T0);
        match world.gateway.screen(&paid.opening, &request(), T0).unwrap() {
            Screened::Unknown(spend) => spend,
            other => panic!("{other:?}"),
        }
    });
    let [wrong, right] = [EPOCH[1], EPOCH[0]].map(|epoch| world.gateway.verifying_key(epoch).unwrap());
    let [first, second] = screened;
    // In a batch, too, where it must not shift its neighbours' verdicts.
    let verdicts = verify_batch(vec![(first, wrong), (second, right)], &mut rng(1));
    assert_eq!(verdicts[0].as_ref().unwrap_err(), &VerifyError::OtherEpochKey);
    assert!(verdicts[1].is_ok());
}

#[test]
fn a_settlement_can_be_fetched_afterwards_by_its_session_only() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let fetch = Request::new("api.example.org", "GET", "/settlement", ContentDigest::of(b"")).unwrap();
    let unknown = wallet.fetch(&paid.key, &fetch).unwrap();
    assert_eq!(world.gateway.fetch(&unknown, &fetch).unwrap_err().problem(), Problem::SessionSignatureInvalid);

    let spend = world.admit(&paid);
    let asked = wallet.fetch(&paid.key, &fetch).unwrap();
    assert_ne!(asked, unknown, "each request has its own sequence number");
    assert_eq!(world.gateway.fetch(&asked, &fetch).unwrap(), Fetched::InProgress);
    let settled = world.settle(&spend, 3);
    assert_eq!(world.gateway.fetch(&asked, &fetch).unwrap(), Fetched::Settled(settled));
    // Not with the signature of another request, nor with another's.
    assert!(world.gateway.fetch(&asked, &request()).is_err());
    for byte in [Following::LENGTH - 1, 1 + 4 + 32] {
        let mut forged = asked.clone();
        forged[byte] ^= 1;
        assert!(world.gateway.fetch(&forged, &fetch).is_err());
    }
    // Not even with the same session key, for another context of the note, as a copy of the wallet could.
    let mut copy = world.funded(1);
    let other = pay(&mut copy, LANE0, 20, T0);
    let asked = copy.fetch(&other.key, &fetch).unwrap();
    assert_eq!(world.gateway.fetch(&asked, &fetch).unwrap_err().problem(), Problem::SessionSignatureInvalid);
    // Nor in an epoch that is in no directory.
    let mut nowhere = asked.clone();
    nowhere[1..5].copy_from_slice(&[0, 0, 0, 9]);
    assert_eq!(world.gateway.fetch(&nowhere, &fetch).unwrap_err().problem(), Problem::UnknownEpoch);
    // A spend's own opening is not a request to fetch.
    assert_eq!(world.gateway.fetch(&paid.opening, &request()).unwrap_err().problem(), Problem::Malformed);
}

#[test]
fn credit_of_an_epoch_that_is_over_counts_as_void() {
    let world = World::new();
    let wallet = world.funded(1);
    let until = world.issuer.directory().epoch(EPOCH[0]).unwrap().spend.until;
    let at = |now| {
        let sums = wallet.balance_at(now, HOUR);
        (sums.total(), sums.ending, sums.void)
    };
    assert_eq!(at(T0), (100, 0, 0));
    assert_eq!(at(until.before(HOUR)), (100, 100, 0));
    assert_eq!(at(until.before(1)), (100, 100, 0));
    assert_eq!(at(until), (0, 0, 100));
    assert_eq!(wallet.void_from(EPOCH[0]), Some(until));
}
