//! A wallet back from its root secret, over HTTP.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::disk::Place;
use super::figures::Figures;
use super::machine::peak_rss_mb;
use super::progress::Progress;
use halometer::http::clock::now;
use halometer::http::payer::{Client, RestoreFrom};
use halometer::protocol::{Credits, DeviceId, EpochNumber, LANES, RootKey};
use halometer::testing::Past;
use halometer::testing::stack::{Stack, StackOptions};
use halometer::wallet::{LaneFound, MemoryJournal, Restore, RestoreOptions, RootSecret, Wallet};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SECRET: [u8; 32] = [23; 32];
/// Of each of the eight lanes.
const SPENDS: u64 = 1_000;
const AMOUNT: u64 = 1_000_000;
/// Where the process that is measured finds the parties.
const PARTIES: &str = "parties";

/// Seconds and memory of a restore, in a process in which nothing else is.
pub(super) async fn measure(figures: &mut Figures, progress: &mut Progress, place: &Place) -> Outcome<()> {
    progress.start("restore", 1);
    let stack = Stack::start(StackOptions::default()).await?;
    let amounts = [Credits::from_micro(AMOUNT); LANES];
    let payment = stack.pay(Credits::from_micro(AMOUNT * LANES as u64))?;
    let (root, device) = (RootSecret::from_bytes(SECRET), DeviceId::from_number(0));
    let directory = stack.issuer().signed_directory();
    let mut wallet = Wallet::new(root, device, stack.root_key(), directory, MemoryJournal::new())?;
    let minted = stack.issuer().mint(&wallet.request_mint(payment, amounts, now())?, now())?;
    wallet.accept_mint(&payment, &minted, now())?;
    let past = Past { root: &RootSecret::from_bytes(SECRET), device, payment: 0, amounts };
    past.write(&*stack.gateway().shared_set(), stack.issuer(), EpochNumber::new(1), SPENDS, now())?;

    let path = place.next();
    std::fs::create_dir(&path)?;
    let root = hex(&stack.root_key().to_bytes());
    std::fs::write(path.join(PARTIES), format!("{}\n{}\n{root}\n", stack.issuer_url(), stack.gateway_url()))?;
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["bench", "--only", "wallet", "--resident"]).arg(&path);
    let output = tokio::task::spawn_blocking(move || child.output()).await??;
    stack.shutdown().await;
    let said = String::from_utf8(output.stdout)?;
    let mut said = said.split_whitespace();
    let (Some(seconds), Some(memory)) = (said.next(), said.next()) else {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    };
    figures.number("restore_seconds", seconds.parse()?);
    figures.number("restore_rss_mb", memory.parse()?);
    progress.step();
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this is what the process is for.
pub(super) fn is_meant(path: &Path) -> bool {
    path.join(PARTIES).exists()
}

/// That other process.
pub(super) fn resident(path: &Path) -> Outcome<()> {
    let text = std::fs::read_to_string(path.join(PARTIES))?;
    let mut lines = text.lines().map(str::to_owned);
    let mut line = || lines.next().ok_or("the file names the parties");
    let (issuer, gateway, root) = (line()?, line()?, line()?);
    let digest: halometer::protocol::Digest = root.parse()?;
    let pinned = RootKey::from_bytes(&digest.to_bytes()).ok_or("the root key is one")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, start) = (Client::plain()?, Instant::now());
        let directory = client.directory(&issuer).await?;
        let secret = RootSecret::from_bytes(SECRET);
        let mut restore = Restore::new(secret, pinned, &directory, &RestoreOptions::default(), now())?;
        let from = RestoreFrom { issuer, gateways: vec![gateway], patience: Duration::ZERO };
        from.run(&client, &mut restore, |_| {}).await?;
        let restored = restore.finish(now(), &mut rand::rng())?;
        let found =
            |lane: &halometer::wallet::LaneReport| matches!(lane.found, LaneFound::Change { index: SPENDS, .. });
        if !restored.lanes().iter().all(found) {
            return Err("a lane is not what it should be".into());
        }
        println!("{} {}", start.elapsed().as_secs_f64(), peak_rss_mb());
        Ok(())
    })
}
