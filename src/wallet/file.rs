//! A wallet in a file.
//!
//! [`WalletFile`] makes, opens, moves and mends it; the [`Wallet`] that it gives keeps its journal there. Everything in the file
//! that says something is sealed, and the secrets under a [`Lock`] of the owner's: what it holds and how it is guarded
//! against copies is told in `docs/wallet.md`.

mod arrival;
mod backend;
mod check;
mod codec;
mod error;
#[cfg(all(any(test, fuzzing), feature = "http", feature = "testing"))]
pub(crate) mod fuzz;
mod header;
mod journal;
mod place;
mod restored;
mod seat;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod travel;
mod vault;

pub use arrival::ArrivalCode;
pub use check::{Contents, FileStanding, WalletFileReport};
pub use error::WalletFileError;
pub use journal::{FileJournal, Pruned};

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rand_core::{CryptoRng, Rng};

use super::Wallet;
use crate::protocol::{Grid, RootKey, SignedDirectory, Timestamp};
use crate::sealed::{Lock, clear_unfinished};
use backend::LockedFile;
use header::Header;
use place::Unfinished;
use seat::Seat;
use state::State;
use store::{Keep, Rows as _, Store, TABLES, travels};

/// Where a wallet's file is, and where this device keeps the seats of its wallets.
///
/// A seat remembers how far a file had come when it was used last. It must stay on this device: if seats are copied
/// with the file, as an image of a whole disk does, only the questions that a wallet asks on opening give warning.
#[derive(Clone, Debug)]
pub struct WalletFile {
    path: PathBuf,
    seats: PathBuf,
}

/// How much longer a quarantine lasts than the spends of another copy can be admitted by a gateway whose clock is right, and
/// so by how much clocks may differ, seconds.
const QUARANTINE_SKEW: u64 = 300;

impl WalletFile {
    /// The file of this path, which need not be there yet; seats in `halometer/seats` in the user's directory for the state of
    /// programs, `$XDG_STATE_HOME` or `~/.local/state`.
    ///
    /// # Errors
    /// [`WalletFileError::NoSeats`].
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, WalletFileError> {
        Ok(Self { path: path.into(), seats: seat::default_directory()? })
    }

    /// With seats in another directory. One for all wallets of a device, always the same, on a disk that is not shared and not put
    /// back from backups.
    pub fn with_seats(path: impl Into<PathBuf>, seats: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), seats: seats.into() }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a new wallet with secrets of its own, for the issuer whose root key is `pinned`, which you got from a
    /// place that you trust. The file comes into being whole, under its name, or not at all. Its file system must know
    /// hard links.
    ///
    /// # Errors
    /// [`WalletFileError`], most of all [`WalletFileError::Exists`].
    pub fn create<R: Rng + CryptoRng>(
        &self,
        lock: &Lock,
        pinned: RootKey,
        directory: &SignedDirectory,
        rng: &mut R,
    ) -> Result<Wallet<FileJournal>, WalletFileError> {
        self.vacant()?;
        seat::make_directory(&self.seats)?;
        let header = Header::generate(pinned, rng);
        let mut id = [0; seat::SEAT_ID];
        rng.fill_bytes(&mut id);
        let (unfinished, mut store) = self.build(&header, lock, State::new(id), rng)?;
        let seat = Seat::path(&self.seats, &header.wallet);
        store.seat = Some(Seat::create(&seat, id, 0)?);
        let made = wallet(header, store, Some(directory)).and_then(|wallet| {
            unfinished.become_new(&self.path)?;
            Ok(wallet)
        });
        if made.is_err() {
            // The first error is the one to tell.
            let _ = std::fs::remove_file(seat);
        }
        made
    }

    /// Opens the wallet and locks it to this process, until it is dropped. With a passphrase this takes what its cost says,
    /// about 0.1 s.
    ///
    /// # Errors
    /// [`WalletFileError`]. After [`WalletFileError::Copied`] and [`WalletFileError::RolledBack`] see there.
    pub fn open(&self, lock: &Lock) -> Result<Wallet<FileJournal>, WalletFileError> {
        let (store, header) = self.open_in_order(lock)?;
        wallet(header, store, None)
    }

    /// Opens a wallet that [was copied](WalletFileError::Copied), [rolled back](WalletFileError::RolledBack) or
    /// [moved](WalletFileError::Moved): **by calling this you state that no other copy of it will ever run again**. Two
    /// that run can spend a note twice, and that reveals the account.
    ///
    /// Until every spend that another copy can have sent has been recorded or has expired, two grid steps and some minutes,
    /// notes of the file are not spent; then their nullifiers are asked for, as after every opening. The time is that of the
    /// directory in the file and is kept in it, and never gets shorter.
    ///
    /// # Errors
    /// [`WalletFileError`].
    pub fn adopt<R: Rng + CryptoRng>(
        &self,
        lock: &Lock,
        now: Timestamp,
        rng: &mut R,
    ) -> Result<Wallet<FileJournal>, WalletFileError> {
        let (mut store, header) = self.unlock(lock)?;
        seat::make_directory(&self.seats)?;
        let path = Seat::path(&self.seats, &header.wallet);
        // Held until the new one has its place: no other copy runs beside this.
        let old = Seat::take(&path)?;
        let directory = store.read(journal::directory)?.ok_or(WalletFileError::Damaged("its directory is missing"))?;
        let directory = directory.verify(&header.pinned).map_err(super::OpenError::from)?;
        // A clock that is behind would end it too early; that much is known of the time.
        let now = now.max(directory.parts().published);
        let until = directory.parts().grid.callers_not_after(now).after(Grid::GRACE + QUARANTINE_SKEW);
        let mut id = [0; seat::SEAT_ID];
        rng.fill_bytes(&mut id);
        // The file first: should the seat not follow, this file is a copy still, and the one that was used last is in order.
        store.write(|_, state| {
            state.seat = id;
            state.moved = None;
            state.quarantined_until = state.quarantined_until.max(Some(until));
            Ok::<_, WalletFileError>(((), Keep::Now))
        })?;
        store.seat = Some(Seat::create(&path, id, store.state.commits)?);
        drop(old);
        wallet(header, store, None)
    }

    /// Writes the file anew, under the same or another lock, without the room that [`FileJournal::prune`] made and without what
    /// is left of the header under the old lock. An old copy of the file still opens with the old lock, and holds the
    /// secrets of this one. If others know a lock, move to a new wallet.
    ///
    /// # Errors
    /// [`WalletFileError`]; the file is then as it was, or, when its directory could not be synced, the new one.
    pub fn rewrite<R: Rng + CryptoRng>(&self, old: &Lock, new: &Lock, rng: &mut R) -> Result<(), WalletFileError> {
        let (mut store, header) = self.open_in_order(old)?;
        let state = State { commits: store.state.commits + 1, ..store.state.clone() };
        let commits = state.commits;
        let (unfinished, mut copy) = self.build(&header, new, state, rng)?;
        copy.fill(|to| {
            store.read(|from| {
                for table in TABLES {
                    from.rows.each(table, false, &mut |key, value| {
                        if travels(table, key) {
                            to.put_raw(table, key, value)?;
                        }
                        Ok(true)
                    })?;
                }
                Ok(())
            })
        })?;
        drop(copy);
        unfinished.replace(&self.path).map_err(WalletFileError::Io)?;
        // From here on the old one is behind.
        let seat = store.seat.as_mut().ok_or(WalletFileError::Copied)?;
        seat.advance(commits).map_err(WalletFileError::Io)
    }

    /// The same under another lock: [`rewrite`](Self::rewrite).
    ///
    /// # Errors
    /// As there.
    pub fn change_lock<R: Rng + CryptoRng>(&self, old: &Lock, new: &Lock, rng: &mut R) -> Result<(), WalletFileError> {
        self.rewrite(old, new, rng)
    }

    fn vacant(&self) -> Result<(), WalletFileError> {
        match self.path.symlink_metadata() {
            Ok(_) => Err(WalletFileError::Exists),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(WalletFileError::Io(error)),
        }
    }

    /// A new store in a file that has no name yet.
    fn build<R: Rng + CryptoRng>(
        &self,
        header: &Header,
        lock: &Lock,
        state: State,
        rng: &mut R,
    ) -> Result<(Unfinished, Store), WalletFileError> {
        let sealed = header.seal(lock, rng)?;
        let (unfinished, file) = Unfinished::beside(&self.path).map_err(WalletFileError::Io)?;
        let database = store::engine(LockedFile::new(file, &unfinished.path)?)?;
        Ok((unfinished, Store::create(database, header, &sealed, state)?))
    }

    /// The file, locked.
    fn file(&self) -> Result<LockedFile, WalletFileError> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => WalletFileError::Missing,
            _ => WalletFileError::Io(error),
        })?;
        // The engine would make a wallet of an empty file.
        if !begins_well(&file).map_err(WalletFileError::Io)? {
            return Err(WalletFileError::NotAWallet);
        }
        LockedFile::new(file, &self.path)
    }

    /// The store, wherever its file came from.
    fn unlock(&self, lock: &Lock) -> Result<(Store, Header), WalletFileError> {
        let database = store::engine(self.file()?)?;
        // What a crash left of a file meant to take this one's place. That this process has the lock makes it the one
        // writer.
        clear_unfinished(&self.path).map_err(WalletFileError::Io)?;
        Store::open(database, lock)
    }

    /// The store of a file that was used here last, with its seat.
    fn open_in_order(&self, lock: &Lock) -> Result<(Store, Header), WalletFileError> {
        let (mut store, header) = self.unlock(lock)?;
        if store.state.moved.is_some() {
            return Err(WalletFileError::Moved);
        }
        self.sit(&mut store, &header)?;
        Ok((store, header))
    }

    /// Takes the seat of a store, if it is its own and has not seen later commits.
    fn sit(&self, store: &mut Store, header: &Header) -> Result<(), WalletFileError> {
        let seat = Seat::take(&Seat::path(&self.seats, &header.wallet))?;
        let mut seat = seat.filter(|seat| *seat.id() == store.state.seat).ok_or(WalletFileError::Copied)?;
        if let Some(behind) = seat.commits().checked_sub(store.state.commits).filter(|behind| *behind > 0) {
            return Err(WalletFileError::RolledBack { behind });
        }
        // The process ended between the commit of the file and that of the seat.
        seat.advance(store.state.commits).map_err(WalletFileError::Io)?;
        store.seat = Some(seat);
        Ok(())
    }
}

/// The wallet of a store; a new one goes by the directory that is given, and the others by their own.
fn wallet(
    header: Header,
    store: Store,
    directory: Option<&SignedDirectory>,
) -> Result<Wallet<FileJournal>, WalletFileError> {
    let own = store.read(journal::directory)?;
    let directory = own.as_ref().or(directory).ok_or(WalletFileError::Damaged("its directory is missing"))?;
    let Header { root, device, pinned, .. } = header;
    Ok(Wallet::new(root, device, pinned, directory, FileJournal::new(store))?)
}

/// Whether it begins as the storage engine's files do.
fn begins_well(mut file: &File) -> io::Result<bool> {
    let mut magic = [0; 4];
    match file.read_exact(&mut magic) {
        Ok(()) => Ok(&magic == b"redb"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
