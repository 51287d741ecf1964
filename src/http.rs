//! HTTP at the rim: the `Payment` scheme, a gateway around a service, an issuer that mints, and a client that pays.
//!
//! Nothing in the core knows of this module; it brings the sockets, the clock, the randomness and the threads. Proving and
//! verifying never run on an async thread: they have [threads](crate::workers) of their own.
//!
//! A module uses those above it in this table, and none below it.
//!
//! | module | feature | what it holds |
//! | --- | --- | --- |
//! | [`clock`], [`cause`] | either | the time; what brought an error about |
//! | [`payment`], [`problem`] | either | the `Payment` authentication scheme; problem details |
//! | [`hop`] | either | one request to one server, byte for byte |
//! | [`wire`] | either | paths, and the answers that both sides share |
#![cfg_attr(
    feature = "server",
    doc = "| [`upstream`], [`usage`], [`pattern`], [`pricing`] | `server` | the service behind, what a call used, which requests are meant, what they cost |\n\
| [`observer`] | `server` | is told what happens at a gateway |\n\
| [`issuer_client`] | `server` | how a remote gateway reaches its issuer |\n\
| [`openapi`] | `server` | the description of all of these routes |\n\
| [`peers`] | `server` | the other replicas of a gateway, and what is passed on to them |\n\
| [`exchange`] | `server` | the engine that carries one paid exchange, on a local or a remote ledger |\n\
| [`layer`] | `server` | the engine around any tower service of yours |\n\
| [`gateway`] | `server` | the engine in a reverse proxy |\n\
| [`beside`] | `server` | the engine beside a proxy of another make, which asks it about each request |\n\
| [`issuer`] | `server` | [`Issuer`](crate::issuer::Issuer) as a service: directory, mint, notices, settlements, cancels, clearing |\n\
| [`operate`], [`server`] | `server` | numbers, health and a status page for the operator; the listener |"
)]
#![cfg_attr(
    feature = "client",
    doc = "| [`payer`] | `client` | [`Wallet`](crate::wallet::Wallet) with a prover in the background and a client in front |"
)]
#![cfg_attr(
    all(feature = "client", feature = "server"),
    doc = "| [`proxy`] | both | the paying client as a proxy, for clients that know nothing of payments: it serves and pays |"
)]

#[cfg(feature = "server")]
pub mod beside;
pub mod cause;
pub mod clock;
#[cfg(feature = "server")]
mod coding;
mod content_digest;
#[cfg(feature = "server")]
pub mod exchange;
#[cfg(feature = "server")]
pub mod gateway;
pub mod hop;
#[cfg(feature = "server")]
mod html;
#[cfg(feature = "server")]
pub mod issuer;
#[cfg(feature = "server")]
pub mod issuer_client;
#[cfg(feature = "server")]
mod kept;
#[cfg(feature = "server")]
pub mod layer;
#[cfg(feature = "server")]
pub mod observer;
#[cfg(feature = "server")]
pub mod openapi;
#[cfg(feature = "server")]
pub mod operate;
#[cfg(feature = "server")]
pub mod pattern;
#[cfg(feature = "client")]
pub mod payer;
pub mod payment;
#[cfg(feature = "server")]
pub mod peers;
#[cfg(feature = "server")]
pub mod pricing;
pub mod problem;
#[cfg(all(feature = "client", feature = "server"))]
pub mod proxy;
#[cfg(feature = "server")]
mod requests;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
mod spent;
#[cfg(feature = "server")]
pub(crate) mod sse;
#[cfg(feature = "server")]
pub mod upstream;
#[cfg(feature = "server")]
pub mod usage;
pub mod wire;
