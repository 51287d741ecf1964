//! The gateway core: spends from their bytes to a durable commit.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use halometer_circuits::spend::SpendPublic;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::database::Database;
use super::disk::{self, Place};
use super::figures::{Figures, Samples, milliseconds};
use super::machine::{on_cores, parallelism, pinned_workers};
use super::market::Market;
use super::progress::Progress;
use halometer::circuits::proof::{BatchVerifier, Proof, VerifyingKey};
use halometer::gateway::{Gateway, Opened};
use halometer::pipeline::{OwnedRequest, Pipeline, PipelineParts, Source};
use halometer::protocol::{Opening, Problem, Spend};
use halometer::store::SpentSet;
use halometer::store::durable::{DurableStore, StoreOptions};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Distinct spends, each admitted once in every run.
const SPENDS: u32 = 2_048;
const RUNS: usize = 5;
const LONE: usize = 200;

/// Measures everything of this group.
pub(super) fn measure(
    figures: &mut Figures,
    progress: &mut Progress,
    dir: &Path,
    database: Option<&Database>,
) -> Outcome<()> {
    let place = Place::new(dir)?;
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let all = pinned_workers(parallelism())?;
    let market = Market::new(&mut rng)?;
    let mut wallet = market.wallet(SPENDS / 8, &mut rng)?;
    let ready = market.prove(&wallet, &all, progress, "spends to admit")?;
    let openings = ready
        .into_iter()
        .map(|ready| Ok(wallet.authorise(ready, &Market::request()?, Market::NOW)?.opening))
        .collect::<Outcome<Vec<_>>>()?;

    figures.samples("fsync_ms", disk::fsync(&place, progress)?);

    let embedded = || -> Outcome<Arc<dyn SpentSet>> {
        let store = DurableStore::create(place.next(), Market::GATEWAY, &StoreOptions::default())?;
        Ok(Arc::new(store.spent_set()))
    };
    let alone = batches(&market, &openings, &all, progress)?;
    figures.samples("batch_verified_per_second", alone);
    let one_core = on_cores(1, || {
        runs(&market, &openings, &embedded, 0, "admitting, one core", progress).map_err(|error| error.to_string())
    })?;
    figures.samples("admitted_per_second_one_core", one_core);
    let admitted = runs(&market, &openings, &embedded, 0, "admitting", progress)?;
    figures.samples("admitted_per_second", admitted);
    for (bad, name) in [(1, "admitted_per_second_bad1pct"), (10, "admitted_per_second_bad10pct")] {
        figures.samples(name, runs(&market, &openings, &embedded, bad, "admitting, some bad", progress)?);
    }
    let refused = runs(&market, &openings[..512], &embedded, 100, "refusing", progress)?;
    figures.samples("refused_per_second_bad100pct", refused);
    let lone = lone(&market, &openings[..LONE], &embedded, progress)?;
    figures.number("admit_ms_lone_p50", lone.median());
    figures.number("admit_ms_lone_p99", lone.quantile(0.99));
    let Some(database) = database else { return Ok(()) };
    let shared =
        || -> Outcome<Arc<dyn SpentSet>> { Ok(Arc::new(database.store(Market::GATEWAY, 21_600)?.spent_set())) };
    let admitted = runs(&market, &openings, &shared, 0, "admitting over the database", progress)?;
    figures.samples("database_admitted_per_second", admitted);
    let lone = self::lone(&market, &openings[..LONE], &shared, progress)?;
    figures.number("database_admit_ms_lone_p50", lone.median());
    figures.number("database_admit_ms_lone_p99", lone.quantile(0.99));
    Ok(())
}

/// Makes an empty set.
type Sets<'a> = dyn Fn() -> Outcome<Arc<dyn SpentSet>> + Sync + 'a;

/// What verification alone would allow: batches of 256, on all cores.
fn batches(
    market: &Market,
    openings: &[Vec<u8>],
    workers: &halometer_circuits::proof::Workers,
    progress: &mut Progress,
) -> Outcome<Samples> {
    let gateway = market.gateway(Arc::new(halometer::store::MemorySpentSet::new()))?;
    let key: &VerifyingKey = gateway.verifying_key(Market::EPOCH).ok_or("the epoch has a key")?;
    let directory = gateway.directory();
    let entry = directory.epoch(Market::EPOCH).ok_or("the epoch has an entry")?;
    let read = |bytes: &Vec<u8>| -> Outcome<(SpendPublic, Proof)> {
        let spend: Spend = Opening::from_bytes(bytes)?.spend;
        let x = spend.context(&directory.issuer(), entry).hash().ok_or("a context hash is not zero")?;
        Ok((spend.public(x), spend.proof))
    };
    let proofs = openings.iter().map(read).collect::<Outcome<Vec<_>>>()?;
    progress.start("batches of 256", RUNS);
    let mut rng = ChaCha20Rng::seed_from_u64(12);
    let mut samples = Vec::new();
    for _ in 0..RUNS {
        progress.step();
        let start = Instant::now();
        for chunk in proofs.chunks(256) {
            let mut batch = BatchVerifier::new();
            chunk.iter().for_each(|(public, proof)| batch.add(key, public, proof));
            if batch.verify_on(workers, &mut rng).iter().any(Result::is_err) {
                return Err("a proof that was just made does not verify".into());
            }
        }
        samples.push(proofs.len() as f64 / start.elapsed().as_secs_f64());
    }
    Ok(Samples::of(samples))
}

fn pipeline(gateway: Arc<Gateway>) -> Outcome<Pipeline> {
    Ok(Pipeline::start(
        PipelineParts::new(gateway, Arc::new(|| Market::NOW), Arc::new(drop)).with_verified(Arc::new(|_, _| {})),
    )?)
}

fn request() -> Outcome<OwnedRequest> {
    let body = br#"{"model":"demo","messages":[{"role":"user","content":"What is a nullifier?"}]}"#;
    let digest = halometer::protocol::ContentDigest::of(body);
    Ok(OwnedRequest::new("127.0.0.1:8080", "POST", "/v1/chat/completions", digest)?)
}

/// Good spends a second, or bad ones if all are; each run on a store of its own, with all spends there at once.
fn runs(
    market: &Market,
    openings: &[Vec<u8>],
    sets: &Sets<'_>,
    bad_percent: usize,
    what: &'static str,
    progress: &mut Progress,
) -> Outcome<Samples> {
    let request = request()?;
    progress.start(what, RUNS);
    let mut samples = Vec::new();
    for _ in 0..RUNS {
        progress.step();
        let set = sets()?;
        set.create(Market::EPOCH)?;
        let pipeline = pipeline(Arc::new(market.gateway(set.clone())?))?;
        let spoilt = |i: usize| bad_percent > 0 && i % (100 / bad_percent) == 50 % (100 / bad_percent);
        let mut sent = openings.to_vec();
        for (i, opening) in sent.iter_mut().enumerate().filter(|(i, _)| spoilt(*i)) {
            // A scalar of the proof: it is read, and does not hold.
            opening[262 + 1_000] ^= 1 + (i as u8 & 1);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let start = Instant::now();
        let (mut good, mut refused) = (0_usize, 0_usize);
        runtime.block_on(async {
            let submit = |opening| {
                let (pipeline, request) = (pipeline.clone(), request.clone());
                tokio::spawn(async move { pipeline.open(opening, request, &Source::new()).await })
            };
            let waiting: Vec<_> = sent.into_iter().map(submit).collect();
            for answer in waiting {
                match answer.await {
                    Ok(Ok(Opened::Admitted(_))) => good += 1,
                    Ok(Err(error)) if error.problem() == Problem::ProofInvalid => refused += 1,
                    other => return Err(format!("neither admitted nor refused: {other:?}")),
                }
            }
            Ok(())
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let bad = (0..openings.len()).filter(|i| spoilt(*i)).count();
        if (good, refused) != (openings.len() - bad, bad) || set.totals(Market::EPOCH)?.open != good as u64 {
            return Err("not all that was admitted is in the set".into());
        }
        samples.push(if good > 0 { good } else { refused } as f64 / seconds);
    }
    Ok(Samples::of(samples))
}

/// One after the other, each as it comes.
fn lone(market: &Market, openings: &[Vec<u8>], sets: &Sets<'_>, progress: &mut Progress) -> Outcome<Samples> {
    let set = sets()?;
    set.create(Market::EPOCH)?;
    let pipeline = pipeline(Arc::new(market.gateway(set)?))?;
    let (request, source) = (request()?, Source::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    progress.start("one spend at a time", openings.len());
    let mut samples = Vec::new();
    for opening in openings {
        progress.step();
        let (opening, request) = (opening.clone(), request.clone());
        let start = Instant::now();
        let opened = runtime.block_on(pipeline.open(opening, request, &source))?;
        samples.push(milliseconds(start.elapsed()));
        if !matches!(opened, Opened::Admitted(_)) {
            return Err("a spend was not admitted".into());
        }
    }
    Ok(Samples::of(samples))
}
