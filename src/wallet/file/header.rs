//! What the owner's lock seals.

use rand_core::{CryptoRng, Rng};
use zeroize::Zeroizing;

use super::super::RootSecret;
use super::WalletFileError;
use crate::protocol::codec::Reader;
use crate::protocol::{DeviceId, RootKey};
use crate::sealed::{self, Lock};

const VERSION: u8 = 1;
const PURPOSE: &[u8] = b"wallet";
const LENGTH: usize = 1 + 32 + 32 + DeviceId::LENGTH + WALLET_ID + 32;

/// Length of the id by which a wallet's seat is found, bytes.
pub(super) const WALLET_ID: usize = 16;

/// The secrets of the file, and what belongs to the wallet for ever. Wiped on drop.
pub(super) struct Header {
    pub(super) root: RootSecret,
    /// From which come the keys of all that is not the header: so that another lock is quickly put on.
    pub(super) data_key: Zeroizing<[u8; 32]>,
    pub(super) device: DeviceId,
    pub(super) wallet: [u8; WALLET_ID],
    pub(super) pinned: RootKey,
}

impl Header {
    pub(super) fn generate<R: Rng + CryptoRng>(pinned: RootKey, rng: &mut R) -> Self {
        let mut data_key = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut data_key[..]);
        let mut wallet = [0; WALLET_ID];
        rng.fill_bytes(&mut wallet);
        Self { root: RootSecret::generate(rng), data_key, device: DeviceId::from_number(0), wallet, pinned }
    }

    /// Version (1), root secret (32), data key (32), device (8), wallet id (16), the issuer's root key (32).
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // All of the room at once: a buffer that grows leaves copies behind.
        let mut out = Zeroizing::new(Vec::with_capacity(LENGTH));
        out.push(VERSION);
        out.extend_from_slice(&self.root.to_bytes()[..]);
        out.extend_from_slice(&self.data_key[..]);
        out.extend_from_slice(self.device.as_bytes());
        out.extend_from_slice(&self.wallet);
        out.extend_from_slice(&self.pinned.to_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, WalletFileError> {
        let read = || {
            let mut reader = Reader::exact(bytes, LENGTH).ok()?;
            let version = reader.u8().ok()?;
            let root = Zeroizing::new(reader.array::<32>().ok()?);
            let data_key = Zeroizing::new(reader.array().ok()?);
            let device = DeviceId::from_bytes(reader.array().ok()?);
            let wallet = reader.array().ok()?;
            let pinned = RootKey::from_bytes(&reader.array().ok()?)?;
            let root = RootSecret::from_bytes(*root);
            (version == VERSION).then_some(Self { root, data_key, device, wallet, pinned })
        };
        read().ok_or(WalletFileError::Damaged("its header cannot be read"))
    }

    pub(super) fn seal<R: Rng + CryptoRng>(&self, lock: &Lock, rng: &mut R) -> Result<Vec<u8>, WalletFileError> {
        Ok(sealed::seal(PURPOSE, &self.to_bytes(), lock, rng)?)
    }

    pub(super) fn open(sealed: &[u8], lock: &Lock) -> Result<Self, WalletFileError> {
        Self::from_bytes(&sealed::open(PURPOSE, sealed, lock)?)
    }
}
