//! Carrying out a transfer (protocol, section 5, "Transfer").

use super::{Issuer, SettleError};
use crate::lifecycle::{CheckedTransfer, Transferred};
use crate::protocol::{Credits, Settlement, Timestamp};
use crate::store::SpentSet;

impl Issuer {
    /// Signs the change of both halves, with a refund of 0 and of the amount, and stores nullifiers and settlements in one
    /// transaction: both or neither. A verified transfer is admitted by that transaction itself, so that a signature that is
    /// not stored has not left this function.
    ///
    /// Write-once: a transfer that the set holds, before its proofs were looked at or since, is answered from there, and nothing
    /// is signed.
    ///
    /// # Errors
    /// [`SettleError`].
    pub fn transfer(
        &self,
        set: &dyn SpentSet,
        transfer: CheckedTransfer,
        now: Timestamp,
    ) -> Result<Transferred, SettleError> {
        let transfer = match transfer {
            CheckedTransfer::Known(known) => return Ok(known),
            CheckedTransfer::Verified(transfer) => *transfer,
        };
        if let Some(settled) = transfer.settled(set)? {
            return Ok(Transferred::Settled(Box::new(settled)));
        }
        // It may have waited in front of the verifier since its terms were checked.
        for spend in transfer.spends() {
            let spendable = self.directory.epoch(spend.epoch).is_some_and(|epoch| epoch.spend.contains(now));
            if !spendable {
                return Err(SettleError::NotSpendable(spend.epoch));
            }
        }
        let epoch = self.directory.issuing(now).ok_or(SettleError::NoIssuingEpoch)?.number;
        let key = self.keys.get(epoch).ok_or(SettleError::NoIssuingEpoch)?;
        let [give, take] = transfer.spends();
        let settlement = |change: &crate::circuits::note::ValueCommitment, refund: Credits| {
            let signature = key.sign(&change.leaf(refund.micro()));
            Settlement { epoch, refund, signature }
        };
        let settlements = [settlement(&give.change, Credits::ZERO), settlement(&take.change, transfer.amount())];
        Ok(transfer.store(set, settlements, now)?)
    }
}
