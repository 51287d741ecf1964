//! `halometer evidence`: checking, offline, that somebody spent a note twice.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::published::Published;
use crate::lifecycle::Evidence;

/// The arguments of `halometer evidence`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with evidence.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Action {
    /// Verify both spends of a file of evidence and say which account they name.
    ///
    /// Needs nothing but the file and the issuer's directory. The exit code is 0 if the evidence holds, and 1 if it does not.
    Verify {
        /// The evidence.
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// The issuer's directory.
        #[command(flatten)]
        published: Published,

        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// More than two spends have.
const MAX_LENGTH: usize = 64 << 10;

/// Does it.
///
/// # Errors
/// What the user is to be told, as text.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let Action::Verify { file, published, json } = &args.action;
    let directory = published.read()?;
    let bytes = crate::sealed::read_bounded(file, MAX_LENGTH);
    let bytes = bytes.map_err(|error| format!("{}: {error}", file.display()))?;
    match Evidence::from_bytes(&bytes, &directory) {
        Ok(evidence) => {
            let account: String = evidence.account().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            match json {
                true => {
                    println!("{}", json!({ "holds": true, "account": account, "epoch": evidence.epoch().number() }))
                }
                false => {
                    println!("the evidence holds: account {account} spent a note of epoch {} twice", evidence.epoch())
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            match json {
                true => println!("{}", json!({ "holds": false, "why": error.to_string() })),
                false => println!("the evidence does not hold: {error}"),
            }
            Ok(ExitCode::from(1))
        }
    }
}
