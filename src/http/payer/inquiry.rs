//! Asking whether notes of the wallet's file were spent elsewhere.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::client::SpentAnswer;
use super::events::Event;
use super::shared::Shared;
use super::{ClientError, Stopped};
use crate::circuits::note::Nullifier;
use crate::protocol::EpochNumber;
use crate::wallet::{AnswerTime, DisputeKind, Expected, HeardNote, Journal, Question};

/// The pause before it is asked again; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often the clock is looked at while the wallet is in quarantine.
const TICK: Duration = Duration::from_secs(5);

/// The pause before an answer that lacks something is asked for again.
const BEFORE_AGAIN: Duration = Duration::from_secs(1);

/// An answer that can be gone by.
struct Found {
    bucket: Vec<Nullifier>,
    /// What the set settled for this wallet, and lacks.
    missing: Expected,
    heard: Vec<HeardNote>,
}

/// Why it is not known.
enum Unknown {
    Stopped,
    Client,
    Journal,
}

impl From<Stopped> for Unknown {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<ClientError> for Unknown {
    fn from(_: ClientError) -> Self {
        Self::Client
    }
}

/// Asks about every note that is not known to be unspent: at the start, after a quarantine, and whenever such notes come.
pub(super) async fn run<J: Journal + 'static>(shared: Arc<Shared<J>>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let clock = shared.clock.clone();
        let looking = shared.keeper.ask(move |wallet| {
            let now = clock.now();
            (wallet.unchecked_epochs(now), wallet.quarantined_until().is_some_and(|until| now < until))
        });
        let Ok((epochs, quarantined)) = looking.await else { return };
        if epochs.is_empty() {
            pause = FIRST_PAUSE;
            shared.state().unasked = false;
            // A clock that is put right may make an epoch one that can be spent in.
            let _ = tokio::time::timeout(LONGEST_PAUSE, shared.inquire.notified()).await;
            continue;
        }
        match shared.inquire_about(epochs).await {
            Ok(()) => {
                pause = FIRST_PAUSE;
                shared.state().unasked = false;
                // Lanes can be used now, or are frozen.
                shared.progress();
                shared.wanted.notify_one();
                // In quarantine what was spent is frozen at once, and the rest is asked about again at its end.
                if quarantined {
                    shared.leave_quarantine().await;
                } else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            Err(Unknown::Stopped) => return,
            Err(Unknown::Client | Unknown::Journal) => {
                shared.state().unasked = true;
                shared.tell(&Event::QuestionsFailed);
                // Those of another epoch may be known.
                shared.changed.notify_waiters();
                shared.wanted.notify_one();
                let more = rand::rng().random_range(0..=pause.as_millis() as u64 / 2);
                tokio::time::sleep(pause + Duration::from_millis(more)).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
    }
}

impl<J: Journal + 'static> Shared<J> {
    /// Asks about each epoch, whatever comes of the others: that one is over at the gateway already does not keep notes of the
    /// others from being used.
    async fn inquire_about(self: &Arc<Self>, epochs: Vec<EpochNumber>) -> Result<(), Unknown> {
        let mut outcome = Ok(());
        for epoch in epochs {
            outcome = outcome.and(self.inquire_about_one(epoch).await);
        }
        outcome
    }

    async fn inquire_about_one(self: &Arc<Self>, epoch: EpochNumber) -> Result<(), Unknown> {
        let (origin, gateway) = (self.terms().origin.clone(), self.gateway);
        // Before anything is asked: what is settled from now on need not be in an answer.
        let expected = self.keeper.ask(move |wallet| wallet.expected(&gateway, epoch)).await?;
        let expected = expected.map_err(|_| Unknown::Journal)?;
        let spent = self.errand(self.client.spent_count(&origin, epoch)).await?;
        let now = self.clock.now();
        let mut questions = self.keeper.ask(move |wallet| wallet.questions(epoch, spent, now)).await?;
        // One by one, in an order of chance and at times of chance: asked in one go they would show which lanes are one caller's. A call
        // that waits for a lane has the next one asked at once, and goes on as soon as any lane can be used.
        questions.shuffle(&mut rand::rng());
        for (asked, question) in questions.into_iter().enumerate() {
            if asked > 0 {
                tokio::select! {
                    () = tokio::time::sleep(self.jitter()) => {}
                    () = self.hurried() => {}
                }
            }
            let Found { bucket, missing, heard } = self.found(&origin, &question, &expected).await?;
            if !missing.is_empty() {
                self.accuse(missing, heard).await?;
            }
            let shared = Arc::clone(self);
            let answering = self.keeper.run(move |wallet| {
                let frozen = wallet.answer(&question, &bucket, shared.clock.now());
                for lane in frozen.map_err(|_| Unknown::Journal)? {
                    shared.tell(&Event::LaneFrozen(lane));
                }
                shared.progress();
                shared.wanted.notify_one();
                Ok::<_, Unknown>(())
            });
            answering.await??;
        }
        Ok(())
    }

    /// What is spent, by the set itself. Where the answer lacks what this wallet has settled, or was kept on the way, it is asked for
    /// once more, past whatever may keep answers: only what both lack is lost, and what either has is spent.
    async fn found(&self, origin: &str, question: &Question, expected: &Expected) -> Result<Found, Unknown> {
        let (first, mut missing, note) = self.asked(origin, question, expected, false).await?;
        let mut found = Found { bucket: first.spent, missing: Expected::default(), heard: vec![note] };
        if missing.is_empty() && !first.kept {
            return Ok(found);
        }
        tokio::time::sleep(BEFORE_AGAIN).await;
        let (second, still, note) = self.asked(origin, question, &missing, true).await?;
        if second.kept {
            // What keeps an answer to a question that was never asked before would tell a wallet that a note is unspent.
            return Err(Unknown::Client);
        }
        missing = still;
        found.bucket.extend(second.spent);
        found.heard.push(note);
        Ok(Found { missing, ..found })
    }

    async fn asked(
        &self,
        origin: &str,
        question: &Question,
        expected: &Expected,
        fresh: bool,
    ) -> Result<(SpentAnswer, Expected, HeardNote), Unknown> {
        let asked = self.clock.now();
        let answer = self.client.spent_answer(origin, question.epoch, question.prefix, fresh);
        let answer = self.errand(answer).await?;
        let missing = expected.missing(question, &answer.spent, AnswerTime { asked, age: answer.age });
        let Question { epoch, prefix } = question;
        let (number, lacking) = (answer.spent.len(), missing.len());
        let what = format!(
            "asked for the spent nullifiers of epoch {epoch} that begin with {prefix}: {number}, without {lacking} settled ones"
        );
        Ok((answer, missing, HeardNote { at: asked, what }))
    }

    /// Keeps what shows that the gateway's set lost spends, and says so.
    async fn accuse(self: &Arc<Self>, missing: Expected, heard: Vec<HeardNote>) -> Result<(), Unknown> {
        let now = self.clock.now();
        let kept = self.keeper.run(move |wallet| wallet.accuse(&missing, &heard, now)).await?;
        self.state().set_lost = true;
        for _ in 0..kept.map_err(|_| Unknown::Journal)? {
            self.tell(&Event::DisputeKept(DisputeKind::Lost));
        }
        Ok(())
    }

    async fn leave_quarantine(&self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.inquire.notified() => return,
            }
            let clock = self.clock.clone();
            let left =
                self.keeper.ask(move |wallet| wallet.quarantined_until().is_none_or(|until| until <= clock.now()));
            if left.await.unwrap_or(true) {
                return;
            }
        }
    }
}
