//! `halometer issuer`: what an issuer does beside serving.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::published::Published;
use super::store;
use halometer::issuer::Audit;

/// The arguments of `halometer issuer`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What an issuer can do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Action {
    /// Prove the books from the records: minted, charged, refunded, outstanding.
    ///
    /// Every record and every mint is read and checked by itself (its context, its charge, the signature of its change), and the
    /// sums are held against those that the store keeps. The exit code is 0 if nothing is wrong, and 1 otherwise.
    Audit(AuditArgs),
}

/// The arguments of `halometer issuer audit`.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditArgs {
    /// The directory of the store, or of a backup. A gateway that uses it has to be stopped.
    #[arg(value_name = "DIR")]
    pub store: PathBuf,

    /// The mark of the store, if it is not kept in the directory.
    #[arg(long, value_name = "FILE")]
    pub mark: Option<PathBuf>,

    /// The issuer's directory.
    #[command(flatten)]
    pub published: Published,

    /// Verify the proofs of all spends whose evidence is kept, about 3 ms each.
    #[arg(long)]
    pub proofs: bool,

    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Does it.
///
/// # Errors
/// What to tell the user, as text.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let Action::Audit(args) = &args.action;
    let directory = args.published.read()?;
    let store = store::open(&args.store, args.mark.clone())?;
    let (set, mints) = (store.spent_set(), store.mint_book());
    let audit = Audit { directory: &directory, set: &set, mints: &mints, payments: None, proofs: args.proofs };
    let report = audit.run()?;
    let books = &report.books;
    if args.json {
        let epoch = |(number, line): (&halometer::protocol::EpochNumber, &halometer::issuer::EpochBooks)| {
            let (minted, spends) = (line.minted.to_string(), store::totals(&line.spends));
            json!({ "epoch": number.number(), "minted": minted, "spends": spends })
        };
        let findings: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
        let all = json!({
            "clean": report.is_clean(),
            "minted": books.minted.to_string(),
            "charged": books.charged.to_string(),
            "refunded": books.refunded.to_string(),
            "held": books.held.to_string(),
            "outstanding": books.outstanding.to_string(),
            "epochs": books.epochs.iter().map(epoch).collect::<Vec<_>>(),
            "records": report.records,
            "with_evidence": report.with_evidence,
            "unknown_epoch": report.unknown_epoch,
            "proofs": report.proofs,
            "mints": report.mints,
            "wrong": report.wrong,
            "findings": findings,
        });
        println!("{all}");
    } else {
        println!("minted       {:>24}", books.minted);
        println!("charged      {:>24}", books.charged);
        println!("held         {:>24}", books.held);
        println!("outstanding  {:>24}   (refunded on the way: {})", books.outstanding, books.refunded);
        for (epoch, line) in &books.epochs {
            let spends = &line.spends;
            println!(
                "epoch {epoch}: minted {}, charged {}, refunded {}, held {}, moved out {}, moved in {}",
                line.minted, spends.cost, spends.refunded, spends.held, spends.moved_out, spends.moved_in
            );
        }
        println!(
            "read {} records ({} with evidence, {} proofs verified) and {} mints",
            report.records, report.with_evidence, report.proofs, report.mints
        );
        report.findings.iter().for_each(|finding| println!("wrong: {finding}"));
        match report.wrong {
            0 => println!("the books are proved by the records"),
            wrong => println!("{wrong} things are wrong"),
        }
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
