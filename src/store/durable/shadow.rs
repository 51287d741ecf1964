//! A store that is looked at and not touched.
//!
//! The engine changes what it opens: it replays journals, cuts torn ends off, merges, removes what it does not know. What only looks
//! opens a shadow: a directory elsewhere, in which files that are never written over are links to those of the store, and all
//! others are copies. To remove a link removes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::aside::aside_of;
use super::inventory::tables_of;

/// The shadow of a store. It goes when it is dropped.
#[derive(Debug)]
pub(super) struct Shadow {
    place: TempDir,
    of: PathBuf,
}

impl Shadow {
    /// Makes the shadow of a database in a directory, for a rehearsal: without its journals, which are long, so that of each
    /// table it has what was written out.
    pub(super) fn of_tables(database: &Path, place: &Path) -> io::Result<Self> {
        clear_rehearsals(place)?;
        let place = tempfile::Builder::new().prefix(REHEARSAL).tempdir_in(place)?;
        let shadow = Self { place, of: database.canonicalize()? };
        shadow.add_tables(&shadow.of, shadow.path())?;
        Ok(shadow)
    }

    /// Makes the shadow of a store whose database is there, without keys and mark.
    pub(super) fn of_store(store: &Path) -> io::Result<Self> {
        let place = tempfile::Builder::new().prefix("halometer-").tempdir()?;
        let shadow = Self { place, of: store.canonicalize()? };
        let (from, to) = (shadow.of.join("db"), shadow.path().join("db"));
        shadow.add_tables(&from, &to)?;
        for entry in fs::read_dir(&from)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "jnl") && path.is_file() {
                copy_journal(&path, &to.join(path.file_name().unwrap_or_default()))?;
            }
        }
        Ok(shadow)
    }

    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    /// The file of the store that a file of the shadow stands for.
    pub(super) fn real(&self, path: &Path, store: &Path) -> PathBuf {
        path.strip_prefix(self.path()).map_or_else(|_| path.to_owned(), |rest| store.join(rest))
    }

    fn add_tables(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::create_dir_all(tables_of(to))?;
        fs::copy(from.join("version"), to.join("version"))?;
        for folder in [tables_of(from), aside_of(from)] {
            // The second is there after a crash only.
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let table = entry?.path();
                let target = tables_of(to).join(table.file_name().unwrap_or_default());
                if table.is_dir() && !target.exists() {
                    add_table(&table, &target)?;
                }
            }
        }
        Ok(())
    }
}

/// What the name of a rehearsal's directory begins with.
const REHEARSAL: &str = "rehearsal-";

/// Removes what a crash left of rehearsals.
fn clear_rehearsals(place: &Path) -> io::Result<()> {
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(REHEARSAL.as_bytes()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Lists of files are copied, as they are replaced; what they list is linked to, as it is only ever read or removed.
fn add_table(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if !path.is_dir() {
            fs::copy(&path, target)?;
            continue;
        }
        fs::create_dir(&target)?;
        for entry in fs::read_dir(&path)? {
            let file = entry?.path();
            if file.is_file() {
                link(&file, &target.join(file.file_name().unwrap_or_default()))?;
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}

/// Without the zeros that a journal ends with.
fn copy_journal(from: &Path, to: &Path) -> io::Result<()> {
    let mut bytes = fs::read(from)?;
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    fs::write(to, bytes)
}
