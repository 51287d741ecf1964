//! Attacks on the mint (protocol, section 5, "Mint", and section 3: a fresh account for every payment).

use std::sync::Arc;

use halometer::circuits::note::{ContextHash, NoteSecret, ShareY, recover_account};
use halometer::issuer::{DevelopmentPayments, Issuer, MintError, PaymentSource, PaymentSourceError};
use halometer::protocol::*;
use halometer::store::{MemoryMintBook, MintBook, MintOutcome, MintRecord, MintTotals, StoreError};
use halometer::wallet::{AcceptMintError, PaymentError, RootSecret, Wallet};

use crate::world::*;

const PAYMENT: PaymentId = PaymentId::from_bytes([9; 32]);

fn amounts(list: [u64; LANES]) -> [Credits; LANES] {
    list.map(micro)
}

#[test]
fn minting_without_a_payment_gives_nothing() {
    let world = World::new();
    let request = world.wallet(1).request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    assert!(matches!(world.issuer.mint(&request, T0), Err(MintError::Unpaid)));
    assert_eq!(world.mints.totals().unwrap().amount(), 0);
}

#[test]
fn asking_for_more_or_less_than_was_paid_gives_nothing() {
    let world = World::new();
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let wrap = [u64::MAX, 101, 0, 0, 0, 0, 0, 0];
    for (seed, list) in [[101, 0, 0, 0, 0, 0, 0, 0], [99, 0, 0, 0, 0, 0, 0, 0], [0; 8]].into_iter().enumerate() {
        let request = world.wallet(seed as u8).request_mint(PAYMENT, amounts(list), T0).unwrap();
        assert!(matches!(world.issuer.mint(&request, T0), Err(MintError::Amount { .. })), "{list:?}");
    }
    // The wallet would not ask for a sum that overflows, a cheat does.
    assert!(matches!(world.wallet(9).request_mint(PAYMENT, amounts(wrap), T0).unwrap_err(), PaymentError::Overflow));
    let mut request = world.wallet(9).request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    request.lanes.iter_mut().zip(wrap).for_each(|(lane, amount)| lane.amount = micro(amount));
    assert!(matches!(world.issuer.mint(&request, T0), Err(MintError::Amount { .. })));
}

#[test]
fn minting_twice_gives_the_first_answer_even_in_the_next_epoch() {
    let world = World::new();
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let mut wallet = world.wallet(1);
    let request = wallet.request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    let first = world.issuer.mint(&request, T0).unwrap();
    let again = wallet.request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    assert_eq!(*again.to_bytes(), *request.to_bytes());
    let later = world.issuer.mint(&again, T0.after(DAY)).unwrap();
    assert_eq!(later, first);
    assert_eq!(later.response.epoch, EPOCH[0], "not signed again by the key that issues now");
    assert_eq!(world.mints.totals().unwrap().amount(), 100);
    // Accepting it twice gives no second set of notes.
    wallet.accept_mint(&PAYMENT, &first, T0).unwrap();
    let paid = pay(&mut wallet, LANE0, 10, T0);
    wallet.accept_mint(&PAYMENT, &first, T0).unwrap();
    assert!(wallet.resend(&paid.key, &crate::world::request()).is_ok(), "the lane that is in flight stays so");
}

#[test]
fn one_payment_for_another_account_or_other_notes_conflicts() {
    let world = World::new();
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let mut honest = world.wallet(1);
    world.issuer.mint(&honest.request_mint(PAYMENT, sixty_and_forty(), T0).unwrap(), T0).unwrap();

    // Another account.
    let thief = world.wallet(2).request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    assert!(matches!(world.issuer.mint(&thief, T0), Err(MintError::Conflict)));
    // Another rho.
    let mut request = honest.request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    request.lanes[7].note = NoteSecret::random(&mut rng(1));
    assert!(matches!(world.issuer.mint(&request, T0), Err(MintError::Conflict)));
    // Other amounts.
    let mut request = honest.request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    (request.lanes[0].amount, request.lanes[1].amount) = (micro(40), micro(60));
    assert!(matches!(world.issuer.mint(&request, T0), Err(MintError::Conflict)));
    assert!(matches!(honest.request_mint(PAYMENT, [micro(0); LANES], T0).unwrap_err(), PaymentError::OtherAmounts));
    assert_eq!(world.mints.totals().unwrap().amount(), 100);
}

/// All of it in the first lane.
fn alone(first: u64) -> [Credits; LANES] {
    amounts([first, 0, 0, 0, 0, 0, 0, 0])
}

#[test]
fn what_was_refused_is_asked_for_with_the_right_amount() {
    let world = World::new();
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let mut wallet = world.wallet(1);
    for wrong in [5, 99, 101] {
        let requests = wallet.request_mint_anew(PAYMENT, alone(wrong), T0).unwrap();
        for request in &requests {
            let refused = world.issuer.mint(request, T0).unwrap_err();
            assert!(matches!(refused, MintError::Amount { paid } if paid == micro(100)));
        }
    }
    let requests = wallet.request_mint_anew(PAYMENT, alone(100), T0).unwrap();
    assert_eq!(requests.len(), 4, "each that may be minted");
    assert!(requests.iter().all(|request| request.account == requests[0].account));
    let minted = world.issuer.mint(&requests[3], T0).unwrap();
    wallet.accept_mint(&PAYMENT, &minted, T0).unwrap();
    assert_eq!(wallet.balance().total(), 100);
    assert_eq!(wallet.request_mint_anew(PAYMENT, alone(7), T0).unwrap().len(), 1, "it is minted");
}

/// The issuer minted the first request, its answer was lost, and the owner asks for another amount, or forgets the payment.
#[test]
fn what_was_minted_is_not_lost_by_asking_otherwise() {
    for forgotten in [false, true] {
        let world = World::new();
        world.payments.grant(PAYMENT, micro(100)).unwrap();
        let mut wallet = world.wallet(1);
        let lost = world.issuer.mint(&wallet.request_mint(PAYMENT, alone(100), T0).unwrap(), T0).unwrap();
        if forgotten {
            wallet.forget_payment(&PAYMENT).unwrap();
        }
        let requests = wallet.request_mint_anew(PAYMENT, alone(7), T0).unwrap();
        assert!(wallet.payments().all(|known| !known.forgotten && known.minted.is_none()));
        // Also when the wallet was opened again in between.
        let signed = world.issuer.signed_directory();
        let (root, device) = (RootSecret::from_bytes([1; 32]), DeviceId::from_bytes([0; 8]));
        let mut wallet = Wallet::new(root, device, world.root.public_key(), signed, wallet.into_journal()).unwrap();
        let first = requests.iter().find_map(|request| world.issuer.mint(request, T0).ok()).unwrap();
        assert_eq!(first.response, lost.response);
        wallet.accept_mint(&PAYMENT, &first, T0).unwrap();
        assert_eq!(wallet.balance().total(), 100);
        wallet.accept_mint(&PAYMENT, &lost, T0).unwrap();
        assert_eq!(wallet.balance().total(), 100, "it comes once");
        assert!(matches!(wallet.forget_payment(&PAYMENT), Err(PaymentError::Minted)));
    }
}

#[test]
fn a_payment_that_was_forgotten_takes_no_number_with_it() {
    let world = World::new();
    let mut wallet = world.wallet(1);
    let account = wallet.request_mint(PAYMENT, alone(1), T0).unwrap().account;
    wallet.forget_payment(&PAYMENT).unwrap();
    assert!(matches!(wallet.forget_payment(&PaymentId::from_bytes([3; 32])), Err(PaymentError::Unknown)));
    let other = wallet.request_mint(PaymentId::from_bytes([2; 32]), alone(1), T0).unwrap().account;
    assert!(account != other, "no account is used for two payments");
    assert!(wallet.request_mint(PAYMENT, alone(1), T0).unwrap().account == account);
}

#[test]
fn minting_a_second_payment_for_a_known_account_is_refused() {
    let world = World::new();
    let mut wallet = world.funded(1);
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let mut request = wallet.request_mint(PaymentId::from_bytes([1; 32]), sixty_and_forty(), T0).unwrap();
    request.payment = PAYMENT;
    assert!(matches!(world.issuer.mint(&request, T0), Err(MintError::KnownAccount)));
}

#[test]
fn minting_for_the_account_that_everybody_knows_is_refused() {
    // Two shares with y = x lie on the line of k = 0.
    let [first, second] =
        [[1; 32], [2; 32]].map(|bytes| (ContextHash::from_bytes(&bytes).unwrap(), ShareY::from_bytes(&bytes).unwrap()));
    let zero = recover_account((&first.0, &first.1), (&second.0, &second.1)).unwrap();
    let world = World::new();
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let mut request = world.wallet(1).request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    request.account = zero;
    assert!(matches!(world.issuer.mint(&request, T0), Err(MintError::ZeroAccount)));
}

#[test]
fn two_payments_of_one_wallet_have_two_accounts() {
    let world = World::new();
    let mut wallet = world.wallet(1);
    let mut accounts = Vec::new();
    let mut notes = Vec::new();
    for byte in 0..4 {
        let request = wallet.request_mint(PaymentId::from_bytes([byte; 32]), sixty_and_forty(), T0).unwrap();
        accounts.push(request.account);
        notes.extend(request.lanes.iter().map(|lane| lane.note.to_bytes()));
    }
    // Another device with the same root secret, and the same payment id.
    let mut device = world.wallet_on(1, DeviceId::from_bytes([1; 8]));
    let request = device.request_mint(PaymentId::from_bytes([0; 32]), sixty_and_forty(), T0).unwrap();
    accounts.push(request.account);
    notes.extend(request.lanes.iter().map(|lane| lane.note.to_bytes()));
    let count = (accounts.len(), notes.len());
    accounts.sort();
    accounts.dedup();
    notes.sort();
    notes.dedup();
    assert_eq!((accounts.len(), notes.len()), count);
}

#[test]
fn minting_one_note_in_two_lanes_is_refused() {
    let world = World::new();
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let mut request = world.wallet(1).request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    request.lanes[5].note = NoteSecret::from_bytes(&request.lanes[2].note.to_bytes()).unwrap();
    assert!(matches!(world.issuer.mint(&request, T0), Err(MintError::RepeatedNote)));
}

#[test]
fn racing_for_one_payment_with_many_accounts_mints_once() {
    let world = World::new();
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let requests: Vec<MintRequest> =
        (0..8).map(|seed| world.wallet(seed).request_mint(PAYMENT, sixty_and_forty(), T0).unwrap()).collect();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = requests.iter().map(|request| scope.spawn(|| world.issuer.mint(request, T0))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(MintError::Conflict))));
    assert_eq!(world.mints.totals().unwrap().amount(), 100);
}

#[test]
fn an_issuer_that_answers_with_worthless_signatures_is_caught() {
    let world = World::new();
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let mut wallet = world.wallet(1);
    let request = wallet.request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    let good = world.issuer.mint(&request, T0).unwrap();
    let never_asked = PaymentId::from_bytes([8; 32]);
    assert!(matches!(wallet.accept_mint(&never_asked, &good, T0), Err(AcceptMintError::UnknownPayment)));
    let mut swapped = good.clone();
    swapped.response.signatures.swap(0, 1);
    assert!(matches!(wallet.accept_mint(&PAYMENT, &swapped, T0), Err(AcceptMintError::Signature(0))));
    let mut last = good.clone();
    last.response.signatures[7] = last.response.signatures[6].clone();
    assert!(matches!(wallet.accept_mint(&PAYMENT, &last, T0), Err(AcceptMintError::Signature(7))));
    let mut other_key = good.clone();
    other_key.response.epoch = EPOCH[1];
    assert!(matches!(wallet.accept_mint(&PAYMENT, &other_key, T0), Err(AcceptMintError::Signature(0))));
    let mut unknown = good.clone();
    unknown.response.epoch = EpochNumber::new(3);
    assert!(
        matches!(wallet.accept_mint(&PAYMENT, &unknown, T0), Err(AcceptMintError::UnknownEpoch(n)) if n.number() == 3)
    );
    assert_eq!(wallet.balance().total(), 0);
    wallet.accept_mint(&PAYMENT, &good, T0).unwrap();
    assert_eq!(wallet.balance().total(), 100);
}

/// A book that always fails, and a payment source that does.
struct Broken;

fn broken() -> Box<dyn std::error::Error + Send + Sync> {
    "broken".into()
}

impl MintBook for Broken {
    fn record(&self, _: MintRecord) -> Result<MintOutcome, StoreError> {
        Err(StoreError::Failed(broken()))
    }
    fn by_payment(&self, _: &PaymentId) -> Result<Option<MintRecord>, StoreError> {
        Ok(None)
    }
    fn by_account(&self, _: &halometer::circuits::note::AccountId) -> Result<Option<MintRecord>, StoreError> {
        Ok(None)
    }
    fn totals(&self) -> Result<MintTotals, StoreError> {
        Err(StoreError::Failed(broken()))
    }

    fn scan(&self, _: Option<&PaymentId>, _: usize) -> Result<Vec<MintRecord>, StoreError> {
        Err(StoreError::Failed(broken()))
    }
}

impl PaymentSource for Broken {
    fn paid(&self, _: &PaymentId) -> Result<Option<Credits>, PaymentSourceError> {
        Err(PaymentSourceError(broken()))
    }
}

#[test]
fn a_store_or_a_payment_source_that_fails_mints_nothing() {
    let directory = Directory::new(directory_parts()).unwrap();
    let request = World::new().wallet(1).request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    let payments = Arc::new(DevelopmentPayments::new());
    payments.grant(PAYMENT, micro(100)).unwrap();
    let issuer = Issuer::new(&root_key(), directory.clone(), epoch_keys(), Arc::new(Broken), payments).unwrap();
    let error = issuer.mint(&request, T0).unwrap_err();
    assert!(matches!(error, MintError::Store(_)));
    assert_eq!((error.problem(), error.fault()), (Problem::StoreUnavailable, Fault::Operator));
    let book = Arc::new(MemoryMintBook::new());
    let issuer = Issuer::new(&root_key(), directory, epoch_keys(), book.clone(), Arc::new(Broken)).unwrap();
    assert!(matches!(issuer.mint(&request, T0), Err(MintError::Payments(_))));
    assert!(book.by_payment(&PAYMENT).unwrap().is_none());
}

#[test]
fn nothing_is_minted_when_no_epoch_issues() {
    let world = World::new();
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let request = world.wallet(1).request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    assert!(matches!(world.issuer.mint(&request, T0.after(3 * DAY)), Err(MintError::NoIssuingEpoch)));
}

#[test]
fn what_is_printed_of_a_mint_names_no_payment() {
    let world = World::new();
    let payment = PaymentId::from_bytes([0xab; 32]);
    world.payments.grant(payment, micro(100)).unwrap();
    let mut wallet = world.wallet(1);
    let request = wallet.request_mint(payment, sixty_and_forty(), T0).unwrap();
    let before: Vec<_> = wallet.payments().collect();
    let answer = world.issuer.mint(&request, T0).unwrap();
    wallet.accept_mint(&payment, &answer, T0).unwrap();
    let record = world.mints.by_payment(&payment).unwrap();
    let statement = wallet.mint_statement(&payment);
    let printed = format!("{request:?} {before:?} {answer:?} {record:?} {statement:?} {payment:?} {:?}", world.mints);
    for account in [hex(payment.as_bytes()), "171, 171".to_owned()] {
        assert!(!printed.contains(&account), "{printed}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
