//! `halometer gateway`: the program from nothing to paid calls, its log, its operator's address, and its death under load.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use halometer::http::clock::now;
use halometer::http::payer::{Client, Payer, PayerParts};
use halometer::http::payment::{Credential, Payload, PaymentChallenge};
use halometer::http::server::{Listener, Server};
use halometer::protocol::*;
use halometer::wallet::{Journal as _, LaneId, MemoryJournal, Policy, ProvingKeys, RootSecret, Wallet};
use http::{HeaderMap, Method};
use serde_json::Value;
use tempfile::TempDir;

use super::wallet::RUNTIME;
use super::{code, halometer, said};

pub(super) const CLASS: u64 = 4_000;
pub(super) const PAID: u64 = 8 * 20_000;
/// What a call costs: 10 tokens each way, at 2 and 8.
pub(super) const COST: u64 = 100;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;

/// A service behind, on a free port.
pub(super) fn service() -> Server {
    let answer = |uri: http::Uri| async move {
        if uri.path() == "/slow" {
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        ([("content-type", "application/json")], USAGE)
    };
    let listener = RUNTIME.block_on(Listener::bind((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
    let _runtime = RUNTIME.enter();
    listener.serve(Router::new().fallback(answer))
}

/// What an operator has made.
pub(super) struct House {
    pub(super) place: TempDir,
    service: Server,
    port: u16,
}

/// A running gateway.
pub(super) struct Gateway {
    pub(super) child: Child,
    told: Value,
    log: PathBuf,
    _out: BufReader<ChildStdout>,
}

/// A port that is free now, and that nobody else takes in the moment between.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A configuration with an operator's address of its own, fresh numbers, and a log that can be read.
pub(super) fn watched(text: &str) -> String {
    let admin = text.lines().skip_while(|line| *line != "[admin]").nth(1).unwrap();
    text.replace(admin, "listen = \"127.0.0.1:0\"\nevery_seconds = 1")
        .replace("[log]", "[log]\nformat = \"json\"\nlevel = \"debug\"")
}

impl House {
    pub(super) fn new() -> Self {
        let (place, service) = (tempfile::tempdir().unwrap(), service());
        let port = free_port();
        let house = Self { place, service, port };
        let url = house.service.url();
        let made = halometer(&[
            "gateway",
            "init",
            &house.path("shop"),
            "--development",
            "--upstream",
            &url,
            "--listen",
            &format!("127.0.0.1:{port}"),
        ]);
        assert!(made.status.success(), "{made:?}");
        house.edit(|text| watched(&text).replace("[upkeep]", "[upkeep]\nevery_seconds = 1"));
        house
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.place.path().join(name).to_str().unwrap().to_owned()
    }

    pub(super) fn config(&self) -> String {
        self.path("shop/gateway.toml")
    }

    /// Changes the configuration, as an editor does it.
    pub(super) fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        std::fs::write(self.path("new"), change(text)).unwrap();
        std::fs::rename(self.path("new"), self.config()).unwrap();
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The service behind.
    pub(super) fn service_url(&self) -> String {
        self.service.url()
    }

    pub(super) fn start(&self) -> Gateway {
        self.start_by(&self.config())
    }

    /// With further arguments.
    pub(super) fn start_with(&self, more: &[&str]) -> Gateway {
        self.start_as(&self.config(), more)
    }

    /// With another configuration.
    pub(super) fn start_by(&self, config: &str) -> Gateway {
        self.start_as(config, &[])
    }

    fn start_as(&self, config: &str, more: &[&str]) -> Gateway {
        let log = self.place.path().join(format!("log-{}", rand::random::<u32>()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_halometer"));
        command.args(["gateway", "--json", "--config", config]).args(more).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let told = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line:?}, {}", std::fs::read_to_string(&log).unwrap()));
        Gateway { child, told, log, _out: out }
    }
}

impl Gateway {
    pub(super) fn told(&self, name: &str) -> &str {
        self.told[name].as_str().unwrap()
    }

    pub(super) fn admin(&self, path: &str) -> (u16, String) {
        ask(&format!("{}{path}", self.told("admin_url")), None)
    }

    pub(super) fn status(&self) -> Value {
        let text = until("the first numbers", || match self.admin("/status.json") {
            (200, text) => Some(text),
            // They are taken just after it has said that it takes calls.
            (503, _) => None,
            (status, text) => panic!("{status}: {text}"),
        });
        serde_json::from_str(&text).unwrap()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(super) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// As a service manager ends it.
    pub(super) fn end(&mut self) -> i32 {
        self.signal("-TERM");
        self.child.wait().unwrap().code().unwrap()
    }

    pub(super) fn directory(&self) -> SignedDirectory {
        RUNTIME.block_on(Client::plain().unwrap().directory(self.told("gateway_url"))).unwrap()
    }

    pub(super) fn root(&self) -> RootKey {
        RootKey::from_bytes(&self.told("root_key").parse::<Digest>().unwrap().to_bytes()).unwrap()
    }

    pub(super) fn id(&self) -> GatewayId {
        self.told("gateway").parse().unwrap()
    }

    /// A caller claims to have paid.
    pub(super) fn pay(&self) -> PaymentId {
        let url = format!("{}/development/payments", self.told("admin_url"));
        let (status, text) = ask(&url, Some(&format!("{{\"amount\": {PAID}}}")));
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["payment"].as_str().unwrap().parse().unwrap()
    }

    /// The wallet of a caller that has paid.
    pub(super) fn wallet(&self, secret: [u8; 32], payment: PaymentId) -> Wallet<MemoryJournal> {
        let (root, device) = (RootSecret::from_bytes(secret), DeviceId::from_bytes([1; 8]));
        let mut wallet = Wallet::new(root, device, self.root(), &self.directory(), MemoryJournal::new()).unwrap();
        let request = wallet.request_mint(payment, [Credits::from_micro(PAID / 8); LANES], now()).unwrap();
        let minted = RUNTIME.block_on(Client::plain().unwrap().mint(self.told("issuer_url"), &request)).unwrap();
        wallet.accept_mint(&payment, &minted, now()).unwrap();
        wallet
    }

    fn payer(&self) -> Payer<MemoryJournal> {
        self.payer_at(self.id())
    }

    /// A caller that has paid here and calls at a gateway of this issuer.
    pub(super) fn payer_at(&self, gateway: GatewayId) -> Payer<MemoryJournal> {
        let wallet = self.wallet(rand::random(), self.pay());
        let class = Credits::from_micro(CLASS);
        let policy = Policy { jitter_seconds: 0, gather: false, provers: 2, ..Policy::agent(class, 2) };
        let parts = PayerParts::new(gateway, policy, Client::plain().unwrap());
        let parts = parts.with_answer_timeout(Duration::from_secs(8));
        RUNTIME.block_on(Payer::start(wallet, parts)).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that asks nobody on the way.
pub(super) fn web() -> reqwest::ClientBuilder {
    // The library's own sees to TLS for this process.
    Client::plain().unwrap();
    reqwest::Client::builder().no_proxy()
}

/// A GET, or a POST of JSON; its status and text.
pub(super) fn ask(url: &str, json: Option<&str>) -> (u16, String) {
    ask_as(url, json, None)
}

fn ask_as(url: &str, json: Option<&str>, host: Option<&str>) -> (u16, String) {
    RUNTIME.block_on(async {
        let client = web().tls_certs_only([]).build().unwrap();
        let request = match json {
            Some(json) => client.post(url).header("content-type", "application/json").body(json.to_owned()),
            None => client.get(url),
        };
        let request = host.iter().fold(request, |request, host| request.header("host", *host));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

pub(super) async fn call(payer: &Payer<MemoryJournal>) -> Option<u64> {
    call_at(payer, "/v1/chat/completions").await
}

async fn call_at(payer: &Payer<MemoryJournal>, path: &str) -> Option<u64> {
    let json = HeaderMap::from_iter([(http::header::CONTENT_TYPE, "application/json".parse().unwrap())]);
    let body = r#"{"model":"m","messages":[{"role":"user","content":"purple elephants"}]}"#;
    let paid = payer.call(Method::POST, path, json, body.into()).await.ok()?;
    Some(paid.accepted.cost.micro())
}

#[track_caller]
pub(super) fn until<T>(what: &str, reached: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if let Some(found) = reached() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}: not in a minute");
}

pub(super) fn sum(status: &Value, name: &str) -> u64 {
    status["credits"][name].as_str().unwrap().parse().unwrap()
}

#[test]
fn from_nothing_to_paid_calls_that_are_there_after_a_restart() {
    let house = House::new();
    let checked = halometer(&["gateway", "--check", "--config", &house.config()]);
    assert!(
        checked.status.success() && String::from_utf8_lossy(&checked.stdout).ends_with("all fits\n"),
        "{checked:?}"
    );
    let again = halometer(&["gateway", "init", &house.path("shop"), "--upstream", "http://a"]);
    assert_eq!(code(&again), 2);
    assert!(said(&again).contains("not empty: nothing was changed"), "{}", said(&again));

    let mut gateway = house.start();
    until("ready", || (gateway.admin("/readyz").0 == 200).then_some(()));
    assert_eq!(gateway.admin("/healthz").0, 200);
    let payer = gateway.payer();
    for _ in 0..4 {
        assert_eq!(RUNTIME.block_on(call(&payer)), Some(COST));
    }
    assert_eq!(ask(&format!("{}/v1/models", house.url()), None).0, 402);
    let status = until("counted", || Some(gateway.status()).filter(|status| status["calls"]["admitted"] == 4));
    assert_eq!((sum(&status, "minted"), sum(&status, "charged")), (PAID, 4 * COST));
    assert_eq!((sum(&status, "held"), sum(&status, "outstanding")), (0, PAID - 4 * COST));
    assert_eq!(status["epochs"][0]["settled"], 4);
    let (_, metrics) = gateway.admin("/metrics");
    for line in ["halometer_calls_admitted_total 4", "halometer_micro_credits{part=\"charged\"} 400.0", "# EOF"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    assert!(metrics.contains("halometer_requests_refused_total{problem=\"unpaid\"}"), "{metrics}");

    // The file can be checked meanwhile; a second gateway over the same records is refused, whichever lock it meets first.
    let checked = halometer(&["gateway", "--check", "--config", &house.config()]);
    assert!(String::from_utf8_lossy(&checked.stdout).contains("a gateway runs with these keys"), "{checked:?}");
    let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    house.edit(|text| {
        text.replacen(&format!("listen = \"127.0.0.1:{}\"", house.port), &format!("listen = \"{other}\""), 1)
    });
    let second = halometer(&["gateway", "--config", &house.config()]);
    assert!(code(&second) == 2 && said(&second).contains("in use by another process"), "{second:?}");
    house.edit(|text| {
        text.replacen(&format!("listen = \"{other}\""), &format!("listen = \"127.0.0.1:{}\"", house.port), 1)
    });
    assert_eq!(gateway.end(), 0);
    assert!(gateway.log().contains("\"message\":\"ended\""));

    let again = house.start();
    assert_eq!(again.told, gateway.told_but(&again), "the same keys and addresses");
    until("calls go on", || RUNTIME.block_on(call(&payer)));
    let status = until("counted", || Some(again.status()).filter(|status| sum(status, "charged") == 5 * COST));
    assert_eq!(sum(&status, "minted"), PAID);
    RUNTIME.block_on(payer.shutdown());
}

impl Gateway {
    /// What was told, with the other's operator's address, which is at another port each time.
    fn told_but(&self, other: &Self) -> Value {
        let mut told = self.told.clone();
        told["admin_url"] = other.told["admin_url"].clone();
        told
    }
}

#[test]
fn prices_reload_under_calls_and_a_broken_file_changes_nothing() {
    let house = House::new();
    let gateway = house.start();
    let payer = gateway.payer();
    assert_eq!(RUNTIME.block_on(call(&payer)), Some(COST));
    let stop = Arc::new(AtomicBool::new(false));
    let (calling, stopped) = (payer.clone(), stop.clone());
    let calls = RUNTIME.spawn(async move {
        let mut calls = 0;
        while !stopped.load(Ordering::Relaxed) {
            assert!(call(&calling).await.is_some(), "a call was lost");
            calls += 1;
        }
        calls
    });

    let serial = || gateway.directory().verify(&gateway.root()).unwrap().parts().serial;
    assert_eq!(serial(), 1);
    house.edit(|text| text.replace("output_token = { credits = 8 }", "output_token = { credits = 18 }"));
    gateway.signal("-HUP");
    until("the second directory", || (serial() == 2).then_some(()));
    let directory = gateway.directory().verify(&gateway.root()).unwrap();
    assert_eq!(directory.parts().tariffs.len(), 2, "spends under the old prices may come");
    // They begin with the next second at the earliest.
    until("the new prices", || (directory.tariff(now())?.prices()[1].credits.micro() == 18).then_some(()));

    for (broken, told) in [
        ("output_token = { credits = 0x }", "line "),
        ("output_token = { credit = 1 }", "`prices.output_token`: unknown field `credit`, expected `credits` or `per`"),
        ("image = { credits = 1 }", "`pricing.kind`: counts `output_token`, of which `prices` has no price"),
    ] {
        house.edit(|text| text.replace("output_token = { credits = 18 }", broken));
        gateway.signal("-HUP");
        until(told, || gateway.log().contains(told).then_some(()));
        house.edit(|text| text.replace(broken, "output_token = { credits = 18 }"));
    }
    let elsewhere = || RUNTIME.block_on(call_at(&payer, "/v1/batches"));
    assert!(elsewhere().is_none(), "by default what no dialect knows is not sold");
    house.edit(|text| text.replace("# sold = [\"dialects", "sold = [\"everything\", \"dialects"));
    gateway.signal("-HUP");
    until("everything is sold", || elsewhere().is_some().then_some(()));
    house.edit(|text| text.replace("sold = [\"everything\", \"dialects", "sold = [\"dialects"));
    gateway.signal("-HUP");
    until("sold no more", || elsewhere().is_none().then_some(()));
    // Without a signal, and with something that must wait.
    house.edit(|text| text.replace("# requests = 1024", "requests = 7"));
    until("what waits", || gateway.log().contains("\"section\":\"limits\"").then_some(()));
    assert_eq!(serial(), 2);
    stop.store(true, Ordering::Relaxed);
    assert!(RUNTIME.block_on(calls).unwrap() > 0);
    RUNTIME.block_on(payer.shutdown());
}

#[test]
fn the_log_holds_nothing_that_links_a_caller() {
    let house = House::new();
    house.edit(|text| text.replace("# sold = [\"dialects", "sold = [\"everything\", \"dialects"));
    let mut gateway = house.start();
    let (secret, payment) = (rand::random(), gateway.pay());
    // One note, spent twice: by a wallet and by its copy.
    let mut wallets = [gateway.wallet(secret, payment), gateway.wallet(secret, payment)];
    let directory = gateway.directory().verify(&gateway.root()).unwrap();
    let challenge = PaymentChallenge::of(&directory, &gateway.id());
    let (host, target) = (format!("127.0.0.1:{}", house.port), "/v1/unusual-path?question=unusual");
    let mut secrets: Vec<Vec<u8>> = vec![secret.to_vec(), payment.as_bytes().to_vec()];
    let mut statuses = Vec::new();
    let keys = ProvingKeys::new();
    let spends = [("purple elephants", CLASS), ("green elephants", 4 * CLASS)];
    for (wallet, (body, class)) in wallets.iter_mut().zip(spends) {
        let request = Request::new(&host, "POST", target, ContentDigest::of(body.as_bytes())).unwrap();
        let lane = LaneId { payment: 0, lane: 0 };
        let job = wallet.plan(lane, &gateway.id(), Credits::from_micro(class), now()).unwrap();
        let key = keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        let paid = wallet.authorise(ready, &request, now()).unwrap();
        secrets.push(paid.key.nullifier.to_bytes().to_vec());
        secrets.push(paid.key.context.to_bytes().to_vec());
        // The session's public key is somewhere in what is sent; so is all else of the spend.
        secrets.extend(paid.opening.chunks(32).filter(|chunk| chunk.iter().any(|byte| *byte > 1)).map(<[u8]>::to_vec));
        let credential = Credential { challenge: challenge.clone(), payload: Payload::Opening(paid.opening) };
        statuses.push(RUNTIME.block_on(async {
            let client = web().tls_certs_only([]);
            let client = client.local_address(Some(Ipv4Addr::new(127, 0, 0, 77).into())).build().unwrap();
            let request = client.post(format!("http://{host}{target}")).body(body);
            let request = request.header("authorization", credential.to_header_value()).header("x-unusual", "header");
            request.send().await.unwrap().status().as_u16()
        }));
    }
    assert_eq!(statuses[0], 200);
    assert!(statuses[1] >= 400);
    until("the double spend", || gateway.log().contains("a note was spent twice").then_some(()));
    let evidence: Vec<_> = std::fs::read_dir(house.path("shop/evidence")).unwrap().collect();
    assert_eq!(evidence.len(), 1);
    // Anybody can check it, with what is public.
    let [file, directory] = [evidence[0].as_ref().unwrap().path(), house.path("shop/directory").into()];
    let (file, directory) = (file.to_str().unwrap(), directory.to_str().unwrap());
    let trusted = ["--directory", directory, "--root-key", gateway.told("root_key")];
    let verified = halometer(&[&["evidence", "verify", file, "--json"][..], &trusted].concat());
    let held: Value = serde_json::from_slice(&verified.stdout).unwrap_or_else(|error| panic!("{error}: {verified:?}"));
    assert_eq!((code(&verified), &held["holds"]), (0, &true.into()));
    // Junk, of which nobody is told.
    assert_eq!(ask(&format!("{}/unusual-junk", house.url()), Some("{\"purple\": 1}")).0, 402);
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(gateway.end(), 0);

    let log = gateway.log();
    assert!(log.lines().count() > 4, "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
    for secret in secrets {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let debug = format!("{:?}", &secret[..8]);
        let forms = [
            hex[..16].to_owned(),
            hex[..16].to_uppercase(),
            STANDARD.encode(&secret[..12]),
            URL_SAFE_NO_PAD.encode(&secret[..12]),
            debug.trim_matches(['[', ']']).to_owned(),
        ];
        for form in forms {
            assert!(!log.contains(&form), "{form}: {log}");
        }
    }
    for word in ["127.0.0.77", "unusual", "elephants", "purple", "/v1/", "Payment id=", "POST"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
}

#[test]
fn epochs_follow_each_other_while_it_runs_and_over_a_restart() {
    let house = House::new();
    house.edit(|text| {
        let schedule = "issue_seconds = 30\nbeyond_seconds = 60\nahead_seconds = 22\nkeep_seconds = 60";
        text.replace("\n[issuer.schedule]\n", &format!("\n[issuer.schedule]\n{schedule}\n"))
            .replace("# session_seconds = 600", "session_seconds = 20")
    });
    let mut gateway = house.start();
    let payer = gateway.payer();
    assert_eq!(RUNTIME.block_on(call(&payer)), Some(COST));
    let directory = |gateway: &Gateway| gateway.directory().verify(&gateway.root()).unwrap();
    let first = directory(&gateway).issuing(now()).unwrap().number;
    // What is due is done by the clock, and when somebody asks.
    let announced = |gateway: &Gateway, number: usize| {
        gateway.signal("-HUP");
        std::thread::sleep(Duration::from_millis(500));
        (directory(gateway).epochs().len() >= number).then_some(())
    };
    until("the second epoch", || announced(&gateway, 2));
    assert!(gateway.log().contains("an epoch is announced"));
    assert_eq!(gateway.end(), 0);
    let gateway = house.start();
    until("it issues", || (directory(&gateway).issuing(now())?.number > first).then_some(()));
    until("ready", || (gateway.admin("/readyz").0 == 200).then_some(()));
    // Notes of the first are still spent, and credit is made under the second.
    assert_eq!(
        RUNTIME.block_on(call(&payer)),
        Some(COST),
        "its change is signed under an epoch that the caller had not heard of"
    );
    let disputes = RUNTIME.block_on(payer.with_wallet(|wallet| wallet.journal().disputes().unwrap().len())).unwrap();
    assert_eq!(disputes, 0);
    let newcomer = gateway.payer();
    assert_eq!(RUNTIME.block_on(call(&newcomer)), Some(COST));
    let status = until("counted", || Some(gateway.status()).filter(|status| sum(status, "charged") == 3 * COST));
    assert_eq!(sum(&status, "minted"), 2 * PAID);
    let minted = |number: usize| status["epochs"][number]["minted"].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!((minted(0), minted(1)), (PAID, PAID));
    until("the third epoch", || announced(&gateway, 3));
    for payer in [payer, newcomer] {
        RUNTIME.block_on(payer.shutdown());
    }
}

#[test]
fn a_memory_store_sells_and_says_what_is_lost_at_its_end() {
    let house = House::new();
    house.edit(|text| text.replace("[store]", "[store]\nkind = \"memory\""));
    let mut gateway = house.start();
    let payer = gateway.payer();
    assert_eq!(RUNTIME.block_on(call(&payer)), Some(COST));
    let status = until("counted", || Some(gateway.status()).filter(|status| sum(status, "charged") == COST));
    assert_eq!(sum(&status, "minted"), PAID);
    RUNTIME.block_on(payer.shutdown());
    assert!(gateway.log().contains("all keys, records and credit are lost when this program ends"));
    assert_eq!(gateway.end(), 0);
    let again = house.start();
    assert_ne!(again.told("root_key"), gateway.told("root_key"), "nothing was kept");
    assert!(!Path::new(&house.path("shop/directory")).exists());
}

#[test]
fn killing_it_under_load_loses_nothing() {
    let house = House::new();
    let mut gateway = house.start();
    let payers: Vec<_> = (0..2).map(|_| gateway.payer()).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let heard = Arc::new(AtomicU64::new(0));
    let load: Vec<_> = payers
        .iter()
        .flat_map(|payer| std::iter::repeat_n(payer.clone(), 4))
        .map(|payer| {
            let (stop, heard) = (stop.clone(), heard.clone());
            RUNTIME.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match call(&payer).await {
                        Some(cost) => drop(heard.fetch_add(cost, Ordering::Relaxed)),
                        None => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let before = heard.load(Ordering::Relaxed);
        until("calls are paid", || (heard.load(Ordering::Relaxed) >= before + 5 * COST).then_some(()));
        gateway.signal("-KILL");
        gateway.child.wait().unwrap();
        gateway = house.start();
    }
    stop.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|load| RUNTIME.block_on(load).unwrap());

    // What was open when it died waits for its lease; all else is settled, and everybody knows of it.
    let paid = 2 * PAID;
    let (charged, held) = until("the books and the wallets agree", || {
        let status = gateway.status();
        let (mut worth, mut waiting) = (0, 0);
        for payer in &payers {
            let status = RUNTIME.block_on(payer.status()).unwrap();
            assert_eq!((status.frozen, status.disputed), (0, 0));
            worth += u64::try_from(status.balance.total()).unwrap();
            waiting += u64::try_from(status.balance.reserved).unwrap();
        }
        let (charged, held) = (sum(&status, "charged"), sum(&status, "held"));
        assert_eq!(charged + held + sum(&status, "outstanding"), paid);
        (worth == paid - charged && waiting == held).then_some((charged, held))
    });
    assert!(charged >= heard.load(Ordering::Relaxed) && charged.is_multiple_of(COST), "{charged}, {held}");
    payers.into_iter().for_each(|payer| drop(RUNTIME.block_on(payer.shutdown())));
    assert_eq!(gateway.end(), 0);
    let directory = house.path("shop/directory");
    let audit = halometer(&[
        "issuer",
        "audit",
        &house.path("shop/store"),
        "--directory",
        &directory,
        "--root-key",
        gateway.told("root_key"),
        "--proofs",
    ]);
    assert!(audit.status.success(), "{audit:?}");
}

#[test]
fn every_lane_is_usable_soon_after_a_kill_and_a_restart() {
    let house = House::new();
    house.edit(|text| text.replace("# sold = [\"dialects", "sold = [\"everything\", \"dialects"));
    let mut gateway = house.start();
    let payer = gateway.payer();
    // Each lane has a call under way that will never be settled by the process that took it.
    let calls: Vec<_> = (0..LANES)
        .map(|_| {
            let payer = payer.clone();
            RUNTIME.spawn(async move { call_at(&payer, "/slow").await })
        })
        .collect();
    until("calls are open", || (sum(&gateway.status(), "held") >= 2 * CLASS).then_some(()));
    gateway.signal("-KILL");
    gateway.child.wait().unwrap();
    std::thread::sleep(Duration::from_secs(8));
    let gateway = house.start();
    let back = Instant::now();
    calls.into_iter().for_each(|call| drop(RUNTIME.block_on(call)));
    until("every lane is back", || {
        let status = RUNTIME.block_on(payer.status()).unwrap();
        assert_eq!((status.frozen, status.disputed), (0, 0));
        (status.balance.reserved == 0).then_some(())
    });
    // Ten seconds, and as much again for a machine that is busy.
    assert!(back.elapsed() < Duration::from_secs(20), "{:?}", back.elapsed());
    assert_eq!(sum(&gateway.status(), "held"), 0);
}

#[test]
fn told_to_end_it_finishes_what_runs_and_told_twice_it_does_not() {
    let house = House::new();
    house.edit(|text| text.replace("# sold = [\"dialects", "sold = [\"everything\", \"dialects"));
    let mut gateway = house.start();
    let payer = gateway.payer();
    let slow = |payer: &Payer<MemoryJournal>| {
        let payer = payer.clone();
        RUNTIME.spawn(async move { call_at(&payer, "/slow").await })
    };
    let running = |gateway: &Gateway| (gateway.status()["load"]["requests"] == 1).then_some(());
    let call = slow(&payer);
    until("the call runs", || running(&gateway));
    gateway.signal("-TERM");
    until("draining", || gateway.admin("/readyz").1.contains("draining").then_some(()));
    assert_eq!(RUNTIME.block_on(call).unwrap(), Some(COST), "what runs is finished");
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));

    let mut gateway = house.start();
    let call = slow(&payer);
    until("the call runs", || running(&gateway));
    gateway.signal("-TERM");
    until("draining", || gateway.admin("/readyz").1.contains("draining").then_some(()));
    let told_again = Instant::now();
    gateway.signal("-INT");
    assert_eq!(gateway.child.wait().unwrap().code(), Some(1));
    assert!(told_again.elapsed() < Duration::from_secs(2));
    call.abort();
    RUNTIME.block_on(payer.shutdown());
}

#[test]
fn mistakes_end_it_before_it_begins_and_say_where_they_are() {
    let house = House::new();
    for (from, to, told) in [
        ("[prices]", "[prises]", "line "),
        ("listen = \"127.0.0.1:0\"", "listen = \"0.0.0.0:0\"", "`admin.listen`: 0.0.0.0:0 is no address of loopback"),
        ("kind = \"tokens\"", "kind = \"time\"", "`pricing.kind`: unknown variant `time`, expected one of"),
        ("unlock = { key_file = \"keys/unlock.key\" }", "unlock = { key_file = \"keys/root.key\" }", "32 bytes"),
    ] {
        let before = std::fs::read_to_string(house.config()).unwrap();
        house.edit(|text| text.replace(from, to));
        let output: Output = halometer(&["gateway", "--config", &house.config()]);
        assert_eq!(code(&output), 2, "{output:?}");
        assert!(said(&output).contains(told), "{told}: {}", said(&output));
        house.edit(|_| before);
    }
    // Keys of another gateway, a directory that is lost, and one that somebody else signed.
    drop(house.start());
    let other = House::new();
    let text = |name: &str| Path::new(&house.path(name)).to_owned();
    std::fs::rename(text("shop/directory"), text("directory")).unwrap();
    let lost = halometer(&["gateway", "--config", &house.config()]);
    assert!(code(&lost) == 2 && said(&lost).contains("put back the newest directory"), "{lost:?}");
    std::fs::rename(text("directory"), text("shop/directory")).unwrap();
    std::fs::remove_dir_all(text("shop/store")).unwrap();
    let missing = halometer(&["gateway", "--config", &house.config()]);
    assert!(said(&missing).contains("there is no store at"), "{}", said(&missing));
    std::fs::rename(other.path("shop/store"), text("shop/store")).unwrap();
    std::fs::rename(other.path("shop/store.mark"), text("shop/store.mark")).unwrap();
    let foreign = halometer(&["gateway", "--config", &house.config()]);
    assert!(said(&foreign).contains("the store is that of gateway"), "{}", said(&foreign));
}

#[test]
fn the_operators_address_answers_only_requests_meant_for_it() {
    let house = House::new();
    let gateway = house.start();
    let url = gateway.told("admin_url").to_owned();
    until("numbers", || (gateway.admin("/metrics").0 == 200).then_some(()));
    for path in ["/", "/status.json", "/metrics", "/readyz", "/healthz"] {
        assert_eq!(ask_as(&format!("{url}{path}"), None, Some("evil.example")).0, 421, "{path}");
    }
    let pay = format!("{url}/development/payments");
    assert_eq!(ask_as(&pay, Some("{\"amount\": 5}"), Some("evil.example")).0, 421);
    // A form of another page sends no JSON by its name.
    let form = RUNTIME.block_on(async {
        let client = web().tls_certs_only([]).build().unwrap();
        client.post(&pay).header("content-type", "text/plain").body("{\"amount\": 5}").send().await.unwrap().status()
    });
    assert_eq!(form, 415);
    assert_eq!(ask(&pay, Some("{\"amount\": 0}")).0, 400);
    // Nothing of it is at the callers' address.
    for path in ["/status.json", "/metrics", "/readyz"] {
        assert_eq!(ask(&format!("{}{path}", house.url()), None).0, 402, "{path}");
    }
    assert_eq!(ask(&format!("{}/development/payments", house.url()), Some("{\"amount\": 5}")).0, 402);
}

#[expect(clippy::print_stderr, reason = "the tests' output must say what was not tested")]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// A certificate that nobody else knows, for `localhost`; false if there is no program to make one.
fn certify(cert: &str, key: &str) -> bool {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", cert]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn tls_is_spoken_and_a_renewed_certificate_is_taken_up() {
    let house = House::new();
    let (cert, key) = (house.path("shop/cert.pem"), house.path("shop/keys/tls.pem"));
    if !certify(&cert, &key) {
        return skip("there is no openssl here");
    }
    house.edit(|text| {
        let text = text.replace("origins = [\"http://", "origins = [\"https://");
        format!("{text}\n[tls]\ncert = \"cert.pem\"\nkey = \"keys/tls.pem\"\n")
    });
    let gateway = house.start();
    let url = gateway.told("gateway_url").to_owned();
    assert!(url.starts_with("https://"), "{url}");
    // A client that trusts that one certificate and nothing else.
    let trusting = |path: &str| {
        let certificate = reqwest::Certificate::from_pem(&std::fs::read(path).unwrap()).unwrap();
        let client = web().tls_certs_only([certificate]).build().unwrap();
        RUNTIME
            .block_on(client.get(format!("{url}/v1/models")).send())
            .map(|answer| (answer.status(), answer.version()))
    };
    assert_eq!(trusting(&cert).unwrap(), (http::StatusCode::PAYMENT_REQUIRED, http::Version::HTTP_2));
    let old = house.path("old.pem");
    std::fs::copy(&cert, &old).unwrap();
    assert!(certify(&cert, &key));
    gateway.signal("-HUP");
    until("the new certificate", || trusting(&cert).ok());
    assert!(trusting(&old).is_err());
    // Half of a pair is not taken up, and what was there stays.
    std::fs::write(&key, "none").unwrap();
    gateway.signal("-HUP");
    until("the log", || gateway.log().contains("the certificate is not exchanged").then_some(()));
    assert!(trusting(&cert).is_ok());
}

/// A browser, if there is one here.
pub(super) fn browser() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

#[test]
fn the_status_page_shows_its_numbers_and_asks_no_other_host() {
    let Some(browser) = browser() else {
        return skip("there is no chromium here");
    };
    let house = House::new();
    let gateway = house.start();
    let payer = gateway.payer();
    for _ in 0..3 {
        assert_eq!(RUNTIME.block_on(call(&payer)), Some(COST));
    }
    until("counted", || (gateway.status()["calls"]["admitted"] == 3).then_some(()));
    let url = format!("{}/", gateway.told("admin_url"));
    let look = |more: &[&str]| {
        let profile = format!("--user-data-dir={}", house.path(&format!("browser-{}", more.len())));
        let mut command = Command::new(browser);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync", &profile]);
        command.args(more).arg(&url).stdin(Stdio::null()).stderr(Stdio::null()).output().unwrap()
    };
    let net = house.path("net.json");
    let seen = look(&["--dump-dom", &format!("--log-net-log={net}")]);
    let dom = String::from_utf8(seen.stdout).unwrap();
    for text in ["taking calls", "159\u{202f}700", "160\u{202f}000", ">300<", "epoch", gateway.told("gateway")] {
        assert!(dom.contains(text), "{text}: {dom}");
    }
    // The browser itself may ask any host; what the page asks for has its origin.
    let text = std::fs::read_to_string(&net).unwrap();
    let log: Value = serde_json::from_str(&text)
        .or_else(|_| serde_json::from_str(&format!("{}]}}", text.trim_end().trim_end_matches(','))))
        .unwrap();
    let asked: Vec<_> = log["events"].as_array().unwrap().iter().map(|event| &event["params"]).collect();
    let own = url.trim_end_matches('/');
    assert!(asked.iter().any(|params| params["url"] == url.as_str()));
    for params in
        asked.iter().filter(|params| params["initiator"].as_str().is_some_and(|from| from.starts_with("http")))
    {
        assert!(params["url"].as_str().is_none_or(|asked| asked.starts_with(own)), "{params}");
    }
    // It is styled by the style in it, which its own policy allows: a picture of it is not white.
    let shot = house.path("shot.png");
    look(&["--window-size=1000,1200", &format!("--screenshot={shot}"), "--hide-scrollbars"]);
    assert!(std::fs::metadata(&shot).unwrap().len() > 20_000);
    RUNTIME.block_on(payer.shutdown());
}

/// Another proxy asks, and the service says what its calls cost. What nobody reports is settled when the program ends.
#[test]
fn beside_a_proxy_unreported_calls_settle_at_the_end() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    // The first client chooses the TLS provider for the process; here there is none yet.
    Client::plain().unwrap();
    let house = House::new();
    let inner = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(house.path("shop/proxy.secret"), "too short").unwrap();
    house.edit(|text| {
        let section =
            format!("[beside]\nlisten = \"{inner}\"\nsecret = {{ file = \"proxy.secret\" }}\nunreported = 77\n");
        text.replace("[limits]", "[limits]\nshutdown_seconds = 1") + "\n" + &section
    });
    let checked = halometer(&["gateway", "--check", "--config", &house.config()]);
    assert!(code(&checked) == 2 && said(&checked).contains("`beside.secret`"), "{checked:?}");
    std::fs::write(house.path("shop/proxy.secret"), SECRET).unwrap();
    let mut gateway = house.start();
    let mut wallet = gateway.wallet(rand::random(), gateway.pay());
    let directory = gateway.directory().verify(&gateway.root()).unwrap();
    let (challenge, keys) = (PaymentChallenge::of(&directory, &gateway.id()), ProvingKeys::new());
    let (host, target) = (format!("127.0.0.1:{}", house.port), "/v1/chat/completions");
    let client = || reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let mut handles = Vec::new();
    for lane in 0..2 {
        let request = Request::new(&host, "POST", target, ContentDigest::of(b"")).unwrap();
        let lane = LaneId { payment: 0, lane };
        let job = wallet.plan(lane, &gateway.id(), Credits::from_micro(CLASS), now()).unwrap();
        let key = keys.of(&job.epoch_key());
        let paid = wallet.authorise(job.prove(&key, &mut rand::rng()).unwrap(), &request, now()).unwrap();
        let credential = Credential { challenge: challenge.clone(), payload: Payload::Opening(paid.opening) };
        let asked = client().get(format!("http://{inner}/check/forwarded")).header("halometer-secret", SECRET);
        let asked = asked.header("x-forwarded-method", "POST").header("x-forwarded-uri", target);
        let asked = asked.header("x-forwarded-host", &host).header("authorization", credential.to_header_value());
        let answer = RUNTIME.block_on(asked.send()).unwrap();
        assert_eq!(answer.status(), 200, "{answer:?}");
        handles.push(answer.headers()["halometer-call"].to_str().unwrap().to_owned());
    }
    let report = client().post(format!("http://{inner}/.well-known/halometer/report"));
    let report = report
        .header("halometer-secret", SECRET)
        .body(format!(r#"{{"call":"{}","usage":{{"input_token":10,"output_token":10}}}}"#, handles[0]));
    let settled = RUNTIME.block_on(async { report.send().await.unwrap().text().await.unwrap() });
    assert_eq!(serde_json::from_str::<Value>(&settled).unwrap()["cost"], COST, "{settled}");
    assert_eq!(gateway.end(), 0);

    let again = house.start();
    let status = until("counted", || Some(again.status()).filter(|status| sum(status, "charged") == COST + 77));
    assert_eq!(sum(&status, "held"), 0);
}
