//! Callers whose gateway is gone, and callers that only say so (protocol, section 5, "Cancel").

use std::sync::Arc;

use halometer::clearing::{Desk, DeskError, DeskParts};
use halometer::gateway::{AdmitError, FetchError, Fetched, Rate};
use halometer::issuer::Issuer;
use halometer::lifecycle::SettledSpend;
use halometer::protocol::*;
use halometer::wallet::{Authorised, Wallet};

use crate::world::*;

/// The issuer's own address, which is no gateway's.
fn at_the_issuer() -> Request<'static> {
    Request::new("issuer.example.org", "POST", "/.well-known/halometer/cancel", ContentDigest::of(b"")).unwrap()
}

struct House {
    world: World,
    desk: Desk,
}

impl House {
    fn new() -> Self {
        Self::limited(Rate::UNLIMITED)
    }

    fn limited(cancels: Rate) -> Self {
        let world = World::new();
        let issuer = issuer(&world, world.issuer.directory().clone());
        let parts = DeskParts::new(issuer, world.set.clone(), LEASE).with_cancels(cancels);
        Self { desk: Desk::new(parts, T0).unwrap(), world }
    }

    fn paid(&self, class: u64) -> (Wallet, Authorised) {
        let mut wallet = self.world.funded(1);
        let paid = pay(&mut wallet, LANE0, class, T0);
        (wallet, paid)
    }

    fn cancel(&self, wallet: &Wallet, key: &SpendKey, now: Timestamp) -> Result<SettledSpend, DeskError> {
        self.desk.cancel(&wallet.cancel(key, &at_the_issuer()).unwrap(), &at_the_issuer(), now)
    }

    fn fetch(&self, wallet: &mut Wallet, key: &SpendKey) -> Result<Fetched, FetchError> {
        let following = wallet.fetch(key, &at_the_issuer()).unwrap();
        self.desk.fetch(&following, &at_the_issuer())
    }
}

fn issuer(world: &World, directory: Directory) -> Arc<Issuer> {
    let (mints, payments) = (world.mints.clone(), world.payments.clone());
    Arc::new(Issuer::new(&root_key(), directory, epoch_keys(), mints, payments).unwrap())
}

#[test]
fn a_gone_gateways_callers_get_their_credit_at_the_issuer() {
    let house = House::new();
    let (mut wallet, paid) = house.paid(10);
    assert!(matches!(house.fetch(&mut wallet, &paid.key), Err(FetchError::SessionSignature)));
    let settled = house.cancel(&wallet, &paid.key, T0).unwrap();
    assert_eq!(settled.settlement().refund, micro(10));
    // Again, and by asking: the same. The gateway, should it come back, serves nothing for it.
    assert_eq!(house.cancel(&wallet, &paid.key, T0).unwrap(), settled);
    assert_eq!(house.fetch(&mut wallet, &paid.key).unwrap(), Fetched::Settled(settled.clone()));
    assert!(matches!(house.world.open(&paid, T0), Ok(halometer::gateway::Opened::Settled(again)) if again == settled));
    wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    assert_eq!(wallet.balance().available, 100);
}

#[test]
fn a_call_being_served_is_not_refunded_behind_its_gateway() {
    let house = House::new();
    let (mut wallet, paid) = house.paid(10);
    let spend = house.world.admit(&paid);
    spend.meter(&*house.world.set, micro(4), T0).unwrap();
    for now in [T0, T0.after(u64::from(LEASE) - 1)] {
        let refused = house.cancel(&wallet, &paid.key, now).unwrap_err();
        assert_eq!((refused.problem(), refused.fault()), (Problem::WrongOwner, Problem::WrongOwner.fault()));
        assert_eq!(house.fetch(&mut wallet, &paid.key).unwrap(), Fetched::InProgress);
    }
    assert_eq!(house.world.records(), (1, 0));
    // After the lease it costs what was metered, and the gateway that comes back is told so.
    let after = T0.after(u64::from(LEASE));
    let settled = house.cancel(&wallet, &paid.key, after).unwrap();
    assert_eq!(settled.settlement().refund, micro(6));
    let late = house.world.issuer.settle(&*house.world.set, &spend, micro(10), after).unwrap();
    assert_eq!(late, settled);
}

#[test]
fn signatures_for_gateway_and_issuer_do_not_interchange() {
    let house = House::new();
    let (wallet, paid) = house.paid(10);
    let refused = |result: Result<_, DeskError>| matches!(result, Err(DeskError::Admit(AdmitError::SessionSignature)));
    // A gateway that keeps what it was sent, and sends it on.
    let for_the_gateway = wallet.cancel(&paid.key, &errand()).unwrap();
    assert!(refused(house.desk.cancel(&for_the_gateway, &at_the_issuer(), T0).map(drop)));
    let for_the_issuer = wallet.cancel(&paid.key, &at_the_issuer()).unwrap();
    let there = house.world.gateway.cancel(&for_the_issuer, &errand(), T0);
    assert!(matches!(there, Err(AdmitError::SessionSignature)));
    // Nor does an opening cancel anything.
    assert!(house.desk.cancel(&paid.opening, &at_the_issuer(), T0).is_err());
    assert_eq!(house.world.records(), (0, 0));
}

#[test]
fn spends_of_a_gateway_gone_from_the_directory_can_be_cancelled() {
    let house = House::new();
    let mut wallet = house.world.funded(1);
    let ready = ready_for(&wallet, LANE0, OTHER_GATEWAY, 10, T0);
    let paid = wallet.authorise(ready, &request(), T0).unwrap();
    for gone in [OTHER_GATEWAY, GATEWAY] {
        let mut parts = directory_parts();
        (parts.serial, parts.published) = (2, T0);
        parts.gateways.retain(|gateway| gateway.id != gone);
        let desk = house.desk.adopt(issuer(&house.world, Directory::new(parts).unwrap()), T0).unwrap();
        let settled = desk.cancel(&wallet.cancel(&paid.key, &at_the_issuer()).unwrap(), &at_the_issuer(), T0).unwrap();
        assert_eq!(settled.settlement().refund, micro(10), "{gone}");
    }
    // A directory that contradicts is not adopted.
    let mut parts = directory_parts();
    (parts.serial, parts.published, parts.quantum) = (2, T0, micro(5));
    assert!(house.desk.adopt(issuer(&house.world, Directory::new(parts).unwrap()), T0).is_err());
}

#[test]
fn a_double_spender_is_named_at_the_desk_too() {
    let house = House::new();
    let (_, here) = house.paid(10);
    let mut copy = house.world.funded(1);
    let ready = ready_for(&copy, LANE0, OTHER_GATEWAY, 20, T0);
    let there = copy.authorise(ready, &request(), T0).unwrap();
    house.world.admit(&here);
    let DeskError::Admit(AdmitError::DoubleSpend(evidence)) = house.cancel(&copy, &there.key, T0).unwrap_err() else {
        panic!("the second spend of a note was taken")
    };
    let named = house.world.issuer.name(&evidence).unwrap().unwrap();
    assert_eq!(named.payment, PaymentId::from_bytes([1; 32]));
}

#[test]
fn desk_cancels_are_limited_and_forged_proofs_use_no_quota() {
    let house = House::limited(Rate { per_minute: 1, burst: 1 });
    let (wallet, paid) = house.paid(10);
    let mut other = house.world.funded(2);
    let unsent = pay(&mut other, LANE1, 20, T0);
    let honest = wallet.cancel(&paid.key, &at_the_issuer()).unwrap();
    for _ in 0..3 {
        // Of the proof; the session signature does not cover it, so that it is still genuine.
        let mut forged = honest.clone();
        let place = Spend::LENGTH - 40;
        forged[place] ^= 1;
        let refused = house.desk.cancel(&forged, &at_the_issuer(), T0).unwrap_err();
        assert_eq!(refused.problem(), Problem::ProofInvalid);
    }
    house.desk.cancel(&honest, &at_the_issuer(), T0).unwrap();
    assert_eq!(house.cancel(&other, &unsent.key, T0).unwrap_err().problem(), Problem::Busy);
    // What is settled already is told at any rate.
    assert!(house.cancel(&wallet, &paid.key, T0).is_ok());
}

#[test]
fn an_inserted_unsettled_cancel_is_settled_by_the_next() {
    let house = House::new();
    let (wallet, paid) = house.paid(10);
    // Nothing issues: it could not be settled, and is not inserted.
    let pause = T0.after(2 * DAY).before(HOUR);
    let mut parts = directory_parts();
    parts.epochs.truncate(1);
    let desk = |directory: Directory| {
        let (issuer, set) = (issuer(&house.world, directory), house.world.set.clone());
        Desk::new(DeskParts::new(issuer, set, LEASE).with_cancels(Rate::UNLIMITED), T0).unwrap()
    };
    let before = desk(Directory::new(parts).unwrap());
    let bytes = wallet.cancel(&paid.key, &at_the_issuer()).unwrap();
    let at = pause.before(HOUR);
    let refused = before.cancel(&bytes, &at_the_issuer(), at).unwrap_err();
    assert_eq!(refused.problem(), Problem::StoreUnavailable, "{refused}");
    assert_eq!(house.world.records(), (0, 0));
    let settled = desk(house.world.issuer.directory().clone()).cancel(&bytes, &at_the_issuer(), at).unwrap();
    assert_eq!(settled.settlement().refund, micro(10));
}

#[test]
fn half_a_transfer_is_cancelled_at_nothing() {
    let house = House::new();
    let mut wallet = house.world.funded(1);
    let sent = send(&mut wallet, [LANE0, LANE1], 10, T0);
    for key in &sent.keys {
        let settled = house.cancel(&wallet, key, T0).unwrap();
        wallet.accept(key, settled.settlement(), T0).unwrap();
    }
    assert_eq!(worth(&wallet), [Some(60), Some(40)]);
}
