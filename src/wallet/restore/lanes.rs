//! The lanes of the payments that were found: the last spend of each, and what is left after it.

use std::collections::HashMap;

use halometer_circuits::note::Nullifier;

use super::found::LaneFound;
use super::search::{Known, Stuck, last_spent};
use super::{Restore, RestoreError, RestoreQuestion};
use crate::protocol::{ChangeQuery, Credits, EpochNumber, LANES, Memo, MemoQuery, Prefix, Settlement};
use crate::wallet::Question;
use crate::wallet::memo::MemoContents;
use crate::wallet::root_secret::NotePath;

/// What was said of the settlement of a spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeTold {
    /// It is settled.
    Settled(Settlement),
    /// It is being worked on: its settlement comes by the end of its lease.
    Running,
    /// It is not told: an earlier release made the spend, whose memo has no code.
    Untold,
}

/// The last spend of a lane.
#[derive(Clone, Copy, Debug)]
struct Last {
    index: u64,
    spend: MemoQuery,
}

#[derive(Debug, Default)]
enum Stage {
    /// Its last spend is looked for.
    #[default]
    Search,
    /// Its memo is asked for.
    Memo(Last),
    /// Its settlement is asked for.
    Change(Last, MemoContents),
}

/// Where the search is.
#[derive(Default)]
pub(super) struct LaneSearch {
    /// Number of the lane, over all payments.
    at: usize,
    stage: Stage,
    /// Of the lane: its nullifiers, by index.
    nullifiers: HashMap<u64, Nullifier>,
}

impl LaneSearch {
    pub(super) const fn done(&self) -> usize {
        self.at
    }
}

impl Restore {
    /// What is asked next about a lane.
    pub(super) fn ask_about_lanes(&mut self) -> Result<Option<RestoreQuestion>, RestoreError> {
        loop {
            let (payment, lane) = (self.lanes.at / LANES, self.lanes.at % LANES);
            if payment >= self.payments.len() {
                return Ok(None);
            }
            match &self.lanes.stage {
                Stage::Search => match self.search(payment, lane as u32) {
                    Err(Stuck::Asked(question)) => return Ok(Some(RestoreQuestion::Bucket(question))),
                    Err(Stuck::Hidden) => return Err(RestoreError::Hidden),
                    Ok(Some(last)) => self.lanes.stage = Stage::Memo(last),
                    Ok(None) => self.conclude(self.never_spent(payment, lane)),
                },
                Stage::Memo(last) => return Ok(Some(RestoreQuestion::Memo(last.spend))),
                Stage::Change(last, contents) => {
                    let (issuer, spend) = (self.directory.issuer(), last.spend);
                    let code = self.root.memo_code(&issuer, &spend.nullifier, contents);
                    return Ok(Some(RestoreQuestion::Change(ChangeQuery { spend, code })));
                }
            }
        }
    }

    fn search(&mut self, payment: usize, lane: u32) -> Result<Option<Last>, Stuck<Question>> {
        let found = &self.payments[payment];
        let account = self.root.account(&found.path);
        let minted = found.answer.response.epoch;
        let known = Known {
            from_the_first: matches!(self.partitions.get(&minted), Some(Some(_))),
            tells_nothing: self.partitions.values().flatten().all(|partition| partition.bits == 0),
        };
        let path = NotePath { payment: found.path, lane, index: 0 };
        let mut nullifiers = core::mem::take(&mut self.lanes.nullifiers);
        let mut spent = |index| {
            let of = |index: &u64| account.nullifier(&self.root.note(&NotePath { index: *index, ..path }));
            let nullifier = *nullifiers.entry(index).or_insert_with_key(of);
            self.spent_in(&nullifier).map(|epoch| Some(MemoQuery { epoch: epoch?, nullifier }))
        };
        let outcome = last_spent(|index| spent(index).map(|found| found.is_some()), known).and_then(|last| {
            let Some(index) = last else { return Ok(None) };
            // It was just seen to be there.
            Ok(spent(index)?.map(|spend| Last { index, spend }))
        });
        self.lanes.nullifiers = nullifiers;
        outcome
    }

    /// The epoch whose partition has a nullifier, or what to ask to know it.
    fn spent_in(&self, nullifier: &Nullifier) -> Result<Option<EpochNumber>, Question> {
        let mut unasked = None;
        for (epoch, partition) in &self.partitions {
            let Some(partition) = partition else { continue };
            let prefix = Prefix::of(nullifier, partition.bits);
            match partition.read.get(&prefix) {
                Some(spent) if spent.contains(nullifier) => return Ok(Some(*epoch)),
                Some(_) => {}
                None => unasked = unasked.or(Some(Question { epoch: *epoch, prefix })),
            }
        }
        unasked.map_or(Ok(None), Err)
    }

    /// Of a lane none of whose notes is spent: what was minted, as long as it can be spent.
    fn never_spent(&self, payment: usize, lane: usize) -> LaneFound {
        let found = &self.payments[payment];
        let (value, epoch) = (found.amounts[lane], found.answer.response.epoch);
        match self.is_over(epoch) {
            true => LaneFound::Void { at_most: value },
            false => LaneFound::Mint { value, epoch },
        }
    }

    /// Whether notes of an epoch can never be spent any more.
    fn is_over(&self, epoch: EpochNumber) -> bool {
        self.directory.epoch(epoch).is_none_or(|epoch| epoch.spend.until <= self.now)
    }

    fn conclude(&mut self, found: LaneFound) {
        let LaneSearch { at, stage, nullifiers } = &mut self.lanes;
        if let Some(payment) = self.payments.get_mut(*at / LANES) {
            payment.lanes[*at % LANES] = Some(found);
        }
        *at += 1;
        *stage = Stage::Search;
        nullifiers.clear();
        self.asked = None;
    }

    /// The lane that is looked at.
    fn place(&self) -> Option<NotePath> {
        let payment = self.payments.get(self.lanes.at / LANES)?;
        Some(NotePath { payment: payment.path, lane: (self.lanes.at % LANES) as u32, index: 0 })
    }

    /// Takes the answer to [`RestoreQuestion::Memo`]; none if the set has no such spend.
    ///
    /// # Errors
    /// [`RestoreError::NotAsked`]; [`RestoreError::Memo`], and then another party can be asked.
    pub fn memo(&mut self, memo: Option<&Memo>) -> Result<(), RestoreError> {
        let (Some(RestoreQuestion::Memo(_)), Stage::Memo(last), Some(place)) =
            (&self.asked, &self.lanes.stage, self.place())
        else {
            return Err(RestoreError::NotAsked);
        };
        let (last, issuer) = (*last, self.directory.issuer());
        let said = memo.and_then(|memo| self.root.open_memo(&issuer, &last.spend.nullifier, memo));
        let of_this_spend = |said: &MemoContents| {
            (said.device, said.payment, said.lane) == (place.payment.device, place.payment.payment, place.lane)
                && said.index == last.index + 1
        };
        let said = said.filter(of_this_spend).ok_or(RestoreError::Memo)?;
        self.lanes.stage = Stage::Change(last, said);
        self.asked = None;
        Ok(())
    }

    /// Goes on with the next lane, in the place of an answer to [`RestoreQuestion::Memo`] or [`RestoreQuestion::Change`]: every party was
    /// asked, and none has one that holds. The lane is left alone.
    ///
    /// # Errors
    /// [`RestoreError::NotAsked`].
    pub fn contested(&mut self) -> Result<(), RestoreError> {
        let (Some(RestoreQuestion::Memo(_) | RestoreQuestion::Change(_)), Stage::Memo(_) | Stage::Change(..)) =
            (&self.asked, &self.lanes.stage)
        else {
            return Err(RestoreError::NotAsked);
        };
        self.conclude(LaneFound::Contested);
        Ok(())
    }

    /// Takes the answer to [`RestoreQuestion::Change`].
    ///
    /// # Errors
    /// [`RestoreError::NotAsked`]; [`RestoreError::Change`] and [`RestoreError::WrongEpoch`], and then another party can be asked.
    pub fn change(&mut self, told: ChangeTold) -> Result<(), RestoreError> {
        let (Some(RestoreQuestion::Change(_)), Stage::Change(last, said), Some(place)) =
            (&self.asked, &self.lanes.stage, self.place())
        else {
            return Err(RestoreError::NotAsked);
        };
        let found = match told {
            ChangeTold::Running => LaneFound::Running { rest: said.hidden },
            ChangeTold::Untold => LaneFound::Untold { rest: said.hidden },
            ChangeTold::Settled(settlement) => self.change_note(last, said, &place, settlement)?,
        };
        self.conclude(found);
        Ok(())
    }

    /// The change note, if the issuer has signed it.
    fn change_note(
        &self,
        last: &Last,
        said: &MemoContents,
        place: &NotePath,
        settlement: Settlement,
    ) -> Result<LaneFound, RestoreError> {
        let Settlement { epoch, refund, ref signature } = settlement;
        let hidden: Credits = said.hidden;
        let worth = hidden.checked_add(refund).ok_or(RestoreError::Change)?;
        // What no directory names can be checked by nobody, and is over.
        let Some(entry) = self.directory.epoch(epoch) else { return Ok(LaneFound::Void { at_most: worth }) };
        let account = self.root.account(&place.payment).account_id();
        let note = self.root.note(&NotePath { index: said.index, ..*place });
        let leaf = account.commit(&note, hidden.micro()).leaf(refund.micro());
        if !refund.is_multiple_of(self.directory.quantum()) || !entry.key.verify(&leaf, signature) {
            return Err(RestoreError::Change);
        }
        // When it was sent is not known: not before notes of its epoch could be spent.
        let spent = self.directory.epoch(last.spend.epoch).ok_or(RestoreError::Change)?;
        if !entry.may_have_signed(spent.spend.from, self.now) {
            return Err(RestoreError::WrongEpoch(epoch));
        }
        if self.is_over(epoch) {
            return Ok(LaneFound::Void { at_most: worth });
        }
        Ok(LaneFound::Change { index: said.index, hidden, settlement })
    }
}
