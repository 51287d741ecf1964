//! What is told of the database of a set that gateways share.

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

use super::metrics::{Labels, Number, counter, gauge};

/// The connections of this process to the database, and what became of its statements, from the start of the process.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct DatabaseStatus {
    /// Connections that are open.
    pub connections_open: u64,
    /// Of them, those that nothing uses.
    pub connections_idle: u64,
    /// How many may be open.
    pub connections_limit: u64,
    /// Connections that were made.
    pub connections_made: u64,
    /// Round trips of statements.
    pub round_trips: u64,
    /// The time that they took together.
    pub round_trip_seconds: f64,
    /// How many took at most so many seconds; all of them at the end, without a bound.
    pub round_trips_within: Vec<(Option<f64>, u64)>,
    /// Batches of admissions, settlements and metering.
    pub batches: u64,
    /// What was in them together.
    pub batched: u64,
    /// Statements sent again after a conflict.
    pub retries: u64,
    /// Commits whose outcome was unknown.
    pub doubts: u64,
    /// Of them, those that were resolved by reading.
    pub doubts_resolved: u64,
    /// Of them, those that were answered as errors.
    pub doubts_unresolved: u64,
    /// Lines of commits of other gateways that this one watches.
    pub watched: u64,
    /// Why nothing is served.
    pub trouble: Option<String>,
}

#[cfg(feature = "postgres")]
impl DatabaseStatus {
    /// Of a store over PostgreSQL, as it is now.
    pub fn of(store: &crate::store::postgres::PostgresStore) -> Self {
        let figures = store.figures();
        let within =
            |(bound, count): (Option<std::time::Duration>, u64)| (bound.map(|bound| bound.as_secs_f64()), count);
        Self {
            connections_open: figures.pool_size as u64,
            connections_idle: figures.pool_idle as u64,
            connections_limit: figures.pool_limit as u64,
            connections_made: figures.connections,
            round_trips: figures.round_trips,
            round_trip_seconds: figures.round_trip_time.as_secs_f64(),
            round_trips_within: figures.round_trip_histogram.into_iter().map(within).collect(),
            batches: figures.batches,
            batched: figures.batched,
            retries: figures.retries,
            doubts: figures.doubts,
            doubts_resolved: figures.doubts_resolved,
            doubts_unresolved: figures.doubts_unresolved,
            watched: figures.watched as u64,
            trouble: store.trouble().map(|error| error.to_string()),
        }
    }
}

pub(super) fn register(registry: &mut Registry, status: &DatabaseStatus) {
    let connections = Family::<Labels, Number>::default();
    for (state, value) in
        [("open", status.connections_open), ("idle", status.connections_idle), ("limit", status.connections_limit)]
    {
        connections.get_or_create(&vec![("state", state.to_owned())]).set(value as f64);
    }
    registry.register("database_connections", "Connections to the database", connections);
    let help = "Connections to the database that were made";
    registry.register("database_connections_made", help, counter(status.connections_made));
    registry.register("database_round_trips", "Round trips of statements", counter(status.round_trips));
    let help = "Time that round trips took together";
    registry.register_with_unit("database_round_trip", help, Unit::Seconds, gauge(status.round_trip_seconds));
    let within = Family::<Labels, Number>::default();
    for (bound, count) in &status.round_trips_within {
        let bound = bound.map_or("+Inf".to_owned(), |bound| bound.to_string());
        within.get_or_create(&vec![("seconds", bound)]).set(*count as f64);
    }
    registry.register("database_round_trips_within", "Round trips that took at most so long", within);
    registry.register("database_batches", "Batches that were committed", counter(status.batches));
    let help = "Admissions, settlements and metering in these batches";
    registry.register("database_batched", help, counter(status.batched));
    let help = "Statements that were sent again after a conflict";
    registry.register("database_retries", help, counter(status.retries));
    let doubts = Family::<Labels, Number>::default();
    let doubt = |outcome: &str, count: u64| {
        doubts.get_or_create(&vec![("outcome", outcome.to_owned())]).set(count as f64);
    };
    doubt("resolved", status.doubts_resolved);
    doubt("unresolved", status.doubts_unresolved);
    registry.register("database_doubts", "Commits whose outcome was unknown", doubts);
    let help = "Lines of commits of other gateways that are watched";
    registry.register("database_watched", help, gauge(status.watched as f64));
    let help = "Whether the database's trouble keeps the gateway from serving; /readyz says why";
    registry.register("database_trouble", help, gauge(f64::from(u8::from(status.trouble.is_some()))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_does_is_told() {
        let mut registry = Registry::with_prefix("halometer");
        let within = vec![(Some(0.001), 3), (None, 4)];
        register(&mut registry, &DatabaseStatus { retries: 7, round_trips_within: within, ..Default::default() });
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "halometer_database_retries_total 7",
            "halometer_database_round_trips_within{seconds=\"0.001\"} 3",
            "halometer_database_round_trips_within{seconds=\"+Inf\"} 4",
            "halometer_database_doubts{outcome=\"unresolved\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing: {text}");
        }
    }
}
