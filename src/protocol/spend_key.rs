//! What names a spend.

use halometer_circuits::note::{ContextHash, Nullifier};

use super::epoch::EpochNumber;

/// Names a spend: it is the same spend exactly when all three are the same (protocol, section 5, "Retry").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpendKey {
    /// The spent epoch, whose partition holds the record.
    pub epoch: EpochNumber,
    /// `nf`.
    pub nullifier: Nullifier,
    /// `x`.
    pub context: ContextHash,
}
