//! The wallets, and the process that kills.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use super::*;
use crate::issuer::{Audit, DevelopmentPayments, Issuer};
use crate::store::durable::DurableStore;
use crate::store::{MemoryMintBook, RecordState, SpentSet};
use crate::wallet::{LaneId, LaneStatus, MemoryJournal, RootSecret, Wallet};

const WALLETS: usize = 4;
const LANE: u64 = 1_500;
/// How many questions wait for their answers at most: what waits when the child is killed is in nobody's hands for the length of
/// a lease.
const BUSY: usize = 12;
const CLASSES: [u64; 3] = [5, 10, 20];

/// A lane in a wallet.
type Place = (usize, LaneId);

/// What a question was about.
#[derive(Clone, Debug)]
enum About {
    Mint(usize, PaymentId),
    Spend(usize, SpendKey),
    Transfer(usize, [SpendKey; 2]),
    /// What became of a spend, and whether its settlement had been answered when this was asked.
    Known(SpendKey, bool),
    Metered,
    Nothing,
}

struct Parent {
    rng: ChaCha20Rng,
    now: Timestamp,
    wallets: Vec<Wallet<MemoryJournal>>,
    funded: Vec<u128>,
    charged: Vec<u128>,
    /// Mints without an answer.
    minting: Vec<(usize, PaymentId)>,
    payments: u64,
    /// The spends whose admission was answered, with their charges and settlements, once those were answered.
    seen: BTreeMap<[u8; 32], Seen>,
    /// To ask again what was answered before.
    old: Vec<(SpendKey, Vec<u8>)>,
    next: u64,
    open: HashMap<u64, About>,
    /// Lanes whose spend this child was asked about.
    asked: HashSet<Place>,
    /// Whether this child is not killed, and must settle everything.
    last: bool,
    counts: BTreeMap<String, u64>,
}

/// When a child is killed: so long after its start, or after its first answer.
#[derive(Clone, Copy)]
enum Kill {
    Starting(Duration),
    AtWork(Duration),
}

#[derive(Default)]
struct Seen {
    settlement: Option<Settlement>,
}

pub(super) fn run(kills: u64, seed: u64) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    let store = DurableStore::create(&path, GATEWAY, &options()).unwrap();
    EPOCH.iter().for_each(|epoch| store.spent_set().create(*epoch).unwrap());
    drop(store);
    let mut parent = Parent::new(seed);
    // On a busy disk a child gets less done before it is killed: then more of them are.
    let mut killed = 0;
    while killed < kills || (killed < 10 * kills && !parent.was_busy(kills)) {
        killed += 1;
        let starting = parent.below(4) == 0;
        let after = Duration::from_millis(parent.below(200));
        parent.live(&path, Some(if starting { Kill::Starting(after) } else { Kill::AtWork(after) }));
        parent.now = parent.now.after(PAUSE);
    }
    // The next process settles what was left open, after its lease.
    parent.now = parent.now.after(u64::from(LEASE));
    parent.live(&path, None);
    parent.assert_accounted(&path, kills);
}

impl Parent {
    fn new(seed: u64) -> Self {
        let (mints, payments) = (Arc::new(MemoryMintBook::new()), Arc::new(DevelopmentPayments::new()));
        let directory = Directory::new(directory_parts()).unwrap();
        let issuer = Issuer::new(&root_key(), directory, epoch_keys(), mints, payments).unwrap();
        let wallet = |n| {
            let (root, device) = (RootSecret::from_bytes([n as u8 + 1; 32]), DeviceId::from_bytes([0; 8]));
            let directory = issuer.signed_directory();
            Wallet::new(root, device, root_key().public_key(), directory, MemoryJournal::default()).unwrap()
        };
        let mut parent = Self {
            rng: rng(seed),
            now: T0,
            wallets: (0..WALLETS).map(wallet).collect(),
            funded: vec![0; WALLETS],
            charged: vec![0; WALLETS],
            minting: Vec::new(),
            payments: 0,
            seen: BTreeMap::new(),
            old: Vec::new(),
            next: 0,
            open: HashMap::new(),
            asked: HashSet::new(),
            last: false,
            counts: BTreeMap::new(),
        };
        (0..2 * WALLETS).for_each(|payment| parent.pay(payment % WALLETS));
        parent
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end
    }

    /// A payment that must be minted.
    fn pay(&mut self, wallet: usize) {
        self.payments += 1;
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.payments.to_be_bytes());
        self.minting.push((wallet, PaymentId::from_bytes(id)));
    }

    /// The life of a child: it is asked until it is killed, or until all is settled.
    fn live(&mut self, path: &Path, kill: Option<Kill>) {
        self.open.clear();
        self.asked.clear();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "trials::kill::child_process", "--ignored", "--nocapture", "--test-threads", "1"])
            .env(PLACE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = BufWriter::new(child.stdin.take().unwrap());
        let (send, answers) = mpsc::channel();
        let (begin, begun) = mpsc::sync_channel(1);
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.contains("> ") {
                    let _ = begin.try_send(());
                }
                // A line that the kill cut short has no answer in it that can be told from a whole one.
                // The test harness begins the first line.
                let answer = line.split_once("> ").map(|(_, answer)| answer);
                if let Some(answer) = answer.filter(|answer| answer.ends_with(" .")) {
                    let _ = send.send(answer.to_owned());
                }
            }
        });
        let killer = std::thread::spawn(move || {
            if let Some(kill) = kill {
                if let Kill::AtWork(_) = kill {
                    let _ = begun.recv();
                }
                let (Kill::Starting(after) | Kill::AtWork(after)) = kill;
                std::thread::sleep(after);
                let _ = child.kill();
            }
            child.wait()
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        let killed = kill.is_some();
        self.last = !killed;
        loop {
            assert!(
                Instant::now() < deadline,
                "it does not come to an end: {:?}, {:?} open, {} in flight, {} asked",
                self.counts,
                self.open,
                self.in_flight().len(),
                self.asked.len()
            );
            let written = self.ask(&mut input, killed).and_then(|()| input.flush());
            if written.is_err() {
                break;
            }
            if !killed && self.open.is_empty() && self.minting.is_empty() && self.in_flight().is_empty() {
                break;
            }
            match answers.recv_timeout(Duration::from_millis(if killed { 500 } else { 20 })) {
                Ok(answer) => {
                    self.hear(&answer, &mut input);
                    while let Ok(answer) = answers.try_recv() {
                        self.hear(&answer, &mut input);
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        drop(input);
        // One that ended by itself was not killed.
        let status = killer.join().unwrap().unwrap();
        assert_eq!(status.code(), (!killed).then_some(0), "{status:?}");
        reader.join().unwrap();
        // What it answered before it was killed counts.
        while let Ok(answer) = answers.try_recv() {
            self.hear_last(&answer);
        }
    }

    fn say(&mut self, input: &mut BufWriter<ChildStdin>, about: About, what: &str) -> std::io::Result<()> {
        self.next += 1;
        self.open.insert(self.next, about);
        writeln!(input, "{} {what} {}", self.next, self.now.seconds())
    }

    fn in_flight(&self) -> Vec<(Place, SpendKey)> {
        let lanes = self.wallets.iter().enumerate();
        let lanes = lanes.flat_map(|(wallet, lanes)| lanes.lanes().map(move |(id, status)| ((wallet, id), status)));
        let flights = lanes.filter_map(|(place, status)| match status {
            LaneStatus::InFlight { spend, .. } => Some((place, spend)),
            _ => None,
        });
        flights.collect()
    }

    /// Sends again what has no answer, and new spends.
    fn ask(&mut self, input: &mut BufWriter<ChildStdin>, new: bool) -> std::io::Result<()> {
        for (wallet, payment) in self.minting.clone() {
            let asked = self.open.values().any(|about| matches!(about, About::Mint(_, id) if *id == payment));
            if !asked {
                let request = self.wallets[wallet].request_mint(payment, [micro(LANE); LANES], T0).unwrap();
                self.say(input, About::Mint(wallet, payment), &format!("mint {}", hex::encode(request.to_bytes())))?;
            }
        }
        for ((wallet, lane), key) in self.in_flight() {
            if self.asked.contains(&(wallet, lane)) {
                continue;
            }
            self.asked.insert((wallet, lane));
            self.again(input, wallet, key)?;
        }
        if !new || self.open.len() >= BUSY {
            return Ok(());
        }
        for wallet in 0..WALLETS {
            self.spend(input, wallet)?;
        }
        if self.below(12) == 0 {
            let before = self.now.before(u64::from(BUCKET)).seconds();
            self.say(input, About::Nothing, &format!("erase {before}"))?;
        }
        if !self.old.is_empty() && self.below(4) == 0 {
            let (key, opening) = self.old[self.rng.next_u64() as usize % self.old.len()].clone();
            let settled = self.seen[&key.nullifier.to_bytes()].settlement.is_some();
            let find = self.below(2) == 0;
            let bytes = if find { key.nullifier.to_bytes().to_vec() } else { opening };
            self.say(
                input,
                About::Known(key, settled),
                &format!("{} {}", if find { "find" } else { "open" }, hex::encode(&bytes)),
            )?;
        }
        if self.below(400) == 0 {
            let wallet = self.below(WALLETS as u64) as usize;
            self.pay(wallet);
        }
        Ok(())
    }

    /// The same spend again, or its cancel.
    fn again(&mut self, input: &mut BufWriter<ChildStdin>, wallet: usize, key: SpendKey) -> std::io::Result<()> {
        if let Ok(transfer) = self.wallets[wallet].resend_transfer(&key, &request()) {
            // Both halves are asked for by the first of them, unless they are cancelled one by one.
            if self.below(8) != 0 {
                self.asked.extend(transfer.lanes.map(|lane| (wallet, lane)));
                let what = format!("transfer {}", hex::encode(&transfer.transfer));
                return self.say(input, About::Transfer(wallet, transfer.keys), &what);
            }
        } else if let Ok(paid) = self.wallets[wallet].resend(&key, &request())
            && self.below(8) != 0
        {
            return self.say(input, About::Spend(wallet, key), &format!("open {}", hex::encode(&paid.opening)));
        }
        self.cancel(input, wallet, key)
    }

    fn cancel(&mut self, input: &mut BufWriter<ChildStdin>, wallet: usize, key: SpendKey) -> std::io::Result<()> {
        let Ok(bytes) = self.wallets[wallet].cancel(&key, &request()) else { return Ok(()) };
        self.say(input, About::Spend(wallet, key), &format!("cancel {}", hex::encode(&bytes)))
    }

    /// Spends of lanes that are idle.
    fn spend(&mut self, input: &mut BufWriter<ChildStdin>, wallet: usize) -> std::io::Result<()> {
        let idle = |(id, status)| match status {
            LaneStatus::Idle { value, .. } => Some((id, value.micro())),
            _ => None,
        };
        let mut idle: Vec<(LaneId, u64)> = self.wallets[wallet].lanes().filter_map(idle).collect();
        if idle.len() > 2 && self.below(3) == 0 {
            let from = idle.swap_remove(self.below(idle.len() as u64) as usize);
            let to = idle.swap_remove(self.below(idle.len() as u64) as usize);
            let amount = [1, 20, 100][self.below(3) as usize];
            if from.1 >= amount {
                let jobs = self.wallets[wallet].plan_transfer(from.0, to.0, micro(amount), &GATEWAY, self.now).unwrap();
                let ready = jobs.map(|job| job.without_proof());
                let transfer = self.wallets[wallet].authorise_transfer(ready, &request(), self.now).unwrap();
                self.asked.extend(transfer.lanes.map(|lane| (wallet, lane)));
                let what = format!("transfer {}", hex::encode(&transfer.transfer));
                self.say(input, About::Transfer(wallet, transfer.keys), &what)?;
            }
        }
        for (lane, value) in idle {
            if self.open.len() >= BUSY {
                break;
            }
            let class = CLASSES[self.below(3) as usize];
            if value >= class {
                let job = self.wallets[wallet].plan(lane, &GATEWAY, micro(class), self.now).unwrap();
                let paid = self.wallets[wallet].authorise(job.without_proof(), &request(), self.now).unwrap();
                self.asked.insert((wallet, lane));
                self.say(input, About::Spend(wallet, paid.key), &format!("open {}", hex::encode(&paid.opening)))?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, answer: &str, input: &mut BufWriter<ChildStdin>) {
        // If it cannot be said, the child is gone, and the next one is asked.
        let _ = self.take(answer, Some(input));
    }

    fn hear_last(&mut self, answer: &str) {
        let _ = self.take(answer, None);
    }

    fn take(&mut self, answer: &str, input: Option<&mut BufWriter<ChildStdin>>) -> std::io::Result<()> {
        let words: Vec<&str> = answer.split(' ').collect();
        let about = self.open.remove(&words[0].parse::<u64>().unwrap()).expect("it was asked");
        *self.counts.entry(words[1].to_owned()).or_default() += 1;
        let settlement = |word: &str| Settlement::from_bytes(&unhex(word)).unwrap();
        match (words[1], about) {
            ("minted", About::Mint(wallet, payment)) => {
                let response = MintAnswer::from_bytes(&unhex(words[2])).unwrap();
                self.wallets[wallet].accept_mint(&payment, &response, T0).unwrap();
                self.minting.retain(|(_, id)| *id != payment);
                self.funded[wallet] += u128::from(LANE) * LANES as u128;
            }
            ("admitted", About::Spend(wallet, key)) => {
                self.see(&key, None);
                // Unless its cancel was answered before.
                if let Ok(paid) = self.wallets[wallet].resend(&key, &request()) {
                    self.old.push((key, paid.opening));
                }
                let Some(input) = input else { return Ok(()) };
                let cost = self.below(6);
                let (metered, nf) = (self.below(3) == 0, hex::encode(key.nullifier.to_bytes()));
                if metered {
                    self.say(input, About::Metered, &format!("meter {nf} {cost}"))?;
                }
                // Some wait for the end of their lease.
                if self.last || self.below(20) != 0 {
                    self.say(input, About::Spend(wallet, key), &format!("settle {nf} {cost}"))?;
                }
            }
            ("settled", About::Spend(wallet, key)) => {
                let settlement = settlement(words[2]);
                self.see(&key, Some(&settlement));
                self.accept(wallet, &key, &settlement);
            }
            ("settled", About::Known(key, _)) => self.see(&key, Some(&settlement(words[2]))),
            ("moved", About::Transfer(wallet, keys)) => {
                let settlements = [settlement(words[2]), settlement(words[3])];
                for (key, settlement) in keys.iter().zip(&settlements) {
                    self.see(key, Some(settlement));
                }
                let flying = self.in_flight();
                let waits = |key: &SpendKey| flying.iter().any(|((of, _), spend)| *of == wallet && spend == key);
                if keys.iter().all(waits) {
                    self.wallets[wallet].accept_transfer(&keys, &settlements, T0).unwrap();
                } else {
                    // Asked twice, it is answered twice; and a half that was cancelled too late to change anything may have had
                    // its settlement from that, before this answer came.
                    for (key, settlement) in keys.iter().zip(&settlements) {
                        self.accept(wallet, key, settlement);
                    }
                }
                self.answered(wallet);
            }
            // Open, by this process or by one that was killed: it is asked again after the next kill.
            ("progress", About::Spend(wallet, _)) if self.last => self.answered_none(wallet),
            ("progress", About::Spend(..)) | ("metered", About::Metered) | ("erased", About::Nothing) => {}
            // What was settled in the meantime may have been seen before that.
            ("open" | "progress", About::Known(_, settled)) => assert!(!settled, "a settlement is gone"),
            ("expired", About::Spend(wallet, key)) => {
                let Some(input) = input else { return Ok(()) };
                self.cancel(input, wallet, key)?;
            }
            ("expired" | "parted", About::Transfer(wallet, keys)) => {
                let Some(input) = input else { return Ok(()) };
                for key in keys {
                    self.cancel(input, wallet, key)?;
                }
            }
            (_, about) => panic!("{answer}: {about:?}"),
        }
        Ok(())
    }

    /// Remembers what was answered of a spend: a settlement is the one that was ever returned.
    fn see(&mut self, key: &SpendKey, settlement: Option<&Settlement>) {
        let seen = self.seen.entry(key.nullifier.to_bytes()).or_default();
        if let Some(settlement) = settlement {
            assert_eq!(seen.settlement.get_or_insert_with(|| settlement.clone()), settlement, "settled twice");
        }
    }

    fn accept(&mut self, wallet: usize, key: &SpendKey, settlement: &Settlement) {
        // A settlement may have been asked for twice: by settling and by cancelling.
        let waits = self.in_flight().iter().any(|((of, _), spend)| *of == wallet && spend == key);
        if waits {
            let accepted = self.wallets[wallet].accept(key, settlement, T0).unwrap();
            self.charged[wallet] += u128::from(accepted.cost.micro());
            self.asked.remove(&(wallet, accepted.lane));
        }
    }

    /// Everything of a wallet is asked again.
    fn answered_none(&mut self, wallet: usize) {
        self.asked.retain(|place| place.0 != wallet);
    }

    /// The lanes of a wallet that are idle again may be asked about again.
    fn answered(&mut self, wallet: usize) {
        let waiting: Vec<_> = self.in_flight().into_iter().map(|(place, _)| place).collect();
        self.asked.retain(|place| place.0 != wallet || waiting.contains(place));
    }

    /// Whether the children did enough for so many kills to mean something.
    fn was_busy(&self, kills: u64) -> bool {
        let of = |what: &str| self.counts.get(what).copied().unwrap_or_default();
        of("admitted") > 5 * kills && of("moved") > 0
    }

    /// After the dust has settled.
    fn assert_accounted(&self, path: &Path, kills: u64) {
        let store = DurableStore::open(path, &options()).unwrap();
        self.assert_store(&store);
        // All is settled, so that all evidence can go, and nothing else goes with it.
        assert!(store.spent_set().erase_evidence(EPOCH[0], self.now.after(1)).unwrap() > 0);
        self.assert_store(&store);
        for (wallet, (funded, charged)) in self.wallets.iter().zip(self.funded.iter().zip(&self.charged)) {
            let balance = wallet.balance();
            assert_eq!((balance.total() + charged, balance.reserved), (*funded, 0));
        }
        assert!(self.was_busy(kills), "{:?}", self.counts);
    }

    fn assert_store(&self, store: &DurableStore) {
        assert_eq!(store.check().unwrap().damage, []);
        let set = store.spent_set();
        for (nf, seen) in &self.seen {
            let nullifier = halometer_circuits::note::Nullifier::from_bytes(nf).unwrap();
            let record = set.find(EPOCH[0], &nullifier).unwrap().expect("an admitted nullifier is missing");
            let RecordState::Settled(settlement) = record.state else { panic!("it is not settled") };
            assert_eq!(Some(&settlement), seen.settlement.as_ref());
        }
        let directory = Directory::new(directory_parts()).unwrap();
        let mints = store.mint_book();
        let audit = Audit { directory: &directory, set: &set, mints: &mints, payments: None, proofs: false };
        let report = audit.run().unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
        let books = report.books;
        let (funded, charged) = (self.funded.iter().sum::<u128>(), self.charged.iter().sum::<u128>());
        assert_eq!((books.minted, books.charged, books.held), (funded, charged, 0));
        assert_eq!(books.outstanding, funded - charged);
    }
}
