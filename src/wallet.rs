//! The wallet: derives the caller's secrets, holds his notes, makes proofs ahead, and pays (protocol, sections 3 and 5).
//!
//! A wallet holds payments; each payment has an account of its own and eight *lanes*; each lane is a chain of notes of which
//! the newest, the frontier, can be spent. The way of a call:
//!
//! 1. [`Wallet::plan`] gives a [`ProofJob`], which owns what it needs, so that [`ProofJob::prove`] runs without the wallet.
//! 2. [`Wallet::keep`] stores the [`ReadySpend`]; [`Wallet::take`] chooses one at random when a call is to be made.
//! 3. [`Wallet::authorise`] pins the nullifier to its context in the journal, then signs the request. What it returns may leave
//!    the process.
//! 4. [`Wallet::accept`] checks the settlement and moves the lane on to its change note.
//!
//! After step 3 the spend is for ever the only one of its note. While no settlement is accepted, [`Wallet::resend`] gives the
//! same spend again and [`Wallet::fetch`] asks for the settlement; no error that a gateway answers frees the note for another.

mod accept;
mod authorise;
mod balance;
mod journal;
mod lane;
mod memo;
mod note;
mod payment;
mod plan;
mod proving_keys;
mod ready;
mod root_secret;
mod transfer;

pub use accept::{AcceptError, Accepted};
pub use authorise::{AuthoriseError, Authorised, NotInFlight};
pub use balance::Balance;
pub use journal::{Journal, JournalEntry, JournalError, MemoryJournal};
pub use lane::{LaneId, LaneStatus};
pub use memo::MemoContents;
pub use payment::{AcceptMintError, PaymentError};
pub use plan::{JobError, PlanError, ProofJob};
pub use proving_keys::ProvingKeys;
pub use ready::ReadySpend;
pub use root_secret::RootSecret;
pub use transfer::AuthorisedTransfer;

use std::collections::BTreeMap;

use crate::protocol::{DeviceId, Directory, DirectoryError, IssuerId, PaymentId, RootKey, SignedDirectory};
use lane::Lane;
use payment::Payment;

/// A wallet for one issuer. Holds secrets: not `Clone`, not printed, wiped on drop.
pub struct Wallet<J = MemoryJournal> {
    root: RootSecret,
    device: DeviceId,
    pinned: RootKey,
    directory: Directory,
    payments: BTreeMap<PaymentId, Payment>,
    lanes: BTreeMap<LaneId, Lane>,
    ready: Vec<ReadySpend>,
    journal: J,
}

impl<J> core::fmt::Debug for Wallet<J> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wallet").field("issuer", &self.directory.issuer()).finish_non_exhaustive()
    }
}

impl<J: Journal> Wallet<J> {
    /// An empty wallet. `pinned` is the issuer's root key, which the owner got from a place that he trusts; the directory has
    /// to be signed by it. `device` separates the keys of devices that share a root secret.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn new(
        root: RootSecret,
        device: DeviceId,
        pinned: RootKey,
        directory: &SignedDirectory,
        journal: J,
    ) -> Result<Self, DirectoryError> {
        let directory = directory.verify(&pinned)?;
        Ok(Self {
            root,
            device,
            pinned,
            directory,
            payments: BTreeMap::new(),
            lanes: BTreeMap::new(),
            ready: Vec::new(),
            journal,
        })
    }

    /// Goes over to a newer directory. Whatever gateway it came from: when its digest differs from what this wallet knows, it
    /// has to be a newer one that leaves every epoch as it was.
    ///
    /// # Errors
    /// [`DirectoryError`]. After [`DirectoryError::Contradiction`] the owner should make no more calls, and keep both: signed
    /// by one key, they prove that the issuer shows different callers different things.
    pub fn adopt(&mut self, directory: &SignedDirectory) -> Result<(), DirectoryError> {
        let directory = directory.verify(&self.pinned)?;
        directory.check_follows(&self.directory)?;
        self.directory = directory;
        Ok(())
    }

    /// The directory that the wallet goes by.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The issuer whose notes it holds.
    pub fn issuer(&self) -> IssuerId {
        self.directory.issuer()
    }

    /// The journal.
    pub fn journal(&self) -> &J {
        &self.journal
    }
}
