//! Sending a spend again: by its owner, and by an observer (protocol, section 5, "Session signature" and "Retry").

use halometer::gateway::{AdmitError, Opened};
use halometer::issuer::SettleError;
use halometer::protocol::*;
use halometer::store::{SpentSet, StoreError};

use crate::world::*;

#[test]
fn sending_a_spend_many_times_charges_once_and_serves_once() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let spend = world.admit(&paid);
    for _ in 0..3 {
        assert!(matches!(world.open(&paid, T0), Ok(Opened::InProgress)));
    }
    let settled = world.settle(&spend, 3);
    // Also for another request, which the wallet signs with the same session key.
    let other = Request::new("api.example.org", "POST", "/v1/embeddings", ContentDigest::of(b"[]")).unwrap();
    let resent = wallet.resend(&paid.key, &other).unwrap();
    assert_ne!(resent.opening, paid.opening, "other bytes, the same spend");
    match world.gateway.open(&resent.opening, &other, T0) {
        Ok(Opened::Settled(again)) => assert_eq!(again, settled),
        other => panic!("{other:?}"),
    }
    let totals = world.set.totals(EPOCH[0]).unwrap();
    assert_eq!((totals.settled, totals.cost, totals.open), (1, 3, 0));
}

#[test]
fn a_retry_is_answered_even_when_admission_would_now_fail() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let settled = world.settle(&world.admit(&paid), 3);
    // Its window is over. And the gateway has dropped its class.
    let mut parts = directory_parts();
    (parts.serial, parts.published, parts.classes) = (2, T0, vec![micro(1)]);
    let gateway = world.gateway.adopt(Directory::new(parts).unwrap(), T0.after(4 * HOUR)).unwrap();
    match gateway.open(&paid.opening, &request(), T0.after(4 * HOUR)) {
        Ok(Opened::Settled(again)) => assert_eq!(again, settled),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stolen_opening_pays_for_no_other_request() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let body = ContentDigest::of(b"{}");
    let stolen = [
        Request::new("evil.example.org", "POST", "/v1/chat/completions", body),
        Request::new("api.example.org", "PUT", "/v1/chat/completions", body),
        Request::new("api.example.org", "POST", "/v1/chat/completions?n=100", body),
        Request::new("api.example.org", "POST", "/v1/chat/completions", ContentDigest::of(b"{ }")),
        // The boundaries between the parts count.
        Request::new("api.example.orgP", "OST", "/v1/chat/completions", body),
        Request::new("api.example.org", "POST/", "v1/chat/completions", body),
    ];
    for request in stolen {
        let error = world.gateway.open(&paid.opening, &request.unwrap(), T0).unwrap_err();
        assert!(matches!(error, AdmitError::SessionSignature));
    }
    assert_eq!(world.set.totals(EPOCH[0]).unwrap().open, 0);
    // After it is settled, the thief does not learn the settlement either.
    world.settle(&world.admit(&paid), 3);
    assert!(world.gateway.open(&paid.opening, &stolen_body(), T0).is_err());
}

fn stolen_body() -> Request<'static> {
    Request::new("api.example.org", "POST", "/v1/chat/completions", ContentDigest::of(b"other")).unwrap()
}

#[test]
fn a_thief_without_the_session_key_cannot_put_another_in() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let mut opening = Opening::from_bytes(&paid.opening).unwrap();
    let own = SessionKey::from_bytes(&[7; 32]);
    opening.spend.session = own.public_key();
    // Under the thief's key the context differs; the thief signs that one, and the proof is not of it.
    let entry = *world.gateway.directory().epoch(EPOCH[0]).unwrap();
    let x = opening.spend.context(&world.gateway.directory().issuer(), &entry).hash().unwrap();
    opening.authorisation = Authorisation::sign(&own, &opening.spend.nullifier, &x, Action::Open, 0, &request());
    let error = world.gateway.open(&opening.to_bytes(), &request(), T0).unwrap_err();
    assert_eq!(error.problem(), Problem::ProofInvalid);
}

#[test]
fn another_process_settles_a_crashed_ones_work_after_its_lease() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let lost = world.admit(&paid);
    let other = world.replica(OwnerId::from_bytes([2; 16]));
    let during = T0.after(u64::from(LEASE) - 1);
    assert!(matches!(other.open(&paid.opening, &request(), during), Ok(Opened::InProgress)));
    assert!(world.set.lapsed(EPOCH[0], during, 10).unwrap().is_empty());
    let after = T0.after(u64::from(LEASE));
    let lapsed = world.set.lapsed(EPOCH[0], after, 10).unwrap();
    assert_eq!((lapsed.len(), lapsed[0].nullifier), (1, paid.key.nullifier));
    let taken = match other.open(&paid.opening, &request(), after) {
        Ok(Opened::Lapsed(spend)) => spend,
        other => panic!("{other:?}"),
    };
    // The one that comes back to life cannot settle any more, at whatever it thinks it has metered.
    let late = world.issuer.settle(&*world.set, &lost, micro(10), after);
    assert!(matches!(late, Err(SettleError::Store(StoreError::NotOwner))));
    let settled = world.issuer.settle(&*world.set, &taken, Credits::ZERO, after).unwrap();
    let accepted = wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    assert_eq!(accepted.cost, Credits::ZERO);
    assert_eq!(wallet.balance().available, 100);
    // Now it gets what is stored.
    let late = world.issuer.settle(&*world.set, &lost, micro(10), after).unwrap();
    assert_eq!(late, settled);
}

#[test]
fn a_retry_is_answered_when_its_epoch_is_over_but_still_kept() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let settled = world.settle(&world.admit(&paid), 3);
    let over = T0.after(3 * DAY);
    assert!(matches!(world.open(&paid, over), Ok(Opened::Settled(again)) if again == settled));
    world.set.close(EPOCH[0]).unwrap();
    assert!(matches!(world.open(&paid, over), Ok(Opened::Settled(again)) if again == settled));
    world.set.retire(EPOCH[0]).unwrap();
    assert_eq!(world.open(&paid, over).unwrap_err().problem(), Problem::UnknownEpoch);
}

#[test]
fn what_is_printed_names_no_nullifier() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let opening = Opening::from_bytes(&paid.opening).unwrap();
    let following = Following::from_bytes(&wallet.fetch(&paid.key, &request()).unwrap()).unwrap();
    let parsed = halometer::lifecycle::ParsedSpend::parse(&paid.opening, world.gateway.directory()).unwrap();
    let admitted = world.admit(&paid);
    let record = world.set.find(EPOCH[0], &paid.key.nullifier).unwrap();
    let settled = world.settle(&admitted, 3);
    let lanes: Vec<_> = wallet.lanes().collect();
    let entry = halometer::wallet::Journal::entry(wallet.journal(), &paid.key.nullifier).unwrap();
    let printed = [
        format!("{paid:?} {opening:?} {following:?} {parsed:?} {admitted:?} {record:?} {settled:?}"),
        format!("{lanes:?} {entry:?} {:?} {wallet:?} {:?} {:?}", wallet.journal(), world.gateway, world.set),
        format!(
            "{:?} {:?} {:?}",
            world.issuer,
            world.open(&paid, T0),
            world.gateway.fetch(&following.to_bytes(), &request())
        ),
    ]
    .join(" ");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let spend = &opening.spend;
    for secret in
        [spend.nullifier.to_bytes(), spend.share.to_bytes(), spend.change.to_bytes(), paid.key.context.to_bytes()]
    {
        assert!(!printed.contains(&hex(&secret)));
        assert!(!printed.contains(&format!("{:?}", &secret[..4])[1..10]), "as a list of numbers");
    }
}
