//! The issuer's books.

use super::Issuer;
use crate::protocol::EpochNumber;
use crate::store::{SpentSet, StoreError};

/// Where all credit is, micro-credits: `minted = charged + held + outstanding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// What was minted.
    pub minted: u128,
    /// What settled spends have cost.
    pub charged: u128,
    /// What settled spends gave back of their charges.
    pub refunded: u128,
    /// What open spends have reserved.
    pub held: u128,
    /// What callers still have.
    pub outstanding: u128,
}

impl Issuer {
    /// The books over a spent set; `epochs` are those whose partitions it has, retired ones included. None when more was
    /// charged or is held than was minted, which no sequence of operations leads to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn books(
        &self,
        set: &dyn SpentSet,
        epochs: impl IntoIterator<Item = EpochNumber>,
    ) -> Result<Option<Books>, StoreError> {
        let mut books = Books { minted: self.mints.minted()?, ..Books::default() };
        for epoch in epochs {
            let totals = set.totals(epoch)?;
            books.charged += totals.cost;
            books.refunded += totals.refunded;
            books.held += totals.held;
        }
        let Some(outstanding) = books.minted.checked_sub(books.charged + books.held) else { return Ok(None) };
        Ok(Some(Books { outstanding, ..books }))
    }
}
