//! A model-based test of mint, spend, replay, double spend, settle and crash: random histories are run through the real
//! parties and through a model of a few lines, and both have to agree after every step. Only the proofs are left out, by a
//! seam that exists in tests of this crate alone; tests/core has the same attacks with real ones.

use std::collections::BTreeMap;

use halometer_circuits::note::Nullifier;
use proptest::prelude::*;

use crate::gateway::{AdmitError, Opened, Screened};
use crate::issuer::SettleError;
use crate::lifecycle::{AdmittedSpend, SettledSpend};
use crate::protocol::*;
use crate::wallet::{AcceptError, Authorised, LaneId, LaneStatus, PlanError, Wallet};

#[path = "../tests/core/world.rs"]
#[allow(dead_code, reason = "shared with tests/core, which uses all of it")]
pub(crate) mod world;
use world::*;

const CLASSES: [u64; 3] = [5, 10, 20];
/// Wallet 0 is honest. Wallets 1 and 2 are copies of one another, and cheat.
const SEEDS: [u8; 3] = [1, 2, 2];

#[derive(Clone, Debug)]
enum Step {
    /// A wallet spends a lane's frontier under a class. Nothing reaches the gateway yet.
    Pay { wallet: usize, lane: u32, class: usize },
    /// Something that was sent reaches the gateway, for the first time or again.
    Deliver { sent: prop::sample::Index },
    /// The gateway settles something that it admitted, for the first time or again, at some cost.
    Settle { admitted: prop::sample::Index, cost: u64 },
    /// A settlement reaches its wallet, for the first time or again.
    Accept { settled: prop::sample::Index, wallet: usize },
    /// Time passes.
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..3usize, 0..2u32, 0..3usize).prop_map(|(wallet, lane, class)| Step::Pay { wallet, lane, class }),
        5 => index().prop_map(|sent| Step::Deliver { sent }),
        4 => (index(), 0..25u64).prop_map(|(admitted, cost)| Step::Settle { admitted, cost }),
        4 => (index(), 0..3usize).prop_map(|(settled, wallet)| Step::Accept { settled, wallet }),
        1 => prop::sample::select(vec![1, 200, 1_000, 3_600, 30_000]).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// What the model knows of a spend in the set.
struct Known {
    key: SpendKey,
    charge: u64,
    lease: Timestamp,
    settled: Option<SettledSpend>,
}

struct Sent {
    paid: Authorised,
    not_after: Timestamp,
    charge: u64,
}

struct Run {
    world: World,
    wallets: [Wallet; 3],
    now: Timestamp,
    sent: Vec<Sent>,
    admitted: Vec<AdmittedSpend>,
    settled: Vec<SettledSpend>,
    /// The model of the set.
    set: BTreeMap<(EpochNumber, Nullifier), Known>,
    /// What each wallet should be worth.
    worth: [u128; 3],
}

fn issuing(now: Timestamp) -> bool {
    now < T0.after(2 * DAY).before(HOUR)
}

fn spendable(epoch: EpochNumber, now: Timestamp) -> bool {
    now < T0.after((u64::from(epoch.number()) + 1) * DAY).before(HOUR)
}

impl Run {
    fn new() -> Self {
        let world = World::without_keys();
        let wallets = SEEDS.map(|seed| world.funded(seed));
        let worth = [100; 3];
        let empty = (Vec::new(), Vec::new(), Vec::new());
        Self {
            world,
            wallets,
            now: T0,
            sent: empty.0,
            admitted: empty.1,
            settled: empty.2,
            set: BTreeMap::new(),
            worth,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Pay { wallet, lane, class } => self.pay(*wallet, LaneId { payment: 0, lane: *lane }, CLASSES[*class]),
            Step::Deliver { sent } if !self.sent.is_empty() => self.deliver(sent.index(self.sent.len())),
            Step::Settle { admitted, cost } if !self.admitted.is_empty() => {
                self.settle(admitted.index(self.admitted.len()), *cost);
            }
            Step::Accept { settled, wallet } if !self.settled.is_empty() => {
                self.accept(settled.index(self.settled.len()), *wallet);
            }
            Step::Wait { seconds } => self.now = self.now.after(*seconds),
            _ => {}
        }
        self.check();
    }

    fn pay(&mut self, wallet: usize, lane: LaneId, class: u64) {
        let wallet = &mut self.wallets[wallet];
        let status = wallet.lanes().find(|(id, _)| *id == lane).map(|(_, status)| status);
        let planned = wallet.plan(lane, &GATEWAY, micro(class), self.now);
        let job = match (status.unwrap(), planned) {
            (LaneStatus::InFlight { .. }, Err(PlanError::InFlight(_))) => return,
            (LaneStatus::Idle { epoch, .. }, Err(PlanError::NotSpendable(_))) if !spendable(epoch, self.now) => return,
            (LaneStatus::Idle { value, .. }, Err(PlanError::Balance(_))) if value < micro(class) => return,
            (LaneStatus::Idle { epoch, value }, Ok(job)) if spendable(epoch, self.now) && value >= micro(class) => job,
            (status, planned) => panic!("{status:?}: {planned:?}"),
        };
        let paid = wallet.authorise(job.without_proof(), &request(), self.now).unwrap();
        let not_after = Timestamp::from_seconds(((self.now.seconds() - Grid::LAG) / HOUR + 2) * HOUR);
        self.sent.push(Sent { paid, not_after, charge: class });
    }

    fn deliver(&mut self, sent: usize) {
        let Sent { paid, not_after, charge } = &self.sent[sent];
        let (key, now, charge) = (paid.key, self.now, *charge);
        let gateway = &self.world.gateway;
        let opened = match gateway.screen(&paid.opening, &request(), now) {
            Ok(Screened::Known(opened)) => Ok(opened),
            Ok(Screened::Unknown(spend) | Screened::Conflict(spend)) => gateway.admit(spend.without_proof(), now),
            Err(error) => Err(error),
        };
        let late = now.seconds() / HOUR * HOUR + 300 <= now.seconds();
        let accepted = not_after.seconds() == (now.seconds() / HOUR + 2) * HOUR
            || (not_after.seconds() == (now.seconds() / HOUR + 1) * HOUR && !late);
        let place = (key.epoch, key.nullifier);
        let lease = now.after(u64::from(LEASE));
        match (self.set.get_mut(&place), opened) {
            (found, Err(AdmitError::NotSpendable(_)))
                if !spendable(key.epoch, now) && found.as_ref().is_none_or(|known| known.key != key) => {}
            (Some(known), Ok(Opened::InProgress))
                if known.key == key && known.settled.is_none() && now < known.lease => {}
            (Some(known), Ok(Opened::Lapsed(spend)))
                if known.key == key && known.settled.is_none() && known.lease <= now =>
            {
                known.lease = lease;
                self.admitted.push(spend);
            }
            (Some(known), Ok(Opened::Settled(settled)))
                if known.key == key && known.settled == Some(settled.clone()) =>
            {
                self.settled.push(settled);
            }
            (found, Err(AdmitError::Expired(_)))
                if !accepted && found.as_ref().is_none_or(|known| known.key != key) => {}
            // No verifying keys are built here, so that nobody is named.
            (Some(known), Err(AdmitError::AlreadySpent)) if known.key != key && accepted => {}
            (None, Ok(Opened::Admitted(spend))) if accepted && spendable(key.epoch, now) => {
                self.set.insert(place, Known { key, charge, lease, settled: None });
                self.admitted.push(spend);
            }
            (found, opened) => panic!("in the set: {}; opened: {opened:?}", found.is_some()),
        }
    }

    fn settle(&mut self, admitted: usize, cost: u64) {
        let spend = &self.admitted[admitted];
        let key = spend.key();
        let known = self.set.get_mut(&(key.epoch, key.nullifier)).expect("admitted");
        match (&known.settled, self.world.issuer.settle(&*self.world.set, spend, micro(cost), self.now)) {
            (Some(before), Ok(settled)) => assert_eq!(*before, settled, "settled twice"),
            (None, Err(SettleError::AboveCap { .. })) if cost > known.charge => {}
            (None, Err(SettleError::NoIssuingEpoch)) if !issuing(self.now) => {}
            (None, Ok(settled)) if cost <= known.charge && issuing(self.now) => {
                assert_eq!(settled.settlement().refund.micro(), known.charge - cost);
                known.settled = Some(settled.clone());
                self.settled.push(settled);
            }
            (_, outcome) => panic!("{outcome:?}"),
        }
    }

    fn accept(&mut self, settled: usize, wallet: usize) {
        let settled = &self.settled[settled];
        let key = settled.key();
        let waits = self.wallets[wallet]
            .lanes()
            .any(|(_, status)| matches!(status, LaneStatus::InFlight { spend, .. } if spend == key));
        match self.wallets[wallet].accept(&key, settled.settlement()) {
            Ok(accepted) if waits => {
                let known = &self.set[&(key.epoch, key.nullifier)];
                assert_eq!(accepted.cost.micro() + accepted.refund.micro(), known.charge);
                self.worth[wallet] -= u128::from(accepted.cost.micro());
            }
            Err(AcceptError::NotInFlight) if !waits => {}
            outcome => panic!("{outcome:?}"),
        }
    }

    fn check(&self) {
        let books = self.world.issuer.books(&*self.world.set).expect("books that balance");
        let (mut charged, mut refunded, mut held) = (0, 0, 0);
        for known in self.set.values() {
            match &known.settled {
                None => held += u128::from(known.charge),
                Some(settled) => {
                    let refund = settled.settlement().refund.micro();
                    refunded += u128::from(refund);
                    charged += u128::from(known.charge - refund);
                }
            }
        }
        // The copies are one payment.
        assert_eq!(books.minted, 200);
        assert_eq!((books.charged, books.refunded, books.held), (charged, refunded, held));
        assert_eq!(books.minted, books.charged + books.held + books.outstanding);
        for (wallet, worth) in self.wallets.iter().zip(self.worth) {
            assert_eq!(wallet.balance().total(), worth);
        }
    }

    /// The honest wallet's spends are all answered for, as far as their windows allow; then every lane that was settled is
    /// usable, and all that is missing is what its calls cost.
    fn drain(&mut self) {
        for sent in 0..self.sent.len() {
            self.deliver(sent);
        }
        for admitted in 0..self.admitted.len() {
            self.settle(admitted, 0);
        }
        for settled in 0..self.settled.len() {
            self.accept(settled, 0);
        }
        self.check();
        for (_, status) in self.wallets[0].lanes() {
            if let LaneStatus::InFlight { spend, .. } = status {
                let known = self.set.get(&(spend.epoch, spend.nullifier));
                let stuck = known.is_none_or(|known| known.settled.is_none());
                assert!(stuck, "a settled spend whose settlement the wallet did not take");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_history_agrees_with_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.drain();
    }
}
