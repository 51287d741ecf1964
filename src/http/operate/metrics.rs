//! The numbers for Prometheus.

use core::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::StatusReport;

/// Of OpenMetrics text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) type Labels = Vec<(&'static str, String)>;
/// Sums of micro-credits may exceed 64 bits; Prometheus has floating-point numbers anyway.
pub(super) type Number = Gauge<f64, AtomicU64>;

/// All of them, as text.
pub(super) fn text(status: &StatusReport, ready: &Result<(), String>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("halometer");
    calls(&mut registry, status);
    credit(&mut registry, status);
    state(&mut registry, status, ready);
    if let Some(database) = &status.database {
        super::database::register(&mut registry, database);
    }
    if let Some(replicas) = &status.replicas {
        replicas.register(&mut registry);
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

fn calls(registry: &mut Registry, status: &StatusReport) {
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
    let [admissions, whole, batches] = status.latencies.clone();
    let help = "How long the gateway took from a request to the admission of its spend";
    registry.register_with_unit("admission_duration", help, Unit::Seconds, admissions);
    let help = "How long paid calls took from the request to the settlement";
    registry.register_with_unit("call_duration", help, Unit::Seconds, whole);
    let help = "How long batches of proofs took to verify";
    registry.register_with_unit("verify_batch_duration", help, Unit::Seconds, batches);
    let help = "Notes that were found to be spent twice";
    registry.register("double_spends", help, counter(status.double_spends));
    let help = "Spends that were refused because another one of their note came first";
    registry.register("conflicts", help, counter(status.conflicts));
}

fn credit(registry: &mut Registry, status: &StatusReport) {
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

fn state(registry: &mut Registry, status: &StatusReport, ready: &Result<(), String>) {
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::http::observer::Observer;
    use crate::http::operate::tally::Tally;

    /// What a family says of itself, and its samples.
    #[derive(Default)]
    struct Family {
        help: String,
        kind: String,
        unit: Option<String>,
        samples: Vec<(String, f64)>,
    }

    /// Reads OpenMetrics text, and finds what a linter finds.
    fn linted(text: &str) -> BTreeMap<String, Family> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.pop(), Some("# EOF"));
        let mut now = String::new();
        for line in lines {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut parts = rest.splitn(3, ' ');
                let (what, name, said) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or(""));
                if name != now {
                    assert!(!families.contains_key(name), "{name} comes in two places");
                    name.clone_into(&mut now);
                }
                let family = families.entry(now.clone()).or_default();
                assert!(family.samples.is_empty(), "{name}: what describes it comes first");
                match what {
                    "HELP" => said.clone_into(&mut family.help),
                    "TYPE" => said.clone_into(&mut family.kind),
                    "UNIT" => family.unit = Some(said.to_owned()),
                    other => panic!("{other}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert!(name.starts_with(&now), "{name} is under {now}");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            let family = families.get_mut(&now).unwrap();
            assert!(!family.samples.iter().any(|(known, _)| known == series), "{series} comes twice");
            family.samples.push((series.to_owned(), value));
        }
        for (name, Family { help, kind, unit, samples }) in &families {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.starts_with("halometer_") && name.chars().all(allowed) && !name.contains("__"), "{name}");
            assert!(help.len() > 10, "{name}: no help");
            assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name}: {kind}");
            // Base units, and said where the name has one.
            for wrong in ["_ms", "_millis", "_milliseconds", "_micros", "_minutes", "_hours", "_kb", "_mb"] {
                assert!(!name.ends_with(wrong), "{name}");
            }
            let named = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
            assert_eq!(unit.as_deref(), named, "{name}: its unit");
            for reserved in ["_total", "_count", "_sum", "_bucket", "_created", "_info"] {
                assert!(!name.ends_with(reserved) || name == "halometer_build_info", "{name}");
            }
            for (series, value) in samples {
                let suffix = &series.split('{').next().unwrap()[name.len()..];
                let fits = match kind.as_str() {
                    "counter" => suffix == "_total" && *value >= 0.0,
                    "gauge" => suffix.is_empty(),
                    _ => ["_bucket", "_sum", "_count"].contains(&suffix) && *value >= 0.0,
                };
                assert!(fits, "{series} of a {kind}");
            }
        }
        families
    }

    fn status(tally: &Tally) -> StatusReport {
        StatusReport::of_tally(tally)
    }

    #[test]
    fn the_metrics_are_what_a_linter_lets_pass() {
        let tally = Tally::default();
        let quiet = linted(&text(&status(&tally), &Ok(())).unwrap());
        Observer::admitted(&tally);
        Observer::refused(&tally, Some(crate::protocol::Problem::Unpaid), http::StatusCode::PAYMENT_REQUIRED);
        Observer::verified(&tally, 2, Duration::from_millis(3));
        tally.admission_took(Duration::from_millis(4));
        tally.call_took(Duration::from_millis(400));
        tally.call_took(Duration::from_secs(4_000));
        tally.conflict();
        let busy = linted(&text(&status(&tally), &Err("the store failed".to_owned())).unwrap());
        // Everything is there from the start, so that a first one is an increase.
        let names = |families: &BTreeMap<String, Family>| families.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&quiet), names(&busy));
        let value = |families: &BTreeMap<String, Family>, series: &str| {
            let family = families.iter().find(|(name, _)| series.starts_with(name.as_str())).unwrap().1;
            family.samples.iter().find(|(name, _)| name == series).map(|(_, value)| *value)
        };
        for (series, before, after) in [
            ("halometer_conflicts_total", 0.0, 1.0),
            ("halometer_calls_admitted_total", 0.0, 1.0),
            ("halometer_requests_refused_total{problem=\"unpaid\"}", 0.0, 1.0),
            ("halometer_call_duration_seconds_count", 0.0, 2.0),
            ("halometer_call_duration_seconds_bucket{le=\"0.5\"}", 0.0, 1.0),
            ("halometer_call_duration_seconds_bucket{le=\"300.0\"}", 0.0, 1.0),
            ("halometer_call_duration_seconds_bucket{le=\"+Inf\"}", 0.0, 2.0),
            ("halometer_admission_duration_seconds_count", 0.0, 1.0),
            ("halometer_verify_batch_duration_seconds_count", 0.0, 1.0),
            ("halometer_ready", 1.0, 0.0),
            ("halometer_store_failed", 0.0, 1.0),
        ] {
            assert_eq!((value(&quiet, series), value(&busy, series)), (Some(before), Some(after)), "{series}");
        }
    }

    #[test]
    fn a_histogram_adds_up_and_ends_with_all() {
        let tally = Tally::default();
        for millis in [0, 1, 3, 30, 300, 3_000, 30_000, 3_000_000] {
            tally.call_took(Duration::from_millis(millis));
        }
        let families = linted(&text(&status(&tally), &Ok(())).unwrap());
        let family = &families["halometer_call_duration_seconds"];
        let buckets: Vec<f64> =
            family.samples.iter().filter(|(name, _)| name.contains("_bucket")).map(|(_, value)| *value).collect();
        assert!(buckets.is_sorted() && buckets.last() == Some(&8.0), "{buckets:?}");
        let sum = family.samples.iter().find(|(name, _)| name.ends_with("_sum")).unwrap().1;
        assert!((sum - 3_033.334).abs() < 1e-6, "{sum}");
    }
}
