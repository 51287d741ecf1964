//! A line of commits: what makes a change exactly once, whatever becomes of the connection.
//!
//! A process has a few lines, and each has a row in the database: how many commits it made, and a fence. Every statement that changes
//! something counts one commit more in its line's row, on condition that the fence is still the one that the process set. So when a
//! connection is lost at a commit:
//!
//! ```text
//! set another fence     waits for what the old connection still does; what it did not begin by then changes nothing any more
//! read the count        one more than before: committed. As before: not, and now it never will be. Less: the set went back
//! ```
//!
//! Only what certainly was not committed is sent again. What was is read by its keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use rand::Rng as _;
use tokio::time::{sleep, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::core::Core;
use super::error::{Fate, Fault, PostgresError, fate, said};
use super::mark::LineMark;
use super::meters::Meters;

/// How often a statement is sent again after a conflict.
pub(super) const CONFLICTS: u32 = 40;

/// How often a statement is sent again after its connection was lost.
const LOSSES: u32 = 8;

/// What became of a statement.
pub(super) enum Landed {
    /// It was committed, and gave these rows.
    Rows(Vec<Row>),
    /// It was committed, and what it gave is lost: read it.
    Unseen,
}

pub(super) type Params<'a> = [&'a (dyn ToSql + Sync)];

/// A line of this process.
pub(super) struct Line {
    pub(super) number: usize,
    /// Which shard of the sums it changes.
    pub(super) shard: i32,
    /// The fence that is known to be set, and those that may be.
    fences: Vec<i64>,
    /// Whether the fence was set on the connection that is in use.
    fenced: bool,
    /// Whether a commit was sent whose outcome is not known.
    doubt: bool,
    client: Option<Object>,
    mark: LineMark,
}

impl Line {
    pub(super) fn new(number: usize, shard: i32, fence: i64, mark: LineMark) -> Self {
        Self { number, shard, fences: vec![fence], fenced: true, doubt: false, client: None, mark }
    }

    fn row(&self) -> i32 {
        i32::try_from(self.number).unwrap_or(i32::MAX)
    }

    fn acked(&self, core: &Core) -> i64 {
        core.standing.acked(self.number)
    }

    fn land(&mut self, core: &Core, number: i64) -> Result<(), PostgresError> {
        // Before the answer.
        self.mark.advance(number).map_err(|error| core.standing.stop(error))?;
        core.standing.land(self.number, number);
        self.doubt = false;
        Ok(())
    }

    /// Carries one statement out, in one round trip: a `WITH` that begins with [`schema::LINE`](super::schema::LINE) and gives a row
    /// of kind 0 from `line`. Its own parameters begin at `$5`.
    pub(super) async fn commit(&mut self, core: &Arc<Core>, sql: &str, own: &Params<'_>) -> Result<Landed, Fault> {
        let deadline = Instant::now() + core.patience;
        let (mut conflicts, mut losses) = (0, 0);
        loop {
            if losses > LOSSES {
                // Each of them was resolved: nothing was changed.
                return Err(PostgresError::Unreachable("the connection is lost again and again".into()).into());
            }
            if conflicts > 0 {
                if conflicts > CONFLICTS {
                    return Err(PostgresError::Conflicts(CONFLICTS).into());
                }
                Meters::count(&core.meters.retries, 1);
                let longest = 1_u64 << (conflicts / 2).min(6);
                sleep(Duration::from_micros(rand::rng().next_u64() % (longest * 1_000) + 200)).await;
            }
            self.ready(core, deadline).await?;
            let number = self.acked(core) + 1;
            let (row, fence) = (self.row(), self.fences[0]);
            let member = &core.standing.member[..];
            let mut params: Vec<&(dyn ToSql + Sync)> = vec![&member, &row, &number, &fence];
            params.extend_from_slice(own);
            let Some(client) = &self.client else { continue };
            // Nothing is changed by this.
            let statement = match timeout(core.patience, client.prepare_cached(sql)).await {
                Ok(Ok(statement)) => statement,
                Ok(Err(error)) => match fate(&error) {
                    Fate::NoTable => return Err(Fault::NoTable),
                    Fate::Unique => return Err(Fault::Unique),
                    Fate::Refused => return Err(PostgresError::Refused(said(&error)).into()),
                    Fate::Again => {
                        conflicts += 1;
                        continue;
                    }
                    Fate::Lost | Fate::Stale => {
                        self.let_go();
                        losses += 1;
                        continue;
                    }
                },
                Err(_) => {
                    self.let_go();
                    losses += 1;
                    continue;
                }
            };
            self.doubt = true;
            let started = Instant::now();
            let outcome = timeout(core.patience, client.query(&statement, &params)).await;
            core.meters.trip(started.elapsed());
            let lost = match outcome {
                Ok(Ok(rows)) => {
                    if rows.iter().any(|row| row.try_get::<_, i32>(0).is_ok_and(|kind| kind == 0)) {
                        self.land(core, number)?;
                        return Ok(Landed::Rows(rows));
                    }
                    // The fence or the count is another. Nothing was changed, and the next round finds out why.
                    self.doubt = false;
                    self.fenced = false;
                    conflicts += 1;
                    continue;
                }
                Ok(Err(error)) => match fate(&error) {
                    Fate::Again => {
                        self.doubt = false;
                        conflicts += 1;
                        continue;
                    }
                    Fate::Stale => {
                        self.doubt = false;
                        self.let_go();
                        conflicts += 1;
                        continue;
                    }
                    Fate::NoTable => {
                        self.doubt = false;
                        return Err(Fault::NoTable);
                    }
                    Fate::Unique => {
                        self.doubt = false;
                        return Err(Fault::Unique);
                    }
                    Fate::Refused => {
                        self.doubt = false;
                        return Err(PostgresError::Refused(said(&error)).into());
                    }
                    Fate::Lost => said(&error),
                },
                Err(_) => format!("no answer within {} ms", core.patience.as_millis()),
            };
            Meters::count(&core.meters.doubts, 1);
            losses += 1;
            self.let_go();
            match self.ready(core, Instant::now() + core.patience).await {
                Ok(()) => Meters::count(&core.meters.resolved, 1),
                Err(error) => {
                    Meters::count(&core.meters.unresolved, 1);
                    core.standing.check()?;
                    return Err(PostgresError::Doubt(format!("{lost}; then {}", PostgresError::from(error))).into());
                }
            }
            if self.acked(core) >= number {
                return Ok(Landed::Unseen);
            }
        }
    }

    /// Lets the connection go: it is not used again.
    fn let_go(&mut self) {
        self.fenced = false;
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }

    /// Sees to a connection on which the fence is set and no doubt is left.
    async fn ready(&mut self, core: &Arc<Core>, deadline: Instant) -> Result<(), Fault> {
        loop {
            core.standing.check()?;
            if self.client.as_ref().is_none_or(|client| client.is_closed()) {
                self.let_go();
                match core.connect(deadline).await {
                    Ok(client) => self.client = Some(client),
                    Err(error) => return Err(error.into()),
                }
            }
            if self.fenced && !self.doubt {
                return Ok(());
            }
            match self.fence(core).await {
                Ok(()) => return Ok(()),
                Err(Some(error)) => return Err(error.into()),
                Err(None) if Instant::now() >= deadline => {
                    return Err(PostgresError::Unreachable("the connection is lost again and again".into()).into());
                }
                Err(None) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Sets another fence, and reads how far the line is. Without an error the connection was lost, or others were in the way.
    async fn fence(&mut self, core: &Arc<Core>) -> Result<(), Option<PostgresError>> {
        let Some(client) = &self.client else { return Err(None) };
        let fence = random();
        // Until it is known whether it was set.
        self.fences.push(fence);
        let (row, member) = (self.row(), &core.standing.member[..]);
        let sql = "UPDATE halometer_member SET fence = $3 WHERE member = $1 AND line = $2 AND fence = ANY($4) RETURNING commits";
        let params: [&(dyn ToSql + Sync); 4] = [&member, &row, &fence, &self.fences];
        let outcome = timeout(core.patience, client.query_opt(sql, &params)).await;
        let found: Option<Row> = match outcome {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                let fate = fate(&error);
                if fate != Fate::Again {
                    self.let_go();
                }
                return Err((fate == Fate::Refused).then(|| PostgresError::Refused(said(&error))));
            }
            Err(_) => {
                self.let_go();
                return Err(None);
            }
        };
        let acked = self.acked(core);
        let Some(found) = found else {
            // It is another's, or it is not there.
            let sql = "SELECT commits FROM halometer_member WHERE member = $1 AND line = $2";
            return Err(match timeout(core.patience, client.query_opt(sql, &[&member, &row])).await {
                Ok(Ok(Some(_))) => Some(core.standing.stop(PostgresError::Taken)),
                Ok(Ok(None)) => Some(core.standing.behind(member, row, -1, acked)),
                _ => {
                    self.let_go();
                    None
                }
            });
        };
        let commits: i64 = found.try_get(0).map_err(|error| Some(PostgresError::Damaged(said(&error))))?;
        self.fences = vec![fence];
        self.fenced = true;
        if commits < acked {
            return Err(Some(core.standing.behind(member, row, commits, acked)));
        }
        if commits > acked + i64::from(self.doubt) {
            return Err(Some(core.standing.stop(PostgresError::Taken)));
        }
        if commits > acked {
            self.land(core, commits).map_err(Some)?;
        }
        self.doubt = false;
        Ok(())
    }
}

/// A number that is nobody else's.
pub(super) fn random() -> i64 {
    rand::rng().next_u64() as i64 & i64::MAX
}
