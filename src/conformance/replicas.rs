//! What every [`ReplicaBook`] must pass.
//!
//! [`replica_book_conformance!`](crate::replica_book_conformance) takes an expression that makes an empty book, and makes a test
//! of each function here. A book that goes by a clock of its own ignores the times of these tests: it runs those that need
//! none, by naming them.
//!
//! # Panics
//! Every function panics if the book breaks a rule, as a test does.

use std::sync::Barrier;

use crate::protocol::{OwnerId, Timestamp};
use crate::store::{Claim, HeldLease, LeaseName, Publication, Published, Replica, ReplicaBook, ReplicaKey, StoreError};

/// Makes a test of every function of [`conformance::replicas`](crate::conformance::replicas) for a book.
#[macro_export]
macro_rules! replica_book_conformance {
    ($book:expr) => {
        $crate::replica_book_conformance!($book;
            a_replica_is_found_until_it_is_withdrawn,
            what_is_no_replica_is_not_written_in,
            silent_replicas_are_forgotten_and_no_others,
            racing_for_a_lease_has_one_holder,
            a_lease_is_kept_by_renewing_it,
            a_released_lease_is_free_and_its_term_is_over,
            a_replaced_holder_publishes_nothing,
            a_publication_is_the_next_one_or_none,
            racing_to_publish_has_one_winner,
            a_lease_is_free_from_its_end_on_and_not_before,
        );
    };
    ($book:expr; $($test:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                $crate::conformance::replicas::$test(&$book);
            }
        )*
    };
}

const T0: Timestamp = Timestamp::from_seconds(1_800_000_000);
const ONE: OwnerId = OwnerId::from_bytes(*b"process number 1");
const TWO: OwnerId = OwnerId::from_bytes(*b"process number 2");
const LEADER: LeaseName = LeaseName::LEADER;
const OTHER: LeaseName = LeaseName::new("conformance");

fn replica(owner: OwnerId) -> Replica {
    Replica {
        owner,
        address: "gateway-1.internal:8402".to_owned(),
        key: ReplicaKey::from_bytes([7; 32]),
        version: "1.2.3".to_owned(),
        draining: false,
        seen: T0,
    }
}

fn take(book: &dyn ReplicaBook, name: LeaseName, owner: OwnerId, now: Timestamp) -> Claim {
    book.take_lease(name, owner, 60, now).unwrap()
}

fn held(claim: Claim) -> HeldLease {
    let Claim::Held(lease) = claim else { panic!("{claim:?}") };
    lease
}

fn latest(book: &dyn ReplicaBook, name: LeaseName) -> Published {
    book.published(name, 0).unwrap().expect("something is published")
}

/// Apart from the time at which it was seen, which is the book's to say.
pub fn a_replica_is_found_until_it_is_withdrawn(book: &dyn ReplicaBook) {
    let same = |found: Option<Replica>, wanted: &Replica| {
        let found = found.expect("the replica is in the book");
        assert_eq!(&Replica { seen: wanted.seen, ..found }, wanted);
    };
    assert_eq!(book.replica(&ONE).unwrap(), None);
    assert!(book.replicas(T0).unwrap().0.is_empty());
    book.announce(&replica(TWO), T0).unwrap();
    book.announce(&replica(ONE), T0).unwrap();
    same(book.replica(&ONE).unwrap(), &replica(ONE));
    let changed = Replica { draining: true, address: "10.0.0.7:1".to_owned(), ..replica(ONE) };
    book.announce(&changed, T0).unwrap();
    same(book.replica(&ONE).unwrap(), &changed);
    let (all, now) = book.replicas(T0).unwrap();
    assert_eq!(all.iter().map(|found| found.owner).collect::<Vec<_>>(), [ONE, TWO]);
    assert!(all.iter().all(|found| !found.is_silent(now, 60)));
    book.withdraw(&ONE).unwrap();
    book.withdraw(&ONE).unwrap();
    assert_eq!(book.replica(&ONE).unwrap(), None);
    same(book.replica(&TWO).unwrap(), &replica(TWO));
}

/// Nothing is written of it.
pub fn what_is_no_replica_is_not_written_in(book: &dyn ReplicaBook) {
    let address = |address: String| Replica { address, ..replica(ONE) };
    let version = |version: String| Replica { version, ..replica(ONE) };
    let bad = [
        address(String::new()),
        address("a b:1".to_owned()),
        address("a:1\n".to_owned()),
        address("é:1".to_owned()),
        address("a".repeat(256)),
        version(String::new()),
        version("1\u{0}".to_owned()),
        version("1".repeat(65)),
    ];
    for replica in bad {
        assert!(matches!(book.announce(&replica, T0), Err(StoreError::BadRecord(_))), "{replica:?}");
    }
    assert_eq!(book.replica(&ONE).unwrap(), None);
    book.announce(&Replica { address: "a".repeat(255), version: "1".repeat(64), ..replica(ONE) }, T0).unwrap();
}

/// Needs the caller's clock.
pub fn silent_replicas_are_forgotten_and_no_others(book: &dyn ReplicaBook) {
    book.announce(&replica(ONE), T0).unwrap();
    book.announce(&replica(TWO), T0.after(10)).unwrap();
    assert_eq!(book.forget_silent(20, T0.after(19)).unwrap(), 0);
    assert_eq!(book.forget_silent(20, T0.after(20)).unwrap(), 1);
    assert_eq!(book.replica(&ONE).unwrap(), None);
    assert_eq!(book.replica(&TWO).unwrap().unwrap().seen, T0.after(10));
}

/// And the others are told of it.
pub fn racing_for_a_lease_has_one_holder(book: &dyn ReplicaBook) {
    let barrier = Barrier::new(8);
    let claims: Vec<_> = std::thread::scope(|scope| {
        let claim = |number: u8| {
            barrier.wait();
            take(book, LEADER, OwnerId::from_bytes([number; 16]), T0)
        };
        let threads: Vec<_> = (1..=8).map(|number| scope.spawn(move || claim(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let holder = book.lease(LEADER).unwrap().expect("it is taken");
    assert_eq!(holder.term, 1);
    assert_eq!(claims.iter().filter(|claim| **claim == Claim::Held(holder)).count(), 1);
    assert_eq!(claims.iter().filter(|claim| **claim == Claim::Refused(holder)).count(), 7);
    // Another lease is another's.
    assert_eq!(held(take(book, OTHER, TWO, T0)).owner, TWO);
}

/// With the same term.
pub fn a_lease_is_kept_by_renewing_it(book: &dyn ReplicaBook) {
    assert_eq!(book.lease(LEADER).unwrap(), None);
    let first = held(take(book, LEADER, ONE, T0));
    let second = held(take(book, LEADER, ONE, T0.after(30)));
    assert_eq!((first.term, second.term), (1, 1));
    assert!(second.until >= first.until);
    assert_eq!(take(book, LEADER, TWO, T0.after(31)), Claim::Refused(second));
    assert_eq!(book.lease(LEADER).unwrap(), Some(second));
    for seconds in [0, HeldLease::MAX_SECONDS + 1, u64::MAX] {
        let refused = book.take_lease(OTHER, ONE, seconds, T0);
        assert!(matches!(refused, Err(StoreError::BadRecord(_))), "{seconds} {refused:?}");
    }
    assert_eq!(book.lease(OTHER).unwrap(), None);
}

/// Whether the same replica takes it or another.
pub fn a_released_lease_is_free_and_its_term_is_over(book: &dyn ReplicaBook) {
    let first = held(take(book, LEADER, ONE, T0));
    assert!(!book.release_lease(&HeldLease { owner: TWO, ..first }).unwrap());
    assert!(!book.release_lease(&HeldLease { term: 2, ..first }).unwrap());
    assert!(!book.release_lease(&HeldLease { name: OTHER, ..first }).unwrap());
    assert_eq!(book.lease(LEADER).unwrap(), Some(first));
    assert!(book.release_lease(&first).unwrap());
    assert!(!book.release_lease(&first).unwrap());
    assert_eq!(book.lease(LEADER).unwrap(), None);
    let second = held(take(book, LEADER, TWO, T0));
    assert_eq!((second.owner, second.term), (TWO, 2));
    assert!(!book.release_lease(&first).unwrap(), "it is of another term");
    assert!(book.release_lease(&second).unwrap());
    assert_eq!(held(take(book, LEADER, TWO, T0)).term, 3);
}

/// Even while it believes that it still is the holder.
pub fn a_replaced_holder_publishes_nothing(book: &dyn ReplicaBook) {
    let first = held(take(book, LEADER, ONE, T0));
    assert_eq!(book.publish(&first, 1, b"one").unwrap(), Publication::Done);
    assert!(book.release_lease(&first).unwrap());
    assert_eq!(book.publish(&first, 2, b"late").unwrap(), Publication::NotHolder);
    let second = held(take(book, LEADER, TWO, T0));
    assert_eq!(book.publish(&first, 2, b"late").unwrap(), Publication::NotHolder);
    assert_eq!(book.publish(&HeldLease { owner: ONE, ..second }, 2, b"late").unwrap(), Publication::NotHolder);
    assert_eq!(latest(book, LEADER), Published { revision: 1, term: 1, bytes: b"one".to_vec() });
    assert_eq!(book.publish(&second, 2, b"two").unwrap(), Publication::Done);
    assert_eq!(latest(book, LEADER), Published { revision: 2, term: 2, bytes: b"two".to_vec() });
    assert_eq!(book.published(OTHER, 0).unwrap(), None);
}

/// The same one again is no harm: its answer was lost.
pub fn a_publication_is_the_next_one_or_none(book: &dyn ReplicaBook) {
    let lease = held(take(book, LEADER, ONE, T0));
    assert_eq!(book.published(LEADER, 0).unwrap(), None);
    for revision in [0, 2, u64::MAX] {
        assert_eq!(book.publish(&lease, revision, b"x").unwrap(), Publication::Conflict(0));
    }
    assert_eq!(book.publish(&lease, 1, b"").unwrap(), Publication::Done);
    assert_eq!(book.publish(&lease, 1, b"").unwrap(), Publication::Done);
    assert_eq!(book.publish(&lease, 1, b"other").unwrap(), Publication::Conflict(1));
    assert_eq!(book.published(LEADER, 1).unwrap(), None, "nothing that is not known");
    let long = vec![1; Published::MAX_LENGTH];
    assert_eq!(book.publish(&lease, 2, &long).unwrap(), Publication::Done);
    assert_eq!(latest(book, LEADER).bytes, long);
    let longer = vec![1; Published::MAX_LENGTH + 1];
    assert!(matches!(book.publish(&lease, 3, &longer), Err(StoreError::BadRecord(_))));
}

/// Threads of one holder.
pub fn racing_to_publish_has_one_winner(book: &dyn ReplicaBook) {
    let lease = held(take(book, LEADER, ONE, T0));
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let publish = |number: u8| book.publish(&lease, 1, &[number]).unwrap();
        let threads: Vec<_> = (1..=8).map(|number| scope.spawn(move || publish(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let winner = latest(book, LEADER).bytes[0];
    for (number, outcome) in (1..).zip(outcomes) {
        assert_eq!(outcome, if number == winner { Publication::Done } else { Publication::Conflict(1) });
    }
}

/// Needs the caller's clock.
pub fn a_lease_is_free_from_its_end_on_and_not_before(book: &dyn ReplicaBook) {
    let first = held(take(book, LEADER, ONE, T0));
    assert_eq!(first.until, T0.after(60));
    assert_eq!(take(book, LEADER, TWO, T0.after(59)), Claim::Refused(first));
    // A clock that is behind takes nothing from anybody.
    assert_eq!(take(book, LEADER, TWO, T0.before(1_000)), Claim::Refused(first));
    // Over, but taken by nobody: no other can have published meanwhile.
    assert_eq!(book.publish(&first, 1, b"late, but alone").unwrap(), Publication::Done);
    let second = held(take(book, LEADER, TWO, T0.after(60)));
    assert_eq!((second.term, second.until), (2, T0.after(120)));
    assert_eq!(take(book, LEADER, ONE, T0.after(61)), Claim::Refused(second));
    let third = held(take(book, LEADER, TWO, T0.after(500)));
    assert_eq!(third.term, 3, "what was over is taken anew, even by the same");
}
