//! `halometer bench`: measure on this machine.
//!
//! Figures are medians over distinct proofs, in a release build, on pinned cores; set-up is not part of them, and every
//! proof is verified once before it is used. As machines differ, each run also times a yardstick: one multiexponentiation
//! of 2^11 random points of Vesta, on one core.

use std::path::PathBuf;
use std::process::ExitCode;

mod circuit;
mod core;
mod database;
mod disk;
mod figures;
mod http;
mod machine;
mod market;
mod progress;
mod restore;
mod store;
mod wallet;
mod yardstick;

use database::Database;
use figures::Figures;
use progress::Progress;

/// Measure on this machine: proving, verifying, and what is built on them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print one flat JSON object.
    #[arg(long)]
    pub json: bool,

    /// Measure this group only.
    #[arg(long, value_name = "GROUP", value_enum)]
    pub only: Option<Group>,

    /// Number of nullifiers for the group `store`.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    pub entries: u64,

    /// Where to put the files of the groups `core`, `store`, `wallet` and `http`; they are removed at the end. It is this disk that is measured.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// For the groups `core` and `store`: measure a database that gateways share, too. `postgres` starts a server on the disk of `--dir`; an
    /// address names one on this machine, in which schemas are made.
    #[arg(long, value_name = "DATABASE")]
    pub store: Option<String>,

    /// A process of the group `wallet` whose memory is measured.
    #[arg(long, hide = true)]
    pub resident: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// Keys, proofs, and their verification.
    Circuit,
    /// Spends from their bytes to a durable commit, in crowds and one by one, with bad ones among them.
    Core,
    /// The durable spent set by itself.
    Store,
    /// A caller's wallet: its file, and calls over HTTP.
    Wallet,
    /// A gateway over HTTP with everything on: paid calls, plain ones, and calls in sessions.
    Http,
}

/// Measures, and prints what was measured. Takes about ten minutes, most of which is making distinct proofs.
///
/// # Errors
/// What to tell the user, as text.
pub fn run(args: Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if let Some(path) = args.resident {
        wallet::resident(path)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut figures = Figures::default();
    let mut progress = Progress::new();
    machine::describe(&mut figures);
    let wanted = |group| args.only.is_none_or(|only| only == group);
    if wanted(Group::Circuit) {
        circuit::measure(&mut figures, &mut progress)?;
    } else {
        figures.samples("yardstick_ms", yardstick::measure()?);
    }
    let database = args.store.as_ref().map(|named| Database::open(named, &args.dir)).transpose()?;
    if wanted(Group::Core) {
        core::measure(&mut figures, &mut progress, &args.dir, database.as_ref())?;
    }
    if wanted(Group::Store) {
        store::measure(&mut figures, &mut progress, &args.dir, args.entries)?;
        if let Some(database) = &database {
            store::measure_database(&mut figures, &mut progress, database, args.entries)?;
        }
    }
    drop(database);
    if wanted(Group::Wallet) {
        wallet::measure(&mut figures, &mut progress, &args.dir)?;
    }
    if wanted(Group::Http) {
        http::measure(&mut figures, &mut progress, &args.dir)?;
    }
    figures.number("peak_rss_mb", machine::peak_rss_mb());
    progress.finish();
    if args.json {
        println!("{}", figures.to_json());
    } else {
        print!("{figures}");
    }
    Ok(ExitCode::SUCCESS)
}
