//! The replicas among the numbers: which there are, which leads, and what was passed on between them.

use core::fmt::Write as _;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::http::html::{escape, grouped};
use crate::http::peers::PeersView;

/// The processes that share the set, as this one knows them.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ReplicasStatus {
    /// The name of this replica.
    pub own: String,
    /// Whether it leads: it publishes directories, begins epochs and does upkeep.
    pub leads: bool,
    /// The name of the replica that leads; none if none does.
    pub leader: Option<String>,
    /// All of them, this one included.
    pub replicas: Vec<ReplicaStatus>,
    /// Why the book of replicas was not read when it was tried last.
    pub trouble: Option<String>,
    /// Requests that were passed on to the replica that has their session, and answered.
    pub passed: u64,
    /// Requests that could not be passed on.
    pub failed: u64,
    /// Requests that other replicas passed on to this one.
    pub taken: u64,
    /// Connections for replicas that were refused.
    pub strangers: u64,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ReplicaStatus {
    /// Its name, by which it owns spends.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
    /// Version of its program.
    pub version: String,
    /// Whether it finishes what it has, and takes no more.
    pub draining: bool,
    /// How long ago it gave a sign of life, seconds.
    pub silent_seconds: u64,
}

impl ReplicasStatus {
    pub(super) fn of(view: PeersView) -> Self {
        let PeersView { owner, replicas, silent, leader, leads, trouble, counts } = view;
        let replica = |(replica, silent_seconds): (crate::store::Replica, u64)| ReplicaStatus {
            name: replica.owner.to_string(),
            address: replica.address,
            version: replica.version,
            draining: replica.draining,
            silent_seconds,
        };
        Self {
            own: owner.to_string(),
            leads,
            leader: leader.map(|lease| lease.owner.to_string()),
            replicas: replicas.into_iter().zip(silent).map(replica).collect(),
            trouble,
            passed: counts.passed,
            failed: counts.failed,
            taken: counts.taken,
            strangers: counts.strangers,
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let gauge = |value: bool| {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::from(value));
            gauge
        };
        registry.register("leads", "Whether this replica leads", gauge(self.leads));
        registry.register(
            "leader_known",
            "Whether any replica leads, as far as this one knows",
            gauge(self.leader.is_some()),
        );
        let help = "Whether the book of replicas was not read when it was tried last";
        registry.register("replica_book_failed", help, gauge(self.trouble.is_some()));
        let replicas = Family::<Vec<(&'static str, String)>, Gauge>::default();
        for state in ["serving", "draining"] {
            let count = self.replicas.iter().filter(|replica| replica.draining == (state == "draining")).count();
            replicas.get_or_create(&vec![("state", state.to_owned())]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        registry.register("replicas", "Replicas in the book", replicas);
        let passed = Family::<Vec<(&'static str, String)>, Counter>::default();
        for (outcome, count) in [("answered", self.passed), ("failed", self.failed)] {
            passed.get_or_create(&vec![("outcome", outcome.to_owned())]).inc_by(count);
        }
        registry.register("requests_passed_on", "Requests passed on to the replica that has their session", passed);
        for (name, help, count) in [
            ("requests_taken_in", "Requests that other replicas passed on to this one", self.taken),
            ("replica_strangers", "Connections for replicas that were refused", self.strangers),
        ] {
            let counter = Counter::<u64>::default();
            counter.inc_by(count);
            registry.register(name, help, counter);
        }
    }

    pub(super) fn card(&self) -> String {
        let mut rows = String::new();
        for replica in &self.replicas {
            let mut words = vec![escape(&replica.address), format!("version {}", escape(&replica.version))];
            words.extend((replica.name == self.own).then(|| "this one".to_owned()));
            words.extend((Some(&replica.name) == self.leader.as_ref()).then(|| "leads".to_owned()));
            words.extend(replica.draining.then(|| "drains".to_owned()));
            let _ = write!(
                rows,
                "<tr><td><code>{}</code> <span class=\"soft\">{}</span></td><td>{} s ago</td></tr>",
                escape(&replica.name),
                words.join(", "),
                grouped(replica.silent_seconds.into())
            );
        }
        for (name, count) in [
            ("requests passed on to another replica", self.passed),
            ("requests that could not be passed on", self.failed),
            ("requests that others passed on to this one", self.taken),
            ("connections of strangers, refused", self.strangers),
        ] {
            let _ = write!(rows, "<tr><td>{name}</td><td>{}</td></tr>", grouped(count.into()));
        }
        let leader = if self.leader.is_some() { "" } else { "<p>No replica leads.</p>" };
        let trouble = self.trouble.as_ref().map(|why| format!("<p>The book of replicas: {}</p>", escape(why)));
        let class = if trouble.is_some() || !leader.is_empty() { "card warnings" } else { "card" };
        format!(
            "<section class=\"{class}\"><h2>Replicas <span class=\"soft\">last sign of life</span></h2>{leader}{}\
             <table>{rows}</table></section>\n",
            trouble.unwrap_or_default()
        )
    }
}
