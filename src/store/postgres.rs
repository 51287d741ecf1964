//! The store of many gateways: spent set, mints and payments in one PostgreSQL database.
//!
//! ```text
//! caller --+                                          +--> answer
//! caller --+--> what waits --> line --> one statement +--> answer      a line is a connection, a row and a mark
//! caller --+    at one moment           one commit    +--> answer
//! ```
//!
//! Any number of processes share the set: it is one linearizable set (protocol, section 5), as a database row is. What arrives while
//! all lines commit is the next statement, so that a lone change waits for one round trip and a crowd shares one.
//!
//! * **Portable.** Plain tables and single statements; no extension, no advisory lock, no notification, no code in the server. Correct
//!   under `READ COMMITTED` and under `SERIALIZABLE`.
//! * **A table for each epoch**, and one for each span of time (a *bucket*) of its evidence: both go by `DROP TABLE`.
//! * **Doubt** is resolved by reading: see `line.rs`. What cannot be resolved in time is an error.
//! * **What the server must promise** is looked at on each connection, and refused by name: see [`Concession`].
//! * **A set that went back** stops all its processes: see [`PostgresOptions::mark`].
//!
//! The client is `tokio-postgres`, with the pool `deadpool-postgres` and TLS by `tokio-postgres-rustls`. It is small, speaks the
//! protocol and nothing else, and takes statements as text, which the tables named by epoch need. `sqlx` would bring a second TLS stack,
//! macros that want a database at compile time, and migrations of its own. Bringing the rustls in by hand would lose the channel
//! binding, by which a password is of no use to a man in the middle. All of it runs on one thread of the store's own, behind traits that
//! block.

mod books;
mod change;
mod charges;
#[cfg(feature = "durable")]
mod copy;
mod core;
mod error;
mod insert;
mod line;
mod mark;
mod meters;
mod open;
mod operate;
mod options;
mod pair;
mod partition;
mod promise;
mod replicas;
mod rows;
mod schema;
mod spent_set;
mod standing;
mod tls;

pub use books::{PostgresMintBook, PostgresPaymentBook};
#[cfg(feature = "durable")]
pub use copy::{CopyError, CopyReport};
pub use error::PostgresError;
pub use meters::PostgresFigures;
pub use open::MigrationReport;
pub use operate::{PostgresCheck, PostgresStats};
pub use options::{Concession, Durability, Isolation, PostgresOptions};
pub use replicas::PostgresReplicaBook;
pub use spent_set::PostgresSpentSet;

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use self::core::Core;
use self::line::Line;
use crate::protocol::GatewayId;
use crate::store::StoreError;

/// Something to do on the store's thread.
type Job = Box<dyn FnOnce(Arc<Core>) + Send>;

/// A store over PostgreSQL. Cheap to clone; its connections end with the last clone.
#[derive(Clone)]
pub struct PostgresStore(Arc<Shell>);

struct Shell {
    core: Arc<Core>,
    jobs: UnboundedSender<Job>,
}

impl ::core::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("PostgresStore").field("gateway", &self.gateway()).finish_non_exhaustive()
    }
}

fn gone() -> StoreError {
    PostgresError::Thread("it has ended".into()).into()
}

impl PostgresStore {
    /// The gateway whose set it is.
    pub fn gateway(&self) -> GatewayId {
        self.0.core.gateway
    }

    /// The spent set in it.
    pub fn spent_set(&self) -> PostgresSpentSet {
        PostgresSpentSet(self.clone())
    }

    /// The book of mints in it.
    pub fn mint_book(&self) -> PostgresMintBook {
        PostgresMintBook(self.clone())
    }

    /// The book of payments in it.
    pub fn payment_book(&self) -> PostgresPaymentBook {
        PostgresPaymentBook(self.clone())
    }

    /// The book of replicas in it.
    pub fn replica_book(&self) -> PostgresReplicaBook {
        PostgresReplicaBook(self.clone())
    }

    /// What it has done so far.
    pub fn figures(&self) -> PostgresFigures {
        let core = &self.0.core;
        let pool = core.pool.status();
        PostgresFigures {
            pool_size: pool.size,
            pool_idle: pool.available,
            pool_limit: pool.max_size,
            watched: core.standing.watched(),
            ..core.meters.figures()
        }
    }

    /// Why nothing is served: for as long as it lasts, or, if [`is_stopped`](Self::is_stopped), for good.
    pub fn trouble(&self) -> Option<PostgresError> {
        self.0.core.standing.check().err()
    }

    /// Whether nothing is served any more until an operator acts: the set went back, or the mark is another process's.
    pub fn is_stopped(&self) -> bool {
        self.0.core.standing.is_stopped()
    }

    fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    /// Does something on the store's thread, and does not wait for it.
    fn run(&self, task: impl AsyncFnOnce(&Arc<Core>) + Send + 'static) {
        let job: Job = Box::new(move |core| drop(tokio::task::spawn_local(async move { task(&core).await })));
        // If the thread has ended, what waits for an answer finds that out.
        let _ = self.0.jobs.send(job);
    }

    /// Does something on the store's thread and waits for it.
    fn ask<T: Send + 'static>(
        &self,
        task: impl AsyncFnOnce(&Arc<Core>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.run(async move |core| drop(reply.send(task(core).await)));
        answer.recv().map_err(|_| gone())?
    }

    /// As [`ask`](Self::ask), with a line of commits.
    fn change<T: Send + 'static>(
        &self,
        task: impl AsyncFnOnce(&Arc<Core>, &mut Line) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(async move |core| {
            let mut line = core.line().await?;
            task(core, &mut line).await
        })
    }
}
