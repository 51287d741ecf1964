//! An issuer over HTTP with all its services, a gateway that shares its set, and the name of one that does not.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use halometer::clearing::{Clearing, ClearingError, ClearingParts, Desk, DeskParts};
use halometer::gateway::{Gateway, GatewayParts, Quotas, Rate};
use halometer::http::clock::now;
use halometer::http::issuer::{ClearingLimits, IssuerObserver, IssuerService};
use halometer::http::problem::ProblemDetails;
use halometer::http::server::{Listener, Server};
use halometer::issuer::{EpochKeys, Issuer, NoticeError, NoticeKey, PaymentNotices, PaymentSource};
use halometer::lifecycle::Evidence;
use halometer::protocol::*;
use halometer::store::{MemoryMintBook, MemoryPaymentBook, MemorySpentSet, PaymentBook, SpentSet};
use halometer::wallet::{Authorised, LaneId, MemoryJournal, ProvingKeys, RootSecret, Wallet};

use crate::openapi::{Seen, check};

pub(crate) const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
pub(crate) const LEASE: u32 = 900;
pub(crate) const LOCAL: GatewayId = GatewayId::from_bytes(*b"it has the set!!");
pub(crate) const REMOTE: GatewayId = GatewayId::from_bytes(*b"it has no set!!!");
pub(crate) const SECRET: [u8; 32] = [7; 32];
pub(crate) const CLASS: Credits = Credits::from_micro(4_000);
pub(crate) const LANE: Credits = Credits::from_micro(20_000);
pub(crate) const TARGET: &str = "/v1/chat/completions";
pub(crate) const QUESTION: &str = r#"{"model":"m","messages":[{"role":"user","content":"Why?"}]}"#;

/// When all directories begin: two houses of one run have the same epochs.
static START: LazyLock<Timestamp> = LazyLock::new(|| now().before(HOUR));

pub(crate) struct House {
    pub(crate) root: RootSigningKey,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) set: Arc<MemorySpentSet>,
    pub(crate) book: Arc<MemoryPaymentBook>,
    pub(crate) mints: Arc<MemoryMintBook>,
    pub(crate) notices: Arc<PaymentNotices>,
    pub(crate) service: IssuerService,
    pub(crate) server: Server,
    pub(crate) told: Arc<Told>,
    pub(crate) client: reqwest::Client,
    /// When payments are minted, if not now.
    minted: Option<Timestamp>,
}

/// What the issuer's operator was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) evidence: Mutex<Vec<Evidence>>,
    pub(crate) notices: Mutex<Vec<String>>,
    pub(crate) clearing: Mutex<Vec<String>>,
    pub(crate) conflicts: Mutex<usize>,
}

impl IssuerObserver for Told {
    fn notice_refused(&self, error: &NoticeError) {
        self.notices.lock().unwrap().push(error.to_string());
    }

    fn clearing_refused(&self, error: &ClearingError) {
        self.clearing.lock().unwrap().push(error.to_string());
    }

    fn conflict(&self) {
        *self.conflicts.lock().unwrap() += 1;
    }

    fn double_spend(&self, evidence: Evidence) {
        self.evidence.lock().unwrap().push(evidence);
    }
}

pub(crate) struct HouseOptions {
    pub(crate) quotas: Quotas,
    pub(crate) limits: ClearingLimits,
    pub(crate) remote_origin: String,
    pub(crate) lease_seconds: u32,
    pub(crate) session_seconds: u32,
    /// When the second epoch took over, if it has; callers have notes of the first.
    pub(crate) flip: Option<Timestamp>,
}

impl Default for HouseOptions {
    fn default() -> Self {
        Self {
            quotas: Quotas::default(),
            limits: ClearingLimits::default(),
            remote_origin: "http://127.0.0.1:9".to_owned(),
            lease_seconds: LEASE,
            session_seconds: 600,
            flip: None,
        }
    }
}

pub(crate) fn epoch_keys() -> EpochKeys {
    let mut keys = EpochKeys::new();
    for (number, seed) in [(1, 1), (2, 2)] {
        keys.generate(EpochNumber::new(number), &mut seeded(seed));
    }
    keys
}

fn seeded(seed: u64) -> rand_chacha::ChaCha20Rng {
    <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::seed_from_u64(seed)
}

pub(crate) fn gateway_key(id: &GatewayId) -> GatewaySigningKey {
    GatewaySigningKey::from_bytes(&[id.to_bytes()[7]; 32])
}

pub(crate) fn directory_parts(root: &RootSigningKey, options: &HouseOptions) -> DirectoryParts {
    let (mut keys, start) = (EpochKeys::new(), *START);
    let mut epoch = |number: u64, from: u64| {
        let number = EpochNumber::new(u32::try_from(number).unwrap());
        let key = keys.generate(number, &mut seeded(u64::from(number.number())));
        let issue = Window { from: start.after(from), until: start.after(from + 30 * DAY) };
        Epoch { number, key, issue, spend: Window { until: issue.until.after(15 * DAY), ..issue } }
    };
    let mut epochs = vec![epoch(1, 0), epoch(2, 30 * DAY)];
    if let Some(flip) = options.flip {
        epochs[0].issue.until = flip;
        (epochs[1].issue.from, epochs[1].spend.from) = (flip, flip);
    }
    let price = |item: &str, credits| Price { item: item.to_owned(), credits: Credits::from_micro(credits), per: 1 };
    let valid = Window { from: start, until: start.after(365 * DAY) };
    let entry = |id: GatewayId, origin: &str| GatewayEntry {
        id,
        origins: vec![origin.to_owned()],
        key: gateway_key(&id).public_key(),
    };
    DirectoryParts {
        root: root.public_key(),
        serial: 1,
        published: start,
        quantum: Credits::from_micro(1),
        grid: Grid::new(HOUR as u32).unwrap(),
        evidence_seconds: DAY as u32,
        limits: Limits { session_seconds: options.session_seconds },
        classes: vec![CLASS, Credits::from_micro(16_000)],
        tariffs: vec![Tariff::new(valid, vec![price("call", 100), price("token", 3)]).unwrap()],
        epochs,
        gateways: vec![entry(LOCAL, "http://local.example.org"), entry(REMOTE, &options.remote_origin)],
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(HouseOptions::default()).await
    }

    pub(crate) async fn with(options: HouseOptions) -> Self {
        Self::over(options, Arc::new(MemorySpentSet::new())).await
    }

    pub(crate) async fn over(options: HouseOptions, set: Arc<MemorySpentSet>) -> Self {
        let root = RootSigningKey::from_bytes(&[1; 32]);
        let directory = Directory::new(directory_parts(&root, &options)).unwrap();
        for epoch in directory.epochs() {
            // It may be another issuer's already.
            let _ = set.create(epoch.number);
        }
        let (book, mints) = (Arc::new(MemoryPaymentBook::new()), Arc::new(MemoryMintBook::new()));
        let key = NoticeKey::hmac_sha256("shop", &SECRET).unwrap();
        let notices = Arc::new(PaymentNotices::new(book.clone(), [key]).unwrap());
        let issuer = Issuer::new(&root, directory, epoch_keys(), mints.clone(), notices.clone()).unwrap();
        let issuer = Arc::new(issuer);
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let origin = format!("http://{}", listener.address());
        let (told, HouseOptions { quotas, limits, lease_seconds, flip, .. }) = (Arc::new(Told::default()), options);
        let minted = flip.map(|flip| flip.before(60));
        let shared: Arc<dyn SpentSet> = set.clone();
        let clearing =
            ClearingParts::new(issuer.clone(), shared.clone(), vec![REMOTE], lease_seconds).with_quotas(quotas);
        let desk = DeskParts::new(issuer.clone(), shared.clone(), lease_seconds).with_cancels(quotas.cancels);
        let made = tokio::task::spawn_blocking(move || {
            (Clearing::new(clearing, now()).unwrap(), Desk::new(desk, now()).unwrap())
        });
        let (clearing, desk) = made.await.unwrap();
        let service = IssuerService::start(issuer.clone())
            .unwrap()
            .with_observer(told.clone())
            .with_notices(notices.clone())
            .unwrap()
            .with_spent_set(shared, Rate::UNLIMITED)
            .unwrap()
            .with_desk(Arc::new(desk), &[origin])
            .unwrap()
            .with_clearing(Arc::new(clearing), limits)
            .unwrap();
        let server = listener.serve(service.router());
        // What would otherwise be there since the first upstream.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(30));
        let client = client.build().unwrap();
        Self { root, issuer, set, book, mints, notices, service, server, told, client, minted }
    }

    pub(crate) fn origin(&self) -> String {
        self.server.url()
    }

    pub(crate) fn host(&self) -> String {
        self.server.address().to_string()
    }

    pub(crate) fn directory(&self) -> &Directory {
        self.issuer.directory()
    }

    /// The gateway that shares the set, without HTTP.
    pub(crate) fn local(&self) -> Gateway {
        let parts = GatewayParts::new(
            LOCAL,
            self.directory().clone(),
            self.set.clone(),
            OwnerId::from_bytes(*b"a gateway's own!"),
            LEASE,
        );
        Gateway::new(parts, now()).unwrap()
    }

    /// A caller that has paid. The same seed is the same caller, or a copy of it.
    pub(crate) fn caller(&self, seed: u8) -> Caller {
        let payment = PaymentId::from_bytes([seed; 32]);
        let amount = Credits::from_micro(LANE.micro() * LANES as u64);
        self.book.record(payment, amount).unwrap();
        assert_eq!(self.notices.paid(&payment).unwrap(), Some(amount));
        let (root, device) = (RootSecret::from_bytes([seed; 32]), DeviceId::from_bytes([0; 8]));
        let directory = self.issuer.signed_directory();
        let mut wallet = Wallet::new(root, device, self.root.public_key(), directory, MemoryJournal::new()).unwrap();
        let request = wallet.request_mint(payment, [LANE; LANES], now()).unwrap();
        let minted = self.minted.unwrap_or_else(now);
        wallet.accept_mint(&payment, &self.issuer.mint(&request, minted).unwrap(), now()).unwrap();
        Caller { wallet, keys: ProvingKeys::new() }
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.send(self.client.post(format!("{}{path}", self.origin())).body(body)).await
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let request = request.build().unwrap();
        let (method, target) = (request.method().clone(), request.url().path().to_owned());
        let reply = Reply::read(self.client.execute(request).await.unwrap()).await;
        // Every answer is as it is described.
        let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), value.to_str().unwrap().to_owned())
        };
        let (headers, Reply { status, body, .. }) = (reply.headers.iter().map(text).collect(), &reply);
        check(&Seen { method: method.as_str(), target: &target, status: *status, headers, body });
        reply
    }
}

/// A caller that signs for any host that it is told.
pub(crate) struct Caller {
    pub(crate) wallet: Wallet<MemoryJournal>,
    pub(crate) keys: ProvingKeys,
}

pub(crate) fn lane(lane: u32) -> LaneId {
    LaneId { payment: 0, lane }
}

impl Caller {
    /// Spends a lane's note for the question at a gateway.
    pub(crate) fn pay(&mut self, number: u32, gateway: GatewayId, host: &str) -> Authorised {
        self.pay_at(number, gateway, host, CLASS, now())
    }

    /// Spends a lane's note for a request.
    pub(crate) fn pay_for(&mut self, number: u32, gateway: GatewayId, request: &Request<'_>) -> Authorised {
        let job = self.wallet.plan(lane(number), &gateway, CLASS, now()).unwrap();
        let key = self.keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        self.wallet.authorise(ready, request, now()).unwrap()
    }

    pub(crate) fn pay_at(
        &mut self,
        number: u32,
        gateway: GatewayId,
        host: &str,
        class: Credits,
        now: Timestamp,
    ) -> Authorised {
        let request = Request::new(host, "POST", TARGET, ContentDigest::of(QUESTION.as_bytes())).unwrap();
        let job = self.wallet.plan(lane(number), &gateway, class, now).unwrap();
        let key = self.keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        self.wallet.authorise(ready, &request, now).unwrap()
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) async fn read(answer: reqwest::Response) -> Self {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Self { status, headers, body: answer.bytes().await.unwrap().to_vec() }
    }

    pub(crate) fn problem(&self) -> ProblemDetails {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let details: ProblemDetails = serde_json::from_slice(&self.body).unwrap();
        assert_eq!((details.status, &self.headers["cache-control"]), (self.status, &"no-store".parse().unwrap()));
        assert!(self.status != 402 && self.status != 401, "an issuer has no challenge");
        details
    }

    /// The settlement in the answer to a fetch or a cancel.
    pub(crate) fn settlement(&self) -> Settlement {
        use base64::Engine as _;
        assert_eq!(self.status, 200, "{self:?}");
        let answer: halometer::http::wire::SettlementAnswer = serde_json::from_slice(&self.body).unwrap();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(answer.settlement).unwrap();
        Settlement::from_bytes(&bytes).unwrap()
    }
}
