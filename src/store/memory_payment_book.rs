//! A payment book in memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard};

use crate::protocol::{Credits, PaymentId};
use crate::store::{PaymentBook, PaymentOutcome, StoreError};

/// A [`PaymentBook`] in memory, behind one lock.
#[derive(Default)]
pub struct MemoryPaymentBook {
    payments: Mutex<Payments>,
}

impl core::fmt::Debug for MemoryPaymentBook {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The id of a payment that is not yet minted is enough to mint it.
        f.debug_struct("MemoryPaymentBook").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Payments {
    amounts: HashMap<PaymentId, Credits>,
    total: u128,
}

impl MemoryPaymentBook {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> Result<MutexGuard<'_, Payments>, StoreError> {
        self.payments.lock().map_err(|_| StoreError::Failed("a thread panicked while it changed the book".into()))
    }
}

impl PaymentBook for MemoryPaymentBook {
    fn record(&self, payment: PaymentId, amount: Credits) -> Result<PaymentOutcome, StoreError> {
        let mut payments = self.lock()?;
        match payments.amounts.entry(payment) {
            Entry::Occupied(known) => return Ok(PaymentOutcome::Known(*known.get())),
            Entry::Vacant(place) => place.insert(amount),
        };
        payments.total += u128::from(amount.micro());
        Ok(PaymentOutcome::Fresh)
    }

    fn paid(&self, payment: &PaymentId) -> Result<Option<Credits>, StoreError> {
        Ok(self.lock()?.amounts.get(payment).copied())
    }

    fn total(&self) -> Result<u128, StoreError> {
        Ok(self.lock()?.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYMENT: PaymentId = PaymentId::from_bytes([9; 32]);
    const OTHER: PaymentId = PaymentId::from_bytes([8; 32]);

    fn micro(amount: u64) -> Credits {
        Credits::from_micro(amount)
    }

    #[test]
    fn a_payment_is_written_once() {
        let book = MemoryPaymentBook::new();
        assert_eq!(book.paid(&PAYMENT).unwrap(), None);
        assert_eq!(book.record(PAYMENT, micro(100)).unwrap(), PaymentOutcome::Fresh);
        assert_eq!(book.record(PAYMENT, micro(100)).unwrap(), PaymentOutcome::Known(micro(100)));
        assert_eq!(book.record(PAYMENT, micro(999)).unwrap(), PaymentOutcome::Known(micro(100)));
        assert_eq!((book.paid(&PAYMENT).unwrap(), book.paid(&OTHER).unwrap()), (Some(micro(100)), None));
        assert_eq!(book.total().unwrap(), 100);
    }

    #[test]
    fn the_total_needs_more_than_64_bits() {
        let book = MemoryPaymentBook::new();
        book.record(PAYMENT, micro(u64::MAX)).unwrap();
        book.record(OTHER, micro(u64::MAX)).unwrap();
        assert_eq!(book.total().unwrap(), 2 * u128::from(u64::MAX));
    }

    #[test]
    fn racing_with_many_amounts_records_one() {
        for _ in 0..50 {
            let book = MemoryPaymentBook::new();
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let record = |amount| book.record(PAYMENT, micro(amount)).unwrap();
                let threads: Vec<_> = (1..=8).map(|amount| scope.spawn(move || record(amount))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let paid = book.paid(&PAYMENT).unwrap().unwrap();
            assert_eq!(outcomes.iter().filter(|outcome| **outcome == PaymentOutcome::Fresh).count(), 1);
            assert_eq!(outcomes.iter().filter(|outcome| **outcome == PaymentOutcome::Known(paid)).count(), 7);
            assert_eq!(book.total().unwrap(), paid.micro().into());
        }
    }

    #[test]
    fn payment_ids_are_not_printed() {
        let book = MemoryPaymentBook::new();
        book.record(PAYMENT, micro(1)).unwrap();
        assert!(!format!("{book:?}").contains("0909"));
    }
}
