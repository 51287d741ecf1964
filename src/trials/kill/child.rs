//! The process that is killed: issuer and gateway, which answer what they are asked.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use super::*;
use crate::gateway::{AdmitError, Cancelled, Gateway, GatewayParts, Opened, Quotas, Rate, Screened};
use crate::issuer::{DevelopmentPayments, Issuer, SettleError};
use crate::lifecycle::{AdmittedSpend, ParsedSpend, SettledSpend, Transferred};
use crate::store::durable::DurableStore;
use crate::store::{RecordState, SpentSet};
use halometer_circuits::note::Nullifier;

struct Child {
    store: DurableStore,
    payments: Arc<DevelopmentPayments>,
    issuer: Issuer,
    gateway: Gateway,
    /// What this process admitted, by nullifier.
    admitted: Mutex<HashMap<Vec<u8>, Arc<AdmittedSpend>>>,
}

pub(super) fn run(place: &Path) {
    let store = DurableStore::open(place, &options()).expect("a store that was killed opens");
    let directory = Directory::new(directory_parts()).unwrap();
    let payments = Arc::new(DevelopmentPayments::new());
    let mints = Arc::new(store.mint_book());
    let issuer = Issuer::new(&root_key(), directory.clone(), epoch_keys(), mints, payments.clone()).unwrap();
    let set: Arc<dyn SpentSet> = Arc::new(store.spent_set());
    let mut owner = [0; 16];
    owner[..4].copy_from_slice(&std::process::id().to_be_bytes());
    let owner = OwnerId::from_bytes(owner);
    let free = Rate::UNLIMITED;
    let quotas = Quotas { admissions: free, cancels: free, rollovers: free, transfers: free };
    let parts = GatewayParts { id: GATEWAY, directory, set, owner, lease_seconds: LEASE, quotas };
    // As of a time when all epochs are over, so that no keys are built.
    let gateway = Gateway::new(parts, T0.after(30 * DAY)).unwrap();
    let child = Child { store, payments, issuer, gateway, admitted: Mutex::default() };

    let (send, receive) = mpsc::channel::<String>();
    let receive = Mutex::new(receive);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let line = receive.lock().unwrap().recv();
                    let Ok(line) = line else { break };
                    let (id, question) = line.split_once(' ').expect("a question");
                    let answer = child.answer(question);
                    let mut out = std::io::stdout().lock();
                    // The parent may be gone.
                    let _ = writeln!(out, "> {id} {answer} .").and_then(|()| out.flush());
                }
            });
        }
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            send.send(line).unwrap();
        }
        drop(send);
    });
}

impl Child {
    fn answer(&self, question: &str) -> String {
        let words: Vec<&str> = question.split(' ').collect();
        let number = |i: usize| words[i].parse::<u64>().expect("a number");
        match words[0] {
            "mint" => self.mint(&unhex(words[1]), at(number(2))),
            "open" => self.open(&unhex(words[1]), at(number(2))),
            "settle" => self.settle(&unhex(words[1]), number(2), at(number(3))),
            "meter" => self.meter(&unhex(words[1]), number(2), at(number(3))),
            "cancel" => self.cancel(&unhex(words[1]), at(number(2))),
            "transfer" => self.transfer(&unhex(words[1]), at(number(2))),
            "erase" => match self.store.spent_set().erase_evidence(EPOCH[0], at(number(1))) {
                Ok(count) => format!("erased {count}"),
                Err(error) => panic!("{error:?}"),
            },
            "find" => self.find(&unhex(words[1])),
            other => panic!("{other}"),
        }
    }

    fn mint(&self, request: &[u8], now: Timestamp) -> String {
        let request = MintRequest::from_bytes(request).unwrap();
        let paid = Credits::checked_sum(request.lanes.iter().map(|lane| lane.amount)).unwrap();
        self.payments.grant(request.payment, paid).unwrap();
        format!("minted {}", hex::encode(self.issuer.mint(&request, now).unwrap().to_bytes()))
    }

    fn opened(&self, opened: Result<Opened, AdmitError>, now: Timestamp) -> String {
        match opened {
            Ok(Opened::Admitted(spend)) => {
                let key = spend.key().nullifier.to_bytes().to_vec();
                self.admitted.lock().unwrap().insert(key, Arc::new(spend));
                "admitted".to_owned()
            }
            Ok(Opened::Lapsed(spend)) => self.settled(self.issuer.settle(self.set(), &spend, spend.metered(), now)),
            Ok(Opened::Settled(settled)) => self.settled(Ok(settled)),
            Ok(Opened::InProgress) => "progress".to_owned(),
            Err(AdmitError::Expired(_)) => "expired".to_owned(),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn open(&self, opening: &[u8], now: Timestamp) -> String {
        let opened = match self.gateway.screen(opening, &request(), now) {
            Ok(Screened::Known(opened)) => Ok(opened),
            Ok(Screened::Unknown(spend)) => self.gateway.admit(spend.without_proof(), now),
            Ok(Screened::Conflict(_)) => panic!("an honest spend is in conflict"),
            Err(error) => Err(error),
        };
        self.opened(opened, now)
    }

    fn settled(&self, outcome: Result<SettledSpend, SettleError>) -> String {
        format!("settled {}", hex::encode(outcome.unwrap().settlement().to_bytes()))
    }

    fn of(&self, nullifier: &[u8]) -> Option<Arc<AdmittedSpend>> {
        self.admitted.lock().unwrap().get(nullifier).cloned()
    }

    fn settle(&self, nullifier: &[u8], cost: u64, now: Timestamp) -> String {
        let spend = self.of(nullifier).expect("it was admitted by this process");
        self.settled(self.issuer.settle(self.set(), &spend, micro(cost), now))
    }

    fn meter(&self, nullifier: &[u8], metered: u64, now: Timestamp) -> String {
        let spend = self.of(nullifier).expect("it was admitted by this process");
        spend.meter(self.set(), micro(metered), now).unwrap();
        "metered".to_owned()
    }

    fn cancel(&self, bytes: &[u8], now: Timestamp) -> String {
        let parsed = ParsedSpend::parse_cancellation(bytes, self.gateway.directory()).unwrap();
        let nullifier = parsed.key().nullifier.to_bytes();
        let cancelled = match self.gateway.cancel(bytes, &request(), now) {
            // It is not in the set, and there are no keys for its proof.
            Err(AdmitError::Verify(_)) => {
                let spend = parsed.authenticate(&request()).unwrap().without_proof();
                match self.gateway.admit(spend, now).unwrap() {
                    Opened::Admitted(spend) => Cancelled::Fresh(spend),
                    Opened::Settled(settled) => Cancelled::Settled(settled),
                    _ => return "progress".to_owned(),
                }
            }
            other => other.unwrap(),
        };
        match cancelled {
            Cancelled::Fresh(spend) => self.settled(self.issuer.settle(self.set(), &spend, Credits::ZERO, now)),
            Cancelled::Lapsed(spend) => self.settled(self.issuer.settle(self.set(), &spend, spend.metered(), now)),
            Cancelled::Settled(settled) => self.settled(Ok(settled)),
            Cancelled::Running(_) => match self.of(&nullifier) {
                Some(spend) => self.settled(self.issuer.settle(self.set(), &spend, spend.charge(), now)),
                None => "progress".to_owned(),
            },
            Cancelled::Elsewhere => "progress".to_owned(),
        }
    }

    fn transfer(&self, bytes: &[u8], now: Timestamp) -> String {
        let transfer = match self.gateway.screen_transfer(bytes, &request(), now) {
            Ok(transfer) => transfer.without_proof(),
            Err(AdmitError::Expired(_)) => return "expired".to_owned(),
            Err(error) => panic!("{error:?}"),
        };
        match self.issuer.transfer(self.set(), transfer, now).unwrap() {
            Transferred::Settled(halves) => {
                let [give, take] = halves.map(|half| hex::encode(half.settlement().to_bytes()));
                format!("moved {give} {take}")
            }
            Transferred::Parted => "parted".to_owned(),
            Transferred::Conflict { .. } => panic!("an honest transfer is in conflict"),
        }
    }

    fn find(&self, nullifier: &[u8]) -> String {
        let nullifier = Nullifier::from_bytes(nullifier.try_into().unwrap()).unwrap();
        match self.store.spent_set().find(EPOCH[0], &nullifier).unwrap().map(|record| record.state) {
            None => "none".to_owned(),
            Some(RecordState::Open { .. }) => "open".to_owned(),
            Some(RecordState::Settled(settlement)) => format!("settled {}", hex::encode(settlement.to_bytes())),
        }
    }

    fn set(&self) -> &dyn SpentSet {
        self.gateway.set()
    }
}
