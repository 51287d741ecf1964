//! `halometer wallet`, against running parties.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use halometer::protocol::Credits;
use halometer::sealed::Lock;
use halometer::testing::stack::{Stack, StackOptions, UpstreamOptions};
use halometer::wallet::Journal as _;
use halometer::wallet::file::WalletFile;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{code, json, said};

pub(super) const CHAT: &str = "/v1/chat/completions";
pub(super) const QUESTION: &str =
    r#"{"model":"parrot-1","messages":[{"role":"user","content":"a question of mine"}],"max_tokens":32}"#;
const PASSPHRASE: &str = "correct horse battery staple";

pub(super) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
/// Parties that all tests may use at once.
static STACK: LazyLock<Stack> = LazyLock::new(|| start(StackOptions::default()));

pub(super) fn start(options: StackOptions) -> Stack {
    RUNTIME.block_on(Stack::start(options)).unwrap()
}

/// Parties whose service takes requests and never answers.
pub(super) fn mute() -> Stack {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let _held: Vec<_> = listener.incoming().collect();
    });
    start(StackOptions { upstream: Some(UpstreamOptions { url, api_key: None }), ..StackOptions::default() })
}

/// Somebody with a device, or several.
pub(super) struct Owner {
    home: TempDir,
    /// All that any command said.
    heard: Mutex<String>,
}

impl Owner {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
        #[cfg(unix)]
        {
            // As its owner keeps it: wallets warn of one that others can read.
            use std::os::unix::fs::PermissionsExt as _;
            let only_mine = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(home.path().join("passphrase"), only_mine).unwrap();
        }
        Self { home, heard: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn command(&self, wallet: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halometer"));
        command.arg("wallet").args(args);
        command.args(["--wallet", &self.text(wallet), "--seats", &self.text("seats")]);
        command.env("HOME", self.home.path()).env_remove("XDG_DATA_HOME").env_remove("XDG_STATE_HOME");
        command.stdin(Stdio::null());
        command
    }

    fn listen(&self, output: &Output) {
        let mut heard = self.heard.lock().unwrap();
        heard.push_str(&String::from_utf8_lossy(&output.stdout));
        heard.push_str(&String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a command on a wallet with the passphrase.
    pub(super) fn run(&self, wallet: &str, args: &[&str]) -> Output {
        let output = self.command(wallet, args).args(["--passphrase-file", &self.text("passphrase")]).output().unwrap();
        self.listen(&output);
        output
    }

    /// The same with --json, expecting an exit code.
    pub(super) fn json(&self, wallet: &str, args: &[&str], expected: i32) -> Value {
        let output = self.run(wallet, &[args, &["--json"]].concat());
        assert_eq!(code(&output), expected, "{args:?}: {output:?}");
        json(&output)
    }

    /// An error, checked for what it must say.
    pub(super) fn fails(&self, wallet: &str, args: &[&str]) -> Value {
        let output = self.run(wallet, &[args, &["--json"]].concat());
        assert_eq!(code(&output), 2, "{args:?}: {output:?}");
        let text = said(&output);
        for part in ["fault:", "credit:", "next:"] {
            assert!(text.contains(part), "{text}");
        }
        let trouble = json(&output);
        for field in ["error", "fault", "credit", "next"] {
            assert!(trouble[field].as_str().is_some_and(|text| !text.is_empty()), "{trouble}");
        }
        trouble
    }

    /// Makes a wallet and funds it.
    pub(super) fn fund(&self, stack: &Stack, wallet: &str, amount: u64) {
        self.json(wallet, &["new", "--issuer", &stack.issuer_url(), "--root-key", &root_key(stack)], 0);
        let payment = stack.pay(Credits::from_micro(amount)).unwrap().to_string();
        self.json(wallet, &["fund", &payment, &amount.to_string()], 0);
    }

    pub(super) fn total(&self, wallet: &str) -> u64 {
        self.json(wallet, &["balance"], 0)["total"].as_str().unwrap().parse().unwrap()
    }
}

pub(super) fn root_key(stack: &Stack) -> String {
    stack.root_key().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn micro(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("{value}")).parse().unwrap()
}

fn states(lanes: &Value) -> Vec<&str> {
    lanes.as_array().unwrap().iter().map(|lane| lane["state"].as_str().unwrap()).collect()
}

#[test]
fn a_wallet_lives_from_its_birth_to_its_move() {
    let (owner, stack) = (Owner::new(), &*STACK);
    let (issuer, root) = (stack.issuer_url(), root_key(stack));
    let birth = ["new", "--issuer", &issuer, "--root-key", &root];
    let born = owner.json("w", &birth, 0);
    assert_eq!(born["gateways"][0], stack.gateway().id().to_string());
    assert_eq!((&born["root_key"], born["classes"].as_array().unwrap().len()), (&root.as_str().into(), 5));
    assert!(owner.fails("w", &birth)["error"].as_str().unwrap().contains("already"), "nothing is overwritten");

    let payment = stack.pay(Credits::from_micro(160_003)).unwrap().to_string();
    let fund = ["fund", &payment, "160003"];
    assert_eq!(owner.json("w", &fund, 0)["already_minted"], false);
    let again = owner.json("w", &["fund", &payment, "160003", "--lanes", "2"], 0);
    assert_eq!((&again["already_minted"], &again["total"]), (&true.into(), &"160003".into()), "the credit comes once");
    assert!(owner.fails("w", &["fund", &payment, "160004"])["error"].as_str().unwrap().contains("other amounts"));
    let unknown = owner.fails("w", &["fund", "nobody paid this", "5"]);
    assert_eq!((&unknown["fault"], &unknown["credit"]), (&"nobody".into(), &"safe".into()), "{unknown}");

    let lanes = owner.json("w", &["lanes"], 0);
    assert_eq!(states(&lanes), ["unchecked"; 8]);
    assert_eq!((micro(&lanes[0]["value"]), micro(&lanes[7]["value"])), (20_003, 20_000));

    let answer = owner.json("w", &["call", CHAT, "-d", QUESTION], 0);
    assert_eq!((&answer["status"], &answer["receipt"]), (&200.into(), &"fair".into()), "{answer}");
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["object"], "chat.completion");
    let (charge, cost) = (micro(&answer["charge"]), micro(&answer["cost"]));
    assert_eq!((charge, micro(&answer["refund"])), (4_000, charge - cost));
    assert_eq!(owner.total("w"), 160_003 - cost);

    // As at a terminal: the body alone on standard output.
    std::fs::write(owner.path("question"), QUESTION).unwrap();
    let url = format!("{}{CHAT}", stack.gateway_url());
    let data = format!("@{}", owner.text("question"));
    let plain = owner.run("w", &["call", &url, "-i", "-H", "X-Mine: yes", "-d", &data, "--class", "16000"]);
    assert_eq!(code(&plain), 0, "{plain:?}");
    let text = String::from_utf8(plain.stdout.clone()).unwrap();
    assert!(text.starts_with("HTTP 200") && text.contains("\r\n\r\n{"), "{text}");
    assert!(!text.to_lowercase().contains("payment-receipt"), "{text}");
    assert!(said(&plain).contains("of 16,000 micro-credits"), "{}", said(&plain));
    let missing = owner.json("w", &["call", "/v1/embeddings", "-d", "{}"], 1);
    assert_eq!(missing["status"], 404, "another answer is an answer: {missing}");

    let history = owner.json("w", &["history", "--limit", "2"], 0);
    let newest = &history[0];
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert_eq!((&newest["method"], &newest["target"]), (&"POST".into(), &"/v1/embeddings".into()));
    assert_eq!((&newest["state"], &newest["kind"]), (&"settled".into(), &"call".into()));
    let all = owner.json("w", &["history"], 0);
    let spent: u64 = all.as_array().unwrap().iter().map(|row| micro(&row["cost"])).sum();
    assert_eq!(owner.total("w"), 160_003 - spent);

    assert_eq!(owner.json("w", &["disputes", "--save", &owner.text("evidence")], 0), Value::Array(Vec::new()));
    assert_eq!(owner.json("w", &["cancel", "--all"], 0), Value::Array(Vec::new()));
    let health = owner.json("w", &["doctor"], 1);
    let findings = health["findings"].as_array().unwrap();
    assert_eq!((findings.len(), &health["spends"]), (1, &3.into()), "{health}");
    assert!(findings[0]["what"].as_str().unwrap().contains("not minted"), "the payment that nobody made: {health}");

    // The move.
    let total = owner.total("w");
    let prepared = owner.json("new", &["import", "--prepare"], 0);
    let to = prepared["code"].as_str().unwrap();
    assert!(owner.fails("w", &["export", "--to", &to.replace(&to[..1], "x"), &owner.text("out")])["error"].is_string());
    owner.json("w", &["export", "--to", to, &owner.text("bundle")], 0);
    owner.json("w", &["export", "--to", to, &owner.text("bundle-again")], 0);
    assert!(owner.fails("w", &["balance"])["error"].as_str().unwrap().contains("moved"));
    assert_eq!(owner.json("new", &["import", &owner.text("bundle")], 0)["total"], total.to_string());
    let second = owner.fails("other", &["import", &owner.text("bundle-again")]);
    assert!(second["error"].as_str().unwrap().contains("imported already"), "{second}");
    let answer = owner.json("new", &["call", CHAT, "-d", QUESTION], 0);
    assert_eq!(owner.total("new"), total - micro(&answer["cost"]));

    // Of what was spent nothing was said that names it, and nothing that opens the wallet.
    let file = WalletFile::with_seats(owner.path("new"), owner.path("seats"));
    let wallet = file.open(&Lock::passphrase(PASSPHRASE).unwrap()).unwrap();
    let heard = owner.heard.lock().unwrap();
    let entries = wallet.journal().history(100).unwrap();
    assert_eq!(entries.len(), 4);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for entry in entries {
        for secret in [entry.key.nullifier.to_bytes(), entry.key.context.to_bytes()] {
            assert!(!heard.contains(&hex(&secret)));
        }
    }
    assert!(!heard.contains(PASSPHRASE));
    // The file tells nobody whose wallet it is; the issuer's address went along with the move.
    let bytes = std::fs::read(owner.path("new")).unwrap();
    assert!(!bytes.windows(issuer.len()).any(|window| window == issuer.as_bytes()));
    assert_eq!(wallet.journal().note("issuer-url").unwrap(), Some(issuer));
}

#[test]
fn what_is_wrong_is_said_with_whose_fault_it_is_and_what_to_do() {
    let (owner, stack) = (Owner::new(), &*STACK);
    let (issuer, root) = (stack.issuer_url(), root_key(stack));
    assert!(owner.fails("w", &["balance"])["error"].as_str().unwrap().contains("no such file"));
    let other = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    let refused = owner.fails("w", &["new", "--issuer", &issuer, "--root-key", other]);
    assert_eq!(refused["fault"], "operator");
    assert!(refused["error"].as_str().unwrap().contains("not signed by the pinned root key"), "{refused}");
    let open = owner.fails("w", &["new", "--issuer", "http://issuer.example", "--root-key", &root]);
    assert!(open["error"].as_str().unwrap().contains("plain HTTP"), "{open}");
    assert!(!owner.path("w").exists(), "there is no wallet after an error");

    owner.fund(stack, "w", 8_000);
    std::fs::write(owner.path("passphrase"), "another one").unwrap();
    let wrong = owner.fails("w", &["balance"]);
    assert_eq!((&wrong["fault"], &wrong["credit"]), (&"caller".into(), &"untouched".into()));
    assert!(wrong["next"].as_str().unwrap().contains("passphrase"), "{wrong}");
    for bad in ["", "two\nlines\n"] {
        std::fs::write(owner.path("passphrase"), bad).unwrap();
        owner.fails("w", &["balance"]);
    }
    std::fs::write(owner.path("passphrase"), PASSPHRASE).unwrap();
    assert_eq!(owner.total("w"), 8_000, "with or without the end of a line");

    // Nothing of this was sent.
    for (args, about) in [
        (&["call", "v1"][..], "neither a path nor a URL"),
        (&["call", "/", "-H", "Authorization: Bearer x"], "what pays"),
        (&["call", "/", "-X", "G E T"], "no method"),
        (&["call", "/", "-d", "@/nowhere"], "/nowhere"),
        (&["call", "/", "--class", "7"], "no charge class"),
        (&["call", "https://other.example/"], "no such gateway"),
        (&["call", "/", "--class", "16000"], "no lane"),
        (&["cancel", "0.3"], "nothing is in flight"),
        (&["fund", "x", "0"], "amount is 0"),
        (&["export", "--to", "0123", "/tmp/never"], "no arrival code"),
        (&["import", "/nowhere"], "there already"),
        (&["doctor", "--adopt"], "in order"),
    ] {
        let trouble = owner.fails("w", args);
        // An import looks at its file, or its place, first.
        let import = args[0] == "import";
        assert!(import || trouble["error"].as_str().unwrap().contains(about), "{args:?}: {trouble}");
        assert_eq!(trouble["credit"], "untouched", "{args:?}: {trouble}");
    }
    assert_eq!(owner.json("w", &["history"], 0), Value::Array(Vec::new()));
    assert_eq!(owner.total("w"), 8_000);
}

#[test]
fn a_key_file_opens_a_wallet_and_its_default_place_is_private() {
    let (owner, stack) = (Owner::new(), &*STACK);
    std::fs::write(owner.path("key"), [7; 32]).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halometer"));
        command.arg("wallet").args(args).args(["--json", "--key-file", &owner.text("key")]);
        command.env("HOME", owner.home.path()).env_remove("XDG_DATA_HOME").env_remove("XDG_STATE_HOME");
        command.stdin(Stdio::null()).output().unwrap()
    };
    let born = run(&["new", "--issuer", &stack.issuer_url(), "--root-key", &root_key(stack)]);
    assert_eq!(code(&born), 0, "{born:?}");
    let path = owner.path(".local/share/halometer/wallet");
    assert_eq!(json(&born)["wallet"], path.to_str().unwrap());
    assert!(owner.path(".local/state/halometer/seats").is_dir());
    #[cfg(unix)]
    for (path, mode) in [(&path, 0o600), (&owner.path(".local/share/halometer"), 0o700)] {
        let found = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions());
        assert_eq!(found & 0o777, mode, "{}", path.display());
    }
    assert_eq!(json(&run(&["balance"]))["total"], "0");
    std::fs::write(owner.path("key"), [8; 32]).unwrap();
    assert_eq!(code(&run(&["balance"])), 2);
}

#[test]
fn a_call_that_is_killed_is_finished_by_the_next_command() {
    let (owner, stack) = (Owner::new(), mute());
    owner.fund(&stack, "w", 32_000);
    let mut call = owner.command("w", &["call", CHAT, "-d", QUESTION]);
    let mut call = call.args(["--passphrase-file", &owner.text("passphrase")]).spawn().unwrap();
    // The gateway has admitted it when its record is held.
    let until = Instant::now() + Duration::from_secs(120);
    while stack.books().unwrap().held == 0 {
        assert!(call.try_wait().unwrap().is_none() && Instant::now() < until);
        std::thread::sleep(Duration::from_millis(50));
    }
    let busy = owner.fails("w", &["balance"]);
    assert_eq!((&busy["fault"], &busy["credit"]), (&"nobody".into(), &"untouched".into()), "{busy}");
    assert!(busy["error"].as_str().unwrap().contains("open elsewhere"), "{busy}");
    // This is SIGKILL.
    call.kill().unwrap();
    call.wait().unwrap();

    let lanes = owner.json("w", &["lanes"], 0);
    let awaiting: Vec<_> =
        lanes.as_array().unwrap().iter().filter(|lane| lane["state"] == "awaiting").cloned().collect();
    assert_eq!(awaiting.len(), 1, "{lanes}");
    let balance = owner.json("w", &["balance"], 0);
    assert_eq!((&balance["total"], &balance["reserved"]), (&"32000".into(), &"4000".into()));
    assert_eq!(owner.json("w", &["history"], 0)[0]["state"], "awaiting");

    let came = owner.json("w", &["cancel", awaiting[0]["lane"].as_str().unwrap()], 0);
    assert_eq!((&came[0]["state"], &came[0]["charge"]), (&"settled".into(), &"4000".into()), "{came}");
    let cost = micro(&came[0]["cost"]);
    assert_eq!(owner.total("w"), 32_000 - cost);
    assert_eq!(u64::try_from(stack.books().unwrap().charged).unwrap(), cost);
    let history = owner.json("w", &["history"], 0);
    assert_eq!((&history[0]["state"], &history[0]["cost"]), (&"settled".into(), &cost.to_string().into()));
}

#[test]
fn without_the_others_what_is_local_works_and_calls_say_so() {
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    owner.fund(&stack, "w", 32_000);
    let answer = owner.json("w", &["call", CHAT, "-d", QUESTION], 0);
    RUNTIME.block_on(stack.shutdown());

    assert_eq!(owner.total("w"), 32_000 - micro(&answer["cost"]));
    assert_eq!(states(&owner.json("w", &["lanes"], 0)).len(), 8);
    assert_eq!(owner.json("w", &["history"], 0).as_array().unwrap().len(), 1);
    assert_eq!(owner.json("w", &["doctor", "--offline"], 0)["well"], true);
    let call = owner.fails("w", &["call", CHAT, "-d", QUESTION]);
    assert_eq!((&call["fault"], &call["credit"]), (&"nobody".into(), &"untouched".into()), "{call}");
    let fund = owner.fails("w", &["fund", "later", "5"]);
    assert_eq!((&fund["fault"], &fund["credit"]), (&"nobody".into(), &"untouched".into()), "{fund}");
    let health = owner.json("w", &["doctor"], 1);
    assert!(health["findings"].as_array().unwrap().iter().all(|finding| finding["fault"] == "nobody"), "{health}");
}

#[test]
fn copies_and_older_states_are_used_only_when_adopted() {
    let (owner, stack) = (Owner::new(), &*STACK);
    owner.fund(stack, "w", 32_000);
    std::fs::copy(owner.path("w"), owner.path("older")).unwrap();
    owner.json("w", &["call", CHAT, "-d", QUESTION], 0);

    // On another device.
    let elsewhere = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halometer"));
        command.arg("wallet").args(args).args(["--wallet", &owner.text("w"), "--seats", &owner.text("seats-2")]);
        command.args(["--passphrase-file", &owner.text("passphrase"), "--json"]);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let copied = elsewhere(&["call", CHAT]);
    assert_eq!(code(&copied), 2);
    assert!(json(&copied)["error"].as_str().unwrap().contains("copied"), "{copied:?}");
    assert_eq!(json(&elsewhere(&["doctor"]))["standing"], "copied");

    // Put back.
    std::fs::copy(owner.path("w"), owner.path("newest")).unwrap();
    std::fs::copy(owner.path("older"), owner.path("w")).unwrap();
    let trouble = owner.fails("w", &["call", CHAT, "-d", QUESTION]);
    assert!(trouble["error"].as_str().unwrap().contains("older state"), "{trouble}");
    let health = owner.json("w", &["doctor"], 1);
    assert_eq!((&health["standing"], &health["sound"]), (&"rolled-back".into(), &true.into()));
    assert!(health["findings"][0]["next"].as_str().unwrap().contains("--adopt"), "{health}");

    let unconfirmed = owner.fails("w", &["doctor", "--adopt"]);
    assert!(unconfirmed["error"].as_str().unwrap().contains("not confirmed"), "{unconfirmed}");
    assert_eq!(owner.json("w", &["doctor"], 1)["standing"], "rolled-back");
    // The lane that was spent since is found out and frozen, and for hours nothing is spent.
    let adopted = owner.json("w", &["doctor", "--adopt", "--yes-no-other-copy-will-ever-run"], 1);
    assert_eq!(adopted["standing"], "in-order");
    let whats: Vec<_> = adopted["findings"].as_array().unwrap().iter().map(|found| found["what"].as_str()).collect();
    assert!(whats.iter().flatten().any(|what| what.contains("frozen")), "{adopted}");
    assert!(whats.iter().flatten().any(|what| what.contains("not spent before") || what.contains("is spent before")));
    let lanes = owner.json("w", &["lanes"], 0);
    assert_eq!(states(&lanes).iter().filter(|state| **state == "frozen").count(), 1, "{lanes}");
    let waits = owner.fails("w", &["call", CHAT, "-d", QUESTION]);
    assert_eq!((&waits["credit"], &waits["fault"]), (&"untouched".into(), &"nobody".into()), "{waits}");
    assert!(stack.evidence().is_empty(), "no note was spent twice");
}

#[test]
fn a_stranger_tries_the_demo_with_a_wallet() {
    let owner = Owner::new();
    let mut served = Command::new(env!("CARGO_BIN_EXE_halometer"))
        .args(["demo", "--serve", "--json", "--keep", &owner.text("kept")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(served.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let field = |name: &str| told[name].as_str().unwrap().to_owned();
    let (issuer, root, payment, amount) = (field("issuer"), field("root_key"), field("payment"), field("amount"));
    owner.json("w", &["new", "--issuer", &issuer, "--root-key", &root], 0);
    owner.json("w", &["fund", &payment, &amount], 0);
    let answer = owner.json("w", &["call", CHAT, "-d", QUESTION, "--gateway", &field("gateway")], 0);
    assert_eq!(answer["status"], 200);
    served.kill().unwrap();
    served.wait().unwrap();
    assert!(Path::new(&owner.text("kept/store")).is_dir());
}
