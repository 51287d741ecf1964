//! The proving keys of the epochs.

use std::sync::Mutex;

use halometer_circuits::proof::ProvingKey;
use halometer_circuits::schnorr::PublicKey;

/// Proving keys by epoch key, each built once. Derived from the pinned directory's epoch keys, never received from anyone.
#[derive(Debug, Default)]
pub struct ProvingKeys(Mutex<Vec<(PublicKey, ProvingKey)>>);

impl ProvingKeys {
    /// Most keys that are held at a time: no more epochs are spendable.
    const CAPACITY: usize = 3;

    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The proving key for an epoch key; the first time that takes about 0.1 s. Cheap to clone.
    pub fn of(&self, epoch_key: &PublicKey) -> ProvingKey {
        // A thread that panicked here left a list of whole keys behind.
        let mut keys = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, key)) = keys.iter().find(|(known, _)| known == epoch_key) {
            return key.clone();
        }
        let key = ProvingKey::build(epoch_key);
        if keys.len() == Self::CAPACITY {
            keys.remove(0);
        }
        keys.push((*epoch_key, key.clone()));
        key
    }
}
