//! `halometer store` on a database that gateways share.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{Outcome, partition, phase};
use crate::gateway::database;
use halometer::store::Totals;
use halometer::store::durable::{DurableStore, StoreOptions};
use halometer::store::postgres::PostgresStore;

/// Which database: that of a gateway's configuration, which says by which variable or file its address is known.
#[derive(Clone, Debug, clap::Args)]
pub struct Database {
    /// The configuration with `[store.postgres]`.
    #[arg(long, value_name = "FILE", default_value = "gateway.toml")]
    pub config: PathBuf,

    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn migrate(place: &Database, dry_run: bool) -> Outcome {
    let (options, gateway) = database(&place.config)?;
    let report = PostgresStore::migrate(&options, gateway, dry_run)?;
    if place.json {
        let value =
            json!({ "from": report.from, "to": report.to, "dry_run": dry_run, "statements": report.statements });
        println!("{value}");
        return Ok(ExitCode::SUCCESS);
    }
    if dry_run {
        report.statements.iter().for_each(|statement| println!("{statement};"));
    }
    let from = report.from.map_or("nothing".to_owned(), |from| format!("version {from}"));
    println!("{} from {from} to version {}", if dry_run { "would go" } else { "went" }, report.to);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn copy(from: &Path, mark: Option<PathBuf>, place: &Database) -> Outcome {
    let (options, gateway) = database(&place.config)?;
    let known = mark.or_else(|| Some(StoreOptions::mark_beside(from)).filter(|mark| mark.exists()));
    let inside = known.or_else(|| Some(from.join("mark")).filter(|mark| mark.exists()));
    let store = DurableStore::open(from, &StoreOptions::default().with_mark(inside).with_mark_inside())?;
    if store.gateway() != gateway {
        let (found, wanted) = (store.gateway(), gateway);
        return Err(
            format!("the store is that of gateway {found}, and the configuration is that of gateway {wanted}").into()
        );
    }
    let report = PostgresStore::copy(&store, &options)?;
    if place.json {
        let value = json!({
            "partitions": report.partitions,
            "records": report.records,
            "compared": report.compared,
            "mints": report.mints,
            "payments": report.payments,
        });
        println!("{value}");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} records in {} partitions, {} mints and {} payments copied; {} records compared, and all sums",
        report.records, report.partitions, report.mints, report.payments, report.compared
    );
    println!("{} is not opened again: set `store.kind = \"postgres\"`", from.display());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn check(config: &Path, as_json: bool) -> Outcome {
    let report = open(config)?.check()?;
    let sound = report.findings.is_empty();
    if as_json {
        let read = json!({ "records": report.records, "mints": report.mints });
        println!("{}", json!({ "sound": sound, "read": read, "damage": report.findings }));
    } else {
        println!("read {} records, {} mints", report.records, report.mints);
        report.findings.iter().for_each(|what| println!("damaged: {what}"));
        if sound {
            println!("sound");
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

pub(super) fn stats(config: &Path, as_json: bool) -> Outcome {
    let store = open(config)?;
    let stats = store.stats()?;
    if as_json {
        let partitions: Vec<_> = stats.partitions.iter().map(partition).collect();
        let gateway = store.gateway().to_string();
        let all = json!({
            "gateway": gateway,
            "partitions": partitions,
            "mints": stats.mints,
            "lines": stats.lines,
            "commits": stats.commits,
        });
        println!("{all}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("gateway {}, {} mints, {} commits by {} lines", store.gateway(), stats.mints, stats.commits, stats.lines);
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

/// Opens it beside the gateways, without a mark of its own.
fn open(config: &Path) -> Result<PostgresStore, Box<dyn std::error::Error>> {
    let (options, gateway) = database(config)?;
    Ok(PostgresStore::open(&options.with_mark(None).with_lines(1), gateway)?)
}
