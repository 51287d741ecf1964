//! The parties of the demo, each a server on a free port of loopback.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::chat;
use super::market::{Adjust, LEASE, Market, MarketError, MarketOptions};
use crate::gateway::{Gateway, Quotas};
use crate::http::cause::chain;
use crate::http::exchange::{GatewayLimits, PaymentLayerParts, UpkeepTask};
use crate::http::gateway::GatewayService;
use crate::http::issuer::IssuerService;
use crate::http::observer::Observer;
use crate::http::pattern::RoutePattern;
use crate::http::payer::Payer;
use crate::http::pricing::{INPUT_TOKEN, OUTPUT_TOKEN, Pricing, TokenPricing};
use crate::http::server::{Listener, Server};
use crate::http::upstream::{Upstream, UpstreamConfigError, UpstreamError, UpstreamLimits};
use crate::issuer::{Books, BooksError, Issuer};
use crate::lifecycle::Evidence;
use crate::protocol::{Credits, GatewayId, PaymentId, RootKey, RootSigningKey};
use crate::store::{MintBook, MintRecord, SpentSet, StoreError};
use crate::upkeep::{Upkeep, UpkeepParts};
use crate::wallet::MemoryJournal;

const DAY: u32 = 24 * 3_600;
/// The charge classes, micro-credits: few, and far apart.
const CLASSES: [u64; 5] = [4_000, 16_000, 64_000, 256_000, 1_000_000];
/// Price of a token of a question and of an answer, micro-credits.
const PRICES: [(&str, u64); 2] = [(INPUT_TOKEN, 2), (OUTPUT_TOKEN, 8)];

/// How the parties differ from what they are by themselves.
#[derive(Default)]
pub struct StackOptions {
    /// The service to put the gateway in front of; the demo's own if there is none.
    pub upstream: Option<UpstreamOptions>,
    /// Limits of the gateway.
    pub limits: GatewayLimits,
    /// May change the directory before it is signed.
    pub adjust: Option<Adjust>,
    /// Where the records are kept; in memory if nowhere.
    pub records: Option<Records>,
    /// How often there is upkeep; every minute if it is not said.
    pub upkeep_every: Option<Duration>,
    /// How often the gateway does what earns it nothing.
    pub quotas: Quotas,
    /// Where the gateway listens, and at the next port the issuer; at free ports of loopback if it is not said or the port is 0.
    pub listen: Option<SocketAddr>,
    /// Requests that cost nothing.
    pub free: Vec<RoutePattern>,
    /// What calls cost; by tokens if it is not said.
    pub pricing: Option<Box<dyn Pricing>>,
}

/// Records that outlast the parties.
pub struct Records {
    /// The gateway whose records they are.
    pub gateway: GatewayId,
    /// Spends.
    pub set: Arc<dyn SpentSet>,
    /// Mints.
    pub mints: Arc<dyn MintBook>,
}

impl core::fmt::Debug for StackOptions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("StackOptions").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Records {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Records").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// A service to put the gateway in front of.
#[derive(Clone)]
pub struct UpstreamOptions {
    /// Its root; `/v1/chat/completions` is appended.
    pub url: String,
    /// The operator's key for it.
    pub api_key: Option<String>,
}

impl core::fmt::Debug for UpstreamOptions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UpstreamOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Why the parties could not be started, or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// No port, or no thread.
    #[error("cannot start a server on loopback: {0}")]
    Io(#[from] io::Error),
    /// The upstream's URL or key.
    #[error(transparent)]
    Upstream(#[from] UpstreamConfigError),
    /// Issuer, gateway or payments.
    #[error(transparent)]
    Market(#[from] MarketError),
    /// The spent set failed.
    #[error("the market's store: {0}")]
    Store(#[from] StoreError),
    /// The books cannot be drawn up.
    #[error("the issuer's books: {0}")]
    Books(#[from] BooksError),
    /// The thread that builds keys panicked.
    #[error("the keys could not be built")]
    Keys,
}

/// The running parties.
pub struct Stack {
    chat: Option<Server>,
    gateway_server: Server,
    issuer_server: Server,
    service: GatewayService,
    market: Market,
    observed: Arc<Observed>,
    upstream: String,
}

/// What the gateway told.
#[derive(Debug, Default)]
struct Observed {
    verified: Mutex<Vec<Duration>>,
    evidence: Mutex<Vec<Evidence>>,
    upstream_failures: Mutex<BTreeSet<String>>,
    conflicts: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer for Observed {
    fn verified(&self, spends: usize, elapsed: Duration) {
        let each = elapsed / u32::try_from(spends.max(1)).unwrap_or(u32::MAX);
        lock(&self.verified).extend(std::iter::repeat_n(each, spends));
    }

    fn upstream_failed(&self, error: &UpstreamError) {
        lock(&self.upstream_failures).insert(chain(error));
    }

    fn conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    fn double_spend(&self, evidence: Evidence) {
        lock(&self.evidence).push(evidence);
    }
}

impl Stack {
    /// Starts the chat service (unless there is an upstream), the issuer and the gateway.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn start(options: StackOptions) -> Result<Self, StackError> {
        let StackOptions { upstream, limits, adjust, records, upkeep_every, quotas, listen: address, free, pricing } =
            options;
        // The chat service has a list of its models, too.
        let models = "GET /v1/models".parse().ok();
        let pricing = pricing.unwrap_or_else(|| Box::new(TokenPricing::new().and_sells(models)));
        let (chat, upstream) = match upstream {
            Some(service) => (None, service),
            None => {
                let chat = listen().await?.serve(chat::service());
                let service = UpstreamOptions { url: chat.url(), api_key: None };
                (Some(chat), service)
            }
        };
        let upstream = Upstream::new(&upstream.url, upstream.api_key.as_deref(), UpstreamLimits::default())?;
        let (gateway_listener, issuer_listener) = match address {
            Some(address) => (Listener::bind(address).await?, Listener::bind(next_port(address)?).await?),
            None => (listen().await?, listen().await?),
        };

        let origin = format!("http://{}", gateway_listener.address());
        let mut market = MarketOptions { adjust, quotas, ..MarketOptions::new(origin, 0, &PRICES) };
        market.classes = CLASSES.to_vec();
        if let Some(Records { gateway, set, mints }) = records {
            (market.id, market.set, market.mints) = (gateway, set, mints);
        }
        let building = tokio::task::spawn_blocking(move || Market::open(market));
        let market = building.await.map_err(|_| StackError::Keys)??;

        let observed = Arc::new(Observed::default());
        let upstream_url = upstream.url().to_owned();
        let upkeep = Upkeep::new(
            UpkeepParts::new(market.owner(), LEASE)
                .with_extra_grace_seconds(DAY)
                .with_records_per_partition(1_000)
                .with_warn_seconds(7 * DAY),
        );
        let (gateway, issuer) = (market.gateway(), market.issuer());
        let service = GatewayService::start(
            PaymentLayerParts::new(Arc::clone(gateway), Arc::clone(issuer), market.key(), pricing)
                .with_free(free)
                .with_observer(Arc::clone(&observed) as _)
                .with_limits(limits)
                .with_upkeep(UpkeepTask { upkeep, every: upkeep_every.unwrap_or(Duration::from_secs(60)) }),
            upstream,
        )?;
        let gateway_server = gateway_listener.serve(service.router());
        let minting = IssuerService::start(Arc::clone(issuer))?.with_spent_set(gateway.shared_set(), limits.spent)?;
        let issuer_server = issuer_listener.serve(minting.router());
        Ok(Self { chat, gateway_server, issuer_server, service, market, observed, upstream: upstream_url })
    }

    /// Somebody pays, by whatever means; the payment is final.
    ///
    /// # Errors
    /// [`StackError::Market`].
    pub fn pay(&self, amount: Credits) -> Result<PaymentId, StackError> {
        Ok(self.market.pay(amount)?)
    }

    /// A caller that has paid, with the smallest charge.
    ///
    /// # Errors
    /// [`StackError::Market`].
    pub async fn payer(&self) -> Result<Payer<MemoryJournal>, StackError> {
        Ok(self.market.payer().await?)
    }

    /// The issuer's books.
    ///
    /// # Errors
    /// [`StackError::Books`].
    pub fn books(&self) -> Result<Books, StackError> {
        Ok(self.issuer().books(self.gateway().set())?)
    }

    /// What the books have on the account that spent a note twice.
    ///
    /// # Errors
    /// [`StackError::Store`].
    pub fn name(&self, evidence: &Evidence) -> Result<Option<MintRecord>, StackError> {
        Ok(self.issuer().name(evidence)?)
    }

    /// The evidence of double spends that the gateway has found so far.
    pub fn evidence(&self) -> Vec<Evidence> {
        lock(&self.observed.evidence).clone()
    }

    /// How often the gateway refused a spend because another one of its note came first.
    pub fn conflicts(&self) -> u64 {
        self.observed.conflicts.load(Ordering::Relaxed)
    }

    /// Why the service did not answer, each reason once.
    pub fn upstream_failures(&self) -> Vec<String> {
        lock(&self.observed.upstream_failures).iter().cloned().collect()
    }

    /// How long it took to verify each spend so far: its share of the batch that it was verified in.
    pub fn verify_times(&self) -> Vec<Duration> {
        lock(&self.observed.verified).clone()
    }

    /// The issuer's root key, which callers pin.
    pub fn root_key(&self) -> RootKey {
        self.market.root().public_key()
    }

    /// The issuer's root signing key, to sign other directories with.
    pub fn root_signing_key(&self) -> &RootSigningKey {
        self.market.root()
    }

    /// The issuer, for others to share.
    pub fn shared_issuer(&self) -> Arc<Issuer> {
        Arc::clone(self.market.issuer())
    }

    /// The issuer.
    pub fn issuer(&self) -> &Issuer {
        self.market.issuer()
    }

    /// The gateway.
    pub fn gateway(&self) -> &Gateway {
        self.market.gateway()
    }

    /// The gateway's URL.
    pub fn gateway_url(&self) -> String {
        self.gateway_server.url()
    }

    /// The issuer's URL.
    pub fn issuer_url(&self) -> String {
        self.issuer_server.url()
    }

    /// The URL of the service behind the gateway.
    pub fn upstream_url(&self) -> &str {
        &self.upstream
    }

    /// Lets what is on its way finish, and stops: first the parts that take requests, last those that serve them.
    pub async fn shutdown(self) {
        self.gateway_server.shutdown().await;
        let _ = tokio::time::timeout(Duration::from_secs(10), self.service.drain()).await;
        self.issuer_server.shutdown().await;
        if let Some(chat) = self.chat {
            chat.shutdown().await;
        }
    }
}

impl core::fmt::Debug for Stack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stack").field("gateway", &self.gateway_server).finish_non_exhaustive()
    }
}

fn next_port(address: SocketAddr) -> io::Result<SocketAddr> {
    let port = match address.port() {
        0 => Some(0),
        port => port.checked_add(1),
    };
    let port = port.ok_or_else(|| io::Error::other("there is no next port for the issuer"))?;
    Ok(SocketAddr::new(address.ip(), port))
}

async fn listen() -> io::Result<Listener> {
    Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
}
