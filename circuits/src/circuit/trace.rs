//! The values of all advice cells of one proof.

use ff::Field;
use pasta_curves::pallas::Base;
use zeroize::Zeroize;

use super::layout::{At, Col};

const ROWS: usize = 1 << super::layout::K;

/// Values of the advice cells. They tell the whole witness: wiped on drop, never printed.
pub(crate) struct Trace {
    cells: Vec<Base>,
    #[cfg(test)]
    pub(crate) wires: usize,
    #[cfg(test)]
    pub(crate) faults: Vec<(usize, Base)>,
    /// What came to each wire, before its lie.
    #[cfg(test)]
    pub(crate) passed: Vec<Base>,
    #[cfg(test)]
    pub(crate) written: std::collections::BTreeSet<At>,
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.cells.zeroize();
    }
}

impl core::fmt::Debug for Trace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Trace(..)")
    }
}

impl Trace {
    pub(crate) fn empty() -> Self {
        Self {
            cells: vec![Base::ZERO; Col::COUNT * ROWS],
            #[cfg(test)]
            wires: 0,
            #[cfg(test)]
            faults: Vec::new(),
            #[cfg(test)]
            passed: Vec::new(),
            #[cfg(test)]
            written: Default::default(),
        }
    }

    pub(crate) fn get(&self, (col, row): At) -> Base {
        self.cells[col.index() * ROWS + row]
    }

    pub(crate) fn set(&mut self, at: At, value: Base) {
        self.cells[at.0.index() * ROWS + at.1] = value;
        #[cfg(test)]
        self.written.insert(at);
    }

    /// Passes on a value that one constraint ties to what came before. The tests let a cheating prover lie here and go on
    /// honestly from the lie, so that this constraint alone is left to refuse it.
    pub(crate) fn wire(&mut self, value: Base) -> Base {
        #[cfg(test)]
        {
            let index = self.wires;
            self.wires += 1;
            self.passed.push(value);
            if let Some((_, lie)) = self.faults.iter().find(|(at, _)| *at == index) {
                return value + lie;
            }
        }
        value
    }
}
