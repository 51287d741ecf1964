//! Keys, proofs, and their verification.

use std::time::Instant;

use halometer_circuits::fixture::Fixture;
use halometer_circuits::note::{Leaf, ValueCommitment};
use halometer_circuits::proof::{BatchVerifier, Proof, ProvingKey, Workers};
use halometer_circuits::schnorr::SigningKey;
use halometer_circuits::spend::{SpendPublic, SpendWitness};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::figures::{Figures, Samples, milliseconds};
use super::machine::{parallelism, pinned_workers};
use super::market::Market;
use super::progress::Progress;
use super::yardstick::Yardstick;
use halometer::protocol::Opening;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Sizes of the batches that are measured.
const BATCHES: [usize; 5] = [1, 8, 64, 256, 1024];

/// Some leaf; a change note is any element of the field.
fn leaf(n: u8) -> Option<Leaf> {
    let change: Option<ValueCommitment> = ValueCommitment::from_bytes(&[n % 64; 32]).into();
    change.map(|change| change.leaf(u64::from(n)))
}

/// Measures everything of this group.
pub(super) fn measure(figures: &mut Figures, progress: &mut Progress) -> Outcome<()> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let one = pinned_workers(1)?;
    let all = pinned_workers(parallelism())?;

    let fixture = Fixture::new(&mut rng);
    let key = ProvingKey::build(&fixture.epoch_key());

    progress.start("keys", 9);
    let keygen = on(&one, || {
        Samples::time(9, |_| {
            progress.step();
            ProvingKey::build(&fixture.epoch_key())
        })
    });

    // The yardstick is timed beside each proof, so that both meet the same noise.
    let mut spends: Vec<_> = (0..32).map(|_| fixture.spend(&mut rng)).collect();
    progress.start("one proof, one core", spends.len());
    let yardstick = Yardstick::new();
    let (prove_one, yardstick) = on(&one, || {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let mut yards = Vec::new();
        let mut proofs = Vec::new();
        for (public, witness) in &spends {
            yards.push(time(|| yardstick.run()));
            proofs.push(time(|| key.prove(public, witness, &mut rng)));
            progress.step();
        }
        (Samples::of(proofs), Samples::of(yards))
    });
    figures.samples("yardstick_ms", yardstick);
    figures.samples("prove_ms_one_core", prove_one);

    progress.start("one proof, all cores", spends.len());
    let together = rayon::ThreadPoolBuilder::new().num_threads(parallelism()).build()?;
    let prove = together.install(|| {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        Samples::time(spends.len(), |i| {
            progress.step();
            key.prove(&spends[i].0, &spends[i].1, &mut rng)
        })
    });
    drop(together);
    figures.samples("prove_ms", prove);

    let largest = BATCHES[BATCHES.len() - 1];
    spends.extend((spends.len()..largest).map(|_| fixture.spend(&mut rng)));
    progress.start("a proof a core", largest);
    let start = Instant::now();
    let proofs = prove_all(&all, &key, &spends, progress)?;
    figures.number("proofs_per_second", largest as f64 / start.elapsed().as_secs_f64());
    drop(spends);

    // The last of set-up: each proof is verified once. It warms the caches, too.
    let verdicts = batch(&key, &proofs).verify_on(&all, &mut rng);
    if verdicts.iter().any(Result::is_err) {
        return Err("a proof that was just made does not verify".into());
    }

    figures.samples("authorise_us", authorise(&all, progress)?.map(|ms| ms * 1e3));

    progress.start("one verification", 64);
    let verify = on(&one, || {
        Samples::time(64, |i| {
            progress.step();
            key.verifying_key().verify(&proofs[i].0, &proofs[i].1)
        })
    });
    figures.samples("verify_ms", verify);

    // The issuer's part of a settlement: signed, and verified before it is released.
    let signer = SigningKey::generate(&mut rng);
    let leaves: Vec<_> = (0..64_u8).filter_map(|n| leaf(n + 1)).collect();
    let sign = on(&one, || Samples::time(leaves.len(), |i| signer.sign(&leaves[i])));
    figures.samples("settlement_sign_ms", sign);

    for size in BATCHES {
        let runs = (1024 / size).clamp(5, 32);
        progress.start("batches, one core", runs);
        let per_proof = batches(&one, &key, &proofs, size, runs, progress);
        figures.samples(&format!("batch_verify_ms_per_proof_{size}_one_core"), per_proof);
    }
    progress.start("batches of 256, all cores", 9);
    let per_proof = batches(&all, &key, &proofs, 256, 9, progress);
    figures.samples("batch_verify_ms_per_proof_256", per_proof);

    for (percent, runs) in [(1, 5), (10, 3), (100, 3)] {
        progress.start("batches of 1024 with bad ones, one core", runs);
        let mut spoilt = proofs.clone();
        let every = 100 / percent;
        for (public, _) in spoilt.iter_mut().skip(every / 2).step_by(every) {
            public.charge += 1;
        }
        let per_proof = batches(&one, &key, &spoilt, largest, runs, progress);
        figures.samples(&format!("batch_verify_ms_per_proof_1024_bad{percent}pct_one_core"), per_proof);
    }

    figures.samples("keygen_ms", keygen);
    figures.number("proof_bytes", Proof::LENGTH as f64);
    figures.number("spend_bytes", Opening::LENGTH as f64);
    Ok(())
}

/// Runs `work` on the one thread of `workers`.
fn on<T: Send>(workers: &Workers, work: impl Fn() -> T + Sync) -> T {
    workers.run(vec![()], |_| work()).pop().expect("one part")
}

/// In milliseconds.
fn time<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    std::hint::black_box(work());
    milliseconds(start.elapsed())
}

type Proved = (SpendPublic, Proof);

fn prove_all(
    workers: &Workers,
    key: &ProvingKey,
    spends: &[(SpendPublic, SpendWitness)],
    progress: &Progress,
) -> Outcome<Vec<Proved>> {
    let parts = workers.run((0..spends.len()).collect(), |part: Vec<usize>| {
        let mut rng = ChaCha20Rng::seed_from_u64(part[0] as u64);
        part.into_iter()
            .map(|i| {
                progress.step();
                let (public, witness) = &spends[i];
                key.prove(public, witness, &mut rng).map(|proof| (*public, proof))
            })
            .collect::<Result<Vec<_>, _>>()
    });
    let mut proofs = Vec::with_capacity(spends.len());
    for part in parts {
        proofs.extend(part?);
    }
    Ok(proofs)
}

fn batch(key: &ProvingKey, proofs: &[Proved]) -> BatchVerifier {
    let mut batch = BatchVerifier::new();
    for (public, proof) in proofs {
        batch.add(key.verifying_key(), public, proof);
    }
    batch
}

/// Milliseconds a proof, over batches of distinct proofs that take turns.
fn batches(
    workers: &Workers,
    key: &ProvingKey,
    proofs: &[Proved],
    size: usize,
    runs: usize,
    progress: &Progress,
) -> Samples {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    Samples::time(runs, |run| {
        progress.step();
        let at = run * size % (proofs.len() - size + 1);
        batch(key, &proofs[at..at + size]).verify_on(workers, &mut rng)
    })
    .map(|ms| ms / size as f64)
}

/// What a call costs whose proof is ready: to choose it, to pin it in the journal (in memory here), and to sign.
fn authorise(workers: &Workers, progress: &mut Progress) -> Outcome<Samples> {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let market = Market::new(&mut rng)?;
    let mut wallet = market.wallet(6, &mut rng)?;
    let ready = market.prove(&wallet, workers, progress, "a call whose proof is ready")?;
    let calls = ready.len();
    ready.into_iter().for_each(|ready| wallet.keep(ready));
    let samples = (0..calls)
        .map(|_| {
            let start = Instant::now();
            let request = Market::request()?;
            let ready =
                wallet.take(&Market::GATEWAY, Market::CLASS, Market::NOW, &mut rng).ok_or("no proof is ready")?;
            let paid = wallet.authorise(ready, &request, Market::NOW)?;
            let took = milliseconds(start.elapsed());
            std::hint::black_box(paid);
            Ok(took)
        })
        .collect::<Outcome<Vec<_>>>()?;
    Ok(Samples::of(samples))
}
