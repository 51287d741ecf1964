//! Calls that are served elsewhere: their report, and what becomes of them without one.

use std::time::Duration;

use halometer::http::beside::{Beside, BesideParts, CallReport, CallSettled, ProxySecret, SECRET_HEADER};
use halometer::http::payment::PaymentReceipt;
use halometer::http::pricing::Metered;
use halometer::http::wire::CANCEL_PATH;
use halometer::lifecycle::{AdmittedSpend, Reclaim};
use halometer::protocol::*;
use halometer::store::{Lease, RecordState};

use crate::world::*;
use halometer::http::clock::now;

async fn settled(answer: reqwest::Response) -> CallSettled {
    assert_eq!(answer.status(), 200, "{answer:?}");
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_settles_a_call_once_and_may_be_said_again() {
    let world = World::new(Options::default()).await;
    let mut caller = world.caller();
    let (key, call) = world.hold(&mut caller, 0).await;
    assert_eq!(world.cost(&key), None);
    let first = settled(world.report(&call_report(&call, 12)).await).await;
    assert_eq!((first.cost, world.cost(&key), world.tally.admitted()), (12, Some(12), 1));
    // The receipt is the caller's, and its wallet takes it.
    let receipt = PaymentReceipt::from_header_value(first.receipt.as_deref().unwrap()).unwrap();
    let settlement = Settlement::from_bytes(&receipt.settlement().unwrap()).unwrap();
    assert_eq!(caller.wallet.accept(&key, &settlement, now()).unwrap().cost.micro(), 12);
    // Settled before the time, so that it can be fetched.
    assert_eq!(settled(world.report(&call_report(&call, 12)).await).await, first);
    let other = world.report(&call_report(&call, 13)).await;
    assert_eq!(other.status(), 409);
    assert_eq!(world.cost(&key), Some(12));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_report_may_say() {
    let world = World::new(Options { hold_all: true, ..Options::default() }).await;
    let mut caller = world.caller();
    let (key, call) = world.hold(&mut caller, 0).await;
    let usage = |item: &str, units| CallReport {
        call: call.clone(),
        cost: None,
        usage: Some([(item.to_owned(), units)].into()),
        status: None,
    };
    // Nothing of these settles anything.
    let missing = CallReport { call: call.clone(), cost: None, usage: None, status: None };
    assert_eq!(world.report(&missing).await.status(), 400);
    assert_eq!(world.report(&usage("no such item", 1)).await.status(), 422);
    for unknown in ["", "x", "AAAAAAAAAAAAAAAAAAAAAA", &"A".repeat(5_000)] {
        assert_eq!(world.report(&call_report(unknown, 1)).await.status(), 404, "{unknown}");
    }
    assert_eq!(world.report(&call_report(&"A".repeat(20_000), 1)).await.status(), 413);
    assert_eq!(world.cost(&key), None);
    let fair = settled(world.report(&usage("output_token", 3)).await).await;
    assert_eq!((fair.cost, fair.withheld), (24, false));
    assert_eq!(world.cost(&key), Some(24));
    // More than the charge is the charge.
    let (key, call) = world.hold(&mut caller, 1).await;
    let dear = settled(world.report(&call_report(&call, u64::MAX)).await).await;
    assert_eq!((dear.cost, dear.withheld), (CLASS.micro(), true));
    assert_eq!(world.cost(&key), Some(CLASS.micro()));
    // A status leaves it to the pricing: a fixed price is for an answer that is a success.
    for (lane, status, cost) in [(2, 200, FIXED), (3, 502, 0)] {
        let (key, credential) = world.pay(&mut caller, lane, "/fixed/a", b"");
        let answer = world.check("/fixed/a", &[("authorization", &credential)]).await;
        let call = answer.headers()["halometer-call"].to_str().unwrap().to_owned();
        let report = CallReport { call, cost: None, usage: None, status: Some(status) };
        assert_eq!(settled(world.report(&report).await).await.cost, cost);
        assert_eq!(world.cost(&key), Some(cost));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reports_of_one_call_settle_it_once() {
    let world = std::sync::Arc::new(World::new(Options::default()).await);
    let (key, call) = world.hold(&mut world.caller(), 0).await;
    let reports: Vec<_> = (0..100u64)
        .map(|index| {
            let (world, call) = (world.clone(), call.clone());
            tokio::spawn(async move { (index % 2, world.report(&call_report(&call, 10 + index % 2)).await.status()) })
        })
        .collect();
    let mut taken = Vec::new();
    for report in reports {
        let (which, status) = report.await.unwrap();
        match status.as_u16() {
            200 => taken.push(which),
            409 => {}
            other => panic!("{other}"),
        }
    }
    taken.dedup();
    assert_eq!(taken.len(), 1);
    assert_eq!(world.cost(&key), Some(10 + taken[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_reported_in_time_costs_what_is_set_for_that() {
    let hold = Duration::from_secs(1);
    for (unreported, cost) in [
        (Metered::Charge, CLASS.micro()),
        (Metered::NOTHING, 0),
        (Metered::Cost(Credits::from_micro(UNREPORTED)), UNREPORTED),
    ] {
        let world = World::new(Options { hold, unreported, ..Options::default() }).await;
        let (key, call) = world.hold(&mut world.caller(), 0).await;
        until(|| world.cost(&key).is_some()).await;
        assert_eq!(world.cost(&key), Some(cost));
        // Too late, even if it says the same.
        for said in [3, cost] {
            let late = world.report(&call_report(&call, said)).await;
            assert!([404, 409].contains(&late.status().as_u16()), "{late:?}");
        }
        assert_eq!(world.cost(&key), Some(cost));
    }
}

/// A `kill -9` leaves behind what the set holds. The next owner of the record settles it at the configured cost.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_call_is_held_changes_nothing_about_its_price() {
    for (unreported, cost) in
        [(Metered::Cost(Credits::from_micro(UNREPORTED)), UNREPORTED), (Metered::Charge, 4_000), (Metered::NOTHING, 0)]
    {
        let world = World::new(Options { unreported, ..Options::default() }).await;
        let (key, _) = world.hold(&mut world.caller(), 0).await;
        let set = world.gateway.set();
        let record = set.find(key.epoch, &key.nullifier).unwrap().unwrap();
        assert!(matches!(record.state, RecordState::Open { metered, .. } if metered.micro() == cost), "{record:?}");
        let later = halometer::http::clock::now().after(1_000);
        let lease = Lease { owner: OwnerId::from_bytes(*b"another process!"), until: later.after(60) };
        let Reclaim::Open(spend) = AdmittedSpend::reclaim(set, &record.key, lease, later).unwrap() else { panic!() };
        assert_eq!(spend.lapsed_cost(world.gateway.directory().quantum()).micro(), cost);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_cannot_be_cancelled_out_of_its_price() {
    let world = World::new(Options { hold: Duration::from_secs(3), ..Options::default() }).await;
    let mut caller = world.caller();
    let (key, _call) = world.hold(&mut caller, 0).await;
    let request = Request::new(&world.host, "POST", CANCEL_PATH, ContentDigest::of(b"")).unwrap();
    let cancellation = caller.wallet.cancel(&key, &request).unwrap();
    let answer = world.post_own(CANCEL_PATH, None, cancellation).await;
    // It waited until nobody worked on it any more.
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(world.cost(&key), Some(UNREPORTED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_can_be_fetched_before_and_after_the_report() {
    let world = World::new(Options::default()).await;
    let mut caller = world.caller();
    let (key, call) = world.hold(&mut caller, 0).await;
    assert_eq!(world.fetch(&mut caller, &key).await, 409);
    settled(world.report(&call_report(&call, 5)).await).await;
    assert_eq!(world.fetch(&mut caller, &key).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_waits_for_reports_and_then_settles() {
    let world = World::new(Options::default()).await;
    let mut caller = world.caller();
    let (first, call) = world.hold(&mut caller, 0).await;
    let (second, _) = world.hold(&mut caller, 1).await;
    let beside = world.beside.clone();
    let draining = tokio::spawn(async move { beside.drain(Duration::from_secs(1)).await });
    settled(world.report(&call_report(&call, 6)).await).await;
    assert!(!draining.is_finished());
    draining.await.unwrap();
    assert_eq!((world.cost(&first), world.cost(&second)), (Some(6), Some(UNREPORTED)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_not_held_longer_than_its_lease() {
    let world = World::new(Options::default()).await;
    for (hold, fits) in [(669, true), (670, false), (u64::MAX, false)] {
        let parts = BesideParts::new(world.layer.clone(), ProxySecret::new(SECRET).unwrap(), Duration::from_secs(hold));
        assert_eq!(Beside::new(parts).is_ok(), fits, "{hold}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_without_the_secret_gets_no_answer() {
    let world = World::new(Options::default()).await;
    let (key, credential) = world.pay(&mut world.caller(), 0, "/told", b"");
    let grpc = "/envoy.service.auth.v3.Authorization/Check";
    let checks = ["/check/nginx", "/check/forwarded", "/check/forwarded/body", grpc];
    for path in checks.into_iter().chain(["/.well-known/halometer/report", "/"]) {
        for secret in [None, Some(""), Some("x"), Some(&SECRET[1..])] {
            let request = plain_client().post(format!("{}{path}", world.inner_url()));
            let request = request.header("authorization", &credential).header("x-original-method", "POST");
            let request = request.header("x-original-uri", "/told").header("x-original-host", &world.host);
            let request = secret.iter().fold(request, |request, secret| request.header(SECRET_HEADER, *secret));
            assert_eq!(request.send().await.unwrap().status(), 403, "{path} {secret:?}");
        }
    }
    let request = plain_client().post(format!("{}/check/nginx", world.inner_url()));
    let twice = request.header(SECRET_HEADER, SECRET).header(SECRET_HEADER, SECRET);
    assert_eq!(twice.send().await.unwrap().status(), 403);
    assert!(world.gateway.set().find(key.epoch, &key.nullifier).unwrap().is_none());
}
