//! Records out of rows.

use std::sync::Arc;

use halometer_circuits::note::{ContextHash, Nullifier, ValueCommitment};
use halometer_circuits::schnorr::Signature;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::core::{Core, View, undecoded};
use super::error::{Fault, PostgresError, said};
use super::schema;
use crate::protocol::codec::Reader;
use crate::protocol::{Credits, EpochNumber, Memo, OwnerId, Settlement, SpendTag, Timestamp};
use crate::store::{Lease, PartitionPhase, Record, RecordEvidence, RecordKey, RecordState, StoreError};

/// Which records of a partition.
pub(super) enum Which<'a> {
    /// Those of these nullifiers.
    Named(&'a [Vec<u8>]),
    /// So many from behind a nullifier on, in their order.
    Behind(&'a [u8], i64),
}

/// How often a table is looked for that another process drops or makes.
const TRIES: usize = 8;

impl Core {
    /// What is known of a partition that is not retired.
    pub(super) async fn live(&self, epoch: EpochNumber) -> Result<View, StoreError> {
        let known = self.views().get(&epoch).cloned();
        let view = match known {
            Some(view) => view,
            None => self.look().await?.get(&epoch).cloned().ok_or(StoreError::PartitionMissing(epoch))?,
        };
        match view.phase {
            PartitionPhase::Retired => Err(StoreError::PartitionRetired(epoch)),
            _ => Ok(view),
        }
    }

    /// Reads records with their evidence, and how far their partition is, all at one instant.
    pub(super) async fn records(
        self: &Arc<Self>,
        epoch: EpochNumber,
        which: &Which<'_>,
    ) -> Result<Vec<Record>, StoreError> {
        for _ in 0..TRIES {
            let view = self.live(epoch).await?;
            let sql = select(epoch, &view, which);
            let number = i64::from(epoch.number());
            let params: Vec<&(dyn ToSql + Sync)> = match which {
                Which::Named(named) => vec![&number, named],
                Which::Behind(behind, limit) => vec![&number, behind, limit],
            };
            let rows = match self.read(&sql, &params).await {
                Ok(rows) => rows,
                Err(Fault::NoTable) => {
                    self.look().await?;
                    continue;
                }
                Err(fault) => return Err(fault.into()),
            };
            let Some(first) = rows.first() else { return Err(StoreError::PartitionMissing(epoch)) };
            if get::<i32>(first, 0)? == 2 {
                self.look().await?;
                return Err(StoreError::PartitionRetired(epoch));
            }
            if get::<i32>(first, 1)? > view.last_bucket {
                self.look().await?;
                continue;
            }
            let named = rows.iter().filter(|row| !matches!(row.try_get::<_, Option<&[u8]>>(2), Ok(None)));
            return named.map(|row| record(epoch, &view, row)).collect();
        }
        Err(StoreError::Corrupt { epoch, what: "a table of it is missing".into() })
    }
}

fn select(epoch: EpochNumber, view: &View, which: &Which<'_>) -> String {
    let table = schema::spends(epoch);
    let spends = match which {
        Which::Named(_) => format!("SELECT * FROM {table} WHERE nf = ANY($2)"),
        Which::Behind(..) => format!("SELECT * FROM {table} WHERE nf > $2 ORDER BY nf LIMIT $3"),
    };
    let evidence = view.buckets.iter().map(|bucket| {
        let table = schema::evidence(epoch, *bucket);
        format!("SELECT {bucket}::int AS bucket, nf, context, charge, change, spend FROM {table}")
    });
    let evidence: Vec<_> = evidence.collect();
    let evidence = match evidence.is_empty() {
        true => "SELECT 0::int AS bucket, ''::bytea AS nf, ''::bytea AS context, 0::numeric AS charge, ''::bytea AS change, \
                 ''::bytea AS spend WHERE false"
            .to_owned(),
        false => evidence.join(" UNION ALL "),
    };
    format!(
        "SELECT p.phase, p.last_bucket, r.* FROM halometer_epoch p LEFT JOIN (SELECT s.nf, s.tag, s.memo, s.bucket, s.owner, \
         s.until, s.metered::text AS metered, s.signed, s.refund::text AS refund, s.signature, e.context, e.charge::text AS charge, \
         e.change, e.spend FROM ({spends}) s LEFT JOIN ({evidence}) e ON e.nf = s.nf AND e.bucket = s.bucket) r ON true \
         WHERE p.epoch = $1 ORDER BY r.nf"
    )
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, PostgresError> {
    row.try_get(at).map_err(undecoded)
}

fn record(epoch: EpochNumber, view: &View, row: &Row) -> Result<Record, StoreError> {
    read_record(epoch, view, row).map_err(|what| StoreError::Corrupt { epoch, what })
}

fn read_record(epoch: EpochNumber, view: &View, row: &Row) -> Result<Record, String> {
    fn get<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, String> {
        row.try_get(at).map_err(|error| said(&error))
    }
    let amount = |at| get::<Option<&str>>(row, at)?.map(credits).transpose();
    let nullifier = nullifier(get(row, 2)?)?;
    let tag = SpendTag::from_bytes(array(get(row, 3)?)?);
    let memo = Memo::from_bytes(array(get(row, 4)?)?);
    let bucket: i32 = get(row, 5)?;
    let (owner, until): (Option<&[u8]>, Option<i64>) = (get(row, 6)?, get(row, 7)?);
    let (signed, signature): (Option<i64>, Option<&[u8]>) = (get(row, 9)?, get(row, 11)?);
    let state = match (owner, until, amount(8)?, signed, amount(10)?, signature) {
        (Some(owner), Some(until), Some(metered), None, None, None) => {
            let lease = Lease { owner: OwnerId::from_bytes(array(owner)?), until: time(until)? };
            RecordState::Open { lease, metered }
        }
        (None, None, None, Some(signed), Some(refund), Some(signature)) => {
            let epoch = EpochNumber::new(u32::try_from(signed).map_err(|_| "an epoch is none")?);
            RecordState::Settled(Settlement { epoch, refund, signature: canonical(signature, Signature::from_bytes)? })
        }
        _ => return Err("a record is neither open nor settled".into()),
    };
    let evidence = match (get::<Option<&[u8]>>(row, 12)?, amount(13)?, get(row, 14)?, get::<Option<&[u8]>>(row, 15)?) {
        (Some(context), Some(charge), Some(change), Some(spend)) => Some(RecordEvidence {
            context: canonical(context, ContextHash::from_bytes)?,
            charge,
            change: canonical(change, ValueCommitment::from_bytes)?,
            spend: spend.to_vec(),
        }),
        _ if view.buckets.contains(&bucket) => return Err("evidence is missing".into()),
        _ if matches!(state, RecordState::Open { .. }) => return Err("an open record has no evidence".into()),
        _ => None,
    };
    Ok(Record { key: RecordKey { epoch, nullifier, tag }, memo, evidence, state })
}

/// A nullifier out of a row.
pub(super) fn nullifier(bytes: &[u8]) -> Result<Nullifier, String> {
    canonical(bytes, Nullifier::from_bytes)
}

/// What is written in one way only.
pub(super) fn canonical<const N: usize, T>(
    bytes: &[u8],
    read: impl FnOnce(&[u8; N]) -> subtle::CtOption<T>,
) -> Result<T, String> {
    let mut reader = Reader::exact(bytes, N).map_err(|error| error.to_string())?;
    reader.canonical("value", read).map_err(|error| error.to_string())
}

/// Bytes of a known length.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("a value has {} bytes instead of {N}", bytes.len()))
}

/// An amount out of a number without fraction.
pub(super) fn credits(text: &str) -> Result<Credits, String> {
    text.parse().map(Credits::from_micro).map_err(|_| format!("an amount is {text}"))
}

/// A sum, which may need more than 64 bits.
pub(super) fn sum(text: &str) -> Result<u128, PostgresError> {
    text.parse().map_err(|_| PostgresError::Damaged(format!("a sum is {text}")))
}

/// An instant out of a row.
pub(super) fn time(seconds: i64) -> Result<Timestamp, String> {
    u64::try_from(seconds).map(Timestamp::from_seconds).map_err(|_| format!("an instant is {seconds}"))
}

/// An instant for a row; the last instants are one.
pub(super) fn seconds(at: Timestamp) -> i64 {
    i64::try_from(at.seconds()).unwrap_or(i64::MAX)
}

/// An amount for a row.
pub(super) fn text(amount: Credits) -> String {
    amount.micro().to_string()
}

/// The same error once more, for another that waits for the same.
pub(super) fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::PartitionMissing(epoch) => StoreError::PartitionMissing(*epoch),
        StoreError::PartitionRetired(epoch) => StoreError::PartitionRetired(*epoch),
        StoreError::PartitionClosed(epoch) => StoreError::PartitionClosed(*epoch),
        StoreError::Corrupt { epoch, what } => StoreError::Corrupt { epoch: *epoch, what: what.clone() },
        StoreError::Failed(error) => match error.downcast_ref::<PostgresError>() {
            Some(error) => error.clone().into(),
            None => StoreError::Failed(error.to_string().into()),
        },
        error => StoreError::Failed(error.to_string().into()),
    }
}
