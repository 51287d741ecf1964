//! From the store of one machine into a database.
//!
//! While a copy is under way, and after one that was cut short, no gateway opens the new store. When all is there and compared, the old
//! one gets a tombstone that names the new one, and then the new one is opened to gateways: never both.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::error::{PostgresError, said};
use super::open::{check_gateway, connect, meta};
use super::options::PostgresOptions;
use super::promise::Demands;
use super::rows::{seconds, text};
use super::{PostgresStore, schema};
use crate::protocol::{EpochNumber, PaymentId};
use crate::store::durable::DurableStore;
use crate::store::{
    MintBook as _, PartitionPhase, PaymentBook as _, Record, RecordState, SpentSet as _, StoreError, Totals,
};

/// How many records go into one statement.
const PAGE: usize = 500;
const UNDER_WAY: &str = "a copy into it is under way, or was cut short: make the schema anew and copy again";

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// Partitions, retired ones too.
    pub partitions: u64,
    /// Records.
    pub records: u64,
    /// Of them, those that were read back and compared.
    pub compared: u64,
    /// Mints.
    pub mints: u64,
    /// Payments.
    pub payments: u64,
}

/// Why a store was not copied. The old one is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The database.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The old store, or what was written of it, cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is something in the new store already.
    #[error("the new store is not empty: copy into a new schema")]
    NotEmpty,
    /// What was written is not what was read.
    #[error("the copy is not as the store: {0}")]
    Differs(String),
}

impl PostgresStore {
    /// Copies a store into a database that has the schema and nothing else, compares counts, sums and samples, and then writes the old
    /// one's tombstone. Drop it after that: it is not opened again.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn copy(from: &DurableStore, options: &PostgresOptions) -> Result<CopyReport, CopyError> {
        let (store, target) = (from.clone(), options.clone());
        let thread = |error: std::io::Error| PostgresError::Thread(error.to_string());
        let copying = std::thread::Builder::new().name("halometer-copy".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread)?;
            runtime.block_on(copy(&store, &target))
        });
        let panicked = |_| Err(PostgresError::Thread("it panicked".into()).into());
        let mut report = copying.map_err(thread)?.join().unwrap_or_else(panicked)?;
        let copied = Self::open_with(&options.clone().with_mark(None), from.gateway(), Some(UNDER_WAY))?;
        compare(from, &copied, &mut report)?;
        drop(copied);
        from.retire_for(&format!("PostgreSQL at {}", options.hosts()))?;
        let (target, gateway) = (options.clone(), from.gateway());
        let opening = std::thread::Builder::new().name("halometer-copy".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread)?;
            runtime.block_on(async {
                let client = connect(&target).await?;
                let found = meta(&client).await?.ok_or(PostgresError::NoSchema)?;
                check_gateway(&found, gateway)?;
                let sql = "UPDATE halometer_meta SET stopped = NULL WHERE id = 1 AND stopped = $1";
                run(&client, sql, &[&UNDER_WAY]).await.map(drop)
            })
        });
        opening.map_err(thread)?.join().unwrap_or_else(|_| Err(PostgresError::Thread("it panicked".into())))?;
        Ok(report)
    }
}

async fn run(client: &Client, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, PostgresError> {
    client.execute(sql, params).await.map_err(|error| PostgresError::Refused(said(&error)))
}

async fn copy(from: &DurableStore, options: &PostgresOptions) -> Result<CopyReport, CopyError> {
    let client = connect(options).await?;
    Demands::of(options).prepare(&client).await?;
    let found = meta(&client).await?.ok_or(PostgresError::NoSchema)?;
    check_gateway(&found, from.gateway())?;
    let sql = "UPDATE halometer_meta SET stopped = $1 WHERE id = 1 AND stopped IS NULL AND NOT EXISTS (SELECT 1 FROM halometer_epoch) \
               AND NOT EXISTS (SELECT 1 FROM halometer_mint) AND NOT EXISTS (SELECT 1 FROM halometer_payment) \
               AND NOT EXISTS (SELECT 1 FROM halometer_member)";
    if run(&client, sql, &[&UNDER_WAY]).await? == 0 {
        return Err(CopyError::NotEmpty);
    }
    let mut report = CopyReport::default();
    for partition in from.export_partitions()? {
        report.partitions += 1;
        let epoch = partition.epoch;
        let number = i64::from(epoch.number());
        let phase = match partition.phase {
            PartitionPhase::Open => 0,
            PartitionPhase::Closing => 1,
            PartitionPhase::Retired => 2,
        };
        let last = i32::try_from(partition.last_bucket).map_err(|_| CopyError::Differs("a bucket's number".into()))?;
        let mut rest = partition.totals;
        // What is erased has lost its bucket: 0 stands for all of that.
        put_sums(&client, number, 0, &partition.erased, 0).await?;
        put_bucket(&client, number, 0, 2).await?;
        take(&mut rest, &partition.erased)?;
        if partition.phase == PartitionPhase::Retired {
            put_sums(&client, number, -1, &rest, 0).await?;
            put_bucket(&client, number, -1, 3).await?;
        } else {
            for sql in schema::create_spends(epoch) {
                run(&client, &sql, &[]).await?;
            }
            for bucket in &partition.buckets {
                run(&client, &schema::create_evidence(epoch, bucket.id as i32), &[]).await?;
            }
            let mut open: BTreeMap<u32, Totals> = BTreeMap::new();
            let mut after = None;
            loop {
                let page = from.export_records(epoch, after, PAGE)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.key.nullifier.to_bytes());
                for (record, bucket) in &page {
                    if let (RecordState::Open { .. }, Some(evidence)) = (&record.state, &record.evidence) {
                        open.entry(*bucket).or_default().admit(evidence.charge);
                    }
                }
                report.records += page.len() as u64;
                put_records(&client, epoch, &page).await?;
            }
            for bucket in &partition.buckets {
                let id = bucket.id as i32;
                let open = open.remove(&bucket.id).unwrap_or_default();
                let sums = open.checked_add(&bucket.totals).ok_or_else(|| CopyError::Differs("its sums".into()))?;
                put_sums(&client, number, id, &sums, seconds(bucket.last_settled)).await?;
                put_bucket(&client, number, id, 0).await?;
            }
        }
        let sql = "INSERT INTO halometer_epoch (epoch, phase, last_bucket, live, begun) VALUES ($1, $2, $3, false, 0)";
        run(&client, sql, &[&number, &phase, &last]).await?;
    }
    put_books(from, &client, &mut report).await?;
    if let Some(pulse) = from.spent_set().pulse()? {
        let sql = "INSERT INTO halometer_pulse (id, seen, sure, looks) VALUES (1, $1, $2, 1)";
        run(&client, sql, &[&seconds(pulse.seen()), &seconds(pulse.sure())]).await?;
    }
    Ok(report)
}

fn take(rest: &mut Totals, part: &Totals) -> Result<(), CopyError> {
    let less = |from: u128, what: u128| from.checked_sub(what).ok_or_else(|| CopyError::Differs("its sums".into()));
    rest.settled = rest.settled.checked_sub(part.settled).ok_or_else(|| CopyError::Differs("its sums".into()))?;
    rest.cost = less(rest.cost, part.cost)?;
    rest.refunded = less(rest.refunded, part.refunded)?;
    rest.moved_out = less(rest.moved_out, part.moved_out)?;
    rest.moved_in = less(rest.moved_in, part.moved_in)?;
    Ok(())
}

async fn put_bucket(client: &Client, epoch: i64, bucket: i32, state: i32) -> Result<(), PostgresError> {
    let sql = "INSERT INTO halometer_bucket (epoch, bucket, state) VALUES ($1, $2, $3)";
    run(client, sql, &[&epoch, &bucket, &state]).await.map(drop)
}

async fn put_sums(
    client: &Client,
    epoch: i64,
    bucket: i32,
    sums: &Totals,
    last_settled: i64,
) -> Result<(), PostgresError> {
    let sql = "INSERT INTO halometer_sum (epoch, bucket, shard, open, held, settled, cost, refunded, moved_out, moved_in, last_settled) \
               VALUES ($1, $2, 0, $3, $4::text::numeric, $5, $6::text::numeric, $7::text::numeric, $8::text::numeric, \
               $9::text::numeric, $10)";
    let count = |count: u64| i64::try_from(count).map_err(|_| PostgresError::Damaged("a count is too large".into()));
    let (open, settled) = (count(sums.open)?, count(sums.settled)?);
    let amounts = [sums.held, sums.cost, sums.refunded, sums.moved_out, sums.moved_in].map(|sum| sum.to_string());
    let [held, cost, refunded, out, into] = &amounts;
    let params: [&(dyn ToSql + Sync); 10] =
        [&epoch, &bucket, &open, held, &settled, cost, refunded, out, into, &last_settled];
    run(client, sql, &params).await.map(drop)
}

async fn put_records(client: &Client, epoch: EpochNumber, page: &[(Record, u32)]) -> Result<(), PostgresError> {
    let (mut nf, mut tag, mut memo) = (Vec::new(), Vec::new(), Vec::new());
    let mut buckets: Vec<i32> = Vec::new();
    let (mut owner, mut until, mut metered) = (Vec::<Option<Vec<u8>>>::new(), Vec::new(), Vec::new());
    let (mut signed, mut refund, mut signature) = (Vec::new(), Vec::new(), Vec::<Option<Vec<u8>>>::new());
    for (record, bucket) in page {
        nf.push(record.key.nullifier.to_bytes().to_vec());
        tag.push(record.key.tag.to_bytes().to_vec());
        memo.push(record.memo.as_bytes().to_vec());
        buckets.push(*bucket as i32);
        let (mut lease, mut settled) = (None, None);
        match &record.state {
            RecordState::Open { lease: held, metered } => lease = Some((held, *metered)),
            RecordState::Settled(settlement) => settled = Some(settlement),
        }
        owner.push(lease.map(|(lease, _)| lease.owner.as_bytes().to_vec()));
        until.push(lease.map(|(lease, _)| seconds(lease.until)));
        metered.push(lease.map(|(_, metered)| text(metered)));
        signed.push(settled.map(|settlement| i64::from(settlement.epoch.number())));
        refund.push(settled.map(|settlement| text(settlement.refund)));
        signature.push(settled.map(|settlement| settlement.signature.to_bytes().to_vec()));
    }
    let sql = format!(
        "INSERT INTO {} (nf, tag, memo, bucket, owner, until, metered, signed, refund, signature) SELECT nf, tag, memo, bucket, owner, \
         until, metered::numeric, signed, refund::numeric, signature FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::int[], \
         $5::bytea[], $6::bigint[], $7::text[], $8::bigint[], $9::text[], $10::bytea[]) AS g (nf, tag, memo, bucket, owner, until, \
         metered, signed, refund, signature)",
        schema::spends(epoch)
    );
    let params: [&(dyn ToSql + Sync); 10] =
        [&nf, &tag, &memo, &buckets, &owner, &until, &metered, &signed, &refund, &signature];
    run(client, &sql, &params).await?;
    let mut by_bucket: BTreeMap<u32, Vec<&Record>> = BTreeMap::new();
    for (record, bucket) in page.iter().filter(|(record, _)| record.evidence.is_some()) {
        by_bucket.entry(*bucket).or_default().push(record);
    }
    for (bucket, records) in by_bucket {
        let (mut nf, mut context, mut charge) = (Vec::new(), Vec::new(), Vec::new());
        let (mut change, mut spend) = (Vec::new(), Vec::new());
        for record in records {
            let Some(evidence) = &record.evidence else { continue };
            nf.push(record.key.nullifier.to_bytes().to_vec());
            context.push(evidence.context.to_bytes().to_vec());
            charge.push(text(evidence.charge));
            change.push(evidence.change.to_bytes().to_vec());
            spend.push(evidence.spend.clone());
        }
        let sql = format!(
            "INSERT INTO {} (nf, context, charge, change, spend, stamp) SELECT nf, context, charge::numeric, change, spend, 0 FROM \
             unnest($1::bytea[], $2::bytea[], $3::text[], $4::bytea[], $5::bytea[]) AS g (nf, context, charge, change, spend)",
            schema::evidence(epoch, bucket as i32)
        );
        run(client, &sql, &[&nf, &context, &charge, &change, &spend]).await?;
    }
    Ok(())
}

async fn put_books(from: &DurableStore, client: &Client, report: &mut CopyReport) -> Result<(), CopyError> {
    let book = from.mint_book();
    let mut after = None;
    let mut counts: BTreeMap<EpochNumber, i64> = BTreeMap::new();
    loop {
        let page = book.scan(after.as_ref(), PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.payment);
        for mint in page {
            let amounts = mint.amounts.map(|amounts| amounts.map(text).join(" "));
            let sql = "INSERT INTO halometer_mint (payment, account, amount, amounts, request, response, stamp) \
                       VALUES ($1, $2, $3::text::numeric, $4, $5, $6, 0)";
            let (payment, account) = (mint.payment.as_bytes().to_vec(), mint.account.to_bytes().to_vec());
            let (amount, request) = (text(mint.amount), mint.request.as_bytes().to_vec());
            run(client, sql, &[&payment, &account, &amount, &amounts, &request, &mint.response.to_bytes()]).await?;
            *counts.entry(mint.response.epoch).or_default() += 1;
            report.mints += 1;
        }
    }
    for (epoch, sum) in book.totals()?.by_epoch {
        let sql = "INSERT INTO halometer_mint_sum (epoch, shard, mints, amount) VALUES ($1, 0, $2, $3::text::numeric)";
        let count = counts.get(&epoch).copied().unwrap_or_default();
        run(client, sql, &[&i64::from(epoch.number()), &count, &sum.to_string()]).await?;
    }
    let mut after: Option<PaymentId> = None;
    loop {
        let page = from.export_payments(after.as_ref(), PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        let payments: Vec<Vec<u8>> = page.iter().map(|(payment, _)| payment.as_bytes().to_vec()).collect();
        let amounts: Vec<String> = page.iter().map(|(_, amount)| text(*amount)).collect();
        let sql = "INSERT INTO halometer_payment (payment, amount, stamp) SELECT payment, amount::numeric, 0 FROM \
                   unnest($1::bytea[], $2::text[]) AS g (payment, amount)";
        run(client, sql, &[&payments, &amounts]).await?;
        report.payments += page.len() as u64;
    }
    let sql = "INSERT INTO halometer_payment_sum (shard, amount) VALUES (0, $1::text::numeric)";
    run(client, sql, &[&from.payment_book().total()?.to_string()]).await?;
    Ok(())
}

/// Counts, sums and samples.
fn compare(from: &DurableStore, to: &PostgresStore, report: &mut CopyReport) -> Result<(), CopyError> {
    let differs = |what: &str| CopyError::Differs(what.to_owned());
    let (old, new) = (from.spent_set(), to.spent_set());
    let partitions = old.partitions()?;
    if new.partitions()? != partitions {
        return Err(differs("its partitions"));
    }
    if new.pulse()? != old.pulse()? {
        return Err(differs("its time"));
    }
    for (epoch, phase) in partitions {
        if new.totals(epoch)? != old.totals(epoch)? || new.erased_totals(epoch)? != old.erased_totals(epoch)? {
            return Err(differs(&format!("the sums of epoch {epoch}")));
        }
        if phase == PartitionPhase::Retired {
            continue;
        }
        // Pages from all over the partition: nullifiers are as good as drawn.
        for start in 0..16_u8 {
            let mut bytes = [0; 32];
            bytes[0] = start << 4;
            let after = halometer_circuits::note::Nullifier::from_bytes(&bytes).into_option().filter(|_| start > 0);
            let (one, other) = (old.scan(epoch, after.as_ref(), 64)?, new.scan(epoch, after.as_ref(), 64)?);
            if one != other {
                return Err(differs(&format!("records of epoch {epoch}")));
            }
            report.compared += one.len() as u64;
        }
    }
    if to.mint_book().totals()? != from.mint_book().totals()? {
        return Err(differs("the sums of its mints"));
    }
    if to.mint_book().scan(None, 200)? != from.mint_book().scan(None, 200)? {
        return Err(differs("its mints"));
    }
    if to.payment_book().total()? != from.payment_book().total()? {
        return Err(differs("the sum of its payments"));
    }
    let check = to.check()?;
    if check.records != report.records || check.mints != report.mints {
        return Err(differs("how much is in it"));
    }
    check.findings.first().map_or(Ok(()), |finding| Err(differs(finding)))
}
