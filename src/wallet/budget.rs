//! Budgets: what one user of a wallet may spend of it.
//!
//! A budget is counted by the journal itself. The pin of a call holds the name of its budget, so that the charge is counted from the moment
//! the spend is on the disk, which is before its first byte leaves. The settlement brings the exact cost. Nothing else keeps accounts, and a
//! crash at any moment leaves what the journal says: the charge while the cost is not known, and the cost from then on.

use super::spending::{DAY, Spent};
use super::{Journal, JournalError, Wallet};
use crate::protocol::{Credits, Timestamp};

/// What one user of a wallet may spend, micro-credits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Its name, under which the journal counts it.
    pub name: String,
    /// The most that a call may be charged.
    pub per_call: Option<Credits>,
    /// The most that the calls of one day (UTC) may cost together.
    pub per_day: Option<Credits>,
    /// The most that all calls may ever cost together.
    pub total: Option<Credits>,
    /// When it ends.
    pub until: Option<Timestamp>,
}

impl Budget {
    /// One without a cap.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The same with this [`per_call`](Self::per_call).
    #[must_use]
    pub fn with_per_call(self, cap: Option<Credits>) -> Self {
        Self { per_call: cap, ..self }
    }

    /// The same with this [`per_day`](Self::per_day).
    #[must_use]
    pub fn with_per_day(self, cap: Option<Credits>) -> Self {
        Self { per_day: cap, ..self }
    }

    /// The same with this [`total`](Self::total).
    #[must_use]
    pub fn with_total(self, cap: Option<Credits>) -> Self {
        Self { total: cap, ..self }
    }

    /// The same with this [`until`](Self::until).
    #[must_use]
    pub fn with_until(self, until: Option<Timestamp>) -> Self {
        Self { until, ..self }
    }
}

/// Why a budget does not allow a call. Nothing was spent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// No call may be charged so much: it is above the cap of a call, or of a whole day.
    #[error("the charge of {charge} micro-credits is above the cap of {cap}, a call or a day, of key `{name}`")]
    PerCall {
        /// The budget.
        name: String,
        /// What the call would be charged.
        charge: Credits,
        /// The cap.
        cap: Credits,
    },
    /// The day's cap is used up.
    #[error("key `{name}` has spent {spent} of its {cap} micro-credits a day, and a call is charged {charge}")]
    PerDay {
        /// The budget.
        name: String,
        /// What the day's calls cost so far, charges of those that are not settled included.
        spent: u128,
        /// What the call would be charged.
        charge: Credits,
        /// The cap.
        cap: Credits,
        /// Until the day is over, seconds.
        over_in: u64,
        /// Whether the clock shows an earlier day than that of the wallet's last spend, which is gone by.
        clock_behind: bool,
    },
    /// The cap of the budget is used up.
    #[error("key `{name}` has spent {spent} of its {cap} micro-credits, and a call is charged {charge}")]
    Total {
        /// The budget.
        name: String,
        /// What all calls cost so far, charges of those that are not settled included.
        spent: u128,
        /// What the call would be charged.
        charge: Credits,
        /// The cap.
        cap: Credits,
    },
    /// Its time is over.
    #[error("the time of key `{name}` is over since {} (Unix time)", .until.seconds())]
    Ended {
        /// The budget.
        name: String,
        /// When it ended.
        until: Timestamp,
    },
    /// A cap would allow the call if what calls under way do not cost were back already.
    #[error(
        "calls under way hold {reserved} micro-credits of the {cap} of key `{name}`, and a call is charged {charge}"
    )]
    UnderWay {
        /// The budget.
        name: String,
        /// The charges of its calls that are not settled.
        reserved: u128,
        /// What the call would be charged.
        charge: Credits,
        /// The cap.
        cap: Credits,
    },
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl<J: Journal> Wallet<J> {
    /// Whether a budget allows a call of this charge now. What is asked and pinned without anything between the two passes no cap, however
    /// many calls there are: [`authorise_within`](Self::authorise_within) asks again.
    ///
    /// Time never goes back: if the clock shows an earlier time than that of the wallet's last spend, it is that time still.
    ///
    /// # Errors
    /// [`BudgetError`].
    pub fn check_budget(&mut self, budget: &Budget, charge: Credits, now: Timestamp) -> Result<(), BudgetError> {
        let name = || budget.name.clone();
        if let Some(cap) = budget.per_call.filter(|cap| charge > *cap) {
            return Err(BudgetError::PerCall { name: name(), charge, cap });
        }
        if budget.per_day.is_none() && budget.total.is_none() && budget.until.is_none() {
            return Ok(());
        }
        let spending = self.spending()?;
        let day = spending.day(now);
        if let Some(until) = budget.until.filter(|until| *until <= spending.time(now)) {
            return Err(BudgetError::Ended { name: name(), until });
        }
        let fits = |spent: u128, cap: Credits| spent + u128::from(charge.micro()) <= u128::from(cap.micro());
        let under_way =
            |spent: &Spent, cap: Credits| BudgetError::UnderWay { name: name(), reserved: spent.reserved, charge, cap };
        if let Some(cap) = budget.total {
            let spent = spending.total(Some(&budget.name));
            if !fits(spent.cost, cap) {
                return Err(BudgetError::Total { name: name(), spent: spent.all(), charge, cap });
            }
            if !fits(spent.all(), cap) {
                return Err(under_way(&spent, cap));
            }
        }
        if let Some(cap) = budget.per_day {
            let spent = spending.on(day, Some(&budget.name));
            // More than a whole day's cap is never allowed, on no day.
            if !fits(0, cap) {
                return Err(BudgetError::PerCall { name: name(), charge, cap });
            }
            if !fits(spent.cost, cap) {
                let over_in = (day + 1).saturating_mul(DAY).saturating_sub(now.seconds()).max(1);
                let clock_behind = day > now.seconds() / DAY;
                return Err(BudgetError::PerDay {
                    name: name(),
                    spent: spent.all(),
                    charge,
                    cap,
                    over_in,
                    clock_behind,
                });
            }
            if !fits(spent.all(), cap) {
                return Err(under_way(&spent, cap));
            }
        }
        Ok(())
    }

    /// The largest charge that a budget allows now, if it has a cap: where a class is chosen for each call, none above it is of use.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn budget_ceiling(&mut self, budget: &Budget, now: Timestamp) -> Result<Option<Credits>, JournalError> {
        let spending = self.spending()?;
        let today = spending.on(spending.day(now), Some(&budget.name)).all();
        let ever = spending.total(Some(&budget.name)).all();
        let left = |cap: Credits, spent: u128| {
            Credits::from_micro(cap.micro().saturating_sub(u64::try_from(spent).unwrap_or(u64::MAX)))
        };
        let caps =
            [budget.per_call, budget.per_day.map(|cap| left(cap, today)), budget.total.map(|cap| left(cap, ever))];
        Ok(caps.into_iter().flatten().min())
    }
}
