//! A market for first steps and tests: an issuer that takes payments at your word, and a gateway, on one spent set in memory.
//!
//! Its keys are drawn when it opens and its records are gone when it is dropped. For anything else make an
//! [`Issuer`] over kept keys and a [`Gateway`] over a durable set; `docs/embed.md` does it step by step.

use std::sync::Arc;

use rand_core::{CryptoRng, Rng};

use crate::gateway::{Gateway, GatewayError, GatewayParts, Quotas};
use crate::issuer::{DevelopmentPayments, EpochKeys, Issuer, IssuerError, MintError, PaymentSourceError};
use crate::protocol::{
    Credits, DeviceId, Directory, DirectoryError, DirectoryParts, Epoch, EpochNumber, GatewayEntry, GatewayId,
    GatewaySigningKey, Grid, LANES, Limits, OwnerId, PaymentId, RootSigningKey, Tariff, TariffError, Timestamp, Window,
};
use crate::store::{MemoryMintBook, MemorySpentSet, SpentSet as _, StoreError};
use crate::wallet::{AcceptMintError, MemoryJournal, OpenError, PaymentError, RootSecret, Wallet};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// The longest session, seconds.
const SESSION: u32 = 600;
/// For so long a process alone settles what it admitted, seconds.
const LEASE: u32 = SESSION + 120;

/// Why a market does not open, or gives no wallet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarketError {
    /// The charge is zero: choose one of at least a micro-credit.
    #[error("the market's directory: {0}")]
    Directory(#[from] DirectoryError),
    /// The tariff breaks a rule.
    #[error("the market's tariff: {0}")]
    Tariff(#[from] TariffError),
    /// The issuer refuses its parts.
    #[error("the market's issuer: {0}")]
    Issuer(#[from] IssuerError),
    /// The gateway refuses its parts.
    #[error("the market's gateway: {0}")]
    Gateway(#[from] GatewayError),
    /// The spent set failed.
    #[error("the market's set: {0}")]
    Store(#[from] StoreError),
    /// The payment was granted before with another amount.
    #[error("the market's payments: {0}")]
    Payments(#[from] PaymentSourceError),
    /// The wallet refuses the directory.
    #[error("the wallet cannot be opened: {0}")]
    Wallet(#[from] OpenError),
    /// The wallet requests no mint.
    #[error("the wallet cannot request a mint: {0}")]
    Payment(#[from] PaymentError),
    /// The issuer does not mint.
    #[error("the issuer does not mint: {0}")]
    Mint(#[from] MintError),
    /// The wallet refuses what was minted.
    #[error("the wallet refuses what was minted: {0}")]
    Accept(#[from] AcceptMintError),
}

/// An issuer and a gateway on one spent set in memory.
pub struct Market {
    root: RootSigningKey,
    payments: Arc<DevelopmentPayments>,
    issuer: Issuer,
    gateway: Gateway,
}

impl core::fmt::Debug for Market {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Market").field("gateway", &self.gateway.id()).finish_non_exhaustive()
    }
}

impl Market {
    /// Opens a market with one charge class, `charge` micro-credits, and one epoch that issues for 30 days around `now`. Takes
    /// some 0.1 s of one core, for the epoch's verifying key.
    ///
    /// # Errors
    /// [`MarketError::Directory`] if the charge is zero, and the others if a part refuses what it is made of.
    pub fn open<R: Rng + CryptoRng>(charge: Credits, now: Timestamp, rng: &mut R) -> Result<Self, MarketError> {
        let (root, key) = (RootSigningKey::generate(rng), GatewaySigningKey::generate(rng));
        let (number, mut keys) = (EpochNumber::new(1), EpochKeys::new());
        let mut name = [0; 16];
        rng.fill_bytes(&mut name);
        let (id, start) = (GatewayId::from_bytes(name), now.before(HOUR));
        let month = Window { from: start, until: start.after(30 * DAY) };
        let parts = DirectoryParts {
            root: root.public_key(),
            serial: 1,
            published: now,
            quantum: Credits::from_micro(1),
            grid: Grid::with_publication(HOUR as u32, 1)
                .unwrap_or_else(|| unreachable!("an hour is a step that is long enough")),
            evidence_seconds: DAY as u32,
            limits: Limits { session_seconds: SESSION },
            classes: vec![charge],
            tariffs: vec![Tariff::new(month, Vec::new())?],
            epochs: vec![Epoch {
                number,
                key: keys.generate(number, rng),
                issue: month,
                spend: Window { until: month.until.after(DAY), ..month },
            }],
            gateways: vec![GatewayEntry {
                id,
                origins: vec!["https://api.example.org".to_owned()],
                key: key.public_key(),
            }],
        };
        let directory = Directory::new(parts)?;
        let set = Arc::new(MemorySpentSet::new());
        set.create(number)?;
        let payments = Arc::new(DevelopmentPayments::new());
        let mints = Arc::new(MemoryMintBook::new());
        let issuer = Issuer::new(&root, directory.clone(), keys, mints, Arc::clone(&payments) as _)?;
        rng.fill_bytes(&mut name);
        let owner = OwnerId::from_bytes(name);
        let parts = GatewayParts { id, directory, set, owner, lease_seconds: LEASE, quotas: Quotas::default() };
        let gateway = Gateway::new(parts, now)?;
        Ok(Self { root, payments, issuer, gateway })
    }

    /// The issuer.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The gateway.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// A new wallet that paid once and holds `amount` micro-credits in each of its eight lanes.
    ///
    /// # Errors
    /// [`MarketError`]; eight times the amount must fit 64 bits.
    pub fn wallet<R: Rng + CryptoRng>(
        &self,
        amount: Credits,
        now: Timestamp,
        rng: &mut R,
    ) -> Result<Wallet<MemoryJournal>, MarketError> {
        let (mut payment, mut device) = ([0; 32], [0; 8]);
        rng.fill_bytes(&mut payment);
        rng.fill_bytes(&mut device);
        let payment = PaymentId::from_bytes(payment);
        let (secret, device) = (RootSecret::generate(rng), DeviceId::from_bytes(device));
        let signed = self.issuer.signed_directory();
        let mut wallet = Wallet::new(secret, device, self.root.public_key(), signed, MemoryJournal::new())?;
        let request = wallet.request_mint(payment, [amount; LANES], now)?;
        let paid = Credits::checked_sum([amount; LANES]).ok_or(PaymentError::Overflow)?;
        self.payments.grant(payment, paid)?;
        wallet.accept_mint(&payment, &self.issuer.mint(&request, now)?, now)?;
        Ok(wallet)
    }
}
