//! What calls and the background share.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use rand::RngExt as _;
use tokio::sync::{Notify, OwnedRwLockReadGuard, RwLock, watch};
use tokio::time::Instant;

use super::charge::{Charges, Estimator};
use super::events::{Event, PayerObserver};
use super::keeper::Keeper;
use super::prover::Provers;
use super::terms::{NoTerms, Terms};
use super::{CallError, Client, ClientError};
use crate::http::clock::Clock;
use crate::protocol::{Directory, DirectoryError, EpochNumber, GatewayId, SignedDirectory, SpendKey, Timestamp};
use crate::wallet::{Journal, LaneId, OpenError, Policy, SpendTerms, Wallet};

/// How long anything but a call may take to be answered, straight and through a proxy.
const ERRAND: Duration = Duration::from_secs(30);
const ERRAND_THROUGH: Duration = Duration::from_secs(90);
/// How long a call holds back for a transfer that is under way, so that the two are not seen at one moment.
const HOLD_BACK: Duration = Duration::from_secs(5);
/// The longest pause before credit is gathered for a call that waits, milliseconds.
const MOMENT: u64 = 1_000;
/// How many times of proofs are kept.
const MOST_TIMES: usize = 1 << 16;

pub(super) struct Shared<J: Journal + 'static> {
    pub(super) keeper: Keeper<J>,
    pub(super) provers: Provers,
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) policy: Policy,
    pub(super) gateway: GatewayId,
    pub(super) answer_timeout: Duration,
    pub(super) estimator: Arc<dyn Estimator>,
    charges: Mutex<Charges>,
    observer: Arc<dyn PayerObserver>,
    terms: Mutex<Arc<Terms>>,
    /// Held while the gateway is looked for.
    pub(super) meeting: tokio::sync::Mutex<()>,
    /// The gateway went out of sight.
    pub(super) missed: Notify,
    /// Whose turn it is to take a spend: the call that waited longest.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Read by calls while they last, written by transfers and rollovers.
    pub(super) traffic: Arc<RwLock<()>>,
    /// Lanes for which a proof is being made.
    proving: Mutex<HashSet<LaneId>>,
    state: Mutex<State>,
    proof_times: Mutex<VecDeque<Duration>>,
    /// Calls that wait for a spend.
    waiting: AtomicUsize,
    /// Something changed: a proof is ready, a lane can be proved for, nothing can be done any more.
    pub(super) changed: Notify,
    /// Somebody waits for a proof.
    pub(super) wanted: Notify,
    /// A call waits until credit is gathered.
    pub(super) gather: Notify,
    /// There is something to pursue.
    pub(super) pursue: Notify,
    /// There may be something to ask.
    pub(super) inquire: Notify,
    pub(super) stop: watch::Sender<bool>,
}

/// What the background found.
#[derive(Debug)]
pub(super) struct State {
    /// When the last call began or ended.
    pub(super) last_call: Timestamp,
    /// When a spend was last taken or came back.
    pub(super) progress: Instant,
    /// Proofs cannot be made.
    pub(super) prover_failed: bool,
    /// The directory has no such gateway, class or tariff any more.
    pub(super) unlisted: bool,
    /// Whether notes were spent elsewhere could not be asked the last time.
    pub(super) unasked: bool,
    /// The issuer shows different callers different directories.
    pub(super) contradicted: bool,
    /// The gateway's challenge names another directory than the one that it shows to this wallet.
    pub(super) disagrees: bool,
    /// The gateway showed no challenge when it was last to be compared.
    pub(super) uncompared: bool,
    /// The gateway carries out no transfers.
    pub(super) unmoving: bool,
    /// The gateway's set was found to lack spends that it settled.
    pub(super) set_lost: bool,
    /// Why the gateway could not be reached, since it was last looked for. None while it is there.
    pub(super) away: Option<Box<str>>,
    /// When it was last looked for.
    pub(super) looked: Option<Instant>,
    /// The epochs of the wallet's directory.
    pub(super) epochs: Vec<EpochNumber>,
}

/// What the payer goes by when it is begun.
pub(super) struct Beginning {
    pub(super) provers: Provers,
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) policy: Policy,
    pub(super) gateway: GatewayId,
    pub(super) answer_timeout: Duration,
    pub(super) observer: Arc<dyn PayerObserver>,
    pub(super) estimator: Arc<dyn Estimator>,
    pub(super) charges: Charges,
    pub(super) terms: Terms,
    pub(super) epochs: Vec<EpochNumber>,
}

impl<J: Journal + 'static> Shared<J> {
    pub(super) fn new(keeper: Keeper<J>, beginning: Beginning) -> Self {
        let Beginning { provers, client, clock, policy, gateway, answer_timeout, .. } = beginning;
        let Beginning { observer, estimator, charges, terms, epochs, .. } = beginning;
        let state = State {
            last_call: clock.now(),
            progress: Instant::now(),
            prover_failed: false,
            unlisted: false,
            unasked: false,
            contradicted: false,
            disagrees: false,
            uncompared: false,
            unmoving: false,
            set_lost: false,
            away: None,
            looked: None,
            epochs,
        };
        Self {
            keeper,
            provers,
            client,
            clock,
            policy,
            gateway,
            answer_timeout,
            estimator,
            charges: Mutex::new(charges),
            observer,
            terms: Mutex::new(Arc::new(terms)),
            meeting: tokio::sync::Mutex::new(()),
            missed: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            traffic: Arc::default(),
            proving: Mutex::default(),
            state: Mutex::new(state),
            proof_times: Mutex::default(),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            wanted: Notify::new(),
            gather: Notify::new(),
            pursue: Notify::new(),
            inquire: Notify::new(),
            stop: watch::Sender::new(false),
        }
    }

    pub(super) fn tell(&self, event: &Event) {
        self.observer.event(event);
    }

    pub(super) fn terms(&self) -> Arc<Terms> {
        Arc::clone(&lock(&self.terms))
    }

    pub(super) fn charges(&self) -> MutexGuard<'_, Charges> {
        lock(&self.charges)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn proving(&self) -> MutexGuard<'_, HashSet<LaneId>> {
        lock(&self.proving)
    }

    pub(super) fn proof_took(&self, time: Duration) {
        let mut times = lock(&self.proof_times);
        if times.len() == MOST_TIMES {
            times.pop_front();
        }
        times.push_back(time);
    }

    pub(super) fn proof_times(&self) -> Vec<Duration> {
        lock(&self.proof_times).iter().copied().collect()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts a call that waits for a spend, until what is returned is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// A length of time left to chance, up to that of the policy.
    pub(super) fn jitter(&self) -> Duration {
        let longest = u64::from(self.policy.jitter_seconds) * 1_000;
        Duration::from_millis(rand::rng().random_range(0..=longest))
    }

    /// A moment left to chance, before what a call waits for.
    pub(super) fn moment(&self) -> Duration {
        self.jitter().min(Duration::from_millis(rand::rng().random_range(0..=MOMENT)))
    }

    /// A spend was taken or came back.
    pub(super) fn progress(&self) {
        self.state().progress = Instant::now();
        self.changed.notify_waiters();
    }

    /// A call begins; it ends when what is returned is dropped.
    pub(super) async fn enter(self: &Arc<Self>) -> Visit<J> {
        let entering = tokio::time::timeout(HOLD_BACK, Arc::clone(&self.traffic).read_owned());
        let visit = Visit { _traffic: entering.await.ok(), shared: Arc::clone(self) };
        self.state().last_call = self.clock.now();
        visit
    }

    /// Does something, until it is done or all is shut down.
    pub(super) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Err(CallError::Stopped),
            outcome = work => outcome,
        }
    }

    /// Waits for the answer to anything but a call.
    pub(super) async fn errand<T>(
        &self,
        asked: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let longest = if self.client.proxy().is_some() { ERRAND_THROUGH } else { ERRAND };
        let timeout = longest.min(self.answer_timeout);
        tokio::time::timeout(timeout, asked).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// Fetches the directory, and goes over to it if it is a newer one. Then asks for the challenge, as anybody does, and compares: who
    /// shows each caller a directory of its own does not know whom it shows a challenge to.
    pub(super) async fn refresh_directory(self: &Arc<Self>) -> Refreshed {
        let origin = self.terms().origin.clone();
        let mut refreshed = self.refresh_directory_at(&origin).await;
        if refreshed == Refreshed::Contradiction {
            return refreshed;
        }
        for last in [false, true] {
            let Ok(shown) = self.errand(self.client.challenge(&origin)).await else {
                self.state().uncompared = true;
                return refreshed;
            };
            let agrees = shown == self.terms().challenge;
            {
                let mut state = self.state();
                (state.disagrees, state.uncompared) = (!agrees, false);
            }
            if agrees || last {
                break;
            }
            // One may have been published in between.
            match self.refresh_directory_at(&origin).await {
                Refreshed::Contradiction => return Refreshed::Contradiction,
                Refreshed::Adopted => refreshed = Refreshed::Adopted,
                _ => {}
            }
        }
        self.changed.notify_waiters();
        refreshed
    }

    async fn refresh_directory_at(self: &Arc<Self>, origin: &str) -> Refreshed {
        let Ok(shown) = self.errand(self.client.directory(origin)).await else { return Refreshed::Failed };
        let shared = Arc::clone(self);
        self.keeper.run(move |wallet| shared.adopt(wallet, &shown)).await.unwrap_or(Refreshed::Failed)
    }

    /// Sees to it that what a gateway shows, signed under these epochs, can be judged. An epoch that is not known is most likely one
    /// that was announced since the directory was fetched, and without it an honest settlement would be taken for a bad one. Whether
    /// it can be judged: not if that gateway, which has to know the epoch, shows no directory.
    pub(super) async fn learn(self: &Arc<Self>, origin: &str, epochs: impl IntoIterator<Item = EpochNumber>) -> bool {
        let known = epochs.into_iter().all(|epoch| self.knows(epoch));
        known || self.refresh_directory_at(origin).await != Refreshed::Failed
    }

    /// Whether the wallet's directory has an epoch.
    pub(super) fn knows(&self, epoch: EpochNumber) -> bool {
        self.state().epochs.contains(&epoch)
    }

    /// Goes over to a newer directory, on the wallet's thread.
    pub(super) fn adopt(&self, wallet: &mut Wallet<J>, shown: &SignedDirectory) -> Refreshed {
        if shown == wallet.signed_directory() {
            return Refreshed::Same;
        }
        match wallet.adopt_shown(shown, self.clock.now()) {
            Ok(()) => {
                self.look_at_directory(wallet);
                Refreshed::Adopted
            }
            Err(OpenError::Directory(DirectoryError::Contradiction)) => {
                let first = !core::mem::replace(&mut self.state().contradicted, true);
                if first {
                    self.tell(&Event::DisputeKept(crate::wallet::DisputeKind::TwoDirectories));
                }
                self.changed.notify_waiters();
                Refreshed::Contradiction
            }
            Err(_) => Refreshed::Failed,
        }
    }

    /// Goes by the wallet's directory, if that is another one now.
    pub(super) fn look_at_directory(&self, wallet: &mut Wallet<J>) {
        let directory = wallet.directory();
        if self.terms().directory == directory.digest() {
            return;
        }
        let serial = directory.parts().serial;
        let terms = Terms::of(directory, &self.gateway);
        let listed = terms.is_ok() && self.has_class(directory);
        {
            let mut state = self.state();
            (state.unlisted, state.epochs) = (!listed, numbers(directory));
        }
        // A gateway that is gone stays where it was for what it still has to settle.
        if let Ok(terms) = terms {
            *lock(&self.terms) = Arc::new(terms);
        }
        wallet.discard_stale(self.clock.now());
        self.tell(&Event::DirectoryAdopted { serial });
        self.changed.notify_waiters();
        self.inquire.notify_one();
    }

    /// The policy, as far as the gateway lets it be followed.
    pub(super) fn policy(&self) -> Policy {
        Policy { gather: self.policy.gather && !self.state().unmoving, ..self.policy }
    }

    /// A note may have come that has to be asked about, or one that can be proved for.
    pub(super) fn notes_came(&self) {
        self.progress();
        self.wanted.notify_one();
        self.inquire.notify_one();
    }
}

/// The epochs of a directory.
pub(super) fn numbers(directory: &Directory) -> Vec<EpochNumber> {
    directory.epochs().iter().map(|epoch| epoch.number).collect()
}

/// What came of fetching the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refreshed {
    /// It is the one that the wallet goes by.
    Same,
    /// It was newer, and is gone by now.
    Adopted,
    /// It proves that the issuer shows different callers different directories.
    Contradiction,
    /// There was none, or it is not to be gone by: older, or not signed.
    Failed,
}

/// A call that waits for a spend.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call, while it lasts.
pub(super) struct Visit<J: Journal + 'static> {
    _traffic: Option<OwnedRwLockReadGuard<()>>,
    shared: Arc<Shared<J>>,
}

impl<J: Journal + 'static> Drop for Visit<J> {
    fn drop(&mut self) {
        self.shared.state().last_call = self.shared.clock.now();
    }
}

/// A spend that is pinned, and driven by the holder of this. When it is dropped before the spend is settled, for whatever reason and
/// wherever its owner was, the spend is pursued.
pub(super) struct Held<J: Journal + 'static> {
    shared: Arc<Shared<J>>,
    key: SpendKey,
    settled: AtomicBool,
    /// What it is sent with: on a circuit that no other spend has.
    pub(super) client: Box<Client>,
    pub(super) terms: Arc<Terms>,
    /// What pays, where it is for a call.
    pub(super) credential: Option<HeaderValue>,
    /// The bytes that pay, where they are a body.
    pub(super) opening: Vec<u8>,
    /// Its terms, by which it is judged whether it had to be refused.
    pub(super) spend: Option<SpendTerms>,
    /// The kind of its call.
    pub(super) kind: Option<String>,
    /// Whether its settlement was there before the answer's body, which is whole then.
    pub(super) whole: bool,
}

impl<J: Journal + 'static> core::fmt::Debug for Held<J> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl<J: Journal + 'static> core::fmt::Debug for Shared<J> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl<J: Journal + 'static> Held<J> {
    pub(super) fn new(shared: &Arc<Shared<J>>, key: SpendKey, terms: Arc<Terms>) -> Self {
        let (shared, settled) = (Arc::clone(shared), AtomicBool::new(false));
        let client = Box::new(shared.client.of_spend());
        Self {
            shared,
            key,
            settled,
            client,
            terms,
            credential: None,
            opening: Vec::new(),
            spend: None,
            kind: None,
            whole: false,
        }
    }

    pub(super) fn key(&self) -> SpendKey {
        self.key
    }

    /// There is nothing to pursue.
    pub(super) fn settled(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }
}

impl<J: Journal + 'static> Drop for Held<J> {
    fn drop(&mut self) {
        if !self.settled.load(Ordering::Relaxed) {
            let (shared, key) = (Arc::clone(&self.shared), self.key);
            self.shared.keeper.leave(move |wallet| {
                wallet.release(&key);
                shared.pursue.notify_one();
                shared.changed.notify_waiters();
            });
        }
    }
}

/// What is behind these locks is whole at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<NoTerms> for super::PayerError {
    fn from(error: NoTerms) -> Self {
        match error {
            NoTerms::Unknown => Self::Unlisted,
            NoTerms::Origin(origin) => Self::Origin(origin),
        }
    }
}
