//! What goes wrong with a restore.

use crate::protocol::{DirectoryError, EpochNumber, MintStatementError};

/// Why a wallet is not restored. Nothing was spent and nothing written; it can be begun again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The directory is not the issuer's.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// An answer to another question, or with another number of parts. The caller of this library is at fault.
    #[error("that is no answer to what was asked")]
    NotAsked,
    /// A mint is not sealed for the account that was asked for. The issuer is at fault, or a party on the way.
    #[error("the seal of a mint: {0}")]
    Seal(#[from] MintStatementError),
    /// A mint's signature is not one of its epoch's key. The issuer is at fault, or a party on the way.
    #[error("a mint of epoch {0} is not signed by that epoch's key")]
    Mint(EpochNumber),
    /// Two accounts have one payment. The issuer is at fault, and has signed both.
    #[error("one payment was minted for two accounts")]
    PaymentTwice,
    /// The epoch of a mint, or of a change note, did not issue when it was signed: it would mark the notes.
    #[error("something is signed under epoch {0}, which did not issue then")]
    WrongEpoch(EpochNumber),
    /// There are more payments than anybody has made. The issuer is at fault.
    #[error("more than {0} payments were found; an issuer that makes them up is at fault")]
    TooMany(usize),
    /// The records of an epoch are said to be gone, though its notes can be spent. The answering party is at fault.
    #[error(
        "the records of epoch {0} are said to be gone, though it can be spent in; ask another party of the issuer's"
    )]
    Gone(EpochNumber),
    /// Of a lane a later note is spent and an earlier one is not, which cannot be: some spends are hidden. The answering party is at
    /// fault.
    #[error(
        "spends of a lane are hidden: a later note is spent and an earlier one is not; ask another party of the issuer's"
    )]
    Hidden,
    /// A spend that is in the set has no memo there, or one that this secret did not seal for it. The answering party is at fault, or
    /// another wallet has the same notes.
    #[error("the memo of a spend is not the one that this wallet sealed; ask another party of the issuer's")]
    Memo,
    /// A settlement does not hold for what the memo says: the issuer's signature, the quantum or the sum is wrong. The answering party is
    /// at fault.
    #[error("the settlement of a spend does not hold for what its memo says; ask another party of the issuer's")]
    Change,
    /// Nothing was minted for any account of this secret.
    #[error("the issuer knows no payment of these words; compare the words and the issuer's address")]
    Nothing,
    /// It is not known yet what there is: questions are open.
    #[error("the restore has open questions")]
    Unfinished,
}
