//! The engine's own files, looked over before the engine does.
//!
//! What the engine misses it takes for never made, and what it does not know for left over: it makes the one anew and removes the
//! other. So what it would find is found out here first, without it, and a file that is missing or another one is named.
//!
//! | file in `db/` | what |
//! | --- | --- |
//! | `version` | `FJL` 3 |
//! | `keyspaces/N/current` | number of the list of files (8, little-endian), XXH3-128 of that list (16), 0 |
//! | `keyspaces/N/vM` | the list: an archive with a section each for tables and blobs: number, 0, XXH3-128 of the file |
//! | `keyspaces/N/tables/I`, `keyspaces/N/blobs/I` | what is stored |
//!
//! The names of tables are in table 0.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// Number of a table's directory.
pub(super) type TableId = u64;

/// The table with the names of all others.
const NAMES: TableId = 0;

/// Why files are not the engine's.
#[derive(Debug)]
pub(super) enum InventoryError {
    Io(io::Error),
    Damaged { path: PathBuf, what: String },
}

impl From<io::Error> for InventoryError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn damaged(path: impl Into<PathBuf>, what: impl Into<String>) -> InventoryError {
    InventoryError::Damaged { path: path.into(), what: what.into() }
}

/// A file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// The table that it is a file of.
    pub(super) table: TableId,
    pub(super) path: PathBuf,
    pub(super) what: String,
}

/// The files that the engine goes by.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    files: Vec<(TableId, PathBuf, u128)>,
    /// All directories of tables, those among them that a crash left half made or half removed.
    pub(super) directories: BTreeSet<TableId>,
}

impl Inventory {
    /// Lists the files of a database. Nobody else may have it open.
    pub(super) fn read(database: &Path) -> Result<Self, InventoryError> {
        let version = database.join("version");
        match read_whole(&version) {
            Ok(bytes) if bytes == b"FJL\x03" => {}
            Ok(_) => return Err(damaged(version, "it is not what was written")),
            Err(error) => return Err(missing(error, &version)),
        }
        let keyspaces = tables_of(database);
        let mut found = Self::default();
        for entry in std::fs::read_dir(&keyspaces).map_err(|error| missing(error, &keyspaces))? {
            let path = entry?.path();
            // The engine steps over stray files.
            if !path.is_dir() {
                continue;
            }
            let Some(table) = number(&path) else {
                return Err(damaged(path, "it is no table of the store: move it elsewhere"));
            };
            found.directories.insert(table);
            found.list(table, &path)?;
        }
        if !found.directories.contains(&NAMES) {
            return Err(damaged(keyspaces.join("0"), "it is missing"));
        }
        Ok(found)
    }

    /// Lists the files of one table.
    fn list(&mut self, table: TableId, path: &Path) -> Result<(), InventoryError> {
        let current = path.join("current");
        let bytes = match read_whole(&current) {
            // A table that is being made, or removed; which of them may be so is for the caller to know.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table != NAMES => return Ok(()),
            outcome => outcome.map_err(|error| missing(error, &current))?,
        };
        let mut rest = &bytes[..];
        let (Some(version), Some(sum), Some([0])) = (take(&mut rest), take(&mut rest), take(&mut rest)) else {
            return Err(damaged(current, "it is not what was written"));
        };
        let (version, sum) = (u64::from_le_bytes(version), u128::from_le_bytes(sum));
        let listing = path.join(format!("v{version}"));
        let bytes = match read_whole(&listing) {
            // Of the two, the one that is there is the one to blame.
            Err(error) if error.kind() == io::ErrorKind::NotFound && has_listing(path) => {
                return Err(damaged(current, format!("it leads to {}, which is missing", listing.display())));
            }
            outcome => outcome.map_err(|error| missing(error, &listing))?,
        };
        if !rest.is_empty() || xxh3_128(&bytes) != sum {
            let what = format!("it is not what was written, or {} is not", current.display());
            return Err(damaged(listing, what));
        }
        let (tables, blobs) = read_listing(&bytes).ok_or_else(|| damaged(&listing, "it cannot be read"))?;
        for (folder, files) in [("tables", tables), ("blobs", blobs)] {
            let folder = path.join(folder);
            if folder.is_dir() {
                for entry in std::fs::read_dir(&folder)? {
                    let file = entry?.path();
                    if number(&file).is_none() || file.is_dir() {
                        return Err(damaged(file, "it is no file of the store: move it elsewhere"));
                    }
                }
            }
            for (number, sum) in files {
                let file = folder.join(number.to_string());
                if !file.is_file() {
                    return Err(damaged(file, "it is missing"));
                }
                self.files.push((table, file, sum));
            }
        }
        Ok(())
    }

    /// Reads files whole, as long as they are not more than so many bytes together, and says which are not what was written. Those
    /// with the names of tables are always read.
    pub(super) fn verify(&self, mut budget: u64) -> io::Result<Vec<Flaw>> {
        let mut flaws = Vec::new();
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|(table, ..)| *table != NAMES);
        for (table, path, expected) in files {
            let length = path.metadata()?.len();
            if *table != NAMES && length > budget {
                continue;
            }
            budget = budget.saturating_sub(length);
            if sum_of(path)? != *expected {
                flaws.push(Flaw { table: *table, path: path.clone(), what: "it is not what was written".into() });
            }
        }
        Ok(flaws)
    }
}

impl Flaw {
    /// Whether the names of tables are in it, without which no table is found.
    pub(super) fn is_of_names(&self) -> bool {
        self.table == NAMES
    }
}

/// Where the directories of tables are.
pub(super) fn tables_of(database: &Path) -> PathBuf {
    database.join("keyspaces")
}

fn missing(error: io::Error, path: &Path) -> InventoryError {
    match error.kind() {
        io::ErrorKind::NotFound => damaged(path, "it is missing"),
        io::ErrorKind::FileTooLarge => damaged(path, "it is not what was written"),
        _ => InventoryError::Io(error),
    }
}

/// A list of files is short: so many bytes at the most.
const LONGEST: u64 = 64 << 20;

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.parse().ok()
}

fn has_listing(path: &Path) -> bool {
    let is_listing = |name: &str| name.strip_prefix('v').is_some_and(|rest| rest.parse::<u64>().is_ok());
    let names = std::fs::read_dir(path).into_iter().flatten().flatten();
    names.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_listing))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

type Files = Vec<(u64, u128)>;

/// Tables and blobs in a list of files.
fn read_listing(bytes: &[u8]) -> Option<(Files, Files)> {
    let reader = sfa::Reader::from_reader(&mut Cursor::new(bytes)).ok()?;
    let section = |name: &[u8]| {
        let entry = reader.toc().section(name)?;
        let from = usize::try_from(entry.pos()).ok()?;
        bytes.get(from..from.checked_add(usize::try_from(entry.len()).ok()?)?)
    };
    let mut tables = Vec::new();
    let mut rest = section(b"tables")?;
    for _ in 0..take::<1>(&mut rest)?[0] {
        for _ in 0..take::<1>(&mut rest)?[0] {
            for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
                tables.push(read_file(&mut rest)?);
                // The number of a batch, of tables that came from elsewhere.
                take::<8>(&mut rest)?;
            }
        }
    }
    let mut blobs = Vec::new();
    let mut rest = section(b"blob_files")?;
    for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
        blobs.push(read_file(&mut rest)?);
    }
    Some((tables, blobs))
}

fn read_file(rest: &mut &[u8]) -> Option<(u64, u128)> {
    let number = u64::from_le_bytes(take(rest)?);
    let [0] = take(rest)? else { return None };
    Some((number, u128::from_le_bytes(take(rest)?)))
}

fn sum_of(path: &Path) -> io::Result<u128> {
    let (mut file, mut hash) = (File::open(path)?, Xxh3Default::new());
    let mut part = vec![0; 1 << 18];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hash.digest128()),
            read => hash.update(&part[..read]),
        }
    }
}
