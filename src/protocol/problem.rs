//! What went wrong, in the words of the wire.

use core::fmt;

/// The kinds of problem that a caller can act on (protocol, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// The request needs a payment and has none.
    Unpaid,
    /// The credential is not well-formed.
    Malformed,
    /// The spend is for another gateway, or the request for another host.
    WrongGateway,
    /// The spend's not-after is not one that is accepted now.
    Expired,
    /// The spent epoch is not in the directory, or not spendable.
    UnknownEpoch,
    /// The charge is no class of the directory, or the tariff is not valid now: fetch the directory.
    ClassUnknown,
    /// The proof does not verify.
    ProofInvalid,
    /// The session signature is not of this request.
    SessionSignatureInvalid,
    /// The same spend is being worked on.
    InProgress,
    /// The note was spent, in another context, longer ago than the evidence window.
    AlreadySpent,
    /// The note was spent in another context; the two spends together name the account.
    DoubleSpend,
    /// The session's charge is used up.
    CapReached,
    /// The record belongs to another process.
    WrongOwner,
    /// Too much is waiting. Nothing was done.
    Busy,
    /// The spent set did not answer. Nothing is assumed.
    StoreUnavailable,
}

impl Problem {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Unpaid,
        Self::Malformed,
        Self::WrongGateway,
        Self::Expired,
        Self::UnknownEpoch,
        Self::ClassUnknown,
        Self::ProofInvalid,
        Self::SessionSignatureInvalid,
        Self::InProgress,
        Self::AlreadySpent,
        Self::DoubleSpend,
        Self::CapReached,
        Self::WrongOwner,
        Self::Busy,
        Self::StoreUnavailable,
    ];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unpaid => "unpaid",
            Self::Malformed => "malformed",
            Self::WrongGateway => "wrong-gateway",
            Self::Expired => "expired",
            Self::UnknownEpoch => "unknown-epoch",
            Self::ClassUnknown => "class-unknown",
            Self::ProofInvalid => "proof-invalid",
            Self::SessionSignatureInvalid => "session-signature-invalid",
            Self::InProgress => "in-progress",
            Self::AlreadySpent => "already-spent",
            Self::DoubleSpend => "double-spend",
            Self::CapReached => "cap-reached",
            Self::WrongOwner => "wrong-owner",
            Self::Busy => "busy",
            Self::StoreUnavailable => "store-unavailable",
        }
    }

    /// The problem with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.as_str() == name)
    }

    /// The party at fault.
    pub const fn fault(self) -> Fault {
        match self {
            Self::InProgress | Self::Busy | Self::CapReached | Self::Unpaid => Fault::Nobody,
            Self::WrongOwner | Self::StoreUnavailable => Fault::Operator,
            _ => Fault::Caller,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The party at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The sender of the request.
    Caller,
    /// The operator of the gateway or the issuer.
    Operator,
    /// Nobody: it is a state, and passes.
    Nobody,
}
