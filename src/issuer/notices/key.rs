//! The keys of notices.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::header::hex;

/// A key that payment notices may be signed with, under the id by which a notice names it. Wiped on drop, never printed, not
/// `Clone`.
pub struct NoticeKey {
    id: String,
    kind: Kind,
}

pub(super) enum Kind {
    HmacSha256(Zeroizing<Vec<u8>>),
    Ed25519(VerifyingKey),
}

impl core::fmt::Debug for NoticeKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kind = match self.kind {
            Kind::HmacSha256(_) => "HMAC-SHA256",
            Kind::Ed25519(_) => "Ed25519",
        };
        write!(f, "NoticeKey({}, {kind})", self.id)
    }
}

/// Why a key is none, or some keys do not go together. The operator is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeKeyError {
    /// An id is not 1 to 64 letters, digits, `-`, `_` or `.`.
    #[error("the id of a key is not 1 to 64 letters, digits, `-`, `_` or `.`")]
    Id,
    /// A shared secret is shorter than 32 bytes or longer than 1,024.
    #[error("the secret of key `{0}` is not 32 to 1,024 bytes")]
    Secret(String),
    /// A public key is not canonical, not on the curve, or of small order.
    #[error("key `{0}` is no Ed25519 public key")]
    Public(String),
    /// There is no key: every notice would be refused.
    #[error("there is no key for payment notices")]
    NoKey,
    /// Two keys have one id.
    #[error("two keys have the id `{0}`")]
    RepeatedId(String),
    /// The shared secret of one key is the public key of another, which everybody may know.
    #[error("the secret of key `{0}` is a public key")]
    PublicSecret(String),
}

impl NoticeKey {
    /// A secret of 32 to 1,024 random bytes that is shared with the sender.
    ///
    /// # Errors
    /// [`NoticeKeyError::Id`], [`NoticeKeyError::Secret`].
    pub fn hmac_sha256(id: &str, secret: &[u8]) -> Result<Self, NoticeKeyError> {
        let id = checked(id)?;
        if !(32..=1024).contains(&secret.len()) {
            return Err(NoticeKeyError::Secret(id));
        }
        Ok(Self { id, kind: Kind::HmacSha256(Zeroizing::new(secret.to_vec())) })
    }

    /// The sender's public key. The sender signs notices with its secret half and nothing else.
    ///
    /// # Errors
    /// [`NoticeKeyError::Id`], [`NoticeKeyError::Public`].
    pub fn ed25519(id: &str, public: &[u8; 32]) -> Result<Self, NoticeKeyError> {
        let id = checked(id)?;
        let canonical = |key: &VerifyingKey| !key.is_weak() && key.to_edwards().compress().to_bytes() == *public;
        match VerifyingKey::from_bytes(public).ok().filter(canonical) {
            Some(key) => Ok(Self { id, kind: Kind::Ed25519(key) }),
            None => Err(NoticeKeyError::Public(id)),
        }
    }
}

fn checked(id: &str) -> Result<String, NoticeKeyError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&id.len()) && id.bytes().all(allowed) { Ok(id.to_owned()) } else { Err(NoticeKeyError::Id) }
}

pub(super) fn collect(keys: impl IntoIterator<Item = NoticeKey>) -> Result<BTreeMap<String, Kind>, NoticeKeyError> {
    let mut all = BTreeMap::new();
    for NoticeKey { id, kind } in keys {
        match all.entry(id) {
            Entry::Vacant(place) => place.insert(kind),
            Entry::Occupied(known) => return Err(NoticeKeyError::RepeatedId(known.key().clone())),
        };
    }
    let is_public = |secret: &[u8]| {
        all.values().any(|kind| matches!(kind, Kind::Ed25519(key) if bool::from(key.as_bytes()[..].ct_eq(secret))))
    };
    for (id, kind) in &all {
        if matches!(kind, Kind::HmacSha256(secret) if is_public(secret)) {
            return Err(NoticeKeyError::PublicSecret(id.clone()));
        }
    }
    if all.is_empty() { Err(NoticeKeyError::NoKey) } else { Ok(all) }
}

impl Kind {
    /// Whether the signature, in hexadecimal, is this key's over `<time>.<body>`. MACs are compared in constant time.
    pub(super) fn verify(&self, time: &str, body: &[u8], signature: &str) -> bool {
        match self {
            Self::HmacSha256(secret) => {
                let Some(code) = hex::<32>(signature) else { return false };
                let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
                let mac = mac.chain_update(time).chain_update(b".").chain_update(body);
                mac.verify(&code.into()).is_ok()
            }
            Self::Ed25519(key) => {
                let Some(signature) = hex::<64>(signature) else { return false };
                let message = [time.as_bytes(), b".", body].concat();
                key.verify_strict(&message, &Signature::from_bytes(&signature)).is_ok()
            }
        }
    }
}
