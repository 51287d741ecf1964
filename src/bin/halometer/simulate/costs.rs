//! What a call costs, as measured.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Costs of one machine. Times are milliseconds of one core unless they say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Costs {
    /// Where they are from.
    pub(super) source: String,
    /// What was not in there and is of the example.
    pub(super) assumed: Vec<&'static str>,
    /// Cores of the machine that was measured.
    pub(super) cores: f64,
    /// A proof alone, and batches of 64 and 256; what lies between is on a line.
    pub(super) lone_ms: f64,
    pub(super) batch_64_ms: f64,
    pub(super) batch_256_ms: f64,
    /// The cheap checks of a spend: form, terms, session signature, a look into the set.
    pub(super) screen_ms: f64,
    /// The issuer's signature under a settlement, checked before it is released.
    pub(super) sign_ms: f64,
    /// A row that is inserted or settled, in the one thread that commits.
    pub(super) row_ms: f64,
    /// Waiting for the disk, once for all rows of a commit. No core is used meanwhile.
    pub(super) fsync_ms: f64,
    /// A call through the gateway that is not paid for, client and service included.
    pub(super) plain_ms: f64,
    /// What a call in a session takes more: credential, meter, receipt.
    pub(super) metering_ms: f64,
    /// What one set takes of spends, inserted and settled, a second.
    pub(super) set_spends_per_second: f64,
    /// Bytes on disk of a settled spend whose evidence is erased, and of one whose evidence is kept.
    pub(super) nullifier_bytes: f64,
    pub(super) spend_bytes: f64,
    /// What the same machine reached over HTTP, where it was measured.
    pub(super) measured_paid_per_second: Option<f64>,
}

/// Figures of `halometer bench --json`, in its names. Store and HTTP are those of docs/performance.md, on two cores of a virtual Xeon;
/// verification and signature are that machine's yardstick times what docs/performance.md gives in yardsticks.
const EXAMPLE: &[(&str, f64)] = &[
    ("cores", 2.0),
    ("yardstick_ms", 16.85),
    ("verify_ms", 1.483),
    ("batch_verify_ms_per_proof_64_one_core", 0.185),
    ("batch_verify_ms_per_proof_256_one_core", 0.160),
    ("settlement_sign_ms", 0.30),
    ("fsync_ms", 0.24),
    ("http_plain_per_second", 33_982.0),
    ("http_session_calls_per_second", 14_535.0),
    ("store_inserts_per_second", 19_614.0),
    ("store_settles_per_second", 26_041.0),
    ("store_bytes_per_nullifier", 177.0),
    ("spend_bytes", 4_015.0),
];

/// The screening of a spend, which no figure has by itself, in yardsticks: most of it is one Ed25519 verification.
const SCREEN_YARDSTICKS: f64 = 0.0021;

fn example(name: &str) -> f64 {
    EXAMPLE.iter().find(|(known, _)| *known == name).map_or(1.0, |(_, value)| *value)
}

/// Why text is no figures.
#[derive(Debug, thiserror::Error)]
pub(super) enum CostsError {
    #[error("it is no JSON object as `halometer bench --json` prints it: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{name} is {value}; give a number above 0")]
    Value { name: &'static str, value: String },
}

impl Costs {
    /// Of the example alone.
    pub(super) fn example() -> Self {
        Self { source: "the built-in example".to_owned(), ..Self::made(example) }
    }

    /// Of what `halometer bench --json` printed.
    pub(super) fn of_bench(text: &str) -> Result<Self, CostsError> {
        let figures: Map<String, Value> = serde_json::from_str(text)?;
        let (mut found, mut assumed) = (HashMap::new(), Vec::new());
        for (name, _) in EXAMPLE {
            let Some(value) = figures.get(*name) else {
                assumed.push(*name);
                continue;
            };
            let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
            found.insert(*name, number.ok_or_else(|| CostsError::Value { name, value: value.to_string() })?);
        }
        let measured = figures.get("http_paid_per_second").and_then(Value::as_f64).filter(|rate| *rate > 0.0);
        let costs = Self::made(|name| found.get(name).copied().unwrap_or_else(|| example(name)));
        Ok(Self { assumed, measured_paid_per_second: measured, ..costs })
    }

    fn made(of: impl Fn(&'static str) -> f64) -> Self {
        let cores = of("cores");
        let (lone, small, large) = (
            of("verify_ms"),
            of("batch_verify_ms_per_proof_64_one_core"),
            of("batch_verify_ms_per_proof_256_one_core"),
        );
        let per_core = |rate: f64| cores * 1e3 / rate;
        let plain = per_core(of("http_plain_per_second"));
        let session = per_core(of("http_session_calls_per_second"));
        let (inserts, settles) = (of("store_inserts_per_second"), of("store_settles_per_second"));
        Self {
            cores,
            lone_ms: lone,
            // What is measured may be noise: more proofs never take less.
            batch_64_ms: (small * 64.0).max(lone),
            batch_256_ms: (large * 256.0).max(small * 64.0).max(lone),
            screen_ms: SCREEN_YARDSTICKS * of("yardstick_ms"),
            sign_ms: of("settlement_sign_ms"),
            row_ms: (1e3 / inserts + 1e3 / settles) / 2.0,
            fsync_ms: of("fsync_ms"),
            plain_ms: plain,
            metering_ms: (session - plain).max(0.0),
            set_spends_per_second: 1.0 / (1.0 / inserts + 1.0 / settles),
            nullifier_bytes: of("store_bytes_per_nullifier"),
            spend_bytes: of("spend_bytes"),
            measured_paid_per_second: None,
            source: "the figures given".to_owned(),
            assumed: Vec::new(),
        }
    }

    /// How long a core verifies a batch of so many.
    pub(super) fn verify_ms(&self, batch: usize) -> f64 {
        let (from, to) = match batch {
            0 => return 0.0,
            1..=64 => ((1.0, self.lone_ms), (64.0, self.batch_64_ms)),
            _ => ((64.0, self.batch_64_ms), (256.0, self.batch_256_ms)),
        };
        from.1 + (to.1 - from.1) * (batch as f64 - from.0) / (to.0 - from.0)
    }

    /// What a spend takes of cores under load, where batches are full.
    pub(super) fn spend_core_ms(&self) -> f64 {
        let batch = super::queues::BATCH;
        self.screen_ms + self.verify_ms(batch) / batch as f64 + 2.0 * self.row_ms + self.sign_ms
    }

    /// What a call takes of cores beside its spend.
    pub(super) fn call_core_ms(&self) -> f64 {
        self.plain_ms + self.metering_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_are_missing_are_those_of_the_example_and_named() {
        let costs = Costs::of_bench(r#"{"cores":4.0,"fsync_ms":1.5,"cpu":"x"}"#).unwrap();
        assert_eq!((costs.cores, costs.fsync_ms), (4.0, 1.5));
        assert!(costs.assumed.contains(&"verify_ms") && !costs.assumed.contains(&"fsync_ms"));
        assert_eq!(costs.assumed.len(), EXAMPLE.len() - 2);
        assert!(Costs::example().assumed.is_empty());
    }

    #[test]
    fn what_is_no_figure_is_refused_with_its_name() {
        for text in [r#"{"fsync_ms":0}"#, r#"{"fsync_ms":"fast"}"#, r#"{"fsync_ms":-1}"#] {
            assert!(Costs::of_bench(text).unwrap_err().to_string().starts_with("fsync_ms is "), "{text}");
        }
        for text in ["", "[]", "{", "nonsense"] {
            assert!(matches!(Costs::of_bench(text), Err(CostsError::Json(_))), "{text}");
        }
    }

    #[test]
    fn a_batch_costs_less_a_proof_than_a_lone_one() {
        let costs = Costs::example();
        assert!(costs.verify_ms(1) > 5.0 * costs.verify_ms(128) / 128.0);
        let large = costs.verify_ms(256) / 256.0;
        assert!((large - 0.160).abs() < 0.001, "{large}");
        assert!((costs.verify_ms(1) - 1.483).abs() < 1e-9);
        assert!((1..300).map(|n| costs.verify_ms(n)).is_sorted());
    }
}
