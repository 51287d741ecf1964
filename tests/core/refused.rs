//! Whether a refused spend had to be refused: the one reason to show a second note for one request (protocol, section 5, "Retry").

use halometer::protocol::*;
use halometer::wallet::LaneId;

use crate::world::*;

/// A directory after the world's, published at an instant.
fn newer(world: &World, published: Timestamp, change: impl FnOnce(&mut DirectoryParts)) -> SignedDirectory {
    let mut parts = world.issuer.directory().parts().clone();
    (parts.serial, parts.published) = (parts.serial + 1, published);
    change(&mut parts);
    SignedDirectory::sign(&Directory::new(parts).unwrap(), &world.root).unwrap()
}

fn other_tariff(parts: &mut DirectoryParts) {
    let price = Price { item: "token".to_owned(), credits: micro(2), per: 10 };
    parts.tariffs = vec![Tariff::new(parts.tariffs[0].valid(), vec![price]).unwrap()];
}

fn other_classes(parts: &mut DirectoryParts) {
    parts.classes = vec![micro(50)];
}

fn no_gateway(parts: &mut DirectoryParts) {
    parts.gateways.retain(|gateway| gateway.id != GATEWAY);
}

fn nothing_that_matters(parts: &mut DirectoryParts) {
    parts.evidence_seconds += HOUR as u32;
    parts.classes.push(micro(50));
}

#[test]
fn a_spend_that_was_good_when_sent_never_had_to_be_refused() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let terms = wallet.terms_of(&paid.key).unwrap();
    // Whatever the gateway says, and however much later it says so.
    assert!(!wallet.had_to_be_refused(&terms));
    // Nor by any directory that came out while it kept the caller waiting, or that leaves the spend's terms as they were.
    let step = T0.after(HOUR).before(INTO_WINDOW);
    for change in [other_tariff, other_classes, no_gateway, nothing_that_matters] {
        let mut wallet = world.funded(1);
        wallet.adopt(&newer(&world, step, change)).unwrap();
        assert!(!wallet.had_to_be_refused(&terms));
    }
}

#[test]
fn a_spend_under_terms_that_were_over_had_to_be_refused() {
    let world = World::new();
    let mut wallet = world.funded(1);
    // Everybody could know the newer directory, which came out an hour ago; this wallet did not.
    let now = T0.after(HOUR).after(CLOCK_TOLERANCE);
    let paid = pay(&mut wallet, LANE0, 10, now);
    let terms = wallet.terms_of(&paid.key).unwrap();
    let published = T0.after(HOUR).before(INTO_WINDOW);
    for (change, refused) in [
        (other_tariff as fn(&mut DirectoryParts), true),
        (other_classes, true),
        (no_gateway, true),
        (nothing_that_matters, false),
    ] {
        let mut wallet = world.funded(1);
        wallet.adopt(&newer(&world, published, change)).unwrap();
        assert_eq!(wallet.had_to_be_refused(&terms), refused);
    }
    // A class is nothing to a rollover or a transfer.
    let lane = |lane| LaneId { lane, ..LANE0 };
    let sent = send(&mut wallet, [lane(1), lane(2)], 1, now);
    let terms = wallet.terms_of(&sent.keys[0]).unwrap();
    wallet.adopt(&newer(&world, published, other_classes)).unwrap();
    assert!(!wallet.had_to_be_refused(&terms));
}
