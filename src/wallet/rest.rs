//! The rest of fresh credit: how long after its mint it is first used.
//!
//! The issuer knows which caller had a payment minted, and when. A call that follows at once, under the epoch of that mint, is
//! likely the same caller's. So the first use of each payment waits: for the time of the policy, and for as much again as chance
//! adds to it.

use super::lane::{Lane, LaneId};
use super::note::Note;
use super::{Journal, Wallet};
use crate::protocol::{Credits, Timestamp};

const REST: &[u8; 16] = b"halometer1-rest.";

impl<J: Journal> Wallet<J> {
    /// Has fresh credit rest for at least so many seconds after its mint was requested, and at most for twice as many; never for more
    /// than half of the time that its epoch leaves. How long within these bounds is drawn for each payment from the root secret, so that
    /// it is the same after a restart. 0, as a wallet has it by itself, is none.
    pub fn let_rest(&mut self, seconds: u32) {
        self.rest_seconds = seconds;
    }

    /// When the first of the resting lanes that could pay so much can be used; none if no such lane rests.
    pub fn resting_until(&self, class: Credits, now: Timestamp) -> Option<Timestamp> {
        let able = self.lanes.iter().filter_map(|(id, lane)| match lane {
            Lane::Idle(note) if note.value() >= class.micro() && self.is_spendable(note.epoch, now) => {
                self.rests_until(*id, note).filter(|until| now < *until)
            }
            _ => None,
        });
        able.min()
    }

    pub(super) fn is_resting(&self, lane: LaneId, note: &Note, now: Timestamp) -> bool {
        self.rests_until(lane, note).is_some_and(|until| now < until)
    }

    pub(super) fn rests_until(&self, lane: LaneId, note: &Note) -> Option<Timestamp> {
        // What was spent or moved once is no mint's any more.
        if self.rest_seconds == 0 || note.index > 0 {
            return None;
        }
        let payment = self.payments.values().find(|payment| payment.number == lane.payment)?;
        let requested = payment.requested_at?;
        let drawn = self.root.derive(REST, &[self.directory.issuer().as_bytes(), &lane.payment.to_be_bytes()]);
        let drawn = drawn.iter().take(8).fold(0_u64, |drawn, byte| drawn << 8 | u64::from(*byte));
        let least = u64::from(self.rest_seconds);
        let whole = least + drawn % (least + 1);
        let left = self.directory.epoch(note.epoch)?.spend.until.seconds().saturating_sub(requested.seconds());
        Some(requested.after(whole.min(left / 2)))
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::*;
    use crate::testing::world::*;
    use crate::wallet::{LaneId, PlanError, Policy};

    #[test]
    fn fresh_credit_rests_and_what_was_spent_does_not() {
        let world = World::without_keys();
        let payment = PaymentId::from_bytes([9; 32]);
        world.payments.grant(payment, micro(800)).unwrap();
        let mut wallet = world.wallet(1);
        let request = wallet.request_mint(payment, [micro(100); LANES], T0).unwrap();
        let answer = world.issuer.mint(&request, T0).unwrap();
        wallet.accept_mint(&payment, &answer, T0).unwrap();
        let (gateway, class) = (GATEWAY, micro(20));
        assert_eq!(wallet.lanes_to_prove(&gateway, class, T0).len(), 8, "without a policy it does not rest");

        wallet.let_rest(600);
        let until = wallet.resting_until(class, T0).unwrap();
        assert!((T0.after(600)..=T0.after(1_200)).contains(&until), "{until:?}");
        assert!(wallet.lanes_to_prove(&gateway, class, until.before(1)).is_empty());
        let lane = LaneId { payment: 0, lane: 0 };
        let refused = wallet.plan(lane, &gateway, class, until.before(1));
        assert!(
            matches!(refused, Err(PlanError::Resting { lane: refused, until: at }) if refused == lane && at == until)
        );
        let policy = Policy { lanes: 8, ..Policy::personal(micro(150)) };
        assert!(wallet.suggest_transfer(&policy, until.before(1)).is_none(), "a transfer is a use");
        assert!(wallet.suggest_transfer(&policy, until).is_some());
        assert_eq!(wallet.lanes_to_prove(&gateway, class, until).len(), 8);
        assert_eq!(wallet.resting_until(class, until), None);
        // However long it is said to be, most of the epoch is left.
        wallet.let_rest(u32::MAX);
        let end = wallet.directory().epochs()[0].spend.until;
        assert!(wallet.resting_until(class, T0).unwrap().seconds() <= T0.seconds().midpoint(end.seconds()));
    }
}
