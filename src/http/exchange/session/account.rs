//! What a session has spent, and what it has promised. Without clock, sockets and threads.

use std::collections::BTreeMap;

use crate::gateway::{ReplayWindow, Replayed};
use crate::http::pricing::{Metered, Rates};
use crate::protocol::{Credits, Receipt};

/// The account of one session.
///
/// At any moment `cost + reserved <= cap`, where `cost` is what the calls that ended come to together and `reserved` what is held
/// ready for those that run. A call begins only if its worst case fits beside both, and is stopped at what was reserved for it, so
/// that the session never costs more than its charge, however many calls run at once.
#[derive(Debug)]
pub(super) struct Account {
    /// The prices, and the charge.
    rates: Rates,
    window: ReplayWindow,
    running: BTreeMap<u64, Part>,
    /// Units of the calls that ended. They are priced together, so that rounding up costs the caller once and not at each call.
    usage: BTreeMap<String, u64>,
    /// What the others cost, whose usage is not known or has no price.
    flat: Credits,
    closing: bool,
    /// What is to be written down has changed since it was.
    changed: bool,
    /// Whether a call came to more than was reserved for it.
    overrun: bool,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    reserved: Credits,
    so_far: Credits,
}

/// Why a call was not begun. Nothing was done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotBegun {
    #[error(transparent)]
    Replayed(#[from] Replayed),
    #[error("the session is being closed")]
    Closing,
    #[error("the call may cost more than is left of the session's charge, beside what calls that still run may cost")]
    CapReached,
}

impl Account {
    pub(super) fn new(rates: Rates) -> Self {
        Self {
            rates,
            window: ReplayWindow::default(),
            running: BTreeMap::new(),
            usage: BTreeMap::new(),
            flat: Credits::ZERO,
            closing: false,
            changed: false,
            overrun: false,
        }
    }

    /// Begins the call with this number, and reserves `most`, or all that is left if the call cannot be told the most of. Gives what
    /// the call is priced by: it may cost what was reserved and no more. A number is used up even by a call that is refused.
    pub(super) fn begin(&mut self, number: u64, most: Option<&Metered>) -> Result<Rates, NotBegun> {
        if self.closing {
            return Err(NotBegun::Closing);
        }
        self.window.see(number)?;
        let left = self.left();
        let (reserved, rates) = match most.map(|most| self.rates.price(most)) {
            Some(Some(price)) if price > left => return Err(NotBegun::CapReached),
            Some(Some(price)) => (price, self.rates.capped(price)),
            // What cannot be told, or has no price, may come to anything.
            Some(None) | None if left.is_zero() => return Err(NotBegun::CapReached),
            // Once, an answer that the whole charge would have paid for is given for what is left of it.
            Some(None) | None if self.overrun => (left, self.rates.capped(left)),
            Some(None) | None => (left, self.rates.left(left)),
        };
        self.running.insert(number, Part { reserved, so_far: Credits::ZERO });
        Ok(rates)
    }

    /// A call that runs has come to so much by now.
    pub(super) fn note(&mut self, number: u64, so_far: Credits) {
        if let Some(part) = self.running.get_mut(&number) {
            part.so_far = part.so_far.max(so_far.min(part.reserved));
            self.changed = true;
        }
    }

    /// A call is over. Gives what it cost, by itself.
    pub(super) fn end(&mut self, number: u64, metered: &Metered) -> Credits {
        let Some(part) = self.running.remove(&number) else { return Credits::ZERO };
        self.changed = true;
        let cost = self.rates.capped(part.reserved).cost(metered);
        let price = self.rates.price(metered);
        let priced = price.is_some_and(|price| price <= part.reserved);
        self.overrun |= price.is_some_and(|price| price > part.reserved);
        match metered {
            Metered::Usage(units) if priced && self.has_room(units) => {
                for (item, units) in units {
                    let sum = self.usage.entry(item.clone()).or_default();
                    *sum = sum.saturating_add(*units);
                }
            }
            _ => self.flat = sum(self.flat, cost),
        }
        cost
    }

    /// A call has gone without an end, by a bug: it costs what it had come to.
    pub(super) fn abandon(&mut self, number: u64) {
        let so_far = self.running.get(&number).map_or(Credits::ZERO, |part| part.so_far);
        self.end(number, &Metered::Cost(so_far));
    }

    /// No call begins any more.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// No call runs, and none will.
    pub(super) fn is_over(&self) -> bool {
        self.closing && self.running.is_empty()
    }

    /// What is to be written down now, if that has changed: what it comes to if everything ends here.
    pub(super) fn take_unwritten(&mut self) -> Option<Credits> {
        core::mem::take(&mut self.changed).then(|| self.so_far())
    }

    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// What it comes to if everything ends here.
    pub(super) fn so_far(&self) -> Credits {
        self.running.values().fold(self.cost(), |all, part| sum(all, part.so_far)).min(self.rates.cap())
    }

    /// The units of all calls, for the receipt; none if they do not say all that it cost.
    pub(super) fn units(&self) -> Vec<(String, u64)> {
        match self.flat.is_zero() {
            true => self.usage.iter().map(|(item, units)| (item.clone(), *units)).collect(),
            false => Vec::new(),
        }
    }

    /// What the calls that ended cost together. The price of all their units is at most the sum of the prices of each, as prices
    /// are rounded up.
    fn cost(&self) -> Credits {
        let units = self.usage.iter().map(|(item, units)| (item.clone(), *units)).collect::<Vec<_>>();
        let priced = if units.is_empty() { Credits::ZERO } else { self.rates.cost(&Metered::Usage(units)) };
        sum(priced, self.flat)
    }

    /// What neither was spent nor is promised.
    fn left(&self) -> Credits {
        let taken = self.running.values().fold(self.cost(), |all, part| sum(all, part.reserved));
        self.rates.cap().checked_sub(taken).unwrap_or(Credits::ZERO)
    }

    /// Whether a receipt can still say all units.
    fn has_room(&self, units: &[(String, u64)]) -> bool {
        let new = units.iter().filter(|(item, _)| !self.usage.contains_key(item)).count();
        self.usage.len() + new <= Receipt::MAX_ITEMS
    }
}

fn sum(one: Credits, other: Credits) -> Credits {
    Credits::from_micro(one.micro().saturating_add(other.micro()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{Price, Tariff, Timestamp, Window};

    fn account(cap: u64) -> Account {
        let valid = Window { from: Timestamp::from_seconds(0), until: Timestamp::MAX };
        let price = |item: &str, micro, per| Price { item: item.to_owned(), credits: Credits::from_micro(micro), per };
        let tariff = Tariff::new(valid, vec![price("call", 10, 1), price("token", 7, 3)]).ok();
        Account::new(Rates::new(tariff, Credits::from_micro(5), Credits::from_micro(cap)))
    }

    fn calls(units: u64) -> Metered {
        Metered::usage([("call", units)])
    }

    fn tokens(units: u64) -> Metered {
        Metered::usage([("token", units)])
    }

    const fn micro(credits: u64) -> Credits {
        Credits::from_micro(credits)
    }

    #[test]
    fn a_call_begins_only_if_its_worst_case_fits() {
        let mut account = account(100);
        account.begin(1, Some(&calls(6))).unwrap();
        assert_eq!(account.begin(2, Some(&calls(5))).unwrap_err(), NotBegun::CapReached);
        account.begin(3, Some(&calls(4))).unwrap();
        assert_eq!(account.begin(4, Some(&calls(1))).unwrap_err(), NotBegun::CapReached);
        // What was reserved and not used can be used by others.
        assert_eq!(account.end(1, &calls(1)), micro(10));
        account.begin(5, Some(&calls(5))).unwrap();
        assert_eq!(account.begin(6, Some(&calls(1))).unwrap_err(), NotBegun::CapReached);
        account.begin(7, Some(&calls(0))).unwrap();
    }

    #[test]
    fn a_call_never_costs_more_than_was_reserved_for_it() {
        let mut account = account(100);
        let rates = account.begin(1, Some(&calls(2))).unwrap();
        assert!(!rates.exceeds(&calls(2)) && rates.exceeds(&calls(3)));
        assert_eq!(account.end(1, &calls(50)), micro(20));
        assert_eq!(account.so_far(), micro(20));
        account.begin(2, Some(&calls(2))).unwrap();
        account.note(2, micro(999));
        assert_eq!(account.so_far(), micro(40));
        assert_eq!(account.end(2, &Metered::Charge), micro(20), "what has no price costs what was reserved");
        assert!(account.units().is_empty(), "the units do not say all that it cost");
    }

    #[test]
    fn what_cannot_be_told_the_most_of_takes_all_that_is_left() {
        let mut account = account(100);
        account.begin(1, Some(&calls(3))).unwrap();
        let rates = account.begin(2, None).unwrap();
        assert!(!rates.exceeds(&calls(7)) && rates.exceeds(&calls(8)));
        assert_eq!(account.begin(3, None).unwrap_err(), NotBegun::CapReached);
        assert_eq!(account.begin(4, Some(&Metered::Charge)).unwrap_err(), NotBegun::CapReached);
        account.end(2, &calls(1));
        assert!(!account.begin(5, None).unwrap().withholds(&calls(10)));
        // An item without a price costs nothing, and reserves nothing.
        assert!(account.begin(7, Some(&Metered::usage([("unknown", 1)]))).is_ok());
        assert_eq!(account.begin(6, Some(&calls(1))).unwrap_err(), NotBegun::CapReached);
    }

    #[test]
    fn reservations_let_only_one_answer_go_for_less_than_its_cost() {
        let mut account = account(100);
        account.begin(1, Some(&calls(9))).unwrap();
        let rates = account.begin(2, None).unwrap();
        assert!(!rates.withholds(&calls(10)) && rates.withholds(&calls(11)));
        assert_eq!(account.end(2, &calls(10)), micro(10));
        // The first call turns out to be cheap, so that there is much left again.
        assert_eq!(account.end(1, &calls(1)), micro(10));
        account.begin(3, Some(&calls(7))).unwrap();
        let rates = account.begin(4, None).unwrap();
        assert!(!rates.withholds(&calls(1)) && rates.withholds(&calls(2)));
    }

    #[test]
    fn a_number_is_used_once_even_by_a_call_that_is_refused() {
        let mut account = account(10);
        account.begin(1, Some(&calls(1))).unwrap();
        assert_eq!(account.begin(1, Some(&calls(0))).unwrap_err(), NotBegun::Replayed(Replayed));
        assert_eq!(account.begin(2, Some(&calls(1))).unwrap_err(), NotBegun::CapReached);
        assert_eq!(account.begin(2, Some(&calls(0))).unwrap_err(), NotBegun::Replayed(Replayed));
    }

    #[test]
    fn rounding_up_is_paid_once() {
        let mut account = account(1_000);
        // By itself a token costs 7/3, rounded up to 5.
        for number in 0..9 {
            account.begin(number, Some(&tokens(1))).unwrap();
            assert_eq!(account.end(number, &tokens(1)), micro(5));
        }
        assert_eq!(account.so_far(), micro(25), "9 tokens cost 21");
        assert_eq!(account.units(), [("token".to_owned(), 9)]);
    }

    #[test]
    fn after_closing_nothing_begins_and_what_runs_goes_on() {
        let mut account = account(100);
        account.begin(1, Some(&calls(1))).unwrap();
        account.close();
        assert!(!account.is_over());
        assert_eq!(account.begin(2, Some(&calls(0))).unwrap_err(), NotBegun::Closing);
        account.note(1, micro(5));
        assert_eq!(account.take_unwritten(), Some(micro(5)));
        assert_eq!(account.take_unwritten(), None);
        account.abandon(1);
        assert!(account.is_over());
        assert_eq!((account.so_far(), account.end(1, &calls(9))), (micro(5), Credits::ZERO));
    }

    #[test]
    fn there_are_only_so_many_items_to_a_receipt() {
        let mut account = account(1 << 40);
        account.begin(0, None).unwrap();
        let many: Vec<_> = (0..Receipt::MAX_ITEMS).map(|n| (format!("item{n}"), 0)).collect();
        account.usage = many.into_iter().collect();
        assert!(!account.has_room(&[("call".to_owned(), 1)]) && account.has_room(&[("item3".to_owned(), 1)]));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin(u64, Option<u64>),
        Note(u64, u64),
        End(u64, u64),
        EndFlat(u64, u64),
        Charge(u64),
        Abandon(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let number = 0..12u64;
        prop_oneof![
            (number.clone(), prop::option::of(0..40u64)).prop_map(|(number, most)| Step::Begin(number, most)),
            (number.clone(), 0..200u64).prop_map(|(number, so_far)| Step::Note(number, so_far)),
            (number.clone(), 0..60u64).prop_map(|(number, units)| Step::End(number, units)),
            (number.clone(), 0..200u64).prop_map(|(number, cost)| Step::EndFlat(number, cost)),
            number.clone().prop_map(Step::Charge),
            number.prop_map(Step::Abandon),
        ]
    }

    proptest! {
        /// Whatever the order of what happens: what is spent and promised is never above the charge, and a session costs at most what
        /// its calls cost one by one.
        #[test]
        fn a_session_never_costs_more_than_its_charge(cap in 0..50u64, steps in prop::collection::vec(step(), 0..80)) {
            let mut account = account(cap * 5);
            let mut alone = 0;
            // Numbers are used once, so that each step that begins a call gets a fresh one.
            let mut names = BTreeMap::new();
            for (fresh, step) in steps.into_iter().enumerate() {
                let name = |number: &u64| names.get(number).copied().unwrap_or(u64::MAX);
                match step {
                    Step::Begin(number, most) => {
                        if names.contains_key(&number) && account.running.contains_key(&name(&number)) { continue }
                        if account.begin(fresh as u64, most.map(tokens).as_ref()).is_ok() {
                            names.insert(number, fresh as u64);
                        }
                    }
                    Step::Note(number, so_far) => account.note(name(&number), micro(so_far)),
                    Step::End(number, units) => alone += account.end(name(&number), &tokens(units)).micro(),
                    Step::EndFlat(number, cost) => alone += account.end(name(&number), &Metered::Cost(micro(cost))).micro(),
                    Step::Charge(number) => alone += account.end(name(&number), &Metered::Charge).micro(),
                    Step::Abandon(number) => {
                        alone += account.running.get(&name(&number)).map_or(0, |part| part.so_far.micro().next_multiple_of(5));
                        account.abandon(name(&number));
                    }
                }
                let reserved: u64 = account.running.values().map(|part| part.reserved.micro()).sum();
                prop_assert!(account.cost().micro() + reserved <= cap * 5);
                prop_assert!(account.so_far().micro() <= cap * 5);
                prop_assert!(account.cost().micro() <= alone);
                prop_assert!(account.cost().is_multiple_of(micro(5)));
            }
        }
    }
}
