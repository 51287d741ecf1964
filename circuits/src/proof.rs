//! Proofs of the Spend statement: set-up, keys, proving, verifying one proof and many.
//!
//! The proof system is Halo 2 as `halo2_proofs` publishes it: PLONK arithmetisation, inner-product argument over Vesta, no
//! trusted set-up. Two things are ours, both through its public interface: the transcript, which carries points
//! uncompressed and absorbs the public inputs themselves (`transcript`), and the batch verifier ([`BatchVerifier`]).
//!
//! # Threads
//!
//! `halo2_proofs` spreads even tiny sums over the rayon pool that it finds itself in, which makes verification slower, not
//! faster, on more threads. So go parallel across proofs, never inside one: [`Workers`] are one-thread pools for that.

mod batch;
mod generators;
mod key;
mod setup;
#[cfg(test)]
mod tests;
mod transcript;
mod workers;

pub use batch::BatchVerifier;
pub use key::{Proof, ProveError, ProvingKey, VerifyError, VerifyingKey};
pub use workers::Workers;
