//! A mint book in memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

use halometer_circuits::note::AccountId;

use crate::protocol::PaymentId;
use crate::store::{MintBook, MintOutcome, MintRecord, MintTotals, StoreError};

/// A [`MintBook`] in memory, behind one lock.
#[derive(Debug, Default)]
pub struct MemoryMintBook {
    mints: Mutex<Mints>,
}

#[derive(Debug, Default)]
struct Mints {
    by_payment: BTreeMap<PaymentId, MintRecord>,
    payment_of: HashMap<AccountId, PaymentId>,
    totals: MintTotals,
}

impl MemoryMintBook {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> Result<MutexGuard<'_, Mints>, StoreError> {
        self.mints.lock().map_err(|_| StoreError::Failed("a thread panicked while it changed the book".into()))
    }
}

impl MintBook for MemoryMintBook {
    fn record(&self, mint: MintRecord) -> Result<MintOutcome, StoreError> {
        let mut mints = self.lock()?;
        if let Some(known) = mints.by_payment.get(&mint.payment) {
            return Ok(MintOutcome::Known(Box::new(known.clone())));
        }
        if mints.payment_of.contains_key(&mint.account) {
            return Ok(MintOutcome::AccountKnown);
        }
        mints.totals.add(&mint);
        mints.payment_of.insert(mint.account, mint.payment);
        mints.by_payment.insert(mint.payment, mint);
        Ok(MintOutcome::Fresh)
    }

    fn by_payment(&self, payment: &PaymentId) -> Result<Option<MintRecord>, StoreError> {
        Ok(self.lock()?.by_payment.get(payment).cloned())
    }

    fn by_account(&self, account: &AccountId) -> Result<Option<MintRecord>, StoreError> {
        let mints = self.lock()?;
        Ok(mints.payment_of.get(account).and_then(|payment| mints.by_payment.get(payment)).cloned())
    }

    fn totals(&self) -> Result<MintTotals, StoreError> {
        Ok(self.lock()?.totals.clone())
    }

    fn scan(&self, after: Option<&PaymentId>, limit: usize) -> Result<Vec<MintRecord>, StoreError> {
        let low = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mints = self.lock()?;
        Ok(mints.by_payment.range((low, Bound::Unbounded)).take(limit).map(|(_, mint)| mint.clone()).collect())
    }
}
