//! The store over PostgreSQL, against servers that these tests start themselves from the machine's binaries.
//!
//! Where there are none the tests say so and pass, but for CI (`CI=true`), where that is a failure. A server is stopped, and its
//! directory removed, when the process that started it ends, however it ends.

// What is skipped is told. A server that ended by itself has been waited for when the loop around it goes on.
#![allow(clippy::print_stderr, clippy::zombie_processes)]

mod backup;
mod conformance;
mod copy;
mod doubt;
mod many;
mod program;
mod promise;
mod proxy;
mod server;
mod spends;
