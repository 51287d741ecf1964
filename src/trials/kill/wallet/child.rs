//! The process that is killed: a wallet, and three threads that make calls with it.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use halometer_circuits::note::Nullifier;

use super::*;
use crate::wallet::{LaneId, PlanError, ProofJob};

const THREADS: u64 = 3;
const CLASSES: [u64; 3] = [5, 10, 20];

struct Child {
    wallet: Mutex<Wallet<FileJournal>>,
    now: Timestamp,
    /// The calls that wait for an answer.
    waiting: Mutex<HashMap<u64, mpsc::Sender<String>>>,
    next: Mutex<u64>,
}

pub(super) fn run(place: &Path, now: Timestamp) {
    let wallet = file(place).open(&lock()).expect("a wallet that was killed opens");
    let child = Child { wallet: Mutex::new(wallet), now, waiting: Mutex::default(), next: Mutex::new(0) };
    child.ask();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let child = &child;
            scope.spawn(move || {
                let mut rng = rng(now.seconds() * THREADS + thread);
                loop {
                    child.turn(&mut rng);
                }
            });
        }
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let (id, answer) = line.split_once(' ').expect("an answer");
            if let Some(waits) = child.waiting.lock().unwrap().remove(&id.parse().unwrap()) {
                let _ = waits.send(answer.to_owned());
            }
        }
        // The parent is gone: so is the test.
        std::process::exit(0);
    });
}

impl Child {
    fn wallet(&self) -> MutexGuard<'_, Wallet<FileJournal>> {
        self.wallet.lock().unwrap()
    }

    fn say(&self, id: u64, what: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "> {id} {what} .").and_then(|()| out.flush());
    }

    /// Sends something and waits a moment for the answer.
    fn send(&self, what: &str) -> Option<String> {
        let id = {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            *next
        };
        let (answered, answer) = mpsc::channel();
        self.waiting.lock().unwrap().insert(id, answered);
        self.say(id, what);
        answer.recv_timeout(Duration::from_millis(30)).ok()
    }

    /// At the start, when nobody reads the answers yet but this.
    fn ask(&self) {
        let epochs = self.wallet().unchecked_epochs(self.now);
        for epoch in epochs {
            self.say(0, &format!("ask {}", epoch.number()));
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).unwrap();
            self.take(epoch, line.trim_end().split_once(' ').unwrap().1);
        }
    }

    fn take(&self, epoch: EpochNumber, answer: &str) {
        let words = answer.strip_prefix("spent").expect("what is spent").split_whitespace();
        let spent: Vec<_> = words.map(|hex| Nullifier::from_bytes(&unhex(hex).try_into().unwrap()).unwrap()).collect();
        let mut wallet = self.wallet();
        for question in wallet.questions(epoch, spent.len() as u64, T0) {
            assert_eq!(wallet.answer(&question, &spent, self.now).unwrap(), [], "nobody else spends its notes");
        }
    }

    fn turn(&self, rng: &mut ChaCha20Rng) {
        let below = |rng: &mut ChaCha20Rng, end: u64| rng.next_u64() % end;
        let lane = |n: u64| LaneId { payment: 0, lane: n as u32 };
        // What is left from the process before is pursued, now and then; and lanes that came back with it are asked about.
        let pursued = self.wallet().pursuits(self.now).into_iter().next();
        if let Some((key, step)) = pursued.filter(|_| below(rng, 2) == 0) {
            return self.pursue(&key, step, rng);
        }
        let unchecked = self.wallet().unchecked_epochs(self.now).into_iter().next();
        if let Some(epoch) = unchecked.filter(|_| below(rng, 4) == 0) {
            if let Some(answer) = self.send(&format!("ask {}", epoch.number())) {
                self.take(epoch, &answer);
            }
            return;
        }
        let (from, to) = (lane(below(rng, 8)), lane(below(rng, 8)));
        let amount = micro(CLASSES[below(rng, 3) as usize]);
        if below(rng, 5) == 0 {
            let sent = {
                let mut wallet = self.wallet();
                let Some(jobs) = plannable(wallet.plan_transfer(from, to, amount, &GATEWAY, self.now)) else { return };
                wallet.authorise_transfer(jobs.map(ProofJob::without_proof), &errand(), self.now).unwrap()
            };
            let answer = self.send(&write(&Message::Transfer(sent.transfer)));
            let mut wallet = self.wallet();
            if let Some([give, take]) = answer.as_deref().and_then(settlements).as_deref() {
                let _ = wallet.accept_transfer(&sent.keys, &[give.clone(), take.clone()], T0);
            }
            sent.keys.iter().for_each(|key| wallet.release(key));
            return;
        }
        let paid = {
            let mut wallet = self.wallet();
            let Some(job) = plannable(wallet.plan(from, &GATEWAY, amount, self.now)) else { return };
            wallet.authorise(job.without_proof(), &errand(), self.now).unwrap()
        };
        let cost = (below(rng, 8) > 0).then(|| below(rng, 20));
        let answer = self.send(&write(&Message::Open(paid.opening, cost)));
        let mut wallet = self.wallet();
        if let Some([settlement]) = answer.as_deref().and_then(settlements).as_deref() {
            wallet.accept(&paid.key, settlement, T0).unwrap();
        }
        wallet.release(&paid.key);
    }

    fn pursue(&self, key: &SpendKey, step: PursuitStep, rng: &mut ChaCha20Rng) {
        let message = Message::pursuit(&mut self.wallet(), key, step);
        // Another thread may have been faster.
        let Ok(message) = message else { return };
        let answer = self.send(&write(&message));
        let heard = match answer.as_deref() {
            None => Heard::Nothing,
            Some(answer) => match (settlements(answer).as_deref(), answer.strip_prefix("problem ")) {
                (Some([settlement, ..]), _) => Heard::Settlement(settlement.clone()),
                (_, Some(problem)) => Heard::Problem(Problem::from_name(problem).unwrap()),
                _ => Heard::Nothing,
            },
        };
        let _ = self.wallet().heard(key, step, &heard, self.now, rng);
    }
}

fn settlements(answer: &str) -> Option<Vec<Settlement>> {
    let words = answer.strip_prefix("settled ")?.split(' ');
    Some(words.map(|hex| Settlement::from_bytes(&unhex(hex)).unwrap()).collect())
}

fn plannable<T>(planned: Result<T, PlanError>) -> Option<T> {
    match planned {
        Ok(jobs) => Some(jobs),
        Err(PlanError::InFlight(_) | PlanError::Unchecked(_) | PlanError::SameLane(_) | PlanError::Balance(_)) => None,
        Err(error) => panic!("{error}"),
    }
}
