//! The issuer's books.

use std::collections::BTreeMap;

use super::Issuer;
use crate::protocol::EpochNumber;
use crate::store::{MintBook, SpentSet, StoreError, Totals};

/// Where all credit is, micro-credits: `minted = charged + held + outstanding`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// What was minted.
    pub minted: u128,
    /// What settled spends have cost.
    pub charged: u128,
    /// What settled spends gave back of their charges.
    pub refunded: u128,
    /// What open spends have reserved.
    pub held: u128,
    /// What callers still have. Of a retired epoch's notes, too, which can be spent no more: what they are worth, only their
    /// owners know.
    pub outstanding: u128,
    /// The same by epoch. What is outstanding is not known by epoch: the part of a note's worth that its owner kept hidden
    /// goes from epoch to epoch unseen.
    pub epochs: BTreeMap<EpochNumber, EpochBooks>,
}

/// The line of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochBooks {
    /// What was minted under its key, micro-credits.
    pub minted: u128,
    /// The sums over its partition, that is, over the spends of its notes; none where there is no partition.
    pub spends: Totals,
}

/// Why books cannot be drawn up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BooksError {
    /// More was charged or is held than was minted, or transfers gave more than they took. No sequence of operations leads
    /// there: records are wrong, or mints are lost.
    #[error("the books do not balance: {0}")]
    Unbalanced(&'static str),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const TOO_MUCH: &str = "a sum does not fit";

impl Books {
    /// Draws up the books over a spent set, with all its partitions, and a book of mints.
    ///
    /// What happens meanwhile may be in one line and not in another; while spends are worked on, what is minted is read last, so
    /// that the books never seem short.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn draw_up(set: &dyn SpentSet, mints: &dyn MintBook) -> Result<Self, BooksError> {
        let mut books = Self::default();
        let (mut moved_out, mut moved_in) = (0_u128, 0_u128);
        for (epoch, _) in set.partitions()? {
            let spends = set.totals(epoch)?;
            let sums = [
                (&mut books.charged, spends.cost),
                (&mut books.refunded, spends.refunded),
                (&mut books.held, spends.held),
                (&mut moved_out, spends.moved_out),
                (&mut moved_in, spends.moved_in),
            ];
            for (sum, part) in sums {
                *sum = sum.checked_add(part).ok_or(BooksError::Unbalanced(TOO_MUCH))?;
            }
            books.epochs.entry(epoch).or_default().spends = spends;
        }
        let minted = mints.totals()?;
        books.minted = minted.amount();
        for (epoch, amount) in minted.by_epoch {
            books.epochs.entry(epoch).or_default().minted = amount;
        }
        // In between, a transfer between two partitions is in one of them: taken and not yet seen to be given.
        if moved_in > moved_out.saturating_add(books.minted) {
            return Err(BooksError::Unbalanced("transfers took more than there is"));
        }
        let spent = books.charged.checked_add(books.held).ok_or(BooksError::Unbalanced(TOO_MUCH))?;
        books.outstanding =
            books.minted.checked_sub(spent).ok_or(BooksError::Unbalanced("more was spent than was minted"))?;
        Ok(books)
    }
}

impl Issuer {
    /// The books over a spent set: see [`Books::draw_up`].
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn books(&self, set: &dyn SpentSet) -> Result<Books, BooksError> {
        Books::draw_up(set, &*self.mints)
    }
}
