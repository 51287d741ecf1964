//! The journal: which context a note was spent for.

use std::collections::HashMap;

use halometer_circuits::note::Nullifier;

use super::LaneId;
use crate::protocol::{Settlement, SpendKey};

/// An entry of the journal: a note, the one spend of it, and its settlement once there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// The spend.
    pub key: SpendKey,
    /// The lane of the note.
    pub lane: LaneId,
    /// The bytes of the [`Spend`](crate::protocol::Spend).
    pub spend: Vec<u8>,
    /// The settlement.
    pub settlement: Option<Settlement>,
}

impl core::fmt::Debug for JournalEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("JournalEntry").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// A map from `nf` to `x` with the spend's bytes (protocol, section 5, "Journal"). What a durable implementation owes: an entry
/// is durable before [`pin`](Self::pin) returns; entries are never removed nor changed, but for the settlement, which is
/// written once. Two shares of one note reveal the account: everything hangs on this.
pub trait Journal: Send {
    /// Pins a nullifier to a context. Pinning it to the same context again changes nothing.
    ///
    /// # Errors
    /// [`JournalError::OtherContext`] when it is pinned to another one; [`JournalError::Failed`], and then nothing may be
    /// sent.
    fn pin(&mut self, entry: JournalEntry) -> Result<(), JournalError>;

    /// The entry of a nullifier.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    fn entry(&self, nullifier: &Nullifier) -> Result<Option<JournalEntry>, JournalError>;

    /// Writes the settlement of a pinned spend. A settlement that is there already stays.
    ///
    /// # Errors
    /// [`JournalError::OtherContext`] when that spend is not pinned; [`JournalError::Failed`].
    fn settle(&mut self, key: &SpendKey, settlement: &Settlement) -> Result<(), JournalError>;
}

/// Why the journal refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The note is pinned to another context, or to none.
    #[error("the note is not pinned to this context")]
    OtherContext,
    /// The journal failed.
    #[error("the journal failed")]
    Failed(#[source] Box<dyn core::error::Error + Send + Sync>),
}

/// A [`Journal`] in memory. It forgets everything with the process: a wallet with this journal must never be made again from the
/// same root secret and device while any of its payments has credit.
#[derive(Default)]
pub struct MemoryJournal {
    entries: HashMap<Nullifier, JournalEntry>,
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
}

impl Journal for MemoryJournal {
    fn pin(&mut self, entry: JournalEntry) -> Result<(), JournalError> {
        let pinned = self.entries.entry(entry.key.nullifier).or_insert_with(|| entry.clone());
        if pinned.key == entry.key { Ok(()) } else { Err(JournalError::OtherContext) }
    }

    fn entry(&self, nullifier: &Nullifier) -> Result<Option<JournalEntry>, JournalError> {
        Ok(self.entries.get(nullifier).cloned())
    }

    fn settle(&mut self, key: &SpendKey, settlement: &Settlement) -> Result<(), JournalError> {
        let entry = self.entries.get_mut(&key.nullifier).filter(|entry| entry.key == *key);
        entry.ok_or(JournalError::OtherContext)?.settlement.get_or_insert_with(|| settlement.clone());
        Ok(())
    }
}
