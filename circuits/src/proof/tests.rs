//! Our prover and verifier against those of `halo2_proofs`.

mod equality;
mod equation;
mod gates;
mod parameters;
pub(in crate::proof) mod support;
