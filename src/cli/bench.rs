//! `halometer bench`: measure on this machine.
//!
//! Figures are medians over distinct proofs, in a release build, on pinned cores; set-up is not part of them, and every
//! proof is verified once before it is used. As machines differ, each run also times a yardstick: one multiexponentiation
//! of 2^11 random points of Vesta, on one core.

use std::process::ExitCode;

mod circuit;
mod figures;
mod machine;
mod progress;

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
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// Keys, proofs, and their verification.
    Circuit,
}

/// Measures, and prints what was measured. Takes about two minutes, most of which is making 1,024 distinct proofs.
///
/// # Errors
/// What the user is to be told, as text.
pub fn run(args: Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut figures = Figures::default();
    let mut progress = Progress::new();
    machine::describe(&mut figures);
    // So far there is one group, so that to choose it is to change nothing.
    match args.only {
        None | Some(Group::Circuit) => circuit::measure(&mut figures, &mut progress)?,
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
