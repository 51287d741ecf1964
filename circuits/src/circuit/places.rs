//! Where a prover and a verifier of our own find the circuit's columns and selectors.
//!
//! `halo2_proofs` gives each selector a fixed column, or shares one among selectors that are never on together. Which, it
//! tells nobody but in the text of the verifying key. The list here says it once more, and key generation compares the
//! commitments of all columns with those of `halo2_proofs`: a list that is wrong builds no key.

use halo2_proofs::plonk::{Advice, Any, Column, Fixed, Selector};
use pasta_curves::pallas::Base;
use zeroize::Zeroizing;

use super::{CELLS, Col, SpendCircuit, SpendConfig};

/// Fixed columns, those of selectors included.
pub(crate) const FIXED: usize = 24;

impl SpendConfig {
    /// The columns that the circuit assigns, in the order of their creation.
    fn assigned(&self) -> impl Iterator<Item = Column<Fixed>> {
        self.poseidon.constants.into_iter().chain(self.signature.table)
    }

    /// The selectors with their columns and values: first those that keep a column of their own, then those that
    /// `halo2_proofs` may combine. Of these the last but one column is shared by two.
    fn selectors(&self) -> [(Selector, usize, u64); 16] {
        let Self { header, poseidon, signature, range, .. } = self;
        [
            (header.first, 9, 1),
            (header.bound, 10, 1),
            (header.balance, 11, 1),
            (poseidon.capacity, 12, 1),
            (poseidon.single, 13, 1),
            (signature.zero, 14, 1),
            (signature.nonce, 15, 1),
            (range.start, 16, 1),
            (range.split, 17, 1),
            (poseidon.full, 18, 1),
            (poseidon.enter, 19, 1),
            (poseidon.partial, 20, 1),
            (poseidon.leave, 21, 1),
            (signature.add, 22, 1),
            (range.digits, 22, 2),
            (signature.digit, 23, 1),
        ]
    }

    /// The place of a column that the circuit assigns.
    pub(crate) fn fixed_place(&self, column: Column<Fixed>) -> Option<usize> {
        self.assigned().position(|known| known == column)
    }

    /// The place of a selector's column, and the selector's value in it.
    pub(crate) fn selector_place(&self, selector: &Selector) -> Option<(usize, u64)> {
        self.selectors().into_iter().find(|(known, _, _)| known == selector).map(|(_, place, value)| (place, value))
    }

    /// The place of a column in the permutation.
    pub(crate) fn permuted_place(&self, column: Column<Any>) -> Option<usize> {
        let advice = |col: &Col| Column::<Any>::from(self.advice[col.index()] as Column<Advice>);
        Col::PERMUTED.iter().position(|col| advice(col) == column)
    }
}

impl SpendCircuit {
    /// The assigned cells of the eight advice columns, the others zero; nothing without a witness.
    pub(crate) fn advice(&self) -> Option<[Zeroizing<Vec<Base>>; Col::COUNT]> {
        let mut columns = None;
        self.trace.as_ref().map(|trace| {
            let mut cells = core::array::from_fn(|_| Zeroizing::new(vec![Base::default(); 1 << super::K]));
            for (col, row) in CELLS.iter() {
                cells[col.index()][*row] = trace.get((*col, *row));
            }
            columns = Some(cells);
        });
        columns
    }
}
