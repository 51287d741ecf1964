//! Partitions and their buckets: creating, closing, retiring, erasing. And what is remembered of the time.

use std::sync::Arc;

use tokio_postgres::types::ToSql;

use super::core::{Core, epoch as epoch_of, phase as phase_of, undecoded};
use super::error::{Fault, PostgresError};
use super::line::{Landed, Line};
use super::rows::{seconds, sum, time};
use super::schema;
use crate::protocol::{EpochNumber, Timestamp};
use crate::store::{Beat, Look, PartitionPhase, Pulse, StoreError, Totals};

const TRIES: usize = 40;

impl Core {
    /// How far each partition is.
    pub(super) async fn phases(&self) -> Result<Vec<(EpochNumber, PartitionPhase)>, StoreError> {
        let rows = self.read("SELECT epoch, phase FROM halometer_epoch ORDER BY epoch", &[]).await?;
        let mut phases = Vec::new();
        for row in rows {
            let epoch = epoch_of(row.try_get(0).map_err(undecoded)?)?;
            phases.push((epoch, phase_of(row.try_get(1).map_err(undecoded)?)?));
        }
        Ok(phases)
    }

    async fn phase(&self, epoch: EpochNumber) -> Result<Option<PartitionPhase>, StoreError> {
        let number = i64::from(epoch.number());
        let rows = self.read("SELECT phase FROM halometer_epoch WHERE epoch = $1", &[&number]).await?;
        let phase = rows.first().map(|row| row.try_get(0).map_err(undecoded)).transpose()?;
        Ok(phase.map(phase_of).transpose()?)
    }

    /// Makes a partition: its table first, which alone is nothing, then its row.
    pub(super) async fn create(self: &Arc<Self>, line: &mut Line, epoch: EpochNumber) -> Result<(), StoreError> {
        if self.phase(epoch).await?.is_some() {
            return Err(StoreError::PartitionExists(epoch));
        }
        for sql in schema::create_spends(epoch) {
            self.define(&sql).await?;
        }
        let number = i64::from(epoch.number());
        let table = schema::spends(epoch);
        // A table with records and no row of its partition is not a new one.
        let sql = format!(
            "WITH {}, made AS (INSERT INTO halometer_epoch (epoch, phase, last_bucket, live, begun) SELECT $5::bigint, 0, 0, false, 0 \
             FROM line WHERE NOT EXISTS (SELECT 1 FROM {table}) ON CONFLICT (epoch) DO NOTHING RETURNING epoch) \
             SELECT 0::int FROM line UNION ALL SELECT 1::int FROM made",
            schema::LINE
        );
        let made = match line.commit(self, &sql, &[&number]).await? {
            Landed::Rows(rows) => rows.len() > 1,
            // It was this call's or another's at this moment: either way it is there.
            Landed::Unseen => self.phase(epoch).await?.is_some(),
        };
        self.look().await?;
        match made {
            true => Ok(()),
            false if self.phase(epoch).await?.is_some() => Err(StoreError::PartitionExists(epoch)),
            false => {
                Err(StoreError::Corrupt { epoch, what: "it has records, and no row that says how far it is".into() })
            }
        }
    }

    /// Ends insertions. The change waits for those that hold the partition's row.
    pub(super) async fn close(self: &Arc<Self>, line: &mut Line, epoch: EpochNumber) -> Result<(), StoreError> {
        match self.phase(epoch).await? {
            None => return Err(StoreError::PartitionMissing(epoch)),
            Some(PartitionPhase::Retired) => return Err(StoreError::PartitionRetired(epoch)),
            Some(PartitionPhase::Closing) => return Ok(()),
            Some(PartitionPhase::Open) => {}
        }
        let sql = format!(
            "WITH {}, done AS (UPDATE halometer_epoch AS p SET phase = 1 FROM line WHERE p.epoch = $5::bigint AND p.phase = 0) \
             SELECT 0::int FROM line",
            schema::LINE
        );
        line.commit(self, &sql, &[&i64::from(epoch.number())]).await?;
        self.look().await?;
        match self.phase(epoch).await? {
            Some(PartitionPhase::Closing) => Ok(()),
            _ => Err(StoreError::PartitionRetired(epoch)),
        }
    }

    /// Writes the tombstone, then drops the tables.
    pub(super) async fn retire(self: &Arc<Self>, line: &mut Line, epoch: EpochNumber) -> Result<(), StoreError> {
        match self.phase(epoch).await? {
            None => return Err(StoreError::PartitionMissing(epoch)),
            Some(PartitionPhase::Open) => return Err(StoreError::PartitionOpen(epoch)),
            Some(PartitionPhase::Closing) => {
                let sql = format!(
                    "WITH {}, done AS (UPDATE halometer_epoch AS p SET phase = 2 FROM line WHERE p.epoch = $5::bigint AND p.phase = 1) \
                     SELECT 0::int FROM line",
                    schema::LINE
                );
                line.commit(self, &sql, &[&i64::from(epoch.number())]).await?;
            }
            // What a crash left is dropped.
            Some(PartitionPhase::Retired) => {}
        }
        self.look().await?;
        self.drop_tables(epoch).await
    }

    /// Drops what a retired partition had, and buckets that are erased.
    pub(super) async fn drop_tables(self: &Arc<Self>, epoch: EpochNumber) -> Result<(), StoreError> {
        let number = i64::from(epoch.number());
        let retired = self.phase(epoch).await? == Some(PartitionPhase::Retired);
        let sql = "SELECT bucket, CASE state WHEN 1 THEN 2 ELSE 3 END FROM halometer_bucket WHERE epoch = $1 \
                   AND (state = 1 OR (state = 0 AND $2))";
        for row in self.read(sql, &[&number, &retired]).await? {
            let bucket: i32 = row.try_get(0).map_err(undecoded)?;
            self.define(&format!("DROP TABLE IF EXISTS {}", schema::evidence(epoch, bucket))).await?;
            let state: i32 = row.try_get(1).map_err(undecoded)?;
            // Only for the next that looks what is left to drop: it does not matter how often it is done.
            let sql = "WITH done AS (UPDATE halometer_bucket SET state = $3 WHERE epoch = $1 AND bucket = $2 RETURNING 1) \
                       SELECT count(*) FROM done";
            self.read(sql, &[&number, &bucket, &state]).await?;
        }
        if retired {
            self.define(&format!("DROP TABLE IF EXISTS {}", schema::spends(epoch))).await?;
        }
        self.look().await?;
        Ok(())
    }

    /// The bucket for evidence that comes now; makes one if there is none, or the last one is old. None for a partition that is
    /// closing.
    pub(super) async fn bucket_for(
        self: &Arc<Self>,
        line: &mut Line,
        epoch: EpochNumber,
        now: Timestamp,
    ) -> Result<Option<i32>, StoreError> {
        let now = seconds(now);
        let mut view = self.live(epoch).await?;
        for _ in 0..TRIES {
            if view.phase != PartitionPhase::Open {
                return Ok(None);
            }
            if view.live && now < view.begun.saturating_add(self.bucket_seconds) {
                return Ok(Some(view.last_bucket));
            }
            // It may have been begun by another.
            self.look().await?;
            let latest = self.live(epoch).await?;
            if (latest.last_bucket, latest.live, latest.phase) != (view.last_bucket, view.live, view.phase) {
                view = latest;
                continue;
            }
            let next = view.last_bucket + 1;
            self.define(&schema::create_evidence(epoch, next)).await?;
            let sql = format!(
                "WITH {}, done AS (UPDATE halometer_epoch AS p SET last_bucket = $6::int, live = true, begun = $7::bigint FROM line \
                 WHERE p.epoch = $5::bigint AND p.last_bucket = $6::int - 1 AND p.phase = 0 RETURNING p.epoch), \
                 bucket AS (INSERT INTO halometer_bucket (epoch, bucket, state) SELECT epoch, $6::int, 0 FROM done \
                 ON CONFLICT (epoch, bucket) DO NOTHING) SELECT 0::int FROM line",
                schema::LINE
            );
            line.commit(self, &sql, &[&i64::from(epoch.number()), &next, &now]).await?;
            self.look().await?;
            view = self.live(epoch).await?;
        }
        Err(PostgresError::Conflicts(TRIES as u32).into())
    }

    /// Erases the buckets that are due: nothing in them is open, and all was settled before.
    ///
    /// A bucket that takes nothing any more and has nothing open never changes again: so the last one is ended first.
    pub(super) async fn erase(
        self: &Arc<Self>,
        line: &mut Line,
        epoch: EpochNumber,
        settled_before: Timestamp,
    ) -> Result<u64, StoreError> {
        self.live(epoch).await?;
        let number = i64::from(epoch.number());
        let before = seconds(settled_before);
        let due = "SELECT s.bucket, (p.live AND p.last_bucket = s.bucket), sum(s.settled)::bigint FROM halometer_sum s \
                   JOIN halometer_bucket b ON b.epoch = s.epoch AND b.bucket = s.bucket AND b.state = 0 \
                   JOIN halometer_epoch p ON p.epoch = s.epoch WHERE s.epoch = $1 AND p.phase < 2 \
                   GROUP BY s.bucket, p.live, p.last_bucket \
                   HAVING sum(s.open) = 0 AND sum(s.settled) > 0 AND max(s.last_settled) < $2";
        let read = async || -> Result<Vec<(i32, bool, i64)>, StoreError> {
            let rows = self.read(due, &[&number, &before]).await?;
            let row = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
            Ok(rows.iter().map(row).collect::<Result<_, tokio_postgres::Error>>().map_err(undecoded)?)
        };
        let mut found = read().await?;
        if let Some((bucket, ..)) = found.iter().find(|(_, live, _)| *live) {
            let sql = format!(
                "WITH {}, done AS (UPDATE halometer_epoch AS p SET live = false FROM line WHERE p.epoch = $5::bigint \
                 AND p.last_bucket = $6::int) SELECT 0::int FROM line",
                schema::LINE
            );
            line.commit(self, &sql, &[&number, bucket]).await?;
            self.look().await?;
            found = read().await?;
        }
        let mut erased = 0;
        for (bucket, _, settled) in found.into_iter().filter(|(_, live, _)| !live) {
            let sql = format!(
                "WITH {}, done AS (UPDATE halometer_bucket AS b SET state = 1 FROM line WHERE b.epoch = $5::bigint \
                 AND b.bucket = $6::int AND b.state = 0 RETURNING b.bucket) SELECT 0::int FROM line UNION ALL SELECT 1 FROM done",
                schema::LINE
            );
            match line.commit(self, &sql, &[&number, &bucket]).await? {
                Landed::Rows(rows) if rows.len() < 2 => {}
                // Erased, by this call or by another at this moment.
                _ => erased += u64::try_from(settled).unwrap_or_default(),
            }
        }
        self.drop_tables(epoch).await?;
        Ok(erased)
    }

    /// Sums over all buckets of a partition, or over those that are erased.
    pub(super) async fn sums(&self, epoch: EpochNumber, erased: bool) -> Result<Totals, StoreError> {
        let sql = "SELECT coalesce(sum(s.open), 0)::text, coalesce(sum(s.held), 0)::text, coalesce(sum(s.settled), 0)::text, \
                   coalesce(sum(s.cost), 0)::text, coalesce(sum(s.refunded), 0)::text, coalesce(sum(s.moved_out), 0)::text, \
                   coalesce(sum(s.moved_in), 0)::text FROM halometer_epoch p \
                   LEFT JOIN halometer_sum s ON s.epoch = p.epoch AND (NOT $2 OR EXISTS (SELECT 1 FROM halometer_bucket b \
                   WHERE b.epoch = s.epoch AND b.bucket = s.bucket AND b.state IN (1, 2))) \
                   WHERE p.epoch = $1 GROUP BY p.epoch";
        let rows = self.read(sql, &[&i64::from(epoch.number()), &erased]).await?;
        let row = rows.first().ok_or(StoreError::PartitionMissing(epoch))?;
        let number = |at: usize| sum(row.try_get(at).map_err(undecoded)?);
        let count = |at| u64::try_from(number(at)?).map_err(|_| PostgresError::Damaged("a count is too large".into()));
        Ok(Totals {
            open: count(0)?,
            held: number(1)?,
            settled: count(2)?,
            cost: number(3)?,
            refunded: number(4)?,
            moved_out: number(5)?,
            moved_in: number(6)?,
        })
    }

    async fn remembered(&self) -> Result<(Option<(Pulse, i64)>, bool), StoreError> {
        let sql = "SELECT (SELECT count(*) FROM halometer_epoch), t.seen, t.sure, t.looks FROM (SELECT 1) one \
                   LEFT JOIN halometer_pulse t ON t.id = 1";
        let rows = self.read(sql, &[]).await?;
        let row = rows.first().ok_or_else(|| PostgresError::Damaged("nothing is read".into()))?;
        let partitions: i64 = row.try_get(0).map_err(undecoded)?;
        let times = (row.try_get(1).map_err(undecoded)?, row.try_get(2).map_err(undecoded)?);
        let (seen, sure): (Option<i64>, Option<i64>) = times;
        let looks: Option<i64> = row.try_get(3).map_err(undecoded)?;
        let instant = |at: i64| time(at).map_err(PostgresError::Damaged);
        let known = match (seen, sure, looks) {
            (Some(seen), Some(sure), Some(looks)) => Some((Pulse::from_parts(instant(seen)?, instant(sure)?), looks)),
            _ => None,
        };
        Ok((known, partitions == 0))
    }

    /// What is remembered of the time.
    pub(super) async fn pulse(&self) -> Result<Option<Pulse>, StoreError> {
        Ok(self.remembered().await?.0.map(|(pulse, _)| pulse))
    }

    /// Takes a look at a clock in: unless another did meanwhile, and then once more.
    pub(super) async fn beat(self: &Arc<Self>, line: &mut Line, look: Look) -> Result<Beat, StoreError> {
        for _ in 0..TRIES {
            let (known, is_new) = self.remembered().await?;
            let beat = Pulse::next(known.map(|(pulse, _)| pulse), is_new, look);
            let Beat::Steady(pulse) = beat else { return Ok(beat) };
            if known.is_some_and(|(known, _)| known == pulse) {
                return Ok(beat);
            }
            let (seen, sure) = (seconds(pulse.seen()), seconds(pulse.sure()));
            let looks = known.map_or(0, |(_, looks)| looks);
            let change = match known {
                Some(_) => {
                    "UPDATE halometer_pulse AS t SET seen = $5::bigint, sure = $6::bigint, looks = $7::bigint + 1 FROM line \
                     WHERE t.id = 1 AND t.looks = $7::bigint RETURNING t.id"
                }
                None => {
                    "INSERT INTO halometer_pulse (id, seen, sure, looks) SELECT 1, $5::bigint, $6::bigint, $7::bigint + 1 FROM line \
                     ON CONFLICT (id) DO NOTHING RETURNING id"
                }
            };
            let sql = format!(
                "WITH {}, done AS ({change}) SELECT 0::int FROM line UNION ALL SELECT 1 FROM done",
                schema::LINE
            );
            let params: [&(dyn ToSql + Sync); 3] = [&seen, &sure, &looks];
            match line.commit(self, &sql, &params).await {
                Ok(Landed::Rows(rows)) if rows.len() < 2 => {}
                Ok(Landed::Rows(_)) => return Ok(beat),
                Ok(Landed::Unseen) => {
                    if self.remembered().await?.0 == Some((pulse, looks + 1)) {
                        return Ok(beat);
                    }
                }
                Err(Fault::Unique) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(PostgresError::Conflicts(TRIES as u32).into())
    }
}
