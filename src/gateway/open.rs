//! The way of an opening request.

use std::sync::Arc;

use super::{AdmitError, Gateway};
use crate::lifecycle::{
    Admission, AdmittedSpend, AuthenticSpend, Evidence, ParsedSpend, Reclaim, SettledSpend, VerifiedSpend, VerifyError,
};
use crate::protocol::{Purpose, Request, Sender, Spend, SpendKey, Timestamp};
use crate::quota::Meter;
use crate::store::{Record, RecordKey, RecordState, StoreError};

/// What the cheap checks and a look into the set found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Screened {
    /// Nothing against it: verify its proof, then admit it.
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
        self.screen_parsed(self.parse_session(opening)?, request, now, Self::check_terms, &self.meters.admissions)
    }

    /// As [`screen`](Self::screen), for many that came at one moment; one answer each, in order. Their session signatures are
    /// checked in one equation if `together`, and their notes are looked up at once.
    #[cfg(feature = "pipeline")]
    pub(crate) fn screen_each(
        &self,
        openings: &[(&[u8], Request<'_>)],
        now: Timestamp,
        together: bool,
    ) -> Vec<Result<Screened, AdmitError>> {
        let mut outcomes: Vec<Option<Result<Screened, AdmitError>>> = Vec::with_capacity(openings.len());
        let (mut parsed, mut terms) = (Vec::new(), Vec::new());
        for (opening, request) in openings {
            match self.parse_session(opening).and_then(|spend| self.check_gateway(spend.spend()).map(|()| spend)) {
                Ok(spend) => {
                    terms.push((outcomes.len(), self.check_terms(spend.spend(), now)));
                    parsed.push((spend, request));
                    outcomes.push(None);
                }
                Err(error) => outcomes.push(Some(Err(error))),
            }
        }
        let (mut authentic, mut notes) = (Vec::new(), Vec::new());
        for (spend, (place, terms)) in ParsedSpend::authenticate_each(parsed, together).into_iter().zip(terms) {
            match spend {
                Some(spend) => {
                    let key = spend.key();
                    notes.push((key.epoch, key.nullifier));
                    authentic.push((spend, terms, place));
                }
                None => outcomes[place] = Some(Err(AdmitError::SessionSignature)),
            }
        }
        let mut found = self.set.find_all(&notes).into_iter();
        for (spend, terms, place) in authentic {
            let found = found.next().unwrap_or_else(|| Err(no_answer()));
            let sender = openings[place].1.sender();
            outcomes[place] = Some(self.screen_found(spend, found, terms, sender, now, &self.meters.admissions));
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(no_answer().into()))).collect()
    }

    /// A spend that is meant to be served, by the gateway that it names.
    fn parse_session(&self, opening: &[u8]) -> Result<ParsedSpend, AdmitError> {
        let parsed = ParsedSpend::parse(opening, &self.directory)?;
        if parsed.spend().purpose != Purpose::Session {
            return Err(AdmitError::WrongPurpose);
        }
        Ok(parsed)
    }

    /// The part of a screening that is the same for all that carries one spend.
    pub(super) fn screen_parsed(
        &self,
        parsed: ParsedSpend,
        request: &Request<'_>,
        now: Timestamp,
        terms: impl Fn(&Self, &Spend, Timestamp) -> Result<(), AdmitError>,
        quota: &Arc<Meter>,
    ) -> Result<Screened, AdmitError> {
        self.check_gateway(parsed.spend())?;
        let terms = terms(self, parsed.spend(), now);
        let spend = parsed.authenticate(request).ok_or(AdmitError::SessionSignature)?;
        self.screen_authentic(spend, terms, request.sender(), now, quota)
    }

    /// The look into the set. The gateway id has been checked.
    pub(super) fn screen_authentic(
        &self,
        spend: AuthenticSpend,
        terms: Result<(), AdmitError>,
        sender: Sender,
        now: Timestamp,
        quota: &Arc<Meter>,
    ) -> Result<Screened, AdmitError> {
        let key = spend.key();
        let found = self.set.find(key.epoch, &key.nullifier);
        self.screen_found(spend, found, terms, sender, now, quota)
    }

    /// What follows from that look.
    fn screen_found(
        &self,
        spend: AuthenticSpend,
        found: Result<Option<Record>, StoreError>,
        terms: Result<(), AdmitError>,
        sender: Sender,
        now: Timestamp,
        quota: &Arc<Meter>,
    ) -> Result<Screened, AdmitError> {
        let (key, record_key) = (spend.key(), spend.record_key());
        match (found, terms) {
            (Ok(Some(record)), _) if record.is_of(&record_key, &key.context) => {
                Ok(Screened::Known(self.known(&key, &record_key, record.state, now)?))
            }
            (_, Err(broken)) => Err(broken),
            (Err(error), _) => Err(error.into()),
            // Nobody can be named any more, so that its proof need not be verified.
            (Ok(Some(record)), _) if record.evidence.is_none() => Err(AdmitError::AlreadySpent),
            (Ok(found), _) => {
                // Also for a conflict: nullifiers are no secret, and a made-up spend of one costs as much to verify.
                let permit = quota.take(sender, now).ok_or(AdmitError::Quota)?;
                let spend = spend.with_permit(permit);
                Ok(if found.is_some() { Screened::Conflict(spend) } else { Screened::Unknown(spend) })
            }
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
        self.admit_all(vec![spend], now).pop().unwrap_or_else(|| Err(no_answer().into()))
    }

    /// As [`admit`](Self::admit), for many spends in one commit of the set; one answer each, in order.
    pub fn admit_all(&self, spends: Vec<VerifiedSpend>, now: Timestamp) -> Vec<Result<Opened, AdmitError>> {
        // What was screened long ago may have waited over the end of its epoch.
        let checks: Vec<_> = spends.iter().map(|spend| self.check_epoch(spend.spend(), now)).collect();
        let keys: Vec<_> = spends.iter().map(|spend| (spend.key(), spend.record_key())).collect();
        let current = spends.into_iter().zip(&checks).filter(|(_, check)| check.is_ok()).map(|(spend, _)| spend);
        let mut admissions = VerifiedSpend::admit_all(current.collect(), &*self.set, self.lease(now), now).into_iter();
        checks
            .into_iter()
            .zip(keys)
            .map(|(check, (key, record_key))| {
                check?;
                match admissions.next().ok_or_else(no_answer)?? {
                    Admission::Fresh(spend) => Ok(Opened::Admitted(spend)),
                    Admission::Same(state) => Ok(self.known(&key, &record_key, state, now)?),
                    Admission::Conflict { spend, record } => Err(self.double_spend(*spend, &record)),
                }
            })
            .collect()
    }

    fn known(
        &self,
        key: &SpendKey,
        record: &RecordKey,
        state: RecordState,
        now: Timestamp,
    ) -> Result<Opened, StoreError> {
        match state {
            RecordState::Settled(settlement) => Ok(Opened::Settled(SettledSpend::new(*key, settlement))),
            RecordState::Open { lease, .. } if now < lease.until => Ok(Opened::InProgress),
            RecordState::Open { .. } => match AdmittedSpend::reclaim(&*self.set, record, self.lease(now), now) {
                Ok(Reclaim::Open(spend)) => Ok(Opened::Lapsed(spend)),
                Ok(Reclaim::Settled(settlement)) => Ok(Opened::Settled(SettledSpend::new(*key, settlement))),
                // Another process was faster.
                Err(StoreError::NotOwner) => Ok(Opened::InProgress),
                Err(error) => Err(error),
            },
        }
    }

    /// What a verified spend of a note comes to that was spent in another context, whose record this is: the evidence that
    /// names the account, as long as the record has its part of it.
    pub fn double_spend(&self, spend: VerifiedSpend, record: &Record) -> AdmitError {
        let Some(evidence) = &record.evidence else { return AdmitError::AlreadySpent };
        let Some(key) = self.keys.get(&record.key.epoch) else { return AdmitError::AlreadySpent };
        match Evidence::against(&evidence.spend, spend, &self.directory, key) {
            Ok(evidence) => AdmitError::DoubleSpend(Box::new(evidence)),
            // Only the record can be at fault: the spend was verified.
            Err(error) => AdmitError::BadRecord(error),
        }
    }
}

fn no_answer() -> StoreError {
    StoreError::Failed("the store gave no answer".into())
}
