//! The last write before the power goes: whatever of it is on disk, what was answered before it is there.

use super::set_back::commits;
use super::*;

/// A store of some answered commits, with a journal that has one more, of which nobody was told.
struct Torn {
    _place: tempfile::TempDir,
    base: PathBuf,
    path: PathBuf,
    answered: usize,
    whole: Vec<u8>,
}

impl Torn {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let (origin, base) = (place.path().join("origin"), place.path().join("base"));
        let store = created(&origin, &options());
        (0..3).for_each(|n| insert(&store, n));
        settle(&store, 1, 1);
        copy(&origin, &base);
        let answered = std::fs::read(journal(&base)).unwrap();
        let last = (10..13).map(|n| record(EPOCH[0], n)).collect();
        store.spent_set().insert_all(last, T0);
        let mut whole = std::fs::read(journal(&origin)).unwrap();
        whole.truncate(*commits(&whole).last().unwrap());
        assert!(whole.starts_with(&answered) && whole.len() > answered.len() + 12_000);
        Self { base, path: place.path().join("store"), _place: place, answered: answered.len(), whole }
    }

    /// Opens the store with this journal: it has all that was answered, and the last commit whole or not at all.
    fn open(&self, bytes: &[u8], what: &str) {
        copy(&self.base, &self.path);
        std::fs::write(journal(&self.path), bytes).unwrap();
        for again in 0..2 {
            let store = DurableStore::open(&self.path, &options()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            for n in 0..3 {
                assert!(find(&store, n).unwrap().is_some(), "{what}");
            }
            let found = (10..13).filter(|n| find(&store, *n).unwrap().is_some()).count();
            assert!(found == 0 || (found == 3 && bytes == self.whole), "{what}: {found}");
            assert_sound(&store);
            insert(&store, 50 + again);
        }
    }
}

#[test]
fn a_store_opens_with_its_last_write_cut_short() {
    let torn = Torn::new();
    let file = journal(&torn.base);
    for cut in torn.answered..torn.whole.len() {
        std::fs::write(&file, &torn.whole[..cut]).unwrap();
        let journals = journal::Journals::read(&torn.base.join("db")).unwrap();
        assert_eq!(journals.last(), Some(6), "{cut}");
    }
    let step = (torn.whole.len() - torn.answered) / 10;
    for cut in (torn.answered..torn.whole.len()).step_by(step) {
        torn.open(&torn.whole[..cut], &format!("cut at {cut}"));
        // Allocated ahead, as it is.
        let mut bytes = torn.whole[..cut].to_vec();
        bytes.resize(torn.whole.len() + 10_000, 0);
        torn.open(&bytes, &format!("zeros from {cut}"));
    }
    torn.open(&torn.whole, "whole");
}

#[test]
fn a_store_opens_without_unwritten_blocks_of_its_last_write() {
    let torn = Torn::new();
    let file = journal(&torn.base);
    let garble = |bytes: &mut [u8], seed: u64| {
        bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = noise("garbled", seed + i as u64 / 32)[i % 32]);
    };
    let mut opened = 0;
    for block in [512, 4_096] {
        for start in (0..torn.whole.len()).step_by(block).filter(|start| start + block > torn.answered) {
            for garbled in [false, true] {
                let mut bytes = torn.whole.clone();
                let end = (start + block).min(bytes.len());
                let lost = &mut bytes[start.max(torn.answered)..end];
                if garbled {
                    garble(lost, start as u64)
                } else {
                    lost.fill(0)
                }
                if bytes == torn.whole {
                    continue;
                }
                std::fs::write(&file, &bytes).unwrap();
                let journals = journal::Journals::read(&torn.base.join("db")).unwrap();
                assert_eq!(journals.last(), Some(6), "{start} {block} {garbled}");
                opened += 1;
                if opened % 12 == 0 {
                    torn.open(&bytes, &format!("{start} {block} {garbled}"));
                }
            }
        }
    }
    assert!(opened > 40);
}

/// The same damage in a commit that was answered: the mark, or the commit behind it, tells.
#[test]
fn damage_to_an_answered_commit_is_not_a_torn_write() {
    let torn = Torn::new();
    let begins = commits(&torn.whole[..torn.answered]);
    let last = begins[begins.len() - 2];
    for (bytes, what) in [(&torn.whole[..torn.answered], "the last"), (&torn.whole[..], "one before the last")] {
        for at in [last, last + 1, last + 13, last + 40, torn.answered - 1] {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 0x11;
            copy(&torn.base, &torn.path);
            std::fs::write(journal(&torn.path), &bytes).unwrap();
            match DurableStore::open(&torn.path, &options()) {
                Err(OpenError::SetBack { .. } | OpenError::Damaged { .. }) => {}
                other => panic!("{what}, {at}: {other:?}"),
            }
            assert_eq!(std::fs::read(journal(&torn.path)).unwrap(), bytes, "changed, and not opened");
        }
    }
}

/// The journal was changed for the newest one, so that nothing whole is in it, and the tables do not reach the mark.
#[test]
fn a_torn_journal_below_the_mark_is_refused_and_not_cut() {
    let torn = Torn::new();
    copy(&torn.base, &torn.path);
    let newest = journal(&torn.path);
    let bytes = &torn.whole[torn.answered..torn.whole.len() - 5];
    std::fs::write(&newest, bytes).unwrap();
    match DurableStore::open(&torn.path, &options()) {
        Err(OpenError::SetBack { .. } | OpenError::Damaged { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(newest).unwrap(), bytes, "the original is not put back");
}

/// A caller chooses the bytes of its memo.
#[test]
fn a_torn_store_opens_past_a_memo_that_looks_like_a_commit() {
    let torn = Torn::new();
    copy(&torn.base, &torn.path);
    // One item, its sequence number: all that 64 bytes have room for.
    let item = [
        &[2, 0, 0][..],
        &[0; 8],
        &8_u16.to_le_bytes(),
        &8_u32.to_le_bytes(),
        &8_u32.to_le_bytes(),
        b"sequence",
        &[0x7f; 8],
    ]
    .concat();
    let begin = [&[1][..], &1_u32.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
    let end = [&[3][..], &xxhash_rust::xxh3::xxh3_64(&item).to_le_bytes(), b"FJL\x03"].concat();
    let memo = [begin, item, end].concat();
    assert!(memo.len() <= 64);
    let mut bytes = torn.whole[..torn.whole.len() - 7].to_vec();
    let at = torn.answered + 9_000;
    bytes[at..at + memo.len()].copy_from_slice(&memo);
    torn.open(&bytes, "a memo");
}
