//! The evidence of a double spend.

use halometer_circuits::note::{AccountId, recover_account};
use halometer_circuits::proof::VerifyingKey;

use super::ParseError;
use super::bound::BoundSpend;
use super::verified::{VerifiedSpend, VerifyError};
use crate::protocol::{DecodeError, Directory, EpochNumber, Spend};

/// Two spends of one note in two contexts, and the account that they name. The issuer's directory is enough to check
/// it, offline. An honest wallet never makes two such spends, and nobody else can make one in its name.
#[derive(Clone, Debug)]
pub struct Evidence {
    first: Spend,
    second: Spend,
    account: AccountId,
}

/// Why two spends are no evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The bytes are none.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// One of them is no spend under the directory.
    #[error("one of the two is no spend under the directory: {0}")]
    Parse(#[from] ParseError),
    /// One of the proofs does not hold.
    #[error("one of the two is not verified: {0}")]
    Verify(#[from] VerifyError),
    /// The two are not of one note.
    #[error("the two spends are not of one note of one epoch")]
    OtherNote,
    /// The two are one spend.
    #[error("the two are the same spend")]
    SameSpend,
}

impl Evidence {
    /// Verifies both spends and solves their shares. `key` gives the verifying key of the epoch, which comes from the same
    /// directory.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn new(first: Spend, second: Spend, directory: &Directory, key: &VerifyingKey) -> Result<Self, EvidenceError> {
        let (first, second) = (BoundSpend::new(first, directory)?, BoundSpend::new(second, directory)?);
        second.verify(key)?;
        Self::join(first, second, key)
    }

    /// As [`new`](Self::new), when the second of them was verified a moment ago.
    pub(crate) fn against(
        record: &[u8],
        spend: VerifiedSpend,
        directory: &Directory,
        key: &VerifyingKey,
    ) -> Result<Self, EvidenceError> {
        // The record was verified when it was admitted. It is verified again: an accusation rests on no store.
        Self::join(BoundSpend::new(Spend::from_bytes(record)?, directory)?, spend.0, key)
    }

    fn join(first: BoundSpend, second: BoundSpend, key: &VerifyingKey) -> Result<Self, EvidenceError> {
        // Notes of two epochs may share a nullifier without a double spend: each has been paid for.
        if first.spend.epoch != second.spend.epoch || first.spend.nullifier != second.spend.nullifier {
            return Err(EvidenceError::OtherNote);
        }
        if first.x == second.x {
            return Err(EvidenceError::SameSpend);
        }
        first.verify(key)?;
        let shares = ((&first.x, &first.spend.share), (&second.x, &second.spend.share));
        let account = recover_account(shares.0, shares.1).ok_or(EvidenceError::SameSpend)?;
        Ok(Self { first: first.spend, second: second.spend, account })
    }

    /// `A`: the account that spent its note twice. The issuer knows which payment it belongs to.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// The spent epoch.
    pub fn epoch(&self) -> EpochNumber {
        self.first.epoch
    }

    /// Both spends, one after the other: 7,948 bytes, and 64 more for each that is half a transfer. What they prove is not in the
    /// bytes: the reader must verify them.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.first.to_bytes(), self.second.to_bytes()].concat()
    }

    /// Reads [`to_bytes`](Self::to_bytes) and verifies both spends under the directory.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn from_bytes(bytes: &[u8], directory: &Directory) -> Result<Self, EvidenceError> {
        let length = Spend::length(Spend::purpose_number(bytes)?)?;
        let (first, second) = bytes.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        let (first, second) = (Spend::from_bytes(first)?, Spend::from_bytes(second)?);
        let entry = directory.epoch(first.epoch).ok_or(ParseError::UnknownEpoch(first.epoch))?;
        let key = VerifyingKey::build(&entry.key);
        Self::new(first, second, directory, &key)
    }
}
