//! `halometer proxy`, with the programs that people use.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use halometer::testing::stack::{Stack, StackOptions};
use serde_json::Value;

use super::json;
use super::wallet::{CHAT, Owner, QUESTION, RUNTIME, mute, start};

/// The clients' versions: those that the figures of the documentation are of.
const PYTHON_CLIENT: &str = "openai==2.8.0";
const NODE_CLIENT: &str = "openai@6.9.0";

/// A running proxy.
pub(super) struct Proxy {
    pub(super) child: Child,
    pub(super) told: Value,
    _out: BufReader<ChildStdout>,
}

impl Proxy {
    pub(super) fn start(owner: &Owner, wallet: &str, args: &[&str]) -> Self {
        let mut child = command(owner, wallet, args).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let told = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, told, _out: out }
    }

    pub(super) fn url(&self, name: &str) -> &str {
        self.told[name].as_str().unwrap()
    }

    pub(super) fn status(&self) -> Value {
        let url = self.url("status_url").to_owned();
        let asked = async {
            reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?.get(url).send().await?.bytes().await
        };
        serde_json::from_slice(&RUNTIME.block_on(asked).unwrap()).unwrap()
    }

    /// As a service manager ends it.
    pub(super) fn end(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(owner: &Owner, wallet: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halometer"));
    command.args(["proxy", "--wallet", &owner.text(wallet), "--seats", &owner.text("seats"), "--json"]);
    command.args(["--passphrase-file", &owner.text("passphrase"), "--listen", "127.0.0.1:0"]).args(args);
    command.stdin(Stdio::null());
    command
}

fn spent(stack: &Stack) -> u64 {
    u64::try_from(stack.books().unwrap().charged).unwrap()
}

/// A directory for what is installed, which stays from one run of the tests to the next.
fn tools(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs a program; none if there is no such program.
fn try_run(command: &mut Command) -> Option<Output> {
    match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        output => Some(output.unwrap()),
    }
}

/// Says why something cannot be tested here.
#[allow(clippy::print_stderr)]
pub(super) fn skip(why: &str) -> Option<PathBuf> {
    eprintln!("SKIPPED: {why}");
    None
}

/// Python with the client. None, and a word on why, if there is no Python, or nowhere to get the client from.
pub(super) fn python() -> Option<PathBuf> {
    let place = tools("openai-python");
    let python = place.join("bin/python");
    let wanted = PYTHON_CLIENT.split("==").nth(1).unwrap();
    let check = format!("import openai; assert openai.__version__ == '{wanted}'");
    if try_run(Command::new(&python).args(["-c", &check])).is_some_and(|output| output.status.success()) {
        return Some(python);
    }
    let Some(made) = try_run(Command::new("python3").args(["-m", "venv"]).arg(&place)) else {
        return skip("there is no python3 on this machine");
    };
    assert!(made.status.success(), "{made:?}");
    let install = ["-m", "pip", "install", "--disable-pip-version-check", "-q", "--retries", "1", "--timeout", "10"];
    let installed = Command::new(&python).args(install).arg(PYTHON_CLIENT).output().unwrap();
    let text = String::from_utf8_lossy(&installed.stderr);
    if text.contains("from versions: none") {
        return skip("the registry of Python packages cannot be reached");
    }
    assert!(installed.status.success(), "{text}");
    Some(python)
}

/// A directory where Node finds the client. None, and a word on why, if there is no Node, or nowhere to get the client from.
fn node() -> Option<PathBuf> {
    let place = tools("openai-node");
    std::fs::create_dir_all(&place).unwrap();
    if try_run(Command::new("node").arg("--version")).is_none() {
        return skip("there is no node on this machine");
    }
    let wanted = format!("\"version\": \"{}\"", NODE_CLIENT.split('@').nth(1).unwrap());
    let package = place.join("node_modules/openai/package.json");
    if !std::fs::read_to_string(package).is_ok_and(|text| text.contains(&wanted)) {
        let install = ["install", "--no-audit", "--no-fund", "--fetch-retries=1", NODE_CLIENT];
        let Some(installed) = try_run(Command::new("npm").args(install).current_dir(&place)) else {
            return skip("there is no npm on this machine");
        };
        let text = String::from_utf8_lossy(&installed.stderr);
        if ["ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "ETIMEDOUT", "ENETUNREACH"].iter().any(|code| text.contains(code))
        {
            return skip("the registry of JavaScript packages cannot be reached");
        }
        assert!(installed.status.success(), "{text}");
    }
    // Modules are looked for from where the program is.
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/clients/client.mjs"), place.join("client.mjs"))
        .unwrap();
    Some(place)
}

#[test]
fn the_openai_python_client_works_unchanged_at_100_calls() {
    let Some(python) = python() else { return };
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    owner.fund(&stack, "w", 8_000_000);
    let proxy = Proxy::start(&owner, "w", &["--policy", "agent"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/clients/client.py");
    let run = |proxy: &Proxy, calls: &str| {
        let mut command = Command::new(&python);
        // The machine that runs the tests may have a key and a proxy set.
        command.arg(&script).args([proxy.url("base_url"), calls]).env_remove("OPENAI_API_KEY").env("NO_PROXY", "*");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        json(&output)
    };
    let report = run(&proxy, "100");
    assert_eq!((&report["answered"], &report["models"][0]), (&100.into(), &"parrot-1".into()), "{report}");
    assert!(report["cost"].as_str().is_some_and(|cost| cost.parse::<u64>().unwrap() > 0), "{report}");
    // What the service refuses comes back as it says it.
    assert_eq!((&report["bad"]["status"], &report["bad"]["type"]), (&400.into(), &"invalid_request_error".into()));
    let status = proxy.status();
    assert_eq!(status["balance"]["total"], (8_000_000 - spent(&stack)).to_string(), "{status}");
    proxy.end();
    assert_eq!(owner.total("w"), 8_000_000 - spent(&stack));

    // A wallet without enough: an error of the client's own kind, at the first try.
    owner.fund(&stack, "poor", 800);
    let proxy = Proxy::start(&owner, "poor", &[]);
    let began = Instant::now();
    let output = Command::new(&python).args(["-c", POOR, proxy.url("base_url")]).env("NO_PROXY", "*").output().unwrap();
    assert!(output.status.success() && began.elapsed() < Duration::from_secs(60), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("402 ") && text.contains("credit"), "{text}");
}

const POOR: &str = r#"
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1], api_key="none")
try:
    client.chat.completions.create(model="parrot-1", messages=[{"role": "user", "content": "hello"}])
except openai.APIStatusError as error:
    print(error.status_code, error.code, error)
"#;

#[test]
fn the_openai_javascript_client_works_unchanged_at_100_calls() {
    let Some(place) = node() else { return };
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    owner.fund(&stack, "w", 8_000_000);
    let proxy = Proxy::start(&owner, "w", &["--policy", "agent", "--class", "4000"]);
    let mut command = Command::new("node");
    command.arg(place.join("client.mjs")).args([proxy.url("base_url"), "100"]).current_dir(&place);
    let output = command.env_remove("OPENAI_API_KEY").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    assert_eq!((&report["answered"], &report["bad"]["status"]), (&100.into(), &400.into()), "{report}");
    proxy.end();
    assert_eq!(owner.total("w"), 8_000_000 - spent(&stack));
}

#[test]
fn a_proxy_that_is_killed_loses_nothing() {
    let (owner, stack) = (Owner::new(), mute());
    owner.fund(&stack, "w", 32_000);
    let mut proxy = Proxy::start(&owner, "w", &[]);
    let mut stream = TcpStream::connect(proxy.url("url").trim_start_matches("http://")).unwrap();
    let length = QUESTION.len();
    write!(stream, "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{QUESTION}").unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    while stack.books().unwrap().held == 0 {
        assert!(proxy.child.try_wait().unwrap().is_none() && Instant::now() < until);
        std::thread::sleep(Duration::from_millis(50));
    }
    // It answers looks at the wallet; what changes the wallet has to wait.
    assert_ne!(owner.json("w", &["balance"], 0)["reserved"], "0");
    let busy = owner.fails("w", &["call", CHAT, "-d", QUESTION]);
    assert!(busy["error"].as_str().unwrap().contains("open elsewhere"), "{busy}");
    // This is SIGKILL.
    proxy.child.kill().unwrap();
    proxy.child.wait().unwrap();
    // The next one takes over what was in flight.
    let proxy = Proxy::start(&owner, "w", &[]);
    let until = Instant::now() + Duration::from_secs(120);
    while proxy.status()["lanes"]["in_flight"] != 0 {
        assert!(Instant::now() < until, "{}", proxy.status());
        std::thread::sleep(Duration::from_millis(50));
    }
    proxy.end();
    assert_eq!(owner.total("w"), 32_000 - spent(&stack));
    assert_eq!(stack.books().unwrap().held, 0);
}

#[test]
fn a_proxy_that_cannot_begin_says_why() {
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    owner.fund(&stack, "w", 8_000);
    let other = "00".repeat(16);
    for (args, about) in [
        (&["--listen", "0.0.0.0:0"][..], "no loopback address"),
        (&["--gateway", &other], "no such gateway"),
        (&["--class", "7"], "no charge class"),
        (&["--pass-header", "Authorization"], "cannot be passed on"),
        (&["--listen", stack.gateway_url().trim_start_matches("http://")], "cannot listen"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halometer"));
        command.args(["proxy", "--wallet", &owner.text("w"), "--seats", &owner.text("seats"), "--json"]);
        command.args(["--passphrase-file", &owner.text("passphrase")]).args(args);
        if args[0] != "--listen" {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let trouble = json(&output);
        assert!(trouble["error"].as_str().unwrap().contains(about), "{args:?}: {trouble}");
        assert_eq!((&trouble["fault"], &trouble["credit"]), (&"caller".into(), &"untouched".into()));
    }
    // The operator must say so, and is told what it means.
    let mut open = command(&owner, "w", &[]);
    open.args(["--allow-others"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut open = open.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(open.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("can spend this wallet's credit"), "{said}");
    open.kill().unwrap();
    open.wait().unwrap();
    assert_eq!(owner.total("w"), 8_000);
}
