//! What is written anew with every commit.

use super::WalletFileError;
use super::seat::SEAT_ID;
use crate::protocol::Timestamp;
use crate::protocol::codec::Reader;

const VERSION: u8 = 1;
/// No file counts so far by itself.
const MOST: u64 = 1 << 62;
const LENGTH: usize = 1 + 8 + SEAT_ID + 4 * 8 + (1 + 8) + (1 + 32);

/// Where the file stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// How many commits there were.
    pub(super) commits: u64,
    /// The seat on which the wallet was used last.
    pub(super) seat: [u8; SEAT_ID],
    /// Number of the next spend, and so how many there are.
    pub(super) spends: u64,
    /// Number of the next dispute.
    pub(super) disputes: u64,
    /// How many payments there are, and for how many something is known of their lanes. They are what the wallet begins with,
    /// and none of them may be missing unnoticed.
    pub(super) payments: u64,
    pub(super) frontiers: u64,
    /// Never made earlier.
    pub(super) quarantined_until: Option<Timestamp>,
    /// Digest of the code that the wallet was closed for.
    pub(super) moved: Option<[u8; 32]>,
}

impl State {
    pub(super) fn new(seat: [u8; SEAT_ID]) -> Self {
        Self {
            commits: 0,
            seat,
            spends: 0,
            disputes: 0,
            payments: 0,
            frontiers: 0,
            quarantined_until: None,
            moved: None,
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LENGTH);
        out.push(VERSION);
        out.extend_from_slice(&self.commits.to_be_bytes());
        out.extend_from_slice(&self.seat);
        for count in [self.spends, self.disputes, self.payments, self.frontiers] {
            out.extend_from_slice(&count.to_be_bytes());
        }
        out.push(self.quarantined_until.is_some().into());
        out.extend_from_slice(&self.quarantined_until.unwrap_or_default().seconds().to_be_bytes());
        out.push(self.moved.is_some().into());
        out.extend_from_slice(&self.moved.unwrap_or_default());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, WalletFileError> {
        let read = || {
            let mut reader = Reader::exact(bytes, LENGTH).ok()?;
            if reader.u8().ok()? != VERSION {
                return None;
            }
            let commits = reader.u64().ok()?;
            let seat = reader.array().ok()?;
            let mut counts = [0; 4];
            for count in &mut counts {
                *count = reader.u64().ok()?;
            }
            let [spends, disputes, payments, frontiers] = counts;
            let flag = |byte| match byte {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            };
            let quarantined = flag(reader.u8().ok()?)?;
            let until = Timestamp::from_seconds(reader.u64().ok()?);
            // Counted up with every write: what another makes of them must not bring them to their end.
            if [commits, spends, disputes].iter().any(|count| *count > MOST) {
                return None;
            }
            let moved = flag(reader.u8().ok()?)?;
            let code = reader.array().ok()?;
            // What is not there is written as zeros.
            if (!quarantined && until != Timestamp::default()) || (!moved && code != [0; 32]) {
                return None;
            }
            Some(Self {
                commits,
                seat,
                spends,
                disputes,
                payments,
                frontiers,
                quarantined_until: quarantined.then_some(until),
                moved: moved.then_some(code),
            })
        };
        read().ok_or(WalletFileError::Damaged("its state cannot be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_counts_to_the_end_is_refused() {
        let state = State::new([1; SEAT_ID]);
        assert_eq!(State::from_bytes(&state.to_bytes()).unwrap(), state);
        for at_the_end in [
            State { commits: u64::MAX - 1, ..state.clone() },
            State { spends: u64::MAX, ..state.clone() },
            State { disputes: u64::MAX, ..state.clone() },
        ] {
            assert!(matches!(State::from_bytes(&at_the_end.to_bytes()), Err(WalletFileError::Damaged(_))));
        }
    }
}
