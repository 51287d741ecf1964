//! What was spent, by day and by budget: a sum over the journal.

use std::collections::{BTreeMap, HashMap};

use halometer_circuits::note::Nullifier;

use super::{Journal, JournalEntry, JournalError, Wallet};
use crate::protocol::{Credits, Purpose, Spend, Timestamp};

/// Seconds of a day.
pub(super) const DAY: u64 = 86_400;

/// What calls came to, micro-credits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Calls, settled or not; a session counts as one.
    pub calls: u64,
    /// What those that are settled cost.
    pub cost: u128,
    /// The charges of those that are not. What they do not cost comes back.
    pub reserved: u128,
}

impl Spent {
    /// Costs and charges together: the most that it can come to.
    pub const fn all(&self) -> u128 {
        self.cost + self.reserved
    }
}

/// Names of budgets are the owner's own; none is for calls without one.
type PerBudget = BTreeMap<Option<String>, Spent>;

/// Sums over all calls of a wallet.
///
/// A call is of the day on which it was pinned, UTC, or of the latest day of any call before, if the clock showed an earlier one.
#[derive(Clone, Debug, Default)]
pub struct Spending {
    /// The latest time of any call.
    latest: Timestamp,
    days: BTreeMap<u64, PerBudget>,
    totals: PerBudget,
    open: HashMap<Nullifier, Open>,
}

/// A call that is not settled.
#[derive(Clone, Debug)]
struct Open {
    day: u64,
    budget: Option<String>,
    charge: Credits,
}

impl Spending {
    /// The day that a call now is of, days since 1970.
    pub fn day(&self, now: Timestamp) -> u64 {
        self.time(now).seconds() / DAY
    }

    /// The time, which never goes back behind that of a call.
    pub(super) fn time(&self, now: Timestamp) -> Timestamp {
        self.latest.max(now)
    }

    /// What the calls of a budget came to on a day.
    pub fn on(&self, day: u64, budget: Option<&str>) -> Spent {
        self.days.get(&day).map_or_else(Spent::default, |day| of(day, budget))
    }

    /// What all calls of a budget came to.
    pub fn total(&self, budget: Option<&str>) -> Spent {
        of(&self.totals, budget)
    }

    /// All budgets that had a call, and none for calls without a budget, with what they came to.
    pub fn totals(&self) -> impl Iterator<Item = (Option<&str>, Spent)> {
        self.totals.iter().map(|(name, spent)| (name.as_deref(), *spent))
    }

    /// The days since 1970 that had a call, the newest first, each with its budgets.
    pub fn days(&self) -> impl Iterator<Item = (u64, impl Iterator<Item = (Option<&str>, Spent)>)> {
        let per_budget = |(day, budgets): (_, _)| {
            let (day, budgets): (&u64, &PerBudget) = (day, budgets);
            (*day, budgets.iter().map(|(name, spent)| (name.as_deref(), *spent)))
        };
        self.days.iter().rev().map(per_budget)
    }

    /// Counts a spend that is pinned. Transfers and rollovers cost nothing and are no calls.
    pub(super) fn pinned(&mut self, nullifier: Nullifier, spend: &Spend, budget: Option<&str>, at: Timestamp) {
        if spend.purpose != Purpose::Session {
            return;
        }
        let (day, charge) = (self.day(at), spend.charge);
        self.latest = self.time(at);
        self.change(day, budget, |spent| {
            spent.calls += 1;
            spent.reserved += u128::from(charge.micro());
        });
        self.open.insert(nullifier, Open { day, budget: budget.map(str::to_owned), charge });
    }

    /// Counts the settlement of a spend that was counted.
    pub(super) fn settled(&mut self, nullifier: &Nullifier, refund: Credits) {
        let Some(Open { day, budget, charge }) = self.open.remove(nullifier) else { return };
        // Refunds above the charge are refused before.
        let cost = u128::from(charge.micro().saturating_sub(refund.micro()));
        self.change(day, budget.as_deref(), |spent| {
            spent.reserved = spent.reserved.saturating_sub(charge.micro().into());
            spent.cost += cost;
        });
    }

    fn change(&mut self, day: u64, budget: Option<&str>, change: impl Fn(&mut Spent)) {
        let name = || budget.map(str::to_owned);
        change(self.days.entry(day).or_default().entry(name()).or_default());
        change(self.totals.entry(name()).or_default());
    }

    fn count(&mut self, entry: &JournalEntry) {
        // A spend may lack its proof, which is its end and of no matter here.
        let mut bytes = entry.spend.clone();
        bytes.resize(Spend::LENGTH.max(bytes.len()), 0);
        let Ok(spend) = Spend::from_bytes(&bytes) else { return };
        let budget = entry.request.as_ref().and_then(|request| request.budget.as_deref());
        self.pinned(entry.key.nullifier, &spend, budget, entry.pinned_at);
        if let Some(settlement) = &entry.settlement {
            self.settled(&entry.key.nullifier, settlement.refund);
        }
    }
}

fn of(budgets: &PerBudget, budget: Option<&str>) -> Spent {
    // The names are few.
    budgets.iter().find(|(name, _)| name.as_deref() == budget).map_or_else(Spent::default, |(_, spent)| *spent)
}

impl<J: Journal> Wallet<J> {
    /// What was spent, by day and by budget. The first time the whole journal is read; from then on it is kept up to date.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn spending(&mut self) -> Result<&Spending, JournalError> {
        if self.spending.is_none() {
            let mut spending = Spending::default();
            self.journal.visit(&mut |entry| spending.count(entry))?;
            self.spending = Some(spending);
        }
        Ok(self.spending.get_or_insert_default())
    }
}
