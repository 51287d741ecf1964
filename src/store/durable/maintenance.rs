//! What an operator does with a store: look at it, compact it, back it up.

use std::path::Path;

use super::engine::{Change, Engine, EngineError, TableKind};
use super::evidence_keys::EvidenceKeys;
use super::{DurableStore, failed, open};
use crate::store::mark::Mark;
use crate::store::{MintBook as _, PartitionStats, SpentSet as _, StoreError};

/// What is in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// The partitions, by epoch.
    pub partitions: Vec<PartitionStats>,
    /// Number of mints.
    pub mints: u64,
    /// Bytes on disk, journals included.
    pub disk_bytes: u64,
}

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is something at the place already.
    #[error("there is something at the place of the backup already")]
    Exists,
    /// The store could not be read, or the backup not written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DurableStore {
    /// What is in the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let (set, views) = (self.spent_set(), self.views()?);
        let mut partitions = Vec::new();
        for (epoch, view) in views.iter() {
            partitions.push(PartitionStats {
                epoch: *epoch,
                phase: view.phase,
                totals: set.totals(*epoch)?,
                erased: set.erased_totals(*epoch)?.settled,
                buckets: view.buckets.len(),
                record_bytes: view.records.as_ref().map_or(0, super::engine::Table::disk_bytes),
                evidence_bytes: view.buckets.values().map(|(table, _)| table.disk_bytes()).sum(),
            });
        }
        let disk_bytes = self.0.engine.disk_bytes().map_err(failed)?;
        Ok(StoreStats { partitions, mints: self.mint_book().totals()?.mints, disk_bytes })
    }

    /// Writes everything from memory and journals to tables and merges those, so that nothing that was overwritten takes space.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn compact(&self) -> Result<(), StoreError> {
        let tables = &self.0.tables;
        for table in [&tables.meta, &tables.open, &tables.mints, &tables.accounts, &tables.payments] {
            table.compact().map_err(failed)?;
        }
        for view in self.views()?.values() {
            for table in view.records.iter().chain(view.buckets.values().map(|(table, _)| table)) {
                table.compact().map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Writes a backup of the whole store, as it is at one instant, to a directory that is not there yet, while the store is in
    /// use. A backup is for audits, for evidence, and for making good what callers lose if the store is lost: it can be checked and
    /// audited, and cannot be served from, as it would make notes spendable that were spent since.
    ///
    /// It has the evidence that the store has, with its keys: erase it in time.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn backup(&self, path: &Path) -> Result<(), BackupError> {
        if path.exists() {
            return Err(BackupError::Exists);
        }
        let store = |error: EngineError| BackupError::Store(failed(error));
        let io = |error: std::io::Error| BackupError::Store(failed(error));
        std::fs::create_dir_all(path).map_err(io)?;
        // Taken by the thread that writes, between two commits, so that it fits the keys.
        let engine = std::sync::Arc::clone(&self.0.engine);
        let keys = self.0.path.join("evidence.keys");
        let (snapshot, from, keys) = self.transact(move |_| {
            let keys = zeroize::Zeroizing::new(std::fs::read(keys).map_err(failed)?);
            // Held, so that none of them goes meanwhile.
            let tables = engine.table_names().into_iter().map(|name| {
                let kind = if name.starts_with("evidence-") { TableKind::Blobs } else { TableKind::Records };
                engine.table(&name, kind).map(|table| (name, kind, table))
            });
            Ok((engine.snapshot(), tables.collect::<Result<Vec<_>, _>>().map_err(failed)?, keys))
        })?;
        let copy = Engine::create(&path.join("db"), 16 << 20, 1).map_err(store)?;
        let tables = open::tables(&copy).map_err(store)?;
        for (name, kind, from) in from {
            let to = copy.table(&name, kind).map_err(store)?;
            let mut changes: Vec<Change> = Vec::new();
            for entry in snapshot.entries(&from) {
                let (key, mut value) = entry.map_err(store)?;
                if name == "meta" && key == b"format" && value.len() == 18 {
                    value[17] = 1;
                }
                changes.push((to.clone(), key, Some(value)));
                if changes.len() == 1_000 {
                    copy.commit(std::mem::take(&mut changes)).map_err(store)?;
                }
            }
            copy.commit(changes).map_err(store)?;
        }
        drop((tables, copy));
        Mark::create(&path.join("mark")).map_err(io)?;
        crate::sealed::write_atomically(&path.join("evidence.keys"), &keys).map_err(io)?;
        EvidenceKeys::open(path.join("evidence.keys")).map(drop).map_err(io)
    }
}
