//! What went wrong between a remote gateway and the issuer, in the words of the wire.

use core::fmt;

use crate::protocol::{Fault, Problem};

/// Why the issuer refused a remote gateway's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClearingProblem {
    /// Something about the spend or the set: what the gateway tells the caller.
    Spend(Problem),
    /// The envelope is for another issuer.
    OtherIssuer,
    /// The gateway does not clear here.
    UnknownGateway,
    /// The envelope's time is too far from the issuer's clock.
    Stale,
    /// The envelope is not signed by its gateway.
    EnvelopeSignature,
    /// There is no such spend of this gateway.
    NoSpend,
    /// The spend is settled and its evidence erased: send the whole spend to be told the settlement.
    Erased,
    /// The cost is above the charge, or above 0 for half a transfer.
    AboveCap,
    /// The cost is no multiple of the quantum.
    NotQuantised,
    /// No epoch issues now, so that nothing can be settled. Ask again.
    NoIssuingEpoch,
}

impl ClearingProblem {
    const OWN: [Self; 9] = [
        Self::OtherIssuer,
        Self::UnknownGateway,
        Self::Stale,
        Self::EnvelopeSignature,
        Self::NoSpend,
        Self::Erased,
        Self::AboveCap,
        Self::NotQuantised,
        Self::NoIssuingEpoch,
    ];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spend(problem) => problem.as_str(),
            Self::OtherIssuer => "other-issuer",
            Self::UnknownGateway => "unknown-gateway",
            Self::Stale => "stale",
            Self::EnvelopeSignature => "envelope-signature-invalid",
            Self::NoSpend => "no-spend",
            Self::Erased => "erased",
            Self::AboveCap => "above-cap",
            Self::NotQuantised => "not-quantised",
            Self::NoIssuingEpoch => "no-issuing-epoch",
        }
    }

    /// The problem with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let own = Self::OWN.into_iter().find(|problem| problem.as_str() == name);
        own.or_else(|| Problem::from_name(name).map(Self::Spend))
    }

    /// Whether it is the gateway that is refused, whatever it asks for: one of the two operators is at fault, and nothing is cleared until
    /// that operator has fixed it.
    pub const fn is_of_gateway(self) -> bool {
        matches!(self, Self::OtherIssuer | Self::UnknownGateway | Self::Stale | Self::EnvelopeSignature)
    }

    /// The party at fault: `Caller` made the spend, `Operator` runs the gateway or the issuer.
    pub const fn fault(self) -> Fault {
        match self {
            Self::Spend(problem) => problem.fault(),
            _ => Fault::Operator,
        }
    }
}

impl fmt::Display for ClearingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_a_name_of_its_own() {
        let all = ClearingProblem::OWN.into_iter().chain(Problem::ALL.map(ClearingProblem::Spend));
        for problem in all {
            assert_eq!(ClearingProblem::from_name(problem.as_str()), Some(problem));
        }
    }
}
