//! What the tests, benches and examples of this repository and the program's demo share. It is no part of the library's
//! interface: it is hidden, behind a feature of its own, and changes with what it serves.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `world` | the core without HTTP: issuer, gateway and wallets, with the same keys and times in every run |
//! | `market` | an issuer for development and a gateway, on one spent set; a wallet that has paid there |
//! | `stack` | a market as servers on loopback, in front of a service |
//! | `chat` | the service that is sold if there is no other |
//! | `Past` | records as a wallet's spends leave them, without proofs |
//! | `fuzz` | fuzz targets without a fuzzer: random changes of seeds |

#[cfg(feature = "http")]
pub mod chat;
pub mod fuzz;
#[cfg(feature = "http")]
pub mod market;
#[cfg(feature = "http")]
pub mod stack;
pub mod world;

pub use crate::wallet::Past;
