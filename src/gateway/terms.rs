//! The cheap checks of an admission.

use super::{AdmitError, Gateway};
use crate::protocol::{Spend, Timestamp};

impl Gateway {
    /// What no spend may break, a retry no more than a first one: the epoch and the gateway.
    pub(super) fn check_place(&self, spend: &Spend, now: Timestamp) -> Result<(), AdmitError> {
        let entry = self.directory.epoch(spend.epoch);
        if !entry.is_some_and(|epoch| epoch.spend.contains(now)) {
            return Err(AdmitError::NotSpendable(spend.epoch));
        }
        if spend.gateway != self.id {
            return Err(AdmitError::WrongGateway(spend.gateway));
        }
        Ok(())
    }

    /// What a spend must keep to be admitted now: not-after, class, tariff.
    pub(super) fn check_terms(&self, spend: &Spend, now: Timestamp) -> Result<(), AdmitError> {
        if !self.directory.grid().accepts(spend.not_after, now) {
            return Err(AdmitError::Expired(spend.not_after));
        }
        if !self.directory.has_class(spend.charge) {
            return Err(AdmitError::UnknownClass(spend.charge));
        }
        if self.directory.accepted_tariff(&spend.tariff, now).is_none() {
            return Err(AdmitError::UnknownTariff);
        }
        Ok(())
    }
}
