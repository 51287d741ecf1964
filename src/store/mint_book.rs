//! The trait of mint books.

use std::collections::BTreeMap;

use halometer_circuits::note::AccountId;

use crate::protocol::{Credits, Digest, EpochNumber, LANES, MintResponse, PaymentId};
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
    /// What the lanes were worth at first. None for mints that were recorded before this was kept.
    pub amounts: Option<[Credits; LANES]>,
    /// Digest of the request.
    pub request: Digest,
    /// The answer, the same for ever.
    pub response: MintResponse,
}

/// Sums over all mints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MintTotals {
    /// Number of mints.
    pub mints: u64,
    /// What they were worth, micro-credits, by the epoch whose key signed.
    pub by_epoch: BTreeMap<EpochNumber, u128>,
}

impl MintTotals {
    /// What all of them were worth, micro-credits.
    pub fn amount(&self) -> u128 {
        self.by_epoch.values().sum()
    }

    /// Adds a mint.
    pub fn add(&mut self, mint: &MintRecord) {
        self.mints += 1;
        *self.by_epoch.entry(mint.response.epoch).or_default() += u128::from(mint.amount.micro());
    }
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

    /// The sums over all mints.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn totals(&self) -> Result<MintTotals, StoreError>;

    /// The mints in the order of their payments' ids, at most `limit`, from behind `after` on: for audits.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn scan(&self, after: Option<&PaymentId>, limit: usize) -> Result<Vec<MintRecord>, StoreError>;
}
