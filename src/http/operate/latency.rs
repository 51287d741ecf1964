//! How long things take, as Prometheus has it: how many took no longer than each of some times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// The times, seconds: the first for what the gateway itself adds, the last for long answers.
const BOUNDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];

/// Counts how long something takes.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// By bound; the last is beyond all of them.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// What was counted, as it was at one instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Latencies {
    counts: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

impl Latency {
    pub(super) fn note(&self, took: Duration) {
        let step = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        self.counts[step].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Latencies {
        let seconds = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        Latencies { counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)), seconds }
    }
}

impl EncodeMetric for Latencies {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), core::fmt::Error> {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.counts).collect();
        encoder.encode_histogram::<NoLabelSet>(self.seconds, self.counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_is_counted_further_up() {
        let latency = Latency::default();
        for millis in [0, 1, 2, 40, 3_600_000] {
            latency.note(Duration::from_millis(millis));
        }
        let read = latency.read();
        assert_eq!((read.counts[0], read.counts[1], read.counts[5], read.counts[15]), (2, 1, 1, 1));
        assert_eq!(read.counts.iter().sum::<u64>(), 5);
        assert!((read.seconds - 3_600.043).abs() < 1e-6, "{}", read.seconds);
    }
}
