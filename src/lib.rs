//! **Halometer**: anonymous, prepaid, exactly priced API metering.
//!
//! A caller pays once, holds the credit as private *notes*, and spends a note at a gateway with a zero-knowledge proof. The
//! gateway learns that the call is paid for, and nothing else: not who pays, not what is left, not which earlier call came
//! from the same caller. What a call really cost comes back as change, to the micro-credit.
//!
//! # Where things are
//!
//! The folders say what depends on what; each line may use the ones above it, and none below or beside it.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`protocol`] | the nouns that cross a wire, each with its canonical bytes: directory, context, spend, session signature, settlement, mint |
//! | [`store`] | the traits behind which records are kept, [`SpentSet`](store::SpentSet) and [`MintBook`](store::MintBook), and the memory backend |
//! | [`lifecycle`] | the states of a spend as types: parsed, authentic, verified, admitted, settled |
//! | [`wallet`], [`issuer`], [`gateway`] | the three parties. They do not import each other |
//! | [`clearing`] | gateways that share no set with the issuer and are not trusted by him: their spends are admitted and settled by signed messages |
//! | [`upkeep`] | what is to be done by the clock: lapsed spends, evidence, the phases of partitions |
//!
//! Everything here is sans-I/O: no socket, no clock, no task. Time and randomness are arguments. The algebra, the circuit and
//! the proofs are in the crate `halometer-circuits`, re-exported as [`circuits`].
//!
//! # One call
//!
//! ```text
//! wallet   plan -> ProofJob -> prove -> ReadySpend          in the background, about 0.12 s
//! wallet   authorise(ready, request) -> opening bytes       online: one Ed25519 signature, after the journal has pinned it
//! gateway  open(bytes, request) -> AdmittedSpend            parse, check, look up, verify the proof, insert
//!          ... the call is served and metered ...
//! issuer   settle(admitted, cost) -> SettledSpend           signs the change, write-once
//! wallet   accept(settlement) -> the lane's new frontier
//! ```

pub use halometer_circuits as circuits;

pub mod clearing;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(all(any(test, fuzzing), feature = "durable", feature = "http", feature = "testing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod gateway;
#[cfg(any(feature = "client", feature = "server"))]
pub mod http;
pub mod issuer;
pub mod lifecycle;
#[cfg(feature = "pipeline")]
pub mod pipeline;
pub mod protocol;
mod quota;
pub mod sealed;
pub mod store;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
pub mod upkeep;
pub mod wallet;
#[cfg(any(feature = "client", feature = "pipeline"))]
pub mod workers;

#[cfg(any(test, fuzzing))]
mod trials;
