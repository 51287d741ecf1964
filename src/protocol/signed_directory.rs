//! The directory as it travels.

use super::codec::{DecodeError, Reader};
use super::directory::{Directory, DirectoryError};
use super::ed25519::{RootKey, RootSigningKey, SIGNATURE};

/// What the root key signs begins with this, so that no signature of it means anything else.
const PREFIX: &[u8] = b"halometer/1 directory\0";

/// The bytes of a directory and a signature of the issuer's root key. Not yet believed: [`verify`](Self::verify).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDirectory {
    signature: [u8; SIGNATURE],
    directory: Vec<u8>,
}

impl SignedDirectory {
    /// Longest encoding, bytes.
    pub const MAX_LENGTH: usize = 1 << 20;

    /// Signs a directory. None when the key is not the root key that the directory names.
    pub fn sign(directory: &Directory, key: &RootSigningKey) -> Option<Self> {
        if key.public_key() != directory.parts().root {
            return None;
        }
        let signature = key.sign(&[PREFIX, directory.as_bytes()].concat());
        Some(Self { signature, directory: directory.as_bytes().to_vec() })
    }

    /// The directory, when the pinned root key signed it and it is well-formed.
    ///
    /// # Errors
    /// [`DirectoryError`]: the signature, or a rule that the directory breaks.
    pub fn verify(&self, pinned: &RootKey) -> Result<Directory, DirectoryError> {
        if !pinned.verify(&[PREFIX, &self.directory].concat(), &self.signature) {
            return Err(DirectoryError::Signature);
        }
        let directory = Directory::from_bytes(&self.directory)?;
        if directory.parts().root != *pinned {
            return Err(DirectoryError::Signature);
        }
        Ok(directory)
    }

    /// The signature, 64 bytes, then the directory.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.signature[..], &self.directory].concat()
    }

    /// Splits the bytes; what they say is checked by [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`DecodeError`] when there are too few or too many.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > Self::MAX_LENGTH {
            return Err(DecodeError::Length { expected: Self::MAX_LENGTH, found: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let signature = reader.array()?;
        let directory = reader.take(bytes.len() - SIGNATURE)?.to_vec();
        reader.finish()?;
        Ok(Self { signature, directory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world::{directory_parts, root_key};

    #[test]
    fn a_root_key_that_signs_for_another_issuer_is_refused() {
        let mut parts = directory_parts();
        parts.root = RootSigningKey::from_bytes(&[66; 32]).public_key();
        let foreign = Directory::new(parts).unwrap();
        let signature = root_key().sign(&[PREFIX, foreign.as_bytes()].concat());
        let signed = SignedDirectory { signature, directory: foreign.as_bytes().to_vec() };
        assert_eq!(signed.verify(&root_key().public_key()), Err(DirectoryError::Signature));
    }
}
