//! What an operator does with a store over PostgreSQL: look at it, and check it.

use std::collections::BTreeMap;

use super::PostgresStore;
use super::core::undecoded;
use super::error::PostgresError;
use super::schema;
use crate::protocol::EpochNumber;
use crate::store::{
    MintBook as _, PartitionPhase, PartitionStats, RecordState, SpentSet as _, StoreError, Totals, rules,
};

/// What is in a store over PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresStats {
    /// The partitions, by epoch.
    pub partitions: Vec<PartitionStats>,
    /// Number of mints.
    pub mints: u64,
    /// Number of lines of commits, and how many commits they made.
    pub lines: u64,
    /// Commits of all lines together.
    pub commits: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresCheck {
    /// Records that were read.
    pub records: u64,
    /// Mints that were read.
    pub mints: u64,
    /// What is wrong; empty for a store that is in order.
    pub findings: Vec<String>,
}

impl PostgresStore {
    /// What is in the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stats(&self) -> Result<PostgresStats, StoreError> {
        let set = self.spent_set();
        let mut partitions = Vec::new();
        for (epoch, phase) in set.partitions()? {
            let (totals, erased) = (set.totals(epoch)?, set.erased_totals(epoch)?.settled);
            let (buckets, record_bytes, evidence_bytes) = self.sizes(epoch)?;
            partitions.push(PartitionStats { epoch, phase, totals, erased, buckets, record_bytes, evidence_bytes });
        }
        let mints = self.mint_book().totals()?.mints;
        let (lines, commits) = self.ask(async move |core| {
            let sql = "SELECT count(*), coalesce(sum(commits), 0)::bigint FROM halometer_member WHERE line >= 0";
            let rows = core.read(sql, &[]).await?;
            let row = rows.first().ok_or_else(|| PostgresError::Damaged("nothing is read".into()))?;
            let number = |at| row.try_get::<_, i64>(at).map_err(undecoded);
            Ok((number(0)?.unsigned_abs(), number(1)?.unsigned_abs()))
        })?;
        Ok(PostgresStats { partitions, mints, lines, commits })
    }

    fn sizes(&self, epoch: EpochNumber) -> Result<(usize, u64, u64), StoreError> {
        self.ask(async move |core| {
            let views = core.look().await?;
            let Some(view) = views.get(&epoch).filter(|view| view.phase != PartitionPhase::Retired) else {
                return Ok((0, 0, 0));
            };
            let bytes = async |table: String| {
                let sql = "SELECT coalesce(pg_total_relation_size(to_regclass($1::text)), 0)";
                // Not every engine tells.
                let rows = core.read(sql, &[&table]).await.unwrap_or_default();
                rows.first().and_then(|row| row.try_get::<_, i64>(0).ok()).unwrap_or_default().unsigned_abs()
            };
            let mut evidence = 0;
            for bucket in &view.buckets {
                evidence += bytes(schema::evidence(epoch, *bucket)).await;
            }
            Ok((view.buckets.len(), bytes(schema::spends(epoch)).await, evidence))
        })
    }

    /// Reads everything, and holds what is there against the sums. While gateways run, sums may be ahead of what was read: check again.
    ///
    /// # Errors
    /// [`StoreError`], when something cannot be read at all. What is damaged is a finding.
    pub fn check(&self) -> Result<PostgresCheck, StoreError> {
        let mut check = PostgresCheck::default();
        let set = self.spent_set();
        for (epoch, phase) in set.partitions()? {
            if phase == PartitionPhase::Retired {
                continue;
            }
            if let Err(error) = self.check_partition(epoch, &mut check) {
                match error {
                    StoreError::Corrupt { .. } => check.findings.push(error.to_string()),
                    error => return Err(error),
                }
            }
        }
        let book = self.mint_book();
        let (mut after, mut by_epoch) = (None, BTreeMap::new());
        loop {
            let page = book.scan(after.as_ref(), 1_000)?;
            let Some(last) = page.last() else { break };
            after = Some(last.payment);
            for mint in &page {
                check.mints += 1;
                *by_epoch.entry(mint.response.epoch).or_insert(0_u128) += u128::from(mint.amount.micro());
            }
        }
        let totals = book.totals()?;
        if totals.by_epoch != by_epoch || totals.mints != check.mints {
            check.findings.push("the sums of the mints are not those of what is there".into());
        }
        Ok(check)
    }

    fn check_partition(&self, epoch: EpochNumber, check: &mut PostgresCheck) -> Result<(), StoreError> {
        let set = self.spent_set();
        let mut found = Totals::default();
        let (mut after, mut erased) = (None, 0_u64);
        loop {
            let page = set.scan(epoch, after.as_ref(), 500)?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.nullifier);
            for record in &page {
                check.records += 1;
                match (&record.state, &record.evidence) {
                    (RecordState::Open { .. }, Some(evidence)) => found.admit(evidence.charge),
                    (RecordState::Settled(settlement), Some(evidence)) => {
                        rules::add_settled(&mut found, evidence, settlement)?;
                    }
                    (RecordState::Settled(_), None) => erased += 1,
                    (RecordState::Open { .. }, None) => {
                        check.findings.push(format!("epoch {epoch}: an open record has no evidence"))
                    }
                }
            }
        }
        let (totals, gone) = (set.totals(epoch)?, set.erased_totals(epoch)?);
        if gone.settled != erased {
            check
                .findings
                .push(format!("epoch {epoch}: {erased} records are erased, and its sums say {}", gone.settled));
        }
        if found.checked_add(&gone) != Some(totals) {
            check.findings.push(format!("epoch {epoch}: its sums are not those of its records"));
        }
        Ok(())
    }
}
