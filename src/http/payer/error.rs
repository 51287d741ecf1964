//! What goes wrong at the caller's side.

use std::io;

use super::ClientError;
use crate::http::problem::ProblemDetails;
use crate::protocol::{Credits, Digest, GatewayId, RequestError, SignedDirectory};
use crate::wallet::{AcceptError, Accepted, AuthoriseError};

/// Why no payer could be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayerError {
    /// The class is none of the directory. The caller is at fault.
    #[error("{0} is no charge class of the directory")]
    UnknownClass(Credits),
    /// The directory has no such gateway. The caller is at fault.
    #[error("the directory has no gateway {0}")]
    UnknownGateway(GatewayId),
    /// The gateway's origin is no URL. The issuer is at fault.
    #[error("the directory names `{0}` as the gateway's origin, which is no URL")]
    Origin(String),
    /// The gateway goes by another directory than the wallet: a newer one, or one of this caller's own.
    #[error("the gateway goes by another directory than the wallet, which has {known}")]
    OtherDirectory {
        /// Digest of the wallet's directory.
        known: Digest,
        /// The directory that the gateway shows.
        shown: Box<SignedDirectory>,
    },
    /// The gateway could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The threads that make proofs cannot be started.
    #[error("cannot start threads to make proofs: {0}")]
    Threads(#[source] io::Error),
}

/// Why a call was not answered with success. Says whether it was paid for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No lane can pay the class, now or later. Nothing was sent.
    #[error("no lane of the wallet can pay for this call")]
    OutOfCredit,
    /// Proofs cannot be made. Nothing was sent.
    #[error("the wallet's prover failed")]
    Prover,
    /// No proof was ready in time. Nothing was sent.
    #[error("no proof was ready in time")]
    NotReady,
    /// The request cannot be signed. Nothing was sent.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The wallet refused to pay. Nothing was sent.
    #[error(transparent)]
    Authorise(#[from] AuthoriseError),
    /// The gateway refused. Its spend stays pinned: the same can be sent again, and no other one.
    #[error("the gateway refuses: {0}")]
    Refused(Box<ProblemDetails>),
    /// The gateway took the spend and could not get an answer from the service. The spend is settled.
    #[error("{details}; the call cost {} micro-credits", .accepted.cost)]
    Failed {
        /// What the gateway says.
        details: Box<ProblemDetails>,
        /// What it cost.
        accepted: Accepted,
    },
    /// The answer was lost on the way, but the spend is settled.
    #[error("the answer was lost; the call cost {} micro-credits", .0.cost)]
    Lost(Accepted),
    /// There is no answer and no settlement, after several tries. The spend stays pinned.
    #[error("the gateway cannot be reached: {0}")]
    Unreachable(#[source] ClientError),
    /// The settlement is not one: the gateway or the issuer is at fault.
    #[error("the settlement is refused: {0}")]
    Settlement(#[from] AcceptError),
    /// The gateway answered with something that is no settlement.
    #[error("the gateway's settlement cannot be read")]
    Malformed,
}
