//! What a person sees of charge classes, prices and payments at the command line.

use halometer::protocol::Credits;
use halometer::testing::stack::StackOptions;
use serde_json::Value;

use super::proxy::Proxy;
use super::wallet::{CHAT, Owner, QUESTION, RUNTIME, root_key, start};
use super::{code, said};

fn new(owner: &Owner, stack: &halometer::testing::stack::Stack) {
    owner.json("w", &["new", "--issuer", &stack.issuer_url(), "--root-key", &root_key(stack)], 0);
}

fn out(output: &std::process::Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_small_payment_goes_to_lanes_that_can_pay() {
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    new(&owner, &stack);
    let payment = stack.pay(Credits::from_micro(9_000)).unwrap().to_string();
    let many = owner.fails("w", &["fund", &payment, "9000", "--lanes", "8"]);
    let error = many["error"].as_str().unwrap();
    assert!(error.contains("1,125") && error.contains("4,000"), "{many}");
    assert_eq!(many["credit"], "untouched");

    let funded = owner.run("w", &["fund", &payment, "9000"]);
    assert_eq!(code(&funded), 0, "{funded:?}");
    assert!(out(&funded).contains("9,000 micro-credits in lanes of 2 x 4,500"), "{}", out(&funded));
    assert!(said(&funded).contains("a typical call needs 16,000"), "{}", said(&funded));

    // Nobody named a class.
    let answer = owner.json("w", &["call", CHAT, "-d", QUESTION], 0);
    assert_eq!((&answer["status"], &answer["charge"], &answer["settled"]), (&200.into(), &"4000".into(), &true.into()));
    let text = owner.run("w", &["call", CHAT, "-d", QUESTION]);
    assert!(said(&text).contains("of 4,000 micro-credits"), "{}", said(&text));
    let low = owner.fails("w", &["call", CHAT, "-d", QUESTION, "--max-class", "3999"]);
    assert!(low["next"].as_str().unwrap().contains("4,000"), "{low}");

    let lanes = out(&owner.run("w", &["lanes"]));
    assert_eq!(lanes.lines().count(), 4, "a line each, and one for those that are empty: {lanes}");
    assert!(lanes.contains("and 6 lanes that are empty"), "{lanes}");
    assert!(lanes.lines().all(|line| line.len() <= 80), "{lanes}");
}

#[test]
fn a_refused_payment_binds_nothing_and_can_be_forgotten() {
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    new(&owner, &stack);
    let payment = stack.pay(Credits::from_micro(90_000)).unwrap().to_string();
    let wrong = owner.fails("w", &["fund", &payment, "9000"]);
    assert!(wrong["error"].as_str().unwrap().contains("with 90,000 micro-credits"), "{wrong}");
    assert_eq!((&wrong["credit"], &wrong["fault"]), (&"safe".into(), &"caller".into()));
    let unknown = owner.fails("w", &["fund", "an invoice of nobody", "5000"]);
    assert!(unknown["next"].as_str().unwrap().contains("--forget"), "{unknown}");
    assert_eq!(owner.json("w", &["balance"], 0)["payments_not_minted"], 2);

    assert_eq!(owner.json("w", &["fund", &payment, "90000"], 0)["amount"], "90000");
    assert_eq!(owner.total("w"), 90_000);
    let text = out(&owner.run("w", &["payments"]));
    assert!(text.contains("90,000") && text.contains("minted") && text.contains("not-minted"), "{text}");
    assert!(owner.fails("w", &["payments", "--forget", &payment])["error"].as_str().unwrap().contains("minted"));
    assert!(owner.fails("w", &["payments", "--forget", "no such"])["error"].is_string());
    let left = owner.json("w", &["payments", "--forget", "an invoice of nobody"], 0);
    assert_eq!((left.as_array().unwrap().len(), &left[0]["state"]), (1, &"minted".into()), "{left}");
    assert_eq!(owner.json("w", &["balance"], 0)["payments_not_minted"], 0);
    let all = owner.json("w", &["payments", "--all"], 0);
    assert_eq!(all[1]["state"], "forgotten", "{all}");
    assert_eq!(owner.json("w", &["doctor"], 0)["well"], true);
}

#[test]
fn prices_are_told_in_tokens_and_in_a_typical_call() {
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    new(&owner, &stack);
    let prices = owner.json("w", &["prices"], 0);
    assert_eq!(
        (&prices["typical"]["cost"], &prices["typical"]["class"]),
        (&"6000".into(), &"16000".into()),
        "{prices}"
    );
    assert_eq!(prices["classes"][1]["output_tokens"], "1750", "{prices}");
    let text = out(&owner.run("w", &["prices"]));
    assert!(text.contains("1,000 tokens with an answer of 500 costs 6,000; class 16,000 pays for it"), "{text}");
}

#[test]
fn a_wallet_that_a_proxy_has_open_is_looked_at_beside_it() {
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    owner.fund(&stack, "w", 160_000);
    owner.json("w", &["call", CHAT, "-d", QUESTION], 0);
    let looks: [&[&str]; 4] = [&["balance"], &["history"], &["lanes"], &["prices"]];
    let before: Vec<Value> = looks.iter().map(|look| owner.json("w", look, 0)).collect();
    let proxy = Proxy::start(&owner, "w", &[]);
    assert_eq!((&proxy.told["class"], &proxy.told["class_is"]), (&"1000000".into(), &"at-most".into()));
    // Nobody is asked for a passphrase.
    std::fs::write(owner.text("passphrase"), "another one").unwrap();
    let balance = owner.json("w", &["balance"], 0);
    assert_eq!(balance["total"], before[0]["total"]);
    assert_eq!(owner.json("w", &["history"], 0), before[1]);
    assert_eq!(owner.json("w", &["lanes"], 0).as_array().unwrap().len(), 8);
    assert_eq!(owner.json("w", &["prices"], 0), before[3]);
    assert!(out(&owner.run("w", &["history"])).contains("POST /v1/chat/completions"));
    // What changes the wallet says that it is open elsewhere, and what helps.
    std::fs::write(owner.text("passphrase"), "correct horse battery staple").unwrap();
    let call = owner.fails("w", &["call", CHAT, "-d", QUESTION]);
    assert!(call["next"].as_str().unwrap().contains("proxy"), "{call}");
    #[cfg(unix)]
    {
        let mode = std::fs::metadata(owner.text("w.socket")).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    }
    proxy.end();
    assert!(!std::path::Path::new(&owner.text("w.socket")).exists());
    assert_eq!(owner.json("w", &["balance"], 0)["total"], before[0]["total"]);
}

#[test]
fn a_second_gateway_of_the_issuer_breaks_nobody() {
    use halometer::protocol::{DirectoryParts, GatewayEntry, GatewayId, GatewaySigningKey};
    let other = GatewayId::from_bytes([7; 16]);
    let adjust = move |parts: &mut DirectoryParts| {
        let key = GatewaySigningKey::from_bytes(&[9; 32]).public_key();
        parts.gateways.push(GatewayEntry { id: other, origins: vec!["http://127.0.0.1:9".to_owned()], key });
        parts.gateways.sort_by_key(|gateway| gateway.id);
    };
    let stack = start(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() });
    let owner = Owner::new();
    owner.fund(&stack, "w", 160_000);
    let several = owner.fails("w", &["call", CHAT, "-d", QUESTION]);
    assert!(several["error"].as_str().unwrap().contains("several gateways"), "{several}");
    let gateway = stack.gateway().id().to_string();
    owner.json("w", &["call", CHAT, "-d", QUESTION, "--gateway", &gateway], 0);
    assert_eq!(owner.json("w", &["call", CHAT, "-d", QUESTION], 0)["status"], 200, "the one that was used last");
    let proxy = Proxy::start(&owner, "w", &[]);
    assert_eq!(proxy.told["gateway"], gateway);
    proxy.end();
}

#[test]
fn a_withheld_answer_is_told_as_what_it_is() {
    use halometer::http::server::Listener;
    use halometer::testing::stack::UpstreamOptions;
    // A thousand tokens at 8 micro-credits, whatever was asked for.
    let service = axum::Router::new().fallback(|| async {
        r#"{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":0,"completion_tokens":1000}}"#
    });
    let server = RUNTIME.block_on(async { Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(service) });
    let upstream = Some(UpstreamOptions { url: server.url(), api_key: None });
    let stack = start(StackOptions { upstream, ..StackOptions::default() });
    let owner = Owner::new();
    owner.fund(&stack, "w", 160_000);
    let told = "class 4,000 was too small for this answer; 4,000 were kept; calls of this kind now use 16,000";
    let lost = owner.run("w", &["call", CHAT, "-d", QUESTION]);
    assert_eq!(code(&lost), 1, "{lost:?}");
    assert_eq!(said(&lost).matches(told).count(), 1, "{}", said(&lost));
    assert!(out(&owner.run("w", &["history"])).contains(told), "{}", out(&owner.run("w", &["history"])));
    let history = owner.json("w", &["history"], 0);
    assert_eq!((&history[0]["too_small"], &history[0]["now"]), (&true.into(), &"16000".into()), "{history}");
    // The next command knows it.
    let answer = owner.json("w", &["call", CHAT, "-d", QUESTION], 0);
    assert_eq!((&answer["charge"], &answer["cost"]), (&"16000".into(), &"8000".into()), "{answer}");
    assert_eq!(owner.json("w", &["history"], 0)[0]["too_small"], false);
}
