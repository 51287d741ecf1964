//! Upkeep by the clock.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::http::clock::system;
use crate::http::observer::Observer;
use crate::http::peers::Peers;
use crate::issuer::Issuer;
use crate::pipeline::Current;
use crate::store::SpentSet;
use crate::upkeep::Upkeep;
use crate::workers::TaskPool;

/// Upkeep that a gateway service does by itself: once when it starts, then again and again.
#[derive(Clone, Debug)]
pub struct UpkeepTask {
    /// What is done.
    pub upkeep: Upkeep,
    /// How long after it was done it is done again; a minute is right.
    pub every: Duration,
}

/// The pause where more lapsed than one round takes on, and the shortest there is.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a replica that does not lead looks whether it does.
const LOOK: Duration = Duration::from_secs(1);

/// Begins. The rounds run on a thread of their own, one after the other, until the handle is used.
pub(in crate::http::exchange) fn start(
    task: UpkeepTask,
    set: Arc<dyn SpentSet>,
    issuer: Arc<Current<Issuer>>,
    observer: Arc<dyn Observer>,
    peers: Option<Peers>,
) -> io::Result<AbortHandle> {
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    let thread = TaskPool::start("upkeep", 1, 1)?;
    let UpkeepTask { upkeep, every } = task;
    let rounds = async move {
        let mut last: Option<Instant> = None;
        loop {
            // One replica at a time does it, by its lease. Where that changes hands in the middle of a round both do the same for a
            // while: what is settled is settled once, partitions only go on, and what is erased is erased.
            if peers.as_ref().is_some_and(|peers| peers.leads().is_none()) {
                // What another one saw pass is not counted again.
                last = None;
                tokio::time::sleep(LOOK.min(every.max(PAUSE))).await;
                continue;
            }
            let (upkeep, set, issuer) = (upkeep.clone(), Arc::clone(&set), issuer.get());
            let passed = last.map_or(0, |last| last.elapsed().as_secs());
            // What is less than a second counts the next time.
            last = Some(last.map_or_else(Instant::now, |last| last + Duration::from_secs(passed)));
            // The machine's own clock: one that steps over jumps would not tell of them.
            let round = thread.run(move || upkeep.round(&*set, &issuer, system(), passed)).await;
            // A round that panicked is made up for by the next.
            let more = round.is_ok_and(|outcome| {
                observer.upkeep(&outcome);
                outcome.is_ok_and(|report| report.more && report.settled > 0)
            });
            tokio::time::sleep(if more { PAUSE } else { every.max(PAUSE) }).await;
        }
    };
    Ok(runtime.spawn(rounds).abort_handle())
}
