//! From a configuration to a gateway and an issuer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::config::{BesideConfig, Config, ConfigError, Loaded, NoticeKeyConfig, StoreConfig, StoreKind};
use super::development::Booked;
use super::due::{Due, DueError, due};
use super::publish::{self, PublishError};
use super::shared::{Shared, SharedError};
use super::vault::{GatewayIdentity, Vault, VaultError, read_secret};
use halometer::gateway::{Gateway, GatewayError, GatewayParts, Quotas, Rate};
use halometer::http::beside::{Beside, BesideParts, ProxySecret, ProxySecretError};
use halometer::http::clock::{now, system};
use halometer::http::exchange::GatewayLimits;
use halometer::http::issuer::ClearingLimits;
use halometer::http::issuer_client::{IssuerClientError, IssuerTrouble};
use halometer::http::layer::PaymentLayer;
use halometer::http::pricing::Metered;
use halometer::http::server::{Certificates, ServerLimits, TlsError, TrustedProxies};
use halometer::http::upstream::{Upstream, UpstreamConfigError, UpstreamLimits};
use halometer::issuer::{
    Issuer, IssuerError, KeystoreError, NoticeKey, NoticeKeyError, PaymentNotices, Schedule, ScheduleError,
};
use halometer::pipeline::PipelineLimits;
use halometer::protocol::{
    Credits, Directory, DirectoryError, EpochNumber, GatewayId, Limits, OwnerId, RootSigningKey, SignedDirectory,
    Timestamp,
};
use halometer::sealed::{read_bounded, write_atomically};
use halometer::store::durable::{DurableStore, OpenError, StoreOptions};
use halometer::store::postgres::{PostgresError, PostgresOptions, PostgresStore};
use halometer::store::{
    Beat, ClockJump, Look, MemoryMintBook, MemoryPaymentBook, MemoryReplicaBook, MemorySpentSet, MintBook,
    PartitionPhase, PaymentBook, Pulse, ReplicaBook, SpentSet, StoreError,
};
use halometer::upkeep::{Upkeep, UpkeepParts};

/// Why a gateway does not start. The operator has to act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keys.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The store is not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store in a database is not opened.
    #[error("`store.postgres`: {0}")]
    Postgres(#[from] PostgresError),
    /// The store is that of another gateway.
    #[error("the store is that of gateway {store}, and the keys are those of gateway {keys}")]
    OtherStore {
        /// Whose store it is.
        store: String,
        /// Whose keys they are.
        keys: String,
    },
    /// The clock is far from what it was when the gateway ran last.
    #[error("{0}; nothing was deleted: {CLOCK_HELP}")]
    Clock(ClockJump),
    /// The store fails.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The directory that was published is not there, and the store has records of one.
    #[error(
        "{0} is missing, and the store was in use: put back the newest directory that was published; if this gateway was never reached \
         by anybody, make it anew with `halometer gateway init`"
    )]
    DirectoryLost(PathBuf),
    /// The file is no directory, or not one that the root key signed.
    #[error("{0}: {1}")]
    Directory(PathBuf, #[source] DirectoryError),
    /// The directory that the configuration asks for.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The next directory.
    #[error(transparent)]
    Due(#[from] DueError),
    /// The secret between another proxy and this gateway.
    #[error("`beside.secret`: {0}")]
    ProxySecret(#[from] ProxySecretError),
    /// What answers another proxy.
    #[error("`beside.hold_seconds`: {0}")]
    Beside(#[source] io::Error),
    /// What the replicas share.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// The schedule.
    #[error("`issuer.schedule`: {0}")]
    Schedule(#[from] ScheduleError),
    /// The issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The upstream.
    #[error("`upstream`: {0}")]
    Upstream(#[from] UpstreamConfigError),
    /// Keys of payment notices.
    #[error("`issuer.payments.keys`: {0}")]
    Notices(#[from] NoticeKeyError),
    /// The certificate.
    #[error("`tls`: {0}")]
    Tls(#[from] TlsError),
    /// The address of an issuer elsewhere.
    #[error("`issuer.url`: {0}")]
    IssuerUrl(#[from] IssuerClientError),
    /// The root key of an issuer elsewhere is not said.
    #[error("`issuer.root_key` is not said")]
    NoRootKey,
    /// A remote issuer did not show its directory.
    #[error("`issuer.url`: {0}")]
    IssuerAway(#[source] IssuerTrouble),
    /// The directory of a remote issuer is not signed by the pinned root key.
    #[error("the issuer's directory: {0}")]
    IssuerDirectory(#[source] DirectoryError),
    /// An issuer elsewhere does not know this gateway.
    #[error(
        "the issuer's directory does not name gateway {id} with the key {key}: the issuer's operator must add it to `issuer.clearing`"
    )]
    NotNamed {
        /// The gateway's id.
        id: GatewayId,
        /// Its public key, in hexadecimal digits.
        key: String,
    },
    /// The service does not start.
    #[error("the gateway does not start: {0}")]
    Service(#[source] io::Error),
    /// A time that the directory of an issuer elsewhere does not allow.
    #[error("`{key}`: {seconds} s is longer than the issuer's directory allows a call, {most} s")]
    TooLong {
        /// The setting.
        key: &'static str,
        /// As it is set.
        seconds: u64,
        /// The most.
        most: u64,
    },
}

/// What to do about a clock that jumped.
pub(super) const CLOCK_HELP: &str = "put the machine's clock right and start again; if it is right as it is now, start once with \
                                     `--accept-clock`";

/// Where the records are.
pub(super) struct Records {
    pub(super) set: Arc<dyn SpentSet>,
    pub(super) mints: Arc<dyn MintBook>,
    pub(super) payments: Arc<dyn PaymentBook>,
    /// The store over PostgreSQL, if they are there.
    pub(super) postgres: Option<PostgresStore>,
    /// The processes that share them; none where they are one process's.
    pub(super) replicas: Option<Arc<dyn ReplicaBook>>,
}

/// All that there is before anybody is served.
pub(super) struct Prepared {
    pub(super) vault: Vault,
    pub(super) records: Records,
    /// Where the directory is written to; nowhere for a store in memory.
    pub(super) file: Option<PathBuf>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) issuer: Arc<Issuer>,
    /// What it goes by: the configuration, but for prices that cannot be published yet.
    pub(super) config: Config,
    /// Why they cannot.
    pub(super) waits: Option<PublishError>,
    /// What it goes over to with a directory that another replica may have to publish.
    pub(super) wished: Option<Config>,
    /// What the replicas share; none if this process is alone.
    pub(super) shared: Option<Shared>,
}

/// Keys and records, before anything is done with them.
pub(super) struct Opened {
    vault: Vault,
    pub(super) records: Records,
}

fn open_records(config: &Config, vault: &Vault) -> Result<Records, StartError> {
    match config.store.kind {
        StoreKind::Memory => Ok(Records {
            set: Arc::new(MemorySpentSet::new()),
            mints: Arc::new(MemoryMintBook::new()),
            payments: Arc::new(MemoryPaymentBook::new()),
            postgres: None,
            replicas: Some(Arc::new(MemoryReplicaBook::new())),
        }),
        StoreKind::Postgres => {
            let store = PostgresStore::open(&postgres_options(config)?, vault.gateway())?;
            Ok(Records {
                set: Arc::new(store.spent_set()),
                mints: Arc::new(store.mint_book()),
                payments: Arc::new(store.payment_book()),
                replicas: Some(Arc::new(store.replica_book())),
                postgres: Some(store),
            })
        }
        StoreKind::Durable => {
            let store = DurableStore::open(&config.store.path, &store_options(config))?;
            if store.gateway() != vault.gateway() {
                let (store, keys) = (store.gateway().to_string(), vault.gateway().to_string());
                return Err(StartError::OtherStore { store, keys });
            }
            Ok(Records {
                set: Arc::new(store.spent_set()),
                mints: Arc::new(store.mint_book()),
                payments: Arc::new(store.payment_book()),
                postgres: None,
                replicas: None,
            })
        }
    }
}

fn postgres_options(config: &Config) -> Result<PostgresOptions, StartError> {
    let none = || PostgresError::Address("the configuration has no `[store.postgres]`".into());
    let postgres = config.store.postgres.as_ref().ok_or_else(none)?;
    Ok(postgres.options(&read_secret(&postgres.url)?)?)
}

/// The database of a configuration, and the gateway whose set it has: for what an operator does beside the gateways.
pub(super) fn database(file: &Path) -> Result<(PostgresOptions, GatewayId), StartError> {
    let config = Loaded::read(file)?.config;
    let (gateway, _) = GatewayIdentity::look(&config.issuer.keys, &config.issuer.unlock)?;
    Ok((postgres_options(&config)?, gateway))
}

fn store_options(config: &Config) -> StoreOptions {
    let StoreConfig { cache_bytes, mark, allow_mark_inside, .. } = config.store.clone();
    let options = StoreOptions::default().with_cache_bytes(cache_bytes).with_mark(mark);
    if allow_mark_inside { options.with_mark_inside() } else { options }
}

/// The directory that was published last, if there is a file.
fn read_directory(file: &Path, vault: &Vault) -> Result<Option<Directory>, StartError> {
    let bytes = match read_bounded(file, SignedDirectory::MAX_LENGTH) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StartError::File(file.to_owned(), error)),
    };
    let wrong = |error| StartError::Directory(file.to_owned(), error);
    let signed = SignedDirectory::from_bytes(&bytes).map_err(|error| wrong(error.into()))?;
    signed.verify(&vault.root()).map(Some).map_err(wrong)
}

/// Writes a directory down, so that it is known after a crash whatever callers have seen of it.
pub(super) fn write_directory(file: &Path, directory: &Directory, root: &RootSigningKey) -> Result<(), StartError> {
    let signed = SignedDirectory::sign(directory, root).ok_or(IssuerError::RootKey)?;
    write_atomically(file, &signed.to_bytes()).map_err(|error| StartError::File(file.to_owned(), error))
}

/// Opens keys and records.
pub(super) fn open(loaded: &Loaded) -> Result<Opened, StartError> {
    let vault = Vault::open(&loaded.config)?;
    let records = open_records(&loaded.config, &vault)?;
    look_at_clock(&*records.set, loaded.accept_clock)?;
    Ok(Opened { vault, records })
}

/// Publishes what is due, and makes issuer and gateway. Takes some tenths of a second and touches the disk; a replica waits until there
/// is a directory of all.
pub(super) fn prepare(
    loaded: &Loaded,
    owner: OwnerId,
    opened: Opened,
    mut shared: Option<Shared>,
) -> Result<Prepared, StartError> {
    let config = &loaded.config;
    let Opened { mut vault, records } = opened;
    let file = (config.store.kind != StoreKind::Memory).then(|| config.issuer.directory.clone());
    let known = match &file {
        Some(file) => read_directory(file, &vault)?,
        None => None,
    };
    let known = match &mut shared {
        Some(shared) => shared.join(known, &mut vault)?,
        None => known,
    };
    let now = now();
    let root = vault.root_key()?;
    let known = match known {
        Some(known) => known,
        None => {
            let first = begin(config, &mut vault, &records, file.as_deref(), shared.is_some(), now)?;
            // One that is shared is known when all can know it.
            if shared.is_none() {
                file.iter().try_for_each(|file| write_directory(file, &first, &root))?;
            }
            first
        }
    };
    vault.check(&known, now)?;
    let mut went_by = config.clone();
    let mut wished = None;
    if let Some(shared) = &mut shared {
        if !shared.has_any() {
            shared.publish(&known, &root, &vault)?;
        }
        file.iter().try_for_each(|file| write_directory(file, &known, &root))?;
        // What is due is done when it runs, by the one that leads.
        if publish::next(&known, config, vault.gateway(), now)
            .map_or_else(|error| error.passes(), |next| next.is_some())
        {
            went_by.prices = publish::known_prices(&known);
            wished = Some(config.clone());
        }
    }
    let outcome = match &shared {
        Some(_) => Ok(Due::Nothing),
        None => due(&known, config, &mut vault, &*records.set, now),
    };
    let (next, waits) = match outcome {
        // It was taken up once, or it will be by itself: until then the prices that callers know are good.
        Err(DueError::Publish(error)) if error.passes() => {
            went_by.prices = publish::known_prices(&known);
            (due(&known, &went_by, &mut vault, &*records.set, now)?, Some(error))
        }
        outcome => (outcome?, None),
    };
    let directory = match next {
        Due::Now(next) => {
            file.iter().try_for_each(|file| write_directory(file, &next, &root))?;
            *next
        }
        Due::Later(at) => {
            warn!(at = at.seconds(), "the directory of this window is published: what was changed waits for the next");
            known
        }
        Due::Nothing => known,
    };
    let payments = Arc::new(Booked(Arc::clone(&records.payments)));
    let keys = vault.epoch_keys()?;
    let issuer = Issuer::new(&root, directory.clone(), keys, Arc::clone(&records.mints), payments)?;
    let parts = GatewayParts::new(vault.gateway(), directory, Arc::clone(&records.set), owner, lease_seconds(config))
        .with_quotas(quotas(config));
    let gateway = Gateway::new(parts, now)?;
    // Other replicas may live: what the dead ones left is settled after its lease.
    if shared.is_none() && records.postgres.is_none() {
        settle_left(config, &issuer, gateway.id(), &*records.set, owner, now)?;
    }
    let (gateway, issuer) = (Arc::new(gateway), Arc::new(issuer));
    Ok(Prepared { vault, records, file, gateway, issuer, config: went_by, waits, wished, shared })
}

/// Before anything is done by the clock: whether it goes on from where it was.
pub(super) fn look_at_clock(set: &dyn SpentSet, accept: bool) -> Result<(), StartError> {
    let look = match accept {
        true => Look::Accepted(system()),
        false => Look::Clock { now: system(), passed: 0 },
    };
    match set.beat(look)? {
        Beat::Steady(_) => Ok(()),
        Beat::Jumped(jump) => Err(StartError::Clock(jump)),
    }
}

/// Settles what a former process of this gateway left open. Nobody else has the store open, so that it is dead; and nobody is served
/// yet. Gateways elsewhere, whose records are under their ids, may live.
fn settle_left(
    config: &Config,
    issuer: &Issuer,
    own: GatewayId,
    set: &dyn SpentSet,
    owner: OwnerId,
    now: Timestamp,
) -> Result<(), StartError> {
    let gateways = &issuer.directory().parts().gateways;
    let elsewhere: Vec<_> =
        gateways.iter().filter(|entry| entry.id != own).map(|entry| OwnerId::from_bytes(entry.id.to_bytes())).collect();
    let report = upkeep(config, owner).settle_left(set, issuer, |owner| !elsewhere.contains(owner), now);
    let report = report.map_err(|error| StoreError::Failed(Box::new(error)))?;
    if report.settled > 0 {
        tracing::info!(spends = report.settled, "settled what the process before this one left open");
    }
    for failure in &report.failures {
        tracing::warn!(epoch = %failure.epoch, error = %failure.error, "a spend that was left open is not settled yet");
    }
    Ok(())
}

/// The first directory: of an issuer that never had one.
fn begin(
    config: &Config,
    vault: &mut Vault,
    records: &Records,
    file: Option<&Path>,
    shared: bool,
    now: Timestamp,
) -> Result<Directory, StartError> {
    let first = EpochNumber::new(1);
    let partitions = records.set.partitions()?;
    // A replica that led before this one may have come so far, and published nothing: then nobody was served.
    let begun = shared && partitions == [(first, PartitionPhase::Open)] && records.set.scan(first, None, 1)?.is_empty();
    // Another first directory would contradict the one that callers may have seen, and be evidence against the issuer.
    if !(partitions.is_empty() || begun) || records.mints.totals()?.mints > 0 {
        return Err(StartError::DirectoryLost(file.map(Path::to_owned).unwrap_or_default()));
    }
    let limits = Limits { session_seconds: config.directory.session_seconds };
    let schedule = Schedule::new(config.issuer.schedule.parts(), limits)?;
    let epoch = schedule.first(vault.add(first)?, now);
    if !begun {
        records.set.create(first)?;
    }
    let gateway = (vault.gateway(), vault.gateway_key()?.public_key());
    Ok(publish::first(config, vault.root(), gateway, epoch, now)?)
}

/// How it is said that a gateway runs.
pub(super) const RUNS: &str = "a gateway runs with these keys";

/// Whether what is written can be written: where the directory is, evidence, and the store. A file is made there and taken away again.
pub(super) fn check_places(config: &Config) -> Result<(), StartError> {
    if config.store.kind == StoreKind::Memory || config.issuer.kind == super::config::IssuerKind::Remote {
        return Ok(());
    }
    let store = (config.store.kind == StoreKind::Durable).then_some(config.store.path.as_path());
    let parents = [config.issuer.directory.parent(), config.issuer.keys.parent(), store];
    for place in parents.into_iter().flatten().filter(|place| place.is_dir()) {
        let probe = place.join(".halometer-check");
        let failed = |error| StartError::File(place.to_owned(), error);
        std::fs::File::create(&probe).map_err(failed)?;
        std::fs::remove_file(&probe).map_err(failed)?;
    }
    Ok(())
}

/// What is found without changing anything.
pub(super) fn check(loaded: &Loaded) -> Result<Vec<String>, StartError> {
    let config = &loaded.config;
    check_rim(config)?;
    let nowhere: Arc<dyn PaymentBook> = Arc::new(MemoryPaymentBook::new());
    notices(config, &nowhere)?;
    let mut found = match Vault::open(config) {
        Ok(vault) => check_records(config, &vault)?,
        Err(VaultError::Epochs(KeystoreError::InUse)) => {
            vec![format!("{RUNS}: its directory and records were not looked at")]
        }
        Err(error) => return Err(error.into()),
    };
    found.extend(super::vault::exposed(config).iter().map(|path| format!("others may read {}", path.display())));
    Ok(found)
}

/// What there is wherever the issuer is.
pub(super) fn check_rim(config: &Config) -> Result<(), StartError> {
    upstream(config)?;
    config.beside.as_ref().map(proxy_secret).transpose()?;
    for tls in config.tls.iter().chain(&config.issuer.tls) {
        Certificates::read(&tls.cert, &tls.key)?;
    }
    Ok(())
}

fn check_records(config: &Config, vault: &Vault) -> Result<Vec<String>, StartError> {
    let mut found = vec![
        format!("gateway {}, issuer {}", vault.gateway(), vault.root().issuer_id()),
        format!("root key {}", hex::encode(vault.root().to_bytes())),
    ];
    if config.store.kind == StoreKind::Memory {
        return Ok(found);
    }
    let (records, now) = (open_records(config, vault)?, now());
    let partitions = records.set.partitions()?.len();
    let look = Look::Clock { now: system(), passed: 0 };
    let known = records.set.pulse()?;
    if let Some(Beat::Jumped(jump)) = known.map(|known| Pulse::next(Some(known), partitions == 0, look)) {
        return Err(StartError::Clock(jump));
    }
    found.push(format!("the store has {partitions} partitions and {} mints", records.mints.totals()?.mints));
    match read_directory(&config.issuer.directory, vault)? {
        None => found.push("there is no directory yet: the first start makes it".to_owned()),
        Some(known) => {
            vault.check(&known, now)?;
            let (serial, published) = (known.parts().serial, known.parts().published);
            if now < published {
                let behind = published.seconds() - now.seconds();
                found.push(format!("the clock is {behind} s behind the directory's publication: set it first"));
            }
            found.push(match publish::next(&known, config, vault.gateway(), now) {
                Ok(None) => format!("directory {serial} says what the configuration says"),
                Ok(Some(next)) => format!("directory {} would follow {serial}", next.parts().serial),
                Err(error) if error.passes() => {
                    let went_by = Config { prices: publish::known_prices(&known), ..config.clone() };
                    publish::next(&known, &went_by, vault.gateway(), now)?;
                    format!("it would start with the prices of directory {serial}: {error}")
                }
                Err(error) => return Err(error.into()),
            });
        }
    }
    Ok(found)
}

/// For so long this process alone settles what it admitted: longer than a call and a session may take.
pub(super) fn lease_seconds(config: &Config) -> u32 {
    let call = config.upstream.timeout_seconds.saturating_add(60);
    config.directory.session_seconds.max(call).max(config.hold_seconds()).saturating_add(120)
}

/// What answers another proxy; none if there is none.
pub(super) fn beside(config: &Config, layer: &PaymentLayer) -> Result<Option<Beside>, StartError> {
    let Some(beside) = &config.beside else { return Ok(None) };
    let parts =
        BesideParts::new(layer.clone(), proxy_secret(beside)?, Duration::from_secs(config.hold_seconds().into()))
            .with_unreported(beside.unreported.map_or(Metered::Charge, |cost| Metered::Cost(Credits::from_micro(cost))))
            .with_hold_all(beside.hold_all);
    Beside::new(parts).map(Some).map_err(StartError::Beside)
}

fn proxy_secret(beside: &BesideConfig) -> Result<ProxySecret, StartError> {
    Ok(ProxySecret::new(&read_secret(&beside.secret)?)?)
}

/// The service behind.
pub(super) fn upstream(config: &Config) -> Result<Upstream, StartError> {
    let key = config.upstream.api_key.as_ref().map(read_secret).transpose()?;
    let limits = UpstreamLimits::default()
        .with_connect_timeout(Duration::from_secs(config.upstream.connect_seconds.into()))
        .with_timeout(Duration::from_secs(config.upstream.timeout_seconds.into()))
        .with_max_response(config.upstream.max_answer_bytes);
    let (url, key) = (&config.upstream.url, key.as_ref().map(|key| key.as_str()));
    Ok(match &config.upstream.ca {
        None => Upstream::new(url, key, limits)?,
        Some(file) => {
            let failed = |error| StartError::File(file.clone(), error);
            Upstream::trusting(url, key, limits, &read_bounded(file, 1 << 20).map_err(failed)?)?
        }
    })
}

/// The further headers that reach the service.
pub(super) fn passed(config: &Config) -> Vec<http::HeaderName> {
    config.upstream.pass_headers.iter().filter_map(|name| name.parse().ok()).collect()
}

/// What takes payment notices; none where payments are made by anybody's word.
pub(super) fn notices(config: &Config, book: &Arc<dyn PaymentBook>) -> Result<Option<Arc<PaymentNotices>>, StartError> {
    let keys = &config.issuer.payments.keys;
    if keys.is_empty() {
        return Ok(None);
    }
    let key = |(id, key): (&String, &NoticeKeyConfig)| -> Result<NoticeKey, StartError> {
        Ok(match (&key.hmac_sha256, &key.ed25519) {
            (Some(secret), _) => NoticeKey::hmac_sha256(id, read_secret(secret)?.as_bytes())?,
            (None, Some(public)) => NoticeKey::ed25519(id, &public.0)?,
            (None, None) => return Err(NoticeKeyError::NoKey.into()),
        })
    };
    let keys = keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Arc::new(PaymentNotices::new(Arc::clone(book), keys)?)))
}

pub(super) fn limits(config: &Config) -> GatewayLimits {
    let limits = &config.limits;
    let pipeline = PipelineLimits::default();
    GatewayLimits::default()
        .with_max_body(limits.max_body_bytes)
        .with_body_timeout(Duration::from_secs(limits.body_seconds.into()))
        .with_max_whole(limits.max_whole_bytes)
        .with_idle_timeout(Duration::from_secs(limits.idle_seconds.into()))
        .with_requests(limits.requests)
        .with_sessions(limits.sessions)
        .with_pipeline(
            pipeline
                .with_verify_threads(limits.verify_threads.unwrap_or(pipeline.verify_threads))
                .with_queue(limits.queue),
        )
        .with_spent(a_minute(config.quotas.spent_per_minute))
}

/// What each address that others reach may have held of it.
pub(super) fn server_limits(config: &Config) -> ServerLimits {
    let limits = &config.limits;
    // They were checked when the file was read.
    let trusted_proxies = TrustedProxies::new(limits.trusted_proxies.iter().map(String::as_str)).unwrap_or_default();
    let (connections, connections_per_address) = (limits.connections, limits.connections_per_address);
    ServerLimits::default()
        .with_connections(connections)
        .with_connections_per_address(connections_per_address)
        .with_trusted_proxies(trusted_proxies)
        .with_idle(Duration::from_secs(config.limits.connection_idle_seconds.into()))
}

/// Of what gateways elsewhere ask.
pub(super) fn clearing_limits(config: &Config) -> ClearingLimits {
    let limits = ClearingLimits::default();
    limits.with_verify_threads(config.limits.verify_threads.unwrap_or(limits.verify_threads))
}

pub(super) fn quotas(config: &Config) -> Quotas {
    let quotas = &config.quotas;
    Quotas {
        admissions: quotas.admissions_per_minute.map_or(Rate::UNLIMITED, a_minute),
        cancels: a_minute(quotas.cancels_per_minute),
        rollovers: a_minute(quotas.rollovers_per_minute),
        transfers: a_minute(quotas.transfers_per_minute),
    }
}

pub(super) fn a_minute(per_minute: u32) -> Rate {
    Rate { per_minute, burst: per_minute }
}

pub(super) fn upkeep(config: &Config, owner: OwnerId) -> Upkeep {
    Upkeep::new(
        UpkeepParts::new(owner, lease_seconds(config))
            .with_extra_grace_seconds(config.upkeep.extra_grace_seconds)
            .with_records_per_partition(1_000)
            .with_warn_seconds(config.upkeep.warn_seconds),
    )
}
