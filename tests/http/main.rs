//! The gateway and the payer over real HTTP on loopback, with real proofs: the way of a call, each refusal, and attacks.

#![cfg(feature = "cli")]
#![allow(missing_docs)]

mod cancel;
mod dialects;
mod front;
mod hang_ups;
mod hop;
mod house;
mod issuer;
mod layer;
mod limits;
mod linkability;
mod once;
mod openapi;
mod operate;
mod padding;
mod payer;
mod payer_hostile;
mod payer_lost;
mod payer_parallel;
mod payer_sessions;
mod payment_scheme;
mod prices;
mod proxy;
mod proxy_keys;
mod proxy_page;
mod proxy_streams;
mod receipts;
mod refusals;
mod reload;
mod remote;
mod replicas;
mod restore;
mod sessions;
mod socks;
mod socks_server;
mod spent;
mod streams;
mod transfer;
mod upkeep;
mod upstreams;
mod wire;
mod world;
