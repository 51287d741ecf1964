//! The audit: the books, proved from the records.

use std::collections::BTreeSet;

use halometer_circuits::proof::VerifyingKey;

use super::{Books, BooksError, PaymentSource};
use crate::protocol::{Credits, Directory, EpochNumber, Purpose, Spend, SpendTag};
use crate::store::{
    MintBook, MintTotals, PartitionPhase, Record, RecordState, SpentSet, StoreError, Totals, add_settled,
};

/// How many records are read at once.
const PAGE: usize = 1_000;
/// How many findings are described; more are only counted.
const DESCRIBED: usize = 100;

/// What to audit. Nothing may be writing meanwhile, or what is being written shows up as a finding.
#[derive(Clone, Copy)]
pub struct Audit<'a> {
    /// The issuer's directory, for the keys of the epochs.
    pub directory: &'a Directory,
    /// The spent set.
    pub set: &'a dyn SpentSet,
    /// The book of mints.
    pub mints: &'a dyn MintBook,
    /// Where payments are known, if they still are: each mint is then held against its payment.
    pub payments: Option<&'a dyn PaymentSource>,
    /// Whether to verify the proofs of all spends whose evidence is kept, about 3 ms each.
    pub proofs: bool,
}

impl core::fmt::Debug for Audit<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Audit").field("proofs", &self.proofs).finish_non_exhaustive()
    }
}

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct AuditReport {
    /// The books.
    pub books: Books,
    /// Number of records that were read.
    pub records: u64,
    /// Of them, those whose evidence is there, so that everything about them was checked.
    pub with_evidence: u64,
    /// Of those, the ones signed under an epoch that the directory does not have any more: their signatures were not checked.
    pub unknown_epoch: u64,
    /// Number of proofs that were verified.
    pub proofs: u64,
    /// Number of mints that were read.
    pub mints: u64,
    /// How many things are wrong.
    pub wrong: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
}

/// Something that is wrong. No record is named: a list of nullifiers would outlive the records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// Of a record.
    Record {
        /// The epoch of its partition.
        epoch: EpochNumber,
        /// Its number in the partition, in the order of nullifiers, from 0.
        number: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The sums of a partition are not those of its records.
    Totals {
        /// The epoch.
        epoch: EpochNumber,
        /// Which of the sums.
        what: &'static str,
    },
    /// Transfers took another amount than they gave, over all partitions together: one half of one is missing.
    Transfers {
        /// What they gave, micro-credits.
        given: u128,
        /// What they took, micro-credits.
        taken: u128,
    },
    /// Of the mints.
    Mints {
        /// What is wrong.
        what: &'static str,
    },
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Record { epoch, number, what } => write!(f, "epoch {epoch}, record {number}: {what}"),
            Self::Totals { epoch, what } => write!(f, "epoch {epoch}: {what} are not those of the records"),
            Self::Transfers { given, taken } => write!(f, "transfers gave {given} and took {taken}"),
            Self::Mints { what } => write!(f, "mints: {what}"),
        }
    }
}

impl AuditReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.wrong == 0
    }

    fn find(&mut self, finding: Finding) {
        self.wrong += 1;
        if self.findings.len() < DESCRIBED {
            self.findings.push(finding);
        }
    }
}

impl Audit<'_> {
    /// Reads every record and every mint, checks each by itself (its bytes, its context, its charge, the signature of its
    /// change), adds them up, and holds the sums against those that the stores keep.
    ///
    /// # Errors
    /// [`BooksError`]: the stores failed, or do not even balance by their own sums.
    pub fn run(&self) -> Result<AuditReport, BooksError> {
        let mut report = AuditReport { books: Books::draw_up(self.set, self.mints)?, ..AuditReport::default() };
        for (epoch, phase) in self.set.partitions()? {
            if phase != PartitionPhase::Retired {
                self.partition(epoch, &mut report)?;
            }
        }
        // Of retired partitions, too: their sums are kept.
        let lines = report.books.epochs.values().map(|line| &line.spends);
        let (given, taken) = lines.fold((0_u128, 0_u128), |(given, taken), sums| {
            (given.saturating_add(sums.moved_out), taken.saturating_add(sums.moved_in))
        });
        if given != taken {
            report.find(Finding::Transfers { given, taken });
        }
        self.mints(&mut report)?;
        Ok(report)
    }

    fn partition(&self, epoch: EpochNumber, report: &mut AuditReport) -> Result<(), StoreError> {
        let key = self.directory.epoch(epoch).filter(|_| self.proofs).map(|entry| VerifyingKey::build(&entry.key));
        let (mut open, mut kept, mut bare, mut refunds) = (Totals::default(), Totals::default(), 0_u64, 0_u128);
        let (mut after, mut number) = (None, 0);
        loop {
            let page = self.set.scan(epoch, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.nullifier);
            for record in &page {
                report.records += 1;
                if let RecordState::Settled(settlement) = &record.state {
                    refunds += u128::from(settlement.refund.micro());
                }
                let sums = match (&record.evidence, &record.state) {
                    (Some(evidence), RecordState::Open { .. }) => {
                        open.open += 1;
                        open.held += u128::from(evidence.charge.micro());
                        Ok(())
                    }
                    (Some(evidence), RecordState::Settled(settlement)) => add_settled(&mut kept, evidence, settlement),
                    (None, RecordState::Settled(_)) => {
                        bare += 1;
                        Ok(())
                    }
                    (None, RecordState::Open { .. }) => Err(StoreError::BadRecord("")),
                };
                let what = match sums {
                    Ok(()) if record.key.epoch != epoch => Some("it is of another epoch"),
                    Ok(()) => self.check(record, key.as_ref(), report).err(),
                    Err(_) => Some("it is neither open with its evidence nor settled within its charge"),
                };
                if let Some(what) = what {
                    report.find(Finding::Record { epoch, number, what });
                }
                number += 1;
            }
        }
        let (totals, erased) = (self.set.totals(epoch)?, self.set.erased_totals(epoch)?);
        let expected = kept.checked_add(&erased).and_then(|sum| sum.checked_add(&open)).unwrap_or_default();
        let sums = [
            (
                "the numbers of open and settled records",
                (expected.open, expected.settled) == (totals.open, totals.settled),
            ),
            ("the number of erased records", bare == erased.settled),
            ("the held charges", expected.held == totals.held),
            ("the costs", expected.cost == totals.cost),
            (
                "the refunds",
                expected.refunded == totals.refunded && Some(refunds) == totals.refunded.checked_add(totals.moved_in),
            ),
            ("the transfers", (expected.moved_out, expected.moved_in) == (totals.moved_out, totals.moved_in)),
        ];
        for (what, holds) in sums {
            if !holds {
                report.find(Finding::Totals { epoch, what });
            }
        }
        Ok(())
    }

    /// Everything about one record whose evidence is there.
    fn check(&self, record: &Record, key: Option<&VerifyingKey>, report: &mut AuditReport) -> Result<(), &'static str> {
        let Some(evidence) = &record.evidence else { return Ok(()) };
        report.with_evidence += 1;
        let spend = Spend::from_bytes(&evidence.spend).map_err(|_| "its spend cannot be read")?;
        let same = spend.epoch == record.key.epoch
            && spend.nullifier == record.key.nullifier
            && (spend.charge, spend.change, spend.memo) == (evidence.charge, evidence.change, record.memo);
        if !same || record.key.tag != SpendTag::of(&evidence.context, &spend.session) {
            return Err("its spend is another one");
        }
        if let Some(entry) = self.directory.epoch(spend.epoch) {
            let x = spend.context(&self.directory.issuer(), entry).hash().ok_or("its context hash is zero")?;
            if x != evidence.context {
                return Err("its context is another one");
            }
            if let Some(key) = key {
                key.verify(&spend.public(x), &spend.proof).map_err(|_| "its proof does not hold")?;
                report.proofs += 1;
            }
        }
        let RecordState::Settled(settlement) = &record.state else { return Ok(()) };
        let transfer = matches!(spend.purpose, Purpose::Transfer { .. });
        if !transfer && settlement.refund > evidence.charge {
            return Err("its refund is above its charge");
        }
        let half = [Credits::ZERO, evidence.charge].contains(&settlement.refund) || evidence.charge.is_zero();
        if transfer && !half {
            return Err("it is half a transfer, and neither carried out nor cancelled");
        }
        match self.directory.epoch(settlement.epoch) {
            None => report.unknown_epoch += 1,
            Some(entry) => {
                let leaf = evidence.change.leaf(settlement.refund.micro());
                if !entry.key.verify(&leaf, &settlement.signature) {
                    return Err("its settlement is not signed by the key of its epoch");
                }
            }
        }
        Ok(())
    }

    fn mints(&self, report: &mut AuditReport) -> Result<(), StoreError> {
        let (mut totals, mut accounts, mut after) = (MintTotals::default(), BTreeSet::new(), None);
        loop {
            let page = self.mints.scan(after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.payment);
            for mint in &page {
                totals.add(mint);
                if !accounts.insert(mint.account.to_bytes()) {
                    report.find(Finding::Mints { what: "two have one account" });
                }
                let Some(payments) = self.payments else { continue };
                match payments.paid(&mint.payment).map_err(|error| StoreError::Failed(error.into()))? {
                    Some(paid) if paid == mint.amount => {}
                    Some(_) => report.find(Finding::Mints { what: "one is of another amount than its payment" }),
                    None => report.find(Finding::Mints { what: "one has no payment" }),
                }
            }
        }
        report.mints = totals.mints;
        if totals != self.mints.totals()? {
            report.find(Finding::Mints { what: "their sums are not those of the records" });
        }
        Ok(())
    }
}
