//! What was spent.

use std::process::ExitCode;

use super::neighbour::{self, Question};
use super::reports::SpendReport;
use super::say::say;
use super::{Outcome, Place};

/// The arguments of `halometer wallet history`.
#[derive(Clone, Debug, clap::Args)]
pub struct HistoryArgs {
    /// How many, at most.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

pub(super) fn run(place: &Place, args: &HistoryArgs) -> Outcome {
    let rows = match neighbour::ask::<Vec<SpendReport>>(place, &Question::History(args.limit))? {
        Some(rows) => rows,
        None => SpendReport::newest(&place.open()?, args.limit)?,
    };
    say(place.json, &serde_json::to_value(&rows).unwrap_or_default(), SpendReport::lines(&rows))?;
    Ok(ExitCode::SUCCESS)
}
