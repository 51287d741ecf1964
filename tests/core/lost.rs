//! A set that was put back, or that lies, lacks spends that it settled: the wallet notices, and an honest set is never accused
//! (protocol, section 5, "Journal").

use std::sync::Arc;

use halometer::circuits::note::Nullifier;
use halometer::protocol::*;
use halometer::store::{MemorySpentSet, SpentSet};
use halometer::wallet::{
    AnswerTime, Dispute, DisputeKind, Expected, HeardNote, Journal as _, LaneId, NotShown, Question, Wallet,
};

use crate::world::*;

const WHOLE: Question = Question { epoch: EPOCH[0], prefix: Prefix::WHOLE };
const LANE1: LaneId = LaneId { payment: 0, lane: 1 };

fn at(asked: Timestamp) -> AnswerTime {
    AnswerTime { asked, age: 0 }
}

/// All that a set has in the first epoch, as it would answer.
fn told(set: &dyn SpentSet) -> Vec<Nullifier> {
    set.bucket(EPOCH[0], Prefix::WHOLE, None, usize::MAX).unwrap()
}

/// Pays, has it settled at 3, and takes settlement and receipt at that time.
fn call(world: &World, wallet: &mut Wallet, lane: LaneId, time: Timestamp) -> SpendKey {
    let paid = pay(wallet, lane, 10, T0);
    let settled = world.settle(&world.admit(&paid), 3);
    let accepted = wallet.accept(&paid.key, settled.settlement(), time).unwrap();
    let subject =
        ReceiptSubject { issuer: wallet.issuer(), gateway: GATEWAY, spend: paid.key, content: request().content() };
    let key = GatewaySigningKey::from_bytes(&[10; 32]);
    let receipt = Receipt::sign(&key, &subject, vec![("token".to_owned(), 25)], micro(3), [3; 16]).unwrap();
    wallet.take_receipt(&paid.key, &accepted, Some(&receipt.to_bytes()), time).unwrap();
    paid.key
}

fn expected(wallet: &Wallet) -> Expected {
    wallet.expected(&GATEWAY, EPOCH[0]).unwrap()
}

fn accused(wallet: &mut Wallet, missing: &Expected) -> (usize, Vec<Dispute>) {
    let heard = HeardNote { at: T0, what: "asked".to_owned() };
    let kept = wallet.accuse(missing, &[heard], T0).unwrap();
    (kept, wallet.journal().disputes().unwrap())
}

#[test]
fn a_set_that_was_put_back_is_convicted_by_its_own_answer() {
    let world = World::new();
    let mut wallet = world.funded(1);
    // As it is restored later: with one call, and without the other.
    let before = call(&world, &mut wallet, LANE0, T0);
    let restored = told(&*world.set);
    let lost = call(&world, &mut wallet, LANE1, T0);
    let all = expected(&wallet);
    assert_eq!(all.len(), 2);
    assert!(all.missing(&WHOLE, &told(&*world.set), at(T0)).is_empty(), "the set has both");
    let missing = all.missing(&WHOLE, &restored, at(T0));
    assert_eq!(missing.len(), 1);
    let (kept, disputes) = accused(&mut wallet, &missing);
    let [dispute] = &disputes[..] else { panic!("{disputes:?}") };
    assert_eq!((kept, dispute.kind, dispute.gateway), (1, DisputeKind::Lost, Some(GATEWAY)));
    assert_eq!(Dispute::from_json(&dispute.to_json()).unwrap(), *dispute);
    assert_eq!(accused(&mut wallet, &missing).0, 0, "it is kept once");

    // A judge that believes nobody asks the gateway itself.
    let root = world.root.public_key();
    let prefix = Prefix::of(&lost.nullifier, 12);
    assert_eq!(dispute.verify(&root), Err(NotShown::Ask { epoch: EPOCH[0], prefix }));
    let of = |prefix: Prefix, from: &[Nullifier]| -> Vec<Nullifier> {
        from.iter().copied().filter(|nullifier| prefix.is_of(nullifier)).collect()
    };
    assert_eq!(dispute.verify_lost(&root, prefix, &of(prefix, &restored)), Ok(()));
    assert_eq!(dispute.verify_lost(&root, Prefix::WHOLE, &restored), Ok(()));
    assert_eq!(dispute.verify_lost(&root, prefix, &of(prefix, &told(&*world.set))), Err(NotShown::Nothing));
    let other = Prefix::new(12, prefix.value() ^ 1).unwrap();
    assert_eq!(dispute.verify_lost(&root, other, &[]), Err(NotShown::OtherAnswer(prefix)));
    // Altered, or without what it needs, it shows nothing whatever is answered.
    let changed = |change: &dyn Fn(&mut Dispute)| {
        let mut changed = dispute.clone();
        change(&mut changed);
        changed.verify_lost(&root, prefix, &[]).unwrap_err()
    };
    assert_eq!(changed(&|d| d.receipt = None), NotShown::Missing("receipt"));
    assert_eq!(changed(&|d| d.settlement = None), NotShown::Missing("settlement"));
    assert_eq!(changed(&|d| d.settlement.as_mut().unwrap().refund = micro(6)), NotShown::Settlement);
    assert_eq!(changed(&|d| d.content = Some(ContentDigest::of(b"another"))), NotShown::Receipt);
    assert_eq!(changed(&|d| d.kind = DisputeKind::Withheld), NotShown::Word);
    assert_eq!(changed(&|d| d.directories.clear()), NotShown::Missing("directory"));
    assert_ne!(before, lost);
}

#[test]
fn a_set_made_anew_lacks_all_and_a_few_disputes_say_so() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let mut time = T0;
    for _ in 0..3 {
        time = time.after(1);
        call(&world, &mut wallet, LANE0, time);
    }
    for _ in 0..2 {
        call(&world, &mut wallet, LANE1, time);
    }
    let empty = Arc::new(MemorySpentSet::new());
    empty.create(EPOCH[0]).unwrap();
    let missing = expected(&wallet).missing(&WHOLE, &told(&*empty), at(time));
    assert_eq!(missing.len(), 5);
    let (kept, disputes) = accused(&mut wallet, &missing);
    assert_eq!((kept, disputes.len()), (5, 5));
}

#[test]
fn what_is_settled_after_the_list_was_taken_is_not_expected() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let listed = expected(&wallet);
    let answered = told(&*world.set);
    call(&world, &mut wallet, LANE0, T0);
    assert!(listed.missing(&WHOLE, &answered, at(T0)).is_empty());
    // One that is in flight may be in the set or not.
    let listed = expected(&wallet);
    pay(&mut wallet, LANE1, 10, T0);
    assert_eq!(expected(&wallet), listed);
}

#[test]
fn only_what_this_gateway_settled_and_was_asked_for_is_expected() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let key = call(&world, &mut wallet, LANE0, T0);
    assert!(wallet.expected(&OTHER_GATEWAY, EPOCH[0]).unwrap().is_empty());
    assert!(wallet.expected(&GATEWAY, EPOCH[1]).unwrap().is_empty());
    let all = expected(&wallet);
    let prefix = Prefix::of(&key.nullifier, 12);
    let other = Prefix::new(12, prefix.value() ^ 1).unwrap();
    assert!(all.missing(&Question { prefix: other, ..WHOLE }, &[], at(T0)).is_empty());
    assert!(all.missing(&Question { epoch: EPOCH[1], ..WHOLE }, &[], at(T0)).is_empty());
    assert_eq!(all.missing(&Question { prefix, ..WHOLE }, &[], at(T0)).len(), 1);
}

#[test]
fn an_answer_that_was_kept_accuses_of_what_is_older_only() {
    let world = World::new();
    let mut wallet = world.funded(1);
    call(&world, &mut wallet, LANE0, T0);
    call(&world, &mut wallet, LANE1, T0.after(100));
    let all = expected(&wallet);
    let lacking = |seconds, age| all.missing(&WHOLE, &[], AnswerTime { asked: T0.after(seconds), age }).len();
    assert_eq!(lacking(200, 0), 2);
    assert_eq!(lacking(200, 98), 2);
    // It may have been made in the second in which the other was settled.
    assert_eq!(lacking(200, 100), 1);
    assert_eq!(lacking(200, 198), 1);
    assert_eq!(lacking(200, 200), 0);
    // What nothing is known of may be of any age.
    assert_eq!(lacking(200, u64::MAX), 0);
}

#[test]
fn a_time_that_was_not_written_down_is_that_of_the_next_spend() {
    let world = World::new();
    let mut wallet = world.funded(1);
    // Settled in pursuit, which writes no time.
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let settled = world.settle(&world.admit(&paid), 3);
    wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    let kept = AnswerTime { asked: T0.after(300), age: 100 };
    assert!(expected(&wallet).missing(&WHOLE, &[], kept).is_empty(), "nobody knows when");
    assert_eq!(expected(&wallet).missing(&WHOLE, &[], at(T0)).len(), 1);
    pay(&mut wallet, LANE0, 5, T0.after(10));
    assert_eq!(expected(&wallet).missing(&WHOLE, &[], kept).len(), 1, "the lane went on from there");
}
