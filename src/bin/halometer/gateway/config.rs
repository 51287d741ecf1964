//! `gateway.toml`: its sections, and how it is read.
//!
//! What serde can say of a single value it says with its line; what concerns several values is checked after it.

mod check;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod place;
mod postgres;
mod values;

pub(super) use check::issuer_client;
pub use place::{ConfigError, Loaded};
pub use postgres::PostgresConfig;
pub use values::{HexKey, Id, Origin, PublicKey, Root, Route, Secret, Sold, Unlock};

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

const HOUR: u32 = 3_600;
const DAY: u32 = 24 * HOUR;

/// The whole file. The reference is docs/gateway.md.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where calls are taken.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// As callers know it: session signatures are over the host of one of these. The issuer's directory says them if it is remote.
    #[serde(default)]
    pub origins: Vec<Origin>,
    /// Requests that cost nothing.
    #[serde(default)]
    pub free: Vec<Route>,
    /// The service behind.
    pub upstream: UpstreamConfig,
    /// What is counted.
    #[serde(default)]
    pub pricing: PricingConfig,
    /// What it costs, by item. The issuer's directory says it if it is remote.
    #[serde(default)]
    pub prices: BTreeMap<String, PriceConfig>,
    /// What else the issuer's directory says.
    #[serde(default)]
    pub directory: DirectoryConfig,
    /// The issuer.
    #[serde(default)]
    pub issuer: IssuerConfig,
    /// Where records are kept.
    #[serde(default)]
    pub store: StoreConfig,
    /// The operator's address.
    #[serde(default)]
    pub admin: AdminConfig,
    /// The log.
    #[serde(default)]
    pub log: LogConfig,
    /// Limits.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// How often it is done what earns nothing.
    #[serde(default)]
    pub quotas: QuotasConfig,
    /// What is done by the clock.
    #[serde(default)]
    pub upkeep: UpkeepConfig,
    /// TLS on `listen`; none if it is left out.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Another proxy that asks this gateway; none if it is left out.
    #[serde(default)]
    pub beside: Option<BesideConfig>,
    /// The other processes over the same set; none if it is left out.
    #[serde(default)]
    pub cluster: Option<ClusterConfig>,
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 8400).into()
}

/// `[upstream]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Its URL; paths of requests are appended.
    pub url: String,
    /// The operator's key for it, sent as a bearer token.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// To get a connection, TLS included.
    #[serde(default = "ten")]
    pub connect_seconds: u32,
    /// From the request to the last byte of the answer, streams included.
    #[serde(default = "five_minutes")]
    pub timeout_seconds: u32,
    /// Longest answer.
    #[serde(default = "thirty_two_mebibytes")]
    pub max_answer_bytes: usize,
    /// The certificate authorities that vouch for it, in PEM, in place of the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Further headers of requests that reach it.
    #[serde(default)]
    pub pass_headers: Vec<String>,
    /// Origins whose web pages may call it: `https://shop.example`, or `*` for any.
    #[serde(default)]
    pub cors_origins: Vec<String>,
}

fn ten() -> u32 {
    10
}
fn five_minutes() -> u32 {
    300
}
fn thirty_two_mebibytes() -> usize {
    32 << 20
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PricingKind {
    /// Tokens, as services report them in their dialects.
    #[default]
    Tokens,
    /// One item for each route.
    Routes,
    /// Bytes.
    Bytes,
    /// What the service says in a header.
    Header,
}

/// The vocabulary that the words of a stream are counted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VocabularyKind {
    /// OpenAI's `o200k_base`.
    #[default]
    O200k,
    /// OpenAI's `cl100k_base`.
    Cl100k,
    /// Words are not counted.
    None,
}

/// How many tokens of the vocabulary count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Margin(pub u64);

impl Default for Margin {
    fn default() -> Self {
        Self(2)
    }
}

/// `[pricing]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PricingConfig {
    /// What is counted.
    #[serde(default)]
    pub kind: PricingKind,
    /// Of all kinds but `routes`: what is sold. If there is nothing, all dialects that are known by `tokens`, and else everything.
    #[serde(default)]
    pub sold: Vec<Sold>,
    /// Of `tokens`: whether compressed requests are refused.
    #[serde(default)]
    pub refuse_compressed: bool,
    /// Of `tokens`: what the words of a stream are counted by.
    #[serde(default)]
    pub vocabulary: VocabularyKind,
    /// Of `tokens`: how many of its tokens count as one.
    #[serde(default)]
    pub vocabulary_margin: Margin,
    /// Of `tokens`: routes whose services are not asked for the usage of their streams.
    #[serde(default)]
    pub without_stream_options: Vec<Route>,
    /// Of `routes`: the first that matches counts.
    #[serde(default)]
    pub routes: Vec<RouteConfig>,
    /// Of `bytes`: the item of a byte of the request's body.
    #[serde(default)]
    pub request_item: Option<String>,
    /// Of `bytes`: the item of a byte of the answer's body.
    #[serde(default)]
    pub answer_item: Option<String>,
    /// Of `header`: its name.
    #[serde(default)]
    pub header: Option<String>,
    /// Of `header`: the item that it counts; micro-credits if there is none.
    #[serde(default)]
    pub item: Option<String>,
    /// Of `header`: what an answer costs without it, micro-credits; the charge if it is not said.
    #[serde(default)]
    pub otherwise: Option<u64>,
}

/// `[[pricing.routes]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a route, as { route = \"GET /**\", item = \"page\" }")]
pub struct RouteConfig {
    /// Method and pattern of paths.
    pub route: Route,
    /// The item of which it costs one.
    pub item: String,
    /// For what: a call, a picture that is asked for, or a second that the answer says.
    #[serde(default)]
    pub per: PerKind,
}

/// `per` of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "\"call\", \"picture\" or \"second\"")]
pub enum PerKind {
    /// A call.
    #[default]
    Call,
    /// A picture that is asked for.
    Picture,
    /// A second of sound or film that the answer says.
    Second,
}

/// A price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a price, as { credits = 100, per = 1 }")]
pub struct PriceConfig {
    /// Micro-credits.
    pub credits: u64,
    /// For so many units.
    #[serde(default = "one")]
    pub per: u64,
}

fn one() -> u64 {
    1
}

/// `[directory]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirectoryConfig {
    /// The smallest price step, micro-credits. Never changed once there is a directory.
    pub quantum: u64,
    /// The charge classes, micro-credits.
    pub classes: Vec<u64>,
    /// The not-after grid.
    pub grid_seconds: u32,
    /// The grid of publication, never changed once there is a directory; as the not-after grid, or 1 for development, if it is not
    /// said.
    pub publish_seconds: Option<u32>,
    /// How long a settled spend is kept as evidence.
    pub evidence_seconds: u32,
    /// The longest session.
    pub session_seconds: u32,
}

impl Default for DirectoryConfig {
    fn default() -> Self {
        Self {
            quantum: 1,
            classes: vec![4_000, 16_000, 64_000, 256_000, 1_000_000],
            grid_seconds: HOUR,
            publish_seconds: None,
            evidence_seconds: DAY,
            session_seconds: 600,
        }
    }
}

/// Where the issuer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IssuerKind {
    /// In this process.
    #[default]
    Inside,
    /// Remote: it has the set, admits and settles.
    Remote,
}

/// `[issuer]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IssuerConfig {
    /// Where it is.
    pub kind: IssuerKind,
    /// An address of its own; beside the gateway's paths if there is none.
    pub listen: Option<SocketAddr>,
    /// That address as callers know it. Where it is said, callers whose gateway is gone are answered there.
    pub origins: Vec<Origin>,
    /// TLS on that address; none if it is left out.
    pub tls: Option<TlsConfig>,
    /// Remote gateways that it clears for.
    pub clearing: Vec<ClearingConfig>,
    /// Of `remote`: where it is.
    pub url: Option<String>,
    /// Of `remote`: its root key, pinned.
    pub root_key: Option<Root>,
    /// Of `remote`: how often it is asked for a newer directory.
    pub refresh_seconds: u32,
    /// The directory of sealed keys.
    pub keys: PathBuf,
    /// What opens them.
    pub unlock: Unlock,
    /// The file of the newest directory that was published.
    pub directory: PathBuf,
    /// Where evidence against who spends a note twice is kept.
    pub evidence: PathBuf,
    /// How epochs follow each other.
    pub schedule: ScheduleConfig,
    /// Where it is learned who has paid.
    pub payments: PaymentsConfig,
}

impl Default for IssuerConfig {
    fn default() -> Self {
        Self {
            kind: IssuerKind::default(),
            listen: None,
            origins: Vec::new(),
            tls: None,
            clearing: Vec::new(),
            url: None,
            root_key: None,
            refresh_seconds: 60,
            keys: "keys".into(),
            unlock: Unlock::default(),
            directory: "directory".into(),
            evidence: "evidence".into(),
            schedule: ScheduleConfig::default(),
            payments: PaymentsConfig::default(),
        }
    }
}

/// `[[issuer.clearing]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClearingConfig {
    /// Its id.
    pub id: Id,
    /// Its public key.
    pub key: PublicKey,
    /// Its addresses, as callers know it.
    pub origins: Vec<Origin>,
}

/// `[issuer.schedule]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// How long an epoch issues.
    pub issue_seconds: u32,
    /// How much longer its notes are accepted.
    pub beyond_seconds: u32,
    /// How long before it issues it is in the directory.
    pub ahead_seconds: u32,
    /// How long it stays in the directory after its notes are no longer accepted.
    pub keep_seconds: u32,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { issue_seconds: 30 * DAY, beyond_seconds: 30 * DAY, ahead_seconds: 7 * DAY, keep_seconds: 60 * DAY }
    }
}

/// How the issuer learns who has paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentsKind {
    /// By signed notices.
    #[default]
    Notices,
    /// By anybody's word.
    Development,
}

/// `[issuer.payments]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PaymentsConfig {
    /// How.
    pub kind: PaymentsKind,
    /// Of `notices`: the keys that they may be signed with, by their ids.
    pub keys: BTreeMap<String, NoticeKeyConfig>,
}

/// The key of a sender of notices: a shared secret, or its public key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a key, as { hmac_sha256 = { file = \"PATH\" } } or { ed25519 = \"HEX\" }")]
pub struct NoticeKeyConfig {
    /// A shared secret of 32 to 1,024 bytes.
    #[serde(default)]
    pub hmac_sha256: Option<Secret>,
    /// A public key, 64 hexadecimal digits.
    #[serde(default)]
    pub ed25519: Option<HexKey>,
}

/// Where records are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// On disk.
    #[default]
    Durable,
    /// In memory: all keys and all credit are lost when the program ends.
    Memory,
    /// In a database that gateways share.
    Postgres,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Where.
    pub kind: StoreKind,
    /// The store's directory.
    pub path: PathBuf,
    /// The store's mark; beside the store's directory if it is not said.
    pub mark: Option<PathBuf>,
    /// Whether the mark may be in the store's directory, where it goes back with it.
    pub allow_mark_inside: bool,
    /// Memory for what was read.
    pub cache_bytes: u64,
    /// The database of kind `postgres`.
    pub postgres: Option<PostgresConfig>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::default(),
            path: "store".into(),
            mark: None,
            allow_mark_inside: false,
            cache_bytes: 128 << 20,
            postgres: None,
        }
    }
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Where the operator looks.
    pub listen: SocketAddr,
    /// Whether that may be another address than one of loopback.
    pub allow_others: bool,
    /// Names by which it may be asked for, besides addresses.
    pub hosts: Vec<String>,
    /// How often the numbers are taken.
    pub every_seconds: u32,
}

impl Default for AdminConfig {
    fn default() -> Self {
        let listen = (Ipv4Addr::LOCALHOST, 8401).into();
        Self { listen, allow_others: false, hosts: Vec::new(), every_seconds: 60 }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object each.
    Json,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What is broken.
    Error,
    /// And what will be.
    Warn,
    /// And what is done.
    #[default]
    Info,
    /// And each round of upkeep.
    Debug,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How.
    pub format: LogFormat,
    /// What.
    pub level: LogLevel,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Longest body of a request.
    pub max_body_bytes: usize,
    /// How long it may take to arrive.
    pub body_seconds: u32,
    /// Longest answer that is kept until it is whole.
    pub max_whole_bytes: usize,
    /// The longest silence in an answer, or of who reads it.
    pub idle_seconds: u32,
    /// Requests that are worked on at a time.
    pub requests: usize,
    /// Sessions of several calls that are open at a time.
    pub sessions: usize,
    /// Threads that verify; one more than there are cores if it is not said.
    pub verify_threads: Option<usize>,
    /// Spends that wait to be verified.
    pub queue: usize,
    /// How long calls may take to finish when the program is told to end.
    pub shutdown_seconds: u32,
    /// Connections at a time, at each of the addresses.
    pub connections: usize,
    /// Of them, those of one address; a trusted proxy's are not limited.
    pub connections_per_address: usize,
    /// How long a connection may have no request.
    pub connection_idle_seconds: u32,
    /// Addresses and networks of proxies in front, whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 4 << 20,
            body_seconds: 20,
            max_whole_bytes: 1 << 20,
            idle_seconds: 60,
            requests: 1_024,
            sessions: 10_000,
            verify_threads: None,
            queue: 4_096,
            shutdown_seconds: 60,
            connections: 4_096,
            connections_per_address: 1_024,
            connection_idle_seconds: 75,
            trusted_proxies: Vec::new(),
        }
    }
}

/// `[quotas]`: so many a minute, of each address that requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotasConfig {
    /// New spends; without a limit if it is not said.
    pub admissions_per_minute: Option<u32>,
    /// Cancels of what was not sent.
    pub cancels_per_minute: u32,
    /// Rollovers.
    pub rollovers_per_minute: u32,
    /// Transfers.
    pub transfers_per_minute: u32,
    /// Questions which notes are spent.
    pub spent_per_minute: u32,
}

impl Default for QuotasConfig {
    fn default() -> Self {
        Self {
            admissions_per_minute: None,
            cancels_per_minute: 600,
            rollovers_per_minute: 600,
            transfers_per_minute: 600,
            spent_per_minute: 600,
        }
    }
}

/// `[upkeep]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpkeepConfig {
    /// How often.
    pub every_seconds: u32,
    /// How much longer than has to be a closed partition stays.
    pub extra_grace_seconds: u32,
    /// How long before the last epoch ends it is warned of.
    pub warn_seconds: u32,
}

impl Default for UpkeepConfig {
    fn default() -> Self {
        Self { every_seconds: 60, extra_grace_seconds: DAY, warn_seconds: 3 * DAY }
    }
}

/// `[tls]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The chain of certificates, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// `[beside]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BesideConfig {
    /// Where the proxy asks and calls are reported.
    #[serde(default = "default_inner")]
    pub listen: SocketAddr,
    /// What the proxy and the service show.
    pub secret: Secret,
    /// How long a call is held for its report; half a minute longer than `upstream.timeout_seconds` if it is not said.
    #[serde(default)]
    pub hold_seconds: Option<u32>,
    /// What a call costs that is not reported, micro-credits; the charge if it is not said.
    #[serde(default)]
    pub unreported: Option<u64>,
    /// Whether calls with a fixed price wait for a report too.
    #[serde(default)]
    pub hold_all: bool,
}

fn default_inner() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 8403).into()
}

/// `[cluster]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Where the other replicas come in.
    pub listen: SocketAddr,
    /// Where they reach that, `host:port`; as `listen` if neither is said.
    pub address: Option<String>,
    /// The environment variable that says so; a host without a port has that of `listen`.
    pub address_env: Option<String>,
    /// For so long calls are taken after the program is told to end, until balancers notice.
    pub notice_seconds: u32,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 8402).into(), address: None, address_env: None, notice_seconds: 10 }
    }
}

impl Config {
    /// As which replica it runs; none where the store is one process's. Over one that several may share it is always one: by its lease
    /// no two publish and do upkeep, whatever their configurations say. Without `[cluster]` others can reach it on this machine only.
    pub(super) fn replica(&self) -> Option<ClusterConfig> {
        let alone =
            ClusterConfig { listen: (Ipv4Addr::LOCALHOST, 0).into(), notice_seconds: 0, ..ClusterConfig::default() };
        match (&self.cluster, self.store.kind) {
            (Some(cluster), _) => Some(cluster.clone()),
            (None, StoreKind::Durable | StoreKind::Memory) => None,
            // All kinds that there may be besides.
            #[allow(unreachable_patterns)]
            (None, _) => Some(alone),
        }
    }

    /// How long calls are held that another proxy serves, seconds; 0 if there is none.
    pub(super) fn hold_seconds(&self) -> u32 {
        let longest = self.upstream.timeout_seconds.saturating_add(30);
        self.beside.as_ref().map_or(0, |beside| beside.hold_seconds.unwrap_or(longest))
    }
}
