//! Why the issuer refuses a remote gateway.

use super::{ClearingAnswer, ClearingProblem, EnvelopeError};
use crate::gateway::{AdmitError, store_problem};
use crate::issuer::SettleError;
use crate::protocol::{Fault, Problem};
use crate::store::StoreError;

/// Why a request of a remote gateway was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClearingError {
    /// It came in no valid envelope. The gateway is at fault, or a sender that pretends to be one.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The spend was not admitted; among the reasons the double spend, with its evidence.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// There is no such spend, or it is another gateway's. The gateway is at fault.
    #[error("there is no such spend of this gateway")]
    NoSpend,
    /// The spend is settled, and nothing says any more for which gateway it was: send it whole.
    #[error("the evidence of the spend is erased")]
    Erased,
    /// The spend was not settled, or its cost is out of range.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// The set failed, or the spend is another process's by now. Ask again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ClearingError {
    /// The problem on the wire.
    pub fn problem(&self) -> ClearingProblem {
        use ClearingProblem as P;
        match self {
            Self::Envelope(EnvelopeError::Decode(_)) => P::Spend(Problem::Malformed),
            Self::Envelope(EnvelopeError::OtherIssuer(_)) => P::OtherIssuer,
            Self::Envelope(EnvelopeError::UnknownGateway(_)) => P::UnknownGateway,
            Self::Envelope(EnvelopeError::Stale(_)) => P::Stale,
            Self::Envelope(EnvelopeError::Signature) => P::EnvelopeSignature,
            Self::Admit(error) => P::Spend(error.problem()),
            Self::NoSpend => P::NoSpend,
            Self::Erased => P::Erased,
            Self::Settle(SettleError::AboveCap { .. }) => P::AboveCap,
            Self::Settle(SettleError::NotQuantised { .. }) => P::NotQuantised,
            Self::Settle(SettleError::NoIssuingEpoch) => P::NoIssuingEpoch,
            Self::Settle(error) => P::Spend(error.problem()),
            Self::Store(error) => P::Spend(store_problem(error)),
        }
    }

    /// The party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Admit(error) => error.fault(),
            // Bytes that are no envelope are no caller's.
            Self::Envelope(_) => Fault::Operator,
            other => other.problem().fault(),
        }
    }

    pub(super) fn answer(&self) -> ClearingAnswer {
        match self {
            Self::Admit(AdmitError::DoubleSpend(_)) => ClearingAnswer::DoubleSpend,
            other => ClearingAnswer::Refused(other.problem()),
        }
    }
}
