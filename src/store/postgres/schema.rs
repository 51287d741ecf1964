//! The tables, and how they come to be.
//!
//! | table | what |
//! | --- | --- |
//! | `halometer_meta` | one row: version, gateway, token of this set, why it is stopped |
//! | `halometer_pulse` | one row: what is remembered of the time |
//! | `halometer_member` | a row for each line of commits of each process, and one for its pulse (line -1) |
//! | `halometer_epoch` | a row for each partition: phase, newest bucket |
//! | `halometer_bucket` | a row for each bucket of evidence: 0 there, 1 erased, 2 and its table dropped, 3 gone with its partition |
//! | `halometer_sum` | sums of each bucket, in shards that are added up |
//! | `halometer_spend_E` | the records of epoch E |
//! | `halometer_evidence_E_B` | the evidence of bucket B of epoch E |
//! | `halometer_mint`, `halometer_mint_sum` | mints, and their sums in shards |
//! | `halometer_payment`, `halometer_payment_sum` | payments, and their sums in shards |
//! | `halometer_replica`, `halometer_lease` | processes, leases between them, what their holders published |

use crate::protocol::EpochNumber;

/// The version that this program needs.
pub(super) const VERSION: i32 = 1;

/// What brings a schema from each version to the next, statement by statement. Forward only.
pub(super) const STEPS: [&[&str]; VERSION as usize] = [&[
    "CREATE TABLE IF NOT EXISTS halometer_meta (id int PRIMARY KEY, version int NOT NULL, gateway bytea NOT NULL, \
     token bytea NOT NULL, stopped text)",
    "CREATE TABLE IF NOT EXISTS halometer_pulse (id int PRIMARY KEY, seen bigint NOT NULL, sure bigint NOT NULL, \
     looks bigint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS halometer_member (member bytea NOT NULL, line int NOT NULL, fence bigint NOT NULL, \
     commits bigint NOT NULL, seen bigint NOT NULL, PRIMARY KEY (member, line))",
    "CREATE TABLE IF NOT EXISTS halometer_epoch (epoch bigint PRIMARY KEY, phase int NOT NULL, last_bucket int NOT NULL, \
     live boolean NOT NULL, begun bigint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS halometer_bucket (epoch bigint NOT NULL, bucket int NOT NULL, state int NOT NULL, \
     PRIMARY KEY (epoch, bucket))",
    "CREATE TABLE IF NOT EXISTS halometer_sum (epoch bigint NOT NULL, bucket int NOT NULL, shard int NOT NULL, \
     open bigint NOT NULL, held numeric NOT NULL, settled bigint NOT NULL, cost numeric NOT NULL, refunded numeric NOT NULL, \
     moved_out numeric NOT NULL, moved_in numeric NOT NULL, last_settled bigint NOT NULL, PRIMARY KEY (epoch, bucket, shard))",
    "CREATE TABLE IF NOT EXISTS halometer_mint (payment bytea PRIMARY KEY, account bytea NOT NULL UNIQUE, \
     amount numeric NOT NULL, amounts text, request bytea NOT NULL, response bytea NOT NULL, stamp bigint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS halometer_mint_sum (epoch bigint NOT NULL, shard int NOT NULL, mints bigint NOT NULL, \
     amount numeric NOT NULL, PRIMARY KEY (epoch, shard))",
    "CREATE TABLE IF NOT EXISTS halometer_payment (payment bytea PRIMARY KEY, amount numeric NOT NULL, stamp bigint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS halometer_payment_sum (shard int PRIMARY KEY, amount numeric NOT NULL)",
    "CREATE TABLE IF NOT EXISTS halometer_replica (owner bytea PRIMARY KEY, address text NOT NULL, key bytea NOT NULL, \
     version text NOT NULL, draining boolean NOT NULL, seen bigint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS halometer_lease (name text PRIMARY KEY, owner bytea, term bigint NOT NULL, until bigint NOT NULL, \
     revision bigint NOT NULL, published_by bigint NOT NULL, bytes bytea NOT NULL)",
]];

/// The table of a partition's records.
pub(super) fn spends(epoch: EpochNumber) -> String {
    format!("halometer_spend_{epoch}")
}

/// The table of a bucket of evidence.
pub(super) fn evidence(epoch: EpochNumber, bucket: i32) -> String {
    format!("halometer_evidence_{epoch}_{bucket}")
}

/// What makes a partition's tables.
pub(super) fn create_spends(epoch: EpochNumber) -> [String; 2] {
    let table = spends(epoch);
    [
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (nf bytea PRIMARY KEY, tag bytea NOT NULL, memo bytea NOT NULL, bucket int NOT NULL, \
             owner bytea, until bigint, metered numeric, signed bigint, refund numeric, signature bytea)"
        ),
        // Of the open records alone: what has lapsed is found without a look at what is settled.
        format!("CREATE INDEX IF NOT EXISTS {table}_open ON {table} (until) WHERE signature IS NULL"),
    ]
}

/// What makes a bucket's table. The stamp tells which commit put a row there: what a doubt is resolved by.
pub(super) fn create_evidence(epoch: EpochNumber, bucket: i32) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (nf bytea PRIMARY KEY, context bytea NOT NULL, charge numeric NOT NULL, change bytea NOT NULL, \
         spend bytea NOT NULL, stamp bigint NOT NULL)",
        evidence(epoch, bucket)
    )
}

/// The first part of each statement that changes something: one more commit of this line, if the line is still this process's. The
/// rest of the statement hangs on it.
pub(super) const LINE: &str = "line AS (UPDATE halometer_member SET commits = $3::bigint WHERE member = $1::bytea AND line = $2::int \
                               AND fence = $4::bigint AND commits = $3::bigint - 1 RETURNING commits)";

/// How many shards sums have.
pub(super) const SHARDS: i32 = 32;
