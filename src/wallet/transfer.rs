//! Moving credit between two lanes.

use super::lane::Lane;
use super::{AcceptError, Accepted, AuthoriseError, Journal, LaneId, NotInFlight, ReadySpend, Wallet};
use crate::protocol::{Purpose, Request, Settlement, SpendKey, Timestamp, Transfer};

/// A transfer that may be sent: both of its spends are pinned.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorisedTransfer {
    /// The spends: the giving one, then the taking one.
    pub keys: [SpendKey; 2],
    /// Their lanes.
    pub lanes: [LaneId; 2],
    /// The bytes of the [`Transfer`].
    pub transfer: Vec<u8>,
}

impl core::fmt::Debug for AuthorisedTransfer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AuthorisedTransfer").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl<J: Journal> Wallet<J> {
    /// Pins both halves of a transfer, then signs the request that will carry it, whose content digest is that of an empty body.
    ///
    /// # Errors
    /// [`AuthoriseError`].
    pub fn authorise_transfer(
        &mut self,
        [give, take]: [ReadySpend; 2],
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<AuthorisedTransfer, AuthoriseError> {
        let names = |half: &ReadySpend, other: &ReadySpend| {
            let (nullifier, change) = (other.spend.nullifier, other.spend.change);
            half.spend.purpose == Purpose::Transfer { nullifier, change }
        };
        if !names(&give, &take) || !names(&take, &give) || give.spend.charge != take.takes {
            return Err(AuthoriseError::HalfTransfer);
        }
        self.check_ready(&give, now)?;
        self.check_ready(&take, now)?;
        let (keys, lanes) = ([give.key(), take.key()], [give.lane, take.lane]);
        self.pin([give, take], None, now)?;
        let missing = || AuthoriseError::NotFrontier(lanes[0]);
        let [give, take] = keys.map(|key| self.in_flight(&key).map(|(_, flight)| flight.opening(request)));
        let halves = [give.ok_or_else(missing)?, take.ok_or_else(missing)?];
        Ok(AuthorisedTransfer { keys, lanes, transfer: Transfer { halves }.to_bytes() })
    }

    /// The same transfer again, named by either half.
    ///
    /// # Errors
    /// [`NotInFlight`], also when one half is settled: then the other is fetched or cancelled by itself.
    pub fn resend_transfer(&self, key: &SpendKey, request: &Request<'_>) -> Result<AuthorisedTransfer, NotInFlight> {
        let (lane, flight) = self.in_flight(key).ok_or(NotInFlight)?;
        let Purpose::Transfer { nullifier, .. } = flight.spend.purpose else { return Err(NotInFlight) };
        let other = self.lanes.iter().find_map(|(id, lane)| match lane {
            Lane::InFlight(other) if other.key.nullifier == nullifier => Some((*id, &**other)),
            _ => None,
        });
        let mut halves = [(lane, flight), other.ok_or(NotInFlight)?];
        if halves[0].1.spend.charge.is_zero() {
            halves.reverse();
        }
        let transfer = Transfer { halves: halves.map(|(_, half)| half.opening(request)) };
        Ok(AuthorisedTransfer {
            keys: halves.map(|(_, half)| half.key),
            lanes: halves.map(|(lane, _)| lane),
            transfer: transfer.to_bytes(),
        })
    }

    /// Takes both settlements of a transfer, as [`accept`](Self::accept). Both are checked before either is taken.
    ///
    /// # Errors
    /// [`AcceptError`], among them [`AcceptError::NotTransfer`] for settlements that are each possible and together lose credit.
    pub fn accept_transfer(
        &mut self,
        keys: &[SpendKey; 2],
        settlements: &[Settlement; 2],
        now: Timestamp,
    ) -> Result<[Accepted; 2], AcceptError> {
        let (_, give) = self.in_flight(&keys[0]).ok_or(AcceptError::NotInFlight)?;
        let amount = give.spend.charge;
        let [given, taken] = [settlements[0].refund, settlements[1].refund];
        if given.checked_add(taken) != Some(amount) {
            return Err(AcceptError::NotTransfer(taken));
        }
        let given = self.check_or_dispute(&keys[0], &settlements[0], now)?;
        let taken = self.check_or_dispute(&keys[1], &settlements[1], now)?;
        self.journal.settle(&[(keys[0], settlements[0].clone()), (keys[1], settlements[1].clone())])?;
        Ok([given, taken].map(|(accepted, note)| {
            self.lanes.insert(accepted.lane, Lane::Idle(note));
            accepted
        }))
    }
}
