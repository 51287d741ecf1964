//! `halometer gateway` twice: an issuer with a local gateway, and a remote gateway that shares only the issuer's root key.

use std::process::{Command, Output, Stdio};

use halometer::http::beside::{CALL_HEADER, REPORT_PATH, SECRET_HEADER};
use halometer::http::clock::now;
use halometer::http::payer::Client;
use halometer::http::payment::{Credential, Payload, PaymentChallenge};
use halometer::http::wire::CANCEL_PATH;
use halometer::protocol::*;
use halometer::wallet::{LaneId, MemoryJournal, ProvingKeys, Wallet};
use serde_json::Value;

use super::gateway::{CLASS, COST, Gateway, House, PAID, ask, call, free_port, sum, until, watched, web};
use super::wallet::RUNTIME;
use super::{code, halometer, said};

/// A gateway elsewhere, made and not run yet.
struct Away<'a> {
    house: &'a House,
    port: u16,
    /// What its operator sends to the issuer's.
    entry: String,
}

/// An issuer with an address that answers callers of a gateway that is gone; and its host.
fn with_a_desk() -> (House, String) {
    let (house, host) = (House::new(), format!("127.0.0.1:{}", free_port()));
    house.edit(|text| {
        let own = format!("[issuer]\nlisten = \"{host}\"\norigins = [\"http://{host}\"]");
        text.replacen("[issuer]", &own, 1)
    });
    (house, host)
}

impl<'a> Away<'a> {
    /// As its operator makes it.
    fn new(house: &'a House, issuer: &Gateway) -> Self {
        let (port, service) = (free_port(), house.service_url());
        let made = halometer(&[
            "gateway",
            "init",
            &house.path("away"),
            "--issuer",
            issuer.told("issuer_url"),
            "--root-key",
            issuer.told("root_key"),
            "--upstream",
            &service,
            "--listen",
            &format!("127.0.0.1:{port}"),
        ]);
        assert!(made.status.success(), "{made:?}");
        let text = String::from_utf8(made.stdout).unwrap();
        let entry = text.split_once("\n\n[[").and_then(|(_, rest)| rest.split_once("\n\n")).unwrap().0;
        let away = Self { house, port, entry: format!("[[{entry}\n") };
        away.edit(|text| watched(&text).replace("# refresh_seconds = 60", "refresh_seconds = 1"));
        away
    }

    fn config(&self) -> String {
        self.house.path("away/gateway.toml")
    }

    fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        std::fs::write(self.config(), change(text)).unwrap();
    }

    fn start(&self) -> Gateway {
        self.house.start_by(&self.config())
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The issuer's operator adds it.
    fn add(&self, issuer: &Gateway) {
        self.house.edit(|text| text.replace("[store]\n", &format!("{}\n[store]\n", self.entry)));
        let serial = |issuer: &Gateway| issuer.directory().verify(&issuer.root()).unwrap().parts().serial;
        let before = serial(issuer);
        issuer.signal("-HUP");
        until("a directory that names it", || (serial(issuer) > before).then_some(()));
    }
}

#[test]
fn a_gateway_elsewhere_sells_what_the_issuer_admits_and_settles() {
    let house = House::new();
    let mut issuer = house.start();
    let away = Away::new(&house, &issuer);
    let checked = halometer(&["gateway", "--check", "--config", &away.config()]);
    assert_eq!(code(&checked), 2);
    assert!(said(&checked).contains("does not name gateway"), "{checked:?}");
    away.add(&issuer);
    let checked = halometer(&["gateway", "--check", "--config", &away.config()]);
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.status.success() && told.contains(&format!("names this gateway, as {}", away.url())),
        "{checked:?}"
    );

    let mut gateway = away.start();
    assert_eq!(
        (gateway.told("root_key"), gateway.told("issuer_url")),
        (issuer.told("root_key"), issuer.told("issuer_url"))
    );
    assert!(away.entry.contains(&gateway.id().to_string()) && gateway.id() != issuer.id());
    until("ready", || (gateway.admin("/readyz").0 == 200).then_some(()));
    // What runs can be checked, and not be run a second time.
    assert_eq!(code(&halometer(&["gateway", "--check", "--config", &away.config()])), 0);
    let (text, other) = (std::fs::read_to_string(away.config()).unwrap(), house.path("away/other.toml"));
    std::fs::write(&other, text.replace(&away.port.to_string(), "0")).unwrap();
    let second = halometer(&["gateway", "--config", &other]);
    assert!(code(&second) == 2 && said(&second).contains("one process at a time"), "{second:?}");
    std::fs::write(&other, text.replace("# timeout_seconds = 300", "timeout_seconds = 900")).unwrap();
    let checked = halometer(&["gateway", "--check", "--config", &other]);
    assert!(code(&checked) == 2 && said(&checked).contains("longer than the issuer's directory allows"), "{checked:?}");

    let (payer, at_issuers) = (issuer.payer_at(gateway.id()), issuer.payer_at(issuer.id()));
    for _ in 0..3 {
        assert_eq!(RUNTIME.block_on(call(&payer)), Some(COST));
    }
    assert_eq!(RUNTIME.block_on(call(&at_issuers)), Some(COST));
    assert_eq!(ask(&format!("{}/v1/models", away.url()), None).0, 402);
    // Each counts its own calls, and the books are the issuer's.
    let status = until("counted", || Some(issuer.status()).filter(|status| sum(status, "charged") == 4 * COST));
    assert_eq!((sum(&status, "minted"), sum(&status, "held")), (2 * PAID, 0));
    assert_eq!(status["calls"]["admitted"], 1);
    let status = until("counted", || Some(gateway.status()).filter(|status| status["calls"]["admitted"] == 3));
    assert_eq!((&status["gateway"]["issuer_elsewhere"], &status["credits"]), (&true.into(), &Value::Null));
    assert_eq!(status["epochs"][0]["partition"], "elsewhere");
    let (_, metrics) = gateway.admin("/metrics");
    assert!(metrics.contains("halometer_issuer_failures_total 0") && !metrics.contains("micro_credits"), "{metrics}");
    assert!(gateway.admin("/").1.contains("The issuer is remote"));

    // It takes up its own settings; the issuer's come by the directory.
    away.edit(|text| text.replace("# free = [\"GET /health\", \"OPTIONS /**\"]", "free = [\"GET /health\"]"));
    gateway.signal("-HUP");
    until("free", || (ask(&format!("{}/health", away.url()), None).0 == 200).then_some(()));
    let (tokens, counted) = ("kind = \"tokens\"", "kind = \"bytes\"\nanswer_item = \"byte\"");
    away.edit(|text| text.replacen(tokens, counted, 1));
    gateway.signal("-HUP");
    until("no price", || gateway.log().contains("`pricing` counts `byte`, for which the issuer's").then_some(()));
    assert_eq!(code(&halometer(&["gateway", "--check", "--config", &away.config()])), 2);
    away.edit(|text| text.replacen(counted, tokens, 1));
    house.edit(|text| text.replace("output_token = { credits = 8 }", "output_token = { credits = 18 }"));
    issuer.signal("-HUP");
    until("other prices", || {
        let directory = gateway.directory().verify(&gateway.root()).unwrap();
        directory.tariff(now())?.prices().iter().find(|price| price.credits.micro() == 18).map(|_| ())
    });
    until("told", || gateway.log().contains("the issuer has published a directory").then_some(()));

    // The issuer is killed, and comes back.
    issuer.signal("-KILL");
    issuer.child.wait().unwrap();
    until("not ready", || {
        Some(gateway.admin("/readyz")).filter(|(status, why)| *status == 503 && why.contains("issuer"))
    });
    assert_eq!(RUNTIME.block_on(call(&payer)), None, "nothing is served that nobody admits");
    let mut issuer = house.start();
    until("ready again", || (gateway.admin("/readyz").0 == 200).then_some(()));
    until("calls go on", || RUNTIME.block_on(call(&payer)));
    let settled = |status: &Value| sum(status, "held") == 0 && sum(status, "charged") >= 5 * COST;
    until("settled", || Some(issuer.status()).filter(settled));
    for payer in [payer, at_issuers] {
        RUNTIME.block_on(payer.shutdown());
    }
    assert_eq!((gateway.end(), issuer.end()), (0, 0));
    assert!(gateway.log().contains("the issuer did not answer"));

    // What would be no gateway.
    let odd = ["gateway", "init", &house.path("odd"), "--upstream", "http://127.0.0.1:9", "--issuer"];
    let odd = [&odd[..], &["https://issuer.example.org", "--root-key", issuer.told("root_key")]].concat();
    let odd = halometer(&[&odd[..], &["--origin", "no origin/at all"]].concat());
    assert!(code(&odd) == 2 && said(&odd).contains("is no origin"), "{odd:?}");
    // An issuer whose root key is another.
    away.edit(|text| text.replace(issuer.told("root_key"), &"01".repeat(32)));
    assert_eq!(code(&halometer(&["gateway", "--check", "--config", &away.config()])), 2);
}

#[test]
fn callers_whose_gateway_is_gone_ask_the_issuer() {
    let (house, own_host) = with_a_desk();
    let origin = format!("http://{own_host}");
    let mut issuer = house.start();
    assert_eq!(issuer.told("issuer_url"), origin);
    let away = Away::new(&house, &issuer);
    away.add(&issuer);
    // Another proxy stands in front of it.
    let (inner, secret) = (free_port(), "0123456789abcdef0123456789abcdef");
    std::fs::write(house.path("away/proxy.secret"), secret).unwrap();
    away.edit(|text| {
        format!("{text}\n[beside]\nlisten = \"127.0.0.1:{inner}\"\nsecret = {{ file = \"proxy.secret\" }}\n")
    });
    let mut gateway = away.start();
    let id = gateway.id();
    let mut wallet = issuer.wallet([9; 32], issuer.pay());
    let its_host = format!("127.0.0.1:{}", away.port);
    let keys = ProvingKeys::new();
    let spend = |wallet: &mut Wallet<MemoryJournal>, lane| {
        let request = Request::new(&its_host, "POST", "/v1/chat/completions", ContentDigest::of(b"")).unwrap();
        let job = wallet.plan(LaneId { payment: 0, lane }, &id, Credits::from_micro(CLASS), now()).unwrap();
        let key = keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        wallet.authorise(ready, &request, now()).unwrap()
    };
    let paid = spend(&mut wallet, 1);
    let directory = issuer.directory().verify(&issuer.root()).unwrap();
    let credential =
        Credential { challenge: PaymentChallenge::of(&directory, &id), payload: Payload::Opening(paid.opening) };
    let reported = RUNTIME.block_on(async {
        let (client, url) = (web().tls_certs_only([]).build().unwrap(), format!("http://127.0.0.1:{inner}"));
        let asked = client.get(format!("{url}/check/nginx")).header(SECRET_HEADER, secret);
        let asked = asked.header("x-original-method", "POST").header("x-original-uri", "/v1/chat/completions");
        let asked = asked.header("x-original-host", &its_host).header("authorization", credential.to_header_value());
        let decided = asked.send().await.unwrap();
        assert_eq!(decided.status(), 200, "{decided:?}");
        let call = decided.headers()[CALL_HEADER].to_str().unwrap();
        let report = format!("{{\"call\": \"{call}\", \"cost\": 12}}");
        client.post(format!("{url}{REPORT_PATH}")).header(SECRET_HEADER, secret).body(report).send().await.unwrap()
    });
    assert_eq!(reported.status(), 200, "{reported:?}");
    until("settled there", || Some(issuer.status()).filter(|status| sum(status, "charged") == 12));
    assert_eq!(gateway.end(), 0);

    let spent = spend(&mut wallet, 0);
    let own = Request::new(&own_host, "POST", CANCEL_PATH, ContentDigest::of(b"")).unwrap();
    let cancel = || wallet.cancel(&spent.key, &own).unwrap();
    let settlement = RUNTIME.block_on(Client::plain().unwrap().cancel(&origin, cancel())).unwrap();
    assert_eq!(settlement.refund, Credits::from_micro(CLASS));
    // Not at the gateway's own address, where no such signature is for.
    assert!(RUNTIME.block_on(Client::plain().unwrap().cancel(&house.url(), cancel())).is_err());

    // A gateway that the issuer's operator takes out again sells nothing more.
    house.edit(|text| text.replace(&away.entry, ""));
    issuer.signal("-HUP");
    until("taken out", || issuer.directory().verify(&issuer.root()).unwrap().gateway(&id).is_none().then_some(()));
    let gone = halometer(&["gateway", "--config", &away.config()]);
    assert!(code(&gone) == 2 && said(&gone).contains("does not name gateway"), "{gone:?}");
    assert_eq!(issuer.end(), 0);
}

/// Somebody with a wallet in a file.
struct Owner<'a> {
    house: &'a House,
}

impl Owner<'_> {
    fn wallet(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let (file, secret, seats) = (self.house.path("my.wallet"), self.house.path("secret"), self.house.path("seats"));
        std::fs::write(&secret, "correct horse battery staple").unwrap();
        let place = ["--wallet", &file, "--passphrase-file", &secret, "--seats", &seats];
        let mut command = Command::new(env!("CARGO_BIN_EXE_halometer"));
        command.arg("wallet").args(args).args(place).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

#[test]
fn a_removed_gateway_says_so_and_the_issuer_refunds_its_notes() {
    let (house, own_host) = with_a_desk();
    let origin = format!("http://{own_host}");
    let issuer = house.start();
    let away = Away::new(&house, &issuer);
    let owner = Owner { house: &house };
    let made = owner.wallet(&["new", "--issuer", &origin, "--root-key", issuer.told("root_key")]);
    assert!(made.status.success(), "{made:?}");
    let (payment, amount) = (issuer.pay().to_string(), PAID.to_string());
    let funded = owner.wallet(&["fund", &payment, &amount]);
    assert!(funded.status.success(), "{funded:?}");

    // The wallet's directory is older than the gateway: the newest one has it.
    away.add(&issuer);
    let gateway = away.start();
    let id = gateway.id().to_string();
    let other = owner.wallet(&["call", "/v1/any", "--gateway", &"0".repeat(32)]);
    assert!(code(&other) == 2 && said(&other).contains("no such gateway"), "{other:?}");
    let call = ["call", "/v1/chat/completions", "--gateway", &id, "-d", "{}"];
    let called = owner.wallet(&call);
    assert!(called.status.success(), "{called:?}");

    // The issuer's operator takes it out while callers still go there.
    until("ready", || (gateway.admin("/readyz").0 == 200).then_some(()));
    house.edit(|text| text.replace(&away.entry, ""));
    issuer.signal("-HUP");
    let told = until("not ready", || Some(gateway.admin("/readyz")).filter(|(status, _)| *status == 503)).1;
    assert!(told.contains("does not name this gateway") || told.contains("does not clear"), "{told}");
    // It tries for a while, and gives up.
    let mut calling = owner.command(&call).spawn().unwrap();
    until("refused", || gateway.status()["calls"]["refused"]["store-unavailable"].as_u64());
    calling.kill().unwrap();
    assert!(!calling.wait().unwrap().success());
    let held = until("in flight", || Some(owner.wallet(&["lanes", "--json"])).filter(|lanes| lanes.status.success()));
    assert!(String::from_utf8_lossy(&held.stdout).contains("awaiting"), "{held:?}");
    let together = owner.wallet(&["cancel", "--at-issuer"]);
    assert!(code(&together) != 0 && said(&together).contains("one caller's"), "{together:?}");
    let back = owner.wallet(&["cancel", "--at-issuer", "--all", "--json"]);
    assert!(back.status.success(), "{back:?}");
    let rows: Value = serde_json::from_slice(&back.stdout).unwrap();
    assert_eq!((&rows[0]["state"], &rows[0]["cost"]), (&"settled".into(), &"0".into()), "{rows}");
    let balance: Value = serde_json::from_slice(&owner.wallet(&["balance", "--json"]).stdout).unwrap();
    assert_eq!(balance["total"], (PAID - COST).to_string(), "{balance}");
    assert_eq!(balance["waiting"], "0", "{balance}");

    // Another kind of gateway is not gone over to.
    let remote = std::fs::read_to_string(away.config()).unwrap();
    let inside = std::fs::read_to_string(house.config()).unwrap();
    std::fs::write(away.config(), inside).unwrap();
    gateway.signal("-HUP");
    until("said", || gateway.log().contains("`issuer.kind` is another").then_some(()));
    std::fs::write(away.config(), remote).unwrap();
}
