//! Making a schema, and opening a store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use rand::Rng as _;
use tokio::sync::mpsc;
use tokio_postgres::{Client, NoTls};

use super::core::{Core, CoreParts, undecoded};
use super::error::{Fate, PostgresError, fate, said};
use super::line::{Line, random};
use super::mark::Marks;
use super::meters::Meters;
use super::options::PostgresOptions;
use super::promise::Demands;
use super::standing::Standing;
use super::{Job, PostgresStore, Shell, schema, tls};
use crate::protocol::{EpochNumber, GatewayId};
use crate::store::PartitionPhase;

/// How often the set and its standby are looked at.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What a migration did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationReport {
    /// The version before; none where there was no schema.
    pub from: Option<i32>,
    /// The version after.
    pub to: i32,
    /// The statements, in their order.
    pub statements: Vec<String>,
}

/// Seconds since 1970 by this machine's clock.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

impl PostgresStore {
    /// Brings the schema of a gateway's set to the version of this program: forward only, and a new one where there is none. An explicit
    /// step: a database that lost its schema would be taken for an empty set. With `dry_run` nothing is changed.
    ///
    /// # Errors
    /// [`PostgresError`].
    pub fn migrate(
        options: &PostgresOptions,
        gateway: GatewayId,
        dry_run: bool,
    ) -> Result<MigrationReport, PostgresError> {
        let options = options.clone();
        let thread = std::thread::Builder::new().name("halometer-migrate".into()).spawn(move || {
            let thread = |error: std::io::Error| PostgresError::Thread(error.to_string());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread)?;
            runtime.block_on(migrate(&options, gateway, dry_run))
        });
        let thread = thread.map_err(|error| PostgresError::Thread(error.to_string()))?;
        thread.join().unwrap_or_else(|_| Err(PostgresError::Thread("it panicked".into())))
    }

    /// Opens the set of a gateway: looks at what the server promises, and whether the set is where it was.
    ///
    /// # Errors
    /// [`PostgresError`].
    pub fn open(options: &PostgresOptions, gateway: GatewayId) -> Result<Self, PostgresError> {
        Self::open_with(options, gateway, None)
    }

    /// As [`open`](Self::open), also when it is stopped for this reason.
    pub(super) fn open_with(
        options: &PostgresOptions,
        gateway: GatewayId,
        despite: Option<&'static str>,
    ) -> Result<Self, PostgresError> {
        let options = options.clone();
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let (jobs, mut todo) = mpsc::unbounded_channel::<Job>();
        let run = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(reply.send(Err(PostgresError::Thread(error.to_string())))),
            };
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let core = match open(&options, gateway, despite).await {
                    Ok(core) => core,
                    Err(error) => return drop(reply.send(Err(error))),
                };
                if reply.send(Ok(Arc::clone(&core))).is_err() {
                    return;
                }
                let beating = Arc::clone(&core);
                tokio::task::spawn_local(async move {
                    loop {
                        tokio::time::sleep(HEARTBEAT).await;
                        beating.heartbeat(now()).await;
                    }
                });
                while let Some(job) = todo.recv().await {
                    job(Arc::clone(&core));
                }
            });
            runtime.shutdown_background();
        };
        let started = std::thread::Builder::new().name("halometer-postgres".into()).spawn(run);
        started.map_err(|error| PostgresError::Thread(error.to_string()))?;
        let core = answer.recv().map_err(|_| PostgresError::Thread("it ended at once".into()))??;
        Ok(Self(Arc::new(Shell { core, jobs })))
    }
}

/// A connection outside of the pool.
pub(super) async fn connect(options: &PostgresOptions) -> Result<Client, PostgresError> {
    let wrong = |error: tokio_postgres::Error| PostgresError::Unreachable(said(&error));
    if options.encrypted {
        let connector = tls::connector(options.authorities.as_deref())?;
        let (client, connection) = options.config.connect(connector).await.map_err(wrong)?;
        tokio::spawn(async move { drop(connection.await) });
        return Ok(client);
    }
    let (client, connection) = options.config.connect(NoTls).await.map_err(wrong)?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// What the row of a set says.
pub(super) struct Meta {
    version: i32,
    gateway: Vec<u8>,
    token: [u8; 16],
    stopped: Option<String>,
}

pub(super) async fn meta(client: &Client) -> Result<Option<Meta>, PostgresError> {
    let sql = "SELECT version, gateway, token, stopped FROM halometer_meta WHERE id = 1";
    let row = match client.query_opt(sql, &[]).await {
        Ok(Some(row)) => row,
        Ok(None) => return Ok(None),
        Err(error) if fate(&error) == Fate::NoTable => return Ok(None),
        Err(error) => return Err(PostgresError::Unreachable(said(&error))),
    };
    let token: Vec<u8> = row.try_get(2).map_err(undecoded)?;
    Ok(Some(Meta {
        version: row.try_get(0).map_err(undecoded)?,
        gateway: row.try_get(1).map_err(undecoded)?,
        token: super::rows::array(&token).map_err(PostgresError::Damaged)?,
        stopped: row.try_get(3).map_err(undecoded)?,
    }))
}

pub(super) fn check_gateway(meta: &Meta, gateway: GatewayId) -> Result<(), PostgresError> {
    if meta.gateway != gateway.as_bytes() {
        let found = super::rows::array(&meta.gateway).map_err(PostgresError::Damaged)?;
        let (found, wanted) = (GatewayId::from_bytes(found).to_string(), gateway.to_string());
        return Err(PostgresError::OtherGateway { found, wanted });
    }
    Ok(())
}

async fn migrate(
    options: &PostgresOptions,
    gateway: GatewayId,
    dry_run: bool,
) -> Result<MigrationReport, PostgresError> {
    let client = connect(options).await?;
    Demands::of(options).prepare(&client).await?;
    let known = meta(&client).await?;
    let from = match &known {
        Some(meta) => {
            check_gateway(meta, gateway)?;
            Some(meta.version)
        }
        None => None,
    };
    let version = from.unwrap_or(0);
    if !(0..=schema::VERSION).contains(&version) {
        return Err(PostgresError::Schema { found: version, needed: schema::VERSION });
    }
    let steps = schema::STEPS.iter().skip(usize::try_from(version).unwrap_or_default());
    let statements: Vec<String> = steps.flat_map(|step| step.iter()).map(ToString::to_string).collect();
    let report = MigrationReport { from, to: schema::VERSION, statements };
    if dry_run {
        return Ok(report);
    }
    let refused = |error: tokio_postgres::Error| PostgresError::Refused(said(&error));
    for statement in &report.statements {
        client.batch_execute(statement).await.map_err(refused)?;
    }
    // What says that the schema is whole comes last.
    let mut token = [0; 16];
    rand::rng().fill_bytes(&mut token);
    let sql = "INSERT INTO halometer_meta AS m (id, version, gateway, token) VALUES (1, $1, $2, $3) \
               ON CONFLICT (id) DO UPDATE SET version = greatest(m.version, excluded.version)";
    let (own, token) = (gateway.as_bytes().to_vec(), token.to_vec());
    client.execute(sql, &[&schema::VERSION, &own, &token]).await.map_err(refused)?;
    Ok(report)
}

async fn open(
    options: &PostgresOptions,
    gateway: GatewayId,
    despite: Option<&'static str>,
) -> Result<Arc<Core>, PostgresError> {
    let count = options.lines.clamp(1, 64);
    let mut marks = match &options.mark {
        Some(place) => Marks::open(place, count)?,
        None => Marks::none(count),
    };
    let client = connect(options).await?;
    let demands = Demands::of(options);
    demands.prepare(&client).await?;
    let meta = meta(&client).await?.ok_or(PostgresError::NoSchema)?;
    if meta.version != schema::VERSION {
        return Err(PostgresError::Schema { found: meta.version, needed: schema::VERSION });
    }
    check_gateway(&meta, gateway)?;
    if marks.token.is_some_and(|token| token != meta.token) {
        let path = options.mark.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        return Err(PostgresError::Mark { path, what: "it is that of another set".into() });
    }
    if let Some(why) = meta.stopped.filter(|why| despite != Some(why)) {
        return Err(PostgresError::Stopped(why));
    }
    let mut acked = Vec::new();
    let mut lines = Vec::new();
    let member = marks.member;
    let shard = random() % i64::from(schema::SHARDS);
    let is_known = marks.token.is_some();
    for (number, mut mark) in std::mem::take(&mut marks.lines).into_iter().enumerate() {
        let fence = random();
        let found = take_line(&client, &member, number, fence, is_known && mark.number > 0).await?;
        if mark.half && found == mark.number {
            // Damaged in one place, or torn when the set had come further and then went back: no proof of either.
            let path = options.mark.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            let what =
                format!("half of line {number} is unreadable, and the set, at commit {found}, may have come further");
            return Err(PostgresError::Mark { path, what });
        }
        if found < mark.number {
            let standing = Standing::new(member, [], None);
            let error = standing.behind(&member, i32::try_from(number).unwrap_or(i32::MAX), found, mark.number);
            let sql = "UPDATE halometer_meta SET stopped = $1 WHERE id = 1 AND stopped IS NULL";
            let _ = client.execute(sql, &[&error.to_string()]).await;
            return Err(error);
        }
        mark.advance(found)?;
        acked.push(found);
        let shard = (shard + number as i64) % i64::from(schema::SHARDS);
        lines.push(Line::new(number, shard as i32, fence, mark));
    }
    let sql = "INSERT INTO halometer_member AS m (member, line, fence, commits, seen) VALUES ($1, -1, 0, 0, $2) \
               ON CONFLICT (member, line) DO UPDATE SET seen = greatest(m.seen, excluded.seen)";
    let refused = |error: tokio_postgres::Error| PostgresError::Refused(said(&error));
    client.execute(sql, &[&&member[..], &now()]).await.map_err(refused)?;
    marks.tie(meta.token)?;
    let standing = Arc::new(Standing::new(member, acked, despite));
    standing.hold(marks);
    standing.watch(&client, now() - 86_400).await?;
    drop(client);
    let meters = Arc::new(Meters::default());
    // What is beyond the wanted number only tells how far it had come.
    lines.truncate(count);
    let readers = options.readers.clamp(1, 256);
    let pool = pool(options, &demands, &standing, &meters, count + readers + 1)?;
    let core = Arc::new(Core::new(CoreParts {
        gateway,
        pool,
        standing,
        demands,
        meters,
        patience: options.patience,
        bucket_seconds: options.bucket_seconds,
        lines,
        readers,
    }));
    finish(&core).await?;
    Ok(core)
}

/// Takes a line from the process that had it, and says how far it is. -1 for one that is not there and must be.
async fn take_line(
    client: &Client,
    member: &[u8; 16],
    number: usize,
    fence: i64,
    must_be: bool,
) -> Result<i64, PostgresError> {
    let refused = |error: tokio_postgres::Error| PostgresError::Refused(said(&error));
    let (member, line) = (&member[..], i32::try_from(number).unwrap_or(i32::MAX));
    if !must_be {
        let sql = "INSERT INTO halometer_member (member, line, fence, commits, seen) VALUES ($1, $2, $3, 0, 0) \
                   ON CONFLICT (member, line) DO NOTHING";
        client.execute(sql, &[&member, &line, &fence]).await.map_err(refused)?;
    }
    let sql = "UPDATE halometer_member SET fence = $3 WHERE member = $1 AND line = $2 RETURNING commits";
    for _ in 0..20 {
        match client.query_opt(sql, &[&member, &line, &fence]).await {
            Ok(Some(row)) => return row.try_get(0).map_err(undecoded),
            Ok(None) => return Ok(-1),
            // What the process before this one still had under way.
            Err(error) if fate(&error) == Fate::Again => {}
            Err(error) => return Err(refused(error)),
        }
    }
    Err(PostgresError::Conflicts(20))
}

fn pool(
    options: &PostgresOptions,
    demands: &Demands,
    standing: &Arc<Standing>,
    meters: &Arc<Meters>,
    size: usize,
) -> Result<Pool, PostgresError> {
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match options.encrypted {
        true => {
            let connector = tls::connector(options.authorities.as_deref())?;
            Manager::from_config(options.config.clone(), connector, config)
        }
        false => Manager::from_config(options.config.clone(), NoTls, config),
    };
    let (demands, standing, meters) = (demands.clone(), Arc::clone(standing), Arc::clone(meters));
    let check = Hook::async_fn(move |client, _| {
        let (demands, standing, meters) = (demands.clone(), Arc::clone(&standing), Arc::clone(&meters));
        Box::pin(async move {
            let checked = async {
                demands.prepare(client).await?;
                standing.watch(client, now() - 86_400).await?;
                Ok::<_, PostgresError>(())
            };
            Meters::count(&meters.connections, 1);
            checked.await.map_err(|error| {
                let told = HookError::message(error.to_string());
                standing.refuse(error);
                told
            })
        })
    });
    let timeouts =
        Timeouts { wait: Some(options.patience), create: Some(options.patience), recycle: Some(options.patience) };
    let pool = Pool::builder(manager).max_size(size).timeouts(timeouts).runtime(Runtime::Tokio1).post_create(check);
    pool.build().map_err(|error| PostgresError::Thread(error.to_string()))
}

/// Finishes what a crash left half done: drops what is erased or retired.
async fn finish(core: &Arc<Core>) -> Result<(), PostgresError> {
    let failed = |error: crate::store::StoreError| match error {
        crate::store::StoreError::Failed(inner) => match inner.downcast::<PostgresError>() {
            Ok(error) => *error,
            Err(error) => PostgresError::Refused(error.to_string()),
        },
        error => PostgresError::Damaged(error.to_string()),
    };
    let views = core.look().await?;
    let rows = core.read("SELECT epoch FROM halometer_bucket WHERE state = 1", &[]).await?;
    let mut epochs: BTreeSet<EpochNumber> = BTreeSet::new();
    for row in rows {
        epochs.insert(super::core::epoch(row.try_get(0).map_err(undecoded)?)?);
    }
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() AND table_name LIKE 'halometer!_spend!_%' ESCAPE '!'";
    let mut there = BTreeSet::new();
    for row in core.read(tables, &[]).await? {
        there.insert(row.try_get::<_, String>(0).map_err(undecoded)?);
    }
    for (epoch, view) in views.iter() {
        let exists = there.contains(&schema::spends(*epoch));
        match view.phase {
            PartitionPhase::Retired if exists => drop(epochs.insert(*epoch)),
            PartitionPhase::Retired => {}
            // A table that is missing is not an empty one.
            _ if !exists => return Err(PostgresError::Damaged(format!("the table of epoch {epoch} is missing"))),
            _ => {}
        }
    }
    for epoch in epochs {
        core.drop_tables(epoch).await.map_err(failed)?;
    }
    Ok(())
}
