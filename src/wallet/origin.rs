//! Where the keys of a payment come from, and where its lanes begin, when the wallet that was funded is not the one that has it.

use zeroize::Zeroize as _;

use crate::protocol::{Credits, DeviceId, LANES, Settlement, Timestamp};

/// Of a payment of a restored wallet: whose keys its notes have, and what the spent set said of its lanes (protocol, section 7).
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentOrigin {
    /// The device that it was funded on.
    pub device: DeviceId,
    /// Its number on that device.
    pub number: u64,
    /// Until then no note of it is spent: spends that the lost device has sent may still arrive. 1970 for a payment of this
    /// wallet's own.
    pub held_until: Timestamp,
    /// Where each lane begins.
    pub lanes: [LaneOrigin; LANES],
}

impl core::fmt::Debug for PaymentOrigin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PaymentOrigin")
            .field("device", &self.device)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// Where a lane begins.
#[derive(Clone, PartialEq, Eq)]
pub enum LaneOrigin {
    /// With the note that was minted.
    Mint,
    /// With the change of a spend that another device made.
    Change {
        /// Index of the change note.
        index: u64,
        /// `v'`.
        hidden: Credits,
        /// The settlement of the spend.
        settlement: Settlement,
    },
    /// Nowhere: its credit is void, or cannot be had from the root secret. Nothing of it is ever spent.
    Closed,
}

/// Without what it is worth.
impl core::fmt::Debug for LaneOrigin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Mint => "Mint",
            Self::Change { .. } => "Change",
            Self::Closed => "Closed",
        })
    }
}

impl Drop for LaneOrigin {
    fn drop(&mut self) {
        if let Self::Change { hidden, .. } = self {
            hidden.zeroize();
        }
    }
}
