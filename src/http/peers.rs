//! The other replicas of a gateway: many processes that share one spent set, and pass on to each other what only one of them has.
//!
//! A session is in the memory of one process, its owner by the lease of its spend. A load balancer knows nothing of that, so that
//! a following request may reach any replica. That one finds the owner in the set, its address in the
//! [book](crate::store::ReplicaBook), and passes the request on: once, and never further.
//!
//! # How replicas know each other
//! Each process draws an Ed25519 key at its start and writes the public half into the book, beside its address. Replicas speak
//! TLS 1.3 with these bare keys (RFC 7250) on both sides: the one that asks goes on only with the very key that the book has for
//! the owner, and the one that is asked lets in only keys that the book has. There are no certificates to renew, no secret to
//! distribute, and a key dies with its process. A process that may write to the book may write to the set as well, and could do
//! anything there: so trust in the book adds no party to those that are trusted already.
//!
//! What comes in this way skips nothing: it is priced, checked against its session signature and reserved as if it had come from
//! outside. The only word of another replica that is taken is which sender a request counts for.

mod counts;
mod identity;
mod leading;
mod pass;
mod roll;

pub(in crate::http) use identity::proved;
pub(in crate::http) use pass::{NotPassed, Passing, sender_of};

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;

use super::clock::now;
use super::hop::{Base, Hop};
use crate::pipeline::Current;
use crate::protocol::OwnerId;
use crate::store::{HeldLease, LeaseName, Replica, ReplicaBook, ReplicaKey, StoreError};
use crate::workers::TaskPool;
use counts::Counts;
pub use counts::PeerCounts;
use identity::Identity;
use leading::Leading;
use roll::Roll;

/// How long a replica that gave no sign of life stays in the book, seconds: it is told as silent until then.
const FORGOTTEN: u64 = 3_600;

/// Another replica passed the request on: part of its extensions.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct FromReplica;

/// What a replica is among others by.
#[non_exhaustive]
pub struct PeersParts {
    /// The name by which it owns spends: that of its [`Gateway`](crate::gateway::Gateway).
    pub owner: OwnerId,
    /// The book, which is kept with the set.
    pub book: Arc<dyn ReplicaBook>,
    /// Where the others reach its [listener for them](super::server::Listener::serve_peers): `host:port`.
    pub address: String,
    /// How often it gives a sign of life, and renews its lease if it leads. Every 5 seconds by default.
    pub every: Duration,
    /// After so many seconds without one a replica that does not answer counts as gone. 20 by default.
    pub silent_seconds: u64,
    /// For so long the lease of the leader is taken, seconds. 20 by default.
    pub lease_seconds: u64,
    /// Whether it may lead. By default it may.
    pub may_lead: bool,
}

impl PeersParts {
    /// With the defaults.
    pub fn new(owner: OwnerId, book: Arc<dyn ReplicaBook>, address: impl Into<String>) -> Self {
        let every = Duration::from_secs(5);
        Self { owner, book, address: address.into(), every, silent_seconds: 20, lease_seconds: 20, may_lead: true }
    }

    /// The same with this [`every`](Self::every).
    #[must_use]
    pub fn with_every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// The same with this [`silent_seconds`](Self::silent_seconds).
    #[must_use]
    pub fn with_silent_seconds(self, silent_seconds: u64) -> Self {
        Self { silent_seconds, ..self }
    }

    /// The same with this [`lease_seconds`](Self::lease_seconds).
    #[must_use]
    pub fn with_lease_seconds(self, lease_seconds: u64) -> Self {
        Self { lease_seconds, ..self }
    }

    /// The same with this [`may_lead`](Self::may_lead).
    #[must_use]
    pub fn with_may_lead(self, may_lead: bool) -> Self {
        Self { may_lead, ..self }
    }
}

impl core::fmt::Debug for PeersParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PeersParts").field("owner", &self.owner).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why a process is no replica among others. Its operator has to act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeersError {
    /// The address is none that others could reach.
    #[error("`{0}` is no address for the other replicas; write host and port, such as `10.0.0.7:8402`")]
    Address(String),
    /// The times contradict each other.
    #[error("a lease of {lease_seconds} s is too short to be renewed every {} s; choose at least three times as long", every.as_secs_f32())]
    Times {
        /// How often it is renewed.
        every: Duration,
        /// For how long it is taken.
        lease_seconds: u64,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS between replicas: {0}")]
    Tls(#[from] rustls::Error),
    /// The system starts no thread, or there is no runtime.
    #[error("cannot start what speaks to the other replicas: {0}")]
    Thread(#[from] io::Error),
    /// The book fails.
    #[error("the book of replicas: {0}")]
    Store(#[from] StoreError),
}

/// A replica among others, as one of them sees it. Cheap to clone.
///
/// Signs of life end with the last clone, those in layers, routers and servers included.
#[derive(Clone)]
pub struct Peers(Arc<Membership>);

struct Membership {
    parts: PeersParts,
    identity: Identity,
    /// The book may block.
    thread: TaskPool,
    roll: Current<Roll>,
    /// Held while the book is read because somebody waits for it.
    reading: tokio::sync::Mutex<()>,
    hops: Mutex<HashMap<ReplicaKey, Hop>>,
    leading: Mutex<Option<Leading>>,
    draining: AtomicBool,
    /// Held while it gives a sign of life, and while it leaves: whether it has left.
    left: Mutex<bool>,
    counts: Counts,
}

/// What a replica knows of the others, and of itself among them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeersView {
    /// This replica.
    pub owner: OwnerId,
    /// All that the book has, as it was read last.
    pub replicas: Vec<Replica>,
    /// How long ago each gave a sign of life, seconds, in the same order.
    pub silent: Vec<u64>,
    /// The lease of the leader, as it was read last; none if nobody has it.
    pub leader: Option<HeldLease>,
    /// Whether this replica leads now.
    pub leads: bool,
    /// Why the book was not read when it was tried last.
    pub trouble: Option<String>,
    /// What was passed on.
    pub counts: PeerCounts,
}

impl core::fmt::Debug for Peers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Peers").field("owner", &self.0.parts.owner).finish_non_exhaustive()
    }
}

impl Peers {
    /// Draws a key, writes the replica into the book, and begins to give signs of life; within a runtime. From then on others pass
    /// requests on to it, so that its listener must be bound before.
    ///
    /// # Errors
    /// [`PeersError`].
    pub async fn start(parts: PeersParts) -> Result<Self, PeersError> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        if !is_address(&parts.address) {
            return Err(PeersError::Address(parts.address));
        }
        let (every, lease_seconds) = (parts.every, parts.lease_seconds);
        HeldLease::check_seconds(lease_seconds)?;
        if every.is_zero() || every.saturating_mul(3) > Duration::from_secs(lease_seconds) {
            return Err(PeersError::Times { every, lease_seconds });
        }
        let peers = Self(Arc::new(Membership {
            identity: Identity::generate()?,
            thread: TaskPool::start("replicas", 2, 256)?,
            roll: Current::new(Arc::new(Roll::default())),
            reading: tokio::sync::Mutex::default(),
            hops: Mutex::default(),
            leading: Mutex::default(),
            draining: AtomicBool::new(false),
            left: Mutex::new(false),
            counts: Counts::default(),
            parts,
        }));
        peers.beat().await?;
        let weak = Arc::downgrade(&peers.0);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(membership) = weak.upgrade() else { return };
                // What fails is told by the view, and tried again.
                let _ = Self(membership).beat().await;
            }
        });
        Ok(peers)
    }

    /// The name by which this replica owns spends.
    pub fn owner(&self) -> OwnerId {
        self.0.parts.owner
    }

    /// The lease by which this replica leads now; none if it does not, or cannot be sure of it.
    pub fn leads(&self) -> Option<HeldLease> {
        self.0.leading().as_ref().and_then(Leading::lease)
    }

    /// The book.
    pub fn book(&self) -> &Arc<dyn ReplicaBook> {
        &self.0.parts.book
    }

    /// What it knows of the others.
    pub fn view(&self) -> PeersView {
        let roll = self.0.roll.get();
        PeersView {
            owner: self.owner(),
            silent: roll.replicas.iter().map(|replica| roll.silence(replica)).collect(),
            replicas: roll.replicas.clone(),
            leader: roll.leader,
            leads: self.leads().is_some(),
            trouble: roll.trouble.clone(),
            counts: self.0.counts.get(),
        }
    }

    /// Tells the others that this replica ends, and gives its lease back: another one leads from now on. What it has is still
    /// passed on to it.
    ///
    /// # Errors
    /// Failures of the book.
    pub async fn drain(&self) -> Result<(), StoreError> {
        self.0.draining.store(true, Ordering::Relaxed);
        self.beat().await
    }

    /// Takes the replica out of the book. From then on it is gone to the others: to be called when nothing is left that could be
    /// passed on to it.
    ///
    /// # Errors
    /// Failures of the book; the others find out by its silence.
    pub async fn withdraw(&self) -> Result<(), StoreError> {
        self.0.draining.store(true, Ordering::Relaxed);
        let membership = Arc::clone(&self.0);
        self.ask(move || membership.leave()).await
    }

    /// Gives a sign of life, sees to the lease of the leader, and reads the book.
    async fn beat(&self) -> Result<(), StoreError> {
        let membership = Arc::clone(&self.0);
        let outcome = self.ask(move || membership.beat()).await;
        if let Err(error) = &outcome {
            let roll = self.0.roll.get().with_trouble(super::cause::chain(error));
            self.0.roll.set(Arc::new(roll));
        }
        outcome
    }

    async fn ask<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.thread.run(task).await.unwrap_or_else(|error| Err(StoreError::Failed(Box::new(error))))
    }

    /// Reads the book, unless that was done after `since`.
    async fn read(&self, since: Instant) -> Result<(), StoreError> {
        let _reading = self.0.reading.lock().await;
        if self.0.roll.get().is_newer(since) {
            return Ok(());
        }
        let membership = Arc::clone(&self.0);
        self.ask(move || membership.read()).await
    }

    pub(in crate::http) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.identity.server())
    }

    /// Whether a key that its holder has proved is another replica's. A stranger makes the book be read once a second at most.
    pub(in crate::http) async fn admits(&self, key: &ReplicaKey) -> bool {
        if self.knows(key) {
            return true;
        }
        let recently = Instant::now().checked_sub(Duration::from_secs(1));
        let known = match recently {
            Some(recently) => self.read(recently).await.is_ok() && self.knows(key),
            None => false,
        };
        if !known {
            self.0.counts.stranger();
        }
        known
    }

    /// Whether a key is another replica's, by the book as it was read last.
    pub(in crate::http) fn knows(&self, key: &ReplicaKey) -> bool {
        *key != self.0.identity.key() && self.0.roll.get().replicas.iter().any(|replica| replica.key == *key)
    }

    pub(in crate::http) fn took(&self) {
        self.0.counts.taken();
    }
}

impl Membership {
    fn leading(&self) -> MutexGuard<'_, Option<Leading>> {
        // Nothing that can panic runs under the lock.
        self.leading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On a thread: the book is asked.
    fn beat(&self) -> Result<(), StoreError> {
        let PeersParts { owner, book, address, lease_seconds, may_lead, .. } = &self.parts;
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if *left {
            return self.read();
        }
        let draining = self.draining.load(Ordering::Relaxed);
        let replica = Replica {
            owner: *owner,
            address: address.clone(),
            key: self.identity.key(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining,
            seen: now(),
        };
        book.announce(&replica, now())?;
        if draining || !may_lead {
            self.give_back()?;
        } else {
            let asked = Instant::now();
            let claim = book.take_lease(LeaseName::LEADER, *owner, *lease_seconds, now())?;
            let leading = Leading::of(claim, asked, *lease_seconds);
            let leads = leading.is_some();
            *self.leading() = leading;
            if leads {
                book.forget_silent(FORGOTTEN.max(*lease_seconds), now())?;
            }
        }
        self.read()
    }

    /// On a thread: the book is asked. After this no sign of life is given any more, not even one that is on its way.
    fn leave(&self) -> Result<(), StoreError> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = true;
        self.give_back()?;
        self.parts.book.withdraw(&self.parts.owner)
    }

    fn give_back(&self) -> Result<(), StoreError> {
        let held = self.leading().take();
        match held {
            Some(held) => self.parts.book.release_lease(&held.lease).map(drop),
            None => Ok(()),
        }
    }

    /// On a thread: the book is asked.
    fn read(&self) -> Result<(), StoreError> {
        let book = &self.parts.book;
        let read = Instant::now();
        let (replicas, time) = book.replicas(now())?;
        let leader = book.lease(LeaseName::LEADER)?.filter(|lease| time < lease.until);
        // Connections to those that are gone are given up.
        let mut hops = self.hops.lock().unwrap_or_else(PoisonError::into_inner);
        hops.retain(|key, _| replicas.iter().any(|replica| replica.key == *key));
        drop(hops);
        self.roll.set(Arc::new(Roll { replicas, time, leader, read: Some(read), trouble: None }));
        Ok(())
    }
}

/// Whether others can be told to go there.
fn is_address(address: &str) -> bool {
    let named = address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    named && address.len() <= Replica::MAX_ADDRESS && base(address).is_some_and(|base| base.place("/").is_some())
}

fn base(address: &str) -> Option<Base> {
    if address.contains(['/', '?', '#', '\\']) { None } else { Base::read(&format!("https://{address}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryReplicaBook;

    fn parts(owner: u8, book: &Arc<MemoryReplicaBook>) -> PeersParts {
        let book = Arc::clone(book) as _;
        PeersParts::new(OwnerId::from_bytes([owner; 16]), book, "127.0.0.1:1").with_every(Duration::from_secs(1))
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for address in ["10.0.0.7:8402", "gateway-0.gateways:8402", "[::1]:8402"] {
            assert!(is_address(address), "{address}");
        }
        for address in
            ["", "gateway", "gateway:", ":8402", "a:b", "https://a:1", "a:1/b", "a b:1", "a@b:1", "::1", "a:70000"]
        {
            assert!(!is_address(address), "{address}");
        }
    }

    #[tokio::test]
    async fn times_that_lose_the_lease_are_refused() {
        let book = Arc::new(MemoryReplicaBook::new());
        let slow = parts(1, &book).with_every(Duration::from_secs(7));
        assert!(matches!(Peers::start(slow).await, Err(PeersError::Times { .. })));
        let never = parts(1, &book).with_every(Duration::ZERO);
        assert!(matches!(Peers::start(never).await, Err(PeersError::Times { .. })));
        let long = parts(1, &book).with_lease_seconds(3_601);
        assert!(matches!(Peers::start(long).await, Err(PeersError::Store(StoreError::BadRecord(_)))));
        assert!(book.replicas(now()).unwrap().0.is_empty(), "nothing was announced");
    }

    #[tokio::test]
    async fn one_leads_and_the_next_one_after_it_drains() {
        let book = Arc::new(MemoryReplicaBook::new());
        let one = Peers::start(parts(1, &book)).await.unwrap();
        let two = Peers::start(parts(2, &book)).await.unwrap();
        assert_eq!((one.leads().map(|lease| lease.term), two.leads()), (Some(1), None));
        assert_eq!(two.view().leader.unwrap().owner, one.owner());
        one.drain().await.unwrap();
        assert_eq!(one.leads(), None);
        two.beat().await.unwrap();
        assert_eq!(two.leads().map(|lease| lease.term), Some(2));
        let view = two.view();
        assert_eq!(view.replicas.iter().map(|replica| replica.draining).collect::<Vec<_>>(), [true, false]);
        one.withdraw().await.unwrap();
        // It does not come back by a sign of life.
        one.beat().await.unwrap();
        two.beat().await.unwrap();
        assert_eq!(two.view().replicas.len(), 1);
        assert_eq!(two.leads().map(|lease| lease.term), Some(2));
    }

    #[tokio::test]
    async fn a_key_is_known_as_long_as_the_book_has_it() {
        let book = Arc::new(MemoryReplicaBook::new());
        let one = Peers::start(parts(1, &book)).await.unwrap();
        let two = Peers::start(parts(2, &book)).await.unwrap();
        let key = two.0.identity.key();
        // It began before the other one was there: the book is read again.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert!(one.admits(&key).await && one.knows(&key));
        assert!(!one.admits(&one.0.identity.key()).await, "not its own");
        assert!(!one.admits(&ReplicaKey::from_bytes([3; 32])).await);
        assert_eq!(one.view().counts.strangers, 2);
        two.withdraw().await.unwrap();
        one.beat().await.unwrap();
        assert!(!one.knows(&key));
    }
}
