//! What a server must promise before anything is answered by it: looked at on every new connection.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::error::{PostgresError, said};
use super::options::{Concession, Durability, Isolation, PostgresOptions};

/// The oldest major version, times 10,000.
const OLDEST: i32 = 140_000;

/// What is asked of a server.
#[derive(Clone, Debug)]
pub(super) struct Demands {
    durability: Durability,
    isolation: Isolation,
    accept: Vec<Concession>,
}

impl Demands {
    pub(super) fn of(options: &PostgresOptions) -> Self {
        let PostgresOptions { durability, isolation, accept, .. } = options;
        Self { durability: *durability, isolation: *isolation, accept: accept.clone() }
    }

    fn accepts(&self, concession: Concession) -> bool {
        self.accept.contains(&concession)
    }

    /// Sets a connection up, and looks at what the server promises.
    pub(super) async fn prepare(&self, client: &Client) -> Result<(), PostgresError> {
        let isolation = match self.isolation {
            Isolation::ReadCommitted => "READ COMMITTED",
            Isolation::Serializable => "SERIALIZABLE",
        };
        let wrong = |error: tokio_postgres::Error| PostgresError::Unreachable(said(&error));
        let sql = format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {isolation}, READ WRITE");
        client.batch_execute(&sql).await.map_err(wrong)?;
        // Whatever a role or a database says: more is left as it is. Engines without the settings have others of their own. A server
        // soon notices a client that is gone, and ends what it left.
        for (name, value) in
            [("tcp_keepalives_idle", "5"), ("tcp_keepalives_interval", "2"), ("tcp_keepalives_count", "3")]
        {
            let _ = client.batch_execute(&format!("SET {name} = {value}")).await;
        }
        let settings = settings(client).await.map_err(wrong)?;
        if !matches!(settings.get("synchronous_commit").map(String::as_str), Some("on" | "remote_apply") | None) {
            client.batch_execute("SET synchronous_commit = on").await.map_err(wrong)?;
        }
        let settings = self::settings(client).await.map_err(wrong)?;
        self.judge(&settings)?;
        if settings.contains_key("fsync") {
            let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await.map_err(wrong)?;
            if row.try_get::<_, bool>(0).map_err(wrong)? {
                return Err(PostgresError::Unfit(
                    "is a standby, which takes no changes: connect to the primary".into(),
                ));
            }
        }
        if self.durability == Durability::Replicated {
            self.check_standby(client).await?;
        }
        Ok(())
    }

    fn judge(&self, settings: &BTreeMap<String, String>) -> Result<(), PostgresError> {
        let found = |name: &str| settings.get(name).cloned();
        let version = found("server_version_num").and_then(|version| version.parse().ok()).unwrap_or(0);
        let other_engine = found("fsync").is_none() || found("full_page_writes").is_none();
        if other_engine {
            if !self.accepts(Concession::OtherEngine) {
                return Err(PostgresError::Promise {
                    what: "fsync".into(),
                    found: "unknown, as another engine has".into(),
                    wanted: "on, or its operator's word".into(),
                    concession: Concession::OtherEngine.name(),
                });
            }
        } else if version < OLDEST {
            return Err(PostgresError::Unfit(format!("has version {version}, and {OLDEST} is the oldest: upgrade it")));
        }
        for (name, concession) in [("fsync", Concession::FsyncOff), ("full_page_writes", Concession::FullPageWritesOff)]
        {
            if let Some(found) = found(name).filter(|found| found != "on")
                && !self.accepts(concession)
            {
                let (what, wanted) = (name.to_owned(), "on".to_owned());
                return Err(PostgresError::Promise { what, found, wanted, concession: concession.name() });
            }
        }
        // With these it goes on after an error that says that data may be lost.
        for name in ["data_sync_retry", "zero_damaged_pages", "ignore_checksum_failure", "ignore_invalid_pages"] {
            if found(name).is_some_and(|found| found != "off") {
                return Err(PostgresError::Unfit(format!("has {name} = on: set it off")));
            }
        }
        match found("synchronous_commit").as_deref() {
            Some("on" | "remote_apply") => {}
            None if other_engine => {}
            found => {
                let found = found.unwrap_or("unknown");
                return Err(PostgresError::Unfit(format!(
                    "keeps synchronous_commit = {found}: let this role set it on"
                )));
            }
        }
        if found("default_transaction_read_only").is_some_and(|found| found != "off") && !other_engine {
            return Err(PostgresError::Unfit("takes no changes: default_transaction_read_only = on".into()));
        }
        Ok(())
    }

    /// Whether a synchronous standby is attached. Asked once a second, too.
    pub(super) async fn check_standby(&self, client: &Client) -> Result<(), PostgresError> {
        if self.durability != Durability::Replicated {
            return Ok(());
        }
        let wrong = |error: tokio_postgres::Error| PostgresError::NotReplicated(said(&error));
        let sql = "SELECT current_setting('synchronous_standby_names'), (SELECT count(*) FROM pg_stat_replication WHERE \
                   state = 'streaming' AND sync_state IN ('sync', 'quorum'))";
        let row = client.query_one(sql, &[]).await.map_err(wrong)?;
        let (names, standbys): (String, i64) = (row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
        if names.trim().is_empty() {
            return Err(PostgresError::NotReplicated("synchronous_standby_names is empty".into()));
        }
        if standbys == 0 {
            let what = "none is streaming, or the role may not see it: grant it pg_monitor";
            return Err(PostgresError::NotReplicated(what.into()));
        }
        Ok(())
    }
}

async fn settings(client: &Client) -> Result<BTreeMap<String, String>, tokio_postgres::Error> {
    let names = "'server_version_num', 'fsync', 'full_page_writes', 'synchronous_commit', 'data_sync_retry', 'zero_damaged_pages', \
                 'ignore_checksum_failure', 'ignore_invalid_pages', 'default_transaction_read_only'";
    let sql = format!("SELECT name, setting FROM pg_settings WHERE name IN ({names})");
    let rows = client.query(&sql, &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demands(accept: &[Concession]) -> Demands {
        let (durability, isolation) = Default::default();
        Demands { durability, isolation, accept: accept.to_vec() }
    }

    fn fit() -> BTreeMap<String, String> {
        let settings = [
            ("server_version_num", "150004"),
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on"),
            ("data_sync_retry", "off"),
            ("default_transaction_read_only", "off"),
        ];
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn a_server_that_promises_less_is_refused_by_name() {
        demands(&[]).judge(&fit()).unwrap();
        for (name, value, concession) in [
            ("fsync", "off", Some(Concession::FsyncOff)),
            ("full_page_writes", "off", Some(Concession::FullPageWritesOff)),
            ("synchronous_commit", "off", None),
            ("synchronous_commit", "local", None),
            ("data_sync_retry", "on", None),
            ("default_transaction_read_only", "on", None),
            ("server_version_num", "130000", None),
        ] {
            let mut settings = fit();
            settings.insert(name.to_owned(), value.to_owned());
            let error = demands(&[]).judge(&settings).unwrap_err();
            assert!(error.to_string().contains(name) || name == "server_version_num", "{error}");
            match concession {
                Some(concession) => demands(&[concession]).judge(&settings).unwrap(),
                None => assert!(demands(&Concession::ALL).judge(&settings).is_err(), "{name}"),
            }
        }
    }

    #[test]
    fn another_engine_is_taken_at_its_operators_word() {
        let mut settings = fit();
        settings.retain(|name, _| name == "server_version_num");
        assert!(demands(&[Concession::FsyncOff]).judge(&settings).is_err());
        demands(&[Concession::OtherEngine]).judge(&settings).unwrap();
    }
}
