//! The wallet: derives the caller's secrets, holds the notes, makes proofs ahead, and pays (protocol, sections 3 and
//! 5).
//!
//! A wallet holds payments; each payment has an account of its own and eight *lanes*; each lane is a chain of notes of which
//! the newest, the frontier, can be spent. The way of a call:
//!
//! 1. [`Wallet::plan`] gives a [`ProofJob`], which owns what it needs, so that [`ProofJob::prove`] runs without the wallet.
//! 2. [`Wallet::keep`] stores the [`ReadySpend`]; [`Wallet::take`] chooses one at random for a call.
//! 3. [`Wallet::authorise`] pins the nullifier to its context in the journal, then signs the request. What it returns may leave
//!    the process.
//! 4. [`Wallet::accept`] checks the settlement and moves the lane on to its change note.
//!
//! After step 3 the spend is for ever the only one of its note. While no settlement is accepted, [`Wallet::resend`] gives the
//! same spend again and [`Wallet::fetch`] asks for the settlement; no error that a gateway answers frees the note for another.
//! When the call has ended without one, or the process, the spend is pursued: [`Wallet::pursuits`] says what is due.
//!
//! A wallet begins with what its [`Journal`] has. Notes that come from there are not spent before it was asked, without naming
//! them, whether a copy of the wallet spent them: [`Wallet::questions`].

mod accept;
mod authorise;
mod balance;
mod budget;
mod dispute;
#[cfg(feature = "durable")]
pub mod file;
mod gather;
mod hedged;
mod journal;
mod lane;
mod lost;
mod memo;
mod note;
mod opening;
mod origin;
mod payment;
mod plan;
mod policy;
mod proving_keys;
mod pursuit;
mod questions;
mod ready;
mod receipt;
mod refused;
mod rest;
mod restore;
mod root_secret;
mod spending;
mod transfer;
#[cfg(feature = "durable")]
mod words;

pub use accept::{AcceptError, Accepted};
pub use authorise::{AuthoriseError, Authorised, NotInFlight, SessionSigner};
pub use balance::Balance;
pub use budget::{Budget, BudgetError};
pub use dispute::{Dispute, DisputeError, DisputeKind, HeardNote, NotShown};
pub use gather::Suggestion;
pub use journal::{
    Journal, JournalEntry, JournalError, MemoryJournal, OutcomeNote, PaymentEntry, RequestNote, Saved, SpendSummary,
};
pub use lane::{LaneId, LaneStatus};
pub use lost::{AnswerTime, Expected};
pub use memo::MemoContents;
pub use opening::OpenError;
pub use origin::{LaneOrigin, PaymentOrigin};
pub use payment::{AcceptMintError, PaymentError};
pub use plan::{JobError, PlanError, ProofJob};
pub use policy::Policy;
pub use proving_keys::ProvingKeys;
pub use pursuit::{Heard, Pursued, PursuitError, PursuitStep};
pub use questions::Question;
pub use ready::ReadySpend;
pub use receipt::ReceiptVerdict;
pub use refused::SpendTerms;
#[cfg(any(test, feature = "testing"))]
pub use restore::past::Past;
pub use restore::{
    ChangeTold, LaneFound, LaneReport, Restorability, Restore, RestoreError, RestoreOptions, RestoreQuestion, Restored,
};
pub use root_secret::RootSecret;
pub use spending::{Spending, Spent};
pub use transfer::AuthorisedTransfer;
#[cfg(feature = "durable")]
pub use words::WordsError;

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{DeviceId, Directory, EpochNumber, IssuerId, PaymentId, RootKey, SignedDirectory, Timestamp};
use lane::Lane;
use payment::Payment;
use root_secret::PaymentPath;

/// A wallet for one issuer. Holds secrets: not `Clone`, not printed, wiped on drop.
pub struct Wallet<J = MemoryJournal> {
    root: RootSecret,
    device: DeviceId,
    pinned: RootKey,
    signed: SignedDirectory,
    directory: Directory,
    payments: BTreeMap<PaymentId, Payment>,
    /// By number, whose keys the payments have that another device was funded with, and until when they are held.
    elsewhere: BTreeMap<u64, (PaymentPath, Timestamp)>,
    lanes: BTreeMap<LaneId, Lane>,
    ready: Vec<ReadySpend>,
    /// Whether the journal was empty: then no copy of this wallet can have spent what comes into being now.
    fresh: bool,
    /// Lanes whose spend the journal may have or not: it failed while it wrote the spend. They are left alone until the
    /// wallet is opened again.
    uncertain: BTreeSet<LaneId>,
    /// Until then no note that came from the journal is spent.
    quarantined_until: Option<Timestamp>,
    /// How long fresh credit rests.
    rest_seconds: u32,
    /// Sums over the journal, once somebody has asked for them.
    spending: Option<Spending>,
    journal: J,
}

impl<J> core::fmt::Debug for Wallet<J> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wallet").field("issuer", &self.directory.issuer()).finish_non_exhaustive()
    }
}

impl<J: Journal> Wallet<J> {
    /// The directory that the wallet goes by.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The issuer whose notes it holds.
    pub fn issuer(&self) -> IssuerId {
        self.directory.issuer()
    }

    /// Whether notes of an epoch can be spent now.
    pub fn is_spendable(&self, epoch: EpochNumber, now: Timestamp) -> bool {
        self.directory.epoch(epoch).is_some_and(|epoch| epoch.spend.contains(now))
    }

    /// The journal.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// Ends the wallet, and gives back its journal, from which another can begin.
    pub fn into_journal(self) -> J {
        self.journal
    }
}
