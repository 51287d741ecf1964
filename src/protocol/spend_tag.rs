//! What is kept of a spend's context for ever.

use blake2b_simd::Params;
use halometer_circuits::note::ContextHash;
use subtle::ConstantTimeEq;

use super::ed25519::SessionPublicKey;

/// A digest of a spend's `x` and session key, by which a set knows the spend again after everything else of its context is
/// erased. The maker of two spends of one note chooses much of what is hashed, so that a collision costs the square root of all
/// tags: with 256 bits 2^128. While a record has its evidence, `x` itself is compared as well
/// ([`Record::is_of`](crate::store::Record::is_of)). `x` and session key cannot be read from a tag.
///
/// Compared in constant time: a stranger must guess it to learn of a spend.
#[derive(Clone, Copy)]
pub struct SpendTag([u8; Self::LENGTH]);

impl PartialEq for SpendTag {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SpendTag {}

impl core::hash::Hash for SpendTag {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Not printed, like what it is a digest of.
impl core::fmt::Debug for SpendTag {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SpendTag(..)")
    }
}

impl SpendTag {
    /// Length in bytes.
    pub const LENGTH: usize = 32;

    /// The tag of a context and its session key.
    pub fn of(context: &ContextHash, session: &SessionPublicKey) -> Self {
        let mut state = Params::new().hash_length(Self::LENGTH).personal(b"halometer1-sptag").to_state();
        state.update(&context.to_bytes()).update(&session.to_bytes());
        let mut bytes = [0; Self::LENGTH];
        bytes.copy_from_slice(state.finalize().as_bytes());
        Self(bytes)
    }

    /// Wraps the bytes; every value is valid.
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn to_bytes(&self) -> [u8; Self::LENGTH] {
        self.0
    }
}
