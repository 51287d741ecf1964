//! Where an issuer learns of payments.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::protocol::{Credits, PaymentId};

/// Says what was paid. A payment counts once it is final: notes cannot be called back (protocol, section 8).
pub trait PaymentSource: Send + Sync {
    /// The amount that was finally paid under this id, none while there is no such payment. The answer for an id never
    /// changes once it is an amount.
    ///
    /// # Errors
    /// [`PaymentSourceError`] when it cannot be told. Nothing is minted then.
    fn paid(&self, payment: &PaymentId) -> Result<Option<Credits>, PaymentSourceError>;
}

/// The payment source did not answer. Nobody is charged; ask again.
#[derive(Debug, thiserror::Error)]
#[error("the payment source did not answer")]
pub struct PaymentSourceError(#[source] pub Box<dyn core::error::Error + Send + Sync>);

/// A payment source for development: payments are made by saying so.
#[derive(Debug, Default)]
pub struct DevelopmentPayments {
    paid: Mutex<HashMap<PaymentId, Credits>>,
}

impl DevelopmentPayments {
    /// Without payments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares that an amount was paid. The first amount of an id stays.
    ///
    /// # Errors
    /// [`PaymentSourceError`] after a panic in another thread.
    pub fn grant(&self, payment: PaymentId, amount: Credits) -> Result<(), PaymentSourceError> {
        self.paid.lock().map_err(|_| poisoned())?.entry(payment).or_insert(amount);
        Ok(())
    }
}

impl PaymentSource for DevelopmentPayments {
    fn paid(&self, payment: &PaymentId) -> Result<Option<Credits>, PaymentSourceError> {
        Ok(self.paid.lock().map_err(|_| poisoned())?.get(payment).copied())
    }
}

fn poisoned() -> PaymentSourceError {
    PaymentSourceError("a thread panicked while it changed the payments".into())
}
