//! A past that was never lived: records as the spends of a wallet leave them, without proofs. For tests and measurements.

use halometer_circuits::note::{ContextHash, Nullifier};

use crate::issuer::Issuer;
use crate::protocol::{Credits, DeviceId, EpochNumber, LANES, Memo, OwnerId, Settlement, SpendTag, Timestamp};
use crate::store::{Lease, Record, RecordEvidence, RecordKey, RecordState, SpentSet, StoreError};
use crate::wallet::RootSecret;
use crate::wallet::memo::MemoContents;
use crate::wallet::root_secret::{NotePath, PaymentPath};

/// Which wallet's past.
pub struct Past<'a> {
    /// Its root secret.
    pub root: &'a RootSecret,
    /// The device that the payment was made on.
    pub device: DeviceId,
    /// The payment's number there.
    pub payment: u64,
    /// What was minted on its lanes.
    pub amounts: [Credits; LANES],
}

impl core::fmt::Debug for Past<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Past(..)")
    }
}

/// What one spend leaves.
struct Left {
    nullifier: Nullifier,
    memo: Memo,
    change: halometer_circuits::note::ValueCommitment,
    hidden: u64,
}

impl Past<'_> {
    fn spend(&self, issuer: &Issuer, lane: u32, index: u64, hidden: u64) -> Left {
        let name = issuer.directory().issuer();
        let payment = PaymentPath { issuer: name, device: self.device, payment: self.payment };
        let path = NotePath { payment, lane, index };
        let account = self.root.account(&payment);
        let nullifier = account.nullifier(&self.root.note(&path));
        let next = NotePath { index: index + 1, ..path };
        let (device, payment) = (self.device, self.payment);
        let contents = MemoContents { device, payment, lane, index: next.index, hidden: Credits::from_micro(hidden) };
        Left {
            nullifier,
            memo: self.root.seal(&name, &nullifier, &contents),
            change: account.account_id().commit(&self.root.note(&next), hidden),
            hidden,
        }
    }

    /// Writes so many spends of every lane into a partition, each with a charge of 2 and a cost of 1, all settled under the partition's
    /// own epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn write(
        &self,
        set: &dyn SpentSet,
        issuer: &Issuer,
        epoch: EpochNumber,
        spends: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let owner = OwnerId::from_bytes([7; 16]);
        let (charge, refund) = (Credits::from_micro(2), Credits::from_micro(1));
        let failed = || StoreError::Failed("the issuer has no key of this epoch".into());
        let key = issuer.epoch_key(epoch).ok_or_else(failed)?;
        for lane in 0..LANES as u32 {
            let minted = self.amounts[lane as usize].micro();
            let lived: Vec<_> = (0..spends)
                // The first note has what was minted as its public value.
                .map(|index| self.spend(issuer, lane, index, minted - 2 - index))
                .collect();
            let record = |left: &Left| {
                let tag = SpendTag::from_bytes(left.nullifier.to_bytes());
                let context = ContextHash::hash(b"halometer1-ctext", &[&left.nullifier.to_bytes()]);
                let context = context.ok_or_else(|| StoreError::Failed("the context hash is zero".into()))?;
                let evidence = RecordEvidence { context, charge, change: left.change, spend: Vec::new() };
                let lease = Lease { owner, until: now };
                let state = RecordState::Open { lease, metered: Credits::ZERO };
                let key = RecordKey { epoch, nullifier: left.nullifier, tag };
                Ok(Record { key, memo: left.memo, evidence: Some(evidence), state })
            };
            let records = lived.iter().map(record).collect::<Result<Vec<_>, StoreError>>()?;
            let keys: Vec<_> = records.iter().map(|record| record.key).collect();
            for inserted in set.insert_all(records, now) {
                inserted?;
            }
            for (left, record) in lived.iter().zip(&keys) {
                let signature = key.sign(&left.change.leaf(refund.micro()));
                set.settle(record, owner, now, &Settlement { epoch, refund, signature })?;
            }
            debug_assert!(lived.last().is_none_or(|left| left.hidden == minted - 1 - spends));
        }
        Ok(())
    }
}
