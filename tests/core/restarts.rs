//! Wallets that begin with what a journal has: after a crash, from a copy, from a backup (protocol, section 5, "Journal").

use halometer::circuits::note::Nullifier;
use halometer::protocol::*;
use halometer::store::SpentSet as _;
use halometer::wallet::{
    DisputeKind, Heard, Journal as _, LaneId, LaneStatus, MemoryJournal, OpenError, PaymentEntry, PlanError, Pursued,
    PursuitStep, RootSecret, Wallet,
};

use crate::world::*;

fn reopened(world: &World, journal: MemoryJournal) -> Result<Wallet, OpenError> {
    let (root, device) = (RootSecret::from_bytes([1; 32]), DeviceId::from_bytes([0; 8]));
    Wallet::new(root, device, world.root.public_key(), world.issuer.signed_directory(), journal)
}

/// What the issuer answers to the wallet's questions.
fn ask(world: &World, wallet: &mut Wallet, now: Timestamp) -> Vec<LaneId> {
    let mut frozen = Vec::new();
    for epoch in wallet.unchecked_epochs(now) {
        let all = world.set.scan(epoch, None, usize::MAX).unwrap();
        let all: Vec<Nullifier> = all.into_iter().map(|record| record.key.nullifier).collect();
        for question in wallet.questions(epoch, all.len() as u64, T0) {
            frozen.extend(wallet.answer(&question, &all, now).unwrap());
        }
    }
    frozen
}

fn status(wallet: &Wallet, lane: LaneId) -> LaneStatus {
    wallet.lanes().find(|(id, _)| *id == lane).unwrap().1
}

#[test]
fn a_wallet_is_the_same_after_every_stage_of_a_call() {
    let world = World::new();
    // Funded, not spent.
    let mut wallet = world.funded(1);
    let before = wallet.balance();
    wallet = reopened(&world, wallet.into_journal()).unwrap();
    assert_eq!(wallet.balance().unchecked, before.available);
    assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(10), T0), Err(PlanError::Unchecked(_))));
    assert_eq!(ask(&world, &mut wallet, T0), []);
    assert_eq!(wallet.balance(), before);

    // Pinned, whether sent or not: the same spend, and only it.
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let waiting = wallet.balance();
    wallet = reopened(&world, wallet.into_journal()).unwrap();
    assert_eq!(ask(&world, &mut wallet, T0), []);
    assert_eq!(wallet.balance(), waiting);
    assert_eq!(wallet.resend(&paid.key, &request()).unwrap().opening, paid.opening);
    assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(10), T0), Err(PlanError::InFlight(_))));
    assert_eq!(wallet.pursuits(T0), [(paid.key, PursuitStep::Fetch)], "it is pursued by itself");

    // Settled, and the settlement taken.
    let settled = world.settle(&world.admit(&paid), 3);
    wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    assert!(matches!(status(&wallet, LANE0), LaneStatus::Unchecked { .. }), "a copy may have taken it too");
    wallet = reopened(&world, wallet.into_journal()).unwrap();
    assert_eq!(ask(&world, &mut wallet, T0), []);
    assert_eq!(status(&wallet, LANE0), LaneStatus::Idle { value: micro(57), epoch: EPOCH[0] });
    let again = pay(&mut wallet, LANE0, 20, T0);
    assert_eq!(world.settle(&world.admit(&again), 20).settlement().refund, Credits::ZERO);
}

#[test]
fn both_halves_of_a_transfer_survive_a_crash() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let sent = send(&mut wallet, [LANE0, LANE1], 20, T0);
    wallet = reopened(&world, wallet.into_journal()).unwrap();
    let again = wallet.resend_transfer(&sent.keys[1], &errand()).unwrap();
    assert_eq!(again.transfer, sent.transfer);
    world.moved(&mut wallet, &again, T0);
    ask(&world, &mut wallet, T0);
    assert_eq!(worth(&wallet), [Some(40), Some(60)]);
    // And a crash after only one half was taken.
    let sent = send(&mut wallet, [LANE1, LANE0], 10, T0);
    let halves = both(world.transfer(&sent.transfer, T0));
    wallet.accept(&sent.keys[0], halves[0].settlement(), T0).unwrap();
    wallet = reopened(&world, wallet.into_journal()).unwrap();
    wallet.accept(&sent.keys[1], halves[1].settlement(), T0).unwrap();
    ask(&world, &mut wallet, T0);
    assert_eq!(worth(&wallet), [Some(50), Some(50)]);
}

/// Copies of the journal at every stage of a spend, opened while the original goes on. (That a copy is opened at all takes an
/// owner that insists: the wallet's file knows where it belongs.)
#[test]
fn a_copy_freezes_what_the_original_has_spent() {
    let world = World::new();
    let mut original = world.funded(1);
    let copies = |original: &Wallet| original.journal().clone();
    let mut taken = vec![copies(&original)];
    let paid = pay(&mut original, LANE0, 10, T0);
    taken.push(copies(&original));
    let admitted = world.admit(&paid);
    taken.push(copies(&original));
    original.accept(&paid.key, world.settle(&admitted, 3).settlement(), T0).unwrap();
    taken.push(copies(&original));
    let next = pay(&mut original, LANE0, 10, T0);
    original.accept(&next.key, world.settle(&world.admit(&next), 3).settlement(), T0).unwrap();
    taken.push(copies(&original));

    for (stage, journal) in taken.into_iter().enumerate() {
        let mut copy = reopened(&world, journal).unwrap();
        // Before it may send anything it asks.
        assert!(copy.plan(LANE0, &GATEWAY, micro(10), T0).is_err(), "{stage}");
        let frozen = ask(&world, &mut copy, T0);
        match stage {
            // The first note, which the original spent.
            0 => assert_eq!(frozen, [LANE0]),
            // The original's own spend is in flight here too: it is the same one, and its settlement is fetched.
            1 | 2 => {
                assert_eq!((frozen.len(), copy.pursuits(T0)), (0, vec![(paid.key, PursuitStep::Fetch)]));
                let settled = world.gateway.fetch(&copy.fetch(&paid.key, &errand()).unwrap(), &errand()).unwrap();
                let halometer::gateway::Fetched::Settled(settled) = settled else { panic!() };
                let heard = Heard::Settlement(settled.settlement().clone());
                let pursued = copy.heard(&paid.key, PursuitStep::Fetch, &heard, T0, &mut rng(1)).unwrap();
                assert!(matches!(pursued, Pursued::Settled(_)));
                // But the change may be spent by now, and it is.
                assert!(matches!(copy.plan(LANE0, &GATEWAY, micro(10), T0), Err(PlanError::Unchecked(_))));
                assert_eq!(ask(&world, &mut copy, T0), [LANE0]);
            }
            3 => assert_eq!(frozen, [LANE0]),
            _ => assert_eq!(frozen, [], "the newest copy is not stale"),
        }
        if stage < 4 {
            assert!(matches!(status(&copy, LANE0), LaneStatus::Frozen { .. }));
            assert!(matches!(copy.plan(LANE0, &GATEWAY, micro(10), T0), Err(PlanError::Frozen(_))));
            // For ever, also after another start.
            let copy = reopened(&world, copy.into_journal()).unwrap();
            assert!(matches!(status(&copy, LANE0), LaneStatus::Frozen { .. }));
            assert!(matches!(copy.plan(LANE0, &GATEWAY, micro(10), T0.after(DAY)), Err(PlanError::Frozen(_))));
        }
    }
}

#[test]
fn a_payment_that_is_minted_again_from_a_backup_is_asked_about() {
    let world = World::new();
    let mut original = world.wallet(1);
    // The backup is of a time before the mint.
    let payment = PaymentId::from_bytes([1; 32]);
    let backup = original.journal().clone();
    world.fund(&mut original, payment);
    let paid = pay(&mut original, LANE0, 10, T0);
    world.settle(&world.admit(&paid), 3);

    let mut restored = reopened(&world, backup).unwrap();
    let minted = world.issuer.mint(&restored.request_mint(payment, sixty_and_forty(), T0).unwrap(), T0).unwrap();
    restored.accept_mint(&payment, &minted, T0).unwrap();
    assert!(matches!(restored.plan(LANE0, &GATEWAY, micro(10), T0), Err(PlanError::Unchecked(_))));
    assert_eq!(ask(&world, &mut restored, T0), [LANE0]);
}

#[test]
fn an_answer_frees_only_the_lanes_that_it_covers() {
    let world = World::new();
    let mut wallet = reopened(&world, world.funded(1).into_journal()).unwrap();
    // So many are spent that questions are about parts of them.
    let questions = wallet.questions(EPOCH[0], 1 << 24, T0);
    assert!(questions.len() > 1 && questions.iter().all(|question| question.prefix.bits() == 12));
    assert!(questions.is_sorted(), "not in the order of lanes");
    wallet.answer(&questions[0], &[], T0).unwrap();
    assert_eq!(wallet.unchecked_epochs(T0), [EPOCH[0]]);
    assert_eq!(wallet.unchecked_epochs(T0.after(30 * DAY)), [], "of what is over nobody knows any more");
    let unchecked = wallet.lanes().filter(|(_, status)| matches!(status, LaneStatus::Unchecked { .. })).count();
    assert!((1..LANES).contains(&unchecked), "{unchecked}");
    // Nor does one about another epoch.
    let other = halometer::wallet::Question { epoch: EPOCH[1], prefix: Prefix::WHOLE };
    wallet.answer(&other, &[], T0).unwrap();
    assert_eq!(wallet.questions(EPOCH[0], 1 << 24, T0).len(), questions.len() - 1);
}

#[test]
fn the_number_of_a_payment_is_never_used_again() {
    let world = World::new();
    let mut wallet = world.wallet(1);
    let first = wallet.request_mint(PaymentId::from_bytes([1; 32]), sixty_and_forty(), T0).unwrap();
    let mut wallet = reopened(&world, wallet.into_journal()).unwrap();
    let second = wallet.request_mint(PaymentId::from_bytes([2; 32]), sixty_and_forty(), T0).unwrap();
    assert_ne!(first.account, second.account, "one account for two payments links them");
    let again = wallet.request_mint(PaymentId::from_bytes([1; 32]), sixty_and_forty(), T0).unwrap();
    assert_eq!(first.account, again.account);
}

#[test]
fn a_journal_of_another_wallet_is_refused() {
    let world = World::new();
    let mut wallet = world.funded(2);
    pay(&mut wallet, LANE0, 10, T0);
    // Under another root secret its memos do not open; under another device they say so.
    let stolen = wallet.journal().clone();
    assert!(matches!(reopened(&world, stolen), Err(OpenError::Damaged(_))));
    let (root, device) = (RootSecret::from_bytes([2; 32]), DeviceId::from_bytes([9; 8]));
    let journal = wallet.into_journal();
    let opened = Wallet::new(root, device, world.root.public_key(), world.issuer.signed_directory(), journal);
    assert!(matches!(opened, Err(OpenError::Damaged(_))));
}

#[test]
fn a_restart_keeps_contradictions_and_refuses_older_directories() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let sign = |serial, session_seconds| {
        let limits = Limits { session_seconds };
        let published = T0.after(serial * HOUR);
        let parts = DirectoryParts { serial, published, limits, ..directory_parts() };
        SignedDirectory::sign(&Directory::new(parts).unwrap(), &world.root).unwrap()
    };
    let serial = wallet.directory().parts().serial;
    wallet.adopt(&sign(serial + 2, 600)).unwrap();
    assert!(matches!(wallet.adopt(&sign(serial + 1, 600)), Err(OpenError::Directory(DirectoryError::Stale))));
    let contradiction = wallet.adopt(&sign(serial + 2, 300));
    assert!(matches!(contradiction, Err(OpenError::Directory(DirectoryError::Contradiction))));
    let disputes = wallet.journal().disputes().unwrap();
    assert_eq!((disputes.len(), disputes[0].kind), (1, DisputeKind::TwoDirectories));
    assert_eq!(disputes[0].directories.len(), 2);
    // The issuer shows the old one at the next start.
    let old = reopened(&world, wallet.into_journal());
    assert!(matches!(old, Err(OpenError::Directory(DirectoryError::Stale))));
}

#[test]
fn a_gateway_that_denies_a_spend_is_disputed_and_asked_again() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    wallet.release(&paid.key);
    let mut now = T0;
    let denied = Heard::Problem(Problem::AlreadySpent);
    for _ in 0..2 {
        let (key, step) = wallet.pursuits(now)[0];
        assert_eq!(key, paid.key);
        let Pursued::Again(next) = wallet.heard(&key, step, &denied, now, &mut rng(1)).unwrap() else { panic!() };
        now = next;
    }
    let disputes = wallet.journal().disputes().unwrap();
    assert_eq!((disputes.len(), disputes[0].kind), (1, DisputeKind::Denied));
    assert!(!disputes[0].kind.is_shown(), "a wallet's word alone convicts nobody");
    assert_eq!(disputes[0].spend.as_deref(), Some(&paid.opening[..Spend::LENGTH]));
    assert!(matches!(status(&wallet, LANE0), LaneStatus::InFlight { disputed: true, .. }));
    // The truth is taken whenever it comes.
    let (key, step) = wallet.pursuits(now)[0];
    let settled = world.settle(&world.admit(&paid), 3);
    let heard = Heard::Settlement(settled.settlement().clone());
    assert!(matches!(wallet.heard(&key, step, &heard, now, &mut rng(1)).unwrap(), Pursued::Settled(_)));
    assert!(wallet.pursuits(Timestamp::MAX).is_empty() && wallet.next_pursuit().is_none());
}

#[test]
fn a_call_that_is_waited_for_is_not_pursued() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    assert!(wallet.pursuits(Timestamp::MAX).is_empty());
    wallet.release(&paid.key);
    assert_eq!(wallet.pursuits(T0), [(paid.key, PursuitStep::Fetch)]);
}

#[test]
fn a_clock_that_was_years_ahead_holds_no_pursuit_up() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    wallet.release(&paid.key);
    let ahead = T0.after(20 * 365 * DAY);
    for _ in 0..20 {
        wallet.heard(&paid.key, PursuitStep::Fetch, &Heard::Nothing, ahead, &mut rng(1)).unwrap();
    }
    assert!(wallet.pursuits(ahead).is_empty(), "by that clock it is not due yet");
    assert_eq!(wallet.pursuits(T0), [(paid.key, PursuitStep::Fetch)], "by the right one it is");
    wallet.heard(&paid.key, PursuitStep::Fetch, &Heard::Nothing, T0, &mut rng(1)).unwrap();
    assert!(wallet.pursuits(T0).is_empty());
}

/// Nobody but the wallet writes its journal; but a holder of a move's code can make a whole wallet for it.
#[test]
fn a_journal_whose_numbers_are_out_of_range_is_refused() {
    let world = World::new();
    let mut journal = world.funded(1).into_journal();
    let (payment, minted) = (PaymentId::from_bytes([7; 32]), None);
    let amounts = sixty_and_forty();
    let last =
        PaymentEntry { number: u64::MAX, payment, amounts, requested_at: None, minted, seal: None, origin: None };
    journal.put_payment(&last).unwrap();
    assert!(matches!(reopened(&world, journal), Err(OpenError::Damaged(_))), "there is no number after it");

    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let mut settlement = world.settle(&world.admit(&paid), 3).settlement().clone();
    settlement.refund = micro(u64::MAX);
    let mut journal = wallet.into_journal();
    journal.settle(&[(paid.key, settlement)]).unwrap();
    assert!(matches!(reopened(&world, journal), Err(OpenError::Damaged(_))), "no note is worth so much");
}
