//! A prover and a verifier for the pinned circuit, in place of the general ones of `halo2_proofs`.
//!
//! They prove and check the same statement in the same way; `docs/fast-path.md` says step by step why. What is gained
//! comes from what is fixed: the generators, so that sums over them go by tables ([`super::sums`]); the gates, so that the
//! quotient is computed in 1,280 places with shared terms; the circuit, so that most columns are the same in all epochs.

mod assembly;
mod domain;
mod equation;
mod gates;
mod key;
mod opening;
mod prover;
mod queries;

pub(super) use assembly::{Values, columns};
pub(super) use equation::{Equation, Total};
pub(super) use key::{Columns, Commitments};
pub(super) use prover::prove;

#[cfg(test)]
pub(super) use gates::{Cells, GATES, Gates};
#[cfg(test)]
pub(super) use queries::{ADVICE_QUERIES, Rotation};
