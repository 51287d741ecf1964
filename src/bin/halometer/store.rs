//! `halometer store`: what an operator does with the durable store of a gateway.

mod database;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use halometer::store::durable::{DurableStore, MarkStanding, OpenError, StoreOptions};
use halometer::store::{PartitionPhase, PartitionStats, Totals};

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// The arguments of `halometer store`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with a store. The gateway that uses it has to be stopped, as a store is locked to one process; a database is not.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Action {
    /// Read everything and say what is damaged, and in which partition.
    ///
    /// Nothing is changed. The exit code is 0 if nothing is damaged, 1 if something is, and 2 if the store does not open. A backup can be checked, too.
    Check(AnyPlace),
    /// Say what is in it: partitions, records, sums, bytes.
    Stats(AnyPlace),
    /// Make the schema of a gateway's set in its database, or bring it to the version of this program.
    ///
    /// Forward only: an older program does not open a newer schema.
    Migrate {
        /// Print the statements and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Which database.
        #[command(flatten)]
        database: database::Database,
    },
    /// Copy a store into a database, compare the two, and close the store for good.
    ///
    /// The database has the schema (`halometer store migrate`) and nothing else. Stop the gateway first.
    Copy {
        /// The store's directory.
        #[arg(value_name = "DIR")]
        from: PathBuf,
        /// Its mark; without it the one beside the directory, or else the one inside.
        #[arg(long, value_name = "FILE")]
        mark: Option<PathBuf>,
        /// Which database.
        #[command(flatten)]
        database: database::Database,
    },
    /// Give the space of what was overwritten back to the disk.
    Compact(Place),
    /// Write all of it to another directory, for audits and to make good for losses.
    ///
    /// A backup cannot be served from: it would make notes spendable that were spent since.
    Backup {
        /// Which store.
        #[command(flatten)]
        place: Place,
        /// The directory to write to; it must not be there yet.
        #[arg(value_name = "BACKUP")]
        to: PathBuf,
    },
}

/// Which store.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Its directory.
    #[arg(value_name = "DIR")]
    pub store: PathBuf,

    /// Its mark; without it the one beside the directory (`store.mark` for `store`), or else the one inside.
    #[arg(long, value_name = "FILE")]
    pub mark: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Which store: one in a directory, or one in a database.
#[derive(Clone, Debug, clap::Args)]
pub struct AnyPlace {
    /// Its directory.
    #[arg(value_name = "DIR", required_unless_present = "config")]
    pub store: Option<PathBuf>,

    /// In place of a directory, the configuration whose `[store.postgres]` names the database.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["store", "mark"])]
    pub config: Option<PathBuf>,

    /// Its mark; without it the one beside the directory (`store.mark` for `store`), or else the one inside.
    #[arg(long, value_name = "FILE")]
    pub mark: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

impl AnyPlace {
    fn directory(&self) -> Place {
        Place { store: self.store.clone().unwrap_or_default(), mark: self.mark.clone(), json: self.json }
    }
}

impl Place {
    /// Opens the store, or the backup.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self) -> Result<DurableStore, OpenError> {
        open(&self.store, self.mark.clone())
    }

    fn options(&self) -> StoreOptions {
        options(&self.store, self.mark.clone())
    }
}

/// Opens a store, or a backup of one.
pub(super) fn open(path: &Path, mark: Option<PathBuf>) -> Result<DurableStore, OpenError> {
    let options = options(path, mark);
    match DurableStore::open(path, &options) {
        Err(OpenError::Backup) => DurableStore::open_backup(path, &options),
        outcome => outcome,
    }
}

/// The mark of a store may be anywhere: without a name it is the one beside the directory, or else the one inside.
fn options(path: &Path, mark: Option<PathBuf>) -> StoreOptions {
    let usual = [StoreOptions::mark_beside(path), path.join("mark")];
    let mark = mark.or_else(|| usual.into_iter().find(|mark| mark.exists()));
    StoreOptions::default().with_mark(mark).with_mark_inside()
}

/// Does it.
///
/// # Errors
/// What to tell the user, as text.
pub fn run(args: &Args) -> Outcome {
    match &args.action {
        Action::Check(AnyPlace { config: Some(config), json, .. }) => database::check(config, *json),
        Action::Check(place) => check(&place.directory()),
        Action::Stats(AnyPlace { config: Some(config), json, .. }) => database::stats(config, *json),
        Action::Stats(place) => stats(&place.directory()),
        Action::Migrate { dry_run, database } => database::migrate(database, *dry_run),
        Action::Copy { from, mark, database } => database::copy(from, mark.clone(), database),
        Action::Compact(place) => compact(place),
        Action::Backup { place, to } => backup(place, to),
    }
}

fn check(place: &Place) -> Outcome {
    let report = DurableStore::check_at(&place.store, &place.options())?;
    let damage: Vec<_> = report
        .damage
        .iter()
        .map(|(epoch, what)| match epoch {
            Some(epoch) => format!("epoch {epoch}: {what}"),
            None => what.clone(),
        })
        .collect();
    if place.json {
        let sound = damage.is_empty();
        let counts = json!({ "records": report.records, "evidence": report.evidence, "mints": report.mints });
        let gateway = report.gateway.map(|gateway| gateway.to_string());
        let mark = match report.mark {
            MarkStanding::Apart => "apart",
            MarkStanding::Inside => "inside",
            MarkStanding::Backup => "backup",
            _ => "none",
        };
        let value = json!({
            "sound": sound,
            "opens": report.opens,
            "gateway": gateway,
            "mark": mark,
            "read": counts,
            "damage": damage,
        });
        println!("{value}");
    } else {
        println!("read {} records, {} with evidence, {} mints", report.records, report.evidence, report.mints);
        println!("{}", report.mark);
        damage.iter().for_each(|what| println!("damaged: {what}"));
        if damage.is_empty() {
            println!("sound");
        }
    }
    if !report.opens {
        return Err(format!("the store does not open: {}", damage.join("; ")).into());
    }
    Ok(if damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn stats(place: &Place) -> Outcome {
    let store = place.open()?;
    let stats = store.stats()?;
    if place.json {
        let partitions: Vec<_> = stats.partitions.iter().map(partition).collect();
        let gateway = store.gateway().to_string();
        let all = json!({
            "gateway": gateway,
            "partitions": partitions,
            "mints": stats.mints,
            "disk_bytes": stats.disk_bytes,
        });
        println!("{all}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("gateway {}, {} mints, {} bytes on disk", store.gateway(), stats.mints, stats.disk_bytes);
    println!("epoch  phase         open     settled      erased             cost         refunded       bytes");
    for partition in &stats.partitions {
        let Totals { open, settled, cost, refunded, .. } = partition.totals;
        println!(
            "{:>5}  {:8} {open:>9} {settled:>11} {:>11} {cost:>16} {refunded:>16} {:>11}",
            partition.epoch.number(),
            phase(partition.phase),
            partition.erased,
            partition.record_bytes + partition.evidence_bytes,
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What is in a partition, as JSON.
fn partition(partition: &PartitionStats) -> Value {
    let mut value = json!({
        "epoch": partition.epoch.number(),
        "phase": phase(partition.phase),
        "erased": partition.erased,
        "buckets": partition.buckets,
        "record_bytes": partition.record_bytes,
        "evidence_bytes": partition.evidence_bytes,
    });
    if let (Some(all), Value::Object(sums)) = (value.as_object_mut(), totals(&partition.totals)) {
        all.extend(sums);
    }
    value
}

/// Sums as JSON; those of credit as text, as they may not fit a number.
pub(super) fn totals(totals: &Totals) -> Value {
    let Totals { open, held, settled, cost, refunded, moved_out, moved_in } = totals;
    json!({
        "open": open,
        "settled": settled,
        "held": held.to_string(),
        "cost": cost.to_string(),
        "refunded": refunded.to_string(),
        "moved_out": moved_out.to_string(),
        "moved_in": moved_in.to_string(),
    })
}

fn phase(phase: PartitionPhase) -> &'static str {
    match phase {
        PartitionPhase::Open => "open",
        PartitionPhase::Closing => "closing",
        PartitionPhase::Retired => "retired",
        _ => "unknown",
    }
}

fn compact(place: &Place) -> Outcome {
    let before = {
        let store = place.open()?;
        let before = store.stats()?.disk_bytes;
        store.compact()?;
        before
    };
    // What was merged goes when the store is opened again.
    let after = place.open()?.stats()?.disk_bytes;
    match place.json {
        true => println!("{}", json!({ "bytes_before": before, "bytes_after": after })),
        false => println!("{before} bytes before, {after} after"),
    }
    Ok(ExitCode::SUCCESS)
}

fn backup(place: &Place, to: &Path) -> Outcome {
    place.open()?.backup(to)?;
    // A backup that cannot be read is none.
    let report = DurableStore::open_backup(to, &StoreOptions::default())?.check()?;
    if !report.damage.is_empty() {
        return Err("the backup was written and is not sound; check the store".into());
    }
    match place.json {
        true => println!("{}", json!({ "records": report.records, "mints": report.mints })),
        false => println!("{} records and {} mints written", report.records, report.mints),
    }
    Ok(ExitCode::SUCCESS)
}
