//! Cancelling a spend, and rolling a note over (protocol, section 5, "Cancel", "Rollover").

use super::open::{Opened, Screened};
use super::{AdmitError, Gateway};
use crate::lifecycle::{AdmittedSpend, ParsedSpend, SettledSpend};
use crate::protocol::{Purpose, Request, SpendKey, Timestamp};
use crate::store::{RecordKey, RecordState, StoreError};

/// What a cancel comes to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cancelled {
    /// The spend was not in the set. It is now, so that it cannot be served any more: settle it at 0.
    Fresh(AdmittedSpend),
    /// It had been left open by a process whose lease has run out, and is now this process's: settle it at its
    /// [`lapsed_cost`](AdmittedSpend::lapsed_cost), which is what was metered, as a multiple of the quantum.
    Lapsed(AdmittedSpend),
    /// It is settled already: answer with the settlement.
    Settled(SettledSpend),
    /// This process works on it: stop the work, settle what was metered, and where nothing was measured, what was reserved. Where
    /// no work on it is known, another thread settles it at this moment, perhaps for another cancel: `in-progress`.
    Running(SpendKey),
    /// Another process works on it: `wrong-owner`. Ask that one, or ask again after the lease.
    Elsewhere,
}

impl Gateway {
    /// Takes the bytes of a [`Cancellation`](crate::protocol::Cancellation) all the way. The spend is verified like one
    /// to admit; its not-after, class and tariff do not matter. For spends of any purpose.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub fn cancel(&self, bytes: &[u8], request: &Request<'_>, now: Timestamp) -> Result<Cancelled, AdmitError> {
        let (keys, screened) = self.screen_cancel(bytes, request, now)?;
        self.cancel_screened(keys, screened, now)
    }

    /// As [`cancel`](Self::cancel), of a spend that was made for any gateway: for the issuer. What is cancelled is served nowhere,
    /// whichever gateway it was for.
    pub(crate) fn cancel_for_any(
        &self,
        bytes: &[u8],
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<Cancelled, AdmitError> {
        let parsed = ParsedSpend::parse_cancellation(bytes, &self.directory)?;
        let keys = (parsed.key(), parsed.record_key());
        let terms = self.check_epoch(parsed.spend(), now);
        let spend = parsed.authenticate(request).ok_or(AdmitError::SessionSignature)?;
        let screened = self.screen_authentic(spend, terms, request.sender(), now, &self.meters.cancels)?;
        self.cancel_screened(keys, screened, now)
    }

    fn cancel_screened(
        &self,
        keys: (SpendKey, RecordKey),
        screened: Screened,
        now: Timestamp,
    ) -> Result<Cancelled, AdmitError> {
        let opened = match screened {
            Screened::Known(opened) => opened,
            Screened::Unknown(spend) | Screened::Conflict(spend) => self.admit(self.verify(spend)?, now)?,
        };
        self.cancelled(keys, opened)
    }

    /// The cheap checks of a cancel, and what it cancels.
    pub(crate) fn screen_cancel(
        &self,
        bytes: &[u8],
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<((SpendKey, RecordKey), Screened), AdmitError> {
        let parsed = ParsedSpend::parse_cancellation(bytes, &self.directory)?;
        let keys = (parsed.key(), parsed.record_key());
        Ok((keys, self.screen_parsed(parsed, request, now, Self::check_epoch, &self.meters.cancels)?))
    }

    /// What it means for a cancel that its spend was found or admitted like this.
    pub(crate) fn cancelled(
        &self,
        (key, record_key): (SpendKey, RecordKey),
        opened: Opened,
    ) -> Result<Cancelled, AdmitError> {
        Ok(match opened {
            Opened::Admitted(spend) => Cancelled::Fresh(spend.for_nothing()),
            Opened::Lapsed(spend) => Cancelled::Lapsed(spend),
            Opened::Settled(spend) => Cancelled::Settled(spend),
            Opened::InProgress => {
                let record = self.set.find(key.epoch, &key.nullifier)?;
                let record = record.filter(|record| record.is_of(&record_key, &key.context));
                match record.ok_or(StoreError::NoRecord)?.state {
                    RecordState::Settled(settlement) => Cancelled::Settled(SettledSpend::new(key, settlement)),
                    RecordState::Open { lease, .. } if lease.owner == self.owner => Cancelled::Running(key),
                    RecordState::Open { .. } => Cancelled::Elsewhere,
                }
            }
        })
    }

    /// Takes the bytes of an [`Opening`](crate::protocol::Opening) whose spend is a rollover all the way. Settle at 0
    /// what it admits, and what it finds lapsed; there is nothing to serve.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub fn rollover(&self, bytes: &[u8], request: &Request<'_>, now: Timestamp) -> Result<Opened, AdmitError> {
        match self.screen_rollover(bytes, request, now)? {
            Screened::Known(opened) => Ok(opened),
            Screened::Unknown(spend) | Screened::Conflict(spend) => self.admit(self.verify(spend)?, now),
        }
    }

    /// The cheap checks of a rollover.
    pub(crate) fn screen_rollover(
        &self,
        bytes: &[u8],
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<Screened, AdmitError> {
        let parsed = ParsedSpend::parse(bytes, &self.directory)?;
        if parsed.spend().purpose != Purpose::Rollover {
            return Err(AdmitError::WrongPurpose);
        }
        self.screen_parsed(parsed, request, now, Self::check_rollover, &self.meters.rollovers)
    }
}
