//! The algebra, statements and proofs of halometer. No I/O, no clock, no async.

mod circuit;
mod fixed_base;
#[cfg(feature = "fixtures")]
pub mod fixture;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz {
    //! The fuzz target of this crate. See `docs/fuzzing.md`.
    pub use crate::circuit::fuzz::{native_and_circuit, seeds};
}
pub mod hash;
pub mod note;
pub mod proof;
pub mod schnorr;
pub mod spend;
