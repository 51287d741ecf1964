//! The book of replicas, as it was read last.

use std::time::Instant;

use crate::protocol::{OwnerId, Timestamp};
use crate::store::{HeldLease, Replica};

/// What the book said.
#[derive(Clone, Debug, Default)]
pub(super) struct Roll {
    pub(super) replicas: Vec<Replica>,
    /// The time of the book.
    pub(super) time: Timestamp,
    pub(super) leader: Option<HeldLease>,
    /// Before it was asked; none if it never answered.
    pub(super) read: Option<Instant>,
    /// Why it did not answer when it was asked last.
    pub(super) trouble: Option<String>,
}

impl Roll {
    pub(super) fn with_trouble(&self, trouble: String) -> Self {
        Self { trouble: Some(trouble), ..self.clone() }
    }

    pub(super) fn is_newer(&self, since: Instant) -> bool {
        self.read.is_some_and(|read| read >= since)
    }

    pub(super) fn silence(&self, replica: &Replica) -> u64 {
        self.time.seconds().saturating_sub(replica.seen.seconds())
    }

    /// The replica of a name. One whose address another one took after it is none any more: it died, and that one came in its place.
    pub(super) fn find(&self, owner: &OwnerId) -> Option<&Replica> {
        let found = self.replicas.iter().find(|replica| replica.owner == *owner)?;
        let mut others = self.replicas.iter().filter(|replica| replica.owner != *owner);
        let replaced = others.any(|other| other.address == found.address && found.seen < other.seen);
        (!replaced).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ReplicaKey;

    #[test]
    fn the_later_of_two_at_one_address_is_the_one_that_lives() {
        let replica = |owner: u8, address: &str, seen| Replica {
            owner: OwnerId::from_bytes([owner; 16]),
            address: address.to_owned(),
            key: ReplicaKey::from_bytes([owner; 32]),
            version: "1".to_owned(),
            draining: false,
            seen: Timestamp::from_seconds(seen),
        };
        let replicas = vec![replica(1, "a:1", 10), replica(2, "a:1", 20), replica(3, "b:1", 5)];
        let roll = Roll { replicas, time: Timestamp::from_seconds(21), ..Roll::default() };
        let found = |owner: u8| roll.find(&OwnerId::from_bytes([owner; 16])).map(|replica| roll.silence(replica));
        assert_eq!([found(1), found(2), found(3), found(4)], [None, Some(1), Some(16), None]);
    }
}
