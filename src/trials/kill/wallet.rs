//! Killing the process that holds the wallet.
//!
//! The child has the wallet, in its file, and makes calls and transfers from three threads at once. The parent is gateway and
//! issuer, honest but on a bad network: it answers, or does not, or lies. It kills the child (SIGKILL) and starts another on
//! the same file. Of each note at most one share may ever have left the child, and in the end all credit must be there.

mod child;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use super::unhex;
use crate::protocol::*;
use crate::sealed::Lock;
use crate::testing::world::*;
use crate::trials::hostile::outside::{Message, Outside};
use crate::wallet::file::{FileJournal, WalletFile};
use crate::wallet::{Heard, LaneStatus, PursuitStep, Wallet};

/// Where the child finds the wallet, and what time it is there.
const PLACE: &str = "HALOMETER_KILL_WALLET";
const TIME: &str = "HALOMETER_KILL_TIME";
const LANE: u64 = 100_000;
/// How much time passes from one child to the next.
const PAUSE: u64 = 200;

fn file(place: &Path) -> WalletFile {
    WalletFile::with_seats(place.join("wallet"), place.join("seats"))
}

fn lock() -> Lock {
    Lock::key_bytes(&[7; 32]).unwrap()
}

#[test]
#[ignore = "a part of the tests beside it, which run it"]
fn child_process() {
    if let Some(place) = std::env::var_os(PLACE) {
        let now = std::env::var(TIME).unwrap().parse().unwrap();
        child::run(Path::new(&place), Timestamp::from_seconds(now));
    }
}

#[test]
fn a_wallet_that_is_killed_loses_credit_or_spends_a_note_twice() {
    run(20, 3);
}

#[test]
#[ignore = "takes a minute"]
fn a_wallet_that_is_killed_two_hundred_times_loses_credit_or_spends_a_note_twice() {
    run(200, 4);
}

fn run(kills: u64, seed: u64) {
    let place = tempfile::tempdir().unwrap();
    let mut parent = Parent { outside: Outside::new(), rng: rng(seed), answered: 0, killed_at_work: 0 };
    let mut wallet = parent.make(place.path());
    let funded = wallet.balance().total();
    drop(wallet);
    for _ in 0..kills {
        let after = Duration::from_millis(parent.rng.next_u64() % 300);
        parent.live(place.path(), after);
        parent.outside.now = parent.outside.now.after(PAUSE);
    }
    wallet = file(place.path()).open(&lock()).expect("a wallet that was killed opens");
    let entries = wallet_entries(&wallet);
    parent.settle_all(&mut wallet);
    for (id, status) in wallet.lanes() {
        assert!(matches!(status, LaneStatus::Idle { .. }), "lane {id}: {status:?}");
    }
    let books = parent.outside.world.issuer.books(&*parent.outside.world.set).expect("books that balance");
    assert_eq!(wallet.balance().total() + books.charged, funded, "credit is lost or made");
    assert_eq!(books.held, 0);
    // Otherwise nothing was tried.
    assert!(parent.answered > 5 * kills && entries > 3 * kills, "{} answers, {entries} spends", parent.answered);
    assert!(parent.killed_at_work > kills / 4, "{} of {kills}", parent.killed_at_work);
}

fn wallet_entries(wallet: &Wallet<FileJournal>) -> u64 {
    use crate::wallet::Journal as _;
    wallet.journal().history(usize::MAX).unwrap().len() as u64
}

struct Parent {
    outside: Outside,
    rng: ChaCha20Rng,
    answered: u64,
    killed_at_work: u64,
}

impl Parent {
    fn make(&mut self, place: &Path) -> Wallet<FileJournal> {
        let world = &self.outside.world;
        let directory = world.issuer.signed_directory();
        let mut wallet = file(place).create(&lock(), world.root.public_key(), directory, &mut self.rng).unwrap();
        let (payment, amounts) = (PaymentId::from_bytes([1; 32]), [micro(LANE); LANES]);
        world.payments.grant(payment, Credits::checked_sum(amounts).unwrap()).unwrap();
        let minted = world.issuer.mint(&wallet.request_mint(payment, amounts, T0).unwrap(), T0).unwrap();
        wallet.accept_mint(&payment, &minted, T0).unwrap();
        wallet
    }

    /// The life of a child: its messages are answered until it is killed, so long after its first.
    fn live(&mut self, place: &Path, after: Duration) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "trials::kill::wallet::child_process", "--ignored", "--nocapture", "--test-threads", "1"])
            .env(PLACE, place)
            .env(TIME, self.outside.now.seconds().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (mut into, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (send, receive) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            // What it has written before it was killed has left it, and is read to the end.
            for line in from.lines().map_while(Result::ok) {
                // The first one stands behind what the test harness says.
                if let Some((_, message)) = line.split_once("> ")
                    && let Some(message) = message.strip_suffix(" .")
                {
                    let _ = send.send(message.to_owned());
                }
            }
        });
        let mut answer = |parent: &mut Self, line: &str| {
            if let Some(answer) = parent.answer(line) {
                // It may be gone.
                let _ = writeln!(into, "{answer}").and_then(|()| into.flush());
            }
        };
        let first = receive.recv_timeout(Duration::from_secs(60)).expect("the child says something");
        answer(self, &first);
        let end = std::time::Instant::now() + after;
        while let Ok(line) = receive.recv_timeout(end.saturating_duration_since(std::time::Instant::now())) {
            answer(self, &line);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        let mut late = 0;
        for line in receive.try_iter() {
            late += 1;
            answer(self, &line);
        }
        self.killed_at_work += u64::from(late > 0 || after > Duration::from_millis(50));
    }

    /// What a message is answered with; nothing if it, or its answer, is lost.
    fn answer(&mut self, line: &str) -> Option<String> {
        let (id, message) = line.split_once(' ').expect("a message");
        self.answered += 1;
        if let Some(epoch) = message.strip_prefix("ask ") {
            let spent = self.outside.spent(EpochNumber::new(epoch.parse().unwrap()));
            let spent: Vec<_> = spent.iter().map(|nullifier| hex::encode(nullifier.to_bytes())).collect();
            return Some(format!("{id} spent {}", spent.join(" ")));
        }
        let message = read(message);
        self.outside.leave(&message);
        let chance = self.rng.next_u64() % 16;
        let answer = match chance {
            0 => return None,
            1 => "problem busy".to_owned(),
            2 => "problem expired".to_owned(),
            _ => match self.outside.arrive(&message) {
                _ if chance == 3 => return None,
                Ok(settled) => {
                    let settled: Vec<_> = settled.iter().map(|settlement| hex::encode(settlement.to_bytes())).collect();
                    format!("settled {}", settled.join(" "))
                }
                Err(problem) => format!("problem {problem}"),
            },
        };
        Some(format!("{id} {answer}"))
    }

    /// From now on the network is good.
    fn settle_all(&mut self, wallet: &mut Wallet<FileJournal>) {
        for _ in 0..500 {
            let now = self.outside.now;
            for epoch in EPOCH {
                let spent = self.outside.spent(epoch);
                for question in wallet.questions(epoch, spent.len() as u64, T0) {
                    assert_eq!(wallet.answer(&question, &spent, now).unwrap(), [], "nobody else spends its notes");
                }
            }
            for (key, step) in wallet.pursuits(now) {
                let message = Message::pursuit(wallet, &key, step).unwrap();
                self.outside.leave(&message);
                let heard = match self.outside.arrive(&message) {
                    Ok(settled) => Heard::Settlement(settled[0].clone()),
                    Err(problem) => Heard::Problem(problem),
                };
                wallet.heard(&key, step, &heard, now, &mut self.rng).unwrap();
            }
            match wallet.next_pursuit() {
                Some(due) => self.outside.now = now.max(due),
                None if wallet.lanes().all(|(_, lane)| !matches!(lane, LaneStatus::Unchecked { .. })) => break,
                None => {}
            }
        }
        assert_eq!(wallet.awaited(), 0, "a spend that is not settled");
    }
}

/// A message as a line, and back.
fn write(message: &Message) -> String {
    match message {
        Message::Open(bytes, cost) => {
            format!("open {} {}", cost.map_or("-".to_owned(), |n| n.to_string()), hex::encode(bytes))
        }
        Message::Roll(bytes) => format!("roll - {}", hex::encode(bytes)),
        Message::Transfer(bytes) => format!("transfer - {}", hex::encode(bytes)),
        Message::Fetch(bytes) => format!("fetch - {}", hex::encode(bytes)),
        Message::Cancel(bytes) => format!("cancel - {}", hex::encode(bytes)),
    }
}

fn read(line: &str) -> Message {
    let words: Vec<&str> = line.split(' ').collect();
    let bytes = unhex(words[2]);
    match words[0] {
        "open" => Message::Open(bytes, words[1].parse().ok()),
        "roll" => Message::Roll(bytes),
        "transfer" => Message::Transfer(bytes),
        "fetch" => Message::Fetch(bytes),
        "cancel" => Message::Cancel(bytes),
        other => panic!("{other}"),
    }
}
