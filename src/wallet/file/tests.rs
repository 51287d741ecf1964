//! The file under attack.

mod damage;
mod disks;
mod guard;
mod killed;
mod life;
mod model;
mod restored;
mod travel;

use std::path::PathBuf;

use super::*;
use crate::gateway::Opened;
use crate::gateway::Screened;
use crate::protocol::{PaymentId, SpendKey};
use crate::testing::world::*;
use crate::wallet::{Authorised, Journal, LaneId, LaneStatus};
use halometer_circuits::note::Nullifier;
use tempfile::TempDir;

/// A device: its disk, and its directory for seats.
struct Device {
    directory: TempDir,
}

impl Device {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn seats(&self) -> PathBuf {
        self.path("state/seats")
    }

    fn file(&self, name: &str) -> WalletFile {
        WalletFile::with_seats(self.path(name), self.seats())
    }
}

fn lock() -> Lock {
    Lock::key_bytes(&[7; 32]).unwrap()
}

fn create(world: &World, file: &WalletFile) -> Wallet<FileJournal> {
    file.create(&lock(), world.root.public_key(), world.issuer.signed_directory(), &mut rng(1)).unwrap()
}

fn fund(world: &World, wallet: &mut Wallet<FileJournal>, id: u8) {
    let payment = PaymentId::from_bytes([id; 32]);
    world.payments.grant(payment, micro(100)).unwrap();
    let minted = world.issuer.mint(&wallet.request_mint(payment, sixty_and_forty(), T0).unwrap(), T0).unwrap();
    wallet.accept_mint(&payment, &minted, T0).unwrap();
}

/// Sends a spend of a lane that nobody sees.
fn send(wallet: &mut Wallet<FileJournal>, lane: LaneId) -> Authorised {
    let ready = wallet.plan(lane, &GATEWAY, micro(5), T0).unwrap().without_proof();
    wallet.authorise(ready, &request(), T0).unwrap()
}

/// A call of a lane that costs 1.
fn call(world: &World, wallet: &mut Wallet<FileJournal>, lane: LaneId) -> SpendKey {
    let paid = send(wallet, lane);
    let Ok(Screened::Unknown(spend)) = world.gateway.screen(&paid.opening, &request(), T0) else {
        panic!("it is known")
    };
    let Ok(Opened::Admitted(spend)) = world.gateway.admit(spend.without_proof(), T0) else { panic!("not admitted") };
    let settled = world.issuer.settle(&*world.set, &spend, micro(1), T0).unwrap();
    wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    paid.key
}

/// Answers what a wallet asks, from these spent nullifiers; gives the lanes that were frozen.
fn answer(wallet: &mut Wallet<FileJournal>, spent: &[SpendKey], now: Timestamp) -> Vec<LaneId> {
    let spent: Vec<Nullifier> = spent.iter().map(|key| key.nullifier).collect();
    let questions: Vec<_> = EPOCH.iter().flat_map(|epoch| wallet.questions(*epoch, 0, T0)).collect();
    questions.iter().flat_map(|question| wallet.answer(question, &spent, now).unwrap()).collect()
}

fn status(wallet: &Wallet<FileJournal>, lane: LaneId) -> LaneStatus {
    wallet.lanes().find(|(id, _)| *id == lane).unwrap().1
}

/// All that a wallet says of itself.
fn told(wallet: &Wallet<FileJournal>) -> String {
    let lanes: Vec<_> = wallet.lanes().collect();
    let history = wallet.journal().history(1000).unwrap();
    let keys: Vec<_> =
        history.iter().map(|entry| (entry.key.nullifier.to_bytes(), entry.settlement.is_some())).collect();
    format!("{lanes:?} {:?} {keys:?}", wallet.payments().collect::<Vec<_>>())
}
