//! The book of replicas, leases and publications in a store over PostgreSQL. It goes by the clock of the database.

use std::sync::Arc;

use tokio_postgres::types::{FromSql, ToSql};

use super::core::{Core, undecoded};
use super::error::PostgresError;
use super::line::{Landed, Line};
use super::rows::{array, time};
use super::{PostgresStore, schema};
use crate::protocol::{OwnerId, Timestamp};
use crate::store::{Claim, HeldLease, LeaseName, Publication, Published, Replica, ReplicaBook, ReplicaKey, StoreError};

/// The book of replicas in a [`PostgresStore`]. All its times are of the database's clock, whatever clock a caller has.
#[derive(Clone, Debug)]
pub struct PostgresReplicaBook(pub(super) PostgresStore);

/// The time of the database, whole seconds.
const NOW: &str = "floor(extract(epoch FROM now()))::bigint";
const REPLICA: &str = "owner, address, key, version, draining, seen";
const TRIES: usize = 8;

fn get<'a, T: FromSql<'a>>(row: &'a tokio_postgres::Row, at: usize) -> Result<T, PostgresError> {
    row.try_get(at).map_err(undecoded)
}

fn replica(row: &tokio_postgres::Row) -> Result<Replica, StoreError> {
    let damaged = PostgresError::Damaged;
    Ok(Replica {
        owner: OwnerId::from_bytes(array(get(row, 0)?).map_err(damaged)?),
        address: get(row, 1)?,
        key: ReplicaKey::from_bytes(array(get(row, 2)?).map_err(damaged)?),
        version: get(row, 3)?,
        draining: get(row, 4)?,
        seen: time(get(row, 5)?).map_err(damaged)?,
    })
}

fn number(number: i64) -> Result<u64, PostgresError> {
    u64::try_from(number).map_err(|_| PostgresError::Damaged(format!("a number is {number}")))
}

fn as_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The lease as it was taken last.
async fn held(core: &Core, name: LeaseName) -> Result<Option<HeldLease>, StoreError> {
    let sql = "SELECT owner, term, until FROM halometer_lease WHERE name = $1";
    let rows = core.read(sql, &[&name.as_str()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let Some(owner) = get::<Option<&[u8]>>(row, 0)? else { return Ok(None) };
    Ok(Some(HeldLease {
        name,
        owner: OwnerId::from_bytes(array(owner).map_err(PostgresError::Damaged)?),
        term: number(get(row, 1)?)?,
        until: time(get(row, 2)?).map_err(PostgresError::Damaged)?,
    }))
}

async fn take_lease(
    core: &Arc<Core>,
    line: &mut Line,
    name: LeaseName,
    owner: OwnerId,
    seconds: u64,
) -> Result<Claim, StoreError> {
    let sql = format!(
        "WITH {}, done AS (INSERT INTO halometer_lease AS l (name, owner, term, until, revision, published_by, bytes) \
         SELECT $5::text, $6::bytea, 1, {NOW} + $7::bigint, 0, 0, ''::bytea FROM line ON CONFLICT (name) DO UPDATE SET \
         term = l.term + CASE WHEN l.owner IS NOT NULL AND l.until > {NOW} THEN 0 ELSE 1 END, owner = excluded.owner, \
         until = excluded.until WHERE l.owner IS NULL OR l.owner = excluded.owner OR l.until <= {NOW} RETURNING term, until) \
         SELECT 0::int, NULL::bigint, NULL::bigint FROM line UNION ALL SELECT 1, term, until FROM done",
        schema::LINE
    );
    let (by, asked) = (owner.as_bytes().to_vec(), as_number(seconds));
    let params: [&(dyn ToSql + Sync); 3] = [&name.as_str(), &by, &asked];
    for _ in 0..TRIES {
        let landed = line.commit(core, &sql, &params).await?;
        if let Landed::Rows(rows) = &landed {
            for row in rows {
                if get::<i32>(row, 0)? == 1 {
                    let (term, until) = (number(get(row, 1)?)?, time(get(row, 2)?).map_err(PostgresError::Damaged)?);
                    return Ok(Claim::Held(HeldLease { name, owner, term, until }));
                }
            }
        }
        match held(core, name).await? {
            Some(held) if held.owner != owner => return Ok(Claim::Refused(held)),
            // The answer was lost, not the lease.
            Some(held) if matches!(landed, Landed::Unseen) => return Ok(Claim::Held(held)),
            _ => {}
        }
    }
    Err(PostgresError::Conflicts(TRIES as u32).into())
}

async fn publish(
    core: &Arc<Core>,
    line: &mut Line,
    lease: &HeldLease,
    revision: u64,
    bytes: &[u8],
) -> Result<Publication, StoreError> {
    let sql = format!(
        "WITH {}, done AS (UPDATE halometer_lease AS l SET revision = $8::bigint, published_by = l.term, bytes = $9::bytea FROM line \
         WHERE l.name = $5::text AND l.owner = $6::bytea AND l.term = $7::bigint AND l.revision = $8::bigint - 1 RETURNING l.revision) \
         SELECT 0::int FROM line UNION ALL SELECT 1 FROM done",
        schema::LINE
    );
    let (owner, term) = (lease.owner.as_bytes().to_vec(), as_number(lease.term));
    let (next, name) = (as_number(revision), lease.name.as_str());
    let params: [&(dyn ToSql + Sync); 5] = [&name, &owner, &term, &next, &bytes];
    for _ in 0..TRIES {
        if matches!(line.commit(core, &sql, &params).await?, Landed::Rows(rows) if rows.len() > 1) {
            return Ok(Publication::Done);
        }
        let same =
            "SELECT l.revision, l.bytes = $2 FROM halometer_lease l WHERE l.name = $1 AND l.owner = $3 AND l.term = $4";
        let rows = core.read(same, &[&name, &bytes, &owner, &term]).await?;
        let Some(row) = rows.first() else { return Ok(Publication::NotHolder) };
        let latest = number(get(row, 0)?)?;
        if latest == revision && revision > 0 && get::<bool>(row, 1)? {
            return Ok(Publication::Done);
        }
        if latest.checked_add(1) != Some(revision) {
            return Ok(Publication::Conflict(latest));
        }
    }
    Err(PostgresError::Conflicts(TRIES as u32).into())
}

impl PostgresReplicaBook {
    /// Carries out a change that may be carried out again as it is; says whether it changed something.
    fn once(
        &self,
        change: String,
        own: impl Fn() -> Vec<Box<dyn ToSql + Sync + Send>> + Send + 'static,
    ) -> Result<u64, StoreError> {
        self.0.change(async move |core, line| {
            let sql = format!(
                "WITH {}, done AS ({change}) SELECT 0::int FROM line UNION ALL SELECT 1 FROM done",
                schema::LINE
            );
            let own = own();
            let params: Vec<&(dyn ToSql + Sync)> = own.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
            Ok(match line.commit(core, &sql, &params).await? {
                Landed::Rows(rows) => rows.len() as u64 - 1,
                Landed::Unseen => 1,
            })
        })
    }
}

impl ReplicaBook for PostgresReplicaBook {
    fn announce(&self, replica: &Replica, _: Timestamp) -> Result<(), StoreError> {
        replica.check()?;
        let replica = replica.clone();
        let change = format!(
            "INSERT INTO halometer_replica AS r ({REPLICA}) SELECT $5::bytea, $6::text, $7::bytea, $8::text, $9::boolean, {NOW} FROM line \
             ON CONFLICT (owner) DO UPDATE SET address = excluded.address, key = excluded.key, version = excluded.version, \
             draining = excluded.draining, seen = greatest(r.seen, excluded.seen) RETURNING owner"
        );
        self.once(change, move || {
            vec![
                Box::new(replica.owner.as_bytes().to_vec()),
                Box::new(replica.address.clone()),
                Box::new(replica.key.to_bytes().to_vec()),
                Box::new(replica.version.clone()),
                Box::new(replica.draining),
            ]
        })?;
        Ok(())
    }

    fn withdraw(&self, owner: &OwnerId) -> Result<(), StoreError> {
        let owner = *owner;
        // Only in the statement that counts a commit of this line.
        let change =
            "DELETE FROM halometer_replica WHERE owner = $5::bytea AND EXISTS (SELECT 1 FROM line) RETURNING owner";
        self.once(change.into(), move || vec![Box::new(owner.as_bytes().to_vec())]).map(drop)
    }

    fn forget_silent(&self, seconds: u64, _: Timestamp) -> Result<u64, StoreError> {
        let change = format!(
            "DELETE FROM halometer_replica WHERE seen <= {NOW} - $5::bigint AND EXISTS (SELECT 1 FROM line) RETURNING owner"
        );
        let seconds = as_number(seconds);
        self.once(change, move || vec![Box::new(seconds)])
    }

    fn replica(&self, owner: &OwnerId) -> Result<Option<Replica>, StoreError> {
        let owner = owner.as_bytes().to_vec();
        self.0.ask(async move |core| {
            let sql = format!("SELECT {REPLICA} FROM halometer_replica WHERE owner = $1");
            core.read(&sql, &[&owner]).await?.first().map(replica).transpose()
        })
    }

    fn replicas(&self, _: Timestamp) -> Result<(Vec<Replica>, Timestamp), StoreError> {
        self.0.ask(async move |core| {
            let sql = format!(
                "SELECT r.owner, r.address, r.key, r.version, r.draining, r.seen, {NOW} FROM (SELECT 1) one \
                 LEFT JOIN halometer_replica r ON true ORDER BY r.owner"
            );
            let rows = core.read(&sql, &[]).await?;
            let first = rows.first().ok_or_else(|| PostgresError::Damaged("nothing is read".into()))?;
            let now = time(get(first, 6)?).map_err(PostgresError::Damaged)?;
            let there = rows.iter().filter(|row| !matches!(row.try_get::<_, Option<&[u8]>>(0), Ok(None)));
            Ok((there.map(replica).collect::<Result<_, _>>()?, now))
        })
    }

    fn take_lease(&self, name: LeaseName, owner: OwnerId, seconds: u64, _: Timestamp) -> Result<Claim, StoreError> {
        HeldLease::check_seconds(seconds)?;
        self.0.change(async move |core, line| take_lease(core, line, name, owner, seconds).await)
    }

    fn release_lease(&self, lease: &HeldLease) -> Result<bool, StoreError> {
        let (name, owner, term) = (lease.name.as_str(), lease.owner, as_number(lease.term));
        let change = "UPDATE halometer_lease AS l SET owner = NULL FROM line WHERE l.name = $5::text AND l.owner = $6::bytea \
                      AND l.term = $7::bigint RETURNING l.term";
        let own = move || -> Vec<Box<dyn ToSql + Sync + Send>> {
            vec![Box::new(name), Box::new(owner.as_bytes().to_vec()), Box::new(term)]
        };
        Ok(self.once(change.into(), own)? > 0)
    }

    fn lease(&self, name: LeaseName) -> Result<Option<HeldLease>, StoreError> {
        self.0.ask(async move |core| Ok(held(core, name).await?))
    }

    fn publish(&self, lease: &HeldLease, revision: u64, bytes: &[u8]) -> Result<Publication, StoreError> {
        if bytes.len() > Published::MAX_LENGTH {
            return Err(StoreError::BadRecord("what a leader publishes has at most 4 MiB"));
        }
        let (lease, bytes) = (*lease, bytes.to_vec());
        self.0.change(async move |core, line| publish(core, line, &lease, revision, &bytes).await)
    }

    fn published(&self, name: LeaseName, known: u64) -> Result<Option<Published>, StoreError> {
        let known = as_number(known);
        self.0.ask(async move |core| {
            let sql = "SELECT revision, published_by, bytes FROM halometer_lease WHERE name = $1 AND revision > 0 AND revision <> $2";
            let rows = core.read(sql, &[&name.as_str(), &known]).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            Ok(Some(Published { revision: number(get(row, 0)?)?, term: number(get(row, 1)?)?, bytes: get(row, 2)? }))
        })
    }
}
