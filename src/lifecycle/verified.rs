//! A spend whose proof holds.

use halometer_circuits::proof::{self, BatchVerifier, VerifyingKey};
use rand_core::{CryptoRng, Rng};

use super::admitted::{Admission, AdmittedSpend};
use super::authentic::AuthenticSpend;
use super::bound::BoundSpend;
use crate::protocol::{Fault, Problem, Spend, SpendKey};
use crate::store::{Insertion, Lease, Record, RecordEvidence, RecordState, SpentSet, StoreError};

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

    /// Who is at fault.
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

    /// Inserts the spend into the set, atomically, under a lease of its owner.
    ///
    /// # Errors
    /// [`StoreError`]: the spend is not admitted, and may or may not be in the set.
    pub fn admit(self, set: &dyn SpentSet, lease: Lease) -> Result<Admission, StoreError> {
        let spend = &self.0.spend;
        let evidence = RecordEvidence { charge: spend.charge, change: spend.change, spend: spend.to_bytes() };
        let record = Record {
            key: self.key(),
            session: spend.session,
            memo: spend.memo,
            evidence: Some(evidence),
            state: RecordState::Open(lease),
        };
        Ok(match set.insert(record)? {
            Insertion::Fresh => Admission::Fresh(AdmittedSpend::fresh(self.key(), spend, lease.owner)),
            Insertion::Same(state) => Admission::Same(state),
            Insertion::Conflict(record) => Admission::Conflict { spend: Box::new(self), record },
        })
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
        let check = spend.0.check_key(key);
        if check.is_ok() {
            batch.add(key, &spend.0.public(), &spend.0.spend.proof);
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
            Ok(VerifiedSpend::new(spend.0))
        })
        .collect()
}
