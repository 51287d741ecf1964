//! Calls that others serve, until they are settled.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::http::exchange::{HeldCall, HeldSettled};
use crate::http::payment;
use crate::http::pricing::Metered;
use crate::http::problem::ProblemDetails;
use crate::protocol::Credits;

/// Names a held call to the service. Random: it says nothing of the spend, and nobody can guess it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handle([u8; 16]);

impl Handle {
    pub(super) fn read(text: &str) -> Option<Self> {
        payment::decode(text)?.try_into().ok().map(Self)
    }
}

impl core::fmt::Display for Handle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&payment::encode(&self.0))
    }
}

/// What is said of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// What it came to.
    Metered(Metered),
    /// Only how it was answered: the pricing knows what that comes to.
    Status(StatusCode),
}

/// Why a report is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReportError {
    #[error("there is no such call: it was never let through, or settled long ago, or before the gateway was started")]
    Unknown,
    #[error("the call was settled already, at {0} micro-credits, and not by this report")]
    Settled(Credits),
    #[error("another report of this call came before, and is being settled")]
    Other,
    #[error("the tariff that the caller agreed to has no price for this")]
    Unpriced,
    #[error("{0}")]
    Failed(Box<ProblemDetails>),
}

type Answer = Result<HeldSettled, ReportError>;
type Report = (Said, oneshot::Sender<Answer>);

enum State {
    Open(mpsc::Sender<Report>),
    /// By this report, or none.
    Settled(Option<Said>, HeldSettled),
}

/// The calls that are held, and for a while those that were.
pub(super) struct Held {
    table: Mutex<Table>,
    /// How long they are held, and afterwards remembered.
    hold: Duration,
    /// Whether all are to be settled now.
    hurry: watch::Sender<bool>,
}

#[derive(Default)]
struct Table {
    calls: HashMap<Handle, State>,
    /// What is forgotten when, the earliest first.
    forget: VecDeque<(Instant, Handle)>,
}

/// Reports of one call that wait; more have to be sent again.
const REPORTS: usize = 4;
/// Calls that are remembered after they were settled, at most.
const REMEMBERED: usize = 16_384;

impl Held {
    pub(super) fn new(hold: Duration) -> Self {
        Self { table: Mutex::default(), hold, hurry: watch::channel(false).0 }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that can panic runs under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a call in, which is settled in a task of its own. Within a runtime.
    pub(super) fn take_in(self: &Arc<Self>, call: HeldCall) -> Handle {
        let handle = Handle(rand::random());
        let (send, reports) = mpsc::channel(REPORTS);
        self.table().calls.insert(handle, State::Open(send));
        let holding = Holding { held: Arc::clone(self), handle, call, said: None };
        tokio::spawn(holding.run(reports));
        handle
    }

    /// Settles a call at what is said of it, and says what that was. The same report twice is one.
    pub(super) async fn report(&self, handle: Handle, said: &Said) -> Answer {
        // A second look where it was settled between the first and the report.
        for _ in 0..2 {
            let reports = match self.table().calls.get(&handle) {
                None => return Err(ReportError::Unknown),
                Some(State::Settled(by, settled)) if by.as_ref() == Some(said) => return Ok(settled.clone()),
                Some(State::Settled(_, settled)) => return Err(ReportError::Settled(settled.cost)),
                Some(State::Open(reports)) => reports.clone(),
            };
            let (send, answer) = oneshot::channel();
            if reports.send((said.clone(), send)).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return answer;
            }
        }
        Err(ReportError::Unknown)
    }

    /// Settles all that is held and will be. Nothing more is let through by then.
    pub(super) fn hurry(&self) {
        self.hurry.send_replace(true);
    }

    fn settled(&self, handle: Handle, state: Option<State>) {
        let now = Instant::now();
        let mut table = self.table();
        match state {
            Some(state) => {
                table.calls.insert(handle, state);
                table.forget.push_back((now + self.hold, handle));
            }
            None => drop(table.calls.remove(&handle)),
        }
        while table.forget.front().is_some_and(|(at, _)| *at <= now) || table.forget.len() > REMEMBERED {
            if let Some((_, handle)) = table.forget.pop_front() {
                table.calls.remove(&handle);
            }
        }
    }
}

/// A call on its way to its settlement.
struct Holding {
    held: Arc<Held>,
    handle: Handle,
    call: HeldCall,
    /// The report that counts, and what it comes to.
    said: Option<(Said, Metered)>,
}

impl Holding {
    async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        let deadline = Instant::now() + self.held.hold.min(self.call.longest());
        let mut hurry = self.held.hurry.subscribe();
        let (settled, waiting) = loop {
            let report = tokio::select! {
                biased;
                report = reports.recv() => report,
                () = sleep_until(deadline) => None,
                () = self.call.stopped() => None,
                _ = hurry.wait_for(|hurry| *hurry) => None,
            };
            let Some((said, answer)) = report else {
                let metered = match &self.said {
                    Some((_, metered)) => metered.clone(),
                    None => self.call.unreported(),
                };
                // If it fails, the lease sees to it.
                break (self.call.settle(metered).await.ok(), None);
            };
            let outcome = self.take(said).await;
            match outcome {
                Ok(settled) => break (Some(settled), Some(answer)),
                Err(error) => drop(answer.send(Err(error))),
            }
        };
        let by = self.said.take().map(|(said, _)| said);
        let state = settled.clone().map(|settled| State::Settled(by, settled));
        self.held.settled(self.handle, state);
        // After it is in the table: the service may say it again at once.
        if let (Some(answer), Some(settled)) = (waiting, settled) {
            let _ = answer.send(Ok(settled));
        }
        // Reports that wait are dropped, and look again.
    }

    async fn take(&mut self, said: Said) -> Answer {
        let metered = match (&self.said, &said) {
            (Some((first, metered)), said) if first == said => metered.clone(),
            (Some(_), _) => return Err(ReportError::Other),
            (None, Said::Metered(metered)) if !self.call.knows(metered) => return Err(ReportError::Unpriced),
            (None, Said::Metered(metered)) => metered.clone(),
            (None, Said::Status(status)) => self.call.answered(*status),
        };
        // From here on it counts, even if the set fails now.
        self.said = Some((said, metered.clone()));
        let settled = self.call.settle(metered).await;
        settled.map_err(|problem| ReportError::Failed(Box::new(problem)))
    }
}
