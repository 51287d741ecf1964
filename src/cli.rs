//! The `halometer` program: what it understands, and what it does. The binary itself is a few lines around [`main`].

// A program's output is what it is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;

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

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
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

/// An error with what brought it about, each once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
