//! `halometer wallet` and `halometer proxy` through a SOCKS5 proxy, and what the program says at a terminal.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use halometer::protocol::{Credits, DirectoryParts};
use halometer::testing::stack::{Stack, StackOptions};

use super::socks_server::{Mood, SocksServer};
use super::wallet::{CHAT, Owner, QUESTION, RUNTIME, mute, root_key, start};
use super::{code, json, said};

/// Names that only the proxy can look up.
const GATEWAY: &str = "gateway.onion";
const ISSUER: &str = "issuer.onion";

fn hidden() -> (Stack, SocksServer) {
    let adjust = |parts: &mut DirectoryParts| parts.gateways[0].origins = vec![format!("http://{GATEWAY}")];
    let stack = start(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() });
    let socks = RUNTIME.block_on(SocksServer::start());
    socks.knows(GATEWAY, &stack.gateway_url());
    socks.knows(ISSUER, &stack.issuer_url());
    (stack, socks)
}

#[test]
fn every_command_goes_through_the_proxy_alone() {
    let (stack, socks) = hidden();
    let owner = Owner::new();
    let through = ["--socks5", &socks.address()];
    let issuer = format!("http://{ISSUER}");
    let run = |args: &[&str], expected| owner.json("w", &[args, &through].concat(), expected);
    run(&["new", "--issuer", &issuer, "--root-key", &root_key(&stack)], 0);
    let payment = stack.pay(Credits::from_micro(160_000)).unwrap().to_string();
    run(&["fund", &payment, "160000"], 0);
    for _ in 0..2 {
        assert_eq!(run(&["call", CHAT, "-d", QUESTION], 0)["status"], 200);
    }
    assert_eq!(run(&["doctor"], 0)["well"], true);
    run(&["cancel", "--all"], 0);
    let asked = socks.asked();
    // Nothing else could have led there: nobody else knows these names.
    assert!(asked.iter().all(|asked| asked.is_name && [GATEWAY, ISSUER].contains(&asked.host.as_str())), "{asked:?}");
    let mut users: Vec<_> = asked.iter().map(|asked| &asked.user).collect();
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), asked.len(), "each request has a circuit of its own: {asked:?}");

    // Without --socks5 the names lead nowhere, and with a proxy that is gone nothing is tried.
    let lost = owner.fails("w", &["call", CHAT, "-d", QUESTION, "--timeout", "5"]);
    assert_eq!(lost["credit"], "untouched", "{lost}");
    assert!(lost["error"].as_str().unwrap().contains("through Tor alone"), "it is not even looked up: {lost}");
    socks.is(Mood::Refuses);
    let refused = owner.fails("w", &[&["call", CHAT, "-d", QUESTION][..], &through].concat());
    assert!(refused["error"].as_str().unwrap().contains("the SOCKS5 proxy at"), "{refused}");
    assert!(refused["next"].as_str().unwrap().contains("nothing is ever sent past it"), "{refused}");
}

#[test]
fn programs_behind_the_local_proxy_are_on_circuits_too() {
    let (stack, socks) = hidden();
    let owner = Owner::new();
    let (issuer, address) = (format!("http://{ISSUER}"), socks.address());
    let through = ["--socks5", &address];
    owner.json("w", &[&["new", "--issuer", &issuer, "--root-key", &root_key(&stack)][..], &through].concat(), 0);
    let payment = stack.pay(Credits::from_micro(160_000)).unwrap().to_string();
    owner.json("w", &[&["fund", &payment, "160000"][..], &through].concat(), 0);
    socks.forget();
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_halometer"));
    proxy.args(["proxy", "--json", "--wallet", &owner.text("w"), "--seats", &owner.text("seats")]).args(through);
    proxy.args(["--passphrase-file", &owner.text("passphrase"), "--listen", "127.0.0.1:0"]);
    let mut running = proxy.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(running.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = format!("{}{CHAT}", told["url"].as_str().unwrap());
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    for _ in 0..3 {
        // Over one connection of the program's.
        let asking = client.post(&url).header("content-type", "application/json").body(QUESTION).send();
        assert_eq!(RUNTIME.block_on(asking).unwrap().status(), 200);
    }
    assert!(Command::new("kill").args(["-TERM", &running.id().to_string()]).status().unwrap().success());
    assert_eq!(running.wait().unwrap().code(), Some(0));
    let asked = socks.asked();
    assert_eq!(asked.iter().filter(|asked| asked.line.contains(CHAT)).count(), 3);
    assert!(asked.iter().all(|asked| asked.is_name && asked.host == GATEWAY), "{asked:?}");
    let mut users: Vec<_> = asked.iter().map(|asked| &asked.user).collect();
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), asked.len(), "{asked:?}");
}

#[test]
fn with_the_proxy_gone_no_command_connects_to_anything() {
    let (connected, trap) = (Arc::new(AtomicUsize::new(0)), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("http://{}", trap.local_addr().unwrap());
    let counted = Arc::clone(&connected);
    std::thread::spawn(move || {
        for _ in trap.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let origin = url.clone();
    let adjust = move |parts: &mut DirectoryParts| parts.gateways[0].origins = vec![origin];
    let stack = start(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() });
    let owner = Owner::new();
    owner.fund(&stack, "w", 32_000);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let through = ["--socks5", &nobody];
    let root = root_key(&stack);
    for args in [
        &["new", "--issuer", &url, "--root-key", &root][..],
        &["fund", "later", "8000", "--issuer", &url],
        &["call", CHAT, "-d", QUESTION],
    ] {
        let wallet = if args[0] == "new" { "other" } else { "w" };
        let trouble = owner.fails(wallet, &[args, &through].concat());
        assert!(trouble["error"].as_str().unwrap().contains(&nobody), "{args:?}: {trouble}");
        assert_eq!(trouble["fault"], "caller", "{args:?}: {trouble}");
    }
    assert_eq!(owner.json("w", &["doctor", "--issuer", &url, "--socks5", &nobody], 1)["well"], false);
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_halometer"));
    proxy.args(["proxy", "--wallet", &owner.text("w"), "--seats", &owner.text("seats"), "--listen", "127.0.0.1:0"]);
    proxy.args(["--passphrase-file", &owner.text("passphrase"), "--socks5", &nobody]).stdin(Stdio::null());
    // It may wait for the gateway, but not look for it elsewhere.
    let mut running = proxy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let _ = running.kill();
    running.wait().unwrap();
    assert_eq!(connected.load(Ordering::SeqCst), 0, "nothing went past the proxy");
}

#[test]
fn what_is_no_proxy_is_refused_before_anything_is_opened() {
    let owner = Owner::new();
    for wrong in ["9050", "127.0.0.1", "socks5://127.0.0.1:9050", "127.0.0.1:0"] {
        let refused = owner.run("none", &["balance", "--socks5", wrong]);
        assert_eq!(code(&refused), 2);
        assert!(said(&refused).contains("is no HOST:PORT of a SOCKS5 proxy"), "{}", said(&refused));
    }
}

#[test]
fn a_wrong_issuer_is_called_none() {
    let (owner, stack) = (Owner::new(), mute());
    let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = format!("http://{}", web.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in web.incoming() {
            let mut stream = stream.unwrap();
            let mut read = [0; 1_024];
            let _ = std::io::Read::read(&mut stream, &mut read);
            let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = std::io::Write::write_all(&mut stream, answer);
        }
    });
    let nobody = format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for url in [&other, &nobody] {
        let trouble = owner.fails("w", &["new", "--issuer", url, "--root-key", &root_key(&stack)]);
        let error = trouble["error"].as_str().unwrap();
        assert!(error.contains(&format!("no issuer at {url}")), "{trouble}");
        assert!(trouble["next"].as_str().unwrap().contains("--issuer"), "{trouble}");
    }
    owner.fund(&stack, "w", 8_000);
    for url in [&other, &nobody] {
        let trouble = owner.fails("w", &["fund", "later", "8000", "--issuer", url]);
        assert!(trouble["error"].as_str().unwrap().contains(&format!("no issuer at {url}")), "{trouble}");
    }
}

#[test]
fn files_that_are_missing_are_named() {
    let owner = Owner::new();
    let missing = owner.text("missing");
    let (other, passphrase) = (owner.text("other"), owner.text("passphrase"));
    let root = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    let key = ["--key-file", &missing];
    for (args, name) in [
        (vec!["wallet", "balance", "--wallet", &missing], "a wallet"),
        (vec!["wallet", "call", "/", "-d", "@/nowhere/missing"], "a body"),
        ([&["wallet", "balance", "--wallet", &owner.text("passphrase")][..], &key].concat(), "a key"),
        (vec!["proxy", "--wallet", &missing], "a proxy's wallet"),
        (vec!["gateway", "--config", &missing], "a configuration"),
        (vec!["gateway", "leak-budget", "--config", &missing], "a configuration to look at"),
        (vec!["gateway", "leak-budget", "--config", &missing, "--store", &missing], "a configuration before its store"),
        (vec!["store", "stats", &missing], "a store"),
        (vec!["wallet", "doctor", "--wallet", &missing], "a wallet to look over"),
        (vec!["wallet", "import", &missing, "--wallet", &other, "--passphrase-file", &passphrase], "a bundle"),
        (vec!["evidence", "mint", &missing, "--root-key", root], "a statement"),
        (vec!["evidence", "dispute", &missing, "--root-key", root], "a dispute"),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_halometer")).args(&args).stdin(Stdio::null()).output().unwrap();
        assert_eq!(code(&run), 2, "{name}: {run:?}");
        assert!(said(&run).contains("missing"), "{name}: {}", said(&run));
    }
}

#[test]
fn ctrl_c_says_what_becomes_of_the_credit() {
    let (owner, stack) = (Owner::new(), mute());
    owner.fund(&stack, "w", 32_000);
    let interrupted = |until: &dyn Fn() -> bool| {
        let mut call = Command::new(env!("CARGO_BIN_EXE_halometer"));
        call.args(["wallet", "call", CHAT, "-d", QUESTION, "--json", "--wallet", &owner.text("w")]);
        call.args(["--seats", &owner.text("seats"), "--passphrase-file", &owner.text("passphrase")]);
        let call = call.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(120);
        while !until() {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(20));
        }
        let id = call.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        call.wait_with_output().unwrap()
    };
    let sent = interrupted(&|| stack.books().unwrap().held > 0);
    assert_eq!(code(&sent), 130, "{sent:?}");
    assert_eq!((&json(&sent)["error"], &json(&sent)["credit"]), (&"interrupted".into(), &"safe".into()), "{sent:?}");
    assert!(said(&sent).contains("charged once") && said(&sent).contains("wallet cancel"), "{}", said(&sent));
    assert_eq!(owner.json("w", &["cancel"], 0).as_array().unwrap().len(), 1);
    assert_eq!(owner.total("w"), 32_000 - u64::try_from(stack.books().unwrap().charged).unwrap());
}

#[test]
fn ctrl_c_before_anything_is_sent_says_untouched() {
    // Where the gateway should be, somebody listens and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", silent.local_addr().unwrap());
    let (came, coming) = std::sync::mpsc::channel();
    std::thread::spawn(move || silent.incoming().for_each(|stream| came.send(stream).unwrap()));
    let adjust = move |parts: &mut DirectoryParts| parts.gateways[0].origins = vec![origin];
    let stack = start(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() });
    let owner = Owner::new();
    owner.fund(&stack, "w", 32_000);
    let mut call = Command::new(env!("CARGO_BIN_EXE_halometer"));
    call.args(["wallet", "call", CHAT, "-d", QUESTION, "--json", "--wallet", &owner.text("w")]);
    call.args(["--seats", &owner.text("seats"), "--passphrase-file", &owner.text("passphrase")]);
    let call = call.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _held = coming.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(Command::new("kill").args(["-INT", &call.id().to_string()]).status().unwrap().success());
    let ended = call.wait_with_output().unwrap();
    assert_eq!((code(&ended), &json(&ended)["credit"]), (130, &"untouched".into()), "{ended:?}");
}

#[test]
fn an_answer_is_waited_for_as_long_as_was_said() {
    let (owner, stack) = (Owner::new(), mute());
    owner.fund(&stack, "w", 32_000);
    let began = Instant::now();
    let late = owner.fails("w", &["call", CHAT, "-d", QUESTION, "--timeout", "2"]);
    assert_eq!((&late["credit"], &late["fault"]), (&"safe".into(), &"nobody".into()), "{late}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[cfg(unix)]
#[test]
fn key_files_that_others_can_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let (owner, stack) = (Owner::new(), mute());
    owner.fund(&stack, "w", 8_000);
    let passphrase = owner.text("passphrase");
    for (mode, warned) in [(0o644, "every user"), (0o640, "a group of users"), (0o600, ""), (0o400, "")] {
        std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(mode)).unwrap();
        let run = owner.run("w", &["balance", "--json"]);
        assert_eq!((code(&run), &json(&run)["total"]), (0, &"8000".into()), "{mode:o}");
        assert_eq!(said(&run).contains("chmod 600"), !warned.is_empty(), "{mode:o}: {}", said(&run));
        assert!(said(&run).contains(warned), "{mode:o}: {}", said(&run));
    }
}

#[test]
fn shells_and_manuals_know_every_command() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_halometer")).args(args).output().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(&["completions", shell]);
        let text = String::from_utf8(script.stdout.clone()).unwrap();
        assert_eq!(code(&script), 0);
        for word in ["leak-budget", "socks5", "doctor", "manuals"] {
            assert!(text.contains(word), "{shell} knows no {word}");
        }
    }
    assert_eq!(code(&run(&["completions", "tcsh"])), 2);
    let owner = Owner::new();
    let written = run(&["manuals", &owner.text("deep/man1")]);
    assert_eq!(code(&written), 0, "{written:?}");
    for page in ["halometer.1", "halometer-wallet-call.1", "halometer-proxy.1", "halometer-gateway-leak-budget.1"] {
        let text = std::fs::read_to_string(owner.text(&format!("deep/man1/{page}"))).unwrap();
        assert!(text.starts_with(".ie") || text.contains(".TH"), "{page}");
    }
    let page = std::fs::read_to_string(owner.text("deep/man1/halometer-wallet-call.1")).unwrap();
    assert!(page.contains("Examples") && page.contains("question"), "{page}");
    let nowhere = run(&["manuals", &owner.text("passphrase")]);
    assert_eq!(code(&nowhere), 2);
    assert!(said(&nowhere).contains("passphrase"), "the place is named: {}", said(&nowhere));
}

#[test]
fn a_leak_budget_is_computed_from_the_operators_numbers() {
    let owner = Owner::new();
    let (dir, traffic) = (owner.text("shop"), owner.text("traffic"));
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_halometer")).args(args).output().unwrap();
    let init =
        ["gateway", "init", &dir, "--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:8710", "--development"];
    assert_eq!(code(&run(&init)), 0);
    let config = format!("{dir}/gateway.toml");
    let budget = |more: &[&str]| {
        let all = [&["gateway", "leak-budget", "--config", &config][..], more].concat();
        let output = run(&all);
        assert_eq!(code(&output), 0, "{output:?}");
        output
    };
    // By the configuration alone: five classes.
    let bound = json(&budget(&["--json", "--callers", "400"]));
    let of = |value: &serde_json::Value, name: &str| {
        let choices = value["choices"].as_array().unwrap().clone();
        choices.into_iter().find(|choice| choice["choice"] == name).unwrap_or_else(|| panic!("{name} in {value}"))
    };
    assert!((of(&bound, "class")["most_bits"].as_f64().unwrap() - 5f64.log2()).abs() < 1e-9);
    assert!(of(&bound, "class")["counted"].is_null());
    assert_eq!(of(&bound, "epoch")["most_bits"], 1.0);
    // By traffic: three in four calls are of one class.
    std::fs::write(&traffic, "callers = 64\n[class]\n4000 = 300\n16000 = 100\n[route]\na = 1\nb = 1\nc = 1\nd = 1\n")
        .unwrap();
    let counted = json(&budget(&["--json", "--traffic", &traffic]));
    let class = of(&counted, "class");
    assert!((class["counted"]["average_bits"].as_f64().unwrap() - 0.811_278_124_459_132_8).abs() < 1e-9);
    assert_eq!((&class["counted"]["worst_bits"], &class["counted"]["rarest"]), (&2.0.into(), &"16000".into()));
    assert_eq!((&class["crowd_left_worst"], &counted["callers"]), (&16.0.into(), &64.into()));
    assert_eq!(of(&counted, "route")["counted"]["average_bits"], 2.0);
    let text = String::from_utf8(budget(&["--traffic", &traffic]).stdout).unwrap();
    assert!(text.contains("crowd: at most 64 callers") && text.contains("rarest 16000"), "{text}");
    std::fs::write(&traffic, "class = 3").unwrap();
    let wrong = run(&["gateway", "leak-budget", "--config", &config, "--traffic", &traffic]);
    assert_eq!(code(&wrong), 2);
    assert!(said(&wrong).contains("traffic: ") && said(&wrong).contains("expected"), "{}", said(&wrong));
    assert_eq!(code(&run(&["gateway", "leak-budget"])), 2);
}

#[test]
fn a_store_says_what_its_calls_told() {
    let run = &*super::RUN;
    let (store, directory) = (run.store("leaking"), run.path("directory"));
    let of_store = ["gateway", "leak-budget", "--store", store.to_str().unwrap()];
    let args = [&of_store[..], &run.trusted(&directory)].concat();
    let output = super::halometer(&[&args[..], &["--json"]].concat());
    assert_eq!(code(&output), 0, "{output:?}");
    let told = json(&output);
    assert_eq!((&told["together"]["calls"], &told["callers"]), (&4.into(), &2.into()), "{told}");
    assert_eq!((&told["records_erased"], &told["other_spends"]), (&0.into(), &0.into()));
    let text = super::halometer(&args);
    assert!(String::from_utf8(text.stdout).unwrap().contains("at one time: a window has"));
}

#[test]
fn fresh_credit_rests_as_long_as_was_said() {
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    owner.fund(&stack, "w", 32_000);
    let resting = owner.fails("w", &["call", CHAT, "-d", QUESTION, "--rest", "3600"]);
    assert!(resting["error"].as_str().unwrap().contains("fresh"), "{resting}");
    assert_eq!((&resting["credit"], &resting["fault"]), (&"untouched".into(), &"nobody".into()), "{resting}");
    assert_eq!(owner.json("w", &["call", CHAT, "-d", QUESTION], 0)["status"], 200);
}
