//! Making and opening a store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, RwLock};

use super::aside::{aside_of, drop_aside, put_back, set_aside};
use super::codec::{BucketMeta, PULSE, PartitionMeta, Row, mint_from_bytes, nullifier, pulse_from_bytes};
use super::committer::{Committer, Desk};
use super::engine::{Change, Engine, EngineError, FENCE, Table, TableKind};
use super::evidence_keys::{EvidenceKeys, sync_directory};
use super::export::MOVED;
use super::inventory::{Flaw, Inventory, InventoryError, TableId, tables_of};
use super::journal::{JournalError, Journals, SEQUENCE};
use super::place::Files;
use super::shadow::Shadow;
use super::transaction::{
    Bucket, OpenRecord, Partition, State, Tables, damaged, evidence_table, records_table, unseal, witness_key,
};
use super::{DurableStore, OpenError, OpenStore, StoreOptions, read_error, views_of};
use crate::protocol::codec::{DecodeError, Reader};
use crate::protocol::{EpochNumber, GatewayId, PaymentId};
use crate::store::mark::{Mark, Reading};
use crate::store::{MintTotals, PartitionPhase, RecordKey, RecordState, StoreError};

/// Version 1 had tags of 16 bytes. They cannot be made longer once the evidence is erased, and shorter ones are not to be compared with.
const FORMAT: u8 = 2;

impl DurableStore {
    /// Makes a store for the set of a gateway. An explicit step, taken once in the life of a gateway id.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn create(path: impl AsRef<Path>, gateway: GatewayId, options: &StoreOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let files = Files::of(path, options)?;
        let vacant = || match files.keys.exists() || files.database.exists() {
            true => Err(OpenError::Exists(path.to_owned())),
            false => Ok(()),
        };
        vacant()?;
        std::fs::create_dir_all(path).map_err(failed)?;
        // Now that the directory is there, whatever way it is named.
        Files::of(path, options)?;
        let lock = lock(path)?;
        vacant()?;
        let mark = Mark::create(&files.mark).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => OpenError::Exists(files.mark.clone()),
            _ => failed(error),
        })?;
        let engine = Engine::create(&files.database, options.cache_bytes, options.threads)
            .map_err(|error| engine_error(error, &files.database))?;
        let tables = tables(&engine).map_err(|error| engine_error(error, &files.database))?;
        let change = |key: &[u8], value: Vec<u8>| -> Change { (tables.meta.clone(), key.to_vec(), Some(value)) };
        let format = [&[FORMAT][..], gateway.as_bytes(), &[0]].concat();
        engine
            .commit([change(b"format", format), change(SEQUENCE, 0_u64.to_be_bytes().to_vec())])
            .map_err(|error| engine_error(error, &files.database))?;
        // The file that says that the store is whole comes last.
        let keys = EvidenceKeys::create(files.keys).map_err(failed)?;
        sync_directory(path).map_err(failed)?;
        let bucket_seconds = u64::from(options.bucket_seconds.max(1));
        let (partitions, minted) = Default::default();
        let state =
            State { sequence: 0, partitions, keys, pulse: None, minted, paid: 0, bucket_seconds, republish: false };
        let (damage, lock) = (Vec::new(), Some(lock));
        Self::start(path, gateway, Opened { engine, tables, state, mark, lock, is_backup: false, damage })
    }

    /// Opens the store in a directory: looks its files over, replays its journal, holds it against its mark, finishes what a crash
    /// left half done.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        // There is nothing to say of the mark of what is no store.
        let is_there = path.join("evidence.keys").exists() || path.join("db").exists();
        let files = if is_there { Files::of(path, options) } else { Err(OpenError::Missing(path.to_owned())) };
        match files {
            // A backup has its mark inside, which says nothing.
            Err(OpenError::MarkInside { .. }) if is_backup(path) => Err(OpenError::Backup),
            files => Self::open_files(&files?, options, Purpose::Serve),
        }
    }

    /// Opens a backup, to be read: what is asked to change it fails.
    ///
    /// # Errors
    /// [`OpenError`], also for a store that is no backup.
    pub fn open_backup(path: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, OpenError> {
        Self::open_files(&Files::of_backup(path.as_ref()), options, Purpose::Backup)
    }

    pub(super) fn open_files(files: &Files, options: &StoreOptions, purpose: Purpose) -> Result<Self, OpenError> {
        let broken = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => OpenError::Damaged { path, what: "it is missing".into() },
                io::ErrorKind::InvalidData => OpenError::Damaged { path, what: error.to_string() },
                _ => failed(error),
            }
        };
        match (files.keys.exists(), files.database.exists()) {
            (false, false) => return Err(OpenError::Missing(files.store.clone())),
            (true, true) => {}
            (keys, _) => {
                let path = if keys { &files.database } else { &files.keys };
                return Err(OpenError::Damaged { path: path.clone(), what: "it is missing".into() });
            }
        }
        let looks = matches!(purpose, Purpose::Look { .. });
        let lock = if looks { None } else { Some(lock(&files.store)?) };
        if matches!(purpose, Purpose::Look { marked: false }) {
            Mark::create(&files.mark).map_err(failed)?;
        }
        let (mut mark, reading) = Mark::open(&files.mark).map_err(broken(&files.mark))?;
        let keys = if looks { EvidenceKeys::look(files.keys.clone()) } else { EvidenceKeys::open(files.keys.clone()) };
        let keys = keys.map_err(broken(&files.keys))?;
        let journals = Journals::read(&files.database).map_err(|error| match error {
            JournalError::Io(error) => failed(error),
            JournalError::Damaged { path, what } => OpenError::Damaged { path, what },
        })?;
        // Before anything is changed.
        if let Some(found) = journals.last() {
            reach(found, reading, files)?;
        }
        put_back(&files.database).map_err(failed)?;
        let rehearsed = rehearse(files)?;
        set_aside(&files.database, &rehearsed.doomed).map_err(failed)?;
        journals.settle().map_err(failed)?;
        let damaged = |what: &str| OpenError::Damaged { path: files.database.clone(), what: what.to_owned() };
        let opened = Self::replay(files, options, reading, &journals);
        let opened = opened.and_then(|(engine, tables, found)| {
            let format = tables.meta.read(b"format").map_err(|error| engine_error(error, &files.database))?;
            let (gateway, is_backup) = read_format(&format.ok_or_else(|| damaged("its format is missing"))?)?;
            match (is_backup, &purpose) {
                (true, Purpose::Serve) => return Err(OpenError::Backup),
                (false, Purpose::Backup) => return Err(OpenError::Format("this is no backup")),
                _ => {}
            }
            // It can still be looked at.
            if purpose == Purpose::Serve
                && let Some(to) = tables.meta.read(MOVED).map_err(|error| engine_error(error, &files.database))?
            {
                return Err(OpenError::Moved(String::from_utf8_lossy(&to).into_owned()));
            }
            let bucket_seconds = u64::from(options.bucket_seconds.max(1));
            let mut state = State {
                sequence: found,
                partitions: BTreeMap::new(),
                keys,
                pulse: None,
                minted: MintTotals::default(),
                paid: 0,
                bucket_seconds,
                republish: false,
            };
            let mut damage = load(&engine, &tables, &mut state).map_err(|error| match error {
                LoadError::Keys(what) => OpenError::Damaged { path: files.keys.clone(), what },
                LoadError::Engine(error) => engine_error(error, &files.database),
                LoadError::Decode(error) => damaged(&error.to_string()),
                LoadError::Missing(what) => rehearsed.lost(files, what),
                LoadError::Io(error) => failed(error),
            })?;
            damage.extend(rehearsed.damage_of(&state));
            Ok((engine, tables, state, gateway, is_backup, damage))
        });
        let (engine, tables, state, gateway, is_backup, damage) = opened.map_err(|error| {
            // The first error is the one to tell.
            let _ = journals.restore();
            let _ = put_back(&files.database);
            rehearsed.named(error, files)
        })?;
        drop_aside(&files.database).map_err(failed)?;
        journals.accept().map_err(failed)?;
        // A commit that was not answered before will be answered from now on.
        mark.advance(state.sequence).and_then(|()| mark.sync()).map_err(failed)?;
        Self::start(&files.store, gateway, Opened { engine, tables, state, mark, lock, is_backup, damage })
    }

    /// Opens the database and holds it against its mark.
    fn replay(
        files: &Files,
        options: &StoreOptions,
        reading: Reading,
        journals: &Journals,
    ) -> Result<(Engine, Tables, u64), OpenError> {
        let wrong = |error| engine_error(error, &files.database);
        let damaged = |what: &str| OpenError::Damaged { path: files.database.clone(), what: what.to_owned() };
        let engine = Engine::open(&files.database, options.cache_bytes, options.threads).map_err(wrong)?;
        let tables = tables(&engine).map_err(wrong)?;
        let sequence = tables.meta.read(SEQUENCE).map_err(wrong)?;
        let sequence = sequence.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
        // It is in a table or in the journal, and here it is in neither.
        let found = sequence.ok_or_else(|| OpenError::Damaged {
            path: journals.newest().to_owned(),
            what: "it lacks the commits that were written".to_owned(),
        })?;
        reach(found, reading, files)?;
        match journals.last() {
            Some(last) if last != found => Err(damaged("its journal was not replayed")),
            _ => Ok((engine, tables, found)),
        }
    }

    fn start(path: &Path, gateway: GatewayId, opened: Opened) -> Result<Self, OpenError> {
        let Opened { engine, tables, state, mark, lock, is_backup, damage } = opened;
        let views = Arc::new(RwLock::new(views_of(&state)));
        let (engine, tables) = (Arc::new(engine), Arc::new(tables));
        let desk = Desk {
            engine: Arc::clone(&engine),
            tables: Arc::clone(&tables),
            state,
            views: Arc::clone(&views),
            mark,
            place: path.to_owned(),
        };
        let committer = Committer::start(desk).map_err(failed)?;
        damage.iter().for_each(|(epoch, what)| committer.note_damage(*epoch, what));
        Ok(Self(Arc::new(OpenStore {
            path: path.to_owned(),
            gateway,
            engine,
            tables,
            views,
            committer,
            is_backup,
            _lock: lock,
        })))
    }
}

/// What a store is started with.
struct Opened {
    engine: Engine,
    tables: Tables,
    state: State,
    mark: Mark,
    /// None for the shadow of a store.
    lock: Option<File>,
    is_backup: bool,
    /// Partitions that cannot be read. The others are served.
    damage: Vec<(EpochNumber, String)>,
}

/// Whether the store has come as far as its mark says.
fn reach(found: u64, reading: Reading, files: &Files) -> Result<(), OpenError> {
    let Reading { number: expected, half } = reading;
    if found < expected {
        return Err(OpenError::SetBack { found, expected });
    }
    if half && found == expected {
        let what = format!("half of it is unreadable, and the store, at commit {found}, may have come further");
        return Err(OpenError::Damaged { path: files.mark.clone(), what });
    }
    Ok(())
}

/// Locks a directory for this process, before anything in it is changed.
fn lock(path: &Path) -> Result<File, OpenError> {
    let file = File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(failed)?;
    try_lock(path, &file)?;
    Ok(file)
}

pub(super) fn try_lock(path: &Path, file: &File) -> Result<(), OpenError> {
    crate::sealed::try_lock(file).map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::Locked(path.to_owned()),
        TryLockError::Error(error) => failed(error),
    })
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Serve,
    /// To read a backup.
    Backup,
    /// To check the shadow of a store, whose keys are the real ones; with a copy of its mark or without.
    Look {
        marked: bool,
    },
}

/// Whether what is in a directory calls itself a backup, as far as it can be read.
fn is_backup(path: &Path) -> bool {
    let files = Files::of_backup(path);
    match Shadow::of_store(path) {
        Ok(shadow) => {
            let files = Files { database: shadow.path().join("db"), store: shadow.path().to_owned(), ..files };
            let engine = Engine::open(&files.database, 1 << 20, 1);
            let format = engine.and_then(|engine| tables(&engine)?.meta.read(b"format"));
            matches!(format, Ok(Some(bytes)) if matches!(read_format(&bytes), Ok((_, true))))
        }
        Err(_) => false,
    }
}

/// The engine's files, without the engine.
pub(super) fn take_inventory(database: &Path) -> Result<Inventory, OpenError> {
    Inventory::read(database).map_err(|error| match error {
        InventoryError::Io(error) => failed(error),
        InventoryError::Damaged { path, what } => OpenError::Damaged { path, what },
    })
}

/// So many bytes of files are read whole when a store is opened, which takes a second at most. Of a larger one only the check reads all.
const VERIFIED: u64 = 256 << 20;

/// What an opening would come to.
struct Rehearsed {
    /// Tables that the engine would remove.
    doomed: BTreeSet<TableId>,
    /// Files that are not what was written, with the names of their tables, where these have one still.
    flaws: Vec<(Option<String>, Flaw)>,
}

impl Rehearsed {
    /// An error with the name of the file that is to blame: where one was found not to be what was written, what came of it says less
    /// than the file.
    fn named(&self, error: OpenError, files: &Files) -> OpenError {
        let is_vague = |path: &Path| path == files.database || path.starts_with(tables_of(&files.database));
        match (error, self.flaws.first()) {
            (OpenError::Damaged { path, .. }, Some((_, flaw))) if is_vague(&path) => told(flaw),
            (error, _) => error,
        }
    }

    /// A table that is missing: most likely one of those that the engine would remove, for want of this file.
    fn lost(&self, files: &Files, what: String) -> OpenError {
        // By now it may be aside.
        let places = [tables_of(&files.database), aside_of(&files.database)];
        let unlisted =
            |number: &&TableId| !places.iter().any(|place| place.join(number.to_string()).join("current").exists());
        let path = tables_of(&files.database);
        match self.doomed.iter().find(unlisted) {
            Some(number) => OpenError::Damaged { path: path.join(number.to_string()).join("current"), what },
            None => OpenError::Damaged { path, what },
        }
    }

    /// Partitions that cannot be read.
    fn damage_of(&self, state: &State) -> Vec<(EpochNumber, String)> {
        let mut damage = Vec::new();
        for (epoch, partition) in &state.partitions {
            let evidence = partition.buckets.keys().map(|bucket| evidence_table(*epoch, *bucket));
            let mut own = partition.records.iter().map(|_| records_table(*epoch)).chain(evidence);
            if let Some((_, flaw)) =
                own.find_map(|name| self.flaws.iter().find(|(table, _)| table.as_ref() == Some(&name)))
            {
                damage.push((*epoch, format!("{}: {}", flaw.path.display(), flaw.what)));
            }
        }
        damage
    }
}

fn told(flaw: &Flaw) -> OpenError {
    OpenError::Damaged { path: flaw.path.clone(), what: flaw.what.clone() }
}

/// Looks the engine's files over, and lets the engine open what was written out of them in a shadow.
fn rehearse(files: &Files) -> Result<Rehearsed, OpenError> {
    let inventory = take_inventory(&files.database)?;
    let flaws = inventory.verify(VERIFIED).map_err(failed)?;
    if let Some(flaw) = flaws.iter().find(|flaw| flaw.is_of_names()) {
        return Err(told(flaw));
    }
    let shadow = Shadow::of_tables(&files.database, &files.store).map_err(failed)?;
    let found = Engine::rehearse(shadow.path()).map_err(|error| match (error, flaws.first()) {
        (EngineError::Damaged(_), Some(flaw)) => told(flaw),
        (error, _) => engine_error(error, &files.database),
    })?;
    let numbers: BTreeSet<_> = found.values().copied().chain([0]).collect();
    let doomed = inventory.directories.difference(&numbers).copied().collect();
    if let Some(name) = TABLES.iter().chain([&FENCE]).find(|name| !found.contains_key(**name)) {
        let lost = format!("table {name} is missing");
        let rehearsed = Rehearsed { doomed, flaws: flaws.into_iter().map(|flaw| (None, flaw)).collect() };
        return Err(rehearsed.named(rehearsed.lost(files, lost), files));
    }
    let name_of = |flaw: &Flaw| found.iter().find(|(_, number)| **number == flaw.table).map(|(name, _)| name.clone());
    let flaws: Vec<_> = flaws.into_iter().map(|flaw| (name_of(&flaw), flaw)).collect();
    let is_base = |name: &String| TABLES.contains(&name.as_str()) || name == FENCE;
    if let Some((_, flaw)) = flaws.iter().find(|(name, _)| name.as_ref().is_some_and(is_base)) {
        return Err(told(flaw));
    }
    Ok(Rehearsed { doomed, flaws })
}

pub(super) fn failed(error: impl core::error::Error + Send + Sync + 'static) -> OpenError {
    OpenError::Failed(Box::new(error))
}

fn engine_error(error: EngineError, path: &Path) -> OpenError {
    match error {
        EngineError::Locked => OpenError::Locked(path.to_owned()),
        EngineError::Damaged(what) => OpenError::Damaged { path: path.to_owned(), what },
        other => failed(other),
    }
}

fn read_format(bytes: &[u8]) -> Result<(GatewayId, bool), OpenError> {
    let read = || {
        let mut reader = Reader::exact(bytes, 18)?;
        let version = reader.u8()?;
        Ok::<_, DecodeError>((version, GatewayId::from_bytes(reader.array()?), reader.u8()?))
    };
    match read() {
        Ok((FORMAT, gateway, backup @ 0..=1)) => Ok((gateway, backup == 1)),
        Ok((1, ..)) => Err(OpenError::Format(
            "layout 1, whose records name spends by 128 bits, is not read; serve its epochs to their end with the version that \
             made it, and create a new store under a new gateway id",
        )),
        Ok(_) => Err(OpenError::Format("a newer version of this program made it")),
        Err(_) => Err(OpenError::Format("its format cannot be read")),
    }
}

const TABLES: [&str; 5] = ["meta", "open", "mints", "accounts", "payments"];

pub(super) fn tables(engine: &Engine) -> Result<Tables, EngineError> {
    Ok(Tables {
        meta: engine.table("meta", TableKind::Records)?,
        open: engine.table("open", TableKind::Records)?,
        mints: engine.table("mints", TableKind::Records)?,
        accounts: engine.table("accounts", TableKind::Records)?,
        payments: engine.table("payments", TableKind::Records)?,
    })
}

#[derive(Debug)]
enum LoadError {
    Engine(EngineError),
    Decode(DecodeError),
    Missing(String),
    /// The key of evidence that is not erased.
    Keys(String),
    Io(io::Error),
}

impl From<EngineError> for LoadError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<DecodeError> for LoadError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

/// Reads what is kept in memory, and finishes what a crash left: keys and tables that nothing leads to. Says which partitions
/// are damaged.
fn load(engine: &Engine, tables: &Tables, state: &mut State) -> Result<Vec<(EpochNumber, String)>, LoadError> {
    let mut damage = Vec::new();
    let names: BTreeSet<_> = engine.table_names().into_iter().collect();
    let existing = |name: String, kind: TableKind| -> Result<Table, LoadError> {
        // A table that is missing is not an empty one.
        if !names.contains(&name) {
            return Err(LoadError::Missing(format!("table {name} is missing")));
        }
        Ok(engine.table(&name, kind)?)
    };
    let mut wanted: BTreeSet<String> = TABLES.map(Into::into).into();
    state.pulse = tables.meta.read(PULSE)?.map(|bytes| pulse_from_bytes(&bytes)).transpose()?;
    for entry in tables.meta.range(b"p".to_vec()..b"q".to_vec()) {
        let (key, value) = entry?;
        let (epoch, meta) = (PartitionMeta::read_key(&key)?, PartitionMeta::from_bytes(&value)?);
        let records = match meta.phase {
            PartitionPhase::Retired => None,
            _ => {
                wanted.insert(records_table(epoch));
                Some(existing(records_table(epoch), TableKind::Records)?)
            }
        };
        let (buckets, open) = Default::default();
        state.partitions.insert(epoch, Partition { meta, records, buckets, open });
    }
    for entry in tables.meta.range(b"b".to_vec()..b"c".to_vec()) {
        let (key, value) = entry?;
        let ((epoch, id), meta) = (BucketMeta::read_key(&key)?, BucketMeta::from_bytes(&value)?);
        let missing = || LoadError::Missing(format!("the partition of epoch {epoch} is missing"));
        let partition = state.partitions.get_mut(&epoch).ok_or_else(missing)?;
        // A key is forgotten after its bucket.
        let missing = || LoadError::Keys(format!("the key of bucket {id} of epoch {epoch} is missing"));
        let key = state.keys.get(epoch, id).ok_or_else(missing)?;
        wanted.insert(evidence_table(epoch, id));
        let table = existing(evidence_table(epoch, id), TableKind::Blobs)?;
        partition.buckets.insert(id, Bucket { meta, open: 0, table, key });
    }
    let base = [&tables.open, &tables.mints, &tables.accounts, &tables.payments].map(|table| (None, table));
    let of_partitions = state.partitions.iter().flat_map(|(epoch, partition)| {
        let evidence = partition.buckets.values().map(|bucket| &bucket.table);
        partition.records.iter().chain(evidence).map(|table| (Some(*epoch), table))
    });
    for (epoch, table) in base.into_iter().chain(of_partitions) {
        let noted = tables.meta.read(&witness_key(table.name()))?;
        let noted = noted.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
        match (table.last_changed(), epoch) {
            (Err(EngineError::Damaged(what)), Some(epoch)) => damage.push((epoch, what)),
            (Err(error), _) => return Err(error.into()),
            (Ok(changed), _) if changed == noted => {}
            _ => return Err(LoadError::Missing(format!("table {} lacks commits", table.name()))),
        }
    }
    for entry in tables.open.range(..) {
        let (key, _) = entry?;
        let (epoch, nf) = read_open_key(&key)?;
        if let Err(error) = load_open(state, epoch, nf) {
            damage.push((epoch, error.to_string()));
        }
    }
    for entry in tables.mints.range(..) {
        let (key, value) = entry?;
        let payment = Reader::exact(&key, PaymentId::LENGTH)?.array()?;
        state.minted.add(&mint_from_bytes(PaymentId::from_bytes(payment), &value)?);
    }
    for entry in tables.payments.range(..) {
        let (_, value) = entry?;
        state.paid += u128::from(Reader::exact(&value, 8)?.u64()?);
    }
    let gone: Vec<_> = state
        .keys
        .buckets()
        .filter(|(epoch, id)| state.partitions.get(epoch).is_none_or(|partition| !partition.buckets.contains_key(id)))
        .collect();
    if !gone.is_empty() {
        state.keys.forget(&gone).map_err(LoadError::Io)?;
    }
    for name in names.difference(&wanted) {
        engine.drop_table(engine.table(name, TableKind::Records)?)?;
    }
    Ok(damage)
}

fn read_open_key(key: &[u8]) -> Result<(EpochNumber, [u8; 32]), DecodeError> {
    let mut reader = Reader::exact(key, 36)?;
    Ok((EpochNumber::new(reader.u32()?), reader.array()?))
}

/// Reads a record that is in the index of open ones.
fn load_open(state: &mut State, epoch: EpochNumber, nf: [u8; 32]) -> Result<(), StoreError> {
    let lost = || damaged(epoch, "an open record is missing");
    let wrong = |error| read_error(error, Some(epoch));
    let undecoded = |error: DecodeError| damaged(epoch, error);
    let partition = state.partitions.get_mut(&epoch).ok_or_else(lost)?;
    let records = partition.records.as_ref().ok_or_else(lost)?;
    let row = Row::from_bytes(&records.read(&nf).map_err(wrong)?.ok_or_else(lost)?).map_err(undecoded)?;
    let RecordState::Open { lease, .. } = row.state else { return Err(lost()) };
    let bucket = partition.buckets.get_mut(&row.bucket).ok_or_else(lost)?;
    bucket.open += 1;
    let evidence = unseal(epoch, &bucket.key, &nf, bucket.table.read(&nf).map_err(wrong)?)?;
    let key = RecordKey { epoch, nullifier: nullifier(&nf).map_err(undecoded)?, tag: row.tag };
    partition.open.insert(nf, OpenRecord { key, until: lease.until, charge: evidence.charge });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_another_layout_is_refused_by_name() {
        let of = |version: u8| read_format(&[&[version][..], &[7; 16], &[0]].concat());
        assert_eq!(of(FORMAT).unwrap(), (GatewayId::from_bytes([7; 16]), false));
        for (version, says) in [(1, "layout 1"), (FORMAT + 1, "newer version")] {
            let Err(OpenError::Format(what)) = of(version) else { panic!("version {version} is read") };
            assert!(what.contains(says), "{what}");
        }
    }
}
