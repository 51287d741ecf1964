//! Transfers: both halves go in, or neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::types::ToSql;

use super::core::{Core, undecoded};
use super::error::{Fault, PostgresError};
use super::line::{Landed, Line, random};
use super::rows::{Which, seconds, text};
use super::schema;
use crate::protocol::{EpochNumber, Timestamp};
use crate::store::{PairInsertion, Record, RecordKey, RecordState, StoreError, Totals, rules};

const TRIES: usize = 8;

pub(super) async fn insert(
    core: &Arc<Core>,
    line: &mut Line,
    pair: &[Record; 2],
    now: Timestamp,
) -> Result<PairInsertion, StoreError> {
    rules::new_pair(pair)?;
    let stamp = random();
    for _ in 0..TRIES {
        let mut buckets = BTreeMap::new();
        for Record { key, .. } in pair {
            buckets.insert(key.epoch, core.bucket_for(line, key.epoch, now).await?);
        }
        if buckets.values().all(Option::is_some) {
            let buckets: BTreeMap<_, _> =
                buckets.iter().filter_map(|(epoch, bucket)| Some((*epoch, (*bucket)?))).collect();
            match send(core, line, pair, &buckets, now, stamp).await {
                Ok(true) => return Ok(PairInsertion::Fresh),
                // A nullifier is there, or a bucket was closed: see below.
                Ok(false) | Err(Fault::Unique) => {}
                Err(Fault::NoTable) => drop(core.look().await?),
                Err(fault) => return Err(fault.into()),
            }
        }
        let mut found = Vec::new();
        for Record { key, .. } in pair {
            found.push(find(core, key).await?);
        }
        if found[0].is_none() && found[1].is_some() {
            // Both may have come between the two looks.
            found[0] = find(core, &pair[0].key).await?;
        }
        if let Some(outcome) = rules::pair_found(pair, &found) {
            return Ok(outcome);
        }
        // Closed before the look, so that it was not inserted and will not be.
        if let Some((epoch, _)) = buckets.iter().find(|(_, bucket)| bucket.is_none()) {
            return Err(StoreError::PartitionClosed(*epoch));
        }
        // Another closed a partition or ended its bucket meanwhile.
        core.look().await?;
    }
    Err(PostgresError::Conflicts(TRIES as u32).into())
}

async fn find(core: &Arc<Core>, key: &RecordKey) -> Result<Option<Record>, StoreError> {
    let named = [key.nullifier.to_bytes().to_vec()];
    Ok(core.records(key.epoch, &Which::Named(&named)).await?.pop())
}

/// Whether both went in. A nullifier that is there fails the statement, and with it the other half.
async fn send(
    core: &Arc<Core>,
    line: &mut Line,
    pair: &[Record; 2],
    buckets: &BTreeMap<EpochNumber, i32>,
    now: Timestamp,
    stamp: i64,
) -> Result<bool, Fault> {
    let (shard, wanted) = (line.shard, buckets.len() as i64);
    let epochs: Vec<i64> = buckets.keys().map(|epoch| i64::from(epoch.number())).collect();
    let numbers: Vec<i32> = buckets.values().copied().collect();
    let at = seconds(now);
    let mut parts = vec![
        schema::LINE.to_owned(),
        "held AS (SELECT p.epoch FROM halometer_epoch p JOIN unnest($7::bigint[], $8::int[]) AS w (epoch, bucket) ON p.epoch = w.epoch \
         AND p.last_bucket = w.bucket WHERE p.phase = 0 AND p.live FOR SHARE OF p)"
            .to_owned(),
        "part AS (SELECT count(*) FROM held HAVING count(*) = $9::bigint)".to_owned(),
    ];
    let (mut values, mut sums) = (Vec::<Vec<u8>>::new(), Vec::new());
    let (mut texts, mut signed) = (Vec::<String>::new(), Vec::<i64>::new());
    for record in pair {
        let (RecordState::Settled(settlement), Some(evidence)) = (&record.state, &record.evidence) else {
            return Err(PostgresError::Refused("a half is not settled".into()).into());
        };
        let nf = record.key.nullifier.to_bytes().to_vec();
        values.extend([nf, record.key.tag.to_bytes().to_vec(), record.memo.as_bytes().to_vec()]);
        values.extend([settlement.signature.to_bytes().to_vec(), evidence.context.to_bytes().to_vec()]);
        values.extend([evidence.change.to_bytes().to_vec(), evidence.spend.clone()]);
        let mut totals = Totals::default();
        rules::add_settled(&mut totals, evidence, settlement)
            .map_err(|error| PostgresError::Refused(error.to_string()))?;
        let Totals { cost, refunded, moved_out, moved_in, .. } = totals;
        texts.extend([text(settlement.refund), text(evidence.charge)]);
        texts.extend([cost, refunded, moved_out, moved_in].map(|sum| sum.to_string()));
        signed.push(i64::from(settlement.epoch.number()));
    }
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&shard, &stamp, &epochs, &numbers, &wanted, &at];
    for (i, record) in pair.iter().enumerate() {
        let epoch = record.key.epoch;
        let bucket = buckets.get(&epoch).copied().unwrap_or_default();
        let first = 11 + 14 * i;
        let p = |column: usize| format!("${}", first + column);
        params.extend(values[7 * i..7 * i + 7].iter().map(|value| value as &(dyn ToSql + Sync)));
        params.extend(texts[6 * i..6 * i + 6].iter().map(|value| value as &(dyn ToSql + Sync)));
        params.push(&signed[i]);
        parts.push(format!(
            "spend{i} AS (INSERT INTO {} (nf, tag, memo, bucket, signed, refund, signature) SELECT {}::bytea, {}::bytea, {}::bytea, \
             {bucket}, {}::bigint, {}::text::numeric, {}::bytea FROM line, part RETURNING nf)",
            schema::spends(epoch), p(0), p(1), p(2), p(13), p(7), p(3),
        ));
        parts.push(format!(
            "evidence{i} AS (INSERT INTO {} (nf, context, charge, change, spend, stamp) SELECT s.nf, {}::bytea, {}::text::numeric, \
             {}::bytea, {}::bytea, $6::bigint FROM spend{i} s RETURNING charge)",
            schema::evidence(epoch, bucket), p(4), p(8), p(5), p(6),
        ));
        sums.push(format!(
            "SELECT {epoch}::bigint AS epoch, {bucket}::int AS bucket, {}::text::numeric AS cost, {}::text::numeric AS refunded, \
             {}::text::numeric AS moved_out, {}::text::numeric AS moved_in FROM evidence{i}",
            p(9), p(10), p(11), p(12),
        ));
    }
    parts.push(format!(
        "sums AS (INSERT INTO halometer_sum AS t (epoch, bucket, shard, open, held, settled, cost, refunded, moved_out, moved_in, \
         last_settled) SELECT epoch, bucket, $5::int, 0, 0, count(*), sum(cost), sum(refunded), sum(moved_out), sum(moved_in), \
         greatest($10::bigint, (SELECT seen FROM halometer_pulse WHERE id = 1)) FROM ({}) c GROUP BY epoch, bucket \
         ORDER BY epoch, bucket ON CONFLICT (epoch, bucket, shard) DO UPDATE SET settled = t.settled + excluded.settled, \
         cost = t.cost + excluded.cost, refunded = t.refunded + excluded.refunded, moved_out = t.moved_out + excluded.moved_out, \
         moved_in = t.moved_in + excluded.moved_in, last_settled = greatest(t.last_settled, excluded.last_settled))",
        sums.join(" UNION ALL ")
    ));
    let sql = format!(
        "WITH {} SELECT 0::int, commits FROM line UNION ALL SELECT 1, 0::bigint FROM spend0 UNION ALL SELECT 1, 0::bigint FROM spend1",
        parts.join(", ")
    );
    match line.commit(core, &sql, &params).await? {
        Landed::Rows(rows) => {
            let kinds: Result<Vec<i32>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            Ok(kinds.map_err(undecoded)?.iter().filter(|kind| **kind == 1).count() == 2)
        }
        Landed::Unseen => {
            // Of the first half: where it is, the other is.
            let first = &pair[0].key;
            let table = schema::evidence(first.epoch, buckets.get(&first.epoch).copied().unwrap_or_default());
            let sql = format!("SELECT 1 FROM {table} WHERE nf = $1 AND stamp = $2");
            let nf = first.nullifier.to_bytes().to_vec();
            Ok(!core.read(&sql, &[&nf, &stamp]).await?.is_empty())
        }
    }
}
