//! `halometer wallet key` and a proxy that takes requests with keys only.

use serde_json::Value;

use super::proxy::{Proxy, python};
use super::wallet::{CHAT, Owner, QUESTION, RUNTIME, mute, start};
use super::{code, halometer, json, said};
use halometer::testing::stack::{Stack, StackOptions};
use std::time::{Duration, Instant};

fn micro(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("{value}")).parse().unwrap()
}

pub(super) fn ask(proxy: &Proxy, key: &str) -> (u16, Value) {
    let url = format!("{}{CHAT}", proxy.url("url"));
    let asking = async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
        let answer = client.post(url).bearer_auth(key).header("content-type", "application/json").body(QUESTION);
        let answer = answer.timeout(Duration::from_secs(60)).send().await?;
        Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.bytes().await?))
    };
    let (status, body) = RUNTIME.block_on(asking).unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

pub(super) fn new(owner: &Owner, name: &str, args: &[&str]) -> String {
    let keys = owner.text("keys.toml");
    let made = halometer(&[&["wallet", "key", "new", "--keys", &keys, "--name", name], args].concat());
    assert_eq!(code(&made), 0, "{made:?}");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn charged(stack: &Stack) -> u64 {
    u64::try_from(stack.books().unwrap().charged).unwrap()
}

fn until(what: &str, reached: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !reached() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn keys_are_made_listed_and_taken_back_without_a_wallet() {
    let owner = Owner::new();
    let keys = owner.text("keys.toml");
    let key = |args: &[&str]| halometer(&[&["wallet", "key"], args, &["--keys", &keys]].concat());
    let made = key(&[
        "new",
        "--name",
        "agent",
        "--per-day",
        "50000",
        "--per-call",
        "4000",
        "--total",
        "900000",
        "--models",
        "parrot-1,gpt-4o*",
        "--routes",
        "POST /v1/chat/completions,GET /v1/models",
        "--until",
        "2099-12-31",
        "--json",
    ]);
    assert_eq!(code(&made), 0, "{made:?}");
    let secret = json(&made)["key"].as_str().unwrap().to_owned();
    let text = std::fs::read_to_string(&keys).unwrap();
    assert!(!text.contains(&secret[13..]) && text.contains("per_day = 50000"), "{text}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&keys).unwrap().permissions().mode() & 0o077, 0);
    }
    let listed = json(&key(&["list", "--json"]));
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&"agent".into(), &"valid".into()));
    assert_eq!((micro(&listed[0]["per_call"]), &listed[0]["routes"][1]), (4_000, &"GET /v1/models".into()));
    assert_eq!(listed[0]["until"], 4_102_444_800_u64, "the day is included");
    assert_eq!(code(&key(&["revoke", "agent"])), 0);
    assert_eq!(json(&key(&["list", "--json"]))[0]["state"], "revoked");
    for (args, about) in [
        (&["new", "--name", "agent"][..], "already"),
        (&["new", "--name", "a b"], "no name"),
        (&["new", "--name", "b", "--routes", "/v1"], "method"),
        (&["new", "--name", "b", "--models", "a*b"], "no model"),
        (&["new", "--name", "b", "--until", "2001-01-01"], "no end"),
        (&["revoke", "nobody"], "no key"),
    ] {
        let refused = key(args);
        assert_eq!(code(&refused), 2, "{args:?}");
        assert!(said(&refused).contains(about) && said(&refused).contains("next:"), "{args:?}: {}", said(&refused));
    }
    assert_eq!(std::fs::read_to_string(&keys).unwrap().matches("[[key]]").count(), 1, "nothing was changed");
    let missing = halometer(&["wallet", "key", "list", "--keys", &owner.text("none.toml")]);
    assert!(code(&missing) == 2 && said(&missing).contains("no file of keys"), "{missing:?}");
}

#[test]
fn a_key_is_counted_through_kills_and_taken_back_while_it_runs() {
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    owner.fund(&stack, "w", 64_000);
    let keys = owner.text("keys.toml");
    let agent = new(&owner, "agent", &["--total", "4200", "--models", "parrot-*"]);
    let mut proxy = Proxy::start(&owner, "w", &["--keys", &keys]);
    assert_eq!(ask(&proxy, "none").0, 401);
    let (status, body) = ask(&proxy, &agent);
    assert_eq!(status, 200, "{body}");
    let cost = charged(&stack);
    assert!(cost > 0);
    // This is SIGKILL. Whatever is asked after it, the cap holds.
    let mut paid = 1;
    for _ in 0..2 {
        proxy.child.kill().unwrap();
        proxy.child.wait().unwrap();
        proxy = Proxy::start(&owner, "w", &["--keys", &keys]);
        loop {
            let (status, body) = ask(&proxy, &agent);
            match status {
                200 => paid += 1,
                402 => break,
                _ => panic!("{status}: {body}"),
            }
        }
    }
    assert!(charged(&stack) <= 4_200 && charged(&stack) > 200, "{} after {paid}", charged(&stack));
    let spare = new(&owner, "spare", &[]);
    until("the new key is not taken", || ask(&proxy, &spare).0 == 200);
    let revoke = ["wallet", "key", "revoke", "spare", "--keys", &keys];
    assert_eq!(code(&halometer(&revoke)), 0);
    until("the key is not taken back", || ask(&proxy, &spare).0 == 401);
    std::fs::write(&keys, "nonsense").unwrap();
    until("keys that cannot be read", || ask(&proxy, &agent).1["error"]["code"] == "keys_unreadable");
    proxy.end();
    let by_key = owner.json("w", &["history", "--by-key"], 0);
    let ever: u64 = by_key.as_array().unwrap().iter().map(|key| micro(&key["ever"])).sum();
    assert_eq!((ever, by_key.as_array().unwrap().len()), (charged(&stack), 2), "{by_key}");
    assert_eq!(owner.json("w", &["history", "--limit", "1"], 0)[0]["key"], "spare");
}

#[test]
fn a_killed_call_counts_its_charge_until_the_cost_is_known() {
    let (owner, stack) = (Owner::new(), mute());
    owner.fund(&stack, "w", 64_000);
    let keys = owner.text("keys.toml");
    let agent = new(&owner, "agent", &["--per-day", "7999"]);
    let mut proxy = Proxy::start(&owner, "w", &["--keys", &keys]);
    let url = format!("{}{CHAT}", proxy.url("url"));
    let key = agent.clone();
    let asking = RUNTIME.spawn(async move {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        client.post(url).bearer_auth(key).body(QUESTION).send().await.map(|answer| answer.status())
    });
    until("nothing is sent", || stack.books().unwrap().held > 0);
    proxy.child.kill().unwrap();
    proxy.child.wait().unwrap();
    let _ = RUNTIME.block_on(asking);
    let by_key = owner.json("w", &["history", "--by-key"], 0);
    assert_eq!((micro(&by_key[0]["reserved"]), micro(&by_key[0]["ever"])), (4_000, 0), "{by_key}");
    // The next one asks for the settlement: nothing was done, and nothing counts.
    let proxy = Proxy::start(&owner, "w", &["--keys", &keys]);
    until("it is not settled", || proxy.status()["keys"][0]["today"]["reserved"] == "0");
    let spent = micro(&proxy.status()["keys"][0]["today"]["cost"]);
    assert_eq!(spent, charged(&stack));
    proxy.end();
}

#[test]
fn a_file_of_keys_that_is_not_there_ends_the_proxy_at_once() {
    let owner = Owner::new();
    let refused = halometer(&["proxy", "--wallet", &owner.text("w"), "--keys", &owner.text("none.toml")]);
    assert!(code(&refused) == 2 && said(&refused).contains("no file of keys"), "{refused:?}");
}

const CAPPED: &str = r#"
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2])
def ask(model):
    try:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
        return "fine"
    except openai.APIStatusError as error:
        return f"{type(error).__name__} {error.status_code} {error.code}"
print(ask("parrot-1"), ask("dear"), ask("parrot-1"), sep="\n")
"#;

#[test]
fn the_openai_python_client_reads_what_its_key_is_refused() {
    let Some(python) = python() else { return };
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    owner.fund(&stack, "w", 64_000);
    let agent = new(&owner, "agent", &["--per-day", "4001", "--models", "parrot-1"]);
    let proxy = Proxy::start(&owner, "w", &["--keys", &owner.text("keys.toml")]);
    let began = Instant::now();
    let mut command = std::process::Command::new(&python);
    command.args(["-c", CAPPED, proxy.url("base_url"), &agent]).env("NO_PROXY", "*");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines, ["fine", "APIStatusError 402 key_model", "RateLimitError 429 key_day_cap"], "{output:?}");
    assert!(began.elapsed() < Duration::from_secs(90), "it does not try again for hours");
    proxy.end();
}
