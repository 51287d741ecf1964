//! What names a spend.

use halometer_circuits::note::{ContextHash, Nullifier};

use super::epoch::EpochNumber;

/// Names a spend: it is the same spend exactly when all three are the same (protocol, section 5, "Retry").
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpendKey {
    /// The spent epoch, whose partition holds the record.
    pub epoch: EpochNumber,
    /// `nf`.
    pub nullifier: Nullifier,
    /// `x`.
    pub context: ContextHash,
}

/// Without nullifier and context: what is printed ends up in logs, and a log of nullifiers is a log of calls by caller
/// once an account secret leaks.
impl core::fmt::Debug for SpendKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SpendKey").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
