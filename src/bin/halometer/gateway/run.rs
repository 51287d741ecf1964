//! Running a gateway until it is told to end.

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info, warn};

use super::config::{Config, IssuerKind, Loaded, PaymentsKind, StoreKind, TlsConfig};
use super::due::DueError;
use super::front::{self, Exchanged};
use super::keeper::{Keeper, ReloadError};
use super::log::{self, IssuerLog, Log, Sums};
use super::remote::{self, RemoteKeeper};
use super::replica::{self, Door};
use super::shared::Shared;
use super::{development, prices, start, vault};
use crate::interrupts::Interrupts;
use halometer::http::beside::Beside;
use halometer::http::clock;
use halometer::http::exchange::{PaymentLayerParts, UpkeepTask};
use halometer::http::gateway::GatewayService;
use halometer::http::layer::cors;
use halometer::http::operate::{DatabaseStatus, OperateParts, Operations, ServingState, Tally};
use halometer::http::server::{Certificates, Listener, Server, TlsError};
use halometer::protocol::{OwnerId, RootKey};
use halometer::store::ClockJump;
use halometer::store::postgres::PostgresStore;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How often it is looked whether the configuration's file has changed.
const WATCH: Duration = Duration::from_secs(5);
/// How often it is asked what is due by the clock.
const TICK: Duration = Duration::from_secs(30);
/// How long it may take to settle what nobody reported, at the end.
const SETTLING: Duration = Duration::from_secs(5);
/// How long the layer waits for settlements of an issuer elsewhere, and some.
const CLEARING: Duration = Duration::from_secs(25);
/// How often sums are logged.
const TELL: Duration = Duration::from_secs(60);

/// What is told of a configuration that is good, and too early.
const WAITS: &str =
    "the configuration cannot be taken up yet: the prices of the last directory stay, and it is tried again by itself";

/// Runs what a file describes, or only checks it.
pub(super) fn run(file: &Path, check: bool, json: bool, accept_clock: bool) -> Outcome<ExitCode> {
    let mut loaded = Loaded::read(file)?;
    loaded.accept_clock = accept_clock;
    if check {
        return check_all(&loaded);
    }
    log::start(loaded.config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(loaded, json))
}

/// A certificate that is spoken at an address, and the files as they were when they were looked at.
struct Spoken {
    certificates: Certificates,
    tls: TlsConfig,
    /// The chain, and the digest of the key.
    seen: (Option<Vec<u8>>, Option<[u8; 32]>),
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    halometer::protocol::ContentDigest::of(bytes).to_bytes()
}

/// Tells what would keep it from starting, and what it would be.
fn check_all(loaded: &Loaded) -> Outcome<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let config = &loaded.config;
    let found = match config.issuer.kind {
        IssuerKind::Inside => start::check(loaded)?,
        IssuerKind::Remote => runtime.block_on(remote::check(loaded))?,
    };
    found.iter().for_each(|line| println!("{line}"));
    // Where it runs already the addresses are its own.
    let runs = found.iter().any(|line| line.starts_with(start::RUNS));
    if !runs {
        start::check_places(config)?;
        let addresses = [Some(config.listen), Some(config.admin.listen), config.issuer.listen];
        let beside = config.beside.as_ref().map(|beside| beside.listen);
        let replicas = config.cluster.as_ref().map(|cluster| cluster.listen);
        let mut taken = Vec::new();
        for address in addresses.into_iter().chain([beside, replicas]).flatten() {
            taken.push(runtime.block_on(bind(address))?);
        }
        println!("all addresses are free to be listened on");
    }
    let upstream = start::upstream(config)?;
    let reached = runtime.block_on(async {
        let request = http::Request::get("/").body(axum::body::Body::empty()).map_err(|error| error.to_string())?;
        let asked = tower::ServiceExt::oneshot(upstream, request);
        let answer =
            timeout(Duration::from_secs(config.upstream.connect_seconds.saturating_add(10).into()), asked).await;
        let answer = answer.map_err(|_| "it did not answer in time".to_owned())?;
        answer.map(|answer| answer.status()).map_err(|error| halometer::http::cause::chain(&error))
    });
    match &reached {
        Ok(status) => println!("the service answers `GET /` with {}", status.as_u16()),
        Err(why) => println!("`upstream.url`: the service does not answer: {why}"),
    }
    match (runs, reached.is_ok()) {
        (true, _) => println!("all else fits"),
        (false, true) => println!("all fits"),
        (false, false) => println!("the gateway would start, and sell nothing before the service answers"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The program while it runs.
struct Running {
    servers: Vec<Server>,
    admin: Server,
    service: GatewayService,
    beside: Option<(Beside, Server)>,
    door: Option<Door>,
    operations: Operations,
    tally: Arc<Tally>,
    clearing: Arc<IssuerLog>,
    sums: Sums,
    keeping: Arc<Mutex<Keeping>>,
    /// What is spoken where, to be renewed.
    certificates: Vec<Spoken>,
    file: PathBuf,
    /// As it was read last, whether it could be gone over to or not.
    seen: Vec<u8>,
    /// Why the file is not gone over to, if that passes: it is tried again, and told once.
    waits: Option<String>,
    /// What it runs by.
    config: Config,
}

async fn serve(loaded: Loaded, json: bool) -> Outcome<ExitCode> {
    let mut signals = Signals::new()?;
    let Some(running) = signals.unless_ended(Running::start(loaded, json)).await else {
        return Ok(ExitCode::FAILURE);
    };
    let mut running = running?;
    let jumped = running.until_ended(&mut signals).await.is_err();
    Ok(match signals.unless_ended(running.finish()).await {
        Some(()) if jumped => ExitCode::FAILURE,
        Some(()) => ExitCode::SUCCESS,
        None => {
            warn!("told to end a second time: calls that run are cut short, and settled by upkeep after their lease");
            ExitCode::FAILURE
        }
    })
}

impl Running {
    async fn start(loaded: Loaded, json: bool) -> Outcome<Self> {
        let config = loaded.config.clone();
        warn_of(&config);
        raise_limit(&config);
        // Before anything is opened: an address that is taken is the commonest mistake.
        let limits = start::server_limits(&config);
        let room = open_files()
            .map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX).saturating_sub(256).max(16));
        let connections = limits.connections.min(room);
        let limits = limits.with_connections(connections);
        let listener = bind(config.listen).await?.limited(limits.clone());
        let admin = bind(config.admin.listen).await?;
        let issuer = match config.issuer.listen {
            Some(address) => Some(bind(address).await?.limited(limits.clone())),
            None => None,
        };
        // All of its connections are the proxy's.
        let of_proxy = limits.clone().with_connections_per_address(limits.connections);
        let inner = match &config.beside {
            Some(beside) => Some(bind(beside.listen).await?.limited(of_proxy)),
            None => None,
        };
        let replicas = match &config.replica() {
            Some(cluster) => Some(bind(cluster.listen).await?),
            None => None,
        };
        let tls = config.tls.as_ref().map(certificates).transpose()?;
        let issuer_tls = config.issuer.tls.as_ref().map(certificates).transpose()?;
        let (seen, file) = (std::fs::read(&loaded.file)?, loaded.file.clone());

        let evidence = config.issuer.kind == IssuerKind::Inside && config.store.kind != StoreKind::Memory;
        let log = Log::new(evidence.then(|| config.issuer.evidence.clone()))?;
        let tally = Arc::new(Tally::new(log as _));
        let clearing = Arc::new(IssuerLog::new(Arc::clone(&tally)));
        let Made { service, keeping, routes, admin_routes, root, waits, database } = match config.issuer.kind {
            IssuerKind::Inside => {
                let replicas = replicas.as_ref().map(Listener::address);
                Made::inside(loaded, &tally, Arc::clone(&clearing), replicas).await?
            }
            IssuerKind::Remote => Made::remote(config.clone(), &tally).await?,
        };
        let beside = start::beside(&config, service.layer())?.zip(inner).map(|(beside, listener)| {
            let server = listener.serve(beside.router());
            (beside, server)
        });
        let door = Door::open(&service, replicas);
        let operations = Operations::start(
            OperateParts::new(service.layer().clone(), Arc::clone(&tally))
                .with_every(Duration::from_secs(config.admin.every_seconds.into()))
                .with_hosts(config.admin.hosts.clone())
                .with_database(database.map(|store| Arc::new(move || DatabaseStatus::of(&store)) as _)),
        )?;
        let admin = admin.serve(operations.router_with(admin_routes));

        let paid = match config.upstream.cors_origins.as_slice() {
            [] => service.router(),
            origins => service.router().layer(cors(origins.iter().filter_map(|origin| origin.parse().ok()))),
        };
        let gateway = match &routes {
            Some(routes) if issuer.is_none() => front::both(paid, routes),
            _ => paid,
        };
        let gateway = serve_at(listener, gateway, tls.as_ref())?;
        let issuer = issuer.zip(routes.as_ref());
        let issuer =
            issuer.map(|(listener, routes)| serve_at(listener, routes.router(), issuer_tls.as_ref())).transpose()?;
        operations.set_state(ServingState::Serving);
        let elsewhere = config.issuer.url.clone();
        let issuer_url = elsewhere.unwrap_or_else(|| issuer.as_ref().unwrap_or(&gateway).url());
        let (id, gateway_url, serial) = (service.layer().id().to_string(), gateway.url(), keeping.serial());
        introduce(
            json,
            &[
                ("gateway_url", &gateway_url),
                ("issuer_url", &issuer_url),
                ("admin_url", &admin.url()),
                ("root_key", &hex::encode(root.to_bytes())),
                ("gateway", &id),
            ],
        )?;
        info!(gateway = id, listen = gateway_url, admin = admin.url(), directory = serial, "taking calls");
        let servers = core::iter::once(gateway).chain(issuer).collect();
        let keeping = Arc::new(Mutex::new(keeping));
        let certificates = tls.into_iter().zip(config.tls.clone());
        let certificates = certificates.chain(issuer_tls.into_iter().zip(config.issuer.tls.clone()));
        let certificates =
            certificates.map(|(certificates, tls)| Spoken { certificates, tls, seen: (None, None) }).collect();
        let sums = Sums::default();
        Ok(Self {
            servers,
            admin,
            service,
            beside,
            door,
            operations,
            tally,
            clearing,
            sums,
            keeping,
            certificates,
            file,
            seen,
            waits,
            config,
        })
    }

    /// Until it is told to end, or its clock jumps: what is due by the clock, and by the operator's will.
    async fn until_ended(&mut self, signals: &mut Signals) -> Result<(), ClockJump> {
        let every = |period| {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        // A remote issuer publishes when it likes, and so does a replica that leads.
        let others = self.config.issuer.kind == IssuerKind::Remote || self.door.is_some();
        let ticks = if others { WATCH } else { TICK };
        let (mut watch, mut tick, mut tell) = (every(WATCH), every(ticks), every(TELL));
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::End => return Ok(()),
                    Signal::Reload => self.reload(true).await,
                },
                _ = watch.tick() => {
                    if let Some(jump) = clock::jumped() {
                        error!("{jump}; the gateway stops, and nothing was deleted: {}", start::CLOCK_HELP);
                        return Err(jump);
                    }
                    self.reload(false).await;
                    self.look_at_certificates(false).await;
                }
                _ = tick.tick() => {
                    if self.waits.is_some() {
                        self.reload(true).await;
                    }
                    if let Err(error) = self.with_keeping(Keeping::tick).await {
                        error!(%error, "what is due by the clock could not be done, and is tried again");
                    }
                }
                _ = tell.tick() => self.sums.tell(&self.tally, &self.clearing),
            }
        }
    }

    /// Keys are built and files are written: on a thread that may wait.
    async fn with_keeping<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Keeping) -> Result<T, ReloadError> + Send + 'static,
    ) -> Result<T, Box<dyn Error>> {
        let keeping = Arc::clone(&self.keeping);
        let done =
            tokio::task::spawn_blocking(move || action(&mut keeping.lock().unwrap_or_else(PoisonError::into_inner)));
        Ok(done.await??)
    }

    /// Goes over to the file as it is now: where it has changed, or where somebody asks for it.
    async fn reload(&mut self, asked: bool) {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
        let bytes = match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(bytes) => bytes,
            Err(error) if asked => return error!(%error, "the configuration cannot be read; all goes on as it was"),
            // An editor that is writing it anew; when it is there it is another one.
            Err(_) => return,
        };
        if !asked && bytes == self.seen {
            return;
        }
        self.seen = bytes;
        let outcome = match Loaded::read(&self.file) {
            Ok(loaded) => self.with_keeping(move |keeping| keeping.reload(&loaded)).await,
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(waits) => {
                self.waits = None;
                info!("the configuration is taken up");
                waits.iter().for_each(|section| warn!(section, "a change that is taken up at the next start"));
            }
            Err(error) => {
                let told = error.to_string();
                let passes =
                    |error: &ReloadError| matches!(error, ReloadError::Due(DueError::Publish(error)) if error.passes());
                let passes = error.downcast_ref().is_some_and(passes);
                match core::mem::replace(&mut self.waits, passes.then(|| told.clone())) {
                    Some(before) if before == told => {}
                    _ if passes => warn!(error = told, "{WAITS}"),
                    _ => error!(error = told, "the configuration is not taken up; all goes on as it was"),
                }
                return;
            }
        }
        self.look_at_certificates(true).await;
    }

    /// Goes over to certificates that were renewed: by themselves, whatever the state of the configuration.
    async fn look_at_certificates(&mut self, asked: bool) {
        for held in &mut self.certificates {
            let (cert, key) = (held.tls.cert.clone(), held.tls.key.clone());
            let read = tokio::task::spawn_blocking(move || {
                (std::fs::read(cert).ok(), std::fs::read(key).ok().map(|key| digest(&key)))
            });
            let Ok(found) = read.await else { continue };
            if !asked && found == held.seen {
                continue;
            }
            let changed = found != held.seen;
            match held.certificates.replace(&held.tls.cert, &held.tls.key) {
                Ok(()) if changed => info!(cert = %held.tls.cert.display(), "the certificate is renewed"),
                Ok(()) => {}
                // The chain and its key are two files, and one of them is written first.
                Err(error) => {
                    warn!(%error, "the certificate is not exchanged; the one before it stays, and the files are looked at again")
                }
            }
            held.seen = found;
        }
    }

    /// Takes no more, and lets what runs finish: first who takes requests, last who is looked at.
    async fn finish(mut self) {
        self.operations.set_state(ServingState::Draining);
        let patience = Duration::from_secs(self.config.limits.shutdown_seconds.into());
        let load = self.service.layer().load();
        info!(
            calls = load.requests,
            sessions = load.sessions,
            at_most_seconds = patience.as_secs(),
            "told to end: calls that run may finish"
        );
        if let Some(door) = &self.door {
            // Balancers have to notice first that this replica takes no more.
            let notice = self.config.replica().map_or(0, |cluster| cluster.notice_seconds);
            door.drain(Duration::from_secs(notice.into())).await;
        }
        for server in self.servers {
            server.shutdown().await;
        }
        if let Some(door) = &self.door {
            door.outlast_sessions(self.service.layer(), patience).await;
        }
        let more = if self.config.issuer.kind == IssuerKind::Remote { CLEARING } else { Duration::ZERO };
        let drained = match &self.beside {
            // Calls that another proxy serves are waited for, and then settled without a report.
            Some((beside, _)) => timeout(patience.saturating_add(SETTLING + more), beside.drain(patience)).await,
            None => timeout(patience.saturating_add(more), self.service.drain()).await,
        };
        // It took reports until now.
        if let Some((_, inner)) = self.beside {
            inner.shutdown().await;
        }
        match drained {
            Ok(0) => {}
            Ok(left) => {
                warn!(
                    left,
                    "the issuer did not answer for so many spends: it settles them after their lease, at what it was told last"
                )
            }
            Err(_) => warn!("calls still run: they are cut short, and settled after their lease"),
        }
        if let Some(door) = self.door {
            door.leave().await;
        }
        self.sums.tell(&self.tally, &self.clearing);
        self.admin.shutdown().await;
        info!("ended");
    }
}

/// What sees to changes.
enum Keeping {
    Inside(Box<Keeper>),
    Remote(Box<RemoteKeeper>),
}

impl Keeping {
    fn serial(&self) -> u64 {
        match self {
            Self::Inside(keeper) => keeper.serial(),
            Self::Remote(keeper) => keeper.serial(),
        }
    }

    fn tick(&mut self) -> Result<(), ReloadError> {
        match self {
            Self::Inside(keeper) => keeper.tick(),
            Self::Remote(keeper) => {
                keeper.tick();
                Ok(())
            }
        }
    }

    fn reload(&mut self, loaded: &Loaded) -> Result<Vec<&'static str>, ReloadError> {
        match (self, loaded.config.issuer.kind) {
            (Self::Inside(keeper), IssuerKind::Inside) => keeper.reload(loaded),
            (Self::Remote(keeper), IssuerKind::Remote) => keeper.reload(loaded),
            // All of it belongs to another gateway than the one that runs.
            _ => Err(ReloadError::OtherKind),
        }
    }
}

/// What serves, before anybody is served.
struct Made {
    service: GatewayService,
    keeping: Keeping,
    /// The issuer's, if it is inside.
    routes: Option<Exchanged>,
    /// What is at the operator's address besides what an operator looks at.
    admin_routes: Router,
    root: RootKey,
    /// Why prices of the configuration are not published yet.
    waits: Option<String>,
    /// The database, where gateways share one.
    database: Option<PostgresStore>,
}

impl Made {
    /// With the issuer.
    async fn inside(
        loaded: Loaded,
        tally: &Arc<Tally>,
        log: Arc<IssuerLog>,
        replicas: Option<SocketAddr>,
    ) -> Outcome<Self> {
        let (config, owner) = (loaded.config.clone(), OwnerId::from_bytes(rand::random()));
        let (loaded, opened) =
            tokio::task::spawn_blocking(move || start::open(&loaded).map(|opened| (loaded, opened))).await??;
        let peers = replica::join(&config, replicas, owner, &opened.records).await?;
        let shared = peers.clone().map(Shared::new);
        let prepared = tokio::task::spawn_blocking(move || start::prepare(&loaded, owner, opened, shared)).await??;
        let every = Duration::from_secs(config.upkeep.every_seconds.into());
        let service = GatewayService::start(
            PaymentLayerParts::new(
                Arc::clone(&prepared.gateway),
                Arc::clone(&prepared.issuer),
                prepared.vault.gateway_key()?,
                prices::pricing(&prepared.config),
            )
            .with_free(prices::free(&config))
            .with_observer(Arc::clone(tally) as _)
            .with_limits(start::limits(&config))
            .with_upkeep(UpkeepTask { upkeep: start::upkeep(&config, owner), every })
            .with_peers(peers),
            start::upstream(&config)?,
        )?
        .passing(start::passed(&config))?;
        let waits = prepared.waits.as_ref().map(ToString::to_string);
        if let Some(error) = &waits {
            warn!(error, "{WAITS}");
        }
        let (root, payments) = (prepared.vault.root(), config.issuer.payments.kind);
        let keeper = Keeper::new(prepared, config, service.clone(), log)?;
        let admin_routes = match payments {
            PaymentsKind::Development => development::router(Arc::clone(&keeper.records().payments)),
            PaymentsKind::Notices => Router::new(),
        };
        let routes = Some(keeper.routes().clone());
        let database = keeper.records().postgres.clone();
        Ok(Self { service, keeping: Keeping::Inside(Box::new(keeper)), routes, admin_routes, root, waits, database })
    }

    /// With an issuer elsewhere.
    async fn remote(config: Config, tally: &Arc<Tally>) -> Outcome<Self> {
        let keeper = RemoteKeeper::start(config, tally).await?;
        let (service, root) = (keeper.service().clone(), keeper.root());
        let keeping = Keeping::Remote(Box::new(keeper));
        Ok(Self { service, keeping, routes: None, admin_routes: Router::new(), root, waits: None, database: None })
    }
}

fn certificates(tls: &TlsConfig) -> Result<Certificates, TlsError> {
    Certificates::read(&tls.cert, &tls.key)
}

fn serve_at(listener: Listener, router: Router, certificates: Option<&Certificates>) -> Result<Server, TlsError> {
    match certificates {
        Some(certificates) => listener.serve_tls(router, certificates),
        None => Ok(listener.serve(router)),
    }
}

/// Raises the limit of open files to what the system allows, and says it.
#[cfg(unix)]
fn open_files() -> std::io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

#[cfg(not(unix))]
fn open_files() -> std::io::Result<u64> {
    Ok(u64::MAX)
}

/// Two for each connection, and some for the store.
fn files_needed(config: &Config) -> u64 {
    (config.limits.connections as u64).saturating_mul(2).saturating_add(512)
}

async fn bind(address: SocketAddr) -> Outcome<Listener> {
    Listener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}").into())
}

/// Each connection, and each call to the service, is an open file: as many may be had as the system allows this process.
fn raise_limit(config: &Config) {
    match open_files() {
        Ok(limit) if limit < files_needed(config) => {
            warn!(
                limit,
                needed = files_needed(config),
                "fewer files may be open than `limits.connections` needs: connections wait"
            );
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "how many files may be open cannot be asked"),
    }
}

/// What an operator has to have read.
fn warn_of(config: &Config) {
    if config.store.kind == StoreKind::Memory {
        warn!("store.kind = \"memory\": all keys, records and credit are lost when this program ends");
    }
    if config.issuer.payments.kind == PaymentsKind::Development {
        warn!(
            "issuer.payments.kind = \"development\": anyone that reaches the operator's address makes credit for nothing"
        );
    }
    let issuer = config.issuer.listen.map(|listen| (listen, &config.issuer.tls));
    for (listen, _) in core::iter::once((config.listen, &config.tls))
        .chain(issuer)
        .filter(|(listen, tls)| tls.is_none() && !listen.ip().is_loopback())
    {
        warn!(%listen, "there is no TLS, and others reach this address: something that does TLS has to stand in front");
    }
    if let Some(beside) = config.beside.as_ref().filter(|beside| !beside.listen.ip().is_loopback()) {
        warn!(listen = %beside.listen, "the address for the proxy is not on loopback: what goes there is not encrypted");
    }
    if !config.admin.listen.ip().is_loopback() {
        warn!("the operator's address is not on loopback: anyone that reaches it sees the sums");
    }
    vault::exposed(config).iter().for_each(|path| warn!(path = %path.display(), "others may read a secret"));
}

fn introduce(as_json: bool, parts: &[(&str, &str)]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        let value: serde_json::Map<_, _> = parts.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        writeln!(out, "{}", serde_json::Value::Object(value))?;
    } else {
        for (name, text) in parts {
            writeln!(out, "{:<12} {text}", name.replace('_', " "))?;
        }
    }
    out.flush()
}

/// What somebody wants of the program.
enum Signal {
    End,
    Reload,
}

/// Listens to signals.
struct Signals {
    interrupts: Interrupts,
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupts: Interrupts::new()?,
            #[cfg(unix)]
            hang_up: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        #[cfg(unix)]
        tokio::select! {
            () = self.interrupts.next() => Signal::End,
            _ = self.hang_up.recv() => Signal::Reload,
        }
        #[cfg(not(unix))]
        {
            self.interrupts.next().await;
            Signal::End
        }
    }

    /// What something comes to, unless the program is told to end before.
    async fn unless_ended<T>(&mut self, something: impl Future<Output = T>) -> Option<T> {
        let mut something = core::pin::pin!(something);
        loop {
            tokio::select! {
                done = &mut something => return Some(done),
                signal = self.next() => {
                    if matches!(signal, Signal::End) {
                        return None;
                    }
                }
            }
        }
    }
}
