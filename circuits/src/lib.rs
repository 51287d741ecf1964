//! The algebra, statements and proofs of halometer. No I/O, no clock, no async.

mod circuit;
#[cfg(feature = "fixtures")]
pub mod fixture;
mod fixed_base;
pub mod hash;
pub mod note;
pub mod proof;
pub mod schnorr;
pub mod spend;
