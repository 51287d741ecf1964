//! The rules of a spent set that do not depend on where it is kept.

use std::ops::Bound;

use halometer_circuits::note::Nullifier;

use super::{Lease, PairInsertion, Record, RecordEvidence, RecordState, StoreError, Totals};
use crate::protocol::{Credits, OwnerId, Prefix, Purpose, Settlement, Spend, Timestamp};

/// Where nullifiers lie, by their bytes.
type Range = (Bound<[u8; 32]>, Bound<[u8; 32]>);

/// Where those of a page of a bucket lie. None if there cannot be any.
pub(super) fn bucket_range(prefix: Prefix, after: Option<&Nullifier>) -> Option<Range> {
    let (low, high) = prefix.bounds();
    let low = match after.map(Nullifier::to_bytes) {
        Some(after) if after >= high => return None,
        Some(after) if after >= low => Bound::Excluded(after),
        _ => Bound::Included(low),
    };
    Some((low, Bound::Included(high)))
}

/// The charge of a record that may be inserted.
pub(super) fn new_record(record: &Record) -> Result<Credits, StoreError> {
    match (&record.state, &record.evidence) {
        (RecordState::Open { metered, .. }, Some(evidence)) if *metered <= evidence.charge => Ok(evidence.charge),
        _ => Err(StoreError::BadRecord("a new record is open, has its evidence, and is metered at its charge at most")),
    }
}

/// Whether a record that is found is of the same spend as one on its way in.
pub(super) fn same(found: &Record, record: &Record) -> bool {
    let evidence = record.evidence.as_ref();
    evidence.map_or(found.key == record.key, |evidence| found.is_of(&record.key, &evidence.context))
}

/// The amount that a pair moves.
pub(super) fn new_pair(pair: &[Record; 2]) -> Result<Credits, StoreError> {
    let part = |record: &Record| match (&record.state, &record.evidence) {
        (RecordState::Settled(settlement), Some(evidence)) => Some((evidence.charge, settlement.refund)),
        _ => None,
    };
    let same = pair[0].key.epoch == pair[1].key.epoch && pair[0].key.nullifier == pair[1].key.nullifier;
    match (part(&pair[0]), part(&pair[1])) {
        (Some((amount, Credits::ZERO)), Some((Credits::ZERO, taken))) if amount == taken && !same => Ok(amount),
        _ => Err(StoreError::BadRecord("a pair is of two notes, is settled, and gives what it takes")),
    }
}

/// What became of a pair of which some is there already; none if nothing is.
pub(super) fn pair_found(pair: &[Record; 2], found: &[Option<Record>]) -> Option<PairInsertion> {
    for (record, found) in pair.iter().zip(found) {
        if let Some(found) = found.as_ref().filter(|found| !same(found, record)) {
            return Some(PairInsertion::Conflict(Box::new(found.clone())));
        }
    }
    let settled = |found: &Option<Record>| match found.as_ref().map(|found| &found.state) {
        Some(RecordState::Settled(settlement)) => Some(settlement.clone()),
        _ => None,
    };
    let refund = |record: &Record| match &record.state {
        RecordState::Settled(settlement) => Some(settlement.refund),
        RecordState::Open { .. } => None,
    };
    match found {
        [None, None] => None,
        [giving, taking] => Some(match (settled(giving), settled(taking)) {
            // Both may have been cancelled, one by one.
            (Some(give), Some(take))
                if Some(give.refund) == refund(&pair[0]) && Some(take.refund) == refund(&pair[1]) =>
            {
                PairInsertion::Same(Box::new([give, take]))
            }
            _ => PairInsertion::Parted,
        }),
        _ => Some(PairInsertion::Parted),
    }
}

/// Whether this owner may change an open record.
pub(super) fn may_change(held: &Lease, owner: OwnerId, now: Timestamp) -> Result<(), StoreError> {
    if held.owner == owner || held.until <= now { Ok(()) } else { Err(StoreError::NotOwner) }
}

/// What is metered after it was metered again.
pub(super) fn metered(known: Credits, metered: Credits, charge: Credits) -> Result<Credits, StoreError> {
    if metered > charge { Err(StoreError::BadRecord("a cost is at most the charge")) } else { Ok(known.max(metered)) }
}

/// The cost that a refund leaves.
pub(super) fn cost(charge: Credits, refund: Credits) -> Result<Credits, StoreError> {
    charge.checked_sub(refund).ok_or(StoreError::BadRecord("a refund is at most the charge"))
}

/// Adds a settled record to sums. A half of a transfer that was carried out is told from one that was cancelled by its refund.
pub(crate) fn add_settled(
    totals: &mut Totals,
    evidence: &RecordEvidence,
    settlement: &Settlement,
) -> Result<(), StoreError> {
    let (charge, refund) = (evidence.charge, settlement.refund);
    totals.settled += 1;
    let transfer = Spend::purpose_number(&evidence.spend).is_ok_and(|number| number == Purpose::TRANSFER);
    match charge.checked_sub(refund) {
        Some(cost) if transfer && refund.is_zero() => totals.moved_out += u128::from(cost.micro()),
        Some(cost) => {
            totals.cost += u128::from(cost.micro());
            totals.refunded += u128::from(refund.micro());
        }
        None if transfer && charge.is_zero() => totals.moved_in += u128::from(refund.micro()),
        None => return Err(StoreError::BadRecord("a refund is at most the charge")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_or_anyone_after_the_lease_changes_a_record() {
        let [owner, other] = [1, 2].map(|n| OwnerId::from_bytes([n; 16]));
        let lease = Lease { owner, until: Timestamp::from_seconds(10) };
        let at = Timestamp::from_seconds;
        assert!(may_change(&lease, owner, at(9)).is_ok() && may_change(&lease, owner, at(99)).is_ok());
        assert!(may_change(&lease, other, at(9)).is_err() && may_change(&lease, other, at(10)).is_ok());
    }

    #[test]
    fn what_is_metered_never_goes_down_and_never_above_the_charge() {
        let micro = Credits::from_micro;
        assert_eq!(metered(micro(3), micro(2), micro(5)).unwrap(), micro(3));
        assert_eq!(metered(micro(3), micro(5), micro(5)).unwrap(), micro(5));
        assert!(metered(micro(3), micro(6), micro(5)).is_err());
    }
}
