//! Looking for a gateway that cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::events::Event;
use super::shared::{Refreshed, Shared};
use super::{CallError, ClientError, PayerError, check_gateway};
use crate::http::cause::chain;
use crate::protocol::DirectoryError;
use crate::wallet::{Journal, OpenError};

/// How often it is looked for: at first, and later, twice as seldom each time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How long it may take to show its challenge.
const PATIENCE: Duration = Duration::from_secs(10);
/// A call looks for it by itself, but not more often than this.
const CALLS_LOOK: Duration = Duration::from_millis(500);

/// Looks for the gateway whenever it is away, until it is there.
pub(super) async fn run<J: Journal + 'static>(shared: Arc<Shared<J>>) {
    let mut pause = PAUSES.0;
    loop {
        if shared.state().away.is_none() {
            pause = PAUSES.0;
            shared.missed.notified().await;
            continue;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
        shared.meet(Duration::ZERO).await;
    }
}

impl<J: Journal + 'static> Shared<J> {
    /// Before a call: nothing is pinned for a gateway that is known to be away.
    pub(super) async fn meet_for_call(self: &Arc<Self>) -> Result<(), CallError> {
        if self.state().away.is_none() {
            return Ok(());
        }
        self.meet(CALLS_LOOK).await;
        self.state().away.clone().map_or(Ok(()), |why| Err(CallError::Away(why)))
    }

    /// A call did not so much as get a connection.
    pub(super) fn lost_sight(&self, error: &ClientError) {
        let ClientError::Http(hop) = error else { return };
        if !hop.is_unsent() {
            return;
        }
        let why = chain(error).into();
        let before = self.state().away.replace(why);
        if before.is_none() {
            self.tell(&Event::GatewayAway);
            self.missed.notify_one();
        }
    }

    /// Looks for a gateway that is away, unless that was done so lately, and compares its challenge as at the beginning.
    async fn meet(self: &Arc<Self>, lately: Duration) {
        let _meeting = self.meeting.lock().await;
        {
            let state = self.state();
            if state.away.is_none() || state.looked.is_some_and(|looked| looked.elapsed() < lately) {
                return;
            }
        }
        let checking = check_gateway(&self.keeper, &self.client, self.gateway, self.policy.class, self.clock.now());
        let met = tokio::time::timeout(PATIENCE, checking).await;
        self.state().looked = Some(Instant::now());
        let met = match met {
            Ok(met) => met,
            Err(_) => Err(PayerError::Client(ClientError::Timeout)),
        };
        // The wallet may go by a newer directory now.
        let shared = Arc::clone(self);
        let _ = self.keeper.run(move |wallet| shared.look_at_directory(wallet)).await;
        match met {
            Ok(_) => {}
            // It is there, and its answer is judged as at any other time.
            Err(PayerError::OtherDirectory { .. }) => self.state().disagrees = true,
            Err(PayerError::Directory(OpenError::Directory(DirectoryError::Contradiction))) => {
                let _: Refreshed = self.refresh_directory().await;
            }
            Err(error) => {
                self.state().away = Some(chain(&error).into());
                return;
            }
        }
        self.state().away = None;
        self.tell(&Event::GatewayThere);
        self.pursue.notify_one();
        self.notes_came();
    }
}
