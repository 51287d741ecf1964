//! What the program understands on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Name of the environment variable that holds the API key of `--upstream`.
pub const UPSTREAM_KEY: &str = "HALOMETER_UPSTREAM_KEY";

/// Anonymous, prepaid, exactly priced API metering.
///
/// A caller pays once, holds the credit as private notes, and spends a note at a gateway with a zero-knowledge proof. The
/// gateway learns that the call is paid for, and nothing else.
#[derive(Debug, Parser)]
#[command(name = "halometer", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch anonymous, prepaid calls being paid, from end to end, on this machine.
    ///
    /// Starts four parties on loopback, each as a real HTTP server or client in a task of its own: a chat service in OpenAI's
    /// dialect, a gateway in front of it that asks for payment, an issuer that sells credit, and a wallet with 8 lanes. The wallet
    /// asks the questions and pays for each with a real Halo 2 proof; then two attacks on the gateway are carried out.
    ///
    /// The exit code is 0 only if every figure reconciles to the micro-credit.
    Demo(DemoArgs),
    /// Measure on this machine: proving, verifying, and what is built on them.
    Bench(super::bench::Args),
    /// Predict what so many calls a second need of cores, sets, disks and money, and how long calls take, from measured costs.
    Simulate(super::simulate::Args),
    /// Run a paid API: a gateway in front of a service, with the issuer inside. `gateway init DIR --upstream URL` makes all it needs.
    ///
    /// SIGHUP, or a change of the file, has it take up other prices, classes, routes and keys of payment notices. The first SIGTERM or Ctrl-C
    /// lets calls finish; the second does not.
    Gateway(super::gateway::Args),
    /// Look after the durable store of a gateway: check, stats, compact, backup.
    Store(super::store::Args),
    /// What an issuer does beside serving: audit.
    Issuer(super::issuer::Args),
    /// Check, offline, that somebody spent a note twice.
    Evidence(super::evidence::Args),
    /// Hold credit and pay for calls: new, fund, balance, lanes, call, history, key, cancel, export, import, doctor, disputes.
    Wallet(super::wallet::Args),
    /// Let unchanged programs call a paid API: listen on this machine, and pay for whatever is asked.
    ///
    /// Point a client of OpenAI's API at the base URL that is printed; its API key goes nowhere. Anyone that can reach the
    /// address can spend the wallet's credit, unless you give keys with budgets by --keys: it is on loopback unless you say otherwise. The first Ctrl-C, or SIGTERM, lets what is under
    /// way finish; the second does not.
    Proxy(super::proxy::Args),
    /// Print what lets a shell complete commands and options: bash, elvish, fish, powershell or zsh.
    Completions(super::documents::CompletionsArgs),
    /// Write a manual page for each command.
    Manuals(super::documents::ManualsArgs),
}

/// The arguments of `halometer demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many calls to make. Prompts are used in turn, and again from the start if there are fewer.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub calls: u32,

    /// Read the prompts from this file, one a line; - is standard input.
    ///
    /// Without it they are read from standard input if that is no terminal and not empty, and are a set of shipped questions
    /// otherwise. Empty lines and lines that begin with # are skipped.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,

    /// Put the gateway in front of this service instead: its base URL, as in `https://api.example.com/v1`.
    ///
    /// It must speak OpenAI's chat completions. If it wants an API key, set the environment variable HALOMETER_UPSTREAM_KEY:
    /// the gateway sends it on as a bearer token. The calls are real, and the service may charge for them.
    #[arg(long, value_name = "URL", requires = "model", conflicts_with = "serve")]
    pub upstream: Option<String>,

    /// The model to ask for. The demo's own service takes any.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// The longest answer to ask for, in tokens.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub max_tokens: u32,

    /// Keep the records of this run in a new directory: the durable store, the issuer's directory, and the evidence against who spent
    /// a note twice; for `halometer store`, `issuer audit` and `evidence verify`. Without it everything is in memory.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,

    /// Keep the service, the gateway and the issuer running until Ctrl-C, for `halometer wallet` to be tried with; nothing is called.
    #[arg(long, conflicts_with_all = ["calls", "prompts", "model", "max_tokens"])]
    pub serve: bool,

    /// Where --serve listens: the gateway there, the issuer at the next port. With port 0, or without it, at free ones.
    #[arg(long, value_name = "ADDRESS", requires = "serve")]
    pub listen: Option<SocketAddr>,

    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn calls_are_bounded() {
        let parse = |calls| Cli::try_parse_from(["halometer", "demo", "--calls", calls]);
        assert!(parse("1").is_ok());
        for calls in ["0", "-1", "100001", "x"] {
            assert!(parse(calls).is_err(), "{calls}");
        }
    }
}
