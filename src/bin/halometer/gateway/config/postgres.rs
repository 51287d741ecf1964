//! `[store.postgres]`: the database of many gateways.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Loaded, Secret, StoreKind};
use halometer::sealed::read_bounded;
use halometer::store::postgres::{Concession, Durability, Isolation, PostgresError, PostgresOptions};

/// Longest file of authorities, bytes.
const LONGEST: usize = 1 << 20;

/// What must hold a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityKind {
    /// The server's disk.
    #[default]
    Local,
    /// A synchronous standby, too.
    Replicated,
}

/// How transactions are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IsolationKind {
    /// `READ COMMITTED`.
    #[default]
    ReadCommitted,
    /// `SERIALIZABLE`.
    Serializable,
}

/// What is accepted of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Accepted(pub Concession);

impl TryFrom<String> for Accepted {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Concession::from_name(&name).map(Self).ok_or_else(|| {
            let names: Vec<_> = Concession::ALL.iter().map(|concession| concession.name()).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

/// `[store.postgres]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Its address, which is a secret as it has a password.
    pub url: Secret,
    /// The only certificate authorities that are trusted, in PEM; the system's if it is not said.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// What must hold a commit before it is answered.
    #[serde(default)]
    pub durability: DurabilityKind,
    /// How transactions are kept apart.
    #[serde(default)]
    pub isolation: IsolationKind,
    /// What is accepted of the server.
    #[serde(default)]
    pub accept: Vec<Accepted>,
    /// The directory of this gateway's mark.
    #[serde(default = "default_mark")]
    pub mark: PathBuf,
    /// Whether there is no disk for a mark.
    #[serde(default)]
    pub diskless: bool,
    /// How many batches are committed side by side.
    #[serde(default = "four")]
    pub lines: usize,
    /// How many connections read.
    #[serde(default = "four")]
    pub readers: usize,
    /// How long a call waits for a database that is away.
    #[serde(default = "five")]
    pub patience_seconds: u32,
}

fn default_mark() -> PathBuf {
    "database.mark".into()
}

fn four() -> usize {
    4
}

fn five() -> u32 {
    5
}

impl PostgresConfig {
    /// Makes its paths absolute.
    pub(super) fn resolve(&mut self, base: &Path) {
        if let Secret::File(path) = &mut self.url {
            *path = base.join(&*path);
        }
        self.mark = base.join(&self.mark);
        if let Some(ca) = &mut self.ca {
            *ca = base.join(&*ca);
        }
    }

    /// As the store takes them, for an address.
    ///
    /// # Errors
    /// [`PostgresError`].
    pub fn options(&self, url: &str) -> Result<PostgresOptions, PostgresError> {
        let mut options = PostgresOptions::new(url)?
            .with_lines(self.lines)
            .with_readers(self.readers)
            .with_patience(Duration::from_secs(self.patience_seconds.into()))
            .with_mark((!self.diskless).then(|| self.mark.clone()))
            .with_durability(match self.durability {
                DurabilityKind::Local => Durability::Local,
                DurabilityKind::Replicated => Durability::Replicated,
            })
            .with_isolation(match self.isolation {
                IsolationKind::ReadCommitted => Isolation::ReadCommitted,
                IsolationKind::Serializable => Isolation::Serializable,
            });
        for Accepted(concession) in &self.accept {
            options = options.accepting(*concession);
        }
        if let Some(ca) = &self.ca {
            let pem = read_bounded(ca, LONGEST);
            let pem = pem.map_err(|error| PostgresError::Tls(format!("{}: {error}", ca.display())))?;
            options = options.with_authorities(pem.to_vec());
        }
        Ok(options)
    }
}

/// What of `[store]` fits its kind.
pub(super) fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    let store = &loaded.config.store;
    match (store.kind, &store.postgres) {
        (StoreKind::Postgres, None) => {
            let what = "kind = \"postgres\" expects `[store.postgres]` with `url = { env = \"NAME\" }` or `url = { file = \"PATH\" }`";
            Err(loaded.error("store", what))
        }
        (StoreKind::Postgres, Some(postgres)) => {
            for (key, value, most) in
                [("store.postgres.lines", postgres.lines, 64), ("store.postgres.readers", postgres.readers, 256)]
            {
                if !(1..=most).contains(&value) {
                    return Err(loaded.error(key, format!("{value} is out of range: expected 1 to {most}")));
                }
            }
            match postgres.patience_seconds {
                1..=300 => Ok(()),
                seconds => {
                    let what = format!("{seconds} is out of range: expected 1 to 300");
                    Err(loaded.error("store.postgres.patience_seconds", what))
                }
            }
        }
        (_, Some(_)) => Err(loaded.error("store.postgres", "is for `store.kind = \"postgres\"` only")),
        (_, None) => Ok(()),
    }
}
