//! Instants and windows. The library reads no clock: the caller says what time it is.

use super::codec::{DecodeError, Reader};

/// How far the clocks of wallets, gateways and issuers may be from the true time, seconds.
pub const CLOCK_TOLERANCE: u64 = 300;

/// Whole seconds since 1970-01-01T00:00:00Z, leap seconds left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last instant.
    pub const MAX: Self = Self(u64::MAX);

    /// From seconds since 1970.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// In seconds since 1970.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// So many seconds later; stops at the last instant.
    pub const fn after(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// So many seconds earlier; stops at 1970.
    pub const fn before(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }
}

/// The instants from `from` (included) to `until` (excluded).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First instant in it.
    pub from: Timestamp,
    /// First instant after it.
    pub until: Timestamp,
}

impl Window {
    /// Whether the instant is in the window.
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.from <= instant && instant < self.until
    }

    /// Whether it holds no instant.
    pub fn is_empty(&self) -> bool {
        self.from >= self.until
    }

    /// Whether some instant is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.from.max(other.from) < self.until.min(other.until)
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.from.0.to_be_bytes());
        out.extend_from_slice(&self.until.0.to_be_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { from: Timestamp(reader.u64()?), until: Timestamp(reader.u64()?) })
    }
}
