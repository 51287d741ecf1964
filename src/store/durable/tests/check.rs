//! A check finds out what an opening would come to, and changes nothing.

use std::collections::BTreeMap;

use super::*;

/// What may be done to a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Remove,
    Truncate,
    Flip,
    /// A byte near the beginning, where tables have their rows.
    FlipRow,
    Zero,
    /// For the next file of its kind.
    Swap,
}

const HARMS: [Harm; 6] = [Harm::Remove, Harm::Truncate, Harm::Flip, Harm::FlipRow, Harm::Zero, Harm::Swap];
/// Where that is.
const ROW: usize = 64;

/// All files under a directory and what is in them.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(path).into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

/// A store with a retired partition and two others, and with evidence that was erased.
fn worked(path: &Path) -> DurableStore {
    let store = created(path, &options());
    let set = store.spent_set();
    let gone = EpochNumber::new(9);
    set.create(gone).unwrap();
    (0..6).for_each(|n| insert(&store, n));
    set.insert(record(EPOCH[1], 50), T0).unwrap();
    settle(&store, 1, 3);
    set.close(gone).unwrap();
    set.retire(gone).unwrap();
    let payment = PaymentId::from_bytes([7; 32]);
    PaymentBook::record(&store.payment_book(), payment, Credits::from_micro(5)).unwrap();
    store
}

fn assert_answered(store: &DurableStore, what: &str) {
    for n in 0..6 {
        let mut expected = record(EPOCH[0], n);
        if n == 1 {
            expected.state = RecordState::Settled(settlement(1, 3));
        }
        assert_eq!(find(store, n).unwrap(), Some(expected), "{what}: {n}");
    }
    let other = store.spent_set().find(EPOCH[1], &key(EPOCH[1], 50).nullifier).unwrap();
    assert_eq!(other, Some(record(EPOCH[1], 50)), "{what}");
    assert_eq!(store.payment_book().paid(&PaymentId::from_bytes([7; 32])).unwrap(), Some(Credits::from_micro(5)));
    assert_sound(store);
}

/// Does it, and says which files are no longer what they were.
fn harm(path: &Path, all: &[PathBuf], at: usize, how: Harm) -> Option<Vec<PathBuf>> {
    let file = path.join(&all[at]);
    let bytes = std::fs::read(&file).unwrap();
    let changed = match how {
        Harm::Remove => {
            std::fs::remove_file(&file).unwrap();
            return Some(vec![all[at].clone()]);
        }
        Harm::Swap => {
            let is_alike = |other: &&PathBuf| {
                let folder = |path: &Path| path.parent().and_then(Path::file_name).map(ToOwned::to_owned);
                let kind = |path: &Path| {
                    path.file_name().unwrap().to_str().unwrap().trim_end_matches(char::is_numeric).to_owned()
                };
                let tables = |path: &Path| folder(path).is_some_and(|name| name == "tables" || name == "blobs");
                kind(other) == kind(&all[at]) && tables(other) == tables(&all[at])
            };
            let other = all[at + 1..].iter().find(is_alike)?;
            let theirs = std::fs::read(path.join(other)).unwrap();
            if theirs == bytes {
                return None;
            }
            std::fs::write(path.join(other), &bytes).unwrap();
            std::fs::write(&file, theirs).unwrap();
            return Some(vec![all[at].clone(), other.clone()]);
        }
        Harm::Truncate => bytes[..bytes.len() / 2].to_vec(),
        Harm::Flip => {
            let mut bytes = bytes.clone();
            let at = bytes.len() / 2;
            *bytes.get_mut(at)? ^= 0x10;
            bytes
        }
        Harm::FlipRow => {
            let mut bytes = bytes.clone();
            *bytes.get_mut(ROW)? ^= 0x10;
            bytes
        }
        Harm::Zero => vec![0; bytes.len()],
    };
    if changed == bytes {
        return None;
    }
    std::fs::write(&file, changed).unwrap();
    Some(vec![all[at].clone()])
}

/// What came of harms, each in words.
#[derive(Default)]
struct Came {
    /// The store did not open.
    refused: Vec<String>,
    /// It opened without what was harmed.
    damaged: Vec<String>,
    /// It opened whole.
    sound: Vec<String>,
}

/// Harms every file in every way, checks, opens, puts right what was harmed, and opens again.
fn harm_all(base: &Path, path: &Path, options: &StoreOptions) -> Came {
    let mut all: Vec<_> = files(base).into_iter().map(|file| file.strip_prefix(base).unwrap().to_owned()).collect();
    all.sort();
    let mut came = Came::default();
    let mut unnamed = Vec::new();
    for at in 0..all.len() {
        for how in HARMS {
            copy(base, path);
            let Some(harmed) = harm(path, &all, at, how) else { continue };
            let what = format!("{how:?} {harmed:?}");
            let before = contents(path);
            let report = DurableStore::check_at(path, options).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(contents(path) == before, "{what}: the check changed something");
            let found = format!("{:?}", report.damage);
            // Of a journal that is gone nothing tells the number.
            let named = |text: &str| {
                harmed.iter().any(|file| text.contains(file.to_str().unwrap()))
                    || (matches!(how, Harm::Remove) && what.contains(".jnl") && text.contains("its journal is missing"))
            };
            match DurableStore::open(path, options) {
                Ok(store) if report.damage.is_empty() => {
                    assert!(report.opens, "{what}");
                    assert_answered(&store, &what);
                    drop(store);
                    assert_answered(&DurableStore::open(path, options).unwrap(), &what);
                    came.sound.push(what);
                }
                Ok(store) => {
                    assert!(report.opens, "{what}: {found}");
                    unnamed.extend((!named(&found)).then(|| format!("{what}: {found}")));
                    let epochs: Vec<_> = report.damage.iter().filter_map(|(epoch, _)| *epoch).collect();
                    let known = store.damage();
                    assert!(
                        !known.is_empty() && known.iter().all(|(epoch, _)| epochs.contains(epoch)),
                        "{what}: {found}"
                    );
                    came.damaged.push(what);
                }
                Err(error) => {
                    assert!(!report.opens && !report.damage.is_empty(), "{what}: {error} and not {report:?}");
                    let told = error.to_string();
                    let named = (named(&told) && named(&found)) || matches!(error, OpenError::SetBack { .. });
                    unnamed.extend((!named).then(|| format!("{what}: {told}; {found}")));
                    // What was harmed is put right, and nothing else is missing.
                    for file in harmed {
                        std::fs::copy(base.join(&file), path.join(&file)).unwrap();
                    }
                    assert_answered(
                        &DurableStore::open(path, options).unwrap_or_else(|e| panic!("{what}: {e}")),
                        &what,
                    );
                    came.refused.push(format!("{what}: {told}"));
                }
            }
        }
    }
    assert!(unnamed.is_empty(), "damage without the file's name:\n{}", unnamed.join("\n"));
    came
}

/// A place where an fsync is fast, if there is one: what is tested here is no crash.
fn fast_place() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn check_and_open_agree_whatever_file_is_harmed() {
    let place = fast_place();
    let (origin, base, path) = (place.path().join("origin"), place.path().join("base"), place.path().join("store"));
    let store = worked(&origin);
    store.compact().unwrap();
    // And something that is in the journal alone.
    store.spent_set().meter(&key(EPOCH[0], 2), OWNER, Credits::ZERO, T0).unwrap();
    drop(store);
    drop(DurableStore::open(&origin, &options()).unwrap());
    copy(&origin, &base);
    let Came { refused, damaged, sound } = harm_all(&base, &path, &options().with_mark(path.join("mark")));
    assert!(refused.len() > 50, "{}", refused.len());
    // A store opens, and serves its other partitions, where only rows of a partition are damaged: of its records, of its evidence, of the
    // blobs behind that. The engine opens no database with a table that it cannot open, and a table as small as these it cannot open
    // after a flip in its middle, a cut or zeros, which hit the table's own description. Those it must refuse, and the rehearsal refuses
    // nothing beyond: flaws of a partition's tables are noted, and what the engine makes of them counts. So the bound is that of
    // harms to rows: more than those of blobs alone, which are two.
    let files = |harm: &str| damaged.iter().filter(|what| what.starts_with(harm)).count();
    assert!(files("FlipRow") > 4, "{damaged:#?}\n{sound:#?}");
    assert!(damaged.iter().all(|what| what.starts_with("Flip") && what.contains("keyspaces")), "{damaged:#?}");
}

#[test]
fn check_and_open_agree_on_a_store_that_is_a_journal() {
    let place = fast_place();
    let (origin, base, path) = (place.path().join("origin"), place.path().join("base"), place.path().join("store"));
    drop(worked(&origin));
    copy(&origin, &base);
    let Came { refused, .. } = harm_all(&base, &path, &options().with_mark(path.join("mark")));
    assert!(refused.len() > 20, "{refused:#?}");
}

#[test]
fn a_check_leaves_open_and_missing_stores_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    assert!(matches!(DurableStore::check_at(&path, &options()), Err(OpenError::Missing(_))));
    let store = worked(&path);
    assert!(matches!(DurableStore::check_at(&path, &options()), Err(OpenError::Locked(_))));
    let backup = place.path().join("backup");
    store.backup(&backup).unwrap();
    let report = DurableStore::check_at(&backup, &options()).unwrap();
    assert_eq!((report.mark, report.opens, report.damage), (MarkStanding::Backup, true, Vec::new()));
    drop(store);
    let before = contents(&path);
    let report = DurableStore::check_at(&path, &options()).unwrap();
    assert_eq!((report.records, report.evidence, report.damage.len()), (7, 7, 0));
    assert!(contents(&path) == before);
}
