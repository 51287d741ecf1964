//! What was spent.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::say::{amount, say, utc};
use super::{Outcome, Place};
use halometer::http::clock::now;
use halometer::protocol::{Credits, Purpose, Spend};
use halometer::wallet::{Journal as _, JournalEntry};

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
    let wallet = place.open()?;
    let rows: Vec<Row> = wallet.journal().history(args.limit)?.iter().map(Row::of).collect();
    let value: Vec<Value> = rows.iter().map(Row::to_json).collect();
    let lines = core::iter::once(format!("{:19}  {:>12} {:>12}  {:9} what", "time (UTC)", "charge", "cost", "state"));
    say(place.json, &value.into(), lines.chain(rows.iter().map(Row::to_line)))?;
    Ok(ExitCode::SUCCESS)
}

/// What calls came to, by the key that they were made with.
fn by_key(place: &Place) -> Outcome {
    let mut wallet = place.open()?;
    let spending = wallet.spending()?;
    let today = spending.day(now());
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    lines.push(format!("{:20} {:>8} {:>14} {:>14} {:>14}", "key", "calls", "today", "ever", "awaited"));
    for (key, ever) in spending.totals() {
        let on = spending.on(today, key);
        values.push(json!({
            "key": key,
            "calls": ever.calls,
            "today": on.cost.to_string(),
            "ever": ever.cost.to_string(),
            "reserved": ever.reserved.to_string(),
        }));
        let name = key.unwrap_or("(without a key)");
        lines.push(format!("{name:20} {:>8} {:>14} {:>14} {:>14}", ever.calls, on.cost, ever.cost, ever.reserved));
    }
    say(place.json, &values.into(), lines)?;
    Ok(ExitCode::SUCCESS)
}

struct Row {
    at: halometer::protocol::Timestamp,
    kind: &'static str,
    method: Option<String>,
    target: Option<String>,
    key: Option<String>,
    lane: String,
    gateway: Option<String>,
    charge: Option<Credits>,
    cost: Option<Credits>,
    settled: bool,
    receipt: bool,
}

impl Row {
    fn of(entry: &JournalEntry) -> Self {
        // A pruned spend lacks its proof, which is its end and of no matter here.
        let mut bytes = entry.spend.clone();
        bytes.resize(Spend::LENGTH.max(bytes.len()), 0);
        let spend = Spend::from_bytes(&bytes).ok();
        let kind = match spend.as_ref().map(|spend| &spend.purpose) {
            Some(Purpose::Transfer { .. }) => "transfer",
            Some(Purpose::Rollover) => "rollover",
            _ => "call",
        };
        let charge = spend.as_ref().map(|spend| spend.charge);
        // What a transfer takes from one lane it brings to another.
        let cost = entry.settlement.as_ref().and_then(|settlement| match kind {
            "call" => charge?.checked_sub(settlement.refund),
            _ => Some(Credits::ZERO),
        });
        Self {
            at: entry.pinned_at,
            kind,
            method: entry.request.as_ref().map(|request| request.method.clone()).filter(|_| kind == "call"),
            target: entry.request.as_ref().map(|request| request.target.clone()).filter(|_| kind == "call"),
            key: entry.request.as_ref().and_then(|request| request.budget.clone()),
            lane: entry.lane.to_string(),
            gateway: spend.as_ref().map(|spend| spend.gateway.to_string()),
            charge,
            cost,
            settled: entry.settlement.is_some(),
            receipt: entry.outcome.as_ref().is_some_and(|outcome| outcome.receipt.is_some()),
        }
    }

    const fn state(&self) -> &'static str {
        if self.settled { "settled" } else { "awaiting" }
    }

    fn to_json(&self) -> Value {
        json!({
            "at": self.at.seconds(),
            "kind": self.kind,
            "method": self.method,
            "target": self.target,
            "key": self.key,
            "lane": self.lane,
            "gateway": self.gateway,
            "charge": self.charge.map(amount),
            "cost": self.cost.map(amount),
            "state": self.state(),
            "receipt": self.receipt,
        })
    }

    fn to_line(&self) -> String {
        let number = |credits: Option<Credits>| credits.map_or_else(|| "-".to_owned(), |credits| credits.to_string());
        let what = match (&self.method, &self.target) {
            (Some(method), Some(target)) => match &self.key {
                Some(key) => format!("{method} {target} [{key}]"),
                None => format!("{method} {target}"),
            },
            _ => self.kind.to_owned(),
        };
        let (at, state) = (utc(self.at), self.state());
        format!("{at}  {:>12} {:>12}  {state:9} {what}", number(self.charge), number(self.cost))
    }
}
