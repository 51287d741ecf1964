//! A note in the wallet.

use halometer_circuits::schnorr::Signature;
use zeroize::Zeroize;

use crate::protocol::EpochNumber;

/// A note: where it stands in its lane, what it is worth, and the issuer's signature. `rho` is derived when it is needed.
pub(super) struct Note {
    pub(super) index: u64,
    /// `v`, micro-credits.
    pub(super) hidden: u64,
    /// `r`, micro-credits. `v + r` fits 64 bits.
    pub(super) refund: u64,
    pub(super) epoch: EpochNumber,
    pub(super) signature: Signature,
    /// Whether it is known that nobody spent it: it came into being in this process, or its nullifier was asked for. What is
    /// read from a file may have been spent by a copy of the file.
    pub(super) unspent: bool,
}

impl Note {
    pub(super) fn value(&self) -> u64 {
        self.hidden + self.refund
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.hidden.zeroize();
        self.refund.zeroize();
    }
}
