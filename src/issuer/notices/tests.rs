//! Notices that are forged, altered, replayed, confused and raced.

use super::*;
use crate::store::MemoryPaymentBook;
use crate::testing::world::{World, micro, sixty_and_forty};
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const SECRET: [u8; 32] = [7; 32];
const PAYMENT: PaymentId = PaymentId::from_bytes([9; 32]);
const REFERENCE: &str = "pi_3MtwBwLkdIwHu7ix28a3tqPa";

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(secret: &[u8], time: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    to_hex(&mac.chain_update(time).chain_update(".").chain_update(body).finalize().into_bytes())
}

/// The header of an honest sender that shares the secret.
fn by_secret(body: &str, at: Timestamp) -> String {
    let time = at.seconds().to_string();
    format!("t={time},k=main,v1={}", mac(&SECRET, &time, body.as_bytes()))
}

/// The header of an honest sender with the Ed25519 key.
fn by_key(body: &str, at: Timestamp) -> String {
    let time = at.seconds().to_string();
    let signature = signing_key().sign(format!("{time}.{body}").as_bytes()).to_bytes();
    format!("t={time},k=bank,v1={}", to_hex(&signature))
}

fn keys() -> [NoticeKey; 2] {
    let public = signing_key().verifying_key().to_bytes();
    [NoticeKey::hmac_sha256("main", &SECRET).unwrap(), NoticeKey::ed25519("bank", &public).unwrap()]
}

fn fresh() -> (Arc<MemoryPaymentBook>, PaymentNotices) {
    let book = Arc::new(MemoryPaymentBook::new());
    (book.clone(), PaymentNotices::new(book, keys()).unwrap())
}

fn paid(amount: &str) -> String {
    format!(r#"{{"payment":"{PAYMENT}","amount":{amount},"final":true}}"#)
}

/// Sends a body with a good signature.
fn send(notices: &PaymentNotices, body: &str) -> Result<NoticeOutcome, NoticeError> {
    notices.receive(body.as_bytes(), &by_secret(body, NOW), NOW)
}

#[test]
fn a_notice_by_either_kind_of_key_pays() {
    let body = paid("100");
    for sign in [by_secret, by_key] {
        let (book, notices) = fresh();
        assert_eq!(notices.paid(&PAYMENT).unwrap(), None);
        let outcome = notices.receive(body.as_bytes(), &sign(&body, NOW), NOW).unwrap();
        assert_eq!(outcome, NoticeOutcome::Fresh(micro(100)));
        assert_eq!((notices.paid(&PAYMENT).unwrap(), book.total().unwrap()), (Some(micro(100)), 100));
    }
}

/// The signature was computed by another program, Python's `hmac`.
#[test]
fn a_notice_of_another_program_pays() {
    let secret: Vec<u8> = (0..32).collect();
    let key = NoticeKey::hmac_sha256("shop", &secret).unwrap();
    let notices = PaymentNotices::new(Arc::new(MemoryPaymentBook::new()), [key]).unwrap();
    let body = format!(r#"{{"reference":"{REFERENCE}","amount":"2500000","final":true}}"#);
    let header = "t=1700000000,k=shop,v1=4ba16506011687a46679af5577cf2e412ac3cef73be0e552f7a4120506372003";
    assert_eq!(notices.receive(body.as_bytes(), header, NOW).unwrap(), NoticeOutcome::Fresh(micro(2_500_000)));
    let id = PaymentId::of_reference(REFERENCE.as_bytes());
    assert_eq!(notices.paid(&id).unwrap(), Some(micro(2_500_000)));
}

#[test]
fn a_paid_notice_can_be_minted_and_nothing_else_can() {
    let world = World::without_keys();
    let (_, notices) = fresh();
    let notices = Arc::new(notices);
    let directory = world.issuer.directory().clone();
    let keys = crate::testing::world::epoch_keys();
    let issuer = super::super::Issuer::new(&world.root, directory, keys, world.mints.clone(), notices.clone()).unwrap();
    let mut wallet = world.wallet(1);
    let t0 = crate::testing::world::T0;
    let request = wallet.request_mint(PAYMENT, sixty_and_forty(), t0).unwrap();
    assert!(matches!(issuer.mint(&request, t0), Err(crate::issuer::MintError::Unpaid)));
    send(&notices, &paid("100").replace("true", "false")).unwrap();
    assert!(matches!(issuer.mint(&request, t0), Err(crate::issuer::MintError::Unpaid)));
    send(&notices, &paid("100")).unwrap();
    let response = issuer.mint(&request, t0).unwrap();
    wallet.accept_mint(&PAYMENT, &response, t0).unwrap();
    assert_eq!(wallet.balance().total(), 100);
}

#[test]
fn changing_any_byte_of_the_body_is_noticed() {
    let (book, notices) = fresh();
    let body = paid("100");
    for header in [by_secret(&body, NOW), by_key(&body, NOW)] {
        for place in 0..body.len() {
            let mut changed = body.clone().into_bytes();
            changed[place] ^= 1;
            assert!(matches!(notices.receive(&changed, &header, NOW), Err(NoticeError::Signature)), "{place}");
        }
        for other in [&body[..body.len() - 1], &format!("{body} "), &format!(" {body}"), ""] {
            assert!(matches!(notices.receive(other.as_bytes(), &header, NOW), Err(NoticeError::Signature)));
        }
    }
    assert_eq!(book.total().unwrap(), 0);
}

#[test]
fn changing_any_byte_of_the_header_is_noticed() {
    let (book, notices) = fresh();
    let body = paid("100");
    for header in [by_secret(&body, NOW), by_key(&body, NOW)] {
        for place in 0..header.len() {
            for flip in [1, 2, 16, 32] {
                let mut changed = header.clone().into_bytes();
                changed[place] ^= flip;
                let changed = String::from_utf8(changed).unwrap();
                let error = notices.receive(body.as_bytes(), &changed, NOW).unwrap_err();
                assert!(
                    matches!(error, NoticeError::Header | NoticeError::UnknownKey | NoticeError::Signature),
                    "{changed}"
                );
            }
        }
    }
    assert_eq!(book.total().unwrap(), 0);
}

#[test]
fn the_time_is_signed_and_the_border_between_time_and_body_too() {
    let (book, notices) = fresh();
    let body = paid("100");
    let old = NOW.before(1000);
    let header = by_secret(&body, old);
    let renewed = header.replace(&old.seconds().to_string(), &NOW.seconds().to_string());
    assert!(matches!(notices.receive(body.as_bytes(), &renewed, NOW), Err(NoticeError::Signature)));
    // The same signed text with its border elsewhere: a time has no point in it.
    let body = "1.{}";
    let shifted = by_secret(body, NOW).replace("t=1700000000", "t=1700000000.1");
    assert!(matches!(notices.receive(b"{}", &shifted, NOW), Err(NoticeError::Header)));
    assert_eq!(book.total().unwrap(), 0);
}

#[test]
fn a_notice_that_is_too_old_or_from_the_future_is_refused() {
    let (book, notices) = fresh();
    let body = paid("100");
    for (time, age) in [(NOW.before(301), 301), (NOW.after(301), 301), (Timestamp::MAX, u64::MAX - NOW.seconds())] {
        let error = notices.receive(body.as_bytes(), &by_secret(&body, time), NOW).unwrap_err();
        assert!(matches!(error, NoticeError::Age { age: told } if told == age), "{error}");
    }
    assert_eq!(book.total().unwrap(), 0);
    for time in [NOW.before(300), NOW.after(300)] {
        assert!(notices.receive(body.as_bytes(), &by_secret(&body, time), NOW).is_ok());
    }
    let patient = PaymentNotices::new(book, keys()).unwrap().with_max_age(301);
    assert!(patient.receive(body.as_bytes(), &by_secret(&body, NOW.before(301)), NOW).is_ok());
}

#[test]
fn the_same_notice_again_counts_once_whenever_it_comes() {
    let (book, notices) = fresh();
    let body = paid("100");
    let header = by_secret(&body, NOW);
    assert_eq!(notices.receive(body.as_bytes(), &header, NOW).unwrap(), NoticeOutcome::Fresh(micro(100)));
    for _ in 0..3 {
        assert_eq!(notices.receive(body.as_bytes(), &header, NOW).unwrap(), NoticeOutcome::Known(micro(100)));
    }
    // Signed anew and much later, by another key, in other words, after a restart: it is the same payment.
    let later = NOW.after(1_000_000);
    let notices = PaymentNotices::new(book.clone(), keys()).unwrap();
    let words = format!(r#"{{"final":true, "attempt":2, "amount":"100", "payment":"{PAYMENT}"}}"#);
    let outcome = notices.receive(words.as_bytes(), &by_key(&words, later), later).unwrap();
    assert_eq!((outcome, book.total().unwrap()), (NoticeOutcome::Known(micro(100)), 100));
}

#[test]
fn one_payment_with_two_amounts_conflicts_and_changes_nothing() {
    let (book, notices) = fresh();
    send(&notices, &paid("100")).unwrap();
    for amount in ["99", "101", "18446744073709551615"] {
        let error = send(&notices, &paid(&format!("\"{amount}\""))).unwrap_err();
        let noticed = micro(amount.parse().unwrap());
        assert!(
            matches!(error, NoticeError::Conflict { recorded, noticed: told } if (recorded, told) == (micro(100), noticed))
        );
        assert!(!error.to_string().contains("0909"), "the payment's id is not told to a log");
    }
    assert_eq!((notices.paid(&PAYMENT).unwrap(), book.total().unwrap()), (Some(micro(100)), 100));
}

#[test]
fn a_payment_that_is_not_final_is_recorded_nowhere() {
    let (book, notices) = fresh();
    let pending = paid("100").replace("true", "false");
    for body in [pending.as_str(), r#"{"final":false}"#, r#"{"final":false,"amount":0}"#] {
        assert_eq!(send(&notices, body).unwrap(), NoticeOutcome::NotFinal);
    }
    assert_eq!((notices.paid(&PAYMENT).unwrap(), book.total().unwrap()), (None, 0));
    // It may become final with another amount, and a pending notice that is late takes nothing back.
    assert_eq!(send(&notices, &paid("90")).unwrap(), NoticeOutcome::Fresh(micro(90)));
    assert_eq!(send(&notices, &pending).unwrap(), NoticeOutcome::NotFinal);
    assert_eq!(notices.paid(&PAYMENT).unwrap(), Some(micro(90)));
    for body in [
        paid("100").replace(",\"final\":true", ""),
        paid("1").replace("true", "1"),
        paid("1").replace("true", "\"true\""),
    ] {
        assert!(matches!(send(&notices, &body), Err(NoticeError::Json { .. })), "{body}");
    }
}

#[test]
fn a_key_that_is_not_known_signs_nothing() {
    let (_, notices) = fresh();
    let body = paid("100");
    for id in ["other", "", "Main", "main ", "mai"] {
        let header = by_secret(&body, NOW).replace("k=main", &format!("k={id}"));
        assert!(matches!(notices.receive(body.as_bytes(), &header, NOW), Err(NoticeError::UnknownKey)), "{id}");
    }
    // The secret that was exchanged is worth nothing from then on; the payments stay.
    let (book, notices) = fresh();
    send(&notices, &body).unwrap();
    let next = NoticeKey::hmac_sha256("next", &[8; 32]).unwrap();
    let notices = PaymentNotices::new(book, [next]).unwrap();
    assert!(matches!(send(&notices, &body), Err(NoticeError::UnknownKey)));
    let header = by_secret(&body, NOW).replace("k=main", "k=next");
    assert!(matches!(notices.receive(body.as_bytes(), &header, NOW), Err(NoticeError::Signature)));
    assert_eq!(notices.paid(&PAYMENT).unwrap(), Some(micro(100)));
}

#[test]
fn a_key_of_one_kind_is_not_taken_for_one_of_the_other() {
    let (book, notices) = fresh();
    let (body, time) = (paid("100"), NOW.seconds().to_string());
    // Everybody knows the public key, and can compute a MAC with its bytes.
    let public = signing_key().verifying_key().to_bytes();
    let code = mac(&public, &time, body.as_bytes());
    for header in [format!("t={time},k=bank,v1={code}"), format!("t={time},k=bank,v1={code}{code}")] {
        assert!(matches!(notices.receive(body.as_bytes(), &header, NOW), Err(NoticeError::Signature)));
    }
    // A signature where a MAC is expected, and a notice that would choose its algorithm.
    let swapped = by_key(&body, NOW).replace("k=bank", "k=main");
    assert!(matches!(notices.receive(body.as_bytes(), &swapped, NOW), Err(NoticeError::Signature)));
    let chosen = format!("alg=hmac,t={time},k=bank,v1={code}");
    assert!(matches!(notices.receive(body.as_bytes(), &chosen, NOW), Err(NoticeError::Signature)));
    assert_eq!(book.total().unwrap(), 0);
    // An operator that mixes the two up is told.
    let mixed = [NoticeKey::hmac_sha256("a", &public).unwrap(), NoticeKey::ed25519("b", &public).unwrap()];
    assert_eq!(PaymentNotices::new(book, mixed).unwrap_err(), NoticeKeyError::PublicSecret("a".to_owned()));
}

#[test]
fn a_signature_in_another_form_is_refused() {
    let (_, notices) = fresh();
    let body = paid("100");
    for header in [by_secret(&body, NOW), by_key(&body, NOW)] {
        let (front, signature) = header.split_once("v1=").unwrap();
        for other in [
            signature.to_uppercase(),
            signature[2..].to_owned(),
            signature[1..].to_owned(),
            format!("{signature}00"),
            format!("0x{signature}"),
            format!(" {signature}"),
            "é".repeat(signature.len() / 2),
            String::new(),
            "0".repeat(signature.len()),
        ] {
            let header = format!("{front}v1={other}");
            assert!(matches!(notices.receive(body.as_bytes(), &header, NOW), Err(NoticeError::Signature)), "{other}");
        }
    }
    // s + l: the same signature but for its form.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut signature = signing_key().sign(format!("{}.{body}", NOW.seconds()).as_bytes()).to_bytes();
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    let header = format!("t={},k=bank,v1={}", NOW.seconds(), to_hex(&signature));
    assert!(matches!(notices.receive(body.as_bytes(), &header, NOW), Err(NoticeError::Signature)));
}

#[test]
fn a_header_with_parts_that_come_twice_or_not_at_all_is_refused() {
    let (_, notices) = fresh();
    let body = paid("100");
    let good = by_secret(&body, NOW);
    let receive = |header: &str| notices.receive(body.as_bytes(), header, NOW);
    let zero = "0".repeat(64);
    for header in [
        format!("{good},t=1"),
        format!("t=1,{good}"),
        format!("{good},k=bank"),
        format!("{good},v1={zero}"),
        format!("v1={zero},{good}"),
        format!("{good},{good}"),
        format!("{good},"),
        format!(",{good}"),
        good.replace(',', ";"),
        good.replace(',', ", "),
        good.replace("v1=", "v1:"),
        good.replace("k=main,", ""),
        good.replace("t=1700000000,", ""),
        good.replace("v1=", "v2="),
        good.replace("t=1", "t=01"),
        good.replace("t=1", "t=+1"),
        good.replace("t=1", "t=-1"),
        good.replace("t=1", "t= 1"),
        good.replace("t=1700000000", "t="),
        good.replace("t=1700000000", "t=18446744073709551616"),
        good.replace("t=1700000000", "t=1.7e9"),
        good.replace("t=1", "T=1"),
        format!("{good},x={}", "x".repeat(1024)),
        String::new(),
        "=".to_owned(),
        "t,k,v1".to_owned(),
    ] {
        assert!(matches!(receive(&header), Err(NoticeError::Header)), "{header}");
    }
    // In another order, and with parts of a later version.
    let parts: Vec<&str> = good.split(',').collect();
    assert!(receive(&[parts[2], parts[1], parts[0]].join(",")).is_ok());
    assert!(receive(&format!("v0=aa,{good},v2=bb")).is_ok());
}

#[test]
fn amounts_that_are_no_whole_micro_credits_are_refused() {
    let (book, notices) = fresh();
    for amount in [
        "-1",
        "1.0",
        "1e3",
        "0.5",
        "-0",
        "-0.0",
        "18446744073709551616",
        "9007199254740992",
        "1e400",
        "\"18446744073709551616\"",
        "\"-1\"",
        "\"+1\"",
        "\"1.0\"",
        "\"1e3\"",
        "\"0100\"",
        "\"00\"",
        "\" 1\"",
        "\"1 \"",
        "\"\"",
        "\"0x10\"",
        "\"1_000\"",
        "\"１\"",
        "0100",
        "01",
        "+1",
        "NaN",
        "Infinity",
        "true",
        "[1]",
        "{\"$serde_json::private::Number\":\"1\"}",
    ] {
        assert!(matches!(send(&notices, &paid(amount)), Err(NoticeError::Json { .. })), "{amount}");
    }
    for amount in ["0", "\"0\"", "null"] {
        assert!(matches!(send(&notices, &paid(amount)), Err(NoticeError::Amount)), "{amount}");
    }
    assert!(matches!(send(&notices, &paid("1").replace("\"amount\":1,", "")), Err(NoticeError::Amount)));
    assert_eq!(book.total().unwrap(), 0);
    for (amount, micros) in [
        ("1", 1),
        ("\"1\"", 1),
        ("9007199254740991", (1 << 53) - 1),
        ("\"9007199254740992\"", 1 << 53),
        ("\"18446744073709551615\"", u64::MAX),
        ("\"\\u0031\"", 1),
    ] {
        let (_, notices) = fresh();
        assert_eq!(send(&notices, &paid(amount)).unwrap(), NoticeOutcome::Fresh(micro(micros)), "{amount}");
    }
}

#[test]
fn a_body_that_names_no_payment_or_two_is_refused() {
    let (book, notices) = fresh();
    let id = PAYMENT.to_string();
    let hex = &"AB".repeat(32);
    let name = |names: &str| format!(r#"{{{names}"amount":100,"final":true}}"#);
    for names in [
        String::new(),
        format!(r#""payment":"{id}","reference":"{REFERENCE}","#),
        format!(r#""payment":"{}","#, &id[1..]),
        format!(r#""payment":"{id}00","#),
        format!(r#""payment":"{hex}","#),
        format!(r#""payment":"0x{}","#, &id[2..]),
        r#""payment":null,"#.to_owned(),
        r#""reference":"","#.to_owned(),
        r#""reference":"invoice-17","#.to_owned(),
        format!(r#""reference":"{}","#, "r".repeat(1025)),
    ] {
        assert!(matches!(send(&notices, &name(&names)), Err(NoticeError::Payment)), "{names}");
    }
    // What names one thing twice leaves open which of the two another reader takes.
    for names in [
        format!(r#""payment":"{id}","payment":"{id}","#),
        format!(r#""payment":"{id}","amount":1,"#),
        format!(r#""payment":"{id}","final":false,"#),
        format!(r#""payment":17,"reference":"{REFERENCE}","#),
        r#""payment":["a"],"#.to_owned(),
    ] {
        assert!(matches!(send(&notices, &name(&names)), Err(NoticeError::Json { .. })), "{names}");
    }
    assert_eq!(book.total().unwrap(), 0);
}

#[test]
fn a_reference_is_one_payment_however_it_is_named() {
    let (book, notices) = fresh();
    let id = PaymentId::of_reference(REFERENCE.as_bytes());
    let by_name = format!(r#"{{"reference":"{REFERENCE}","amount":100,"final":true}}"#);
    let by_id = format!(r#"{{"payment":"{id}","amount":100,"final":true}}"#);
    let escaped = by_name.replace("pi_", "\\u0070i_");
    assert_eq!(send(&notices, &by_name).unwrap(), NoticeOutcome::Fresh(micro(100)));
    for body in [by_id, escaped] {
        assert_eq!(send(&notices, &body).unwrap(), NoticeOutcome::Known(micro(100)));
    }
    let other = by_name.replace("pi_", "Pi_");
    assert_eq!(send(&notices, &other).unwrap(), NoticeOutcome::Fresh(micro(100)));
    assert_eq!(book.total().unwrap(), 200);
}

#[test]
fn what_is_not_one_json_object_is_refused() {
    let (book, notices) = fresh();
    let good = paid("100");
    for body in [
        "",
        "null",
        "[]",
        &format!(r#"["{PAYMENT}",null,100,true]"#),
        &format!("[{good}]"),
        &format!("{good}{good}"),
        &format!("{good},"),
        &format!("\u{feff}{good}"),
        &good[..good.len() - 1],
        &good.replace('"', "'"),
        &good.replace("true", "True"),
        &good.replacen('{', "{/* */", 1),
    ] {
        assert!(matches!(send(&notices, body), Err(NoticeError::Json { .. })), "{body}");
    }
    let deep = format!(r#"{{"x":{}{},"final":true}}"#, "[".repeat(30_000), "]".repeat(30_000));
    assert!(matches!(send(&notices, &deep), Err(NoticeError::Json { .. } | NoticeError::Payment)));
    let latin = [good.replace(&PAYMENT.to_string(), "").as_bytes(), b"\xe9"].concat();
    let time = NOW.seconds().to_string();
    let header = format!("t={time},k=main,v1={}", mac(&SECRET, &time, &latin));
    assert!(matches!(notices.receive(&latin, &header, NOW), Err(NoticeError::Json { .. })));
    assert_eq!(book.total().unwrap(), 0);
    let spaced = format!("\r\n {good} \n");
    assert!(send(&notices, &spaced).is_ok());
}

#[test]
fn a_huge_body_is_refused_before_it_is_hashed() {
    let (book, notices) = fresh();
    let padded = |length: usize| {
        let body = paid("100");
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    let long = padded(PaymentNotices::MAX_BODY + 1);
    assert!(matches!(send(&notices, &long), Err(NoticeError::TooLong)));
    assert!(matches!(notices.receive(&vec![b'{'; 1 << 24], "", NOW), Err(NoticeError::TooLong)));
    assert_eq!(book.total().unwrap(), 0);
    assert!(send(&notices, &padded(PaymentNotices::MAX_BODY)).is_ok());
}

#[test]
fn racing_notices_of_one_payment_record_it_once() {
    for _ in 0..20 {
        let (book, notices) = fresh();
        let bodies: Vec<String> = (0..8).map(|i| paid(if i % 2 == 0 { "100" } else { "200" })).collect();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = bodies.iter().map(|body| scope.spawn(|| send(&notices, body))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let paid = notices.paid(&PAYMENT).unwrap().unwrap();
        let count =
            |expected: fn(&Result<NoticeOutcome, NoticeError>) -> bool| outcomes.iter().filter(|o| expected(o)).count();
        assert_eq!(count(|outcome| matches!(outcome, Ok(NoticeOutcome::Fresh(_)))), 1);
        assert_eq!(count(|outcome| matches!(outcome, Ok(NoticeOutcome::Known(_)))), 3);
        assert_eq!(count(|outcome| matches!(outcome, Err(NoticeError::Conflict { .. }))), 4);
        assert_eq!(book.total().unwrap(), paid.micro().into());
    }
}

/// A book that always fails.
struct Broken;

impl PaymentBook for Broken {
    fn record(&self, _: PaymentId, _: Credits) -> Result<PaymentOutcome, StoreError> {
        Err(StoreError::Failed("broken".into()))
    }
    fn paid(&self, _: &PaymentId) -> Result<Option<Credits>, StoreError> {
        Err(StoreError::Failed("broken".into()))
    }
    fn total(&self) -> Result<u128, StoreError> {
        Err(StoreError::Failed("broken".into()))
    }
}

#[test]
fn a_book_that_fails_acknowledges_nothing() {
    let notices = PaymentNotices::new(Arc::new(Broken), keys()).unwrap();
    let error = send(&notices, &paid("100")).unwrap_err();
    assert!(matches!(error, NoticeError::Store(_)));
    assert_eq!(error.fault(), Fault::Operator);
    assert!(notices.paid(&PAYMENT).is_err(), "not 'unpaid'");
}

#[test]
fn keys_that_are_none_are_refused() {
    let error = |key: Result<NoticeKey, NoticeKeyError>| key.unwrap_err();
    for id in ["", "a b", "a,b", "a=b", "é", &"a".repeat(65)] {
        assert_eq!(error(NoticeKey::hmac_sha256(id, &SECRET)), NoticeKeyError::Id);
        assert_eq!(error(NoticeKey::ed25519(id, &signing_key().verifying_key().to_bytes())), NoticeKeyError::Id);
    }
    for length in [0, 16, 31, 1025] {
        assert_eq!(error(NoticeKey::hmac_sha256("a", &vec![7; length])), NoticeKeyError::Secret("a".to_owned()));
    }
    // Of small order (the identity, and y = 0), a second encoding of one, and no point.
    let mut one = [0; 32];
    one[0] = 1;
    let mut second = [0xff; 32];
    (second[0], second[31]) = (0xee, 0x7f);
    // y = p + 3, which is on the curve as y = 3 and is no small order: refused for its form alone.
    let mut larger = [0xff; 32];
    (larger[0], larger[31]) = (0xf0, 0x7f);
    for public in [one, [0; 32], second, larger, [2; 32]] {
        assert_eq!(error(NoticeKey::ed25519("a", &public)), NoticeKeyError::Public("a".to_owned()));
    }
    let book = || Arc::new(MemoryPaymentBook::new());
    assert_eq!(PaymentNotices::new(book(), []).unwrap_err(), NoticeKeyError::NoKey);
    let twice = [NoticeKey::hmac_sha256("a", &SECRET).unwrap(), NoticeKey::hmac_sha256("a", &[8; 32]).unwrap()];
    assert_eq!(PaymentNotices::new(book(), twice).unwrap_err(), NoticeKeyError::RepeatedId("a".to_owned()));
}

#[test]
fn secrets_are_not_printed() {
    assert_eq!(format!("{:?}", keys()[0]), "NoticeKey(main, HMAC-SHA256)");
    let (_, notices) = fresh();
    assert_eq!(format!("{notices:?}"), r#"PaymentNotices { keys: ["bank", "main"], .. }"#);
    let body = format!(r#"{{"reference":"{REFERENCE}","amount":"{REFERENCE}","final":true}}"#);
    assert!(!format!("{:?}", send(&notices, &body)).contains("pi_"));
}
