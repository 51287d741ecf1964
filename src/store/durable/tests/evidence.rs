//! What of evidence is on disk (protocol, section 5: "y/proof/context erased").

use super::*;

/// All 16-byte pieces of evidence that must not be in a file, as far as they are recognisable.
fn pieces(n: u64) -> Vec<[u8; 16]> {
    let RecordEvidence { context, charge: _, change, spend } = record(EPOCH[0], n).evidence.unwrap();
    let parsed = Spend::from_bytes(&spend).unwrap();
    let nf = parsed.nullifier.to_bytes();
    let kept = [&nf[..], parsed.memo.as_bytes(), parsed.gateway.as_bytes()];
    let secret = [&context.to_bytes()[..], &change.to_bytes(), &parsed.session.to_bytes(), &spend];
    let pieces = secret.iter().flat_map(|bytes| bytes.windows(16));
    // Nullifier and memo stay, and the gateway is no secret. What stands before or behind them may be the same by chance.
    let kept: std::collections::HashSet<_> = kept.iter().flat_map(|bytes| bytes.windows(12)).collect();
    let stays = |piece: &[u8]| piece.windows(12).any(|window| kept.contains(window));
    pieces.filter(|piece| !stays(piece)).map(|piece| piece.try_into().unwrap()).collect()
}

/// Whether any piece is anywhere in the files, at any offset.
fn found(path: &Path, pieces: &std::collections::HashSet<[u8; 16]>) -> Option<PathBuf> {
    // Most windows are told by their first bytes.
    let heads: std::collections::HashSet<_> = pieces.iter().map(|piece| [piece[0], piece[1], piece[2]]).collect();
    let mut likely = vec![false; 1 << 24];
    heads.iter().for_each(|[a, b, c]| likely[usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)] = true);
    let matches = |window: &[u8]| {
        likely[usize::from(window[0]) << 16 | usize::from(window[1]) << 8 | usize::from(window[2])]
            && pieces.contains(window)
    };
    files(path).into_iter().find(|file| {
        let mut bytes = std::fs::read(file).unwrap_or_default();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        bytes.windows(16).any(matches)
    })
}

#[test]
fn no_file_has_evidence_in_the_clear() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    let store = created(&path, &options());
    let mut secrets = std::collections::HashSet::new();
    for n in 0..6 {
        insert(&store, n);
        settle(&store, n, n);
        secrets.extend(pieces(n));
    }
    assert!(secrets.len() > 20_000);
    // The search finds what is there.
    std::fs::write(place.path().join("bait"), &record(EPOCH[0], 1).evidence.unwrap().spend[500..]).unwrap();
    assert_eq!(found(place.path(), &secrets), Some(place.path().join("bait")));
    std::fs::remove_file(place.path().join("bait")).unwrap();

    assert_eq!(found(place.path(), &secrets), None, "before it is erased");
    store.compact().unwrap();
    assert_eq!(found(place.path(), &secrets), None, "compacted");
    let keys = keys(&path);
    assert_eq!(keys.len(), 2);
    assert_eq!(store.spent_set().erase_evidence(EPOCH[0], T0.after(1)).unwrap(), 6);

    let gone = |path: &Path| {
        assert_eq!(found(path, &secrets), None);
        assert_eq!(found(path, &keys), None, "keys");
    };
    let crashed = place.path().join("crashed");
    copy(&path, &crashed);
    gone(place.path());
    store.compact().unwrap();
    gone(place.path());
    let backup = place.path().join("backup");
    store.backup(&backup).unwrap();
    gone(place.path());
    drop(store);
    let reopened = [
        DurableStore::open(&path, &options()).unwrap(),
        DurableStore::open(&crashed, &options()).unwrap(),
        DurableStore::open_backup(&backup, &options()).unwrap(),
    ];
    for store in &reopened {
        for n in 0..6 {
            let record = find(store, n).unwrap().unwrap();
            assert_eq!((record.evidence, record.state), (None, RecordState::Settled(settlement(n, n))));
        }
        assert_sound(store);
    }
    gone(place.path());
}

/// The keys in the file of keys, in two pieces each.
fn keys(path: &Path) -> std::collections::HashSet<[u8; 16]> {
    let bytes = std::fs::read(path.join("evidence.keys")).unwrap();
    let entries = bytes[1..bytes.len() - 32].chunks(40);
    entries.flat_map(|entry| entry[8..].chunks(16)).map(|piece| piece.try_into().unwrap()).collect()
}

/// The bucket after the erased one has its number no more than its key.
#[test]
fn an_erased_record_has_no_evidence_in_a_later_bucket() {
    let place = tempfile::tempdir().unwrap();
    let store = created(place.path(), &options());
    insert(&store, 1);
    settle(&store, 1, 1);
    assert_eq!(store.spent_set().erase_evidence(EPOCH[0], T0.after(1)).unwrap(), 1);
    drop(store);
    let store = DurableStore::open(place.path(), &options()).unwrap();
    insert(&store, 2);
    assert_eq!(find(&store, 1).unwrap().unwrap().evidence, None);
    assert!(find(&store, 2).unwrap().unwrap().evidence.is_some());
    assert_sound(&store);
}

#[test]
fn a_crash_between_commit_and_forgetting_keeps_no_key() {
    let place = tempfile::tempdir().unwrap();
    let (path, crashed) = (place.path().join("store"), place.path().join("crashed"));
    let store = created(&path, &options());
    insert(&store, 1);
    settle(&store, 1, 1);
    let before = std::fs::read(path.join("evidence.keys")).unwrap();
    let secrets = keys(&path);
    store.spent_set().erase_evidence(EPOCH[0], T0.after(1)).unwrap();
    copy(&path, &crashed);
    std::fs::write(crashed.join("evidence.keys"), before).unwrap();
    // And the rest of an unfinished write of the keys.
    std::fs::write(crashed.join(".evidence.keys.1-1.tmp"), secrets.iter().flatten().copied().collect::<Vec<_>>())
        .unwrap();
    drop(store);
    let store = DurableStore::open(&crashed, &options()).unwrap();
    assert_eq!(found(&crashed, &secrets), None);
    assert_eq!(find(&store, 1).unwrap().unwrap().evidence, None);
    assert_eq!(store.spent_set().erased_totals(EPOCH[0]).unwrap().settled, 1);
    assert_sound(&store);
}

#[test]
fn a_key_that_leads_to_no_bucket_is_dropped() {
    let place = tempfile::tempdir().unwrap();
    let store = created(place.path(), &options());
    insert(&store, 1);
    drop(store);
    // A bucket was begun, its key written, and the power went before the commit.
    let keys_file = place.path().join("evidence.keys");
    let mut file = evidence_keys::EvidenceKeys::open(keys_file.clone()).unwrap();
    file.add(EPOCH[0], 2).unwrap();
    let store = DurableStore::open(place.path(), &options()).unwrap();
    assert_eq!(evidence_keys::EvidenceKeys::open(keys_file).unwrap().buckets().collect::<Vec<_>>(), [(EPOCH[0], 1)]);
    // Its number is used for another.
    assert_eq!(store.spent_set().insert(record(EPOCH[0], 2), T0.after(7 * 3_600)).unwrap(), Insertion::Fresh);
    assert!(find(&store, 2).unwrap().unwrap().evidence.is_some());
    assert_sound(&store);
}

/// The keys are put back from a time before a bucket was begun.
#[test]
fn evidence_with_a_missing_key_is_not_taken_for_erased() {
    let place = tempfile::tempdir().unwrap();
    let store = created(place.path(), &options());
    let before = std::fs::read(place.path().join("evidence.keys")).unwrap();
    insert(&store, 1);
    settle(&store, 1, 1);
    drop(store);
    std::fs::write(place.path().join("evidence.keys"), before).unwrap();
    match DurableStore::open(place.path(), &options()) {
        Err(OpenError::Damaged { path, .. }) => assert_eq!(path, place.path().join("evidence.keys")),
        other => panic!("{other:?}"),
    }
}
