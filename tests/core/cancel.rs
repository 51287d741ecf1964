//! Cancelling at every stage, and cancelling what is not one's own (protocol, section 5, "Cancel").

use halometer::gateway::{AdmitError, Cancelled, Opened, Quotas, Rate};
use halometer::issuer::SettleError;
use halometer::lifecycle::SettledSpend;
use halometer::protocol::*;
use halometer::store::SpentSet;
use halometer::wallet::{NotInFlight, Wallet};

use crate::world::*;

fn accept(wallet: &mut Wallet, settled: &SettledSpend) {
    wallet.accept(&settled.key(), settled.settlement(), FLIP).unwrap();
}

fn already(cancelled: Result<Cancelled, AdmitError>) -> SettledSpend {
    match cancelled {
        Ok(Cancelled::Settled(settled)) => settled,
        other => panic!("{other:?}"),
    }
}

#[test]
fn cancelling_an_unseen_spend_refunds_it_and_blocks_it() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let settled = world.cancel_unseen(&wallet, &paid.key, T0);
    assert_eq!(settled.settlement().refund, micro(10));
    // The opening was on its way all the time.
    assert!(matches!(world.open(&paid, T0), Ok(Opened::Settled(again)) if again == settled));
    assert_eq!(already(world.cancel(&wallet, &paid.key, T0)), settled);
    accept(&mut wallet, &settled);
    assert_eq!(worth(&wallet), [Some(60), Some(40)]);
    assert_eq!(wallet.cancel(&paid.key, &errand()), Err(NotInFlight));
    // The change is a note like any other.
    let next = pay(&mut wallet, LANE0, 20, T0);
    let settled = world.settle(&world.admit(&next), 20);
    accept(&mut wallet, &settled);
    assert_eq!(worth(&wallet), [Some(40), Some(40)]);
}

#[test]
fn the_issuer_stops_charges_for_work_that_never_began() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let Ok(Cancelled::Fresh(spend)) = world.cancel(&wallet, &paid.key, T0) else { panic!("it was not in the set") };
    assert_eq!((spend.charge(), spend.cap()), (micro(10), Credits::ZERO));
    for cost in [1, 10] {
        let refused = world.issuer.settle(&*world.set, &spend, micro(cost), T0);
        assert!(matches!(refused, Err(SettleError::AboveCap { cap: Credits::ZERO, .. })));
    }
    accept(&mut wallet, &world.settle(&spend, 0));
    assert_eq!(wallet.balance().available, 100);
}

#[test]
fn a_running_call_refunds_nothing_until_it_is_stopped() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let spend = world.admit(&paid);
    for _ in 0..2 {
        assert!(matches!(world.cancel(&wallet, &paid.key, T0), Ok(Cancelled::Running(key)) if key == paid.key));
    }
    assert_eq!(world.records(), (1, 0));
    // Stopped: what was metered by then is what it costs.
    let settled = world.settle(&spend, 4);
    assert_eq!(already(world.cancel(&wallet, &paid.key, T0)), settled);
    accept(&mut wallet, &settled);
    assert_eq!(wallet.balance().available, 96);
}

#[test]
fn a_call_that_runs_elsewhere_is_not_cancelled_here() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let spend = world.admit(&paid);
    let replica = world.replica(OwnerId::from_bytes([2; 16]));
    let cancel = wallet.cancel(&paid.key, &errand()).unwrap();
    let before = T0.after(u64::from(LEASE) - 1);
    assert!(matches!(replica.cancel(&cancel, &errand(), before), Ok(Cancelled::Elsewhere)));
    let settled = world.settle(&spend, 4);
    assert_eq!(already(replica.cancel(&cancel, &errand(), before)), settled);
    accept(&mut wallet, &settled);
}

#[test]
fn a_call_whose_process_died_is_cancelled_at_what_was_metered() {
    for metered in [0, 6] {
        let world = World::new();
        let mut wallet = world.funded(1);
        let paid = pay(&mut wallet, LANE0, 10, T0);
        let dead = world.admit(&paid);
        if metered > 0 {
            dead.meter(&*world.set, micro(metered), T0).unwrap();
        }
        let replica = world.replica(OwnerId::from_bytes([2; 16]));
        let cancel = wallet.cancel(&paid.key, &errand()).unwrap();
        let after = T0.after(u64::from(LEASE));
        let spend = match replica.cancel(&cancel, &errand(), after) {
            Ok(Cancelled::Lapsed(spend)) => spend,
            other => panic!("{other:?}"),
        };
        assert_eq!(spend.metered(), micro(metered));
        // It is the replica's now, for a lease.
        assert!(matches!(replica.cancel(&cancel, &errand(), after), Ok(Cancelled::Running(_))));
        assert!(matches!(world.cancel(&wallet, &paid.key, after), Ok(Cancelled::Elsewhere)));
        assert!(world.issuer.settle(&*world.set, &dead, micro(10), after).is_err());
        let settled = world.issuer.settle(&*world.set, &spend, spend.metered(), after).unwrap();
        // The dead one comes back to life, with another cost in mind.
        assert_eq!(world.issuer.settle(&*world.set, &dead, micro(10), after).unwrap(), settled);
        accept(&mut wallet, &settled);
        assert_eq!(wallet.balance().available, 100 - u128::from(metered));
    }
}

#[test]
fn a_process_that_died_while_it_cancelled_loses_nothing() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    assert!(matches!(world.cancel(&wallet, &paid.key, T0), Ok(Cancelled::Fresh(_))));
    assert!(matches!(world.open(&paid, T0), Ok(Opened::InProgress)), "nothing is served meanwhile");
    let after = T0.after(u64::from(LEASE));
    let spend = match world.open(&paid, after) {
        Ok(Opened::Lapsed(spend)) => spend,
        other => panic!("{other:?}"),
    };
    assert_eq!(spend.metered(), Credits::ZERO);
    accept(&mut wallet, &world.issuer.settle(&*world.set, &spend, spend.metered(), after).unwrap());
    assert_eq!(wallet.balance().available, 100);
}

#[test]
fn what_no_gateway_admits_any_more_is_cancelled() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let mut parts = directory_parts();
    let valid = parts.tariffs[0].valid();
    (parts.serial, parts.published, parts.classes) = (2, T0, vec![micro(1)]);
    parts.tariffs = vec![Tariff::new(Window { until: valid.until.after(1), ..valid }, vec![]).unwrap()];
    let late = T0.after(5 * HOUR);
    let gateway = world.gateway.adopt(Directory::new(parts).unwrap(), late).unwrap();
    assert!(matches!(gateway.open(&paid.opening, &request(), late), Err(AdmitError::Expired(_))));
    assert!(matches!(gateway.open(&paid.opening, &request(), T0), Err(AdmitError::UnknownTariff)));
    let cancel = wallet.cancel(&paid.key, &errand()).unwrap();
    let Ok(Cancelled::Fresh(spend)) = gateway.cancel(&cancel, &errand(), late) else { panic!("not cancelled") };
    accept(&mut wallet, &world.issuer.settle(&*world.set, &spend, Credits::ZERO, late).unwrap());
    assert_eq!(wallet.balance().available, 100);
}

#[test]
fn a_cancel_after_the_flip_gives_change_of_the_issuing_epoch() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let last = FLIP.after(DAY).before(1);
    let settled = world.cancel_unseen(&wallet, &paid.key, last);
    assert_eq!(settled.settlement().epoch, EPOCH[1]);
    assert!(world.set.find(EPOCH[0], &paid.key.nullifier).unwrap().is_some(), "filed under the spent epoch");
    accept(&mut wallet, &settled);
    assert_eq!(wallet.balance().available, 100);
}

#[test]
fn after_its_epoch_only_what_is_in_the_set_is_answered() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let over = FLIP.after(DAY);
    let known = pay(&mut wallet, LANE0, 10, T0);
    let settled = world.settle(&world.admit(&known), 3);
    let unseen = pay(&mut wallet, LANE1, 10, T0);
    for now in [over, over.after(30 * DAY), T0.before(HOUR + Grid::EARLY + 1)] {
        let refused = world.cancel(&wallet, &unseen.key, now).unwrap_err();
        assert!(matches!(refused, AdmitError::NotSpendable(_) | AdmitError::NotYetSpendable { .. }));
        assert_eq!(already(world.cancel(&wallet, &known.key, now)), settled);
    }
    // The same when the partition closes before the directory says so, and when it is gone.
    world.set.close(EPOCH[0]).unwrap();
    assert_eq!(world.cancel(&wallet, &unseen.key, T0).unwrap_err().problem(), Problem::UnknownEpoch);
    assert_eq!(already(world.cancel(&wallet, &known.key, T0)), settled);
    world.set.retire(EPOCH[0]).unwrap();
    for paid in [&known, &unseen] {
        assert_eq!(world.cancel(&wallet, &paid.key, T0).unwrap_err().problem(), Problem::UnknownEpoch);
    }
    assert_eq!(world.records(), (0, 1));
}

#[test]
fn an_altered_spend_is_not_cancelled() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let cancel = wallet.cancel(&paid.key, &errand()).unwrap();
    let head = Spend::LENGTH - halometer::circuits::proof::Proof::LENGTH;
    let places = (0..head).chain((head..Spend::LENGTH).step_by(97)).chain(Spend::LENGTH..cancel.len());
    for place in places {
        let mut altered = cancel.clone();
        altered[place] ^= 1 << (place % 8);
        assert!(world.gateway.cancel(&altered, &errand(), T0).is_err(), "byte {place}");
    }
    for bytes in [&[], &cancel[1..], &[&cancel[..], &[0]].concat()[..]] {
        assert_eq!(world.gateway.cancel(bytes, &errand(), T0).unwrap_err().problem(), Problem::Malformed);
    }
    assert!(matches!(world.gateway.cancel(&cancel, &request(), T0), Err(AdmitError::SessionSignature)));
    assert_eq!(world.records(), (0, 0));
    let settled = world.cancel_unseen(&wallet, &paid.key, T0);
    accept(&mut wallet, &settled);
}

#[test]
fn a_proof_of_another_spend_cancels_nothing() {
    // Two wallets with one root secret have the session keys of both spends.
    let world = World::new();
    let (mut original, mut copy) = (world.funded(1), world.funded(1));
    let (first, second) = (pay(&mut original, LANE0, 10, T0), pay(&mut copy, LANE0, 20, T0));
    let mut cancel = original.cancel(&first.key, &errand()).unwrap();
    let proof = Spend::LENGTH - halometer::circuits::proof::Proof::LENGTH..Spend::LENGTH;
    cancel[proof.clone()].copy_from_slice(&second.opening[proof]);
    let one = Rate { per_minute: 60, burst: 1 };
    let limited = world.limited(Quotas { cancels: one, ..Quotas::default() });
    for _ in 0..3 {
        assert_eq!(limited.cancel(&cancel, &errand(), T0).unwrap_err().problem(), Problem::ProofInvalid);
    }
    assert_eq!(world.records(), (0, 0));
    // It did not use up the quota of those whose proofs hold.
    let honest = original.cancel(&first.key, &errand()).unwrap();
    assert!(matches!(limited.cancel(&honest, &errand(), T0), Ok(Cancelled::Fresh(_))));
}

#[test]
fn a_thief_with_another_session_key_cancels_nothing() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let Opening { mut spend, .. } = Opening::from_bytes(&paid.opening).unwrap();
    let own = SessionKey::from_bytes(&[7; 32]);
    let sign = |spend: &Spend| {
        let entry = *world.gateway.directory().epoch(EPOCH[0]).unwrap();
        let x = spend.context(&world.gateway.directory().issuer(), &entry).hash().unwrap();
        let authorisation = Authorisation::sign(&own, &spend.nullifier, &x, Action::Cancel, 0, &errand());
        Cancellation { spend: spend.clone(), authorisation }.to_bytes()
    };
    let with_the_thiefs_signature = sign(&spend);
    spend.session = own.public_key();
    let with_the_thiefs_key = sign(&spend);
    let cancel = |bytes: &[u8]| world.gateway.cancel(bytes, &errand(), T0).unwrap_err().problem();
    assert_eq!(cancel(&with_the_thiefs_signature), Problem::SessionSignatureInvalid);
    assert_eq!(cancel(&with_the_thiefs_key), Problem::ProofInvalid);
    assert_eq!(world.records(), (0, 0));
    // Nor when it runs, and the thief could learn that it does.
    world.admit(&paid);
    assert_eq!(cancel(&with_the_thiefs_signature), Problem::SessionSignatureInvalid);
    assert_eq!(cancel(&with_the_thiefs_key), Problem::ProofInvalid, "and nobody is accused");
}

#[test]
fn a_spend_for_another_gateway_is_not_cancelled_here() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let elsewhere = ready_for(&wallet, LANE0, OTHER_GATEWAY, 10, T0);
    let paid = wallet.authorise(elsewhere, &request(), T0).unwrap();
    let refused = world.cancel(&wallet, &paid.key, T0).unwrap_err();
    assert!(matches!(refused, AdmitError::WrongGateway(id) if id == OTHER_GATEWAY));
    assert_eq!(world.records(), (0, 0));
}

#[test]
fn captured_openings_and_cancels_do_not_stand_for_each_other() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let cancel = wallet.cancel(&paid.key, &request()).unwrap();
    assert_eq!(world.gateway.cancel(&paid.opening, &request(), T0).unwrap_err().problem(), Problem::Malformed);
    assert_eq!(world.gateway.open(&cancel, &request(), T0).unwrap_err().problem(), Problem::Malformed);
    // With the other action written over it, the signature is not of it.
    let turned = |bytes: &[u8], action: Action| {
        let mut bytes = bytes.to_vec();
        bytes[Spend::LENGTH] = action.number();
        bytes
    };
    let stopped = world.gateway.cancel(&turned(&paid.opening, Action::Cancel), &request(), T0);
    assert!(matches!(stopped, Err(AdmitError::SessionSignature)));
    let opened = world.gateway.open(&turned(&cancel, Action::Open), &request(), T0);
    assert!(matches!(opened, Err(AdmitError::SessionSignature)));
    assert_eq!(world.records(), (0, 0));
}

#[test]
fn cancelling_one_of_two_spends_names_the_spender_at_no_gain() {
    let payment = PaymentId::from_bytes([1; 32]);
    for cancel_first in [true, false] {
        let world = World::new();
        let (mut original, mut copy) = (world.funded(1), world.funded(1));
        let (first, second) = (pay(&mut original, LANE0, 10, T0), pay(&mut copy, LANE0, 20, T0));
        let refused = if cancel_first {
            world.cancel_unseen(&copy, &second.key, T0);
            world.open(&first, T0).unwrap_err()
        } else {
            world.settle(&world.admit(&first), 10);
            world.cancel(&copy, &second.key, T0).unwrap_err()
        };
        let AdmitError::DoubleSpend(evidence) = refused else { panic!("{refused:?}") };
        assert_eq!(world.issuer.name(&evidence).unwrap().unwrap().payment, payment);
        assert_eq!(world.records(), (0, 1));
        let books = world.issuer.books(&*world.set).unwrap();
        assert_eq!(books.outstanding, if cancel_first { 100 } else { 90 });
        // Once nobody can be named any more, it is refused all the same.
        world.set.erase_evidence(EPOCH[0], T0.after(1)).unwrap();
        let refused = if cancel_first {
            world.open(&first, T0).map(drop)
        } else {
            world.cancel(&copy, &second.key, T0).map(drop)
        };
        assert!(matches!(refused, Err(AdmitError::AlreadySpent)));
    }
}

#[test]
fn a_used_up_quota_is_busy_and_changes_nothing() {
    let world = World::new();
    let one = Rate { per_minute: 60, burst: 1 };
    let limited = world.limited(Quotas { cancels: one, ..Quotas::default() });
    let (mut wallet, mut copy) = (world.funded(1), world.funded(1));
    let [first, second] = [LANE0, LANE1].map(|lane| pay(&mut wallet, lane, 10, T0));
    let other = pay(&mut copy, LANE0, 20, T0);
    let [a, b] = [&first, &second].map(|paid| wallet.cancel(&paid.key, &errand()).unwrap());
    let conflicting = copy.cancel(&other.key, &errand()).unwrap();
    assert!(matches!(limited.cancel(&a, &errand(), T0), Ok(Cancelled::Fresh(_))));
    let refused = limited.cancel(&b, &errand(), T0).unwrap_err();
    assert_eq!((refused.problem(), refused.fault()), (Problem::Busy, Fault::Nobody));
    assert_eq!(world.records(), (1, 0));
    // What is in the set costs nothing to answer. A conflict costs two proofs, and needs no note to be made up.
    assert!(matches!(limited.cancel(&a, &errand(), T0), Ok(Cancelled::Running(_))));
    assert_eq!(limited.cancel(&conflicting, &errand(), T0).unwrap_err().problem(), Problem::Busy);
    // The quota is of its own kind, and comes back.
    assert!(matches!(limited.open(&second.opening, &request(), T0), Ok(Opened::Admitted(_))));
    let named = limited.cancel(&conflicting, &errand(), T0.after(1)).unwrap_err();
    assert!(matches!(named, AdmitError::DoubleSpend(_)));
}

#[test]
fn a_spend_racing_its_cancel_is_served_or_free_never_both() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let replica = world.replica(OwnerId::from_bytes([2; 16]));
    let (mut served, mut free) = (0, 0);
    for round in 0..12 {
        let paid = pay(&mut wallet, LANE0, 5, T0);
        let cancel = wallet.cancel(&paid.key, &errand()).unwrap();
        let (world, replica, paid, cancel) = (&world, &replica, &paid, &cancel);
        let outcomes: Vec<(u64, u64)> = std::thread::scope(|scope| {
            let race = |i: usize| {
                let gateway = if i.is_multiple_of(2) { &world.gateway } else { replica };
                // The party that begins last differs from round to round.
                let opens = (i + round) % 4 < 2;
                scope.spawn(move || {
                    if opens {
                        match gateway.open(&paid.opening, &request(), T0).unwrap() {
                            Opened::Admitted(spend) => {
                                world.settle(&spend, 2);
                                (1, 0)
                            }
                            Opened::InProgress | Opened::Settled(_) => (0, 0),
                            other => panic!("{other:?}"),
                        }
                    } else {
                        match gateway.cancel(cancel, &errand(), T0).unwrap() {
                            Cancelled::Fresh(spend) => {
                                world.settle(&spend, 0);
                                (0, 1)
                            }
                            Cancelled::Running(_) | Cancelled::Elsewhere | Cancelled::Settled(_) => (0, 0),
                            other => panic!("{other:?}"),
                        }
                    }
                })
            };
            let threads: Vec<_> = (0..8).map(race).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (opened, cancelled) = outcomes.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        assert_eq!(opened + cancelled, 1, "round {round}");
        (served, free) = (served + opened, free + cancelled);
        let settled = already(world.cancel(&wallet, &paid.key, T0));
        assert_eq!(settled.settlement().refund, micro(5 - 2 * opened));
        accept(&mut wallet, &settled);
    }
    assert_eq!(wallet.balance().available, 100 - 2 * u128::from(served));
    assert_eq!(world.issuer.books(&*world.set).unwrap().outstanding, wallet.balance().total());
    assert_eq!(served + free, 12);
}
