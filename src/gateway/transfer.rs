//! Checking a transfer (protocol, section 5, "Transfer").

use super::{AdmitError, Gateway};
use crate::lifecycle::{AuthenticTransfer, ParsedTransfer, VerifiedTransfer};
use crate::protocol::{Request, Timestamp};

impl Gateway {
    /// Takes the bytes of a [`Transfer`](crate::protocol::Transfer) through the cheap checks: pairing and canonical form, gateway
    /// id, epochs, not-after, tariff, denomination, then both session signatures, then the quota.
    ///
    /// A transfer that is in the set is answered after its window too, like any spend: what the terms say counts only for what
    /// the set does not hold.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub fn screen_transfer(
        &self,
        bytes: &[u8],
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<AuthenticTransfer, AdmitError> {
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
        let keys = parsed.record_keys();
        let transfer = parsed.authenticate(request).ok_or(AdmitError::SessionSignature)?;
        let mut known = true;
        for key in keys {
            known &= self.set.find(key.epoch, &key.nullifier)?.is_some_and(|record| record.key == key);
        }
        match (known, terms) {
            (true, _) => Ok(transfer),
            (false, Err(broken)) => Err(broken),
            (false, Ok(())) if self.meters.transfers.take(now) => Ok(transfer),
            (false, Ok(())) => Err(AdmitError::Quota),
        }
    }

    /// Takes the bytes of a transfer all the way to where the issuer stores it:
    /// [`Issuer::transfer`](crate::issuer::Issuer::transfer). Verifies two proofs.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub fn transfer(
        &self,
        bytes: &[u8],
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<VerifiedTransfer, AdmitError> {
        self.verify_transfer(self.screen_transfer(bytes, request, now)?)
    }

    /// Verifies both proofs of a transfer that was [screened](Self::screen_transfer): some ten milliseconds of one core.
    ///
    /// # Errors
    /// [`AdmitError::Verify`].
    pub fn verify_transfer(&self, transfer: AuthenticTransfer) -> Result<VerifiedTransfer, AdmitError> {
        transfer.verify(|epoch| self.verifying_key(epoch)).map_err(|error| {
            self.meters.transfers.give_back();
            error.into()
        })
    }
}
