//! Copies and rollbacks of the file.

use super::*;

/// A life of so many commits at least; after each of them the file is copied.
fn copies(world: &World, device: &Device, file: &WalletFile) -> (Vec<PathBuf>, Vec<SpendKey>) {
    let (mut copies, mut spent) = (Vec::new(), Vec::new());
    let mut wallet = create(world, file);
    let mut copy = || {
        let path = device.path(&format!("copy{}", copies.len()));
        std::fs::copy(file.path(), &path).unwrap();
        copies.push(path);
    };
    copy();
    fund(world, &mut wallet, 1);
    copy();
    for lane in [LANE0, LANE1, LANE0] {
        let paid = send(&mut wallet, lane);
        copy();
        let Ok(Screened::Unknown(spend)) = world.gateway.screen(&paid.opening, &request(), T0) else { panic!() };
        let Ok(Opened::Admitted(spend)) = world.gateway.admit(spend.without_proof(), T0) else { panic!() };
        let settled = world.issuer.settle(&*world.set, &spend, micro(1), T0).unwrap();
        wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
        spent.push(paid.key);
        copy();
    }
    (copies, spent)
}

fn put_back(copy: &Path, file: &WalletFile) {
    std::fs::copy(copy, file.path()).unwrap();
}

#[test]
fn a_file_that_was_put_back_is_recognised_at_every_commit() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let (copies, _) = copies(&world, &device, &file);
    let (newest, older) = copies.split_last().unwrap();
    assert!(older.len() >= 7);
    for copy in older {
        put_back(copy, &file);
        assert!(matches!(file.open(&lock()), Err(WalletFileError::RolledBack { behind }) if behind > 0));
        assert_eq!(file.check(Some(&lock())).unwrap().contents.unwrap().standing, FileStanding::RolledBack);
        // Nor is any other way in, nor does trying change anything.
        assert!(matches!(file.rewrite(&lock(), &lock(), &mut rng(2)), Err(WalletFileError::RolledBack { .. })));
        let code = file.prepare(&mut rng(3)).unwrap();
        let out = device.path("bundle");
        assert!(matches!(file.export(&lock(), &code, &out, &mut rng(4)), Err(WalletFileError::RolledBack { .. })));
        assert!(!out.exists());
    }
    put_back(newest, &file);
    assert!(file.open(&lock()).is_ok(), "the newest state is the wallet");
}

#[test]
fn a_copy_is_recognised_wherever_it_is_opened() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let mut wallet = create(&world, &file);
    fund(&world, &mut wallet, 1);
    let copy = device.file("copy");
    std::fs::copy(file.path(), copy.path()).unwrap();
    assert!(matches!(copy.open(&lock()), Err(WalletFileError::InUse)), "here, while the original runs");
    assert!(matches!(copy.adopt(&lock(), T0, &mut rng(2)), Err(WalletFileError::InUse)));
    let elsewhere = WalletFile::with_seats(copy.path(), device.path("other seats"));
    assert!(matches!(elsewhere.open(&lock()), Err(WalletFileError::Copied)), "on another device");
    assert_eq!(elsewhere.check(Some(&lock())).unwrap().contents.unwrap().standing, FileStanding::Copied);
    // Of a file and its copy on one device, whichever is used first is the wallet from then on.
    drop(wallet);
    let mut wallet = copy.open(&lock()).unwrap();
    fund(&world, &mut wallet, 2);
    drop(wallet);
    assert!(matches!(file.open(&lock()), Err(WalletFileError::RolledBack { .. })));
}

#[test]
fn an_adopted_copy_waits_and_locks_the_original_out() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let (copies, spent) = copies(&world, &device, &file);
    // The file as it was when nothing was spent yet.
    put_back(&copies[1], &file);
    let mut wallet = file.adopt(&lock(), T0, &mut rng(2)).unwrap();
    let until = wallet.quarantined_until().unwrap();
    let grid = wallet.directory().parts().grid;
    assert!(until >= grid.callers_not_after(T0).after(Grid::GRACE));
    // What was spent is frozen at once; what was not is not used before its time.
    let both = [spent[0], spent[1]];
    assert_eq!(answer(&mut wallet, &both[..1], T0), [LANE0]);
    assert!(matches!(status(&wallet, LANE0), LaneStatus::Frozen { .. }));
    assert!(matches!(status(&wallet, LANE1), LaneStatus::Unchecked { .. }));
    assert!(wallet.plan(LANE1, &GATEWAY, micro(5), T0).is_err());
    drop(wallet);
    // It opens as usual from now on, and the quarantine is in it.
    let mut wallet = file.open(&lock()).unwrap();
    assert_eq!(wallet.quarantined_until(), Some(until));
    assert!(matches!(status(&wallet, LANE0), LaneStatus::Frozen { .. }));
    assert_eq!(answer(&mut wallet, &both, until), [LANE1], "a spend that came late");
    drop(wallet);
    // Adopted again with a clock that was set back, the quarantine does not get shorter.
    let wallet = file.adopt(&lock(), T0.before(9 * DAY), &mut rng(3)).unwrap();
    assert_eq!(wallet.quarantined_until(), Some(until));
    drop(wallet);
    // The newest state of the original is now the copy.
    put_back(copies.last().unwrap(), &file);
    assert!(matches!(file.open(&lock()), Err(WalletFileError::Copied)));
}

#[test]
fn file_and_seat_put_back_together_are_asked_about() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let mut wallet = create(&world, &file);
    fund(&world, &mut wallet, 1);
    let seat = std::fs::read_dir(device.seats()).unwrap().next().unwrap().unwrap().path();
    let (old_file, old_seat) = (std::fs::read(file.path()).unwrap(), std::fs::read(&seat).unwrap());
    let spent = call(&world, &mut wallet, LANE0);
    drop(wallet);
    std::fs::write(file.path(), old_file).unwrap();
    std::fs::write(&seat, old_seat).unwrap();
    // An image of the whole disk: no file can tell. But the notes are not believed.
    let mut wallet = file.open(&lock()).unwrap();
    assert!(matches!(status(&wallet, LANE0), LaneStatus::Unchecked { .. }));
    assert!(wallet.plan(LANE0, &GATEWAY, micro(5), T0).is_err());
    assert_eq!(answer(&mut wallet, &[spent], T0), [LANE0]);
    assert!(matches!(status(&wallet, LANE0), LaneStatus::Frozen { .. }));
    assert!(matches!(status(&wallet, LANE1), LaneStatus::Idle { .. }));
}

#[test]
fn a_crash_between_the_file_and_the_seat_does_no_harm() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let mut wallet = create(&world, &file);
    fund(&world, &mut wallet, 1);
    let seat = std::fs::read_dir(device.seats()).unwrap().next().unwrap().unwrap().path();
    let before = std::fs::read(&seat).unwrap();
    send(&mut wallet, LANE0);
    drop(wallet);
    let after = std::fs::read(&seat).unwrap();
    // The seat as it was, or torn anywhere on its way to the new state.
    let mut torn = before.clone();
    for at in (0..before.len()).filter(|at| before[*at] != after[*at]) {
        std::fs::write(&seat, &torn).unwrap();
        let wallet = file.open(&lock()).unwrap();
        assert!(matches!(status(&wallet, LANE0), LaneStatus::InFlight { .. }));
        drop(wallet);
        torn[at] = after[at];
    }
    // Opening brings it up to date: the file of before is recognised.
    assert_eq!(file.check(Some(&lock())).unwrap().contents.unwrap().standing, FileStanding::InOrder);
    for damaged in [Vec::new(), vec![0; before.len()], before[..100].iter().map(|byte| byte ^ 1).collect()] {
        std::fs::write(&seat, damaged).unwrap();
        assert!(matches!(file.open(&lock()), Err(WalletFileError::Copied)), "a seat that cannot be read is none");
    }
}

#[test]
fn a_seat_that_cannot_be_written_stops_the_wallet() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let mut wallet = create(&world, &file);
    fund(&world, &mut wallet, 1);
    wallet.journal.store().seat.as_mut().unwrap().refuse_writes();
    let ready = wallet.plan(LANE0, &GATEWAY, micro(5), T0).unwrap().without_proof();
    let key = ready.key();
    assert!(wallet.authorise(ready, &request(), T0).is_err());
    assert!(wallet.journal.freeze(LANE1).is_err(), "nothing more is written");
    drop(wallet);
    let wallet = file.open(&lock()).unwrap();
    // It was in the file before: it is pinned, and was never sent.
    assert!(wallet.journal().entry(&key.nullifier).unwrap().is_some());
}
