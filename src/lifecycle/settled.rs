//! A spend whose cost is fixed.

use crate::protocol::{Settlement, SpendKey};

/// A spend and the settlement that the set holds for it: read back from the store, never straight from the signer, so that
/// there is only ever one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledSpend {
    key: SpendKey,
    settlement: Settlement,
}

impl SettledSpend {
    pub(crate) fn new(key: SpendKey, settlement: Settlement) -> Self {
        Self { key, settlement }
    }

    /// Epoch, `nf` and `x`.
    pub fn key(&self) -> SpendKey {
        self.key
    }

    /// The settlement, to be sent to the caller.
    pub fn settlement(&self) -> &Settlement {
        &self.settlement
    }
}
