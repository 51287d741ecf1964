//! What the wallet is worth, and what its lanes do.

use std::process::ExitCode;

use super::neighbour::{self, Question};
use super::reports::{BalanceReport, LaneReport};
use super::say::say;
use super::{Outcome, Place};
use halometer::http::clock::now;

pub(super) fn balance(place: &Place) -> Outcome {
    let report = match neighbour::ask::<BalanceReport>(place, &Question::Balance)? {
        Some(report) => report,
        None => BalanceReport::of(&place.open()?, now()),
    };
    say(place.json, &serde_json::to_value(&report).unwrap_or_default(), report.lines())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn lanes(place: &Place) -> Outcome {
    let lanes = match neighbour::ask::<Vec<LaneReport>>(place, &Question::Lanes)? {
        Some(lanes) => lanes,
        None => LaneReport::all(&place.open()?, now()),
    };
    say(place.json, &serde_json::to_value(&lanes).unwrap_or_default(), LaneReport::lines(&lanes, now()))?;
    Ok(ExitCode::SUCCESS)
}
