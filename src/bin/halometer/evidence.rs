//! `halometer evidence`: checking, offline, that somebody spent a note twice, or that a gateway took too much.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::published::Published;
use halometer::lifecycle::Evidence;
use halometer::protocol::{Digest, RootKey};
use halometer::wallet::Dispute;

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
    /// Verify what a wallet has against a gateway or an issuer: a file of `halometer wallet disputes`.
    ///
    /// Needs nothing but the file and the issuer's root key. The exit code is 0 if the file shows what it claims, and 1 if it does
    /// not, or if the claim rests on the wallet's word.
    Dispute {
        /// The dispute.
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// The issuer's root key, 64 hexadecimal digits, from a place that you trust.
        #[arg(long, value_name = "HEX")]
        root_key: Digest,

        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// More than two spends have.
const MAX_LENGTH: usize = 64 << 10;
/// More than two directories in hexadecimal digits.
const MAX_DISPUTE: usize = 8 << 20;

/// Does it.
///
/// # Errors
/// What the user is to be told, as text.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match &args.action {
        Action::Verify { file, published, json } => verify(file, published, *json),
        Action::Dispute { file, root_key, json } => dispute(file, root_key, *json),
    }
}

fn read(file: &Path, limit: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let bytes = halometer::sealed::read_bounded(file, limit);
    Ok(bytes.map_err(|error| format!("{}: {error}", file.display()))?.to_vec())
}

fn dispute(file: &Path, root_key: &Digest, json: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let root = RootKey::from_bytes(&root_key.to_bytes()).ok_or("the root key is no Ed25519 key")?;
    let dispute = Dispute::from_json(&String::from_utf8(read(file, MAX_DISPUTE)?)?)?;
    let verdict = dispute.verify(&root);
    let why = verdict.as_ref().err().map(ToString::to_string);
    match (json, &why) {
        (true, _) => println!("{}", json!({ "kind": dispute.kind, "shown": why.is_none(), "why": why })),
        (false, None) => println!("it is shown: {}", dispute.kind.claim()),
        (false, Some(why)) => println!("claimed, not shown: {} ({why})", dispute.kind.claim()),
    }
    Ok(if why.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn verify(file: &Path, published: &Published, json: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let directory = published.read()?;
    let bytes = read(file, MAX_LENGTH)?;
    match Evidence::from_bytes(&bytes, &directory) {
        Ok(evidence) => {
            let account = hex::encode(evidence.account().to_bytes());
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
