//! What a proof opens, in which order. The text of the verifying key says it too, and a test compares.

use crate::circuit::Col;

/// The row that is read: this one or the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proof) enum Rotation {
    Here,
    Next,
}

use Col::{Lambda, P0, P1, P2, P3, X, Y, Z};
use Rotation::{Here, Next};

/// The advice cells that the gates read, in the order in which a proof gives their values.
pub(in crate::proof) const ADVICE_QUERIES: [(Col, Rotation); 15] = [
    (P0, Here),
    (P1, Here),
    (Z, Here),
    (P0, Next),
    (P2, Here),
    (P1, Next),
    (P2, Next),
    (P3, Next),
    (P3, Here),
    (Z, Next),
    (X, Here),
    (X, Next),
    (Y, Here),
    (Y, Next),
    (Lambda, Here),
];

/// Advice columns that are read in this row alone. They are opened at one place, after the instance and before the fixed
/// columns, the permutation's, the quotient and the random polynomial.
pub(in crate::proof) const AT_ONE: [Col; 1] = [Lambda];

/// Advice columns that are read in the next row too. They are opened at two places, before the permutation's product.
pub(in crate::proof) const AT_BOTH: [Col; 7] = [P0, P1, Z, P2, P3, X, Y];
