//! The cheap checks of an admission.

use super::{AdmitError, Gateway};
use crate::protocol::{Spend, Timestamp};

impl Gateway {
    /// What no spend may break, a retry no more than a first one.
    pub(super) fn check_gateway(&self, spend: &Spend) -> Result<(), AdmitError> {
        if spend.gateway == self.id { Ok(()) } else { Err(AdmitError::WrongGateway(spend.gateway)) }
    }

    /// Whether the epoch can be spent now.
    pub(super) fn check_epoch(&self, spend: &Spend, now: Timestamp) -> Result<(), AdmitError> {
        let entry = self.directory.epoch(spend.epoch);
        let spendable = entry.is_some_and(|epoch| epoch.spend.contains(now));
        if spendable { Ok(()) } else { Err(AdmitError::NotSpendable(spend.epoch)) }
    }

    /// What a spend must keep to be admitted now: epoch, not-after, class, tariff.
    pub(super) fn check_terms(&self, spend: &Spend, now: Timestamp) -> Result<(), AdmitError> {
        self.check_window(spend, now)?;
        if self.directory.has_class(spend.charge) { Ok(()) } else { Err(AdmitError::UnknownClass(spend.charge)) }
    }

    /// What a rollover must keep: the terms, but a charge of 0 in place of a class, and another epoch that issues.
    pub(super) fn check_rollover(&self, spend: &Spend, now: Timestamp) -> Result<(), AdmitError> {
        self.check_window(spend, now)?;
        let another_issues = self.directory.issuing(now).is_some_and(|epoch| epoch.number != spend.epoch);
        if spend.charge.is_zero() && another_issues { Ok(()) } else { Err(AdmitError::NoRollover) }
    }

    /// Epoch, not-after and tariff.
    pub(super) fn check_window(&self, spend: &Spend, now: Timestamp) -> Result<(), AdmitError> {
        self.check_epoch(spend, now)?;
        if !self.directory.grid().accepts(spend.not_after, now) {
            return Err(AdmitError::Expired(spend.not_after));
        }
        if self.directory.accepted_tariff(&spend.tariff, now).is_none() {
            return Err(AdmitError::UnknownTariff);
        }
        Ok(())
    }
}
