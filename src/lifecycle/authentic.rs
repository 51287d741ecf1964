//! A spend that came from whoever holds its session key.

use halometer_circuits::proof::VerifyingKey;

use super::bound::BoundSpend;
use super::verified::{VerifiedSpend, VerifyError};
use crate::protocol::{Spend, SpendKey};
use crate::store::RecordKey;

/// A spend whose session signature is of the request it came with. Its proof is not verified yet; this is what waits in
/// front of the verifier.
#[derive(Debug)]
pub struct AuthenticSpend(pub(super) BoundSpend);

impl AuthenticSpend {
    pub(super) fn new(bound: BoundSpend) -> Self {
        Self(bound)
    }

    /// What it says.
    pub fn spend(&self) -> &Spend {
        &self.0.spend
    }

    /// Epoch, `nf` and `x`.
    pub fn key(&self) -> SpendKey {
        self.0.key()
    }

    /// Names its record.
    pub fn record_key(&self) -> RecordKey {
        self.0.record_key()
    }

    /// Verifies the proof, a few milliseconds. `key` is the verifying key of the spent epoch.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify(self, key: &VerifyingKey) -> Result<VerifiedSpend, VerifyError> {
        self.0.verify(key)?;
        Ok(VerifiedSpend::new(self.0))
    }

    /// Skips the proof, for the model test, which makes thousands of spends.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn without_proof(self) -> VerifiedSpend {
        VerifiedSpend::new(self.0)
    }
}
