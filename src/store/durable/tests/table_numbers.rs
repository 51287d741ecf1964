//! What the engine itself gets wrong, and is kept from.

use super::*;
use engine::TableKind;

/// Tables come and go, and the process is killed in between: a new one would come back as one that was dropped.
#[test]
fn no_table_is_missing_after_a_crash() {
    let place = tempfile::tempdir().unwrap();
    let mut choice = 0_u64;
    let mut below = |end: u64| {
        choice += 1;
        u64::from(u16::from_be_bytes([noise("choice", choice)[0], noise("choice", choice)[1]])) % end
    };
    let mut path = place.path().join("0");
    let mut opened = engine::Engine::create(&path, 1 << 20, 1).unwrap();
    let meta = opened.table("meta", TableKind::Records).unwrap();
    let mut sequence = 0_u64;
    let mut expected = std::collections::BTreeMap::from([("meta".to_owned(), 0)]);
    let commit = |opened: &engine::Engine, table: &Table, sequence: u64| {
        let value = Some(sequence.to_be_bytes().to_vec());
        let change = |key: &[u8]| (table.clone(), key.to_vec(), value.clone());
        opened.commit([change(b"sequence"), change(b"x")]).unwrap();
    };
    commit(&opened, &meta, sequence);
    drop(meta);
    for round in 1..60 {
        for _ in 0..below(4) {
            match below(3) {
                0 => {
                    let name = format!("t{}", below(6));
                    let table = opened.table(&name, TableKind::Records).unwrap();
                    if below(2) == 0 {
                        sequence += 1;
                        commit(&opened, &table, sequence);
                    }
                    expected.insert(name, 1);
                }
                1 => {
                    let name = format!("t{}", below(6));
                    if expected.remove(&name).is_some() {
                        let table = opened.table(&name, TableKind::Records).unwrap();
                        opened.drop_table(table).unwrap();
                    }
                }
                _ => {
                    for name in expected.keys() {
                        opened.table(name, TableKind::Records).unwrap().compact().unwrap();
                    }
                }
            }
        }
        let next = place.path().join(round.to_string());
        copy(&path, &next);
        drop(opened);
        let _ = std::fs::remove_dir_all(&path);
        path = next;
        opened = engine::Engine::open(&path, 1 << 20, 1).unwrap();
        let names: std::collections::BTreeSet<_> = opened.table_names().into_iter().collect();
        let names: Vec<_> = names.into_iter().collect();
        assert_eq!(names, expected.keys().cloned().collect::<Vec<_>>(), "round {round}");
    }
}
