//! Files that are put back, cut off, or gone: a store that lost what it answered is not opened.

use super::*;

fn error(path: &Path, options: &StoreOptions) -> OpenError {
    DurableStore::open(path, options).expect_err("it is opened")
}

/// Some commits of every kind, and what was answered.
fn worked(path: &Path, options: &StoreOptions) -> DurableStore {
    let store = created(path, options);
    for n in 0..4 {
        insert(&store, n);
    }
    settle(&store, 1, 3);
    store.spent_set().insert_pair(pair(100, 101), T0).unwrap();
    insert(&store, 4);
    store
}

fn assert_answered(store: &DurableStore) {
    for n in 0..5 {
        let found = find(store, n).unwrap().unwrap_or_else(|| panic!("record {n} is missing"));
        let mut expected = record(EPOCH[0], n);
        if n == 1 {
            expected.state = RecordState::Settled(settlement(1, 3));
        }
        assert_eq!(found, expected);
    }
    for half in pair(100, 101) {
        assert_eq!(store.spent_set().find(half.key.epoch, &half.key.nullifier).unwrap(), Some(half));
    }
    assert_sound(store);
}

#[test]
fn an_older_copy_put_back_over_a_newer_one_does_not_open() {
    let place = tempfile::tempdir().unwrap();
    let (path, older) = (place.path().join("store"), place.path().join("older"));
    let options = StoreOptions { mark: Some(place.path().join("mark")), ..options() };
    let store = created(&path, &options);
    insert(&store, 1);
    copy(&path, &older);
    insert(&store, 2);
    drop(store);
    copy(&older, &path);
    assert!(matches!(error(&path, &options), OpenError::SetBack { found: 3, expected: 4 }));
    // It stays so.
    assert!(matches!(error(&path, &options), OpenError::SetBack { .. }));
}

#[test]
fn a_cut_or_missing_journal_is_not_taken_for_a_new_one() {
    let place = tempfile::tempdir().unwrap();
    let (base, path) = (place.path().join("base"), place.path().join("store"));
    let store = worked(&place.path().join("origin"), &options());
    copy(store.path(), &base);
    let whole = std::fs::read(journal(&base)).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        copy(&base, &path);
        std::fs::write(journal(&path), &whole[..cut]).unwrap();
        assert!(matches!(error(&path, &options()), OpenError::SetBack { .. } | OpenError::Damaged { .. }), "{cut}");
        // What was left is still there.
        assert_eq!(std::fs::read(journal(&path)).unwrap().len(), cut);
    }
    copy(&base, &path);
    std::fs::remove_file(journal(&path)).unwrap();
    assert!(matches!(error(&path, &options()), OpenError::Damaged { .. }));
    copy(&base, &path);
    assert_answered(&DurableStore::open(&path, &options()).unwrap());
}

/// The table that knows how far the store is has been written out, the others are in the journal alone.
#[test]
fn a_lost_journal_is_noticed_with_its_number_in_another_table() {
    let place = tempfile::tempdir().unwrap();
    let (base, path) = (place.path().join("base"), place.path().join("store"));
    let store = worked(&place.path().join("origin"), &options());
    store.0.tables.meta.compact().unwrap();
    copy(store.path(), &base);
    let whole = std::fs::read(journal(&base)).unwrap();
    for cut in [0, whole.len() / 3, whole.len() / 2] {
        copy(&base, &path);
        std::fs::write(journal(&path), &whole[..cut]).unwrap();
        assert!(matches!(error(&path, &options()), OpenError::SetBack { .. } | OpenError::Damaged { .. }), "{cut}");
    }
    // Rotated, with the sealed one gone.
    copy(&base, &path);
    let sealed = journal(&path);
    std::fs::write(sealed.with_file_name("9.jnl"), b"").unwrap();
    assert!(matches!(error(&path, &options()), OpenError::Damaged { .. }), "a gap");
    std::fs::remove_file(sealed).unwrap();
    assert!(matches!(error(&path, &options()), OpenError::Damaged { .. }));
}

#[test]
fn a_flipped_byte_of_the_journal_loses_no_answered_commit() {
    let place = tempfile::tempdir().unwrap();
    let (base, path) = (place.path().join("base"), place.path().join("store"));
    drop(worked(&place.path().join("origin"), &options()));
    copy(&place.path().join("origin"), &base);
    let whole = std::fs::read(journal(&base)).unwrap();
    let (mut read, mut refused) = (0, 0);
    // Every seventh byte comes by every field of a record.
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(journal(&base), &bytes).unwrap();
        let journals = journal::Journals::read(&base.join("db"));
        refused += usize::from(journals.is_err() || journals.is_ok_and(|journals| journals.last() < Some(9)));
        read += 1;
        // All are read, some are opened: that takes longer.
        if at % 1_001 == 0 || at < 14 || at + 13 > whole.len() {
            copy(&base, &path);
            match DurableStore::open(&path, &options()) {
                Ok(store) => assert_answered(&store),
                Err(OpenError::SetBack { .. } | OpenError::Damaged { .. }) => {}
                Err(other) => panic!("{at}: {other:?}"),
            }
        }
    }
    // What is not refused is the engine's number of a batch, where the order is kept, and nothing else.
    assert!(refused + 8 * 10 >= read, "{refused} of {read}");
}

/// The engine would drop the end of a journal and replay the next one.
#[test]
fn a_commit_lost_in_the_middle_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    let (base, path) = (place.path().join("base"), place.path().join("store"));
    drop(worked(&place.path().join("origin"), &options()));
    copy(&place.path().join("origin"), &base);
    let whole = std::fs::read(journal(&base)).unwrap();
    // Those that have a number: the others change nothing.
    let numbered = |ends: &&[usize]| whole[ends[0]..ends[1]].windows(8).any(|bytes| bytes == b"sequence");
    let all = commits(&whole);
    let commits: Vec<_> = all.windows(2).filter(numbered).map(|ends| ends[0]..ends[1]).collect();
    assert!(commits.len() > 7);
    for (split, lost) in [(5, 5), (6, 5), (4, 6)] {
        // In two journals, with a commit lost at the end of the first, or in the second.
        copy(&base, &path);
        let middle = commits[split].start;
        let (mut first, mut second) = (whole[..middle].to_vec(), whole[middle..].to_vec());
        let gone = commits[lost].clone();
        match gone.start < middle {
            true => drop(first.drain(gone)),
            false => drop(second.drain(gone.start - middle..gone.end - middle)),
        }
        std::fs::write(journal(&path), first).unwrap();
        let next = journal(&path).with_file_name("1.jnl");
        std::fs::write(next, second).unwrap();
        assert!(matches!(error(&path, &options()), OpenError::Damaged { .. }), "{split} {lost}");
    }
    let middle = commits[5].start;
    // Undamaged, two journals are as good as one.
    copy(&base, &path);
    let sealed = journal(&path);
    std::fs::write(sealed.with_file_name("1.jnl"), &whole[middle..]).unwrap();
    std::fs::write(&sealed, [&whole[..middle], &[0; 100]].concat()).unwrap();
    assert_answered(&DurableStore::open(&path, &options()).unwrap());
    // And a torn end of the first is none of a crash.
    copy(&base, &path);
    std::fs::write(sealed.with_file_name("1.jnl"), &whole[middle..]).unwrap();
    std::fs::write(&sealed, &whole[..middle - 1]).unwrap();
    assert!(matches!(error(&path, &options()), OpenError::Damaged { .. }));
}

/// Where the commits in a journal begin.
pub(super) fn commits(bytes: &[u8]) -> Vec<usize> {
    let mut begins = vec![0];
    let trailer = |at: &usize| bytes[*at..].starts_with(b"FJL\x03") && bytes.get(at + 4).is_none_or(|tag| *tag <= 1);
    begins.extend((0..bytes.len()).filter(trailer).map(|at| at + 4));
    begins
}

#[test]
fn the_error_names_the_missing_or_damaged_file() {
    let place = tempfile::tempdir().unwrap();
    let (base, path) = (place.path().join("base"), place.path().join("store"));
    drop(worked(&place.path().join("origin"), &options()));
    copy(&place.path().join("origin"), &base);
    for name in ["evidence.keys", "mark"] {
        let whole = std::fs::read(base.join(name)).unwrap();
        let flip = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            bytes
        };
        let flips = (0..whole.len()).step_by(3).map(flip);
        let cuts = [0, 1, whole.len() / 2, whole.len() - 1].map(|cut| whole[..cut].to_vec());
        for bytes in cuts.into_iter().chain(flips) {
            copy(&base, &path);
            std::fs::write(path.join(name), &bytes).unwrap();
            match DurableStore::open(&path, &options()) {
                Err(OpenError::Damaged { path: named, .. }) => assert_eq!(named, path.join(name)),
                // The newer half is damaged, and the store is further than the older one.
                Ok(store) if name == "mark" => assert_answered(&store),
                other => panic!("{other:?}"),
            }
        }
        copy(&base, &path);
        std::fs::remove_file(path.join(name)).unwrap();
        match (name, error(&path, &options())) {
            (_, OpenError::Damaged { path: named, .. }) => assert_eq!(named, path.join(name)),
            (_, other) => panic!("{other:?}"),
        }
    }
}

/// Half of the mark torn, as by a power cut in that instant: the commit was on disk before.
#[test]
fn a_whole_store_opens_with_a_torn_mark() {
    let place = tempfile::tempdir().unwrap();
    let store = worked(&place.path().join("store"), &options());
    let path = store.path().to_owned();
    let before = std::fs::read(path.join("mark")).unwrap();
    insert(&store, 5);
    let after = std::fs::read(path.join("mark")).unwrap();
    drop(store);
    let at = (0..64).find(|at| before[*at] != after[*at]).unwrap() / 32 * 32;
    let torn: Vec<u8> = (0..64).map(|i| if i < at + 16 { after[i] } else { before[i] }).collect();
    std::fs::write(path.join("mark"), torn).unwrap();
    drop(DurableStore::open(&path, &options()).unwrap());
    // It is whole again.
    assert!(!crate::store::mark::Mark::open(&path.join("mark")).unwrap().1.half);
}

#[test]
fn a_missing_table_is_not_taken_for_an_empty_one() {
    let place = tempfile::tempdir().unwrap();
    let (base, path) = (place.path().join("base"), place.path().join("store"));
    let store = worked(&place.path().join("origin"), &options());
    store.compact().unwrap();
    drop(store);
    copy(&place.path().join("origin"), &base);
    let (mut tables, mut opened) = (0, 0);
    for entry in std::fs::read_dir(base.join("db/keyspaces")).unwrap() {
        copy(&base, &path);
        let name = entry.unwrap().file_name();
        std::fs::remove_dir_all(path.join("db/keyspaces").join(&name)).unwrap();
        match DurableStore::open(&path, &options()) {
            Ok(store) => {
                assert_answered(&store);
                opened += 1;
            }
            Err(_) => tables += 1,
        }
    }
    // The one that is written to for its numbers alone has nothing to lose.
    assert!(tables > 8 && opened <= 1, "{tables} {opened}");
}
