//! Asking whether notes that were read from a file were spent meanwhile (protocol, section 5, "Journal").
//!
//! A wallet file that was copied, or put back from a backup, has notes in it that another run of the wallet may have spent since.
//! To spend them again would reveal the account. So no note that came from a file is spent before its nullifier was looked for
//! in the spent set. It is not named: what is asked for is all nullifiers with a certain prefix, so short that thousands
//! share it.

use std::collections::HashSet;

use halometer_circuits::note::Nullifier;

use super::lane::Lane;
use super::note::Note;
use super::root_secret::NotePath;
use super::{Journal, JournalError, LaneId, Wallet};
use crate::protocol::{EpochNumber, Prefix, Timestamp};

/// A question to the issuer or any gateway of its set: which nullifiers of an epoch that begin like this are spent?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The epoch.
    pub epoch: EpochNumber,
    /// How they begin.
    pub prefix: Prefix,
}

impl<J: Journal> Wallet<J> {
    /// The epochs that there is something to ask about: those of unchecked lanes that can be spent in now. Of an epoch that is
    /// over nobody has the nullifiers any more, and nothing hangs on them.
    pub fn unchecked_epochs(&self, now: Timestamp) -> Vec<EpochNumber> {
        let epochs = self.doubtful().map(|(_, note)| note.epoch);
        let mut epochs: Vec<_> = epochs.filter(|epoch| self.is_spendable(*epoch, now)).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs
    }

    /// What to ask about an epoch with so many spent nullifiers: each question once, in an order that says nothing of
    /// the lanes. Ask over the same anonymous path as calls, each by itself and spread in time: together they would say
    /// more than each alone. The fewer spends of the epoch are still to come, the less they tell.
    pub fn questions(&self, epoch: EpochNumber, spent: u64, now: Timestamp) -> Vec<Question> {
        let to_come = self.directory.epoch(epoch).map_or(0, |entry| entry.spends_to_come(spent, now));
        let bits = Prefix::bits_for(spent, to_come);
        let ask = |nullifier: &Nullifier| Question { epoch, prefix: Prefix::of(nullifier, bits) };
        let mut questions: Vec<_> = self.unchecked(epoch).map(|(_, nullifier)| ask(&nullifier)).collect();
        questions.sort_unstable();
        questions.dedup();
        questions
    }

    /// Takes an answer. Lanes whose note is in it are frozen, before anything is sent of them, and reported; the other
    /// lanes that the question covered can be used, unless they are [held](Self::held_until): then ask about them
    /// again after it.
    ///
    /// # Errors
    /// [`JournalError`]; lanes that were frozen by then are.
    pub fn answer(
        &mut self,
        question: &Question,
        spent: &[Nullifier],
        now: Timestamp,
    ) -> Result<Vec<LaneId>, JournalError> {
        let mut covered: Vec<_> = self.unchecked(question.epoch).collect();
        covered.retain(|(_, nullifier)| question.prefix.is_of(nullifier));
        let spent: HashSet<&Nullifier> = spent.iter().collect();
        let mut frozen = Vec::new();
        for (lane, nullifier) in covered {
            if spent.contains(&nullifier) {
                self.freeze(lane)?;
                frozen.push(lane);
            } else if self.held_until(lane, now).is_none()
                && let Some(Lane::Idle(note)) = self.lanes.get_mut(&lane)
            {
                note.unspent = true;
            }
        }
        Ok(frozen)
    }

    /// Until when notes from the file are not spent, whatever the spent set says: spends that another copy sent may still arrive.
    pub fn quarantined_until(&self) -> Option<Timestamp> {
        let held = self.elsewhere.values().map(|(_, until)| *until).filter(|until| *until != Timestamp::default());
        self.quarantined_until.max(held.max())
    }

    /// Until when the note of a lane is not spent whatever the spent set says; none if it may be now.
    pub fn held_until(&self, lane: LaneId, now: Timestamp) -> Option<Timestamp> {
        let held = self.elsewhere.get(&lane.payment).map(|(_, until)| *until);
        self.quarantined_until.max(held).filter(|until| now < *until)
    }

    /// Lanes of an epoch of which it is not known whether a copy spent them, with their nullifier.
    fn unchecked(&self, epoch: EpochNumber) -> impl Iterator<Item = (LaneId, Nullifier)> + '_ {
        self.doubtful().filter(move |(_, note)| note.epoch == epoch).map(|(id, note)| {
            let path = NotePath { payment: self.payment_path(id.payment), lane: id.lane, index: note.index };
            (id, self.root.account(&path.payment).nullifier(&self.root.note(&path)))
        })
    }

    fn doubtful(&self) -> impl Iterator<Item = (LaneId, &Note)> {
        self.lanes.iter().filter_map(|(id, lane)| match lane {
            Lane::Idle(note) if !note.unspent && !self.uncertain.contains(id) => Some((*id, note)),
            _ => None,
        })
    }

    fn freeze(&mut self, lane: LaneId) -> Result<(), JournalError> {
        self.journal.freeze(lane)?;
        self.ready.retain(|ready| ready.lane != lane);
        if let Some(Lane::Idle(note)) = self.lanes.remove(&lane) {
            self.lanes.insert(lane, Lane::Frozen(note));
        }
        Ok(())
    }
}
