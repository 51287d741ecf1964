//! Lanes.

use core::fmt;

use halometer_circuits::note::ValueCommitment;
use zeroize::Zeroizing;

use super::note::Note;
use crate::protocol::{Credits, EpochNumber, SessionKey, Spend, SpendKey};

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
    },
}

pub(super) enum Lane {
    Idle(Note),
    InFlight(Box<InFlight>),
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
}

impl InFlight {
    pub(super) fn change(&self) -> ValueCommitment {
        self.spend.change
    }
}

impl Lane {
    pub(super) fn status(&self) -> LaneStatus {
        match self {
            Self::Idle(note) => LaneStatus::Idle { value: Credits::from_micro(note.value()), epoch: note.epoch },
            Self::InFlight(flight) => LaneStatus::InFlight {
                spend: flight.key,
                charge: flight.spend.charge,
                rest: Credits::from_micro(*flight.hidden),
            },
        }
    }
}
