//! A small market for development: an issuer whose payments are made by saying so, and a gateway, on one spent set.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use crate::gateway::{Gateway, GatewayError, GatewayParts, Quotas};
use crate::http::clock::now;
use crate::http::exchange::{GatewayLimits, PaymentLayerParts};
use crate::http::layer::PaymentLayer;
use crate::http::observer::NoObserver;
use crate::http::payer::{Client, ClientError, Payer, PayerError, PayerParts};
use crate::http::pricing::Pricing;
use crate::issuer::{DevelopmentPayments, EpochKeys, Issuer, IssuerError, PaymentSourceError};
use crate::protocol::{
    Credits, DeviceId, Directory, DirectoryError, DirectoryParts, Epoch, EpochNumber, GatewayEntry, GatewayId,
    GatewaySigningKey, Grid, LANES, Limits, OwnerId, PaymentId, Price, RootSigningKey, Tariff, TariffError, Timestamp,
    Window,
};
use crate::store::{MemoryMintBook, MemorySpentSet, MintBook, SpentSet, StoreError};
use crate::wallet::{AcceptMintError, MemoryJournal, OpenError, PaymentError, Policy, RootSecret, Wallet};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// The longest session, seconds.
const SESSION: u32 = 600;
/// For so long a process alone settles what it admitted, seconds.
pub(super) const LEASE: u32 = SESSION + 120;
/// What a lane of [`Market::wallet`] holds, in charges.
const CHARGES: u64 = 10;

/// Changes a directory before it is signed.
pub type Adjust = Box<dyn FnOnce(&mut DirectoryParts) + Send>;

/// What a market begins with.
pub struct MarketOptions {
    /// The gateway's id.
    pub id: GatewayId,
    /// Where callers find the gateway.
    pub origin: String,
    /// The charge classes, micro-credits.
    pub classes: Vec<u64>,
    /// What an item costs, micro-credits.
    pub prices: Vec<(String, u64)>,
    /// May change the directory before it is signed.
    pub adjust: Option<Adjust>,
    /// Where spends are kept.
    pub set: Arc<dyn SpentSet>,
    /// Where mints are kept.
    pub mints: Arc<dyn MintBook>,
    /// How often the gateway does what earns it nothing.
    pub quotas: Quotas,
}

impl MarketOptions {
    /// One charge class and a price list, in memory.
    pub fn new(origin: impl Into<String>, class: u64, prices: &[(&str, u64)]) -> Self {
        Self {
            id: GatewayId::from_bytes(UnwrapErr(SysRng).random()),
            origin: origin.into(),
            classes: vec![class],
            prices: prices.iter().map(|(item, credits)| ((*item).to_owned(), *credits)).collect(),
            adjust: None,
            set: Arc::new(MemorySpentSet::new()),
            mints: Arc::new(MemoryMintBook::new()),
            quotas: Quotas::default(),
        }
    }
}

impl core::fmt::Debug for MarketOptions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MarketOptions").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Why there is no market, or something in it did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarketError {
    /// No thread.
    #[error("cannot start the payment layer: {0}")]
    Io(#[from] std::io::Error),
    /// The directory breaks a rule.
    #[error("the market's directory: {0}")]
    Directory(#[from] DirectoryError),
    /// The tariff breaks a rule.
    #[error("the market's tariff: {0}")]
    Tariff(#[from] TariffError),
    /// The issuer cannot be made, or does not mint.
    #[error("the market's issuer: {0}")]
    Issuer(#[from] IssuerError),
    /// The gateway cannot be made.
    #[error("the market's gateway: {0}")]
    Gateway(#[from] GatewayError),
    /// The spent set failed.
    #[error("the market's store: {0}")]
    Store(#[from] StoreError),
    /// The payments cannot be asked.
    #[error("the market's payments: {0}")]
    Payments(#[from] PaymentSourceError),
    /// The wallet refuses the directory.
    #[error("the wallet cannot be opened: {0}")]
    Wallet(#[from] OpenError),
    /// The wallet requests no mint.
    #[error("the wallet cannot request a mint: {0}")]
    Payment(#[from] PaymentError),
    /// The issuer mints nothing.
    #[error("the issuer does not mint: {0}")]
    Mint(#[from] crate::issuer::MintError),
    /// The wallet refuses what was minted.
    #[error("the wallet refuses what was minted: {0}")]
    Accept(#[from] AcceptMintError),
    /// There is no client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The payer does not start.
    #[error(transparent)]
    Payer(#[from] PayerError),
}

/// An issuer and a gateway on one spent set, and their payers.
pub struct Market {
    root: RootSigningKey,
    key: [u8; 32],
    owner: OwnerId,
    payments: Arc<DevelopmentPayments>,
    issuer: Arc<Issuer>,
    gateway: Arc<Gateway>,
}

impl Market {
    /// Opens a market. Takes some 0.1 s of one core for each epoch that can be spent.
    ///
    /// # Errors
    /// [`MarketError`].
    pub fn open(options: MarketOptions) -> Result<Self, MarketError> {
        let MarketOptions { id, origin, classes, prices, adjust, set, mints, quotas } = options;
        let mut rng = UnwrapErr(SysRng);
        let (root, key) = (RootSigningKey::generate(&mut rng), rng.random());
        let (now, mut keys) = (now(), EpochKeys::new());
        let start = now.before(HOUR);
        let valid = Window { from: start, until: start.after(365 * DAY) };
        let price = |(item, credits)| Price { item, credits: Credits::from_micro(credits), per: 1 };
        let mut parts = DirectoryParts {
            root: root.public_key(),
            serial: 1,
            published: now,
            quantum: Credits::from_micro(1),
            // Published as often as a test likes: no issuer in earnest does.
            grid: Grid::with_publication(HOUR as u32, 1)
                .unwrap_or_else(|| unreachable!("an hour is a step that is long enough")),
            evidence_seconds: DAY as u32,
            limits: Limits { session_seconds: SESSION },
            classes: classes.into_iter().map(Credits::from_micro).collect(),
            tariffs: vec![Tariff::new(valid, prices.into_iter().map(price).collect())?],
            epochs: epochs(&mut keys, start),
            gateways: vec![GatewayEntry {
                id,
                origins: vec![origin],
                key: GatewaySigningKey::from_bytes(&key).public_key(),
            }],
        };
        if let Some(adjust) = adjust {
            adjust(&mut parts);
        }
        let directory = Directory::new(parts)?;
        for epoch in directory.epochs() {
            set.create(epoch.number)?;
        }
        let payments = Arc::new(DevelopmentPayments::new());
        let issuer = Arc::new(Issuer::new(&root, directory.clone(), keys, mints, Arc::clone(&payments) as _)?);
        let owner = OwnerId::from_bytes(rng.random());
        let parts = GatewayParts { id, directory, set, owner, lease_seconds: LEASE, quotas };
        let gateway = Arc::new(Gateway::new(parts, now)?);
        Ok(Self { root, key, owner, payments, issuer, gateway })
    }

    /// The root key that signs the directory.
    pub fn root(&self) -> &RootSigningKey {
        &self.root
    }

    /// The key that the gateway signs receipts with.
    pub fn key(&self) -> GatewaySigningKey {
        GatewaySigningKey::from_bytes(&self.key)
    }

    /// The process that settles.
    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    /// The issuer.
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// The gateway.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Somebody pays, by whatever means; the payment is final.
    ///
    /// # Errors
    /// [`MarketError::Payments`].
    pub fn pay(&self, amount: Credits) -> Result<PaymentId, MarketError> {
        let payment = PaymentId::from_bytes(UnwrapErr(SysRng).random());
        self.payments.grant(payment, amount)?;
        Ok(payment)
    }

    /// A wallet that has paid: each lane holds ten of the largest charges.
    ///
    /// # Errors
    /// [`MarketError`].
    pub fn wallet(&self) -> Result<Wallet<MemoryJournal>, MarketError> {
        let largest = self.gateway.directory().classes().last().copied().unwrap_or_default();
        let lane = Credits::from_micro(largest.micro() * CHARGES);
        let payment = self.pay(Credits::from_micro(lane.micro() * LANES as u64))?;
        let mut rng = UnwrapErr(SysRng);
        let (secret, device) = (RootSecret::generate(&mut rng), DeviceId::from_bytes(rng.random()));
        let signed = self.issuer.signed_directory();
        let mut wallet = Wallet::new(secret, device, self.root.public_key(), signed, MemoryJournal::new())?;
        let request = wallet.request_mint(payment, [lane; LANES], now())?;
        wallet.accept_mint(&payment, &self.issuer.mint(&request, now())?, now())?;
        Ok(wallet)
    }

    /// [`wallet`](Self::wallet), and a client in front of it that pays with the smallest charge.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn payer(&self) -> Result<Payer<MemoryJournal>, MarketError> {
        let smallest = self.gateway.directory().classes().first().copied().unwrap_or_default();
        let parts = PayerParts::new(self.gateway.id(), Policy::personal(smallest), Client::plain()?);
        Ok(Payer::start(self.wallet()?, parts).await?)
    }

    /// The gateway as a layer around a service. Requests that match `free` cost nothing.
    ///
    /// # Errors
    /// [`MarketError::Io`].
    pub fn layer(
        &self,
        pricing: impl Pricing + 'static,
        free: Vec<crate::http::pattern::RoutePattern>,
    ) -> Result<PaymentLayer, MarketError> {
        Ok(PaymentLayer::start(PaymentLayerParts {
            gateway: Arc::clone(&self.gateway),
            issuer: Arc::clone(&self.issuer),
            pricing: Box::new(pricing),
            free,
            observer: Arc::new(NoObserver),
            limits: GatewayLimits::default(),
            call_timeout: Duration::from_secs(300),
            key: self.key(),
            upkeep: None,
        })?)
    }
}

impl core::fmt::Debug for Market {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Market").field("gateway", &self.gateway.id()).finish_non_exhaustive()
    }
}

/// An epoch that issues now, and the one that follows it.
fn epochs(keys: &mut EpochKeys, start: Timestamp) -> Vec<Epoch> {
    let mut epoch = |number, from: u64| {
        let number = EpochNumber::new(number);
        let issue = Window { from: start.after(from), until: start.after(from + 30 * DAY) };
        let spend = Window { from: issue.from, until: issue.until.after(15 * DAY) };
        Epoch { number, key: keys.generate(number, &mut UnwrapErr(SysRng)), issue, spend }
    };
    vec![epoch(1, 0), epoch(2, 30 * DAY)]
}
