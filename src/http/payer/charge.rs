//! Which charge class each call has, and what was learned from those before it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::call::Outgoing;
use super::events::Event;
use super::shared::Shared;
use super::{CallError, TooSmall};
use crate::protocol::{Credits, Directory, Problem, Purpose, Receipt, Spend, Tariff, Timestamp};
use crate::wallet::{Accepted, Budget, Choice, Costs, Journal, JournalEntry, Need, Policy, Wallet};

/// Classes for which proofs are kept ready, at most.
const KEPT: usize = 3;
/// Longest body that is looked into where other calls wait for the same thread, bytes.
const BRIEF: usize = 16 << 10;

/// A request whose price is estimated, and what prices it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path and query.
    pub target: &'a str,
    /// Its headers, without those of the payment.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a Bytes,
    /// The tariff that the spend will agree to.
    pub tariff: &'a Tariff,
    /// The smallest step of a cost.
    pub quantum: Credits,
}

impl<'a> Asked<'a> {
    /// Its path, as it is sent.
    pub fn path(&self) -> &'a str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// What a request may cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Its kind: calls of one kind are expected to cost alike. A route and a model, say; nothing of what is asked.
    pub kind: String,
    /// What it costs at most, if that can be told.
    pub most: Option<Credits>,
    /// What it most likely costs at most, if no call of its kind was made yet.
    pub likely: Option<Credits>,
}

/// Estimates what requests cost before they are made. Without one, calls go by what their route has cost so far.
pub trait Estimator: Send + Sync {
    /// What this request may cost.
    fn estimate(&self, asked: &Asked<'_>) -> Estimate;
}

/// Knows routes, and nothing of their prices.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByRoute;

impl Estimator for ByRoute {
    fn estimate(&self, asked: &Asked<'_>) -> Estimate {
        Estimate { kind: format!("{} {}", asked.method, asked.path()), ..Estimate::default() }
    }
}

/// What a call needs, and its kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) kind: Option<String>,
    pub(super) need: Need,
}

/// What the payer knows of classes.
#[derive(Debug, Default)]
pub(super) struct Charges {
    costs: Costs,
    /// The classes that were used of late, the last one first.
    used: Vec<Credits>,
    /// The class that a call waits for now.
    awaited: Option<Credits>,
    /// The class that a call needed and no lane could pay.
    short: Option<Credits>,
    /// Whether the call that was looked at last waits until it is gathered.
    gathering: bool,
}

impl Charges {
    /// What the journal has of earlier calls.
    pub(super) fn restored(text: Option<&str>) -> Self {
        Self { costs: text.map(Costs::from_text).unwrap_or_default(), ..Self::default() }
    }

    fn use_class(&mut self, class: Credits) {
        self.used.retain(|used| *used != class);
        self.used.insert(0, class);
        self.used.truncate(KEPT);
    }
}

/// What the journal of a wallet has of earlier calls.
pub(super) fn restored<J: Journal>(wallet: &Wallet<J>) -> Charges {
    // Without it the costs are learned again.
    Charges::restored(wallet.journal().remembered(Costs::NOTE).ok().flatten().as_deref())
}

fn covering<J: Journal>(wallet: &Wallet<J>, policy: &Policy, cost: Credits) -> Option<Credits> {
    let classes = wallet.allowed_classes(policy);
    classes.iter().copied().find(|class| *class >= cost).or(classes.last().copied())
}

/// The spend of an entry, and what it cost. A pruned one lacks its proof, which is its end and of no matter here.
fn spend_of(entry: &JournalEntry) -> Option<(Spend, Credits)> {
    let mut bytes = entry.spend.clone();
    bytes.resize(Spend::LENGTH.max(bytes.len()), 0);
    let spend = Spend::from_bytes(&bytes).ok()?;
    let cost = spend.charge.checked_sub(entry.settlement.as_ref()?.refund)?;
    Some((spend, cost))
}

/// For an entry of the history: whether the class was too small for the call, as it cost all of its charge and no receipt shows that it
/// was worth no more. `costs` is what the wallet has learned of such calls since.
pub fn was_too_small<J: Journal>(wallet: &Wallet<J>, costs: &Costs, entry: &JournalEntry) -> Option<TooSmall> {
    let (spend, kept) = spend_of(entry)?;
    let class = spend.charge;
    if spend.purpose != Purpose::Session || kept != class || class.is_zero() {
        return None;
    }
    let directory = wallet.directory();
    let receipt = entry.outcome.as_ref().and_then(|outcome| outcome.receipt.as_deref());
    let price = receipt.and_then(|bytes| Receipt::from_bytes(bytes).ok()).and_then(|receipt| {
        let tariff = directory.parts().tariffs.iter().find(|tariff| tariff.digest() == spend.tariff);
        let tariff = tariff.filter(|_| !receipt.usage().is_empty())?;
        let usage = receipt.usage().iter().map(|(item, units)| (item.as_str(), *units));
        Some(tariff.cost(usage, directory.quantum()).unwrap_or(Credits::from_micro(u64::MAX)))
    });
    if price.is_some_and(|price| price <= class) {
        return None;
    }
    let now = entry.request.as_ref().and_then(|request| {
        let path = request.target.split('?').next().unwrap_or_default();
        let likely = costs.of_route(&format!("{} {path}", request.method))?;
        let mut larger: Vec<_> = directory.classes().iter().copied().filter(|larger| *larger > class).collect();
        larger.sort();
        larger.iter().copied().find(|larger| *larger >= likely).or(larger.last().copied())
    });
    Some(TooSmall { class, kept, now })
}

impl<J: Journal + 'static> Shared<J> {
    /// What a request needs. With one class for all calls nothing is looked at.
    pub(super) async fn wanted(self: &Arc<Self>, outgoing: &Arc<Outgoing>) -> Result<Wanted, CallError> {
        if outgoing.is_session() {
            return Ok(Wanted::default());
        }
        let (shared, asked) = (Arc::clone(self), Arc::clone(outgoing));
        let look = move || shared.estimate(&asked);
        let brief = !self.policy.choose || outgoing.body.len() <= BRIEF;
        let estimate =
            if brief { look() } else { tokio::task::spawn_blocking(look).await.map_err(|_| CallError::Stopped)? };
        let charges = self.charges();
        let floor = charges.costs.floor(&estimate.kind);
        let need = Need {
            most: estimate.most.map(|most| most.max(floor.unwrap_or(most))),
            likely: charges.costs.likely(&estimate.kind).or(estimate.likely),
        };
        Ok(Wanted { kind: Some(estimate.kind), need })
    }

    fn estimate(&self, outgoing: &Outgoing) -> Estimate {
        let terms = self.terms();
        let Outgoing { method, target, headers, body, .. } = outgoing;
        let Some(tariff) = terms.listed.callers_tariff(self.clock.now()) else { return Estimate::default() };
        let asked = Asked { method, target, headers, body, tariff, quantum: terms.listed.quantum() };
        if self.policy.choose { self.estimator.estimate(&asked) } else { ByRoute.estimate(&asked) }
    }

    /// The policy of a call on a budget: its classes are those that the budget allows now. A cap of the calls, or what is left of a day
    /// or in all, has a smaller class chosen. A call is refused that the budget allows no class for, or for which what is left now is less
    /// than such calls have cost: its answer would most likely be withheld, and paid for.
    pub(super) fn policy_within(
        &self,
        wallet: &mut Wallet<J>,
        budget: Option<&Budget>,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<Policy, CallError> {
        let policy = self.policy();
        let Some(budget) = budget else { return Ok(policy) };
        let classes = wallet.allowed_classes(&policy);
        let Some(least) = classes.first().copied() else { return Ok(policy) };
        wallet.check_budget(budget, least, now)?;
        // One class for all calls is no ceiling.
        if !policy.choose {
            return Ok(policy);
        }
        let ceiling = wallet.budget_ceiling(budget, now).map_err(CallError::Journal)?.unwrap_or(policy.class);
        let best = classes.iter().copied().rfind(|class| *class <= ceiling).unwrap_or(least);
        let bounded = wanted.need.most.is_some_and(|most| most <= best);
        let spent = |kind: &String| self.charges().costs.have_cost_more(kind, best);
        if !bounded && wanted.kind.as_ref().is_some_and(spent) {
            // With what the budget is when it is not used up, if that is more.
            let larger = classes.iter().copied().find(|class| *class > best);
            if let Some(larger) = larger.filter(|larger| budget.per_call.is_none_or(|cap| *larger <= cap)) {
                wallet.check_budget(budget, larger, now)?;
            }
        }
        Ok(Policy { class: policy.class.min(ceiling), ..policy })
    }

    /// Chooses the class of a call, and has proofs made for it.
    pub(super) fn choose(&self, wallet: &Wallet<J>, policy: &Policy, wanted: &Wanted, now: Timestamp) -> Choice {
        let choice = wallet.choose_class(policy, &wanted.need, now);
        let mut charges = self.charges();
        match choice {
            Choice::Pay(class) => {
                (charges.awaited, charges.gathering) = (Some(class), false);
                charges.use_class(class);
                let likely = wanted.need.likely.filter(|likely| *likely > class);
                charges.short =
                    likely.and_then(|likely| covering(wallet, policy, likely)).filter(|short| *short > class);
            }
            Choice::Gather(class) => (charges.short, charges.gathering) = (Some(class), true),
            Choice::Nothing => charges.gathering = false,
        }
        choice
    }

    /// What was learned so far.
    pub(super) fn costs(&self) -> Costs {
        self.charges().costs.clone()
    }

    /// No call waits for this class any more.
    pub(super) fn served(&self) {
        self.charges().awaited = None;
    }

    /// The classes to keep proofs ready for, the most wanted first, and which of them a call waits for.
    pub(super) fn classes_to_prove(&self, wallet: &Wallet<J>) -> (Vec<Credits>, Option<Credits>) {
        if !self.policy.choose {
            return (vec![self.policy.class], Some(self.policy.class));
        }
        let (mut classes, awaited, needs) = {
            let charges = self.charges();
            let awaited = charges.awaited.filter(|_| self.waiting() > 0);
            (charges.used.clone(), awaited, charges.costs.needs().take(KEPT).collect::<Vec<_>>())
        };
        let allowed = wallet.allowed_classes(&self.policy);
        if classes.is_empty() {
            // As the last calls of before, or a call of which nothing is known.
            let needs = needs.into_iter().map(|likely| Need { most: None, likely: Some(likely) });
            for need in needs.chain([Need::default()]).take(KEPT) {
                if let Choice::Pay(class) = wallet.choose_class(&self.policy, &need, self.clock.now())
                    && !classes.contains(&class)
                {
                    classes.push(class);
                }
            }
        }
        classes.retain(|class| allowed.contains(class));
        (classes, awaited)
    }

    /// The class that lanes should be able to pay, for which credit is moved in quiet times. None if no call was made yet.
    pub(super) fn class_to_gather(&self) -> Option<Credits> {
        if !self.policy.choose {
            return Some(self.policy.class);
        }
        let charges = self.charges();
        charges.short.or_else(|| charges.used.first().copied())
    }

    /// Whether a call waits until credit is gathered.
    pub(super) fn is_short(&self) -> bool {
        self.charges().gathering
    }

    /// Whether a directory has a class for this payer.
    pub(super) fn has_class(&self, directory: &Directory) -> bool {
        super::has_class(&self.policy, directory)
    }

    /// Learns from what a call came to. `kind` is that of the call, where it is known.
    /// `whole` says that all of its answer came for this.
    pub(super) fn learn_cost(&self, kind: Option<&str>, accepted: &Accepted, whole: bool) {
        let (Some(kind), false) = (kind, accepted.charge.is_zero()) else { return };
        // What cost all of its charge may have been cut short by it.
        match whole || accepted.cost < accepted.charge {
            true => self.change_costs(|costs| costs.cost(kind, accepted.cost)),
            false => {
                let now = self.too_small(Some(kind), accepted.charge, None);
                self.tell(&Event::TooSmall(TooSmall { class: accepted.charge, kept: accepted.cost, now }));
            }
        }
    }

    /// Learns that a class was too small; which one calls of this kind have now, if there is a larger one for them up to a cap.
    pub(super) fn too_small(&self, kind: Option<&str>, class: Credits, cap: Option<Credits>) -> Option<Credits> {
        let kind = kind.filter(|_| self.policy.choose)?;
        self.change_costs(|costs| costs.too_small(kind, class));
        let classes = self.terms().listed.classes().to_vec();
        let likely = self.charges().costs.likely(kind)?;
        let most = cap.unwrap_or(self.policy.class).min(self.policy.class);
        let allowed = classes.into_iter().filter(|allowed| *allowed <= most && *allowed > class);
        let mut larger: Vec<_> = allowed.collect();
        larger.sort();
        larger.iter().copied().find(|larger| *larger >= likely).or(larger.last().copied())
    }

    /// What a loss says about the class, in the error. Without a settlement it is a word of the gateway's, and changes nothing.
    pub(super) fn explained(&self, error: CallError, kind: Option<&str>, cap: Option<Credits>) -> CallError {
        match error {
            CallError::Failed { details, accepted } if details.kind() == Some(Problem::CapReached) => {
                let now = self.too_small(kind, accepted.charge, cap);
                let small = TooSmall { class: accepted.charge, kept: accepted.cost, now };
                CallError::TooSmall { small, accepted, details }
            }
            error => error,
        }
    }

    /// Changes what is known of costs, and keeps it if calls have other classes by it.
    fn change_costs(&self, change: impl FnOnce(&mut Costs)) {
        if !self.policy.choose {
            return;
        }
        let text = {
            let mut charges = self.charges();
            let before = charges.costs.clone();
            change(&mut charges.costs);
            let terms = self.terms();
            let class = |cost: Credits| terms.listed.classes().iter().filter(|class| **class < cost).count();
            charges.costs.moved(&before, class).then(|| charges.costs.to_text())
        };
        if let Some(text) = text {
            self.keeper.leave(move |wallet| {
                // It is learned again if it cannot be written.
                let _ = wallet.remember(Costs::NOTE, &text);
            });
        }
    }
}
