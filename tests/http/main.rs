//! The gateway and the payer over real HTTP on loopback, with real proofs: the way of a call, each refusal, and attacks.

#![cfg(feature = "cli")]
#![allow(missing_docs)]

mod demo;
mod hang_ups;
mod once;
mod payer;
mod refusals;
mod upstreams;
mod wire;
mod world;
