//! Naming a payment by evidence that anyone can check (protocol, section 5, "Mint", "Double spend").

use halometer::circuits::note::AccountId;
use halometer::gateway::AdmitError;
use halometer::issuer::Issuer;
use halometer::protocol::*;
use halometer::store::{MintBook, MintRecord};
use halometer::wallet::{AcceptMintError, Journal, MemoryJournal, RootSecret, Wallet};

use crate::world::*;

const PAYMENT: PaymentId = PaymentId::from_bytes([1; 32]);
const OTHER: PaymentId = PaymentId::from_bytes([2; 32]);

fn statement(wallet: &Wallet, payment: PaymentId) -> MintStatement {
    wallet.mint_statement(&payment).unwrap()
}

fn another_account() -> AccountId {
    World::without_keys().wallet(9).request_mint(PAYMENT, sixty_and_forty(), T0).unwrap().account
}

#[test]
fn evidence_names_a_payment_by_the_issuers_own_signature() {
    let world = World::new();
    // Two wallets of one root secret: a copy that spends a note again.
    let (mut wallet, mut twin) = (world.funded(1), world.funded(1));
    let first = pay(&mut wallet, LANE0, 10, T0);
    let second = pay(&mut twin, LANE0, 20, T0);
    world.admit(&first);
    let Err(AdmitError::DoubleSpend(evidence)) = world.open(&second, T0) else { panic!("it is a double spend") };
    // A holder of the evidence and the statement needs neither issuer nor book.
    let root = world.root.public_key();
    let shown = MintStatement::from_bytes(&statement(&wallet, PAYMENT).to_bytes()).unwrap();
    assert_eq!(shown.verify(&root), Ok(()));
    assert_eq!((shown.account, shown.payment), (evidence.account(), PAYMENT));
    assert_eq!(shown.amounts, sixty_and_forty());
    // The issuer has the same, from its book.
    let named = world.issuer.name(&evidence).unwrap().unwrap();
    assert_eq!(world.issuer.statement(&named), Some(shown));

    // An honest payer shows that the account is not theirs.
    let honest = world.funded(2);
    let alibi = statement(&honest, OTHER);
    assert_eq!(alibi.verify(&root), Ok(()));
    assert_ne!(alibi.account, evidence.account());
}

#[test]
fn nothing_of_a_statement_can_be_changed() {
    let world = World::new();
    let wallet = world.funded(1);
    let root = world.root.public_key();
    let good = statement(&wallet, PAYMENT);
    let bytes = good.to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if let Ok(statement) = MintStatement::from_bytes(&changed) {
            assert!(statement.verify(&root).is_err(), "byte {at}");
        }
    }
    let other_issuer = RootSigningKey::from_bytes(&[3; 32]);
    assert_eq!(good.verify(&other_issuer.public_key()), Err(MintStatementError::Key));
    // A key of one's own makes no statements.
    let seal = MintSealer::new(&other_issuer).seal(&PAYMENT, &good.account, &good.amounts, good.epoch);
    assert_eq!(MintStatement { seal, ..good }.verify(&root), Err(MintStatementError::Key));
}

#[test]
fn an_issuer_that_names_another_payer_contradicts_itself() {
    let world = World::new();
    let (wallet, other) = (world.funded(1), world.funded(2));
    let (true_one, root) = (statement(&wallet, PAYMENT), world.root.public_key());
    let sealer = MintSealer::new(&world.root);
    let lie = |payment: PaymentId, account: AccountId| {
        let MintStatement { amounts, epoch, .. } = true_one;
        let seal = sealer.seal(&payment, &account, &amounts, epoch);
        MintStatement { payment, account, amounts, epoch, seal }
    };
    for lie in [lie(PAYMENT, another_account()), lie(OTHER, true_one.account)] {
        assert_eq!(lie.verify(&root), Ok(()));
        assert!(lie.contradicts(&true_one) && true_one.contradicts(&lie));
    }
    assert!(!true_one.contradicts(&true_one) && !true_one.contradicts(&statement(&other, OTHER)));
}

#[test]
fn a_mint_whose_seal_is_of_another_account_is_refused() {
    let world = World::new();
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let mut wallet = world.wallet(1);
    let request = wallet.request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    let good = world.issuer.mint(&request, T0).unwrap();
    let sealer = MintSealer::new(&world.root);
    let amounts = sixty_and_forty();
    for seal in [
        sealer.seal(&PAYMENT, &another_account(), &amounts, EPOCH[0]),
        sealer.seal(&OTHER, &request.account, &amounts, EPOCH[0]),
        sealer.seal(&PAYMENT, &request.account, &amounts, EPOCH[1]),
        sealer.seal(&PAYMENT, &request.account, &[micro(1); LANES], EPOCH[0]),
        MintSealer::new(&RootSigningKey::from_bytes(&[3; 32])).seal(&PAYMENT, &request.account, &amounts, EPOCH[0]),
    ] {
        let refused = wallet.accept_mint(&PAYMENT, &MintAnswer { seal, ..good.clone() }, T0);
        assert!(matches!(refused, Err(AcceptMintError::Seal(_))), "{refused:?}");
        assert_eq!(wallet.balance().total(), 0);
    }
    wallet.accept_mint(&PAYMENT, &good, T0).unwrap();
}

#[test]
fn an_earlier_releases_payment_is_sealed_when_asked_again() {
    let world = World::new();
    let wallet = world.funded(1);
    let mut journal = MemoryJournal::new();
    for payment in wallet.payments() {
        journal.put_payment(&halometer::wallet::PaymentEntry { requested_at: None, seal: None, ..payment }).unwrap();
    }
    journal.put_directory(world.issuer.signed_directory()).unwrap();
    let (root, device) = (RootSecret::from_bytes([1; 32]), DeviceId::from_bytes([0; 8]));
    let signed = world.issuer.signed_directory();
    let mut wallet = Wallet::new(root, device, world.root.public_key(), signed, journal).unwrap();
    assert_eq!(wallet.mint_statement(&PAYMENT), None);
    let later = FLIP.after(DAY);
    let request = wallet.request_mint(PAYMENT, sixty_and_forty(), later).unwrap();
    wallet.accept_mint(&PAYMENT, &world.issuer.mint(&request, later).unwrap(), later).unwrap();
    assert_eq!(statement(&wallet, PAYMENT).verify(&world.root.public_key()), Ok(()));
    assert_eq!(wallet.balance().total(), 100, "its lanes are as they were");
}

#[test]
fn a_record_of_an_earlier_release_is_sealed_when_asked_again() {
    let world = World::new();
    let mut wallet = world.wallet(1);
    world.payments.grant(PAYMENT, micro(100)).unwrap();
    let request = wallet.request_mint(PAYMENT, sixty_and_forty(), T0).unwrap();
    let before = world.issuer.mint(&request, T0).unwrap();
    let record = MintRecord { amounts: None, ..world.mints.by_payment(&PAYMENT).unwrap().unwrap() };
    assert_eq!(world.issuer.statement(&record), None);
    let book = std::sync::Arc::new(halometer::store::MemoryMintBook::new());
    book.record(record).unwrap();
    let directory = world.issuer.directory().clone();
    let issuer = Issuer::new(&world.root, directory, epoch_keys(), book, world.payments.clone()).unwrap();
    assert_eq!(issuer.mint(&request, T0.after(DAY)).unwrap(), before, "to the byte");
}
