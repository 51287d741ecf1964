//! The `Payment` scheme against a client that is not ours, the `mpp` crate: what we say is what it reads, what it writes is what we
//! read, and odd and hostile headers are judged alike, or unlike for a reason that is written here.

use halometer::http::payment::{
    CURRENCY, Credential, INTENT, METHOD, Payload, PaymentChallenge as Challenge, PaymentReceipt as Receipt,
};
use halometer::protocol::*;
use mpp::{ChargeRequest, PaymentChallenge, PaymentCredential};
use serde_json::{Value, json};

use crate::world::{CLASS, QUESTION, TARGET, World, lane};
use halometer::http::clock::now;

fn base64url(bytes: &[u8]) -> String {
    mpp::base64url_encode(bytes)
}

/// The challenge of a running gateway.
async fn challenge(world: &World) -> String {
    let unpaid = world.post(TARGET, None, QUESTION).await;
    assert_eq!(unpaid.status, 402);
    unpaid.header("www-authenticate").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn our_challenge_says_to_another_client_what_we_mean() {
    let world = World::new().await;
    let header = challenge(&world).await;
    let theirs = PaymentChallenge::from_response(402, &header).unwrap();
    theirs.validate_for_charge(METHOD).unwrap();
    let gateway = world.gateway().to_string();
    assert_eq!((theirs.method.as_str(), theirs.intent.as_str(), theirs.realm.as_str()), (METHOD, INTENT, &*gateway));
    assert!(!theirs.is_expired() && theirs.credential_header() == "Authorization");
    assert!(theirs.expires.is_none() && theirs.digest.is_none() && theirs.opaque.is_none());

    let directory = world.stack.gateway().directory();
    let request: ChargeRequest = theirs.request.decode().unwrap();
    let most = directory.classes().last().unwrap().micro().to_string();
    assert_eq!((request.amount, &*request.currency, request.recipient), (most, CURRENCY, None));
    let details = request.method_details.unwrap();
    let named = |name: &str| details[name].as_str().unwrap().to_owned();
    assert_eq!(named("directory"), base64url(directory.digest().as_bytes()));
    assert_eq!(named("issuer"), base64url(directory.issuer().as_bytes()));
    assert_eq!(named("gateway"), gateway);

    // Written again by them it is the same, to the letter.
    assert_eq!(theirs.to_header().unwrap(), header);
    // And found among others, in one value and in several.
    let other = r#"Payment id="a", realm="b", method="tempo", intent="charge", request="e30""#;
    for values in [vec![other, &header], vec![&*format!("Basic realm=\"x, y\", {other}, {header}")]] {
        let all: Vec<_> = mpp::parse_www_authenticate_all(values.clone()).into_iter().map(Result::unwrap).collect();
        assert!(all.len() == 2 && all.iter().any(|found| found.id == theirs.id));
        assert_eq!(Challenge::from_header_values(values).unwrap().id(), theirs.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_clients_credential_pays_and_it_reads_the_receipt() {
    let world = World::new().await;
    let theirs = PaymentChallenge::from_header(&challenge(&world).await).unwrap();
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let credential = PaymentCredential::new(theirs.to_echo(), json!({ "opening": base64url(&opening) }));
    let header = mpp::format_authorization(&credential).unwrap();
    let answer = world.post(TARGET, Some(&header), QUESTION).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("cache-control").unwrap().contains("private"));

    let receipt = answer.header("payment-receipt").unwrap();
    let read = mpp::parse_receipt(receipt).unwrap();
    assert!(read.is_success() && read.method.as_str() == METHOD);
    let ours = Receipt::from_header_value(receipt).unwrap();
    assert_eq!((read.reference, read.timestamp), (ours.reference, ours.timestamp));
    assert_eq!(
        (&read.extensions["cost"], &read.extensions["settlement"]),
        (&json!(ours.cost), &json!(ours.settlement))
    );
    let settlement = answer.settlement();
    assert_eq!(settlement.refund.micro() + ours.cost, CLASS.micro());
    caller.wallet.accept(&key, &settlement, now()).unwrap();

    // With what their credentials may add: the payer's name. It is ignored.
    let (_, opening) = caller.pay(&world, lane(1));
    let payload = json!({ "opening": base64url(&opening) });
    let credential = PaymentCredential::with_source(theirs.to_echo(), "did:example:someone", payload);
    let header = mpp::format_authorization(&credential).unwrap();
    assert_eq!(world.post(TARGET, Some(&header), QUESTION).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_ours_says_to_them_what_we_mean() {
    let world = World::new().await;
    let header = challenge(&world).await;
    let theirs = PaymentChallenge::from_header(&header).unwrap();
    let ours = Challenge::of(world.stack.gateway().directory(), &world.gateway());
    for (name, payload, bytes) in [
        ("opening", Payload::Opening(vec![5; Opening::LENGTH]), vec![5; Opening::LENGTH]),
        ("following", Payload::Following(vec![6; Following::LENGTH]), vec![6; Following::LENGTH]),
    ] {
        let value = Credential { challenge: ours.clone(), payload }.to_header_value();
        let read = mpp::parse_authorization(&value).unwrap();
        assert_eq!(serde_json::to_value(&read.challenge).unwrap(), serde_json::to_value(theirs.to_echo()).unwrap());
        assert_eq!(read.payload, json!({ name: base64url(&bytes) }));
        assert!(read.source.is_none(), "nothing names the payer");
    }
}

#[test]
fn receipts_of_both_kinds_are_read_by_them() {
    let whole = Receipt::new(&[3; Settlement::LENGTH], 12, 1_800_000_000).with_signed(&[4; 99]);
    let within = Receipt::in_session([7; 16], 3, 1_800_000_000);
    for receipt in [whole, within] {
        let read = mpp::parse_receipt(&receipt.to_header_value()).unwrap();
        assert!(read.is_success() && read.reference == receipt.reference);
        // What they write again is what we read.
        let again = mpp::format_receipt(&read).unwrap();
        assert_eq!(Receipt::from_header_value(&again), Ok(receipt));
    }
}

/// Whether a header is taken: by us, and by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    /// Both take it.
    Taken,
    /// Both refuse it.
    Refused,
    /// We refuse what they take: more than they can know.
    Stricter,
}
use Judged::{Refused, Stricter, Taken};

const fn judged(ours: bool, theirs: bool) -> Option<Judged> {
    match (ours, theirs) {
        (true, true) => Some(Taken),
        (false, false) => Some(Refused),
        (false, true) => Some(Stricter),
        // What they refuse we refuse too, always.
        (true, false) => None,
    }
}

/// All that differs from the expected request, at once.
fn compare(cases: Vec<(&str, String, Judged)>, judge: impl Fn(&str) -> Option<Judged>) {
    let wrong: Vec<_> = cases
        .into_iter()
        .filter_map(|(name, header, expected)| {
            let found = judge(&header);
            (found != Some(expected)).then(|| format!("{name}: {found:?} and not {expected:?}: {header}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_and_hostile_challenges_are_judged_alike() {
    let world = World::new().await;
    let header = challenge(&world).await;
    let theirs = PaymentChallenge::from_header(&header).unwrap();
    let (id, realm, request) = (&theirs.id, &theirs.realm, theirs.request.raw());
    let with = |more: &str| format!("{header}, {more}");
    let without = |name: &str| {
        let part = header.split(", ").find(|part| part.trim_start_matches("Payment ").starts_with(name)).unwrap();
        let part = part.trim_start_matches("Payment ");
        header.replace(&format!("{part}, "), "").replace(&format!(", {part}"), "")
    };
    let replaced = |from: &str, to: &str| {
        let changed = header.replace(from, to);
        assert_ne!(changed, header);
        changed
    };
    let other_request = |json: &str| replaced(request, &base64url(json.as_bytes()));
    let cases = vec![
        ("ours", header.clone(), Taken),
        ("the scheme in other letters", replaced("Payment", "pAYMENT"), Taken),
        ("names in other letters", replaced("intent=", "InTent="), Taken),
        ("without quotes", header.replace('"', ""), Taken),
        ("more white space", replaced(", ", " ,\t "), Taken),
        ("space around the signs", replaced("=\"", " = \""), Taken),
        ("empty elements", format!(",, {header},,"), Taken),
        (
            "another order",
            format!(
                "Payment request=\"{request}\", intent=\"charge\", method=\"halometer\", realm=\"{realm}\", id=\"{id}\""
            ),
            Taken,
        ),
        ("escapes that need not be", replaced("halometer", "halo\\meter"), Taken),
        ("a parameter that is not known", with("colour=\"green\""), Taken),
        ("a description", with("description=\"pay, please\""), Taken),
        ("a description that ends in an escaped quote", with(r#"description="say \"pay\"""#), Taken),
        ("without id", without("id="), Refused),
        ("without realm", without("realm="), Refused),
        ("without method", without("method="), Refused),
        ("without intent", without("intent="), Refused),
        ("without request", without("request="), Refused),
        ("id twice", with(&format!("id=\"{id}\"")), Refused),
        ("request twice, in other letters", with(&format!("REQUEST=\"{request}\"")), Refused),
        ("an empty id", replaced(id, ""), Refused),
        ("an intent that is none", replaced("charge", "Charge!"), Refused),
        ("another method", replaced("halometer", "tempo"), Refused),
        ("our method in other letters", replaced("halometer", "Halometer"), Refused),
        ("a quote that is not closed", header.trim_end_matches('"').to_owned(), Refused),
        ("another scheme", replaced("Payment", "Payments"), Refused),
        ("the scheme alone", "Payment".to_owned(), Refused),
        ("the scheme and one word", format!("Payment {request}"), Refused),
        ("nothing", String::new(), Refused),
        ("a request that is not base64url", replaced(request, "#"), Refused),
        ("a request that is no JSON", other_request("{"), Refused),
        ("a request that is a list", other_request("[]"), Refused),
        ("one that is over", with("expires=\"2020-01-01T00:00:00Z\""), Refused),
        ("one that is over at no time", with("expires=\"tomorrow\""), Refused),
        ("a digest that is none", with("digest=\"md5=x\""), Refused),
        ("another header for the credential", with("header=\"X-Payment\""), Refused),
        // The id is a hash that we can compute; to them it is a secret of the server's.
        ("another id", replaced(id, "AAAAAAAAAAAAAAAAAAAAAA"), Stricter),
        ("another realm", replaced(realm, "elsewhere"), Stricter),
        ("another request", other_request(r#"{"amount":"1","currency":"micro-credit"}"#), Stricter),
        ("another currency", other_request(r#"{"amount":"1","currency":"usd"}"#), Stricter),
        ("padding", replaced(request, &format!("{request}=")), Stricter),
        // A value that an anonymous caller must repeat marks the caller, and a payment is good for as long as its window.
        ("something to be repeated", with("opaque=\"e30\""), Stricter),
        (
            "a digest of the request",
            with("digest=\"sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\""),
            Stricter,
        ),
        ("an end", with("expires=\"2999-01-01T00:00:00Z\""), Stricter),
        ("another header that they know", with("header=\"Payment-Authorization\""), Stricter),
        ("parameters without commas between them", replaced(", realm", " realm"), Stricter),
        ("control characters in the realm", replaced(realm, "a\u{7}b"), Stricter),
        ("a realm in other scripts", replaced(realm, "δ"), Stricter),
    ];
    let directory = world.stack.gateway().directory();
    let own = Challenge::of(directory, &world.gateway());
    compare(cases, |header| {
        let ours = Challenge::from_header_values([header]);
        if let Ok(found) = &ours {
            assert!(*found == own, "what is taken is what the directory makes, and nothing else");
        }
        let theirs = mpp::parse_www_authenticate_all([header]).into_iter().filter_map(Result::ok);
        let theirs =
            theirs.filter(|found| found.validate_for_charge(METHOD).is_ok() && found.method.as_str() == METHOD);
        judged(ours.is_ok(), theirs.count() == 1)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_and_hostile_credentials_are_judged_alike() {
    let world = World::new().await;
    let challenge = Challenge::of(world.stack.gateway().directory(), &world.gateway());
    let value = Credential { challenge, payload: Payload::Following(vec![0xfb; 175]) }.to_header_value();
    let token = value.strip_prefix("Payment ").unwrap();
    let json: Value = serde_json::from_slice(&mpp::base64url_decode(token).unwrap()).unwrap();
    let written = |json: &Value| format!("Payment {}", base64url(json.to_string().as_bytes()));
    let changed = |change: fn(&mut Value)| {
        let mut json = json.clone();
        change(&mut json);
        written(&json)
    };
    let text = |text: &str| format!("Payment {}", base64url(text.as_bytes()));
    let cases = vec![
        ("ours", value.clone(), Taken),
        ("the scheme in other letters", format!("payment {token}"), Taken),
        ("more space", format!("Payment   {token}  "), Taken),
        ("a source", changed(|json| json["source"] = "did:example:x".into()), Taken),
        ("members that are not known", changed(|json| json["colour"] = "green".into()), Taken),
        ("nothing", String::new(), Refused),
        ("another scheme", format!("Bearer {token}"), Refused),
        ("the scheme alone", "Payment".to_owned(), Refused),
        ("not base64url", "Payment #".to_owned(), Refused),
        ("a letter that is none", format!("Payment {token}~"), Refused),
        ("no JSON", text("{"), Refused),
        ("a list", text("[]"), Refused),
        ("two documents", text("{} {}"), Refused),
        ("without a challenge", changed(|json| drop(json.as_object_mut().unwrap().remove("challenge"))), Refused),
        ("without a payload", changed(|json| drop(json.as_object_mut().unwrap().remove("payload"))), Refused),
        ("without an id", changed(|json| drop(json["challenge"].as_object_mut().unwrap().remove("id"))), Refused),
        ("an empty id", changed(|json| json["challenge"]["id"] = "".into()), Refused),
        ("an id that is no text", changed(|json| json["challenge"]["id"] = 7.into()), Refused),
        ("an intent that is none", changed(|json| json["challenge"]["intent"] = "Charge!".into()), Refused),
        ("a request that is none", changed(|json| json["challenge"]["request"] = "#".into()), Refused),
        (
            "a challenge twice",
            text(&json.to_string().replacen('{', &format!("{{\"challenge\":{},", json["challenge"]), 1)),
            Refused,
        ),
        // A payload is the method's own affair, and so is what of the challenge belongs together.
        ("another payload", changed(|json| json["payload"] = serde_json::json!({ "signature": "0x" })), Stricter),
        ("two payloads in one", changed(|json| json["payload"]["opening"] = "AA".into()), Stricter),
        ("a payload that is not base64url", changed(|json| json["payload"]["following"] = "#".into()), Stricter),
        ("another method", changed(|json| json["challenge"]["method"] = "tempo".into()), Stricter),
        ("another realm", changed(|json| json["challenge"]["realm"] = "elsewhere".into()), Stricter),
        ("another id", changed(|json| json["challenge"]["id"] = "AAAAAAAAAAAAAAAAAAAAAA".into()), Stricter),
        // One form of everything.
        ("padding", format!("{value}{}", "=".repeat((4 - token.len() % 4) % 4 + 1)), Stricter),
        (
            "the other alphabet",
            format!("Payment {}", base64url(format!("{json}  \u{3ff}").as_bytes()).replace('-', "+")),
            Refused,
        ),
        (
            "longer than a header line",
            changed(|json| json["payload"]["following"] = "A".repeat(9_000).into()),
            Stricter,
        ),
        ("after another scheme in one line", format!("Bearer x, {value}"), Stricter),
    ];
    compare(cases, |header| {
        let ours = Credential::from_header_values([header.as_bytes()]).is_ok();
        judged(ours, mpp::parse_authorization(header).is_ok())
    });
    // A second payment in another line is refused by us; they look at one line only.
    assert!(Credential::from_header_values([value.as_bytes(), value.as_bytes()]).is_err());
}
