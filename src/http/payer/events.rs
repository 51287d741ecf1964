//! What a payer tells its owner.

use std::time::Duration;

use crate::protocol::{Credits, Problem, Timestamp};
use crate::wallet::{Accepted, Balance, DisputeKind, LaneId, ReceiptVerdict};

/// Something that happened at the caller's side. There is no nullifier in it, nor what was asked; lanes are names that never
/// leave the wallet. Still nobody but the wallet's owner should be told: times and costs of calls are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A proof was made ahead.
    ProofReady {
        /// For a note of this lane.
        lane: LaneId,
        /// In this time.
        took: Duration,
    },
    /// A proof could not be made; it is tried again.
    ProverFailed,
    /// A call was settled.
    CallPaid {
        /// What it came to.
        accepted: Accepted,
        /// What its receipt says.
        receipt: ReceiptVerdict,
    },
    /// A call was refused. Its spend is pursued.
    CallRefused(Option<Problem>),
    /// A spend whose call ended without a settlement was settled, and its lane can be used again.
    Pursued(Accepted),
    /// Something is wrong with a gateway or the issuer, and a dispute was kept.
    DisputeKept(DisputeKind),
    /// A lane's note was spent by a copy of this wallet, or before its file was put back. Nothing is sent of it any more.
    LaneFrozen(LaneId),
    /// Whether notes from the wallet's file were spent elsewhere could not be asked; it will be asked again.
    QuestionsFailed,
    /// The gateway cannot be reached. It is looked for until it is there; calls are refused meanwhile.
    GatewayAway,
    /// The gateway is there again.
    GatewayThere,
    /// A newer directory is gone by.
    DirectoryAdopted {
        /// Its serial number.
        serial: u64,
    },
    /// Credit was moved between two lanes.
    Transferred {
        /// From this one,
        from: LaneId,
        /// to this one.
        to: LaneId,
        /// So much.
        amount: Credits,
    },
    /// A lane's note was rolled over into the epoch that issues.
    RolledOver(LaneId),
    /// A transfer or a rollover got no settlement. Its spends are pursued.
    UpkeepFailed,
    /// A lane's note can be spent until then and not longer.
    EpochEnds {
        /// The lane.
        lane: LaneId,
        /// The end of its epoch.
        at: Timestamp,
    },
}

/// Is told what happens at a payer, from any of its threads; calls wait meanwhile.
pub trait PayerObserver: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event);
}

/// An observer that does not care.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl PayerObserver for Unobserved {
    fn event(&self, _: &Event) {}
}

impl<F: Fn(&Event) + Send + Sync> PayerObserver for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}

/// How a payer is doing: numbers of lanes unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What the wallet is worth.
    pub balance: Balance,
    /// All lanes.
    pub lanes: usize,
    /// With a spend ready for a call.
    pub ready: usize,
    /// For which a proof is being made.
    pub proving: usize,
    /// That await a settlement.
    pub in_flight: usize,
    /// Of these, disputed.
    pub disputed: usize,
    /// Of which it is not known yet whether their note was spent elsewhere.
    pub unchecked: usize,
    /// Frozen.
    pub frozen: usize,
    /// Calls that wait for a spend.
    pub waiting_calls: usize,
    /// Until then nothing that came from the wallet's file is spent.
    pub quarantined_until: Option<Timestamp>,
    /// Whether the issuer was found to show different callers different directories. Then no call is made any more.
    pub contradicted: bool,
    /// Whether the gateway's set was found to lack spends that it settled for this wallet: it was put back, or lost records.
    pub set_lost: bool,
    /// Serial number of the directory.
    pub serial: u64,
}
