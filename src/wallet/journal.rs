//! The journal: what a wallet must have again after a crash.

use std::collections::{BTreeMap, HashMap};

use halometer_circuits::note::Nullifier;

use super::LaneId;
use super::dispute::Dispute;
use super::origin::PaymentOrigin;
use crate::protocol::{
    ContentDigest, Credits, GatewayId, LANES, MintResponse, MintSeal, PaymentId, Settlement, SignedDirectory, Spend,
    SpendKey, Timestamp,
};

/// An entry of the journal: a note, the one spend of it, and its settlement once there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// The spend.
    pub key: SpendKey,
    /// The lane of the note.
    pub lane: LaneId,
    /// Index of the note in its lane: the entry of a lane with the greatest index is its newest.
    pub index: u64,
    /// The bytes of the [`Spend`](crate::protocol::Spend).
    pub spend: Vec<u8>,
    /// When it was pinned.
    pub pinned_at: Timestamp,
    /// The request that it was made for: a local history, which never leaves the wallet. None for transfers and rollovers.
    pub request: Option<RequestNote>,
    /// The settlement.
    pub settlement: Option<Settlement>,
    /// What is kept of how it ended.
    pub outcome: Option<OutcomeNote>,
}

impl core::fmt::Debug for JournalEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("JournalEntry").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// What the history says of a request. Not printed: it says what its owner asked.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestNote {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// Digest of its body, which a receipt speaks of.
    pub content: ContentDigest,
    /// The name of the [`Budget`](super::Budget) that it counts for.
    pub budget: Option<String>,
}

impl core::fmt::Debug for RequestNote {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RequestNote(..)")
    }
}

/// How a spend ended: for the history, and for disputes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeNote {
    /// When its settlement was taken.
    pub settled_at: Timestamp,
    /// The gateway's signed receipt, if it gave one.
    pub receipt: Option<Vec<u8>>,
}

/// A spend of the journal, in short.
#[derive(Clone, PartialEq, Eq)]
pub struct SpendSummary {
    /// The spend.
    pub key: SpendKey,
    /// The lane of the note.
    pub lane: LaneId,
    /// Index of the note in its lane.
    pub index: u64,
    /// The gateway that it was made out to; none where the bytes of the spend do not say it.
    pub gateway: Option<GatewayId>,
    /// When it was pinned.
    pub pinned_at: Timestamp,
    /// Whether there is a settlement.
    pub settled: bool,
    /// When that was taken, where it was written down.
    pub settled_at: Option<Timestamp>,
    /// Whether there is a receipt.
    pub receipt: bool,
}

impl core::fmt::Debug for SpendSummary {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SpendSummary").field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl SpendSummary {
    /// Of an entry, which may lack the proof of its spend.
    pub fn of(entry: &JournalEntry) -> Self {
        Self {
            key: entry.key,
            lane: entry.lane,
            index: entry.index,
            gateway: Spend::gateway_in(&entry.spend),
            pinned_at: entry.pinned_at,
            settled: entry.settlement.is_some(),
            settled_at: entry.outcome.as_ref().map(|outcome| outcome.settled_at),
            receipt: entry.outcome.as_ref().is_some_and(|outcome| outcome.receipt.is_some()),
        }
    }
}

/// A payment, from before it is first requested.
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentEntry {
    /// Its number in the wallet, from which its secrets are derived. Never used again for another.
    pub number: u64,
    /// Its id.
    pub payment: PaymentId,
    /// What its lanes are worth at first.
    pub amounts: [Credits; LANES],
    /// When it was first requested; none in what an earlier release wrote.
    pub requested_at: Option<Timestamp>,
    /// The issuer's answer, once there is one.
    pub minted: Option<MintResponse>,
    /// The issuer's seal on it; none in what an earlier release wrote.
    pub seal: Option<MintSeal>,
    /// Whose keys it has and where its lanes begin, in a wallet that was restored; none where they are the wallet's own and begin
    /// with the mint.
    pub origin: Option<Box<PaymentOrigin>>,
}

/// Without the payment's id, which is worth the payment until it is minted.
impl core::fmt::Debug for PaymentEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let minted = self.minted.is_some();
        f.debug_struct("PaymentEntry").field("number", &self.number).field("minted", &minted).finish_non_exhaustive()
    }
}

/// What a wallet begins with.
#[derive(Debug, Default)]
pub struct Saved {
    /// The directory that it went by last.
    pub directory: Option<SignedDirectory>,
    /// Its payments, by number.
    pub payments: Vec<PaymentEntry>,
    /// The newest entry of each lane that has one.
    pub newest: Vec<JournalEntry>,
    /// The lanes whose note was found to be spent by somebody else.
    pub frozen: Vec<LaneId>,
    /// Until then no note of before is spent: the file was put back, or came from elsewhere.
    pub quarantined_until: Option<Timestamp>,
}

/// What a wallet keeps durably (protocol, section 5, "Journal"); first of all a map from `nf` to `x` with the spend's bytes.
///
/// What an implementation owes: each method that writes does all of it or nothing, and it is durable before the method
/// returns (but for [`annotate`](Self::annotate), which may be lost). Entries are never removed nor changed, but for the
/// settlement, which is written once, and the outcome. Two shares of one note reveal the account: everything hangs on this.
pub trait Journal: Send {
    /// What the wallet begins with.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    fn load(&self) -> Result<Saved, JournalError>;

    /// Pins nullifiers to contexts, all of them or none. Pinning one to the same context again changes nothing.
    ///
    /// # Errors
    /// [`JournalError::OtherContext`] when one is pinned to another one, or is of a note that its lane has passed;
    /// [`JournalError::Failed`], and then nothing may be sent.
    fn pin(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError>;

    /// The entry of a nullifier.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    fn entry(&self, nullifier: &Nullifier) -> Result<Option<JournalEntry>, JournalError>;

    /// Writes the settlements of pinned spends, all of them or none. A settlement that is there already stays.
    ///
    /// # Errors
    /// [`JournalError::OtherContext`] when a spend is not pinned; [`JournalError::Failed`].
    fn settle(&mut self, settled: &[(SpendKey, Settlement)]) -> Result<(), JournalError>;

    /// Writes down how a spend ended. Nothing hangs on it but the history: it need not be durable at once.
    ///
    /// # Errors
    /// [`JournalError::OtherContext`] when the spend is not pinned; [`JournalError::Failed`].
    fn annotate(&mut self, key: &SpendKey, outcome: &OutcomeNote) -> Result<(), JournalError>;

    /// Writes a payment, or writes it again with the issuer's answer.
    ///
    /// # Errors
    /// [`JournalError::OtherPayment`] when its number or id is that of another payment; [`JournalError::Failed`].
    fn put_payment(&mut self, payment: &PaymentEntry) -> Result<(), JournalError>;

    /// Writes the directory that the wallet goes by.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    fn put_directory(&mut self, directory: &SignedDirectory) -> Result<(), JournalError>;

    /// Writes that a lane is frozen, for ever.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    fn freeze(&mut self, lane: LaneId) -> Result<(), JournalError>;

    /// Keeps a dispute. One about the same spend and of the same kind is replaced.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    fn put_dispute(&mut self, dispute: &Dispute) -> Result<(), JournalError>;

    /// The disputes, oldest first.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    fn disputes(&self) -> Result<Vec<Dispute>, JournalError>;

    /// The newest `limit` entries, newest first.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    fn history(&self, limit: usize) -> Result<Vec<JournalEntry>, JournalError>;

    /// All entries in short, in any order. A journal that can tell this without reading proofs should.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    fn summaries(&self) -> Result<Vec<SpendSummary>, JournalError> {
        Ok(self.history(usize::MAX)?.iter().map(SpendSummary::of).collect())
    }

    /// Shows all entries in the order in which they were pinned. Their spends may lack the proof at their end.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    fn visit(&self, see: &mut dyn FnMut(&JournalEntry)) -> Result<(), JournalError> {
        self.history(usize::MAX)?.iter().rev().for_each(see);
        Ok(())
    }
}

/// Why the journal refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The note is pinned to another context, or to none.
    #[error("the note is not pinned to this context")]
    OtherContext,
    /// The number or the id of a payment is that of another one.
    #[error("the number or id of the payment is that of another one")]
    OtherPayment,
    /// The journal failed.
    #[error("the journal failed")]
    Failed(#[source] Box<dyn core::error::Error + Send + Sync>),
}

/// A [`Journal`] in memory. It forgets everything with the process: a wallet with this journal must never be made again from the
/// same root secret and device while any of its payments has credit.
///
/// A clone of it is what a copy of a wallet's file is: for tests.
#[derive(Clone, Default)]
pub struct MemoryJournal {
    directory: Option<SignedDirectory>,
    payments: BTreeMap<u64, PaymentEntry>,
    entries: HashMap<Nullifier, JournalEntry>,
    order: Vec<Nullifier>,
    newest: BTreeMap<LaneId, Nullifier>,
    frozen: Vec<LaneId>,
    disputes: Vec<Dispute>,
}

impl core::fmt::Debug for MemoryJournal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MemoryJournal").field("entries", &self.entries.len()).finish()
    }
}

impl MemoryJournal {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn pinned(&mut self, key: &SpendKey) -> Result<&mut JournalEntry, JournalError> {
        let entry = self.entries.get_mut(&key.nullifier).filter(|entry| entry.key == *key);
        entry.ok_or(JournalError::OtherContext)
    }
}

impl Journal for MemoryJournal {
    fn load(&self) -> Result<Saved, JournalError> {
        Ok(Saved {
            directory: self.directory.clone(),
            payments: self.payments.values().cloned().collect(),
            newest: self.newest.values().map(|nullifier| self.entries[nullifier].clone()).collect(),
            frozen: self.frozen.clone(),
            quarantined_until: None,
        })
    }

    fn pin(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError> {
        let mut newest: BTreeMap<LaneId, u64> = BTreeMap::new();
        for (i, entry) in entries.iter().enumerate() {
            let before = entries[..i].iter().find(|before| before.key.nullifier == entry.key.nullifier);
            if let Some(pinned) = before.or(self.entries.get(&entry.key.nullifier)) {
                if pinned.key != entry.key {
                    return Err(JournalError::OtherContext);
                }
                continue;
            }
            let passed = self.newest.get(&entry.lane).map(|nullifier| self.entries[nullifier].index);
            if newest.get(&entry.lane).copied().or(passed).is_some_and(|passed| passed >= entry.index) {
                return Err(JournalError::OtherContext);
            }
            newest.insert(entry.lane, entry.index);
        }
        for entry in entries {
            let nullifier = entry.key.nullifier;
            if self.entries.contains_key(&nullifier) {
                continue;
            }
            self.newest.insert(entry.lane, nullifier);
            self.entries.insert(nullifier, entry.clone());
            self.order.push(nullifier);
        }
        Ok(())
    }

    fn entry(&self, nullifier: &Nullifier) -> Result<Option<JournalEntry>, JournalError> {
        Ok(self.entries.get(nullifier).cloned())
    }

    fn settle(&mut self, settled: &[(SpendKey, Settlement)]) -> Result<(), JournalError> {
        for (key, _) in settled {
            self.pinned(key)?;
        }
        for (key, settlement) in settled {
            self.pinned(key)?.settlement.get_or_insert_with(|| settlement.clone());
        }
        Ok(())
    }

    fn annotate(&mut self, key: &SpendKey, outcome: &OutcomeNote) -> Result<(), JournalError> {
        self.pinned(key)?.outcome = Some(outcome.clone());
        Ok(())
    }

    fn put_payment(&mut self, payment: &PaymentEntry) -> Result<(), JournalError> {
        check_payment(self.payments.values(), payment)?;
        self.payments.insert(payment.number, payment.clone());
        Ok(())
    }

    fn put_directory(&mut self, directory: &SignedDirectory) -> Result<(), JournalError> {
        self.directory = Some(directory.clone());
        Ok(())
    }

    fn freeze(&mut self, lane: LaneId) -> Result<(), JournalError> {
        if !self.frozen.contains(&lane) {
            self.frozen.push(lane);
        }
        Ok(())
    }

    fn put_dispute(&mut self, dispute: &Dispute) -> Result<(), JournalError> {
        self.disputes.retain(|other| !other.replaced_by(dispute));
        self.disputes.push(dispute.clone());
        Ok(())
    }

    fn disputes(&self) -> Result<Vec<Dispute>, JournalError> {
        Ok(self.disputes.clone())
    }

    fn history(&self, limit: usize) -> Result<Vec<JournalEntry>, JournalError> {
        Ok(self.order.iter().rev().take(limit).map(|nullifier| self.entries[nullifier].clone()).collect())
    }
}

/// Refuses a payment whose number or id is another one's, or that takes an answer back.
pub(super) fn check_payment<'a>(
    known: impl IntoIterator<Item = &'a PaymentEntry>,
    payment: &PaymentEntry,
) -> Result<(), JournalError> {
    for other in known {
        let same = (other.number == payment.number, other.payment == payment.payment);
        let minted = other.minted.is_none() || other.minted == payment.minted;
        let kept = (&other.amounts, &other.origin) == (&payment.amounts, &payment.origin) && minted;
        match same {
            (false, false) => {}
            (true, true) if kept => {}
            _ => return Err(JournalError::OtherPayment),
        }
    }
    Ok(())
}
