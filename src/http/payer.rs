//! The caller's side: a wallet whose proofs are made ahead in the background, and requests that are paid with them.
//!
//! A [`Payer`] keeps a proof ready for every lane that can pay. Making one takes a core for a tenth of a second, so that it
//! happens on threads of its own, one proof a thread, while nobody waits. A call takes a ready spend, signs, and sends: that
//! costs some ten microseconds. Its settlement completes the lane's next note, for which the next proof is begun.

mod background;
mod call;
mod client;
mod error;

pub use call::{Paid, Spent};
pub use client::{Client, ClientError};
pub use error::{CallError, PayerError};

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::payment::Challenge;
use crate::pipeline::WorkerPool;
use crate::protocol::{Credits, Digest, GatewayId};
use crate::wallet::{Journal, LaneId, ProvingKeys, Wallet};
use background::Proof;

/// What a payer is made of.
#[derive(Clone, Debug)]
pub struct PayerParts {
    /// The gateway that is paid.
    pub gateway: GatewayId,
    /// The charge class of every call: one for all, so that it tells calls apart by nothing.
    pub class: Credits,
    /// Threads that make proofs.
    pub provers: usize,
    /// How calls are sent.
    pub client: Client,
    /// By which windows are told apart.
    pub clock: Clock,
}

/// A wallet that pays for requests to one gateway. Cheap to clone; the background work ends when the last clone is dropped.
pub struct Payer<J: Journal + 'static>(Arc<Inner<J>>);

struct Inner<J: Journal + 'static> {
    shared: Arc<Shared<J>>,
    client: Client,
    origin: String,
    authority: String,
    challenge: Challenge,
    background: JoinHandle<()>,
}

/// What calls and the background share.
struct Shared<J> {
    wallet: Mutex<Wallet<J>>,
    keys: ProvingKeys,
    gateway: GatewayId,
    class: Credits,
    /// Lanes whose proof is being made, or could not be made and is left alone for a while.
    proving: Mutex<HashSet<LaneId>>,
    proof_times: Mutex<VecDeque<Duration>>,
    clock: Clock,
    /// Something changed: a proof is ready, a lane can be proved for, nothing can be done any more.
    changed: Notify,
    /// Somebody waits for a proof.
    wanted: Notify,
    prover_failed: AtomicBool,
}

impl<J> Shared<J> {
    /// What a panic under these locks leaves behind is whole: the wallet's methods change it in one step at their end.
    fn wallet(&self) -> MutexGuard<'_, Wallet<J>> {
        self.wallet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proving(&self) -> MutexGuard<'_, HashSet<LaneId>> {
        self.proving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Journal + 'static> Payer<J> {
    /// Compares the gateway's challenge and directory with the wallet's, then begins to make proofs.
    ///
    /// # Errors
    /// [`PayerError`]. After [`PayerError::OtherDirectory`] fetch the directory and [adopt](Wallet::adopt) it: that tells a newer
    /// one from one that was made for this caller alone.
    pub async fn start(wallet: Wallet<J>, parts: PayerParts) -> Result<Self, PayerError> {
        let PayerParts { gateway, class, provers, client, clock } = parts;
        let directory = wallet.directory();
        if !directory.has_class(class) {
            return Err(PayerError::UnknownClass(class));
        }
        let entry = directory.gateway(&gateway).ok_or(PayerError::UnknownGateway(gateway))?;
        let origin = entry.origins.first().ok_or(PayerError::UnknownGateway(gateway))?;
        let origin = origin.trim_end_matches('/').to_owned();
        let authority = super::gateway::authorities(&origin).ok_or_else(|| PayerError::Origin(origin.clone()))?.0;
        let challenge = Challenge::of(directory, &gateway);
        check_gateway(&client, &origin, &challenge, directory.digest()).await?;

        let shared = Arc::new(Shared {
            wallet: Mutex::new(wallet),
            keys: ProvingKeys::new(),
            gateway,
            class,
            proving: Mutex::default(),
            proof_times: Mutex::default(),
            clock,
            changed: Notify::new(),
            wanted: Notify::new(),
            prover_failed: AtomicBool::new(false),
        });
        let pool: WorkerPool<Proof<J>, ()> = background::pool(provers).map_err(PayerError::Threads)?;
        let background = tokio::spawn(background::run(Arc::clone(&shared), pool, provers.max(1)));
        Ok(Self(Arc::new(Inner { shared, client, origin, authority, challenge, background })))
    }

    /// Does something with the wallet: mints another payment, say, or adopts a newer directory. Not for long: calls wait
    /// meanwhile.
    pub fn with_wallet<T>(&self, action: impl FnOnce(&mut Wallet<J>) -> T) -> T {
        let done = action(&mut self.0.shared.wallet());
        self.0.shared.changed.notify_waiters();
        done
    }

    /// How many spends are ready.
    pub fn ready(&self) -> usize {
        let shared = &self.0.shared;
        shared.wallet().ready(&shared.gateway, shared.class, shared.clock.now())
    }

    /// Waits until `count` spends are ready.
    ///
    /// # Errors
    /// [`CallError::Prover`] if proofs cannot be made, [`CallError::OutOfCredit`] if fewer lanes can pay.
    pub async fn wait_ready(&self, count: usize) -> Result<(), CallError> {
        let shared = &self.0.shared;
        loop {
            let changed = shared.changed.notified();
            let ready = self.ready();
            if ready >= count {
                return Ok(());
            }
            let able = shared.lanes_to_prove();
            if shared.prover_failed.load(Ordering::Relaxed) {
                return Err(CallError::Prover);
            }
            if ready + able < count {
                return Err(CallError::OutOfCredit);
            }
            shared.wanted.notify_one();
            changed.await;
        }
    }

    /// How long each of the last 65,536 proofs took.
    pub fn proof_times(&self) -> Vec<Duration> {
        self.0.shared.proof_times.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The challenge that calls answer.
    pub fn challenge(&self) -> &Challenge {
        &self.0.challenge
    }
}

impl<J: Journal + 'static> Clone for Payer<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J: Journal + 'static> core::fmt::Debug for Payer<J> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Payer").field("origin", &self.0.origin).finish_non_exhaustive()
    }
}

impl<J: Journal + 'static> Drop for Inner<J> {
    fn drop(&mut self) {
        self.background.abort();
    }
}

/// A gateway that shows this caller another challenge or another directory than the pinned one would be marking him.
async fn check_gateway(
    client: &Client,
    origin: &str,
    challenge: &Challenge,
    directory: Digest,
) -> Result<(), PayerError> {
    if client.challenge(origin).await? == *challenge {
        return Ok(());
    }
    let shown = client.directory(origin).await?;
    Err(PayerError::OtherDirectory { known: directory, shown: Box::new(shown) })
}
