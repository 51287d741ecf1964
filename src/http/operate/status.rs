//! The numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::database::DatabaseStatus;
use super::latency::Latencies;
use super::replicas::ReplicasStatus;
use super::tally::Tally;
use crate::http::clock::now;
use crate::http::exchange::Load;
use crate::http::peers::Peers;
use crate::issuer::{Books, Issuer};
use crate::protocol::{Directory, EpochNumber, GatewayId};
use crate::store::{PartitionPhase, SpentSet};

/// All that is shown, as it was at one instant. Sums are over all callers, and count from the start of the process where nothing else is
/// said. Amounts are text: micro-credits that need not fit a number.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StatusReport {
    /// The gateway and its directory.
    pub gateway: GatewayStatus,
    /// Calls.
    pub calls: CallsStatus,
    /// The issuer's books, since the store was made. None if they could not be drawn up, and where they are elsewhere.
    pub credits: Option<CreditsStatus>,
    /// Why the books could not be drawn up.
    pub books_trouble: Option<String>,
    /// The epochs of the directory and those that have a partition, by number.
    pub epochs: Vec<EpochStatus>,
    /// How busy the gateway is.
    pub load: LoadStatus,
    /// Proofs.
    pub proofs: ProofsStatus,
    /// How often the service behind did not answer, by kind.
    pub upstream_failures: BTreeMap<&'static str, u64>,
    /// How often an issuer elsewhere did not answer, or answered what was not taken.
    pub issuer_failures: u64,
    /// Notes that were found to be spent twice.
    pub double_spends: u64,
    /// Spends that were refused because another one of their note came first, whether or not that named an account.
    pub conflicts: u64,
    /// Upkeep.
    pub upkeep: UpkeepStatus,
    /// The database, where gateways share one.
    pub database: Option<DatabaseStatus>,
    /// How long admissions, calls and batches took: for the metrics only.
    #[serde(skip)]
    pub(super) latencies: [Latencies; 3],
    /// The processes that share the set; none where this one is alone.
    pub replicas: Option<ReplicasStatus>,
}

/// The gateway and its directory.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GatewayStatus {
    /// The gateway's id.
    pub id: String,
    /// The issuer's id.
    pub issuer: String,
    /// The issuer's root key, which callers pin, in hexadecimal digits.
    pub root_key: String,
    /// Whether it is remote, and the set and the books with it.
    pub issuer_elsewhere: bool,
    /// Version of the program.
    pub version: &'static str,
    /// Number of the directory that is served.
    pub directory: u64,
    /// When the numbers were taken, seconds since 1970.
    pub taken: u64,
    /// How often they are taken, seconds.
    pub every_seconds: u64,
    /// How long the process runs, seconds.
    pub running_seconds: u64,
    /// Whether calls are taken.
    pub ready: bool,
    /// Why not.
    pub not_ready: Option<String>,
    /// What things cost by the tariff of now: micro-credits and the number of units that they buy.
    pub prices: BTreeMap<String, (u64, u64)>,
    /// The charge classes, micro-credits.
    pub classes: Vec<u64>,
}

/// Calls.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CallsStatus {
    /// Calls that were admitted.
    pub admitted: u64,
    /// Requests that were refused, by problem.
    pub refused: BTreeMap<&'static str, u64>,
    /// Calls a second in the last interval.
    pub per_second: f64,
}

/// Where all credit is: minted = charged + held + outstanding.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CreditsStatus {
    /// What was minted.
    #[serde(serialize_with = "as_text")]
    pub minted: u128,
    /// What settled spends have cost.
    #[serde(serialize_with = "as_text")]
    pub charged: u128,
    /// What settled spends gave back of their charges.
    #[serde(serialize_with = "as_text")]
    pub refunded: u128,
    /// What open spends have reserved.
    #[serde(serialize_with = "as_text")]
    pub held: u128,
    /// What callers still have.
    #[serde(serialize_with = "as_text")]
    pub outstanding: u128,
}

/// An epoch and its partition.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EpochStatus {
    /// Its number.
    pub number: u32,
    /// Whether its key signs now.
    pub issues: bool,
    /// Until when its key signs, seconds since 1970; none if the directory does not name it.
    pub issues_until: Option<u64>,
    /// Until when its notes are accepted.
    pub spendable_until: Option<u64>,
    /// `open`, `closing`, `retired`, `missing`, or `elsewhere` where the issuer is.
    pub partition: &'static str,
    /// What the books say of it. None if they could not be drawn up, and where they are elsewhere.
    #[serde(flatten)]
    pub books: Option<EpochSums>,
}

/// What the books say of an epoch.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct EpochSums {
    /// Records that are open.
    pub open: u64,
    /// Records that are settled.
    pub settled: u64,
    /// What was minted under its key, micro-credits.
    #[serde(serialize_with = "as_text")]
    pub minted: u128,
    /// What spends of its notes have cost.
    #[serde(serialize_with = "as_text")]
    pub charged: u128,
}

/// How busy the gateway is.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct LoadStatus {
    /// Requests that are worked on.
    pub requests: usize,
    /// Sessions of several calls that are open.
    pub sessions: usize,
    /// Spends and transfers that wait to be verified.
    pub waiting: usize,
    /// Spends that wait to be settled.
    pub settling: usize,
}

/// Proofs.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct ProofsStatus {
    /// Proofs that were verified, good or bad.
    pub verified: u64,
    /// How long that took all threads together, seconds.
    pub seconds: f64,
    /// Proofs a second in the last interval.
    pub per_second: f64,
}

/// Upkeep.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct UpkeepStatus {
    /// Rounds that were done.
    pub rounds: u64,
    /// Lapsed spends that were settled.
    pub settled: u64,
    /// Records whose evidence was erased.
    pub erased: u64,
    /// Steps that failed.
    pub failures: u64,
    /// What somebody has to look at, by the last round.
    pub warnings: Vec<String>,
}

fn as_text<S: serde::Serializer>(amount: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

/// Where the numbers come from.
pub(super) struct Sources<'a> {
    pub(super) id: GatewayId,
    pub(super) directory: &'a Directory,
    /// None where they are elsewhere.
    pub(super) books: Option<(&'a dyn SpentSet, &'a Issuer)>,
    pub(super) load: Load,
    pub(super) tally: &'a Tally,
    pub(super) before: Option<&'a StatusReport>,
    pub(super) every: Duration,
    pub(super) running: Duration,
    pub(super) ready: Result<(), String>,
    pub(super) database: Option<DatabaseStatus>,
    pub(super) peers: Option<Peers>,
}

impl StatusReport {
    /// Takes the numbers; asks the store.
    pub(super) fn take(sources: Sources<'_>) -> Self {
        let Sources { load, tally, before, every, .. } = sources;
        let database = sources.database.clone();
        let books = sources.books.map(|(set, issuer)| issuer.books(set));
        let trouble = books.as_ref().and_then(|books| books.as_ref().err()).map(ToString::to_string);
        let books = books.and_then(Result::ok);
        let (admitted, (verified, seconds)) = (tally.admitted(), tally.verified());
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / every.as_secs_f64();
        let upkeep = tally.upkeep();
        Self {
            gateway: identify(&sources),
            calls: CallsStatus {
                admitted,
                refused: tally.refused(),
                per_second: rate(admitted, before.map_or(0, |before| before.calls.admitted)),
            },
            epochs: epochs(&sources, books.as_ref()),
            books_trouble: trouble,
            credits: books.map(|books| CreditsStatus {
                minted: books.minted,
                charged: books.charged,
                refunded: books.refunded,
                held: books.held,
                outstanding: books.outstanding,
            }),
            load: LoadStatus {
                requests: load.requests,
                sessions: load.sessions,
                waiting: load.waiting,
                settling: load.settling,
            },
            proofs: ProofsStatus {
                verified,
                seconds: seconds.as_secs_f64(),
                per_second: rate(verified, before.map_or(0, |before| before.proofs.verified)),
            },
            upstream_failures: tally.upstream_failures(),
            issuer_failures: tally.issuer_failures().0,
            double_spends: tally.double_spends(),
            conflicts: tally.conflicts(),
            latencies: tally.latencies(),
            upkeep: UpkeepStatus {
                rounds: upkeep.rounds,
                settled: upkeep.settled,
                erased: upkeep.erased,
                failures: upkeep.failures,
                warnings: upkeep.warnings,
            },
            database,
            replicas: sources.peers.as_ref().map(|peers| ReplicasStatus::of(peers.view())),
        }
    }
}

#[cfg(test)]
impl StatusReport {
    /// What a tally says, of a gateway without anything else.
    pub(super) fn of_tally(tally: &Tally) -> Self {
        let gateway = GatewayStatus {
            id: String::new(),
            issuer: String::new(),
            root_key: String::new(),
            issuer_elsewhere: true,
            version: "0",
            directory: 1,
            taken: 1,
            every_seconds: 60,
            running_seconds: 1,
            ready: true,
            not_ready: None,
            prices: BTreeMap::new(),
            classes: Vec::new(),
        };
        let (verified, seconds) = tally.verified();
        Self {
            gateway,
            calls: CallsStatus { admitted: tally.admitted(), refused: tally.refused(), per_second: 0.0 },
            credits: None,
            books_trouble: None,
            epochs: vec![EpochStatus {
                number: 1,
                issues: true,
                issues_until: Some(2),
                spendable_until: Some(3),
                partition: "open",
                books: Some(EpochSums { open: 1, settled: 2, minted: 3, charged: 1 }),
            }],
            load: LoadStatus { requests: 0, sessions: 0, waiting: 0, settling: 0 },
            proofs: ProofsStatus { verified, seconds: seconds.as_secs_f64(), per_second: 0.0 },
            upstream_failures: tally.upstream_failures(),
            issuer_failures: 0,
            double_spends: tally.double_spends(),
            conflicts: tally.conflicts(),
            replicas: None,
            latencies: tally.latencies(),
            upkeep: UpkeepStatus { rounds: 0, settled: 0, erased: 0, failures: 0, warnings: Vec::new() },
            database: None,
        }
    }
}

fn identify(sources: &Sources<'_>) -> GatewayStatus {
    let Sources { id, directory, books, every, running, ready, .. } = sources;
    let now = now();
    let prices = directory.tariff(now).into_iter().flat_map(|tariff| tariff.prices());
    GatewayStatus {
        id: id.to_string(),
        issuer: directory.issuer().to_string(),
        root_key: hex::encode(directory.parts().root.to_bytes()),
        issuer_elsewhere: books.is_none(),
        version: env!("CARGO_PKG_VERSION"),
        directory: directory.parts().serial,
        taken: now.seconds(),
        every_seconds: every.as_secs(),
        running_seconds: running.as_secs(),
        ready: ready.is_ok(),
        not_ready: ready.clone().err(),
        prices: prices.map(|price| (price.item.clone(), (price.credits.micro(), price.per))).collect(),
        classes: directory.classes().iter().map(|class| class.micro()).collect(),
    }
}

fn epochs(sources: &Sources<'_>, books: Option<&Books>) -> Vec<EpochStatus> {
    let (directory, now) = (sources.directory, now());
    // A store that fails is told by the books, and by who asks whether calls are taken.
    let partitions = sources.books.map(|(set, _)| set.partitions().unwrap_or_default());
    let elsewhere = partitions.is_none();
    let partitions: BTreeMap<EpochNumber, PartitionPhase> = partitions.into_iter().flatten().collect();
    let mut numbers: Vec<EpochNumber> = directory.epochs().iter().map(|epoch| epoch.number).collect();
    numbers.extend(partitions.keys());
    numbers.sort_unstable();
    numbers.dedup();
    let status = |number: EpochNumber| {
        let entry = directory.epoch(number);
        let line = books.map(|books| books.epochs.get(&number).copied().unwrap_or_default());
        EpochStatus {
            number: number.number(),
            issues: entry.is_some_and(|entry| entry.issue.contains(now)),
            issues_until: entry.map(|entry| entry.issue.until.seconds()),
            spendable_until: entry.map(|entry| entry.spend.until.seconds()),
            partition: match partitions.get(&number) {
                Some(PartitionPhase::Open) => "open",
                Some(PartitionPhase::Closing) => "closing",
                Some(PartitionPhase::Retired) => "retired",
                None if elsewhere => "elsewhere",
                None => "missing",
            },
            books: line.map(|line| EpochSums {
                open: line.spends.open,
                settled: line.spends.settled,
                minted: line.minted,
                charged: line.spends.cost,
            }),
        }
    };
    numbers.into_iter().map(status).collect()
}
