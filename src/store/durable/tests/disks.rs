//! Disks that fill up, and disks that fail to write. What works on the store is a child: this test binary once more.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use super::*;

/// Where the child has its store.
const PLACE: &str = "HALOMETER_DISKS";
const NOTES: u64 = 30;
/// Beyond so many bytes of a file its disk is full, once the store is open: what an opening rehearses makes a file as large as a journal.
const ROOM: &str = "HALOMETER_ROOM";

/// Works on a store, says what it was answered, and after the first error finds out that nothing is served any more.
#[test]
#[ignore = "a part of the tests beside it, which run it"]
fn child() {
    let Some(path) = std::env::var_os(PLACE) else { return };
    let say = |line: String| {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{line}");
    };
    let store = match DurableStore::open(Path::new(&path), &options()) {
        Ok(store) => store,
        Err(error) => return say(format!("error at opening: {error:?}")),
    };
    if let Ok(room) = std::env::var(ROOM) {
        let (pid, room) = (std::process::id().to_string(), format!("--fsize={room}"));
        assert!(Command::new("prlimit").args(["--pid", &pid, &room]).status().unwrap().success());
    }
    let set = store.spent_set();
    let work = || {
        for n in 0..NOTES {
            assert_eq!(set.insert(record(EPOCH[0], n), T0)?, Insertion::Fresh);
            say(format!("admitted {n}"));
            assert_eq!(set.settle(&key(EPOCH[0], n), OWNER, T0, &settlement(n, n % 11))?, settlement(n, n % 11));
            say(format!("settled {n}"));
            // Another bucket, and the keys are written again.
            if n == 9 {
                set.insert_pair(pair(200, 201), T0.after(86_400))?;
                say("moved 0".into());
            }
        }
        Ok::<_, StoreError>(())
    };
    match work() {
        Ok(()) => say("done 0".into()),
        Err(error) => {
            say(format!("error: {error:?}"));
            assert!(find(&store, 0).is_err() && set.insert(record(EPOCH[0], 900), T0).is_err(), "it is served from");
            assert!(set.totals(EPOCH[0]).is_err() && set.partitions().is_err(), "it is served from");
        }
    }
}

fn command() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

const ARGUMENTS: [&str; 4] = ["--exact", "store::durable::tests::disks::child", "--ignored", "--nocapture"];

/// What the child was answered; whether there was an error.
fn answers(output: &Output) -> (BTreeMap<String, Vec<u64>>, bool) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    let mut answers = BTreeMap::<_, Vec<_>>::new();
    for (what, n) in said.lines().filter_map(|line| line.split_once(' ')) {
        if let Ok(n) = n.parse() {
            answers.entry(what.to_owned()).or_default().push(n);
        }
    }
    (answers, said.contains("error"))
}

/// Opened on a disk that works, the store has all that was answered.
fn assert_kept(path: &Path, answers: &BTreeMap<String, Vec<u64>>) {
    let store = DurableStore::open(path, &options()).unwrap();
    assert_sound(&store);
    let none = Vec::new();
    for n in answers.get("admitted").unwrap_or(&none) {
        let found = find(&store, *n).unwrap().unwrap_or_else(|| panic!("{n} is missing"));
        assert_eq!(found.evidence, record(EPOCH[0], *n).evidence);
    }
    for n in answers.get("settled").unwrap_or(&none) {
        let found = find(&store, *n).unwrap().unwrap().state;
        assert_eq!(found, RecordState::Settled(settlement(*n, n % 11)));
    }
    let halves =
        pair(200, 201).map(|half| store.spent_set().find(half.key.epoch, &half.key.nullifier).unwrap().is_some());
    assert!(halves == [answers.contains_key("moved"); 2] || halves == [true; 2], "half a transfer");
    // And it works.
    insert(&store, 1_000);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing_that_was_answered() {
    let place = tempfile::tempdir().unwrap();
    let base = place.path().join("base");
    drop(created(&base, &options()));
    let mut outcomes = Vec::new();
    if Command::new("prlimit").arg("--version").output().is_err() {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "not run: there is no `prlimit`");
        return;
    }
    // In units of 512 bytes. Nothing is larger than a journal.
    for blocks in [0, 1, 4, 9, 17, 30, 44, 60, 75, 90, 110, 140] {
        let path = place.path().join(blocks.to_string());
        copy(&base, &path);
        let mut shell = Command::new("sh");
        shell
            .env(ROOM, (blocks * 512).to_string())
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(ARGUMENTS);
        let output = shell.env(PLACE, &path).output().unwrap();
        let (answers, failed) = answers(&output);
        assert!(failed || answers.contains_key("done"));
        assert_kept(&path, &answers);
        outcomes.push(answers.get("admitted").map_or(0, Vec::len));
    }
    assert!(outcomes.iter().any(|answered| (1..NOTES as usize).contains(answered)), "{outcomes:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_failed_fsync_is_not_taken_for_a_good_one() {
    let place = tempfile::tempdir().unwrap();
    let (source, shim, base) =
        (place.path().join("failsync.c"), place.path().join("failsync.so"), place.path().join("base"));
    std::fs::write(&source, include_str!("failsync.c")).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).status();
    if !compiled.is_ok_and(|status| status.success()) {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "not run: there is no C compiler `cc`");
        return;
    }
    drop(created(&base, &options()));
    for k in [1, 2, 3, 4, 7, 20, 22, 23, 24, 41] {
        let path = place.path().join(k.to_string());
        copy(&base, &path);
        let output = command()
            .args(ARGUMENTS)
            .env("LD_PRELOAD", &shim)
            .env("FAILSYNC", k.to_string())
            .env(PLACE, &path)
            .output()
            .unwrap();
        let (answers, failed) = answers(&output);
        assert!(failed && !answers.contains_key("done"), "{k}: {answers:?}");
        let answered: usize = answers.values().map(Vec::len).sum();
        assert!(answered < k, "{k}: {answers:?}");
        assert_kept(&path, &answers);
    }
}
