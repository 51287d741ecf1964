//! The file under the storage engine.

use std::fs::{File, TryLockError};
use std::io;
#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;
use std::path::Path;

use super::WalletFileError;

/// A file that is locked while it is open.
#[derive(Debug)]
pub(super) struct LockedFile(File);

impl LockedFile {
    /// Locks a file that was opened under this path.
    pub(super) fn new(file: File, path: &Path) -> Result<Self, WalletFileError> {
        lock(&file, path)?;
        Ok(Self(file))
    }
}

/// Locks a file for this process, and sees that it still is the one of its path: it may have been replaced between the
/// opening and the locking, and then nobody else would notice the lock.
pub(super) fn lock(file: &File, path: &Path) -> Result<(), WalletFileError> {
    crate::sealed::try_lock(file).map_err(|error| match error {
        TryLockError::WouldBlock => WalletFileError::InUse,
        TryLockError::Error(error) => WalletFileError::Io(error),
    })?;
    if is_at(file, path).map_err(WalletFileError::Io)? { Ok(()) } else { Err(WalletFileError::InUse) }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (own, other) = (file.metadata()?, std::fs::metadata(path)?);
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    // Here an open file cannot be replaced.
    Ok(true)
}

impl redb::StorageBackend for LockedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(unix)]
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    #[cfg(unix)]
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    #[cfg(windows)]
    fn read(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            let read = self.0.seek_read(out, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out = &mut out[read..];
            offset += read as u64;
        }
        Ok(())
    }

    #[cfg(windows)]
    fn write(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = self.0.seek_write(data, offset)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            data = &data[written..];
            offset += written as u64;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
