//! Bits that flipped, and files that were made to harm.

use super::*;

/// A wallet with something in it, closed: its bytes, and what it tells.
fn whole(world: &World, file: &WalletFile) -> (Vec<u8>, String) {
    let mut wallet = create(world, file);
    fund(world, &mut wallet, 1);
    call(world, &mut wallet, LANE0);
    send(&mut wallet, LANE1);
    let told = told(&wallet);
    drop(wallet);
    (std::fs::read(file.path()).unwrap(), told)
}

/// What comes of a file: an error, or the wallet as it was.
fn harmless(file: &WalletFile, bytes: &[u8], told_before: &str, place: &dyn core::fmt::Display) -> bool {
    std::fs::write(file.path(), bytes).unwrap();
    let opened = file.open(&lock());
    let is_open = opened.is_ok();
    if let Ok(mut wallet) = opened {
        answer(&mut wallet, &[], T0);
        assert_eq!(told(&wallet), told_before, "{place}");
    }
    std::fs::write(file.path(), bytes).unwrap();
    let checked = file.check(Some(&lock()));
    assert!(
        is_open || checked.is_err() || checked.is_ok_and(|it| it.contents.unwrap().standing != FileStanding::InOrder)
    );
    is_open
}

#[test]
fn a_flipped_byte_is_an_error_or_changes_nothing() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let (bytes, told) = whole(&world, &file);
    let seats = device.seats();
    let seat = std::fs::read_dir(&seats).unwrap().next().unwrap().unwrap().path();
    let seat_bytes = std::fs::read(&seat).unwrap();
    // The head of the file byte by byte, the rest here and there.
    let places = (0..400).chain((400..bytes.len()).step_by(397));
    let mut opened = 0;
    for at in places {
        let mut changed = bytes.clone();
        changed[at] ^= [1, 0x80, 0xff][at % 3];
        opened += u32::from(harmless(&file, &changed, &told, &at));
        std::fs::write(&seat, &seat_bytes).unwrap();
    }
    assert!(opened > 0, "there are places where nothing stands");
}

#[test]
fn a_file_that_was_cut_off_or_is_random_is_an_error() {
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let (bytes, told) = whole(&world, &file);
    for length in (0..bytes.len()).step_by(1000).chain([bytes.len() - 1]) {
        assert!(!harmless(&file, &bytes[..length], &told, &length), "{length}");
    }
    for seed in 0..20 {
        let mut noise = bytes.clone();
        let from = if seed % 2 == 0 { 4 } else { 4096 };
        rand_core::Rng::fill_bytes(&mut rng(seed), &mut noise[from..]);
        assert!(!harmless(&file, &noise, &told, &seed), "{seed}");
    }
}

#[test]
fn rows_that_were_swapped_or_taken_away_are_noticed() {
    use store::Table;
    let (world, device) = (World::without_keys(), Device::new());
    let file = device.file("wallet");
    let (bytes, _) = whole(&world, &file);
    // An attacker that can write to the file, with the engine, and cannot open it.
    let tamper = |work: &dyn Fn(&store::View<'_, redb::WriteTransaction>)| {
        std::fs::write(file.path(), &bytes).unwrap();
        let (mut store, _) = file.unlock(&lock()).unwrap();
        store
            .fill(|view| {
                work(view);
                Ok(())
            })
            .unwrap();
        drop(store);
        assert!(file.check(Some(&lock())).is_err());
        file.open(&lock()).map(drop)
    };
    let first = |view: &store::View<'_, redb::WriteTransaction>, table| {
        let mut rows = Vec::new();
        view.rows
            .each(table, false, &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                Ok(true)
            })
            .unwrap();
        rows
    };
    for table in [Table::Payments, Table::Frontiers, Table::Spends, Table::Proofs] {
        let taken = tamper(&|view| view.remove(table, &first(view, table)[0].0).unwrap());
        assert!(taken.is_err(), "{table:?}");
    }
    for table in [Table::Spends, Table::Proofs] {
        let swapped = tamper(&|view| {
            let rows = first(view, table);
            view.put_raw(table, &rows[0].0, &rows[1].1).unwrap();
            view.put_raw(table, &rows[1].0, &rows[0].1).unwrap();
        });
        assert!(swapped.is_err(), "{table:?}");
    }
    // A pin that is gone frees no note: the lane has passed it.
    let unpinned = tamper(&|view| view.remove(Table::Pins, &first(view, Table::Pins)[0].0).unwrap());
    assert!(unpinned.is_ok());
    let mut wallet = file.open(&lock()).unwrap();
    let history = wallet.journal().history(9).unwrap();
    for entry in history {
        let mut second = entry.clone();
        second.key.context = halometer_circuits::note::ContextHash::from_bytes(&[5; 32]).unwrap();
        assert!(wallet.journal.pin(&[second]).is_err());
    }
}
