//! What a wallet has against a gateway that takes too much, and what of it convinces a third party that trusts nobody.

use halometer::circuits::note::{AccountSecret, NoteSecret};
use halometer::circuits::proof::ProvingKey;
use halometer::circuits::spend::SpendWitness;
use halometer::protocol::*;
use halometer::wallet::{Dispute, DisputeKind, Journal as _, NotShown, ReceiptVerdict, Wallet};

use crate::world::*;

/// A call that was settled at a cost, and the gateway's receipt for it, which says other things perhaps.
struct Call {
    world: World,
    wallet: Wallet,
    verdict: ReceiptVerdict,
}

fn gateway_key() -> GatewaySigningKey {
    GatewaySigningKey::from_bytes(&[10; 32])
}

/// The tariff says: ten tokens for a micro-credit.
fn call(settled_at: u64, tokens: u64, receipt_cost: u64, key: &GatewaySigningKey) -> Call {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let settled = world.settle(&world.admit(&paid), settled_at);
    let accepted = wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    let subject =
        ReceiptSubject { issuer: wallet.issuer(), gateway: GATEWAY, spend: paid.key, content: request().content() };
    let usage = vec![("token".to_owned(), tokens)];
    let receipt = Receipt::sign(key, &subject, usage, micro(receipt_cost), [3; 16]).unwrap();
    let verdict = wallet.take_receipt(&paid.key, &accepted, Some(&receipt.to_bytes()), T0).unwrap();
    let kept = wallet.journal().entry(&paid.key.nullifier).unwrap().unwrap().outcome.unwrap();
    assert_eq!(kept.receipt, Some(receipt.to_bytes()));
    Call { world, wallet, verdict }
}

fn dispute(call: &Call) -> Dispute {
    let [dispute] = &call.wallet.journal().disputes().unwrap()[..] else { panic!() };
    // It survives its file.
    assert_eq!(Dispute::from_json(&dispute.to_json()).unwrap(), *dispute);
    dispute.clone()
}

#[test]
fn a_fair_receipt_is_kept_and_disputes_nothing() {
    let call = call(3, 25, 3, &gateway_key());
    assert_eq!(call.verdict, ReceiptVerdict::Fair);
    assert_eq!(call.wallet.journal().disputes().unwrap(), []);
}

#[test]
fn an_overcharge_is_shown_to_anyone() {
    let call = call(5, 25, 5, &gateway_key());
    assert_eq!(call.verdict, ReceiptVerdict::Overcharged);
    let dispute = dispute(&call);
    assert_eq!(dispute.kind, DisputeKind::Overcharged);
    let root = call.world.root.public_key();
    assert_eq!(dispute.verify(&root), Ok(()));

    // Altered evidence shows nothing.
    let other_root = RootSigningKey::from_bytes(&[9; 32]).public_key();
    assert_eq!(dispute.verify(&other_root), Err(NotShown::Directory));
    let changed = |change: &dyn Fn(&mut Dispute)| {
        let mut changed = dispute.clone();
        change(&mut changed);
        changed.verify(&root)
    };
    assert_eq!(changed(&|d| d.spend = None), Err(NotShown::Missing("spend")));
    assert_eq!(changed(&|d| d.receipt = None), Err(NotShown::Missing("receipt")));
    assert_eq!(changed(&|d| d.directories.clear()), Err(NotShown::Missing("directory")));
    assert_eq!(changed(&|d| d.content = None), Err(NotShown::Missing("digest of the request")));
    assert_eq!(changed(&|d| d.content = Some(ContentDigest::of(b"another"))), Err(NotShown::Receipt));
    assert_eq!(changed(&|d| d.kind = DisputeKind::Contradicted), Err(NotShown::Word));
    assert_eq!(changed(&|d| d.kind = DisputeKind::Withheld), Err(NotShown::Word));
    // The class of the spend: x is another then, and the receipt is not about it.
    let charge_at = 1 + 1 + 4 + 16 + 32 + 32 + 7;
    assert_eq!(changed(&|d| d.spend.as_mut().unwrap()[charge_at] ^= 1), Err(NotShown::Receipt));
    // Usage and cost of the receipt.
    for at in [30, 50] {
        assert!(changed(&|d| d.receipt.as_mut().unwrap()[at] ^= 1).is_err(), "{at}");
    }
}

#[test]
fn a_contradicting_receipt_is_kept_for_the_issuer() {
    let call = call(9, 25, 3, &gateway_key());
    assert_eq!(call.verdict, ReceiptVerdict::Contradicted);
    let dispute = dispute(&call);
    let root = call.world.root.public_key();
    assert_eq!((dispute.kind, dispute.verify(&root)), (DisputeKind::Contradicted, Err(NotShown::Word)));
    assert!(dispute.receipt.is_some() && dispute.settlement.is_some() && dispute.spend.is_some());
}

#[test]
fn a_receipt_that_somebody_else_signed_shows_nothing() {
    let call = call(5, 25, 5, &GatewaySigningKey::from_bytes(&[77; 32]));
    assert_eq!(call.verdict, ReceiptVerdict::NotSigned);
    assert_eq!(call.wallet.journal().disputes().unwrap(), []);
}

#[test]
fn an_honest_issuer_is_not_convicted_of_two_directories() {
    let world = World::new();
    let root = world.root.public_key();
    let sign = |serial, session_seconds| {
        let published = T0.after(serial * HOUR);
        let parts = DirectoryParts { serial, published, limits: Limits { session_seconds }, ..directory_parts() };
        SignedDirectory::sign(&Directory::new(parts).unwrap(), &world.root).unwrap()
    };
    let mut wallet = world.funded(1);
    let (first, second) = (sign(5, 600), sign(5, 300));
    wallet.adopt(&first).unwrap();
    wallet.adopt(&second).unwrap_err();
    let [dispute] = &wallet.journal().disputes().unwrap()[..] else { panic!() };
    assert_eq!(dispute.verify(&root), Ok(()));
    let later = Dispute { directories: vec![first.clone(), sign(6, 300)], ..dispute.clone() };
    assert_eq!(later.verify(&root), Err(NotShown::Nothing));
    let same = Dispute { directories: vec![first.clone(), first], ..dispute.clone() };
    assert_eq!(same.verify(&root), Err(NotShown::Nothing));
}

/// A settlement does not say of which spend it is: it signs a change note and what came back. So a caller can get two of them for
/// one change note, and put the wrong one beside a receipt.
#[test]
fn two_signatures_on_one_change_note_convict_no_honest_gateway() {
    let world = World::new();
    let directory = world.gateway.directory();
    let account = AccountSecret::random(&mut rng(1));
    let notes: Vec<[u8; 32]> = (0..8).map(|lane| NoteSecret::random(&mut rng(10 + lane)).to_bytes()).collect();
    let note = |lane: usize| Option::<NoteSecret>::from(NoteSecret::from_bytes(&notes[lane])).unwrap();
    // The first lane pays one call to the last micro-credit; the change of that call is the second lane's note once more.
    let amounts = [20, 4, 0, 0, 0, 0, 0, 0].map(micro);
    let payment = PaymentId::from_bytes([1; 32]);
    world.payments.grant(payment, micro(24)).unwrap();
    let lanes = core::array::from_fn(|lane| MintLane { note: note(lane), amount: amounts[lane] });
    let minted =
        world.issuer.mint(&MintRequest { payment, account: account.account_id(), lanes }, T0).unwrap().response;
    let witness = SpendWitness {
        account,
        note: note(0),
        hidden: 0,
        refund: 20,
        signature: minted.signatures[0].clone(),
        next_note: note(1),
    };
    let (session, memo) = (SessionKey::from_bytes(&[5; 32]), Memo::from_bytes([0; Memo::LENGTH]));
    let epoch = directory.epoch(EPOCH[0]).unwrap();
    let context = Context {
        issuer: directory.issuer(),
        epoch: epoch.number,
        entry: epoch.digest(&directory.issuer()),
        gateway: GATEWAY,
        purpose: Purpose::Session,
        tariff: directory.callers_tariff(T0).unwrap().digest(),
        session: session.public_key(),
        charge: micro(20),
        change: witness.change(20).unwrap(),
        not_after: directory.grid().callers_not_after(T0),
        memo: memo.digest(),
    };
    let public = witness.public(context.hash().unwrap(), 20).unwrap();
    let proof = ProvingKey::build(&epoch.key).prove(&public, &witness, &mut rng(2)).unwrap();
    let spend = Spend::assemble(&context, memo, &public, proof);
    let (nullifier, x) = (spend.nullifier, public.context);
    let authorisation = Authorisation::sign(&session, &nullifier, &x, Action::Open, 0, &request());
    let opening = Opening { spend: spend.clone(), authorisation }.to_bytes();

    // The gateway takes it, asks 3 for it, and says so.
    let settled = world.settle(&admitted(world.gateway.open(&opening, &request(), T0)), 3);
    assert_eq!(settled.settlement().refund, micro(17));
    let key = SpendKey { epoch: epoch.number, nullifier, context: x };
    let subject =
        ReceiptSubject { issuer: directory.issuer(), gateway: GATEWAY, spend: key, content: request().content() };
    let receipt = Receipt::sign(&gateway_key(), &subject, vec![("token".to_owned(), 25)], micro(3), [3; 16]).unwrap();
    let framed = Dispute {
        kind: DisputeKind::Contradicted,
        at: T0,
        gateway: Some(GATEWAY),
        spend: Some(spend.to_bytes()),
        content: Some(request().content()),
        settlement: Some(Settlement { epoch: minted.epoch, refund: micro(4), signature: minted.signatures[1].clone() }),
        receipt: Some(receipt.to_bytes()),
        mint: None,
        directories: vec![world.issuer.signed_directory().clone()],
        heard: Vec::new(),
    };
    assert_eq!(framed.verify(&world.root.public_key()), Err(NotShown::Word), "an honest gateway is convicted");
}

#[test]
fn one_contradiction_that_is_seen_again_and_again_is_kept_once() {
    let world = World::new();
    let sign = |session_seconds| {
        let (serial, published, limits) = (5, T0, Limits { session_seconds });
        let parts = DirectoryParts { serial, published, limits, ..directory_parts() };
        SignedDirectory::sign(&Directory::new(parts).unwrap(), &world.root).unwrap()
    };
    let mut wallet = world.funded(1);
    wallet.adopt(&sign(600)).unwrap();
    for _ in 0..3 {
        wallet.adopt(&sign(300)).unwrap_err();
    }
    assert_eq!(wallet.journal().disputes().unwrap().len(), 1);
    wallet.adopt(&sign(200)).unwrap_err();
    assert_eq!(wallet.journal().disputes().unwrap().len(), 2, "another one is other evidence");
}

#[test]
fn what_is_no_receipt_does_not_fill_the_wallet() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let accepted = wallet.accept(&paid.key, world.settle(&world.admit(&paid), 3).settlement(), T0).unwrap();
    let verdict = wallet.take_receipt(&paid.key, &accepted, Some(&vec![1; 20 << 20]), T0).unwrap();
    assert_eq!(verdict, ReceiptVerdict::NotSigned);
    let kept = wallet.journal().entry(&paid.key.nullifier).unwrap().unwrap().outcome.unwrap();
    assert_eq!(kept.receipt, None);
}
