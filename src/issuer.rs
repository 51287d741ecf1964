//! The issuer: mints, settles, signs the directory, and names double spenders (protocol, section 5).

mod audit;
mod books;
mod epoch_keys;
mod keystore;
mod mint;
mod notices;
mod payment_source;
mod restore;
mod schedule;
mod settle;
mod transfer;

pub use audit::{Audit, AuditReport, Finding};
pub use books::{Books, BooksError, EpochBooks};
pub use epoch_keys::EpochKeys;
pub use keystore::{Keystore, KeystoreError};
pub use mint::MintError;
pub use notices::{NoticeError, NoticeKey, NoticeKeyError, NoticeOutcome, PaymentNotices};
pub use payment_source::{DevelopmentPayments, PaymentSource, PaymentSourceError};
pub use schedule::{Planned, Schedule, ScheduleError, ScheduleParts};
pub use settle::SettleError;

use std::sync::Arc;

use crate::lifecycle::Evidence;
use crate::protocol::{
    Directory, DirectoryError, EpochNumber, MintSealer, MintStatement, RootSigningKey, SignedDirectory,
};
use crate::store::{MintBook, MintRecord, StoreError};

/// An issuer: the directory it has signed, the keys of the epochs that it signs leaves with, the book of mints, and where it
/// learns of payments. All methods take `&self`.
pub struct Issuer {
    directory: Directory,
    signed: SignedDirectory,
    sealer: MintSealer,
    keys: EpochKeys,
    mints: Arc<dyn MintBook>,
    payments: Arc<dyn PaymentSource>,
}

impl core::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Issuer").field("id", &self.directory.issuer()).finish_non_exhaustive()
    }
}

/// Why an issuer cannot be made. Its operator is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// The root key is not the one that the directory names.
    #[error("the root key is not the one that the directory names")]
    RootKey,
    /// An epoch key is not the one that the directory names.
    #[error("the key of epoch {0} is not the one that the directory names")]
    EpochKey(EpochNumber),
    /// The new directory cannot follow the present one.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl Issuer {
    /// Makes an issuer and signs its directory. `root` is needed for nothing else and can go back to where it is kept.
    ///
    /// `keys` holds the key of every epoch that issues now or will; of others it need not.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub fn new(
        root: &RootSigningKey,
        directory: Directory,
        keys: EpochKeys,
        mints: Arc<dyn MintBook>,
        payments: Arc<dyn PaymentSource>,
    ) -> Result<Self, IssuerError> {
        let signed = SignedDirectory::sign(&directory, root).ok_or(IssuerError::RootKey)?;
        keys.check(&directory)?;
        Ok(Self { directory, signed, sealer: MintSealer::new(root), keys, mints, payments })
    }

    /// Publishes a newer directory; `more` are the keys of its new epochs.
    ///
    /// # Errors
    /// [`IssuerError`]; the issuer is then as it was.
    pub fn publish(&mut self, root: &RootSigningKey, directory: Directory, more: EpochKeys) -> Result<(), IssuerError> {
        directory.check_follows(&self.directory)?;
        let signed = SignedDirectory::sign(&directory, root).ok_or(IssuerError::RootKey)?;
        self.keys.check(&directory)?;
        more.check(&directory)?;
        self.keys.extend(more);
        (self.directory, self.signed) = (directory, signed);
        Ok(())
    }

    /// The same issuer under a newer directory, over the same books, for a holder that shares it with others that still
    /// use this one. `keys` are all that it needs, as for [`new`](Self::new).
    ///
    /// # Errors
    /// [`IssuerError`], among them a directory that contradicts the present one.
    pub fn succeed(&self, root: &RootSigningKey, directory: Directory, keys: EpochKeys) -> Result<Self, IssuerError> {
        directory.check_follows(&self.directory)?;
        Self::new(root, directory, keys, Arc::clone(&self.mints), Arc::clone(&self.payments))
    }

    /// The key of an epoch, for pasts that were never lived.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn epoch_key(&self, epoch: EpochNumber) -> Option<&halometer_circuits::schnorr::SigningKey> {
        self.keys.get(epoch)
    }

    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The directory as everybody is given it.
    pub fn signed_directory(&self) -> &SignedDirectory {
        &self.signed
    }

    /// The mint that the account of a double spend belongs to. None for an account that was never minted here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn name(&self, evidence: &Evidence) -> Result<Option<MintRecord>, StoreError> {
        self.mints.by_account(&evidence.account())
    }

    /// What a mint is shown to others by: beside the evidence of a double spend it names the payment to anyone. None for one that was
    /// recorded before amounts were kept; its payer has been given one, or is when the mint is asked for again.
    pub fn statement(&self, mint: &MintRecord) -> Option<MintStatement> {
        let MintRecord { payment, account, amounts, response, .. } = mint;
        let (amounts, epoch) = ((*amounts)?, response.epoch);
        let seal = self.sealer.seal(payment, account, &amounts, epoch);
        Some(MintStatement { payment: *payment, account: *account, amounts, epoch, seal })
    }
}
