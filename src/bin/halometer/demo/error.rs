//! What can keep the demo from its report.

use halometer::http::payer::{CallError, ClientError, PayerError};
use halometer::testing::stack::StackError;
use halometer::wallet::{AcceptMintError, OpenError, PaymentError};

use super::kept::KeepError;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// A party could not be started, or not be asked.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The records cannot be kept.
    #[error("the records of this run: {0}")]
    Keep(#[from] KeepError),
    /// A request got no usable answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no wallet, most likely because the issuer's directory is refused.
    #[error("the wallet cannot be opened: {0}")]
    Wallet(#[from] OpenError),
    /// No mint was requested.
    #[error("the wallet cannot request a mint: {0}")]
    Payment(#[from] PaymentError),
    /// The mint is refused.
    #[error("the wallet refuses what was minted: {0}")]
    Mint(#[from] AcceptMintError),
    /// The payer could not be started.
    #[error(transparent)]
    Payer(#[from] PayerError),
    /// The first proofs could not be made.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An attack could not even be carried out.
    #[error("the attack could not be carried out: {0}")]
    Attack(String),
    /// The user had enough.
    #[error("interrupted")]
    Interrupted,
}
