//! The cheap checks of an admission.

use super::{AdmitError, Gateway};
use crate::protocol::{Grid, Spend, Timestamp};

fn between(from: Timestamp, until: Timestamp) -> u64 {
    until.seconds().saturating_sub(from.seconds())
}

impl Gateway {
    /// What no spend may break, a retry no more than a first one.
    pub(super) fn check_gateway(&self, spend: &Spend) -> Result<(), AdmitError> {
        if spend.gateway == self.id { Ok(()) } else { Err(AdmitError::WrongGateway(spend.gateway)) }
    }

    /// Whether the epoch can be spent now.
    pub(super) fn check_epoch(&self, spend: &Spend, now: Timestamp) -> Result<(), AdmitError> {
        let entry = self.directory.epoch(spend.epoch).ok_or(AdmitError::NotSpendable(spend.epoch))?;
        if now >= entry.spend.until {
            return Err(AdmitError::NotSpendable(spend.epoch));
        }
        // This clock may be behind the one by which its notes were signed.
        if now.after(Grid::EARLY) < entry.spend.from {
            return Err(AdmitError::NotYetSpendable { epoch: spend.epoch, seconds: between(now, entry.spend.from) });
        }
        // What is admitted must be settled, and that takes an epoch that issues: also after a clock was set.
        if self.directory.issuing(now).is_none() {
            return Err(AdmitError::NothingIssues);
        }
        Ok(())
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
            // The windows of clocks that agree lie around the one that the spend was made for.
            let (not_after, used) = (spend.not_after, self.directory.grid().not_after(now));
            return Err(match not_after > used {
                true => AdmitError::Early { not_after, seconds: between(used, not_after) },
                false => AdmitError::Expired(not_after),
            });
        }
        if self.directory.accepted_tariff(&spend.tariff, now).is_none() {
            return Err(AdmitError::UnknownTariff);
        }
        Ok(())
    }
}
