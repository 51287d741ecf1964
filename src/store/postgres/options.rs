//! How a store over PostgreSQL is run.

use core::str::FromStr as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::error::PostgresError;

/// What must hold a commit before it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The disk of the server.
    #[default]
    Local,
    /// The disk of the server and that of a synchronous standby, which is attached and stays so.
    Replicated,
}

/// How the transactions of the store are kept apart. It is correct under both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// `READ COMMITTED`.
    #[default]
    ReadCommitted,
    /// `SERIALIZABLE`, which some engines always use.
    Serializable,
}

/// What an operator accepts that a spent set should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Concession {
    /// `fsync = off`: a power cut takes acknowledged admissions. For tests.
    FsyncOff,
    /// `full_page_writes = off`: a power cut may damage pages, unless the file system writes them whole.
    FullPageWritesOff,
    /// An engine that speaks PostgreSQL and does not have these settings: its operator vouches for its commits.
    OtherEngine,
}

impl Concession {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::FsyncOff, Self::FullPageWritesOff, Self::OtherEngine];

    /// Its name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FsyncOff => "fsync-off",
            Self::FullPageWritesOff => "full-page-writes-off",
            Self::OtherEngine => "other-engine",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|concession| concession.name() == name)
    }
}

/// How a store over PostgreSQL is run.
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    pub(super) config: Config,
    pub(super) encrypted: bool,
    pub(super) authorities: Option<Vec<u8>>,
    /// What must hold a commit before it is answered.
    pub durability: Durability,
    /// How transactions are kept apart.
    pub isolation: Isolation,
    /// What is accepted of the server.
    pub accept: Vec<Concession>,
    /// A directory outside of the database for the mark of this process: how far its commits had come. None for a process without a
    /// disk.
    pub mark: Option<PathBuf>,
    /// How many batches are committed side by side. 4 by default.
    pub lines: usize,
    /// How many connections read. 4 by default.
    pub readers: usize,
    /// For how long evidence goes into one table, seconds: it is dropped with its table, and stays by so much longer than the evidence
    /// window. 6 hours by default.
    pub bucket_seconds: u32,
    /// How long a call waits for a database that is away, and a doubt for its resolution. 5 seconds by default.
    pub patience: Duration,
}

/// Without the address, which has a password.
impl core::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("hosts", &self.hosts())
            .field("durability", &self.durability)
            .field("isolation", &self.isolation)
            .field("accept", &self.accept)
            .field("lines", &self.lines)
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// From an address, `postgres://user:password@host:port/database` or `host=... user=...`. Several hosts are tried in turn until
    /// one takes changes.
    ///
    /// # Errors
    /// [`PostgresError::Address`], [`PostgresError::TlsRequired`].
    pub fn new(address: &str) -> Result<Self, PostgresError> {
        // The error names the part that is wrong, and not what it says.
        let mut config = Config::from_str(address.trim()).map_err(|error| {
            let inner = std::error::Error::source(&error).map(ToString::to_string);
            PostgresError::Address(inner.unwrap_or_else(|| "it is no such address".into()))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(PostgresError::Address("it names no host".into()));
        }
        let distant = config
            .get_hosts()
            .iter()
            .filter_map(|host| match host {
                Host::Tcp(name) if !is_loopback(name) => Some(name.clone()),
                _ => None,
            })
            .chain(config.get_hostaddrs().iter().filter(|ip| !ip.is_loopback()).map(ToString::to_string))
            .next();
        let encrypted = match (distant, config.get_ssl_mode()) {
            (Some(host), SslMode::Disable) => return Err(PostgresError::TlsRequired(host)),
            (Some(_), _) | (None, SslMode::Require) => true,
            (None, _) => false,
        };
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("halometer");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(3));
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(10));
        }
        config.keepalives_idle(Duration::from_secs(5));
        Ok(Self {
            config,
            encrypted,
            authorities: None,
            durability: Durability::default(),
            isolation: Isolation::default(),
            accept: Vec::new(),
            mark: None,
            lines: 4,
            readers: 4,
            bucket_seconds: 6 * 3_600,
            patience: Duration::from_secs(5),
        })
    }

    /// Where the database is, without user and password.
    pub fn hosts(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        });
        let ports: Vec<_> = self.config.get_ports().iter().map(ToString::to_string).collect();
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("{} port {} database {database}", hosts.collect::<Vec<_>>().join(","), ports.join(","))
    }

    /// The same, trusting these certificate authorities (PEM) and no others.
    #[must_use]
    pub fn with_authorities(self, pem: Vec<u8>) -> Self {
        Self { authorities: Some(pem), ..self }
    }

    /// The same with this [`durability`](Self::durability).
    #[must_use]
    pub fn with_durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// The same with this [`isolation`](Self::isolation).
    #[must_use]
    pub fn with_isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// The same, accepting this of the server.
    #[must_use]
    pub fn accepting(mut self, concession: Concession) -> Self {
        self.accept.push(concession);
        self
    }

    /// The same with this [`mark`](Self::mark).
    #[must_use]
    pub fn with_mark(self, mark: impl Into<Option<PathBuf>>) -> Self {
        Self { mark: mark.into(), ..self }
    }

    /// The same with this number of [`lines`](Self::lines).
    #[must_use]
    pub fn with_lines(self, lines: usize) -> Self {
        Self { lines, ..self }
    }

    /// The same with this number of [`readers`](Self::readers).
    #[must_use]
    pub fn with_readers(self, readers: usize) -> Self {
        Self { readers, ..self }
    }

    /// The same with these [`bucket_seconds`](Self::bucket_seconds).
    #[must_use]
    pub fn with_bucket_seconds(self, bucket_seconds: u32) -> Self {
        Self { bucket_seconds, ..self }
    }

    /// The same with this [`patience`](Self::patience).
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

fn is_loopback(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_sockets_go_without_tls() {
        for (address, encrypted) in [
            ("postgres://u:p@localhost/d", false),
            ("postgres://u:p@127.0.0.1:5433/d", false),
            ("host=::1 user=u", false),
            ("host=/var/run/postgresql user=u", false),
            ("postgres://u:p@localhost/d?sslmode=require", true),
            ("postgres://u:p@db.example/d", true),
            ("postgres://u:p@db.example/d?sslmode=prefer", true),
            ("postgres://u:p@10.0.0.1/d", true),
            ("postgres://u:p@localhost,db.example/d", true),
            ("host=localhost hostaddr=10.0.0.1 user=u", true),
        ] {
            assert_eq!(PostgresOptions::new(address).unwrap().encrypted, encrypted, "{address}");
        }
        for address in
            ["postgres://u:p@db.example/d?sslmode=disable", "host=localhost hostaddr=10.0.0.1 sslmode=disable"]
        {
            assert!(matches!(PostgresOptions::new(address), Err(PostgresError::TlsRequired(_))), "{address}");
        }
    }

    #[test]
    fn no_error_and_no_debug_shows_the_password() {
        let options = PostgresOptions::new("postgres://user:hunter2@localhost/d").unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
        for address in
            ["postgres://user:hunter2@localhost:port/d", "hunter2", "password=hunter2", "host=a sslmode=hunter2"]
        {
            let error = PostgresOptions::new(address).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn concessions_are_known_by_their_names() {
        for concession in Concession::ALL {
            assert_eq!(Concession::from_name(concession.name()), Some(concession));
        }
        assert_eq!(Concession::from_name("everything"), None);
    }
}
