//! Restoring a wallet from its root secret alone (protocol, section 7).
//!
//! [`Restore`] says what to ask, one question after the other, and is told the answers; it does no I/O. It believes nothing that is not
//! signed: a mint counts when the issuer's seal and signatures hold for an account of this secret, and a change note when the issuer's
//! signature holds for what the wallet's own memo says. What it cannot check is whether something was kept from it: an answer that says
//! less than there is makes the wallet poorer, and one that hides the last spend of a lane is why restored notes are held
//! and asked about again before they are spent.

mod error;
mod found;
mod gap;
mod lanes;
#[cfg(any(test, feature = "testing"))]
pub(super) mod past;
mod search;

pub use error::RestoreError;
pub use found::{LaneFound, LaneReport, Restored};
pub use gap::RestoreOptions;
pub use lanes::ChangeTold;

use std::collections::{BTreeMap, HashMap, HashSet};

use halometer_circuits::note::Nullifier;

use super::{Journal, JournalError, LaneId, Question, RootSecret, Wallet};
use crate::protocol::{
    AccountQuery, ChangeQuery, Directory, EpochNumber, MemoQuery, Prefix, RootKey, SignedDirectory, Timestamp,
};
use found::FoundPayment;
use gap::Scans;
use lanes::LaneSearch;

/// What to ask next.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RestoreQuestion {
    /// The issuer: what was minted for these accounts? Answered to [`Restore::minted`].
    Mints(AccountQuery),
    /// The spent set: about how many notes of an epoch are spent? To [`Restore::counted`].
    Count(EpochNumber),
    /// The spent set: which are spent that begin like this? To [`Restore::bucket`]. Ask all that have it, and give what any of them
    /// says: a spend that one of them hides is then found all the same.
    Bucket(Question),
    /// The spent set: what is the memo of a spend? To [`Restore::memo`].
    Memo(MemoQuery),
    /// The spent set: what is its settlement? To [`Restore::change`].
    Change(ChangeQuery),
}

/// Buckets of an epoch that were read.
struct Partition {
    /// How many bits are told of a nullifier.
    bits: u8,
    read: HashMap<Prefix, HashSet<Nullifier>>,
}

/// A wallet that is being restored. Holds secrets: not `Clone`, not printed, wiped on drop. Thrown away at any point it can be begun
/// again: nothing is spent, and nothing is written, before it is whole.
pub struct Restore {
    root: RootSecret,
    pinned: RootKey,
    signed: SignedDirectory,
    directory: Directory,
    now: Timestamp,
    until_epoch_ends: bool,
    scans: Scans,
    payments: Vec<FoundPayment>,
    /// By epoch; none where its records are gone.
    partitions: BTreeMap<EpochNumber, Option<Partition>>,
    lanes: LaneSearch,
    asked: Option<RestoreQuestion>,
}

impl core::fmt::Debug for Restore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Restore").field("payments", &self.payments.len()).finish_non_exhaustive()
    }
}

impl Restore {
    /// Begins. `pinned` is the issuer's root key, which you got from a place that you trust, and the directory the one that is
    /// shown at `now`.
    ///
    /// # Errors
    /// [`RestoreError::Directory`].
    pub fn new(
        root: RootSecret,
        pinned: RootKey,
        directory: &SignedDirectory,
        options: &RestoreOptions,
        now: Timestamp,
    ) -> Result<Self, RestoreError> {
        let verified = directory.verify(&pinned)?;
        Ok(Self {
            scans: Scans::new(options),
            until_epoch_ends: options.until_epoch_ends,
            root,
            pinned,
            signed: directory.clone(),
            directory: verified,
            now,
            payments: Vec::new(),
            partitions: BTreeMap::new(),
            lanes: LaneSearch::default(),
            asked: None,
        })
    }

    /// The directory that it goes by.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// How many lanes were looked at, and how many there are by now.
    pub fn progress(&self) -> (usize, usize) {
        (self.lanes.done(), self.payments.len() * crate::protocol::LANES)
    }

    /// What to ask next; none when all is known. Until it is answered it is the same question.
    ///
    /// # Errors
    /// [`RestoreError::Hidden`].
    pub fn question(&mut self) -> Result<Option<RestoreQuestion>, RestoreError> {
        if self.asked.is_none() {
            self.asked = match self.ask_for_accounts() {
                Some(query) => Some(RestoreQuestion::Mints(query)),
                None => match self.uncounted() {
                    Some(epoch) => Some(RestoreQuestion::Count(epoch)),
                    None => self.ask_about_lanes()?,
                },
            };
        }
        Ok(self.asked.clone())
    }

    /// Takes the answer to [`RestoreQuestion::Count`]; none where the records of the epoch are gone.
    ///
    /// # Errors
    /// [`RestoreError::NotAsked`]; [`RestoreError::Gone`] for an epoch whose notes can be spent still.
    pub fn counted(&mut self, spent: Option<u64>) -> Result<(), RestoreError> {
        let Some(RestoreQuestion::Count(number)) = self.asked else { return Err(RestoreError::NotAsked) };
        let partition = match (spent, self.directory.epoch(number)) {
            (None, Some(epoch)) if epoch.spend.contains(self.now) => return Err(RestoreError::Gone(number)),
            (None, _) | (_, None) => None,
            (Some(spent), Some(epoch)) => {
                // The number is rounded down to a power of two. Where all of them can be read, all are: that tells nothing.
                let most = spent.saturating_mul(2);
                let few = most <= Prefix::MAX_BUCKET;
                let bits = if few { 0 } else { Prefix::bits_for(most, epoch.spends_to_come(spent, self.now)) };
                Some(Partition { bits, read: HashMap::new() })
            }
        };
        self.partitions.insert(number, partition);
        self.asked = None;
        Ok(())
    }

    /// Takes the answer to [`RestoreQuestion::Bucket`].
    ///
    /// # Errors
    /// [`RestoreError::NotAsked`].
    pub fn bucket(&mut self, spent: impl IntoIterator<Item = Nullifier>) -> Result<(), RestoreError> {
        let Some(RestoreQuestion::Bucket(Question { epoch, prefix })) = self.asked else {
            return Err(RestoreError::NotAsked);
        };
        let partition = self.partitions.get_mut(&epoch).and_then(Option::as_mut).ok_or(RestoreError::NotAsked)?;
        partition.read.insert(prefix, spent.into_iter().filter(|nullifier| prefix.is_of(nullifier)).collect());
        self.asked = None;
        Ok(())
    }

    /// An epoch that has begun and of which it is not known how many of its notes are spent. Those that are over are asked about as
    /// well: the last spend of a lane that was rolled over is among them.
    fn uncounted(&self) -> Option<EpochNumber> {
        if self.payments.is_empty() {
            return None;
        }
        let begun = self.directory.epochs().iter().filter(|epoch| epoch.spend.from <= self.now);
        begun.map(|epoch| epoch.number).find(|number| !self.partitions.contains_key(number))
    }
}

/// How much of a wallet its 24 words bring back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restorability {
    /// The device, where it is not found by trying: it has to be given beside the words.
    pub device: Option<crate::protocol::DeviceId>,
    /// Lanes with credit whose last spend is told to nobody any more: its epoch is over, or an earlier release made it. Their next
    /// spend mends it.
    pub lanes: Vec<LaneId>,
}

impl Restorability {
    /// Whether the words alone bring all of it back.
    pub fn is_whole(&self) -> bool {
        self.device.is_none() && self.lanes.is_empty()
    }
}

impl<J: Journal> Wallet<J> {
    /// What the words of this wallet's root secret would bring back now.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn restorability(&self, now: Timestamp) -> Result<Restorability, JournalError> {
        let mut own = self.payments.values().map(|known| self.payment_path(known.number).device);
        let device = own.find(|device| device.number().is_none()).or(Some(self.device));
        let device = device.filter(|device| device.number().is_none());
        let mut lanes = Vec::new();
        for entry in self.journal.load()?.newest {
            let has_credit = match self.lanes.get(&entry.lane) {
                Some(super::lane::Lane::Idle(note)) => note.value() > 0 && self.is_spendable(note.epoch, now),
                _ => false,
            };
            if has_credit && !(self.is_spendable(entry.key.epoch, now) && self.reads_by_code(&entry)) {
                lanes.push(entry.lane);
            }
        }
        Ok(Restorability { device, lanes })
    }

    /// Whether the memo of a spend has a nonce by which its settlement is told. That of an earlier release has not.
    fn reads_by_code(&self, entry: &super::JournalEntry) -> bool {
        let Ok(spend) = crate::protocol::Spend::from_bytes(&entry.spend) else { return false };
        let (issuer, nullifier) = (self.issuer(), &spend.nullifier);
        let contents = self.root.open_memo(&issuer, nullifier, &spend.memo);
        contents.is_some_and(|said| self.root.memo_code(&issuer, nullifier, &said).nonce() == *spend.memo.nonce())
    }

    /// The root secret as 24 words, for its owner alone.
    #[cfg(feature = "durable")]
    pub fn to_words(&self) -> zeroize::Zeroizing<String> {
        self.root.to_words()
    }

    /// The device whose keys what is new has.
    pub fn device(&self) -> crate::protocol::DeviceId {
        self.device
    }
}
