//! The memo of a spend.

use super::bytes::{Digest, digest};

/// 64 bytes that only the wallet can read (protocol, section 3). It seals where the change note stands and what it is worth,
/// so that a later version can restore a wallet from its root secret. To everybody else it is noise.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Memo([u8; Self::LENGTH]);

/// Not printed: it names its spend as well as the nullifier does.
impl core::fmt::Debug for Memo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Memo(..)")
    }
}

impl Memo {
    /// Length in bytes.
    pub const LENGTH: usize = 64;

    /// Wraps the sealed bytes.
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The sealed bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Digest of the sealed bytes, part of the context.
    pub fn digest(&self) -> Digest {
        digest(b"halometer1-memo.", &[&self.0])
    }
}
