//! A spend that is well-formed.

use halometer_circuits::note::ContextHash;

use super::authentic::AuthenticSpend;
use super::bound::BoundSpend;
use crate::protocol::{
    Authorisation, Cancellation, DecodeError, Directory, EpochNumber, Fault, Opening, Problem, Request, Spend, SpendKey,
};
use crate::store::RecordKey;

/// A spend whose bytes are canonical and whose `x` is computed. Nothing of it is believed yet.
#[derive(Debug)]
pub struct ParsedSpend {
    bound: BoundSpend,
    authorisation: Authorisation,
}

/// Why bytes are no spend under a directory. The sender is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The bytes are not the encoding of one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The directory has no such epoch.
    #[error("the directory has no epoch {0}")]
    UnknownEpoch(EpochNumber),
    /// The two halves of a transfer do not name each other, or do not give what they take.
    #[error("the two spends are no transfer")]
    Unpaired,
    /// `x` is zero: the share would be the account secret itself.
    #[error("the context hash is zero")]
    ZeroContext,
}

impl ParseError {
    /// The problem on the wire.
    pub fn problem(&self) -> Problem {
        match self {
            Self::UnknownEpoch(_) => Problem::UnknownEpoch,
            Self::Decode(_) | Self::Unpaired | Self::ZeroContext => Problem::Malformed,
        }
    }

    /// The party at fault.
    pub fn fault(&self) -> Fault {
        self.problem().fault()
    }
}

impl ParsedSpend {
    /// Reads an [`Opening`] and computes `x` from what it says and what the directory says.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn parse(bytes: &[u8], directory: &Directory) -> Result<Self, ParseError> {
        let Opening { spend, authorisation } = Opening::from_bytes(bytes)?;
        Ok(Self { bound: BoundSpend::new(spend, directory)?, authorisation })
    }

    /// Reads a [`Cancellation`] in the same way. What comes of it is never to be served.
    pub(crate) fn parse_cancellation(bytes: &[u8], directory: &Directory) -> Result<Self, ParseError> {
        let Cancellation { spend, authorisation } = Cancellation::from_bytes(bytes)?;
        Ok(Self { bound: BoundSpend::new(spend, directory)?, authorisation })
    }

    /// One half of a transfer.
    pub(super) fn half(Opening { spend, authorisation }: Opening, directory: &Directory) -> Result<Self, ParseError> {
        Ok(Self { bound: BoundSpend::new(spend, directory)?, authorisation })
    }

    /// A spend whose session signature was checked by the gateway that it is for, which says so under its own key. The
    /// caller of this must have verified that signature, and that it is by the gateway which the spend names.
    ///
    /// Why that is enough: a session signature keeps onlookers that have only seen a spend from using it for a request
    /// of their own. They could do so at one place only, the gateway whose id is in `x` and so in the proof, and that
    /// gateway decides there anyway what it serves. For any other gateway the spend is not, whatever that one vouches
    /// for. The proof is verified by the issuer, as ever.
    pub(crate) fn vouched(spend: Spend, directory: &Directory) -> Result<AuthenticSpend, ParseError> {
        Ok(AuthenticSpend::new(BoundSpend::new(spend, directory)?))
    }

    /// What it says.
    pub fn spend(&self) -> &Spend {
        &self.bound.spend
    }

    /// Its `x`.
    pub fn context(&self) -> ContextHash {
        self.bound.x
    }

    /// Epoch, `nf` and `x`.
    pub fn key(&self) -> SpendKey {
        self.bound.key()
    }

    /// Names its record.
    pub fn record_key(&self) -> RecordKey {
        self.bound.record_key()
    }

    /// Checks the session signature against the request that the spend came with. None when it is not of this request.
    pub fn authenticate(self, request: &Request<'_>) -> Option<AuthenticSpend> {
        let Self { bound, authorisation } = self;
        let valid = authorisation.verify(&bound.spend.session, &bound.spend.nullifier, &bound.x, request);
        valid.then(|| AuthenticSpend::new(bound))
    }

    /// As [`authenticate`](Self::authenticate), for many; one answer each, in order. `together` says whether to try one equation for
    /// all of them.
    #[cfg(feature = "pipeline")]
    pub(crate) fn authenticate_each(spends: Vec<(Self, &Request<'_>)>, together: bool) -> Vec<Option<AuthenticSpend>> {
        let claim = |(Self { bound, authorisation }, request): &(Self, &Request<'_>)| {
            authorisation.claim(&bound.spend.session, &bound.spend.nullifier, &bound.x, request)
        };
        let claims: Vec<_> = spends.iter().map(claim).collect();
        let valid = crate::protocol::verify_each(&claims, together);
        let authentic = |((spend, _), valid): ((Self, _), bool)| valid.then(|| AuthenticSpend::new(spend.bound));
        spends.into_iter().zip(valid).map(authentic).collect()
    }
}
