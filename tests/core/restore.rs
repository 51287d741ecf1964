//! A wallet restored from its root secret alone, with the lost device dead or alive, and with parties that lie (protocol, section 7).

use std::collections::HashSet;

use halometer::circuits::note::Nullifier;
use halometer::gateway::Opened;
use halometer::protocol::*;
use halometer::store::{RecordState, SpentSet as _};
use halometer::testing::Past;
use halometer::wallet::{
    Balance, ChangeTold, LaneFound, LaneId, LaneStatus, MemoryJournal, PlanError, Restore, RestoreError,
    RestoreOptions, RestoreQuestion, Restored, RootSecret, Wallet,
};

use crate::world::*;

/// When the restores are: the lost device has been silent for an hour.
const LATER: Timestamp = T0.after(HOUR);

fn root() -> RootSecret {
    RootSecret::from_bytes([1; 32])
}

fn begin(world: &World, options: &RestoreOptions, now: Timestamp) -> Restore {
    Restore::new(root(), world.root.public_key(), world.issuer.signed_directory(), options, now).unwrap()
}

/// Answers one question as the parties do who hide these nullifiers, and give nothing else of them.
fn answer(world: &World, restore: &mut Restore, hidden: &HashSet<[u8; 32]>) -> Option<Result<(), RestoreError>> {
    let shown = |nullifier: &Nullifier| !hidden.contains(&nullifier.to_bytes());
    let question = match restore.question() {
        Ok(question) => question?,
        Err(error) => return Some(Err(error)),
    };
    let record = |query: &MemoQuery| world.set.find(query.epoch, &query.nullifier).unwrap().unwrap();
    Some(match question {
        RestoreQuestion::Mints(query) => restore.minted(world.issuer.minted(&query).unwrap()),
        RestoreQuestion::Count(epoch) => {
            let records = world.set.scan(epoch, None, usize::MAX).ok();
            restore.counted(records.map(|records| records.len() as u64))
        }
        RestoreQuestion::Bucket(question) => {
            let spent = world.set.bucket(question.epoch, question.prefix, None, usize::MAX).unwrap();
            restore.bucket(spent.into_iter().filter(shown))
        }
        RestoreQuestion::Memo(query) => restore.memo(Some(&record(&query).memo)),
        RestoreQuestion::Change(query) => {
            let record = record(&query.spend);
            assert!(query.reads(&record.memo), "it shows that it reads the memo");
            restore.change(match record.state {
                RecordState::Settled(settlement) => ChangeTold::Settled(settlement),
                _ => ChangeTold::Running,
            })
        }
        other => panic!("{other:?}"),
    })
}

fn run(world: &World, mut restore: Restore, hidden: &HashSet<[u8; 32]>) -> Result<Restore, RestoreError> {
    while let Some(taken) = answer(world, &mut restore, hidden) {
        taken?;
    }
    Ok(restore)
}

fn restored_at(world: &World, now: Timestamp) -> Restored {
    let restore = run(world, begin(world, &RestoreOptions::default(), now), &HashSet::new()).unwrap();
    restore.finish(now, &mut rng(9)).unwrap()
}

fn restored(world: &World) -> Restored {
    restored_at(world, LATER)
}

fn wallet(restored: Restored) -> Wallet {
    restored.into_wallet(MemoryJournal::new()).unwrap()
}

/// Asks about the notes of the wallet, as any does that begins with a file. Gives what is frozen.
fn ask(world: &World, wallet: &mut Wallet, now: Timestamp) -> Vec<LaneId> {
    let mut frozen = Vec::new();
    for epoch in wallet.unchecked_epochs(now) {
        let all = world.set.bucket(epoch, Prefix::WHOLE, None, usize::MAX).unwrap();
        for question in wallet.questions(epoch, all.len() as u64, now) {
            frozen.extend(wallet.answer(&question, &all, now).unwrap());
        }
    }
    frozen
}

/// A call of the lane that costs so much, and its settlement.
fn call(world: &World, wallet: &mut Wallet, lane: LaneId, cost: u64, now: Timestamp) {
    let paid = pay(wallet, lane, 10, now);
    let admitted = admitted(world.open(&paid, now));
    let settled = world.issuer.settle(&*world.set, &admitted, micro(cost), now).unwrap();
    wallet.accept(&paid.key, settled.settlement(), now).unwrap();
}

fn all_of(balance: &Balance) -> Credits {
    Credits::from_micro(u64::try_from(balance.total()).unwrap())
}

fn status(wallet: &Wallet, lane: LaneId) -> LaneStatus {
    wallet.lanes().find(|(id, _)| *id == lane).unwrap().1
}

#[test]
fn a_lost_wallet_comes_back_from_its_words() {
    let world = World::new();
    let mut lost = world.funded(1);
    for cost in [3, 10, 0] {
        call(&world, &mut lost, LANE0, cost, T0);
    }
    call(&world, &mut lost, LANE1, 4, T0);
    let before = lost.balance();
    drop(lost);

    let found = restored(&world);
    assert_eq!((found.payments(), found.lanes().len()), (1, LANES));
    assert!(found.device().number().is_some_and(|number| (1..16).contains(&number)), "{:?}", found.device());
    let until = found.held_until();
    assert_eq!(
        until,
        LATER.after(2 * HOUR - INTO_WINDOW + 600),
        "two steps of the grid, the grace, and what clocks differ"
    );
    let mut wallet = wallet(found);
    assert_eq!(wallet.balance().total(), before.total());
    assert_eq!(wallet.balance().unchecked, before.available);

    // Held, whatever the set says; and asked about before anything is spent.
    assert_eq!(wallet.quarantined_until(), Some(until));
    assert_eq!(ask(&world, &mut wallet, until.before(1)), []);
    assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(10), until.before(1)), Err(PlanError::Unchecked(_))));
    assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(10), until), Err(PlanError::Unchecked(_))));
    assert_eq!(ask(&world, &mut wallet, until), []);
    call(&world, &mut wallet, LANE0, 10, until);
    call(&world, &mut wallet, LANE1, 10, until);
    assert_eq!(all_of(&wallet.balance()), micro(100 - 13 - 4 - 20));
}

#[test]
fn a_wallet_that_never_spent_comes_back_as_it_was_minted() {
    let world = World::new();
    let mut lost = world.funded(1);
    world.fund(&mut lost, PaymentId::from_bytes([8; 32]));
    let before = lost.balance();
    drop(lost);
    let found = restored(&world);
    assert_eq!(found.payments(), 2);
    assert!(found.lanes().iter().all(|lane| matches!(lane.found, LaneFound::Mint { .. })));
    assert_eq!(wallet(found).balance().total(), before.total());
}

#[test]
fn credit_that_moved_to_another_lane_or_epoch_comes_back() {
    let world = World::new();
    let mut lost = world.funded(1);
    let sent = send(&mut lost, [LANE0, LANE1], 20, T0);
    world.moved(&mut lost, &sent, T0);
    // Into the epoch that issues by then, lane 1 alone; lane 0 is spent after its transfer.
    call(&world, &mut lost, LANE0, 5, T0);
    let rolled = roll(&mut lost, LANE1, FLIP);
    let admitted = match world.gateway.rollover(&rolled.opening, &errand(), FLIP) {
        Ok(Opened::Admitted(spend)) => spend,
        other => panic!("{other:?}"),
    };
    let settled = world.issuer.settle(&*world.set, &admitted, Credits::ZERO, FLIP).unwrap();
    lost.accept(&rolled.key, settled.settlement(), FLIP).unwrap();
    drop(lost);

    let found = restored_at(&world, FLIP.after(HOUR));
    let until = found.held_until();
    let mut wallet = wallet(found);
    assert_eq!(status(&wallet, LANE0), LaneStatus::Unchecked { value: micro(35), epoch: EPOCH[0] });
    assert_eq!(status(&wallet, LANE1), LaneStatus::Unchecked { value: micro(60), epoch: EPOCH[1] });
    ask(&world, &mut wallet, until);
    call(&world, &mut wallet, LANE1, 10, until);
    assert_eq!(all_of(&wallet.balance()), micro(85));
    // The spends of the first epoch go with its partition. What was spent since is found all the same.
    world.set.close(EPOCH[0]).unwrap();
    world.set.retire(EPOCH[0]).unwrap();
    let found = restored_at(&world, T0.after(2 * DAY));
    assert!(matches!(found.lanes()[0].found, LaneFound::Void { .. }), "{:?}", found.lanes()[0]);
    assert_eq!(found.lanes()[1].found.available(), micro(50));
}

#[test]
fn what_is_void_is_said_to_be() {
    let world = World::new();
    let mut lost = world.funded(1);
    call(&world, &mut lost, LANE0, 3, T0);
    let over = T0.after(2 * DAY);
    // Still on record: what it was worth is known.
    let found = restored_at(&world, over);
    assert_eq!(found.lanes()[0].found, LaneFound::Void { at_most: micro(57) });
    assert_eq!(found.lanes()[1].found, LaneFound::Void { at_most: micro(40) });
    let void = wallet(found);
    assert_eq!((void.balance().total(), void.payments().count()), (0, 1));
    assert!(matches!(status(&void, LANE0), LaneStatus::Frozen { .. }));
    // Gone: at most what was minted.
    world.set.close(EPOCH[0]).unwrap();
    world.set.retire(EPOCH[0]).unwrap();
    assert_eq!(restored_at(&world, over).lanes()[0].found, LaneFound::Void { at_most: micro(60) });
}

#[test]
fn a_call_that_is_being_worked_on_is_awaited() {
    let world = World::new();
    let mut lost = world.funded(1);
    let paid = pay(&mut lost, LANE0, 10, T0);
    let admitted = world.admit(&paid);
    let found = restored(&world);
    assert_eq!(found.lanes()[0].found, LaneFound::Running { rest: micro(50) });
    let early = wallet(found);
    assert!(matches!(status(&early, LANE0), LaneStatus::Frozen { .. }), "its first note is spent");
    assert_eq!(all_of(&early.balance()), micro(40));
    world.settle(&admitted, 3);
    assert_eq!(all_of(&wallet(restored(&world)).balance()), micro(97));
}

/// Both are the owner's, who thought that the device was lost.
#[test]
fn a_device_that_lives_on_is_seen_before_a_second_share() {
    let world = World::new();
    let mut alive = world.funded(1);
    call(&world, &mut alive, LANE0, 3, T0);
    // Pinned, and sent when the restore is over; and pinned and never sent.
    let late = pay(&mut alive, LANE0, 10, LATER);
    let found = restored(&world);
    let until = found.held_until();
    let mut again = wallet(found);
    assert_eq!(ask(&world, &mut again, LATER), []);
    let arrived = until.before(HOUR + 301);
    let spend = admitted(world.open(&late, arrived));
    assert!(world.open(&late, arrived.after(1)).is_ok(), "it is known");
    assert_eq!(ask(&world, &mut again, until), [LANE0]);
    assert!(matches!(again.plan(LANE0, &GATEWAY, micro(10), until), Err(PlanError::Frozen(_))));
    // What was not there by then is refused from then on.
    let mut other = world.wallet_of(RootSecret::from_bytes([2; 32]), DeviceId::from_number(0));
    world.fund(&mut other, PaymentId::from_bytes([2; 32]));
    let unsent = pay(&mut other, LANE0, 10, LATER);
    assert!(world.open(&unsent, arrived.after(1)).is_err(), "it has expired, long before the notes are spent");
    // Restored once more it has what came of the call.
    world.settle(&spend, 10);
    let found = restored_at(&world, until);
    assert_eq!(found.lanes()[0].found.available(), micro(47));
}

#[test]
fn of_two_restores_at_once_the_later_freezes() {
    let world = World::new();
    let mut lost = world.funded(1);
    call(&world, &mut lost, LANE0, 3, T0);
    drop(lost);
    let [mut one, mut two] = [(); 2].map(|()| wallet(restored(&world)));
    let until = one.quarantined_until().unwrap();
    ask(&world, &mut one, until);
    call(&world, &mut one, LANE0, 1, until);
    assert_eq!(ask(&world, &mut two, until.after(1)), [LANE0]);
    assert!(matches!(two.plan(LANE0, &GATEWAY, micro(10), until.after(1)), Err(PlanError::Frozen(_))));
    // What is new is funded on devices that are most probably two.
    let devices: HashSet<_> = (0..64)
        .map(|seed| {
            let restore = run(&world, begin(&world, &RestoreOptions::default(), LATER), &HashSet::new()).unwrap();
            restore.finish(LATER, &mut rng(seed)).unwrap().device()
        })
        .collect();
    assert_eq!(devices.len(), 8);
    // Should they be one, the issuer mints for one of the two.
    let [mut one, mut two] = [(); 2].map(|()| wallet(restored(&world)));
    let mint = |wallet: &mut Wallet, id: u8| {
        let payment = PaymentId::from_bytes([id; 32]);
        world.payments.grant(payment, micro(100)).unwrap();
        world.issuer.mint(&wallet.request_mint(payment, sixty_and_forty(), LATER).unwrap(), LATER)
    };
    assert!(mint(&mut one, 41).is_ok());
    assert!(matches!(mint(&mut two, 42), Err(halometer::issuer::MintError::KnownAccount)));
}

#[test]
fn what_is_new_is_used_at_once_and_found_again() {
    let world = World::new();
    let mut lost = world.funded(1);
    call(&world, &mut lost, LANE0, 3, T0);
    let mut wallet = wallet(restored(&world));
    let payment = PaymentId::from_bytes([40; 32]);
    world.payments.grant(payment, micro(100)).unwrap();
    let request = wallet.request_mint(payment, sixty_and_forty(), LATER).unwrap();
    let answer = world.issuer.mint(&request, LATER).unwrap();
    wallet.accept_mint(&payment, &answer, LATER).unwrap();
    let new = LaneId { payment: 1, lane: 0 };
    assert_eq!(wallet.held_until(new, LATER), None);
    assert!(wallet.held_until(LANE0, LATER).is_some());
    assert_eq!(ask(&world, &mut wallet, LATER), []);
    call(&world, &mut wallet, new, 5, LATER);
    // It begins again from its journal, as it was.
    let (device, before) = (wallet.device(), wallet.balance());
    let journal = wallet.into_journal();
    let signed = world.issuer.signed_directory();
    let mut wallet = Wallet::new(root(), device, world.root.public_key(), signed, journal).unwrap();
    assert_eq!(wallet.balance().total(), before.total());
    ask(&world, &mut wallet, LATER);
    call(&world, &mut wallet, new, 0, LATER);
    let before = wallet.balance();
    drop(wallet);
    // Lost again.
    let found = restored(&world);
    assert_eq!(found.payments(), 2);
    assert!(found.device() > device, "another device for what comes now");
    assert_eq!(self::wallet(found).balance().total(), before.total());
}

#[test]
fn a_forged_or_foreign_mint_is_refused() {
    let world = World::new();
    world.funded(1);
    let mut other = world.wallet_of(RootSecret::from_bytes([2; 32]), DeviceId::from_number(0));
    world.fund(&mut other, PaymentId::from_bytes([2; 32]));
    let mut restore = begin(&world, &RestoreOptions::default(), LATER);
    let Some(RestoreQuestion::Mints(query)) = restore.question().unwrap() else { panic!() };
    let honest = world.issuer.minted(&query).unwrap();
    let at = honest.0.iter().position(Option::is_some).unwrap();
    let foreign = {
        let payment = other.payments().next().unwrap();
        let answer = MintAnswer { response: payment.minted.unwrap(), seal: payment.seal.unwrap() };
        MintFound { payment: payment.payment, amounts: payment.amounts, answer }
    };
    let forge = |forge: &dyn Fn(&mut MintFound)| {
        let mut forged = honest.clone();
        forge(forged.0[at].as_mut().unwrap());
        forged
    };
    let wrong = [
        forge(&|found| *found = foreign.clone()),
        forge(&|found| found.amounts[0] = micro(1 << 40)),
        forge(&|found| found.payment = PaymentId::from_bytes([9; 32])),
        forge(&|found| found.answer.response.epoch = EPOCH[1]),
        forge(&|found| found.answer.response.signatures.swap(0, 1)),
        forge(&|found| found.answer.seal = foreign.answer.seal),
    ];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let refused = restore.minted(wrong).unwrap_err();
        assert!(matches!(refused, RestoreError::Seal(_) | RestoreError::Mint(_)), "{number}: {refused:?}");
    }
    // An answer of another length, and an answer to nothing that was asked.
    assert_eq!(restore.minted(MintsFound(vec![None])), Err(RestoreError::NotAsked));
    assert_eq!(restore.counted(Some(1)), Err(RestoreError::NotAsked));
    // And nothing was taken of them.
    restore.minted(honest.clone()).unwrap();
    // The same payment under another account of this wallet.
    let Some(RestoreQuestion::Mints(query)) = restore.question().unwrap() else { panic!() };
    let account = query.accounts()[0];
    let copy = honest.0[at].clone().unwrap();
    let sealer = MintSealer::new(&world.root);
    let seal = sealer.seal(&copy.payment, &account, &copy.amounts, copy.answer.response.epoch);
    let twice = MintFound { answer: MintAnswer { seal, ..copy.answer }, ..copy };
    let mut answer = vec![None; query.accounts().len()];
    answer[0] = Some(twice);
    assert!(
        matches!(restore.minted(MintsFound(answer)), Err(RestoreError::Mint(_))),
        "the signatures are of the other's notes"
    );
    // Nobody's words.
    let restore = begin(&World::new(), &RestoreOptions::default(), LATER);
    let nothing = run(&World::new(), restore, &HashSet::new()).unwrap();
    assert_eq!(nothing.finish(LATER, &mut rng(1)).unwrap_err(), RestoreError::Nothing);
}

#[test]
fn a_hidden_last_spend_is_seen_before_a_second_share() {
    let world = World::new();
    let mut lost = world.funded(1);
    let mut spent = Vec::new();
    for _ in 0..5 {
        let paid = pay(&mut lost, LANE0, 10, T0);
        let settled = world.settle(&world.admit(&paid), 1);
        lost.accept(&paid.key, settled.settlement(), T0).unwrap();
        spent.push(paid.key.nullifier.to_bytes());
    }
    drop(lost);
    for count in 1..=5 {
        // The last ones: the wallet goes on before them, and would spend what is spent.
        let hidden = spent[5 - count..].iter().copied().collect();
        let restore = run(&world, begin(&world, &RestoreOptions::default(), LATER), &hidden).unwrap();
        let found = restore.finish(LATER, &mut rng(1)).unwrap();
        let until = found.held_until();
        let mut wallet = wallet(found);
        assert!(wallet.plan(LANE0, &GATEWAY, micro(10), until).is_err());
        assert_eq!(ask(&world, &mut wallet, until), [LANE0], "{count}: any honest party says it");
        assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(10), until), Err(PlanError::Frozen(_))));
    }
    for at in 0..4 {
        // One before others: what is left does not hold together, or is the same.
        let hidden = HashSet::from([spent[at]]);
        match run(&world, begin(&world, &RestoreOptions::default(), LATER), &hidden) {
            Err(RestoreError::Hidden) => {}
            Ok(restore) => {
                let found = restore.finish(LATER, &mut rng(1)).unwrap();
                assert_eq!(found.lanes()[0].found.available(), micro(55), "{at}");
            }
            Err(other) => panic!("{at}: {other:?}"),
        }
    }
}

#[test]
fn no_false_memo_settlement_or_bucket_is_believed() {
    let world = World::new();
    let mut lost = world.funded(1);
    call(&world, &mut lost, LANE0, 3, T0);
    let first = lost.signed_directory().clone();
    call(&world, &mut lost, LANE0, 3, T0);
    call(&world, &mut lost, LANE1, 3, T0);
    let mut restore = begin(&world, &RestoreOptions::default(), LATER);
    assert_eq!(*restore.directory(), first.verify(&world.root.public_key()).unwrap());
    let (mut memos, mut changes) = (0, 0);
    let records = world.set.scan(EPOCH[0], None, usize::MAX).unwrap();
    while let Some(question) = restore.question().unwrap() {
        match question {
            RestoreQuestion::Count(epoch) => {
                if epoch == EPOCH[0] {
                    assert_eq!(restore.counted(None), Err(RestoreError::Gone(epoch)), "it can be spent in");
                }
            }
            RestoreQuestion::Bucket(question) => {
                // Nullifiers that nobody has spent are in nobody's way.
                let more = (1..9).filter_map(|byte| Option::<Nullifier>::from(Nullifier::from_bytes(&[byte; 32])));
                let spent = world.set.bucket(question.epoch, question.prefix, None, usize::MAX).unwrap();
                restore.bucket(spent.into_iter().chain(more)).unwrap();
                continue;
            }
            RestoreQuestion::Memo(query) => {
                memos += 1;
                assert_eq!(restore.memo(None), Err(RestoreError::Memo));
                for other in records.iter().filter(|record| record.key.nullifier != query.nullifier) {
                    assert_eq!(restore.memo(Some(&other.memo)), Err(RestoreError::Memo));
                }
            }
            RestoreQuestion::Change(query) => {
                changes += 1;
                let own = world.set.find(query.spend.epoch, &query.spend.nullifier).unwrap().unwrap();
                let RecordState::Settled(right) = own.state else { panic!() };
                for other in records.iter().filter(|record| record.key != own.key) {
                    let RecordState::Settled(wrong) = other.state.clone() else { panic!() };
                    assert_eq!(restore.change(ChangeTold::Settled(wrong)), Err(RestoreError::Change));
                }
                for wrong in [
                    Settlement { refund: micro(8), ..right.clone() },
                    Settlement { refund: micro(u64::MAX), ..right.clone() },
                    Settlement { epoch: EPOCH[1], ..right.clone() },
                ] {
                    assert_eq!(restore.change(ChangeTold::Settled(wrong)), Err(RestoreError::Change));
                }
                // Nobody else is told: the code is not that of another memo.
                for other in records.iter().filter(|record| record.key != own.key) {
                    assert!(!query.reads(&other.memo));
                }
            }
            _ => {}
        }
        answer(&world, &mut restore, &HashSet::new()).unwrap().unwrap();
    }
    assert_eq!((memos, changes), (2, 2), "of the last spend of each lane alone");
}

#[test]
fn interrupted_anywhere_it_begins_again_without_harm() {
    let world = World::new();
    let mut lost = world.funded(1);
    call(&world, &mut lost, LANE0, 3, T0);
    call(&world, &mut lost, LANE1, 3, T0);
    let before = (lost.balance().total(), world.records());
    drop(lost);
    let mut steps = 0;
    loop {
        let mut restore = begin(&world, &RestoreOptions::default(), LATER);
        for _ in 0..steps {
            answer(&world, &mut restore, &HashSet::new()).unwrap().unwrap();
        }
        // A question that was not answered is asked again, the same.
        let asked = format!("{:?}", restore.question().unwrap());
        assert_eq!(asked, format!("{:?}", restore.question().unwrap()));
        if restore.question().unwrap().is_none() {
            assert_eq!(wallet(restore.finish(LATER, &mut rng(1)).unwrap()).balance().total(), before.0);
            break;
        }
        assert!(matches!(restore.finish(LATER, &mut rng(1)), Err(RestoreError::Unfinished)), "{steps}");
        steps += 1;
    }
    assert!(steps > 10, "{steps}");
    assert_eq!(world.records(), before.1, "nothing is spent by asking");
}

#[test]
fn a_device_of_an_earlier_release_has_to_be_named() {
    let world = World::new();
    let device = DeviceId::from_bytes([0xa5; 8]);
    let mut lost = world.wallet_of(root(), device);
    world.fund(&mut lost, PaymentId::from_bytes([1; 32]));
    call(&world, &mut lost, LANE0, 3, T0);
    assert_eq!(lost.restorability(T0).unwrap().device, Some(device));
    let unnamed = run(&world, begin(&world, &RestoreOptions::default(), LATER), &HashSet::new()).unwrap();
    assert_eq!(unnamed.finish(LATER, &mut rng(1)).unwrap_err(), RestoreError::Nothing);
    let mut options = RestoreOptions::default();
    options.devices.push(device);
    let named = run(&world, begin(&world, &options, LATER), &HashSet::new()).unwrap();
    let found = wallet(named.finish(LATER, &mut rng(1)).unwrap());
    assert_eq!(found.balance().total(), lost.balance().total());
    assert!(found.device().number().is_some(), "what is new is found by trying");
    assert_eq!(found.restorability(T0).unwrap().device, Some(device), "and what is old is not");
    // One that is numbered is restorable, until its last spend is told no more.
    let mut numbered = world.wallet_of(RootSecret::from_bytes([3; 32]), DeviceId::from_number(0));
    world.fund(&mut numbered, PaymentId::from_bytes([3; 32]));
    assert!(numbered.restorability(T0).unwrap().is_whole());
    let rolled = roll(&mut numbered, LANE0, FLIP);
    let Ok(Opened::Admitted(spend)) = world.gateway.rollover(&rolled.opening, &errand(), FLIP) else { panic!() };
    let settled = world.issuer.settle(&*world.set, &spend, Credits::ZERO, FLIP).unwrap();
    numbered.accept(&rolled.key, settled.settlement(), FLIP).unwrap();
    assert!(numbered.restorability(FLIP).unwrap().is_whole());
    assert_eq!(numbered.restorability(T0.after(2 * DAY)).unwrap().lanes, [LANE0]);
}

#[test]
fn holding_until_the_epoch_ends_leaves_time_to_roll_over() {
    let mut parts = directory_parts();
    // An epoch that can be spent in for a week after it issued.
    parts.epochs[0].spend.until = parts.epochs[0].issue.until.after(7 * DAY);
    parts.epochs[1].issue.until = parts.epochs[0].issue.until.after(8 * DAY);
    parts.epochs[1].spend.until = parts.epochs[1].issue.until.after(7 * DAY);
    let world = World::under(Directory::new(parts.clone()).unwrap(), root_key(), epoch_keys());
    world.funded(1);
    let options = RestoreOptions { until_epoch_ends: true, ..RestoreOptions::default() };
    let restore = run(&world, begin(&world, &options, LATER), &HashSet::new()).unwrap();
    assert_eq!(restore.finish(LATER, &mut rng(1)).unwrap().held_until(), parts.epochs[0].issue.until);
    // Where two days are not left after that, it is no longer than otherwise, or ends two days before.
    let world = World::new();
    world.funded(1);
    let restore = run(&world, begin(&world, &options, LATER), &HashSet::new()).unwrap();
    assert_eq!(restore.finish(LATER, &mut rng(1)).unwrap().held_until(), restored(&world).held_until());
}

#[test]
fn a_thousand_spends_of_each_lane_are_found() {
    let world = World::new();
    let amounts = [micro(1_000_000); LANES];
    let payment = PaymentId::from_bytes([1; 32]);
    world.payments.grant(payment, micro(8_000_000)).unwrap();
    let mut lost = world.wallet(1);
    let minted = world.issuer.mint(&lost.request_mint(payment, amounts, T0).unwrap(), T0).unwrap();
    lost.accept_mint(&payment, &minted, T0).unwrap();
    let past = Past { root: &root(), device: DeviceId::from_number(0), payment: 0, amounts };
    past.write(&*world.set, &world.issuer, EPOCH[0], 300, T0).unwrap();
    let found = restored(&world);
    for lane in found.lanes() {
        assert!(matches!(lane.found, LaneFound::Change { index: 300, .. }), "{lane:?}");
        assert_eq!(lane.found.available(), micro(1_000_000 - 300));
    }
}

#[test]
fn a_spend_that_a_gateway_keeps_back_leaves_its_lane_alone() {
    let world = World::new();
    let mut lost = world.funded(1);
    let kept = pay(&mut lost, LANE0, 10, T0).key.nullifier;
    drop(lost);
    let mut restore = begin(&world, &RestoreOptions::default(), LATER);
    loop {
        match restore.question().unwrap() {
            None => break,
            Some(RestoreQuestion::Bucket(_)) => restore.bucket([kept]).unwrap(),
            Some(RestoreQuestion::Memo(query)) => {
                assert_eq!(query.nullifier, kept);
                assert!(world.set.find(query.epoch, &query.nullifier).unwrap().is_none());
                restore.contested().unwrap();
            }
            Some(_) => {
                assert_eq!(restore.contested(), Err(RestoreError::NotAsked));
                answer(&world, &mut restore, &HashSet::new()).unwrap().unwrap();
            }
        }
    }
    let found = restore.finish(LATER, &mut rng(1)).unwrap();
    assert_eq!(found.lanes()[0].found, LaneFound::Contested);
    let mut wallet = wallet(found);
    assert_eq!(all_of(&wallet.balance()), micro(40), "the other lane is as it was");
    let until = wallet.quarantined_until().unwrap();
    assert_eq!(ask(&world, &mut wallet, until), []);
    assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(10), until), Err(PlanError::Frozen(_))));
}
