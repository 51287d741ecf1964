//! Lanes.

use core::fmt;

use halometer_circuits::note::ValueCommitment;
use zeroize::Zeroizing;

use super::note::Note;
use super::pursuit::Pursuit;
use crate::protocol::{Credits, EpochNumber, SessionKey, Spend, SpendKey, Timestamp};

/// Names a lane of a wallet. Local: it never leaves the wallet but sealed in a memo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// Number of the payment in the wallet, from 0.
    pub payment: u64,
    /// Number of the lane in the payment, from 0 to 7.
    pub lane: u32,
}

impl fmt::Display for LaneId {
    /// `payment.lane`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.payment, self.lane)
    }
}

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneStatus {
    /// Its frontier can be spent.
    Idle {
        /// What the frontier is worth.
        value: Credits,
        /// The epoch that it can be spent in.
        epoch: EpochNumber,
    },
    /// Its frontier was sent, and the settlement is awaited.
    InFlight {
        /// The spend.
        spend: SpendKey,
        /// Its charge.
        charge: Credits,
        /// What is left in any case.
        rest: Credits,
        /// Whether it ended in a dispute: it goes on being asked for, and its owner should look into it.
        disputed: bool,
    },
    /// It was read from a file, and whether its frontier was spent meanwhile, by another copy of the file, is not known yet.
    Unchecked {
        /// What the frontier is worth, if it is not spent.
        value: Credits,
        /// The epoch that it can be spent in.
        epoch: EpochNumber,
    },
    /// Its frontier is spent, by a copy of this wallet or by this wallet before its file was put back. Nothing is sent of it any
    /// more: a second spend would reveal the account.
    Frozen {
        /// What the frontier was worth before.
        value: Credits,
    },
}

pub(super) enum Lane {
    Idle(Note),
    InFlight(Box<InFlight>),
    Frozen(Note),
}

/// A spend that was sent and not settled.
pub(super) struct InFlight {
    pub(super) key: SpendKey,
    pub(super) spend: Spend,
    pub(super) session: SessionKey,
    /// `v'`.
    pub(super) hidden: Zeroizing<u64>,
    /// What the taking half of a transfer brings in.
    pub(super) takes: Credits,
    /// Index of the change note.
    pub(super) next: u64,
    /// Number of the next request in the session.
    pub(super) sequence: u64,
    /// When it was pinned.
    pub(super) pinned_at: Timestamp,
    /// Whether it was made by this process, from a note that was known to be unspent: then nobody else has its change.
    pub(super) ours: bool,
    /// How its settlement is got.
    pub(super) pursuit: Pursuit,
}

impl InFlight {
    pub(super) fn change(&self) -> ValueCommitment {
        self.spend.change
    }
}

impl Lane {
    pub(super) fn status(&self) -> LaneStatus {
        match self {
            Self::Idle(note) => {
                let (value, epoch) = (Credits::from_micro(note.value()), note.epoch);
                if note.unspent { LaneStatus::Idle { value, epoch } } else { LaneStatus::Unchecked { value, epoch } }
            }
            Self::Frozen(note) => LaneStatus::Frozen { value: Credits::from_micro(note.value()) },
            Self::InFlight(flight) => LaneStatus::InFlight {
                spend: flight.key,
                charge: flight.spend.charge,
                rest: Credits::from_micro(*flight.hidden),
                disputed: flight.pursuit.disputed(),
            },
        }
    }
}
