//! A spend that came from the holder of its session key.

use halometer_circuits::proof::VerifyingKey;

use super::bound::BoundSpend;
use super::verified::{VerifiedSpend, VerifyError};
use crate::protocol::{Spend, SpendKey};
use crate::quota::Permit;
use crate::store::RecordKey;

/// A spend whose session signature is of the request it came with. Its proof is not verified yet; this is what waits in
/// front of the verifier. It holds the leave that was taken for its proof: a proof that does not hold, or is not looked at,
/// gives it back by being dropped.
#[derive(Debug)]
pub struct AuthenticSpend {
    bound: BoundSpend,
    permit: Permit,
}

impl AuthenticSpend {
    pub(super) fn new(bound: BoundSpend) -> Self {
        Self { bound, permit: Permit::free() }
    }

    /// The same with the leave to verify its proof.
    pub(crate) fn with_permit(self, permit: Permit) -> Self {
        Self { permit, ..self }
    }

    pub(super) fn bound(&self) -> &BoundSpend {
        &self.bound
    }

    /// Its proof holds.
    pub(super) fn into_verified(self) -> VerifiedSpend {
        self.permit.used();
        VerifiedSpend::new(self.bound)
    }

    /// What it says.
    pub fn spend(&self) -> &Spend {
        &self.bound.spend
    }

    /// Epoch, `nf` and `x`.
    pub fn key(&self) -> SpendKey {
        self.bound.key()
    }

    /// Names its record.
    pub fn record_key(&self) -> RecordKey {
        self.bound.record_key()
    }

    /// Verifies the proof, a few milliseconds. `key` is the verifying key of the spent epoch.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify(self, key: &VerifyingKey) -> Result<VerifiedSpend, VerifyError> {
        self.bound.verify(key)?;
        Ok(self.into_verified())
    }

    /// Skips the proof, for the model test, which makes thousands of spends.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn without_proof(self) -> VerifiedSpend {
        self.into_verified()
    }
}
