//! Minting (protocol, section 5, "Mint").

use subtle::ConstantTimeEq;

use super::{Issuer, PaymentSourceError};
use crate::protocol::{Credits, Fault, LANES, MintAnswer, MintRequest, MintResponse, Problem, Timestamp};
use crate::store::{MintOutcome, MintRecord, StoreError};

/// Why a payment was not minted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// No final payment is known under this id.
    #[error("no payment is known under this id")]
    Unpaid,
    /// The lanes do not add up to what was paid.
    #[error("the lanes do not add up to the {paid} micro-credits that were paid")]
    Amount {
        /// What was paid.
        paid: Credits,
    },
    /// Two lanes have the same `rho`: their notes would have the same nullifier.
    #[error("two lanes have the same note secret")]
    RepeatedNote,
    /// The account is that of the secret 0, which everybody knows.
    #[error("the account is that of the secret 0")]
    ZeroAccount,
    /// The account was minted with another payment: the two could be linked by a double spend of either.
    #[error("the account belongs to another payment")]
    KnownAccount,
    /// The payment was minted for another request. What it gave is not told.
    #[error("the payment was minted for another request")]
    Conflict,
    /// No epoch issues now, or its key is not here. The issuer is at fault.
    #[error("no epoch issues now")]
    NoIssuingEpoch,
    /// The payment source did not answer.
    #[error(transparent)]
    Payments(#[from] PaymentSourceError),
    /// The book of mints failed. Send the same request again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MintError {
    /// The problem on the wire.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Unpaid => Problem::Unpaid,
            Self::Amount { .. } | Self::RepeatedNote | Self::ZeroAccount | Self::KnownAccount | Self::Conflict => {
                Problem::Malformed
            }
            Self::NoIssuingEpoch | Self::Payments(_) | Self::Store(_) => Problem::StoreUnavailable,
        }
    }

    /// The party at fault.
    pub fn fault(&self) -> Fault {
        self.problem().fault()
    }
}

impl Issuer {
    /// Mints a payment: computes each lane's `C = H_value(H_note(A, rho), 0)` itself and signs `H_leaf(C, amount)`. Write-once
    /// by payment id: the same request gets the same answer, for ever and across epochs; another request gets none. The seal says by
    /// the issuer's signature which account the payment was minted for.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn mint(&self, request: &MintRequest, now: Timestamp) -> Result<MintAnswer, MintError> {
        let digest = request.digest();
        let amounts = core::array::from_fn(|lane| request.lanes[lane].amount);
        let sealed = |response: MintResponse| {
            let seal = self.sealer.seal(&request.payment, &request.account, &amounts, response.epoch);
            MintAnswer { response, seal }
        };
        let answer = |known: MintRecord| {
            if known.request == digest { Ok(sealed(known.response)) } else { Err(MintError::Conflict) }
        };
        if let Some(known) = self.mints.by_payment(&request.payment)? {
            return answer(known);
        }
        let paid = self.payments.paid(&request.payment)?.ok_or(MintError::Unpaid)?;
        if Credits::checked_sum(request.lanes.iter().map(|lane| lane.amount)) != Some(paid) {
            return Err(MintError::Amount { paid });
        }
        if request.account.is_of_zero() {
            return Err(MintError::ZeroAccount);
        }
        if has_repeated_note(request) {
            return Err(MintError::RepeatedNote);
        }
        let response = self.sign_lanes(request, now)?;
        let record = MintRecord {
            payment: request.payment,
            account: request.account,
            amount: paid,
            amounts: Some(amounts),
            request: digest,
            response: response.clone(),
        };
        // Release what the book holds, whichever request was first.
        match self.mints.record(record)? {
            MintOutcome::Fresh => Ok(sealed(response)),
            MintOutcome::Known(known) => answer(*known),
            MintOutcome::AccountKnown => Err(MintError::KnownAccount),
        }
    }

    fn sign_lanes(&self, request: &MintRequest, now: Timestamp) -> Result<MintResponse, MintError> {
        let epoch = self.directory.issuing(now).ok_or(MintError::NoIssuingEpoch)?.number;
        let key = self.keys.get(epoch).ok_or(MintError::NoIssuingEpoch)?;
        let signatures: [_; LANES] = core::array::from_fn(|i| {
            let lane = &request.lanes[i];
            key.sign(&request.account.commit(&lane.note, 0).leaf(lane.amount.micro()))
        });
        Ok(MintResponse { epoch, signatures })
    }
}

fn has_repeated_note(request: &MintRequest) -> bool {
    let lanes = &request.lanes;
    (0..LANES).any(|i| (0..i).any(|j| bool::from(lanes[i].note.ct_eq(&lanes[j].note))))
}
