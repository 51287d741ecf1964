//! A spend that the issuer has admitted for a remote gateway.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Remote;
use super::link::{Ask, Place};
use crate::clearing::{Progress, RemoteSpend};
use crate::http::problem::ProblemDetails;
use crate::protocol::{Credits, Problem, Settlement, SpendKey};

/// How long a caller waits for a settlement. It is pursued for longer.
const SETTLING: Duration = Duration::from_secs(12);
/// How long a note of what was metered is tried: the next one says it all.
const NOTING: Duration = Duration::from_secs(3);

/// A spend, and the remote ledger that had it admitted.
#[derive(Clone)]
pub(in crate::http::exchange) struct RemoteHeld {
    remote: Remote,
    open: Arc<Open>,
}

struct Open {
    spend: Arc<Mutex<RemoteSpend>>,
    /// Held by whatever asks about it: only the answer to the newest question is taken.
    turn: tokio::sync::Mutex<()>,
    settled: OnceLock<Settlement>,
    key: SpendKey,
    charge: Credits,
    /// Given up as soon as it is settled: from then on the issuer says the same to all that ask.
    place: Mutex<Option<Place>>,
}

impl RemoteHeld {
    pub(super) fn new(remote: &Remote, spend: Arc<Mutex<RemoteSpend>>, charge: Credits, place: Place) -> Self {
        let (turn, settled) = (tokio::sync::Mutex::default(), OnceLock::new());
        let (key, place) = (place.key, Mutex::new(Some(place)));
        Self { remote: remote.clone(), open: Arc::new(Open { spend, turn, settled, key, charge, place }) }
    }

    pub(in crate::http::exchange) fn key(&self) -> SpendKey {
        self.open.key
    }

    pub(in crate::http::exchange) fn charge(&self) -> Credits {
        self.open.charge
    }

    /// Has it settled. In a task of its own, which goes on for as long as this gateway alone may settle it.
    pub(in crate::http::exchange) async fn settle(&self, cost: Credits) -> Result<Settlement, ProblemDetails> {
        let (send, receive) = oneshot::channel();
        let held = self.clone();
        tokio::spawn(async move {
            let _ = send.send(held.pursue_settlement(cost).await);
        });
        match timeout(SETTLING, receive).await {
            Ok(Ok(Ok(settlement))) => Ok(settlement),
            Ok(Ok(Err(Some(progress)))) => Err(self.remote.refusal(&progress, None)),
            _ => {
                let detail = "the call was served and is not settled yet: ask for its settlement later";
                Err(ProblemDetails::new(Problem::StoreUnavailable, detail))
            }
        }
    }

    /// Asks until it is settled. What else the issuer says, if it says anything.
    async fn pursue_settlement(&self, cost: Credits) -> Result<Settlement, Option<Progress>> {
        let Self { remote, open } = self;
        let _turn = open.turn.lock().await;
        if let Some(settlement) = open.settled.get() {
            return Ok(settlement.clone());
        }
        match remote.link.ask(&open.spend, Ask::Settle(cost), remote.pursuit()).await {
            // It may be an earlier one, at another cost: what counts is what the issuer has.
            Ok((Progress::Settled(cleared), _)) => {
                let settlement = open.settled.get_or_init(|| cleared.settlement().clone()).clone();
                drop(open.place.lock().unwrap_or_else(PoisonError::into_inner).take());
                Ok(settlement)
            }
            Ok((progress, _)) => {
                if let Progress::Refused(problem) = &progress {
                    remote.link.complain(&format!("what was served is not settled: {problem}"));
                }
                Err(Some(progress))
            }
            Err(_) => Err(None),
        }
    }

    pub(in crate::http::exchange) fn note(&self, so_far: Credits, done: impl FnOnce() + Send + 'static) -> bool {
        let held = self.clone();
        tokio::spawn(async move {
            held.write_now(so_far).await;
            done();
        });
        true
    }

    /// Tells the issuer what a call has come to so far. Where it is asked about already, that says more.
    pub(in crate::http::exchange) async fn write_now(&self, so_far: Credits) -> bool {
        let Self { remote, open } = self;
        let Ok(_turn) = open.turn.try_lock() else { return false };
        matches!(
            remote.link.ask(&open.spend, Ask::Meter(so_far), NOTING).await,
            Ok((Progress::Metered | Progress::Settled(_), _))
        )
    }
}
