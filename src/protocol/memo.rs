//! The memo of a spend.

use blake2b_simd::Params;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::bytes::{Digest, digest};

/// 64 bytes that only the wallet can read (protocol, section 3). It seals where the change note stands and what it is worth,
/// so that a wallet can be restored from its root secret (section 7). To everybody else it is noise.
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

    /// Its nonce, which is the hash of its [`MemoCode`].
    pub fn nonce(&self) -> &[u8; MemoCode::NONCE] {
        self.0.first_chunk().unwrap_or(&[0; MemoCode::NONCE])
    }

    /// Digest of the sealed bytes, part of the context.
    pub fn digest(&self) -> Digest {
        digest(b"halometer1-memo.", &[&self.0])
    }
}

/// What the nonce of a memo is the hash of. Only a wallet that reads the memo knows it: it is derived from the root secret and what
/// the memo says. By it the set knows that a settlement is asked for by the spend's owner, as long as it has the memo, and
/// without keeping a key for each spend. Wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MemoCode([u8; Self::LENGTH]);

impl core::fmt::Debug for MemoCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MemoCode(..)")
    }
}

impl MemoCode {
    /// Length in bytes.
    pub const LENGTH: usize = 32;
    /// Length of a memo's nonce in bytes.
    pub const NONCE: usize = 12;

    /// Wraps the bytes.
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// The nonce of its memo: 96 bits of its BLAKE2b hash, personalised `halometer1-memoc`.
    pub fn nonce(&self) -> [u8; Self::NONCE] {
        let hash = Params::new().hash_length(Self::NONCE).personal(b"halometer1-memoc").hash(&self.0);
        let mut nonce = [0; Self::NONCE];
        nonce.copy_from_slice(hash.as_bytes());
        nonce
    }
}
