//! Judging a gateway's receipt (protocol, section 5, "Receipt").

use super::{Accepted, Dispute, DisputeKind, Journal, JournalEntry, JournalError, OutcomeNote, Wallet};
use crate::protocol::{Credits, Directory, Receipt, ReceiptSubject, Spend, SpendKey, Timestamp};

/// What a receipt was found to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReceiptVerdict {
    /// The gateway gave none. What it took is at most the charge, and there is no evidence of what for.
    Absent,
    /// It is the gateway's, its cost is what was settled, and no more than the tariff says for its usage.
    Fair,
    /// It is the gateway's and its cost is what was settled, but it does not say what for.
    Unexplained,
    /// It is not this gateway's for this spend and request; it shows nothing.
    NotSigned,
    /// Its cost is above what the tariff says for its usage. A dispute is kept.
    Overcharged,
    /// Its cost is not what was settled. A dispute is kept.
    Contradicted,
}

impl<J: Journal> Wallet<J> {
    /// Judges the receipt of a settled spend, given its bytes if the gateway gave one; keeps it, if it has the form of one, and
    /// the time, with the spend's history, and keeps a dispute where it shows that the gateway took too much.
    ///
    /// # Errors
    /// [`JournalError`]. The credit is not concerned: the settlement was taken before.
    pub fn take_receipt(
        &mut self,
        key: &SpendKey,
        accepted: &Accepted,
        receipt: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<ReceiptVerdict, JournalError> {
        let entry = self.journal.entry(&key.nullifier)?.filter(|entry| entry.key == *key);
        let entry = entry.ok_or(JournalError::OtherContext)?;
        let verdict = receipt.map_or(ReceiptVerdict::Absent, |bytes| self.judge(&entry, accepted, bytes));
        // What has not even the form of one may be of any length, and shows nothing.
        let receipt = receipt.filter(|bytes| Receipt::from_bytes(bytes).is_ok()).map(<[u8]>::to_vec);
        let kind = match verdict {
            ReceiptVerdict::Overcharged => Some(DisputeKind::Overcharged),
            ReceiptVerdict::Contradicted => Some(DisputeKind::Contradicted),
            _ => None,
        };
        if let Some(kind) = kind {
            self.journal.put_dispute(&Dispute {
                kind,
                at: now,
                gateway: Spend::from_bytes(&entry.spend).ok().map(|spend| spend.gateway),
                content: entry.request.map(|request| request.content),
                spend: Some(entry.spend),
                settlement: entry.settlement,
                receipt: receipt.clone(),
                mint: None,
                directories: vec![self.signed.clone()],
                heard: Vec::new(),
            })?;
        }
        self.journal.annotate(key, &OutcomeNote { settled_at: now, receipt })?;
        Ok(verdict)
    }

    fn judge(&self, entry: &JournalEntry, accepted: &Accepted, receipt: &[u8]) -> ReceiptVerdict {
        let signed = || {
            let (receipt, spend) = (Receipt::from_bytes(receipt).ok()?, Spend::from_bytes(&entry.spend).ok()?);
            let content = entry.request.as_ref()?.content;
            let gateway = self.directory.gateway(&spend.gateway)?;
            let subject = ReceiptSubject { issuer: self.issuer(), gateway: gateway.id, spend: entry.key, content };
            receipt.verify(&gateway.key, &subject).ok().map(|()| (receipt, spend))
        };
        let Some((receipt, spend)) = signed() else { return ReceiptVerdict::NotSigned };
        if receipt.cost() != accepted.cost {
            return ReceiptVerdict::Contradicted;
        }
        // A directory that came meanwhile may have the tariff no more; and some gateways do not say what they metered.
        match fair_cost(&receipt, &spend, &self.directory) {
            None => ReceiptVerdict::Unexplained,
            Some(fair) if receipt.cost() > fair => ReceiptVerdict::Overcharged,
            Some(_) => ReceiptVerdict::Fair,
        }
    }
}

/// The most that a tariff of the directory lets the receipt's usage cost. None where the directory has the tariff no more, or the
/// receipt does not say what was used.
pub(super) fn fair_cost(receipt: &Receipt, spend: &Spend, directory: &Directory) -> Option<Credits> {
    let tariff = directory.parts().tariffs.iter().find(|tariff| tariff.digest() == spend.tariff);
    let tariff = tariff.filter(|_| !receipt.usage().is_empty())?;
    let usage = receipt.usage().iter().map(|(item, units)| (item.as_str(), *units));
    Some(tariff.cost(usage, directory.quantum()).unwrap_or(spend.charge))
}
