//! Records to insert.

use halometer::protocol::*;
use halometer::store::*;
use halometer_circuits::note::{ContextHash, Nullifier, ShareY, ValueCommitment};
use halometer_circuits::proof::Proof;
use halometer_circuits::schnorr::SigningKey;

pub(crate) const EPOCH: EpochNumber = EpochNumber::new(1);
pub(crate) const OWNER: OwnerId = OwnerId::from_bytes(*b"process number 1");
pub(crate) const T0: Timestamp = Timestamp::from_seconds(1_800_000_000);

pub(crate) fn key(number: u32, tag: u8) -> RecordKey {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes[8] = 0xa5;
    RecordKey { epoch: EPOCH, nullifier: Nullifier::from_bytes(&bytes).unwrap(), tag: SpendTag::from_bytes([tag; 32]) }
}

/// An open record of a charge of 10.
pub(crate) fn record(key: RecordKey) -> Record {
    let change = ValueCommitment::from_bytes(&[1; 32]).unwrap();
    let context = ContextHash::from_bytes(&[3; 32]).unwrap();
    let charge = Credits::from_micro(10);
    let spend = Spend {
        purpose: Purpose::Session,
        epoch: key.epoch,
        gateway: GatewayId::from_bytes([4; 16]),
        tariff: Digest::from_bytes([5; 32]),
        session: SessionKey::from_bytes(&[7; 32]).public_key(),
        charge,
        not_after: T0,
        memo: Memo::from_bytes([6; 64]),
        nullifier: key.nullifier,
        share: ShareY::from_bytes(&[8; 32]).unwrap(),
        change,
        proof: Proof::from_bytes(&[9; Proof::LENGTH]).expect("its length is right"),
    };
    let lease = Lease { owner: OWNER, until: T0.after(60) };
    let evidence = Some(RecordEvidence { context, charge, change, spend: spend.to_bytes() });
    Record { key, memo: spend.memo, evidence, state: RecordState::Open { lease, metered: Credits::ZERO } }
}

pub(crate) fn settlement(refund: u64) -> Settlement {
    let key = SigningKey::from_bytes(&[1; 32]).unwrap();
    let leaf = ValueCommitment::from_bytes(&[1; 32]).unwrap().leaf(refund);
    Settlement { epoch: EPOCH, refund: Credits::from_micro(refund), signature: key.sign(&leaf) }
}

/// The halves of a transfer of 10 in one partition.
pub(crate) fn pair(give: u32, take: u32) -> [Record; 2] {
    let (mut give, mut take) = (record(key(give, 1)), record(key(take, 1)));
    for (half, charge, refund) in [(&mut give, 10, 0), (&mut take, 0, 10)] {
        let mut spend = Spend::from_bytes(&half.evidence.as_ref().unwrap().spend).unwrap();
        spend.purpose = Purpose::Transfer { nullifier: spend.nullifier, change: spend.change };
        spend.charge = Credits::from_micro(charge);
        let evidence = half.evidence.as_mut().unwrap();
        (evidence.charge, evidence.spend) = (spend.charge, spend.to_bytes());
        half.state = RecordState::Settled(settlement(refund));
    }
    [give, take]
}
