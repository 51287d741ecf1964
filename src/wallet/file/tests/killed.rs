//! Processes that are killed while they write, move and take over. What works is a child: this test binary once more.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand_core::Rng as _;

use super::model::entry;
use super::*;
use crate::wallet::PaymentEntry;

/// What the child does, and where.
const TASK: &str = "HALOMETER_WALLET_TASK";
const PLACE: &str = "HALOMETER_WALLET_PLACE";
const SPENDS: u8 = 60;

#[test]
#[ignore = "a part of the tests beside it, which run it"]
fn child() {
    let (Some(place), Ok(task)) = (std::env::var_os(PLACE).map(PathBuf::from), std::env::var(TASK)) else { return };
    let [from, to] =
        ["old", "new"].map(|name| WalletFile::with_seats(place.join(name), place.join(name).with_extension("seats")));
    let say = |line: String| writeln!(std::io::stderr(), "{line}").unwrap();
    say("begun".to_owned());
    match task.as_str() {
        "spend" => {
            let mut journal = FileJournal::new(from.open_in_order(&lock()).unwrap().0);
            for n in u8::try_from(journal.history(100).unwrap().len()).unwrap()..SPENDS {
                journal.pin(&[entry(n, false)]).unwrap();
                say(format!("pinned {n}"));
            }
        }
        "export" => {
            let code = std::fs::read_to_string(place.join("code")).unwrap().parse().unwrap();
            from.export(&lock(), &code, &place.join("bundle"), &mut rng(3)).unwrap();
        }
        _ => drop(to.import(&place.join("bundle"), &lock(), &mut rng(4)).unwrap()),
    }
    say("done".to_owned());
}

fn start(task: &str, place: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "wallet::file::tests::killed::child", "--ignored", "--nocapture"])
        .env(PLACE, place)
        .env(TASK, task)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a child say so many lines more after its first, waits, and kills it; what it said, and all that was on its way.
fn kill(mut child: Child, lines: u64, wait: Duration) -> Vec<String> {
    let mut reader = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said: Vec<_> = reader.by_ref().take(1 + usize::try_from(lines).unwrap()).collect();
    std::thread::sleep(wait);
    child.kill().unwrap();
    child.wait().unwrap();
    said.extend(reader);
    said
}

#[test]
fn what_a_killed_process_pinned_is_pinned() {
    let (world, place) = (World::without_keys(), tempfile::tempdir().unwrap());
    let file = WalletFile::with_seats(place.path().join("old"), place.path().join("old.seats"));
    drop(create(&world, &file));
    let mut rng = rng(11);
    let (mut acknowledged, mut kills) = (0, 0);
    while acknowledged < usize::from(SPENDS) {
        let wait = Duration::from_micros(rng.next_u64() % 2_000);
        let said = kill(start("spend", place.path()), rng.next_u64() % 5, wait);
        kills += 1;
        if let Some(last) = said.iter().rev().find_map(|line| line.strip_prefix("pinned ")) {
            acknowledged = last.parse::<usize>().unwrap() + 1;
        }
        let journal = FileJournal::new(file.open_in_order(&lock()).unwrap().0);
        let pinned = journal.history(100).unwrap().len();
        assert!((acknowledged..=acknowledged + 1).contains(&pinned), "{pinned} of {acknowledged}");
        for n in 0..acknowledged {
            let entry = entry(u8::try_from(n).unwrap(), false);
            assert_eq!(journal.entry(&entry.key.nullifier).unwrap(), Some(entry));
        }
        drop(journal);
        file.check(Some(&lock())).unwrap();
        acknowledged = pinned;
    }
    assert!(kills > 5);
}

#[test]
fn a_move_that_is_killed_again_and_again_ends_with_one_wallet() {
    let world = World::without_keys();
    let mut rng = rng(12);
    // Later lives are longer, so that a busy machine comes to the end as well.
    let life = |chance: u64, kills: u64| Duration::from_micros(chance % (60_000 + kills * kills * 1_000));
    for _ in 0..6 {
        let place = tempfile::tempdir().unwrap();
        let [from, to] = ["old", "new"].map(|name| {
            let path = place.path().join(name);
            WalletFile::with_seats(&path, path.with_extension("seats"))
        });
        let mut wallet = create(&world, &from);
        for n in 0..200_u8 {
            // So much that it takes a while.
            let payment = PaymentId::from_bytes([n; 32]);
            let (number, amounts) = (n.into(), sixty_and_forty());
            let entry =
                PaymentEntry { number, payment, amounts, requested_at: None, minted: None, seal: None, origin: None };
            wallet.journal.put_payment(&entry).unwrap();
        }
        drop(wallet);
        let code = to.prepare(&mut rng).unwrap();
        std::fs::write(place.path().join("code"), code.to_string()).unwrap();
        let bundle = place.path().join("bundle");
        let mut kills = 0;
        while !bundle.exists() {
            kills += 1;
            assert!(kills < 200, "it never comes to its end");
            kill(start("export", place.path()), 0, life(rng.next_u64(), kills));
            match from.open_in_order(&lock()) {
                Ok(_) => assert!(!bundle.exists(), "it is closed before anything leaves it"),
                Err(error) => assert!(matches!(error, WalletFileError::Moved), "{error:?}"),
            }
        }
        let secret = || {
            std::fs::read_dir(place.path().join("new.seats"))
                .unwrap()
                .any(|it| it.unwrap().path().extension().unwrap() == "arrival")
        };
        kills = 0;
        while secret() {
            kills += 1;
            assert!(kills < 200, "it never comes to its end");
            let said = kill(start("import", place.path()), 0, life(rng.next_u64(), kills));
            // What refuses an import is one that was done but for the last step.
            let refused = said.iter().find(|line| line.contains("Err` value"));
            assert!(refused.is_none_or(|line| line.contains("NoArrival") && to.path().exists()), "{said:?}");
            // Half a wallet has no name, and a whole one is in order.
            if to.path().exists() {
                assert_eq!(to.check(Some(&lock())).unwrap().contents.unwrap().payments, 200);
            }
        }
        assert!(to.open_in_order(&lock()).is_ok());
        let another = WalletFile::with_seats(place.path().join("another"), place.path().join("new.seats"));
        assert!(matches!(another.import(&bundle, &lock(), &mut rng), Err(WalletFileError::NoArrival)));
    }
}
