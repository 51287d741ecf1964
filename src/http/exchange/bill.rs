//! One call's meter, and the record that it is written into while the call goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::Held;
use super::session::Part;
use crate::http::pricing::{Meter, Metered, Rates};
use crate::http::problem::ProblemDetails;
use crate::protocol::{ContentDigest, Credits, Problem};

/// How often what was metered is written down. It is what a crash can make a call cheaper by.
const EVERY: Duration = Duration::from_secs(1);

/// A call that is worked on: what it has come to, and what it is settled by.
pub(super) struct Bill {
    pub(super) purse: Purse,
    pub(super) rates: Rates,
    pub(super) meter: Box<dyn Meter>,
    pub(super) content: ContentDigest,
    noted: Credits,
    next_note: Instant,
    /// Whether a note is being written.
    noting: Arc<AtomicBool>,
}

/// What pays for a call.
pub(super) enum Purse {
    /// A spend of its own, which is settled when the call is over.
    Whole(Held),
    /// What was reserved for it of a session's.
    Part(Part),
}

impl Bill {
    pub(super) fn new(purse: Purse, rates: Rates, meter: Box<dyn Meter>, content: ContentDigest) -> Self {
        Self {
            purse,
            rates,
            meter,
            content,
            noted: Credits::ZERO,
            next_note: Instant::now() + EVERY,
            noting: Arc::default(),
        }
    }

    /// Whether the call costs more than its charge by now.
    pub(super) fn is_over(&self) -> bool {
        self.rates.exceeds(&self.meter.least())
    }

    /// Whether the service has said what the call costs.
    pub(super) fn is_reported(&self) -> bool {
        self.meter.reported() != Metered::NOTHING
    }

    /// Whether what the service says that it costs is more than can be paid for, so that nothing of it is to be passed on.
    pub(super) fn is_withheld(&self) -> bool {
        self.rates.withholds(&self.meter.reported())
    }

    /// When it is to be written down next. None if nothing has been metered since it was.
    pub(super) fn note_at(&self) -> Option<Instant> {
        (self.so_far() > self.noted).then_some(self.next_note)
    }

    fn so_far(&self) -> Credits {
        self.rates.cost(&self.meter.metered())
    }

    /// Has what was metered so far written into the record, if it is time to; by a thread that may take its time. After this process
    /// has died the spend is settled at that.
    pub(super) fn note(&mut self) {
        let due = self.note_at().is_some_and(|at| at <= Instant::now());
        if !due {
            return;
        }
        let so_far = self.so_far();
        let held = match &self.purse {
            Purse::Whole(held) => held,
            Purse::Part(part) => {
                part.note(so_far);
                (self.noted, self.next_note) = (so_far, Instant::now() + EVERY);
                return;
            }
        };
        if self.noting.swap(true, Ordering::AcqRel) {
            return;
        }
        self.next_note = Instant::now() + EVERY;
        let noting = Arc::clone(&self.noting);
        if held.note(so_far, move || noting.store(false, Ordering::Release)) {
            self.noted = so_far;
        } else {
            // The next one says it all.
            self.noting.store(false, Ordering::Release);
        }
    }

    pub(super) fn too_dear(&self) -> ProblemDetails {
        let detail = match &self.purse {
            Purse::Whole(_) => {
                "the charge is below the price of this call; nothing was done, and its settlement is attached"
            }
            Purse::Part(_) => "what is left of the session's charge is below the price of this call; nothing was done",
        };
        ProblemDetails::new(Problem::CapReached, detail)
    }

    pub(super) fn withheld(&self) -> ProblemDetails {
        ProblemDetails::withheld(match &self.purse {
            Purse::Whole(_) => {
                "the service's price is above the charge: the answer is withheld, and the settlement is attached"
            }
            Purse::Part(_) => "the service's price is above what can be paid in this session: the answer is withheld",
        })
    }

    pub(super) fn cancelled(&self) -> ProblemDetails {
        let detail = match &self.purse {
            Purse::Whole(_) => "the call was cancelled; its settlement is attached",
            Purse::Part(_) => "the session was ended; its settlement can be asked for",
        };
        ProblemDetails::new(Problem::AlreadySpent, detail)
    }
}
