//! The trait of payment books.

use crate::protocol::{Credits, PaymentId};
use crate::store::StoreError;

/// What became of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PaymentOutcome {
    /// It is recorded now.
    Fresh,
    /// The payment was recorded before, with this amount, which stays.
    Known(Credits),
}

/// The record of all final payments, write-once by payment id. It owes what a [`SpentSet`](super::SpentSet) owes:
/// linearizable, durable before the answer, fail closed. Nothing is ever taken out: notes cannot be called back.
pub trait PaymentBook: Send + Sync {
    /// Records a payment unless it is recorded already, with this amount or another.
    ///
    /// # Errors
    /// [`StoreError::Failed`]. The payment is then recorded or not: ask again.
    fn record(&self, payment: PaymentId, amount: Credits) -> Result<PaymentOutcome, StoreError>;

    /// The amount of a payment, none when there is none under this id.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn paid(&self, payment: &PaymentId) -> Result<Option<Credits>, StoreError>;

    /// The sum of all payments, micro-credits.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn total(&self) -> Result<u128, StoreError>;
}
