//! The description of the HTTP interface against what is true: the routes, the lengths, and every answer that any of these tests gets.

mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use base64::Engine as _;
use halometer::clearing::{ClearingAnswer, Envelope};
use halometer::http::openapi::OPENAPI;
use halometer::http::problem::{ProblemDetails, TYPE_BASE};
use halometer::http::wire::OPENAPI_PATH;
use halometer::http::wire::{
    CANCEL_PATH, CLOSE_PATH, DIRECTORY_PATH, ROLLOVER_PATH, SESSION_PATH, SETTLEMENT_PATH, TRANSFER_PATH,
};
use halometer::http::wire::{CLEARING_PATH, MINT_PATH, NOTICE_PATH};
use halometer::http::wire::{RESTORE_CHANGE_PATH, RESTORE_MEMO_PATH, RESTORE_MINTS_PATH};
use halometer::http::wire::{SPENT_PATH, bucket_path, spent_path};
use halometer::protocol::*;
use serde_json::Value;

use crate::house::House;
use crate::world::World;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(&OPENAPI).unwrap());

/// An answer, as the checks want it.
pub(crate) struct Seen<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: &'a [u8],
}

/// Checks an answer of a gateway or an issuer against the description.
#[track_caller]
pub(crate) fn check(seen: &Seen<'_>) {
    if let Err(error) = fits(seen) {
        panic!("{} {}: {} does not fit its description: {error}", seen.method, seen.target, seen.status);
    }
}

fn fits(seen: &Seen<'_>) -> Result<(), String> {
    let path = seen.target.split('?').next().unwrap_or_default();
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let own = paths.iter().find(|(template, _)| *template != "/{path}" && matches(template, path));
    let method = seen.method.to_ascii_lowercase();
    let operation = match own {
        Some((_, item)) => match item.get(&method) {
            Some(operation) => operation,
            // Another method of a path that has none such; `HEAD` is that of `GET` without a body.
            None if method == "head" => return Ok(()),
            None if seen.status == 405 => return Ok(()),
            None => return Err(format!("{method} is not described")),
        },
        None => &paths["/{path}"]["post"],
    };
    let kind = seen.headers.get("content-type").map(String::as_str);
    let is_problem = kind == Some("application/problem+json");
    // What the service itself answers is its own affair.
    if own.is_none() && !is_problem {
        return receipt(seen);
    }
    let status = seen.status.to_string();
    let response = operation["responses"].get(&status).ok_or("its status is not described")?;
    let response = schema::follow(&DOCUMENT, response);
    for (name, header) in response.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let header = schema::follow(&DOCUMENT, header);
        if let Some(value) = seen.headers.get(&name.to_ascii_lowercase()) {
            schema::check(&DOCUMENT, &header["schema"], &Value::String(value.clone()), name)?;
        } else if name != "Retry-After" && !name.starts_with("Access-Control-") {
            return Err(format!("it has no {name}"));
        }
    }
    let content = response["content"].as_object().ok_or("it has no content")?;
    let kind = kind.ok_or("it has no content type")?;
    let described = &content.get(kind).ok_or_else(|| format!("{kind} is not described"))?["schema"];
    if let Some((shortest, longest)) = schema::byte_lengths(&DOCUMENT, described) {
        let length = seen.body.len() as u64;
        return if (shortest..=longest).contains(&length) { Ok(()) } else { Err(format!("it is {length} bytes long")) };
    }
    let json: Value = serde_json::from_slice(seen.body).map_err(|error| error.to_string())?;
    schema::check(&DOCUMENT, described, &json, "body")?;
    if is_problem && json["status"] != seen.status {
        return Err("its body says another status".to_owned());
    }
    if let Some(challenge) = seen.headers.get("www-authenticate") {
        let request = challenge.rsplit("request=\"").next().unwrap().trim_end_matches('"');
        schema::check(
            &DOCUMENT,
            &DOCUMENT["components"]["schemas"]["ChallengeRequest"],
            &decoded(request)?,
            "request",
        )?;
    }
    Ok(())
}

fn receipt(seen: &Seen<'_>) -> Result<(), String> {
    match seen.headers.get("payment-receipt") {
        Some(receipt) => {
            schema::check(&DOCUMENT, &DOCUMENT["components"]["schemas"]["Receipt"], &decoded(receipt)?, "receipt")
        }
        None => Ok(()),
    }
}

fn decoded(text: &str) -> Result<Value, String> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let same = |(part, found): (&&str, &&str)| if part.starts_with('{') { !found.is_empty() } else { part == found };
    template.len() == path.len() && template.iter().zip(&path).all(same)
}

#[test]
fn what_is_served_is_made_of_its_source() {
    let source = include_str!("../../docs/openapi.yaml");
    let parsed = yaml_rust2::YamlLoader::load_from_str(source).unwrap();
    let made = serde_json::to_string_pretty(&json(&parsed[0])).unwrap() + "\n";
    assert!(made == *OPENAPI, "what is served is not what docs/openapi.yaml says");
}

fn json(yaml: &yaml_rust2::Yaml) -> Value {
    use yaml_rust2::Yaml;
    match yaml {
        Yaml::String(text) => Value::String(text.clone()),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(truth) => Value::Bool(*truth),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::Hash(members) => {
            // In the order of names, whatever else has a say in how JSON is written.
            let members: BTreeMap<_, _> =
                members.iter().map(|(name, value)| (name.as_str().unwrap().to_owned(), json(value))).collect();
            Value::Object(members.into_iter().collect())
        }
        other => panic!("{other:?} is not expected in the description"),
    }
}

/// All references, and all that is defined to be referred to.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref") {
                found.insert(reference.as_str().unwrap().to_owned());
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_resolves_and_every_definition_is_used() {
    let mut found = BTreeSet::new();
    references(&DOCUMENT, &mut found);
    for reference in &found {
        assert!(DOCUMENT.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference} leads nowhere");
    }
    // What is inside of a header's base64url is referred to in words.
    let in_words = ["Credential", "Receipt", "ChallengeRequest"];
    for kind in ["headers", "parameters", "responses", "schemas"] {
        for name in DOCUMENT["components"][kind].as_object().unwrap().keys() {
            let used = found.contains(&format!("#/components/{kind}/{name}")) || in_words.contains(&name.as_str());
            assert!(used, "{kind}/{name} is never used");
        }
    }
}

#[test]
fn the_lengths_and_the_problems_are_those_of_the_code() {
    let lengths = |name: &str| schema::byte_lengths(&DOCUMENT, &DOCUMENT["components"]["schemas"][name]).unwrap();
    let exactly = |name, length: usize| assert_eq!(lengths(name), (length as u64, length as u64), "{name}");
    exactly("MintRequest", MintRequest::LENGTH);
    exactly("MintAnswer", MintAnswer::LENGTH);
    exactly("Opening", Opening::LENGTH);
    exactly("Transfer", Transfer::LENGTH);
    exactly("MemoQuery", MemoQuery::LENGTH);
    exactly("Memo", Memo::LENGTH);
    exactly("ChangeQuery", ChangeQuery::LENGTH);
    exactly("Settlement", Settlement::LENGTH);
    let at_most = |name, length: usize| assert_eq!(lengths(name).1, length as u64, "{name}");
    at_most("Cancellation", Spend::TRANSFER_LENGTH + Authorisation::LENGTH);
    at_most("SignedDirectory", SignedDirectory::MAX_LENGTH);
    at_most("Envelope", Envelope::MAX_LENGTH);
    at_most("ClearingAnswer", ClearingAnswer::MAX_LENGTH);
    at_most("AccountQuery", AccountQuery::MAX_LENGTH);
    at_most("MintsFound", MintsFound::MAX_LENGTH);
    assert_eq!(lengths("Cancellation").0, Opening::LENGTH as u64);
    let settlement = DOCUMENT["components"]["schemas"]["SettlementBytes"]["pattern"].as_str().unwrap();
    assert!(settlement.contains(&format!("{{{}}}", (Settlement::LENGTH * 8).div_ceil(6))), "{settlement}");

    let problem = &DOCUMENT["components"]["schemas"]["Problem"];
    let types = problem["properties"]["type"]["enum"].as_array().unwrap().iter();
    let types: BTreeSet<_> = types.map(|name| name.as_str().unwrap().to_owned()).collect();
    let ours = Problem::ALL.map(|problem| format!("{TYPE_BASE}{}", problem.as_str()));
    assert_eq!(types, ours.into_iter().chain(["about:blank".to_owned()]).collect());
    for kind in Problem::ALL {
        let details = ProblemDetails::new(kind, "").with_settlement(&[0; 61]).with_receipt(Some(&[1]));
        let json = serde_json::to_value(&details).unwrap();
        schema::check(&DOCUMENT, problem, &json, "problem").unwrap();
    }
}

/// The paths of the routes in a source file, as the description writes them.
fn routes(source: &str) -> BTreeSet<String> {
    let named: BTreeMap<&str, &str> = BTreeMap::from([
        ("DIRECTORY_PATH", DIRECTORY_PATH),
        ("OPENAPI_PATH", OPENAPI_PATH),
        ("SETTLEMENT_PATH", SETTLEMENT_PATH),
        ("CANCEL_PATH", CANCEL_PATH),
        ("TRANSFER_PATH", TRANSFER_PATH),
        ("ROLLOVER_PATH", ROLLOVER_PATH),
        ("SESSION_PATH", SESSION_PATH),
        ("CLOSE_PATH", CLOSE_PATH),
        ("MINT_PATH", MINT_PATH),
        ("NOTICE_PATH", NOTICE_PATH),
        ("CLEARING_PATH", CLEARING_PATH),
        ("RESTORE_MINTS_PATH", RESTORE_MINTS_PATH),
        ("RESTORE_MEMO_PATH", RESTORE_MEMO_PATH),
        ("RESTORE_CHANGE_PATH", RESTORE_CHANGE_PATH),
        ("&format!(\"{SPENT_PATH}/{{epoch}}\")", "/.well-known/halometer/spent/{epoch}"),
        (
            "&format!(\"{SPENT_PATH}/{{epoch}}/{{bits}}/{{value}}\")",
            "/.well-known/halometer/spent/{epoch}/{bits}/{value}",
        ),
    ]);
    let code = source.split("#[cfg(test)]").next().unwrap();
    let all = code.split(".route(").skip(1).map(|rest| rest.split(", ").next().unwrap().trim());
    all.map(|name| (*named.get(name).unwrap_or_else(|| panic!("{name} is not described"))).to_owned()).collect()
}

fn described(tag: &str) -> BTreeSet<String> {
    let is_tagged = |item: &Value| {
        let operations = item.as_object().unwrap().values().filter_map(|operation| operation.get("tags"));
        operations.flat_map(|tags| tags.as_array().unwrap()).any(|found| found == tag)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    paths.filter(|(path, item)| *path != "/{path}" && is_tagged(item)).map(|(path, _)| path.clone()).collect()
}

#[test]
fn every_route_is_described_and_every_described_route_is_there() {
    let spent = routes(include_str!("../../src/http/spent.rs"));
    for (tag, source) in [
        ("gateway", include_str!("../../src/http/exchange/routes.rs")),
        ("issuer", include_str!("../../src/http/issuer.rs")),
    ] {
        let there: BTreeSet<_> = routes(source).union(&spent).cloned().collect();
        assert_eq!(described(tag), there, "{tag}");
    }
}

/// Each described route is answered by a running gateway and a running issuer, and by nothing behind them.
#[tokio::test(flavor = "multi_thread")]
async fn the_described_routes_are_served_and_serve_their_description() {
    let (world, house) = (World::new().await, House::new().await);
    let epoch = EpochNumber::new(1);
    let fill = |path: &str| match path {
        "/.well-known/halometer/spent/{epoch}" => spent_path(epoch),
        "/.well-known/halometer/spent/{epoch}/{bits}/{value}" => format!("{}/4/0003", spent_path(epoch)),
        path => path.to_owned(),
    };
    assert!(bucket_path(epoch, "4/0003".parse().unwrap()).starts_with(SPENT_PATH));
    for (path, item) in DOCUMENT["paths"].as_object().unwrap().iter().filter(|(path, _)| *path != "/{path}") {
        for (method, operation) in item.as_object().unwrap() {
            let (target, method) = (fill(path), method.to_ascii_uppercase());
            let is = |tag: &str| operation["tags"].as_array().unwrap().iter().any(|found| found == tag);
            // Checked against the description where they are received.
            if is("gateway") {
                let answer = world.send(&method, &target, &world.host(), None, "").await;
                // A `GET` is answered; what is sent nothing says what is wrong with that.
                assert_eq!(answer.status == 200, method == "GET", "{method} {target}: {answer:?}");
                let wrong = if method == "GET" { "DELETE" } else { "GET" };
                let refused = world.send(wrong, &target, &world.host(), None, "").await;
                assert_eq!(refused.status, 405, "{wrong} {target}");
                assert_eq!(refused.headers["content-type"], "application/problem+json", "{wrong} {target}");
                assert!(refused.headers.contains_key("allow"), "{wrong} {target}");
            }
            if is("issuer") {
                let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
                let request = house.client.request(method.clone(), format!("{}{target}", house.origin()));
                let reply = house.send(request).await;
                let answered = method == "GET" || path == CLEARING_PATH;
                assert_eq!(reply.status == 200, answered, "{method} {target}: {reply:?}");
                let wrong = if method == reqwest::Method::GET { "DELETE" } else { "GET" }.parse().unwrap();
                let request = house.client.request(wrong, format!("{}{target}", house.origin()));
                assert_eq!(house.send(request).await.problem().status, 405, "{target}");
            }
        }
    }
    let served = world.send("GET", OPENAPI_PATH, &world.host(), None, "").await;
    assert!(served.body == OPENAPI.as_bytes());
}

#[test]
fn a_credential_is_as_it_is_described() {
    use halometer::http::payment::{ChallengeRequest, Credential, MethodDetails, Payload, PaymentChallenge};
    let request = ChallengeRequest {
        amount: "1".to_owned(),
        currency: "micro-credit".to_owned(),
        method_details: MethodDetails { directory: "a".to_owned(), gateway: "b".repeat(32), issuer: "c".to_owned() },
    };
    let challenge = PaymentChallenge::new("realm", &request);
    for payload in [Payload::Opening(vec![1; 9]), Payload::Following(vec![2; 9])] {
        let credential = Credential { challenge: challenge.clone(), payload }.to_header_value();
        let json = decoded(credential.strip_prefix("Payment ").unwrap()).unwrap();
        schema::check(&DOCUMENT, &DOCUMENT["components"]["schemas"]["Credential"], &json, "credential").unwrap();
    }
}
