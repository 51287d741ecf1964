//! The durable store: spent set, mints and payments in one directory of this machine.
//!
//! ```text
//! caller --+                                                         +--> answer
//! caller --+--> queue --> operations, one after the other --> commit +--> answer
//! caller --+              (against what is stored)            fsync  +--> answer
//! ```
//!
//! One thread makes all changes. What arrives while it writes a commit is the next commit, so that a lone change waits for one
//! fsync and a crowd shares one. An answer leaves after its commit, and is seen by readers no sooner. An error in writing ends
//! the store: what is on disk is then not known, nothing is served any more, and it must be opened again.
//!
//! Evidence is sealed under a key for each span of time (a *bucket*) and erased by forgetting the key; the records themselves
//! are not touched for it.
//!
//! | file | what |
//! | --- | --- |
//! | `db/` | the database |
//! | `evidence.keys` | keys of the evidence that is not erased |
//! | `lock` | held by the process that has the store open |
//!
//! Beside the directory, or wherever [`StoreOptions::mark`] says, is the mark: how far the store had come. A store that falls short
//! of it is not opened. In the directory it would be set back together with the store, and so it is refused there.

mod aside;
mod books;
mod check;
mod codec;
mod commit_queue;
mod committer;
mod engine;
mod evidence_keys;
mod export;
#[cfg(all(any(test, fuzzing), feature = "http", feature = "testing"))]
pub(crate) mod fuzz;
mod inventory;
mod journal;
mod maintenance;
mod open;
mod place;
mod shadow;
mod spent_set;
mod transaction;

/// What the commit queue is made of; in its own tests, of something else.
mod primitives {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
}

#[cfg(test)]
mod tests;

pub use super::PartitionStats;
pub use books::{DurableMintBook, DurablePaymentBook};
pub use check::{CheckReport, MarkStanding};
pub use maintenance::{BackupError, StoreStats};
pub use spent_set::DurableSpentSet;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use committer::Committer;
use engine::{Engine, EngineError, Table};
use evidence_keys::{BucketId, EvidenceKey};
use transaction::{State, Tables, Transaction};

use crate::protocol::{EpochNumber, GatewayId};
use crate::store::{PartitionPhase, StoreError};

/// How a store is run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Memory for what was read from disk, bytes. 128 MiB by default.
    pub cache_bytes: u64,
    /// Threads that write and merge tables. 2 by default.
    pub threads: usize,
    /// For how long evidence goes into one bucket, seconds: it is erased by the bucket, so that it stays by so much longer than
    /// the evidence window. 6 hours by default.
    pub bucket_seconds: u32,
    /// Where the mark is kept, outside of the store's directory: by default beside it, as `store.mark` for `store`. On another disk
    /// it also tells when all around the store was set back.
    pub mark: Option<PathBuf>,
    /// Whether the mark may be in the store's directory, and is there by default: a copy of the directory that is put back is then
    /// not noticed, and notes that were spent since can be spent again. False by default.
    pub allow_mark_inside: bool,
}

impl StoreOptions {
    /// The same with this [`cache_bytes`](Self::cache_bytes).
    #[must_use]
    pub fn with_cache_bytes(self, cache_bytes: u64) -> Self {
        Self { cache_bytes, ..self }
    }

    /// The same with this [`threads`](Self::threads).
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The same with this [`bucket_seconds`](Self::bucket_seconds).
    #[must_use]
    pub fn with_bucket_seconds(self, bucket_seconds: u32) -> Self {
        Self { bucket_seconds, ..self }
    }

    /// The same with this [`mark`](Self::mark).
    #[must_use]
    pub fn with_mark(self, mark: impl Into<Option<PathBuf>>) -> Self {
        Self { mark: mark.into(), ..self }
    }

    /// The same, with a mark inside the store accepted: it goes back with the store and does not tell when the store did.
    #[must_use]
    pub fn with_mark_inside(self) -> Self {
        Self { allow_mark_inside: true, ..self }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 128 << 20, threads: 2, bucket_seconds: 6 * 3_600, mark: None, allow_mark_inside: false }
    }
}

impl StoreOptions {
    /// Where the mark of a store is if the options name no place: beside its directory, as `store.mark` for `store`.
    pub fn mark_beside(store: &Path) -> PathBuf {
        place::beside(store)
    }
}

/// Why a store is not opened. Its operator must act; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is a store in the directory already.
    #[error("there is a store at {0} already")]
    Exists(PathBuf),
    /// There is no store in the directory. It is not made by opening it: a directory that was lost, or a disk that is not
    /// mounted, would be taken for an empty set.
    #[error("there is no store at {0}")]
    Missing(PathBuf),
    /// Another process has it open.
    #[error("another process has the store at {0} open")]
    Locked(PathBuf),
    /// The store falls short of its mark: it was set back to an earlier state, or lost its last commits. Notes that were spent
    /// since could be spent again. The gateway must take a new id, and the issuer must retire the epochs concerned.
    #[error("the store was set back: it is at commit {found}, and had come to {expected}")]
    SetBack {
        /// Where it is.
        found: u64,
        /// Where it had come to.
        expected: u64,
    },
    /// The mark would be set back together with the store. Nothing tells then that it was: its operator moves the mark, or accepts
    /// that by [`StoreOptions::allow_mark_inside`].
    #[error(
        "the mark {mark} is in the store's own directory, and goes back with it when a copy is put back: move it to {beside} while \
         nothing runs, or accept it by `allow_mark_inside = true`"
    )]
    MarkInside {
        /// The mark.
        mark: PathBuf,
        /// Where it may be.
        beside: PathBuf,
    },
    /// It is a backup, which is read and not served from.
    #[error("this is a backup, which can be checked and audited, not served from")]
    Backup,
    /// Another store took its place.
    #[error("this store was copied to {0}, which took its place: use that one, and never this one again")]
    Moved(String),
    /// It is not of this layout.
    #[error("the store has another layout: {0}")]
    Format(&'static str),
    /// Data on disk is damaged.
    #[error("the store at {path} is damaged: {what}")]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Reading or writing failed.
    #[error("the store could not be opened")]
    Failed(#[source] Box<dyn core::error::Error + Send + Sync>),
}

/// A store in a directory. Cheap to clone; the files are let go with the last clone.
#[derive(Clone)]
pub struct DurableStore(Arc<OpenStore>);

struct OpenStore {
    path: PathBuf,
    gateway: GatewayId,
    engine: Arc<Engine>,
    tables: Arc<Tables>,
    views: Arc<RwLock<Views>>,
    committer: Committer,
    /// It is not changed.
    is_backup: bool,
    /// Let go last. None for the shadow of a store.
    _lock: Option<File>,
}

/// What readers look at. It is exchanged after a commit.
type Views = Arc<BTreeMap<EpochNumber, View>>;

#[derive(Clone)]
struct View {
    phase: PartitionPhase,
    /// None for a retired one.
    records: Option<Table>,
    buckets: BTreeMap<BucketId, (Table, Arc<EvidenceKey>)>,
}

impl core::fmt::Debug for DurableStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DurableStore").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl DurableStore {
    /// The gateway whose set it is.
    pub fn gateway(&self) -> GatewayId {
        self.0.gateway
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The spent set in it.
    pub fn spent_set(&self) -> DurableSpentSet {
        DurableSpentSet(self.clone())
    }

    /// The book of mints in it.
    pub fn mint_book(&self) -> DurableMintBook {
        DurableMintBook(self.clone())
    }

    /// The book of payments in it.
    pub fn payment_book(&self) -> DurablePaymentBook {
        DurablePaymentBook(self.clone())
    }

    /// As [`transact`](Self::transact), for what may change something.
    fn change<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.0.is_backup {
            return Err(failed("this is a backup, which is not changed"));
        }
        self.transact(operation)
    }

    /// Carries out an operation in the next commit and waits for that.
    fn transact<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.committer.transact(operation)
    }

    fn views(&self) -> Result<Views, StoreError> {
        self.0.committer.check()?;
        let views = self.0.views.read().map_err(|_| failed("a thread panicked while it changed the store"))?;
        Ok(Arc::clone(&views))
    }

    /// Partitions that are damaged, as far as is known, and what is wrong: they are not served. [`check_at`](Self::check_at) finds
    /// more, as it reads everything.
    pub fn damage(&self) -> Vec<(EpochNumber, String)> {
        self.0.committer.damage()
    }

    /// Notes damage to a partition, which is not served from then on.
    fn note<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Corrupt { epoch, what }) = &outcome {
            self.0.committer.note_damage(*epoch, what);
        }
        outcome
    }
}

impl View {
    fn live(&self, epoch: EpochNumber) -> Result<&Table, StoreError> {
        self.records.as_ref().ok_or(StoreError::PartitionRetired(epoch))
    }
}

fn views_of(state: &State) -> Views {
    let view = |partition: &transaction::Partition| View {
        phase: partition.meta.phase,
        records: partition.records.clone(),
        buckets: partition
            .buckets
            .iter()
            .map(|(id, bucket)| (*id, (bucket.table.clone(), Arc::clone(&bucket.key))))
            .collect(),
    };
    Arc::new(state.partitions.iter().map(|(epoch, partition)| (*epoch, view(partition))).collect())
}

/// What readers may know before a commit: the buckets that are begun in it. As soon as a record is seen, so is its bucket.
fn with_begun(views: &Views, state: &State) -> Views {
    let mut views = BTreeMap::clone(views);
    for (epoch, view) in &mut views {
        let begun = state.partitions.get(epoch).into_iter().flat_map(|partition| &partition.buckets);
        view.buckets.extend(begun.map(|(id, bucket)| (*id, (bucket.table.clone(), Arc::clone(&bucket.key)))));
    }
    Arc::new(views)
}

fn failed(error: impl Into<Box<dyn core::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Failed(error.into())
}

/// What a failed read of a partition's table comes to.
fn read_error(error: EngineError, epoch: Option<EpochNumber>) -> StoreError {
    match (error, epoch) {
        (EngineError::Damaged(what), Some(epoch)) => StoreError::Corrupt { epoch, what },
        (error, _) => failed(error),
    }
}
