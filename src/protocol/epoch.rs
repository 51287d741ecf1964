//! Key epochs.

use core::fmt;

use halometer_circuits::schnorr::PublicKey;

use super::bytes::{Digest, IssuerId, digest};
use super::codec::{DecodeError, Reader};
use super::time::Window;

/// Number of a key epoch; later epochs have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochNumber(u32);

impl EpochNumber {
    /// From a number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// As a number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for EpochNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A directory's entry for a key epoch. Once published it never changes (protocol, section 5, "Directory").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: EpochNumber,
    /// `D`, the key that signs leaves in it.
    pub key: PublicKey,
    /// When the key signs.
    pub issue: Window,
    /// When its notes are accepted.
    pub spend: Window,
}

impl Epoch {
    /// Length of an entry in bytes.
    pub(crate) const LENGTH: usize = 4 + 32 + 16 + 16;

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.0.to_be_bytes());
        out.extend_from_slice(&self.key.to_bytes());
        self.issue.write(out);
        self.spend.write(out);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: EpochNumber(reader.u32()?),
            key: reader.canonical("epoch key", PublicKey::from_bytes)?,
            issue: Window::read(reader)?,
            spend: Window::read(reader)?,
        })
    }

    /// Digest of the entry, which every context names, so that a caller shown another entry makes spends that verify
    /// nowhere else.
    pub fn digest(&self, issuer: &IssuerId) -> Digest {
        let mut entry = Vec::with_capacity(Self::LENGTH);
        self.write(&mut entry);
        digest(b"halometer1-epoch", &[issuer.as_bytes(), &entry])
    }
}
