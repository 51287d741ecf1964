//! Directories that lie, and directories that break the rules (protocol, section 5, "Directory").

use halometer::issuer::EpochKeys;
use halometer::protocol::*;

use crate::world::*;

fn directory(change: impl FnOnce(&mut DirectoryParts)) -> Result<Directory, DirectoryError> {
    let mut parts = directory_parts();
    change(&mut parts);
    Directory::new(parts)
}

#[test]
fn a_directory_that_is_not_signed_by_the_pinned_key_is_refused() {
    let world = World::new();
    let mut wallet = world.wallet(1);
    let own = RootSigningKey::from_bytes(&[66; 32]);
    assert!(SignedDirectory::sign(world.issuer.directory(), &own).is_none());
    // One of his own, and the real one with his signature in front.
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
    let known = directory(|parts| parts.serial = 2).unwrap();
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
        let newer = directory(|parts| {
            parts.serial = 2;
            change(parts);
        });
        assert_eq!(newer.unwrap().check_follows(&known), Err(DirectoryError::Contradiction), "{name}");
    }
    // The key of an epoch that is over, and rightly gone, does not come back under a new number.
    let newer = directory(|parts| {
        let over = parts.epochs.remove(0);
        (parts.serial, parts.published) = (2, over.spend.until);
        let issue = Window { from: parts.epochs[0].issue.until, until: parts.epochs[0].issue.until.after(DAY) };
        let spend = Window { until: issue.until.after(DAY), ..issue };
        parts.epochs.push(Epoch { number: EpochNumber::new(3), key: over.key, issue, spend });
    });
    assert_eq!(newer.unwrap().check_follows(&known), Err(DirectoryError::Contradiction));
    // What may change: everything else, and epochs that are over may go.
    let newer = directory(|parts| {
        (parts.serial, parts.published) = (2, parts.epochs[0].spend.until);
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
    let at = 1 + 32 + 8 + 8 + 8 + 4 + 4 + 4 + 2;
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
    let next = directory(|parts| {
        let issue = Window { from: last.issue.until, until: last.issue.until.after(DAY) };
        let spend = Window { until: issue.until.after(DAY), ..issue };
        parts.epochs.push(Epoch { number: EpochNumber::new(3), key: third, issue, spend });
        parts.serial = 2;
    })
    .unwrap();
    let wrong = directory(|parts| parts.serial = 2).unwrap();
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
