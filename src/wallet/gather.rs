//! Which credit to move between lanes, and when.

use super::lane::Lane;
use super::note::Note;
use super::{Journal, LaneId, Policy, Wallet};
use crate::protocol::{Credits, Timestamp};

/// A transfer that would help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The giving lane.
    pub from: LaneId,
    /// The taking lane.
    pub to: LaneId,
    /// How much: a denomination.
    pub amount: Credits,
}

impl<J: Journal> Wallet<J> {
    /// The transfer to make next so that more lanes can pay the policy's class: poor lanes are gathered into the richest of them,
    /// and when that is not enough a lane that is rich enough for two is divided. None when nothing helps, or enough lanes can
    /// pay. Repeated, it comes to an end: each transfer brings a lane above the class, or empties a poor one further into a
    /// richer poor one.
    pub fn suggest_transfer(&self, policy: &Policy, now: Timestamp) -> Option<Suggestion> {
        if !policy.gather {
            return None;
        }
        let class = policy.class.micro();
        let (mut able, mut poor): (Vec<_>, Vec<_>) = self.spendable(now).partition(|(_, value)| *value >= class);
        let wanted = usize::try_from(policy.lanes).unwrap_or(usize::MAX);
        if able.len() >= wanted {
            return None;
        }
        // The richest first; the order of lanes decides between equals.
        poor.sort_by_key(|(id, value)| (core::cmp::Reverse(*value), *id));
        able.sort_by_key(|(id, value)| (core::cmp::Reverse(*value), *id));
        let (to, has) = *poor.first()?;
        let lacking = class - has;
        let together: u128 = poor.iter().map(|(_, value)| u128::from(*value)).sum();
        if together >= u128::from(class) {
            // The one that can give all that lacks in one go, else the richest.
            let enough = |value: u64| self.denomination_for(lacking, value);
            let givers = &poor[1..];
            let whole = givers.iter().rev().find_map(|(from, value)| Some((*from, enough(*value)?)));
            let part = || givers.iter().find_map(|(from, value)| Some((*from, self.denomination_within(*value)?)));
            if let Some((from, amount)) = whole.or_else(part) {
                return Some(Suggestion { from, to, amount: Credits::from_micro(amount) });
            }
        }
        // A rich lane gives so much that it can still pay itself.
        let (from, value) = *able.first()?;
        let amount = self.denomination_for(lacking, value - class)?;
        Some(Suggestion { from, to, amount: Credits::from_micro(amount) })
    }

    /// Lanes to be rolled over: their epoch issues no more, and another does. Those whose epoch ends within the policy's time come
    /// first, and the flag says that they should not wait for a quiet time.
    pub fn suggest_rollovers(&self, policy: &Policy, now: Timestamp) -> Vec<(LaneId, bool)> {
        let Some(issuing) = self.directory().issuing(now).map(|epoch| epoch.number) else { return Vec::new() };
        let old = self.lanes.iter().filter_map(|(id, lane)| match lane {
            Lane::Idle(note) if note.unspent && note.epoch != issuing && note.value() > 0 => {
                Some((*id, note.epoch)).filter(|_| !self.is_resting(*id, note, now))
            }
            _ => None,
        });
        let urgent = |until: Timestamp| until <= now.after(policy.roll_over_seconds);
        let mut lanes: Vec<_> = old
            .filter_map(|(id, epoch)| {
                let spend = self.directory().epoch(epoch)?.spend;
                spend.contains(now).then(|| (id, urgent(spend.until)))
            })
            .collect();
        lanes.sort_by_key(|(id, urgent)| (!urgent, *id));
        lanes
    }

    fn spendable(&self, now: Timestamp) -> impl Iterator<Item = (LaneId, u64)> + '_ {
        let usable = move |id: LaneId, note: &Note| {
            note.unspent && self.is_spendable(note.epoch, now) && !self.is_resting(id, note, now)
        };
        self.lanes.iter().filter_map(move |(id, lane)| match lane {
            Lane::Idle(note) => Some(note).filter(|note| usable(*id, note)).map(|note| (*id, note.value())),
            _ => None,
        })
    }

    /// The least denomination that is at least `least` and at most `most`.
    fn denomination_for(&self, least: u64, most: u64) -> Option<u64> {
        self.denominations().find(|amount| *amount >= least).filter(|amount| *amount <= most)
    }

    /// The greatest denomination that is at most `most`.
    fn denomination_within(&self, most: u64) -> Option<u64> {
        self.denominations().take_while(|amount| *amount <= most).last()
    }

    /// 1, 2 and 5 times the powers of ten of the quantum, in order.
    fn denominations(&self) -> impl Iterator<Item = u64> + use<J> {
        let quantum = self.directory().quantum().micro();
        let powers = core::iter::successors(Some(quantum), |power| power.checked_mul(10));
        powers.flat_map(|power| [1, 2, 5].into_iter().filter_map(move |digit| power.checked_mul(digit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PaymentId;
    use crate::testing::world::*;

    fn wallet(values: [u64; 8]) -> Wallet {
        let world = World::without_keys();
        let (payment, amounts) = (PaymentId::from_bytes([9; 32]), values.map(micro));
        world.payments.grant(payment, Credits::checked_sum(amounts).unwrap()).unwrap();
        let mut wallet = world.wallet(1);
        let minted = world.issuer.mint(&wallet.request_mint(payment, amounts, T0).unwrap(), T0).unwrap();
        wallet.accept_mint(&payment, &minted, T0).unwrap();
        wallet
    }

    fn policy(lanes: u32) -> Policy {
        Policy { lanes, ..Policy::personal(micro(20)) }
    }

    fn suggested(values: [u64; 8], lanes: u32) -> Option<(u32, u32, u64)> {
        let suggestion = wallet(values).suggest_transfer(&policy(lanes), T0)?;
        Some((suggestion.from.lane, suggestion.to.lane, suggestion.amount.micro()))
    }

    #[test]
    fn denominations_are_those_of_the_directory() {
        let wallet = wallet([1, 0, 0, 0, 0, 0, 0, 0]);
        let all: Vec<u64> = wallet.denominations().collect();
        assert!(all.is_sorted() && all.len() > 50);
        assert!(all.iter().all(|amount| wallet.directory().has_denomination(micro(*amount))));
    }

    #[test]
    fn nothing_is_moved_without_need_or_leave() {
        assert_eq!(suggested([20, 20, 19, 19, 0, 0, 0, 0], 2), None, "enough lanes can pay");
        assert_eq!(suggested([0; 8], 1), None, "there is nothing to move");
        assert_eq!(suggested([39, 0, 0, 0, 0, 0, 0, 0], 2), None, "it would take from a lane what it needs itself");
        let never = Policy { gather: false, ..policy(8) };
        assert_eq!(wallet([19; 8]).suggest_transfer(&never, T0), None);
        assert_eq!(wallet([19; 8]).suggest_transfer(&policy(8), T0.after(30 * DAY)), None, "nothing is spendable");
    }

    #[test]
    fn poor_lanes_are_gathered_before_rich_ones_are_divided() {
        assert_eq!(
            suggested([0, 15, 3, 12, 100, 0, 0, 0], 2),
            Some((3, 1, 5)),
            "the poorest that can give all that lacks"
        );
        assert_eq!(suggested([12, 4, 4, 4, 0, 0, 0, 0], 1), Some((1, 0, 2)), "a part, if nobody has it all");
        assert_eq!(suggested([100, 5, 5, 0, 0, 0, 0, 0], 2), Some((0, 1, 20)), "15 lack, 20 is the next denomination");
    }

    #[test]
    fn gathering_comes_to_an_end_and_loses_nothing() {
        for values in [[19; 8], [1, 2, 3, 4, 5, 6, 7, 8], [160, 0, 0, 0, 0, 0, 0, 0], [13, 7, 1, 1, 90, 0, 19, 19]] {
            let (mut values, sum) = (values, values.iter().sum::<u64>());
            let mut moves = 0;
            while let Some((from, to, amount)) = suggested(values, 8) {
                values[from as usize] -= amount;
                values[to as usize] += amount;
                moves += 1;
                assert!(moves < 40, "{values:?}");
            }
            assert_eq!(values.iter().sum::<u64>(), sum);
            let poor: u64 = values.iter().filter(|value| **value < 20).sum();
            assert!(poor < 20, "{values:?}");
        }
    }
}
