//! Where the files of a store are.

use std::io;
use std::path::{Path, PathBuf};

use super::{OpenError, StoreOptions};

/// The files of a store.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) store: PathBuf,
    pub(super) database: PathBuf,
    pub(super) mark: PathBuf,
    pub(super) keys: PathBuf,
}

impl Files {
    /// Those of a store whose mark is where it may be.
    ///
    /// # Errors
    /// [`OpenError::MarkInside`].
    pub(super) fn of(store: &Path, options: &StoreOptions) -> Result<Self, OpenError> {
        let inside = store.join("mark");
        let mark = match &options.mark {
            Some(mark) => mark.clone(),
            None if options.allow_mark_inside => inside,
            None => {
                let beside = beside(store);
                if inside.exists() && !beside.exists() {
                    return Err(OpenError::MarkInside { mark: inside, beside });
                }
                beside
            }
        };
        if !options.allow_mark_inside && is_inside(&mark, store) {
            return Err(OpenError::MarkInside { mark, beside: beside(store) });
        }
        Ok(Self::marked(store, mark))
    }

    /// Those of a backup, whose mark says nothing.
    pub(super) fn of_backup(store: &Path) -> Self {
        Self::marked(store, store.join("mark"))
    }

    fn marked(store: &Path, mark: PathBuf) -> Self {
        Self { store: store.to_owned(), database: store.join("db"), mark, keys: store.join("evidence.keys") }
    }
}

/// The mark of a store whose options do not say where it is: beside the directory, under its name.
pub(super) fn beside(store: &Path) -> PathBuf {
    let real = std::path::absolute(store).unwrap_or_else(|_| store.to_owned());
    let mut name = real.file_name().unwrap_or_default().to_owned();
    name.push(".mark");
    // Where it was written as `x/store`, it is named as `x/store.mark`.
    match (store.file_name(), store.parent()) {
        (Some(_), Some(parent)) => parent.join(name),
        _ => real.with_file_name(name),
    }
}

/// Whether a file would go back with a directory, by whatever way it is named.
pub(super) fn is_inside(file: &Path, directory: &Path) -> bool {
    match (resolved(file), resolved(directory)) {
        (Ok(file), Ok(directory)) => file.starts_with(directory),
        _ => false,
    }
}

/// A path without links and dots, as far as it is there.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut rest = Vec::new();
    let mut there = path.as_path();
    loop {
        if let Ok(real) = there.canonicalize() {
            return Ok(rest.iter().rev().fold(real, |path, name| path.join(name)));
        }
        let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else { return Ok(path) };
        rest.push(name);
        there = parent;
    }
}
