//! Where the mark may be: a store that is put back must be noticed.

use super::*;

fn apart() -> StoreOptions {
    StoreOptions { allow_mark_inside: false, ..options() }
}

#[test]
fn a_store_put_back_under_default_options_does_not_open() {
    let place = tempfile::tempdir().unwrap();
    let (path, older) = (place.path().join("store"), place.path().join("older"));
    let store = created(&path, &apart());
    assert!(place.path().join("store.mark").exists() && !path.join("mark").exists());
    insert(&store, 1);
    copy(&path, &older);
    insert(&store, 2);
    drop(store);
    copy(&older, &path);
    assert!(matches!(DurableStore::open(&path, &apart()), Err(OpenError::SetBack { .. })));
    let report = DurableStore::check_at(&path, &apart()).unwrap();
    assert!(
        !report.opens && report.mark == MarkStanding::Apart && report.damage[0].1.contains("set back"),
        "{report:?}"
    );
}

#[test]
fn a_mark_inside_the_store_is_refused_by_any_name() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    std::fs::create_dir_all(path.join("deep")).unwrap();
    let mut names = vec![path.join("mark"), path.join("deep/mark"), path.join("../store/mark"), path.join("new/mark")];
    #[cfg(unix)]
    {
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        names.push(link.join("mark"));
    }
    for mark in names {
        let options = StoreOptions { mark: Some(mark.clone()), ..apart() };
        let made = DurableStore::create(&path, GATEWAY, &options);
        assert!(matches!(made, Err(OpenError::MarkInside { .. })), "{}: {made:?}", mark.display());
    }
    assert!(!path.join("db").exists());
    // And of a store that has it there.
    drop(created(&path, &options()));
    for mark in [None, Some(path.join("mark"))] {
        let error = DurableStore::open(&path, &StoreOptions { mark, ..apart() }).unwrap_err();
        let told = error.to_string();
        assert!(
            matches!(error, OpenError::MarkInside { .. })
                && told.contains("store.mark")
                && told.contains("allow_mark_inside"),
            "{told}"
        );
    }
    // As the error says.
    std::fs::rename(path.join("mark"), place.path().join("store.mark")).unwrap();
    drop(DurableStore::open(&path, &apart()).unwrap());
}

#[test]
fn a_check_says_what_it_cannot_know_without_a_mark() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    drop(created(&path, &options()));
    let standing = || DurableStore::check_at(&path, &apart()).unwrap().mark;
    assert_eq!(standing(), MarkStanding::Inside);
    std::fs::rename(path.join("mark"), place.path().join("elsewhere")).unwrap();
    assert_eq!(standing(), MarkStanding::None);
    assert!(
        MarkStanding::None.to_string().contains("not known") && MarkStanding::Inside.to_string().contains("not known")
    );
    let named = StoreOptions { mark: Some(place.path().join("elsewhere")), ..apart() };
    assert_eq!(DurableStore::check_at(&path, &named).unwrap().mark, MarkStanding::Apart);
}
