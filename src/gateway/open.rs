//! The way of an opening request.

use super::{AdmitError, Gateway};
use crate::lifecycle::{
    Admission, AdmittedSpend, AuthenticSpend, Evidence, ParsedSpend, Reclaim, SettledSpend, VerifiedSpend, VerifyError,
};
use crate::protocol::{Request, SpendKey, Timestamp};
use crate::store::{Record, RecordState, StoreError};

/// What the cheap checks and a look into the set found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Screened {
    /// Nothing against it: its proof is to be verified, then it is to be admitted.
    Unknown(AuthenticSpend),
    /// Its note was spent in another context. When its proof holds too, the two name the account.
    Conflict(AuthenticSpend),
    /// It is a spend that is in the set.
    Known(Opened),
}

/// What an opening request comes to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Opened {
    /// A new spend: serve the request, meter it, settle it.
    Admitted(AdmittedSpend),
    /// A spend that was settled: answer with the settlement, serve nothing.
    Settled(SettledSpend),
    /// A spend that is being worked on, here or by another process: serve nothing, `in-progress`.
    InProgress,
    /// A spend that was left open by a process whose lease has run out, and is now this process's: settle it at what was
    /// metered, 0 if nothing was, and answer with the settlement. Serve nothing.
    Lapsed(AdmittedSpend),
}

impl Gateway {
    /// Takes the bytes of an [`Opening`](crate::protocol::Opening) all the way: screens, verifies (a few milliseconds of one
    /// core), admits.
    ///
    /// A retry of the same spend is not charged again and never serves the request again: it gets what the set holds.
    ///
    /// # Errors
    /// [`AdmitError`]. After an error of the store the spend may be in the set all the same; the caller sends it again.
    pub fn open(&self, opening: &[u8], request: &Request<'_>, now: Timestamp) -> Result<Opened, AdmitError> {
        match self.screen(opening, request, now)? {
            Screened::Known(opened) => Ok(opened),
            Screened::Unknown(spend) | Screened::Conflict(spend) => self.admit(self.verify(spend)?, now),
        }
    }

    /// The cheap checks in the order of the protocol: length and canonical form, gateway id, epoch, not-after, class, tariff,
    /// then the session signature, then the set.
    ///
    /// A spend that is in the set is answered even when its epoch, not-after, class or tariff is not valid any more: nothing is
    /// admitted by that.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub fn screen(&self, opening: &[u8], request: &Request<'_>, now: Timestamp) -> Result<Screened, AdmitError> {
        let parsed = ParsedSpend::parse(opening, &self.directory)?;
        self.check_gateway(parsed.spend())?;
        let terms = self.check_terms(parsed.spend(), now);
        let spend = parsed.authenticate(request).ok_or(AdmitError::SessionSignature)?;
        let key = spend.key();
        match (self.set.find(key.epoch, &key.nullifier), terms) {
            (Ok(Some(record)), _) if record.key == key => Ok(Screened::Known(self.known(&key, record.state, now)?)),
            (_, Err(broken)) => Err(broken),
            (Err(error), _) => Err(error.into()),
            (Ok(None), _) => Ok(Screened::Unknown(spend)),
            // Nobody can be named any more, so that its proof need not be verified.
            (Ok(Some(record)), _) if record.evidence.is_none() => Err(AdmitError::AlreadySpent),
            (Ok(Some(_)), _) => Ok(Screened::Conflict(spend)),
        }
    }

    /// Verifies the proof.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify(&self, spend: AuthenticSpend) -> Result<VerifiedSpend, VerifyError> {
        let key = self.keys.get(&spend.key().epoch).ok_or(VerifyError::OtherEpochKey)?;
        spend.verify(key)
    }

    /// Admits a verified spend, or finds what is in the set instead.
    ///
    /// # Errors
    /// [`AdmitError`], among them the double spend with its evidence.
    pub fn admit(&self, spend: VerifiedSpend, now: Timestamp) -> Result<Opened, AdmitError> {
        // What was screened long ago may have waited over the end of its epoch.
        self.check_epoch(spend.spend(), now)?;
        let key = spend.key();
        match spend.admit(&*self.set, self.lease(now))? {
            Admission::Fresh(spend) => Ok(Opened::Admitted(spend)),
            Admission::Same(state) => Ok(self.known(&key, state, now)?),
            Admission::Conflict { spend, record } => Err(self.double_spend(*spend, &record)),
        }
    }

    fn known(&self, key: &SpendKey, state: RecordState, now: Timestamp) -> Result<Opened, StoreError> {
        match state {
            RecordState::Settled { settlement, .. } => Ok(Opened::Settled(SettledSpend::new(*key, settlement))),
            RecordState::Open(lease) if now < lease.until => Ok(Opened::InProgress),
            RecordState::Open(_) => match AdmittedSpend::reclaim(&*self.set, key, self.lease(now), now) {
                Ok(Reclaim::Open(spend)) => Ok(Opened::Lapsed(spend)),
                Ok(Reclaim::Settled(spend)) => Ok(Opened::Settled(spend)),
                // Another process was faster.
                Err(StoreError::NotOwner) => Ok(Opened::InProgress),
                Err(error) => Err(error),
            },
        }
    }

    fn double_spend(&self, spend: VerifiedSpend, record: &Record) -> AdmitError {
        let Some(evidence) = &record.evidence else { return AdmitError::AlreadySpent };
        let Some(key) = self.keys.get(&record.key.epoch) else { return AdmitError::AlreadySpent };
        match Evidence::against(&evidence.spend, spend, &self.directory, key) {
            Ok(evidence) => AdmitError::DoubleSpend(Box::new(evidence)),
            // Only the record can be at fault: the spend was verified.
            Err(error) => AdmitError::BadRecord(error),
        }
    }
}
