//! The issuer over HTTP: notices of payments, callers whose gateway is gone, gateways that share no set; and what strangers send.

use std::sync::Arc;
use std::time::Duration;

use halometer::clearing::{
    ClearingAnswer, ClearingProblem, ClearingRequest, Envelope, Progress, RemoteGateway, RemoteSpend,
};
use halometer::gateway::{Opened, Quotas, Rate};
use halometer::http::clock::now;
use halometer::http::issuer::{ClearingLimits, IssuerService, NOTICE_SIGNATURE, NoticeAnswer, NoticeResult};
use halometer::http::payer::{Client, ClientError};
use halometer::http::payment::{Credential, Payload, PaymentChallenge};
use halometer::http::server::Listener;
use halometer::http::wire::{CANCEL_PATH, DIRECTORY_PATH, SETTLEMENT_PATH};
use halometer::http::wire::{CLEARING_PATH, MINT_PATH, NOTICE_PATH};
use halometer::issuer::Issuer;
use halometer::protocol::*;
use halometer::store::{PaymentBook, SpentSet};
use halometer::wallet::{Authorised, MemoryJournal, RootSecret, Wallet};
use hmac::{Hmac, KeyInit as _, Mac as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::house::*;

// Notices.

fn signature(body: &str, at: Timestamp) -> String {
    let mac = Hmac::<sha2::Sha256>::new_from_slice(&SECRET).unwrap();
    let code = mac.chain_update(format!("{}.{body}", at.seconds())).finalize().into_bytes();
    let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={},k=shop,v1={hex}", at.seconds())
}

async fn notify(house: &House, body: &str, signature: &str) -> Reply {
    let request = house.client.post(format!("{}{NOTICE_PATH}", house.origin()));
    house.send(request.header(NOTICE_SIGNATURE, signature).body(body.to_owned())).await
}

fn outcome(reply: &Reply) -> (NoticeResult, Option<String>) {
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer: NoticeAnswer = serde_json::from_slice(&reply.body).unwrap();
    (answer.outcome, answer.amount)
}

const REFERENCE: &str = "pi_3MtwBwLkdIwHu7ix28a3tqPa";

fn paid(amount: u64, is_final: bool) -> String {
    format!(r#"{{"reference":"{REFERENCE}","amount":"{amount}","final":{is_final}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_notice_pays_is_minted_and_nothing_before_it() {
    let house = House::new().await;
    let payment = PaymentId::of_reference(REFERENCE.as_bytes());
    let root = RootSecret::from_bytes([9; 32]);
    let (pinned, signed) = (house.root.public_key(), house.issuer.signed_directory());
    let mut wallet = Wallet::new(root, DeviceId::from_bytes([0; 8]), pinned, signed, MemoryJournal::new()).unwrap();
    let request = wallet.request_mint(payment, [LANE; LANES], now()).unwrap();
    let client = Client::plain().unwrap();
    let unpaid = |result: Result<_, ClientError>| matches!(result, Err(ClientError::Problem(details)) if details.kind() == Some(Problem::Unpaid) && details.status == 404);
    assert!(unpaid(client.mint(&house.origin(), &request).await.map(drop)));
    let amount = LANE.micro() * LANES as u64;

    let early = paid(amount, false);
    let reply = notify(&house, &early, &signature(&early, now())).await;
    assert_eq!(outcome(&reply), (NoticeResult::NotFinal, None));
    assert!(unpaid(client.mint(&house.origin(), &request).await.map(drop)));

    let body = paid(amount, true);
    let signed = signature(&body, now());
    assert_eq!(outcome(&notify(&house, &body, &signed).await), (NoticeResult::Recorded, Some(amount.to_string())));
    assert_eq!(outcome(&notify(&house, &body, &signed).await), (NoticeResult::Known, Some(amount.to_string())));
    let response = client.mint(&house.origin(), &request).await.unwrap();
    wallet.accept_mint(&payment, &response, now()).unwrap();
    assert_eq!(wallet.balance().available, u128::from(amount));
    assert_eq!(house.book.total().unwrap(), u128::from(amount));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_is_not_genuine_records_nothing() {
    let house = House::new().await;
    let body = paid(100, true);
    let (fresh, stale) = (signature(&body, now()), signature(&body, now().before(HOUR)));
    for (body, signature, status) in [
        (body.as_str(), "", 400),
        (&body, "t=1,k=shop", 400),
        (&body, &fresh.replace("shop", "bank"), 403),
        (&body, &fresh.replace("v1=", "v1=0"), 403),
        (&body, &stale, 403),
        (&body.replace("100", "101"), &fresh, 403),
        ("", &signature("", now()), 400),
        ("[]", &signature("[]", now()), 400),
        (r#"{"final":true}"#, &signature(r#"{"final":true}"#, now()), 400),
    ] {
        let reply = notify(&house, body, signature).await;
        assert_eq!(reply.problem().status, status, "{body} {signature}");
        let text = String::from_utf8(reply.body).unwrap();
        assert!(!text.contains(REFERENCE), "a reference lets its reader mint it: {text}");
    }
    // Without a signature, and with two of which one is genuine.
    assert_eq!(house.post(NOTICE_PATH, body.clone()).await.problem().status, 400);
    let two = house.client.post(format!("{}{NOTICE_PATH}", house.origin()));
    let two = two.header(NOTICE_SIGNATURE, &fresh).header(NOTICE_SIGNATURE, &fresh).body(body.clone());
    assert_eq!(house.send(two).await.problem().status, 400);
    assert_eq!(house.book.total().unwrap(), 0);

    // One that is, and one of the same payment that says another amount: the operator is told of that.
    assert_eq!(outcome(&notify(&house, &body, &fresh).await).0, NoticeResult::Recorded);
    let other = paid(200, true);
    assert_eq!(notify(&house, &other, &signature(&other, now())).await.problem().status, 409);
    assert_eq!(house.book.total().unwrap(), 100);
    assert!(house.told.notices.lock().unwrap().iter().any(|told| told.contains("200")));
}

/// What a raw connection answers, without waiting for the body that it was promised.
async fn raw(house: &House, head: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(house.host()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut read)).await;
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_says_it_is_too_long_is_refused_before_it_is_sent() {
    let house = House::new().await;
    for path in [MINT_PATH, NOTICE_PATH, CANCEL_PATH, CLEARING_PATH] {
        let signature = format!("{NOTICE_SIGNATURE}: {}", signature("x", now()));
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{signature}\r\nContent-Length: 1000000000\r\nConnection: close\r\n\r\n",
            house.host()
        );
        let answer = raw(&house, &head).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
    }
    // One that does not say so is cut off.
    for path in [MINT_PATH, CANCEL_PATH, CLEARING_PATH] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            house.host()
        );
        let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
        let answer = raw(&house, &format!("{head}{chunk}")).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
    }
}

// Callers whose gateway is gone.

fn errand<'a>(host: &'a str, target: &'a str) -> Request<'a> {
    Request::new(host, "POST", target, ContentDigest::of(b"")).unwrap()
}

async fn cancel(house: &House, caller: &Caller, key: &SpendKey) -> Reply {
    let bytes = caller.wallet.cancel(key, &errand(&house.host(), CANCEL_PATH)).unwrap();
    house.post(CANCEL_PATH, bytes).await
}

async fn fetch(house: &House, caller: &mut Caller, key: &SpendKey) -> Reply {
    let host = house.host();
    let following = caller.wallet.fetch(key, &errand(&host, SETTLEMENT_PATH)).unwrap();
    let challenge = PaymentChallenge::of(house.directory(), &LOCAL);
    let credential = Credential { challenge, payload: Payload::Following(following) }.to_header_value();
    let request = house.client.post(format!("{}{SETTLEMENT_PATH}", house.origin()));
    house.send(request.header("authorization", credential)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_gateway_is_gone_is_served_by_the_issuer() {
    let house = House::new().await;
    for (seed, gateway) in [(1, LOCAL), (2, REMOTE)] {
        let mut caller = house.caller(seed);
        let spent = caller.pay(0, gateway, "gone.example.org").key;
        assert_eq!(fetch(&house, &mut caller, &spent).await.problem().kind(), Some(Problem::SessionSignatureInvalid));
        let settlement = cancel(&house, &caller, &spent).await.settlement();
        assert_eq!(settlement.refund, CLASS);
        assert_eq!(fetch(&house, &mut caller, &spent).await.settlement(), settlement);
        assert_eq!(cancel(&house, &caller, &spent).await.settlement(), settlement);
        caller.wallet.accept(&spent, &settlement, now()).unwrap();
        assert_eq!(caller.wallet.balance().available, u128::from(LANE.micro() * LANES as u64));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_being_served_is_sent_back_to_its_gateway() {
    let house = House::new().await;
    let mut caller = house.caller(1);
    let spent = caller.pay(0, LOCAL, "local.example.org");
    let request = Request::new("local.example.org", "POST", TARGET, ContentDigest::of(QUESTION.as_bytes())).unwrap();
    let local = house.local();
    let Ok(Opened::Admitted(open)) = local.open(&spent.opening, &request, now()) else { panic!("not admitted") };
    let refused = cancel(&house, &caller, &spent.key).await.problem();
    assert_eq!((refused.kind(), refused.status), (Some(Problem::WrongOwner), 421));
    let waiting = fetch(&house, &mut caller, &spent.key).await.problem();
    assert_eq!((waiting.kind(), waiting.status), (Some(Problem::InProgress), 409));
    house.issuer.settle(&*house.set, &open, Credits::from_micro(300), now()).unwrap();
    assert_eq!(cancel(&house, &caller, &spent.key).await.settlement().refund, Credits::from_micro(3_700));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_send_the_desk_is_refused_and_changes_nothing() {
    let house = House::new().await;
    let mut caller = house.caller(1);
    let spent = caller.pay(0, LOCAL, "local.example.org");
    let refused = |reply: &Reply, problem, status| {
        let details = reply.problem();
        assert_eq!((details.kind(), details.status), (Some(problem), status), "{details}");
    };
    // Signed for the gateway, kept by it and sent on.
    let elsewhere = caller.wallet.cancel(&spent.key, &errand("local.example.org", CANCEL_PATH)).unwrap();
    refused(&house.post(CANCEL_PATH, elsewhere).await, Problem::SessionSignatureInvalid, 400);
    // To a name that is not the issuer's.
    let own = caller.wallet.cancel(&spent.key, &errand(&house.host(), CANCEL_PATH)).unwrap();
    let misnamed = house.client.post(format!("{}{CANCEL_PATH}", house.origin())).header("host", "local.example.org");
    refused(&house.send(misnamed.body(own.clone())).await, Problem::WrongGateway, 400);
    // A proof that does not hold, an opening, junk, nothing.
    let mut forged = own.clone();
    forged[Spend::LENGTH - 40] ^= 1;
    refused(&house.post(CANCEL_PATH, forged).await, Problem::ProofInvalid, 400);
    for bytes in [spent.opening.clone(), vec![1; 300], Vec::new()] {
        refused(&house.post(CANCEL_PATH, bytes).await, Problem::Malformed, 400);
    }
    // Credentials that are none.
    let settlement = format!("{}{SETTLEMENT_PATH}", house.origin());
    refused(&house.post(SETTLEMENT_PATH, "").await, Problem::Unpaid, 400);
    let challenge = PaymentChallenge::of(house.directory(), &LOCAL);
    for payload in [Payload::Opening(spent.opening.clone()), Payload::Following(vec![1; 3])] {
        let credential = Credential { challenge: challenge.clone(), payload }.to_header_value();
        let request = house.client.post(&settlement).header("authorization", credential);
        refused(&house.send(request).await, Problem::Malformed, 400);
    }
    assert!(house.set.scan(EpochNumber::new(1), None, 10).unwrap().is_empty());
    // The honest cancel was not used up by any of it.
    assert_eq!(house.post(CANCEL_PATH, own).await.settlement().refund, CLASS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_cancels_is_busy_and_double_spenders_are_named() {
    let quotas = Quotas { cancels: Rate { per_minute: 1, burst: 1 }, ..Quotas::default() };
    let house = House::with(HouseOptions { quotas, ..HouseOptions::default() }).await;
    let (mut caller, mut copy) = (house.caller(1), house.caller(1));
    let first = caller.pay(0, LOCAL, "local.example.org").key;
    let other = caller.pay(1, LOCAL, "local.example.org").key;
    let twice = copy.pay(0, REMOTE, "remote.example.org").key;
    assert_eq!(cancel(&house, &caller, &first).await.status, 200);
    let busy = cancel(&house, &caller, &other).await;
    assert_eq!((busy.problem().kind(), &busy.headers["retry-after"]), (Some(Problem::Busy), &"1".parse().unwrap()));
    // A second desk with room for it.
    let roomy = House::over(HouseOptions::default(), house.set.clone()).await;
    assert_eq!(cancel(&roomy, &copy, &twice).await.problem().kind(), Some(Problem::DoubleSpend));
    assert_eq!(roomy.told.evidence.lock().unwrap().len(), 1);
    assert_eq!((*roomy.told.conflicts.lock().unwrap(), *house.told.conflicts.lock().unwrap()), (1, 0));
    // The same cancel again is refused again, and counted.
    assert_eq!(cancel(&roomy, &copy, &twice).await.problem().kind(), Some(Problem::DoubleSpend));
    assert_eq!(*roomy.told.conflicts.lock().unwrap(), 2);
}

// Gateways that share no set.

fn remote(house: &House) -> RemoteGateway {
    RemoteGateway::new(REMOTE, house.directory().clone(), gateway_key(&REMOTE)).unwrap()
}

const ELSEWHERE: &str = "remote.example.org";

fn take(gateway: &RemoteGateway, spent: &Authorised) -> RemoteSpend {
    let request = Request::new(ELSEWHERE, "POST", TARGET, ContentDigest::of(QUESTION.as_bytes())).unwrap();
    gateway.take(&spent.opening, &request).unwrap()
}

async fn send(house: &House, envelope: &[u8]) -> Vec<u8> {
    let reply = house.post(CLEARING_PATH, envelope.to_vec()).await;
    assert_eq!((reply.status, &reply.headers["content-type"]), (200, &"application/octet-stream".parse().unwrap()));
    assert_eq!(reply.headers["cache-control"], "no-store");
    reply.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_a_set_clears_its_calls_over_http() {
    let house = House::new().await;
    let gateway = remote(&house);
    let mut caller = house.caller(1);
    let spent = caller.pay(0, REMOTE, ELSEWHERE);
    let mut spend = take(&gateway, &spent);
    let envelope = spend.admit(&gateway, now(), &mut rand::rng()).unwrap();
    assert_eq!(spend.answer(&gateway, &send(&house, &envelope).await), Ok(Progress::Serve));
    // The caller cannot get it back behind the gateway's back.
    assert_eq!(cancel(&house, &caller, &spent.key).await.problem().kind(), Some(Problem::WrongOwner));
    let metered = spend.meter(&gateway, Credits::from_micro(100), now(), &mut rand::rng()).unwrap();
    assert_eq!(spend.answer(&gateway, &send(&house, &metered).await), Ok(Progress::Metered));
    let settle = spend.settle(&gateway, Credits::from_micro(300), now(), &mut rand::rng()).unwrap();
    let Ok(Progress::Settled(cleared)) = spend.answer(&gateway, &send(&house, &settle).await) else { panic!() };
    assert_eq!(cleared.cost(), Credits::from_micro(300));
    caller.wallet.accept(&spent.key, cleared.settlement(), now()).unwrap();
    assert_eq!(house.issuer.books(&*house.set).unwrap().charged, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn admissions_verify_in_batches_and_admit_each_note_once() {
    let house = Arc::new(House::new().await);
    let gateway = Arc::new(remote(&house));
    let mut crowd = Vec::new();
    for seed in 1..=3 {
        let mut caller = house.caller(seed);
        for number in 0..4 {
            // Each is sent three times at once, in envelopes of their own.
            let spent = caller.pay(number, REMOTE, ELSEWHERE);
            for _ in 0..3 {
                let (house, gateway, mut spend) = (house.clone(), gateway.clone(), take(&gateway, &spent));
                crowd.push(tokio::spawn(async move {
                    let envelope = spend.admit(&gateway, now(), &mut rand::rng()).unwrap();
                    spend.answer(&gateway, &send(&house, &envelope).await).unwrap()
                }));
            }
        }
    }
    let mut served = 0;
    for one in crowd {
        match one.await.unwrap() {
            Progress::Serve => served += 1,
            Progress::InProgress => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(served, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_forged_proofs_admit_nothing() {
    let house = House::new().await;
    let mut caller = house.caller(1);
    let spent = caller.pay(0, REMOTE, ELSEWHERE);
    let spend = Opening::from_bytes(&spent.opening).unwrap().spend;
    let issuer = house.directory().issuer();
    let admit = |spend: Spend| ClearingRequest::Admit { spend: Box::new(spend) };
    let sealed = |gateway, seed: &GatewayId, time, request| {
        Envelope::new(issuer, gateway, time, request, &mut rand::rng()).sign(&gateway_key(seed))
    };
    let mut forged = spend.to_bytes();
    let place = forged.len() - 40;
    forged[place] ^= 1;
    let forged = Spend::from_bytes(&forged).unwrap();
    use ClearingProblem as P;
    for (envelope, problem) in [
        (vec![], P::Spend(Problem::Malformed)),
        (vec![0; Envelope::MAX_LENGTH], P::Spend(Problem::Malformed)),
        // A gateway of the directory that does not clear: it has the set.
        (sealed(LOCAL, &LOCAL, now(), admit(spend.clone())), P::UnknownGateway),
        (sealed(REMOTE, &LOCAL, now(), admit(spend.clone())), P::EnvelopeSignature),
        (sealed(REMOTE, &REMOTE, now().before(301), admit(spend.clone())), P::Stale),
        (sealed(REMOTE, &REMOTE, now(), admit(forged)), P::Spend(Problem::ProofInvalid)),
    ] {
        let (_, answer) = ClearingAnswer::from_bytes(&send(&house, &envelope).await).unwrap();
        assert_eq!(answer, ClearingAnswer::Refused(problem));
    }
    assert!(house.set.scan(EpochNumber::new(1), None, 10).unwrap().is_empty());
    assert_eq!(house.told.clearing.lock().unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_too_much_waits_clearing_is_busy_and_nothing_was_done() {
    let limits = ClearingLimits::default().with_requests(1);
    let house = House::with(HouseOptions { limits, ..HouseOptions::default() }).await;
    // A client that dawdles has the only place.
    let mut stream = tokio::net::TcpStream::connect(house.host()).await.unwrap();
    let head = format!("POST {CLEARING_PATH} HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\n1", house.host());
    stream.write_all(head.as_bytes()).await.unwrap();
    let gateway = remote(&house);
    let mut caller = house.caller(1);
    let mut spend = take(&gateway, &caller.pay(0, REMOTE, ELSEWHERE));
    let envelope = spend.admit(&gateway, now(), &mut rand::rng()).unwrap();
    let mut busy = house.post(CLEARING_PATH, envelope.clone()).await;
    for _ in 0..100 {
        if busy.status == 503 {
            break;
        }
        busy = house.post(CLEARING_PATH, vec![0; 9]).await;
    }
    assert_eq!((busy.problem().kind(), busy.status), (Some(Problem::Busy), 503));
    // Callers have other places.
    assert_eq!(house.post(CANCEL_PATH, "").await.problem().kind(), Some(Problem::Malformed));
    // The client does not keep it for ever.
    drop(stream);
    for _ in 0..300 {
        if house.post(CLEARING_PATH, vec![0; 9]).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place of a client that hung up is not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_route_is_told_so() {
    let house = House::new().await;
    for target in ["/", "/v1/models", "/.well-known/halometer/session", "/.well-known/halometer/mint/"] {
        let answer = house.client.post(format!("{}{target}", house.origin())).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{target}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{target}");
    }
    for target in ["%ff", "1/%ff/0000", "1/4/%ff"] {
        let spent = house.client.get(format!("{}/.well-known/halometer/spent/{target}", house.origin()));
        assert_eq!(house.send(spent).await.problem().status, 404, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_desk_notices_or_clearing_lacks_the_routes() {
    let house = House::new().await;
    let bare = IssuerService::start(house.issuer.clone()).unwrap();
    let server = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(bare.router());
    for path in [NOTICE_PATH, SETTLEMENT_PATH, CANCEL_PATH, CLEARING_PATH] {
        let request = house.client.post(format!("{}{path}", server.url())).header(NOTICE_SIGNATURE, "x");
        assert_eq!(house.send(request).await.problem().status, 404, "{path}");
    }
    // Clearing at an address of its own.
    let apart = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(house.service.clearing_router());
    let reply = house.send(house.client.post(format!("{}{CLEARING_PATH}", apart.url())).body(vec![0; 9])).await;
    assert_eq!(reply.status, 200);
    let elsewhere = house.client.get(format!("{}{DIRECTORY_PATH}", apart.url())).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_directory_is_served_by_all_routes_at_once() {
    let house = House::new().await;
    let mut caller = house.caller(1);
    let newcomer = GatewayId::from_bytes([5; 16]);
    let parts = |serial, gateways: Vec<GatewayId>| {
        let mut parts = house.directory().parts().clone();
        parts.serial = serial;
        parts.published = parts.published.after(serial * u64::from(parts.grid.publication()));
        let entry = |id| GatewayEntry {
            id,
            origins: vec!["https://new.example.org".to_owned()],
            key: gateway_key(&id).public_key(),
        };
        parts.gateways = gateways.into_iter().map(entry).collect();
        parts
    };
    let issuer = |parts| {
        let directory = Directory::new(parts).unwrap();
        Arc::new(Issuer::new(&house.root, directory, epoch_keys(), house.mints.clone(), house.notices.clone()).unwrap())
    };
    // One that contradicts: nothing changes.
    let mut torn = parts(2, vec![LOCAL]);
    torn.quantum = Credits::from_micro(4);
    let service = house.service.clone();
    let contradiction = issuer(torn);
    assert!(tokio::task::spawn_blocking(move || service.adopt(contradiction)).await.unwrap().is_err());
    let client = Client::plain().unwrap();
    let shown = |signed: SignedDirectory| signed.verify(&house.root.public_key()).unwrap().parts().serial;
    assert_eq!(shown(client.directory(&house.origin()).await.unwrap()), 1);

    // The remote gateway leaves, another comes.
    let (service, next) = (house.service.clone(), issuer(parts(2, vec![newcomer, LOCAL])));
    tokio::task::spawn_blocking(move || service.adopt(next)).await.unwrap().unwrap();
    assert_eq!(shown(client.directory(&house.origin()).await.unwrap()), 2);
    let gateway = remote(&house);
    let spent = caller.pay(0, REMOTE, ELSEWHERE);
    let mut spend = take(&gateway, &spent);
    let envelope = spend.admit(&gateway, now(), &mut rand::rng()).unwrap();
    let progress = spend.answer(&gateway, &send(&house, &envelope).await);
    assert_eq!(progress, Ok(Progress::Refused(ClearingProblem::UnknownGateway)));
    // Its callers still get back what they had sent it.
    assert_eq!(cancel(&house, &caller, &spent.key).await.settlement().refund, CLASS);
}
