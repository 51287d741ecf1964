//! Disks that fail, and that lose what was not synced.

use std::io;
use std::sync::{Arc, Mutex};

use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use super::model::entry;
use super::*;

/// A disk in memory that counts what it does, fails from some point on, and remembers what was not synced.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// What a crash leaves in any case.
    synced: Vec<u8>,
    /// What has been written since, in order.
    since: Vec<Change>,
    /// What a reader sees.
    now: Vec<u8>,
    done: u64,
    /// The first operation that fails; all after it do.
    fails_at: Option<u64>,
    /// Whether the first write that fails gets half way.
    short: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Length(u64),
    Bytes(u64, Vec<u8>),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Length(length) => to.resize(*length as usize, 0),
            Self::Bytes(at, bytes) => {
                let until = *at as usize + bytes.len();
                if to.len() < until {
                    to.resize(until, 0);
                }
                to[*at as usize..until].copy_from_slice(bytes);
            }
        }
    }
}

impl Platter {
    fn change(&mut self, change: Change) -> io::Result<()> {
        let failing = self.fails_at.is_some_and(|at| self.done >= at);
        let first = self.fails_at == Some(self.done);
        self.done += 1;
        let change = match (failing, change) {
            (false, change) => change,
            (true, Change::Bytes(at, bytes)) if first && self.short => {
                Change::Bytes(at, bytes[..bytes.len() / 2].to_vec())
            }
            (true, _) => return Err(io::ErrorKind::StorageFull.into()),
        };
        change.apply(&mut self.now);
        self.since.push(change);
        if failing { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().unwrap();
        let (from, until) = (offset as usize, offset as usize + out.len());
        out.copy_from_slice(platter.now.get(from..until).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().change(Change::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        let failing = platter.fails_at.is_some_and(|at| platter.done >= at);
        platter.done += 1;
        if failing {
            return Err(io::Error::other("the sync failed"));
        }
        platter.synced = platter.now.clone();
        platter.since.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().change(Change::Bytes(offset, data.to_vec()))
    }
}

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Platter { synced: bytes.clone(), now: bytes, ..Platter::default() })))
    }

    fn operations(&self) -> u64 {
        self.0.lock().unwrap().done
    }

    /// What a crash can leave: of what was not synced nothing, all, any part, in any order, and the last of it torn.
    fn after_a_crash(&self, rng: &mut ChaCha20Rng) -> Vec<Vec<u8>> {
        let platter = self.0.lock().unwrap();
        let mut left = vec![platter.synced.clone(), platter.now.clone()];
        for _ in 0..2 {
            let mut some = platter.synced.clone();
            for change in &platter.since {
                match (rng.next_u32() % 3, change) {
                    (0, _) => {}
                    (1, Change::Bytes(at, bytes)) => {
                        let torn = (rng.next_u32() as usize % (bytes.len() / 512 + 1)) * 512;
                        Change::Bytes(*at, bytes[..torn].to_vec()).apply(&mut some);
                    }
                    (_, change) => change.apply(&mut some),
                }
            }
            left.push(some);
        }
        left
    }
}

fn new_on(disk: &Disk) -> Result<FileJournal, WalletFileError> {
    let header = header(&World::without_keys());
    let sealed = header.seal(&lock(), &mut rng(1))?;
    let store = Store::create(store::engine(disk.clone())?, &header, &sealed, State::new([1; 16]))?;
    Ok(FileJournal::new(store))
}

fn header(world: &World) -> Header {
    Header::generate(world.root.public_key(), &mut rng(1))
}

fn open_on(disk: &Disk) -> Result<FileJournal, WalletFileError> {
    Ok(FileJournal::new(Store::open(store::engine(disk.clone())?, &lock())?.0))
}

/// Works until something fails; says how many spends were acknowledged, and how many were tried.
fn work(journal: &mut FileJournal, from: u8) -> (u8, u8) {
    for n in from..24 {
        if journal.pin(&[entry(n, false)]).is_err() {
            // From here on nothing is written.
            for more in n..24 {
                assert!(journal.pin(&[entry(more, false)]).is_err());
            }
            assert!(journal.freeze(LANE0).is_err());
            return (n, n + 1);
        }
    }
    (24, 24)
}

#[test]
fn acknowledged_writes_survive_a_disk_failure_at_any_point() {
    let whole = {
        let disk = Disk::default();
        let mut journal = new_on(&disk).unwrap();
        disk.0.lock().unwrap().done = 0;
        assert_eq!(work(&mut journal, 0), (24, 24));
        disk.operations()
    };
    assert!(whole > 100);
    let mut rng = rng(9);
    let mut cut = 0;
    for k in 0..whole {
        let disk = Disk::default();
        let mut journal = new_on(&disk).unwrap();
        {
            let mut platter = disk.0.lock().unwrap();
            (platter.done, platter.fails_at, platter.short) = (0, Some(k), k % 2 == 0);
        }
        let (acknowledged, tried) = work(&mut journal, 0);
        cut += u64::from(tried < 24);
        let left = disk.after_a_crash(&mut rng);
        drop(journal);
        for bytes in left {
            let mut journal = open_on(&Disk::of(bytes)).unwrap_or_else(|error| panic!("{k}: {error:?}"));
            let pinned = journal.history(100).unwrap().len();
            assert!(
                (usize::from(acknowledged)..=usize::from(tried)).contains(&pinned),
                "{k}: {pinned} of {acknowledged}"
            );
            for n in 0..acknowledged {
                assert_eq!(journal.entry(&entry(n, false).key.nullifier).unwrap(), Some(entry(n, false)));
                assert!(journal.pin(&[entry(n, true)]).is_err(), "it is pinned");
            }
            let newest = journal.load().unwrap().newest;
            assert_eq!(newest.len(), pinned.min(4));
            assert_eq!(work(&mut journal, 0), (24, 24), "it goes on");
        }
    }
    assert!(cut > whole / 2);
}

#[test]
fn a_file_that_was_not_made_to_its_end_is_no_wallet() {
    let done = {
        let disk = Disk::default();
        new_on(&disk).unwrap();
        disk.operations()
    };
    let mut rng = rng(10);
    for k in 0..done {
        let disk = Disk::default();
        disk.0.lock().unwrap().fails_at = Some(k);
        if new_on(&disk).is_ok() {
            // What failed was its closing.
            continue;
        }
        for bytes in disk.after_a_crash(&mut rng) {
            // It has no name yet; but if it had, it would be whole or none.
            if let Ok(journal) = open_on(&Disk::of(bytes)) {
                assert!(journal.load().unwrap().newest.is_empty());
            }
        }
    }
}
