//! What the wallet says of itself: read once, and told as text or as JSON, by this process or by the proxy that has the wallet open.
//! Amounts are text in JSON, as they may not fit a number.

use serde::{Deserialize, Serialize};

use super::say::{number, utc};
use halometer::http::payer::was_too_small;
use halometer::protocol::{Credits, EpochNumber, Purpose, Spend, Timestamp};
use halometer::wallet::{Costs, Journal, JournalEntry, JournalError, LaneStatus, Spending, Spent, Wallet};

/// Within how many seconds the end of an epoch is told.
const SOON: u64 = 2 * 86_400;

/// What the wallet is worth.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BalanceReport {
    total: String,
    available: String,
    unchecked: String,
    waiting: String,
    reserved: String,
    disputed: String,
    void: String,
    ending: String,
    frozen: String,
    payments_not_minted: usize,
}

impl BalanceReport {
    pub(crate) fn of<J: Journal>(wallet: &Wallet<J>, now: Timestamp) -> Self {
        let sums = wallet.balance_at(now, SOON);
        let open = wallet.payments().filter(|payment| payment.minted.is_none() && !payment.forgotten);
        Self {
            total: sums.total().to_string(),
            available: sums.available.to_string(),
            unchecked: sums.unchecked.to_string(),
            waiting: sums.waiting.to_string(),
            reserved: sums.reserved.to_string(),
            disputed: sums.disputed.to_string(),
            void: sums.void.to_string(),
            ending: sums.ending.to_string(),
            frozen: sums.frozen.to_string(),
            payments_not_minted: open.count(),
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let sum = |text: &str| text.parse::<u128>().unwrap_or_default();
        let mut lines = vec![format!("{} micro-credits", number(&self.total))];
        let mut part = |sum: u128, what: &str| {
            if sum > 0 {
                lines.push(format!("  {:>20}  {what}", number(&sum.to_string())));
            }
        };
        // Right after opening nothing is known to be unspent elsewhere; that is no news to anybody.
        part(sum(&self.available) + sum(&self.unchecked), "to be spent");
        part(sum(&self.ending), "of that ends within two days: a running proxy rolls it over, and so does `doctor`");
        part(sum(&self.waiting), "in lanes that await a settlement");
        part(sum(&self.reserved), "charged by calls that await a settlement; what they do not cost comes back");
        part(sum(&self.disputed), "disputed, and asked for still: `halometer wallet disputes`");
        part(sum(&self.void), "void, and not counted: its epoch is over; ask the issuer whether it makes up for that");
        part(sum(&self.frozen), "frozen: spent by a copy of this wallet, and not counted");
        if self.payments_not_minted > 0 {
            lines.push(format!("payments that are not minted yet: {}; see `payments`", self.payments_not_minted));
        }
        lines
    }
}

/// A lane, as it is listed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LaneReport {
    lane: String,
    /// `ready`, `unchecked`, `void`, `awaiting`, `disputed` or `frozen`.
    state: String,
    value: String,
    /// What may come back of its charge.
    reserved: String,
    epoch: Option<u32>,
    /// From when on its note is void, seconds since 1970.
    void_from: Option<u64>,
}

impl LaneReport {
    pub(crate) fn all<J: Journal>(wallet: &Wallet<J>, now: Timestamp) -> Vec<Self> {
        let report = |(lane, status): (halometer::wallet::LaneId, LaneStatus)| {
            let (state, value, reserved, epoch): (_, _, _, Option<EpochNumber>) = match status {
                LaneStatus::Idle { value, epoch } => ("ready", value, Credits::ZERO, Some(epoch)),
                LaneStatus::Unchecked { value, epoch } => ("unchecked", value, Credits::ZERO, Some(epoch)),
                LaneStatus::InFlight { spend, charge, rest, disputed } => {
                    (if disputed { "disputed" } else { "awaiting" }, rest, charge, Some(spend.epoch))
                }
                LaneStatus::Frozen { value } => ("frozen", value, Credits::ZERO, None),
                _ => ("unknown", Credits::ZERO, Credits::ZERO, None),
            };
            let void_from = epoch.and_then(|epoch| wallet.void_from(epoch));
            let over = matches!(state, "ready" | "unchecked") && void_from.is_some_and(|from| from <= now);
            Self {
                lane: lane.to_string(),
                state: if over && !value.is_zero() { "void" } else { state }.to_owned(),
                value: value.to_string(),
                reserved: reserved.to_string(),
                epoch: epoch.map(EpochNumber::number),
                void_from: void_from.map(Timestamp::seconds),
            }
        };
        wallet.lanes().map(report).collect()
    }

    /// One short line for each lane that has or awaits something, and one for the others.
    pub(super) fn lines(lanes: &[Self], now: Timestamp) -> Vec<String> {
        let empty = |lane: &&Self| lane.value == "0" && lane.reserved == "0";
        let mut lines = vec![format!("{:<10} {:>20}  state", "lane", "value")];
        for lane in lanes.iter().filter(|lane| !empty(lane)) {
            lines.push(format!("{:<10} {:>20}  {}", lane.lane, number(&lane.value), lane.words(now)));
        }
        match lanes.iter().filter(empty).count() {
            0 => {}
            1 => lines.push("and 1 lane that is empty".to_owned()),
            empty => lines.push(format!("and {empty} lanes that are empty")),
        }
        lines
    }

    fn words(&self, now: Timestamp) -> String {
        let until = self.void_from.filter(|from| *from <= now.after(SOON).seconds());
        let until = until.map(|from| format!(" until {} UTC", utc(Timestamp::from_seconds(from)))).unwrap_or_default();
        match self.state.as_str() {
            "ready" => format!("can be spent{until}"),
            "unchecked" => format!("can be spent{until}, once asked about"),
            "void" => "void: its epoch is over".to_owned(),
            "awaiting" => format!("awaits up to {} more", number(&self.reserved)),
            "disputed" => format!("withheld, up to {} more: see `disputes`", number(&self.reserved)),
            "frozen" => "frozen: spent by a copy".to_owned(),
            _ => "in a state that this program has no word for".to_owned(),
        }
    }
}

/// A spend, as the history has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SpendReport {
    at: u64,
    kind: String,
    method: Option<String>,
    target: Option<String>,
    lane: String,
    gateway: Option<String>,
    charge: Option<String>,
    cost: Option<String>,
    state: String,
    receipt: bool,
    /// The key of the proxy that it was made with.
    key: Option<String>,
    /// Whether its class was too small: the answer was kept back, or broken off.
    too_small: bool,
    /// The class that calls of its kind have now.
    now: Option<String>,
}

impl SpendReport {
    pub(crate) fn newest<J: Journal>(wallet: &Wallet<J>, limit: usize) -> Result<Vec<Self>, JournalError> {
        let text = wallet.journal().remembered(Costs::NOTE)?;
        let costs = text.as_deref().map(Costs::from_text).unwrap_or_default();
        Ok(wallet.journal().history(limit)?.iter().map(|entry| Self::of(wallet, &costs, entry)).collect())
    }

    fn of<J: Journal>(wallet: &Wallet<J>, costs: &Costs, entry: &JournalEntry) -> Self {
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
        let receipt = entry.outcome.as_ref().is_some_and(|outcome| outcome.receipt.is_some());
        let too_small = was_too_small(wallet, costs, entry);
        let request = entry.request.as_ref().filter(|_| kind == "call");
        Self {
            at: entry.pinned_at.seconds(),
            kind: kind.to_owned(),
            method: request.map(|request| request.method.clone()),
            target: request.map(|request| request.target.clone()),
            lane: entry.lane.to_string(),
            gateway: spend.as_ref().map(|spend| spend.gateway.to_string()),
            charge: charge.as_ref().map(ToString::to_string),
            cost: cost.as_ref().map(ToString::to_string),
            state: if entry.settlement.is_some() { "settled" } else { "awaiting" }.to_owned(),
            receipt,
            key: entry.request.as_ref().and_then(|request| request.budget.clone()),
            too_small: too_small.is_some(),
            now: too_small.and_then(|small| small.now).map(|now| now.to_string()),
        }
    }

    pub(super) fn lines(rows: &[Self]) -> Vec<String> {
        let mut lines = vec![format!("{:19}  {:>12} {:>12}  {:9} what", "time (UTC)", "charge", "cost", "state")];
        for row in rows {
            let amount = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), number);
            let what = match (&row.method, &row.target) {
                (Some(method), Some(target)) => match &row.key {
                    Some(key) => format!("{method} {target} [{key}]"),
                    None => format!("{method} {target}"),
                },
                _ => row.kind.clone(),
            };
            let (charge, cost) = (amount(&row.charge), amount(&row.cost));
            let at = utc(Timestamp::from_seconds(row.at));
            lines.push(format!("{at}  {charge:>12} {cost:>12}  {:9} {what}", row.state));
            if row.too_small {
                let now = row.now.as_deref().map(|now| format!("; calls of this kind now use {}", number(now)));
                lines.push(format!(
                    "{:19}  class {charge} was too small for this answer; {cost} were kept{}",
                    "",
                    now.unwrap_or_default()
                ));
            }
        }
        lines
    }
}

/// What calls with one key of the proxy came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeyReport {
    /// None for calls without a key.
    key: Option<String>,
    calls: u64,
    today: String,
    ever: String,
    /// What is held for calls that are not settled.
    reserved: String,
}

impl KeyReport {
    pub(crate) fn all(spending: &Spending, now: Timestamp) -> Vec<Self> {
        let today = spending.day(now);
        let report = |(key, ever): (Option<&str>, Spent)| Self {
            key: key.map(str::to_owned),
            calls: ever.calls,
            today: spending.on(today, key).cost.to_string(),
            ever: ever.cost.to_string(),
            reserved: ever.reserved.to_string(),
        };
        spending.totals().map(report).collect()
    }

    pub(super) fn lines(rows: &[Self]) -> Vec<String> {
        let mut lines = vec![format!("{:20} {:>8} {:>14} {:>14} {:>14}", "key", "calls", "today", "ever", "awaited")];
        lines.extend(rows.iter().map(|row| {
            let name = row.key.as_deref().unwrap_or("(without a key)");
            let (calls, today) = (number(&row.calls.to_string()), number(&row.today));
            format!("{name:20} {calls:>8} {today:>14} {:>14} {:>14}", number(&row.ever), number(&row.reserved))
        }));
        lines
    }
}
