//! An ordinary life, and a second process that looks at the file meanwhile.

use super::*;
use crate::sealed;
use crate::wallet::{DisputeKind, OutcomeNote};

#[test]
fn a_wallet_is_what_it_was_after_every_opening() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let mut wallet = create(&world, &file);
    fund(&world, &mut wallet, 1);
    let first = call(&world, &mut wallet, LANE0);
    let sent = send(&mut wallet, LANE1);
    let before = told(&wallet);
    assert!(matches!(file.open(&lock()), Err(WalletFileError::InUse)), "one at a time");
    drop(wallet);

    let mut wallet = file.open(&lock()).unwrap();
    assert!(matches!(status(&wallet, LANE0), LaneStatus::Unchecked { .. }));
    assert!(matches!(status(&wallet, LANE1), LaneStatus::InFlight { .. }));
    assert_eq!(wallet.resend(&sent.key, &request()).unwrap().opening, sent.opening, "the same spend, and only it");
    assert_eq!(answer(&mut wallet, &[first], T0), []);
    assert_eq!(told(&wallet), before, "nothing is lost, nothing is added");
    call(&world, &mut wallet, LANE0);
    fund(&world, &mut wallet, 2);
    // A wallet that was opened does not know whether a copy of it minted this first.
    answer(&mut wallet, &[], T0);
    let before = told(&wallet);
    drop(wallet);
    let mut wallet = file.open(&lock()).unwrap();
    answer(&mut wallet, &[], T0);
    assert_eq!(told(&wallet), before);
    assert_eq!(wallet.journal().history(1).unwrap().len(), 1);
    drop(wallet);
    let report = file.check(Some(&lock())).unwrap().contents.unwrap();
    assert_eq!((report.standing, report.payments, report.spends, report.unsettled), (FileStanding::InOrder, 2, 3, 1));
}

#[test]
fn nothing_that_tells_anything_is_in_the_clear() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let mut wallet = create(&world, &file);
    fund(&world, &mut wallet, 1);
    let keys = [call(&world, &mut wallet, LANE0), send(&mut wallet, LANE1).key];
    let outcome = OutcomeNote { settled_at: T0, receipt: Some(b"the gateway's receipt".to_vec()) };
    Journal::annotate(&mut wallet.journal, &keys[0], &outcome).unwrap();
    let entry = wallet.journal().entry(&keys[0].nullifier).unwrap().unwrap();
    assert_eq!(entry.outcome, Some(outcome));
    let mut secrets: Vec<(&str, Vec<u8>)> = vec![
        ("root secret", wallet.root.to_bytes().to_vec()),
        ("target", request().target().as_bytes().to_vec()),
        ("receipt", b"the gateway's receipt".to_vec()),
        ("payment id", vec![1; 32]),
        ("amounts", 60_u64.to_be_bytes().into_iter().chain(40_u64.to_be_bytes()).collect()),
        ("issuer", world.root.public_key().to_bytes().to_vec()),
        ("directory", world.issuer.signed_directory().to_bytes()[64..96].to_vec()),
        ("gateway", GATEWAY.as_bytes().to_vec()),
        ("memo", entry.spend[102..160].to_vec()),
    ];
    for key in keys {
        secrets.push(("nullifier", key.nullifier.to_bytes().to_vec()));
        secrets.push(("context", key.context.to_bytes().to_vec()));
    }
    let settlement = entry.settlement.unwrap();
    secrets.push(("signature", settlement.signature.to_bytes().to_vec()));
    drop(wallet);
    let (header, wallet_id) = {
        let (_, header) = file.unlock(&lock()).unwrap();
        (header.to_bytes(), header.wallet)
    };
    secrets.push(("data key", header[33..65].to_vec()));
    secrets.push(("wallet id", wallet_id.to_vec()));
    let bytes = std::fs::read(file.path()).unwrap();
    let seat = std::fs::read(Seat::path(&device.seats(), &wallet_id)).unwrap();
    for (name, secret) in secrets {
        assert!(secret.len() >= 8, "{name}");
        for (place, bytes) in [("file", &bytes), ("seat", &seat)] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{name} is in the {place}");
        }
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_file_and_the_seats() {
    use std::os::unix::fs::MetadataExt;
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    drop(create(&world, &file));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(file.path()), 0o600);
    assert_eq!(mode(&device.seats()), 0o700);
    for seat in std::fs::read_dir(device.seats()).unwrap() {
        assert_eq!(mode(&seat.unwrap().path()), 0o600);
    }
    file.rewrite(&lock(), &lock(), &mut rng(2)).unwrap();
    assert_eq!(mode(file.path()), 0o600);
}

#[test]
fn nothing_is_overwritten_and_no_half_wallet_is_left() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    std::fs::write(file.path(), b"something else").unwrap();
    let (root, directory) = (world.root.public_key(), world.issuer.signed_directory());
    let made = file.create(&lock(), root, directory, &mut rng(1));
    assert!(matches!(made, Err(WalletFileError::Exists)));
    assert_eq!(std::fs::read(file.path()).unwrap(), b"something else");
    assert!(matches!(file.open(&lock()), Err(WalletFileError::NotAWallet)));
    std::fs::write(file.path(), b"").unwrap();
    assert!(matches!(file.open(&lock()), Err(WalletFileError::NotAWallet)));
    assert_eq!(std::fs::read(file.path()).unwrap(), b"", "it is not made a wallet either");
    assert!(matches!(device.file("none").open(&lock()), Err(WalletFileError::Missing)));
    // A directory that is not the issuer's: nothing is left, neither file nor seat.
    let foreign =
        RootKey::from_bytes(&crate::protocol::RootSigningKey::from_bytes(&[9; 32]).public_key().to_bytes()).unwrap();
    let other = device.file("other");
    assert!(matches!(other.create(&lock(), foreign, directory, &mut rng(1)), Err(WalletFileError::Wallet(_))));
    assert!(!other.path().exists());
    assert_eq!(std::fs::read_dir(device.seats()).unwrap().count(), 0);
    let names: Vec<_> = std::fs::read_dir(device.directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn after_a_change_of_lock_only_the_new_one_opens_it() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let mut wallet = create(&world, &file);
    fund(&world, &mut wallet, 1);
    send(&mut wallet, LANE0);
    let before = told(&wallet);
    drop(wallet);
    let cost = sealed::Cost::new(8, 1, 1).unwrap();
    let passphrase = |text| Lock::passphrase(text).unwrap().with_cost(cost);
    assert!(matches!(
        file.open(&passphrase("guess")),
        Err(WalletFileError::Lock(sealed::UnsealError::OtherLock { passphrase: false }))
    ));
    file.change_lock(&lock(), &passphrase("correct horse"), &mut rng(2)).unwrap();
    for wrong in [lock(), passphrase("correct hors"), Lock::key_bytes(&[8; 32]).unwrap()] {
        assert!(matches!(file.open(&wrong), Err(WalletFileError::Lock(_))));
        assert!(matches!(file.change_lock(&wrong, &lock(), &mut rng(3)), Err(WalletFileError::Lock(_))));
        assert!(matches!(file.adopt(&wrong, T0, &mut rng(3)), Err(WalletFileError::Lock(_))));
        assert!(matches!(file.check(Some(&wrong)), Err(WalletFileError::Lock(_))));
    }
    let mut wallet = file.open(&passphrase("correct horse")).unwrap();
    answer(&mut wallet, &[], T0);
    assert_eq!(told(&wallet), before);
}

#[test]
fn proofs_go_when_they_are_old_and_what_is_needed_stays() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let mut wallet = create(&world, &file);
    fund(&world, &mut wallet, 1);
    let keys: Vec<_> = (0..20).map(|_| call(&world, &mut wallet, LANE0)).collect();
    // A transfer of which the wallet has heard nothing yet.
    let jobs = wallet.plan_transfer(LANE0, LANE1, micro(10), &GATEWAY, T0).unwrap();
    let moved = wallet.authorise_transfer(jobs.map(|job| job.without_proof()), &errand(), T0).unwrap();
    assert_eq!(wallet.journal().prune(T0).unwrap(), Pruned::default(), "nothing is old");
    let pruned = wallet.journal().prune(T0.after(1)).unwrap();
    assert_eq!(pruned, Pruned { spends: 20, bytes: 20 * 3680 });
    assert_eq!(wallet.journal().prune(T0.after(1)).unwrap(), Pruned::default(), "once");
    for key in &keys {
        let mut entry = wallet.journal().entry(&key.nullifier).unwrap().unwrap();
        assert_eq!((entry.spend.len(), entry.key), (262, *key));
        assert!(entry.settlement.is_some());
        // It stays pinned.
        entry.key.context = moved.keys[0].context;
        assert!(matches!(wallet.journal.pin(&[entry]), Err(crate::wallet::JournalError::OtherContext)));
    }
    for key in moved.keys {
        assert_eq!(
            wallet.journal().entry(&key.nullifier).unwrap().unwrap().spend.len(),
            crate::protocol::Spend::TRANSFER_LENGTH
        );
    }
    drop(wallet);
    let report = file.check(Some(&lock())).unwrap().contents.unwrap();
    assert_eq!((report.spends, report.pruned), (22, 20));
    let before = std::fs::metadata(file.path()).unwrap().len();
    file.rewrite(&lock(), &lock(), &mut rng(2)).unwrap();
    let after = std::fs::metadata(file.path()).unwrap().len();
    assert!(after + 20 * 3680 / 2 < before, "{before} -> {after}");
    file.open(&lock()).unwrap();
}

#[test]
fn a_half_that_the_other_half_still_needs_is_not_pruned() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let mut wallet = create(&world, &file);
    fund(&world, &mut wallet, 1);
    let jobs = wallet.plan_transfer(LANE0, LANE1, micro(10), &GATEWAY, T0).unwrap();
    let moved = wallet.authorise_transfer(jobs.map(|job| job.without_proof()), &errand(), T0).unwrap();
    let transfer = world.gateway.screen_transfer(&moved.transfer, &errand(), T0).unwrap().without_proof();
    let halves = both(world.issuer.transfer(&*world.set, transfer, T0).unwrap());
    wallet.accept_transfer(&moved.keys, &halves.map(|half| half.settlement().clone()), T0).unwrap();
    // One lane goes on, the other stays where it is.
    call(&world, &mut wallet, LANE0);
    assert_eq!(wallet.journal().prune(T0.after(1)).unwrap().spends, 0);
    call(&world, &mut wallet, LANE1);
    assert_eq!(wallet.journal().prune(T0.after(1)).unwrap().spends, 2);
    drop(wallet);
    file.open(&lock()).unwrap();
}

#[test]
fn disputes_are_kept_and_replaced() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let mut wallet = create(&world, &file);
    let dispute = |kind, at| crate::wallet::Dispute {
        kind,
        at,
        gateway: Some(GATEWAY),
        spend: None,
        content: None,
        settlement: None,
        receipt: Some(vec![1, 2, 3]),
        mint: None,
        directories: vec![world.issuer.signed_directory().clone()],
        heard: Vec::new(),
    };
    let (later, withheld) = (T0.after(1), DisputeKind::Withheld);
    for dispute in [dispute(withheld, T0), dispute(DisputeKind::Denied, T0), dispute(withheld, later)] {
        wallet.journal.put_dispute(&dispute).unwrap();
    }
    drop(wallet);
    let wallet = file.open(&lock()).unwrap();
    assert_eq!(wallet.journal().disputes().unwrap(), [dispute(DisputeKind::Denied, T0), dispute(withheld, later)]);
}
