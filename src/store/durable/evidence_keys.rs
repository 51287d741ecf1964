//! The keys that evidence is sealed under.
//!
//! A database leaves what was deleted in its journals and tables until it gets round to them, and a disk for longer. So evidence
//! is written sealed, under a key for each bucket, and erased by forgetting the key, at once and everywhere.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blake2b_simd::Params;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::Rng as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::protocol::EpochNumber;
use crate::sealed::{clear_unfinished, write_atomically};

/// Number of a bucket in its partition, from 1.
pub(super) type BucketId = u32;

/// The key of a bucket. Wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct EvidenceKey([u8; 32]);

impl EvidenceKey {
    fn generate() -> Self {
        let mut key = Self([0; 32]);
        rand::rng().fill_bytes(&mut key.0);
        key
    }

    /// Seals the evidence of a nullifier: nonce, then ciphertext. The nonce is drawn: a commit that failed may have left
    /// evidence of the same nullifier on disk, and of another spend.
    pub(super) fn seal(&self, nullifier: &[u8; 32], evidence: &[u8]) -> Result<Vec<u8>, io::Error> {
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload { msg: evidence, aad: nullifier };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| io::Error::other("evidence could not be sealed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// None if it is not what was sealed.
    pub(super) fn open(&self, nullifier: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        self.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: nullifier }).ok()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

const NONCE: usize = 24;

/// The file of keys: version (1), then for each bucket epoch (4), number (4) and key (32), then a digest (32). Replaced whole; the
/// old one is written over before it goes.
pub(super) struct EvidenceKeys {
    path: PathBuf,
    keys: BTreeMap<(EpochNumber, BucketId), Arc<EvidenceKey>>,
    /// For a reader that only looks: the file stays as it is.
    read_only: bool,
}

const ENTRY: usize = 4 + 4 + 32;

impl EvidenceKeys {
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let keys = Self { path, keys: BTreeMap::new(), read_only: false };
        keys.write()?;
        Ok(keys)
    }

    /// Nobody else may be writing it: what a crash left of it unfinished is removed.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a damaged file.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        clear_unfinished(&path)?;
        Ok(Self { read_only: false, ..Self::look(path)? })
    }

    /// Reads the file and changes nothing.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a damaged file.
    pub(super) fn look(path: PathBuf) -> io::Result<Self> {
        let bytes = Zeroizing::new(std::fs::read(&path)?);
        let keys = parse(&bytes)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display())))?;
        Ok(Self { path, keys, read_only: true })
    }

    pub(super) fn get(&self, epoch: EpochNumber, bucket: BucketId) -> Option<Arc<EvidenceKey>> {
        self.keys.get(&(epoch, bucket)).cloned()
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = (EpochNumber, BucketId)> + '_ {
        self.keys.keys().copied()
    }

    /// Draws the key of a bucket; it is on disk when this returns.
    pub(super) fn add(&mut self, epoch: EpochNumber, bucket: BucketId) -> io::Result<Arc<EvidenceKey>> {
        let key = Arc::new(EvidenceKey::generate());
        self.keys.insert((epoch, bucket), Arc::clone(&key));
        self.write()?;
        Ok(key)
    }

    /// Forgets the keys of buckets; they are off the disk when this returns.
    pub(super) fn forget(&mut self, gone: &[(EpochNumber, BucketId)]) -> io::Result<()> {
        gone.iter().for_each(|bucket| drop(self.keys.remove(bucket)));
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + self.keys.len() * ENTRY + 32));
        bytes.push(1);
        for ((epoch, bucket), key) in &self.keys {
            bytes.extend_from_slice(&epoch.number().to_be_bytes());
            bytes.extend_from_slice(&bucket.to_be_bytes());
            bytes.extend_from_slice(&key.0);
        }
        let check = digest(&bytes);
        bytes.extend_from_slice(&check);
        // Held open over the rename, to be written over when nothing leads to it any more.
        let old = OpenOptions::new().write(true).open(&self.path).ok();
        write_atomically(&self.path, &bytes)?;
        if let Some(old) = old {
            // As far as the file system writes in place. What it keeps elsewhere is beyond a program.
            let length = old.metadata()?.len();
            io::copy(&mut io::Read::take(io::repeat(0), length), &mut &old)?;
            old.sync_data()?;
        }
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<(EpochNumber, BucketId), Arc<EvidenceKey>>> {
    let (body, check) = bytes.split_last_chunk::<32>()?;
    let (version, entries) = body.split_first()?;
    if digest(body) != *check || *version != 1 || entries.len() % ENTRY != 0 {
        return None;
    }
    let entry = |entry: &[u8]| {
        let (epoch, rest) = entry.split_first_chunk::<4>()?;
        let (bucket, key) = rest.split_first_chunk::<4>()?;
        let key = EvidenceKey(key.try_into().ok()?);
        Some(((EpochNumber::new(u32::from_be_bytes(*epoch)), u32::from_be_bytes(*bucket)), Arc::new(key)))
    };
    entries.chunks_exact(ENTRY).map(entry).collect()
}

/// Whether the bytes can be read.
#[cfg(all(any(test, fuzzing), feature = "http", feature = "testing"))]
pub(super) fn looks_whole(bytes: &[u8]) -> bool {
    parse(bytes).is_some()
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let hash = Params::new().hash_length(32).personal(b"halometer1-ekeys").hash(bytes);
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.as_bytes());
    digest
}

/// Makes names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: EpochNumber = EpochNumber::new(7);

    #[test]
    fn forgotten_keys_are_in_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let mut keys = EvidenceKeys::create(path.clone()).unwrap();
        let first = keys.add(EPOCH, 1).unwrap();
        let second = keys.add(EPOCH, 2).unwrap();
        let sealed = first.seal(&[1; 32], b"evidence").unwrap();
        let mut read = EvidenceKeys::open(path.clone()).unwrap();
        assert_eq!(read.get(EPOCH, 1).unwrap().open(&[1; 32], &sealed).unwrap(), b"evidence");
        read.forget(&[(EPOCH, 1)]).unwrap();
        let read = EvidenceKeys::open(path.clone()).unwrap();
        assert!(read.get(EPOCH, 1).is_none() && read.get(EPOCH, 2).is_some());
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(32).any(|window| window == first.0));
        }
        assert!(second.open(&[1; 32], &sealed).is_none());
    }

    #[test]
    fn evidence_is_of_its_nullifier_alone() {
        let key = EvidenceKey::generate();
        let sealed = key.seal(&[1; 32], b"evidence").unwrap();
        assert!(key.open(&[2; 32], &sealed).is_none());
        let mut other = [1; 32];
        other[31] = 2;
        assert!(key.open(&other, &sealed).is_none());
        assert!(key.open(&[1; 32], &sealed[1..]).is_none());
        assert_ne!(key.seal(&[1; 32], b"evidence").unwrap(), sealed, "the same nonce");
    }

    #[test]
    fn a_damaged_file_of_keys_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        EvidenceKeys::create(path.clone()).unwrap().add(EPOCH, 1).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[i] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(EvidenceKeys::open(path.clone()).err().unwrap().kind(), io::ErrorKind::InvalidData);
        }
        std::fs::write(&path, b"").unwrap();
        assert!(EvidenceKeys::open(path).is_err());
    }
}
