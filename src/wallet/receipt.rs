//! Judging a gateway's receipt (protocol, section 5, "Receipt").

use super::{Accepted, Dispute, DisputeKind, HeardNote, Journal, JournalEntry, JournalError, OutcomeNote, Wallet};
use crate::hex;
use crate::protocol::{Credits, Digest, Receipt, ReceiptSubject, Request, Spend, SpendKey, Tariff, Timestamp};

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

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Receipted<'a> {
    /// The spend.
    pub key: &'a SpendKey,
    /// What it came to.
    pub accepted: &'a Accepted,
    /// The request that was paid for.
    pub request: &'a Request<'a>,
    /// The bytes of the gateway's signed [`Receipt`], if it gave one.
    pub receipt: Option<&'a [u8]>,
}

impl<J: Journal> Wallet<J> {
    /// Judges the receipt of a settled spend, keeps it with the spend's history, and keeps a dispute where it shows that the
    /// gateway took too much.
    ///
    /// # Errors
    /// [`JournalError`]. The credit is not concerned: the settlement was taken before.
    pub fn take_receipt(&mut self, receipted: &Receipted<'_>, now: Timestamp) -> Result<ReceiptVerdict, JournalError> {
        let Receipted { key, accepted, request, receipt } = receipted;
        let entry = self.journal.entry(&key.nullifier)?.filter(|entry| entry.key == **key);
        let entry = entry.ok_or(JournalError::OtherContext)?;
        let verdict = self.judge(&entry, accepted, request.digest(), *receipt);
        let receipt = receipt.map(<[u8]>::to_vec);
        let kind = match verdict {
            ReceiptVerdict::Overcharged => Some(DisputeKind::Overcharged),
            ReceiptVerdict::Contradicted => Some(DisputeKind::Contradicted),
            _ => None,
        };
        if let Some(kind) = kind {
            self.put_receipt_dispute(kind, entry, receipt.clone(), request, now)?;
        }
        self.journal.annotate(key, &OutcomeNote { settled_at: now, receipt })?;
        Ok(verdict)
    }

    /// Keeps when a spend was settled, for the history, where there is no receipt: its settlement was asked for.
    ///
    /// # Errors
    /// [`JournalError`]. The credit is not concerned.
    pub fn settled_at(&mut self, key: &SpendKey, now: Timestamp) -> Result<(), JournalError> {
        self.journal.annotate(key, &OutcomeNote { settled_at: now, receipt: None })
    }

    fn judge(
        &self,
        entry: &JournalEntry,
        accepted: &Accepted,
        request: Digest,
        receipt: Option<&[u8]>,
    ) -> ReceiptVerdict {
        let Some(receipt) = receipt else { return ReceiptVerdict::Absent };
        let signed = || {
            let (receipt, spend) = (Receipt::from_bytes(receipt).ok()?, Spend::from_bytes(&entry.spend).ok()?);
            let gateway = self.directory.gateway(&spend.gateway)?;
            let subject = ReceiptSubject { issuer: self.issuer(), gateway: gateway.id, spend: entry.key, request };
            receipt.verify(&gateway.key, &subject).ok().map(|()| (receipt, spend))
        };
        let Some((receipt, spend)) = signed() else { return ReceiptVerdict::NotSigned };
        if receipt.cost() != accepted.cost {
            return ReceiptVerdict::Contradicted;
        }
        let tariff = self.directory.parts().tariffs.iter().find(|tariff| tariff.digest() == spend.tariff);
        // A directory that came meanwhile may have the tariff no more; and some gateways do not say what they metered.
        let Some(tariff) = tariff.filter(|_| !receipt.usage().is_empty()) else { return ReceiptVerdict::Unexplained };
        let price = price(&receipt, tariff, self.directory.quantum()).unwrap_or(spend.charge);
        if receipt.cost() > price { ReceiptVerdict::Overcharged } else { ReceiptVerdict::Fair }
    }

    fn put_receipt_dispute(
        &mut self,
        kind: DisputeKind,
        entry: JournalEntry,
        receipt: Option<Vec<u8>>,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        // Whoever judges checks the receipt's signature with it, and learns no more of the request than that.
        let what = format!("the request's digest is {}", hex::encode(request.digest().as_bytes()));
        let gateway = Spend::from_bytes(&entry.spend).ok().map(|spend| spend.gateway);
        self.journal.put_dispute(&Dispute {
            kind,
            at: now,
            gateway,
            spend: Some(entry.spend),
            content: Some(request.content()),
            settlement: entry.settlement,
            receipt,
            directories: vec![self.signed.clone()],
            heard: vec![HeardNote { at: now, what }],
        })
    }
}

/// The most that the tariff lets such a usage cost. What it has no price for costs nothing. None where that does not fit 64 bits.
fn price(receipt: &Receipt, tariff: &Tariff, quantum: Credits) -> Option<Credits> {
    let priced = |item: &str| tariff.prices().iter().any(|price| price.item == item);
    let usage = receipt.usage().iter().filter(|(item, _)| priced(item));
    tariff.cost(usage.map(|(item, units)| (item.as_str(), *units)), quantum).ok()
}
