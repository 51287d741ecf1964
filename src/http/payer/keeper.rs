//! The wallet's own thread.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::wallet::{Journal, Wallet};
use crate::workers::TaskPool;

/// The payer is shut down. Spends that were on their way are pursued when the next one is started with this wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payer is shut down")]
pub struct Stopped;

/// A wallet behind a thread that does everything with it, one after the other: a journal that is durable waits for its disk, and
/// no async thread does.
pub(super) struct Keeper<J> {
    wallet: Arc<Mutex<Option<Wallet<J>>>>,
    thread: TaskPool,
}

impl<J: Journal + 'static> Keeper<J> {
    pub(super) fn start(wallet: Wallet<J>) -> io::Result<Self> {
        // What waits is bounded by the calls that are made.
        let thread = TaskPool::start("wallet", 1, usize::MAX)?;
        Ok(Self { wallet: Arc::new(Mutex::new(Some(wallet))), thread })
    }

    /// Does something with the wallet, even if nobody waits for the result any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Wallet<J>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.submit(work, false).await
    }

    /// The same, unless nobody waits for the result any more when its turn comes.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Wallet<J>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.submit(work, true).await
    }

    /// Does something with the wallet, some time. Nobody waits for it.
    pub(super) fn leave(&self, work: impl FnOnce(&mut Wallet<J>) + Send + 'static) {
        let wallet = Arc::clone(&self.wallet);
        // A payer that is shut down has let go of everything.
        let _ = self.thread.leave(move || {
            on(&wallet, work);
        });
    }

    async fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Wallet<J>) -> T + Send + 'static,
        only_if_wanted: bool,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let wallet = Arc::clone(&self.wallet);
        let task = move || {
            if !(only_if_wanted && reply.is_closed())
                && let Some(done) = on(&wallet, work)
            {
                // For a caller that hung up meanwhile: what was done is dropped here, and lets go of what it holds.
                let _ = reply.send(done);
            }
        };
        self.thread.leave(task).map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Takes the wallet away, after a last thing is done with it. From then on everybody is told that it has stopped.
    pub(super) async fn close(&self, last: impl FnOnce(&mut Wallet<J>) + Send + 'static) -> Option<Wallet<J>> {
        let (reply, answer) = oneshot::channel();
        let wallet = Arc::clone(&self.wallet);
        let task = move || {
            let mut taken = wallet.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(wallet) = &mut taken {
                last(wallet);
            }
            let _ = reply.send(taken);
        };
        self.thread.leave(task).ok()?;
        answer.await.ok()?
    }
}

/// What a panic under this lock leaves behind is whole: the wallet's methods change it in one step at their end.
fn on<J, T>(wallet: &Mutex<Option<Wallet<J>>>, work: impl FnOnce(&mut Wallet<J>) -> T) -> Option<T> {
    wallet.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(work)
}
