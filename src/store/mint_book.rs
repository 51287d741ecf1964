//! The trait of mint books.

use halometer_circuits::note::AccountId;

use crate::protocol::{Credits, Digest, MintResponse, PaymentId};
use crate::store::StoreError;

/// What is kept of a mint: no `rho`, and of the request only a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintRecord {
    /// The payment.
    pub payment: PaymentId,
    /// `A`; a double spend of one of its notes leads back here.
    pub account: AccountId,
    /// What was paid.
    pub amount: Credits,
    /// Digest of the request.
    pub request: Digest,
    /// The answer, the same for ever.
    pub response: MintResponse,
}

/// What became of a mint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MintOutcome {
    /// It is recorded now.
    Fresh,
    /// The payment was minted before; this is its record, whatever the request was.
    Known(Box<MintRecord>),
    /// The account was minted before, with another payment.
    AccountKnown,
}

/// The record of all mints (protocol, section 5, "Mint"), write-once by payment id and by account. It owes what a
/// [`SpentSet`](super::SpentSet) owes: linearizable, durable before the answer, fail closed.
pub trait MintBook: Send + Sync {
    /// Records a mint unless its payment or its account is recorded already.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn record(&self, mint: MintRecord) -> Result<MintOutcome, StoreError>;

    /// The mint of a payment.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn by_payment(&self, payment: &PaymentId) -> Result<Option<MintRecord>, StoreError>;

    /// The mint of an account.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn by_account(&self, account: &AccountId) -> Result<Option<MintRecord>, StoreError>;

    /// The sum of all mints, micro-credits.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn minted(&self) -> Result<u128, StoreError>;
}
