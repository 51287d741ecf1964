//! A newer directory and other prices while calls are made.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use halometer::circuits::schnorr::SigningKey;
use halometer::gateway::{Gateway, GatewayParts};
use halometer::http::clock::now;
use halometer::http::exchange::PaymentLayerParts;
use halometer::http::exchange::{AdoptError, Adoption, UpkeepTask};
use halometer::http::layer::{PaidService, PaymentLayer};
use halometer::http::observer::Observer;
use halometer::http::payment::{Credential, Payload, PaymentChallenge, PaymentReceipt, RECEIPT_HEADER};
use halometer::http::pricing::FixedPricing;
use halometer::http::wire::spent_path;
use halometer::http::wire::{DIRECTORY_PATH, SETTLEMENT_PATH};
use halometer::issuer::{DevelopmentPayments, EpochKeys, Issuer};
use halometer::protocol::*;
use halometer::store::{MemoryMintBook, MemorySpentSet, SpentSet as _};
use halometer::upkeep::{Upkeep, UpkeepError, UpkeepParts, UpkeepReport, Warning, begin_epoch};
use halometer::wallet::{MemoryJournal, ProvingKeys, RootSecret, Wallet};
use http::{HeaderValue, Request as HttpRequest, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;
use tower::{Layer as _, ServiceExt as _};

use crate::world::{CLASS, Caller, PAID, lane, until};

const HOST: &str = "shop.example";
const DAY: u64 = 24 * 3_600;

#[derive(Default)]
struct Warnings(Mutex<Vec<Warning>>);

impl Observer for Warnings {
    fn upkeep(&self, outcome: &Result<UpkeepReport, UpkeepError>) {
        *self.0.lock().unwrap() = outcome.as_ref().unwrap().warnings.clone();
    }
}

/// A paid service whose operator changes prices while calls run.
struct Shop {
    root: RootSigningKey,
    payments: Arc<DevelopmentPayments>,
    /// The newest, which only this test exchanges.
    gateway: Mutex<Arc<Gateway>>,
    issuer: Mutex<Arc<Issuer>>,
    layer: PaymentLayer,
    service: PaidService<Router>,
    warnings: Arc<Warnings>,
}

fn keys() -> EpochKeys {
    let mut keys = EpochKeys::new();
    for number in [1, 2] {
        let mut secret = [0; 32];
        secret[0] = number;
        keys.insert(EpochNumber::new(number.into()), SigningKey::from_bytes(&secret).unwrap());
    }
    keys
}

fn epoch(number: u32, from: Timestamp) -> Epoch {
    let issue = Window { from, until: from.after(DAY) };
    let number = EpochNumber::new(number);
    let key = keys().generate(number, &mut rand::rng());
    Epoch { number, key, issue, spend: Window { from, until: issue.until.after(DAY) } }
}

/// What a call costs, and a dear one a hundred times as much.
fn tariff(from: Timestamp, call: u64) -> Tariff {
    let price = |item: &str, micro| Price { item: item.to_owned(), credits: Credits::from_micro(micro), per: 1 };
    let prices = vec![price("call", call), price("dear", 100 * call)];
    Tariff::new(Window { from, until: from.after(DAY) }, prices).unwrap()
}

fn pricing(item: &str) -> Box<FixedPricing> {
    Box::new(FixedPricing::new().route("* /**".parse().unwrap(), item))
}

/// A directory, and how to make the next of it.
struct Next(DirectoryParts);

impl Next {
    fn tariff(mut self, tariff: Tariff) -> Self {
        self.0.tariffs.push(tariff);
        self
    }

    fn make(self) -> Directory {
        Directory::new(self.0).unwrap()
    }
}

impl Shop {
    fn new(service: Router) -> Self {
        let root = RootSigningKey::generate(&mut rand::rng());
        let (id, key) = (GatewayId::from_bytes(rand::random()), GatewaySigningKey::generate(&mut rand::rng()));
        let start = now().before(3_600);
        let directory = Directory::new(DirectoryParts {
            root: root.public_key(),
            serial: 1,
            published: now(),
            quantum: Credits::from_micro(1),
            grid: Grid::with_publication(3_600, 1).unwrap(),
            evidence_seconds: 3_600,
            limits: Limits { session_seconds: 300 },
            classes: vec![CLASS],
            tariffs: vec![tariff(start, 3)],
            epochs: vec![epoch(1, start)],
            gateways: vec![GatewayEntry { id, origins: vec![format!("http://{HOST}")], key: key.public_key() }],
        })
        .unwrap();
        let set = Arc::new(MemorySpentSet::new());
        set.create(EpochNumber::new(1)).unwrap();
        let payments = Arc::new(DevelopmentPayments::new());
        let mints = Arc::new(MemoryMintBook::new());
        let issuer = Arc::new(Issuer::new(&root, directory.clone(), keys(), mints, payments.clone()).unwrap());
        let owner = OwnerId::from_bytes(rand::random());
        let parts = GatewayParts::new(id, directory, set, owner, 400);
        let gateway = Arc::new(Gateway::new(parts, now()).unwrap());
        let warnings = Arc::new(Warnings::default());
        let upkeep = Upkeep::new(
            UpkeepParts::new(owner, 400)
                .with_extra_grace_seconds(0)
                .with_records_per_partition(100)
                .with_warn_seconds(2 * DAY as u32),
        );
        let layer = PaymentLayer::start(
            PaymentLayerParts::new(gateway.clone(), issuer.clone(), key, pricing("call"))
                .with_observer(warnings.clone())
                .with_call_timeout(Duration::from_secs(60))
                .with_upkeep(UpkeepTask { upkeep, every: Duration::from_millis(100) }),
        )
        .unwrap();
        let service = layer.layer(service);
        Self { root, payments, gateway: Mutex::new(gateway), issuer: Mutex::new(issuer), layer, service, warnings }
    }

    fn gateway(&self) -> Arc<Gateway> {
        self.gateway.lock().unwrap().clone()
    }

    fn issuer(&self) -> Arc<Issuer> {
        self.issuer.lock().unwrap().clone()
    }

    /// The directory that follows the newest.
    fn next(&self) -> Next {
        let mut parts = self.gateway().directory().parts().clone();
        parts.serial += 1;
        parts.published = parts.published.after(1);
        Next(parts)
    }

    /// Gateway and issuer under a directory.
    fn under(&self, directory: &Directory) -> Adoption {
        let gateway = Arc::new(self.gateway().adopt(directory.clone(), now()).unwrap());
        let issuer = Arc::new(self.issuer().succeed(&self.root, directory.clone(), keys()).unwrap());
        Adoption { gateway, issuer, pricing: None, free: None }
    }

    fn reload(&self, next: Adoption) {
        let (gateway, issuer) = (next.gateway.clone(), next.issuer.clone());
        self.layer.adopt(next).unwrap();
        (*self.gateway.lock().unwrap(), *self.issuer.lock().unwrap()) = (gateway, issuer);
    }

    fn caller(&self) -> Caller {
        let payment = PaymentId::from_bytes(rand::random());
        self.payments.grant(payment, Credits::from_micro(PAID)).unwrap();
        let (issuer, root) = (self.issuer(), RootSecret::from_bytes(rand::random()));
        let (device, journal) = (DeviceId::from_bytes([1; 8]), MemoryJournal::new());
        let mut wallet = Wallet::new(root, device, self.root.public_key(), issuer.signed_directory(), journal).unwrap();
        let request = wallet.request_mint(payment, [Credits::from_micro(PAID / 8); LANES], now()).unwrap();
        wallet.accept_mint(&payment, &issuer.mint(&request, now()).unwrap(), now()).unwrap();
        Caller { wallet, keys: ProvingKeys::new() }
    }

    /// The header that pays for a request for `/`.
    fn pay(&self, caller: &mut Caller, index: u32) -> (SpendKey, String) {
        let request = Request::new(HOST, "GET", "/", ContentDigest::of(b"")).unwrap();
        let job = caller.wallet.plan(lane(index), &self.gateway().id(), CLASS, now()).unwrap();
        let key = caller.keys.of(&job.epoch_key());
        let ready = job.prove(&key, &mut rand::rng()).unwrap();
        let paid = caller.wallet.authorise(ready, &request, now()).unwrap();
        (paid.key, self.credential(Payload::Opening(paid.opening)))
    }

    fn credential(&self, payload: Payload) -> String {
        Credential { challenge: PaymentChallenge::of(self.gateway().directory(), &self.gateway().id()), payload }
            .to_header_value()
    }

    async fn send(&self, method: &str, target: &str, credential: Option<&str>) -> Response {
        send(self.service.clone(), method, target, credential).await
    }
}

async fn send(service: PaidService<Router>, method: &str, target: &str, credential: Option<&str>) -> Response {
    let request = HttpRequest::builder().method(method).uri(target).header(header::HOST, HOST);
    let request = match credential {
        Some(credential) => request.header(header::AUTHORIZATION, credential),
        None => request,
    };
    service.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn body(answer: Response) -> Vec<u8> {
    answer.into_body().collect().await.unwrap().to_bytes().to_vec()
}

/// What a call that succeeded has cost.
#[track_caller]
fn cost(answer: &Response) -> u64 {
    assert_eq!(answer.status(), StatusCode::OK);
    let receipt = answer.headers()[RECEIPT_HEADER].to_str().unwrap();
    PaymentReceipt::from_header_value(receipt).unwrap().cost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reload_under_load_loses_no_call_and_changes_no_price() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let service = Router::new().fallback(move || async move {
        tokio::time::sleep(Duration::from_millis(30)).await;
        count.fetch_add(1, Ordering::Relaxed);
        "here"
    });
    let shop = Arc::new(Shop::new(service));
    let mut callers: Vec<Caller> = (0..3).map(|_| shop.caller()).collect();
    let paid: Vec<_> = callers.iter_mut().flat_map(|caller| [0, 1, 2, 3, 4].map(|i| shop.pay(caller, i))).collect();

    let exchanging = shop.clone();
    let done = Arc::new(AtomicBool::new(false));
    let over = done.clone();
    let exchange = tokio::task::spawn_blocking(move || {
        let mut exchanges = 0_u64;
        while !over.load(Ordering::Relaxed) {
            let next = exchanging.next();
            // The tariff that was agreed to stays, and another one comes, each time.
            let mut parts = next.0;
            parts.tariffs.truncate(1);
            let next = Next(parts).tariff(tariff(now().before(60), 4 + exchanges));
            exchanging.reload(exchanging.under(&next.make()));
            exchanges += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        exchanges
    });
    let mut calls = Vec::new();
    for (_, credential) in paid {
        let service = shop.service.clone();
        calls.push(tokio::spawn(async move { send(service, "GET", "/", Some(&credential)).await }));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for call in calls {
        assert_eq!(cost(&call.await.unwrap()), 3, "the tariff that was agreed to");
    }
    done.store(true, Ordering::Relaxed);
    let exchanges = exchange.await.unwrap();
    assert!(exchanges > 10, "{exchanges}");
    assert_eq!(served.load(Ordering::Relaxed), 15);

    // A caller with the new directory pays by it.
    callers[0].wallet.adopt(shop.issuer().signed_directory()).unwrap();
    let (_, credential) = shop.pay(&mut callers[0], 5);
    assert_eq!(cost(&shop.send("GET", "/", Some(&credential)).await), 3 + exchanges);
    shop.layer.drain().await;
    assert_eq!(shop.issuer().books(shop.gateway().set()).unwrap().charged, u128::from(15 * 3 + 3 + exchanges));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_runs_ends_by_what_it_began_with() {
    let (begun, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (told, gate) = (begun.clone(), go.clone());
    let service = Router::new().fallback(move || async move {
        told.add_permits(1);
        gate.acquire().await.unwrap().forget();
        "here"
    });
    let shop = Arc::new(Shop::new(service));
    let mut caller = shop.caller();
    let (key, credential) = shop.pay(&mut caller, 0);
    let (_, later) = shop.pay(&mut caller, 1);
    let service = shop.service.clone();
    let running = tokio::spawn(async move { send(service, "GET", "/", Some(&credential)).await });
    begun.acquire().await.unwrap().forget();

    // The tariff that both were agreed under stays, and calls are dear from now on.
    let next = shop.under(&shop.next().tariff(tariff(now().before(60), 9)).make());
    shop.reload(Adoption { pricing: Some(pricing("dear")), free: Some(vec!["GET /free".parse().unwrap()]), ..next });
    go.add_permits(3);
    assert_eq!(cost(&running.await.unwrap()), 3);
    assert_eq!(cost(&shop.send("GET", "/", Some(&later)).await), 300);
    assert_eq!(shop.send("GET", "/free", None).await.status(), StatusCode::OK);

    // What was settled before is told after.
    let request = Request::new(HOST, "POST", SETTLEMENT_PATH, ContentDigest::of(b"")).unwrap();
    let following = shop.credential(Payload::Following(caller.wallet.fetch(&key, &request).unwrap()));
    assert_eq!(shop.send("POST", SETTLEMENT_PATH, Some(&following)).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reader_finds_an_older_directory_than_announced() {
    let shop = Arc::new(Shop::new(Router::new()));
    let id = shop.gateway().id();
    // By its challenge: the number of each directory.
    let told: Arc<Mutex<Vec<(HeaderValue, u64)>>> = Arc::default();
    let note = |directory: &Directory| {
        let challenge = PaymentChallenge::of(directory, &id).to_header_value().parse().unwrap();
        told.lock().unwrap().push((challenge, directory.parts().serial));
    };
    note(shop.gateway().directory());
    let done = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let (shop, told, done) = (shop.clone(), told.clone(), done.clone());
            tokio::spawn(async move {
                let mut asked = 0;
                while !done.load(Ordering::Relaxed) {
                    let refused = shop.send("GET", "/", None).await;
                    let challenge = refused.headers()[header::WWW_AUTHENTICATE].clone();
                    let served = body(shop.send("GET", DIRECTORY_PATH, None).await).await;
                    let served = SignedDirectory::from_bytes(&served).unwrap();
                    let served = served.verify(&shop.root.public_key()).unwrap();
                    let serial = told.lock().unwrap().iter().find(|(other, _)| *other == challenge).unwrap().1;
                    assert!(served.parts().serial >= serial);
                    asked += 1;
                    tokio::task::yield_now().await;
                }
                asked
            })
        })
        .collect();
    for _ in 0..200 {
        let directory = shop.next().make();
        let next = shop.under(&directory);
        note(&directory);
        shop.reload(next);
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Relaxed);
    for asking in asking {
        assert!(asking.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contradicting_or_unfit_directories_are_refused_unchanged() {
    let shop = Shop::new(Router::new().fallback(|| async { "here" }));
    let mut caller = shop.caller();
    let (_, credential) = shop.pay(&mut caller, 0);
    let (first, second) = (shop.next().make(), shop.next().tariff(tariff(now(), 7)).make());
    let (early, late) = (shop.under(&first), shop.under(&second));
    let before = body(shop.send("GET", DIRECTORY_PATH, None).await).await;

    let torn = Adoption { issuer: shop.issuer(), pricing: Some(pricing("dear")), ..shop.under(&first) };
    assert_eq!(shop.layer.adopt(torn).unwrap_err(), AdoptError::Torn);
    let own = shop.gateway();
    let parts = |set, owner| GatewayParts::new(own.id(), first.clone(), set, owner, 400);
    let empty = Arc::new(MemorySpentSet::new());
    for parts in [parts(empty, OwnerId::from_bytes([1; 16])), parts(own.shared_set(), OwnerId::from_bytes([2; 16]))] {
        let other = Adoption { gateway: Arc::new(Gateway::new(parts, now()).unwrap()), ..shop.under(&first) };
        assert_eq!(shop.layer.adopt(other).unwrap_err(), AdoptError::OtherGateway);
    }
    let mut foreign = shop.next().0;
    foreign.gateways[0].key = GatewaySigningKey::generate(&mut rand::rng()).public_key();
    let foreign = shop.under(&Next(foreign).make());
    assert_eq!(shop.layer.adopt(foreign).unwrap_err(), AdoptError::Key);
    assert_eq!(body(shop.send("GET", DIRECTORY_PATH, None).await).await, before);
    // Nor was anything else taken over with what was refused: calls cost what they cost.
    assert_eq!(cost(&shop.send("GET", "/", Some(&credential)).await), 3);

    // Both have the number 2 and followed the first: only one can.
    shop.reload(early);
    let refused = shop.layer.adopt(late).unwrap_err();
    assert_eq!(refused, AdoptError::Directory(DirectoryError::Contradiction));
    let third = shop.under(&shop.next().make());
    let old = Adoption { gateway: shop.gateway(), issuer: shop.issuer(), pricing: None, free: None };
    shop.reload(third);
    assert_eq!(shop.layer.adopt(old).unwrap_err(), AdoptError::Directory(DirectoryError::Stale));
    let served = SignedDirectory::from_bytes(&body(shop.send("GET", DIRECTORY_PATH, None).await).await).unwrap();
    assert_eq!(served.verify(&shop.root.public_key()).unwrap().parts().serial, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_reaches_callers_buckets_and_upkeep() {
    let shop = Shop::new(Router::new().fallback(|| async { "here" }));
    let missing = |warnings: &[Warning]| warnings.iter().any(|warning| matches!(warning, Warning::NoSuccessor { .. }));
    until(|| missing(&shop.warnings.0.lock().unwrap())).await;
    let path = spent_path(EpochNumber::new(2));
    assert_eq!(shop.send("GET", &path, None).await.status(), StatusCode::NOT_FOUND);

    let known = shop.gateway();
    begin_epoch(known.set(), known.directory(), EpochNumber::new(2)).unwrap();
    let mut next = shop.next();
    next.0.epochs.push(epoch(2, known.directory().epochs()[0].issue.until));
    shop.reload(shop.under(&next.make()));
    assert_eq!(shop.send("GET", &path, None).await.status(), StatusCode::OK);
    until(|| !missing(&shop.warnings.0.lock().unwrap())).await;
    let mut caller = shop.caller();
    let (_, credential) = shop.pay(&mut caller, 0);
    assert_eq!(cost(&shop.send("GET", "/", Some(&credential)).await), 3);
}
