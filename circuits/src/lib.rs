//! The algebra, statements and proofs of halometer. No I/O, no clock, no async.

mod circuit;
mod fixed_base;
#[cfg(feature = "fixtures")]
pub mod fixture;
pub mod hash;
pub mod note;
pub mod proof;
pub mod schnorr;
pub mod spend;
