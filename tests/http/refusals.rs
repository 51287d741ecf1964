//! Every refusal has its status and its problem type, and costs nothing.

use halometer::circuits::note::ContextHash;
use halometer::http::clock::now;
use halometer::http::payment::Payload;
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;

use crate::world::{CLASS, QUESTION, TARGET, World, assert_refused, lane};

const HOUR: u64 = 3_600;

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_request_gets_the_same_challenge_as_every_other() {
    let world = World::new().await;
    let first = world.post(TARGET, None, QUESTION).await;
    let second = world.send("GET", "/anything?else", &world.host(), Some("Bearer somebody's"), "").await;
    for answer in [&first, &second] {
        assert_refused(answer, Problem::Unpaid);
    }
    let challenge = first.header("www-authenticate").unwrap();
    assert_eq!(Some(challenge), second.header("www-authenticate"));
    assert!(challenge.starts_with("Payment id=\"") && challenge.contains("method=\"halometer\""), "{challenge}");
}

/// One spend, sent in every wrong way that an eavesdropper or a middle box could think of; then the right way, which still works.
#[tokio::test(flavor = "multi_thread")]
async fn a_captured_spend_is_worth_nothing_to_anyone_else() {
    let world = World::new().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let host = world.host();
    let credential = world.opening(&opening);

    // Another body, another target, another method, another host.
    let other_body = QUESTION.replace("cats", "dogs");
    assert_refused(&world.post(TARGET, Some(&credential), &other_body).await, Problem::SessionSignatureInvalid);
    for target in ["/v1/completions", "/v1/chat/completions?x=1"] {
        assert_refused(&world.post(target, Some(&credential), QUESTION).await, Problem::SessionSignatureInvalid);
    }
    // What is not in normal form, and another method, is not even sold.
    for target in ["/V1/chat/completions", "//v1/chat/completions"] {
        assert_eq!(world.post(target, Some(&credential), QUESTION).await.status, 404, "{target}");
    }
    assert_eq!(world.send("PUT", TARGET, &host, Some(&credential), QUESTION).await.status, 404);
    let answer = world.send("POST", TARGET, "other.example", Some(&credential), QUESTION).await;
    assert_refused(&answer, Problem::WrongGateway);

    // Another session key: its owner did not make the proof.
    let parsed = Opening::from_bytes(&opening).unwrap();
    let thief = SessionKey::from_bytes(&[7; 32]);
    let stolen = resign(&world, Spend { session: thief.public_key(), ..parsed.spend.clone() }, &thief);
    assert_refused(&world.ask(&stolen).await, Problem::ProofInvalid);
    // The right session key in the spend, but not in the signature.
    let stolen = resign(&world, parsed.spend.clone(), &thief);
    assert_refused(&world.ask(&stolen).await, Problem::SessionSignatureInvalid);

    // Altered bytes. The proof is 3,680 bytes before the last 73; a byte at its beginning, middle and end.
    let proof = Spend::LENGTH - parsed.spend.proof.as_bytes().len();
    for at in [proof, proof + 1_234, Spend::LENGTH - 1] {
        let mut altered = opening.clone();
        altered[at] ^= 1;
        assert_refused(&world.ask(&altered).await, Problem::ProofInvalid);
    }
    let alter = |at: usize| {
        let mut altered = opening.clone();
        altered[at] ^= 1;
        altered
    };
    // Session signature; tariff; charge; not-after; memo: all of them are in what the session has signed.
    for at in [Opening::LENGTH - 1, 22 + 3, 22 + 64 + 7, 22 + 72 + 7, 22 + 80 + 3] {
        assert_refused(&world.ask(&alter(at)).await, Problem::SessionSignatureInvalid);
    }
    assert_refused(&world.ask(&alter(2)).await, Problem::UnknownEpoch);
    assert_refused(&world.ask(&alter(6)).await, Problem::WrongGateway);
    // Version, purpose, action, sequence.
    for at in [0, 1, Spend::LENGTH, Spend::LENGTH + 8] {
        assert_refused(&world.ask(&alter(at)).await, Problem::Malformed);
    }

    assert_eq!((world.charged(), world.held()), (0, 0));
    let answer = world.ask(&opening).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let accepted = caller.wallet.accept(&key, &answer.settlement(), now()).unwrap();
    assert!(accepted.cost > Credits::ZERO && accepted.cost < CLASS);
    assert_eq!((world.charged(), world.held()), (accepted.cost.micro(), 0));
}

/// Signs the question with another session key.
fn resign(world: &World, spend: Spend, key: &SessionKey) -> Vec<u8> {
    let directory = world.stack.gateway().directory();
    let entry = directory.epoch(spend.epoch).unwrap();
    let x: ContextHash = spend.context(&directory.issuer(), entry).hash().unwrap();
    let host = world.host();
    let request = Request::new(&host, "POST", TARGET, ContentDigest::of(QUESTION.as_bytes())).unwrap();
    let authorisation = Authorisation::sign(key, &spend.nullifier, &x, Action::Open, 0, &request);
    Opening { spend, authorisation }.to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_credential_is_malformed() {
    let world = World::new().await;
    let mut opening = vec![0; Opening::LENGTH];
    let wrong = [
        "Payment".to_owned(),
        "Payment ".to_owned(),
        "Payment !!!".to_owned(),
        "Payment e30".to_owned(),
        format!("{}=", world.opening(&opening)),
        world.opening(&opening),
        world.opening(&opening[1..]),
        world.opening(b""),
        world.credential(Payload::Following(vec![1; Following::LENGTH])),
        world.opening(&opening).replacen("Payment ", "Payment eyJ", 1),
    ];
    for authorization in wrong {
        assert_refused(&world.post(TARGET, Some(&authorization), QUESTION).await, Problem::Malformed);
    }
    opening.push(0);
    assert_refused(&world.ask(&opening).await, Problem::Malformed);
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_payments_in_one_request_are_refused() {
    let world = World::new().await;
    let (_, opening) = world.caller().pay(&world, lane(0));
    let (host, credential, length) = (world.host(), world.opening(&opening), QUESTION.len());
    let request = format!(
        "POST {TARGET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\
         Authorization: {credential}\r\nAuthorization: {credential}\r\n\r\n{QUESTION}"
    );
    assert_refused(&world.raw(request.as_bytes()).await.unwrap(), Problem::Malformed);
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spend_of_an_earlier_window_is_expired() {
    let adjust = |parts: &mut DirectoryParts| {
        let from = now().before(24 * HOUR);
        parts.epochs[0].issue.from = from;
        parts.epochs[0].spend.from = from;
        let until = parts.tariffs[0].valid().until;
        parts.tariffs[0] = Tariff::new(Window { from, until }, parts.tariffs[0].prices().to_vec()).unwrap();
    };
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    let mut caller = world.caller();
    let (_, opening) = caller.pay_at(&world, lane(0), CLASS, world.gateway(), now().before(4 * HOUR));
    assert_refused(&world.ask(&opening).await, Problem::Expired);
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spend_for_another_gateway_is_refused() {
    let other = GatewayId::from_bytes([9; 16]);
    let adjust = move |parts: &mut DirectoryParts| {
        let entry = parts.gateways[0].clone();
        parts.gateways.push(GatewayEntry { id: other, ..entry });
    };
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    let (_, opening) = world.caller().pay_at(&world, lane(0), CLASS, other, now());
    assert_refused(&world.ask(&opening).await, Problem::WrongGateway);
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_is_no_class_is_refused() {
    let world = World::new().await;
    let mut caller = world.caller();
    // A newer directory with one more class, of which the gateway does not know yet.
    let odd = Credits::from_micro(5_000);
    let mut parts = world.stack.gateway().directory().parts().clone();
    (parts.serial, parts.published) = (parts.serial + 1, parts.published.after(1));
    parts.classes.push(odd);
    let newer = SignedDirectory::sign(&Directory::new(parts).unwrap(), world.stack.root_signing_key()).unwrap();
    caller.wallet.adopt(&newer).unwrap();
    let (_, opening) = caller.pay_at(&world, lane(0), odd, world.gateway(), now());
    assert_refused(&world.ask(&opening).await, Problem::ClassUnknown);
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_is_told_to_nobody_else() {
    let world = World::new().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    // Before it is sent there is nothing to tell.
    assert_refused(&world.fetch(&mut caller, &key).await, Problem::SessionSignatureInvalid);
    let settlement = world.ask(&opening).await.settlement();
    assert_eq!(world.fetch(&mut caller, &key).await.fetched(), settlement);

    // Signed with another key.
    let target = halometer::http::wire::SETTLEMENT_PATH;
    let host = world.host();
    let request = Request::new(&host, "POST", target, ContentDigest::of(b"")).unwrap();
    let SpendKey { epoch, nullifier, context } = key;
    let thief = SessionKey::from_bytes(&[7; 32]);
    let authorisation = Authorisation::sign(&thief, &nullifier, &context, Action::Fetch, 1, &request);
    // Neither the thief's key nor the caller's makes it valid.
    for session in [thief.public_key(), Opening::from_bytes(&opening).unwrap().spend.session] {
        let following = Following { epoch, nullifier, context, session, authorisation };
        let stolen = world.credential(Payload::Following(following.to_bytes()));
        assert_refused(&world.post(target, Some(&stolen), "").await, Problem::SessionSignatureInvalid);
    }
    // An opening asks for no settlement.
    assert_refused(&world.post(target, Some(&world.opening(&opening)), "").await, Problem::Malformed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_free_is_free_under_the_gateways_own_names_only() {
    let service = axum::Router::new().fallback(|| async { "free" });
    let free = vec!["GET /free/**".parse().unwrap()];
    let world = World::selling_with(service, StackOptions { free, ..StackOptions::default() }).await;
    let own = world.host();
    let own_upper = own.to_ascii_uppercase();
    for (host, is_free) in [
        (own.as_str(), true),
        (own_upper.as_str(), true),
        ("other.example", false),
        ("127.0.0.1", false),
        ("127.0.0.1:1", false),
        ("", false),
    ] {
        let answer = world.send("GET", "/free/page", host, None, "").await;
        assert_eq!((answer.status == 200, answer.body == b"free"), (is_free, is_free), "{host}: {answer:?}");
    }
    assert_refused(&world.send("GET", "/free/page", "other.example", None, "").await, Problem::WrongGateway);
    // Two names are one too many: a proxy in front might look at the other one.
    let two = format!("GET /free/page HTTP/1.1\r\nHost: {own}\r\nHost: other.example\r\nConnection: close\r\n\r\n");
    assert!(world.raw(two.as_bytes()).await.is_none_or(|answer| answer.status != 200 && answer.body != b"free"));
    // And what is not free is asked to be paid for, or refused, as everywhere.
    assert_eq!(world.send("GET", "/paid", &own, None, "").await.status, 402);
}
