//! The seat: where a wallet's file was used last, and how far it had come.
//!
//! A file can be copied and put back; what is in it is copied and put back with it. So something outside it remembers its last
//! commit: a small file in a directory of this device, named after the wallet, that is locked while the wallet is open. Two
//! blocks take turns, so that a torn write leaves the one before.
//!
//! | bytes | field of a block | |
//! | --- | --- | --- |
//! | 8 | `hmseat01` | |
//! | 16 | seat id | random; also in the wallet's state |
//! | 8 | commits | big-endian |
//! | 32 | BLAKE2b-256 of the above | |

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use blake2b_simd::Params;

use super::WalletFileError;
use super::backend::lock;
use super::header::WALLET_ID;
use crate::sealed::{make_private, write_atomically};

/// Length of a seat's id, bytes.
pub(super) const SEAT_ID: usize = 16;

const MAGIC: &[u8; 8] = b"hmseat01";
const CHECK: &[u8; 16] = b"halometer1-seatc";
const BODY: usize = 8 + SEAT_ID + 8;
const BLOCK: usize = BODY + 32;
/// How far apart the blocks are, so that no disk writes both at once.
const APART: u64 = 4096;

/// A seat that is taken.
#[derive(Debug)]
pub(super) struct Seat {
    file: File,
    id: [u8; SEAT_ID],
    commits: u64,
    /// Where the block is that does not hold the newest.
    older: u64,
}

impl Seat {
    /// Where the seat of a wallet is.
    pub(super) fn path(seats: &Path, wallet: &[u8; WALLET_ID]) -> PathBuf {
        seats.join(format!("{}.seat", hex::encode(wallet)))
    }

    /// Makes a seat, or puts a new one in the place of one that the caller holds, and takes it.
    pub(super) fn create(path: &Path, id: [u8; SEAT_ID], commits: u64) -> Result<Self, WalletFileError> {
        let mut bytes = vec![0; usize::try_from(APART).unwrap_or(BLOCK) + BLOCK];
        let block = block(&id, commits);
        bytes[..BLOCK].copy_from_slice(&block);
        let second = bytes.len() - BLOCK;
        bytes[second..].copy_from_slice(&block);
        write_atomically(path, &bytes).map_err(WalletFileError::Io)?;
        Self::take(path)?.ok_or(WalletFileError::Damaged("its seat was lost as it was made"))
    }

    /// Takes the seat that is there; none when there is none, or it cannot be read.
    pub(super) fn take(path: &Path) -> Result<Option<Self>, WalletFileError> {
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(WalletFileError::Io(error)),
        };
        lock(&file, path)?;
        let [first, second] = [0, APART].map(|at| read_block(&mut file, at));
        let (first, second) = (first.map_err(WalletFileError::Io)?, second.map_err(WalletFileError::Io)?);
        // Both have one id: a seat with another one is a new file.
        let commits = |block: &Option<([u8; SEAT_ID], u64)>| block.map(|(_, commits)| commits);
        let (newest, older) = if commits(&first) > commits(&second) { (first, APART) } else { (second, 0) };
        Ok(newest.map(|(id, commits)| Self { file, id, commits, older }))
    }

    pub(super) fn id(&self) -> &[u8; SEAT_ID] {
        &self.id
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    /// A disk that refuses.
    #[cfg(test)]
    pub(super) fn refuse_writes(&mut self) {
        self.file = File::open("Cargo.toml").unwrap();
    }

    /// Writes, durably, that the file has come so far.
    pub(super) fn advance(&mut self, commits: u64) -> io::Result<()> {
        if commits <= self.commits {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(self.older))?;
        self.file.write_all(&block(&self.id, commits))?;
        self.file.sync_data()?;
        (self.commits, self.older) = (commits, APART - self.older);
        Ok(())
    }
}

/// Makes the directory for seats, which only its owner may look into.
pub(super) fn make_directory(seats: &Path) -> Result<(), WalletFileError> {
    make_private(seats).map_err(WalletFileError::Io)
}

/// The directory for seats when none is named.
pub(super) fn default_directory() -> Result<PathBuf, WalletFileError> {
    let of = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = of("XDG_STATE_HOME").or_else(|| Some(of("HOME")?.join(".local").join("state")));
    // On Windows.
    let state = state.or_else(|| of("LOCALAPPDATA")).ok_or(WalletFileError::NoSeats)?;
    Ok(state.join("halometer").join("seats"))
}

fn block(id: &[u8; SEAT_ID], commits: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..8].copy_from_slice(MAGIC);
    block[8..8 + SEAT_ID].copy_from_slice(id);
    block[8 + SEAT_ID..BODY].copy_from_slice(&commits.to_be_bytes());
    let check = Params::new().hash_length(BLOCK - BODY).personal(CHECK).hash(&block[..BODY]);
    block[BODY..].copy_from_slice(check.as_bytes());
    block
}

/// Seat id and commits; none when the block was torn.
fn read_block(file: &mut File, at: u64) -> io::Result<Option<([u8; SEAT_ID], u64)>> {
    let mut bytes = [0; BLOCK];
    file.seek(SeekFrom::Start(at))?;
    match file.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (mut id, mut commits) = ([0; SEAT_ID], [0; 8]);
    id.copy_from_slice(&bytes[8..8 + SEAT_ID]);
    commits.copy_from_slice(&bytes[8 + SEAT_ID..BODY]);
    let commits = u64::from_be_bytes(commits);
    Ok((block(&id, commits) == bytes).then_some((id, commits)))
}
