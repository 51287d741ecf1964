//! The `halometer` program: what it understands, and what it does. It uses the library as any other program may.

// A program's output is what it is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser as _;

use halometer::http::cause::chain;

pub mod args;
pub mod bench;
pub mod demo;
pub mod evidence;
pub mod gateway;
mod interrupts;
pub mod issuer;
pub mod prompts;
pub mod proxy;
pub mod published;
pub mod store;
pub mod wallet;

fn main() -> ExitCode {
    let outcome = match args::Cli::parse().command {
        args::Command::Demo(args) => demo::run(&args),
        args::Command::Bench(args) => bench::run(args),
        args::Command::Gateway(args) => gateway::run(&args),
        args::Command::Store(args) => store::run(&args),
        args::Command::Issuer(args) => issuer::run(&args),
        args::Command::Evidence(args) => evidence::run(&args),
        args::Command::Wallet(args) => Ok(wallet::run(&args)),
        args::Command::Proxy(args) => Ok(proxy::run(&args)),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("halometer: {}", chain(&*error));
        ExitCode::from(2)
    })
}
