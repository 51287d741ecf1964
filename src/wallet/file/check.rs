//! Looking a wallet's file over.

use std::collections::BTreeMap;

use halometer_circuits::note::Nullifier;

use super::codec::{LaneFrontier, SpendRow};
use super::journal::{directory, disputes, frontiers, number_of, pinned, read_row, saved, whole};
use super::seat::Seat;
use super::state::State;
use super::store::{self, Rows, Store, Table, View, sealed_header};
use super::{WalletFile, WalletFileError};
use crate::protocol::Timestamp;
use crate::sealed::Lock;
use crate::wallet::LaneId;

/// What a look at a wallet's file found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalletFileReport {
    /// Length of the file, bytes.
    pub file_bytes: u64,
    /// What is in it, as far as that could be seen with a lock.
    pub contents: Option<Contents>,
}

/// What is in a wallet's file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contents {
    /// Whether it can be opened here.
    pub standing: FileStanding,
    /// How many commits there were.
    pub commits: u64,
    /// Payments, minted and not.
    pub payments: u64,
    /// Spends.
    pub spends: u64,
    /// Spends that have no settlement.
    pub unsettled: u64,
    /// Spends whose proof was pruned.
    pub pruned: u64,
    /// Lanes that are frozen.
    pub frozen: u64,
    /// Disputes.
    pub disputes: u64,
    /// Until when notes of the file are not spent.
    pub quarantined_until: Option<Timestamp>,
}

/// How a file stands to the place it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileStanding {
    /// It was used here last, and is the newest state.
    InOrder,
    /// It was not used here last: [`WalletFileError::Copied`].
    Copied,
    /// It is an older state: [`WalletFileError::RolledBack`].
    RolledBack,
    /// It was moved: [`WalletFileError::Moved`].
    Moved,
}

impl WalletFile {
    /// Looks the file over, without using it: every page against its checksum; with a lock also that every value opens and can be
    /// read, that every nullifier leads to its spend, and that what the wallet begins with is whole and the newest. Takes as
    /// long as it takes to read the file twice.
    ///
    /// # Errors
    /// [`WalletFileError`]: [`Damaged`](WalletFileError::Damaged) is what was looked for.
    pub fn check(&self, lock: Option<&Lock>) -> Result<WalletFileReport, WalletFileError> {
        let database = store::engine(self.file()?)?;
        let file_bytes = std::fs::metadata(&self.path).map_err(WalletFileError::Io)?.len();
        let Some(lock) = lock else {
            sealed_header(&redb::ReadableDatabase::begin_read(&database)?)?;
            return Ok(WalletFileReport { file_bytes, contents: None });
        };
        let (store, header) = Store::open(database, lock)?;
        let standing = if store.state.moved.is_some() {
            FileStanding::Moved
        } else {
            match Seat::take(&Seat::path(&self.seats, &header.wallet))? {
                Some(seat) if *seat.id() != store.state.seat => FileStanding::Copied,
                Some(seat) if seat.commits() > store.state.commits => FileStanding::RolledBack,
                Some(_) => FileStanding::InOrder,
                None => FileStanding::Copied,
            }
        };
        let contents = store.read(|view| look(view, &store.state, standing))?;
        Ok(WalletFileReport { file_bytes, contents: Some(contents) })
    }
}

fn look<T: Rows>(view: &View<'_, T>, state: &State, standing: FileStanding) -> Result<Contents, WalletFileError> {
    directory(view)?.ok_or(WalletFileError::Damaged("its directory is missing"))?;
    let saved = saved(view, state)?;
    let (mut spends, mut unsettled, mut pruned) = (0, 0, 0);
    let mut newest: BTreeMap<LaneId, (u64, u64)> = BTreeMap::new();
    view.values(Table::Spends, false, |key, bytes| {
        let (number, row): (u64, SpendRow) = (number_of(key)?, read_row(bytes)?);
        let nullifier: Nullifier = row.entry.key.nullifier;
        if pinned(view, &nullifier)? != Some(number) {
            return Err(WalletFileError::Damaged("a spend's nullifier does not lead to it"));
        }
        if number != spends {
            return Err(WalletFileError::Damaged("a spend is missing"));
        }
        let last = newest.entry(row.entry.lane).or_insert((row.entry.index, number));
        *last = (*last).max((row.entry.index, number));
        spends += 1;
        unsettled += u64::from(row.entry.settlement.is_none());
        pruned += u64::from(!row.proof);
        whole(view, number, row)?;
        Ok(true)
    })?;
    let mut proofs = 0;
    view.values(Table::Proofs, false, |_, _| {
        proofs += 1;
        Ok(true)
    })?;
    let mut pins = 0;
    view.rows.each(Table::Pins, false, &mut |_, _| {
        pins += 1;
        Ok(true)
    })?;
    if (spends, spends, spends) != (state.spends, pins, proofs + pruned) {
        return Err(WalletFileError::Damaged("spends, nullifiers and proofs are not as many as they should be"));
    }
    let known = frontiers(view)?;
    let known = known.iter().flat_map(|frontier| {
        let newest = |lane: &LaneFrontier| Some((LaneId { payment: frontier.payment, lane: lane.lane }, lane.newest?));
        frontier.lanes.iter().filter_map(newest)
    });
    if known.collect::<BTreeMap<_, _>>() != newest {
        return Err(WalletFileError::Damaged("the newest spend of a lane is not known as such"));
    }
    Ok(Contents {
        standing,
        commits: state.commits,
        payments: saved.payments.len() as u64,
        spends,
        unsettled,
        pruned,
        frozen: saved.frozen.len() as u64,
        disputes: disputes(view)?.len() as u64,
        quarantined_until: saved.quarantined_until,
    })
}
