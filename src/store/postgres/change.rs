//! Changes to open records: settling and metering. What waits at one moment is one statement.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio_postgres::types::ToSql;

use super::core::{Core, epoch as epoch_of, lock, undecoded};
use super::error::{Fault, PostgresError};
use super::line::{Landed, Line};
use super::meters::Meters;
use super::rows::{Which, again, array, seconds, text};
use super::schema;
use crate::protocol::{Credits, EpochNumber, OwnerId, Settlement, Timestamp};
use crate::store::{Lease, Record, RecordKey, RecordState, StoreError, rules};

/// How often a change is tried anew because others changed its record meanwhile.
const TRIES: usize = 12;

/// What is asked of a record.
pub(super) enum What {
    /// To settle it so.
    Settle(Settlement),
    /// To write down what it was metered at.
    Meter(Credits),
}

/// A change that a caller waits for. It is answered with the settlement that is stored, if there is one.
pub(super) struct Change {
    pub(super) key: RecordKey,
    pub(super) owner: OwnerId,
    pub(super) now: Timestamp,
    pub(super) what: What,
    pub(super) reply: SyncSender<Result<Option<Settlement>, StoreError>>,
}

/// What comes of a look at the record.
enum Decision {
    Answer(Result<Option<Settlement>, StoreError>),
    /// It may be sent.
    Send(Credits),
}

impl Change {
    fn place(&self) -> (EpochNumber, [u8; 32]) {
        (self.key.epoch, self.key.nullifier.to_bytes())
    }

    fn decide(&self, found: Option<&Record>) -> Decision {
        let judge = || -> Result<Decision, StoreError> {
            let found = found.filter(|found| found.key == self.key).ok_or(StoreError::NoRecord)?;
            let (lease, metered) = match &found.state {
                RecordState::Settled(settlement) => return Ok(Decision::Answer(Ok(Some(settlement.clone())))),
                RecordState::Open { lease, metered } => (lease, *metered),
            };
            rules::may_change(lease, self.owner, self.now)?;
            let charge = found.evidence.as_ref().map_or(Credits::ZERO, |evidence| evidence.charge);
            match &self.what {
                What::Settle(settlement) => drop(rules::cost(charge, settlement.refund)?),
                What::Meter(amount) if rules::metered(metered, *amount, charge)? == metered => {
                    return Ok(Decision::Answer(Ok(None)));
                }
                What::Meter(_) => {}
            }
            Ok(Decision::Send(charge))
        };
        judge().unwrap_or_else(|error| Decision::Answer(Err(error)))
    }

    /// Whether it may be sent without a look at the record.
    fn fits(&self, charge: Credits) -> bool {
        match &self.what {
            What::Settle(settlement) => settlement.refund <= charge,
            What::Meter(amount) => *amount <= charge,
        }
    }
}

/// Carries out changes of one kind.
pub(super) async fn run(core: &Arc<Core>, line: &mut Line, changes: Vec<Change>, settles: bool) {
    Meters::count(&core.meters.batches, 1);
    Meters::count(&core.meters.batched, changes.len());
    // The charge of those that may be sent.
    let mut waiting: Vec<(Change, Option<Credits>)> = changes
        .into_iter()
        .map(|change| {
            let charge = lock(&core.charges).find(&change.key).filter(|charge| change.fits(*charge));
            (change, charge)
        })
        .collect();
    for _ in 0..TRIES {
        waiting = look_up(core, waiting).await;
        if waiting.is_empty() {
            return;
        }
        let sent = match send(core, line, &waiting, settles).await {
            Ok(done) => done,
            Err(Fault::NoTable) => match core.look().await {
                Ok(_) => BTreeSet::new(),
                Err(fault) => return refuse(waiting, &fault.into()),
            },
            Err(fault) => return refuse(waiting, &fault.into()),
        };
        let mut left = Vec::new();
        for (i, (change, _)) in waiting.into_iter().enumerate() {
            if !sent.contains(&i) {
                left.push((change, None));
                continue;
            }
            let answer = match &change.what {
                What::Settle(settlement) => {
                    lock(&core.charges).remove(&change.key);
                    Some(settlement.clone())
                }
                What::Meter(_) => None,
            };
            let _ = change.reply.send(Ok(answer));
        }
        waiting = left;
        if waiting.is_empty() {
            return;
        }
    }
    refuse(waiting, &PostgresError::Conflicts(TRIES as u32));
}

fn refuse(waiting: Vec<(Change, Option<Credits>)>, error: &PostgresError) {
    for (change, _) in waiting {
        let _ = change.reply.send(Err(error.clone().into()));
    }
}

/// Reads the records of those whose charge is not known, and answers those that are decided by that.
async fn look_up(core: &Arc<Core>, waiting: Vec<(Change, Option<Credits>)>) -> Vec<(Change, Option<Credits>)> {
    let mut wanted: BTreeMap<EpochNumber, Vec<Vec<u8>>> = BTreeMap::new();
    for (change, _) in waiting.iter().filter(|(_, charge)| charge.is_none()) {
        wanted.entry(change.key.epoch).or_default().push(change.key.nullifier.to_bytes().to_vec());
    }
    let (mut found, mut failed) = (HashMap::new(), BTreeMap::new());
    for (epoch, named) in &wanted {
        match core.records(*epoch, &Which::Named(named)).await {
            Ok(records) => {
                found.extend(records.into_iter().map(|record| ((*epoch, record.key.nullifier.to_bytes()), record)));
            }
            Err(error) => {
                failed.insert(*epoch, error);
            }
        }
    }
    let mut left = Vec::new();
    for (change, charge) in waiting {
        if charge.is_some() {
            left.push((change, charge));
            continue;
        }
        let decision = match failed.get(&change.key.epoch) {
            Some(error) => Decision::Answer(Err(again(error))),
            None => change.decide(found.get(&change.place())),
        };
        match decision {
            Decision::Answer(answer) => drop(change.reply.send(answer)),
            Decision::Send(charge) => left.push((change, Some(charge))),
        }
    }
    left
}

/// Sends what may be sent, the first of each record. Says which were done; the others need a look.
async fn send(
    core: &Arc<Core>,
    line: &mut Line,
    waiting: &[(Change, Option<Credits>)],
    settles: bool,
) -> Result<BTreeSet<usize>, Fault> {
    let mut groups: BTreeMap<EpochNumber, Vec<usize>> = BTreeMap::new();
    let mut places = HashMap::new();
    for (i, (change, _)) in waiting.iter().enumerate() {
        if let Entry::Vacant(place) = places.entry(change.place()) {
            place.insert(i);
            groups.entry(change.key.epoch).or_default().push(i);
        }
    }
    let shard = line.shard;
    let epochs: Vec<i64> = groups.keys().map(|epoch| i64::from(epoch.number())).collect();
    let columns: Vec<Columns> = groups.values().map(|group| columns(waiting, group)).collect();
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&shard, &epochs];
    for group in &columns {
        let Columns { nf, tag, owner, now, amount, charge, signed, signature } = group;
        let own: [&(dyn ToSql + Sync); 8] = [nf, tag, owner, now, amount, charge, signed, signature];
        params.extend_from_slice(&own);
    }
    let epochs: Vec<EpochNumber> = groups.keys().copied().collect();
    let sql = if settles { settle_statement(&epochs) } else { meter_statement(&epochs) };
    let Landed::Rows(rows) = line.commit(core, &sql, &params).await? else {
        // All of it is read by its keys.
        return Ok(BTreeSet::new());
    };
    let mut done = BTreeSet::new();
    for row in rows {
        if row.try_get::<_, i32>(0).map_err(undecoded)? == 1 {
            let epoch = epoch_of(row.try_get(1).map_err(undecoded)?)?;
            let nf = array(row.try_get(2).map_err(undecoded)?).map_err(PostgresError::Damaged)?;
            done.extend(places.get(&(epoch, nf)).copied());
        }
    }
    Ok(done)
}

struct Columns {
    nf: Vec<Vec<u8>>,
    tag: Vec<Vec<u8>>,
    owner: Vec<Vec<u8>>,
    now: Vec<i64>,
    amount: Vec<String>,
    charge: Vec<String>,
    signed: Vec<i64>,
    signature: Vec<Vec<u8>>,
}

fn columns(waiting: &[(Change, Option<Credits>)], group: &[usize]) -> Columns {
    let (nf, tag, owner, now, amount, charge, signed, signature) = Default::default();
    let mut columns = Columns { nf, tag, owner, now, amount, charge, signed, signature };
    let mut sorted = group.to_vec();
    sorted.sort_by_key(|i| waiting[*i].0.key.nullifier.to_bytes());
    for (change, charge) in sorted.into_iter().map(|i| &waiting[i]) {
        columns.nf.push(change.key.nullifier.to_bytes().to_vec());
        columns.tag.push(change.key.tag.to_bytes().to_vec());
        columns.owner.push(change.owner.as_bytes().to_vec());
        columns.now.push(seconds(change.now));
        columns.charge.push(text(charge.unwrap_or(Credits::ZERO)));
        let (amount, signed, signature) = match &change.what {
            What::Settle(settlement) => {
                let signed = i64::from(settlement.epoch.number());
                (settlement.refund, signed, settlement.signature.to_bytes().to_vec())
            }
            What::Meter(amount) => (*amount, 0, Vec::new()),
        };
        columns.amount.push(text(amount));
        columns.signed.push(signed);
        columns.signature.push(signature);
    }
    columns
}

/// `$5` shard, `$6` epochs, then eight arrays for each. The partitions' rows are held as for insertions.
fn begin(epochs: &[EpochNumber]) -> Vec<String> {
    let mut parts = vec![
        schema::LINE.to_owned(),
        "part AS (SELECT p.epoch FROM halometer_epoch p WHERE p.epoch = ANY($6::bigint[]) AND p.phase < 2 FOR SHARE OF p)".to_owned(),
    ];
    for i in 0..epochs.len() {
        let at = |column: usize| format!("${}", 7 + 8 * i + column);
        parts.push(format!(
            "given{i} AS (SELECT * FROM unnest({}::bytea[], {}::bytea[], {}::bytea[], {}::bigint[], {}::text[], {}::text[], \
             {}::bigint[], {}::bytea[]) AS g (nf, tag, owner, at, amount, charge, signed, signature))",
            at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7),
        ));
    }
    parts
}

fn end(parts: &[String], epochs: &[EpochNumber]) -> String {
    let done = epochs.iter().enumerate().map(|(i, epoch)| format!("SELECT 1::int, {epoch}::bigint, nf FROM done{i}"));
    let done: Vec<_> = done.collect();
    format!(
        "WITH {} SELECT 0::int, commits, NULL::bytea FROM line UNION ALL {}",
        parts.join(", "),
        done.join(" UNION ALL ")
    )
}

/// A record of this very spend that is open, and is the caller's or nobody's any more.
fn mine(i: usize, epoch: EpochNumber) -> String {
    format!(
        "FROM line, part, given{i} g WHERE part.epoch = {epoch} AND s.nf = g.nf AND s.tag = g.tag AND s.signature IS NULL \
         AND (s.owner = g.owner OR s.until <= g.at)"
    )
}

fn settle_statement(epochs: &[EpochNumber]) -> String {
    let mut parts = begin(epochs);
    let mut sums = Vec::new();
    for (i, epoch) in epochs.iter().enumerate() {
        parts.push(format!(
            "done{i} AS (UPDATE {} AS s SET owner = NULL, until = NULL, metered = NULL, signed = g.signed, \
             refund = g.amount::numeric, signature = g.signature {} RETURNING s.nf, s.bucket, g.charge::numeric AS charge, \
             s.refund AS refund, g.at AS at)",
            schema::spends(*epoch),
            mine(i, *epoch),
        ));
        sums.push(format!("SELECT {epoch}::bigint AS epoch, bucket, charge, refund, at FROM done{i}"));
    }
    // By a clock that was set back evidence would be over too early.
    parts.push(format!(
        "sums AS (INSERT INTO halometer_sum AS t (epoch, bucket, shard, open, held, settled, cost, refunded, moved_out, moved_in, \
         last_settled) SELECT epoch, bucket, $5::int, -count(*), -sum(charge), count(*), sum(charge - refund), sum(refund), 0, 0, \
         greatest(max(at), (SELECT seen FROM halometer_pulse WHERE id = 1)) FROM ({}) c GROUP BY epoch, bucket ORDER BY epoch, bucket \
         ON CONFLICT (epoch, bucket, shard) DO UPDATE SET open = t.open + excluded.open, held = t.held + excluded.held, \
         settled = t.settled + excluded.settled, cost = t.cost + excluded.cost, refunded = t.refunded + excluded.refunded, \
         last_settled = greatest(t.last_settled, excluded.last_settled))",
        sums.join(" UNION ALL ")
    ));
    end(&parts, epochs)
}

fn meter_statement(epochs: &[EpochNumber]) -> String {
    let mut parts = begin(epochs);
    // Both statements have the same parameters; here no sum changes.
    parts.push("shard AS (SELECT $5::int)".into());
    for (i, epoch) in epochs.iter().enumerate() {
        parts.push(format!(
            "done{i} AS (UPDATE {} AS s SET metered = greatest(s.metered, g.amount::numeric) {} RETURNING s.nf)",
            schema::spends(*epoch),
            mine(i, *epoch),
        ));
    }
    end(&parts, epochs)
}

/// Takes an open record over.
pub(super) async fn take_over(
    core: &Arc<Core>,
    line: &mut Line,
    key: &RecordKey,
    lease: Lease,
    now: Timestamp,
) -> Result<Record, StoreError> {
    super::insert::check_time(lease.until)?;
    let named = [key.nullifier.to_bytes().to_vec()];
    for _ in 0..TRIES {
        let found = core.records(key.epoch, &Which::Named(&named)).await?.pop();
        let mut found = found.filter(|found| found.key == *key).ok_or(StoreError::NoRecord)?;
        let RecordState::Open { lease: held, metered } = &found.state else { return Ok(found) };
        rules::may_change(held, lease.owner, now)?;
        if *held == lease {
            return Ok(found);
        }
        let epoch = key.epoch;
        let sql = format!(
            "WITH {}, part AS (SELECT p.epoch FROM halometer_epoch p WHERE p.epoch = {epoch} AND p.phase < 2 FOR SHARE OF p), \
             done AS (UPDATE {} AS s SET owner = $5::bytea, until = $6::bigint FROM line, part WHERE s.nf = $7::bytea AND s.tag = \
             $8::bytea AND s.signature IS NULL AND s.owner = $9::bytea AND s.until = $10::bigint RETURNING s.metered::text) \
             SELECT 0::int, NULL::text FROM line UNION ALL SELECT 1::int, metered FROM done",
            schema::LINE,
            schema::spends(epoch),
        );
        let (owner, until) = (lease.owner.as_bytes().to_vec(), seconds(lease.until));
        let (held_by, held_until) = (held.owner.as_bytes().to_vec(), seconds(held.until));
        let tag = key.tag.to_bytes().to_vec();
        let params: [&(dyn ToSql + Sync); 6] = [&owner, &until, &named[0], &tag, &held_by, &held_until];
        match line.commit(core, &sql, &params).await {
            Ok(Landed::Rows(rows)) => {
                for row in rows {
                    if row.try_get::<_, i32>(0).map_err(undecoded)? == 1 {
                        let now_metered: String = row.try_get(1).map_err(undecoded)?;
                        let metered = super::rows::credits(&now_metered).unwrap_or(*metered);
                        found.state = RecordState::Open { lease, metered };
                        return Ok(found);
                    }
                }
            }
            // Read what became of it.
            Ok(Landed::Unseen) => {}
            Err(Fault::NoTable) => drop(core.look().await?),
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(PostgresError::Conflicts(TRIES as u32).into())
}
