//! A replica book in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use crate::protocol::{OwnerId, Timestamp};
use crate::store::{Claim, HeldLease, LeaseName, Publication, Published, Replica, ReplicaBook, StoreError};

/// A [`ReplicaBook`] in memory, behind one lock: for replicas in one process. It has no clock of its own.
#[derive(Debug, Default)]
pub struct MemoryReplicaBook {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    replicas: BTreeMap<OwnerId, Replica>,
    leases: HashMap<LeaseName, Page>,
}

/// A lease that was taken at least once, and what its holders published.
#[derive(Debug, Default)]
struct Page {
    /// How often it was taken.
    term: u64,
    held: Option<HeldLease>,
    published: Option<Published>,
}

impl MemoryReplicaBook {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> Result<MutexGuard<'_, Pages>, StoreError> {
        self.pages.lock().map_err(|_| StoreError::Failed("a thread panicked while it changed the book".into()))
    }
}

impl Page {
    fn is_held_by(&self, lease: &HeldLease) -> bool {
        self.held.is_some_and(|held| held.owner == lease.owner && held.term == lease.term)
    }
}

impl ReplicaBook for MemoryReplicaBook {
    fn announce(&self, replica: &Replica, now: Timestamp) -> Result<(), StoreError> {
        replica.check()?;
        self.lock()?.replicas.insert(replica.owner, Replica { seen: now, ..replica.clone() });
        Ok(())
    }

    fn withdraw(&self, owner: &OwnerId) -> Result<(), StoreError> {
        self.lock()?.replicas.remove(owner);
        Ok(())
    }

    fn forget_silent(&self, seconds: u64, now: Timestamp) -> Result<u64, StoreError> {
        let mut pages = self.lock()?;
        let before = pages.replicas.len();
        pages.replicas.retain(|_, replica| !replica.is_silent(now, seconds));
        Ok((before - pages.replicas.len()) as u64)
    }

    fn replica(&self, owner: &OwnerId) -> Result<Option<Replica>, StoreError> {
        Ok(self.lock()?.replicas.get(owner).cloned())
    }

    fn replicas(&self, now: Timestamp) -> Result<(Vec<Replica>, Timestamp), StoreError> {
        Ok((self.lock()?.replicas.values().cloned().collect(), now))
    }

    fn take_lease(&self, name: LeaseName, owner: OwnerId, seconds: u64, now: Timestamp) -> Result<Claim, StoreError> {
        HeldLease::check_seconds(seconds)?;
        let mut pages = self.lock()?;
        let page = pages.leases.entry(name).or_default();
        match page.held {
            Some(held) if now < held.until && held.owner != owner => return Ok(Claim::Refused(held)),
            Some(held) if now < held.until => {}
            _ => page.term += 1,
        }
        let held = HeldLease { name, owner, term: page.term, until: now.after(seconds) };
        page.held = Some(held);
        Ok(Claim::Held(held))
    }

    fn release_lease(&self, lease: &HeldLease) -> Result<bool, StoreError> {
        let mut pages = self.lock()?;
        let Some(page) = pages.leases.get_mut(&lease.name).filter(|page| page.is_held_by(lease)) else {
            return Ok(false);
        };
        page.held = None;
        Ok(true)
    }

    fn lease(&self, name: LeaseName) -> Result<Option<HeldLease>, StoreError> {
        Ok(self.lock()?.leases.get(&name).and_then(|page| page.held))
    }

    fn publish(&self, lease: &HeldLease, revision: u64, bytes: &[u8]) -> Result<Publication, StoreError> {
        if bytes.len() > Published::MAX_LENGTH {
            return Err(StoreError::BadRecord("what a leader publishes has at most 4 MiB"));
        }
        let mut pages = self.lock()?;
        let Some(page) = pages.leases.get_mut(&lease.name).filter(|page| page.is_held_by(lease)) else {
            return Ok(Publication::NotHolder);
        };
        let latest = page.published.as_ref().map_or(0, |published| published.revision);
        if let Some(published) = &page.published
            && published.revision == revision
            && published.bytes == bytes
        {
            return Ok(Publication::Done);
        }
        if latest.checked_add(1) != Some(revision) {
            return Ok(Publication::Conflict(latest));
        }
        page.published = Some(Published { revision, term: lease.term, bytes: bytes.to_vec() });
        Ok(Publication::Done)
    }

    fn published(&self, name: LeaseName, known: u64) -> Result<Option<Published>, StoreError> {
        let pages = self.lock()?;
        let published = pages.leases.get(&name).and_then(|page| page.published.as_ref());
        Ok(published.filter(|published| published.revision != known).cloned())
    }
}
