//! Admissions: what waits at one moment goes in by one statement, which is one round trip and one commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio_postgres::types::ToSql;

use super::core::{Core, lock};
use super::error::{Fault, PostgresError};
use super::line::{Landed, Line, random};
use super::meters::Meters;
use super::rows::{Which, again, seconds, text};
use super::schema;
use crate::protocol::{EpochNumber, Timestamp};
use crate::store::{Insertion, Record, RecordState, StoreError, rules};

/// How often a batch is tried anew because others closed its bucket or retired its partition meanwhile.
const TRIES: usize = 8;

/// Records that a caller waits for.
pub(super) struct Insert {
    pub(super) records: Vec<Record>,
    pub(super) now: Timestamp,
    pub(super) reply: SyncSender<Vec<Result<Insertion, StoreError>>>,
}

impl Insert {
    /// Answers all of its records with an error.
    pub(super) fn refuse(self, error: &PostgresError) {
        let outcomes = self.records.iter().map(|_| Err(error.clone().into())).collect();
        let _ = self.reply.send(outcomes);
    }
}

/// Inserts what some callers brought.
pub(super) async fn run(core: &Arc<Core>, line: &mut Line, jobs: Vec<Insert>) {
    let now = jobs.iter().map(|job| job.now).max().unwrap_or_default();
    let mut records = Vec::new();
    let mut replies = Vec::new();
    for job in jobs {
        replies.push((job.records.len(), job.reply));
        records.extend(job.records);
    }
    Meters::count(&core.meters.batches, 1);
    Meters::count(&core.meters.batched, records.len());
    let mut outcomes = insert_all(core, line, &records, now).await.into_iter();
    for (count, reply) in replies {
        let _ = reply.send(outcomes.by_ref().take(count).collect());
    }
}

type Outcomes = Vec<Option<Result<Insertion, StoreError>>>;
type Place = (EpochNumber, [u8; 32]);

fn place(record: &Record) -> Place {
    (record.key.epoch, record.key.nullifier.to_bytes())
}

async fn insert_all(
    core: &Arc<Core>,
    line: &mut Line,
    records: &[Record],
    now: Timestamp,
) -> Vec<Result<Insertion, StoreError>> {
    let mut outcomes: Outcomes = records.iter().map(|record| check(record).err().map(Err)).collect();
    for _ in 0..TRIES {
        if outcomes.iter().all(Option::is_some) {
            break;
        }
        if let Err(fault) = round(core, line, records, now, &mut outcomes).await {
            let error = PostgresError::from(fault);
            for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_none()) {
                *outcome = Some(Err(error.clone().into()));
            }
        } else if outcomes.iter().any(Option::is_none)
            && let Err(fault) = core.look().await
        {
            // Another closed the partition or ended its bucket, and it is not seen how it is now.
            let error = PostgresError::from(fault);
            for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_none()) {
                *outcome = Some(Err(error.clone().into()));
            }
        }
    }
    let given_up = || Err(PostgresError::Conflicts(TRIES as u32).into());
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(given_up)).collect()
}

fn check(record: &Record) -> Result<(), StoreError> {
    rules::new_record(record)?;
    match &record.state {
        RecordState::Open { lease, .. } => check_time(lease.until),
        RecordState::Settled(_) => Ok(()),
    }
}

/// Times are kept as numbers of 63 bits.
pub(super) fn check_time(at: Timestamp) -> Result<(), StoreError> {
    match i64::try_from(at.seconds()) {
        Ok(_) => Ok(()),
        Err(_) => Err(StoreError::BadRecord("a lease ends within 2^63 seconds")),
    }
}

/// Tries to insert what has no outcome yet, and looks at what was there before.
async fn round(
    core: &Arc<Core>,
    line: &mut Line,
    records: &[Record],
    now: Timestamp,
    outcomes: &mut Outcomes,
) -> Result<(), Fault> {
    // The first of each nullifier; those after it are decided by what is then there.
    let mut groups: BTreeMap<EpochNumber, Vec<usize>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (i, record) in records.iter().enumerate().filter(|(i, _)| outcomes[*i].is_none()) {
        if seen.insert(place(record)) {
            groups.entry(record.key.epoch).or_default().push(i);
        }
    }
    let mut closed = BTreeSet::new();
    let mut sent = Vec::new();
    for (epoch, mut group) in groups {
        match core.bucket_for(line, epoch, now).await {
            Ok(Some(bucket)) => {
                // In one order everywhere, so that two batches do not wait for each other.
                group.sort_by_key(|i| records[*i].key.nullifier.to_bytes());
                sent.push((epoch, bucket, group));
            }
            Ok(None) => {
                closed.insert(epoch);
            }
            Err(error) => {
                let lost = records.iter().zip(outcomes.iter_mut()).filter(|(record, _)| record.key.epoch == epoch);
                lost.filter(|(_, outcome)| outcome.is_none())
                    .for_each(|(_, outcome)| *outcome = Some(Err(again(&error))));
            }
        }
    }
    let fresh = if sent.is_empty() {
        BTreeSet::new()
    } else {
        match send(core, line, records, &sent).await {
            Ok(fresh) => fresh,
            Err(Fault::NoTable) => {
                core.look().await?;
                return Ok(());
            }
            Err(fault) => return Err(fault),
        }
    };
    for (_, _, group) in &sent {
        for i in group.iter().filter(|i| fresh.contains(&place(&records[**i]))) {
            outcomes[*i] = Some(Ok(Insertion::Fresh));
            if let Some(evidence) = &records[*i].evidence {
                lock(&core.charges).add(&records[*i].key, evidence.charge);
            }
        }
    }
    look_up(core, records, &closed, outcomes).await
}

/// Decides by what is there. What is not there stays undecided, unless its partition takes no more.
async fn look_up(
    core: &Arc<Core>,
    records: &[Record],
    closed: &BTreeSet<EpochNumber>,
    outcomes: &mut Outcomes,
) -> Result<(), Fault> {
    let mut wanted: BTreeMap<EpochNumber, Vec<usize>> = BTreeMap::new();
    for (i, record) in records.iter().enumerate().filter(|(i, _)| outcomes[*i].is_none()) {
        wanted.entry(record.key.epoch).or_default().push(i);
    }
    for (epoch, wanted) in wanted {
        let named: Vec<Vec<u8>> = wanted.iter().map(|i| records[*i].key.nullifier.to_bytes().to_vec()).collect();
        let found = match core.records(epoch, &Which::Named(&named)).await {
            Ok(found) => found,
            Err(error) => {
                wanted.iter().for_each(|i| outcomes[*i] = Some(Err(again(&error))));
                continue;
            }
        };
        let found: HashMap<_, _> = found.iter().map(|record| (place(record), record)).collect();
        for i in wanted {
            let record = &records[i];
            outcomes[i] = match found.get(&place(record)) {
                Some(found) if rules::same(found, record) => Some(Ok(Insertion::Same(found.state.clone()))),
                Some(found) => Some(Ok(Insertion::Conflict(Box::new((*found).clone())))),
                // It was closed before the look, so that it will not be there later.
                None if closed.contains(&epoch) => Some(Err(StoreError::PartitionClosed(epoch))),
                None => None,
            };
        }
    }
    Ok(())
}

type Sent = Vec<(EpochNumber, i32, Vec<usize>)>;

/// The columns of a group, as arrays.
struct Columns {
    nf: Vec<Vec<u8>>,
    tag: Vec<Vec<u8>>,
    memo: Vec<Vec<u8>>,
    owner: Vec<Vec<u8>>,
    until: Vec<i64>,
    metered: Vec<String>,
    context: Vec<Vec<u8>>,
    charge: Vec<String>,
    change: Vec<Vec<u8>>,
    spend: Vec<Vec<u8>>,
}

fn columns(records: &[Record], group: &[usize]) -> Columns {
    let (nf, tag, memo, owner, until, metered, context, charge, change, spend) = Default::default();
    let mut columns = Columns { nf, tag, memo, owner, until, metered, context, charge, change, spend };
    for record in group.iter().filter_map(|i| records.get(*i)) {
        let (RecordState::Open { lease, metered }, Some(evidence)) = (&record.state, &record.evidence) else {
            continue;
        };
        columns.nf.push(record.key.nullifier.to_bytes().to_vec());
        columns.tag.push(record.key.tag.to_bytes().to_vec());
        columns.memo.push(record.memo.as_bytes().to_vec());
        columns.owner.push(lease.owner.as_bytes().to_vec());
        columns.until.push(seconds(lease.until));
        columns.metered.push(text(*metered));
        columns.context.push(evidence.context.to_bytes().to_vec());
        columns.charge.push(text(evidence.charge));
        columns.change.push(evidence.change.to_bytes().to_vec());
        columns.spend.push(evidence.spend.clone());
    }
    columns
}

/// One statement for all groups. Says which were not there.
async fn send(core: &Arc<Core>, line: &mut Line, records: &[Record], sent: &Sent) -> Result<BTreeSet<Place>, Fault> {
    let (shard, stamp) = (line.shard, random());
    let epochs: Vec<i64> = sent.iter().map(|(epoch, ..)| i64::from(epoch.number())).collect();
    let buckets: Vec<i32> = sent.iter().map(|(_, bucket, _)| *bucket).collect();
    let groups: Vec<Columns> = sent.iter().map(|(.., group)| columns(records, group)).collect();
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&shard, &stamp, &epochs, &buckets];
    for group in &groups {
        let Columns { nf, tag, memo, owner, until, metered, context, charge, change, spend } = group;
        let own: [&(dyn ToSql + Sync); 10] = [nf, tag, memo, owner, until, metered, context, charge, change, spend];
        params.extend_from_slice(&own);
    }
    let sql = statement(sent);
    match line.commit(core, &sql, &params).await? {
        Landed::Rows(rows) => {
            let mut fresh = BTreeSet::new();
            for row in rows {
                let kind: i32 = row.try_get(0).map_err(super::core::undecoded)?;
                if kind == 1 {
                    let epoch = super::core::epoch(row.try_get(1).map_err(super::core::undecoded)?)?;
                    let nf: &[u8] = row.try_get(2).map_err(super::core::undecoded)?;
                    fresh.insert((epoch, super::rows::array(nf).map_err(PostgresError::Damaged)?));
                }
            }
            Ok(fresh)
        }
        Landed::Unseen => stamped(core, sent, &groups, stamp).await,
    }
}

/// What a commit put in whose answer was lost: it has the commit's stamp.
async fn stamped(core: &Arc<Core>, sent: &Sent, groups: &[Columns], stamp: i64) -> Result<BTreeSet<Place>, Fault> {
    let mut fresh = BTreeSet::new();
    for ((epoch, bucket, _), group) in sent.iter().zip(groups) {
        let table = schema::evidence(*epoch, *bucket);
        let sql = format!("SELECT nf FROM {table} WHERE nf = ANY($1) AND stamp = $2");
        let rows = core.read(&sql, &[&group.nf, &stamp]).await.map_err(|fault| match fault {
            Fault::NoTable => Fault::Other(PostgresError::Doubt("the evidence is erased".into())),
            fault => fault,
        })?;
        for row in rows {
            let nf: &[u8] = row.try_get(0).map_err(super::core::undecoded)?;
            fresh.insert((*epoch, super::rows::array(nf).map_err(PostgresError::Damaged)?));
        }
    }
    Ok(fresh)
}

/// `$5` shard, `$6` stamp, `$7` epochs, `$8` their buckets, then ten arrays for each.
///
/// The rows of the partitions are held (`FOR SHARE`) until the commit. What closes or retires one, or begins another bucket, changes its
/// row and waits for that; and what comes after such a change sees it, as a held row is read anew.
fn statement(sent: &Sent) -> String {
    let mut parts = vec![
        schema::LINE.to_owned(),
        "part AS (SELECT p.epoch FROM halometer_epoch p JOIN unnest($7::bigint[], $8::int[]) AS w (epoch, bucket) ON p.epoch = w.epoch \
         AND p.last_bucket = w.bucket WHERE p.phase = 0 AND p.live FOR SHARE OF p)"
            .to_owned(),
    ];
    let (mut sums, mut fresh) = (Vec::new(), Vec::new());
    for (i, (epoch, bucket, _)) in sent.iter().enumerate() {
        let first = 9 + 10 * i;
        let at = |column: usize| format!("${}", first + column);
        let (spends, evidence) = (schema::spends(*epoch), schema::evidence(*epoch, *bucket));
        parts.push(format!(
            "given{i} AS (SELECT * FROM unnest({}::bytea[], {}::bytea[], {}::bytea[], {}::bytea[], {}::bigint[], {}::text[], \
             {}::bytea[], {}::text[], {}::bytea[], {}::bytea[]) AS g (nf, tag, memo, owner, until, metered, context, charge, change, \
             spend))",
            at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9),
        ));
        parts.push(format!(
            "fresh{i} AS (INSERT INTO {spends} (nf, tag, memo, bucket, owner, until, metered) SELECT g.nf, g.tag, g.memo, {bucket}, \
             g.owner, g.until, g.metered::numeric FROM line, part, given{i} g WHERE part.epoch = {epoch} ORDER BY g.nf \
             ON CONFLICT (nf) DO NOTHING RETURNING nf)"
        ));
        parts.push(format!(
            "evidence{i} AS (INSERT INTO {evidence} (nf, context, charge, change, spend, stamp) SELECT g.nf, g.context, \
             g.charge::numeric, g.change, g.spend, $6::bigint FROM fresh{i} f JOIN given{i} g ON g.nf = f.nf RETURNING nf, charge)"
        ));
        sums.push(format!("SELECT {epoch}::bigint AS epoch, {bucket}::int AS bucket, charge FROM evidence{i}"));
        fresh.push(format!("SELECT 1::int, {epoch}::bigint, nf FROM fresh{i}"));
    }
    parts.push(format!(
        "sums AS (INSERT INTO halometer_sum AS t (epoch, bucket, shard, open, held, settled, cost, refunded, moved_out, moved_in, \
         last_settled) SELECT epoch, bucket, $5::int, count(*), sum(charge), 0, 0, 0, 0, 0, 0 FROM ({}) c GROUP BY epoch, bucket \
         ORDER BY epoch, bucket ON CONFLICT (epoch, bucket, shard) DO UPDATE SET open = t.open + excluded.open, \
         held = t.held + excluded.held)",
        sums.join(" UNION ALL ")
    ));
    format!(
        "WITH {} SELECT 0::int, commits, NULL::bytea FROM line UNION ALL {}",
        parts.join(", "),
        fresh.join(" UNION ALL ")
    )
}
