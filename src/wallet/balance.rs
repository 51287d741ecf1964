//! What a wallet is worth.

use super::{Journal, LaneId, LaneStatus, Wallet};
use crate::protocol::{EpochNumber, Timestamp};

/// The credit of a wallet, micro-credits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// In lanes that can be spent from.
    pub available: u128,
    /// In lanes that await a settlement: what is left of their notes in any case.
    pub waiting: u128,
    /// The charges of the spends that await a settlement; what they do not cost comes back.
    pub reserved: u128,
    /// In lanes and payments whose settlement or mint is disputed, charges included: it is asked for still, and not gone.
    pub disputed: u128,
    /// In lanes of which it is not known yet whether a copy of the wallet spent them.
    pub unchecked: u128,
    /// In lanes whose epoch is over: it can neither be spent nor rolled over any more.
    pub void: u128,
    /// Of what is available or unchecked, what will be void soon if it is not rolled over or spent.
    pub ending: u128,
    /// In lanes that are frozen: most likely gone, or with a copy of the wallet.
    pub frozen: u128,
}

impl Balance {
    /// All of it but what is frozen or void, if what is reserved came back whole and nothing was spent elsewhere.
    pub const fn total(&self) -> u128 {
        self.available + self.waiting + self.reserved + self.disputed + self.unchecked
    }
}

impl<J: Journal> Wallet<J> {
    /// What the wallet is worth.
    pub fn balance(&self) -> Balance {
        let disputed = self.payments.values().filter(|payment| payment.disputed).flat_map(|payment| &payment.amounts);
        let disputed = disputed.map(|amount| u128::from(amount.micro())).sum();
        self.lanes().fold(Balance { disputed, ..Balance::default() }, |mut sum, (_, status)| {
            match status {
                LaneStatus::Idle { value, .. } => sum.available += u128::from(value.micro()),
                LaneStatus::Unchecked { value, .. } => sum.unchecked += u128::from(value.micro()),
                LaneStatus::Frozen { value } => sum.frozen += u128::from(value.micro()),
                LaneStatus::InFlight { charge, rest, disputed: true, .. } => {
                    sum.disputed += u128::from(rest.micro()) + u128::from(charge.micro());
                }
                LaneStatus::InFlight { charge, rest, .. } => {
                    sum.waiting += u128::from(rest.micro());
                    sum.reserved += u128::from(charge.micro());
                }
            }
            sum
        })
    }

    /// The same at this time: what is void counts as that, and what will be within so many seconds is told.
    pub fn balance_at(&self, now: Timestamp, soon: u64) -> Balance {
        let mut sum = self.balance();
        for (_, status) in self.lanes() {
            let (value, epoch, unchecked) = match status {
                LaneStatus::Idle { value, epoch } => (u128::from(value.micro()), epoch, false),
                LaneStatus::Unchecked { value, epoch } => (u128::from(value.micro()), epoch, true),
                _ => continue,
            };
            match self.void_from(epoch) {
                Some(until) if now >= until => {
                    sum.void += value;
                    if unchecked { sum.unchecked -= value } else { sum.available -= value }
                }
                Some(until) if now.after(soon) >= until => sum.ending += value,
                _ => {}
            }
        }
        sum
    }

    /// From when on notes of an epoch can neither be spent nor rolled over. What the directory does not have any more is over long since;
    /// none, in that case, where the directory is older than the epoch.
    pub fn void_from(&self, epoch: EpochNumber) -> Option<Timestamp> {
        let directory = self.directory();
        match directory.epoch(epoch) {
            Some(known) => Some(known.spend.until),
            None => directory.epochs().iter().any(|known| known.number > epoch).then_some(Timestamp::from_seconds(0)),
        }
    }

    /// The lanes and what they are doing.
    pub fn lanes(&self) -> impl Iterator<Item = (LaneId, LaneStatus)> + '_ {
        self.lanes.iter().map(|(id, lane)| (*id, lane.status()))
    }
}
