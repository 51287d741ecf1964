//! Directories that lie, and directories that break the rules (protocol, section 5, "Directory").

use halometer::issuer::EpochKeys;
use halometer::protocol::*;
use halometer::wallet::{Journal as _, OpenError};

use crate::world::*;

fn directory(change: impl FnOnce(&mut DirectoryParts)) -> Result<Directory, DirectoryError> {
    let mut parts = directory_parts();
    change(&mut parts);
    Directory::new(parts)
}

/// One that was published so many windows after the world's.
fn later(windows: u64, change: impl FnOnce(&mut DirectoryParts)) -> Result<Directory, DirectoryError> {
    directory(|parts| {
        (parts.serial, parts.published) = (1 + windows, parts.published.after(windows * HOUR));
        change(parts);
    })
}

fn signed(directory: &Directory) -> SignedDirectory {
    SignedDirectory::sign(directory, &root_key()).unwrap()
}

#[test]
fn a_directory_that_is_not_signed_by_the_pinned_key_is_refused() {
    let world = World::new();
    let mut wallet = world.wallet(1);
    let own = RootSigningKey::from_bytes(&[66; 32]);
    assert!(SignedDirectory::sign(world.issuer.directory(), &own).is_none());
    // One by the forger, and the real one with the forger's signature in front.
    let forged = directory(|parts| (parts.root, parts.serial) = (own.public_key(), 2)).unwrap();
    let forged = SignedDirectory::sign(&forged, &own).unwrap();
    assert!(matches!(wallet.adopt(&forged), Err(halometer::wallet::OpenError::Directory(DirectoryError::Signature))));
    let mut bytes = world.issuer.signed_directory().to_bytes();
    bytes[..64].copy_from_slice(&forged.to_bytes()[..64]);
    assert!(matches!(
        wallet.adopt(&SignedDirectory::from_bytes(&bytes).unwrap()),
        Err(halometer::wallet::OpenError::Directory(DirectoryError::Signature))
    ));
    // Any byte of the real one changed.
    let bytes = world.issuer.signed_directory().to_bytes();
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        let changed = SignedDirectory::from_bytes(&changed).unwrap();
        assert_eq!(changed.verify(&world.root.public_key()), Err(DirectoryError::Signature));
    }
    assert!(SignedDirectory::from_bytes(&bytes[..63]).is_err());
    assert!(world.issuer.signed_directory().verify(&world.root.public_key()).is_ok());
}

#[test]
fn two_directories_of_one_number_contradict_each_other() {
    let known = directory(|_| ()).unwrap();
    let other = directory(|parts| parts.evidence_seconds += 1).unwrap();
    assert_eq!(other.check_follows(&known), Err(DirectoryError::Contradiction));
    assert_eq!(known.check_follows(&known), Ok(()));
}

#[test]
fn an_older_directory_is_not_taken_back() {
    let known = later(1, |_| ()).unwrap();
    assert_eq!(directory(|_| ()).unwrap().check_follows(&known), Err(DirectoryError::Stale));
}

#[test]
fn a_newer_directory_that_changes_an_epoch_is_a_contradiction() {
    let known = directory(|_| ()).unwrap();
    let other_key = EpochKeys::new().generate(EPOCH[0], &mut rng(50));
    type Change = Box<dyn Fn(&mut DirectoryParts)>;
    let changes: [(&str, Change); 8] = [
        ("key", Box::new(move |parts| parts.epochs[0].key = other_key)),
        ("longer", Box::new(|parts| parts.epochs[0].spend.until = parts.epochs[0].spend.until.after(1))),
        ("shorter", Box::new(|parts| parts.epochs[0].spend.until = parts.epochs[0].spend.until.before(1))),
        ("issues less", Box::new(|parts| parts.epochs[0].issue.until = parts.epochs[0].issue.until.before(1))),
        ("gone", Box::new(|parts| parts.epochs.truncate(1))),
        ("key under a new number", Box::new(|parts| parts.epochs[1].number = EpochNumber::new(3))),
        ("quantum", Box::new(|parts| parts.quantum = micro(5))),
        ("root", Box::new(|parts| parts.root = RootSigningKey::from_bytes(&[66; 32]).public_key())),
    ];
    for (name, change) in changes {
        let newer = later(1, |parts| change(parts));
        assert_eq!(newer.unwrap().check_follows(&known), Err(DirectoryError::Contradiction), "{name}");
    }
    // The key of an epoch that is over, and rightly gone, does not come back under a new number.
    let newer = directory(|parts| {
        let over = parts.epochs.remove(0);
        (parts.serial, parts.published) = (2, over.spend.until.after(HOUR));
        let issue = Window { from: parts.epochs[0].issue.until, until: parts.epochs[0].issue.until.after(DAY) };
        let spend = Window { until: issue.until.after(DAY), ..issue };
        parts.epochs.push(Epoch { number: EpochNumber::new(3), key: over.key, issue, spend });
    });
    assert_eq!(newer.unwrap().check_follows(&known), Err(DirectoryError::Contradiction));
    // What may change: everything else, and epochs that are over may go.
    let newer = directory(|parts| {
        (parts.serial, parts.published) = (2, parts.epochs[0].spend.until.after(HOUR));
        parts.epochs.remove(0);
        parts.classes.push(micro(100));
        parts.gateways.remove(1);
    });
    assert_eq!(newer.unwrap().check_follows(&known), Ok(()));
}

#[test]
fn windows_that_break_the_rules_are_refused() {
    let key = |seed| EpochKeys::new().generate(EPOCH[0], &mut rng(seed));
    let window = |from, until| Window { from: T0.after(from), until: T0.after(until) };
    let epoch = |number: u32, issue: (u64, u64), spend: (u64, u64)| Epoch {
        number: EpochNumber::new(number),
        key: key(u64::from(number) + 100),
        issue: window(issue.0, issue.1),
        spend: window(spend.0, spend.1),
    };
    let with = |epochs: Vec<Epoch>| directory(|parts| parts.epochs = epochs).map(|_| ());
    let number = EpochNumber::new;

    assert_eq!(with(vec![]), Err(DirectoryError::Epoch(number(0))));
    assert_eq!(with(vec![epoch(1, (5, 5), (0, 10))]), Err(DirectoryError::Epoch(number(1))), "issues never");
    assert_eq!(
        with(vec![epoch(1, (0, 20), (0, 10))]),
        Err(DirectoryError::Epoch(number(1))),
        "signs what cannot be spent"
    );
    let twice = epoch(1, (0, 10_000), (0, 20_000));
    assert_eq!(with(vec![twice, twice]), Err(DirectoryError::Epoch(number(1))), "one number twice");
    let same_key = Epoch { number: number(2), issue: window(10_000, 20_000), spend: window(10_000, 40_000), ..twice };
    assert_eq!(with(vec![twice, same_key]), Err(DirectoryError::Epoch(number(2))), "one key twice");
    let overlap = epoch(2, (9_999, 20_000), (9_999, 40_000));
    assert_eq!(with(vec![twice, overlap]), Err(DirectoryError::TwoIssue(number(1), number(2))));
    // A session of 600 s begun at the last second of epoch 1 must find it spendable to its end.
    let next = epoch(2, (10_000, 20_000), (10_000, 40_000));
    let short = epoch(1, (0, 10_000), (0, 10_600));
    assert_eq!(with(vec![short, next]), Err(DirectoryError::Overlap(number(1), number(2))));
    assert_eq!(with(vec![epoch(1, (0, 10_000), (0, 10_601)), next]), Ok(()));
    let begin = |i: u32| u64::from(i) * 10;
    let four = (0..4).map(|i| epoch(i, (begin(i), begin(i + 1)), (begin(i), 10_000))).collect();
    assert_eq!(with(four), Err(DirectoryError::TooManySpendable(number(3))));
}

#[test]
fn classes_tariffs_gateways_and_quantum_are_checked() {
    let refused = |change: fn(&mut DirectoryParts)| directory(change).unwrap_err();
    assert_eq!(refused(|parts| parts.quantum = Credits::ZERO), DirectoryError::Quantum);
    assert_eq!(refused(|parts| parts.classes.clear()), DirectoryError::Classes);
    assert_eq!(refused(|parts| parts.classes.push(Credits::ZERO)), DirectoryError::Classes);
    assert_eq!(refused(|parts| parts.classes.push(parts.classes[0])), DirectoryError::Classes);
    assert_eq!(refused(|parts| parts.quantum = micro(10)), DirectoryError::Classes, "5 is no multiple");
    assert_eq!(refused(|parts| parts.classes = (1..18).map(micro).collect()), DirectoryError::Classes);
    assert_eq!(refused(|parts| parts.tariffs.clear()), DirectoryError::Tariffs);
    assert_eq!(refused(|parts| parts.gateways.clear()), DirectoryError::Gateways);
    assert_eq!(refused(|parts| parts.gateways[1].id = parts.gateways[0].id), DirectoryError::Gateways);
    assert_eq!(refused(|parts| parts.gateways[0].origins.clear()), DirectoryError::Gateways);
    assert_eq!(refused(|parts| parts.gateways[0].origins[0].push('\n')), DirectoryError::Gateways);
    assert!(Grid::new(599).is_none());
}

#[test]
fn a_directory_has_one_encoding() {
    let directory = directory(|_| ()).unwrap();
    let bytes = directory.as_bytes();
    assert_eq!(Directory::from_bytes(bytes).unwrap(), directory);
    for length in 0..bytes.len() {
        assert!(Directory::from_bytes(&bytes[..length]).is_err());
    }
    assert!(matches!(
        Directory::from_bytes(&[bytes, &[0]].concat()),
        Err(DirectoryError::Decode(DecodeError::Trailing))
    ));
    // The same classes in another order.
    let at = 1 + 32 + 8 + 8 + 8 + 4 + 4 + 4 + 4 + 2;
    let mut swapped = bytes.to_vec();
    swapped[at..at + 16].rotate_left(8);
    assert!(matches!(Directory::from_bytes(&swapped), Err(DirectoryError::Decode(DecodeError::Field(_)))));
    // The lists' lengths are bounded before anything is allocated for them.
    let mut long = bytes.to_vec();
    long[at - 2..at].copy_from_slice(&[0xff; 2]);
    assert!(matches!(Directory::from_bytes(&long), Err(DirectoryError::Decode(DecodeError::Field("classes")))));
}

#[test]
fn an_entry_names_its_issuer() {
    let directory = directory(|_| ()).unwrap();
    let epoch = directory.epochs()[0];
    let other = RootSigningKey::from_bytes(&[66; 32]).public_key().issuer_id();
    assert_ne!(epoch.digest(&directory.issuer()), epoch.digest(&other));
}

#[test]
fn publishing_goes_on_where_the_old_directory_was() {
    let mut world = World::new();
    let mut keys = EpochKeys::new();
    let third = keys.generate(EpochNumber::new(3), &mut rng(3));
    let last = directory_parts().epochs[1];
    let next = later(1, |parts| {
        let issue = Window { from: last.issue.until, until: last.issue.until.after(DAY) };
        let spend = Window { until: issue.until.after(DAY), ..issue };
        parts.epochs.push(Epoch { number: EpochNumber::new(3), key: third, issue, spend });
    })
    .unwrap();
    let wrong = later(1, |_| ()).unwrap();
    let mut wrong_keys = EpochKeys::new();
    wrong_keys.generate(EPOCH[1], &mut rng(77));
    let root = root_key();
    assert!(world.issuer.publish(&root, wrong, wrong_keys).is_err());
    world.issuer.publish(&root, next, keys).unwrap();
    let mut wallet = world.wallet(1);
    wallet.adopt(world.issuer.signed_directory()).unwrap();
    assert_eq!(wallet.directory().epochs().len(), 3);
    assert!(world.issuer.publish(&root, directory(|_| ()).unwrap(), EpochKeys::new()).is_err(), "back to the first");
}

#[test]
fn a_fresh_serial_for_each_fetch_is_a_contradiction() {
    // The same content under a serial of its own for each caller: whichever two compare, they have evidence.
    let shown: Vec<_> = (1..6).map(|serial| later(1, |parts| parts.serial += serial).unwrap()).collect();
    for (i, one) in shown.iter().enumerate() {
        for other in &shown[..i] {
            assert!(one.contradicts(other) && other.contradicts(one));
        }
    }
    let world = World::new();
    let mut wallet = world.wallet(1);
    wallet.adopt(&signed(&shown[0])).unwrap();
    let refused = wallet.adopt(&signed(&shown[1]));
    assert!(matches!(refused, Err(OpenError::Directory(DirectoryError::Contradiction))), "{refused:?}");
    // Also where the one that is seen second has the lower serial.
    let mut wallet = world.wallet(2);
    wallet.adopt(&signed(&shown[1])).unwrap();
    let refused = wallet.adopt(&signed(&shown[0]));
    assert!(matches!(refused, Err(OpenError::Directory(DirectoryError::Contradiction))), "{refused:?}");
    let [dispute] = &wallet.journal().disputes().unwrap()[..] else { panic!("no evidence is kept") };
    assert_eq!(dispute.verify(&world.root.public_key()), Ok(()));
}

#[test]
fn serials_and_windows_are_in_one_order_or_contradict() {
    let known = later(5, |_| ()).unwrap();
    let other = |serial: u64, windows: u64| later(windows, |parts| parts.serial = serial).unwrap();
    for (serial, windows, contradicts) in [
        (7, 6, false),
        (5, 4, false),
        (100, 6, false),
        (7, 4, true),
        (5, 6, true),
        (7, 5, true),
        (5, 5, true),
        (6, 6, true),
    ] {
        let other = other(serial, windows);
        assert_eq!(known.contradicts(&other), contradicts, "{serial} in {windows}");
        assert_eq!(other.contradicts(&known), contradicts, "{serial} in {windows}");
    }
}

#[test]
fn the_grid_of_publication_is_the_same_for_ever() {
    let known = directory(|_| ()).unwrap();
    let other = later(1, |parts| parts.grid = Grid::with_publication(HOUR as u32, 60).unwrap()).unwrap();
    assert_eq!(other.check_follows(&known), Err(DirectoryError::Contradiction));
    // The grid of not-after may change.
    let other = later(1, |parts| parts.grid = Grid::with_publication(2 * HOUR as u32, HOUR as u32).unwrap()).unwrap();
    assert_eq!(other.check_follows(&known), Ok(()));
    assert!(Grid::with_publication(HOUR as u32, 0).is_none());
}

#[test]
fn a_directory_off_the_grid_has_no_encoding() {
    let directory = directory(|parts| parts.published = T0.after(17)).unwrap();
    assert_eq!(directory.parts().published, T0.before(INTO_WINDOW), "rounded down when it is made");
    let mut bytes = directory.as_bytes().to_vec();
    bytes[48] ^= 1;
    assert!(matches!(Directory::from_bytes(&bytes), Err(DirectoryError::Decode(_))));
}

#[test]
fn only_the_directory_of_this_window_is_new_to_a_wallet() {
    let world = World::new();
    let now = T0.after(10 * HOUR);
    let shown = |windows| signed(&later(windows, |parts| parts.classes.push(micro(100 + windows))).unwrap());
    // Windows of the past that the issuer left out would give each caller a directory of its own, and contradict nothing.
    for windows in [1, 5, 9, 12, 20] {
        let refused = world.wallet(1).adopt_shown(&shown(windows), now);
        assert!(
            matches!(refused, Err(OpenError::Directory(DirectoryError::NotCurrent { .. }))),
            "{windows}: {refused:?}"
        );
    }
    world.wallet(1).adopt_shown(&shown(11), now).unwrap();
    // Clocks may differ: the last one for five minutes, and the next one five minutes early.
    let boundary = now.before(INTO_WINDOW);
    world.wallet(1).adopt_shown(&shown(10), boundary.after(CLOCK_TOLERANCE - 1)).unwrap();
    assert!(world.wallet(1).adopt_shown(&shown(10), boundary.after(CLOCK_TOLERANCE)).is_err());
    world.wallet(1).adopt_shown(&shown(11), boundary.before(CLOCK_TOLERANCE)).unwrap();
    assert!(world.wallet(1).adopt_shown(&shown(11), boundary.before(CLOCK_TOLERANCE + 1)).is_err());
    // What a wallet goes by already it may see again at any time; and a contradiction is one at any time.
    let mut wallet = world.wallet(1);
    wallet.adopt_shown(world.issuer.signed_directory(), now.after(30 * DAY)).unwrap();
    let torn = signed(&directory(|parts| parts.evidence_seconds += 1).unwrap());
    let refused = wallet.adopt_shown(&torn, now.after(30 * DAY));
    assert!(matches!(refused, Err(OpenError::Directory(DirectoryError::Contradiction))), "{refused:?}");
    // A wallet that was away for days goes on by the one of now.
    wallet.adopt_shown(&shown(11), now).unwrap();
}

/// A directory as a release wrote it that knew no grid of publication.
fn of_before(change: impl FnOnce(&mut DirectoryParts)) -> Vec<u8> {
    let bytes = directory(change).unwrap().as_bytes().to_vec();
    let (head, rest) = bytes.split_at(1 + 32 + 8 + 8 + 8 + 4);
    let mut head = head.to_vec();
    head[0] = 1;
    // Published whenever it was.
    head[48] ^= 1;
    [&head[..], &rest[4..]].concat()
}

#[test]
fn a_directory_of_an_earlier_release_is_gone_on_from() {
    let bytes = of_before(|_| ());
    let old = Directory::from_bytes(&bytes).unwrap();
    assert_eq!((old.publication(), old.as_bytes()), (None, &bytes[..]));
    assert_eq!(later(1, |_| ()).unwrap().check_follows(&old), Ok(()));
    // But none follows, and no new wallet begins with one: an issuer would have as many as it likes.
    let newer = Directory::from_bytes(&of_before(|parts| parts.serial = 9)).unwrap();
    for known in [&old, &directory(|_| ()).unwrap()] {
        assert_eq!(newer.check_follows(known), Err(DirectoryError::Decode(DecodeError::Version(1))));
    }
    assert!(newer.check_current(T0).is_err());
}
