//! The secret keys of the epochs.

use std::collections::BTreeMap;

use halometer_circuits::schnorr::{PublicKey, SigningKey};
use rand_core::{CryptoRng, Rng};

use super::IssuerError;
use crate::protocol::{Directory, EpochNumber};

/// The secret keys `d` of an issuer's epochs. Wiped on drop, never printed, not `Clone`.
#[derive(Default)]
pub struct EpochKeys(BTreeMap<EpochNumber, SigningKey>);

impl core::fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl EpochKeys {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Draws the key of an epoch and gives its public half, for the directory. A key that is there already stays.
    pub fn generate<R: Rng + CryptoRng>(&mut self, epoch: EpochNumber, rng: &mut R) -> PublicKey {
        self.0.entry(epoch).or_insert_with(|| SigningKey::generate(rng)).public_key()
    }

    /// Adds the key of an epoch. A key that is there already stays.
    pub fn insert(&mut self, epoch: EpochNumber, key: SigningKey) {
        self.0.entry(epoch).or_insert(key);
    }

    pub(super) fn extend(&mut self, more: Self) {
        more.0.into_iter().for_each(|(epoch, key)| self.insert(epoch, key));
    }

    pub(super) fn get(&self, epoch: EpochNumber) -> Option<&SigningKey> {
        self.0.get(&epoch)
    }

    /// Whether each key is the one that the directory names for its epoch.
    pub(super) fn check(&self, directory: &Directory) -> Result<(), IssuerError> {
        for (number, key) in &self.0 {
            if directory.epoch(*number).is_some_and(|epoch| epoch.key != key.public_key()) {
                return Err(IssuerError::EpochKey(*number));
            }
        }
        Ok(())
    }
}
