//! Files that are replaced whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// Those of the file system, and [`io::ErrorKind::FileTooLarge`].
pub fn read_bounded(path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    // All of the room at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.min(limit).saturating_add(1)));
    file.take((limit as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Locks a file for this process, or says that somebody else has it. A child that this process is just starting holds what was
/// open for a moment, and so what was closed meanwhile: that moment is waited for, 100 ms at most.
///
/// # Errors
/// [`TryLockError`].
pub fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..10 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            outcome => return outcome,
        }
    }
    file.try_lock()
}

/// Makes `bytes` the contents of a file, durably: after a crash at any instant the file has the old contents or the new
/// ones, whole, and after an answer without error the new ones. On Unix only its owner may read it.
///
/// The bytes go into a new file in the same directory, which is synced and takes the name, and the directory is synced. A
/// symbolic link is replaced and not followed. Of several writers one is last.
///
/// # Errors
/// Those of the file system. The contents are then the old ones, or the new ones that are not known to be durable.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = create_beside(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    renamed.and_then(|()| sync_directory(directory_of(path)))
}

/// Removes what a crash left of unfinished writes of this file. Only for its one writer: another's would be removed while it
/// is being written.
///
/// # Errors
/// Those of the file system.
pub(crate) fn clear_unfinished(path: &Path) -> io::Result<()> {
    let prefix = prefix_of(path)?;
    for entry in fs::read_dir(directory_of(path))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(prefix.as_encoded_bytes()) && name.ends_with(SUFFIX.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

const SUFFIX: &str = ".tmp";

/// A file beside `path` that was not there before, under a name that no other writer uses.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    loop {
        let mut name = prefix_of(path)?;
        name.push(format!("{}-{}{SUFFIX}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let temporary = directory_of(path).join(name);
        match options.open(&temporary) {
            // A crash left it, in a process of the same number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            file => return Ok((temporary, file?)),
        }
    }
}

fn prefix_of(path: &Path) -> io::Result<OsString> {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().ok_or(io::ErrorKind::InvalidFilename)?);
    prefix.push(".");
    Ok(prefix)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Without this the new name itself may be lost in a crash.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes a directory that nobody else may look into, with those above it.
pub fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn contents(of: u8) -> Vec<u8> {
        vec![of; 100_000]
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_reader_sees_the_old_or_the_new_contents_during_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        write_atomically(&path, &contents(0)).unwrap();
        let done = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    let bytes = read_bounded(&path, 100_000).unwrap();
                    assert_eq!(bytes.len(), 100_000);
                    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
                    seen += 1;
                }
                seen
            });
            let write = |of| (0..20).for_each(|_| write_atomically(&path, &contents(of)).unwrap());
            let writers: Vec<_> = [1, 2].into_iter().map(|of| scope.spawn(move || write(of))).collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert!(seen > 0);
        assert_eq!(names(directory.path()), ["keys"], "nothing is left behind");
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_contents() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        write_atomically(&path, b"old").unwrap();
        // All that such a crash can leave: a file under another name, with a part of the new contents.
        let (temporary, mut file) = create_beside(&path).unwrap();
        file.write_all(b"ne").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(temporary.exists());
        fs::write(directory.path().join(".keys2.7-7.tmp"), b"of another file").unwrap();
        fs::write(directory.path().join(".keys.bak"), b"of its owner").unwrap();
        clear_unfinished(&path).unwrap();
        assert_eq!(names(directory.path()), [".keys.bak", ".keys2.7-7.tmp", "keys"]);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_contents_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        // A directory in the way: all goes well up to the rename.
        let path = directory.path().join("keys");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("old"), b"old").unwrap();
        assert!(write_atomically(&path, b"new").is_err());
        assert_eq!(fs::read(path.join("old")).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["keys"]);
        assert!(write_atomically(&directory.path().join("missing").join("keys"), b"new").is_err());
        assert!(write_atomically(Path::new("/"), b"new").is_err());
        assert!(write_atomically(Path::new(""), b"new").is_err());
    }

    #[test]
    fn a_long_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read_bounded(&path, 100).unwrap().len(), 100);
        assert_eq!(read_bounded(&path, 99).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        #[cfg(target_os = "linux")]
        assert!(read_bounded(Path::new("/dev/zero"), 99).is_err(), "without end, and its length says 0");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_and_a_link_is_not_followed() {
        use std::os::unix::fs::{MetadataExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (directory.path().join("keys"), directory.path().join("elsewhere"));
        fs::write(&elsewhere, b"of somebody else").unwrap();
        symlink(&elsewhere, &path).unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read(&elsewhere).unwrap(), b"of somebody else");
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
