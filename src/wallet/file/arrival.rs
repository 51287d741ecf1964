//! Where a wallet is moved to: a key that this device made for it, and its code.

use core::fmt;
use core::str::FromStr;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use blake2b_simd::Params;
use rand_core::{CryptoRng, Rng};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::WalletFileError;
use super::place::{directory, sync};
use super::seat::make_directory;
use crate::sealed::{read_bounded, write_atomically};

const CHECK: &[u8; 16] = b"halometer1-arriv";
const CHECK_LENGTH: usize = 4;

/// The code of an arrival: a public key of the device that a wallet will move to. It is no secret, but it must be the
/// right one: its maker can open what is exported to it. It is shown as 72 hexadecimal digits in groups of 8, of which
/// the last are a check against slips of the pen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ArrivalCode([u8; 32]);

impl ArrivalCode {
    #[cfg(test)]
    pub(super) fn of_test(public: [u8; 32]) -> Self {
        Self(public)
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey::from(self.0)
    }

    /// By which it is known again.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(Params::new().hash_length(32).personal(CHECK).hash(&self.0).as_bytes());
        digest
    }
}

impl fmt::Display for ArrivalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = hex::encode([&self.0[..], &self.digest()[..CHECK_LENGTH]].concat());
        for (at, digit) in text.chars().enumerate() {
            if at > 0 && at % 8 == 0 {
                f.write_str("-")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ArrivalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArrivalCode({self})")
    }
}

impl FromStr for ArrivalCode {
    type Err = WalletFileError;

    /// Reads the digits, in groups or not, with whatever space is between them.
    fn from_str(text: &str) -> Result<Self, WalletFileError> {
        let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').take(100).collect();
        let mut bytes = [0; 32 + CHECK_LENGTH];
        hex::decode_to_slice(&digits, &mut bytes).map_err(|_| WalletFileError::Code)?;
        let mut key = [0; 32];
        key.copy_from_slice(&bytes[..32]);
        let code = Self(key);
        if code.digest()[..CHECK_LENGTH] == bytes[32..] { Ok(code) } else { Err(WalletFileError::Code) }
    }
}

/// The secret of an arrival, on the device that it is of.
pub(super) struct Arrival {
    path: PathBuf,
    pub(super) secret: StaticSecret,
    pub(super) code: ArrivalCode,
}

impl Arrival {
    /// Makes one and keeps it.
    pub(super) fn prepare<R: Rng + CryptoRng>(seats: &Path, rng: &mut R) -> Result<ArrivalCode, WalletFileError> {
        make_directory(seats)?;
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut secret[..]);
        let code = ArrivalCode(PublicKey::from(&StaticSecret::from(*secret)).to_bytes());
        write_atomically(&path(seats, &code.digest()), &secret[..]).map_err(WalletFileError::Io)?;
        Ok(code)
    }

    /// The one whose code has this digest.
    pub(super) fn find(seats: &Path, digest: &[u8; 32]) -> Result<Self, WalletFileError> {
        let path = path(seats, digest);
        let bytes = read_bounded(&path, 32).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => WalletFileError::NoArrival,
            _ => WalletFileError::Io(error),
        })?;
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(WalletFileError::NoArrival);
        }
        key.copy_from_slice(&bytes);
        let secret = StaticSecret::from(*key);
        let code = ArrivalCode(PublicKey::from(&secret).to_bytes());
        if bytes.iter().all(|byte| *byte == 0) {
            // The process ended while it destroyed it: the wallet is there.
            std::fs::remove_file(&path).and_then(|()| sync(directory(&path))).map_err(WalletFileError::Io)?;
        }
        if code.digest() == *digest { Ok(Self { path, secret, code }) } else { Err(WalletFileError::NoArrival) }
    }

    pub(super) fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// Overwrites it and removes it, durably. What a disk keeps of a file that was overwritten is the disk's business.
    pub(super) fn destroy(self) -> Result<(), WalletFileError> {
        let wipe = || {
            let mut file = std::fs::OpenOptions::new().write(true).open(&self.path)?;
            file.rewind()?;
            file.write_all(&[0; 32])?;
            file.sync_all()?;
            std::fs::remove_file(&self.path)?;
            sync(directory(&self.path))
        };
        wipe().map_err(WalletFileError::Io)
    }
}

fn path(seats: &Path, digest: &[u8; 32]) -> PathBuf {
    seats.join(format!("{}.arrival", hex::encode(&digest[..16])))
}
