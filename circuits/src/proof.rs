//! Proofs of the Spend statement: set-up, keys, proving, verifying one proof and many.
//!
//! The proof system is Halo 2 as `halo2_proofs` publishes it: PLONK arithmetisation, inner-product argument over Vesta, no
//! trusted set-up. Ours are the transcript, which carries points uncompressed and absorbs the public inputs themselves
//! (`transcript`), the batch verifier ([`BatchVerifier`]), and a prover and a verifier that do for this one circuit what
//! those of `halo2_proofs` do for any (`fast`). `halo2_proofs` makes the parameters and each verifying key (`stock`), and
//! its prover and verifier are what ours are tested against (`reference`).
//!
//! # Threads
//!
//! A proof is made and verified on one thread, so go parallel across proofs: [`Workers`] are threads for that.

mod batch;
mod fast;
mod key;
#[cfg(any(test, feature = "reference"))]
pub mod reference;
mod setup;
mod stock;
mod sums;
#[cfg(test)]
mod tests;
mod transcript;
mod workers;

pub use batch::BatchVerifier;
pub use key::{Proof, ProveError, ProvingKey, VerifyError, VerifyingKey};
pub use workers::Workers;
