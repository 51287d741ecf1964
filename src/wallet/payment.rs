//! Funding a wallet.

use super::lane::{Lane, LaneId};
use super::note::Note;
use super::origin::{LaneOrigin, PaymentOrigin};
use super::root_secret::{NotePath, PaymentPath};
use super::{Dispute, DisputeKind, Journal, JournalError, PaymentEntry, Wallet};
use crate::protocol::{
    Credits, EpochNumber, LANES, MintAnswer, MintLane, MintRequest, MintResponse, MintSeal, MintStatement,
    MintStatementError, PaymentId, Timestamp,
};

/// A payment of this wallet.
pub(super) struct Payment {
    /// Its number in the wallet, from which its secrets are derived.
    pub(super) number: u64,
    pub(super) amounts: [Credits; LANES],
    /// When it was first requested; none for what an earlier release wrote.
    pub(super) requested_at: Option<Timestamp>,
    pub(super) minted: Option<MintResponse>,
    pub(super) seal: Option<MintSeal>,
    /// Whether what the issuer answered is kept as a dispute, and nothing better has come.
    pub(super) disputed: bool,
    /// Whether nobody else can have minted it: it was requested first by this process, of a wallet that is as old as the process.
    pub(super) ours: bool,
    /// Of a wallet that was restored: whose keys it has.
    pub(super) origin: Option<Box<PaymentOrigin>>,
}

impl Payment {
    fn entry(&self, payment: &PaymentId) -> PaymentEntry {
        let Self { number, amounts, requested_at, minted, seal, origin, .. } = self;
        PaymentEntry {
            number: *number,
            payment: *payment,
            amounts: *amounts,
            requested_at: *requested_at,
            minted: minted.clone(),
            seal: *seal,
            origin: origin.clone(),
        }
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

/// Why an answer of the issuer was refused. The issuer is at fault, or a party on the way; the payment can be requested
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
    /// The answer is signed under an epoch that did not issue at any time since the payment was requested: it would mark the notes,
    /// or void them. It is kept as a dispute, and the payment counts as disputed.
    #[error("epoch {0} did not issue at any time since the payment was requested")]
    WrongEpoch(EpochNumber),
    /// The seal does not bind this account to this payment by the issuer's signature.
    #[error("the seal of the mint: {0}")]
    Seal(#[from] MintStatementError),
    /// The payment is minted, and this is another answer. The first one stands.
    #[error("the payment was answered otherwise before")]
    OtherAnswer,
    /// The journal failed. The same answer can be taken again.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl<J: Journal> Wallet<J> {
    /// The request that mints a payment, with a fresh account. `amounts` are what the lanes will be worth; they add up
    /// to what was paid. Asked again with the same amounts, it gives the same request, which may be sent again.
    ///
    /// # Errors
    /// [`PaymentError`].
    pub fn request_mint(
        &mut self,
        payment: PaymentId,
        amounts: [Credits; LANES],
        now: Timestamp,
    ) -> Result<MintRequest, PaymentError> {
        Credits::checked_sum(amounts).ok_or(PaymentError::Overflow)?;
        let number = match self.payments.get(&payment) {
            Some(known) if known.amounts != amounts => return Err(PaymentError::OtherAmounts),
            Some(known) => known.number,
            None => {
                // A number is written down before anyone sees its account, and so never used again for another payment.
                let number = self.payments.values().map(|known| known.number + 1).max().unwrap_or(0);
                let requested_at = Some(now);
                let (minted, seal, disputed, ours) = (None, None, false, self.fresh);
                let origin = self.origin_of_new(number);
                let new = Payment { number, amounts, requested_at, minted, seal, disputed, ours, origin };
                self.journal.put_payment(&new.entry(&payment))?;
                if let Some(origin) = &new.origin {
                    self.settle_down(number, origin);
                }
                self.payments.insert(payment, new);
                number
            }
        };
        Ok(self.mint_request(payment, number, &amounts))
    }

    fn mint_request(&self, payment: PaymentId, number: u64, amounts: &[Credits; LANES]) -> MintRequest {
        let path = self.payment_path(number);
        let account = self.root.account(&path).account_id();
        let lanes = core::array::from_fn(|lane| MintLane {
            note: self.root.note(&NotePath { payment: path, lane: lane as u32, index: 0 }),
            amount: amounts[lane],
        });
        MintRequest { payment, account, lanes }
    }

    /// Takes the issuer's answer: verifies each lane's signature under the pinned key of the epoch, that the epoch issued at some time
    /// since the request, and the seal; and opens the lanes. The same answer again changes nothing.
    ///
    /// # Errors
    /// [`AcceptMintError`]; no lane is opened then.
    pub fn accept_mint(
        &mut self,
        payment: &PaymentId,
        answer: &MintAnswer,
        now: Timestamp,
    ) -> Result<(), AcceptMintError> {
        let MintAnswer { response, seal } = answer;
        let known = self.payments.get(payment).ok_or(AcceptMintError::UnknownPayment)?;
        if known.minted.as_ref().is_some_and(|minted| minted != response) {
            return Err(AcceptMintError::OtherAnswer);
        }
        let entry = self.directory.epoch(response.epoch).ok_or(AcceptMintError::UnknownEpoch(response.epoch))?;
        let request = self.mint_request(*payment, known.number, &known.amounts);
        for (lane, (asked, signature)) in request.lanes.iter().zip(&response.signatures).enumerate() {
            let leaf = request.account.commit(&asked.note, 0).leaf(asked.amount.micro());
            if !entry.key.verify(&leaf, signature) {
                return Err(AcceptMintError::Signature(lane));
            }
        }
        let statement = MintStatement::of(&request, answer);
        statement.verify(&self.pinned)?;
        // What an earlier release requested has no time: then the epoch must at least be one to spend in.
        let since = known.requested_at.map_or(entry.issue.from, |requested| requested.min(now));
        let timely = entry.may_have_signed(since, now) && (known.requested_at.is_some() || entry.spend.contains(now));
        if known.minted.is_none() && !timely {
            return self.dispute_mint(payment, statement, now);
        }
        let (number, amounts, ours) = (known.number, known.amounts, known.ours);
        if known.minted.is_some() && known.seal.is_some() {
            return Ok(());
        }
        let opened = known.minted.is_some();
        let known = Payment {
            number,
            amounts,
            requested_at: known.requested_at,
            minted: Some(response.clone()),
            seal: Some(*seal),
            disputed: false,
            ours,
            origin: known.origin.clone(),
        };
        self.journal.put_payment(&known.entry(payment))?;
        self.payments.insert(*payment, known);
        if opened {
            return Ok(());
        }
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

    /// Keeps an answer that would mark the notes, or void them.
    fn dispute_mint(
        &mut self,
        payment: &PaymentId,
        statement: MintStatement,
        now: Timestamp,
    ) -> Result<(), AcceptMintError> {
        let epoch = statement.epoch;
        self.journal.put_dispute(&Dispute {
            kind: DisputeKind::WrongEpoch,
            at: now,
            gateway: None,
            spend: None,
            content: None,
            settlement: None,
            receipt: None,
            mint: Some(statement),
            directories: vec![self.signed.clone()],
            heard: Vec::new(),
        })?;
        if let Some(known) = self.payments.get_mut(payment) {
            known.disputed = true;
        }
        Err(AcceptMintError::WrongEpoch(epoch))
    }

    /// The issuer's signed statement of a payment of this wallet: which account it was minted for. Show it if you are
    /// accused of another account's double spend. None before the mint, and for one that an earlier release took:
    /// request it again.
    pub fn mint_statement(&self, payment: &PaymentId) -> Option<MintStatement> {
        let known = self.payments.get(payment)?;
        let (epoch, seal) = (known.minted.as_ref()?.epoch, known.seal?);
        let account = self.root.account(&self.payment_path(known.number)).account_id();
        Some(MintStatement { payment: *payment, account, amounts: known.amounts, epoch, seal })
    }

    /// The payments of the wallet, minted and not.
    pub fn payments(&self) -> impl Iterator<Item = PaymentEntry> + '_ {
        self.payments.iter().map(|(id, payment)| payment.entry(id))
    }

    pub(super) fn payment_path(&self, payment: u64) -> PaymentPath {
        let own = PaymentPath { issuer: self.directory.issuer(), device: self.device, payment };
        self.elsewhere.get(&payment).map_or(own, |(path, _)| *path)
    }

    /// Where the keys of a new payment come from, in a wallet that was restored: on its own device numbers begin at 0, so that
    /// they are found again by trying.
    fn origin_of_new(&self, number: u64) -> Option<Box<PaymentOrigin>> {
        if self.elsewhere.is_empty() {
            return None;
        }
        let own = self.payments.values().map(|known| self.payment_path(known.number));
        let own = own.filter(|path| path.device == self.device).map(|path| path.payment + 1).max().unwrap_or(0);
        (own != number).then(|| {
            let lanes = core::array::from_fn(|_| LaneOrigin::Mint);
            Box::new(PaymentOrigin { device: self.device, number: own, held_until: Timestamp::default(), lanes })
        })
    }
}
