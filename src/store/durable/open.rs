//! Making and opening a store.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use super::codec::{BucketMeta, PartitionMeta, Row, mint_from_bytes, nullifier};
use super::committer::{Committer, Desk};
use super::engine::{Change, Engine, EngineError, Table, TableKind};
use super::evidence_keys::{EvidenceKeys, sync_directory};
use super::mark::Mark;
use super::transaction::{Bucket, OpenRecord, Partition, State, Tables, evidence_table, records_table, unseal};
use super::{DurableStore, Inner, OpenError, StoreOptions, views_of};
use crate::protocol::codec::{DecodeError, Reader};
use crate::protocol::{EpochNumber, GatewayId, PaymentId};
use crate::store::{MintTotals, PartitionPhase, RecordKey, RecordState, StoreError};

const FORMAT: u8 = 1;

impl DurableStore {
    /// Makes a store for the set of a gateway. An explicit step, taken once in the life of a gateway id.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn create(path: impl AsRef<Path>, gateway: GatewayId, options: &StoreOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let files = Files::of(path, options);
        if files.keys.exists() || files.database.exists() {
            return Err(OpenError::Exists(path.to_owned()));
        }
        std::fs::create_dir_all(path).map_err(failed)?;
        let mark = Mark::create(&files.mark).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => OpenError::Exists(files.mark.clone()),
            _ => failed(error),
        })?;
        let engine = Engine::open(&files.database, options.cache_bytes, options.threads)
            .map_err(|error| engine_error(error, &files.database))?;
        let tables = tables(&engine).map_err(|error| engine_error(error, &files.database))?;
        let change = |key: &[u8], value: Vec<u8>| -> Change { (tables.meta.clone(), key.to_vec(), Some(value)) };
        let format = [&[FORMAT][..], gateway.as_bytes(), &[0]].concat();
        engine
            .commit([change(b"format", format), change(b"sequence", 0_u64.to_be_bytes().to_vec())])
            .map_err(|error| engine_error(error, &files.database))?;
        // The file that says that the store is whole comes last.
        let keys = EvidenceKeys::create(files.keys).map_err(failed)?;
        sync_directory(path).map_err(failed)?;
        let bucket_seconds = u64::from(options.bucket_seconds.max(1));
        let (partitions, minted) = Default::default();
        let state = State { sequence: 0, partitions, keys, minted, paid: 0, bucket_seconds, republish: false };
        Self::start(path, gateway, engine, tables, state, mark)
    }

    /// Opens the store in a directory: replays its journal, holds it against its mark, finishes what a crash left half done.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, OpenError> {
        Self::open_as(path.as_ref(), options, false)
    }

    /// Opens a backup, to be read: what is asked to change it fails.
    ///
    /// # Errors
    /// [`OpenError`], also for a store that is no backup.
    pub fn open_backup(path: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, OpenError> {
        Self::open_as(path.as_ref(), options, true)
    }

    fn open_as(path: &Path, options: &StoreOptions, backup: bool) -> Result<Self, OpenError> {
        let files = Files::of(path, options);
        if !files.keys.exists() {
            return Err(OpenError::Missing(path.to_owned()));
        }
        let broken = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
                    OpenError::Damaged { path, what: error.to_string() }
                }
                _ => failed(error),
            }
        };
        if !files.database.exists() {
            return Err(OpenError::Damaged { path: files.database, what: "it is missing".into() });
        }
        let (mark, expected) = Mark::open(&files.mark).map_err(broken(&files.mark))?;
        let engine = Engine::open(&files.database, options.cache_bytes, options.threads)
            .map_err(|error| engine_error(error, &files.database))?;
        // After the lock is taken.
        let keys = EvidenceKeys::open(files.keys.clone()).map_err(broken(&files.keys))?;
        let damaged = |what: &str| OpenError::Damaged { path: files.database.clone(), what: what.to_owned() };
        let tables = tables(&engine).map_err(|error| engine_error(error, &files.database))?;
        let meta = |key: &[u8]| tables.meta.read(key).map_err(|error| engine_error(error, &files.database));
        let format = meta(b"format")?.ok_or_else(|| damaged("its format is missing"))?;
        let sequence = meta(b"sequence")?.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
        let found = sequence.ok_or_else(|| damaged("its sequence number is missing"))?;
        let (gateway, is_backup) = read_format(&format)?;
        if found < expected {
            return Err(OpenError::SetBack { found, expected });
        }
        match (is_backup, backup) {
            (true, false) => return Err(OpenError::Backup),
            (false, true) => return Err(OpenError::Format("this is no backup")),
            _ => {}
        }
        let bucket_seconds = u64::from(options.bucket_seconds.max(1));
        let mut state = State {
            sequence: found,
            partitions: BTreeMap::new(),
            keys,
            minted: MintTotals::default(),
            paid: 0,
            bucket_seconds,
            republish: false,
        };
        load(&engine, &tables, &mut state).map_err(|error| match error {
            LoadError::Engine(error) => engine_error(error, &files.database),
            LoadError::Decode(error) => damaged(&error.to_string()),
            LoadError::Store(error) => damaged(&error.to_string()),
            LoadError::Missing(what) => damaged(&what),
            LoadError::Io(error) => failed(error),
        })?;
        Self::start(path, gateway, engine, tables, state, mark)
    }

    fn start(
        path: &Path,
        gateway: GatewayId,
        engine: Engine,
        tables: Tables,
        state: State,
        mark: Mark,
    ) -> Result<Self, OpenError> {
        let views = Arc::new(RwLock::new(views_of(&state)));
        let (engine, tables) = (Arc::new(engine), Arc::new(tables));
        let desk =
            Desk { engine: Arc::clone(&engine), tables: Arc::clone(&tables), state, views: Arc::clone(&views), mark };
        let committer = Committer::start(desk).map_err(failed)?;
        Ok(Self(Arc::new(Inner { path: path.to_owned(), gateway, engine, tables, views, committer })))
    }
}

struct Files {
    database: PathBuf,
    mark: PathBuf,
    keys: PathBuf,
}

impl Files {
    fn of(path: &Path, options: &StoreOptions) -> Self {
        let mark = options.mark.clone().unwrap_or_else(|| path.join("mark"));
        Self { database: path.join("db"), mark, keys: path.join("evidence.keys") }
    }
}

fn failed(error: impl core::error::Error + Send + Sync + 'static) -> OpenError {
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
        Ok(_) => Err(OpenError::Format("a newer version of this program made it")),
        Err(_) => Err(OpenError::Format("its format cannot be read")),
    }
}

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
    Store(StoreError),
    Missing(String),
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

/// Reads what is kept in memory, and finishes what a crash left: buckets whose keys are forgotten, tables that nothing leads to.
fn load(engine: &Engine, tables: &Tables, state: &mut State) -> Result<(), LoadError> {
    let names: BTreeSet<_> = engine.table_names().into_iter().collect();
    let existing = |name: String, kind: TableKind| -> Result<Table, LoadError> {
        // A table that is missing is not an empty one.
        if !names.contains(&name) {
            return Err(LoadError::Missing(format!("table {name} is missing")));
        }
        Ok(engine.table(&name, kind)?)
    };
    let mut wanted: BTreeSet<String> = ["meta", "open", "mints", "accounts", "payments"].map(Into::into).into();
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
        state.partitions.insert(epoch, Partition { meta, records, buckets, open, last_bucket: 0 });
    }
    let mut changes: Vec<Change> = Vec::new();
    for entry in tables.meta.range(b"b".to_vec()..b"c".to_vec()) {
        let (key, value) = entry?;
        let ((epoch, id), meta) = (BucketMeta::read_key(&key)?, BucketMeta::from_bytes(&value)?);
        let missing = || LoadError::Missing(format!("the partition of epoch {epoch} is missing"));
        let partition = state.partitions.get_mut(&epoch).ok_or_else(missing)?;
        partition.last_bucket = partition.last_bucket.max(id);
        match state.keys.get(epoch, id) {
            Some(sealing) if partition.records.is_some() => {
                wanted.insert(evidence_table(epoch, id));
                let table = existing(evidence_table(epoch, id), TableKind::Blobs)?;
                partition.buckets.insert(id, Bucket { meta, open: 0, table, key: sealing });
            }
            _ => {
                // It was being erased: its key is gone.
                let sum = partition.meta.erased.checked_add(&meta.totals);
                partition.meta.erased = sum.ok_or_else(|| LoadError::Missing("sums that fit".into()))?;
                let value = partition.meta.to_bytes();
                changes.push((tables.meta.clone(), PartitionMeta::key(epoch), Some(value)));
                changes.push((tables.meta.clone(), key, None));
            }
        }
    }
    for entry in tables.open.range(..) {
        let (key, _) = entry?;
        load_open(state, &key)?;
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
    if !changes.is_empty() {
        engine.commit(changes)?;
    }
    let gone: Vec<_> = state
        .keys
        .buckets()
        .filter(|(epoch, id)| state.partitions.get(epoch).is_none_or(|partition| !partition.buckets.contains_key(id)))
        .collect();
    if !gone.is_empty() {
        // Its number may be in use: one that is higher is not.
        for (epoch, id) in &gone {
            if let Some(partition) = state.partitions.get_mut(epoch) {
                partition.last_bucket = partition.last_bucket.max(*id);
            }
        }
        state.keys.forget(&gone).map_err(LoadError::Io)?;
    }
    for name in names.difference(&wanted) {
        engine.drop_table(engine.table(name, TableKind::Records)?)?;
    }
    Ok(())
}

/// Reads an open record, named by its key in the index.
fn load_open(state: &mut State, key: &[u8]) -> Result<(), LoadError> {
    let mut reader = Reader::exact(key, 36)?;
    let epoch = EpochNumber::new(reader.u32()?);
    let nf: [u8; 32] = reader.array()?;
    let lost = || LoadError::Missing(format!("epoch {epoch}: an open record is missing"));
    let partition = state.partitions.get_mut(&epoch).ok_or_else(lost)?;
    let records = partition.records.as_ref().ok_or_else(lost)?;
    let row = Row::from_bytes(&records.read(&nf)?.ok_or_else(lost)?)?;
    let RecordState::Open { lease, .. } = row.state else { return Err(lost()) };
    let bucket = partition.buckets.get_mut(&row.bucket).ok_or_else(lost)?;
    bucket.open += 1;
    let evidence = unseal(epoch, &bucket.key, &nf, bucket.table.read(&nf)?).map_err(LoadError::Store)?;
    let key = RecordKey { epoch, nullifier: nullifier(&nf)?, tag: row.tag };
    partition.open.insert(nf, OpenRecord { key, until: lease.until, charge: evidence.charge });
    Ok(())
}
