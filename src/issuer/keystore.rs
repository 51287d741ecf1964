//! The keys of an issuer's epochs in a file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use halometer_circuits::schnorr::{PublicKey, SigningKey};
use rand_core::{CryptoRng, Rng};
use zeroize::Zeroizing;

use super::EpochKeys;
use crate::protocol::{Directory, EpochNumber, IssuerId, Timestamp};
use crate::sealed::{self, Lock, MAX_SEALED, SealError, UnsealError};
use crate::store::Pulse;

const PURPOSE: &[u8] = b"issuer-keys";
const VERSION: u8 = 1;
const ISSUER: usize = 1;
const COUNT: usize = ISSUER + IssuerId::LENGTH;
const ENTRIES: usize = COUNT + 2;
const ENTRY: usize = 4 + 32;

/// Why a key file did not do as it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// Another process has it open. Two issuers on one file would lose each other's keys.
    #[error("the key file is in use by another process")]
    InUse,
    /// There is a file already, which is not written over.
    #[error("there is a key file already")]
    Exists,
    /// The file system failed. The disk has either the old file or the new one, whole.
    #[error("the key file cannot be read or written")]
    File(#[from] io::Error),
    /// The file does not open: see [`UnsealError`] for whether the lock is wrong or the file.
    #[error(transparent)]
    Open(#[from] UnsealError),
    /// The keys cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The file opens and is not well-formed. The program that wrote it is at fault.
    #[error("the contents of the key file are not well-formed")]
    Malformed,
    /// The keys are those of another issuer. The wrong file was named.
    #[error("the key file is that of issuer {0}")]
    OtherIssuer(IssuerId),
    /// There are as many keys as a file holds. Forget those of epochs that are over.
    #[error("the key file is full")]
    Full,
    /// The key of an epoch is not the one that the directory names.
    #[error("the key of epoch {0} is not the one that the directory names")]
    Mismatch(EpochNumber),
    /// The key of an epoch that issues now or will is not here. The file is older than the directory: find the newer one, as
    /// without its key the epoch can neither mint nor settle.
    #[error("the key of epoch {0} is missing")]
    Missing(EpochNumber),
}

/// The epoch keys of one issuer in one sealed file (protocol, section 5, "Directory").
///
/// * **Durable before used.** [`add`](Self::add) gives a public key when the secret one is on disk, not before.
/// * **Whole.** A crash at any instant leaves the keys of before or of after (the file is replaced whole).
/// * **One process.** A file beside it, `<name>.lock`, is locked as long as this lives; the system frees it when the process
///   ends, however it ends.
/// * **Short-lived secrets.** Nothing of the keys stays in memory here; each method reads the file, and wipes what it read.
///   What stays is the [`Lock`].
///
/// The plaintext is: version (1), issuer id (32), number of keys (2), and for each key, by epoch, the epoch's number (4) and
/// `d` (32, little-endian).
pub struct Keystore {
    path: PathBuf,
    issuer: IssuerId,
    lock: Lock,
    /// Locked until it is closed.
    _in_use: File,
}

impl core::fmt::Debug for Keystore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Keystore").field("path", &self.path).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

type Keys = BTreeMap<EpochNumber, SigningKey>;

impl Keystore {
    /// The most keys in a file.
    pub const MAX_KEYS: usize = 1024;

    /// How long after its last signature a key is kept, seconds: longer than the clocks of an issuer's processes differ, and than a
    /// clock may be off unnoticed ([`Pulse::JUMP`]).
    pub const GRACE: u64 = Pulse::JUMP + 3_600;

    /// Makes an empty key file.
    ///
    /// # Errors
    /// [`KeystoreError::Exists`], [`KeystoreError::InUse`]; failures of the file system.
    pub fn create<R: Rng + CryptoRng>(
        path: &Path,
        issuer: IssuerId,
        lock: Lock,
        rng: &mut R,
    ) -> Result<Self, KeystoreError> {
        let store = Self::locked(path, issuer, lock)?;
        if path.try_exists()? {
            return Err(KeystoreError::Exists);
        }
        store.write(&Keys::new(), rng)?;
        Ok(store)
    }

    /// Opens a key file. A file that is not there is an error: keys that are lost are not replaced by silence.
    ///
    /// # Errors
    /// [`KeystoreError::InUse`], [`KeystoreError::Open`], [`KeystoreError::OtherIssuer`], [`KeystoreError::Malformed`];
    /// failures of the file system, the missing file among them.
    pub fn open(path: &Path, issuer: IssuerId, lock: Lock) -> Result<Self, KeystoreError> {
        // Nothing is made beside a file that is not there.
        if !path.try_exists()? {
            return Err(KeystoreError::File(io::ErrorKind::NotFound.into()));
        }
        let store = Self::locked(path, issuer, lock)?;
        store.read()?;
        sealed::clear_unfinished(path)?;
        Ok(store)
    }

    /// The public key of an epoch, for the directory: of the key that is there, or of a new one. When this answers, the key is
    /// on disk. So it can be asked again after a crash between this and the publication.
    ///
    /// # Errors
    /// [`KeystoreError`]. The key may then be on disk or not; nobody has seen its public half.
    pub fn add<R: Rng + CryptoRng>(&mut self, epoch: EpochNumber, rng: &mut R) -> Result<PublicKey, KeystoreError> {
        let mut keys = self.read()?;
        if let Some(known) = keys.get(&epoch) {
            return Ok(known.public_key());
        }
        if keys.len() >= Self::MAX_KEYS {
            return Err(KeystoreError::Full);
        }
        let key = SigningKey::generate(rng);
        let public = key.public_key();
        keys.insert(epoch, key);
        self.write(&keys, rng)?;
        Ok(public)
    }

    /// Forgets the keys that sign nothing any more, and says which: those of epochs whose issue window ended
    /// [`GRACE`](Self::GRACE) seconds ago, and those of epochs that have left the directory. A later thief of the file
    /// can forge no notes of these epochs. Notes that they signed stay good; settling signs with the key of the epoch
    /// that issues then.
    ///
    /// A secret key that is gone cannot be had back, and without it nothing of its epoch is minted or settled. So it goes by the time
    /// that surely has passed, [`Pulse::sure`] of the spent set, and never by what a clock says at one time.
    ///
    /// `directory` is the newest of this issuer. Keys of epochs that are still to be published stay. What a disk or a backup
    /// holds of old files is not wiped.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); the file is then as it was. Failures of the file system.
    pub fn forget<R: Rng + CryptoRng>(
        &mut self,
        directory: &Directory,
        pulse: &Pulse,
        rng: &mut R,
    ) -> Result<Vec<EpochNumber>, KeystoreError> {
        let mut keys = self.read()?;
        let sure = pulse.sure();
        check(&keys, self.issuer, directory, pulse.seen())?;
        let newest = directory.epochs().last().map(|epoch| epoch.number);
        let over = |number: &EpochNumber| match directory.epoch(*number) {
            Some(epoch) => epoch.issue.until.after(Self::GRACE) <= sure,
            None => Some(*number) < newest,
        };
        let forgotten: Vec<EpochNumber> = keys.keys().copied().filter(over).collect();
        if !forgotten.is_empty() {
            keys.retain(|number, _| !forgotten.contains(number));
            self.write(&keys, rng)?;
        }
        Ok(forgotten)
    }

    /// Whether the file has what an issuer with this directory needs: each key is the one that the directory names, and none
    /// is missing of an epoch that issues now or will. To be asked once at the start.
    ///
    /// # Errors
    /// [`KeystoreError::OtherIssuer`], [`KeystoreError::Mismatch`], [`KeystoreError::Missing`]; those of reading.
    pub fn check(&self, directory: &Directory, now: Timestamp) -> Result<(), KeystoreError> {
        check(&self.read()?, self.issuer, directory, now)
    }

    /// The keys, for an [`Issuer`](super::Issuer).
    ///
    /// # Errors
    /// Those of reading.
    pub fn keys(&self) -> Result<EpochKeys, KeystoreError> {
        let mut keys = EpochKeys::new();
        self.read()?.into_iter().for_each(|(number, key)| keys.insert(number, key));
        Ok(keys)
    }

    /// The file as it is, sealed: for another process of this issuer, which opens it by the same key or passphrase.
    ///
    /// # Errors
    /// Those of reading.
    pub fn sealed(&self) -> Result<Vec<u8>, KeystoreError> {
        // What does not open is passed on to nobody.
        self.read()?;
        Ok(sealed::read_bounded(&self.path, MAX_SEALED)?.to_vec())
    }

    /// Takes over what another process of this issuer [sealed](Self::sealed), before a directory that names its epochs is gone by.
    /// Where both have a key of an epoch, the other's counts: it was published, and what was not published signed nothing. No key
    /// is forgotten by this.
    ///
    /// # Errors
    /// [`KeystoreError::Open`], [`KeystoreError::Malformed`], [`KeystoreError::OtherIssuer`], [`KeystoreError::Full`]; the file is
    /// then as it was. Failures of the file system.
    pub fn take_over<R: Rng + CryptoRng>(&mut self, bytes: &[u8], rng: &mut R) -> Result<(), KeystoreError> {
        let plaintext = sealed::open(PURPOSE, bytes, &self.lock)?;
        let (issuer, theirs) = decode(&plaintext).ok_or(KeystoreError::Malformed)?;
        if issuer != self.issuer {
            return Err(KeystoreError::OtherIssuer(issuer));
        }
        let mut keys = self.read()?;
        keys.extend(theirs);
        if keys.len() > Self::MAX_KEYS {
            return Err(KeystoreError::Full);
        }
        self.write(&keys, rng)
    }

    fn locked(path: &Path, issuer: IssuerId, lock: Lock) -> Result<Self, KeystoreError> {
        let mut name = OsString::from(path.file_name().ok_or(io::Error::from(io::ErrorKind::InvalidFilename))?);
        name.push(".lock");
        // Not the key file itself, which each write replaces by another one.
        let in_use = OpenOptions::new().create(true).truncate(false).write(true).open(path.with_file_name(name))?;
        match sealed::try_lock(&in_use) {
            Ok(()) => Ok(Self { path: path.to_owned(), issuer, lock, _in_use: in_use }),
            Err(TryLockError::WouldBlock) => Err(KeystoreError::InUse),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn read(&self) -> Result<Keys, KeystoreError> {
        let plaintext = sealed::open(PURPOSE, &sealed::read_bounded(&self.path, MAX_SEALED)?, &self.lock)?;
        let (issuer, keys) = decode(&plaintext).ok_or(KeystoreError::Malformed)?;
        if issuer == self.issuer { Ok(keys) } else { Err(KeystoreError::OtherIssuer(issuer)) }
    }

    fn write<R: Rng + CryptoRng>(&self, keys: &Keys, rng: &mut R) -> Result<(), KeystoreError> {
        let bytes = sealed::seal(PURPOSE, &encode(&self.issuer, keys), &self.lock, rng)?;
        Ok(sealed::write_atomically(&self.path, &bytes)?)
    }
}

fn check(keys: &Keys, issuer: IssuerId, directory: &Directory, now: Timestamp) -> Result<(), KeystoreError> {
    if directory.issuer() != issuer {
        return Err(KeystoreError::OtherIssuer(issuer));
    }
    for epoch in directory.epochs() {
        match keys.get(&epoch.number) {
            Some(key) if key.public_key() != epoch.key => return Err(KeystoreError::Mismatch(epoch.number)),
            None if now < epoch.issue.until => return Err(KeystoreError::Missing(epoch.number)),
            _ => (),
        }
    }
    Ok(())
}

fn encode(issuer: &IssuerId, keys: &Keys) -> Zeroizing<Vec<u8>> {
    // All of the room at once: a buffer that grows leaves copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(ENTRIES + keys.len() * ENTRY));
    out.push(VERSION);
    out.extend_from_slice(issuer.as_bytes());
    out.extend_from_slice(&(keys.len() as u16).to_be_bytes());
    for (number, key) in keys {
        out.extend_from_slice(&number.number().to_be_bytes());
        out.extend_from_slice(&Zeroizing::new(key.to_bytes())[..]);
    }
    out
}

/// None for what is no encoding, or not the one.
fn decode(bytes: &[u8]) -> Option<(IssuerId, Keys)> {
    let (header, entries) = bytes.split_at_checked(ENTRIES)?;
    let count = u16::from_be_bytes(header[COUNT..].try_into().ok()?);
    let (entries, []) = entries.as_chunks::<ENTRY>() else { return None };
    if header[0] != VERSION || entries.len() != usize::from(count) || entries.len() > Keystore::MAX_KEYS {
        return None;
    }
    let mut keys = Keys::new();
    for entry in entries {
        let (number, secret) = entry.split_at(4);
        let number = EpochNumber::new(u32::from_be_bytes(number.try_into().ok()?));
        if keys.last_key_value().is_some_and(|(last, _)| *last >= number) {
            return None;
        }
        keys.insert(number, SigningKey::from_bytes(secret.try_into().ok()?).into_option()?);
    }
    Some((IssuerId::from_bytes(header[ISSUER..COUNT].try_into().ok()?), keys))
}

#[cfg(test)]
mod tests;
