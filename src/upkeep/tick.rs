//! One round of upkeep.

use super::{Unretired, UpkeepFailure, UpkeepReport, UpkeepStep, Warning};
use crate::issuer::{Issuer, SettleError};
use crate::lifecycle::{AdmittedSpend, Reclaim};
use crate::protocol::{Directory, EpochNumber, Fault, Grid, OwnerId, Timestamp};
use crate::store::{Beat, ClockJump, Lease, Look, PartitionPhase, RecordKey, RecordState, SpentSet, StoreError};

/// Threads that settle what dead processes left.
const SETTLERS: usize = 8;

/// What is done by the clock. It keeps no state: what is due is read from set and directory.
#[derive(Clone, Debug)]
pub struct Upkeep(UpkeepParts);

/// How upkeep is done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpkeepParts {
    /// Names this process, which takes lapsed records over.
    pub owner: OwnerId,
    /// The longest lease of any process that shares the set, seconds; also that of what is taken over.
    pub lease_seconds: u32,
    /// How much longer than it must a closed partition stays, seconds: in this time callers that were away still fetch
    /// what their last spends of the epoch left them.
    pub extra_grace_seconds: u32,
    /// How many lapsed records of each partition one tick takes on at most.
    pub records_per_partition: usize,
    /// How long before the issuing epoch ends without a successor it is warned of, seconds.
    pub warn_seconds: u32,
}

impl UpkeepParts {
    /// A day of extra grace, 1,000 records of each partition in a tick, a warning 3 days ahead.
    pub fn new(owner: OwnerId, lease_seconds: u32) -> Self {
        Self {
            owner,
            lease_seconds,
            extra_grace_seconds: 86_400,
            records_per_partition: 1_000,
            warn_seconds: 3 * 86_400,
        }
    }

    /// The same with this [`extra_grace_seconds`](Self::extra_grace_seconds).
    #[must_use]
    pub fn with_extra_grace_seconds(self, extra_grace_seconds: u32) -> Self {
        Self { extra_grace_seconds, ..self }
    }

    /// The same with this [`records_per_partition`](Self::records_per_partition).
    #[must_use]
    pub fn with_records_per_partition(self, records_per_partition: usize) -> Self {
        Self { records_per_partition, ..self }
    }

    /// The same with this [`warn_seconds`](Self::warn_seconds).
    #[must_use]
    pub fn with_warn_seconds(self, warn_seconds: u32) -> Self {
        Self { warn_seconds, ..self }
    }
}

/// Why a round did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpkeepError {
    /// The set failed; the next round tries again.
    #[error("the partitions cannot be told: {0}")]
    Store(#[from] StoreError),
    /// The clock jumped. Nothing is done by a clock that may be wrong: the operator puts it right, or confirms it.
    #[error("{0}; nothing is done by it")]
    Clock(ClockJump),
}

impl UpkeepError {
    /// The party at fault: never a caller.
    pub fn fault(&self) -> Fault {
        Fault::Operator
    }
}

impl Upkeep {
    /// Upkeep by these rules.
    pub fn new(parts: UpkeepParts) -> Self {
        Self(parts)
    }

    /// How long after the end of its spend window a partition is retired at the earliest, seconds: longer than clocks may differ,
    /// plus the longest session, plus the longest lease, plus what the operator adds. Whatever was admitted at the last moment by
    /// the slowest clock has then ended, been settled, or lapsed.
    pub fn grace_seconds(&self, directory: &Directory) -> u64 {
        let session = u64::from(directory.parts().limits.session_seconds);
        let (lease, extra) = (u64::from(self.0.lease_seconds), u64::from(self.0.extra_grace_seconds));
        // Beyond the most that clocks may differ, so one more second.
        Grid::GRACE + Grid::LAG + session + lease + extra + 1
    }

    /// Takes a look at a clock in, and then does what is due: [`SpentSet::beat`], then [`tick`](Self::tick). `passed` is how long ago
    /// this process did it last, by a clock that cannot be set, seconds; 0 the first time.
    ///
    /// # Errors
    /// [`UpkeepError`].
    pub fn round(
        &self,
        set: &dyn SpentSet,
        issuer: &Issuer,
        now: Timestamp,
        passed: u64,
    ) -> Result<UpkeepReport, UpkeepError> {
        match set.beat(Look::Clock { now, passed })? {
            Beat::Steady(_) => self.tick(set, issuer, now),
            Beat::Jumped(jump) => Err(UpkeepError::Clock(jump)),
        }
    }

    /// Does what is due, and says what was done and what is not right. The directory is the issuer's.
    ///
    /// Evidence is erased, and partitions are closed and retired, by the time that surely has passed ([`SpentSet::pulse`]), and not at
    /// all by a set that remembers none. So a clock that is ahead for a while destroys nothing.
    ///
    /// # Errors
    /// [`UpkeepError`] when not even the partitions can be told. All other failures are in the report.
    pub fn tick(&self, set: &dyn SpentSet, issuer: &Issuer, now: Timestamp) -> Result<UpkeepReport, UpkeepError> {
        let directory = issuer.directory();
        let partitions = set.partitions()?;
        let mut report = UpkeepReport::default();
        let sure = set.pulse()?.map_or(Timestamp::default(), |pulse| pulse.sure().min(now));
        warn(&partitions, directory, now, self.0.warn_seconds, &mut report);
        let standing: Vec<_> = partitions.iter().filter(|(_, phase)| *phase != PartitionPhase::Retired).collect();
        for (epoch, _) in &standing {
            self.settle_lapsed(set, issuer, *epoch, now, &mut report);
        }
        for (epoch, _) in &standing {
            let before = sure.before(u64::from(directory.parts().evidence_seconds));
            match set.erase_evidence(*epoch, before) {
                Ok(erased) => report.erased += erased,
                Err(error) => fail(&mut report, *epoch, UpkeepStep::Erase, error),
            }
        }
        for (epoch, phase) in &standing {
            self.close_or_retire(set, directory, *epoch, *phase, sure, &mut report);
        }
        Ok(report)
    }

    /// Settles at once what dead processes left open, whatever their leases say, at what was metered. For a process that has the set
    /// to itself, before it serves anybody: `is_dead` says of an owner that it is no more. What cannot be settled now is left to
    /// [`tick`](Self::tick).
    ///
    /// Several threads share the work, so that their commits are shared too.
    ///
    /// # Errors
    /// [`UpkeepError`] when not even the partitions can be told. All other failures are in the report.
    pub fn settle_left(
        &self,
        set: &dyn SpentSet,
        issuer: &Issuer,
        is_dead: impl Fn(&OwnerId) -> bool + Sync,
        now: Timestamp,
    ) -> Result<UpkeepReport, UpkeepError> {
        let mut report = UpkeepReport::default();
        if issuer.directory().issuing(now).is_none() {
            return Ok(report);
        }
        for (epoch, phase) in set.partitions()? {
            if phase == PartitionPhase::Retired {
                continue;
            }
            // All that is open: no lease is longer than this.
            let open = match set.lapsed(epoch, Timestamp::MAX, usize::MAX) {
                Ok(open) => open,
                Err(error) => {
                    fail(&mut report, epoch, UpkeepStep::Settle, error);
                    continue;
                }
            };
            let settle = |key: &RecordKey| self.settle_of_the_dead(set, issuer, key, &is_dead, now);
            let settle = &settle;
            let part = open.len().div_ceil(SETTLERS).max(1);
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let workers: Vec<_> = open
                    .chunks(part)
                    .map(|part| scope.spawn(move || part.iter().map(settle).collect::<Vec<_>>()))
                    .collect();
                workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
            });
            for outcome in outcomes {
                match outcome {
                    Ok(settled) => report.settled += u64::from(settled),
                    Err(error) => report.failures.push(UpkeepFailure { epoch, step: UpkeepStep::Settle, error }),
                }
            }
        }
        Ok(report)
    }

    fn settle_of_the_dead(
        &self,
        set: &dyn SpentSet,
        issuer: &Issuer,
        key: &RecordKey,
        is_dead: impl Fn(&OwnerId) -> bool,
        now: Timestamp,
    ) -> Result<bool, SettleError> {
        match set.find(key.epoch, &key.nullifier)?.map(|record| record.state) {
            // A dead process holds no lease.
            Some(RecordState::Open { lease, .. }) if is_dead(&lease.owner) => {
                self.settle_from(set, issuer, key, Timestamp::MAX, now)
            }
            _ => Ok(false),
        }
    }

    fn settle_lapsed(
        &self,
        set: &dyn SpentSet,
        issuer: &Issuer,
        epoch: EpochNumber,
        now: Timestamp,
        report: &mut UpkeepReport,
    ) {
        // Taken over and not settled, a record would wait for another lease. The warning says that nothing issues.
        if issuer.directory().issuing(now).is_none() {
            return;
        }
        let limit = self.0.records_per_partition;
        let lapsed = match set.lapsed(epoch, now, limit) {
            Ok(lapsed) => lapsed,
            Err(error) => return fail(report, epoch, UpkeepStep::Settle, error),
        };
        report.more |= lapsed.len() >= limit;
        for key in lapsed {
            match self.settle_from(set, issuer, &key, now, now) {
                Ok(settled) => report.settled += u64::from(settled),
                // Another process was faster.
                Err(SettleError::Store(StoreError::NotOwner)) => {}
                Err(error) => report.failures.push(UpkeepFailure { epoch, step: UpkeepStep::Settle, error }),
            }
        }
    }

    /// Whether it was settled by this. It is taken over if its lease is over at `lapsed`.
    fn settle_from(
        &self,
        set: &dyn SpentSet,
        issuer: &Issuer,
        key: &RecordKey,
        lapsed: Timestamp,
        now: Timestamp,
    ) -> Result<bool, SettleError> {
        let lease = Lease { owner: self.0.owner, until: now.after(u64::from(self.0.lease_seconds)) };
        match AdmittedSpend::reclaim(set, key, lease, lapsed)? {
            Reclaim::Open(spend) => {
                issuer.settle(set, &spend, spend.lapsed_cost(issuer.directory().quantum()), now)?;
                Ok(true)
            }
            Reclaim::Settled(_) => Ok(false),
        }
    }

    fn close_or_retire(
        &self,
        set: &dyn SpentSet,
        directory: &Directory,
        epoch: EpochNumber,
        phase: PartitionPhase,
        sure: Timestamp,
        report: &mut UpkeepReport,
    ) {
        let Some(entry) = directory.epoch(epoch) else {
            // One that is not published yet has the greatest number.
            if directory.epochs().iter().any(|published| epoch < published.number) {
                report.standing.push((epoch, Unretired::Unnamed));
            }
            return;
        };
        let over = entry.spend.until;
        if sure < over {
            return;
        }
        let due = over.after(self.grace_seconds(directory)) <= sure;
        if phase == PartitionPhase::Open {
            match set.close(epoch) {
                Ok(()) => report.closed.push(epoch),
                Err(error) => fail(report, epoch, UpkeepStep::Close, error),
            }
            if due {
                report.standing.push((epoch, Unretired::JustClosed));
            }
        } else if due {
            match set.totals(epoch) {
                Ok(totals) if totals.open > 0 => report.standing.push((epoch, Unretired::Open(totals.open))),
                Ok(_) => match set.retire(epoch) {
                    Ok(()) => report.retired.push(epoch),
                    Err(error) => fail(report, epoch, UpkeepStep::Retire, error),
                },
                Err(error) => fail(report, epoch, UpkeepStep::Retire, error),
            }
        }
    }
}

fn warn(
    partitions: &[(EpochNumber, PartitionPhase)],
    directory: &Directory,
    now: Timestamp,
    ahead: u32,
    report: &mut UpkeepReport,
) {
    for entry in directory.epochs().iter().filter(|entry| now < entry.spend.until) {
        match partitions.iter().find(|(epoch, _)| *epoch == entry.number) {
            None => report.warnings.push(Warning::PartitionMissing(entry.number)),
            Some((_, PartitionPhase::Open)) => {}
            Some(_) => report.warnings.push(Warning::PartitionClosed(entry.number)),
        }
    }
    match directory.issuing(now) {
        None => report.warnings.push(Warning::NothingIssues),
        Some(entry) => {
            let ends = entry.issue.until;
            if ends <= now.after(u64::from(ahead)) && directory.issuing(ends).is_none() {
                report.warnings.push(Warning::NoSuccessor { epoch: entry.number, ends });
            }
        }
    }
}

fn fail(report: &mut UpkeepReport, epoch: EpochNumber, step: UpkeepStep, error: StoreError) {
    report.failures.push(UpkeepFailure { epoch, step, error: error.into() });
}
