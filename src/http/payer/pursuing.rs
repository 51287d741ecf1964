//! Getting the settlements of spends whose calls ended without one.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use rand::RngExt as _;

use super::ClientError;
use super::events::Event;
use super::shared::Shared;
use super::terms::Terms;
use crate::http::payment::Payload;
use crate::http::wire::{CANCEL_PATH, SETTLEMENT_PATH};
use crate::protocol::{Settlement, SpendKey};
use crate::wallet::{Heard, Journal, LaneStatus, Pursued, PursuitStep, Wallet};

/// How often the clock is looked at while something is to be pursued later.
const TICK: Duration = Duration::from_secs(1);

/// A step of a pursuit, ready to be sent.
struct Errand {
    key: SpendKey,
    terms: Terms,
    message: Message,
}

enum Message {
    Fetch(HeaderValue),
    Cancel(Vec<u8>),
}

impl Message {
    const fn step(&self) -> PursuitStep {
        match self {
            Self::Fetch(_) => PursuitStep::Fetch,
            Self::Cancel(_) => PursuitStep::Cancel,
        }
    }
}

/// What is to be done about pursuits.
enum Due {
    /// This, and so many more.
    Now(Box<Errand>, usize),
    /// Nothing yet.
    Later,
    /// Nothing at all.
    Never,
}

/// Pursues whatever is due, one spend after the other. Which one is first is left to chance, and pauses between spends are too: a
/// gateway that is asked for eight settlements at one moment would know eight lanes of one caller. A call that waits for a lane
/// makes them shorter.
pub(super) async fn run<J: Journal + 'static>(shared: Arc<Shared<J>>) {
    loop {
        let looking = Arc::clone(&shared);
        let Ok(due) = shared.keeper.ask(move |wallet| looking.due(wallet)).await else { return };
        match due {
            Due::Now(errand, more) => {
                shared.carry_out(*errand).await;
                if more > 0 && shared.waiting() == 0 {
                    tokio::select! {
                        () = tokio::time::sleep(shared.jitter()) => {}
                        () = shared.hurried() => {}
                    }
                }
            }
            Due::Later => {
                tokio::select! {
                    () = tokio::time::sleep(TICK) => {}
                    () = shared.pursue.notified() => {}
                }
            }
            Due::Never => shared.pursue.notified().await,
        }
    }
}

impl<J: Journal + 'static> Shared<J> {
    /// Returns when a call waits for a spend.
    pub(super) async fn hurried(&self) {
        while self.waiting() == 0 {
            self.pursue.notified().await;
        }
    }

    fn due(&self, wallet: &mut Wallet<J>) -> Due {
        let now = self.clock.now();
        let mut due = wallet.pursuits(now);
        while !due.is_empty() {
            let (key, step) = due.swap_remove(rand::rng().random_range(0..due.len()));
            if let Some((terms, message)) = message(wallet, &key, step) {
                return Due::Now(Box::new(Errand { key, terms, message }), due.len());
            }
            // Its gateway is in no directory any more. It may come back.
            let _ = wallet.heard(&key, step, &Heard::Nothing, now, &mut rand::rng());
        }
        if wallet.next_pursuit().is_some() { Due::Later } else { Due::Never }
    }

    async fn carry_out(self: &Arc<Self>, errand: Errand) {
        let Errand { key, terms: Terms { origin, .. }, message } = errand;
        let step = message.step();
        let answer = match message {
            Message::Fetch(credential) => self.errand(self.client.settlement(&origin, credential)).await,
            Message::Cancel(bytes) => self.errand(self.client.cancel(&origin, bytes)).await,
        };
        let mut heard = heard(answer);
        if let Heard::Settlement(settlement) = &heard
            && !self.learn(&origin, [settlement.epoch]).await
        {
            // It cannot be judged, and is asked for again.
            heard = Heard::Nothing;
        }
        let shared = Arc::clone(self);
        let _ = self
            .keeper
            .run(move |wallet| {
                let now = shared.clock.now();
                let before = is_disputed(wallet, &key);
                // If the journal fails, the same is tried again.
                let pursued = wallet.heard(&key, step, &heard, now, &mut rand::rng());
                if let Ok(Pursued::Settled(accepted)) = pursued {
                    // For the history alone.
                    let _ = wallet.take_receipt(&key, &accepted, None, now);
                    shared.tell(&Event::Pursued(accepted));
                    shared.notes_came();
                } else if !before && is_disputed(wallet, &key) {
                    let kept = wallet.journal().disputes().unwrap_or_default();
                    kept.last().iter().for_each(|dispute| shared.tell(&Event::DisputeKept(dispute.kind)));
                    shared.changed.notify_waiters();
                }
            })
            .await;
    }
}

/// The message of a step, for the gateway that the spend is made out to.
fn message<J: Journal>(wallet: &mut Wallet<J>, key: &SpendKey, step: PursuitStep) -> Option<(Terms, Message)> {
    let gateway = wallet.gateway_of(key)?;
    let terms = Terms::of(wallet.directory(), &gateway).ok()?;
    let message = match step {
        PursuitStep::Fetch => {
            let following = wallet.fetch(key, &terms.request(SETTLEMENT_PATH).ok()?).ok()?;
            Message::Fetch(terms.credential(Payload::Following(following)))
        }
        PursuitStep::Cancel => Message::Cancel(wallet.cancel(key, &terms.request(CANCEL_PATH).ok()?).ok()?),
    };
    Some((terms, message))
}

/// What an answer comes to. That nobody could be reached is no word of the gateway's, even if a proxy says so.
fn heard(answer: Result<Settlement, ClientError>) -> Heard {
    let nobody = |status: u16| {
        let nobody = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        nobody.iter().any(|known| known.as_u16() == status)
    };
    match answer {
        Ok(settlement) => Heard::Settlement(settlement),
        Err(ClientError::Problem(details)) => {
            let settlement = details.settlement().and_then(|bytes| Settlement::from_bytes(&bytes).ok());
            match (settlement, details.kind()) {
                (Some(settlement), _) => Heard::Settlement(settlement),
                (None, Some(problem)) => match details.retry_after {
                    Some(seconds) => Heard::Postponed { problem, seconds: seconds.into() },
                    None => Heard::Problem(problem),
                },
                (None, None) if nobody(details.status) => Heard::Nothing,
                (None, None) => Heard::Unusable,
            }
        }
        Err(ClientError::Status(status)) if nobody(status.as_u16()) => Heard::Nothing,
        Err(ClientError::Http(_) | ClientError::Timeout | ClientError::Tls(_)) => Heard::Nothing,
        Err(_) => Heard::Unusable,
    }
}

fn is_disputed<J: Journal>(wallet: &Wallet<J>, key: &SpendKey) -> bool {
    wallet
        .lanes()
        .any(|(_, status)| matches!(status, LaneStatus::InFlight { spend, disputed: true, .. } if spend == *key))
}
