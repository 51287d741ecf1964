//! A gateway over HTTP: everything on, on the cores that the load comes from too.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::disk::Place;
use super::figures::{Figures, Samples, milliseconds};
use super::machine::{parallelism, pinned_workers};
use super::progress::Progress;
use halometer::http::clock::now;
use halometer::http::payment::{Credential, Payload, PaymentChallenge};
use halometer::http::server::{Listener, Server};
use halometer::http::wire::{CLOSE_PATH, SESSION_PATH};
use halometer::protocol::{ContentDigest, Credits, DeviceId, GatewayId, LANES, Request, Settlement, SpendKey};
use halometer::store::durable::{DurableStore, StoreOptions};
use halometer::testing::stack::{Records, Stack, StackOptions, UpstreamOptions};
use halometer::wallet::{MemoryJournal, ProvingKeys, ReadySpend, RootSecret, SessionSigner, Wallet};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
/// What goes wrong on a task.
type Sent<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Paid calls that count; each takes a proof, which takes longer than the call.
const PAID: usize = 3_000;
/// Calls one after the other, of which nobody waits for another.
const LONE: usize = 200;
const PLAIN: usize = 30_000;
const SESSIONS: usize = 8;
const SESSION_CALLS: usize = 30_000;
/// Calls that are under way at a time. Spends are verified together, so that more of them wait for each other.
const CONNECTIONS: usize = 256;
const FEW_CONNECTIONS: usize = 32;

const TARGET: &str = "/v1/chat/completions";
const FREE_TARGET: &str = "/free/chat/completions";
const QUESTION: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"What is a nullifier?"}]}"#;
const ANSWER: &str = r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"A number."}}],"usage":{"prompt_tokens":11,"completion_tokens":3}}"#;

/// Measures everything of this group.
pub(super) fn measure(figures: &mut Figures, progress: &mut Progress, dir: &Path) -> Outcome<()> {
    let place = Place::new(dir)?;
    figures.samples("fsync_ms", super::disk::fsync(&place, progress)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shop = runtime.block_on(Shop::open(&place))?;
    let spends = PAID + 2 * LONE + SESSIONS + PAID / 10;
    let mut caller = Caller::new(&shop, spends)?;
    let mut ready = caller.prove(&shop, progress, spends)?;
    let mut take = |count| ready.split_off(ready.len() - count);

    let plain = || shop.request(FREE_TARGET, None, QUESTION.as_bytes());
    let requests = |count| (0..count).map(|_| plain()).collect::<Vec<_>>();
    progress.start("calls without payment", 1);
    runtime.block_on(run(&shop, requests(PLAIN / 10), FEW_CONNECTIONS))?;
    let rate = runtime.block_on(run(&shop, requests(PLAIN), FEW_CONNECTIONS))?;
    figures.number("http_plain_per_second", rate);
    let bare = Samples::of(runtime.block_on(one_by_one(&shop, requests(LONE)))?);
    figures.samples("http_plain_ms", bare.clone());

    progress.start("paid calls, one by one", 1);
    let warm = caller.pay_all(&shop, take(LONE))?;
    runtime.block_on(one_by_one(&shop, warm))?;
    let paid = caller.pay_all(&shop, take(LONE))?;
    let paid = Samples::of(runtime.block_on(one_by_one(&shop, paid))?);
    figures.number("http_added_ms_p50", paid.median() - bare.median());
    figures.number("http_added_ms_p99", paid.quantile(0.99) - bare.median());
    figures.samples("http_paid_ms", paid);

    progress.start("paid calls", 1);
    let warm = caller.pay_all(&shop, take(PAID / 10))?;
    runtime.block_on(run(&shop, warm, CONNECTIONS))?;
    let calls = caller.pay_all(&shop, take(PAID))?;
    let rate = runtime.block_on(run(&shop, calls, CONNECTIONS))?;
    figures.number("http_paid_per_second", rate);

    progress.start("calls in sessions", 1);
    let sessions = take(SESSIONS).into_iter().map(|ready| caller.open(&shop, ready)).collect::<Outcome<Vec<_>>>()?;
    for session in &sessions {
        runtime.block_on(one_by_one(&shop, vec![session.opening.clone()]))?;
    }
    let calls = |count| {
        let calls = (0..count).map(|number| sessions[number % SESSIONS].call(&shop));
        calls.collect::<Outcome<Vec<_>>>()
    };
    runtime.block_on(run(&shop, calls(SESSION_CALLS / 10)?, FEW_CONNECTIONS))?;
    let rate = runtime.block_on(run(&shop, calls(SESSION_CALLS)?, FEW_CONNECTIONS))?;
    figures.number("http_session_calls_per_second", rate);
    for session in &sessions {
        runtime.block_on(session.close(&shop, &mut caller))?;
    }
    // Nothing was measured that was not paid for.
    let books = shop.stack.books()?;
    if books.held != 0 || books.charged == 0 {
        return Err("calls are not settled".into());
    }
    runtime.block_on(shop.stack.shutdown());
    Ok(())
}

/// A service, a gateway before it with a durable store, and an issuer.
struct Shop {
    stack: Stack,
    host: String,
    id: GatewayId,
    class: Credits,
    challenge: PaymentChallenge,
    _service: Server,
}

impl Shop {
    async fn open(place: &Place) -> Outcome<Self> {
        let answer = || async { ([(http::header::CONTENT_TYPE, "application/json")], ANSWER) };
        let service = Router::new().route(TARGET, post(answer)).route(FREE_TARGET, post(answer));
        let server = Listener::bind(([127, 0, 0, 1], 0).into()).await?.serve(service);
        let upstream = Some(UpstreamOptions { url: server.url(), api_key: None });
        let free = vec!["POST /free/**".parse()?];
        let gateway = GatewayId::from_bytes(rand::random());
        let store = DurableStore::create(place.next(), gateway, &StoreOptions::default())?;
        let records = Records { gateway, set: Arc::new(store.spent_set()), mints: Arc::new(store.mint_book()) };
        let options = StackOptions { upstream, free, records: Some(records), ..StackOptions::default() };
        let stack = Stack::start(options).await?;
        let directory = stack.gateway().directory();
        let id = stack.gateway().id();
        let class = *directory.parts().classes.last().ok_or("the directory has a class")?;
        let host = stack.gateway_url().trim_start_matches("http://").to_owned();
        Ok(Self { host, id, class, challenge: PaymentChallenge::of(directory, &id), stack, _service: server })
    }

    fn credential(&self, payload: Payload) -> String {
        Credential { challenge: self.challenge.clone(), payload }.to_header_value()
    }

    /// The bytes of a request over a connection that is kept.
    fn request(&self, target: &str, credential: Option<String>, body: &[u8]) -> Bytes {
        let (host, length) = (&self.host, body.len());
        let payment = credential.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{payment}\r\n"
        );
        [head.as_bytes(), body].concat().into()
    }

    fn signed<'a>(&'a self, target: &'a str, body: &[u8]) -> Outcome<Request<'a>> {
        Ok(Request::new(&self.host, "POST", target, ContentDigest::of(body))?)
    }
}

/// The payer.
struct Caller {
    wallet: Wallet<MemoryJournal>,
}

impl Caller {
    /// With lanes for so many spends.
    fn new(shop: &Shop, spends: usize) -> Outcome<Self> {
        let (issuer, amount) = (shop.stack.issuer(), shop.class);
        let device = DeviceId::from_bytes([1; DeviceId::LENGTH]);
        let secret = RootSecret::generate(&mut ChaCha20Rng::seed_from_u64(8));
        let directory = issuer.signed_directory();
        let mut wallet = Wallet::new(secret, device, shop.stack.root_key(), directory, MemoryJournal::new())?;
        for _ in 0..spends.div_ceil(LANES) {
            let amounts = [amount; LANES];
            let payment = shop.stack.pay(Credits::checked_sum(amounts).ok_or("the amounts fit")?)?;
            let minted = issuer.mint(&wallet.request_mint(payment, amounts, now())?, now())?;
            wallet.accept_mint(&payment, &minted, now())?;
        }
        Ok(Self { wallet })
    }

    fn prove(&self, shop: &Shop, progress: &mut Progress, spends: usize) -> Outcome<Vec<ReadySpend>> {
        let (wallet, keys, now) = (&self.wallet, ProvingKeys::new(), now());
        let lanes = wallet.lanes_to_prove(&shop.id, shop.class, now).into_iter().take(spends);
        let jobs = lanes.map(|lane| wallet.plan(lane, &shop.id, shop.class, now)).collect::<Result<Vec<_>, _>>()?;
        progress.start("spends made beforehand", jobs.len());
        let parts = pinned_workers(parallelism())?.run(jobs, |part| {
            let mut rng = ChaCha20Rng::from_rng(&mut rand::rng());
            let prove = |job: halometer::wallet::ProofJob| {
                progress.step();
                let key = keys.of(&job.epoch_key());
                job.prove(&key, &mut rng)
            };
            part.into_iter().map(prove).collect::<Vec<_>>()
        });
        Ok(parts.into_iter().flatten().collect::<Result<_, _>>()?)
    }

    /// Requests that pay with these spends.
    fn pay_all(&mut self, shop: &Shop, spends: Vec<ReadySpend>) -> Outcome<Vec<Bytes>> {
        let request = shop.signed(TARGET, QUESTION.as_bytes())?;
        let mut pay = |ready| {
            let paid = self.wallet.authorise(ready, &request, now())?;
            Ok(shop.request(TARGET, Some(shop.credential(Payload::Opening(paid.opening))), QUESTION.as_bytes()))
        };
        spends.into_iter().map(&mut pay).collect()
    }

    fn open(&mut self, shop: &Shop, ready: ReadySpend) -> Outcome<Session> {
        let paid = self.wallet.authorise(ready, &shop.signed(SESSION_PATH, b"")?, now())?;
        let opening = shop.request(SESSION_PATH, None, &paid.opening);
        Ok(Session { key: paid.key, opening, signer: self.wallet.session(&paid.key)? })
    }
}

struct Session {
    key: SpendKey,
    opening: Bytes,
    signer: SessionSigner,
}

impl Session {
    fn call(&self, shop: &Shop) -> Outcome<Bytes> {
        let following = self.signer.call(&shop.signed(TARGET, QUESTION.as_bytes())?);
        Ok(shop.request(TARGET, Some(shop.credential(Payload::Following(following))), QUESTION.as_bytes()))
    }

    /// Closes it, and has the wallet check what it came to.
    async fn close(&self, shop: &Shop, caller: &mut Caller) -> Outcome<()> {
        let credential = shop.credential(Payload::Following(self.signer.close(&shop.signed(CLOSE_PATH, b"")?)));
        let mut connection = Connection::new(&shop.host).await.map_err(|error| error.to_string())?;
        let answer = connection.ask(&shop.request(CLOSE_PATH, Some(credential), b"")).await;
        let answer: halometer::http::wire::SettlementAnswer =
            serde_json::from_slice(&answer.map_err(|error| error.to_string())?)?;
        let settlement = URL_SAFE_NO_PAD.decode(&answer.settlement)?;
        caller.wallet.accept(&self.key, &Settlement::from_bytes(&settlement)?, now())?;
        Ok(())
    }
}

/// A connection that is kept.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    async fn new(host: &str) -> Sent<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(8 << 10) })
    }

    /// Sends a request and reads its answer, which has to be a success. Its body.
    async fn ask(&mut self, request: &[u8]) -> Sent<Vec<u8>> {
        self.stream.write_all(request).await?;
        self.read.clear();
        loop {
            let head = self.read.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = head.map(|head| head + 4) {
                let head = std::str::from_utf8(&self.read[..end])?;
                if !head.starts_with("HTTP/1.1 200 ") {
                    return Err(String::from_utf8_lossy(&self.read).into_owned().into());
                }
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
                });
                let length = length.ok_or("the answer has no length")?;
                if self.read.len() >= end + length {
                    return Ok(self.read[end..end + length].to_vec());
                }
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err("the connection ended".into());
            }
        }
    }
}

/// Sends requests over so many connections, each the next one as soon as it has its answer; how many are answered in a second.
async fn run(shop: &Shop, requests: Vec<Bytes>, connections: usize) -> Outcome<f64> {
    let count = requests.len();
    let queue = Arc::new(Mutex::new(VecDeque::from(requests)));
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::new(&shop.host).await.map_err(|error| error.to_string())?);
    }
    let start = Instant::now();
    let mut tasks = Vec::new();
    for mut connection in open {
        let queue = Arc::clone(&queue);
        tasks.push(tokio::spawn(async move {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(request) = next else { return Ok::<_, String>(()) };
                connection.ask(&request).await.map_err(|error| error.to_string())?;
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Sends requests one after the other; milliseconds from the first byte of each to the last of its answer.
async fn one_by_one(shop: &Shop, requests: Vec<Bytes>) -> Outcome<Vec<f64>> {
    let mut connection = Connection::new(&shop.host).await.map_err(|error| error.to_string())?;
    let mut times = Vec::new();
    for request in requests {
        let start = Instant::now();
        connection.ask(&request).await.map_err(|error| error.to_string())?;
        times.push(milliseconds(start.elapsed()));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(times)
}
