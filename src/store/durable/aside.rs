//! Tables that the engine would remove, kept until it is known that nothing is lost with them.
//!
//! The engine removes what no name leads to: what a crash left of a table that was being made or dropped, and just so a table whose
//! name or list of files was lost. Which it is, the store says once it is open.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::evidence_keys::sync_directory;
use super::inventory::{TableId, tables_of};

/// Where they are kept.
pub(super) fn aside_of(database: &Path) -> PathBuf {
    database.join("aside")
}

/// Moves directories of tables aside.
pub(super) fn set_aside(database: &Path, tables: &BTreeSet<TableId>) -> io::Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let aside = aside_of(database);
    fs::create_dir_all(&aside)?;
    // The directory is there for good before anything is in it.
    sync_directory(database)?;
    for table in tables {
        let name = table.to_string();
        fs::rename(tables_of(database).join(&name), aside.join(&name))?;
    }
    // What was moved is in one of the two after a loss of power, and not in neither: the new place first.
    sync_directory(&aside)?;
    sync_directory(&tables_of(database))
}

/// Puts all that is aside back to where it was: after an opening that failed, or a crash in one.
pub(super) fn put_back(database: &Path) -> io::Result<()> {
    let aside = aside_of(database);
    if !aside.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(&aside)? {
        let entry = entry?;
        let target = tables_of(database).join(entry.file_name());
        // A crash after the store was opened, which made a table under the number of one that was dropped.
        match target.exists() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::rename(entry.path(), target)?,
        }
    }
    // Before the only other name of what was moved can be gone for good.
    sync_directory(&tables_of(database))?;
    fs::remove_dir(&aside)?;
    sync_directory(database)
}

/// Removes what is aside: the store is whole without it.
pub(super) fn drop_aside(database: &Path) -> io::Result<()> {
    let aside = aside_of(database);
    if !aside.is_dir() {
        return Ok(());
    }
    fs::remove_dir_all(aside)?;
    // What comes back after a loss of power is put back, found to be without a name, and moved here again.
    sync_directory(database)
}
