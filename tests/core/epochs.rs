//! Marking a caller, or voiding the credit, by the epoch that something is signed under (protocol, section 5, "Mint", "Settle").

use halometer::circuits::schnorr::SigningKey;
use halometer::clearing::{AnswerError, ClearingAnswer, Envelope, Progress, RemoteGateway};
use halometer::protocol::*;
use halometer::wallet::{
    AcceptError, AcceptMintError, Authorised, Dispute, DisputeKind, Heard, Journal, LaneId, LaneStatus, NotShown,
    PursuitStep, Wallet,
};

use crate::world::*;

const PAYMENT: PaymentId = PaymentId::from_bytes([1; 32]);

/// The key of an epoch, which an issuer has that cheats.
fn key(epoch: EpochNumber) -> SigningKey {
    SigningKey::generate(&mut rng(u64::from(epoch.number())))
}

/// The change of a spend, signed under any epoch.
fn signed(paid: &Authorised, epoch: EpochNumber, refund: u64) -> Settlement {
    let change = Opening::from_bytes(&paid.opening).unwrap().spend.change;
    Settlement { epoch, refund: micro(refund), signature: key(epoch).sign(&change.leaf(refund)) }
}

fn kinds(wallet: &Wallet) -> Vec<DisputeKind> {
    wallet.journal().disputes().unwrap().iter().map(|dispute| dispute.kind).collect()
}

/// A wallet whose note of epoch 1 is in lane 0.
fn pinned_at(world: &World, now: Timestamp) -> (Wallet, Authorised) {
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, now);
    (wallet, paid)
}

#[test]
fn change_under_an_epoch_that_does_not_issue_yet_is_disputed() {
    let world = World::new();
    let (mut wallet, paid) = pinned_at(&world, T0);
    let honest = world.settle(&world.admit(&paid), 3);
    let marked = signed(&paid, EPOCH[1], 7);
    let refused = wallet.accept(&paid.key, &marked, T0);
    assert!(matches!(refused, Err(AcceptError::WrongEpoch(epoch)) if epoch == EPOCH[1]), "{refused:?}");

    // The credit is disputed and not gone; what shows it is kept.
    let balance = wallet.balance();
    assert_eq!((balance.disputed, balance.total(), balance.waiting + balance.reserved), (60, 100, 0));
    assert_eq!(kinds(&wallet), [DisputeKind::WrongEpoch]);
    let dispute = wallet.journal().disputes().unwrap().remove(0);
    assert_eq!(dispute.settlement, Some(marked.clone()));
    assert_eq!(Dispute::from_json(&dispute.to_json()).unwrap(), dispute);
    assert_eq!(
        dispute.verify(&world.root.public_key()),
        Err(NotShown::Word),
        "when it was signed only the wallet says"
    );

    // Also where it is heard in a pursuit, which goes on, and takes the right one.
    wallet.release(&paid.key);
    let heard = Heard::Settlement(marked);
    wallet.heard(&paid.key, PursuitStep::Fetch, &heard, T0, &mut rng(1)).unwrap();
    assert_eq!(kinds(&wallet), [DisputeKind::WrongEpoch]);
    wallet.accept(&paid.key, honest.settlement(), T0).unwrap();
    assert_eq!((wallet.balance().disputed, wallet.balance().available), (0, 97));
}

#[test]
fn change_under_an_epoch_that_is_over_is_disputed() {
    let world = World::new();
    let now = FLIP.after(2 * HOUR);
    let (mut wallet, paid) = pinned_at(&world, now);
    let old = signed(&paid, EPOCH[0], 7);
    assert!(matches!(wallet.accept(&paid.key, &old, now), Err(AcceptError::WrongEpoch(_))));
    // Nor a day later, when all the credit would be void.
    assert!(matches!(wallet.accept(&paid.key, &old, now.after(DAY)), Err(AcceptError::WrongEpoch(_))));
    assert_eq!(kinds(&wallet), [DisputeKind::WrongEpoch]);
    wallet.accept(&paid.key, &signed(&paid, EPOCH[1], 7), now).unwrap();
    assert!(matches!(wallet.lanes().next(), Some((_, LaneStatus::Idle { epoch, .. })) if epoch == EPOCH[1]));
}

#[test]
fn either_epoch_of_a_flip_between_sending_and_now_is_taken() {
    let world = World::new();
    for epoch in EPOCH {
        let (mut wallet, paid) = pinned_at(&world, FLIP.before(HOUR));
        wallet.accept(&paid.key, &signed(&paid, epoch, 7), FLIP.after(HOUR)).unwrap();
    }
}

#[test]
fn clocks_may_differ_by_five_minutes_at_a_flip() {
    let world = World::new();
    for (pinned, epoch, taken) in [
        (FLIP.after(CLOCK_TOLERANCE - 1), EPOCH[0], true),
        (FLIP.after(CLOCK_TOLERANCE), EPOCH[0], false),
        (FLIP.before(CLOCK_TOLERANCE), EPOCH[1], true),
        (FLIP.before(CLOCK_TOLERANCE + 1), EPOCH[1], false),
    ] {
        let (mut wallet, paid) = pinned_at(&world, pinned);
        assert_eq!(wallet.accept(&paid.key, &signed(&paid, epoch, 7), pinned).is_ok(), taken, "{pinned:?}");
    }
}

#[test]
fn a_clock_that_was_ahead_when_it_sent_loses_no_credit() {
    let world = World::new();
    let (mut wallet, paid) = pinned_at(&world, FLIP.after(2 * HOUR));
    wallet.accept(&paid.key, &signed(&paid, EPOCH[0], 7), FLIP.before(HOUR)).unwrap();
}

#[test]
fn a_restart_forgets_neither_when_it_was_sent_nor_the_dispute() {
    let world = World::new();
    let (mut wallet, paid) = pinned_at(&world, T0);
    wallet.accept(&paid.key, &signed(&paid, EPOCH[1], 7), T0).unwrap_err();
    let (root, device) = (halometer::wallet::RootSecret::from_bytes([1; 32]), DeviceId::from_bytes([0; 8]));
    let (signed_directory, journal) = (world.issuer.signed_directory(), wallet.into_journal());
    let mut wallet = Wallet::new(root, device, world.root.public_key(), signed_directory, journal).unwrap();
    assert_eq!((wallet.balance().disputed, wallet.balance().total()), (60, 100));
    assert!(matches!(
        wallet.accept(&paid.key, &signed(&paid, EPOCH[1], 7), FLIP.before(HOUR)),
        Err(AcceptError::WrongEpoch(_))
    ));
    wallet.accept(&paid.key, &signed(&paid, EPOCH[0], 7), FLIP.after(HOUR)).unwrap();
}

#[test]
fn no_half_of_a_transfer_is_taken_under_a_wrong_epoch() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let sent = send(&mut wallet, [LANE0, LANE1], 10, T0);
    let transfer = Transfer::from_bytes(&sent.transfer).unwrap();
    let half = |i: usize, epoch: EpochNumber, refund: u64| {
        let signature = key(epoch).sign(&transfer.halves[i].spend.change.leaf(refund));
        Settlement { epoch, refund: micro(refund), signature }
    };
    for epochs in [[EPOCH[0], EPOCH[1]], [EPOCH[1], EPOCH[0]], [EPOCH[1]; 2]] {
        let halves = [half(0, epochs[0], 0), half(1, epochs[1], 10)];
        let refused = wallet.accept_transfer(&sent.keys, &halves, T0);
        assert!(matches!(refused, Err(AcceptError::WrongEpoch(_))), "{refused:?}");
        assert_eq!(wallet.balance().available, 0, "neither is taken");
    }
    assert!(kinds(&wallet).iter().all(|kind| *kind == DisputeKind::WrongEpoch) && !kinds(&wallet).is_empty());
    wallet.accept_transfer(&sent.keys, &[half(0, EPOCH[0], 0), half(1, EPOCH[0], 10)], T0).unwrap();
    assert_eq!(wallet.balance().available, 100);
}

/// What an issuer answers that mints under any epoch.
fn minted(request: &MintRequest, epoch: EpochNumber) -> MintAnswer {
    let amounts = core::array::from_fn(|lane| request.lanes[lane].amount);
    let signatures = core::array::from_fn(|i| {
        let lane = &request.lanes[i];
        key(epoch).sign(&request.account.commit(&lane.note, 0).leaf(lane.amount.micro()))
    });
    let seal = MintSealer::new(&root_key()).seal(&request.payment, &request.account, &amounts, epoch);
    MintAnswer { response: MintResponse { epoch, signatures }, seal }
}

#[test]
fn a_mint_under_an_epoch_that_does_not_issue_is_disputed() {
    let world = World::new();
    for (epoch, requested, now) in [(EPOCH[1], T0, T0.after(HOUR)), (EPOCH[0], FLIP.after(HOUR), FLIP.after(DAY))] {
        let mut wallet = world.wallet(1);
        let request = wallet.request_mint(PAYMENT, sixty_and_forty(), requested).unwrap();
        let marked = minted(&request, epoch);
        let refused = wallet.accept_mint(&PAYMENT, &marked, now);
        assert!(matches!(refused, Err(AcceptMintError::WrongEpoch(of)) if of == epoch), "{refused:?}");
        assert_eq!((wallet.balance().disputed, wallet.balance().total()), (100, 100));
        assert_eq!(kinds(&wallet), [DisputeKind::WrongEpoch]);
        let dispute = wallet.journal().disputes().unwrap().remove(0);
        let statement = dispute.mint.clone().unwrap();
        assert_eq!(statement.verify(&world.root.public_key()), Ok(()), "the issuer's signature is genuine");
        assert_eq!(Dispute::from_json(&dispute.to_json()).unwrap(), dispute);

        // It may be asked for again, at any time; the time of the first request counts.
        let again = wallet.request_mint(PAYMENT, sixty_and_forty(), now).unwrap();
        let right = if epoch == EPOCH[0] { EPOCH[1] } else { EPOCH[0] };
        wallet.accept_mint(&PAYMENT, &minted(&again, right), now).unwrap();
        assert_eq!((wallet.balance().disputed, wallet.balance().available), (0, 100));
    }
}

#[test]
fn a_mint_that_is_answered_days_later_is_taken() {
    let world = World::new();
    for epoch in EPOCH {
        let mut wallet = world.wallet(1);
        let request = wallet.request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
        wallet.accept_mint(&PAYMENT, &minted(&request, epoch), FLIP.after(HOUR)).unwrap();
    }
}

#[test]
fn a_remote_gateway_passes_no_mark_on() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let ready = ready_for(&wallet, LaneId { lane: 1, ..LANE0 }, OTHER_GATEWAY, 10, T0);
    let paid = wallet.authorise(ready, &request(), T0).unwrap();
    let signing = GatewaySigningKey::from_bytes(&[11; 32]);
    let gateway = RemoteGateway::new(OTHER_GATEWAY, world.issuer.directory().clone(), signing).unwrap();
    let answer = |envelope: &[u8], settlement: Settlement| {
        ClearingAnswer::Settled(settlement).to_bytes(&Envelope::digest(envelope))
    };
    let mut spend = gateway.take(&paid.opening, &request()).unwrap();
    let envelope = spend.admit(&gateway, T0, &mut rng(1)).unwrap();
    let refused = spend.answer(&gateway, &answer(&envelope, signed(&paid, EPOCH[1], 10)));
    assert_eq!(refused, Err(AnswerError::WrongEpoch(EPOCH[1])));
    let settled = spend.answer(&gateway, &answer(&envelope, signed(&paid, EPOCH[0], 10)));
    assert!(matches!(settled, Ok(Progress::Settled(_))), "{settled:?}");
    // One that is asked for after the flip may have been settled before it, and one that was made after it not.
    let fetched = spend.fetch(&gateway, FLIP.after(HOUR), &mut rng(2));
    assert!(spend.answer(&gateway, &answer(&fetched, signed(&paid, EPOCH[0], 10))).is_ok());

    let later = FLIP.after(2 * HOUR);
    let mut wallet = world.funded(2);
    let ready = ready_for(&wallet, LANE0, OTHER_GATEWAY, 10, later);
    let paid = wallet.authorise(ready, &request(), later).unwrap();
    let mut spend = gateway.take(&paid.opening, &request()).unwrap();
    let envelope = spend.admit(&gateway, later, &mut rng(3)).unwrap();
    let refused = spend.answer(&gateway, &answer(&envelope, signed(&paid, EPOCH[0], 10)));
    assert_eq!(refused, Err(AnswerError::WrongEpoch(EPOCH[0])));
}
