//! What the wallet is worth, and what its lanes do.

use std::process::ExitCode;

use serde_json::json;

use super::say::{amount, say};
use super::{Outcome, Place};
use halometer::protocol::Credits;
use halometer::wallet::{Balance, LaneId, LaneStatus};

pub(super) fn balance(place: &Place) -> Outcome {
    let wallet = place.open()?;
    let sums = wallet.balance();
    let Balance { available, waiting, reserved, disputed, unchecked, frozen, .. } = sums;
    let unminted = wallet.payments().filter(|payment| payment.minted.is_none()).count();
    let value = json!({
        "total": sums.total().to_string(),
        "available": available.to_string(),
        "unchecked": unchecked.to_string(),
        "waiting": waiting.to_string(),
        "reserved": reserved.to_string(),
        "disputed": disputed.to_string(),
        "frozen": frozen.to_string(),
        "payments_not_minted": unminted,
    });
    let mut lines = vec![format!("{} micro-credits", sums.total())];
    let mut part = |sum: u128, what: &str| {
        if sum > 0 {
            lines.push(format!("  {sum:>20}  {what}"));
        }
    };
    // Right after opening nothing is known to be unspent elsewhere; that is no news to anybody.
    part(available + unchecked, "to be spent");
    part(waiting, "in lanes that await a settlement");
    part(reserved, "charged by calls that await a settlement; what they do not cost comes back");
    part(disputed, "disputed, and asked for still: `halometer wallet disputes`");
    part(frozen, "frozen: spent by a copy of this wallet, and not counted");
    if unminted > 0 {
        lines.push(format!("{unminted} payments are not minted yet: run `fund` again for them"));
    }
    say(place.json, &value, lines)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn lanes(place: &Place) -> Outcome {
    let wallet = place.open()?;
    let lanes: Vec<Row> = wallet.lanes().map(|(lane, status)| Row::of(lane, status)).collect();
    let value = lanes.iter().map(|row| {
        json!({
            "lane": row.lane.to_string(),
            "state": row.state,
            "value": amount(row.value),
            "reserved": amount(row.reserved),
            "epoch": row.epoch,
        })
    });
    let value: Vec<_> = value.collect();
    let lines = core::iter::once(format!("lane       {:>20}  epoch  state", "value"));
    let rows = lanes.iter().map(|row| {
        let epoch = row.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
        let awaited = match row.reserved {
            Credits::ZERO => String::new(),
            reserved => format!(", and up to {reserved} more"),
        };
        format!("{:<10} {:>20}  {epoch:>5}  {}{awaited}", row.lane.to_string(), row.value.to_string(), row.words())
    });
    say(place.json, &value.into(), lines.chain(rows))?;
    Ok(ExitCode::SUCCESS)
}

/// A lane, as it is listed.
struct Row {
    lane: LaneId,
    /// For scripts: `ready`, `unchecked`, `awaiting`, `disputed` or `frozen`.
    state: &'static str,
    value: Credits,
    /// What may come back of its charge.
    reserved: Credits,
    epoch: Option<u32>,
}

impl Row {
    fn of(lane: LaneId, status: LaneStatus) -> Self {
        let (state, value, reserved, epoch) = match status {
            LaneStatus::Idle { value, epoch } => ("ready", value, Credits::ZERO, Some(epoch)),
            LaneStatus::Unchecked { value, epoch } => ("unchecked", value, Credits::ZERO, Some(epoch)),
            LaneStatus::InFlight { spend, charge, rest, disputed } => {
                (if disputed { "disputed" } else { "awaiting" }, rest, charge, Some(spend.epoch))
            }
            LaneStatus::Frozen { value } => ("frozen", value, Credits::ZERO, None),
            _ => ("unknown", Credits::ZERO, Credits::ZERO, None),
        };
        Self { lane, state, value, reserved, epoch: epoch.map(|epoch| epoch.number()) }
    }

    fn words(&self) -> &'static str {
        match self.state {
            "ready" => "can be spent",
            "unchecked" => {
                "can be spent, once it was asked whether a copy of this wallet spent it; calls do that by themselves"
            }
            "awaiting" => "awaits a settlement; `cancel` asks for it now",
            "disputed" => "awaits a settlement that is withheld: see `disputes`",
            "frozen" => "frozen: spent by a copy of this wallet",
            _ => "in a state that this program has no word for",
        }
    }
}
