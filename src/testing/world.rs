//! An issuer, a gateway and wallets in one process, with real proofs.

use std::sync::{Arc, LazyLock};

use crate::gateway::{AdmitError, Cancelled, Gateway, GatewayParts, Opened, Quotas};
use crate::issuer::{DevelopmentPayments, EpochKeys, Issuer};
use crate::lifecycle::{AdmittedSpend, SettledSpend, Transferred};
use crate::protocol::*;
use crate::store::{MemoryMintBook, MemorySpentSet, SpentSet};
use crate::wallet::{
    Authorised, AuthorisedTransfer, Journal, LaneId, LaneStatus, ProofJob, ProvingKeys, ReadySpend, RootSecret, Wallet,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

pub const DAY: u64 = 86_400;
pub const HOUR: u64 = 3_600;
/// Seconds from the beginning of a grid window to [`T0`]; callers and gateways agree on the window by then.
pub const INTO_WINDOW: u64 = 60;
pub const T0: Timestamp = Timestamp::from_seconds(480_000 * HOUR + INTO_WINDOW);
pub const EPOCH: [EpochNumber; 2] = [EpochNumber::new(1), EpochNumber::new(2)];
pub const GATEWAY: GatewayId = GatewayId::from_bytes(*b"gateway number 1");
pub const OTHER_GATEWAY: GatewayId = GatewayId::from_bytes(*b"gateway number 2");
pub const OWNER: OwnerId = OwnerId::from_bytes(*b"process number 1");
pub const LEASE: u32 = 900;
pub const EVIDENCE: u32 = 7 * DAY as u32;
pub const LANE0: LaneId = LaneId { payment: 0, lane: 0 };
pub const LANE1: LaneId = LaneId { payment: 0, lane: 1 };
/// When epoch 2 begins to issue, and epoch 1 ends to.
pub const FLIP: Timestamp = T0.after(DAY).before(HOUR);

static PROVING_KEYS: LazyLock<ProvingKeys> = LazyLock::new(ProvingKeys::new);

pub fn micro(amount: u64) -> Credits {
    Credits::from_micro(amount)
}

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// The amounts of a mint: 60 and 40 as in the protocol's example, and six lanes of nothing.
pub fn sixty_and_forty() -> [Credits; LANES] {
    core::array::from_fn(|lane| micro([60, 40, 0, 0, 0, 0, 0, 0][lane]))
}

pub fn request() -> Request<'static> {
    Request::new("api.example.org", "POST", "/v1/chat/completions", ContentDigest::of(b"{}")).unwrap()
}

/// The request that carries what is not for the service: a cancel, a transfer, a rollover.
pub fn errand() -> Request<'static> {
    Request::new("api.example.org", "POST", "/.well-known/halometer", ContentDigest::of(b"")).unwrap()
}

pub struct World {
    pub root: RootSigningKey,
    pub set: Arc<MemorySpentSet>,
    pub mints: Arc<MemoryMintBook>,
    pub payments: Arc<DevelopmentPayments>,
    pub issuer: Issuer,
    pub gateway: Gateway,
}

pub fn root_key() -> RootSigningKey {
    RootSigningKey::from_bytes(&[1; 32])
}

/// The same epoch keys in every world, so that proving keys are built once.
pub fn epoch_keys() -> EpochKeys {
    let mut keys = EpochKeys::new();
    for epoch in EPOCH {
        keys.generate(epoch, &mut rng(u64::from(epoch.number())));
    }
    keys
}

pub fn directory_parts() -> DirectoryParts {
    let mut keys = EpochKeys::new();
    let mut epoch = |i: u64, number: EpochNumber| {
        let key = keys.generate(number, &mut rng(u64::from(number.number())));
        let issue = Window { from: T0.after(i * DAY).before(HOUR), until: T0.after((i + 1) * DAY).before(HOUR) };
        Epoch { number, key, issue, spend: Window { until: issue.until.after(DAY), ..issue } }
    };
    let price = Price { item: "token".to_owned(), credits: micro(1), per: 10 };
    let valid = Window { from: Timestamp::from_seconds(0), until: T0.after(30 * DAY) };
    let gateway = |id, seed: u8| GatewayEntry {
        id,
        origins: vec!["https://api.example.org".to_owned()],
        key: GatewaySigningKey::from_bytes(&[seed; 32]).public_key(),
    };
    DirectoryParts {
        root: root_key().public_key(),
        serial: 1,
        published: T0.before(HOUR),
        quantum: micro(1),
        grid: Grid::new(HOUR as u32).unwrap(),
        evidence_seconds: EVIDENCE,
        limits: Limits { session_seconds: 600 },
        classes: vec![micro(5), micro(10), micro(20)],
        tariffs: vec![Tariff::new(valid, vec![price]).unwrap()],
        epochs: vec![epoch(0, EPOCH[0]), epoch(1, EPOCH[1])],
        gateways: vec![gateway(GATEWAY, 10), gateway(OTHER_GATEWAY, 11)],
    }
}

pub fn gateway(id: GatewayId, owner: OwnerId, set: Arc<dyn SpentSet>, directory: Directory) -> Gateway {
    gateway_at(id, owner, set, directory, T0)
}

fn gateway_at(id: GatewayId, owner: OwnerId, set: Arc<dyn SpentSet>, directory: Directory, now: Timestamp) -> Gateway {
    Gateway::new(GatewayParts::new(id, directory, set, owner, LEASE), now).unwrap()
}

impl core::fmt::Debug for World {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("World(..)")
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    pub fn new() -> Self {
        Self::under(Directory::new(directory_parts()).unwrap(), root_key(), epoch_keys())
    }

    pub fn under(directory: Directory, root: RootSigningKey, keys: EpochKeys) -> Self {
        Self::made(directory, root, keys, T0)
    }

    /// A world whose gateway was made when all epochs were over, so that it has no verifying keys: quick to make.
    #[allow(dead_code, reason = "for the model test inside the crate, which shares this file")]
    pub fn without_keys() -> Self {
        Self::made(Directory::new(directory_parts()).unwrap(), root_key(), epoch_keys(), T0.after(30 * DAY))
    }

    fn made(directory: Directory, root: RootSigningKey, keys: EpochKeys, now: Timestamp) -> Self {
        let set = Arc::new(MemorySpentSet::new());
        EPOCH.iter().for_each(|epoch| set.create(*epoch).unwrap());
        let (mints, payments) = (Arc::new(MemoryMintBook::new()), Arc::new(DevelopmentPayments::new()));
        let issuer = Issuer::new(&root, directory.clone(), keys, mints.clone(), payments.clone()).unwrap();
        let gateway = gateway_at(GATEWAY, OWNER, set.clone(), directory, now);
        Self { root, set, mints, payments, issuer, gateway }
    }

    /// The same process with limits on what it does.
    pub fn limited(&self, quotas: Quotas) -> Gateway {
        let (set, directory) = (self.set.clone(), self.gateway.directory().clone());
        let parts = GatewayParts::new(GATEWAY, directory, set, OWNER, LEASE).with_quotas(quotas);
        Gateway::new(parts, T0).unwrap()
    }

    /// Another process on the same set, under the same gateway id.
    pub fn replica(&self, owner: OwnerId) -> Gateway {
        gateway(GATEWAY, owner, self.set.clone(), self.gateway.directory().clone())
    }

    pub fn wallet(&self, seed: u8) -> Wallet {
        self.wallet_on(seed, DeviceId::from_bytes([0; 8]))
    }

    pub fn wallet_on(&self, seed: u8, device: DeviceId) -> Wallet {
        self.wallet_of(RootSecret::from_bytes([seed; 32]), device)
    }

    pub fn wallet_of(&self, root: RootSecret, device: DeviceId) -> Wallet {
        let signed = self.issuer.signed_directory();
        Wallet::new(root, device, self.root.public_key(), signed, Default::default()).unwrap()
    }

    /// A wallet with a payment of 100 in lanes of 60 and 40.
    pub fn funded(&self, seed: u8) -> Wallet {
        let mut wallet = self.wallet(seed);
        self.fund(&mut wallet, PaymentId::from_bytes([seed; 32]));
        wallet
    }

    pub fn fund(&self, wallet: &mut Wallet, payment: PaymentId) {
        self.payments.grant(payment, micro(100)).unwrap();
        let request = wallet.request_mint(payment, sixty_and_forty(), T0).unwrap();
        let response = self.issuer.mint(&request, T0).unwrap();
        wallet.accept_mint(&payment, &response, T0).unwrap();
    }

    pub fn open(&self, paid: &Authorised, now: Timestamp) -> Result<Opened, AdmitError> {
        self.gateway.open(&paid.opening, &request(), now)
    }

    pub fn admit(&self, paid: &Authorised) -> AdmittedSpend {
        admitted(self.open(paid, T0))
    }

    pub fn settle(&self, admitted: &AdmittedSpend, cost: u64) -> SettledSpend {
        self.issuer.settle(&*self.set, admitted, micro(cost), T0).unwrap()
    }
}

impl World {
    pub fn cancel(&self, wallet: &Wallet, key: &SpendKey, now: Timestamp) -> Result<Cancelled, AdmitError> {
        self.gateway.cancel(&wallet.cancel(key, &errand()).unwrap(), &errand(), now)
    }

    /// Cancels a spend that nobody has seen.
    pub fn cancel_unseen(&self, wallet: &Wallet, key: &SpendKey, now: Timestamp) -> SettledSpend {
        match self.cancel(wallet, key, now).unwrap() {
            Cancelled::Fresh(spend) => self.issuer.settle(&*self.set, &spend, Credits::ZERO, now).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub fn transfer(&self, transfer: &[u8], now: Timestamp) -> Transferred {
        let verified = self.gateway.transfer(transfer, &errand(), now).unwrap();
        self.issuer.transfer(&*self.set, verified, now).unwrap()
    }

    /// Carries a transfer out and has the wallet take it.
    pub fn moved<J: Journal>(&self, wallet: &mut Wallet<J>, sent: &AuthorisedTransfer, now: Timestamp) {
        let halves = both(self.transfer(&sent.transfer, now));
        wallet.accept_transfer(&sent.keys, &halves.map(|half| half.settlement().clone()), now).unwrap();
    }

    /// What is in the set, over both epochs: how many are open, how many settled.
    pub fn records(&self) -> (u64, u64) {
        let [first, second] = EPOCH.map(|epoch| self.set.totals(epoch).unwrap());
        (first.open + second.open, first.settled + second.settled)
    }
}

pub fn both(transferred: Transferred) -> [SettledSpend; 2] {
    match transferred {
        Transferred::Settled(halves) => *halves,
        other => panic!("{other:?}"),
    }
}

pub fn prove(job: ProofJob) -> ReadySpend {
    prove_by(job, &mut rng(1))
}

pub fn prove_by(job: ProofJob, rng: &mut ChaCha20Rng) -> ReadySpend {
    let key = PROVING_KEYS.of(&job.epoch_key());
    job.prove(&key, rng).unwrap()
}

/// An authorised transfer.
pub fn send<J: Journal>(
    wallet: &mut Wallet<J>,
    [from, to]: [LaneId; 2],
    amount: u64,
    now: Timestamp,
) -> AuthorisedTransfer {
    let jobs = wallet.plan_transfer(from, to, micro(amount), &GATEWAY, now).unwrap();
    wallet.authorise_transfer(jobs.map(prove), &errand(), now).unwrap()
}

/// An authorised rollover.
pub fn roll<J: Journal>(wallet: &mut Wallet<J>, lane: LaneId, now: Timestamp) -> Authorised {
    let ready = prove(wallet.plan_rollover(lane, &GATEWAY, now).unwrap());
    wallet.authorise(ready, &errand(), now).unwrap()
}

/// What each lane that is not empty is worth; none where it waits.
pub fn worth(wallet: &Wallet) -> [Option<u64>; 2] {
    let mut lanes = wallet.lanes();
    [(); 2].map(|()| match lanes.next().unwrap().1 {
        LaneStatus::Idle { value, .. } => Some(value.micro()),
        _ => None,
    })
}

pub fn admitted(opened: Result<Opened, AdmitError>) -> AdmittedSpend {
    match opened {
        Ok(Opened::Admitted(spend)) => spend,
        other => panic!("not admitted: {other:?}"),
    }
}

/// A proof for a spend of a lane's frontier.
pub fn ready(wallet: &Wallet, lane: LaneId, class: u64, now: Timestamp) -> ReadySpend {
    ready_for(wallet, lane, GATEWAY, class, now)
}

pub fn ready_for(wallet: &Wallet, lane: LaneId, gateway: GatewayId, class: u64, now: Timestamp) -> ReadySpend {
    let job = wallet.plan(lane, &gateway, micro(class), now).unwrap();
    let key = PROVING_KEYS.of(&job.epoch_key());
    job.prove(&key, &mut rng(class)).unwrap()
}

/// An authorised opening of [`request`].
pub fn pay(wallet: &mut Wallet, lane: LaneId, class: u64, now: Timestamp) -> Authorised {
    let ready = ready(wallet, lane, class, now);
    wallet.authorise(ready, &request(), now).unwrap()
}
