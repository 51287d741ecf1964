//! A restored wallet in its file.

use super::*;
use crate::store::{RecordState, SpentSet as _};
use crate::wallet::{ChangeTold, Restore, RestoreOptions, RestoreQuestion, Restored, RootSecret};

/// A wallet that was funded and spent from, and is lost: its secret, and what it was worth.
fn lost(world: &World, file: &WalletFile) -> ([u8; 32], u128) {
    let mut wallet = create(world, file);
    fund(world, &mut wallet, 1);
    call(world, &mut wallet, LANE0);
    call(world, &mut wallet, LANE0);
    (*wallet.root.to_bytes(), wallet.balance().total())
}

fn restored(world: &World, secret: [u8; 32]) -> Restored {
    let (root, options) = (RootSecret::from_bytes(secret), RestoreOptions::default());
    let mut restore =
        Restore::new(root, world.root.public_key(), world.issuer.signed_directory(), &options, T0).unwrap();
    while let Some(question) = restore.question().unwrap() {
        let record =
            |query: &crate::protocol::MemoQuery| world.set.find(query.epoch, &query.nullifier).unwrap().unwrap();
        match question {
            RestoreQuestion::Mints(query) => restore.minted(world.issuer.minted(&query).unwrap()).unwrap(),
            RestoreQuestion::Count(epoch) => restore.counted(Some(world.set.totals(epoch).unwrap().settled)).unwrap(),
            RestoreQuestion::Bucket(question) => {
                restore.bucket(world.set.bucket(question.epoch, question.prefix, None, usize::MAX).unwrap()).unwrap();
            }
            RestoreQuestion::Memo(query) => restore.memo(Some(&record(&query).memo)).unwrap(),
            RestoreQuestion::Change(query) => {
                let RecordState::Settled(settlement) = record(&query.spend).state else { panic!() };
                restore.change(ChangeTold::Settled(settlement)).unwrap();
            }
        }
    }
    restore.finish(T0, &mut rng(3)).unwrap()
}

#[test]
fn a_restored_wallet_begins_again_as_it_was_held_and_all() {
    let (world, device) = (World::without_keys(), Device::new());
    let (secret, worth) = lost(&world, &device.file("lost"));
    let file = device.file("again");
    let found = restored(&world, secret);
    let until = found.held_until();
    let wallet = file.restore(&lock(), found, &mut rng(2)).unwrap();
    assert_eq!((wallet.balance().total(), wallet.quarantined_until()), (worth, Some(until)));
    let (before, own) = (told(&wallet), wallet.device());
    drop(wallet);
    let report = file.check(Some(&lock())).unwrap().contents.unwrap();
    assert_eq!((report.standing, report.payments, report.spends), (FileStanding::InOrder, 1, 0));
    let mut wallet = file.open(&lock()).unwrap();
    assert_eq!((told(&wallet), wallet.device(), wallet.quarantined_until()), (before, own, Some(until)));
    assert_eq!(answer(&mut wallet, &[], until.before(1)), []);
    assert!(wallet.plan(LANE0, &GATEWAY, micro(5), until.before(1)).is_err());
    // After the hold it is asked about, spent from, and begins again after the spend.
    assert_eq!(answer(&mut wallet, &[], until), []);
    let ready = wallet.plan(LANE0, &GATEWAY, micro(5), until).unwrap().without_proof();
    let paid = wallet.authorise(ready, &request(), until).unwrap();
    drop(wallet);
    let mut wallet = file.open(&lock()).unwrap();
    assert_eq!(wallet.resend(&paid.key, &request()).unwrap().opening, paid.opening);
    // What is new has keys of the new device, and is not held.
    fund(&world, &mut wallet, 2);
    let new = LaneId { payment: 1, lane: 0 };
    assert_eq!(wallet.held_until(new, T0), None);
    let before = told(&wallet);
    drop(wallet);
    let moved = device.file("moved");
    let code = moved.prepare(&mut rng(4)).unwrap();
    file.export(&lock(), &code, &device.path("bundle"), &mut rng(5)).unwrap();
    let wallet = moved.import(&device.path("bundle"), &lock(), &mut rng(6)).unwrap();
    assert_eq!((told(&wallet), wallet.quarantined_until()), (before, Some(until)), "it moves with all that");
}

#[test]
fn a_restore_overwrites_nothing_and_leaves_nothing_half_done() {
    let (world, device) = (World::without_keys(), Device::new());
    let (secret, _) = lost(&world, &device.file("lost"));
    let seats = || std::fs::read_dir(device.seats()).unwrap().count();
    let before = seats();
    let file = device.file("again");
    std::fs::write(file.path(), b"something else").unwrap();
    let refused = file.restore(&lock(), restored(&world, secret), &mut rng(2));
    assert!(matches!(refused, Err(WalletFileError::Exists)));
    assert_eq!(std::fs::read(file.path()).unwrap(), b"something else");
    // A disk on which no file can be made.
    let nowhere = device.file("no/such/place");
    assert!(nowhere.restore(&lock(), restored(&world, secret), &mut rng(2)).is_err());
    assert_eq!(seats(), before);
    // A copy of it is one, and after an adoption all of it is held.
    std::fs::remove_file(file.path()).unwrap();
    drop(file.restore(&lock(), restored(&world, secret), &mut rng(2)).unwrap());
    let copy = device.file("copy");
    std::fs::copy(file.path(), copy.path()).unwrap();
    let mut wallet = file.open(&lock()).unwrap();
    fund(&world, &mut wallet, 2);
    drop(wallet);
    assert!(matches!(copy.open(&lock()), Err(WalletFileError::RolledBack { .. })));
    let later = T0.after(12 * HOUR);
    let mut wallet = copy.adopt(&lock(), later, &mut rng(7)).unwrap();
    assert!(wallet.held_until(LANE0, later).is_some());
    // The payment that only the lost state had is requested again, and its account is the same: it is held as well.
    fund(&world, &mut wallet, 2);
    assert!(wallet.held_until(LaneId { payment: 1, lane: 0 }, later).is_some());
}
