//! `halometer gateway`: a paid reverse proxy in front of a service, with the issuer inside or elsewhere.

pub mod config;
mod development;
mod due;
mod front;
mod init;
mod keeper;
mod leak;
mod log;
mod prices;
mod publish;
mod remote;
mod replica;
mod run;
mod shared;
mod start;
mod vault;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `halometer gateway`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    /// What to do, if it is not to run.
    #[command(subcommand)]
    pub action: Option<Action>,

    /// The configuration: run the gateway that it describes.
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,

    /// Read the configuration, open keys and records, check that all fits, and end.
    #[arg(long)]
    pub check: bool,

    /// The clock is right, though it is far from what it was when the gateway ran last: after a long pause, or after it was wrong
    /// then. Say it for one start, after a look at the clock.
    #[arg(long, conflicts_with = "check")]
    pub accept_clock: bool,

    /// Print what callers need as one JSON object on standard output, when it runs.
    #[arg(long)]
    pub json: bool,
}

/// What there is to do besides running.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Action {
    /// Make a directory with keys, an empty store, and a configuration with all its defaults and what they mean.
    Init(init::InitArgs),
    /// Say how many bits each public choice of a call tells about its caller: class, epoch, gateway, tariff, window, and what you count.
    ///
    /// Bits on average over calls, and of the rarest value, both at most; and how many callers are left to hide among. docs/privacy.md
    /// argues the formula.
    LeakBudget(leak::LeakArgs),
}

/// The database of a configuration, and the gateway whose set it has.
///
/// # Errors
/// What to tell the operator.
pub fn database(
    config: &std::path::Path,
) -> Result<(halometer::store::postgres::PostgresOptions, halometer::protocol::GatewayId), Box<dyn Error>> {
    Ok(start::database(config)?)
}

/// Does it.
///
/// # Errors
/// What to tell the operator.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    match (&args.action, &args.config) {
        (Some(Action::Init(args)), _) => init::run(args),
        (Some(Action::LeakBudget(args)), _) => leak::run(args),
        (None, Some(file)) => run::run(file, args.check, args.json, args.accept_clock),
        // The parser asks for one of them.
        (None, None) => Err("name a configuration with --config".into()),
    }
}
