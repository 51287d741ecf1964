//! The program with a database: from a gateway on one machine to the set of many.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::server::{Server, or_skip, shared};

fn halometer(address: &str, args: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_halometer"));
    program.args(args).env("TEST_DATABASE", address).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn good(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// An empty schema, and its address.
fn schema(server: &Server, name: &str) -> String {
    assert!(server.sql(&format!("CREATE SCHEMA {name}")));
    format!("host=127.0.0.1 port={} user=postgres dbname=postgres options='-c search_path={name}'", server.port)
}

/// A gateway for development, whose configuration names the database and the operator's address.
fn shop(dir: &Path, admin: u16) -> (String, String) {
    let shop = dir.join("shop").to_str().unwrap().to_owned();
    let listen = format!("127.0.0.1:{}", free_port());
    let init = ["gateway", "init", &shop, "--development", "--upstream", "http://127.0.0.1:9", "--listen", &listen];
    good(halometer("", &init));
    let config = format!("{shop}/gateway.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("[store]\n", "[store]\nkind = \"postgres\"\n");
    let watched = text.lines().skip_while(|line| *line != "[admin]").nth(1).unwrap();
    let text = text.replace(watched, &format!("listen = \"127.0.0.1:{admin}\"\nevery_seconds = 1"));
    let database = "\n[store.postgres]\nurl = { env = \"TEST_DATABASE\" }\naccept = [\"fsync-off\"]\n";
    std::fs::write(&config, text + database).unwrap();
    (shop, config)
}

/// A gateway that runs.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(log: PathBuf, config: &str, address: &str) -> Self {
        let mut gateway = Command::new(env!("CARGO_BIN_EXE_halometer"));
        gateway.args(["gateway", "--config", config]).env("TEST_DATABASE", address);
        let written = std::fs::File::create(&log).unwrap();
        let child = gateway.stdin(Stdio::null()).stdout(Stdio::null()).stderr(written).spawn().unwrap();
        Self { child, log }
    }

    /// Its metrics, as soon as it takes calls.
    fn until_ready(&mut self, admin: u16) -> String {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let ready = get(admin, "/readyz").starts_with("HTTP/1.1 200");
            let metrics = get(admin, "/metrics");
            if ready && metrics.contains("halometer_database_round_trips_total") {
                return metrics;
            }
            if Instant::now() > deadline || self.child.try_wait().unwrap().is_some() {
                panic!("{}", std::fs::read_to_string(&self.log).unwrap());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_operator_moves_a_shop_into_a_database_and_runs_two() {
    let server = or_skip!(shared());
    let dir = tempfile::tempdir().unwrap();
    let admin = free_port();
    let (shop, config) = shop(dir.path(), admin);
    let address = schema(&server, "program");
    let run = |args: &[&str]| halometer(&address, args);

    let early = run(&["gateway", "--check", "--config", &config]);
    assert!(!early.status.success() && said(&early).contains("halometer store migrate"), "{early:?}");
    let dry = good(run(&["store", "migrate", "--config", &config, "--dry-run"]));
    assert!(dry.contains("CREATE TABLE") && dry.contains("would go from nothing to version 1"), "{dry}");
    assert!(good(run(&["store", "migrate", "--config", &config])).contains("went from nothing to version 1"));
    let store = format!("{shop}/store");
    assert!(good(run(&["store", "copy", &store, "--config", &config])).contains("0 records in 0 partitions"));
    let moved = run(&["store", "copy", &store, "--config", &config]);
    assert!(!moved.status.success() && said(&moved).contains("took its place"), "{moved:?}");
    let checked = good(run(&["gateway", "--check", "--config", &config]));

    // The service behind is none.
    assert!(checked.contains("the gateway would start"), "{checked}");

    // A second gateway has the same keys, and a mark and addresses of its own.
    let (second, second_admin) = (dir.path().join("second"), free_port());
    assert!(Command::new("cp").arg("-a").arg(&shop).arg(&second).status().unwrap().success());
    let text = std::fs::read_to_string(&config).unwrap();
    let listen = text.lines().find(|line| line.starts_with("listen = ")).unwrap();
    let text = text
        .replacen(listen, &format!("listen = \"127.0.0.1:{}\"", free_port()), 1)
        .replace(&format!("listen = \"127.0.0.1:{admin}\""), &format!("listen = \"127.0.0.1:{second_admin}\""));
    let second_config = second.join("gateway.toml").to_str().unwrap().to_owned();
    std::fs::write(&second_config, text).unwrap();

    let mut first = Running::start(dir.path().join("log"), &config, &address);
    let metrics = first.until_ready(admin);
    assert!(metrics.contains("halometer_database_trouble 0"), "{metrics}");
    let mut other = Running::start(dir.path().join("log2"), &second_config, &address);
    let metrics = other.until_ready(second_admin);
    assert!(metrics.contains("halometer_directory_serial 1"), "{metrics}");
    // Beside the gateway.
    let stats: Value = serde_json::from_str(&good(run(&["store", "stats", "--config", &config, "--json"]))).unwrap();
    assert_eq!((&stats["partitions"][0]["phase"], &stats["mints"]), (&"open".into(), &0.into()));
    assert!(good(run(&["store", "check", "--config", &config])).ends_with("sound\n"));
    drop((first, other));
}

#[test]
fn a_database_is_named_by_variable_or_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (_, config) = shop(dir.path(), free_port());
    let text = std::fs::read_to_string(&config).unwrap();
    for (url, says) in [
        ("url = \"postgres://user:hunter2@localhost/d\"", "the secret itself is not to be in this file"),
        ("url = { env = \"TEST_NO_SUCH_VARIABLE\" }", "TEST_NO_SUCH_VARIABLE"),
    ] {
        let changed = text.replace("url = { env = \"TEST_DATABASE\" }", url);
        std::fs::write(&config, changed).unwrap();
        let refused = halometer("", &["store", "migrate", "--config", &config]);
        assert!(!refused.status.success(), "{refused:?}");
        assert!(said(&refused).contains(says) && !said(&refused).contains("hunter2"), "{}", said(&refused));
    }
    std::fs::write(&config, &text).unwrap();
    let refused =
        halometer("postgres://u:hunter2@db.example/d?sslmode=disable", &["store", "migrate", "--config", &config]);
    assert!(said(&refused).contains("TLS is required") && !said(&refused).contains("hunter2"), "{}", said(&refused));
}
