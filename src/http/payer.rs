//! The caller's side: a wallet whose proofs are made ahead in the background, and requests that are paid with them.
//!
//! A [`Payer`] keeps a proof ready for every lane that can pay. Making one takes a core for a tenth of a second, so that it
//! happens on threads of its own, one proof a thread, while nobody waits. A call takes a ready spend, signs, and sends: that
//! costs some ten microseconds, and whatever the journal takes. Its settlement completes the lane's next note, for which the next
//! proof is begun.
//!
//! Everything else goes on by itself:
//!
//! | task | what it does |
//! | --- | --- |
//! | prover | makes proofs ahead, and anew after each window, within the [`Policy`] |
//! | pursuit | gets the settlements of spends whose calls ended without one, those of before a crash included |
//! | inquiry | asks whether notes from the wallet's file were spent elsewhere, before they are used |
//! | quiet times | gathers credit, rolls notes over, looks for newer directories |
//!
//! What is done with the wallet is done on a thread of its own, and not on an async one: its journal may wait for a disk.

mod call;
mod charge;
mod client;
mod clock_off;
mod error;
mod events;
mod funding;
mod inquiry;
mod keeper;
mod meeting;
mod prover;
mod pursuing;
mod quiet;
mod receipts;
mod restore;
mod session;
mod shared;
mod stream;
mod terms;
mod unmoving;
mod view;

pub use call::{Paid, Spent};
pub use charge::{Asked, ByRoute, Estimate, Estimator, was_too_small};
pub use client::{Client, ClientError};
pub use clock_off::{ClockOff, clock_off, clocks_off};
pub use error::{CallError, CreditState, FundError, PayerError, TooSmall};
pub use events::{Event, PayerObserver, Status, Unobserved};
pub use keeper::Stopped;
pub use restore::{RestoreFrom, RestoreTrouble};
pub use session::{PaidSession, SessionBody, SessionPaid};
pub use stream::{PaidBody, Settled, Streamed};
pub use view::{EpochView, LaneView, View};

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::cause::chain;
use super::clock::Clock;
pub use super::hop::{Socks5, Socks5Error};
use super::payment::PaymentChallenge;
use crate::protocol::{Credits, Directory, DirectoryError, GatewayId, LANES, PaymentId, Timestamp};
use crate::wallet::{Journal, LaneStatus, OpenError, Policy, Wallet};
use keeper::Keeper;
use prover::Provers;
use shared::{Beginning, Shared};
use terms::Terms;

/// How long the gateway may take to show its challenge before it counts as away.
const FIRST_MEETING: Duration = Duration::from_secs(10);

/// What a payer is made of.
#[derive(Clone)]
#[non_exhaustive]
pub struct PayerParts {
    /// The gateway that is paid.
    pub gateway: GatewayId,
    /// How the wallet is used.
    pub policy: Policy,
    /// How calls are sent.
    pub client: Client,
    /// By which windows are told apart.
    pub clock: Clock,
    /// The observer: it is told what happens.
    pub observer: Arc<dyn PayerObserver>,
    /// How long a call waits for its answer. After that its settlement is pursued without it.
    pub answer_timeout: Duration,
    /// By what calls are told apart, and their prices known, where the policy [chooses](Policy::choose) their class.
    pub estimator: Arc<dyn Estimator>,
}

impl PayerParts {
    /// The same with this [`policy`](Self::policy).
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The same with this [`clock`](Self::clock).
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The same with this [`observer`](Self::observer).
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn PayerObserver>) -> Self {
        Self { observer, ..self }
    }

    /// The same with this [`answer_timeout`](Self::answer_timeout).
    #[must_use]
    pub fn with_answer_timeout(self, answer_timeout: Duration) -> Self {
        Self { answer_timeout, ..self }
    }

    /// The same with this [`estimator`](Self::estimator).
    #[must_use]
    pub fn with_estimator(self, estimator: Arc<dyn Estimator>) -> Self {
        Self { estimator, ..self }
    }
}

impl PayerParts {
    /// With the system's clock, nobody who is told, 330 seconds for an answer, and prices known [by route](ByRoute).
    pub fn new(gateway: GatewayId, policy: Policy, client: Client) -> Self {
        let (clock, observer) = (Clock::system(), Arc::new(Unobserved));
        let (answer_timeout, estimator) = (Duration::from_secs(330), Arc::new(ByRoute));
        Self { gateway, policy, client, clock, observer, answer_timeout, estimator }
    }
}

impl core::fmt::Debug for PayerParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { gateway, policy, .. } = self;
        f.debug_struct("PayerParts").field("gateway", gateway).field("policy", policy).finish_non_exhaustive()
    }
}

/// A wallet that pays for requests to one gateway. Cheap to clone; the background work ends when the last clone is dropped, or with
/// [`shutdown`](Self::shutdown).
pub struct Payer<J: Journal + 'static>(Arc<Background<J>>);

struct Background<J: Journal + 'static> {
    shared: Arc<Shared<J>>,
    background: Mutex<Vec<JoinHandle<()>>>,
}

impl<J: Journal + 'static> Payer<J> {
    /// Compares the gateway's challenge with the wallet's directory, and goes over to the gateway's if that is a newer one; then
    /// begins to make proofs, to pursue what was in flight, and to ask about notes from the wallet's file. To be called within a
    /// runtime.
    ///
    /// # Errors
    /// [`PayerError`]. The wallet is dropped then; what it has in its journal stays there.
    pub async fn start(wallet: Wallet<J>, parts: PayerParts) -> Result<Self, PayerError> {
        Self::begin(wallet, parts, false).await
    }

    /// [`start`](Self::start), also while the gateway cannot be reached: then calls fail with [`CallError::Away`], nothing is sent, and the
    /// gateway is looked for and compared until it is there. Proofs are made meanwhile.
    ///
    /// # Errors
    /// [`PayerError`], but for [`PayerError::Client`].
    pub async fn start_waiting(wallet: Wallet<J>, parts: PayerParts) -> Result<Self, PayerError> {
        Self::begin(wallet, parts, true).await
    }

    async fn begin(mut wallet: Wallet<J>, parts: PayerParts, waiting: bool) -> Result<Self, PayerError> {
        let PayerParts { gateway, policy, client, clock, observer, answer_timeout, estimator } = parts;
        wallet.let_rest(policy.rest_seconds);
        let keeper = Keeper::start(wallet).map_err(PayerError::Threads)?;
        let mut away = None;
        let met = match tokio::time::timeout(
            if waiting { FIRST_MEETING } else { Duration::MAX },
            check_gateway(&keeper, &client, gateway, policy, clock.now()),
        )
        .await
        {
            Ok(met) => met,
            Err(_) => Err(ClientError::Timeout.into()),
        };
        let terms = match met {
            Err(PayerError::Client(error)) if waiting => {
                away = Some(chain(&error).into());
                keeper.ask(move |wallet| known_terms(wallet, gateway, &policy)).await??
            }
            met => met?,
        };
        let now = clock.now();
        let known = move |wallet: &mut Wallet<J>| {
            let unmoving = unmoving::is_known(wallet, &gateway, now);
            (shared::numbers(wallet.directory()), charge::restored(wallet), unmoving)
        };
        let (epochs, charges, unmoving) = keeper.ask(known).await?;
        let threads = usize::try_from(policy.provers).unwrap_or(1).max(1);
        let provers = Provers::start(threads).map_err(PayerError::Threads)?;
        let beginning = Beginning {
            provers,
            client,
            clock,
            policy,
            gateway,
            answer_timeout,
            observer,
            estimator,
            charges,
            terms,
            epochs,
        };
        let shared = Arc::new(Shared::new(keeper, beginning));
        shared.state().away = away;
        shared.state().unmoving = unmoving;
        let background = vec![
            tokio::spawn(prover::run(Arc::clone(&shared))),
            tokio::spawn(pursuing::run(Arc::clone(&shared))),
            tokio::spawn(inquiry::run(Arc::clone(&shared))),
            tokio::spawn(quiet::run(Arc::clone(&shared))),
            tokio::spawn(meeting::run(Arc::clone(&shared))),
        ];
        Ok(Self(Arc::new(Background { shared, background: Mutex::new(background) })))
    }

    /// Has a payment minted: `amounts` are what the lanes are to be worth, together what was paid. With the same payment and
    /// amounts it can be called as often as it takes; the lanes are opened once. What the issuer refused binds nothing: it can be called
    /// with other amounts, and if one of the earlier ones was minted after all, that is taken.
    ///
    /// The issuer learns who pays. So `client` should not come from the address that calls come from, and the first call should not
    /// follow at once. If calls go through a proxy, so does this, on a circuit of its own; a `client` with a proxy keeps it.
    ///
    /// # Errors
    /// [`FundError`].
    pub async fn fund(
        &self,
        client: &Client,
        issuer: &str,
        payment: PaymentId,
        amounts: [Credits; LANES],
    ) -> Result<(), FundError> {
        let shared = &self.0.shared;
        let client = &match shared.client.proxy() {
            Some(proxy) if client.proxy().is_none() => client.clone().through(proxy.clone())?,
            _ => client.clone(),
        };
        let now = shared.clock.now();
        let requests = shared.keeper.ask(move |wallet| wallet.request_mint_anew(payment, amounts, now)).await??;
        let issuer = issuer.trim_end_matches('/');
        let answer = shared.errand(client.mint_one_of(issuer, &requests)).await?;
        if !shared.knows(answer.response.epoch) {
            // From who knows who pays, and not from where calls go.
            let shown = shared.errand(client.directory(issuer)).await?;
            let adopting = Arc::clone(shared);
            shared.keeper.run(move |wallet| adopting.adopt(wallet, &shown)).await?;
        }
        let now = shared.clock.now();
        shared.keeper.run(move |wallet| wallet.accept_mint(&payment, &answer, now)).await??;
        shared.notes_came();
        Ok(())
    }

    /// Does something with the wallet, on its own thread. Not for long: calls wait meanwhile.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn with_wallet<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Wallet<J>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let shared = Arc::clone(&self.0.shared);
        let acting = self.0.shared.keeper.run(move |wallet| {
            let done = action(wallet);
            shared.look_at_directory(wallet);
            done
        });
        let done = acting.await?;
        self.0.shared.pursue.notify_one();
        self.0.shared.notes_came();
        Ok(done)
    }

    /// Looks at the wallet, on its own thread. Not for long: calls wait meanwhile.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Wallet<J>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.0.shared.keeper.ask(move |wallet| look(wallet)).await
    }

    /// How it is doing.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn status(&self) -> Result<Status, Stopped> {
        let shared = Arc::clone(&self.0.shared);
        self.0.shared.keeper.ask(move |wallet| shared.status(wallet)).await
    }

    /// Waits until `count` spends are ready.
    ///
    /// # Errors
    /// [`CallError::Prover`] if proofs cannot be made, [`CallError::OutOfCredit`] if fewer lanes can pay or may be able to.
    pub async fn wait_ready(&self, count: usize) -> Result<(), CallError> {
        let shared = &self.0.shared;
        let _waiting = shared.wait();
        loop {
            let changed = shared.changed.notified();
            let looking = Arc::clone(shared);
            let look = move |wallet: &mut Wallet<J>| {
                let now = looking.clock.now();
                let (classes, _) = looking.classes_to_prove(wallet);
                let class = classes.first().copied().unwrap_or(looking.policy.class);
                let unchecked = wallet.lanes().filter(|(_, lane)| match lane {
                    LaneStatus::Unchecked { value, epoch } => *value >= class && wallet.is_spendable(*epoch, now),
                    _ => false,
                });
                let able = wallet.lanes_to_prove(&looking.gateway, class, now).len();
                (looking.status(wallet), able + unchecked.count())
            };
            let (status, able) = shared.keeper.ask(look).await?;
            if status.ready >= count {
                return Ok(());
            }
            if shared.state().prover_failed {
                return Err(CallError::Prover);
            }
            // What is in flight or not asked about may come.
            if status.ready + able + status.in_flight < count {
                return Err(CallError::OutOfCredit);
            }
            shared.wanted.notify_one();
            changed.await;
        }
    }

    /// How long each of the last 65,536 proofs took.
    pub fn proof_times(&self) -> Vec<Duration> {
        self.0.shared.proof_times()
    }

    /// Why the gateway could not be reached when it was last looked for; none while it can.
    pub fn away(&self) -> Option<String> {
        self.0.shared.state().away.as_deref().map(str::to_owned)
    }

    /// The challenge that calls answer.
    pub fn challenge(&self) -> PaymentChallenge {
        self.0.shared.terms().challenge.clone()
    }

    /// Ends all of it, at once: calls that are under way end with [`CallError::Stopped`], a proof that is being made is thrown away
    /// when it is finished, and what is in flight is pursued when a payer is started with the wallet again. Gives the wallet back,
    /// the first time.
    pub async fn shutdown(&self) -> Option<Wallet<J>> {
        self.0.stop();
        let tasks = core::mem::take(&mut *self.0.background.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // It was told to stop; whatever it was at, it has let go of.
            let _ = task.await;
        }
        self.0.shared.keeper.close(release_all).await
    }
}

/// Calls and tasks that have stopped have let go of what they held, but that may not have come to the wallet yet.
fn release_all<J: Journal>(wallet: &mut Wallet<J>) {
    let in_flight = wallet.lanes().filter_map(|(_, status)| match status {
        LaneStatus::InFlight { spend, .. } => Some(spend),
        _ => None,
    });
    let in_flight: Vec<_> = in_flight.collect();
    in_flight.iter().for_each(|key| wallet.release(key));
}

impl<J: Journal + 'static> Background<J> {
    fn stop(&self) {
        self.shared.stop.send_replace(true);
        self.shared.provers.stop();
        self.background.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(JoinHandle::abort);
    }
}

impl<J: Journal + 'static> Shared<J> {
    fn status(&self, wallet: &Wallet<J>) -> Status {
        let (contradicted, set_lost) = {
            let state = self.state();
            (state.contradicted, state.set_lost)
        };
        let mut status = Status {
            balance: wallet.balance_at(self.clock.now(), self.policy.roll_over_seconds),
            ready: wallet.lanes_ready(&self.gateway, self.clock.now()),
            proving: self.proving().len(),
            waiting_calls: self.waiting(),
            quarantined_until: wallet.quarantined_until().filter(|until| self.clock.now() < *until),
            contradicted,
            set_lost,
            serial: wallet.directory().parts().serial,
            ..Status::default()
        };
        for (_, lane) in wallet.lanes() {
            status.lanes += 1;
            match lane {
                LaneStatus::InFlight { disputed, .. } => {
                    status.in_flight += 1;
                    status.disputed += usize::from(disputed);
                }
                LaneStatus::Unchecked { .. } => status.unchecked += 1,
                LaneStatus::Frozen { .. } => status.frozen += 1,
                LaneStatus::Idle { .. } => {}
            }
        }
        status
    }
}

impl<J: Journal + 'static> Clone for Payer<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J: Journal + 'static> core::fmt::Debug for Payer<J> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Payer").field("origin", &self.0.shared.terms().origin).finish_non_exhaustive()
    }
}

impl<J: Journal + 'static> Drop for Background<J> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether a directory has a class that the policy allows.
fn has_class(policy: &Policy, directory: &Directory) -> bool {
    match policy.choose {
        true => directory.classes().iter().any(|class| *class <= policy.class),
        false => directory.has_class(policy.class),
    }
}

/// A gateway that shows this caller another challenge or another directory than the pinned one would be marking the caller; unless it is
/// a newer one, signed by the issuer, that leaves every epoch as it was.
async fn check_gateway<J: Journal + 'static>(
    keeper: &Keeper<J>,
    client: &Client,
    gateway: GatewayId,
    policy: Policy,
    now: Timestamp,
) -> Result<Terms, PayerError> {
    let look = move |wallet: &mut Wallet<J>| known_terms(wallet, gateway, &policy);
    let terms = keeper.run(look).await??;
    if client.challenge(&terms.origin).await? == terms.challenge {
        return Ok(terms);
    }
    let shown = client.directory(&terms.origin).await?;
    let newer = shown.clone();
    let adopting = keeper.run(move |wallet| match wallet.adopt_shown(&newer, now) {
        Ok(()) => look(wallet).map(Some),
        Err(OpenError::Directory(DirectoryError::Stale | DirectoryError::NotCurrent { .. })) => Ok(None),
        Err(error) => Err(PayerError::Directory(error)),
    });
    match adopting.await?? {
        Some(newer) if client.challenge(&newer.origin).await? == newer.challenge => Ok(newer),
        _ => Err(PayerError::OtherDirectory { known: terms.directory, shown: Box::new(shown) }),
    }
}

/// What the wallet's directory says.
fn known_terms<J: Journal>(wallet: &Wallet<J>, gateway: GatewayId, policy: &Policy) -> Result<Terms, PayerError> {
    let directory = wallet.directory();
    let listed = if has_class(policy, directory) { Ok(()) } else { Err(PayerError::UnknownClass(policy.class)) };
    listed.and_then(|()| Ok(Terms::of(directory, &gateway)?))
}
