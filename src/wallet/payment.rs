//! Funding a wallet.

use super::lane::{Lane, LaneId};
use super::note::Note;
use super::root_secret::{NotePath, PaymentPath};
use super::{Journal, JournalError, PaymentEntry, Wallet};
use crate::protocol::{Credits, EpochNumber, LANES, MintLane, MintRequest, MintResponse, PaymentId};

/// A payment of this wallet.
pub(super) struct Payment {
    /// Its number in the wallet, from which its secrets are derived.
    pub(super) number: u64,
    pub(super) amounts: [Credits; LANES],
    pub(super) minted: Option<MintResponse>,
    /// Whether nobody else can have minted it: it was requested first by this process, of a wallet that is as old as the process.
    pub(super) ours: bool,
}

impl Payment {
    fn entry(&self, payment: &PaymentId) -> PaymentEntry {
        let Self { number, amounts, minted, .. } = self;
        PaymentEntry { number: *number, payment: *payment, amounts: *amounts, minted: minted.clone() }
    }
}

/// Why no request could be made for a payment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PaymentError {
    /// The payment was requested with other amounts. Its first request stands; send that one.
    #[error("the payment was requested with other amounts")]
    OtherAmounts,
    /// The amounts do not fit 64 bits together.
    #[error("the amounts do not fit 64 bits together")]
    Overflow,
    /// The journal failed. Nothing may be sent.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Why an answer of the issuer was refused. The issuer is at fault, or whoever stands between; the payment can be requested
/// again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptMintError {
    /// The wallet made no request for this payment.
    #[error("no request was made for this payment")]
    UnknownPayment,
    /// The directory has no such epoch.
    #[error("the directory has no epoch {0}")]
    UnknownEpoch(EpochNumber),
    /// The signature of a lane is not one of the epoch's key.
    #[error("the signature of lane {0} is not one of the epoch's key")]
    Signature(usize),
    /// The journal failed. The same answer can be taken again.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl<J: Journal> Wallet<J> {
    /// The request that mints a payment, with a fresh account. `amounts` are what the lanes are to be worth; they add up to
    /// what was paid. Asked again with the same amounts, it gives the same request, which may be sent again.
    ///
    /// # Errors
    /// [`PaymentError`].
    pub fn request_mint(&mut self, payment: PaymentId, amounts: [Credits; LANES]) -> Result<MintRequest, PaymentError> {
        Credits::checked_sum(amounts).ok_or(PaymentError::Overflow)?;
        let number = match self.payments.get(&payment) {
            Some(known) if known.amounts != amounts => return Err(PaymentError::OtherAmounts),
            Some(known) => known.number,
            None => {
                // A number is written down before anyone sees its account, and so never used again for another payment.
                let number = self.payments.values().map(|known| known.number + 1).max().unwrap_or(0);
                let new = Payment { number, amounts, minted: None, ours: self.fresh };
                self.journal.put_payment(&new.entry(&payment))?;
                self.payments.insert(payment, new);
                number
            }
        };
        let path = self.payment_path(number);
        let account = self.root.account(&path).account_id();
        let lanes = core::array::from_fn(|lane| MintLane {
            note: self.root.note(&NotePath { payment: path, lane: lane as u32, index: 0 }),
            amount: amounts[lane],
        });
        Ok(MintRequest { payment, account, lanes })
    }

    /// Takes the issuer's answer: verifies each lane's signature under the pinned key of the epoch, and opens the lanes. The
    /// same answer again changes nothing.
    ///
    /// # Errors
    /// [`AcceptMintError`]; no lane is opened then.
    pub fn accept_mint(&mut self, payment: &PaymentId, response: &MintResponse) -> Result<(), AcceptMintError> {
        let known = self.payments.get(payment).ok_or(AcceptMintError::UnknownPayment)?;
        if known.minted.is_some() {
            return Ok(());
        }
        let (number, amounts, ours) = (known.number, known.amounts, known.ours);
        let entry = self.directory.epoch(response.epoch).ok_or(AcceptMintError::UnknownEpoch(response.epoch))?;
        let path = self.payment_path(number);
        let account = self.root.account(&path).account_id();
        for (lane, signature) in response.signatures.iter().enumerate() {
            let note = self.root.note(&NotePath { payment: path, lane: lane as u32, index: 0 });
            let leaf = account.commit(&note, 0).leaf(amounts[lane].micro());
            if !entry.key.verify(&leaf, signature) {
                return Err(AcceptMintError::Signature(lane));
            }
        }
        let known = Payment { number, amounts, minted: Some(response.clone()), ours };
        self.journal.put_payment(&known.entry(payment))?;
        self.payments.insert(*payment, known);
        for (lane, signature) in response.signatures.iter().enumerate() {
            let id = LaneId { payment: number, lane: lane as u32 };
            let note = Note {
                index: 0,
                hidden: 0,
                refund: amounts[lane].micro(),
                epoch: response.epoch,
                signature: signature.clone(),
                unspent: ours,
            };
            self.lanes.insert(id, Lane::Idle(note));
        }
        Ok(())
    }

    /// The payments of the wallet, minted and not.
    pub fn payments(&self) -> impl Iterator<Item = PaymentEntry> + '_ {
        self.payments.iter().map(|(id, payment)| payment.entry(id))
    }

    pub(super) fn payment_path(&self, payment: u64) -> PaymentPath {
        PaymentPath { issuer: self.directory.issuer(), device: self.device, payment }
    }
}
