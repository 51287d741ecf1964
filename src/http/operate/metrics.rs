//! The numbers for Prometheus.

use core::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Status;

/// Of OpenMetrics text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) type Labels = Vec<(&'static str, String)>;
/// Sums of micro-credits may exceed 64 bits; Prometheus has floating-point numbers anyway.
pub(super) type Number = Gauge<f64, AtomicU64>;

/// All of them, as text.
pub(super) fn text(status: &Status, ready: &Result<(), String>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("halometer");
    calls(&mut registry, status);
    credit(&mut registry, status);
    state(&mut registry, status, ready);
    if let Some(database) = &status.database {
        super::database::register(&mut registry, database);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

pub(super) fn counter(value: u64) -> Counter {
    let counter = Counter::default();
    counter.inc_by(value);
    counter
}

pub(super) fn gauge(value: f64) -> Number {
    let gauge = Number::default();
    gauge.set(value);
    gauge
}

fn counters<'a>(
    label: &'static str,
    values: impl IntoIterator<Item = (&'a &'static str, &'a u64)>,
) -> Family<Labels, Counter> {
    let family = Family::<Labels, Counter>::default();
    for (name, value) in values {
        family.get_or_create(&vec![(label, (*name).to_owned())]).inc_by(*value);
    }
    family
}

fn calls(registry: &mut Registry, status: &Status) {
    registry.register("calls_admitted", "Calls that were admitted", counter(status.calls.admitted));
    // From zero, so that the first one is an increase.
    let mut problems: std::collections::BTreeMap<&'static str, u64> =
        crate::protocol::Problem::ALL.iter().map(|problem| (problem.as_str(), 0)).collect();
    problems.extend(&status.calls.refused);
    let refused = counters("problem", &problems);
    registry.register("requests_refused", "Requests that were refused, by problem", refused);
    registry.register("proofs_verified", "Proofs that were verified, good or bad", counter(status.proofs.verified));
    let seconds: Counter<f64, AtomicU64> = Counter::default();
    seconds.inc_by(status.proofs.seconds);
    let help = "How long the verifying threads took together";
    registry.register_with_unit("proofs_verifying", help, Unit::Seconds, seconds);
    let mut kinds: std::collections::BTreeMap<&'static str, u64> =
        super::tally::UPSTREAM_FAILURES.iter().map(|kind| (*kind, 0)).collect();
    kinds.extend(&status.upstream_failures);
    let failures = counters("kind", &kinds);
    registry.register("upstream_failures", "How often the service did not answer, by kind", failures);
    if status.gateway.issuer_elsewhere {
        let help = "How often the issuer did not answer, or answered what was not taken";
        registry.register("issuer_failures", help, counter(status.issuer_failures));
    }
    let help = "Notes that were found to be spent twice";
    registry.register("double_spends", help, counter(status.double_spends));
    let help = "Spends that were refused because another one of their note came first";
    registry.register("conflicts", help, counter(status.conflicts));
}

fn credit(registry: &mut Registry, status: &Status) {
    // Of books that cannot be drawn up there are no numbers, rather than zeros.
    let Some(credits) = &status.credits else { return };
    let family = Family::<Labels, Number>::default();
    for (name, value) in [
        ("minted", credits.minted),
        ("charged", credits.charged),
        ("refunded", credits.refunded),
        ("held", credits.held),
        ("outstanding", credits.outstanding),
    ] {
        family.get_or_create(&vec![("part", name.to_owned())]).set(value as f64);
    }
    registry.register("micro_credits", "Where all credit is: minted = charged + held + outstanding", family);
}

fn state(registry: &mut Registry, status: &Status, ready: &Result<(), String>) {
    let build = Family::<Labels, Number>::default();
    build.get_or_create(&vec![("version", status.gateway.version.to_owned())]).set(1.0);
    registry.register("build_info", "The version that runs", build);
    // These tell nothing of calls, and are as of now.
    let (is, failed) = (ready.is_ok(), ready.as_ref().is_err_and(|why| why.starts_with("the store")));
    registry.register("ready", "Whether calls are taken", gauge(f64::from(u8::from(is))));
    registry.register("store_failed", "Whether the store fails; /readyz says why", gauge(f64::from(u8::from(failed))));
    let taken = status.gateway.taken as f64;
    registry.register("directory_serial", "Number of the directory", gauge(status.gateway.directory as f64));
    let help = "When these numbers were taken";
    registry.register_with_unit("numbers_taken_timestamp", help, Unit::Seconds, gauge(taken));
    registry.register("requests_running", "Requests that were worked on", gauge(status.load.requests as f64));
    registry.register("sessions_open", "Sessions that were open", gauge(status.load.sessions as f64));
    let help = "Spends and transfers that waited to be verified";
    registry.register("verify_queue", help, gauge(status.load.waiting as f64));
    registry.register("settle_queue", "Spends that waited to be settled", gauge(status.load.settling as f64));
    registry.register("upkeep_settled", "Lapsed spends that upkeep settled", counter(status.upkeep.settled));
    registry.register("upkeep_failures", "Steps of upkeep that failed", counter(status.upkeep.failures));
    let help = "What somebody has to look at";
    registry.register("upkeep_warnings", help, gauge(status.upkeep.warnings.len() as f64));

    let (records, phases) = (Family::<Labels, Number>::default(), Family::<Labels, Number>::default());
    let ends = Family::<Labels, Number>::default();
    for epoch in &status.epochs {
        let number = epoch.number.to_string();
        for (state, value) in epoch.books.iter().flat_map(|books| [("open", books.open), ("settled", books.settled)]) {
            records.get_or_create(&vec![("epoch", number.clone()), ("state", state.to_owned())]).set(value as f64);
        }
        phases.get_or_create(&vec![("epoch", number.clone()), ("partition", epoch.partition.to_owned())]).set(1.0);
        if let Some(until) = epoch.issues_until {
            ends.get_or_create(&vec![("epoch", number)]).set(until as f64);
        }
    }
    registry.register("epoch_records", "Records of an epoch's partition", records);
    registry.register("epoch_partition", "How the partition of an epoch stands", phases);
    let help = "When the key of an epoch stops signing";
    registry.register_with_unit("epoch_issues_until_timestamp", help, Unit::Seconds, ends);
}
