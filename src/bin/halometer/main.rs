//! The `halometer` program: what it understands, and what it does. It uses the library as any other program may.

// A program's output is what it is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::FromArgMatches as _;

use halometer::http::cause::chain;

/// `println!` for a reader that may go away, as `head` does: then the program ends, quietly and as if it were done.
macro_rules! println {
    () => { $crate::write_out(format_args!("\n")) };
    ($($part:tt)*) => { $crate::write_out(format_args!("{}\n", format_args!($($part)*))) };
}

/// `print!`, by the same rule.
macro_rules! print {
    ($($part:tt)*) => { $crate::write_out(format_args!($($part)*)) };
}

/// `eprintln!`: where nobody reads what went wrong, nothing more can be done about it.
macro_rules! eprintln {
    () => {{
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), b"\n");
    }};
    ($($part:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr().lock(), format_args!("{}\n", format_args!($($part)*)));
    }};
}

pub mod args;
pub mod bench;
pub mod demo;
mod documents;
pub mod evidence;
mod examples;
pub mod gateway;
mod interrupts;
pub mod issuer;
mod keyfile;
pub mod prompts;
pub mod proxy;
pub mod published;
pub mod simulate;
pub mod store;
pub mod wallet;

fn main() -> ExitCode {
    let matches = examples::command().get_matches();
    let parsed = args::Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match parsed.command {
        args::Command::Demo(args) => demo::run(&args),
        args::Command::Bench(args) => bench::run(args),
        args::Command::Simulate(args) => simulate::run(&args),
        args::Command::Gateway(args) => gateway::run(&args),
        args::Command::Store(args) => store::run(&args),
        args::Command::Issuer(args) => issuer::run(&args),
        args::Command::Evidence(args) => evidence::run(&args),
        args::Command::Wallet(args) => Ok(wallet::run(&args)),
        args::Command::Proxy(args) => Ok(proxy::run(&args)),
        args::Command::Completions(args) => documents::completions(&args),
        args::Command::Manuals(args) => documents::manuals(&args),
    };
    outcome.unwrap_or_else(|error| {
        if is_closed_pipe(&*error) {
            return ExitCode::SUCCESS;
        }
        eprintln!("halometer: {}", chain(&*error));
        ExitCode::from(2)
    })
}

/// Writes to standard output. Its reader may be gone, which is no error; any other failure is.
fn write_out(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = std::io::Write::write_fmt(&mut out, text).and_then(|()| std::io::Write::flush(&mut out)) {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("halometer: standard output cannot be written: {error}; look at the disk and at where it leads");
        std::process::exit(74);
    }
}

/// Whether a command ended as nobody reads its output any more.
fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
