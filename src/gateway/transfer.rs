//! Checking a transfer (protocol, section 5, "Transfer").

use super::{AdmitError, Gateway};
use crate::lifecycle::{AuthenticTransfer, CheckedTransfer, ParsedTransfer, ScreenedTransfer};
use crate::protocol::{Request, Timestamp};

impl Gateway {
    /// Takes the bytes of a [`Transfer`](crate::protocol::Transfer) through the cheap checks: pairing and canonical form, gateway
    /// id, epochs, not-after, tariff, denomination, then both session signatures, then the set, then the quota.
    ///
    /// A transfer of which the set holds some is answered from there, also after its window, and whatever its proofs are: what
    /// the terms and the quota say counts only for what the set does not hold.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub fn screen_transfer(
        &self,
        bytes: &[u8],
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<ScreenedTransfer, AdmitError> {
        let parsed = ParsedTransfer::parse(bytes, &self.directory)?;
        for spend in parsed.spends() {
            self.check_gateway(spend)?;
        }
        let [give, take] = parsed.spends();
        let denomination = match self.directory.has_denomination(give.charge) {
            true => Ok(()),
            false => Err(AdmitError::UnknownDenomination(give.charge)),
        };
        let terms = self.check_window(give, now).and(self.check_window(take, now)).and(denomination);
        let transfer = parsed.authenticate(request).ok_or(AdmitError::SessionSignature)?;
        if let Some(known) = transfer.known(&*self.set)? {
            return Ok(ScreenedTransfer::Known(known));
        }
        terms?;
        let permit = self.meters.transfers.take(request.sender(), now).ok_or(AdmitError::Quota)?;
        Ok(ScreenedTransfer::Unknown(Box::new(transfer.with_permit(permit))))
    }

    /// Takes the bytes of a transfer all the way to where the issuer stores it:
    /// [`Issuer::transfer`](crate::issuer::Issuer::transfer). Verifies two proofs of one that the set does not hold.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub fn transfer(&self, bytes: &[u8], request: &Request<'_>, now: Timestamp) -> Result<CheckedTransfer, AdmitError> {
        match self.screen_transfer(bytes, request, now)? {
            ScreenedTransfer::Known(known) => Ok(CheckedTransfer::Known(known)),
            ScreenedTransfer::Unknown(transfer) => self.verify_transfer(*transfer),
        }
    }

    /// Verifies both proofs of a transfer that was [screened](Self::screen_transfer): some ten milliseconds of one core.
    ///
    /// # Errors
    /// [`AdmitError::Verify`].
    pub fn verify_transfer(&self, transfer: AuthenticTransfer) -> Result<CheckedTransfer, AdmitError> {
        Ok(CheckedTransfer::Verified(Box::new(transfer.verify(|epoch| self.verifying_key(epoch))?)))
    }
}
