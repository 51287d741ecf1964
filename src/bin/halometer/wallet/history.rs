//! What was spent.

use std::process::ExitCode;

use super::neighbour::{self, Question};
use super::reports::{KeyReport, SpendReport};
use super::say::say;
use super::{Outcome, Place};
use halometer::http::clock::now;

/// The arguments of `halometer wallet history`.
#[derive(Clone, Debug, clap::Args)]
pub struct HistoryArgs {
    /// How many, at most.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,

    /// Say what each key of the proxy has spent instead, today (UTC) and ever.
    #[arg(long, conflicts_with = "limit")]
    pub by_key: bool,
}

pub(super) fn run(place: &Place, args: &HistoryArgs) -> Outcome {
    if args.by_key {
        return by_key(place);
    }
    let rows = match neighbour::ask::<Vec<SpendReport>>(place, &Question::History(args.limit))? {
        Some(rows) => rows,
        None => SpendReport::newest(&place.open()?, args.limit)?,
    };
    say(place.json, &serde_json::to_value(&rows).unwrap_or_default(), SpendReport::lines(&rows))?;
    Ok(ExitCode::SUCCESS)
}

/// What calls came to, by the key that they were made with.
fn by_key(place: &Place) -> Outcome {
    let rows = match neighbour::ask::<Vec<KeyReport>>(place, &Question::Keys)? {
        Some(rows) => rows,
        None => KeyReport::all(place.open()?.spending()?, now()),
    };
    say(place.json, &serde_json::to_value(&rows).unwrap_or_default(), KeyReport::lines(&rows))?;
    Ok(ExitCode::SUCCESS)
}
