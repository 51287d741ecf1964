//! What a restore found, and the wallet that comes of it.

use rand_core::{CryptoRng, Rng};

use super::gap::DEVICES;
use super::{Restore, RestoreError};
use crate::protocol::{
    CLOCK_TOLERANCE, Credits, DeviceId, Directory, EpochNumber, Grid, LANES, MintAnswer, MintFound, PaymentId, RootKey,
    Settlement, SignedDirectory, Timestamp,
};
use crate::wallet::origin::{LaneOrigin, PaymentOrigin};
use crate::wallet::root_secret::PaymentPath;
use crate::wallet::{Journal, LaneId, OpenError, PaymentEntry, RootSecret, Wallet};

/// What is left of an epoch for its notes to be rolled over, when they are held until it issues no more, seconds.
const TO_ROLL_OVER: u64 = 2 * 86_400;

/// What was found of a lane.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneFound {
    /// None of its notes is spent: it has what was minted.
    Mint {
        /// What that is.
        value: Credits,
        /// The epoch that it can be spent in.
        epoch: EpochNumber,
    },
    /// It has the change of its last spend.
    Change {
        /// Index of the change note.
        index: u64,
        /// `v'`.
        hidden: Credits,
        /// The settlement.
        settlement: Settlement,
    },
    /// Its epoch is over: nothing of it can be spent.
    Void {
        /// What it was worth. Where the last spends are not on record any more it may have been less.
        at_most: Credits,
    },
    /// Its last spend is being worked on. Restored once more when that is settled, it has this and what comes back.
    Running {
        /// What it has whatever the spend costs.
        rest: Credits,
    },
    /// Its last spend is said to be there, and no party has a memo or settlement of it that holds. Perhaps a gateway keeps back a spend
    /// that it was sent. Nothing of the lane is spent: that could reveal the account.
    Contested,
    /// Its last spend was made by an earlier release, and its settlement is told to the device alone that made it.
    Untold {
        /// What it had whatever the spend cost.
        rest: Credits,
    },
}

/// Which of them it is.
impl core::fmt::Debug for LaneFound {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Mint { .. } => "Mint",
            Self::Change { .. } => "Change",
            Self::Void { .. } => "Void",
            Self::Running { .. } => "Running",
            Self::Contested => "Contested",
            Self::Untold { .. } => "Untold",
        })
    }
}

impl LaneFound {
    /// What can be spent of it.
    pub fn available(&self) -> Credits {
        match self {
            Self::Mint { value, .. } => *value,
            Self::Change { hidden, settlement, .. } => hidden.checked_add(settlement.refund).unwrap_or_default(),
            _ => Credits::ZERO,
        }
    }

    fn epoch(&self) -> Option<EpochNumber> {
        match self {
            Self::Mint { epoch, .. } => Some(*epoch),
            Self::Change { settlement, .. } => Some(settlement.epoch),
            _ => None,
        }
    }

    fn origin(&self) -> LaneOrigin {
        match self {
            Self::Mint { .. } => LaneOrigin::Mint,
            Self::Change { index, hidden, settlement } => {
                LaneOrigin::Change { index: *index, hidden: *hidden, settlement: settlement.clone() }
            }
            _ => LaneOrigin::Closed,
        }
    }
}

/// A lane of the restored wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneReport {
    /// The lane.
    pub lane: LaneId,
    /// What was found of it.
    pub found: LaneFound,
}

/// A payment, as it is being looked into.
pub(super) struct FoundPayment {
    pub(super) path: PaymentPath,
    pub(super) payment: PaymentId,
    pub(super) amounts: [Credits; LANES],
    pub(super) answer: MintAnswer,
    pub(super) lanes: [Option<LaneFound>; LANES],
}

impl FoundPayment {
    pub(super) fn new(path: PaymentPath, found: MintFound) -> Self {
        let MintFound { payment, amounts, answer } = found;
        Self { path, payment, amounts, answer, lanes: Default::default() }
    }
}

/// A wallet that was restored and is in no journal yet. Holds secrets.
pub struct Restored {
    pub(in crate::wallet) root: RootSecret,
    pub(in crate::wallet) device: DeviceId,
    pub(in crate::wallet) pinned: RootKey,
    pub(in crate::wallet) signed: SignedDirectory,
    pub(in crate::wallet) payments: Vec<PaymentEntry>,
    lanes: Vec<LaneReport>,
    held_until: Timestamp,
}

impl core::fmt::Debug for Restored {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Restored").field("payments", &self.payments.len()).finish_non_exhaustive()
    }
}

impl Restore {
    /// Ends it. What is restored is held until every spend that the lost device can have sent has been recorded or has expired, or as
    /// the options say; and what is new has a device of its own, drawn among the next ones, so that of two restores at once most
    /// probably none has the other's keys.
    ///
    /// # Errors
    /// [`RestoreError::Unfinished`], [`RestoreError::Nothing`].
    pub fn finish<R: Rng + CryptoRng>(self, now: Timestamp, rng: &mut R) -> Result<Restored, RestoreError> {
        if self.asked.is_some() || self.payments.iter().any(|payment| payment.lanes.iter().any(Option::is_none)) {
            return Err(RestoreError::Unfinished);
        }
        if self.payments.is_empty() {
            return Err(RestoreError::Nothing);
        }
        let free = self.scans.free();
        let Self { root, pinned, signed, directory, until_epoch_ends, payments: mut found, .. } = self;
        found.sort_by_key(|payment| (payment.path.device.to_bytes(), payment.path.payment));
        let (mut payments, mut lanes, mut held) = (Vec::new(), Vec::new(), Timestamp::default());
        for (number, payment) in (0..).zip(found) {
            let known = payment.lanes.map(|lane| lane.unwrap_or(LaneFound::Void { at_most: Credits::ZERO }));
            let held_until = hold(&directory, &known, until_epoch_ends, now);
            held = held.max(held_until);
            let PaymentPath { device, payment: own, .. } = payment.path;
            let begins = known.each_ref().map(LaneFound::origin);
            let origin = PaymentOrigin { device, number: own, held_until, lanes: begins };
            payments.push(PaymentEntry {
                number,
                payment: payment.payment,
                amounts: payment.amounts,
                requested_at: None,
                minted: Some(payment.answer.response),
                seal: Some(payment.answer.seal),
                origin: Some(Box::new(origin)),
            });
            let reports = (0..).zip(known).map(|(lane, found)| (LaneId { payment: number, lane }, found));
            lanes.extend(reports.map(|(lane, found)| LaneReport { lane, found }));
        }
        // Fewer than end a search, so that this one is found by the next.
        let step = u64::from(rng.next_u32()) % (DEVICES / 2);
        let device = DeviceId::from_number(free + step);
        Ok(Restored { root, device, pinned, signed, payments, lanes, held_until: held })
    }
}

/// Until when the notes of a payment are held.
fn hold(directory: &Directory, lanes: &[LaneFound], until_epoch_ends: bool, now: Timestamp) -> Timestamp {
    // A clock that is behind would end it too early; that much is known of the time.
    let now = now.max(directory.parts().published);
    let expired = directory.grid().callers_not_after(now).after(Grid::GRACE + CLOCK_TOLERANCE);
    if !until_epoch_ends {
        return expired;
    }
    let worth = lanes.iter().filter(|found| !found.available().is_zero());
    let epochs: Vec<_> = worth.filter_map(|found| directory.epoch(found.epoch()?)).collect();
    let issued = epochs.iter().map(|epoch| epoch.issue.until).max().unwrap_or(expired);
    let first = epochs.iter().map(|epoch| epoch.spend.until.before(TO_ROLL_OVER)).min().unwrap_or(expired);
    expired.max(issued.min(first))
}

impl Restored {
    /// The lanes.
    pub fn lanes(&self) -> &[LaneReport] {
        &self.lanes
    }

    /// How many payments there are.
    pub fn payments(&self) -> usize {
        self.payments.len()
    }

    /// The device whose keys what is new has.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Until when none of all this is spent.
    pub fn held_until(&self) -> Timestamp {
        self.held_until
    }

    /// Writes it into an empty journal, and begins a wallet with it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn into_wallet<J: Journal>(self, mut journal: J) -> Result<Wallet<J>, OpenError> {
        let Self { root, device, pinned, signed, payments, .. } = self;
        Self::write(&signed, &payments, &mut journal)?;
        Wallet::new(root, device, pinned, &signed, journal)
    }

    /// Writes all but the secrets.
    pub(in crate::wallet) fn write<J: Journal>(
        signed: &SignedDirectory,
        payments: &[PaymentEntry],
        journal: &mut J,
    ) -> Result<(), OpenError> {
        // First, so that whatever is there after a crash is no new wallet's.
        journal.put_directory(signed)?;
        for payment in payments {
            journal.put_payment(payment)?;
        }
        Ok(())
    }
}
