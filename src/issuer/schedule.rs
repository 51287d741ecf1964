//! Rotation of epochs by schedule.

use halometer_circuits::schnorr::PublicKey;

use crate::protocol::{Directory, DirectoryError, Epoch, EpochNumber, Limits, Timestamp, Window};

/// How an issuer's epochs follow each other. All times in seconds.
///
/// ```text
///                    issue            beyond       keep
/// epoch 1   |---------------------|==========|. . . . . . .|     | issues and spends, = spends, . is in the directory
/// epoch 2              a          |---------------------|==========|. . .
///                      ahead: announced here
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleParts {
    /// How long an epoch issues. Long enough that many callers hold its notes: they are each other's crowd.
    pub issue: u32,
    /// How much longer its notes are accepted: longer than a session, at most twice `issue`. In this time wallets roll over.
    pub beyond: u32,
    /// How long before it issues an epoch is in the directory, at least 1. In this time callers and gateways fetch the
    /// directory and build keys, and in this time the schedule must be asked at least once.
    pub ahead: u32,
    /// How long an epoch stays in the directory after its notes are no longer accepted, so that the newest directory
    /// alone is enough to check evidence that names it.
    pub keep: u32,
}

/// Why a schedule is none, or cannot go on. The issuer's operator is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// `issue` is zero.
    #[error("the epochs of the schedule issue for no time")]
    Issue,
    /// `beyond` is not longer than the longest session: what was begun in an epoch could not be settled in the next. Or it is
    /// more than twice `issue`: more than three epochs would be spendable at a time.
    #[error("notes are accepted too short or too long beyond the issue window")]
    Beyond,
    /// `ahead` is zero: a new epoch would be known when it issues, or later.
    #[error("the epochs of the schedule are not announced ahead")]
    Ahead,
    /// More epochs would be in the directory than it takes. Make `keep` or `ahead` shorter, or `issue` longer.
    #[error("the schedule keeps more than {} epochs in the directory", Schedule::MAX_EPOCHS)]
    Keep,
    /// The directory is full of epochs that another schedule must keep longer. Nothing was left out for room: make
    /// `keep` shorter, or wait until this epoch may leave.
    #[error("the directory is full until epoch {0} may leave it")]
    Full(EpochNumber),
    /// The directory was not made by a schedule: this epoch ends too early for any other to follow it. Wait until it may
    /// leave.
    #[error("epoch {0} ends too early for another to follow it")]
    Stuck(EpochNumber),
    /// The numbers of epochs or of directories are used up.
    #[error("there is no greater number")]
    Numbers,
}

/// A schedule of epochs. Sans-I/O: it is asked what is due, by [`next`](Self::next), at the start and at least once in each
/// `ahead` seconds, and remembers nothing; the directory is its memory.
///
/// Asked in time, some epoch issues at every instant, and never two. Each directory keeps the rules of [`Directory::new`] and
/// of [`Directory::check_follows`], also after the schedule was changed to another one.
///
/// Asked too late, the new epoch's issue window reaches back to the end of the last one, so that the windows have no gap and
/// what was begun in the old epoch can be settled; that nobody issued in the meantime is what [`Planned::pause`] says. What
/// cannot be made good: in a pause nothing is minted or settled, and notes of epochs that ended in it, and that nobody could
/// roll over, are no longer accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule(ScheduleParts);

impl Schedule {
    /// The most epochs in a directory.
    pub const MAX_EPOCHS: usize = 64;

    /// Checks a schedule. `limits` are the directory's.
    ///
    /// # Errors
    /// [`ScheduleError::Issue`], [`ScheduleError::Beyond`], [`ScheduleError::Ahead`], [`ScheduleError::Keep`].
    pub fn new(parts: ScheduleParts, limits: Limits) -> Result<Self, ScheduleError> {
        let ScheduleParts { issue, beyond, ahead, keep } = parts;
        if issue == 0 {
            return Err(ScheduleError::Issue);
        }
        if beyond <= limits.session_seconds || u64::from(beyond) > 2 * u64::from(issue) {
            return Err(ScheduleError::Beyond);
        }
        if ahead == 0 {
            return Err(ScheduleError::Ahead);
        }
        // An epoch is there from `ahead` before it issues until `beyond + keep` after; they begin at least `issue` apart.
        let others = (u64::from(beyond) + u64::from(keep) + u64::from(ahead)).div_ceil(issue.into());
        if others + 1 > Self::MAX_EPOCHS as u64 {
            return Err(ScheduleError::Keep);
        }
        Ok(Self(parts))
    }

    /// The parts.
    pub fn parts(&self) -> ScheduleParts {
        self.0
    }

    /// The first epoch of a new issuer, number 1, which issues from now on.
    pub fn first(&self, key: PublicKey, now: Timestamp) -> Epoch {
        let issue = Window { from: now, until: now.after(self.0.issue.into()) };
        Epoch { number: EpochNumber::new(1), key, issue, spend: self.spend(issue) }
    }

    /// The epoch that must be added now, none when none is due. After a long pause several are due, one by one: ask again with
    /// the directory that this gives.
    ///
    /// # Errors
    /// [`ScheduleError`]: no further epoch can be added to this directory now.
    pub fn next(&self, directory: &Directory, now: Timestamp) -> Result<Option<Planned>, ScheduleError> {
        let ScheduleParts { beyond, ahead, keep, .. } = self.0;
        let epochs = directory.epochs();
        let Some(end) = epochs.iter().map(|epoch| epoch.issue.until).max() else { return Ok(None) };
        if end > now.after(ahead.into()) {
            return Ok(None);
        }
        if beyond <= directory.parts().limits.session_seconds {
            return Err(ScheduleError::Beyond);
        }
        let last = epochs.iter().map(|epoch| epoch.number.number()).max().unwrap_or(0);
        let number = EpochNumber::new(last.checked_add(1).ok_or(ScheduleError::Numbers)?);
        directory.parts().serial.checked_add(1).ok_or(ScheduleError::Numbers)?;

        // By the time that the directory says it was published at.
        let published = directory.grid().published(now);
        let leaves = |epoch: &&Epoch| epoch.spend.until.after(keep.into()) <= published;
        let (leaving, staying): (Vec<&Epoch>, Vec<&Epoch>) = epochs.iter().partition(leaves);
        if staying.len() >= Self::MAX_EPOCHS {
            let first = staying.iter().min_by_key(|epoch| epoch.spend.until).unwrap_or(&staying[0]);
            return Err(ScheduleError::Full(first.number));
        }
        let mut ends: Vec<Timestamp> = staying.iter().map(|epoch| epoch.spend.until).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        // Two others may be spendable when it begins, and one when it ends, so that the next one is the third then. Only
        // epochs of another schedule ever move these instants.
        let from = end.max(ends.get(2).copied().unwrap_or(end));
        let until = self.end(from, now).max(ends.get(1).copied().unwrap_or(from));
        // Never for an epoch of a schedule, which is spendable `beyond` its end.
        if let Some(old) = staying.last()
            && from.after(directory.parts().limits.session_seconds.into()) >= old.spend.until
        {
            return Err(ScheduleError::Stuck(old.number));
        }
        let issue = Window { from, until };
        let pause = Window { from: end, until: from.max(now) };
        Ok(Some(Planned {
            known: directory.clone(),
            planned: now,
            number,
            issue,
            spend: self.spend(issue),
            leaving: leaving.into_iter().map(|epoch| epoch.number).collect(),
            pause: (!pause.is_empty()).then_some(pause),
        }))
    }

    /// The end of an issue window: a multiple of `issue` from its beginning, and at least half of `issue` away. An epoch that
    /// issues for a moment has hardly a crowd.
    fn end(&self, from: Timestamp, now: Timestamp) -> Timestamp {
        let issue = u64::from(self.0.issue);
        let least = now.after((issue / 2).max(1)).seconds().saturating_sub(from.seconds());
        from.after(least.div_ceil(issue).max(1).saturating_mul(issue))
    }

    fn spend(&self, issue: Window) -> Window {
        Window { from: issue.from, until: issue.until.after(self.0.beyond.into()) }
    }
}

/// What is due: an epoch to add, for which to make the key, and entries that leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    known: Directory,
    planned: Timestamp,
    number: EpochNumber,
    issue: Window,
    spend: Window,
    leaving: Vec<EpochNumber>,
    pause: Option<Window>,
}

impl Planned {
    /// The number of the new epoch, for [`Keystore::add`](super::Keystore::add).
    pub fn number(&self) -> EpochNumber {
        self.number
    }

    /// When the new epoch issues.
    pub fn issue(&self) -> Window {
        self.issue
    }

    /// When its notes are accepted.
    pub fn spend(&self) -> Window {
        self.spend
    }

    /// The entries that leave the directory: over for `keep` seconds.
    pub fn leaving(&self) -> &[EpochNumber] {
        &self.leaving
    }

    /// When no epoch issued, or none will: the schedule was asked too late, or follows epochs that leave it no room. To be
    /// told to the operator.
    pub fn pause(&self) -> Option<Window> {
        self.pause
    }

    /// The directory with the new epoch, for [`Issuer::publish`](super::Issuer::publish): the next serial, published now, all
    /// else as it was.
    ///
    /// # Errors
    /// [`DirectoryError`]: the key is that of another epoch.
    pub fn into_directory(self, key: PublicKey, now: Timestamp) -> Result<Directory, DirectoryError> {
        let Self { known, planned, number, issue, spend, leaving, .. } = self;
        let mut parts = known.parts().clone();
        parts.serial = parts.serial.saturating_add(1);
        // A clock that went back does not make what left the directory return to it.
        // And of one window there is one directory.
        let next_window = parts.published.after(parts.grid.publication().into());
        parts.published = now.max(planned).max(next_window);
        parts.epochs.retain(|epoch| !leaving.contains(&epoch.number));
        parts.epochs.push(Epoch { number, key, issue, spend });
        let directory = Directory::new(parts)?;
        directory.check_follows(&known)?;
        Ok(directory)
    }
}

#[cfg(test)]
mod tests;
