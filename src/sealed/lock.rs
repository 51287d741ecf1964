//! What opens a sealed secret.

use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::file::read_bounded;

/// What Argon2id costs to derive a key from a passphrase, for the owner and for a guesser alike.
///
/// In range: 8 KiB to 1 GiB of memory, and 8 KiB at least for each lane; 1 to 64 passes; 1 to 16 lanes; memory times
/// passes at most 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// 64 MiB, 3 passes, 1 lane: what RFC 9106 asks of machines without much memory to spare, about 0.1 s.
    pub const DEFAULT: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 1 };

    const MAX_MEMORY_KIB: u32 = 1 << 20;
    const MAX_PASSES: u32 = 64;
    const MAX_LANES: u32 = 16;
    const MAX_WORK_KIB: u64 = 4 << 20;

    /// Memory in KiB, passes over it, and lanes; none when one of them is out of range.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Option<Self> {
        let in_range = (1..=Self::MAX_LANES).contains(&lanes)
            && (8 * lanes..=Self::MAX_MEMORY_KIB).contains(&memory_kib)
            && (1..=Self::MAX_PASSES).contains(&passes)
            && u64::from(memory_kib) * u64::from(passes) <= Self::MAX_WORK_KIB;
        in_range.then_some(Self { memory_kib, passes, lanes })
    }

    /// Memory, KiB.
    pub fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    pub(super) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        for (place, value) in bytes.chunks_exact_mut(4).zip([self.memory_kib, self.passes, self.lanes]) {
            place.copy_from_slice(&value.to_be_bytes());
        }
        bytes
    }

    /// None for what is not 12 bytes or out of range.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([memory, passes, lanes], []) = bytes.as_chunks::<4>() else { return None };
        Self::new(u32::from_be_bytes(*memory), u32::from_be_bytes(*passes), u32::from_be_bytes(*lanes))
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What opens a sealed secret: a passphrase or a key of 32 bytes. Wiped on drop, never printed, not `Clone`.
pub struct Lock(Kind);

enum Kind {
    Passphrase(Zeroizing<Vec<u8>>, Cost),
    Key(Zeroizing<[u8; 32]>),
}

impl core::fmt::Debug for Lock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self.0 {
            Kind::Passphrase(..) => "Lock(passphrase)",
            Kind::Key(_) => "Lock(key)",
        })
    }
}

/// Why something is no lock. Its owner is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The passphrase is empty.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// The key file does not hold 32 bytes. Make one with `head -c 32 /dev/urandom`.
    #[error("the key file does not hold 32 bytes")]
    Length,
    /// The key is 32 zeros: a file that was reserved and never written.
    #[error("the key is 32 zeros")]
    Zero,
    /// The key file cannot be read.
    #[error("the key file cannot be read")]
    Read(#[source] std::io::Error),
}

impl Lock {
    pub(super) const PASSPHRASE: u8 = 1;
    pub(super) const KEY: u8 = 2;

    /// A passphrase, at the default [`Cost`]. It is taken byte by byte: no normalisation, no trimming. What can be guessed can
    /// be opened: a thief of the file can try some hundred passphrases a second on one machine.
    ///
    /// # Errors
    /// [`LockError::EmptyPassphrase`].
    pub fn passphrase(passphrase: &str) -> Result<Self, LockError> {
        if passphrase.is_empty() {
            return Err(LockError::EmptyPassphrase);
        }
        Ok(Self(Kind::Passphrase(Zeroizing::new(passphrase.as_bytes().to_vec()), Cost::DEFAULT)))
    }

    /// The same lock, sealing at another cost. A file opens at the cost it was sealed at. Says nothing to a key.
    #[must_use]
    pub fn with_cost(mut self, new: Cost) -> Self {
        if let Kind::Passphrase(_, cost) = &mut self.0 {
            *cost = new;
        }
        self
    }

    /// A key of 32 random bytes. The caller wipes them.
    ///
    /// # Errors
    /// [`LockError::Zero`].
    pub fn key_bytes(key: &[u8; 32]) -> Result<Self, LockError> {
        if key.ct_eq(&[0; 32]).into() {
            return Err(LockError::Zero);
        }
        Ok(Self(Kind::Key(Zeroizing::new(*key))))
    }

    /// The key in a file of exactly 32 bytes. Its owner must see to the file's permissions.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn key_file(path: &Path) -> Result<Self, LockError> {
        let bytes = read_bounded(path, 32).map_err(|error| match error.kind() {
            std::io::ErrorKind::FileTooLarge => LockError::Length,
            _ => LockError::Read(error),
        })?;
        Self::key_bytes(bytes.as_slice().try_into().map_err(|_| LockError::Length)?)
    }

    pub(super) fn kind(&self) -> u8 {
        match self.0 {
            Kind::Passphrase(..) => Self::PASSPHRASE,
            Kind::Key(_) => Self::KEY,
        }
    }

    /// The cost at which it seals, none for a key.
    pub(super) fn cost(&self) -> Option<Cost> {
        match self.0 {
            Kind::Passphrase(_, cost) => Some(cost),
            Kind::Key(_) => None,
        }
    }

    /// The key: that of the lock, or Argon2id of the passphrase at the given cost. None when there is too little memory.
    pub(super) fn key(&self, cost: Option<Cost>, salt: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let mut key = Zeroizing::new([0; 32]);
        match &self.0 {
            Kind::Passphrase(passphrase, own) => {
                let Cost { memory_kib, passes, lanes } = cost.unwrap_or(*own);
                let params = Params::new(memory_kib, passes, lanes, Some(32)).ok()?;
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                argon2.hash_password_into(passphrase, salt, &mut key[..]).ok()?;
            }
            Kind::Key(own) => key.copy_from_slice(&own[..]),
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_holds_32_bytes_that_are_not_all_zero() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        for length in [0, 31, 33, 10_000] {
            std::fs::write(&path, vec![7; length]).unwrap();
            assert!(matches!(Lock::key_file(&path), Err(LockError::Length)), "{length}");
        }
        std::fs::write(&path, [0; 32]).unwrap();
        assert!(matches!(Lock::key_file(&path), Err(LockError::Zero)));
        std::fs::write(&path, [7; 32]).unwrap();
        assert!(Lock::key_file(&path).is_ok());
        assert!(matches!(Lock::key_file(directory.path()), Err(LockError::Read(_))));
        assert!(matches!(Lock::passphrase(""), Err(LockError::EmptyPassphrase)));
    }

    #[test]
    fn the_cost_is_what_argon2_takes() {
        let lock = |cost| Lock::passphrase("correct horse").unwrap().with_cost(cost);
        let costs = [(8, 1, 1), (8, 2, 1), (16, 1, 1), (16, 1, 2)].map(|(m, t, p)| Cost::new(m, t, p).unwrap());
        let keys = costs.map(|cost| *lock(cost).key(None, &[1; 32]).unwrap());
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "each of the three numbers counts");
            assert_eq!(*lock(Cost::DEFAULT).key(Some(costs[i]), &[1; 32]).unwrap(), *key, "the file's cost is taken");
        }
        assert_eq!(Cost::from_bytes(&Cost::DEFAULT.to_bytes()), Some(Cost::DEFAULT));
    }

    /// The test vector of RFC 9106 has a secret and associated data, which are not used here; this one was made with the
    /// reference program: `echo -n password | argon2 somesalt -id -m 16 -t 2 -p 1 -l 32`.
    #[test]
    fn the_derivation_is_argon2id() {
        let lock = Lock::passphrase("password").unwrap().with_cost(Cost::new(1 << 16, 2, 1).unwrap());
        let key = lock.key(None, b"somesalt").unwrap();
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", Lock::passphrase("correct horse").unwrap()), "Lock(passphrase)");
        assert_eq!(format!("{:?}", Lock::key_bytes(&[7; 32]).unwrap()), "Lock(key)");
    }
}
