//! What is outside of a wallet: the real gateway and issuer, and an onlooker.

use std::collections::{BTreeMap, HashMap};

use halometer_circuits::note::{ContextHash, Nullifier, ValueCommitment};

use crate::gateway::{Cancelled, Fetched, Opened, Screened};
use crate::lifecycle::{AdmittedSpend, Transferred};
use crate::protocol::*;
use crate::store::SpentSet;
use crate::testing::world::*;
use crate::wallet::{Journal, NotInFlight, PursuitStep, Wallet};

/// Something that leaves a wallet.
#[derive(Clone)]
pub(crate) enum Message {
    /// With what it costs, if it is worked on to its end.
    Open(Vec<u8>, Option<u64>),
    Roll(Vec<u8>),
    Transfer(Vec<u8>),
    Fetch(Vec<u8>),
    Cancel(Vec<u8>),
}

impl Message {
    /// The step of a pursuit.
    ///
    /// # Errors
    /// [`NotInFlight`] when it is over.
    pub(crate) fn pursuit<J: Journal>(
        wallet: &mut Wallet<J>,
        key: &SpendKey,
        step: PursuitStep,
    ) -> Result<Self, NotInFlight> {
        match step {
            PursuitStep::Fetch => wallet.fetch(key, &errand()).map(Self::Fetch),
            PursuitStep::Cancel => wallet.cancel(key, &errand()).map(Self::Cancel),
        }
    }
}

/// The honest gateway and issuer, and what an onlooker has seen.
pub(crate) struct Outside {
    pub(crate) world: World,
    pub(crate) now: Timestamp,
    /// What the gateway works on.
    running: HashMap<SpendKey, AdmittedSpend>,
    /// All shares that ever left.
    left: BTreeMap<Nullifier, (ContextHash, [u8; 32])>,
    /// The change notes of all spends that ever left.
    changes: HashMap<Nullifier, ValueCommitment>,
    /// The settlement that was answered last.
    pub(crate) last: Option<Settlement>,
}

impl Outside {
    pub(crate) fn new() -> Self {
        let (running, left, changes) = Default::default();
        Self { world: World::without_keys(), now: T0, running, left, changes, last: None }
    }

    /// Something leaves: the onlooker writes down the shares in it.
    pub(crate) fn leave(&mut self, message: &Message) {
        let directory = self.world.issuer.directory().clone();
        let spends: Vec<Spend> = match message {
            Message::Open(bytes, _) | Message::Roll(bytes) => vec![Opening::from_bytes(bytes).unwrap().spend],
            Message::Transfer(bytes) => Transfer::from_bytes(bytes).unwrap().halves.map(|half| half.spend).into(),
            Message::Cancel(bytes) => vec![Cancellation::from_bytes(bytes).unwrap().spend],
            Message::Fetch(bytes) => {
                let following = Following::from_bytes(bytes).unwrap();
                let known = self.left.get(&following.nullifier);
                assert!(known.is_none_or(|(x, _)| *x == following.context));
                return;
            }
        };
        for spend in spends {
            let context = spend.context(&directory.issuer(), directory.epoch(spend.epoch).unwrap());
            let share = (context.hash().unwrap(), spend.share.to_bytes());
            let first = *self.left.entry(spend.nullifier).or_insert(share);
            assert_eq!(first, share, "a second share of a note has left");
            self.changes.insert(spend.nullifier, spend.change);
        }
    }

    /// The change notes that the answer to a message is about.
    pub(crate) fn changes(&self, message: &Message) -> Vec<ValueCommitment> {
        match message {
            Message::Open(bytes, _) | Message::Roll(bytes) => vec![Opening::from_bytes(bytes).unwrap().spend.change],
            Message::Transfer(bytes) => {
                Transfer::from_bytes(bytes).unwrap().halves.map(|half| half.spend.change).into()
            }
            Message::Cancel(bytes) => vec![Cancellation::from_bytes(bytes).unwrap().spend.change],
            // A spend that was pinned and never left is asked for as well; there is no answer to that.
            Message::Fetch(bytes) => {
                self.changes.get(&Following::from_bytes(bytes).unwrap().nullifier).copied().into_iter().collect()
            }
        }
    }

    /// Something arrives at the real gateway.
    pub(crate) fn arrive(&mut self, message: &Message) -> Result<Vec<Settlement>, Problem> {
        let (world, now) = (&self.world, self.now);
        let gateway = &world.gateway;
        let settlement = match message {
            Message::Fetch(bytes) => match gateway.fetch(bytes, &errand()) {
                Ok(Fetched::Settled(settled)) => settled.settlement().clone(),
                Ok(Fetched::InProgress) => return Err(Problem::InProgress),
                Err(error) => return Err(error.problem()),
            },
            Message::Transfer(bytes) => {
                let transfer = gateway.screen_transfer(bytes, &errand(), now).map_err(|error| error.problem())?;
                let outcome = world.issuer.transfer(&*world.set, transfer.without_proof(), now);
                return match outcome {
                    Ok(Transferred::Settled(halves)) => Ok(halves.map(|half| half.settlement().clone()).into()),
                    Ok(_) => Err(Problem::AlreadySpent),
                    Err(error) => Err(error.problem()),
                };
            }
            Message::Open(bytes, _) | Message::Roll(bytes) => {
                let screened = match message {
                    // A rollover that is sent again as a call is refused, as it should be.
                    Message::Open(..) => gateway.screen(bytes, &errand(), now),
                    _ => gateway.screen_rollover(bytes, &errand(), now),
                };
                let opened = match screened.map_err(|error| error.problem())? {
                    Screened::Known(opened) => Ok(opened),
                    Screened::Unknown(spend) | Screened::Conflict(spend) => gateway.admit(spend.without_proof(), now),
                };
                match opened.map_err(|error| error.problem())? {
                    Opened::Settled(settled) => settled.settlement().clone(),
                    Opened::InProgress => return Err(Problem::InProgress),
                    Opened::Admitted(spend) => match message {
                        Message::Open(_, None) => {
                            self.running.insert(spend.key(), spend);
                            return Err(Problem::InProgress);
                        }
                        Message::Open(_, Some(cost)) => self.settle(&spend, *cost),
                        _ => self.settle(&spend, 0),
                    },
                    Opened::Lapsed(spend) => self.settle(&spend, 0),
                }
            }
            Message::Cancel(bytes) => {
                let cancelled = gateway.screen_cancel(bytes, &errand(), now).and_then(|(keys, screened)| {
                    let opened = match screened {
                        Screened::Known(opened) => opened,
                        Screened::Unknown(spend) | Screened::Conflict(spend) => {
                            gateway.admit(spend.without_proof(), now)?
                        }
                    };
                    gateway.cancelled(keys, opened)
                });
                match cancelled.map_err(|error| error.problem())? {
                    Cancelled::Fresh(spend) | Cancelled::Lapsed(spend) => self.settle(&spend, 0),
                    Cancelled::Settled(settled) => settled.settlement().clone(),
                    Cancelled::Running(key) => {
                        let spend = self.running.remove(&key).ok_or(Problem::InProgress)?;
                        self.settle(&spend, 2)
                    }
                    Cancelled::Elsewhere => return Err(Problem::WrongOwner),
                }
            }
        };
        self.last = Some(settlement.clone());
        Ok(vec![settlement])
    }

    fn settle(&self, spend: &AdmittedSpend, cost: u64) -> Settlement {
        let cost = micro(cost.min(spend.cap().micro()));
        self.world.issuer.settle(&*self.world.set, spend, cost, self.now).unwrap().settlement().clone()
    }

    /// All that is spent of an epoch.
    pub(crate) fn spent(&self, epoch: EpochNumber) -> Vec<Nullifier> {
        let records = self.world.set.scan(epoch, None, usize::MAX).unwrap();
        records.into_iter().map(|record| record.key.nullifier).collect()
    }
}
