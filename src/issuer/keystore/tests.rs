//! Key files that are stolen, restored, cut off, shared and full.

use super::*;
use crate::protocol::RootSigningKey;
use crate::sealed::Cost;
use crate::testing::world::{DAY, EPOCH, T0, directory_parts, epoch_keys, rng, root_key};
use tempfile::TempDir;

fn lock() -> Lock {
    Lock::key_bytes(&[7; 32]).unwrap()
}

fn issuer() -> IssuerId {
    root_key().public_key().issuer_id()
}

fn number(n: u32) -> EpochNumber {
    EpochNumber::new(n)
}

/// A directory, a path in it, and an empty key file there.
fn fresh() -> (TempDir, PathBuf, Keystore) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let store = Keystore::create(&path, issuer(), lock(), &mut rng(1)).unwrap();
    (directory, path, store)
}

/// A file with the keys that the directory of the tests names, for epochs 1 and 2.
fn with_world_keys() -> (TempDir, PathBuf, Keystore) {
    let (directory, path, mut store) = fresh();
    for epoch in EPOCH {
        store.add(epoch, &mut rng(epoch.number().into())).unwrap();
    }
    (directory, path, store)
}

fn write_plaintext(path: &Path, plaintext: &[u8]) {
    let sealed = sealed::seal(PURPOSE, plaintext, &lock(), &mut rng(9)).unwrap();
    sealed::write_atomically(path, &sealed).unwrap();
}

#[test]
fn a_key_is_on_disk_before_its_public_half_is_known() {
    let (_directory, path, mut store) = fresh();
    let mut copies = Vec::new();
    for n in 1..=3 {
        copies.push((number(n), store.add(number(n), &mut rng(n.into())).unwrap(), std::fs::read(&path).unwrap()));
    }
    drop(store);
    // The machine stops right after an answer: what is on disk then has that key and all before it.
    for (i, (_, _, bytes)) in copies.iter().enumerate() {
        std::fs::write(&path, bytes).unwrap();
        let keys = Keystore::open(&path, issuer(), lock()).unwrap().keys().unwrap();
        for (j, (number, public, _)) in copies.iter().enumerate() {
            let held = keys.get(*number).map(SigningKey::public_key);
            assert_eq!(held, (j <= i).then_some(*public));
        }
    }
}

#[test]
fn asking_twice_for_the_key_of_an_epoch_gives_one_key() {
    let (_directory, path, mut store) = fresh();
    let first = store.add(number(1), &mut rng(1)).unwrap();
    assert_eq!(store.add(number(1), &mut rng(2)).unwrap(), first);
    drop(store);
    let mut store = Keystore::open(&path, issuer(), lock()).unwrap();
    assert_eq!(store.add(number(1), &mut rng(3)).unwrap(), first);
    assert_ne!(store.add(number(2), &mut rng(3)).unwrap(), first);
}

#[test]
fn a_write_that_fails_gives_no_public_key_and_loses_none() {
    let (directory, path, mut store) = fresh();
    let first = store.add(number(1), &mut rng(1)).unwrap();
    // The directory goes away under the store: nothing can be written.
    let away = directory.path().with_extension("away");
    std::fs::rename(directory.path(), &away).unwrap();
    assert!(matches!(store.add(number(2), &mut rng(2)), Err(KeystoreError::File(_))));
    std::fs::rename(&away, directory.path()).unwrap();
    drop(store);
    let keys = Keystore::open(&path, issuer(), lock()).unwrap().keys().unwrap();
    assert_eq!(keys.get(number(1)).map(SigningKey::public_key), Some(first));
    assert!(keys.get(number(2)).is_none());
}

#[test]
fn a_second_process_is_refused() {
    let (_directory, path, store) = fresh();
    // A lock is of an open file, not of a process: a second opening in this one is refused like one in another.
    assert!(matches!(Keystore::open(&path, issuer(), lock()), Err(KeystoreError::InUse)));
    assert!(matches!(Keystore::create(&path, issuer(), lock(), &mut rng(1)), Err(KeystoreError::InUse)));
    drop(store);
    assert!(Keystore::open(&path, issuer(), lock()).is_ok());
}

#[test]
fn a_file_is_neither_written_over_nor_made_up() {
    let (directory, path, store) = fresh();
    drop(store);
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Keystore::create(&path, issuer(), lock(), &mut rng(2)), Err(KeystoreError::Exists)));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let missing = directory.path().join("missing");
    let error = Keystore::open(&missing, issuer(), lock()).unwrap_err();
    assert!(matches!(error, KeystoreError::File(error) if error.kind() == io::ErrorKind::NotFound));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "the file and its lock");
}

#[test]
fn another_lock_another_issuer_or_another_purpose_does_not_open() {
    let (_directory, path, store) = fresh();
    drop(store);
    let other = Lock::key_bytes(&[8; 32]).unwrap();
    let error = Keystore::open(&path, issuer(), other).unwrap_err();
    assert!(matches!(error, KeystoreError::Open(UnsealError::WrongKey)));
    let phrase = Lock::passphrase("correct horse").unwrap();
    let error = Keystore::open(&path, issuer(), phrase).unwrap_err();
    assert!(matches!(error, KeystoreError::Open(UnsealError::OtherLock { passphrase: false })));
    let other = RootSigningKey::from_bytes(&[66; 32]).public_key().issuer_id();
    let error = Keystore::open(&path, other, lock()).unwrap_err();
    assert!(matches!(error, KeystoreError::OtherIssuer(id) if id == issuer()));
    let wallet = sealed::seal(b"wallet", b"", &lock(), &mut rng(1)).unwrap();
    std::fs::write(&path, wallet).unwrap();
    let error = Keystore::open(&path, issuer(), lock()).unwrap_err();
    assert!(matches!(error, KeystoreError::Open(UnsealError::Purpose)));
}

#[test]
fn a_passphrase_does_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let lock = |text| Lock::passphrase(text).unwrap().with_cost(Cost::new(8, 1, 1).unwrap());
    let mut store = Keystore::create(&path, issuer(), lock("correct horse"), &mut rng(1)).unwrap();
    let public = store.add(number(1), &mut rng(2)).unwrap();
    drop(store);
    assert!(Keystore::open(&path, issuer(), lock("battery staple")).is_err());
    let keys = Keystore::open(&path, issuer(), lock("correct horse")).unwrap().keys().unwrap();
    assert_eq!(keys.get(number(1)).map(SigningKey::public_key), Some(public));
}

#[test]
fn no_secret_is_in_the_file_in_the_clear() {
    let (_directory, path, mut store) = fresh();
    store.add(number(1), &mut rng(1)).unwrap();
    let secret = store.keys().unwrap().get(number(1)).unwrap().to_bytes();
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(8).any(|part| secret.windows(8).any(|other| part == other)));
    assert!(!format!("{store:?}").contains("Key("));
}

#[test]
fn keys_are_forgotten_when_they_sign_nothing_any_more() {
    let (_directory, path, mut store) = with_world_keys();
    let third = store.add(number(3), &mut rng(3)).unwrap();
    let directory = Directory::new(directory_parts()).unwrap();
    let end = directory.epochs()[0].issue.until;
    for now in [T0, end, end.after(Keystore::GRACE - 1)] {
        assert_eq!(
            store.forget(&directory, &Pulse::confirmed(now), &mut rng(4)).unwrap(),
            [],
            "a slower clock may still sign"
        );
    }
    let now = end.after(Keystore::GRACE);
    assert!(directory.epochs()[0].spend.contains(now), "its notes are still good, and need no secret");
    assert_eq!(store.forget(&directory, &Pulse::confirmed(now), &mut rng(4)).unwrap(), [EPOCH[0]]);
    assert_eq!(store.forget(&directory, &Pulse::confirmed(now), &mut rng(4)).unwrap(), []);
    drop(store);
    let store = Keystore::open(&path, issuer(), lock()).unwrap();
    store.check(&directory, now).unwrap();
    let keys = store.keys().unwrap();
    assert!(keys.get(EPOCH[0]).is_none() && keys.get(EPOCH[1]).is_some());
    assert_eq!(keys.get(number(3)).map(SigningKey::public_key), Some(third), "not published yet");
    drop(store);
    let mut store = Keystore::open(&path, issuer(), lock()).unwrap();
    let late = now.after(100 * DAY);
    assert_eq!(
        store.forget(&directory, &Pulse::confirmed(late), &mut rng(4)).unwrap(),
        [EPOCH[1]],
        "and the unpublished one stays"
    );
}

#[test]
fn the_key_of_an_epoch_that_left_the_directory_is_forgotten() {
    let (_directory, _path, mut store) = with_world_keys();
    let mut parts = directory_parts();
    parts.published = parts.epochs.remove(0).spend.until.after(crate::testing::world::HOUR);
    let directory = Directory::new(parts).unwrap();
    assert_eq!(store.forget(&directory, &Pulse::confirmed(T0), &mut rng(4)).unwrap(), [EPOCH[0]]);
}

#[test]
fn a_directory_that_does_not_fit_forgets_nothing() {
    let (_directory, path, mut store) = with_world_keys();
    let before = std::fs::read(&path).unwrap();
    let late = T0.after(100 * DAY);
    let mut parts = directory_parts();
    parts.root = RootSigningKey::from_bytes(&[66; 32]).public_key();
    let other = Directory::new(parts).unwrap();
    assert!(matches!(store.forget(&other, &Pulse::confirmed(late), &mut rng(4)), Err(KeystoreError::OtherIssuer(_))));
    let mut parts = directory_parts();
    parts.epochs[1].key = EpochKeys::new().generate(EPOCH[1], &mut rng(50));
    let wrong = Directory::new(parts).unwrap();
    let error = store.forget(&wrong, &Pulse::confirmed(late), &mut rng(4)).unwrap_err();
    assert!(matches!(error, KeystoreError::Mismatch(number) if number == EPOCH[1]));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn an_older_file_beside_a_newer_directory_is_noticed() {
    let (_directory, path, store) = fresh();
    let old = std::fs::read(&path).unwrap();
    drop(store);
    let (_directory2, _path2, complete) = with_world_keys();
    let directory = Directory::new(directory_parts()).unwrap();
    complete.check(&directory, T0).unwrap();
    std::fs::write(&path, old).unwrap();
    let restored = Keystore::open(&path, issuer(), lock()).unwrap();
    let error = restored.check(&directory, T0).unwrap_err();
    assert!(matches!(error, KeystoreError::Missing(number) if number == EPOCH[0]));
    let over = directory.epochs()[1].issue.until;
    restored.check(&directory, over).unwrap();
}

#[test]
fn the_keys_are_the_ones_of_the_world() {
    let (_directory, _path, store) = with_world_keys();
    let keys = store.keys().unwrap();
    for epoch in EPOCH {
        let expected = epoch_keys().get(epoch).unwrap().public_key();
        assert_eq!(keys.get(epoch).unwrap().public_key(), expected);
    }
}

#[test]
fn contents_that_are_not_well_formed_are_refused() {
    let (_directory, path, store) = with_world_keys();
    let good = encode(&issuer(), &store.read().unwrap());
    drop(store);
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.to_vec();
        change(&mut bytes);
        bytes
    };
    let bad: [(&str, Vec<u8>); 9] = [
        ("version", change(&|bytes| bytes[0] = 2)),
        ("too many announced", change(&|bytes| bytes[COUNT + 1] = 3)),
        ("too few announced", change(&|bytes| bytes[COUNT + 1] = 1)),
        ("cut off", change(&|bytes| bytes.truncate(bytes.len() - 1))),
        ("trailing byte", change(&|bytes| bytes.push(0))),
        ("an epoch twice", change(&|bytes| bytes.copy_within(ENTRIES..ENTRIES + 4, ENTRIES + ENTRY))),
        ("descending", change(&|bytes| bytes[ENTRIES + 3] = 9)),
        ("a secret of 0", change(&|bytes| bytes[ENTRIES + 4..ENTRIES + ENTRY].fill(0))),
        ("a secret above q", change(&|bytes| bytes[ENTRIES + 4..ENTRIES + ENTRY].fill(0xff))),
    ];
    for (name, bytes) in &bad {
        write_plaintext(&path, bytes);
        let result = Keystore::open(&path, issuer(), lock());
        assert!(matches!(result, Err(KeystoreError::Malformed)), "{name}");
    }
    write_plaintext(&path, &[]);
    assert!(matches!(Keystore::open(&path, issuer(), lock()), Err(KeystoreError::Malformed)));
    write_plaintext(&path, &good);
    assert!(Keystore::open(&path, issuer(), lock()).is_ok());
}

#[test]
fn a_file_that_is_full_says_so() {
    let (_directory, path, mut store) = fresh();
    let one = SigningKey::generate(&mut rng(1)).to_bytes();
    let key = |n: usize| (number(n as u32), SigningKey::from_bytes(&one).unwrap());
    write_plaintext(&path, &encode(&issuer(), &(1..=Keystore::MAX_KEYS).map(key).collect()));
    assert_eq!(store.read().unwrap().len(), Keystore::MAX_KEYS);
    assert!(matches!(store.add(number(2000), &mut rng(2)), Err(KeystoreError::Full)));
    assert!(store.add(number(7), &mut rng(2)).is_ok(), "this one is there");
}

#[test]
fn what_a_crash_left_unfinished_is_cleared_away() {
    let (directory, path, store) = fresh();
    drop(store);
    std::fs::write(directory.path().join(".keys.1-0.tmp"), b"half").unwrap();
    Keystore::open(&path, issuer(), lock()).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn what_another_process_published_is_taken_over_and_counts() {
    let (_one, _, mut leader) = with_world_keys();
    let (_two, path, mut follower) = fresh();
    // It led once, made keys for epochs that it never published, and was replaced.
    let (lost, own) = (follower.add(number(2), &mut rng(50)).unwrap(), follower.add(number(3), &mut rng(51)).unwrap());
    let sealed = leader.sealed().unwrap();
    assert_eq!(sealed, leader.sealed().unwrap(), "asked again it is the same");
    follower.take_over(&sealed, &mut rng(52)).unwrap();
    let public = |store: &Keystore, n: u32| store.keys().unwrap().get(number(n)).map(SigningKey::public_key);
    assert_eq!([public(&follower, 1), public(&follower, 2)], [public(&leader, 1), public(&leader, 2)]);
    assert_ne!(public(&follower, 2), Some(lost));
    assert_eq!(public(&follower, 3), Some(own), "no key is forgotten by it");
    assert_eq!(leader.add(number(1), &mut rng(53)).ok(), public(&leader, 1));
    let before = std::fs::read(&path).unwrap();
    // What is cut off, of another lock, or of another issuer changes nothing.
    assert!(follower.take_over(&sealed[..sealed.len() - 1], &mut rng(54)).is_err());
    let other = sealed::seal(PURPOSE, b"x", &Lock::key_bytes(&[8; 32]).unwrap(), &mut rng(55)).unwrap();
    assert!(matches!(follower.take_over(&other, &mut rng(56)), Err(KeystoreError::Open(_))));
    let stranger = IssuerId::from_bytes([9; 32]);
    let foreign = sealed::seal(PURPOSE, &encode(&stranger, &Keys::new()), &lock(), &mut rng(57)).unwrap();
    let refused = follower.take_over(&foreign, &mut rng(58));
    assert!(matches!(refused, Err(KeystoreError::OtherIssuer(id)) if id == stranger));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
