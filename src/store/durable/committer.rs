//! The thread that makes all changes.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;

use super::commit_queue::CommitQueue;
use super::engine::Engine;
use super::transaction::{State, Tables, Transaction};
use super::{Views, failed, views_of, with_begun};
use crate::protocol::EpochNumber;
use crate::store::StoreError;
use crate::store::mark::Mark;

/// How many operations one commit takes at most; it bounds what a commit holds in memory.
const COMMIT: usize = 1_024;

pub(super) struct Committer {
    shared: Arc<CommitState>,
    thread: Option<JoinHandle<()>>,
}

struct CommitState {
    queue: CommitQueue<Box<dyn Operation>>,
    /// Set when a commit failed. What is on disk is not known from then on.
    broken: AtomicBool,
    /// Why, in the system's words.
    cause: OnceLock<String>,
    damage: Mutex<BTreeMap<EpochNumber, String>>,
}

/// Something that waits for a commit.
trait Operation: Send {
    /// Carries it out, but for the commit.
    fn run(&mut self, transaction: &mut Transaction<'_>);
    /// Answers, after the commit succeeded. To drop it in place of that answers with an error.
    fn answer(self: Box<Self>);
}

struct Job<T, F> {
    operation: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: SyncSender<Result<T, StoreError>>,
}

impl<T: Send, F> Operation for Job<T, F>
where
    F: FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, transaction: &mut Transaction<'_>) {
        self.outcome = self.operation.take().map(|operation| operation(transaction));
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            let _ = self.reply.send(outcome);
        }
    }
}

/// What the thread works on.
pub(super) struct Desk {
    pub(super) engine: Arc<Engine>,
    pub(super) tables: Arc<Tables>,
    pub(super) state: State,
    pub(super) views: Arc<RwLock<Views>>,
    pub(super) mark: Mark,
    /// The store's directory.
    pub(super) place: PathBuf,
}

impl Committer {
    pub(super) fn start(desk: Desk) -> io::Result<Self> {
        let shared = Arc::new(CommitState {
            queue: CommitQueue::new(),
            broken: AtomicBool::new(false),
            cause: OnceLock::new(),
            damage: Mutex::new(BTreeMap::new()),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("commit".into()).spawn(move || theirs.run(desk))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn transact<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.check()?;
        let (reply, answer) = sync_channel(1);
        let job = Job { operation: Some(operation), outcome: None, reply };
        let closed = self.shared.queue.push(Box::new(job)).is_err();
        match answer.recv() {
            Ok(outcome) if !closed => outcome,
            _ => Err(self.shared.broken()),
        }
    }

    /// Whether the store may be read and written at all.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.shared.broken.load(Ordering::Acquire) {
            return Err(self.shared.broken());
        }
        Ok(())
    }

    /// Whether the partition is not known to be damaged.
    pub(super) fn check_partition(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.check()?;
        match self.shared.lock_damage().get(&epoch) {
            Some(what) => Err(StoreError::Corrupt { epoch, what: what.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn damage(&self) -> Vec<(EpochNumber, String)> {
        self.shared.lock_damage().iter().map(|(epoch, what)| (*epoch, what.clone())).collect()
    }

    pub(super) fn note_damage(&self, epoch: EpochNumber, what: &str) {
        self.shared.lock_damage().entry(epoch).or_insert_with(|| what.to_owned());
    }
}

impl Drop for Committer {
    /// What waits is still committed.
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Breaks the store when it is dropped, also by a panic: nobody waits for ever.
struct Closing<'a>(&'a CommitState);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.broken.store(true, Ordering::Release);
        self.0.queue.abandon();
    }
}

impl CommitState {
    /// What everybody is told once a commit failed.
    fn broken(&self) -> StoreError {
        let cause = self.cause.get().map_or("a thread panicked while it changed the store", String::as_str);
        failed(format!(
            "the store could not write: {cause}. Nothing that was answered is lost. Make room on the disk or repair it, then restart: \
             the store must be opened again"
        ))
    }

    fn lock_damage(&self) -> std::sync::MutexGuard<'_, BTreeMap<EpochNumber, String>> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut desk: Desk) {
        while let Some(mut operations) = self.queue.take(COMMIT) {
            // Nothing is served any more by the time that an operation is dropped unanswered, which tells its caller.
            let guard = Closing(self);
            let mut transaction = Transaction::new(&desk.engine, &desk.tables, &mut desk.state);
            for operation in &mut operations {
                operation.run(&mut transaction);
            }
            let outcome = match transaction.torn() {
                Some(cause) => Err(cause.into()),
                None if transaction.is_empty() => Ok(()),
                None => desk_commit(transaction, &mut desk.mark, &desk.views),
            };
            if let Err(error) = outcome {
                let _ = self.cause.set(cause(&*error, &desk.place));
                return;
            }
            std::mem::forget(guard);
            operations.into_iter().for_each(|operation| operation.answer());
        }
        let _ = desk.mark.sync();
    }
}

/// Why a write failed. An engine that had failed in the background says no more than that: then a write beside it tells.
fn cause(error: &(dyn core::error::Error + 'static), place: &Path) -> String {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.to_string();
        }
        source = error.source();
    }
    let told = error.to_string();
    if told.contains("os error") {
        return told;
    }
    match probe(place) {
        Ok(()) => told,
        Err(error) => error.to_string(),
    }
}

fn probe(place: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".probe-").tempfile_in(place)?;
    file.write_all(&vec![1; 1 << 20])?;
    file.as_file().sync_all()
}

/// Makes a transaction durable. In this order: readers know of the buckets that are begun, changes are on disk, the mark says so,
/// keys are forgotten, readers see the rest; tables that nothing leads to are dropped last. A crash after the changes leaves
/// the rest to the next opening of the store.
fn desk_commit(
    mut transaction: Transaction<'_>,
    mark: &mut Mark,
    views: &RwLock<Views>,
) -> Result<(), Box<dyn core::error::Error + Send + Sync>> {
    let engine = transaction.engine;
    let state = &mut *transaction.state;
    state.sequence += 1;
    let sequence = state.sequence;
    let forgotten = std::mem::take(&mut transaction.forgotten);
    let republish = std::mem::take(&mut state.republish);
    if republish {
        let mut views = views.write().map_err(|_| "a reader panicked")?;
        *views = with_begun(&views, state);
    }
    let (changes, dropped, state) = transaction.into_changes(sequence);
    engine.commit(changes)?;
    mark.advance(sequence)?;
    if !forgotten.is_empty() {
        state.keys.forget(&forgotten)?;
    }
    if republish {
        *views.write().map_err(|_| "a reader panicked")? = views_of(state);
    }
    for table in dropped {
        // The table is not read again, whether or not this succeeds.
        let _ = engine.drop_table(table);
    }
    Ok(())
}
