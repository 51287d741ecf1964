//! What is done in quiet times: gathering credit, rolling notes over, looking for newer directories.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::sync::OwnedRwLockWriteGuard;

use super::events::Event;
use super::prover::{Proved, Proving};
use super::shared::{Held, Shared};
use super::{ClientError, Stopped, unmoving};
use crate::http::wire::{ROLLOVER_PATH, TRANSFER_PATH};
use crate::protocol::{CLOCK_TOLERANCE, EpochNumber, Settlement, Timestamp};
use crate::wallet::{
    AuthoriseError, Journal, LaneId, LaneStatus, PlanError, Policy, ProofJob, ReadySpend, Suggestion, Wallet,
};

/// How often it is looked whether there is something to do, at most and at least.
const TICKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// The pause after something failed; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// The pause between looks for a directory that lets the gateway be paid.
const UNLISTED: Duration = Duration::from_secs(60);

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chore {
    RollOver(LaneId),
    Transfer(Suggestion),
}

impl Chore {
    fn lanes(&self) -> Vec<LaneId> {
        match self {
            Self::RollOver(lane) => vec![*lane],
            Self::Transfer(suggestion) => vec![suggestion.from, suggestion.to],
        }
    }
}

/// How it is urged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// It waits for a quiet time.
    Quiet,
    /// It waits for a moment without a call.
    Soon,
    /// It waits for nothing: the epoch is about to end.
    Now,
    /// A call waits for it.
    Awaited,
}

/// A chore did not come to its end. What was pinned is pursued.
struct Unfinished;

impl From<Stopped> for Unfinished {
    fn from(_: Stopped) -> Self {
        Self
    }
}

impl From<ClientError> for Unfinished {
    fn from(_: ClientError) -> Self {
        Self
    }
}

impl From<PlanError> for Unfinished {
    fn from(_: PlanError) -> Self {
        Self
    }
}

impl From<AuthoriseError> for Unfinished {
    fn from(_: AuthoriseError) -> Self {
        Self
    }
}

pub(super) async fn run<J: Journal + 'static>(shared: Arc<Shared<J>>) {
    let tick = Duration::from_secs(u64::from(shared.policy.quiet_seconds) / 4).clamp(TICKS.0, TICKS.1);
    let mut failures = 0;
    let mut window = None;
    let mut warned = HashSet::new();
    let mut looked_for = Instant::now();
    // The longest pause that what is about to end leaves.
    let mut hurry = Duration::MAX;
    loop {
        tokio::select! {
            () = tokio::time::sleep(tick.min(hurry)) => {}
            () = shared.gather.notified() => {}
        }
        let looking = Arc::clone(&shared);
        let looked = shared.keeper.ask(move |wallet| looking.look(wallet)).await;
        let Ok(Look { chore, window: current, ending, pause }) = looked else { return };
        hurry = pause;
        // Once in each window, as everybody does; more often while this one lets nothing be paid.
        let unlisted = {
            let state = shared.state();
            (state.unlisted || state.disagrees || state.uncompared) && looked_for.elapsed() > UNLISTED
        };
        if window.replace(current).is_some_and(|last| last != current) || unlisted {
            tokio::time::sleep(shared.jitter().min(hurry)).await;
            shared.refresh_directory().await;
            looked_for = Instant::now();
        }
        for (lane, epoch, at) in ending {
            if warned.insert((lane, epoch)) {
                shared.tell(&Event::EpochEnds { lane, at });
            }
        }
        let Some((chore, urgency)) = chore.filter(|(_, urgency)| shared.may(*urgency)) else { continue };
        match urgency {
            Urgency::Awaited => tokio::time::sleep(shared.moment()).await,
            Urgency::Now => tokio::time::sleep(shared.jitter().min(hurry)).await,
            _ => {
                tokio::select! {
                    () = tokio::time::sleep(shared.jitter()) => {}
                    () = shared.gather.notified() => {
                        // What is awaited goes first.
                        shared.gather.notify_one();
                        continue;
                    }
                }
            }
        }
        // A call came meanwhile.
        if !shared.may(urgency) {
            continue;
        }
        match shared.carry_out_chore(chore, urgency).await {
            Ok(()) => failures = 0,
            Err(Unfinished) => {
                shared.tell(&Event::UpkeepFailed);
                let pause = FIRST_PAUSE.saturating_mul(1 << failures).min(LONGEST_PAUSE);
                failures = (failures + 1).min(16);
                tokio::select! {
                    () = tokio::time::sleep((pause + shared.jitter()).min(hurry)) => {}
                    () = shared.gathered_soon() => {}
                }
            }
        }
    }
}

struct Look {
    chore: Option<(Chore, Urgency)>,
    /// The windows of not-after and of publication.
    window: (Timestamp, u64),
    /// Lanes whose notes end soon, with their epoch and when.
    ending: Vec<(LaneId, EpochNumber, Timestamp)>,
    /// How long a pause may be, so that all of them are rolled over in time.
    pause: Duration,
}

impl<J: Journal + 'static> Shared<J> {
    fn look(&self, wallet: &mut Wallet<J>) -> Look {
        let (now, policy) = (self.clock.now(), &self.policy());
        let ending = wallet.ending(now, policy.roll_over_seconds);
        let at_last = wallet.ending(now, policy.roll_over_seconds / 2);
        let roll_over = wallet.suggest_rollovers(policy, now).first().map(|(lane, urgent)| {
            let urgency = match urgent {
                true if at_last.iter().any(|(ends, _)| ends == lane) => Urgency::Now,
                true => Urgency::Soon,
                false => Urgency::Quiet,
            };
            (Chore::RollOver(*lane), urgency)
        });
        // A quarter of the time that is left, shared by those that are left.
        let left = at_last.iter().map(|(_, at)| at.seconds().saturating_sub(now.seconds())).filter(|left| *left > 0);
        let shares = 4 * u32::try_from(at_last.len()).unwrap_or(u32::MAX).max(1);
        let pause = left.min().map_or(Duration::MAX, |left| (Duration::from_secs(left) / shares).max(TICKS.0 / 4));
        let pause = if roll_over.is_some_and(|(_, urgency)| urgency == Urgency::Now) { pause } else { Duration::MAX };
        // What is on its way may make it needless.
        let settled = wallet.awaited() == 0;
        let transfer = |lanes| {
            let class = self.class_to_gather()?;
            wallet.suggest_transfer(&Policy { class, lanes, ..*policy }, now).map(Chore::Transfer)
        };
        // A call that waits cannot be paid before; one lane is enough for it.
        let awaited =
            || transfer(1).filter(|_| self.is_short() && self.waiting() > 0).map(|chore| (chore, Urgency::Awaited));
        let quiet = || transfer(policy.lanes).filter(|_| settled).map(|chore| (chore, Urgency::Quiet));
        let chore = roll_over.filter(|(_, urgency)| *urgency == Urgency::Now);
        let chore = chore.or_else(awaited).or(roll_over).or_else(quiet);
        let epoch_of = |lane: LaneId| {
            wallet.lanes().find_map(|(id, status)| match status {
                LaneStatus::Idle { epoch, .. } if id == lane => Some(epoch),
                _ => None,
            })
        };
        let ending = ending.into_iter().filter_map(|(lane, at)| Some((lane, epoch_of(lane)?, at)));
        // So much later an issuer has published for sure.
        let grid = wallet.directory().grid();
        let published = now.before(CLOCK_TOLERANCE.min(grid.lifetime() / 4));
        Look {
            chore: chore.filter(|_| !self.state().contradicted),
            window: (grid.callers_not_after(now), published.seconds() / grid.lifetime()),
            ending: ending.collect(),
            pause,
        }
    }

    /// Whether something of this urgency may be done now.
    fn may(&self, urgency: Urgency) -> bool {
        let last = self.state().last_call;
        let quiet = self.clock.now() >= last.after(self.policy.quiet_seconds.into());
        match urgency {
            Urgency::Quiet => quiet && self.gap().is_some(),
            Urgency::Soon => self.gap().is_some(),
            Urgency::Now | Urgency::Awaited => true,
        }
    }

    /// A call waits for credit to be gathered, and some seconds are over since that failed.
    async fn gathered_soon(&self) {
        tokio::time::sleep(FIRST_PAUSE).await;
        self.gather.notified().await;
        self.gather.notify_one();
    }

    /// A moment without a call, which lasts for as long as it is held.
    fn gap(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.traffic).try_write_owned().ok()
    }

    async fn carry_out_chore(self: &Arc<Self>, chore: Chore, urgency: Urgency) -> Result<(), Unfinished> {
        let lanes = chore.lanes();
        {
            let mut proving = self.proving();
            if lanes.iter().any(|lane| proving.contains(lane)) {
                // Its proof for a call is being made; next time.
                return Ok(());
            }
            proving.extend(lanes.iter().copied());
        }
        let _proving: Vec<_> = lanes.into_iter().map(|lane| Proving { shared: Arc::clone(self), lane }).collect();
        let planner = Arc::clone(self);
        let jobs = self.keeper.ask(move |wallet| {
            let now = planner.clock.now();
            Ok::<Vec<ProofJob>, PlanError>(match chore {
                Chore::RollOver(lane) => vec![wallet.plan_rollover(lane, &planner.gateway, now)?],
                Chore::Transfer(Suggestion { from, to, amount }) => {
                    wallet.plan_transfer(from, to, amount, &planner.gateway, now)?.into()
                }
            })
        });
        let mut ready = Vec::new();
        for job in jobs.await?? {
            let Proved { ready: made, took } = self.provers.prove(job).await.ok_or(Unfinished)?;
            self.proof_took(took);
            ready.push(made);
        }
        // While it is under way calls hold back for a moment.
        let _gap = match self.gap() {
            Some(gap) => Some(gap),
            None if urgency >= Urgency::Now => None,
            None => return Ok(()),
        };
        match chore {
            Chore::RollOver(lane) => {
                let ready = ready.pop().ok_or(Unfinished)?;
                self.roll_over(ready).await?;
                self.tell(&Event::RolledOver(lane));
            }
            Chore::Transfer(Suggestion { from, to, amount }) => {
                let halves = <[ReadySpend; 2]>::try_from(ready).map_err(|_| Unfinished)?;
                self.transfer(halves).await?;
                self.tell(&Event::Transferred { from, to, amount });
            }
        }
        Ok(())
    }

    async fn roll_over(self: &Arc<Self>, ready: ReadySpend) -> Result<(), Unfinished> {
        let shared = Arc::clone(self);
        let pinning = self.keeper.ask(move |wallet| {
            let (terms, now) = (shared.terms(), shared.clock.now());
            let request = terms.request(ROLLOVER_PATH).map_err(|_| Unfinished)?;
            let authorised = wallet.authorise(ready, &request, now)?;
            let held = Held::new(&shared, authorised.key, Arc::clone(&terms));
            Ok::<_, Unfinished>((held, authorised.opening))
        });
        let (held, opening) = pinning.await??;
        let settlement = self.errand(self.client.rollover(&held.terms.origin, opening)).await?;
        if !self.learn(&held.terms.origin, [settlement.epoch]).await {
            return Err(Unfinished);
        }
        let shared = Arc::clone(self);
        let accepting = self.keeper.run(move |wallet| {
            let accepted = wallet.accept(&held.key(), &settlement, shared.clock.now()).map_err(|_| Unfinished)?;
            held.settled();
            let _ = wallet.take_receipt(&held.key(), &accepted, None, shared.clock.now());
            shared.notes_came();
            Ok(())
        });
        accepting.await?
    }

    async fn transfer(self: &Arc<Self>, halves: [ReadySpend; 2]) -> Result<(), Unfinished> {
        let shared = Arc::clone(self);
        let pinning = self.keeper.ask(move |wallet| {
            let (terms, now) = (shared.terms(), shared.clock.now());
            let request = terms.request(TRANSFER_PATH).map_err(|_| Unfinished)?;
            let authorised = wallet.authorise_transfer(halves, &request, now)?;
            let held = authorised.keys.map(|key| Held::new(&shared, key, Arc::clone(&terms)));
            Ok::<_, Unfinished>((held, authorised.transfer))
        });
        let (held, transfer) = pinning.await??;
        let answer = self.errand(self.client.transfer(&held[0].terms.origin, transfer)).await;
        if let Err(ClientError::Problem(details)) = &answer
            && details.status == StatusCode::NOT_FOUND.as_u16()
        {
            // It has no set: both halves are cancelled, and calls do with what each lane has.
            self.state().unmoving = true;
            let (gateway, now) = (self.gateway, self.clock.now());
            self.keeper.leave(move |wallet| unmoving::note(wallet, &gateway, now));
        }
        let settlements: [Settlement; 2] = answer?;
        if !self.learn(&held[0].terms.origin, settlements.iter().map(|settlement| settlement.epoch)).await {
            return Err(Unfinished);
        }
        let shared = Arc::clone(self);
        let accepting = self.keeper.run(move |wallet| {
            let keys = held.each_ref().map(Held::key);
            let accepted = wallet.accept_transfer(&keys, &settlements, shared.clock.now()).map_err(|_| Unfinished)?;
            for (half, accepted) in held.iter().zip(&accepted) {
                half.settled();
                let _ = wallet.take_receipt(&half.key(), accepted, None, shared.clock.now());
            }
            shared.notes_came();
            Ok(())
        });
        accepting.await?
    }
}
