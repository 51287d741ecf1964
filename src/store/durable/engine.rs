//! The storage engine: the only file that knows which one it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;

use fjall::config::{BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable as _,
};

use super::inventory::TableId;

/// An open database. Its files are locked to this process.
///
/// The engine keeps the names of tables in a tree of its own, ordered by the numbers of batches, and after a crash it goes on
/// with a number that does not take that tree into account. A table that is made then can have the number of one that was
/// dropped, and come back under the name of that one, or not at all. So after each table that is made or dropped a batch is
/// written to a table for that, and some when the database is opened, so that every number is higher than those before.
pub(super) struct Engine {
    database: Database,
    fence: Keyspace,
}

/// The table that batches are written to for their numbers.
pub(super) const FENCE: &str = "engine";
/// How many numbers a table that is made or dropped takes, and more.
const NUMBERS: u64 = 16;

/// A sorted map of the database. A handle, cheap to clone.
#[derive(Clone)]
pub(super) struct Table(Keyspace);

/// What a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableKind {
    /// Small values, looked up mostly in vain.
    Records,
    /// Values of some kilobytes, written once, read hardly ever, dropped together.
    Blobs,
}

/// Why the engine did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// Another process has the database open.
    #[error("another process has the store open")]
    Locked,
    /// Data on disk is not what was written.
    #[error("data on disk is damaged: {0}")]
    Damaged(String),
    /// Reading or writing failed.
    #[error("{}", in_words(.0))]
    Failed(#[source] fjall::Error),
}

/// The system's words, where it is the system that failed.
fn in_words(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.to_string(),
        other => format!("the storage engine failed: {other}"),
    }
}

impl From<fjall::Error> for EngineError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => Self::Locked,
            // A file that is missing, ends too early, or is not of its kind.
            fjall::Error::Storage(fjall::LsmError::Io(error)) | fjall::Error::Io(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::NotFound => Self::Damaged(error.to_string()),
                _ => Self::Failed(fjall::Error::Io(error)),
            },
            fjall::Error::Storage(error) => Self::Damaged(error.to_string()),
            error @ (fjall::Error::JournalRecovery(_)
            | fjall::Error::InvalidTrailer
            | fjall::Error::InvalidTag(_)
            | fjall::Error::InvalidVersion(_)
            | fjall::Error::Unrecoverable) => Self::Damaged(error.to_string()),
            other => Self::Failed(other),
        }
    }
}

type Outcome<T> = Result<T, EngineError>;

/// Under this key, beyond all others, a table has the sequence number of the last commit that changed it. Tables are written out
/// one by one; the one that says how far the store is may be ahead of another, of which the journal is lost.
const WITNESS: [u8; 33] = [0xff; 33];

/// One change: a value, or none to remove what is there.
pub(super) type Change = (Table, Vec<u8>, Option<Vec<u8>>);

/// The engine's lock says nothing, and the engine does not open without it.
fn make_lock(path: &Path) -> Outcome<()> {
    let made = File::options().create(true).truncate(false).write(true).open(path.join("lock"));
    made.map(drop).map_err(|error| fjall::Error::Io(error).into())
}

impl Engine {
    /// Makes a database.
    pub(super) fn create(path: &Path, cache_bytes: u64, threads: usize) -> Outcome<Self> {
        Self::start(path, cache_bytes, threads, true)
    }

    /// Opens a database. None is made, nor any table: one that is missing would be taken for an empty one.
    pub(super) fn open(path: &Path, cache_bytes: u64, threads: usize) -> Outcome<Self> {
        make_lock(path)?;
        Self::start(path, cache_bytes, threads, false)
    }

    /// Opens a database, says which tables the engine finds in it, each with the number of its directory, and closes it again. What
    /// it does not find, it has removed.
    pub(super) fn rehearse(path: &Path) -> Outcome<BTreeMap<String, TableId>> {
        make_lock(path)?;
        let database = Database::builder(path).cache_size(1 << 20).worker_threads(1).open()?;
        let names = database.list_keyspace_names();
        let number = |name: &str| Ok((name.to_owned(), database.keyspace(name, KeyspaceCreateOptions::default)?.id()));
        names.iter().map(|name| number(name)).collect()
    }

    fn start(path: &Path, cache_bytes: u64, threads: usize, is_new: bool) -> Outcome<Self> {
        let builder = Database::builder(path).cache_size(cache_bytes).worker_threads(threads.max(1));
        // The space that journals take at most, beside tables; a journal has 64 MiB.
        let builder = builder.max_journaling_size(256 << 20);
        let database = builder.journal_compression(CompressionType::None).open()?;
        if !is_new && !database.keyspace_exists(FENCE) {
            return Err(EngineError::Damaged(format!("table {FENCE} is missing")));
        }
        let fence = database.keyspace(FENCE, || KeyspaceCreateOptions::default().manual_journal_persist(true))?;
        let engine = Self { database, fence };
        for _ in 0..NUMBERS {
            engine.write_fence(PersistMode::Buffer)?;
        }
        engine.write_fence(PersistMode::SyncData)?;
        Ok(engine)
    }

    fn write_fence(&self, mode: PersistMode) -> Outcome<()> {
        let mut batch = self.database.batch().durability(Some(mode));
        batch.insert(&self.fence, *b"fence", *b"");
        Ok(batch.commit()?)
    }

    /// Opens a table, and makes it if there is none.
    pub(super) fn table(&self, name: &str, kind: TableKind) -> Outcome<Table> {
        let options = || {
            let options = KeyspaceCreateOptions::default()
                // What is stored is noise, all of it.
                .data_block_compression_policy(CompressionPolicy::disabled())
                .index_block_compression_policy(CompressionPolicy::disabled())
                // Every commit says itself how durable it is.
                .manual_journal_persist(true);
            match kind {
                TableKind::Records => options
                    .data_block_size_policy(BlockSizePolicy::all(16 * 1024))
                    .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(
                        10.0,
                    ))))
                    .max_memtable_size(32 * 1024 * 1024),
                TableKind::Blobs => options
                    .with_kv_separation(Some(
                        KvSeparationOptions::default().compression(CompressionType::None).separation_threshold(512),
                    ))
                    .max_memtable_size(32 * 1024 * 1024),
            }
        };
        let is_new = !self.database.keyspace_exists(name);
        let table = Table(self.database.keyspace(name, options)?);
        if is_new {
            self.write_fence(PersistMode::SyncData)?;
        }
        Ok(table)
    }

    pub(super) fn table_names(&self) -> Vec<String> {
        let names = self.database.list_keyspace_names();
        names.iter().map(ToString::to_string).filter(|name| name != FENCE).collect()
    }

    /// Where the files of a table are.
    #[cfg(test)]
    pub(super) fn table_directory(&self, name: &str) -> std::path::PathBuf {
        self.database.keyspace(name, KeyspaceCreateOptions::default).expect("it is there").path().to_owned()
    }

    /// Drops a table with all that is in it.
    pub(super) fn drop_table(&self, table: Table) -> Outcome<()> {
        self.database.delete_keyspace(table.0)?;
        self.write_fence(PersistMode::SyncData)
    }

    /// Makes all changes or none, and returns when they are on disk. Only then are they seen, one by one in their order.
    pub(super) fn commit(&self, changes: impl IntoIterator<Item = Change>) -> Outcome<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (table, key, value) in changes {
            match value {
                Some(value) => batch.insert(&table.0, key, value),
                None => batch.remove(&table.0, key),
            }
        }
        Ok(batch.commit()?)
    }

    /// Bytes on disk, journals included.
    pub(super) fn disk_bytes(&self) -> Outcome<u64> {
        Ok(self.database.disk_space()?)
    }

    /// A view of all tables as they are now.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot(self.database.snapshot())
    }
}

/// A view that does not change.
pub(super) struct Snapshot(fjall::Snapshot);

impl Snapshot {
    /// The entries of a table, in the order of keys, its witness among them.
    pub(super) fn entries(&self, table: &Table) -> impl Iterator<Item = Outcome<(Vec<u8>, Vec<u8>)>> + use<> {
        self.0
            .iter(&table.0)
            .map(|guard| guard.into_inner().map(|(key, value)| (key.to_vec(), value.to_vec())))
            .map(|entry| entry.map_err(EngineError::from))
    }
}

impl Table {
    pub(super) fn name(&self) -> &str {
        self.0.name()
    }

    /// The change that notes which commit changed the table.
    pub(super) fn witness(&self, sequence: u64) -> Change {
        (self.clone(), WITNESS.to_vec(), Some(sequence.to_be_bytes().to_vec()))
    }

    /// Which commit changed the table last.
    pub(super) fn last_changed(&self) -> Outcome<Option<u64>> {
        let bytes = self.read(&WITNESS)?;
        let number = |bytes: Vec<u8>| bytes.try_into().map(u64::from_be_bytes);
        bytes.map(number).transpose().map_err(|_| EngineError::Damaged("the number of a commit".into()))
    }

    pub(super) fn read(&self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Ok(self.0.get(key)?.map(|value| value.to_vec()))
    }

    /// The entries whose keys are in a range, in their order.
    pub(super) fn range<R: RangeBounds<Vec<u8>>>(
        &self,
        range: R,
    ) -> impl Iterator<Item = Outcome<(Vec<u8>, Vec<u8>)>> + use<R> {
        let bound = |bound: Bound<&Vec<u8>>| bound.cloned();
        self.0.range((bound(range.start_bound()), bound(range.end_bound()))).filter_map(read)
    }

    /// Writes what is in memory to tables and merges them, so that what was overwritten takes no space.
    pub(super) fn compact(&self) -> Outcome<()> {
        self.0.rotate_memtable_and_wait()?;
        Ok(self.0.major_compact()?)
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.0.disk_space()
    }
}

/// An entry, unless it is the witness.
fn read(guard: fjall::Guard) -> Option<Outcome<(Vec<u8>, Vec<u8>)>> {
    match guard.into_inner() {
        Ok((key, _)) if *key == WITNESS => None,
        Ok((key, value)) => Some(Ok((key.to_vec(), value.to_vec()))),
        Err(error) => Some(Err(error.into())),
    }
}
