//! `halometer evidence`: checking, offline, that somebody spent a note twice, or that a gateway took too much.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::published::Published;
use halometer::http::wire::read_pages;
use halometer::lifecycle::Evidence;
use halometer::protocol::{Digest, Directory, MintStatement, RootKey, SignedDirectory};
use halometer::wallet::{Dispute, NotShown};

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

        /// The issuer's signed statement of a mint: whether it names this account's payment. The exit code is 1 if it is another's.
        #[arg(long, value_name = "FILE")]
        mint: Option<PathBuf>,

        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Verify the issuer's signed statement of a mint, which says what account a payment was minted for: a file of
    /// `halometer wallet disputes --save`.
    ///
    /// The exit code is 0 if the issuer signed it, and 1 if not.
    Mint {
        /// The statement.
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// The issuer's root key, 64 hexadecimal digits, from a place that you trust.
        #[arg(long, value_name = "HEX")]
        root_key: Digest,

        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Compare two signed directories of one issuer, as two callers were shown them. Of each window there is one, and their serials
    /// and windows are in one order.
    ///
    /// The exit code is 0 if they contradict each other, which convicts the issuer, and 1 if an honest issuer may have signed both.
    Directories {
        /// A signed directory, as a gateway serves it under `/.well-known/halometer/directory`.
        #[arg(value_name = "FILE")]
        first: PathBuf,

        /// Another one.
        #[arg(value_name = "FILE")]
        second: PathBuf,

        /// The issuer's root key, 64 hexadecimal digits, from a place that you trust.
        #[arg(long, value_name = "HEX")]
        root_key: Digest,

        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Verify what a wallet has against a gateway or an issuer: a file of `halometer wallet disputes`.
    ///
    /// Needs nothing but the file and the issuer's root key. The exit code is 0 if the file shows what it claims, and 1 if it does
    /// not, or if the claim rests on the wallet's word. That a gateway's set lost a spend, its own answer must show.
    Dispute {
        /// The dispute.
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// For a spend that a set lost: what the gateway answers when you ask it for the path that the command names without this.
        #[arg(long, value_name = "FILE")]
        answer: Option<PathBuf>,

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
/// More than a statement has.
const LONGEST_STATEMENT: usize = 2 * MintStatement::LENGTH;
/// More than two directories in hexadecimal digits.
const MAX_DISPUTE: usize = 8 << 20;
/// More than a gateway answers with.
const MAX_BUCKET: usize = 64 << 20;

/// Does it.
///
/// # Errors
/// What to tell the user, as text.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match &args.action {
        Action::Verify { file, published, mint, json } => verify(file, published, mint.as_deref(), *json),
        Action::Mint { file, root_key, json } => mint(file, root_key, *json),
        Action::Directories { first, second, root_key, json } => directories([first, second], root_key, *json),
        Action::Dispute { file, answer, root_key, json } => dispute(file, answer.as_deref(), root_key, *json),
    }
}

fn read(file: &Path, limit: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let bytes = halometer::sealed::read_bounded(file, limit);
    Ok(bytes.map_err(|error| format!("{}: {error}", file.display()))?.to_vec())
}

fn dispute(
    file: &Path,
    answer: Option<&Path>,
    root_key: &Digest,
    json: bool,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let root = root(root_key)?;
    let dispute = Dispute::from_json(&String::from_utf8(read(file, MAX_DISPUTE)?)?)?;
    let verdict = match (dispute.verify(&root), answer) {
        (Err(NotShown::Ask { prefix, .. }), Some(answer)) => {
            let spent = read_pages(&read(answer, MAX_BUCKET)?, prefix);
            let spent = spent.map_err(|error| format!("{}: no answer for {prefix}: {error}", answer.display()))?;
            dispute.verify_lost(&root, prefix, &spent)
        }
        (verdict, _) => verdict,
    };
    let why = verdict.as_ref().err().map(ToString::to_string);
    match (json, &why) {
        (true, _) => println!("{}", json!({ "kind": dispute.kind, "shown": why.is_none(), "why": why })),
        (false, None) => println!("it is shown: {}", dispute.kind.claim()),
        (false, Some(why)) => println!("claimed, not shown: {} ({why})", dispute.kind.claim()),
    }
    Ok(if why.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn root(root_key: &Digest) -> Result<RootKey, Box<dyn std::error::Error>> {
    Ok(RootKey::from_bytes(&root_key.to_bytes()).ok_or("the root key is no Ed25519 key")?)
}

fn statement(bytes: &[u8], root: &RootKey) -> Result<MintStatement, Box<dyn std::error::Error>> {
    let statement = MintStatement::from_bytes(bytes)?;
    statement.verify(root)?;
    Ok(statement)
}

fn mint(file: &Path, root_key: &Digest, json: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    // A file that is not there says nothing of the issuer.
    let bytes = read(file, LONGEST_STATEMENT)?;
    let statement = match statement(&bytes, &root(root_key)?) {
        Ok(statement) => statement,
        Err(error) => {
            match json {
                true => println!("{}", json!({ "signed": false, "why": error.to_string() })),
                false => println!("the issuer did not sign it: {error}"),
            }
            return Ok(ExitCode::from(1));
        }
    };
    let (payment, account) = (statement.payment.to_string(), hex::encode(statement.account.to_bytes()));
    let paid = statement.amounts.iter().map(|amount| u128::from(amount.micro())).sum::<u128>().to_string();
    match json {
        true => println!("{}", json!({ "signed": true, "payment": payment, "account": account, "amount": paid })),
        false => println!("the issuer signed it: payment {payment} of {paid} micro-credits is account {account}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn directories(files: [&PathBuf; 2], root_key: &Digest, json: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let root = root(root_key)?;
    let read = |file: &PathBuf| -> Result<Directory, Box<dyn std::error::Error>> {
        let signed = SignedDirectory::from_bytes(&read(file, SignedDirectory::MAX_LENGTH)?)?;
        Ok(signed.verify(&root).map_err(|error| format!("{}: {error}", file.display()))?)
    };
    let [first, second] = [read(files[0])?, read(files[1])?];
    let contradict = first.contradicts(&second);
    match (json, contradict) {
        (true, _) => println!("{}", json!({ "contradict": contradict, "same": first.digest() == second.digest() })),
        (false, true) => {
            println!("they contradict each other: the issuer shows different callers different directories")
        }
        (false, false) => println!("they do not contradict each other"),
    }
    Ok(if contradict { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn verify(
    file: &Path,
    published: &Published,
    mint: Option<&Path>,
    json: bool,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let directory = published.read()?;
    let mint = mint.map(|mint| read(mint, LONGEST_STATEMENT)).transpose()?;
    let mint = mint.map(|mint| statement(&mint, &directory.parts().root)).transpose()?;
    let bytes = read(file, MAX_LENGTH)?;
    match Evidence::from_bytes(&bytes, &directory) {
        Ok(evidence) => {
            let account = hex::encode(evidence.account().to_bytes());
            let named = mint.as_ref().map(|mint| mint.account == evidence.account());
            let payment = mint.as_ref().map(|mint| mint.payment.to_string());
            if json {
                let epoch = evidence.epoch().number();
                let mut all = json!({ "holds": true, "account": account, "epoch": epoch });
                if let Some(payment) = payment {
                    (all["payment"], all["names_payment"]) = (payment.into(), named.into());
                }
                println!("{all}");
            } else {
                println!("the evidence holds: account {account} spent a note of epoch {} twice", evidence.epoch());
                match (payment, named) {
                    (Some(payment), Some(true)) => println!("by the issuer's signature that is payment {payment}"),
                    (Some(payment), _) => println!("payment {payment} has another account, by the issuer's signature"),
                    _ => {}
                }
            }
            Ok(if named == Some(false) { ExitCode::from(1) } else { ExitCode::SUCCESS })
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
