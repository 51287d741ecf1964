//! The journal in the file.

use std::sync::{Mutex, MutexGuard, PoisonError};

use halometer_circuits::note::Nullifier;
use redb::{ReadTransaction, WriteTransaction};

use super::super::journal::check_payment;
use super::super::{
    Dispute, Journal, JournalEntry, JournalError, LaneId, OutcomeNote, PaymentEntry, Saved, SpendSummary,
};
use super::WalletFileError;
use super::codec::{Frontier, SpendRow, payment_from_bytes, payment_to_bytes};
use super::state::State;
use super::store::{Keep, Rows, Store, Table, View};
use crate::protocol::codec::DecodeError;
use crate::protocol::{Purpose, Settlement, SignedDirectory, Spend, SpendKey, Timestamp};

const DIRECTORY: &[u8] = b"directory";

/// A [`Journal`] in a wallet's file. Each change is on the disk before the method returns, but for
/// [`annotate`](Journal::annotate), which goes with the next.
///
/// After a write that failed it refuses every other one: whether the change is in the file shows when the wallet is opened again.
pub struct FileJournal {
    store: Mutex<Store>,
}

impl core::fmt::Debug for FileJournal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FileJournal(..)")
    }
}

/// What [`FileJournal::prune`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Spends that lost their proof.
    pub spends: u64,
    /// Of how many bytes the room is free for what comes.
    pub bytes: u64,
}

/// How many spends lose their proof in one commit.
const PRUNE_AT_ONCE: usize = 256;

impl FileJournal {
    pub(super) fn new(store: Store) -> Self {
        Self { store: Mutex::new(store) }
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        // A panic in between leaves a transaction that was not committed, and a store that writes no more.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&View<'_, WriteTransaction>, &mut State) -> Result<(T, Keep), JournalError>,
    ) -> Result<T, JournalError> {
        self.store().write(work)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&View<'_, ReadTransaction>) -> Result<T, WalletFileError>,
    ) -> Result<T, JournalError> {
        self.store().read(read).map_err(JournalError::from)
    }

    /// A note that its owner's program has put there under a name, such as the issuer's address.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    pub fn note(&self, name: &str) -> Result<Option<String>, JournalError> {
        self.read(|view| {
            let bytes = view.value(Table::Meta, &view.name(Table::Meta, name.as_bytes()))?;
            let text = bytes.map(|bytes| core::str::from_utf8(&bytes).map(str::to_owned));
            text.transpose().map_err(|_| WalletFileError::Damaged("a note is no text"))
        })
    }

    /// Puts a note under a name, in the place of what was there. Neither is in the clear in the file; both move with it.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    pub fn put_note(&self, name: &str, text: &str) -> Result<(), JournalError> {
        self.write(|view, _| {
            view.put(Table::Meta, &view.name(Table::Meta, name.as_bytes()), text.as_bytes())?;
            Ok(((), Keep::Now))
        })
    }

    /// Takes the proofs, 3,680 bytes each, from settled spends that were pinned before an instant and are not the newest of their
    /// lane: `spend` then ends where the proof began. That the nullifier is pinned, and to what, is kept for ever. A spend
    /// without its proof is no evidence in a dispute any more; disputes that are kept have spends of their own. The room is
    /// used again by the file; it is given back to the disk by [`WalletFile::rewrite`](super::WalletFile::rewrite).
    ///
    /// # Errors
    /// [`JournalError::Failed`]; some may have lost theirs by then.
    pub fn prune(&self, before: Timestamp) -> Result<Pruned, JournalError> {
        let mut store = self.store();
        let mut doomed = store.read(|view| doomed(view, before)).map_err(JournalError::from)?;
        let mut pruned = Pruned::default();
        while !doomed.is_empty() {
            let some = doomed.split_off(doomed.len().saturating_sub(PRUNE_AT_ONCE));
            let done: Pruned = store.write(|view, _| {
                let mut done = Pruned::default();
                for number in some {
                    let mut row = spend_row(view, number)?;
                    done.bytes += proof(view, number)?.len() as u64;
                    done.spends += 1;
                    row.proof = false;
                    view.put(Table::Spends, &number.to_be_bytes(), &row.to_bytes())?;
                    view.remove(Table::Proofs, &number.to_be_bytes())?;
                }
                Ok::<_, JournalError>((done, Keep::Now))
            })?;
            pruned.spends += done.spends;
            pruned.bytes += done.bytes;
        }
        Ok(pruned)
    }
}

/// Which spends may lose their proof.
fn doomed<T: Rows>(view: &View<'_, T>, before: Timestamp) -> Result<Vec<u64>, WalletFileError> {
    let (mut kept, mut doomed) = (Vec::new(), Vec::new());
    for (_, number) in frontiers(view)?.iter().flat_map(|frontier| &frontier.lanes).filter_map(|lane| lane.newest) {
        kept.push(number);
        // The other half of a transfer is read for as long as this one is the newest.
        let entry = whole(view, number, spend_row(view, number)?)?;
        if let Ok(Spend { purpose: Purpose::Transfer { nullifier, .. }, .. }) = Spend::from_bytes(&entry.spend) {
            kept.extend(pinned(view, &nullifier)?);
        }
    }
    view.values(Table::Spends, false, |key, bytes| {
        let row = read_row(bytes)?;
        if row.entry.pinned_at >= before {
            // They stand in the order in which they were pinned; a clock that was set back does no harm.
            return Ok(true);
        }
        let number = number_of(key)?;
        if row.proof && row.entry.settlement.is_some() && !kept.contains(&number) {
            doomed.push(number);
        }
        Ok(true)
    })?;
    Ok(doomed)
}

impl Journal for FileJournal {
    fn load(&self) -> Result<Saved, JournalError> {
        let store = self.store();
        let saved = store.read(|view| saved(view, &store.state));
        saved.map_err(JournalError::from)
    }

    fn pin(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError> {
        self.write(|view, state| {
            let mut keep = Keep::Nothing;
            for entry in entries {
                if let Some(number) = pinned(view, &entry.key.nullifier)? {
                    if spend_row(view, number)?.entry.key != entry.key {
                        return Err(JournalError::OtherContext);
                    }
                    continue;
                }
                let number = state.spends;
                let mut frontier = frontier(view, entry.lane.payment)?;
                let lane = frontier.lane(entry.lane.lane);
                // A lane goes forward. A nullifier that is not known, of a note that the lane has passed, would be a second one
                // of a note: whatever brought it here, it is not sent.
                if lane.newest.is_some_and(|(newest, _)| entry.index <= newest) {
                    return Err(JournalError::OtherContext);
                }
                lane.newest = Some((entry.index, number));
                put_frontier(view, state, &frontier)?;
                let (row, proof) = SpendRow::split(entry.clone());
                let key = number.to_be_bytes();
                view.put(Table::Spends, &key, &row.to_bytes())?;
                if let Some(proof) = proof {
                    view.put(Table::Proofs, &key, &proof)?;
                }
                view.put_raw(Table::Pins, &name(view, &entry.key.nullifier), &key)?;
                state.spends += 1;
                keep = Keep::Now;
            }
            Ok(((), keep))
        })
    }

    fn entry(&self, nullifier: &Nullifier) -> Result<Option<JournalEntry>, JournalError> {
        self.read(|view| {
            let Some(number) = pinned(view, nullifier)? else { return Ok(None) };
            let row = spend_row(view, number)?;
            if row.entry.key.nullifier != *nullifier {
                return Err(WalletFileError::Damaged("a spend is not where it should be"));
            }
            whole(view, number, row).map(Some)
        })
    }

    fn settle(&mut self, settled: &[(SpendKey, Settlement)]) -> Result<(), JournalError> {
        self.write(|view, _| {
            let mut keep = Keep::Nothing;
            for (key, settlement) in settled {
                let (number, mut row) = row_of(view, key)?;
                if row.entry.settlement.is_none() {
                    row.entry.settlement = Some(settlement.clone());
                    view.put(Table::Spends, &number.to_be_bytes(), &row.to_bytes())?;
                    keep = Keep::Now;
                }
            }
            Ok(((), keep))
        })
    }

    fn annotate(&mut self, key: &SpendKey, outcome: &OutcomeNote) -> Result<(), JournalError> {
        self.write(|view, _| {
            let (number, mut row) = row_of(view, key)?;
            row.entry.outcome = Some(outcome.clone());
            view.put(Table::Spends, &number.to_be_bytes(), &row.to_bytes())?;
            Ok(((), Keep::Later))
        })
    }

    fn put_payment(&mut self, payment: &PaymentEntry) -> Result<(), JournalError> {
        self.write(|view, state| {
            let known = payments(view, state)?;
            check_payment(&known, payment)?;
            if known.contains(payment) {
                return Ok(((), Keep::Nothing));
            }
            let key = view.name(Table::Payments, &payment.number.to_be_bytes());
            state.payments += u64::from(view.rows.raw(Table::Payments, &key)?.is_none());
            view.put(Table::Payments, &key, &payment_to_bytes(payment))?;
            Ok(((), Keep::Now))
        })
    }

    fn put_directory(&mut self, directory: &SignedDirectory) -> Result<(), JournalError> {
        self.write(|view, _| {
            view.put(Table::Meta, DIRECTORY, &directory.to_bytes())?;
            Ok(((), Keep::Now))
        })
    }

    fn freeze(&mut self, lane: LaneId) -> Result<(), JournalError> {
        self.write(|view, state| {
            let mut frontier = frontier(view, lane.payment)?;
            if core::mem::replace(&mut frontier.lane(lane.lane).frozen, true) {
                return Ok(((), Keep::Nothing));
            }
            put_frontier(view, state, &frontier)?;
            Ok(((), Keep::Now))
        })
    }

    fn put_dispute(&mut self, dispute: &Dispute) -> Result<(), JournalError> {
        let json = dispute.to_json();
        if Dispute::from_json(&json).ok().as_ref() != Some(dispute) {
            return Err(JournalError::Failed("the dispute cannot be read back from its text".into()));
        }
        self.write(|view, state| {
            for (number, known) in disputes(view)? {
                if known.replaced_by(dispute) {
                    view.remove(Table::Disputes, &number.to_be_bytes())?;
                }
            }
            view.put(Table::Disputes, &state.disputes.to_be_bytes(), json.as_bytes())?;
            state.disputes += 1;
            Ok(((), Keep::Now))
        })
    }

    fn disputes(&self) -> Result<Vec<Dispute>, JournalError> {
        self.read(|view| Ok(disputes(view)?.into_iter().map(|(_, dispute)| dispute).collect()))
    }

    fn history(&self, limit: usize) -> Result<Vec<JournalEntry>, JournalError> {
        self.read(|view| {
            let mut history = Vec::new();
            view.values(Table::Spends, true, |key, bytes| {
                if history.len() < limit {
                    history.push(whole(view, number_of(key)?, read_row(bytes)?)?);
                }
                Ok(history.len() < limit)
            })?;
            Ok(history)
        })
    }

    fn summaries(&self) -> Result<Vec<SpendSummary>, JournalError> {
        self.read(|view| {
            let mut summaries = Vec::new();
            view.values(Table::Spends, false, |_, bytes| {
                summaries.push(SpendSummary::of(&read_row(bytes)?.entry));
                Ok(true)
            })?;
            Ok(summaries)
        })
    }

    fn visit(&self, see: &mut dyn FnMut(&JournalEntry)) -> Result<(), JournalError> {
        self.read(|view| {
            view.values(Table::Spends, false, |_, bytes| {
                see(&read_row(bytes)?.entry);
                Ok(true)
            })
        })
    }
}

impl From<WalletFileError> for JournalError {
    fn from(error: WalletFileError) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// The directory that the wallet went by last.
pub(super) fn directory<T: Rows>(view: &View<'_, T>) -> Result<Option<SignedDirectory>, WalletFileError> {
    let bytes = view.value(Table::Meta, DIRECTORY)?;
    bytes.map(|bytes| SignedDirectory::from_bytes(&bytes).map_err(damaged)).transpose()
}

pub(super) fn saved<T: Rows>(view: &View<'_, T>, state: &State) -> Result<Saved, WalletFileError> {
    let (mut newest, mut frozen) = (Vec::new(), Vec::new());
    let mut frontiers = frontiers(view)?;
    frontiers.sort_by_key(|frontier| frontier.payment);
    if frontiers.len() as u64 != state.frontiers {
        return Err(WalletFileError::Damaged("what was spent of a payment is missing"));
    }
    for Frontier { payment, lanes } in frontiers {
        for known in lanes {
            let lane = LaneId { payment, lane: known.lane };
            if known.frozen {
                frozen.push(lane);
            }
            if let Some((index, number)) = known.newest {
                let entry = whole(view, number, spend_row(view, number)?)?;
                if (entry.lane, entry.index) != (lane, index) {
                    return Err(WalletFileError::Damaged("the newest spend of a lane is another one's"));
                }
                newest.push(entry);
            }
        }
    }
    let (directory, payments) = (directory(view)?, payments(view, state)?);
    Ok(Saved { directory, payments, newest, frozen, quarantined_until: state.quarantined_until })
}

/// The payments by number; every one that there was.
fn payments<T: Rows>(view: &View<'_, T>, state: &State) -> Result<Vec<PaymentEntry>, WalletFileError> {
    let mut payments = Vec::new();
    view.values(Table::Payments, false, |_, bytes| {
        payments.push(payment_from_bytes(bytes).map_err(damaged)?);
        Ok(true)
    })?;
    if payments.len() as u64 != state.payments {
        return Err(WalletFileError::Damaged("a payment is missing"));
    }
    payments.sort_by_key(|payment| payment.number);
    Ok(payments)
}

pub(super) fn frontiers<T: Rows>(view: &View<'_, T>) -> Result<Vec<Frontier>, WalletFileError> {
    let mut frontiers = Vec::new();
    view.values(Table::Frontiers, false, |_, bytes| {
        frontiers.push(Frontier::from_bytes(bytes).map_err(damaged)?);
        Ok(true)
    })?;
    Ok(frontiers)
}

fn frontier<T: Rows>(view: &View<'_, T>, payment: u64) -> Result<Frontier, WalletFileError> {
    match view.value(Table::Frontiers, &view.name(Table::Frontiers, &payment.to_be_bytes()))? {
        Some(bytes) => Frontier::from_bytes(&bytes).map_err(damaged),
        None => Ok(Frontier { payment, lanes: Vec::new() }),
    }
}

fn put_frontier(
    view: &View<'_, WriteTransaction>,
    state: &mut State,
    frontier: &Frontier,
) -> Result<(), WalletFileError> {
    let key = view.name(Table::Frontiers, &frontier.payment.to_be_bytes());
    state.frontiers += u64::from(view.rows.raw(Table::Frontiers, &key)?.is_none());
    view.put(Table::Frontiers, &key, &frontier.to_bytes())
}

pub(super) fn disputes<T: Rows>(view: &View<'_, T>) -> Result<Vec<(u64, Dispute)>, WalletFileError> {
    let mut disputes = Vec::new();
    view.values(Table::Disputes, false, |key, bytes| {
        let text = core::str::from_utf8(bytes).ok().and_then(|text| Dispute::from_json(text).ok());
        disputes.push((number_of(key)?, text.ok_or(WalletFileError::Damaged("a dispute cannot be read"))?));
        Ok(true)
    })?;
    Ok(disputes)
}

fn name<T: Rows>(view: &View<'_, T>, nullifier: &Nullifier) -> Vec<u8> {
    view.name(Table::Pins, &nullifier.to_bytes())
}

/// The number of the spend that a nullifier is pinned to.
pub(super) fn pinned<T: Rows>(view: &View<'_, T>, nullifier: &Nullifier) -> Result<Option<u64>, WalletFileError> {
    view.rows.raw(Table::Pins, &name(view, nullifier))?.map(|number| number_of(&number)).transpose()
}

/// The row of a spend that is pinned.
fn row_of<T: Rows>(view: &View<'_, T>, key: &SpendKey) -> Result<(u64, SpendRow), JournalError> {
    let number = pinned(view, &key.nullifier)?.ok_or(JournalError::OtherContext)?;
    let row = spend_row(view, number)?;
    if row.entry.key == *key { Ok((number, row)) } else { Err(JournalError::OtherContext) }
}

pub(super) fn spend_row<T: Rows>(view: &View<'_, T>, number: u64) -> Result<SpendRow, WalletFileError> {
    let bytes = view.value(Table::Spends, &number.to_be_bytes())?;
    read_row(&bytes.ok_or(WalletFileError::Damaged("a spend is missing"))?)
}

pub(super) fn read_row(bytes: &[u8]) -> Result<SpendRow, WalletFileError> {
    SpendRow::from_bytes(bytes).map_err(damaged)
}

fn proof<T: Rows>(view: &View<'_, T>, number: u64) -> Result<Vec<u8>, WalletFileError> {
    let proof = view.value(Table::Proofs, &number.to_be_bytes())?;
    Ok(proof.ok_or(WalletFileError::Damaged("a proof is missing"))?.to_vec())
}

/// The entry with its proof, if it has one still.
pub(super) fn whole<T: Rows>(view: &View<'_, T>, number: u64, row: SpendRow) -> Result<JournalEntry, WalletFileError> {
    let SpendRow { mut entry, proof: has_proof } = row;
    if has_proof {
        entry.spend.extend_from_slice(&proof(view, number)?);
    }
    Ok(entry)
}

pub(super) fn number_of(key: &[u8]) -> Result<u64, WalletFileError> {
    let bytes = key.try_into().map_err(|_| WalletFileError::Damaged("a key is no number"))?;
    Ok(u64::from_be_bytes(bytes))
}

fn damaged(_: DecodeError) -> WalletFileError {
    WalletFileError::Damaged("a value cannot be read")
}
