//! The trait of replica books: which processes serve one spent set, and which of them leads.

use core::fmt;

use crate::protocol::{OwnerId, Timestamp};
use crate::store::StoreError;

/// The public half of the Ed25519 key that a replica proves itself with to the others, 32 bytes. Only its process has the other
/// half, which is made anew at each start.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplicaKey([u8; 32]);

impl ReplicaKey {
    /// Length in bytes.
    pub const LENGTH: usize = 32;

    /// Wraps the bytes. Bytes that are no key verify no signature.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplicaKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// One process that serves the set: a row of the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The name by which it owns open spends. A process has a fresh one at each start.
    pub owner: OwnerId,
    /// Where the other replicas reach it: `host:port`, 1 to 255 visible ASCII characters.
    pub address: String,
    /// What it proves itself with, both ways.
    pub key: ReplicaKey,
    /// The version of its program, 1 to 64 visible ASCII characters.
    pub version: String,
    /// Whether it ends: it finishes what it has, and takes nothing new.
    pub draining: bool,
    /// When it last gave a sign of life, by the clock of the book.
    pub seen: Timestamp,
}

impl Replica {
    /// Length of the longest address, characters.
    pub const MAX_ADDRESS: usize = 255;
    /// Length of the longest version, characters.
    pub const MAX_VERSION: usize = 64;

    /// Checks what a book may rely on.
    ///
    /// # Errors
    /// [`StoreError::BadRecord`].
    pub fn check(&self) -> Result<(), StoreError> {
        if !is_word(&self.address, Self::MAX_ADDRESS) {
            return Err(StoreError::BadRecord("the address of a replica has 1 to 255 visible ASCII characters"));
        }
        match is_word(&self.version, Self::MAX_VERSION) {
            true => Ok(()),
            false => Err(StoreError::BadRecord("the version of a replica has 1 to 64 visible ASCII characters")),
        }
    }

    /// Whether it gave no sign of life for so many seconds.
    pub fn is_silent(&self, now: Timestamp, seconds: u64) -> bool {
        self.seen.after(seconds) <= now
    }
}

/// The name of a lease and of what its holder publishes: 1 to 64 visible ASCII characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseName(&'static str);

impl LeaseName {
    /// Epochs, directory and upkeep: one replica at a time does what only one should.
    pub const LEADER: Self = Self("leader");

    /// A lease of one's own.
    ///
    /// # Panics
    /// When it has not 1 to 64 visible ASCII characters. In a constant the compiler finds that.
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= 64, "the name of a lease has 1 to 64 characters");
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at].is_ascii_graphic(), "the name of a lease has visible ASCII characters");
            at += 1;
        }
        Self(name)
    }

    /// The name.
    pub const fn as_str(&self) -> &'static str {
        self.0
    }
}

/// A named lease as it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// Which.
    pub name: LeaseName,
    /// The holder.
    pub owner: OwnerId,
    /// How often it was taken by now, from 1 on: a renewal leaves it, each taking adds one. Two holders never have the same.
    pub term: u64,
    /// From this instant on, by the clock of the book, any replica may take it.
    pub until: Timestamp,
}

impl HeldLease {
    /// The longest lease, seconds.
    pub const MAX_SECONDS: u64 = 3_600;

    /// Checks for how long a lease is asked for.
    ///
    /// # Errors
    /// [`StoreError::BadRecord`].
    pub fn check_seconds(seconds: u64) -> Result<(), StoreError> {
        match (1..=Self::MAX_SECONDS).contains(&seconds) {
            true => Ok(()),
            false => Err(StoreError::BadRecord("a lease between replicas is of 1 to 3600 seconds")),
        }
    }
}

/// What became of an attempt to take a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// It is the asking replica's, as told here.
    Held(HeldLease),
    /// It is another replica's. Nothing was changed.
    Refused(HeldLease),
}

/// What the holder of a lease published for all replicas.
#[derive(Clone, PartialEq, Eq)]
pub struct Published {
    /// Counts from 1 on, one by one.
    pub revision: u64,
    /// Which term published it.
    pub term: u64,
    /// At most [`Published::MAX_LENGTH`] bytes, of which the book knows no more. Secrets in them are sealed.
    pub bytes: Vec<u8>,
}

impl Published {
    /// Length of the longest, bytes.
    pub const MAX_LENGTH: usize = 4 << 20;
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").field("revision", &self.revision).field("term", &self.term).finish_non_exhaustive()
    }
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Publication {
    /// It is what all replicas read from now on. Also when it was so before: the same revision with the same bytes.
    Done,
    /// The lease is not this holder's any more, by its term. Nothing was changed.
    NotHolder,
    /// Not the next revision; this one is the latest, 0 if there is none. Nothing was changed.
    Conflict(u64),
}

/// The book of the replicas of one spent set, of the leases between them, and of what a leader publishes for the others. It is
/// kept with the set, so that a process which may write here may write there as well: a replica trusts the keys in the book no
/// more than it trusts the set.
///
/// It owes what a [`SpentSet`](super::SpentSet) owes: linearizable over all processes, durable before the answer, fail closed.
/// After [`StoreError::Failed`] a change was made or not; each of them can be asked for again as it is.
///
/// # Time, and clocks that differ
/// `now` is the caller's clock. A book with a clock of its own, such as a database's, goes by that instead and ignores `now`:
/// then all times in the book are of one clock, and clocks that differ do no harm. A book without one compares times of several
/// clocks. By each single clock a lease has one holder at most: a replica takes it only from the instant `until` on. A replica
/// whose clock is ahead by `s` seconds may take a lease `s` seconds too early, while its holder still believes in it. So:
///
/// * a holder counts its lease from before it asked, by a clock that cannot be set, and stops a margin before its end;
/// * what must not fork goes through [`publish`](Self::publish), which goes by the term and by no clock;
/// * all else that a holder does is the same when two do it: partitions only go on, settlements are written once.
///
/// A lease of a dead holder whose clock was ahead stays taken for so much longer.
pub trait ReplicaBook: Send + Sync {
    /// Writes a replica in, or over what stood there under its name: at its start, and every few seconds as a sign of life.
    /// The book sets [`Replica::seen`] to its time.
    ///
    /// # Errors
    /// [`StoreError::BadRecord`] by [`Replica::check`]; failures of the store.
    fn announce(&self, replica: &Replica, now: Timestamp) -> Result<(), StoreError>;

    /// Takes a replica out: it is gone, and owns nothing any more. Idempotent. Its leases are not released by that.
    ///
    /// # Errors
    /// Failures of the store.
    fn withdraw(&self, owner: &OwnerId) -> Result<(), StoreError>;

    /// Takes out the replicas that gave no sign of life for so many seconds; says how many.
    ///
    /// # Errors
    /// Failures of the store.
    fn forget_silent(&self, seconds: u64, now: Timestamp) -> Result<u64, StoreError>;

    /// The replica of this name.
    ///
    /// # Errors
    /// Failures of the store.
    fn replica(&self, owner: &OwnerId) -> Result<Option<Replica>, StoreError>;

    /// All replicas, by name, and the time of the book: what [`Replica::seen`] is compared with.
    ///
    /// # Errors
    /// Failures of the store.
    fn replicas(&self, now: Timestamp) -> Result<(Vec<Replica>, Timestamp), StoreError>;

    /// Takes a lease for so many seconds from now on, if it is free: never taken, released, or over. What the asking replica
    /// holds already is renewed and keeps its term, unless it is over: then it is taken anew, with the next term.
    ///
    /// # Errors
    /// [`StoreError::BadRecord`] unless for 1 to [`HeldLease::MAX_SECONDS`]; failures of the store.
    fn take_lease(&self, name: LeaseName, owner: OwnerId, seconds: u64, now: Timestamp) -> Result<Claim, StoreError>;

    /// Gives a lease back, if its owner and term are still these; says whether. The next taking has a higher term all the same.
    ///
    /// # Errors
    /// Failures of the store.
    fn release_lease(&self, lease: &HeldLease) -> Result<bool, StoreError>;

    /// The lease as it was taken last, over or not; none if it was never taken, or is released.
    ///
    /// # Errors
    /// Failures of the store.
    fn lease(&self, name: LeaseName) -> Result<Option<HeldLease>, StoreError>;

    /// Publishes under the name of a lease, if its owner and term are still those of `lease`, and if `revision` is one more than
    /// the latest. One step, and without any clock: a holder that was replaced and does not know it yet publishes nothing.
    ///
    /// # Errors
    /// [`StoreError::BadRecord`] above [`Published::MAX_LENGTH`]; failures of the store.
    fn publish(&self, lease: &HeldLease, revision: u64, bytes: &[u8]) -> Result<Publication, StoreError>;

    /// What was published last under the name of a lease. With `known` as the latest revision, nothing is sent again: none.
    ///
    /// # Errors
    /// Failures of the store.
    fn published(&self, name: LeaseName, known: u64) -> Result<Option<Published>, StoreError>;
}

fn is_word(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
