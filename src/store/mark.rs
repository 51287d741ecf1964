//! How far the store had come: what a store that was set back falls short of.
//!
//! A storage engine takes a torn end of its journal for what it mostly is, a write that was never answered, and cuts it off.
//! So a flipped bit further up, a file put back from a copy, or a lost journal would silently make spent notes spendable. The mark
//! is written after every commit and before its answer, beside the database or, better, on another disk; a store whose sequence
//! number is below its mark is not opened.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use blake2b_simd::Params;

/// Two slots of 32 bytes, written in turn, so that a torn write leaves the other: number (8), digest (24).
///
/// It is made durable once a second, not with every commit. A process that dies leaves it exact. After a power cut it may be a
/// second old, and vouches for commits only up to then. The commits since have been fsynced in the journal, each by itself, and
/// a power cut takes nothing of what was; only a disk that *also* damages the very last of them, in the way of a torn write, in
/// that same second, has it taken for one that was never answered.
pub(in crate::store) struct Mark {
    file: File,
    slot: u64,
    synced: Instant,
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Reading {
    /// How far the store had come at least.
    pub(in crate::store) number: u64,
    /// Whether one slot is damaged. If that was the newer one, the store had come further: it was on disk before the slot was
    /// written.
    pub(in crate::store) half: bool,
}

const SLOT: usize = 32;
/// How old the mark on disk may be, should the power be cut. (After a mere crash it is exact.)
const SYNC: Duration = Duration::from_secs(1);

impl Mark {
    /// Makes the mark of a new store.
    pub(in crate::store) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let mut mark = Self { file, slot: 0, synced: Instant::now() };
        mark.write(0)?;
        mark.write(0)?;
        mark.file.sync_all()?;
        Ok(mark)
    }

    /// Opens a mark and reads it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when neither slot is whole.
    pub(in crate::store) fn open(path: &Path) -> io::Result<(Self, Reading)> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut bytes = Vec::new();
        (&mut file).take(2 * SLOT as u64 + 1).read_to_end(&mut bytes)?;
        let numbers: Vec<_> = bytes.chunks(SLOT).enumerate().filter_map(|(i, slot)| Some((read(slot)?, i))).collect();
        let newest = numbers.iter().max().filter(|_| bytes.len() == 2 * SLOT);
        let (number, slot) =
            *newest.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the mark is damaged"))?;
        let half = numbers.len() < 2;
        Ok((Self { file, slot: 1 - slot as u64, synced: Instant::now() }, Reading { number, half }))
    }

    /// Writes that the store has come this far.
    pub(in crate::store) fn advance(&mut self, number: u64) -> io::Result<()> {
        self.write(number)?;
        if self.synced.elapsed() >= SYNC {
            self.sync()?;
        }
        Ok(())
    }

    pub(in crate::store) fn sync(&mut self) -> io::Result<()> {
        self.synced = Instant::now();
        self.file.sync_data()
    }

    fn write(&mut self, number: u64) -> io::Result<()> {
        let mut slot = [0; SLOT];
        slot[..8].copy_from_slice(&number.to_be_bytes());
        slot[8..].copy_from_slice(&digest(&number.to_be_bytes()));
        self.file.seek(SeekFrom::Start(self.slot * SLOT as u64))?;
        self.file.write_all(&slot)?;
        self.slot = 1 - self.slot;
        Ok(())
    }
}

fn read(slot: &[u8]) -> Option<u64> {
    let (number, check) = slot.split_first_chunk::<8>()?;
    (check == digest(number)).then(|| u64::from_be_bytes(*number))
}

/// Whether the bytes can be read.
#[cfg(all(any(test, fuzzing), feature = "http", feature = "testing"))]
pub(in crate::store) fn looks_whole(bytes: &[u8]) -> bool {
    read(bytes).is_some()
}

fn digest(number: &[u8]) -> [u8; SLOT - 8] {
    let hash = Params::new().hash_length(SLOT - 8).personal(b"halometer1-mark.").hash(number);
    let mut bytes = [0; SLOT - 8];
    bytes.copy_from_slice(hash.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_mark_is_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let mut mark = Mark::create(&path).unwrap();
        for number in 1..=7 {
            mark.advance(number).unwrap();
        }
        drop(mark);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(Mark::open(&path).unwrap().1, Reading { number: 7, half: false });
        let at = whole.chunks(SLOT).position(|slot| read(slot) == Some(7)).unwrap() * SLOT;
        for torn in 0..SLOT {
            let mut bytes = whole.clone();
            bytes[at + torn] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let (mut mark, reading) = Mark::open(&path).unwrap();
            assert_eq!(reading, Reading { number: 6, half: true });
            // The whole slot is not the next one to be written.
            mark.advance(8).unwrap();
            assert_eq!(Mark::open(&path).unwrap().1, Reading { number: 8, half: false });
        }
        for bytes in [&whole[..63], &[0; 64], &[]] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(Mark::open(&path).err().unwrap().kind(), io::ErrorKind::InvalidData);
        }
    }
}
