//! The store of a gateway, its mark and its clock.

use std::path::Path;
use std::time::Duration;

use halometer::http::clock::now;
use halometer::protocol::Timestamp;
use halometer::store::durable::{DurableStore, StoreOptions};
use halometer::store::{Look, SpentSet as _};

use super::gateway::{Gateway, House, until};
use super::{code, halometer, said};

const DAY: u64 = 86_400;

/// What a gateway says that does not start.
fn refusal(house: &House, more: &[&str]) -> String {
    let config = house.config();
    let refused = halometer(&[&["gateway", "--config", &config][..], more].concat());
    assert_ne!(code(&refused), 0, "{refused:?}");
    said(&refused)
}

/// Ends it, and says what it has logged.
fn stop(mut gateway: Gateway) -> String {
    assert_eq!(gateway.end(), 0);
    gateway.log()
}

/// The gateway ran last at this time.
fn seen_at(house: &House, time: Timestamp) {
    let store = DurableStore::open(house.path("shop/store"), &StoreOptions::default()).unwrap();
    store.spent_set().beat(Look::Confirmed(time)).unwrap();
}

#[test]
fn a_gateway_does_not_start_by_a_clock_that_jumped() {
    let house = House::new();
    stop(house.start());
    let keys = || std::fs::read(house.path("shop/keys/epochs.key")).unwrap();
    let before = keys();
    for (seen, told) in [(now().before(40 * DAY), "40 days ahead"), (now().after(40 * DAY + 600), "40 days back")] {
        seen_at(&house, seen);
        for more in [&[][..], &["--check"]] {
            let refused = refusal(&house, more);
            assert!(refused.contains(told) && refused.contains("--accept-clock"), "{refused}");
        }
    }
    assert!(keys() == before, "keys were changed");
    // It is right, its operator says.
    stop(house.start_with(&["--accept-clock"]));
    stop(house.start());
}

#[test]
fn a_gateway_of_default_settings_notices_a_store_put_back() {
    let house = House::new();
    stop(house.start());
    let text = std::fs::read_to_string(house.config()).unwrap();
    assert!(text.contains("mark = \"store.mark\"") && !Path::new(&house.path("shop/store/mark")).exists());
    let (store, older) = (house.path("shop/store"), house.path("older"));
    super::copy(Path::new(&store), Path::new(&older));
    // In another second, so that its first look at the clock is something to commit; and it goes on until it has.
    std::thread::sleep(Duration::from_millis(1_100));
    let number = |slot: &[u8]| slot.first_chunk::<8>().map(|number| u64::from_be_bytes(*number));
    let mark = || std::fs::read(house.path("shop/store.mark")).unwrap().chunks(32).filter_map(number).max();
    let (before, gateway) = (mark(), house.start());
    until("a commit", || (mark() != before).then_some(()));
    stop(gateway);
    std::fs::remove_dir_all(&store).unwrap();
    super::copy(Path::new(&older), Path::new(&store));
    let refused = refusal(&house, &[]);
    assert!(refused.contains("was set back"), "{refused}");
    let checked = halometer(&["store", "check", &store]);
    assert_eq!(code(&checked), 2);
    assert!(said(&checked).contains("was set back"), "{}", said(&checked));
}

#[test]
fn a_mark_inside_the_store_is_accepted_by_name_only() {
    let house = House::new();
    let (beside, inside) = (house.path("shop/store.mark"), house.path("shop/store/mark"));
    std::fs::rename(&beside, &inside).unwrap();
    house.edit(|text| text.replace("mark = \"store.mark\"", "mark = \"store/mark\""));
    for more in [&[][..], &["--check"]] {
        let refused = refusal(&house, more);
        assert!(refused.contains("allow_mark_inside") && refused.contains("store.mark"), "{refused}");
    }
    let checked = halometer(&["store", "check", &house.path("shop/store")]);
    let told = String::from_utf8(checked.stdout.clone()).unwrap();
    assert!(code(&checked) == 0 && told.contains("not known"), "{told}");
    house.edit(|text| text.replace("# allow_mark_inside = false", "allow_mark_inside = true"));
    stop(house.start());
}

#[test]
fn prices_that_changed_too_often_do_not_keep_a_gateway_down() {
    let house = House::new();
    let dearer = |credits: u64| {
        house.edit(|text| {
            let line = text.lines().find(|line| line.starts_with("output_token =")).unwrap().to_owned();
            text.replace(&line, &format!("output_token = {{ credits = {credits} }}"))
        });
    };
    for credits in 9..=16 {
        dearer(credits);
        // A window of publication each.
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        stop(house.start());
    }
    dearer(17);
    let config = house.config();
    let checked = halometer(&["gateway", "--config", &config, "--check"]);
    let told = String::from_utf8(checked.stdout.clone()).unwrap();
    assert!(code(&checked) == 0 && told.contains("prices were changed 7 times"), "{told}{}", said(&checked));
    let log = stop(house.start());
    assert!(log.contains("cannot be taken up yet") && log.contains("prices were changed 7 times"), "{log}");
}
