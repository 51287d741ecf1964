//! Moving.

use super::*;
use crate::wallet::{DisputeKind, OutcomeNote, file};

/// A wallet with something of everything in it, closed; what it tells.
fn lived(world: &World, file: &WalletFile) -> (String, Authorised) {
    let mut wallet = create(world, file);
    fund(world, &mut wallet, 1);
    call(world, &mut wallet, LANE0);
    let sent = send(&mut wallet, LANE1);
    let dispute = crate::wallet::Dispute {
        kind: DisputeKind::Withheld,
        at: T0,
        gateway: Some(GATEWAY),
        spend: None,
        content: None,
        settlement: None,
        receipt: None,
        mint: None,
        directories: Vec::new(),
        heard: Vec::new(),
    };
    wallet.journal.put_dispute(&dispute).unwrap();
    (told(&wallet), sent)
}

#[test]
fn a_moved_wallet_is_whole_there_and_closed_here() {
    let (world, old, new) = (World::without_keys(), Device::new(), Device::new());
    let (from, to) = (old.file("wallet"), new.file("wallet"));
    let (before, sent) = lived(&world, &from);
    let code = to.prepare(&mut rng(2)).unwrap();
    let bundle = new.path("bundle");
    from.export(&lock(), &code, &bundle, &mut rng(3)).unwrap();
    assert!(matches!(from.open(&lock()), Err(WalletFileError::Moved)));
    assert!(matches!(from.rewrite(&lock(), &lock(), &mut rng(4)), Err(WalletFileError::Moved)));
    assert_eq!(from.check(Some(&lock())).unwrap().contents.unwrap().standing, FileStanding::Moved);

    let other = Lock::key_bytes(&[9; 32]).unwrap();
    let mut wallet = to.import(&bundle, &other, &mut rng(4)).unwrap();
    assert!(matches!(status(&wallet, LANE0), LaneStatus::Unchecked { .. }), "it is asked here as well");
    answer(&mut wallet, &[], T0);
    assert_eq!(told(&wallet), before);
    assert_eq!(wallet.journal().disputes().unwrap().len(), 1);
    assert_eq!(wallet.resend(&sent.key, &request()).unwrap().opening, sent.opening, "the same keys");
    assert_eq!(wallet.quarantined_until(), None, "the old one was closed first");
    call(&world, &mut wallet, LANE0);
    drop(wallet);
    assert!(matches!(to.open(&lock()), Err(WalletFileError::Lock(_))), "it has a lock of its own");
    to.open(&other).unwrap();
    to.check(Some(&other)).unwrap();
    // Nothing is imported twice, there or anywhere.
    for place in [new.file("again"), to] {
        assert!(matches!(place.import(&bundle, &other, &mut rng(5)), Err(WalletFileError::NoArrival)));
    }
    assert!(matches!(old.file("again").import(&bundle, &other, &mut rng(5)), Err(WalletFileError::NoArrival)));
    let left = std::fs::read_dir(new.seats()).unwrap().map(|it| it.unwrap().path());
    assert!(left.into_iter().all(|path| path.extension().unwrap() == "seat"), "the secret of the code is gone");
}

#[test]
fn an_export_that_was_cut_off_goes_on_to_the_same_code_only() {
    let (world, old, new) = (World::without_keys(), Device::new(), Device::new());
    let (from, to) = (old.file("wallet"), new.file("wallet"));
    let (before, _) = lived(&world, &from);
    let [code, other] = [2, 3].map(|seed| to.prepare(&mut rng(seed)).unwrap());
    let (bundle, again) = (new.path("bundle"), new.path("again"));
    std::fs::write(&bundle, b"something else").unwrap();
    assert!(matches!(from.export(&lock(), &code, &bundle, &mut rng(4)), Err(WalletFileError::Exists)));
    assert!(from.open(&lock()).is_ok(), "nothing was closed");
    // The directory of the bundle is not there: it is closed, and there is no bundle. So it is after a kill between the two.
    let nowhere = new.path("none/bundle");
    assert!(matches!(from.export(&lock(), &code, &nowhere, &mut rng(4)), Err(WalletFileError::Io(_))));
    assert!(matches!(from.open(&lock()), Err(WalletFileError::Moved)));
    assert!(matches!(from.export(&lock(), &other, &again, &mut rng(4)), Err(WalletFileError::OtherArrival)));
    assert!(!again.exists());
    // A part of a bundle, as a kill leaves it, under another name than its own.
    std::fs::write(new.path(".again.1-w0.tmp"), b"half").unwrap();
    from.export(&lock(), &code, &again, &mut rng(5)).unwrap();
    let second = new.path("second");
    from.export(&lock(), &code, &second, &mut rng(6)).unwrap();
    let mut wallet = to.import(&second, &lock(), &mut rng(7)).unwrap();
    answer(&mut wallet, &[], T0);
    assert_eq!(told(&wallet), before);
    drop(wallet);
    assert!(
        matches!(new.file("b").import(&again, &lock(), &mut rng(8)), Err(WalletFileError::NoArrival)),
        "one of them"
    );
}

#[test]
fn an_import_that_was_cut_off_is_done_again_and_never_twice() {
    let (world, old, new) = (World::without_keys(), Device::new(), Device::new());
    let (from, to) = (old.file("wallet"), new.file("wallet"));
    let (before, _) = lived(&world, &from);
    let code = to.prepare(&mut rng(2)).unwrap();
    let bundle = new.path("bundle");
    from.export(&lock(), &code, &bundle, &mut rng(3)).unwrap();
    let arrival = || {
        let paths = std::fs::read_dir(new.seats()).unwrap().map(|it| it.unwrap().path());
        paths.into_iter().find(|path| path.extension().unwrap() == "arrival").unwrap()
    };
    let (path, secret) = (arrival(), std::fs::read(arrival()).unwrap());
    let other = new.file("other");
    drop(to.import(&bundle, &lock(), &mut rng(4)).unwrap());
    // The process ended before the secret was destroyed: it goes on from there, and another file gets no second wallet that is
    // of use.
    std::fs::write(&path, &secret).unwrap();
    let mut wallet = to.import(&bundle, &lock(), &mut rng(5)).unwrap();
    answer(&mut wallet, &[], T0);
    assert_eq!(told(&wallet), before);
    std::fs::write(&path, &secret).unwrap();
    assert!(matches!(other.import(&bundle, &lock(), &mut rng(6)), Err(WalletFileError::InUse)));
    call(&world, &mut wallet, LANE0);
    drop(wallet);
    assert!(matches!(other.import(&bundle, &lock(), &mut rng(6)), Err(WalletFileError::NoArrival)));
    assert!(!other.path().exists());
    // It ended before the file had its name: the seat is there, and nothing else.
    std::fs::remove_file(to.path()).unwrap();
    let seats = std::fs::read_dir(new.seats()).unwrap().map(|it| it.unwrap().path());
    seats
        .into_iter()
        .filter(|path| path.extension().unwrap() == "seat")
        .for_each(|path| std::fs::remove_file(path).unwrap());
    let ((wallet, seat), commits) = (file::travel::place(&code), from.unlock(&lock()).unwrap().0.state.commits + 1);
    std::fs::write(&path, &secret).unwrap();
    drop(Seat::create(&Seat::path(&new.seats(), &wallet), seat, commits).unwrap());
    to.import(&bundle, &lock(), &mut rng(7)).unwrap();
}

#[test]
fn an_old_copy_of_a_moved_wallet_is_recognised() {
    let (world, old, new) = (World::without_keys(), Device::new(), Device::new());
    let (from, to) = (old.file("wallet"), new.file("wallet"));
    let mut wallet = create(&world, &from);
    fund(&world, &mut wallet, 1);
    drop(wallet);
    let backup = std::fs::read(from.path()).unwrap();
    let code = to.prepare(&mut rng(2)).unwrap();
    from.export(&lock(), &code, &new.path("bundle"), &mut rng(3)).unwrap();
    std::fs::write(from.path(), &backup).unwrap();
    assert!(matches!(from.open(&lock()), Err(WalletFileError::RolledBack { .. })));
    std::fs::write(to.path(), &backup).unwrap();
    assert!(matches!(to.open(&lock()), Err(WalletFileError::Copied)));
}

#[test]
fn a_wallet_whose_bundle_is_lost_for_ever_is_adopted() {
    let (world, old, new) = (World::without_keys(), Device::new(), Device::new());
    let from = old.file("wallet");
    lived(&world, &from);
    let code = new.file("wallet").prepare(&mut rng(2)).unwrap();
    from.export(&lock(), &code, &new.path("bundle"), &mut rng(3)).unwrap();
    let wallet = from.adopt(&lock(), T0, &mut rng(4)).unwrap();
    assert!(wallet.quarantined_until().is_some());
    drop(wallet);
    from.open(&lock()).unwrap();
}

#[test]
fn a_bundle_that_was_changed_or_cut_off_is_no_wallet() {
    let (world, old, new) = (World::without_keys(), Device::new(), Device::new());
    let (from, to) = (old.file("wallet"), new.file("wallet"));
    let (before, _) = lived(&world, &from);
    let code = to.prepare(&mut rng(2)).unwrap();
    let bundle = new.path("bundle");
    from.export(&lock(), &code, &bundle, &mut rng(3)).unwrap();
    let whole = std::fs::read(&bundle).unwrap();
    let attempt = |bytes: &[u8]| {
        std::fs::write(&bundle, bytes).unwrap();
        to.import(&bundle, &lock(), &mut rng(4)).map(drop)
    };
    let places = (0..100).chain((100..whole.len()).step_by(97));
    for at in places {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(attempt(&changed).is_err(), "byte {at}");
        assert!(attempt(&whole[..at]).is_err(), "{at} bytes");
    }
    assert!(attempt(&[&whole[..], &[0]].concat()).is_err(), "a byte more");
    assert!(!to.path().exists());
    attempt(&whole).unwrap();
    let mut wallet = to.open(&lock()).unwrap();
    answer(&mut wallet, &[], T0);
    assert_eq!(told(&wallet), before);
    // What is in it cannot be seen.
    let root = wallet.root.to_bytes();
    assert!(!whole.windows(32).any(|window| window == &root[..]));
}

#[test]
fn a_slip_of_the_pen_in_a_code_is_noticed() {
    let device = Device::new();
    let code = device.file("wallet").prepare(&mut rng(1)).unwrap();
    let text = code.to_string();
    assert_eq!(text.len(), 72 + 8);
    for good in [text.clone(), text.replace('-', ""), text.to_uppercase(), text.replace('-', " \n")] {
        assert_eq!(good.parse::<ArrivalCode>().unwrap(), code);
    }
    for at in (0..text.len()).filter(|at| &text[*at..=*at] != "-") {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        assert!(matches!(String::from_utf8(bytes).unwrap().parse::<ArrivalCode>(), Err(WalletFileError::Code)), "{at}");
        assert!(text[..at].parse::<ArrivalCode>().is_err());
    }
    assert!("é".repeat(1000).parse::<ArrivalCode>().is_err());
    // A key with which every shared secret is nothing.
    let weak = ArrivalCode::of_test([0; 32]);
    let out = device.path("bundle");
    let export = device.file("wallet").export(&lock(), &weak, &out, &mut rng(2));
    assert!(matches!(export, Err(WalletFileError::Code)));
}

#[test]
fn a_wallet_that_cannot_be_moved_is_not_closed() {
    let (world, old, new) = (World::without_keys(), Device::new(), Device::new());
    let (from, to) = (old.file("wallet"), new.file("wallet"));
    let mut wallet = create(&world, &from);
    fund(&world, &mut wallet, 1);
    let key = call(&world, &mut wallet, LANE0);
    let mut journal = wallet.into_journal();
    let too_long = OutcomeNote { settled_at: T0, receipt: Some(vec![0; 17 << 20]) };
    journal.annotate(&key, &too_long).unwrap();
    drop(journal);
    let code = to.prepare(&mut rng(2)).unwrap();
    let refused = from.export(&lock(), &code, &new.path("bundle"), &mut rng(3));
    assert!(matches!(refused, Err(WalletFileError::Damaged(_))), "{refused:?}");
    assert!(from.open(&lock()).is_ok(), "it was closed for nothing");
}
