//! What can go wrong with a wallet's file.

use std::io;

use super::super::OpenError;
use crate::sealed::{self, SealError};

/// Why a wallet's file was not made, opened, moved or changed. Unless it says otherwise the file is as it was, and its credit
/// is safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletFileError {
    /// Something of this name is there already; nothing is ever overwritten. Choose another name.
    #[error("a file of this name is there already")]
    Exists,
    /// There is no file of this name.
    #[error("there is no such file")]
    Missing,
    /// The file is no wallet.
    #[error("this is no wallet file of halometer")]
    NotAWallet,
    /// A newer program wrote it. Use that one.
    #[error("the wallet file is of version {0}, which this program does not know")]
    Version(u8),
    /// The lock does not open it: most of all, the passphrase or key is not the right one.
    #[error(transparent)]
    Lock(#[from] sealed::UnsealError),
    /// The lock cannot be put on.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Another process has the wallet open, or this one has. One at a time.
    #[error("the wallet is open elsewhere")]
    InUse,
    /// The file is not where it was last used: it was copied or carried here, or the place for seats was lost or is another.
    /// Use the wallet where it was, and move it by export and import. Only if no other copy of it will ever run again, adopt
    /// this one.
    #[error(
        "this file was not used here last: it was copied from elsewhere. Use the original; or, if no other copy will ever run again, adopt this one"
    )]
    Copied,
    /// An older state of the file was put back, such as one from a backup. Put the newest one back; only if that is lost and no
    /// other copy will ever run again, adopt this one.
    #[error(
        "this is an older state of the wallet: {behind} changes are missing. Put the newest file back; or, if it is lost and no other copy will ever run again, adopt this one"
    )]
    RolledBack {
        /// How many commits the file lacks.
        behind: u64,
    },
    /// The wallet was closed for ever by an export. Import the bundle on the device it is for; the same export, to the same
    /// code, can be made again.
    #[error("the wallet was moved to another device")]
    Moved,
    /// The wallet was moved to another code than this. Export to that one again.
    #[error("the wallet was moved already, to another code")]
    OtherArrival,
    /// The code is mistyped, or no code of an arrival.
    #[error("this is no arrival code: a character is wrong or missing")]
    Code,
    /// No arrival was prepared here for this bundle, or it was imported already.
    #[error("no arrival was prepared here for this bundle, or it was imported already")]
    NoArrival,
    /// The bundle is cut off, damaged, or no bundle. Copy it again, or export again to the same code.
    #[error("the bundle is damaged or cut off: {0}")]
    Bundle(&'static str),
    /// The file is damaged. Its disk is at fault, or somebody altered it. Put a backup back.
    #[error("the wallet file is damaged: {0}")]
    Damaged(&'static str),
    /// The storage engine failed: the disk refused, is full, or has lost something. Whether the last change is in the file shows
    /// when it is opened again; what was acknowledged is.
    #[error("the wallet file cannot be read or written")]
    Storage(#[source] Box<dyn core::error::Error + Send + Sync>),
    /// A write failed before. Nothing more is written until the wallet is opened again.
    #[error("a write to the wallet file failed; open the wallet again")]
    Stopped,
    /// The file system refused.
    #[error("the file system refused")]
    Io(#[source] io::Error),
    /// There is no place for seats: neither `XDG_STATE_HOME` nor `HOME` is set. Name one.
    #[error("there is no directory for the state of programs: set XDG_STATE_HOME or HOME, or name one")]
    NoSeats,
    /// What the file says does not make a wallet.
    #[error(transparent)]
    Wallet(#[from] OpenError),
}

macro_rules! from_storage {
    ($($name:ty),*) => {$(
        impl From<$name> for WalletFileError {
            fn from(error: $name) -> Self {
                Self::Storage(Box::new(error))
            }
        }
    )*};
}

from_storage!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError,
    redb::CompactionError
);

impl From<redb::DatabaseError> for WalletFileError {
    fn from(error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            redb::DatabaseError::Storage(redb::StorageError::Corrupted(_)) => {
                Self::Damaged("a page is not what was written")
            }
            redb::DatabaseError::Storage(redb::StorageError::Io(error))
                if error.kind() == io::ErrorKind::InvalidData =>
            {
                Self::NotAWallet
            }
            other => Self::Storage(Box::new(other)),
        }
    }
}
