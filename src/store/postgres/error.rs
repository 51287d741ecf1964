//! Why the store over PostgreSQL does not do as it was asked.

use crate::store::StoreError;

/// Why a store over PostgreSQL is not opened, or does not answer. Nothing may be concluded from it about what is in the store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The address cannot be read. What it says is left out, as it may be a secret.
    #[error("the address of the database cannot be read: {0}; write postgres://user:password@host/database")]
    Address(String),
    /// The database is elsewhere, and the address forbids TLS.
    #[error(
        "the database at {0} is not on this machine, and its address says sslmode=disable: leave that out, TLS is required"
    )]
    TlsRequired(String),
    /// TLS cannot be set up.
    #[error("TLS to the database: {0}")]
    Tls(String),
    /// The database is not reached, or is shutting down.
    #[error("the database is not reached: {0}")]
    Unreachable(String),
    /// The server does not promise what a spent set needs.
    #[error(
        "the database server has {what} = {found}, and must have {wanted}: set it, or accept it by `accept = [\"{concession}\"]`"
    )]
    Promise {
        /// What it is about.
        what: String,
        /// As it is.
        found: String,
        /// As it must be.
        wanted: String,
        /// The name under which the operator can accept it.
        concession: &'static str,
    },
    /// The server promises something that no operator can do without.
    #[error("the database server {0}")]
    Unfit(String),
    /// No standby holds what is committed, and `durability = "replicated"` asks for one.
    #[error("no synchronous standby is attached, and the durability is \"replicated\": {0}")]
    NotReplicated(String),
    /// The schema is not there.
    #[error("there is no schema of halometer in the database: run `halometer store migrate`")]
    NoSchema,
    /// The schema is of another version.
    #[error(
        "the schema has version {found}, and this program needs {needed}: run `halometer store migrate` of the newer program"
    )]
    Schema {
        /// The version of the schema.
        found: i32,
        /// The version that is needed.
        needed: i32,
    },
    /// The set is that of another gateway.
    #[error("the database has the set of gateway {found}, not of {wanted}")]
    OtherGateway {
        /// Whose it is.
        found: String,
        /// Whose was asked for.
        wanted: String,
    },
    /// The set went back: acknowledged commits are lost. Notes that were spent since can be spent again. The gateways must take a new
    /// id, and the issuer must retire the epochs concerned.
    #[error(
        "the set went back by {by} commits: line {line} of {whose} is at commit {found}, and had come to {expected}"
    )]
    SetBack {
        /// This process, or the member that this process has seen.
        whose: String,
        /// Which of its lines of commits.
        line: i32,
        /// Where it is.
        found: i64,
        /// Where it had come to.
        expected: i64,
        /// The difference.
        by: i64,
    },
    /// A process has found that the set went back, and has stopped all.
    #[error("the set is stopped: {0}")]
    Stopped(String),
    /// Another process goes by the same mark.
    #[error("another process uses the mark of this one: give each process its own `mark`")]
    Taken,
    /// The mark cannot be read or written.
    #[error("the mark {path}: {what}")]
    Mark {
        /// Where it is.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The connection was lost at a commit, and whether it was made could not be read in time.
    #[error("whether a change was committed is not known: {0}; ask again")]
    Doubt(String),
    /// Others changed the same rows again and again.
    #[error("given up after {0} conflicts with other changes: ask again")]
    Conflicts(u32),
    /// The server refused a statement; nothing was changed.
    #[error("the database refused: {0}")]
    Refused(String),
    /// What is stored cannot be read.
    #[error("the database holds what cannot be read: {0}")]
    Damaged(String),
    /// The thread of the store does not start, or has ended.
    #[error("the store's thread: {0}")]
    Thread(String),
}

impl From<PostgresError> for StoreError {
    fn from(error: PostgresError) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// What became of a statement that gave no rows.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// A table that it names is not there. Nothing was changed.
    NoTable,
    /// It would have broken a unique key. Nothing was changed.
    Unique,
    /// Anything else.
    Other(PostgresError),
}

impl From<PostgresError> for Fault {
    fn from(error: PostgresError) -> Self {
        Self::Other(error)
    }
}

impl From<Fault> for PostgresError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoTable => Self::Damaged("a table is missing".into()),
            Fault::Unique => Self::Damaged("a key is there twice".into()),
            Fault::Other(error) => error,
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        PostgresError::from(fault).into()
    }
}

/// What an error of the client says of the transaction it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Aborted, and may succeed if it is tried again.
    Again,
    /// Aborted: a table is missing.
    NoTable,
    /// Aborted: a unique key.
    Unique,
    /// Aborted; this connection is of no more use.
    Stale,
    /// Aborted.
    Refused,
    /// Not known: the connection is lost.
    Lost,
}

pub(super) fn fate(error: &tokio_postgres::Error) -> Fate {
    use tokio_postgres::error::Severity;
    let Some(db) = error.as_db_error() else { return Fate::Lost };
    let ended = matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    match db.code().code() {
        // Whatever ends a connection may have come while the commit waited for its standby.
        _ if ended => Fate::Lost,
        // Of an engine that does not know itself.
        "40003" => Fate::Lost,
        code if code.starts_with("08") || code.starts_with("57P") => Fate::Lost,
        // The last one: a catalogue that another process changes at the same time.
        "40001" | "40P01" | "55P03" | "XX000" => Fate::Again,
        "42P01" => Fate::NoTable,
        "23505" | "42P07" | "42710" => Fate::Unique,
        // A prepared statement that a proxy between lost; a server that became a standby.
        "26000" | "0A000" | "25006" => Fate::Stale,
        _ => Fate::Refused,
    }
}

/// What an error says, without what was sent.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(inner) = source {
                text = format!("{text}: {inner}");
                source = inner.source();
            }
            text
        }
    }
}
