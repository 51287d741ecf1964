//! The disk that is measured.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::figures::Samples;
use super::progress::Progress;

/// A directory of this run's own, removed at its end.
pub(super) struct Place {
    path: PathBuf,
    used: AtomicU32,
}

impl Place {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!(".halometer-bench-{}-{}", std::process::id(), fresh()));
        std::fs::create_dir(&path)?;
        Ok(Self { path, used: AtomicU32::new(0) })
    }

    /// A name in it that nothing has yet.
    pub(super) fn next(&self) -> PathBuf {
        self.path.join(self.used.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn fresh() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Milliseconds to append 4 KiB to a file and have them on disk.
pub(super) fn fsync(place: &Place, progress: &mut Progress) -> io::Result<Samples> {
    const COUNT: usize = 200;
    let mut file = File::create(place.next())?;
    progress.start("fsync", COUNT);
    let mut failed = Ok(());
    let samples = Samples::time(COUNT, |i| {
        progress.step();
        if let Err(error) = file.write_all(&[i as u8; 4_096]).and_then(|()| file.sync_data()) {
            failed = Err(error);
        }
    });
    failed.map(|()| samples)
}

/// Bytes that a directory takes on disk, holes in files left out.
pub(super) fn bytes_on_disk(path: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { bytes_on_disk(&entry.path())? } else { blocks(&meta) };
    }
    Ok(sum)
}

#[cfg(unix)]
fn blocks(meta: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(meta) * 512
}

#[cfg(not(unix))]
fn blocks(meta: &std::fs::Metadata) -> u64 {
    meta.len()
}
