//! The program as its users run it: its output, its exit codes, and what it does with files that are not what they should be.

mod cluster;
mod elsewhere;
mod gateway;
#[cfg(unix)]
mod guides;
mod keys;
mod network;
mod page;
mod proxy;
mod restore;
#[path = "../http/socks_server.rs"]
mod socks_server;
mod store;
mod wallet;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// What a run of the demo left behind.
struct Run {
    place: TempDir,
    root_key: String,
}

static RUN: LazyLock<Run> = LazyLock::new(|| {
    let place = tempfile::tempdir().unwrap();
    let kept = place.path().join("run");
    let demo = halometer(&["demo", "--calls", "3", "--keep", kept.to_str().unwrap()]);
    assert!(demo.status.success(), "{demo:?}");
    let text = String::from_utf8(demo.stdout).unwrap();
    let root_key = text.split("--root-key ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    Run { place, root_key }
});

impl Run {
    fn path(&self, name: &str) -> String {
        self.place.path().join("run").join(name).to_str().unwrap().to_owned()
    }

    /// A copy of the store, to be changed.
    fn store(&self, name: &str) -> PathBuf {
        let to = self.place.path().join(name);
        copy(Path::new(&self.path("store")), &to);
        std::fs::copy(self.path("store.mark"), to.with_extension("mark")).unwrap();
        to
    }

    fn trusted<'a>(&'a self, directory: &'a str) -> [&'a str; 4] {
        ["--directory", directory, "--root-key", &self.root_key]
    }
}

/// Runs the program to its end. What does not end by itself is told to, after two minutes.
fn halometer(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halometer"));
    let child = command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id().to_string();
    let (ended, waits) = std::sync::mpsc::channel::<()>();
    let patience = std::thread::spawn(move || {
        if waits.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &id]).status();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    patience.join().unwrap();
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

#[test]
fn an_operator_looks_after_a_store() {
    let store = RUN.store("looked-after");
    let store = store.to_str().unwrap();
    let stats = json(&halometer(&["store", "stats", store, "--json"]));
    let epoch = &stats["partitions"][0];
    // Three calls, and one of the attacker's.
    assert_eq!((&epoch["settled"], &epoch["open"], &stats["mints"]), (&4.into(), &0.into(), &2.into()));
    assert!(epoch["cost"].as_str().unwrap().parse::<u64>().unwrap() > 0);

    let check = halometer(&["store", "check", store, "--json"]);
    assert_eq!((code(&check), &json(&check)["sound"]), (0, &true.into()));
    assert_eq!(json(&check)["read"]["evidence"], 4);
    assert_eq!(code(&halometer(&["store", "compact", store])), 0);

    let backup = RUN.place.path().join("backup");
    let backup = backup.to_str().unwrap();
    assert_eq!(json(&halometer(&["store", "backup", store, backup, "--json"]))["records"], 4);
    assert_eq!(code(&halometer(&["store", "check", backup])), 0, "a backup is read like a store");
    let again = halometer(&["store", "backup", store, backup]);
    assert_eq!(code(&again), 2);
    assert!(said(&again).contains("already"), "{}", said(&again));
    let directory = RUN.path("directory");
    let audit = halometer(&[&["issuer", "audit", backup][..], &RUN.trusted(&directory), &["--json"]].concat());
    assert_eq!((code(&audit), &json(&audit)["clean"]), (0, &true.into()));

    let missing = halometer(&["store", "stats", "/nowhere"]);
    assert_eq!(code(&missing), 2);
    assert!(said(&missing).contains("there is no store at /nowhere"), "{}", said(&missing));
}

#[test]
fn an_issuer_proves_the_books_from_the_records() {
    let store = RUN.store("audited");
    let store = store.to_str().unwrap();
    let directory = RUN.path("directory");
    let audit = [&["issuer", "audit", store][..], &RUN.trusted(&directory), &["--proofs", "--json"]].concat();
    let audited = halometer(&audit);
    let report = json(&audited);
    assert_eq!((code(&audited), &report["clean"], &report["proofs"]), (0, &true.into(), &4.into()));
    let sum = |name: &str| report[name].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(sum("minted"), sum("charged") + sum("held") + sum("outstanding"));

    // Another issuer's directory proves nothing.
    let other_key = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    let other = ["issuer", "audit", store, "--directory", &directory, "--root-key", other_key];
    let refused = halometer(&other);
    assert_eq!(code(&refused), 2);
    assert!(said(&refused).contains("not signed by the pinned root key"), "{}", said(&refused));
}

#[test]
fn anyone_can_check_evidence_and_altering_it_frames_nobody() {
    let directory = RUN.path("directory");
    let evidence = RUN.path("double-spend.evidence");
    let verify =
        |file: &str| halometer(&[&["evidence", "verify", file, "--json"][..], &RUN.trusted(&directory)].concat());
    let held = verify(&evidence);
    assert_eq!((code(&held), &json(&held)["holds"]), (0, &true.into()));
    assert_eq!(json(&held)["account"].as_str().unwrap().len(), 64);

    let bytes = std::fs::read(&evidence).unwrap();
    let altered = RUN.place.path().join("altered.evidence");
    for at in [1, 70, 150, 230, 1_500, 4_200] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        std::fs::write(&altered, &bytes).unwrap();
        let refused = verify(altered.to_str().unwrap());
        assert_eq!((code(&refused), &json(&refused)["holds"]), (1, &false.into()), "byte {at}");
    }
    std::fs::write(&altered, b"").unwrap();
    assert_eq!(code(&verify(altered.to_str().unwrap())), 1);
    assert_eq!(code(&verify("/nowhere")), 2);
}

#[test]
fn a_store_that_was_set_back_is_not_opened() {
    let store = RUN.store("set-back");
    // Its mark is of later commits than the database has.
    let mut later = std::fs::read(store.with_extension("mark")).unwrap();
    std::fs::remove_dir_all(store.join("db")).unwrap();
    let empty = RUN.place.path().join("empty");
    let gateway = halometer::protocol::GatewayId::from_bytes([1; 16]);
    drop(halometer::store::durable::DurableStore::create(&empty, gateway, &Default::default()).unwrap());
    copy(&empty.join("db"), &store.join("db"));
    let stats = halometer(&["store", "stats", store.to_str().unwrap()]);
    assert_eq!(code(&stats), 2);
    assert!(said(&stats).contains("was set back"), "{}", said(&stats));
    // A damaged mark is no mark, and neither is a missing one.
    later.iter_mut().for_each(|byte| *byte ^= 0xff);
    std::fs::write(store.with_extension("mark"), &later).unwrap();
    let damaged = halometer(&["store", "check", store.to_str().unwrap()]);
    assert_eq!(code(&damaged), 2);
    assert!(said(&damaged).contains("mark") && said(&damaged).contains("damaged"), "{}", said(&damaged));
}

#[test]
fn nothing_is_kept_in_a_directory_that_is_there_already() {
    let refused = halometer(&["demo", "--calls", "1", "--keep", RUN.path("").as_str()]);
    assert_eq!(code(&refused), 2);
    assert!(said(&refused).contains("the records of this run"), "{}", said(&refused));
}
