//! The algebra, statements and proofs of halometer. No I/O, no clock, no async.

mod circuit;
pub mod hash;
pub mod note;
pub mod proof;
pub mod schnorr;
pub mod spend;
