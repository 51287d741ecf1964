//! Spends that a remote gateway vouches for: see [`clearing`](crate::clearing).

use super::{AdmitError, Gateway, Screened};
use crate::lifecycle::AuthenticSpend;
use crate::protocol::{Purpose, Sender, Timestamp};

impl Gateway {
    /// As [`screen`](Self::screen), for a spend whose session signature was checked by the gateway that it is for. Of a session
    /// or a rollover.
    pub(crate) fn screen_vouched(&self, spend: AuthenticSpend, now: Timestamp) -> Result<Screened, AdmitError> {
        self.check_gateway(spend.spend())?;
        let (terms, quota) = match spend.spend().purpose {
            Purpose::Session => (self.check_terms(spend.spend(), now), &self.meters.admissions),
            Purpose::Rollover => (self.check_rollover(spend.spend(), now), &self.meters.rollovers),
            Purpose::Transfer { .. } => return Err(AdmitError::WrongPurpose),
        };
        self.screen_authentic(spend, terms, Sender::UNKNOWN, now, quota)
    }

    /// As [`screen_vouched`](Self::screen_vouched), for a spend to cancel: of any purpose, under any terms while its
    /// epoch is spendable.
    pub(crate) fn screen_vouched_cancel(&self, spend: AuthenticSpend, now: Timestamp) -> Result<Screened, AdmitError> {
        self.check_gateway(spend.spend())?;
        let terms = self.check_epoch(spend.spend(), now);
        self.screen_authentic(spend, terms, Sender::UNKNOWN, now, &self.meters.cancels)
    }
}
