//! Settling (protocol, section 5, "Settle").

use super::Issuer;
use crate::lifecycle::{AdmittedSpend, SettledSpend};
use crate::protocol::{Credits, EpochNumber, Fault, Problem, Settlement, Timestamp};
use crate::store::{SpentSet, StoreError};

/// Why a spend was not settled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The cost is above what the spend may cost. The gateway is at fault: work stops at the cap.
    #[error("a cost of {cost} is above the cap of {cap}")]
    AboveCap {
        /// The cost.
        cost: Credits,
        /// The cap.
        cap: Credits,
    },
    /// The cost is no multiple of the quantum. The gateway is at fault.
    #[error("a cost of {cost} is no multiple of the quantum {quantum}")]
    NotQuantised {
        /// The cost.
        cost: Credits,
        /// The quantum.
        quantum: Credits,
    },
    /// A transfer waited over the end of an epoch. The caller may be at fault.
    #[error("epoch {0} is not spendable now")]
    NotSpendable(EpochNumber),
    /// No epoch issues now, or its key is not here. The issuer is at fault.
    #[error("no epoch issues now")]
    NoIssuingEpoch,
    /// The set failed, or the spend belongs to another process by now. Ask again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SettleError {
    /// The problem on the wire.
    pub fn problem(&self) -> Problem {
        match self {
            Self::NotSpendable(_) => Problem::UnknownEpoch,
            Self::Store(StoreError::PartitionClosed(_) | StoreError::PartitionRetired(_)) => Problem::UnknownEpoch,
            Self::Store(StoreError::NotOwner) => Problem::WrongOwner,
            _ => Problem::StoreUnavailable,
        }
    }

    /// The party at fault.
    pub fn fault(&self) -> Fault {
        self.problem().fault()
    }
}

impl Issuer {
    /// Fixes the cost of an admitted spend and signs its change with `r = charge - cost` under the epoch that issues now.
    ///
    /// Write-once: when the set holds a settlement already, that one is the answer whatever the cost now is, and nothing is
    /// signed. What is answered is always what the set holds.
    ///
    /// # Errors
    /// [`SettleError`].
    pub fn settle(
        &self,
        set: &dyn SpentSet,
        spend: &AdmittedSpend,
        cost: Credits,
        now: Timestamp,
    ) -> Result<SettledSpend, SettleError> {
        if let Some(settled) = spend.settled(set)? {
            return Ok(settled);
        }
        let cap = spend.cap();
        let refund = spend.charge().checked_sub(cost).filter(|_| cost <= cap);
        let refund = refund.ok_or(SettleError::AboveCap { cost, cap })?;
        let quantum = self.directory.quantum();
        if !cost.is_multiple_of(quantum) {
            return Err(SettleError::NotQuantised { cost, quantum });
        }
        let epoch = self.directory.issuing(now).ok_or(SettleError::NoIssuingEpoch)?.number;
        let key = self.keys.get(epoch).ok_or(SettleError::NoIssuingEpoch)?;
        let signature = key.sign(&spend.change_leaf(refund));
        Ok(spend.settle(set, &Settlement { epoch, refund, signature }, now)?)
    }
}
