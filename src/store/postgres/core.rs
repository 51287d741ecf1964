//! The store's inside: connections, lines, what is known of the partitions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool, PoolError};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_postgres::Row;

use super::change::Change;
use super::charges::Charges;
use super::error::{Fate, Fault, PostgresError, fate, said};
use super::insert::Insert;
use super::line::{CONFLICTS, Line, Params};
use super::meters::Meters;
use super::promise::Demands;
use super::standing::Standing;
use crate::protocol::{EpochNumber, GatewayId};
use crate::store::PartitionPhase;

/// What is known of a partition. It may be older than what is there: a statement that goes by it asks again.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) phase: PartitionPhase,
    pub(super) last_bucket: i32,
    /// Whether the last bucket still takes evidence.
    pub(super) live: bool,
    /// Since when.
    pub(super) begun: i64,
    /// Buckets that are not erased.
    pub(super) buckets: BTreeSet<i32>,
}

pub(super) type Views = Arc<BTreeMap<EpochNumber, View>>;

pub(super) struct Core {
    pub(super) gateway: GatewayId,
    pub(super) pool: Pool,
    pub(super) standing: Arc<Standing>,
    pub(super) demands: Demands,
    pub(super) meters: Arc<Meters>,
    pub(super) patience: Duration,
    pub(super) bucket_seconds: i64,
    views: Mutex<Views>,
    pub(super) charges: Mutex<Charges>,
    lines: Mutex<Vec<Line>>,
    free: Semaphore,
    readers: Semaphore,
    pub(super) inserts: Mutex<VecDeque<Insert>>,
    pub(super) settles: Mutex<VecDeque<Change>>,
    pub(super) metered: Mutex<VecDeque<Change>>,
}

/// A line, until it is given back.
pub(super) struct Held<'a> {
    core: &'a Core,
    line: Option<Line>,
}

impl core::ops::Deref for Held<'_> {
    type Target = Line;
    fn deref(&self) -> &Line {
        self.line.as_ref().expect("it is held until it is dropped")
    }
}

impl core::ops::DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Line {
        self.line.as_mut().expect("it is held until it is dropped")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            lock(&self.core.lines).push(line);
            self.core.free.add_permits(1);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a core is made of.
pub(super) struct CoreParts {
    pub(super) gateway: GatewayId,
    pub(super) pool: Pool,
    pub(super) standing: Arc<Standing>,
    pub(super) demands: Demands,
    pub(super) meters: Arc<Meters>,
    pub(super) patience: Duration,
    pub(super) bucket_seconds: u32,
    pub(super) lines: Vec<Line>,
    pub(super) readers: usize,
}

impl Core {
    pub(super) fn new(parts: CoreParts) -> Self {
        let CoreParts { gateway, pool, standing, demands, meters, patience, bucket_seconds, lines, readers } = parts;
        Self {
            gateway,
            pool,
            standing,
            demands,
            meters,
            patience,
            bucket_seconds: i64::from(bucket_seconds.max(1)),
            views: Mutex::default(),
            charges: Mutex::default(),
            free: Semaphore::new(lines.len()),
            lines: Mutex::new(lines),
            readers: Semaphore::new(readers.max(1)),
            inserts: Mutex::default(),
            settles: Mutex::default(),
            metered: Mutex::default(),
        }
    }

    /// A line of commits, as soon as one is free.
    pub(super) async fn line(&self) -> Result<Held<'_>, PostgresError> {
        let gone = || PostgresError::Thread("it ends".into());
        self.free.acquire().await.map_err(|_| gone())?.forget();
        let line = lock(&self.lines).pop();
        match line {
            Some(line) => Ok(Held { core: self, line: Some(line) }),
            None => Err(gone()),
        }
    }

    /// A connection, tried for until the deadline.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Object, PostgresError> {
        loop {
            let error = match self.pool.get().await {
                Ok(client) => return Ok(client),
                // What the server does not promise.
                Err(PoolError::PostCreateHook(error)) => {
                    let told = || PostgresError::Unreachable(error.to_string());
                    self.standing.refused().unwrap_or_else(told)
                }
                Err(PoolError::Backend(error)) => PostgresError::Unreachable(said(&error)),
                Err(error) => PostgresError::Unreachable(error.to_string()),
            };
            self.standing.check()?;
            if Instant::now() >= deadline {
                return Err(error);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Reads by one statement, on a connection of its own. Reading again is as good.
    pub(super) async fn read(&self, sql: &str, params: &Params<'_>) -> Result<Vec<Row>, Fault> {
        let deadline = Instant::now() + self.patience;
        let _permit = self.readers.acquire().await.map_err(|_| PostgresError::Thread("it ends".into()))?;
        let mut tries = 0;
        loop {
            self.standing.check()?;
            let client = self.connect(deadline).await?;
            let query = async {
                let statement = client.prepare_cached(sql).await?;
                let started = Instant::now();
                let rows = client.query(&statement, params).await;
                self.meters.trip(started.elapsed());
                rows
            };
            let (error, keep) = match timeout(self.patience, query).await {
                Ok(Ok(rows)) => {
                    self.standing.check()?;
                    return Ok(rows);
                }
                Ok(Err(error)) => match fate(&error) {
                    Fate::NoTable => return Err(Fault::NoTable),
                    Fate::Refused | Fate::Unique => return Err(PostgresError::Refused(said(&error)).into()),
                    fate => (PostgresError::Unreachable(said(&error)), fate == Fate::Again),
                },
                Err(_) => {
                    (PostgresError::Unreachable(format!("no answer within {} ms", self.patience.as_millis())), false)
                }
            };
            if !keep {
                drop(Object::take(client));
            }
            tries += 1;
            if tries > CONFLICTS || Instant::now() >= deadline {
                return Err(error.into());
            }
            Meters::count(&self.meters.retries, 1);
            sleep(Duration::from_millis(2 + u64::from(tries))).await;
        }
    }

    /// Carries out a statement that may be carried out again: a table is made or dropped.
    pub(super) async fn define(&self, sql: &str) -> Result<(), Fault> {
        let deadline = Instant::now() + self.patience.max(Duration::from_secs(30));
        let mut tries = 0;
        loop {
            self.standing.check()?;
            let client = self.connect(deadline).await?;
            let (error, keep) = match timeout(deadline - Instant::now(), client.batch_execute(sql)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => match fate(&error) {
                    Fate::NoTable => return Err(Fault::NoTable),
                    Fate::Refused => return Err(PostgresError::Refused(said(&error)).into()),
                    // Another process makes the same table at this moment.
                    Fate::Unique | Fate::Again => (PostgresError::Refused(said(&error)), true),
                    Fate::Lost | Fate::Stale => (PostgresError::Unreachable(said(&error)), false),
                },
                Err(_) => (PostgresError::Unreachable("no answer".into()), false),
            };
            if !keep {
                drop(Object::take(client));
            }
            tries += 1;
            if tries > CONFLICTS || Instant::now() >= deadline {
                return Err(error.into());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// What is known of the partitions.
    pub(super) fn views(&self) -> Views {
        Arc::clone(&lock(&self.views))
    }

    /// Asks what there is of partitions.
    pub(super) async fn look(&self) -> Result<Views, Fault> {
        let sql = "SELECT e.epoch, e.phase, e.last_bucket, e.live, e.begun, b.bucket FROM halometer_epoch e \
                   LEFT JOIN halometer_bucket b ON b.epoch = e.epoch AND b.state = 0";
        let mut views: BTreeMap<EpochNumber, View> = BTreeMap::new();
        for row in self.read(sql, &[]).await? {
            let epoch = epoch(row.try_get(0).map_err(undecoded)?)?;
            let view = View {
                phase: phase(row.try_get(1).map_err(undecoded)?)?,
                last_bucket: row.try_get(2).map_err(undecoded)?,
                live: row.try_get(3).map_err(undecoded)?,
                begun: row.try_get(4).map_err(undecoded)?,
                buckets: BTreeSet::new(),
            };
            let bucket: Option<i32> = row.try_get(5).map_err(undecoded)?;
            views.entry(epoch).or_insert(view).buckets.extend(bucket);
        }
        let views = Arc::new(views);
        *lock(&self.views) = Arc::clone(&views);
        Ok(views)
    }

    /// Once a second: whether the set is where it was, and the standby where it must be.
    pub(super) async fn heartbeat(&self, now: i64) {
        let Ok(client) = self.connect(Instant::now() + self.patience).await.inspect_err(|error| self.note(error))
        else {
            return;
        };
        let check = async {
            // Of the last day.
            self.standing.watch(&client, now - 86_400).await?;
            self.demands.check_standby(&client).await?;
            self.standing.set_trouble(None);
            let sql = "UPDATE halometer_member SET seen = $2 WHERE member = $1 AND line = -1 AND seen < $2";
            let _ = client.execute(sql, &[&&self.standing.member[..], &now]).await;
            Ok::<(), PostgresError>(())
        };
        match timeout(self.patience, check).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.note(&error),
            // What it still does is nobody's to wait for.
            Err(_) => drop(Object::take(client)),
        }
    }

    /// Serves nothing for as long as there is no standby. What is away is found by those that ask.
    fn note(&self, error: &PostgresError) {
        if matches!(error, PostgresError::NotReplicated(_)) {
            self.standing.set_trouble(Some(error.clone()));
        }
    }
}

/// How much goes into one statement.
pub(super) const BATCH: usize = 512;

/// Takes what waits, up to a batch.
pub(super) fn take<T>(queue: &Mutex<VecDeque<T>>, weigh: impl Fn(&T) -> usize) -> Vec<T> {
    let mut queue = lock(queue);
    let (mut taken, mut weight) = (Vec::new(), 0);
    while let Some(next) = queue.front() {
        weight += weigh(next);
        if weight > BATCH && !taken.is_empty() {
            break;
        }
        taken.extend(queue.pop_front());
    }
    taken
}

pub(super) fn undecoded(error: tokio_postgres::Error) -> PostgresError {
    PostgresError::Damaged(said(&error))
}

pub(super) fn epoch(number: i64) -> Result<EpochNumber, PostgresError> {
    let number =
        u32::try_from(number).map_err(|_| PostgresError::Damaged(format!("an epoch has the number {number}")))?;
    Ok(EpochNumber::new(number))
}

pub(super) fn phase(number: i32) -> Result<PartitionPhase, PostgresError> {
    match number {
        0 => Ok(PartitionPhase::Open),
        1 => Ok(PartitionPhase::Closing),
        2 => Ok(PartitionPhase::Retired),
        _ => Err(PostgresError::Damaged(format!("a partition has the phase {number}"))),
    }
}
