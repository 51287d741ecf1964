//! Which charge class pays for a call.
//!
//! A class that is too large costs nothing, as the refund is exact; one that is too small costs the class and the answer. So a call
//! takes the least class that is sure to be enough, and where that cannot be told or paid, the largest that can be.

use super::lane::{Lane, LaneId};
use super::note::Note;
use super::{Journal, Policy, Wallet};
use crate::protocol::{Credits, Timestamp};

/// What a call may cost, as far as it can be told before it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// What it costs at most, by its own word.
    pub most: Option<Credits>,
    /// What it most likely costs at most, by what such calls have cost.
    pub likely: Option<Credits>,
}

/// The class for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// A lane can pay this class, now or when its settlement comes.
    Pay(Credits),
    /// No lane can pay this class, and the lanes together can: gather them first.
    Gather(Credits),
    /// The lanes together cannot pay, or they may not be gathered.
    Nothing,
}

impl<J: Journal> Wallet<J> {
    /// The charge classes that the policy allows, ascending: its one class, or all up to its ceiling. It depends on the pinned directory
    /// and the policy alone, and on nothing that a gateway says.
    pub fn allowed_classes(&self, policy: &Policy) -> Vec<Credits> {
        let allowed = |class: &Credits| if policy.choose { *class <= policy.class } else { *class == policy.class };
        let mut classes: Vec<_> = self.directory().classes().iter().copied().filter(allowed).collect();
        classes.sort();
        classes
    }

    /// Chooses the class for a call. In this order: the least that covers what the call costs at most; the least that covers what it
    /// most likely costs; the largest that a lane can pay. Where that would be less than the call most likely costs, and the lanes
    /// together have enough, they are to be gathered first.
    pub fn choose_class(&self, policy: &Policy, need: &Need, now: Timestamp) -> Choice {
        let classes = self.allowed_classes(policy);
        let Some(largest) = classes.last().copied() else { return Choice::Nothing };
        // What is above the ceiling is paid with the ceiling.
        let covering = |cost: Credits| classes.iter().copied().find(|class| *class >= cost).unwrap_or(largest);
        let richest = self.payable(now);
        let payable = |class: Credits| richest.is_some_and(|richest| class <= richest);
        let wishes = [need.most, need.likely].into_iter().flatten().map(covering);
        if let Some(class) = wishes.min_by_key(|class| (!payable(*class), *class)).filter(|class| payable(*class)) {
            // Of two that can be paid the one that is sure to be enough.
            let sure = need.most.map(covering).filter(|sure| payable(*sure));
            return Choice::Pay(sure.unwrap_or(class));
        }
        let best = classes.iter().copied().rfind(|class| payable(*class));
        // For what cannot be used yet no call waits that can be paid now.
        let together = if policy.gather { self.together(now, best.is_none()) } else { 0 };
        let can_gather = |class: &Credits| u128::from(class.micro()) <= together;
        let wanted = [need.likely, need.most].into_iter().flatten().next().map(covering);
        let gathered = match wanted {
            // Short of that, as much of it as there is.
            Some(wanted) => classes.iter().copied().rfind(|class| *class <= wanted && can_gather(class)),
            None => classes.first().copied().filter(can_gather),
        };
        match (best, gathered) {
            (Some(best), Some(gathered)) if need.likely.is_some() && gathered > best => Choice::Gather(gathered),
            (Some(best), _) => Choice::Pay(best),
            (None, Some(gathered)) => Choice::Gather(gathered),
            (None, None) => Choice::Nothing,
        }
    }

    /// The most that one lane can pay, now or as soon as it is known what its note is worth. What rests or is held cannot.
    fn payable(&self, now: Timestamp) -> Option<Credits> {
        let value = |(id, lane): (&LaneId, &Lane)| match lane {
            Lane::Idle(note) => self.is_free(*id, note, now).then(|| note.value()),
            Lane::InFlight(flight) if !flight.pursuit.disputed() => {
                Some(flight.spend.charge.micro().saturating_add(*flight.hidden))
            }
            Lane::InFlight(_) | Lane::Frozen(_) => None,
        };
        self.lanes.iter().filter_map(value).max().map(Credits::from_micro)
    }

    /// What the lanes that can be gathered have together: now, or `ever`.
    fn together(&self, now: Timestamp, ever: bool) -> u128 {
        let value = |(id, lane): (&LaneId, &Lane)| match lane {
            // One that is not asked about yet may be gathered as soon as it is.
            Lane::Idle(note) if ever && self.is_spendable(note.epoch, now) => u128::from(note.value()),
            Lane::Idle(note) if self.is_free(*id, note, now) => u128::from(note.value()),
            _ => 0,
        };
        self.lanes.iter().map(value).sum()
    }

    /// Whether a note can be spent now, if no copy of the wallet has.
    fn is_free(&self, lane: LaneId, note: &Note, now: Timestamp) -> bool {
        let held = !note.unspent && self.held_until(lane, now).is_some();
        !held && self.is_spendable(note.epoch, now) && !self.is_resting(lane, note, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PaymentId;
    use crate::testing::world::*;

    /// The classes of this world are 5, 10 and 20.
    fn chosen(values: [u64; 8], policy: Policy, most: Option<u64>, likely: Option<u64>) -> Choice {
        let world = World::without_keys();
        let (payment, amounts) = (PaymentId::from_bytes([9; 32]), values.map(micro));
        world.payments.grant(payment, Credits::checked_sum(amounts).unwrap()).unwrap();
        let mut wallet = world.wallet(1);
        let minted = world.issuer.mint(&wallet.request_mint(payment, amounts, T0).unwrap(), T0).unwrap();
        wallet.accept_mint(&payment, &minted, T0).unwrap();
        wallet.choose_class(&policy, &Need { most: most.map(micro), likely: likely.map(micro) }, T0)
    }

    fn up_to(ceiling: u64) -> Policy {
        Policy::personal(micro(ceiling)).choosing()
    }

    const RICH: [u64; 8] = [100, 100, 0, 0, 0, 0, 0, 0];

    #[test]
    fn a_call_takes_the_least_class_that_is_sure() {
        for (most, likely, class) in [
            (Some(1), None, 5),
            (Some(5), None, 5),
            (Some(6), None, 10),
            (Some(6), Some(1), 10),
            (Some(5), Some(19), 5),
            (None, Some(6), 10),
            (None, None, 20),
            (Some(21), None, 20),
            (Some(u64::MAX), Some(u64::MAX), 20),
        ] {
            assert_eq!(chosen(RICH, up_to(20), most, likely), Choice::Pay(micro(class)), "{most:?} {likely:?}");
        }
    }

    #[test]
    fn the_ceiling_holds_and_an_exact_class_is_exact() {
        assert_eq!(chosen(RICH, up_to(10), Some(15), None), Choice::Pay(micro(10)));
        assert_eq!(chosen(RICH, up_to(10), None, None), Choice::Pay(micro(10)));
        assert_eq!(chosen(RICH, up_to(19), None, None), Choice::Pay(micro(10)), "a ceiling need be no class");
        assert_eq!(chosen(RICH, up_to(4), None, None), Choice::Nothing);
        for most in [None, Some(1), Some(20)] {
            assert_eq!(chosen(RICH, Policy::personal(micro(10)), most, most), Choice::Pay(micro(10)));
        }
        assert_eq!(chosen(RICH, Policy::personal(micro(7)), None, None), Choice::Nothing);
    }

    #[test]
    fn what_no_lane_can_pay_is_gathered_if_it_is_needed() {
        let poor = [12, 12, 0, 0, 0, 0, 0, 0];
        assert_eq!(chosen(poor, up_to(20), Some(20), None), Choice::Pay(micro(10)), "it may do");
        assert_eq!(chosen(poor, up_to(20), Some(20), Some(3)), Choice::Pay(micro(5)), "it did until now");
        assert_eq!(chosen(poor, up_to(20), Some(20), Some(15)), Choice::Gather(micro(20)), "it would not do");
        assert_eq!(chosen(poor, up_to(20), None, None), Choice::Pay(micro(10)));
        let never = Policy { gather: false, ..up_to(20) };
        assert_eq!(chosen(poor, never, Some(20), Some(15)), Choice::Pay(micro(10)));
        let dust = [4, 4, 0, 0, 0, 0, 0, 0];
        assert_eq!(chosen(dust, up_to(20), None, None), Choice::Gather(micro(5)));
        assert_eq!(chosen(dust, up_to(20), Some(20), None), Choice::Gather(micro(5)), "as much as there is");
        assert_eq!(chosen(dust, Policy { gather: false, ..up_to(20) }, None, None), Choice::Nothing);
        assert_eq!(chosen([1, 0, 0, 0, 0, 0, 0, 0], up_to(20), None, None), Choice::Nothing);
        assert_eq!(chosen(poor, Policy::personal(micro(20)), None, None), Choice::Gather(micro(20)));
    }
}
