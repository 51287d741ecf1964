//! How a payer is doing, in detail: for its owner to look at.

use std::sync::Arc;

use super::{CallError, Payer, Status};
use crate::protocol::{Credits, EpochNumber, GatewayId, Timestamp};
use crate::wallet::{Journal, JournalEntry, LaneId, LaneStatus, Spending};

/// How a payer is doing, lane by lane and call by call. It says what its owner asked for, and is for nobody else.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct View {
    /// In numbers.
    pub status: Status,
    /// When it was looked.
    pub now: Timestamp,
    /// The gateway that is paid.
    pub gateway: GatewayId,
    /// Where it is.
    pub origin: String,
    /// What a call is charged.
    pub class: Credits,
    /// Why the gateway could not be reached when it was last looked for; none while it can.
    pub away: Option<String>,
    /// Whether the gateway's challenge names another directory than the one that it shows.
    pub disagrees: bool,
    /// Whether the directory does not let the gateway be paid.
    pub unlisted: bool,
    /// Whether proofs cannot be made.
    pub prover_failed: bool,
    /// Whether it could not be asked whether notes were spent by a copy of the wallet.
    pub unasked: bool,
    /// The lanes.
    pub lanes: Vec<LaneView>,
    /// The epochs that the directory has.
    pub epochs: Vec<EpochView>,
    /// The newest spends, newest first.
    pub recent: Vec<JournalEntry>,
    /// What was spent, by day and by budget.
    pub spending: Spending,
    /// Disputes that are kept.
    pub disputes: usize,
}

/// A lane, and what is done for it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LaneView {
    /// The lane.
    pub lane: LaneId,
    /// What it does.
    pub status: LaneStatus,
    /// Whether a proof for a call is ready.
    pub ready: bool,
    /// Whether one is being made.
    pub proving: bool,
    /// Until when its note can be spent, if its epoch is known.
    pub until: Option<Timestamp>,
}

/// An epoch of the directory.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EpochView {
    /// Its number.
    pub number: EpochNumber,
    /// Whether it issues now.
    pub issues: bool,
    /// Until when it issues.
    pub issues_until: Timestamp,
    /// From when its notes can be spent.
    pub spendable_from: Timestamp,
    /// Until when.
    pub spendable_until: Timestamp,
}

impl<J: Journal + 'static> Payer<J> {
    /// How it is doing in detail, with the newest `recent` spends.
    ///
    /// # Errors
    /// [`CallError::Stopped`], [`CallError::Journal`].
    pub async fn view(&self, recent: usize) -> Result<View, CallError> {
        let shared = Arc::clone(&self.0.shared);
        let looking = self.0.shared.keeper.ask(move |wallet| {
            let (now, class, gateway) = (shared.clock.now(), shared.policy.class, shared.gateway);
            let spending = wallet.spending().map_err(CallError::Journal)?.clone();
            let proving = shared.proving().clone();
            let ready: Vec<LaneId> = wallet.ready_lanes(&gateway, class, now).collect();
            let until = |status: &LaneStatus| {
                let epoch = match status {
                    LaneStatus::Idle { epoch, .. } | LaneStatus::Unchecked { epoch, .. } => *epoch,
                    LaneStatus::InFlight { spend, .. } => spend.epoch,
                    LaneStatus::Frozen { .. } => return None,
                };
                wallet.directory().epoch(epoch).map(|epoch| epoch.spend.until)
            };
            let lanes = wallet.lanes().map(|(lane, status)| LaneView {
                lane,
                ready: ready.contains(&lane),
                proving: proving.contains(&lane),
                until: until(&status),
                status,
            });
            let lanes = lanes.collect();
            let epochs = wallet.directory().epochs().iter().map(|epoch| EpochView {
                number: epoch.number,
                issues: epoch.issue.contains(now),
                issues_until: epoch.issue.until,
                spendable_from: epoch.spend.from,
                spendable_until: epoch.spend.until,
            });
            let state = shared.state();
            let (away, disagrees) = (state.away.as_deref().map(str::to_owned), state.disagrees);
            let (unlisted, prover_failed, unasked) = (state.unlisted, state.prover_failed, state.unasked);
            drop(state);
            Ok(View {
                status: shared.status(wallet),
                now,
                gateway,
                origin: shared.terms().origin.clone(),
                class,
                away,
                disagrees,
                unlisted,
                prover_failed,
                unasked,
                lanes,
                epochs: epochs.collect(),
                recent: wallet.journal().history(recent).map_err(CallError::Journal)?,
                spending,
                disputes: wallet.journal().disputes().map_err(CallError::Journal)?.len(),
            })
        });
        looking.await?
    }
}
