//! A caller's wallet, in its file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::disk::Place;
use super::figures::{Figures, Samples, milliseconds};
use super::machine::{parallelism, peak_rss_mb, pinned_workers};
use super::market::Market;
use super::progress::Progress;
use halometer::gateway::Opened;
use halometer::http::clock::now;
use halometer::http::payer::{Client, Payer, PayerParts};
use halometer::protocol::{Credits, LANES};
use halometer::sealed::Lock;
use halometer::store::{MemorySpentSet, SpentSet as _};
use halometer::testing::stack::{Stack, StackOptions};
use halometer::wallet::Policy;
use halometer::wallet::file::{FileJournal, WalletFile};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Past spends of the wallet that is opened: eight lanes, so many rounds.
const ROUNDS: usize = 125;
const OPENINGS: usize = 20;
/// How long calls are made before they count, and how long they count.
const WARM_UP: Duration = Duration::from_secs(3);
const COUNTED: Duration = Duration::from_secs(15);
const TARGET: &str = "/v1/chat/completions";
const QUESTION: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"What is a nullifier?"}]}"#;

/// Measures everything of this group.
pub(super) fn measure(figures: &mut Figures, progress: &mut Progress, dir: &Path) -> Outcome<()> {
    let place = Place::new(dir)?;
    figures.samples("fsync_ms", super::disk::fsync(&place, progress)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(super::restore::measure(figures, progress, &place))?;
    past(figures, progress, &place)?;
    for (name, lanes) in [("wallet_calls_per_second_1_lane", 1), ("wallet_calls_per_second_8_lanes", LANES)] {
        progress.start(name, 1);
        figures.number(name, runtime.block_on(calls(&place, lanes))?);
        progress.step();
    }
    progress.start("memory", 1);
    figures.number("wallet_rss_mb", runtime.block_on(memory(&place))?);
    Ok(())
}

fn lock() -> Outcome<Lock> {
    Ok(Lock::key_bytes(&[7; 32])?)
}

/// A thousand calls in this process, each with a proof that is ready; then a wallet that remembers them is opened.
fn past(figures: &mut Figures, progress: &mut Progress, place: &Place) -> Outcome<()> {
    let mut rng = ChaCha20Rng::seed_from_u64(31);
    let workers = pinned_workers(parallelism())?;
    let market = Market::new(&mut rng)?;
    let set = Arc::new(MemorySpentSet::new());
    set.create(Market::EPOCH)?;
    let gateway = market.gateway(set)?;
    let file = WalletFile::with_seats(place.next(), place.next());
    let mut wallet = market.wallet_in(&file, &lock()?, &mut rng)?;
    let empty = std::fs::metadata(file.path())?.len();
    let (mut authorise, mut accept) = (Vec::new(), Vec::new());
    let request = Market::request()?;
    for _ in 0..ROUNDS {
        for ready in market.prove(&wallet, &workers, progress, "spends of the past")? {
            let start = Instant::now();
            let paid = wallet.authorise(ready, &request, Market::NOW)?;
            authorise.push(start.elapsed());
            let Opened::Admitted(spend) = gateway.open(&paid.opening, &request, Market::NOW)? else {
                return Err("a spend is not admitted".into());
            };
            let settled = market.settle(&gateway, &spend)?;
            let start = Instant::now();
            wallet.accept(&paid.key, settled.settlement(), Market::NOW)?;
            accept.push(start.elapsed());
        }
    }
    for (name, times) in [("authorise_us", authorise), ("accept_us", accept)] {
        let times = Samples::of(times.into_iter().map(|time| milliseconds(time) * 1e3).collect());
        figures.number(&format!("{name}_p50"), times.median());
        figures.number(&format!("{name}_p99"), times.quantile(0.99));
    }
    drop(wallet);
    let grown = std::fs::metadata(file.path())?.len() - empty;
    figures.number("wallet_bytes_per_spend", grown as f64 / (ROUNDS * LANES) as f64);
    let open = |lock: &Lock, count| -> Outcome<Samples> {
        let mut times = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            drop(file.open(lock)?);
            times.push(milliseconds(start.elapsed()));
        }
        Ok(Samples::of(times))
    };
    figures.samples("open_ms", open(&lock()?, OPENINGS)?);
    let passphrase = Lock::passphrase("correct horse battery staple")?;
    file.change_lock(&lock()?, &passphrase, &mut rng)?;
    figures.samples("open_ms_passphrase", open(&passphrase, 5)?);
    Ok(())
}

/// A running issuer and gateway, and a funded wallet of so many lanes in the files `wallet` and `seats` of a directory.
async fn funded(path: &Path, lanes: usize) -> Outcome<(Stack, WalletFile)> {
    let stack = Stack::start(StackOptions::default()).await?;
    let client = Client::plain()?;
    let amounts = core::array::from_fn(|lane| Credits::from_micro(if lane < lanes { 1_000_000_000 } else { 0 }));
    let payment = stack.pay(Credits::checked_sum(amounts).ok_or("the amounts fit")?)?;
    let directory = client.directory(&stack.issuer_url()).await?;
    std::fs::create_dir(path)?;
    let file = wallet_file(path);
    let mut wallet = file.create(&lock()?, stack.root_key(), &directory, &mut rand::rng())?;
    let minted = client.mint(&stack.issuer_url(), &wallet.request_mint(payment, amounts, now())?).await?;
    wallet.accept_mint(&payment, &minted, now())?;
    Ok((stack, file))
}

fn wallet_file(path: &Path) -> WalletFile {
    WalletFile::with_seats(path.join("wallet"), path.join("seats"))
}

/// Pays over HTTP from a wallet that is opened as after any start.
async fn payer(file: &WalletFile) -> Outcome<Payer<FileJournal>> {
    let wallet = file.open(&lock()?)?;
    let directory = wallet.directory().parts();
    let gateway = directory.gateways.first().ok_or("the directory has a gateway")?.id;
    let class = *directory.classes.first().ok_or("the directory has a class")?;
    let provers = u32::try_from(parallelism())?;
    let policy = Policy { provers, gather: false, ..Policy::agent(class, provers) };
    Ok(Payer::start(wallet, PayerParts::new(gateway, policy, Client::plain()?)).await?)
}

/// Calls a second, each lane's next one as soon as it can be made. Issuer, gateway and service share the cores.
async fn calls(place: &Place, lanes: usize) -> Outcome<f64> {
    let (stack, file) = funded(&place.next(), lanes).await?;
    let payer = payer(&file).await?;
    payer.wait_ready(lanes).await?;
    let (answered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::new();
    for _ in 0..lanes {
        let (payer, answered, stop) = (payer.clone(), Arc::clone(&answered), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let mut headers = HeaderMap::new();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let body = Bytes::from_static(QUESTION);
                payer.call(Method::POST, TARGET, headers, body).await.map_err(|error| error.to_string())?;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, String>(())
        }));
    }
    tokio::time::sleep(WARM_UP).await;
    let (before, start) = (answered.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(COUNTED).await;
    let rate = (answered.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    payer.shutdown().await;
    stack.shutdown().await;
    Ok(rate)
}

/// The most memory of a process that has a wallet of eight lanes and makes proofs for all of them: another one, in which nothing
/// else is.
async fn memory(place: &Place) -> Outcome<f64> {
    let path = place.next();
    let (stack, _file) = funded(&path, LANES).await?;
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["bench", "--only", "wallet", "--resident"]).arg(&path);
    let output = tokio::task::spawn_blocking(move || child.output()).await??;
    stack.shutdown().await;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// That other process: makes a proof for every lane, and then another.
pub(super) fn resident(path: PathBuf) -> Outcome<()> {
    if super::restore::is_meant(&path) {
        return super::restore::resident(&path);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let payer = payer(&wallet_file(&path)).await?;
        payer.wait_ready(LANES).await?;
        for _ in 0..LANES {
            payer.call(Method::POST, TARGET, HeaderMap::new(), Bytes::from_static(QUESTION)).await?;
        }
        payer.wait_ready(LANES).await?;
        payer.shutdown().await;
        println!("{}", peak_rss_mb());
        Ok(())
    })
}
