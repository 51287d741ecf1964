//! The gateway beside other proxies: real nginx, Caddy, Traefik and Envoy, with the configurations in `examples/`; and what they ask
//! by itself.
//!
//! The proxies are looked for in `target/ci-tools/bin` and on the path; `.ci/run` installs them. A test of one that is not there says
//! so, and passes.

#![cfg(feature = "cli")]
#![allow(missing_docs)]

mod checks;
mod held;
mod process;
mod proxies;
mod sessions;
mod world;
