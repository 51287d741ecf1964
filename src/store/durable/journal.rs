//! The engine's journals, read before the engine replays them.
//!
//! The engine takes a record that it cannot parse for a write that a crash cut short, drops it with all that is behind it, and goes
//! on with the next journal: a flipped bit loses answered commits, also in the middle. And it refuses to open when the last
//! record was only partly written before the power went, though nobody was told of it. Here it is told apart: every commit in
//! the journals must be whole and follow the one before it, up to the last one; what is behind that is cut off if it can be
//! only a single commit that was never answered.
//!
//! | record | bytes (numbers little-endian) |
//! | --- | --- |
//! | begin | 1, number of items (4), the engine's number of the batch (8) |
//! | item | 2, kind (1), compression (1), table (8), length of key (2), of value (4), and again (4), key, value |
//! | end | 3, XXH3 of the items (8), `FJL` 3 |
//!
//! A journal is allocated with zeros, and ends with them.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::evidence_keys::sync_directory;

/// Under this key, every commit has its sequence number.
pub(super) const SEQUENCE: &[u8] = b"sequence";

const TRAILER: [u8; 4] = *b"FJL\x03";

/// Why journals cannot be replayed.
#[derive(Debug)]
pub(super) enum JournalError {
    Io(io::Error),
    Damaged { path: PathBuf, what: String },
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What the journals of a database hold.
#[derive(Debug)]
pub(super) struct Journals {
    newest: PathBuf,
    /// The whole commits in it.
    whole: Vec<u8>,
    /// Whether there is something behind them.
    torn: bool,
    /// The sequence number of the last whole commit, if there is any.
    last: Option<u64>,
}

impl Journals {
    /// Reads all journals in the directory of a database. Nobody else may have it open.
    pub(super) fn read(database: &Path) -> Result<Self, JournalError> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(database)? {
            let path = entry?.path();
            let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
            files.extend(number.map(|number| (number, path)));
        }
        files.sort();
        let Some(((newest, path), sealed)) = files.split_last() else {
            return Err(damaged(database, "its journal is missing"));
        };
        let mut last = Last::default();
        let mut expected = None;
        for (number, path) in sealed {
            follows(&mut expected, *number, path)?;
            let bytes = std::fs::read(path)?;
            let whole = last.follow(path, &bytes)?;
            if bytes[whole..].iter().any(|byte| *byte != 0) {
                return Err(damaged(path, "a commit in it is not what was written"));
            }
        }
        follows(&mut expected, *newest, path)?;
        let mut bytes = std::fs::read(path)?;
        let whole = last.follow(path, &bytes)?;
        let torn = bytes[whole..].iter().any(|byte| *byte != 0);
        // Commits are written one after the other, each on disk before the next is begun. Only the last can be torn.
        if torn && (whole + 1..bytes.len()).any(|at| last.is_later(&bytes[at..])) {
            return Err(damaged(path, "a commit in it is not what was written, and others follow"));
        }
        bytes.truncate(whole);
        Ok(Self { newest: path.clone(), whole: bytes, torn, last: last.sequence })
    }

    /// The sequence number of the last whole commit, if any is in a journal.
    pub(super) fn last(&self) -> Option<u64> {
        self.last
    }

    /// The journal that is written to.
    pub(super) fn newest(&self) -> &Path {
        &self.newest
    }

    /// Leaves the whole commits alone in the newest journal, and makes sure that they are on disk: after an fsync that failed, a
    /// page is taken for written that is not, and what would be answered from it now could be gone with the next power cut.
    /// What was torn is kept beside it.
    pub(super) fn settle(&self) -> io::Result<()> {
        let (fresh, aside) = (self.newest.with_extension("new"), self.aside());
        let mut file = File::create(&fresh)?;
        file.write_all(&self.whole)?;
        file.sync_all()?;
        if self.is_kept() {
            let _ = std::fs::remove_file(&aside);
            std::fs::hard_link(&self.newest, &aside).or_else(|_| std::fs::copy(&self.newest, &aside).map(drop))?;
        }
        std::fs::rename(&fresh, &self.newest)?;
        self.newest.parent().map_or(Ok(()), sync_directory)
    }

    /// Whether the newest journal is kept as it was: it is not known before the replay how far the store is.
    fn is_kept(&self) -> bool {
        self.torn || self.last.is_none()
    }

    /// Puts the newest journal back as it was.
    pub(super) fn restore(&self) -> io::Result<()> {
        if self.is_kept() { std::fs::rename(self.aside(), &self.newest) } else { Ok(()) }
    }

    /// The store has all that was answered: what was torn is left beside it for inspection.
    pub(super) fn accept(&self) -> io::Result<()> {
        if self.is_kept() && !self.torn { std::fs::remove_file(self.aside()) } else { Ok(()) }
    }

    fn aside(&self) -> PathBuf {
        self.newest.with_extension("torn")
    }
}

fn damaged(path: &Path, what: &str) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), what: what.to_owned() }
}

/// Journals are numbered one after the other; the engine removes the oldest first.
fn follows(expected: &mut Option<u64>, number: u64, path: &Path) -> Result<(), JournalError> {
    if expected.replace(number + 1).is_some_and(|expected| expected != number) {
        return Err(damaged(path, "the journal before it is missing"));
    }
    Ok(())
}

/// The last commit that was read.
#[derive(Default)]
struct Last {
    sequence: Option<u64>,
    batch: Option<u64>,
}

impl Last {
    /// Reads the commits at the beginning of a journal, and says where they end.
    fn follow(&mut self, path: &Path, bytes: &[u8]) -> Result<usize, JournalError> {
        let mut at = 0;
        while let Some(commit) = Commit::read(&bytes[at..]) {
            if self.batch.is_some_and(|last| commit.batch <= last) {
                return Err(damaged(path, "its commits are not in order"));
            }
            // A backup is written in portions that have none.
            if let Some(sequence) = commit.sequence {
                if self.sequence.is_some_and(|last| last + 1 != sequence) {
                    return Err(damaged(path, "a commit is missing from it"));
                }
                self.sequence = Some(sequence);
            }
            self.batch = Some(commit.batch);
            at += commit.length;
        }
        Ok(at)
    }

    /// Whether the bytes begin with a commit that came later. What a caller puts into a memo has no room for two items.
    fn is_later(&self, bytes: &[u8]) -> bool {
        let newer = |commit: Commit| {
            commit.items >= 2 && commit.sequence > self.sequence && self.batch.is_none_or(|last| commit.batch > last)
        };
        bytes.first() == Some(&1) && Commit::read(bytes).is_some_and(newer)
    }
}

struct Commit {
    length: usize,
    items: u32,
    batch: u64,
    sequence: Option<u64>,
}

impl Commit {
    /// The commit that the bytes begin with, if it is whole.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let (1, items, batch) = (rest.u8()?, rest.u32()?, rest.u64()?) else { return None };
        let begin = rest.0;
        let mut sequence = None;
        for _ in 0..items {
            let (2, _, 0, _) = (rest.u8()?, rest.u8()?, rest.u8()?, rest.u64()?) else { return None };
            let (key, value, again) = (usize::from(rest.u16()?), rest.u32()?, rest.u32()?);
            if value != again {
                return None;
            }
            let (key, value) = (rest.take(key)?, rest.take(value as usize)?);
            if key == SEQUENCE {
                sequence = Some(u64::from_be_bytes(value.try_into().ok()?));
            }
        }
        let items_end = begin.len() - rest.0.len();
        let (3, check) = (rest.u8()?, rest.u64()?) else { return None };
        let sound = rest.take(4)? == TRAILER && xxh3_64(&begin[..items_end]) == check;
        sound.then(|| Self { length: bytes.len() - rest.0.len(), items, batch, sequence })
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// How long the commit is that the bytes begin with, if it is whole.
#[cfg(all(any(test, fuzzing), feature = "http", feature = "testing"))]
pub(super) fn whole_commit(bytes: &[u8]) -> Option<usize> {
    Commit::read(bytes).map(|commit| commit.length)
}

/// A commit of some items, as the engine writes it.
#[cfg(all(any(test, fuzzing), feature = "http", feature = "testing"))]
pub(super) fn sample_commit(items: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in items {
        body.extend_from_slice(&[2, 0, 0]);
        body.extend_from_slice(&7_u64.to_le_bytes());
        body.extend_from_slice(&(key.len() as u16).to_le_bytes());
        let length = (value.len() as u32).to_le_bytes();
        body.extend([length, length].concat());
        body.extend([*key, *value].concat());
    }
    let begin = [&[1][..], &(items.len() as u32).to_le_bytes(), &9_u64.to_le_bytes()].concat();
    let end = [&[3][..], &xxh3_64(&body).to_le_bytes(), &TRAILER].concat();
    [begin, body, end].concat()
}
