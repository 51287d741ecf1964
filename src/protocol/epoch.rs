//! Key epochs.

use core::fmt;

use halometer_circuits::schnorr::PublicKey;

use super::bytes::{Digest, IssuerId, digest};
use super::codec::{DecodeError, Reader};
use super::time::{CLOCK_TOLERANCE, Timestamp, Window};

/// Number of a key epoch; later epochs have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochNumber(u32);

impl EpochNumber {
    /// From a number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// As a number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for EpochNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A directory's entry for a key epoch. Once published it never changes (protocol, section 5, "Directory").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: EpochNumber,
    /// `D`, the key that signs leaves in it.
    pub key: PublicKey,
    /// When the key signs.
    pub issue: Window,
    /// When its notes are accepted.
    pub spend: Window,
}

impl Epoch {
    /// Length of an entry in bytes.
    pub(crate) const LENGTH: usize = 4 + 32 + 16 + 16;

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.0.to_be_bytes());
        out.extend_from_slice(&self.key.to_bytes());
        self.issue.write(out);
        self.spend.write(out);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: EpochNumber(reader.u32()?),
            key: reader.canonical("epoch key", PublicKey::from_bytes)?,
            issue: Window::read(reader)?,
            spend: Window::read(reader)?,
        })
    }

    /// Whether its key may have signed something between two instants, by the clock of the party that asks: its issue
    /// window meets that time, [`CLOCK_TOLERANCE`] included on either side.
    pub fn may_have_signed(&self, from: Timestamp, until: Timestamp) -> bool {
        self.issue.from <= until.after(CLOCK_TOLERANCE) && from.before(CLOCK_TOLERANCE) < self.issue.until
    }

    /// About how many notes of it will still be spent, if so many were by now: as many again as came in so long a time, up to the end
    /// of its issue window, and never more than came so far. After that window each note that is left is spent once, and nobody
    /// knows how many there are: none.
    pub fn spends_to_come(&self, spent: u64, now: Timestamp) -> u64 {
        let gone = now.seconds().saturating_sub(self.spend.from.seconds()).max(1);
        let left = self.issue.until.seconds().saturating_sub(now.seconds());
        let to_come = u128::from(spent) * u128::from(left) / u128::from(gone);
        u64::try_from(to_come).unwrap_or(u64::MAX).min(spent)
    }

    /// Digest of the entry, which every context names, so that a caller shown another entry makes spends that verify
    /// nowhere else.
    pub fn digest(&self, issuer: &IssuerId) -> Digest {
        let mut entry = Vec::with_capacity(Self::LENGTH);
        self.write(&mut entry);
        digest(b"halometer1-epoch", &[issuer.as_bytes(), &entry])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world::{DAY, HOUR, T0, directory_parts};

    #[test]
    fn fewer_spends_are_to_come_as_an_epoch_goes_on() {
        let epoch = directory_parts().epochs[0];
        let to_come = |now| epoch.spends_to_come(1 << 20, now);
        assert_eq!(to_come(T0), 1 << 20, "at its beginning, no more than came");
        let mut last = u64::MAX;
        for hour in 0..48 {
            let now = epoch.issue.from.after(hour * HOUR);
            assert!(to_come(now) <= last);
            last = to_come(now);
        }
        assert!(to_come(epoch.issue.until.before(HOUR)) <= (1 << 20) / 23 + 1);
        assert_eq!(to_come(epoch.issue.until), 0);
        assert_eq!(epoch.spends_to_come(u64::MAX, T0.before(10 * DAY)), u64::MAX);
    }

    #[test]
    fn a_key_signs_within_its_window_and_what_clocks_may_differ() {
        let epoch = directory_parts().epochs[0];
        let Window { from, until } = epoch.issue;
        let tolerance = CLOCK_TOLERANCE;
        assert!(epoch.may_have_signed(from, from) && epoch.may_have_signed(from.before(DAY), until.after(DAY)));
        assert!(epoch.may_have_signed(from.before(DAY), from.before(tolerance)));
        assert!(!epoch.may_have_signed(from.before(DAY), from.before(tolerance + 1)), "before it begins");
        assert!(epoch.may_have_signed(until.after(tolerance - 1), until.after(DAY)));
        assert!(!epoch.may_have_signed(until.after(tolerance), until.after(DAY)), "after it is over");
    }
}
