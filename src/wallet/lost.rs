//! Noticing that a spent set lost what it had (protocol, section 5, "Journal").
//!
//! A set that was put back, or that lies, lacks spends which it settled before. A wallet knows some of those: its own. So it compares
//! each answer about spent notes with them, and asks nothing for it that it would not ask anyway.

use std::collections::{BTreeMap, HashSet};

use halometer_circuits::note::Nullifier;

use super::journal::SpendSummary;
use super::{Dispute, DisputeKind, HeardNote, Journal, JournalError, LaneId, Question, Wallet};
use crate::protocol::{EpochNumber, GatewayId, Spend, SpendKey, Timestamp};

/// How many disputes are kept about one finding. One receipt shows as much as a thousand.
const MOST_KEPT: usize = 8;

/// What a gateway's set must have in an epoch: the spends that it settled for this wallet. Taken **before** a question is asked. What
/// was inserted before the first page was asked for is in one of the pages, so that each of these is in an honest answer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Expected {
    spends: Vec<ExpectedSpend>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct ExpectedSpend {
    key: SpendKey,
    /// By then it was settled. None where only the moment is known at which it was looked up.
    settled_by: Option<Timestamp>,
    receipt: bool,
}

impl core::fmt::Debug for Expected {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Expected").field("spends", &self.spends.len()).finish_non_exhaustive()
    }
}

/// Of when an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerTime {
    /// When it was asked for, by the wallet's clock.
    pub asked: Timestamp,
    /// For how long something on the way may have kept it, seconds.
    pub age: u64,
}

impl Expected {
    /// What an answer lacks of it, though it was settled before the answer was made: by a cache, perhaps, some time before it was
    /// asked for. Nothing that the question does not cover is missing.
    #[must_use]
    pub fn missing(&self, question: &Question, spent: &[Nullifier], time: AnswerTime) -> Self {
        let covered =
            |spend: &&ExpectedSpend| spend.key.epoch == question.epoch && question.prefix.is_of(&spend.key.nullifier);
        let made_after = |spend: &&ExpectedSpend| match (time.age, spend.settled_by) {
            (0, _) => true,
            // Ages are told in whole seconds, and rounded down.
            (age, Some(by)) => by <= time.asked.before(age.saturating_add(1)),
            (_, None) => false,
        };
        let spent: HashSet<&Nullifier> = spent.iter().collect();
        let lacking = |spend: &&ExpectedSpend| !spent.contains(&spend.key.nullifier);
        let spends = self.spends.iter().filter(covered).filter(made_after).filter(lacking);
        Self { spends: spends.copied().collect() }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.spends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spends.is_empty()
    }
}

impl<J: Journal> Wallet<J> {
    /// What this gateway's set must have in an epoch.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    pub fn expected(&self, gateway: &GatewayId, epoch: EpochNumber) -> Result<Expected, JournalError> {
        let all = self.journal.summaries()?;
        let follows = successors(&all);
        let ours = |spend: &&SpendSummary| {
            spend.settled && spend.key.epoch == epoch && spend.gateway.as_ref() == Some(gateway)
        };
        let expected = |spend: &SpendSummary| ExpectedSpend {
            key: spend.key,
            settled_by: spend.settled_at.or_else(|| follows.get(&(spend.lane, spend.index)).copied()),
            receipt: spend.receipt,
        };
        Ok(Expected { spends: all.iter().filter(ours).map(expected).collect() })
    }

    /// Keeps disputes about spends that a set lost: at most eight at a time, those first for which there is a receipt, then the newest. `heard`
    /// says what was asked and answered. How many are new.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn accuse(&mut self, missing: &Expected, heard: &[HeardNote], now: Timestamp) -> Result<usize, JournalError> {
        let mut known: HashSet<Vec<u8>> = HashSet::new();
        for dispute in self.journal.disputes()? {
            known.extend(dispute.spend.filter(|_| dispute.kind == DisputeKind::Lost));
        }
        let mut spends = missing.spends.clone();
        spends.sort_by_key(|spend| core::cmp::Reverse((spend.receipt, spend.settled_by)));
        let mut kept = 0;
        for spend in spends {
            if kept == MOST_KEPT {
                break;
            }
            let Some(entry) = self.journal.entry(&spend.key.nullifier)? else { continue };
            // A spend whose proof was thrown away is no evidence any more.
            let Ok(Spend { gateway, .. }) = Spend::from_bytes(&entry.spend) else { continue };
            if known.contains(&entry.spend) {
                continue;
            }
            self.journal.put_dispute(&Dispute {
                kind: DisputeKind::Lost,
                at: now,
                gateway: Some(gateway),
                spend: Some(entry.spend),
                content: entry.request.map(|request| request.content),
                settlement: entry.settlement,
                receipt: entry.outcome.and_then(|outcome| outcome.receipt),
                mint: None,
                directories: vec![self.signed.clone()],
                heard: heard.to_vec(),
            })?;
            kept += 1;
        }
        Ok(kept)
    }
}

/// For each place of a lane the time at which the next spend of that lane was pinned: a lane goes on only when its spend is settled.
fn successors(all: &[SpendSummary]) -> BTreeMap<(LaneId, u64), Timestamp> {
    let mut places: Vec<_> = all.iter().map(|spend| (spend.lane, spend.index, spend.pinned_at)).collect();
    places.sort_unstable();
    let pairs = places.iter().zip(places.iter().skip(1));
    let next = pairs.filter(|(one, next)| one.0 == next.0).map(|(one, next)| ((one.0, one.1), next.2));
    next.collect()
}
