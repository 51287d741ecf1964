//! What a run of the demo leaves behind, if it is asked to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use halometer::protocol::{GatewayId, SignedDirectory};
use halometer::sealed::write_atomically;
use halometer::store::durable::{DurableStore, OpenError, StoreOptions};
use halometer::testing::stack::{Records, Stack};
use rand::RngExt as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

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
    pub(super) fn create(path: &Path) -> Result<Self, KeepError> {
        std::fs::create_dir(path).map_err(|error| KeepError::Io(path.to_owned(), error))?;
        let gateway = GatewayId::from_bytes(UnwrapErr(SysRng).random());
        let store = DurableStore::create(path.join("store"), gateway, &StoreOptions::default())?;
        Ok(Self { path: path.to_owned(), store })
    }

    /// For the parties to write to.
    pub(super) fn records(&self) -> Records {
        Records {
            gateway: self.store.gateway(),
            set: Arc::new(self.store.spent_set()),
            mints: Arc::new(self.store.mint_book()),
        }
    }

    /// Keeps the directory as it was published.
    pub(super) fn directory(&self, signed: &SignedDirectory) -> Result<(), KeepError> {
        self.write("directory", &signed.to_bytes())
    }

    /// Keeps the last evidence, and says what to do with what is kept.
    pub(super) fn conclude(&self, stack: &Stack) -> Result<String, KeepError> {
        if let Some(evidence) = stack.evidence().last() {
            self.write("double-spend.evidence", &evidence.to_bytes())?;
        }
        let (path, root) = (self.path.display(), hex::encode(stack.root_key().to_bytes()));
        let trust = format!("--directory {path}/directory --root-key {root}");
        Ok(format!(
            "kept in {path}; look at it with\n  halometer store stats {path}/store\n  halometer issuer audit {path}/store {trust} \
             --proofs\n  halometer evidence verify {path}/double-spend.evidence {trust}"
        ))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), KeepError> {
        let path = self.path.join(name);
        write_atomically(&path, bytes).map_err(|error| KeepError::Io(path, error))
    }
}
