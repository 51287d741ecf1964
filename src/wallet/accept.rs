//! Taking a settlement.

use super::lane::{InFlight, Lane};
use super::note::Note;
use super::{DisputeKind, Journal, JournalEntry, JournalError, LaneId, Wallet};
use crate::protocol::{Credits, EpochNumber, Purpose, Settlement, SpendKey, Timestamp};

/// What a settled spend came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The lane, which can be spent from again.
    pub lane: LaneId,
    /// The charge.
    pub charge: Credits,
    /// What it cost; nothing for a transfer or rollover.
    pub cost: Credits,
    /// What came back.
    pub refund: Credits,
}

/// Why a settlement was refused. Its sender is at fault; the lane goes on waiting, and the credit stays in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// No such spend awaits a settlement.
    #[error("no such spend awaits a settlement")]
    NotInFlight,
    /// The refund is above the charge: it could be told apart later by its size, and the issuer has not that much to give.
    #[error("a refund of {refund} is above the charge of {charge}")]
    AboveCharge {
        /// The refund.
        refund: Credits,
        /// The charge.
        charge: Credits,
    },
    /// A half of a transfer was settled as neither the transfer nor a cancel would, or as the one when its other half was settled
    /// as the other.
    #[error("a refund of {0} is neither that of the transfer nor that of a cancel")]
    NotTransfer(Credits),
    /// The refund is no multiple of the quantum: an odd amount would mark the caller.
    #[error("a refund of {refund} is no multiple of the quantum {quantum}")]
    NotQuantised {
        /// The refund.
        refund: Credits,
        /// The quantum.
        quantum: Credits,
    },
    /// The directory has no such epoch.
    #[error("the directory has no epoch {0}")]
    UnknownEpoch(EpochNumber),
    /// The settlement is signed under an epoch that did not issue at any time between the pinning of the spend and now: it would mark
    /// the lane at each step, or void its credit. It is kept as a dispute, and the credit counts as disputed.
    #[error("epoch {0} did not issue at any time since the spend was sent")]
    WrongEpoch(EpochNumber),
    /// The signature is not one of the epoch's key on this change note.
    #[error("the signature is not one of the key of epoch {0}")]
    Signature(EpochNumber),
    /// The journal failed. The settlement can be accepted again.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl<J: Journal> Wallet<J> {
    /// Takes the settlement of a spend that was sent: checks it, writes it to the journal, and moves the lane on to its change
    /// note.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub fn accept(&mut self, key: &SpendKey, settlement: &Settlement, now: Timestamp) -> Result<Accepted, AcceptError> {
        let (accepted, note) = self.check_or_dispute(key, settlement, now)?;
        self.journal.settle(&[(*key, settlement.clone())])?;
        if let Some(spending) = &mut self.spending {
            spending.settled(&key.nullifier, settlement.refund);
        }
        self.lanes.insert(accepted.lane, Lane::Idle(note));
        Ok(accepted)
    }

    /// [`check_settlement`](Self::check_settlement); what is signed under a wrong epoch is kept as a dispute, by
    /// whichever way it came.
    pub(super) fn check_or_dispute(
        &mut self,
        key: &SpendKey,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<(Accepted, Note), AcceptError> {
        let checked = self.check_settlement(key, settlement, now);
        if let Err(AcceptError::WrongEpoch(_)) = &checked {
            self.dispute(key, DisputeKind::WrongEpoch, Some(settlement.clone()), now)?;
        }
        checked
    }

    /// What accepting a settlement would come to, and the change note.
    fn check_settlement(
        &self,
        key: &SpendKey,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<(Accepted, Note), AcceptError> {
        let (lane, flight) = self.in_flight(key).ok_or(AcceptError::NotInFlight)?;
        let Settlement { epoch, refund, signature } = settlement;
        let (charge, quantum) = (flight.spend.charge, self.directory.quantum());
        let cost = match &flight.spend.purpose {
            Purpose::Transfer { nullifier, .. } => {
                // Carried out: the giving half gets nothing back, the taking one what was given. Cancelled: as if it had not been.
                if *refund != flight.takes && *refund != charge {
                    return Err(AcceptError::NotTransfer(*refund));
                }
                // Each half may have been carried out or cancelled, but not one this way and the other that.
                if let Some(JournalEntry { settlement: Some(other), .. }) = self.journal.entry(nullifier)?
                    && refund.checked_add(other.refund) != charge.checked_add(flight.takes)
                {
                    return Err(AcceptError::NotTransfer(*refund));
                }
                Credits::ZERO
            }
            _ => charge.checked_sub(*refund).ok_or(AcceptError::AboveCharge { refund: *refund, charge })?,
        };
        if !refund.is_multiple_of(quantum) {
            return Err(AcceptError::NotQuantised { refund: *refund, quantum });
        }
        let entry = self.directory.epoch(*epoch).ok_or(AcceptError::UnknownEpoch(*epoch))?;
        if !entry.key.verify(&flight.change().leaf(refund.micro()), signature) {
            return Err(AcceptError::Signature(*epoch));
        }
        // A clock that was ahead when it was pinned must not make what is right wrong.
        if !entry.may_have_signed(flight.pinned_at.min(now), now) {
            return Err(AcceptError::WrongEpoch(*epoch));
        }
        Ok((Accepted { lane, charge, cost, refund: *refund }, flight.note(settlement)))
    }
}

impl InFlight {
    /// The change note, given a settlement that was checked: then `v' + r` is at most `v'` and the charge, what the note before
    /// was worth, or was seen to fit when the transfer was planned.
    pub(super) fn note(&self, settlement: &Settlement) -> Note {
        Note {
            index: self.next,
            hidden: *self.hidden,
            refund: settlement.refund.micro(),
            epoch: settlement.epoch,
            signature: settlement.signature.clone(),
            unspent: self.ours,
        }
    }
}
