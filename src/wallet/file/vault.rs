//! What makes the values of the file unreadable without its lock.

use blake2b_simd::Params;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::store::Table;

const CIPHER: &[u8; 16] = b"halometer1-filec";
const NONCES: &[u8; 16] = b"halometer1-filen";
const NAMES: &[u8; 16] = b"halometer1-filek";
const NONCE: usize = 24;
const TAG: usize = 16;

/// How much longer a sealed value is, bytes.
pub(super) const OVERHEAD: usize = NONCE + TAG;

/// Length of a key that tells nothing, bytes.
pub(super) const NAME: usize = 16;

/// Seals values under the data key, each for its place: a value that was put elsewhere does not open.
///
/// The nonce of a value is a keyed hash of place and contents, so that no two contents share a key stream; a random one would
/// hang on a source of randomness that two copies of a file could share. What it gives away is that a value was written again
/// unchanged.
pub(super) struct Vault {
    cipher: XChaCha20Poly1305,
    nonces: Zeroizing<[u8; 32]>,
    names: Zeroizing<[u8; 32]>,
}

impl Vault {
    pub(super) fn new(data_key: &[u8; 32]) -> Self {
        let derive = |label: &[u8; 16]| keyed::<32>(data_key, label, &[]);
        Self {
            cipher: XChaCha20Poly1305::new(<&Key>::from(&*derive(CIPHER))),
            nonces: derive(NONCES),
            names: derive(NAMES),
        }
    }

    pub(super) fn seal(&self, table: Table, key: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let place = place(table, key);
        let nonce = keyed::<NONCE>(&self.nonces[..], NONCES, &[&place, plaintext]);
        let nonce = XNonce::from(*nonce);
        let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plaintext);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce, &place, (&mut out[NONCE..]).into())
            .expect("the values of a wallet are below the cipher's limit of 256 GiB");
        out.extend_from_slice(&tag);
        out
    }

    /// None when it was not sealed for this place under this key.
    pub(super) fn open(&self, table: Table, key: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
        let (body, tag) = rest.split_last_chunk::<TAG>()?;
        let mut plaintext = Zeroizing::new(body.to_vec());
        self.cipher
            .decrypt_inout_detached(
                &XNonce::from(*nonce),
                &place(table, key),
                plaintext.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .ok()?;
        Some(plaintext)
    }

    /// The key under which something stands in a table, which tells nothing of it.
    pub(super) fn name(&self, table: Table, of: &[u8]) -> [u8; NAME] {
        *keyed(&self.names[..], NAMES, &[&[table as u8], of])
    }
}

/// Where a value stands. The length is told because contents follow it in the hash that gives the nonce.
fn place(table: Table, key: &[u8]) -> Vec<u8> {
    let length = u8::try_from(key.len()).unwrap_or(u8::MAX);
    [&[table as u8, length], key].concat()
}

/// Keyed BLAKE2b, personalised with a label, of so many bytes.
pub(super) fn keyed<const N: usize>(key: &[u8], label: &[u8; 16], parts: &[&[u8]]) -> Zeroizing<[u8; N]> {
    let mut state = Params::new().hash_length(N).key(key).personal(label).to_state();
    for part in parts {
        state.update(part);
    }
    let hash = state.finalize();
    let mut out = Zeroizing::new([0; N]);
    out.copy_from_slice(hash.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_in_its_place_and_unchanged() {
        let vault = Vault::new(&[1; 32]);
        let sealed = vault.seal(Table::Spends, b"key", b"value");
        assert_eq!(sealed.len(), 5 + OVERHEAD);
        let open = |vault: &Vault, table, key: &[u8], bytes: &[u8]| vault.open(table, key, bytes).map(|it| it.to_vec());
        assert_eq!(open(&vault, Table::Spends, b"key", &sealed).unwrap(), b"value");
        assert_eq!(open(&vault, Table::Proofs, b"key", &sealed), None);
        assert_eq!(open(&vault, Table::Spends, b"kez", &sealed), None);
        assert_eq!(open(&Vault::new(&[2; 32]), Table::Spends, b"key", &sealed), None);
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert_eq!(open(&vault, Table::Spends, b"key", &changed), None, "{i}");
            assert_eq!(open(&vault, Table::Spends, b"key", &sealed[..i]), None, "{i}");
        }
    }

    #[test]
    fn two_contents_of_one_place_share_no_nonce() {
        let vault = Vault::new(&[1; 32]);
        let sealed = [b"a", b"b"].map(|value| vault.seal(Table::Spends, b"key", value));
        assert_ne!(sealed[0][..NONCE], sealed[1][..NONCE]);
        let moved = vault.seal(Table::Spends, b"ke", b"ya");
        assert_ne!(sealed[0][..NONCE], moved[..NONCE], "where the place ends is told");
        assert_ne!(vault.name(Table::Pins, b"a"), vault.name(Table::Payments, b"a"));
    }
}
