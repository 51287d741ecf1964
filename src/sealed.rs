//! Small secrets at rest: an issuer's key file, a wallet.
//!
//! A secret is sealed under a [`Lock`], a passphrase or a key of 32 bytes, with XChaCha20-Poly1305. What is sealed for one
//! purpose does not open for another, and nothing in front of the ciphertext can be changed without being noticed.
//!
//! | bytes | field | |
//! | --- | --- | --- |
//! | 16 | `halometer-sealed` | |
//! | 1 | version | 1 |
//! | 1 | kind of lock | 1 passphrase, 2 key |
//! | 4 + 4 + 4 | Argon2id: memory in KiB, passes, lanes | 0 for a key |
//! | 32 | salt | random for each sealing |
//! | 24 | nonce | random for each sealing |
//! | 32 | commitment to the key | |
//! | 1 + n | purpose | n from 1 to 32 |
//! | m + 16 | ciphertext and tag | m up to 16 MiB |
//!
//! Integers are big-endian. All in front of the ciphertext is its associated data. A passphrase becomes a key by Argon2id
//! over the salt; that key, or the one of the lock, becomes the cipher's key and the commitment by keyed BLAKE2b-512 over
//! the salt. The commitment tells a wrong key from a damaged file, and makes that no file opens under two keys.
//!
//! The library's own files are replaced whole: a crash leaves the old contents or the new ones.

mod file;
mod lock;

// For the program too, which keeps its files as the library does; no part of the interface.
pub(crate) use file::clear_unfinished;
#[doc(hidden)]
pub use file::{make_private, read_bounded, try_lock, write_atomically};
pub use lock::{Cost, Lock, LockError};

use blake2b_simd::Params;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use rand_core::{CryptoRng, Rng};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const MAGIC: &[u8; 16] = b"halometer-sealed";
const VERSION: u8 = 1;
const KEYS: &[u8; 16] = b"halometer1-sealk";
const COST: usize = 18;
const SALT: usize = COST + 12;
const NONCE: usize = SALT + 32;
const COMMITMENT: usize = NONCE + 24;
const PURPOSE: usize = COMMITMENT + 32;
const TAG: usize = 16;

/// The longest purpose, bytes.
const MAX_PURPOSE: usize = 32;
/// The longest secret, bytes.
const MAX_PLAINTEXT: usize = 16 << 20;
/// The longest sealed secret, bytes.
#[doc(hidden)]
pub const MAX_SEALED: usize = PURPOSE + 1 + MAX_PURPOSE + MAX_PLAINTEXT + TAG;

/// Why a secret was not sealed. The caller is at fault, or the machine has too little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The purpose is empty or longer than 32 bytes.
    #[error("the purpose is empty or too long")]
    Purpose,
    /// The secret is longer than 16 MiB.
    #[error("the secret is too long to be sealed")]
    TooLong,
    /// The memory that the lock's [`Cost`] asks for is not there.
    #[error("there is too little memory to derive the key from the passphrase")]
    Memory,
}

/// Why a sealed secret does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsealError {
    /// It is no sealed secret: the first 16 bytes are others.
    #[error("this is no sealed file of halometer")]
    NotSealed,
    /// It is of another version. A newer program wrote it.
    #[error("the file is sealed in version {0}, which this program does not know")]
    Version(u8),
    /// The file ends too early, or is longer than any sealed secret.
    #[error("the file is too short or too long: it was cut off, or is another file")]
    Length,
    /// A field of the header is out of range. The file was damaged, or made to harm.
    #[error("the file's {0} is out of range")]
    Header(&'static str),
    /// It was sealed for another purpose. The wrong file was named.
    #[error("the file was sealed for another purpose")]
    Purpose,
    /// It is locked with a passphrase and a key was given, or the other way round.
    #[error("the file is locked with {}", if *.passphrase { "a passphrase, not with a key" } else { "a key, not with a passphrase" })]
    OtherLock {
        /// Whether a passphrase is needed.
        passphrase: bool,
    },
    /// The passphrase or key is not the one it was sealed with (or salt, cost or commitment in the header were changed).
    #[error("the passphrase or the key is not the right one")]
    WrongKey,
    /// The key is right and the contents are not what was sealed. The file was damaged or altered: go back to a backup.
    #[error("the file is damaged, or somebody altered it")]
    Altered,
    /// The memory that the file's cost asks for, at most 1 GiB, is not there.
    #[error("there is too little memory to derive the key from the passphrase")]
    Memory,
}

/// Seals a secret for a purpose. Two sealings of one secret have nothing in common; the length is not hidden.
///
/// `purpose` names what is sealed, such as `b"issuer-keys"`; it is not secret. With a passphrase this takes what its
/// [`Cost`] says, about 0.1 s and 64 MiB.
///
/// # Errors
/// [`SealError`].
pub fn seal<R: Rng + CryptoRng>(
    purpose: &[u8],
    plaintext: &[u8],
    lock: &Lock,
    rng: &mut R,
) -> Result<Vec<u8>, SealError> {
    if purpose.is_empty() || purpose.len() > MAX_PURPOSE {
        return Err(SealError::Purpose);
    }
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(SealError::TooLong);
    }
    let mut random = [0; COMMITMENT - SALT];
    rng.fill_bytes(&mut random);
    let (salt, nonce) = random.split_at(NONCE - SALT);
    let keys = Keys::derive(lock, lock.cost(), salt).ok_or(SealError::Memory)?;

    let mut out = Vec::with_capacity(PURPOSE + 1 + purpose.len() + plaintext.len() + TAG);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, lock.kind()]);
    out.extend_from_slice(&lock.cost().map_or([0; 12], |cost| cost.to_bytes()));
    out.extend_from_slice(&random);
    out.extend_from_slice(keys.commitment());
    out.push(purpose.len() as u8);
    out.extend_from_slice(purpose);
    let header = out.len();
    out.extend_from_slice(plaintext);
    let (header, body) = out.split_at_mut(header);
    let tag = keys
        .cipher()
        .encrypt_inout_detached(&nonce_of(nonce), header, body.into())
        .expect("16 MiB are below the cipher's limit");
    out.extend_from_slice(&tag);
    Ok(out)
}

/// Opens what was sealed for this purpose under this lock. Bytes from outside cost at most 1 GiB of memory and the time of
/// 4 GiB of Argon2id, and only when a passphrase is given.
///
/// # Errors
/// [`UnsealError`]; no part of the secret is given before all of it is authentic.
pub fn open(purpose: &[u8], bytes: &[u8], lock: &Lock) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
    let magic = bytes.len().min(MAGIC.len());
    if bytes[..magic] != MAGIC[..magic] || magic == 0 {
        return Err(UnsealError::NotSealed);
    }
    match bytes.get(MAGIC.len()) {
        Some(&VERSION) => (),
        Some(&other) => return Err(UnsealError::Version(other)),
        None => return Err(UnsealError::Length),
    }
    let (&length, after) = bytes.get(PURPOSE..).and_then(<[u8]>::split_first).ok_or(UnsealError::Length)?;
    let (sealed_for, body) = after.split_at_checked(length.into()).ok_or(UnsealError::Length)?;
    let (body, tag) = body.split_last_chunk::<TAG>().ok_or(UnsealError::Length)?;
    if body.len() > MAX_PLAINTEXT {
        return Err(UnsealError::Length);
    }
    if sealed_for.is_empty() || sealed_for.len() > MAX_PURPOSE {
        return Err(UnsealError::Header("purpose"));
    }
    if sealed_for != purpose {
        return Err(UnsealError::Purpose);
    }
    let cost = cost_of(bytes[MAGIC.len() + 1], &bytes[COST..SALT], lock)?;
    let keys = Keys::derive(lock, cost, &bytes[SALT..NONCE]).ok_or(UnsealError::Memory)?;
    if !bool::from(keys.commitment().ct_eq(&bytes[COMMITMENT..PURPOSE])) {
        return Err(UnsealError::WrongKey);
    }
    let header = &bytes[..PURPOSE + 1 + sealed_for.len()];
    let mut plaintext = Zeroizing::new(body.to_vec());
    let nonce = nonce_of(&bytes[NONCE..COMMITMENT]);
    keys.cipher()
        .decrypt_inout_detached(&nonce, header, plaintext.as_mut_slice().into(), &Tag::from(*tag))
        .map_err(|_| UnsealError::Altered)?;
    Ok(plaintext)
}

/// The cost in a header, none for a key: checked before anything is spent on it.
fn cost_of(kind: u8, bytes: &[u8], lock: &Lock) -> Result<Option<Cost>, UnsealError> {
    let cost = match kind {
        Lock::PASSPHRASE => Some(Cost::from_bytes(bytes).ok_or(UnsealError::Header("cost"))?),
        Lock::KEY if bytes.iter().all(|byte| *byte == 0) => None,
        Lock::KEY => return Err(UnsealError::Header("cost")),
        _ => return Err(UnsealError::Header("kind of lock")),
    };
    if kind == lock.kind() { Ok(cost) } else { Err(UnsealError::OtherLock { passphrase: cost.is_some() }) }
}

/// The cipher's key, 32 bytes, and the commitment to it, 32 bytes.
struct Keys(Zeroizing<[u8; 64]>);

impl Keys {
    /// None when there is too little memory.
    fn derive(lock: &Lock, cost: Option<Cost>, salt: &[u8]) -> Option<Self> {
        let key = lock.key(cost, salt)?;
        let hash = Params::new().hash_length(64).key(&key[..]).personal(KEYS).hash(salt);
        Some(Self(Zeroizing::new(*hash.as_array())))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&self.0[..32]);
        XChaCha20Poly1305::new(<&Key>::from(&*key))
    }

    fn commitment(&self) -> &[u8] {
        &self.0[32..]
    }
}

fn nonce_of(bytes: &[u8]) -> XNonce {
    let mut nonce = XNonce::default();
    nonce.copy_from_slice(bytes);
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    const SECRET: &[u8] = b"the keys of an issuer";
    const FOR: &[u8] = b"issuer-keys";

    fn rng() -> ChaCha20Rng {
        ChaCha20Rng::seed_from_u64(1)
    }

    fn passphrase(text: &str) -> Lock {
        Lock::passphrase(text).unwrap().with_cost(Cost::new(8, 1, 1).unwrap())
    }

    fn key(byte: u8) -> Lock {
        Lock::key_bytes(&[byte; 32]).unwrap()
    }

    fn sealed(lock: &Lock) -> Vec<u8> {
        seal(FOR, SECRET, lock, &mut rng()).unwrap()
    }

    #[test]
    fn what_was_sealed_opens() {
        for lock in [passphrase("correct horse"), key(7)] {
            assert_eq!(open(FOR, &sealed(&lock), &lock).unwrap().as_slice(), SECRET);
            let empty = seal(FOR, b"", &lock, &mut rng()).unwrap();
            assert!(open(FOR, &empty, &lock).unwrap().is_empty());
        }
        assert!(!sealed(&key(7)).windows(4).any(|part| part == &SECRET[..4]));
    }

    #[test]
    fn another_passphrase_or_key_does_not_open() {
        let phrase = sealed(&passphrase("correct horse"));
        for wrong in ["correct hors", "correct horse ", "Correct horse"] {
            assert_eq!(open(FOR, &phrase, &passphrase(wrong)).unwrap_err(), UnsealError::WrongKey);
        }
        assert_eq!(open(FOR, &sealed(&key(7)), &key(8)).unwrap_err(), UnsealError::WrongKey);
        assert_eq!(open(FOR, &phrase, &key(7)).unwrap_err(), UnsealError::OtherLock { passphrase: true });
        let locked = sealed(&key(7));
        assert_eq!(open(FOR, &locked, &passphrase("x")).unwrap_err(), UnsealError::OtherLock { passphrase: false });
    }

    #[test]
    fn what_was_sealed_for_one_purpose_does_not_open_for_another() {
        let lock = key(7);
        assert_eq!(open(b"wallet", &sealed(&lock), &lock).unwrap_err(), UnsealError::Purpose);
        assert_eq!(open(b"issuer-key", &sealed(&lock), &lock).unwrap_err(), UnsealError::Purpose);
        // Renamed in the header, it is no longer what was sealed.
        let mut renamed = sealed(&lock);
        renamed[PURPOSE + 1..][..FOR.len()].copy_from_slice(b"wallet-file");
        assert_eq!(open(b"wallet-file", &renamed, &lock).unwrap_err(), UnsealError::Altered);
        // A part of the ciphertext is not taken for a part of the purpose.
        let mut shifted = sealed(&lock);
        shifted[PURPOSE] += 1;
        let longer = shifted[PURPOSE + 1..][..FOR.len() + 1].to_vec();
        assert_eq!(open(&longer, &shifted, &lock).unwrap_err(), UnsealError::Altered);
        for purpose in [&b""[..], &[b'p'; MAX_PURPOSE + 1]] {
            assert_eq!(seal(purpose, SECRET, &lock, &mut rng()), Err(SealError::Purpose));
        }
    }

    #[test]
    fn changing_any_bit_is_noticed() {
        let lock = key(7);
        let good = sealed(&lock);
        for bit in 0..8 * good.len() {
            let mut changed = good.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let error = open(FOR, &changed, &lock).unwrap_err();
            let expected = match bit / 8 {
                0..16 => error == UnsealError::NotSealed,
                16 => matches!(error, UnsealError::Version(_)),
                17 => matches!(error, UnsealError::Header(_) | UnsealError::OtherLock { .. }),
                COST..SALT => error == UnsealError::Header("cost"),
                SALT..NONCE | COMMITMENT..PURPOSE => error == UnsealError::WrongKey,
                PURPOSE => matches!(error, UnsealError::Header(_) | UnsealError::Length | UnsealError::Purpose),
                place if (PURPOSE..=PURPOSE + FOR.len()).contains(&place) => error == UnsealError::Purpose,
                _ => error == UnsealError::Altered,
            };
            assert!(expected, "bit {bit}: {error:?}");
        }
    }

    #[test]
    fn changing_any_bit_of_the_cost_is_noticed() {
        let lock = passphrase("correct horse");
        let good = sealed(&lock);
        for bit in 8 * COST..8 * SALT {
            let mut changed = good.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // The large ones among them are only read: they would take what they ask for.
            if Cost::from_bytes(&changed[COST..SALT]).is_none_or(|cost| cost.memory_kib() <= 1 << 12) {
                let error = open(FOR, &changed, &lock).unwrap_err();
                assert!(matches!(error, UnsealError::Header("cost") | UnsealError::WrongKey), "bit {bit}: {error:?}");
            }
        }
    }

    #[test]
    fn a_file_that_asks_for_all_memory_or_time_is_refused_at_once() {
        let lock = passphrase("correct horse");
        let started = std::time::Instant::now();
        for (memory, passes, lanes) in [
            (u32::MAX, 1, 1),
            ((1 << 20) + 1, 1, 1),
            (1 << 20, 5, 1),
            (8, u32::MAX, 1),
            (8, 0, 1),
            (0, 1, 1),
            (7, 1, 1),
            (8, 1, 0),
            (1 << 20, 1, u32::MAX),
            (1 << 20, 1, 17),
            (127, 1, 16),
        ] {
            let mut hostile = sealed(&lock);
            for (i, value) in [memory, passes, lanes].into_iter().enumerate() {
                hostile[COST + 4 * i..][..4].copy_from_slice(&u32::to_be_bytes(value));
            }
            assert_eq!(open(FOR, &hostile, &lock).unwrap_err(), UnsealError::Header("cost"));
            assert!(Cost::new(memory, passes, lanes).is_none());
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn a_file_that_was_cut_off_or_went_on_is_refused() {
        let lock = key(7);
        let good = sealed(&lock);
        assert_eq!(open(FOR, &[], &lock).unwrap_err(), UnsealError::NotSealed);
        for length in 1..good.len() {
            let error = open(FOR, &good[..length], &lock).unwrap_err();
            assert!(matches!(error, UnsealError::Length | UnsealError::Altered), "{length}: {error:?}");
        }
        assert_eq!(open(FOR, &[&good[..], b"\0"].concat(), &lock).unwrap_err(), UnsealError::Altered);
        let mut long = good;
        long.resize(MAX_SEALED + 1, 0);
        assert_eq!(open(FOR, &long, &lock).unwrap_err(), UnsealError::Length);
        assert_eq!(seal(FOR, &vec![0; MAX_PLAINTEXT + 1], &lock, &mut rng()), Err(SealError::TooLong));
    }

    #[test]
    fn sealing_twice_uses_no_nonce_and_no_salt_twice() {
        let (lock, mut rng) = (key(7), rng());
        let first = seal(FOR, SECRET, &lock, &mut rng).unwrap();
        let second = seal(FOR, SECRET, &lock, &mut rng).unwrap();
        assert_ne!(first[SALT..NONCE], second[SALT..NONCE]);
        assert_ne!(first[NONCE..COMMITMENT], second[NONCE..COMMITMENT]);
        assert_ne!(first[COMMITMENT..PURPOSE], second[COMMITMENT..PURPOSE]);
    }

    /// A file of today opens tomorrow: the bytes of version 1.
    #[test]
    fn version_1_stays_readable() {
        let files = [
            (
                passphrase("correct horse"),
                "68616c6f6d657465722d7365616c656401010000000800000001000000019a3744504560639ec670b7a17d492b273e077b0a\
             96bef58ba7760779e544546e000efec87c5749ec1157912e0e171f60de9e5341348819a2a6253275966a5ff2820d93ea1adf\
             8ec57215401e6f68f7dda9067cdba126f0ff0b6973737565722d6b657973fba7e40091aa171d141c73def84d3a21e3795a19\
             b67b680d6c39eb4097fa2398766cc60a8f",
            ),
            (
                key(7),
                "68616c6f6d657465722d7365616c656401020000000000000000000000009a3744504560639ec670b7a17d492b273e077b0a\
             96bef58ba7760779e544546e000efec87c5749ec1157912e0e171f60de9e5341348819a2844516d1794c664e6e97104ff08f\
             2b58234ad0cfcc95f5f7aa1970fba8c778ee0b6973737565722d6b65797340e3713a0d0714e764a246dd1bf606607a2e0a0c\
             f299df1751e2ab046c9a0bb973a7ba2c9d",
            ),
        ];
        for (lock, hex) in files {
            let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
            assert_eq!(open(FOR, &bytes, &lock).unwrap().as_slice(), SECRET);
            assert_eq!(sealed(&lock), bytes);
        }
    }
}
