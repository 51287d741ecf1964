//! Sealing memos.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use halometer_circuits::note::Nullifier;
use zeroize::{Zeroize as _, Zeroizing};

use super::root_secret::RootSecret;
use crate::protocol::{Credits, DeviceId, IssuerId, Memo, MemoCode};

const KEY: &[u8; 16] = b"halometer1-memok";
const CODE: &[u8; 16] = b"halometer1-memod";
const NONCE_LENGTH: usize = MemoCode::NONCE;
const TAG_LENGTH: usize = 16;
const PLAIN_LENGTH: usize = Memo::LENGTH - NONCE_LENGTH - TAG_LENGTH;

/// What a memo seals: where the change note stands, and the hidden part of its value.
#[derive(PartialEq, Eq)]
pub struct MemoContents {
    /// The device whose keys the note has.
    pub device: DeviceId,
    /// Number of the payment.
    pub payment: u64,
    /// The lane.
    pub lane: u32,
    /// Index of the change note in its lane.
    pub index: u64,
    /// `v'`.
    pub hidden: Credits,
}

impl core::fmt::Debug for MemoContents {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MemoContents(..)")
    }
}

impl Drop for MemoContents {
    fn drop(&mut self) {
        self.hidden.zeroize();
    }
}

impl MemoContents {
    fn to_bytes(&self) -> Zeroizing<[u8; PLAIN_LENGTH]> {
        let mut out = Zeroizing::new([0; PLAIN_LENGTH]);
        out[..4].copy_from_slice(&self.lane.to_be_bytes());
        out[4..12].copy_from_slice(&self.index.to_be_bytes());
        out[12..20].copy_from_slice(&self.hidden.micro().to_be_bytes());
        out[20..28].copy_from_slice(&self.payment.to_be_bytes());
        out[28..].copy_from_slice(self.device.as_bytes());
        out
    }

    fn from_bytes(bytes: &[u8; PLAIN_LENGTH]) -> Self {
        fn part<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
            core::array::from_fn(|i| bytes[from + i])
        }
        Self {
            lane: u32::from_be_bytes(part(bytes, 0)),
            index: u64::from_be_bytes(part(bytes, 4)),
            hidden: Credits::from_micro(u64::from_be_bytes(part(bytes, 12))),
            payment: u64::from_be_bytes(part(bytes, 20)),
            device: DeviceId::from_bytes(part(bytes, 28)),
        }
    }
}

/// The layout is nonce (12), ciphertext of lane, index, `v'`, payment and device (36), tag (16). The key is derived from the
/// root secret for one nullifier. The nonce is the hash of a code that is derived from the contents, so that two memos for one note,
/// of which only one is ever sent, do not share a key stream either, and that the code shows that its holder reads the memo.
impl RootSecret {
    pub(super) fn seal(&self, issuer: &IssuerId, nullifier: &Nullifier, contents: &MemoContents) -> Memo {
        let mut sealed = contents.to_bytes();
        let nonce = Nonce::from(self.memo_code(issuer, nullifier, contents).nonce());
        let tag = self
            .cipher(issuer, nullifier)
            .encrypt_inout_detached(&nonce, &[], sealed.as_mut_slice().into())
            .expect("36 bytes are below the cipher's limit");
        let mut memo = [0; Memo::LENGTH];
        memo[..NONCE_LENGTH].copy_from_slice(&nonce);
        memo[NONCE_LENGTH..NONCE_LENGTH + PLAIN_LENGTH].copy_from_slice(&sealed[..]);
        memo[NONCE_LENGTH + PLAIN_LENGTH..].copy_from_slice(&tag);
        Memo::from_bytes(memo)
    }

    /// The code of the memo that says this.
    pub(super) fn memo_code(&self, issuer: &IssuerId, nullifier: &Nullifier, contents: &MemoContents) -> MemoCode {
        let derived = self.derive(CODE, &[issuer.as_bytes(), &nullifier.to_bytes(), &contents.to_bytes()[..]]);
        let mut code = Zeroizing::new([0; MemoCode::LENGTH]);
        code.copy_from_slice(&derived[..MemoCode::LENGTH]);
        MemoCode::from_bytes(*code)
    }

    /// What a memo of a spend with this nullifier says; none when this root secret did not seal it for that nullifier.
    pub fn open_memo(&self, issuer: &IssuerId, nullifier: &Nullifier, memo: &Memo) -> Option<MemoContents> {
        let (nonce, rest) = memo.as_bytes().split_at(NONCE_LENGTH);
        let (sealed, tag) = rest.split_at(PLAIN_LENGTH);
        let mut plain = Zeroizing::new([0; PLAIN_LENGTH]);
        plain.copy_from_slice(sealed);
        let (nonce, tag) = (Nonce::try_from(nonce).ok()?, Tag::try_from(tag).ok()?);
        self.cipher(issuer, nullifier).decrypt_inout_detached(&nonce, &[], plain.as_mut_slice().into(), &tag).ok()?;
        Some(MemoContents::from_bytes(&plain))
    }

    fn cipher(&self, issuer: &IssuerId, nullifier: &Nullifier) -> ChaCha20Poly1305 {
        let derived = self.derive(KEY, &[issuer.as_bytes(), &nullifier.to_bytes()]);
        let key: &Key = derived[..32].try_into().expect("32 bytes");
        ChaCha20Poly1305::new(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nullifier(byte: u8) -> Nullifier {
        Nullifier::from_bytes(&[byte; 32]).unwrap()
    }

    fn contents(hidden: u64) -> MemoContents {
        MemoContents {
            device: DeviceId::from_bytes([3; 8]),
            payment: 5,
            lane: 6,
            index: 1 << 40,
            hidden: Credits::from_micro(hidden),
        }
    }

    #[test]
    fn only_the_wallet_that_sealed_it_reads_a_memo() {
        let (root, issuer) = (RootSecret::from_bytes([1; 32]), IssuerId::from_bytes([2; 32]));
        let memo = root.seal(&issuer, &nullifier(7), &contents(9));
        assert_eq!(root.open_memo(&issuer, &nullifier(7), &memo), Some(contents(9)));
        assert_eq!(root.open_memo(&issuer, &nullifier(8), &memo), None);
        assert_eq!(root.open_memo(&IssuerId::from_bytes([3; 32]), &nullifier(7), &memo), None);
        assert_eq!(RootSecret::from_bytes([2; 32]).open_memo(&issuer, &nullifier(7), &memo), None);
        for bit in 0..8 * Memo::LENGTH {
            let mut changed = *memo.as_bytes();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(root.open_memo(&issuer, &nullifier(7), &Memo::from_bytes(changed)), None);
        }
    }

    #[test]
    fn two_memos_for_one_note_share_no_key_stream() {
        let (root, issuer) = (RootSecret::from_bytes([1; 32]), IssuerId::from_bytes([2; 32]));
        let [a, b] = [9, 10].map(|hidden| root.seal(&issuer, &nullifier(7), &contents(hidden)));
        assert_ne!(a.as_bytes()[..12], b.as_bytes()[..12], "another nonce");
        assert_ne!(a.as_bytes()[12..24], b.as_bytes()[12..24], "the same plaintext, another ciphertext");
    }
}
