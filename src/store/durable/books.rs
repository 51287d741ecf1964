//! Mints and payments of a durable store.

use std::ops::Bound;

use halometer_circuits::note::AccountId;

use super::codec::{mint_from_bytes, mint_to_bytes};
use super::engine::EngineError;
use super::transaction::{Place, Transaction};
use super::{DurableStore, failed};
use crate::protocol::codec::Reader;
use crate::protocol::{Credits, PaymentId};
use crate::store::{MintBook, MintOutcome, MintRecord, MintTotals, PaymentBook, PaymentOutcome, StoreError};

/// The book of mints in a [`DurableStore`].
#[derive(Clone, Debug)]
pub struct DurableMintBook(pub(super) DurableStore);

/// The book of payments in a [`DurableStore`].
#[derive(Clone, Debug)]
pub struct DurablePaymentBook(pub(super) DurableStore);

fn mint(payment: PaymentId, bytes: Option<Vec<u8>>) -> Result<Option<MintRecord>, StoreError> {
    bytes.map(|bytes| mint_from_bytes(payment, &bytes)).transpose().map_err(failed)
}

fn payment_id(bytes: &[u8]) -> Result<PaymentId, StoreError> {
    let mut reader = Reader::exact(bytes, PaymentId::LENGTH).map_err(failed)?;
    Ok(PaymentId::from_bytes(reader.array().map_err(failed)?))
}

fn amount(bytes: &[u8]) -> Result<Credits, StoreError> {
    let mut reader = Reader::exact(bytes, 8).map_err(failed)?;
    Ok(Credits::from_micro(reader.u64().map_err(failed)?))
}

impl MintBook for DurableMintBook {
    fn record(&self, record: MintRecord) -> Result<MintOutcome, StoreError> {
        self.0.change(move |transaction: &mut Transaction<'_>| {
            let tables = transaction.tables;
            let key = record.payment.as_bytes();
            if let Some(known) = mint(record.payment, transaction.read(Place::Mints, &tables.mints, key)?)? {
                return Ok(MintOutcome::Known(Box::new(known)));
            }
            let account = record.account.to_bytes();
            if transaction.read(Place::Accounts, &tables.accounts, &account)?.is_some() {
                return Ok(MintOutcome::AccountKnown);
            }
            transaction.put(Place::Mints, &tables.mints, key.to_vec(), mint_to_bytes(&record));
            transaction.put(Place::Accounts, &tables.accounts, account.to_vec(), key.to_vec());
            transaction.state.minted.add(&record);
            Ok(MintOutcome::Fresh)
        })
    }

    fn by_payment(&self, payment: &PaymentId) -> Result<Option<MintRecord>, StoreError> {
        self.0.0.committer.check()?;
        mint(*payment, self.0.0.tables.mints.read(payment.as_bytes()).map_err(failed)?)
    }

    fn by_account(&self, account: &AccountId) -> Result<Option<MintRecord>, StoreError> {
        self.0.0.committer.check()?;
        let payment = self.0.0.tables.accounts.read(&account.to_bytes()).map_err(failed)?;
        let Some(payment) = payment.map(|bytes| payment_id(&bytes)).transpose()? else { return Ok(None) };
        self.by_payment(&payment)?.map(Some).ok_or_else(|| failed("the mint of an account is missing"))
    }

    fn totals(&self) -> Result<MintTotals, StoreError> {
        self.0.transact(|transaction| Ok(transaction.state.minted.clone()))
    }

    fn scan(&self, after: Option<&PaymentId>, limit: usize) -> Result<Vec<MintRecord>, StoreError> {
        self.0.0.committer.check()?;
        let low = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_bytes().to_vec()));
        let read = |entry: Result<(Vec<u8>, Vec<u8>), EngineError>| {
            let (key, value) = entry.map_err(failed)?;
            mint_from_bytes(payment_id(&key)?, &value).map_err(failed)
        };
        self.0.0.tables.mints.range((low, Bound::Unbounded)).take(limit).map(read).collect()
    }
}

impl PaymentBook for DurablePaymentBook {
    fn record(&self, payment: PaymentId, paid: Credits) -> Result<PaymentOutcome, StoreError> {
        self.0.change(move |transaction: &mut Transaction<'_>| {
            let tables = transaction.tables;
            if let Some(known) = transaction.read(Place::Payments, &tables.payments, payment.as_bytes())? {
                return Ok(PaymentOutcome::Known(amount(&known)?));
            }
            let value = paid.micro().to_be_bytes().to_vec();
            transaction.put(Place::Payments, &tables.payments, payment.as_bytes().to_vec(), value);
            transaction.state.paid += u128::from(paid.micro());
            Ok(PaymentOutcome::Fresh)
        })
    }

    fn paid(&self, payment: &PaymentId) -> Result<Option<Credits>, StoreError> {
        self.0.0.committer.check()?;
        let found = self.0.0.tables.payments.read(payment.as_bytes()).map_err(failed)?;
        found.map(|bytes| amount(&bytes)).transpose()
    }

    fn total(&self) -> Result<u128, StoreError> {
        self.0.transact(|transaction| Ok(transaction.state.paid))
    }
}
