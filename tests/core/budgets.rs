//! Budgets: what the journal counts for one user of a wallet, through crashes and wrong clocks.

use halometer::protocol::*;
use halometer::wallet::{
    AuthoriseError, Budget, BudgetError, DisputeKind, Journal as _, LaneId, RootSecret, Spent, Wallet,
};

use crate::world::*;

fn reopened(world: &World, wallet: Wallet) -> Wallet {
    let (root, device) = (RootSecret::from_bytes([1; 32]), DeviceId::from_bytes([0; 8]));
    let signed = world.issuer.signed_directory();
    Wallet::new(root, device, world.root.public_key(), signed, wallet.into_journal()).unwrap()
}

fn pay_within(
    wallet: &mut Wallet,
    lane: LaneId,
    class: u64,
    budget: &Budget,
    now: Timestamp,
) -> Result<SpendKey, AuthoriseError> {
    let ready = ready(wallet, lane, class, now);
    wallet.authorise_within(ready, &request(), Some(budget), now).map(|authorised| authorised.key)
}

fn settle(world: &World, wallet: &mut Wallet, key: &SpendKey, cost: u64, now: Timestamp) {
    let opening = wallet.resend(key, &request()).unwrap();
    let settled = world.settle(&world.admit(&opening), cost);
    wallet.accept(key, settled.settlement(), now).unwrap();
}

fn spent(calls: u64, cost: u128, reserved: u128) -> Spent {
    let mut spent = Spent::default();
    (spent.calls, spent.cost, spent.reserved) = (calls, cost, reserved);
    spent
}

#[test]
fn a_charge_counts_from_the_pin_and_a_cost_from_the_settlement() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let budget = Budget::new("agent").with_total(Some(micro(15)));
    let key = pay_within(&mut wallet, LANE0, 10, &budget, T0).unwrap();
    let of = |wallet: &mut Wallet| wallet.spending().unwrap().total(Some("agent"));
    assert_eq!(of(&mut wallet), spent(1, 0, 10));
    assert_eq!(wallet.budget_ceiling(&budget, T0).unwrap(), Some(micro(5)));
    // What is under way may come back: that passes.
    let refused = wallet.check_budget(&budget, micro(10), T0);
    assert!(matches!(refused, Err(BudgetError::UnderWay { reserved: 10, .. })), "{refused:?}");
    // A crash. What is not known counts as it was charged.
    let mut wallet = reopened(&world, wallet);
    assert_eq!(of(&mut wallet), spent(1, 0, 10));
    assert!(wallet.check_budget(&budget, micro(10), T0).is_err());
    settle(&world, &mut wallet, &key, 3, T0);
    assert_eq!(of(&mut wallet), spent(1, 3, 0));
    assert!(wallet.check_budget(&budget, micro(10), T0).is_ok());
    let mut wallet = reopened(&world, wallet);
    assert_eq!(of(&mut wallet), spent(1, 3, 0));
    // Others' calls are not its own.
    assert_eq!(wallet.spending().unwrap().total(None), Spent::default());
    assert_eq!(wallet.journal().history(1).unwrap()[0].request.as_ref().unwrap().budget.as_deref(), Some("agent"));
}

#[test]
fn what_a_budget_refuses_is_not_pinned_and_costs_nothing() {
    let world = World::new();
    let mut wallet = world.funded(1);
    for (budget, what) in [
        (Budget::new("a").with_per_call(Some(micro(9))), "PerCall"),
        (Budget::new("a").with_total(Some(micro(9))), "Total"),
        // A day of it is never enough: no day brings that about.
        (Budget::new("a").with_per_day(Some(micro(9))), "PerCall"),
        (Budget::new("a").with_until(Some(T0)), "Ended"),
    ] {
        let refused = pay_within(&mut wallet, LANE0, 10, &budget, T0);
        let Err(AuthoriseError::Budget(error)) = refused else { panic!("{refused:?}") };
        assert!(format!("{error:?}").starts_with(what), "{error:?}");
        assert_eq!((wallet.balance().available, wallet.journal().history(1).unwrap().len()), (100, 0));
    }
    let fine = Budget::new("a").with_until(Some(T0.after(1))).with_per_call(Some(micro(10)));
    assert!(pay_within(&mut wallet, LANE0, 10, &fine, T0).is_ok());
}

#[test]
fn a_day_begins_at_midnight_and_never_twice() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let budget = Budget::new("agent").with_per_day(Some(micro(10)));
    let key = pay_within(&mut wallet, LANE0, 10, &budget, T0).unwrap();
    settle(&world, &mut wallet, &key, 10, T0);
    let refused = wallet.check_budget(&budget, micro(10), T0);
    let Err(BudgetError::PerDay { over_in, clock_behind: false, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((T0.seconds() + over_in) % DAY, 0);
    assert!(wallet.check_budget(&budget, micro(10), T0.after(over_in - 1)).is_err());
    assert!(wallet.check_budget(&budget, micro(10), T0.after(over_in)).is_ok());
    // A clock that is stepped back shows no day that has a budget of its own, in this process or the next.
    for mut wallet in [wallet, World::new().funded(1)] {
        if wallet.journal().history(1).unwrap().is_empty() {
            let key = pay_within(&mut wallet, LANE0, 10, &budget, T0).unwrap();
            assert!(wallet.spending().unwrap().total(Some("agent")).reserved > 0, "{key:?}");
        }
        let mut wallet = reopened(&world, wallet);
        for back in [1, 3 * DAY, 400 * DAY] {
            assert!(wallet.check_budget(&budget, micro(10), T0.before(back)).is_err(), "{back}");
        }
    }
}

#[test]
fn a_clock_that_is_stepped_back_revives_no_key() {
    let world = World::new();
    let mut wallet = world.funded(1);
    pay_within(&mut wallet, LANE0, 10, &Budget::new("other"), T0).unwrap();
    let ended = Budget::new("agent").with_until(Some(T0));
    let mut wallet = reopened(&world, wallet);
    assert!(matches!(wallet.check_budget(&ended, micro(10), T0.before(DAY)), Err(BudgetError::Ended { .. })));
}

#[test]
fn transfers_and_calls_without_a_budget_count_for_none() {
    let world = World::new();
    let mut wallet = world.funded(1);
    assert_eq!(wallet.spending().unwrap().totals().count(), 0);
    let sent = send(&mut wallet, [LANE0, LANE1], 20, T0);
    world.moved(&mut wallet, &sent, T0);
    assert_eq!(wallet.spending().unwrap().totals().count(), 0);
    let paid = pay(&mut wallet, LANE1, 10, T0);
    let settled = world.settle(&world.admit(&paid), 4);
    wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    let all: Vec<_> = wallet.spending().unwrap().totals().map(|(name, sum)| (name.map(str::to_owned), sum)).collect();
    assert_eq!(all, [(None, spent(1, 4, 0))]);
    let mut again = reopened(&world, wallet);
    assert_eq!(again.spending().unwrap().total(None), spent(1, 4, 0));
    assert!(again.journal().disputes().unwrap().iter().all(|dispute| dispute.kind != DisputeKind::BadSettlement));
}
