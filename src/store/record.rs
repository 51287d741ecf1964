//! What is kept of a spend.

use halometer_circuits::note::ValueCommitment;

use crate::protocol::{Credits, Memo, OwnerId, SessionPublicKey, Settlement, SpendKey, Timestamp};

/// Who may settle an open record, and until when nobody else may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The owner.
    pub owner: OwnerId,
    /// From this instant on anyone may settle.
    pub until: Timestamp,
}

/// How far a recorded spend is.
///
/// ```text
/// (none) --admit--> Open(lease) --settle--> Settled --evidence window--> Settled, evidence erased --epoch dropped--> gone
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordState {
    /// Admitted, not settled.
    Open(Lease),
    /// Settled. What is here is what every answer gives, for ever.
    Settled {
        /// The settlement.
        settlement: Settlement,
        /// When it was written.
        at: Timestamp,
    },
}

/// The record of an admitted spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which spend.
    pub key: SpendKey,
    /// Its session key, under which the settlement can be asked for.
    pub session: SessionPublicKey,
    /// The wallet's memo.
    pub memo: Memo,
    /// What is erased after the evidence window.
    pub evidence: Option<RecordEvidence>,
    /// How far it is.
    pub state: RecordState,
}

/// The part of a record that settles it and that proves a double spend; erased after the evidence window.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordEvidence {
    /// The charge.
    pub charge: Credits,
    /// `C'`.
    pub change: ValueCommitment,
    /// The spend's bytes ([`Spend::LENGTH`](crate::protocol::Spend::LENGTH)), `y` and proof among them.
    pub spend: Vec<u8>,
}

impl core::fmt::Debug for RecordEvidence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RecordEvidence").field("charge", &self.charge).finish_non_exhaustive()
    }
}

/// Sums over the records of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of records that are open.
    pub open: u64,
    /// Sum of their charges, micro-credits.
    pub held: u128,
    /// Number of records that are settled.
    pub settled: u64,
    /// Sum of their costs, micro-credits: what was charged in the end.
    pub cost: u128,
    /// Sum of their refunds, micro-credits.
    pub refunded: u128,
}
