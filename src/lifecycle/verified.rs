//! A spend whose proof holds.

use halometer_circuits::proof::{self, BatchVerifier, VerifyingKey};
use rand_core::{CryptoRng, Rng};

use super::admitted::{Admission, AdmittedSpend};
use super::authentic::AuthenticSpend;
use super::bound::BoundSpend;
use crate::protocol::{Credits, Fault, Problem, Spend, SpendKey, Timestamp};
use crate::store::{Insertion, Lease, RecordKey, RecordState, SpentSet, StoreError};

/// A spend whose proof holds for the context that it was sent for. Whether its note is unspent, only the set can tell.
#[derive(Debug)]
pub struct VerifiedSpend(pub(super) BoundSpend);

/// Why a spend was not verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The proof does not hold. The sender is at fault.
    #[error("the proof does not hold: {0}")]
    Proof(#[from] proof::VerifyError),
    /// The verifying key is not the one of the spent epoch. The caller of this library is at fault.
    #[error("the verifying key is not the one of the spent epoch")]
    OtherEpochKey,
}

impl VerifyError {
    /// The problem on the wire.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Proof(_) => Problem::ProofInvalid,
            Self::OtherEpochKey => Problem::UnknownEpoch,
        }
    }

    /// The party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Proof(_) => Fault::Caller,
            Self::OtherEpochKey => Fault::Operator,
        }
    }
}

impl VerifiedSpend {
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

    /// Inserts the spend into the set, atomically, under a lease of its owner.
    ///
    /// # Errors
    /// [`StoreError`]: the spend is not admitted, and may or may not be in the set.
    pub fn admit(self, set: &dyn SpentSet, lease: Lease, now: Timestamp) -> Result<Admission, StoreError> {
        let missing = || StoreError::Failed("the store gave no answer".into());
        Self::admit_all(vec![self], set, lease, now).pop().ok_or_else(missing)?
    }

    /// As [`admit`](Self::admit), for many spends in one commit; one answer each, in order.
    pub fn admit_all(
        spends: Vec<Self>,
        set: &dyn SpentSet,
        lease: Lease,
        now: Timestamp,
    ) -> Vec<Result<Admission, StoreError>> {
        let metered = Credits::ZERO;
        let record = |spend: &Self| spend.0.record(RecordState::Open { lease, metered });
        let mut insertions = set.insert_all(spends.iter().map(record).collect(), now).into_iter();
        let mut answer = |spend: Self| {
            // An answer that is missing is not a good one.
            let missing = || StoreError::Failed("the store gave no answer".into());
            Ok(match insertions.next().ok_or_else(missing)?? {
                Insertion::Fresh => Admission::Fresh(AdmittedSpend::fresh(&spend.0, lease.owner)),
                Insertion::Same(state) => Admission::Same(state),
                Insertion::Conflict(record) => Admission::Conflict { spend: Box::new(spend), record },
            })
        };
        spends.into_iter().map(&mut answer).collect()
    }
}

/// Verifies many spends at once, each against the verifying key beside it; one verdict each, in order. A bad proof costs its
/// neighbours nothing but time.
pub fn verify_batch<R: Rng + CryptoRng>(
    spends: Vec<(AuthenticSpend, &VerifyingKey)>,
    rng: &mut R,
) -> Vec<Result<VerifiedSpend, VerifyError>> {
    let mut batch = BatchVerifier::new();
    let mut keyed = Vec::with_capacity(spends.len());
    for (spend, key) in spends {
        let check = spend.bound().check_key(key);
        if check.is_ok() {
            batch.add(key, &spend.bound().public(), &spend.bound().spend.proof);
        }
        keyed.push((spend, check));
    }
    let mut verdicts = batch.verify(rng).into_iter();
    keyed
        .into_iter()
        .map(|(spend, check)| {
            check?;
            // A verdict that is missing is not a good one.
            verdicts.next().unwrap_or(Err(proof::VerifyError::Invalid))?;
            Ok(spend.into_verified())
        })
        .collect()
}
