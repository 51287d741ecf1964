//! What a run of the demo leaves behind, if it is asked to.

use std::io;
use std::path::{Path, PathBuf};

use crate::lifecycle::Evidence;
use crate::protocol::{GatewayId, SignedDirectory};
use crate::sealed::write_atomically;
use crate::store::durable::{DurableStore, OpenError, StoreOptions};

/// A directory with the records of a run.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    store: DurableStore,
}

/// Why the records cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// A file or directory.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
}

impl Kept {
    /// Makes the directory, which must not be there, and a store in it.
    pub(super) fn create(path: &Path, gateway: GatewayId) -> Result<Self, KeepError> {
        std::fs::create_dir(path).map_err(|error| KeepError::Io(path.to_owned(), error))?;
        let store = DurableStore::create(path.join("store"), gateway, &StoreOptions::default())?;
        Ok(Self { path: path.to_owned(), store })
    }

    pub(super) fn store(&self) -> &DurableStore {
        &self.store
    }

    /// The directory as it was published.
    pub(super) fn directory(&self, signed: &SignedDirectory) -> Result<(), KeepError> {
        self.write("directory", &signed.to_bytes())
    }

    /// The last evidence.
    pub(super) fn evidence(&self, evidence: &Evidence) -> Result<(), KeepError> {
        self.write("double-spend.evidence", &evidence.to_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), KeepError> {
        let path = self.path.join(name);
        write_atomically(&path, bytes).map_err(|error| KeepError::Io(path, error))
    }

    /// What to do with it, for people.
    pub(super) fn hint(&self, root_key: &str) -> String {
        let path = self.path.display();
        let trust = format!("--directory {path}/directory --root-key {root_key}");
        format!(
            "kept in {path}; look at it with\n  halometer store stats {path}/store\n  halometer issuer audit {path}/store {trust} \
             --proofs\n  halometer evidence verify {path}/double-spend.evidence {trust}"
        )
    }
}
