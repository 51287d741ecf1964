//! A wallet that was restored from its root secret, in a new file.

use rand_core::{CryptoRng, Rng};
use zeroize::Zeroizing;

use super::header::{Header, WALLET_ID};
use super::seat::{self, Seat};
use super::state::State;
use super::{FileJournal, WalletFile, WalletFileError};
use crate::sealed::Lock;
use crate::wallet::{Restored, Wallet};

impl WalletFile {
    /// Makes a new file of a wallet that was [restored](crate::wallet::Restore). It comes into being whole, under its name, or not at
    /// all; interrupted before that, nothing has happened.
    ///
    /// # Errors
    /// [`WalletFileError`], most of all [`WalletFileError::Exists`].
    pub fn restore<R: Rng + CryptoRng>(
        &self,
        lock: &Lock,
        restored: Restored,
        rng: &mut R,
    ) -> Result<Wallet<FileJournal>, WalletFileError> {
        self.vacant()?;
        seat::make_directory(&self.seats)?;
        let mut data_key = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut data_key[..]);
        let (mut wallet, mut id) = ([0; WALLET_ID], [0; seat::SEAT_ID]);
        rng.fill_bytes(&mut wallet);
        rng.fill_bytes(&mut id);
        let Restored { root, device, pinned, signed, payments, .. } = restored;
        let header = Header { root, data_key, device, wallet, pinned };
        let (unfinished, mut store) = self.build(&header, lock, State::new(id), rng)?;
        let seat = Seat::path(&self.seats, &header.wallet);
        store.seat = Some(Seat::create(&seat, id, 0)?);
        let made = || {
            let mut journal = FileJournal::new(store);
            Restored::write(&signed, &payments, &mut journal)?;
            let made = Wallet::new(header.root, header.device, header.pinned, &signed, journal)?;
            unfinished.become_new(&self.path)?;
            Ok(made)
        };
        made().inspect_err(|_: &WalletFileError| {
            // The first error is the one to tell.
            let _ = std::fs::remove_file(seat);
        })
    }
}
