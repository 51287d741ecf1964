//! Mints and payments.

use std::sync::Arc;

use halometer_circuits::note::AccountId;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::PostgresStore;
use super::core::{Core, undecoded};
use super::error::{Fault, PostgresError};
use super::line::{Landed, Line, random};
use super::rows::{array, canonical, credits, sum, text};
use super::schema;
use crate::protocol::{Credits, Digest, EpochNumber, LANES, MintResponse, PaymentId};
use crate::store::{MintBook, MintOutcome, MintRecord, MintTotals, PaymentBook, PaymentOutcome, StoreError};

/// The book of mints in a [`PostgresStore`].
#[derive(Clone, Debug)]
pub struct PostgresMintBook(pub(super) PostgresStore);

/// The book of payments in a [`PostgresStore`].
#[derive(Clone, Debug)]
pub struct PostgresPaymentBook(pub(super) PostgresStore);

const MINT: &str = "payment, account, amount::text, amounts, request, response";
const TRIES: usize = 8;

fn mint(row: &Row) -> Result<MintRecord, StoreError> {
    fn get<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, String> {
        row.try_get(at).map_err(|error| error.to_string())
    }
    let read = || -> Result<MintRecord, String> {
        let amounts = get::<Option<&str>>(row, 3)?.map(|text| {
            let amounts: Result<Vec<_>, _> = text.split(' ').map(credits).collect();
            <[Credits; LANES]>::try_from(amounts?).map_err(|_| "a mint has another number of lanes".to_owned())
        });
        Ok(MintRecord {
            payment: PaymentId::from_bytes(array(get(row, 0)?)?),
            account: canonical(get(row, 1)?, AccountId::from_bytes)?,
            amount: credits(get(row, 2)?)?,
            amounts: amounts.transpose()?,
            request: Digest::from_bytes(array(get(row, 4)?)?),
            response: MintResponse::from_bytes(get(row, 5)?).map_err(|error| error.to_string())?,
        })
    };
    Ok(read().map_err(PostgresError::Damaged)?)
}

async fn mints(core: &Core, condition: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<MintRecord>, StoreError> {
    let rows = core.read(&format!("SELECT {MINT} FROM halometer_mint {condition}"), params).await?;
    rows.iter().map(mint).collect()
}

async fn record_mint(core: &Arc<Core>, line: &mut Line, record: MintRecord) -> Result<MintOutcome, StoreError> {
    let (payment, account) = (record.payment.as_bytes().to_vec(), record.account.to_bytes().to_vec());
    let (amount, request) = (text(record.amount), record.request.as_bytes().to_vec());
    let amounts = record.amounts.map(|amounts| amounts.map(text).join(" "));
    let (response, epoch) = (record.response.to_bytes(), i64::from(record.response.epoch.number()));
    let (shard, stamp) = (line.shard, random());
    // Either key may be there: nothing is inserted then.
    let sql = format!(
        "WITH {}, fresh AS (INSERT INTO halometer_mint (payment, account, amount, amounts, request, response, stamp) SELECT $5::bytea, \
         $6::bytea, $7::text::numeric, $8::text, $9::bytea, $10::bytea, $11::bigint FROM line ON CONFLICT DO NOTHING \
         RETURNING amount), sums AS (INSERT INTO halometer_mint_sum AS t (epoch, shard, mints, amount) SELECT $12::bigint, $13::int, 1, \
         amount FROM fresh ON CONFLICT (epoch, shard) DO UPDATE SET mints = t.mints + 1, amount = t.amount + excluded.amount) \
         SELECT 0::int FROM line UNION ALL SELECT 1 FROM fresh",
        schema::LINE
    );
    let params: [&(dyn ToSql + Sync); 9] =
        [&payment, &account, &amount, &amounts, &request, &response, &stamp, &epoch, &shard];
    for _ in 0..TRIES {
        match line.commit(core, &sql, &params).await {
            Ok(Landed::Rows(rows)) if rows.len() > 1 => return Ok(MintOutcome::Fresh),
            Ok(Landed::Rows(_)) | Err(Fault::Unique) => {}
            Ok(Landed::Unseen) => {
                let sql = "SELECT 1 FROM halometer_mint WHERE payment = $1 AND stamp = $2";
                if !core.read(sql, &[&payment, &stamp]).await?.is_empty() {
                    return Ok(MintOutcome::Fresh);
                }
            }
            Err(fault) => return Err(fault.into()),
        }
        if let Some(known) = mints(core, "WHERE payment = $1", &[&payment]).await?.pop() {
            return Ok(MintOutcome::Known(Box::new(known)));
        }
        if !core.read("SELECT 1 FROM halometer_mint WHERE account = $1", &[&account]).await?.is_empty() {
            return Ok(MintOutcome::AccountKnown);
        }
    }
    Err(PostgresError::Conflicts(TRIES as u32).into())
}

impl MintBook for PostgresMintBook {
    fn record(&self, mint: MintRecord) -> Result<MintOutcome, StoreError> {
        self.0.change(async move |core, line| record_mint(core, line, mint).await)
    }

    fn by_payment(&self, payment: &PaymentId) -> Result<Option<MintRecord>, StoreError> {
        let payment = payment.as_bytes().to_vec();
        self.0.ask(async move |core| Ok(mints(core, "WHERE payment = $1", &[&payment]).await?.pop()))
    }

    fn by_account(&self, account: &AccountId) -> Result<Option<MintRecord>, StoreError> {
        let account = account.to_bytes().to_vec();
        self.0.ask(async move |core| Ok(mints(core, "WHERE account = $1", &[&account]).await?.pop()))
    }

    fn totals(&self) -> Result<MintTotals, StoreError> {
        self.0.ask(async move |core| {
            let sql = "SELECT epoch, sum(mints)::bigint, sum(amount)::text FROM halometer_mint_sum GROUP BY epoch";
            let mut totals = MintTotals::default();
            for row in core.read(sql, &[]).await? {
                let epoch: EpochNumber = super::core::epoch(row.try_get(0).map_err(undecoded)?)?;
                let mints: i64 = row.try_get(1).map_err(undecoded)?;
                totals.mints += u64::try_from(mints).unwrap_or_default();
                totals.by_epoch.insert(epoch, sum(row.try_get(2).map_err(undecoded)?)?);
            }
            Ok(totals)
        })
    }

    fn scan(&self, after: Option<&PaymentId>, limit: usize) -> Result<Vec<MintRecord>, StoreError> {
        let after = after.map_or(Vec::new(), |after| after.as_bytes().to_vec());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0
            .ask(async move |core| mints(core, "WHERE payment > $1 ORDER BY payment LIMIT $2", &[&after, &limit]).await)
    }
}

async fn record_payment(
    core: &Arc<Core>,
    line: &mut Line,
    payment: PaymentId,
    amount: Credits,
) -> Result<PaymentOutcome, StoreError> {
    let (payment, amount) = (payment.as_bytes().to_vec(), text(amount));
    let (shard, stamp) = (line.shard, random());
    let sql = format!(
        "WITH {}, fresh AS (INSERT INTO halometer_payment (payment, amount, stamp) SELECT $5::bytea, $6::text::numeric, $7::bigint \
         FROM line ON CONFLICT (payment) DO NOTHING RETURNING amount), sums AS (INSERT INTO halometer_payment_sum AS t (shard, amount) \
         SELECT $8::int, amount FROM fresh ON CONFLICT (shard) DO UPDATE SET amount = t.amount + excluded.amount) \
         SELECT 0::int FROM line UNION ALL SELECT 1 FROM fresh",
        schema::LINE
    );
    for _ in 0..TRIES {
        match line.commit(core, &sql, &[&payment, &amount, &stamp, &shard]).await? {
            Landed::Rows(rows) if rows.len() > 1 => return Ok(PaymentOutcome::Fresh),
            Landed::Rows(_) => {}
            Landed::Unseen => {
                let sql = "SELECT 1 FROM halometer_payment WHERE payment = $1 AND stamp = $2";
                if !core.read(sql, &[&payment, &stamp]).await?.is_empty() {
                    return Ok(PaymentOutcome::Fresh);
                }
            }
        }
        if let Some(known) = paid(core, &payment).await? {
            return Ok(PaymentOutcome::Known(known));
        }
    }
    Err(PostgresError::Conflicts(TRIES as u32).into())
}

async fn paid(core: &Core, payment: &Vec<u8>) -> Result<Option<Credits>, StoreError> {
    let rows = core.read("SELECT amount::text FROM halometer_payment WHERE payment = $1", &[payment]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(credits(row.try_get(0).map_err(undecoded)?).map_err(PostgresError::Damaged)?))
}

impl PaymentBook for PostgresPaymentBook {
    fn record(&self, payment: PaymentId, amount: Credits) -> Result<PaymentOutcome, StoreError> {
        self.0.change(async move |core, line| record_payment(core, line, payment, amount).await)
    }

    fn paid(&self, payment: &PaymentId) -> Result<Option<Credits>, StoreError> {
        let payment = payment.as_bytes().to_vec();
        self.0.ask(async move |core| paid(core, &payment).await)
    }

    fn total(&self) -> Result<u128, StoreError> {
        self.0.ask(async move |core| {
            let sql = "SELECT coalesce(sum(amount), 0)::text FROM halometer_payment_sum";
            let rows = core.read(sql, &[]).await?;
            let row = rows.first().ok_or_else(|| PostgresError::Damaged("nothing is read".into()))?;
            Ok(sum(row.try_get(0).map_err(undecoded)?)?)
        })
    }
}
