//! Whether a store is what was written.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::inventory::Inventory;
use super::open::Purpose;
use super::place::{self, Files};
use super::shadow::Shadow;
use super::spent_set::whole;
use super::{DurableStore, OpenError, StoreOptions, open};
use crate::protocol::{EpochNumber, GatewayId, PaymentId};
use crate::store::{MintBook as _, RecordState, SpentSet as _, StoreError};

/// What a check read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// The gateway whose set it is; none if the store does not open.
    pub gateway: Option<GatewayId>,
    /// Whether the store opens. It may be damaged all the same: a damaged partition is not served, others are.
    pub opens: bool,
    /// What can be known of whether the store was set back.
    pub mark: MarkStanding,
    /// Number of records.
    pub records: u64,
    /// Number of them whose evidence was opened.
    pub evidence: u64,
    /// Number of mints.
    pub mints: u64,
    /// What is wrong, with the epoch of the partition where it is in one, and with the file where it is in one.
    pub damage: Vec<(Option<EpochNumber>, String)>,
}

/// What the mark tells of whether a store was set back to an earlier state, where spent notes are spendable again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MarkStanding {
    /// There was no mark to hold the store against: it may have been set back, and nothing here tells.
    #[default]
    None,
    /// The mark is in the store's own directory: files of the store were not set back alone. Whether the directory was, with the mark,
    /// is not known.
    Inside,
    /// The mark is kept apart. The store was not set back, unless the mark was, too.
    Apart,
    /// It is a backup, which is of an earlier time by its nature.
    Backup,
}

impl core::fmt::Display for MarkStanding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::None => {
                "not known: whether the store was set back to an earlier state, where spent notes can be spent again; there is no mark to \
                 hold it against: name it with --mark"
            }
            Self::Inside => {
                "not known: whether the whole directory was set back to an earlier state, where spent notes can be spent again; the mark is \
                 inside, and would have gone back with it"
            }
            Self::Apart => "the store is as far as its mark",
            Self::Backup => "this is a backup, of an earlier time",
        })
    }
}

impl DurableStore {
    /// Checks the store in a directory and changes nothing there, not one byte: each file is what was written, the store opens, and
    /// all is well that [`check`](Self::check) looks at. What this calls sound opens; what does not open this calls damaged. Nobody
    /// may have the store open. It needs room for its journals, at most 256 MB, in the system's temporary directory.
    ///
    /// If the options name no mark, it is looked for beside the directory and then inside; the report says what that leaves open.
    ///
    /// # Errors
    /// [`OpenError::Missing`], [`OpenError::Locked`], [`OpenError::Failed`]. All else is in the report.
    pub fn check_at(path: impl AsRef<Path>, options: &StoreOptions) -> Result<CheckReport, OpenError> {
        let path = path.as_ref();
        let database = path.join("db");
        if !database.exists() && !path.join("evidence.keys").exists() {
            return Err(OpenError::Missing(path.to_owned()));
        }
        let _lock = lock_to_look(path)?;
        let (mark, standing) = mark_to_check(path, options);
        let refused = |damage: (PathBuf, String)| CheckReport {
            mark: standing,
            damage: vec![(None, in_file(&damage.0, &damage.1))],
            ..CheckReport::default()
        };
        let inventory = match open::take_inventory(&database) {
            Ok(inventory) => inventory,
            Err(OpenError::Damaged { path, what }) => return Ok(refused((path, what))),
            Err(error) => return Err(error),
        };
        let mut report = match Self::look(path, mark.as_deref(), options) {
            Ok(report) => report,
            Err(OpenError::Failed(error)) => return Err(OpenError::Failed(error)),
            Err(OpenError::Damaged { path, what }) => refused((path, what)),
            Err(error) => CheckReport { damage: vec![(None, error.to_string())], ..CheckReport::default() },
        };
        report.mark = if report.mark == MarkStanding::Backup { MarkStanding::Backup } else { standing };
        report.add_flaws(&inventory, path).map_err(open::failed)?;
        Ok(report)
    }

    /// Opens a shadow of the store and checks that.
    fn look(path: &Path, mark: Option<&Path>, options: &StoreOptions) -> Result<CheckReport, OpenError> {
        let shadow = Shadow::of_store(path).map_err(open::failed)?;
        let files = Files {
            store: shadow.path().to_owned(),
            database: shadow.path().join("db"),
            mark: shadow.path().join("mark"),
            keys: path.join("evidence.keys"),
        };
        if let Some(mark) = mark {
            std::fs::copy(mark, &files.mark).map_err(|error| match error.kind() {
                ErrorKind::NotFound => OpenError::Damaged { path: mark.to_owned(), what: "it is missing".to_owned() },
                _ => open::failed(error),
            })?;
        }
        let opened = Self::open_files(&files, options, Purpose::Look { marked: mark.is_some() });
        let store = opened.map_err(|error| match error {
            OpenError::Damaged { path: found, what } => {
                let mark = mark.filter(|_| found == files.mark).map(Path::to_owned);
                OpenError::Damaged { path: mark.unwrap_or_else(|| shadow.real(&found, path)), what }
            }
            other => other,
        })?;
        let mut report = store.check().map_err(open::failed)?;
        (report.opens, report.gateway) = (true, Some(store.gateway()));
        if store.0.is_backup {
            report.mark = MarkStanding::Backup;
        }
        // Where it names files, it is those of the shadow.
        let (theirs, ours) = (shadow.path().display().to_string(), path.display().to_string());
        report.damage.iter_mut().for_each(|(_, what)| *what = what.replace(&theirs, &ours));
        Ok(report)
    }

    /// Reads everything of an open store: each record and its evidence is what was written, the index of open records names all that are open,
    /// the sums are those of the records. Of what the records say, [`Audit`](crate::issuer::Audit) checks more. Nothing may be
    /// writing meanwhile.
    ///
    /// # Errors
    /// [`StoreError`], when the store cannot be read at all. What is damaged is in the report.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        report.damage.extend(self.damage().into_iter().map(|(epoch, what)| (Some(epoch), what)));
        let views = self.views()?;
        for (epoch, view) in views.iter() {
            let Some(records) = &view.records else { continue };
            let (mut open, mut settled) = (0, 0);
            for entry in records.range(..) {
                let record = entry.map_err(|error| error.to_string()).and_then(|(key, value)| {
                    let nf = key.try_into().map_err(|_| "a nullifier has another length".to_owned())?;
                    whole(view, *epoch, &nf, &value).map_err(|error| error.to_string())
                });
                match record {
                    Ok(record) => {
                        report.records += 1;
                        report.evidence += u64::from(record.evidence.is_some());
                        match record.state {
                            RecordState::Open { .. } => open += 1,
                            RecordState::Settled(_) => settled += 1,
                        }
                    }
                    Err(what) => report.damage.push((Some(*epoch), what)),
                }
            }
            let totals = self.spent_set().totals(*epoch)?;
            if (totals.open, totals.settled) != (open, settled) {
                let what = format!(
                    "{open} records are open and {settled} settled, and should be {} and {}",
                    totals.open, totals.settled
                );
                report.damage.push((Some(*epoch), what));
            }
            let epoch = *epoch;
            let indexed = self.transact(move |transaction| Ok(transaction.live(epoch)?.0.open.len() as u64))?;
            if indexed != open {
                report.damage.push((Some(epoch), format!("{indexed} of {open} open records are in their index")));
            }
        }
        let mut after = None;
        let mints = self.mint_book();
        loop {
            match mints.scan(after.as_ref(), 1_000) {
                Ok(page) => {
                    let Some(last) = page.last() else { break };
                    after = Some(last.payment);
                    report.mints += page.len() as u64;
                    for mint in page {
                        match mints.by_account(&mint.account) {
                            Ok(Some(found)) if found.payment == mint.payment => {}
                            Ok(_) => report.damage.push((None, "mints: an account does not lead to its mint".into())),
                            Err(error) => report.damage.push((None, format!("mints: {error}"))),
                        }
                    }
                }
                Err(error) => {
                    report.damage.push((None, format!("mints: {error}")));
                    break;
                }
            }
        }
        for entry in self.0.tables.payments.range(..) {
            match entry {
                Ok((key, value)) if key.len() == PaymentId::LENGTH && value.len() == 8 => {}
                Ok(_) => report.damage.push((None, "payments: one is of no kind".into())),
                Err(error) => report.damage.push((None, format!("payments: {error}"))),
            }
        }
        Ok(report)
    }
}

impl CheckReport {
    /// Adds what is wrong with files, each read whole.
    fn add_flaws(&mut self, inventory: &Inventory, path: &Path) -> std::io::Result<()> {
        for flaw in inventory.verify(u64::MAX)? {
            let file = flaw.path.strip_prefix(path).unwrap_or(&flaw.path).display().to_string();
            if !self.damage.iter().any(|(_, what)| what.contains(&file)) {
                self.damage.push((None, in_file(&flaw.path, &flaw.what)));
            }
        }
        Ok(())
    }
}

fn in_file(path: &Path, what: &str) -> String {
    format!("{}: {what}", path.display())
}

/// The lock of a store that nobody has open; none if there is none, as none is made.
fn lock_to_look(path: &Path) -> Result<Option<File>, OpenError> {
    let Ok(file) = File::open(path.join("lock")) else { return Ok(None) };
    open::try_lock(path, &file)?;
    Ok(Some(file))
}

/// The mark to hold a store against.
fn mark_to_check(path: &Path, options: &StoreOptions) -> (Option<PathBuf>, MarkStanding) {
    let (beside, inside) = (place::beside(path), path.join("mark"));
    let standing = |mark: &Path| match place::is_inside(mark, path) {
        true => MarkStanding::Inside,
        false => MarkStanding::Apart,
    };
    match &options.mark {
        Some(mark) => (Some(mark.clone()), standing(mark)),
        None if beside.exists() => (Some(beside), MarkStanding::Apart),
        None if inside.exists() => (Some(inside), MarkStanding::Inside),
        None => (None, MarkStanding::None),
    }
}
