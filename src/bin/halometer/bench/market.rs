//! An issuer and wallets to measure with.

use std::sync::Arc;

use halometer_circuits::proof::Workers;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::progress::Progress;
use halometer::gateway::{Gateway, GatewayParts};
use halometer::issuer::{DevelopmentPayments, EpochKeys, Issuer};
use halometer::lifecycle::{AdmittedSpend, SettledSpend};
use halometer::protocol::{
    ContentDigest, Credits, DeviceId, Directory, DirectoryParts, Epoch, EpochNumber, GatewayEntry, GatewayId,
    GatewaySigningKey, Grid, Limits, OwnerId, PaymentId, Price, Request, RequestError, RootSigningKey, Tariff,
    Timestamp, Window,
};
use halometer::sealed::Lock;
use halometer::store::{MemoryMintBook, SpentSet};
use halometer::wallet::file::{FileJournal, WalletFile};
use halometer::wallet::{Journal, MemoryJournal, ProvingKeys, ReadySpend, RootSecret, Wallet};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

pub(super) struct Market {
    root: RootSigningKey,
    issuer: Issuer,
    payments: Arc<DevelopmentPayments>,
}

impl Market {
    pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_060);
    pub(super) const EPOCH: EpochNumber = EpochNumber::new(1);
    pub(super) const GATEWAY: GatewayId = GatewayId::from_bytes([7; GatewayId::LENGTH]);
    pub(super) const CLASS: Credits = Credits::from_micro(10_000);

    pub(super) fn new(rng: &mut ChaCha20Rng) -> Outcome<Self> {
        let root = RootSigningKey::generate(rng);
        let mut keys = EpochKeys::new();
        let epoch_key = keys.generate(Self::EPOCH, rng);
        let window = Window { from: Self::NOW.before(3_600), until: Self::NOW.after(86_400) };
        let price = Price { item: "call".into(), credits: Credits::from_micro(1), per: 1 };
        let directory = Directory::new(DirectoryParts {
            root: root.public_key(),
            serial: 1,
            published: Self::NOW.before(3_600),
            quantum: Credits::from_micro(1),
            grid: Grid::new(3600).ok_or("a grid step of an hour is allowed")?,
            evidence_seconds: 86_400,
            limits: Limits { session_seconds: 600 },
            classes: vec![Self::CLASS],
            tariffs: vec![Tariff::new(window, vec![price])?],
            epochs: vec![Epoch { number: Self::EPOCH, key: epoch_key, issue: window, spend: window }],
            gateways: vec![GatewayEntry {
                id: Self::GATEWAY,
                origins: vec!["http://127.0.0.1:8080".into()],
                key: GatewaySigningKey::generate(rng).public_key(),
            }],
        })?;
        let payments = Arc::new(DevelopmentPayments::new());
        let issuer = Issuer::new(&root, directory, keys, Arc::new(MemoryMintBook::new()), payments.clone())?;
        Ok(Self { root, issuer, payments })
    }

    /// The request that every spend pays for.
    pub(super) fn request() -> Result<Request<'static>, RequestError> {
        let body = br#"{"model":"demo","messages":[{"role":"user","content":"What is a nullifier?"}]}"#;
        Request::new("127.0.0.1:8080", "POST", "/v1/chat/completions", ContentDigest::of(body))
    }

    /// A wallet with so many payments, and 8 lanes for each.
    pub(super) fn wallet(&self, payments: u32, rng: &mut ChaCha20Rng) -> Outcome<Wallet> {
        let device = DeviceId::from_bytes([1; DeviceId::LENGTH]);
        let signed = self.issuer.signed_directory();
        let secret = RootSecret::generate(rng);
        let mut wallet = Wallet::new(secret, device, self.root.public_key(), signed, MemoryJournal::new())?;
        self.fund(&mut wallet, payments)?;
        Ok(wallet)
    }

    /// One in a file, with one payment.
    pub(super) fn wallet_in(
        &self,
        file: &WalletFile,
        lock: &Lock,
        rng: &mut ChaCha20Rng,
    ) -> Outcome<Wallet<FileJournal>> {
        let mut wallet = file.create(lock, self.root.public_key(), self.issuer.signed_directory(), rng)?;
        self.fund(&mut wallet, 1)?;
        Ok(wallet)
    }

    /// Settles a spend at a small cost.
    pub(super) fn settle(&self, gateway: &Gateway, spend: &AdmittedSpend) -> Outcome<SettledSpend> {
        Ok(self.issuer.settle(gateway.set(), spend, Credits::from_micro(3), Self::NOW)?)
    }

    fn fund<J: Journal>(&self, wallet: &mut Wallet<J>, payments: u32) -> Outcome<()> {
        for payment in 0..payments {
            let id = PaymentId::of_reference(&payment.to_be_bytes());
            self.payments.grant(id, Credits::from_micro(8_000_000))?;
            let request = wallet.request_mint(id, [Credits::from_micro(1_000_000); 8], Self::NOW)?;
            let response = self.issuer.mint(&request, Self::NOW)?;
            wallet.accept_mint(&id, &response, Self::NOW)?;
        }
        Ok(())
    }

    /// A proof for every lane.
    pub(super) fn prove<J: Journal>(
        &self,
        wallet: &Wallet<J>,
        workers: &Workers,
        progress: &mut Progress,
        what: &'static str,
    ) -> Outcome<Vec<ReadySpend>> {
        let jobs = wallet
            .lanes_to_prove(&Self::GATEWAY, Self::CLASS, Self::NOW)
            .into_iter()
            .map(|lane| wallet.plan(lane, &Self::GATEWAY, Self::CLASS, Self::NOW))
            .collect::<Result<Vec<_>, _>>()?;
        progress.start(what, jobs.len());
        let keys = ProvingKeys::new();
        let parts = workers.run(jobs, |part| {
            let mut rng = ChaCha20Rng::seed_from_u64(6);
            part.into_iter()
                .map(|job| {
                    progress.step();
                    let key = keys.of(&job.epoch_key());
                    job.prove(&key, &mut rng)
                })
                .collect::<Vec<_>>()
        });
        Ok(parts.into_iter().flatten().collect::<Result<_, _>>()?)
    }

    /// A gateway over a set, which has a partition for [`EPOCH`](Self::EPOCH).
    pub(super) fn gateway(&self, set: Arc<dyn SpentSet>) -> Outcome<Gateway> {
        let parts =
            GatewayParts::new(Self::GATEWAY, self.issuer.directory().clone(), set, OwnerId::from_bytes([1; 16]), 900);
        Ok(Gateway::new(parts, Self::NOW)?)
    }
}
