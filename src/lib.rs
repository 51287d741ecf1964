//! **Halometer**: anonymous, prepaid, exactly priced API metering.
//!
//! A caller pays once, holds the credit as private *notes*, and spends a note at a gateway with a zero-knowledge proof. The
//! gateway learns that the call is paid for, and nothing else: not the payer, not what is left, not which earlier call came
//! from the same caller. What a call did not cost comes back as change, to the micro-credit.
//!
//! # One call
//!
//! ```
//! use halometer::{development::Market, gateway::Opened, wallet::ProvingKeys};
//! use halometer::protocol::{ContentDigest, Credits, Request, Timestamp};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (now, mut rng) = (Timestamp::from_seconds(1_800_000_000), rand::rng());
//! // An issuer and a gateway, in memory, and a wallet that paid once.
//! let charge = Credits::from_micro(1_000);
//! let market = Market::open(charge, now, &mut rng)?;
//! let (issuer, gateway) = (market.issuer(), market.gateway());
//! let mut wallet = market.wallet(Credits::from_micro(10_000), now, &mut rng)?;
//!
//! // In the background, before any call: the proof that a note covers the charge.
//! let lane = wallet.lanes_to_prove(&gateway.id(), charge, now)[0];
//! let job = wallet.plan(lane, &gateway.id(), charge, now)?;
//! let key = ProvingKeys::new().of(&job.epoch_key());
//! let ready = job.prove(&key, &mut rng)?;
//!
//! // The call. The wallet signs the request; the gateway verifies the proof and records the nullifier.
//! let request = Request::new("api.example.org", "POST", "/v1/images", ContentDigest::of(b"a cat"))?;
//! let paid = wallet.authorise(ready, &request, now)?;
//! let Opened::Admitted(spend) = gateway.open(&paid.opening, &request, now)? else { panic!("sent before") };
//!
//! // It cost 3 of the 1,000: the issuer signs the change, and the lane goes on with it.
//! let settled = issuer.settle(gateway.set(), &spend, Credits::from_micro(3), now)?;
//! wallet.accept(&paid.key, settled.settlement(), now)?;
//! assert_eq!(wallet.balance().available, 8 * 10_000 - 3);
//! # Ok(()) }
//! ```
//!
//! Over HTTP the same is `http::layer::PaymentLayer` around a service of yours and `http::payer::Payer` in front of a wallet:
//! [docs/embed.md](https://github.com/halometer/halometer/blob/main/docs/embed.md) goes through it step by step.
//!
//! # Where things are
//!
//! Each line may use the lines above it, and none below or beside it.
//!
//! | module | feature | what it is for |
//! | --- | --- | --- |
//! | [`circuits`] | | the crate `halometer-circuits`: algebra, the Spend circuit, proofs, batches |
//! | [`sealed`] | | files that only a passphrase or a key opens |
//! | [`protocol`] | | what crosses a wire, with its bytes: directory, context, spend, session signature, settlement, mint |
//! | [`store`] | `durable` for the embedded one | the traits behind which records are kept, and the sets in memory and on disk |
//! | [`lifecycle`] | | the states of a spend as types: parsed, authentic, verified, admitted, settled; evidence |
//! | [`wallet`], [`issuer`], [`gateway`] | `durable` for the wallet's file | the three parties. They do not import each other |
//! | [`clearing`] | | remote gateways: the issuer admits and settles for them, by signed messages |
//! | [`upkeep`] | | what the clock asks for: lapsed spends, evidence, the phases of partitions |
//! | [`development`] | | an issuer and a gateway in memory, for first steps and tests |
//! | `workers`, `pipeline` | `client`, `pipeline` | threads that prove; threads that verify in batches and admit |
//! | `http` | `client`, `server`, `http` | the payment layer, the gateway as a reverse proxy, the issuer's endpoints, the paying client |
//! | `conformance` | `conformance` | the tests that a spent set of your own must pass |
//!
//! All but the last three lines is sans-I/O: no socket, no clock, no task. Time and randomness are arguments. The program
//! `halometer` (feature `cli`) has the gateway, the wallet, a paying proxy, the demo and the benches.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use halometer_circuits as circuits;

pub mod clearing;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod development;
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
