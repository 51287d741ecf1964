//! Receipts that say too much, too little, or something else than what was settled.

use halometer::protocol::*;
use halometer::wallet::{DisputeKind, Journal as _, ReceiptVerdict, Wallet};

use crate::world::*;

/// Pays 10 for a call that is settled at `cost`; the receipt is what the gateway with this seed says of it.
fn judged(world: &World, wallet: &mut Wallet, cost: u64, seed: u8, usage: &[(&str, u64)], says: u64) -> ReceiptVerdict {
    let paid = pay(wallet, LANE0, 10, T0);
    let settled = world.settle(&world.admit(&paid), cost);
    let accepted = wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    let (issuer, content) = (world.gateway.directory().issuer(), request().content());
    let subject = ReceiptSubject { issuer, gateway: GATEWAY, spend: paid.key, content };
    let usage = usage.iter().map(|(item, units)| ((*item).to_owned(), *units)).collect();
    let key = GatewaySigningKey::from_bytes(&[seed; 32]);
    let receipt = Receipt::sign(&key, &subject, usage, micro(says), [3; 16]).unwrap().to_bytes();
    let verdict = wallet.take_receipt(&paid.key, &accepted, Some(&receipt), T0).unwrap();
    // Whatever it says, it is kept with the history.
    let entry = wallet.journal().entry(&paid.key.nullifier).unwrap().unwrap();
    assert_eq!(entry.outcome.unwrap().receipt, Some(receipt));
    verdict
}

#[test]
fn a_receipt_is_compared_with_the_settlement_and_the_tariff() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let mut judge = |cost, seed, usage: &[(&str, u64)], says| judged(&world, &mut wallet, cost, seed, usage, says);
    // A micro-credit for every 10 tokens, rounded up.
    assert_eq!(judge(3, 10, &[("token", 21)], 3), ReceiptVerdict::Fair);
    assert_eq!(judge(3, 10, &[("token", 31)], 3), ReceiptVerdict::Fair, "less than the tariff says is no harm");
    assert_eq!(judge(3, 10, &[("token", u64::MAX)], 3), ReceiptVerdict::Fair);
    assert_eq!(judge(3, 10, &[], 3), ReceiptVerdict::Unexplained);
    assert_eq!(judge(3, 11, &[("token", 21)], 3), ReceiptVerdict::NotSigned);
    assert_eq!(judge(3, 10, &[("token", 20)], 3), ReceiptVerdict::Overcharged);
    assert_eq!(judge(3, 10, &[("air", 1_000)], 3), ReceiptVerdict::Overcharged, "what has no price costs nothing");
    assert_eq!(judge(3, 10, &[("token", 21)], 2), ReceiptVerdict::Contradicted);
}

#[test]
fn the_dispute_over_an_overcharge_shows_it_to_anyone() {
    let world = World::new();
    let mut wallet = world.funded(1);
    judged(&world, &mut wallet, 9, 10, &[("token", 20)], 9);
    let [dispute] = &wallet.journal().disputes().unwrap()[..] else { panic!("one dispute") };
    assert_eq!(dispute.kind, DisputeKind::Overcharged);
    assert!(dispute.kind.is_shown());

    // From what is in the file, and the root key, alone.
    let dispute = halometer::wallet::Dispute::from_json(&dispute.to_json()).unwrap();
    let directory = dispute.directories[0].verify(&world.root.public_key()).unwrap();
    let spend = Spend::from_bytes(&dispute.spend.unwrap()).unwrap();
    let entry = directory.epoch(spend.epoch).unwrap();
    let context = spend.context(&directory.issuer(), entry).hash().unwrap();
    let key = SpendKey { epoch: spend.epoch, nullifier: spend.nullifier, context };
    let (issuer, gateway) = (directory.issuer(), directory.gateway(&spend.gateway).unwrap());
    let subject = ReceiptSubject { issuer, gateway: gateway.id, spend: key, content: dispute.content.unwrap() };
    let receipt = Receipt::from_bytes(&dispute.receipt.unwrap()).unwrap();
    assert_eq!(receipt.verify(&gateway.key, &subject), Ok(()));
    let tariff = directory.parts().tariffs.iter().find(|tariff| tariff.digest() == spend.tariff).unwrap();
    let usage = receipt.usage().iter().map(|(item, units)| (item.as_str(), *units));
    let price = tariff.cost(usage, directory.quantum()).unwrap();
    assert_eq!((price, receipt.cost()), (micro(2), micro(9)));
}
