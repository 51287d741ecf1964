//! Why a gateway refuses.

use crate::lifecycle::{Evidence, EvidenceError, ParseError, VerifyError};
use crate::protocol::{Credits, DecodeError, EpochNumber, Fault, GatewayId, Problem, Timestamp};
use crate::store::StoreError;

/// Why a spend was not admitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// The bytes are no spend under the directory.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The epoch is over, or none of the directory.
    #[error("epoch {0} is not spendable any more")]
    NotSpendable(EpochNumber),
    /// The epoch is not spendable yet: one of the two clocks is wrong.
    #[error(
        "epoch {epoch} is spendable in {seconds} s by this gateway's clock, which is behind, or the caller's is ahead"
    )]
    NotYetSpendable {
        /// The epoch.
        epoch: EpochNumber,
        /// Until then, seconds.
        seconds: u64,
    },
    /// No epoch issues now, so that nothing that is admitted could be settled. Nothing was done.
    #[error(
        "no epoch issues now, so that nothing can be settled: the gateway's operator must look to its clock and its directory"
    )]
    NothingIssues,
    /// The spend is for another gateway.
    #[error("the spend is for gateway {0}")]
    WrongGateway(GatewayId),
    /// The not-after is of a window that is over.
    #[error(
        "the not-after {} is of a window that is over: the spend is old, or the caller's clock is behind this gateway's",
        .0.seconds()
    )]
    Expired(Timestamp),
    /// The not-after is of a window that has not begun.
    #[error(
        "the not-after {} is of a window {seconds} s ahead: the caller's clock is ahead of this gateway's",
        .not_after.seconds()
    )]
    Early {
        /// The not-after.
        not_after: Timestamp,
        /// How far it is beyond the one of now, seconds.
        seconds: u64,
    },
    /// The charge is no class of the directory.
    #[error("{0} is no charge class")]
    UnknownClass(Credits),
    /// The tariff does not hold now.
    #[error("the tariff does not hold now")]
    UnknownTariff,
    /// The spend is for another purpose than what is asked for here.
    #[error("the spend is for another purpose")]
    WrongPurpose,
    /// The amount of a transfer is no denomination.
    #[error("{0} is no denomination of a transfer")]
    UnknownDenomination(Credits),
    /// A rollover charges something, or its epoch still issues, or none does.
    #[error("there is nothing to roll over")]
    NoRollover,
    /// Too many of its kind came lately. Nothing was done; try again later.
    #[error("too many of this kind came lately")]
    Quota,
    /// The session signature is not of this request.
    #[error("the session signature is not of this request")]
    SessionSignature,
    /// The proof does not hold.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The note was spent in another context, and what would name the account is erased.
    #[error(
        "the note was spent before, by another spend: its wallet was copied or put back from a backup, and another copy of it \
         was faster"
    )]
    AlreadySpent,
    /// The note was spent in another context, and here is the account that did it.
    #[error(
        "the note is spent twice, by two spends: its wallet was copied or put back from a backup, and the account is known by \
         both; use one copy of a wallet"
    )]
    DoubleSpend(Box<Evidence>),
    /// The note was spent in another context, and its record proves nothing: it does not hold what was verified when it was
    /// made. The set is damaged.
    #[error("the record of the spend before this one is damaged: {0}")]
    BadRecord(#[source] EvidenceError),
    /// The spent set failed. Nothing is known of the spend.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdmitError {
    /// The problem on the wire.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Parse(error) => error.problem(),
            Self::NotSpendable(_) | Self::NotYetSpendable { .. } => Problem::UnknownEpoch,
            Self::NothingIssues => Problem::StoreUnavailable,
            Self::WrongGateway(_) => Problem::WrongGateway,
            Self::Expired(_) | Self::Early { .. } => Problem::Expired,
            Self::UnknownClass(_) | Self::UnknownTariff | Self::UnknownDenomination(_) => Problem::ClassUnknown,
            Self::WrongPurpose | Self::NoRollover => Problem::Malformed,
            Self::Quota => Problem::Busy,
            Self::SessionSignature => Problem::SessionSignatureInvalid,
            Self::Verify(error) => error.problem(),
            Self::AlreadySpent => Problem::AlreadySpent,
            Self::DoubleSpend(_) => Problem::DoubleSpend,
            Self::BadRecord(_) => Problem::StoreUnavailable,
            Self::Store(error) => store_problem(error),
        }
    }

    /// The party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Verify(error) => error.fault(),
            other => other.problem().fault(),
        }
    }
}

/// Why the settlement of a spend was not told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The bytes are no credential of a following request.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The directory has no such epoch.
    #[error("there is no epoch {0}")]
    UnknownEpoch(EpochNumber),
    /// There is no such spend, or the session signature is not of this request. Only the holder of the session key
    /// learns which of the two.
    #[error("the session signature is not of this request, or there is no such spend")]
    SessionSignature,
    /// The spent set failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FetchError {
    /// The problem on the wire.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Decode(_) => Problem::Malformed,
            Self::UnknownEpoch(_) => Problem::UnknownEpoch,
            Self::SessionSignature => Problem::SessionSignatureInvalid,
            Self::Store(error) => store_problem(error),
        }
    }

    /// The party at fault.
    pub fn fault(&self) -> Fault {
        self.problem().fault()
    }
}

pub(crate) fn store_problem(error: &StoreError) -> Problem {
    match error {
        // The directory says spendable and the set does not: to the caller it is the same.
        StoreError::PartitionClosed(_) | StoreError::PartitionRetired(_) => Problem::UnknownEpoch,
        StoreError::NotOwner => Problem::WrongOwner,
        _ => Problem::StoreUnavailable,
    }
}
