//! The threads of the cheap checks. What waits for them at one moment is checked together.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::{Clock, OwnedRequest, PipelineError};
use crate::gateway::{AdmitError, Gateway, Screened};
use crate::protocol::{Problem, Sender, Timestamp};
use crate::workers::{WorkError, WorkerLimits, WorkerPool};

/// How many openings are checked together at most. More gain little, and wait for each other.
const BATCH: usize = 32;

/// How many batches are checked signature by signature after one had a bad signature: whoever sends bad ones makes others' work
/// dearer by a few per cent at most.
const WARY: usize = 64;

/// An opening, and what to do with what is found.
pub(super) struct Opening {
    /// The gateway that it came to, under the directory of that moment.
    pub(super) gateway: Arc<Gateway>,
    pub(super) bytes: Box<dyn AsRef<[u8]> + Send>,
    pub(super) request: OwnedRequest,
    pub(super) sender: Sender,
    pub(super) done: Box<dyn FnOnce(Result<Screened, PipelineError>) + Send>,
}

enum Task {
    Screen(Opening),
    /// Anything else that is short and may block.
    Run(Box<dyn FnOnce() + Send>),
}

/// The threads.
pub(super) struct Screening(WorkerPool<Task, ()>);

impl Screening {
    /// Starts them.
    pub(super) fn start(clock: Clock, threads: usize, queue: usize) -> io::Result<Self> {
        let wary = AtomicUsize::new(0);
        let work = move |tasks: Vec<Task>| {
            let count = tasks.len();
            let mut openings = Vec::new();
            for task in tasks {
                match task {
                    Task::Screen(opening) => openings.push(opening),
                    // A panic is a bug of the task's, and costs nobody else an answer.
                    Task::Run(task) => drop(catch_unwind(AssertUnwindSafe(task))),
                }
            }
            // Nearly always one: the directory changes seldom.
            while let Some(first) = openings.first() {
                let gateway = Arc::clone(&first.gateway);
                let same = openings.iter().take_while(|next| Arc::ptr_eq(&next.gateway, &gateway)).count();
                let others = openings.split_off(same);
                screen(&gateway, &*clock, &wary, openings);
                openings = others;
            }
            vec![(); count]
        };
        WorkerPool::start("screen", WorkerLimits { threads, queue, batch: BATCH }, work).map(Self)
    }

    /// How many tasks wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting()
    }

    /// Has an opening checked, some time.
    pub(super) fn leave(&self, opening: Opening) -> Result<(), WorkError> {
        self.0.enqueue_for(oneshot::channel().0, Task::Screen(opening), false).map_err(|(error, _)| error)
    }

    /// Runs a task. It runs even if nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let (reply, answer) = oneshot::channel();
        let task = move || {
            let _ = reply.send(task());
        };
        let task = Task::Run(Box::new(task));
        self.0.enqueue_for(oneshot::channel().0, task, false).map_err(|(error, _)| error)?;
        answer.await.map_err(|_| WorkError::Gone)
    }
}

fn screen(gateway: &Gateway, clock: &dyn Fn() -> Timestamp, wary: &AtomicUsize, openings: Vec<Opening>) {
    let mut requests = Vec::with_capacity(openings.len());
    let mut readable = Vec::with_capacity(openings.len());
    for opening in &openings {
        let request = opening.request.as_request();
        readable.push(request.as_ref().err().copied());
        if let Ok(request) = request {
            requests.push(((*opening.bytes).as_ref(), request.sent_by(opening.sender)));
        }
    }
    let is_wary = wary.load(Ordering::Relaxed) > 0;
    if is_wary && !requests.is_empty() {
        // Threads may race here: then it ends a batch earlier or later.
        wary.fetch_sub(1, Ordering::Relaxed);
    }
    let screened = gateway.screen_each(&requests, clock(), !is_wary);
    if screened.iter().any(is_forged) {
        wary.store(WARY, Ordering::Relaxed);
    }
    drop(requests);
    let mut screened = screened.into_iter();
    for (opening, unreadable) in openings.into_iter().zip(readable) {
        let outcome = match unreadable {
            Some(error) => Err(error.into()),
            None => screened.next().ok_or(PipelineError::Work(WorkError::Gone)).and_then(|it| it.map_err(Into::into)),
        };
        (opening.done)(outcome);
    }
}

fn is_forged(outcome: &Result<Screened, AdmitError>) -> bool {
    outcome.as_ref().is_err_and(|error| error.problem() == Problem::SessionSignatureInvalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;
    use crate::testing::world::*;
    use crate::wallet::LaneId;

    /// Openings of distinct notes, without proofs.
    fn openings(world: &World, count: u8) -> Vec<Vec<u8>> {
        let opening = |seed| {
            let mut wallet = world.funded(seed + 1);
            let ready = wallet.plan(LaneId { payment: 0, lane: 0 }, &GATEWAY, micro(10), T0).unwrap().without_proof();
            wallet.authorise(ready, &request(), T0).unwrap().opening
        };
        (0..count).map(opening).collect()
    }

    fn told(outcome: &Result<Screened, AdmitError>) -> String {
        match outcome {
            Ok(Screened::Unknown(spend)) => format!("unknown {:?}", spend.key()),
            Ok(Screened::Conflict(spend)) => format!("conflict {:?}", spend.key()),
            Ok(Screened::Known(_)) => "known".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn many_are_screened_exactly_as_each_alone() {
        let world = World::new();
        let mut all = openings(&world, 8);
        // A signature, a point of the signature, the action, the gateway, the length; and nothing at all.
        let last = all[0].len() - 1;
        all[1][last] ^= 1;
        all[2][last - 40] ^= 1;
        all[3][last - 72] ^= 1;
        all[4].truncate(last);
        all[5] = Vec::new();
        let again = all[6].clone();
        all.push(again);
        for count in 0..=all.len() {
            for together in [true, false] {
                let given: Vec<(&[u8], Request<'_>)> = all[..count].iter().map(|it| (&it[..], request())).collect();
                let each = world.gateway.screen_each(&given, T0, together);
                let alone: Vec<_> = given.iter().map(|(it, request)| world.gateway.screen(it, request, T0)).collect();
                assert_eq!(each.iter().map(told).collect::<Vec<_>>(), alone.iter().map(told).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_forged_signature_ends_common_checks_for_a_while() {
        let world = World::new();
        let gateway = Arc::new(world.replica(OWNER));
        let [good, mut forged] = <[_; 2]>::try_from(openings(&world, 2)).unwrap();
        let last = forged.len() - 1;
        forged[last - 40] ^= 1;
        let wary = AtomicUsize::new(0);
        let run = |bytes: &[u8]| {
            let (sender, found) = std::sync::mpsc::channel();
            let request = OwnedRequest::of(&request());
            let done = Box::new(move |outcome: Result<Screened, PipelineError>| sender.send(outcome.is_ok()).unwrap());
            let bytes = Box::new(bytes.to_vec());
            let opening = Opening { gateway: Arc::clone(&gateway), bytes, request, sender: Sender::UNKNOWN, done };
            screen(&gateway, &|| T0, &wary, vec![opening]);
            found.recv().unwrap()
        };
        assert!(run(&good) && wary.load(Ordering::Relaxed) == 0);
        assert!(!run(&forged) && wary.load(Ordering::Relaxed) == WARY);
        assert!((0..WARY).all(|_| run(&good)) && wary.load(Ordering::Relaxed) == 0);
    }
}
