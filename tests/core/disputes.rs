//! What a wallet has against a gateway that takes too much, and what of it convinces somebody who believes nobody.

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
    let accepted = wallet.accept(&paid.key, settled.settlement()).unwrap();
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

    // Who changes anything shows nothing.
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
    assert_eq!(changed(&|d| d.kind = DisputeKind::Contradicted), Err(NotShown::Nothing));
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
fn a_receipt_that_contradicts_the_settlement_is_shown_to_anyone() {
    let call = call(9, 25, 3, &gateway_key());
    assert_eq!(call.verdict, ReceiptVerdict::Contradicted);
    let dispute = dispute(&call);
    let root = call.world.root.public_key();
    assert_eq!((dispute.kind, dispute.verify(&root)), (DisputeKind::Contradicted, Ok(())));
    // A settlement that the wallet made up convicts nobody.
    let mut forged = dispute.clone();
    forged.settlement.as_mut().unwrap().refund = micro(0);
    assert_eq!(forged.verify(&root), Err(NotShown::Settlement));
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
        let parts = DirectoryParts { serial, limits: Limits { session_seconds }, ..directory_parts() };
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
