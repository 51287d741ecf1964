//! HTTP at the rim: the `Payment` scheme, a gateway that is a reverse proxy, an issuer that mints, and a client that pays.
//!
//! Nothing in the core knows of this module; it brings the sockets, the clock, the randomness and the threads. Proving and
//! verifying never run on an async thread: [`pipeline`](crate::pipeline) has threads of their own for them.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`payment`], [`problem`] | the `Payment` authentication scheme; problem details |
//! | [`spent`] | which notes are spent, for wallets that name none |
//! | [`gateway`] | [`Gateway`](crate::gateway::Gateway) and [`Issuer`](crate::issuer::Issuer) as a reverse proxy |
//! | [`layer`], [`pattern`] | the same around any service of yours; which requests are meant |
//! | [`beside`] | the same beside a proxy of another make, which asks it about each request |
//! | [`upstream`], [`usage`], [`pricing`] | the service behind it, what a call used, what it costs |
//! | [`issuer`] | [`Issuer`](crate::issuer::Issuer) as a service: directory, mint, payment notices, settlements, cancels, clearing |
//! | [`openapi`] | the description of all of these routes |
//! | [`remote`] | gateways that share no set with their issuer |
//! | [`payer`] | [`Wallet`](crate::wallet::Wallet) with a prover in the background and a client in front |
//! | [`proxy`] | the paying client as a proxy, for clients that know nothing of payments |
//! | [`operate`] | numbers, health and a status page for who operates a gateway |
//! | [`server`], [`clock`] | what they stand on |

pub mod beside;
pub mod cause;
pub mod clock;
mod coding;
mod content_digest;
pub mod exchange;
pub mod gateway;
pub mod issuer;
pub mod issuer_client;
mod kept;
pub mod layer;
pub mod observer;
pub mod openapi;
pub mod operate;
pub mod pattern;
pub mod payer;
pub mod payment;
pub mod pricing;
pub mod problem;
pub mod proxy;
mod requests;
pub mod server;
pub mod spent;
mod sse;
mod tls;
pub mod upstream;
pub mod usage;
pub mod wire;
