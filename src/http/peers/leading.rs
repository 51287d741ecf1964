//! Whether this replica leads.

use std::time::{Duration, Instant};

use crate::store::{Claim, HeldLease};

/// What is left of a lease at its end without use: a store may count whole seconds only.
const MARGIN: Duration = Duration::from_secs(1);

/// The lease of the leader, as its holder believes in it.
#[derive(Debug)]
pub(super) struct Leading {
    pub(super) lease: HeldLease,
    /// Counted from before it was asked for, by a clock that cannot be set.
    until: Instant,
}

impl Leading {
    /// What an attempt came to that was made at `asked`. None if another replica leads.
    pub(super) fn of(claim: Claim, asked: Instant, seconds: u64) -> Option<Self> {
        let Claim::Held(lease) = claim else { return None };
        let margin = MARGIN.max(Duration::from_secs(seconds) / 5);
        Some(Self { lease, until: asked + Duration::from_secs(seconds).saturating_sub(margin) })
    }

    /// The lease, while it surely runs.
    pub(super) fn lease(&self) -> Option<HeldLease> {
        (Instant::now() < self.until).then_some(self.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{OwnerId, Timestamp};
    use crate::store::LeaseName;

    #[test]
    fn a_holder_stops_before_its_lease_ends() {
        let owner = OwnerId::from_bytes([1; 16]);
        let lease = HeldLease { name: LeaseName::LEADER, owner, term: 1, until: Timestamp::MAX };
        let now = Instant::now();
        let leads = |ago: u64| {
            let asked = now.checked_sub(Duration::from_secs(ago)).expect("the machine runs for longer");
            Leading::of(Claim::Held(lease), asked, 20).and_then(|leading| leading.lease())
        };
        assert_eq!((leads(0), leads(15)), (Some(lease), Some(lease)));
        assert_eq!((leads(16), leads(30)), (None, None));
        assert!(Leading::of(Claim::Refused(lease), now, 20).is_none());
    }
}
