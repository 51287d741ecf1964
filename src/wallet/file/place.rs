//! Files that come into being whole, and take the place of nothing.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::WalletFileError;

/// A file beside the one that it will become. Removed on drop, unless it took its place.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) path: PathBuf,
}

impl Unfinished {
    /// An empty file, open for reading and writing, that only its owner may read.
    pub(super) fn beside(path: &Path) -> io::Result<(Self, File)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        loop {
            let mut beside = std::ffi::OsString::from(".");
            beside.push(name);
            // The form that `clear_unfinished` knows.
            beside.push(format!(".{}-w{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
            let unfinished = directory(path).join(beside);
            match options.open(&unfinished) {
                // A crash left it, in a process of the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                file => return file.map(|file| (Self { path: unfinished }, file)),
            }
        }
    }

    /// Gives it its name, durably, if nothing has that name.
    pub(super) fn become_new(self, path: &Path) -> Result<(), WalletFileError> {
        match fs::hard_link(&self.path, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(WalletFileError::Exists),
            linked => linked.map_err(WalletFileError::Io)?,
        }
        drop(self);
        sync(directory(path)).map_err(WalletFileError::Io)
    }

    /// Puts it in the place of the file of this name, durably.
    pub(super) fn replace(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        drop(self);
        sync(directory(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way, and sealed.
        let _ = fs::remove_file(&self.path);
    }
}

pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Without this a name itself may be lost in a crash, or come back.
#[cfg(unix)]
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
pub(super) fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}
